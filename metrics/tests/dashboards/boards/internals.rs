//! What goes on inside of a broker.

use super::{P50_P99, PRODUCE};
use crate::{board::Board, panel::Panel};

pub(crate) fn board() -> Board {
    Board {
        name: "node-internals",
        title: "node internals",
        description: "Where the time of a request goes, what the actors do, the disk, and the process.",
        variables: Vec::new(),
        annotations: Vec::new(),
        rows: vec![
            ("Requests", requests()),
            ("Actors", actors()),
            ("Replication", replication()),
            ("Storage", storage()),
            ("Process", process()),
        ],
    }
}

fn requests() -> Vec<Panel> {
    let phase =
        |part: &str| format!("sum by (phase) (rate(pubg1_request_phase_duration_seconds_{part}{{#, {PRODUCE}}}[r]))");
    vec![
        Panel::lines(
            "Where a produce request's time goes",
            "s",
            "Mean time by phase: queue (permits and mailbox), append, flush (until the high watermark passed it).",
        )
        .show(format!("{} / {}", phase("sum"), phase("count")), "{{phase}}")
        .stacked(),
        Panel::lines("In flight", "short", "Requests that are being served, long polls among them.")
            .show("sum by (api) (pubg1_requests_in_flight{#}) > 0", "{{api}}")
            .empty("while nobody asks for anything"),
        Panel::lines("Refused", "reqps", "Requests refused a second because a budget was used up.")
            .show("sum by (reason) (rate(pubg1_throttled_requests_total{#}[r]))", "{{reason}}"),
    ]
}

fn actors() -> Vec<Panel> {
    vec![
        Panel::lines("Messages", "ops", "Messages handled a second by kind of actor.")
            .show("sum by (actor) (rate(pubg1_actor_messages_total{#}[r]))", "{{actor}}"),
        Panel::lines("Time of a handler", "s", "p99. A handler occupies its arbiter: half a millisecond is long.")
            .quantiles(&[("0.99", "{{actor}}")], "actor", "pubg1_actor_handle_duration_seconds_bucket{#}"),
        Panel::lines("Waiting in mailboxes", "short", "Messages sent and not handled yet.")
            .show("sum by (actor) (pubg1_actor_mailbox_messages{#})", "{{actor}}"),
        Panel::lines("Restarts", "short", "Actors started again by their supervisor within five minutes.")
            .show("sum by (actor) (increase(pubg1_actor_restarts_total{#}[5m]))", "{{actor}}")
            .wide(12),
        Panel::lines("Refusals", "ops", "Messages a second that were refused before they reached a mailbox.")
            .show("sum by (actor, reason) (rate(pubg1_actor_rejected_total{#}[r])) > 0", "{{actor}} {{reason}}")
            .empty("while nothing is refused")
            .wide(12),
    ]
}

fn replication() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Replicated bytes",
            "Bps",
            "Bytes of batches a second, copied from leaders and sent to followers.",
        )
        .show("sum by (instance) (rate(pubg1_replication_bytes_in_total{#}[r]))", "{{instance}} in")
        .show("sum by (instance) (rate(pubg1_replication_bytes_out_total{#}[r]))", "{{instance}} out"),
        Panel::lines(
            "Requests of followers",
            "reqps",
            "Requests of followers answered a second, most of them empty while little is written.",
        )
        .show("sum by (instance) (rate(pubg1_replica_fetches_total{#}[r]))", "{{instance}}"),
        Panel::lines("Heartbeats", "s", "p99 of the time until the controller on another broker answers one.")
            .quantiles(&[("0.99", "{{instance}}")], "instance", "pubg1_heartbeat_duration_seconds_bucket{#}")
            .empty("while a broker is alone"),
        Panel::lines("Metadata version", "short", "Version of the cluster image that each broker has applied.")
            .show("max by (instance) (pubg1_metadata_version{#})", "{{instance}}")
            .wide(12),
        Panel::lines("Partitions", "short", "Partitions on each broker by role.")
            .show("sum by (instance, role) (pubg1_partitions{#})", "{{instance}} {{role}}")
            .wide(12),
    ]
}

fn storage() -> Vec<Panel> {
    vec![
        Panel::lines("Flush latency", "s", "Time of one flush of a partition to disk.").quantiles(
            &P50_P99,
            "",
            "pubg1_log_flush_duration_seconds_bucket{#}",
        ),
        Panel::lines("Flushes", "ops", "Flushes a second. One flush serves all who wait for it.")
            .show("sum by (instance) (rate(pubg1_log_flush_duration_seconds_count{#}[r]))", "{{instance}}"),
        Panel::lines("Records in a batch", "short", "Small batches cost throughput.")
            .quantiles(&P50_P99, "", "pubg1_log_append_batch_records_bucket{#}")
            .show(
                "sum(rate(pubg1_log_append_batch_records_sum{#}[r])) \
                 / sum(rate(pubg1_log_append_batch_records_count{#}[r]))",
                "mean",
            ),
        Panel::lines("Disk", "bytes", "Space of the filesystem of the data directory.")
            .show("min by (instance) (pubg1_disk_free_bytes{#})", "{{instance}} free")
            .show("min by (instance) (pubg1_disk_total_bytes{#})", "{{instance}} total"),
        Panel::lines("Appends refused for want of space", "ops", "A second. Clients see 503 with code 50305.")
            .show("sum by (instance) (rate(pubg1_log_disk_full_errors_total{#}[r]))", "{{instance}}"),
        Panel::lines(
            "Checksum failures",
            "short",
            "Batches on disk whose checksum did not match, within an hour. Must be 0.",
        )
        .show("sum by (instance) (increase(pubg1_log_checksum_failures_total{#}[1h]))", "{{instance}}"),
        Panel::lines("Recovery", "s", "How long the last start took to recover the logs.")
            .show("max by (instance) (pubg1_recovery_duration_seconds{#})", "{{instance}}")
            .wide(12),
        Panel::lines("Torn tails", "bytes", "Bytes cut off by the last recovery. Never acknowledged at quorum.")
            .show("sum by (instance) (increase(pubg1_recovery_truncated_bytes_total{#}[1h]))", "{{instance}}")
            .wide(12),
    ]
}

fn process() -> Vec<Panel> {
    vec![
        Panel::lines("CPU", "short", "Cores used.").show("rate(process_cpu_seconds_total{#}[r])", "{{instance}}").wide(6),
        Panel::lines(
            "Memory",
            "bytes",
            "Resident memory. Mapped log pages that were read count here too; the system takes them back when it needs to.",
        )
        .show("process_resident_memory_bytes{#}", "{{instance}}")
        .wide(6),
        Panel::lines("Open files", "short", "Open file descriptors and their limit.")
            .show("process_open_fds{#}", "{{instance}}")
            .show("process_max_fds{#}", "{{instance}} limit")
            .wide(6),
        Panel::lines("Threads", "short", "Threads of the operating system.")
            .show("process_threads{#}", "{{instance}}")
            .wide(6),
    ]
}
