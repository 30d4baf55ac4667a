//! Every metric family of a broker: name, type, unit, labels, group, help.
//!
//! This table is the only place where a family is named. The registry is filled from it; the table in
//! `docs/OPERATIONS.md`, the dashboards and the alert rules are checked against it.

/// What a family measures and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDescription {
    /// The name as it is exported, `pubg1_…`. A histogram also exports `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The unit of the value.
    pub unit: Unit,
    /// The labels' names, in the order in which handles are made.
    pub labels: &'static [&'static str],
    /// The part of the broker that it belongs to.
    pub group: Group,
    /// One sentence for the `# HELP` line.
    pub help: &'static str,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl MetricKind {
    /// The word of the `# TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// The unit of a value. Only base units, as Prometheus asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things; what is counted stands in the name.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds, or seconds since 1970-01-01 for a point in time.
    Seconds,
    /// 1 when the labels hold, 0 when they do not.
    Flag,
}

impl Unit {
    /// The word used in documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Count => "count",
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            Unit::Flag => "0 or 1",
        }
    }
}

/// The part of the broker that a family belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The broker as a whole.
    Node,
    /// The process, as the operating system sees it.
    Process,
    /// The HTTP API.
    Requests,
    /// Records and bytes by topic.
    Topics,
    /// Copies of partitions on other brokers.
    Replication,
    /// The log on disk.
    Storage,
    /// Consumer groups.
    Groups,
    /// Streams.
    Streams,
    /// Actors and their mailboxes.
    Actors,
}

impl Group {
    /// The word used in documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Group::Node => "node",
            Group::Process => "process",
            Group::Requests => "requests",
            Group::Topics => "topics",
            Group::Replication => "replication",
            Group::Storage => "storage",
            Group::Groups => "groups",
            Group::Streams => "streams",
            Group::Actors => "actors",
        }
    }
}

/// Every family that a broker exports, ordered by group.
pub const fn catalogue() -> &'static [MetricDescription] {
    CATALOGUE
}

macro_rules! families {
    ($($constant:ident: $kind:ident, $unit:ident, $group:ident, $name:literal, [$($label:literal),*], $help:literal;)+) => {
        $(pub(crate) const $constant: MetricDescription = MetricDescription {
            name: $name,
            kind: MetricKind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            group: Group::$group,
            help: $help,
        };)+
        const CATALOGUE: &[MetricDescription] = &[$($constant),+];
    };
}

families! {
    BUILD_INFO: Gauge, Flag, Node, "pubg1_build_info", ["version", "revision"],
        "Always 1; the labels say what is running.";
    START_TIME: Gauge, Seconds, Node, "pubg1_start_time_seconds", [],
        "When this broker was started, in seconds since 1970-01-01.";
    NODE_STATE: Gauge, Flag, Node, "pubg1_node_state", ["state"],
        "1 for the state that the broker is in, 0 for the others.";
    PARTITIONS: Gauge, Count, Node, "pubg1_partitions", ["role"],
        "Partitions on this broker by role.";
    OFFLINE_PARTITIONS: Gauge, Count, Node, "pubg1_offline_partitions", [],
        "Partitions on this broker that can neither be written nor read.";
    TOPICS: Gauge, Count, Node, "pubg1_topics", [],
        "Topics in the cluster image of this broker.";
    METADATA_VERSION: Gauge, Count, Node, "pubg1_metadata_version", [],
        "Version of the cluster image that this broker has applied.";

    PROCESS_CPU: Counter, Seconds, Process, "process_cpu_seconds_total", [],
        "Total user and system CPU time spent in seconds.";
    PROCESS_MAX_FDS: Gauge, Count, Process, "process_max_fds", [],
        "Maximum number of open file descriptors.";
    PROCESS_OPEN_FDS: Gauge, Count, Process, "process_open_fds", [],
        "Number of open file descriptors.";
    PROCESS_RSS: Gauge, Bytes, Process, "process_resident_memory_bytes", [],
        "Resident memory size in bytes.";
    PROCESS_START_TIME: Gauge, Seconds, Process, "process_start_time_seconds", [],
        "Start time of the process since unix epoch in seconds.";
    PROCESS_THREADS: Gauge, Count, Process, "process_threads", [],
        "Number of OS threads in the process.";
    PROCESS_VIRTUAL_MEMORY: Gauge, Bytes, Process, "process_virtual_memory_bytes", [],
        "Virtual memory size in bytes.";

    REQUESTS: Counter, Count, Requests, "pubg1_requests_total", ["api", "code"],
        "Requests answered, by part of the API and HTTP status code.";
    REQUEST_DURATION: Histogram, Seconds, Requests, "pubg1_request_duration_seconds", ["api"],
        "Time from the head of a request to the end of its handler, long polls included.";
    REQUEST_PHASE_DURATION: Histogram, Seconds, Requests, "pubg1_request_phase_duration_seconds", ["api", "phase"],
        "Where the time of a request went: queue, append, flush or wait.";
    REQUESTS_IN_FLIGHT: Gauge, Count, Requests, "pubg1_requests_in_flight", ["api"],
        "Requests that are being served now.";
    THROTTLED_REQUESTS: Counter, Count, Requests, "pubg1_throttled_requests_total", ["reason"],
        "Requests refused with 429 or 503 because a budget was used up.";

    TOPIC_RECORDS_IN: Counter, Count, Topics, "pubg1_topic_records_in_total", ["topic"],
        "Records appended.";
    TOPIC_BYTES_IN: Counter, Bytes, Topics, "pubg1_topic_bytes_in_total", ["topic"],
        "Bytes of record batches appended.";
    TOPIC_RECORDS_OUT: Counter, Count, Topics, "pubg1_topic_records_out_total", ["topic"],
        "Records sent to consumers.";
    TOPIC_BYTES_OUT: Counter, Bytes, Topics, "pubg1_topic_bytes_out_total", ["topic"],
        "Bytes of record batches read for consumers.";
    LOG_SIZE: Gauge, Bytes, Topics, "pubg1_log_size_bytes", ["topic"],
        "Bytes of record batches in the logs of this topic on this broker.";
    LOG_SEGMENTS: Gauge, Count, Topics, "pubg1_log_segments", ["topic"],
        "Segments in the logs of this topic on this broker.";
    LOG_DELETED: Counter, Bytes, Topics, "pubg1_log_deleted_bytes_total", ["topic", "reason"],
        "Bytes of record batches that left the logs of this topic.";

    REPLICA_FETCHES: Counter, Count, Replication, "pubg1_replica_fetches_total", [],
        "Requests of followers that this broker has answered, whether there was something to send or not.";
    REPLICATION_BYTES_IN: Counter, Bytes, Replication, "pubg1_replication_bytes_in_total", [],
        "Bytes of record batches copied from the leaders of partitions.";
    REPLICATION_BYTES_OUT: Counter, Bytes, Replication, "pubg1_replication_bytes_out_total", [],
        "Bytes of record batches sent to followers.";
    REPLICA_LAG: Gauge, Count, Replication, "pubg1_replica_lag_records", ["topic"],
        "Records that the slowest follower lacks, over the partitions of this topic that are led here.";
    UNDER_REPLICATED: Gauge, Count, Replication, "pubg1_under_replicated_partitions", [],
        "Partitions led here that have a replica which is not in sync.";
    IN_SYNC_SHRINKS: Counter, Count, Replication, "pubg1_in_sync_shrinks_total", [],
        "Times that a replica of a partition led here fell out of sync.";
    IN_SYNC_EXPANDS: Counter, Count, Replication, "pubg1_in_sync_expands_total", [],
        "Times that a replica of a partition led here came in sync.";

    CONTROLLER: Gauge, Flag, Replication, "pubg1_controller", [],
        "1 on the broker that is the controller, 0 on the others.";
    ALIVE_BROKERS: Gauge, Count, Replication, "pubg1_alive_brokers", [],
        "Brokers that this one, as the controller, hears from; 0 on the others.";
    REGISTERED_BROKERS: Gauge, Count, Replication, "pubg1_registered_brokers", [],
        "Brokers in the cluster image of this broker, whether they live or not.";
    LEADERLESS: Gauge, Count, Replication, "pubg1_leaderless_partitions", [],
        "Partitions of the cluster that no living broker leads, as this one sees it as the controller; 0 on the others.";
    HEARTBEAT_DURATION: Histogram, Seconds, Replication, "pubg1_heartbeat_duration_seconds", [],
        "Time from a heartbeat to the controller on another broker until it was answered.";
    ELECTIONS: Counter, Count, Replication, "pubg1_elections_total", [],
        "Leaders of partitions that were set while this broker was the controller.";
    FAILOVER_DURATION: Histogram, Seconds, Replication, "pubg1_failover_duration_seconds", [],
        "Time from the decision of this controller that a partition needs a new leader until it has one.";

    LOG_FLUSH_DURATION: Histogram, Seconds, Storage, "pubg1_log_flush_duration_seconds", [],
        "Time of one flush of a partition to disk.";
    LOG_APPEND_BATCH_RECORDS: Histogram, Count, Storage, "pubg1_log_append_batch_records", [],
        "Records in each batch appended.";
    LOG_CHECKSUM_FAILURES: Counter, Count, Storage, "pubg1_log_checksum_failures_total", [],
        "Record batches on disk whose checksum did not match, torn tails aside.";
    LOG_DISK_FULL: Counter, Count, Storage, "pubg1_log_disk_full_errors_total", [],
        "Appends refused because the disk had no space for them.";
    DAMAGED_PARTITIONS: Gauge, Count, Storage, "pubg1_damaged_partitions", [],
        "Partitions with damage below their flushed offset.";
    RECOVERY_DURATION: Gauge, Seconds, Storage, "pubg1_recovery_duration_seconds", [],
        "Time that the last start took to recover all logs.";
    RECOVERY_TRUNCATED: Counter, Bytes, Storage, "pubg1_recovery_truncated_bytes_total", [],
        "Bytes of torn tails cut off by recovery.";
    DISK_FREE: Gauge, Bytes, Storage, "pubg1_disk_free_bytes", [],
        "Space that the filesystem of the data directory has left for this process.";
    DISK_TOTAL: Gauge, Bytes, Storage, "pubg1_disk_total_bytes", [],
        "Size of the filesystem of the data directory.";

    GROUPS: Gauge, Count, Groups, "pubg1_groups", ["state"],
        "Consumer groups that this broker coordinates, by state.";
    GROUP_MEMBERS: Gauge, Count, Groups, "pubg1_group_members", ["group"],
        "Members of a consumer group that this broker coordinates.";
    GROUP_LAG: Gauge, Count, Groups, "pubg1_group_lag_records", ["group", "topic", "partition"],
        "Records that a consumer group has not committed yet, of those that it could read.";
    GROUP_LAG_SECONDS: Gauge, Seconds, Groups, "pubg1_group_lag_seconds", ["group", "topic", "partition"],
        "Age of the first record that a consumer group has not committed yet; 0 when there is none.";
    GROUP_REBALANCES: Counter, Count, Groups, "pubg1_group_rebalances_total", ["reason"],
        "Rebalances of the consumer groups that this broker coordinates, by what began them.";
    GROUP_COMMITS: Counter, Count, Groups, "pubg1_group_commits_total", [],
        "Offsets that consumer groups have committed with this broker.";
    GROUP_LOAD_DURATION: Histogram, Seconds, Groups, "pubg1_group_load_duration_seconds", [],
        "Time to read a partition of the offsets topic, during which its groups are not served.";

    STREAM_CONDITION: Gauge, Count, Streams, "pubg1_stream_state", ["stream", "state"],
        "Generations of a stream in this state, as the broker that leads the first partition of its changelog tells.";
    STREAM_RECORDS: Counter, Count, Streams, "pubg1_stream_records_total", ["stream", "task", "outcome"],
        "Records that a task of a stream has read, by what became of them.";
    STREAM_ROWS: Counter, Count, Streams, "pubg1_stream_rows_total", ["stream", "task"],
        "Rows that a task of a stream has published.";
    STREAM_CORRECTIONS: Counter, Count, Streams, "pubg1_stream_corrections_total", ["stream", "task"],
        "Rows that a task of a stream has published after it had given out the final row of the same group and window.";
    STREAM_COMMITS: Counter, Count, Streams, "pubg1_stream_commits_total", ["stream", "task"],
        "Commits of a task of a stream.";
    STREAM_FENCED: Counter, Count, Streams, "pubg1_stream_fenced_total", ["stream", "task"],
        "Commits of a task of a stream that were refused because another broker leads its changelog.";
    STREAM_COMMIT_DURATION: Histogram, Seconds, Streams, "pubg1_stream_commit_duration_seconds", ["stream", "task"],
        "Time from a commit of a task of a stream until a quorum has it.";
    STREAM_WATERMARK_LAG: Gauge, Seconds, Streams, "pubg1_stream_watermark_lag_seconds", ["stream", "task"],
        "Wall clock less the time that a task of a stream has reached.";
    STREAM_INPUT_LAG: Gauge, Count, Streams, "pubg1_stream_input_lag_records", ["stream", "task"],
        "Records that a task of a stream has not read yet.";
    STREAM_OPEN_WINDOWS: Gauge, Count, Streams, "pubg1_stream_open_windows", ["stream", "task"],
        "Windows, or sessions, that a task of a stream has open.";
    STREAM_GROUPS: Gauge, Count, Streams, "pubg1_stream_groups", ["stream", "task"],
        "Groups in the open windows of a task of a stream.";
    STREAM_STATE: Gauge, Bytes, Streams, "pubg1_stream_state_bytes", ["stream", "task"],
        "Memory that the state of a task of a stream takes.";
    STREAM_IDLE: Gauge, Flag, Streams, "pubg1_stream_idle", ["stream", "task"],
        "1 while the partition of a task of a stream is silent and not waited for.";
    STREAM_RESTORE_DURATION: Gauge, Seconds, Streams, "pubg1_stream_restore_duration_seconds", ["stream", "task"],
        "Time that a task of a stream took to read its state when it began to run on this broker.";

    ACTOR_MESSAGES: Counter, Count, Actors, "pubg1_actor_messages_total", ["actor"],
        "Messages handled.";
    ACTOR_HANDLE_DURATION: Histogram, Seconds, Actors, "pubg1_actor_handle_duration_seconds", ["actor"],
        "Time that a handler occupied its arbiter for one message.";
    ACTOR_MAILBOX_MESSAGES: Gauge, Count, Actors, "pubg1_actor_mailbox_messages", ["actor"],
        "Messages sent and not handled yet.";
    ACTOR_RESTARTS: Counter, Count, Actors, "pubg1_actor_restarts_total", ["actor"],
        "Actors started again by their supervisor.";
    ACTOR_REJECTED: Counter, Count, Actors, "pubg1_actor_rejected_total", ["actor", "reason"],
        "Messages that were refused before they reached a mailbox.";
}
