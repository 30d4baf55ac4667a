//! The bodies about streams.

use pubg1_actors::{
    StreamDescription, StreamListing, StreamOutcomes, StreamPhase, StreamTask, StreamTaskKind, StreamTaskState,
    WindowsAsOf,
};
use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use utoipa::ToSchema;

/// The body that declares a stream: its document, or SQL.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what the declarations' own reader takes")]
pub(crate) enum NewStream {
    Sql(SqlText),
    Document(Box<StreamBody>),
}

/// A stream in SQL.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlText {
    /// A `SELECT`, or `CREATE MATERIALIZED VIEW name AS SELECT`.
    pub(crate) sql: String,
    /// What the stream of a `SELECT` is called.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,160}$")]
    pub(crate) name: Option<String>,
}

/// The document of a stream. `docs/STREAMS.md` has what its members are made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"version": 1, "name": "by_origin", "input": {"topic": "pubg1"},
    "window": {"kind": "tumbling", "size": "1h"}, "group_by": [{"name": "origin", "value": {"field": "origin"}}],
    "aggregates": [{"name": "n", "function": "count"}]}))]
#[expect(dead_code, reason = "describes what the documents' own reader takes")]
pub(crate) struct StreamBody {
    #[schema(minimum = 1, maximum = 1)]
    version: u32,
    #[schema(pattern = "^[A-Za-z0-9._-]{1,160}$")]
    name: String,
    #[schema(value_type = Object)]
    input: Value,
    #[schema(value_type = Object)]
    window: Value,
    time: Option<Value>,
    group_by: Option<Value>,
    aggregates: Option<Value>,
    columns: Option<Value>,
    having: Option<Value>,
    top: Option<Value>,
    emit: Option<Value>,
    fill: Option<Value>,
    output: Option<Value>,
    limits: Option<Value>,
    start: Option<Value>,
    stop: Option<Value>,
    on_gap: Option<Value>,
}

/// What a declaration means.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamExplained {
    /// Two declarations with the same fingerprint are the same.
    pub(crate) fingerprint: String,
    /// The document, with everything said that has a default.
    #[schema(value_type = Object)]
    pub(crate) document: Box<RawValue>,
    /// What it does, line by line: a word, and what it says.
    pub(crate) explanation: Vec<[String; 2]>,
}

/// A stream in the list.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamEntry {
    pub(crate) stream: String,
    /// How often it was declared.
    pub(crate) generation: u32,
    #[schema(inline)]
    pub(crate) state: StreamState,
    /// Why it is paused.
    pub(crate) reason: Option<String>,
    /// The topic that it reads.
    pub(crate) input: String,
    /// The topic of its rows.
    pub(crate) output: String,
    /// When it was declared, in milliseconds since 1970.
    pub(crate) created_at: i64,
    /// The generation that is computed beside this one and will take its place.
    pub(crate) next_generation: Option<u32>,
}

impl From<StreamListing> for StreamEntry {
    fn from(listing: StreamListing) -> Self {
        Self {
            stream: listing.name.into(),
            generation: listing.generation,
            state: listing.phase.into(),
            reason: listing.reason,
            input: listing.input.into(),
            output: listing.output.into(),
            created_at: listing.created_ms,
            next_generation: listing.next_generation,
        }
    }
}

/// What a stream does.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StreamState {
    /// It reads.
    Running,
    /// It stands still, with all that it knows.
    Paused,
    /// It has read all that it was to read.
    Finished,
}

impl From<StreamPhase> for StreamState {
    fn from(phase: StreamPhase) -> Self {
        match phase {
            StreamPhase::Running => Self::Running,
            StreamPhase::Paused => Self::Paused,
            StreamPhase::Finished => Self::Finished,
        }
    }
}

/// A stream.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamDetail {
    pub(crate) stream: String,
    /// How often it was declared.
    pub(crate) generation: u32,
    #[schema(inline)]
    pub(crate) state: StreamState,
    /// Why it is paused.
    pub(crate) reason: Option<String>,
    /// When it was declared, in milliseconds since 1970.
    pub(crate) created_at: i64,
    /// The declaration: the document, with everything said that has a default.
    #[schema(value_type = Object)]
    pub(crate) document: Box<RawValue>,
    pub(crate) topics: StreamTopicNames,
    /// The time up to which its results are complete, in milliseconds since 1970; `null` while that is not known.
    pub(crate) watermark_ms: Option<i64>,
    /// The partitions that hold it back: they are furthest behind.
    pub(crate) held_back_by: Vec<u32>,
    /// How many records of the input it has not read, as far as that is known.
    pub(crate) lag: Option<u64>,
    /// What became of the records of all partitions.
    pub(crate) records: StreamRecords,
    /// Windows, or sessions, that are open, in all tasks together.
    pub(crate) open_windows: u64,
    /// Groups in them.
    pub(crate) groups: u64,
    /// The memory of all its tasks.
    pub(crate) memory_bytes: u64,
    /// How long ago the task that has not committed for longest did.
    pub(crate) checkpoint_age_ms: Option<u64>,
    /// What reads the partitions of the input.
    pub(crate) partitions: Vec<StreamTaskEntry>,
    /// What merges their results; empty when nothing has to meet.
    pub(crate) shards: Vec<StreamTaskEntry>,
    /// The generation that is computed beside this one and will take its place.
    #[schema(value_type = Option<Object>)]
    pub(crate) next: Option<Box<StreamDetail>>,
}

/// The topics of a stream.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamTopicNames {
    pub(crate) input: String,
    /// Its rows.
    pub(crate) output: String,
    /// The records that are in no window.
    pub(crate) late: String,
    /// What its tasks know.
    pub(crate) changelog: String,
    /// What the partitions' tasks send to those that merge.
    pub(crate) partials: Option<String>,
}

/// What became of records: `read` is the sum of `accepted` to `no_time`.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamRecords {
    pub(crate) read: u64,
    /// In at least one window.
    pub(crate) accepted: u64,
    /// Not wanted by the filter.
    pub(crate) filtered: u64,
    /// Too late for all their windows.
    pub(crate) late: u64,
    /// Of a time too far after their append.
    pub(crate) future: u64,
    /// Not JSON.
    pub(crate) malformed: u64,
    /// Without a time.
    pub(crate) no_time: u64,
    /// Pairs of a record and a window for which it was late.
    pub(crate) late_pairs: u64,
    /// Partial results that came after the close of a window that is not kept any more.
    pub(crate) late_merges: u64,
    /// Records that were deleted before they were read.
    pub(crate) skipped: u64,
}

impl From<StreamOutcomes> for StreamRecords {
    fn from(outcomes: StreamOutcomes) -> Self {
        let StreamOutcomes {
            read,
            accepted,
            filtered,
            late,
            future,
            malformed,
            no_time,
            late_pairs,
            late_merges,
            skipped,
        } = outcomes;
        Self { read, accepted, filtered, late, future, malformed, no_time, late_pairs, late_merges, skipped }
    }
}

/// Where a task of a stream is.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TaskState {
    /// It reads what it knows from its changelog.
    Restoring,
    /// It reads, or waits for records.
    Running,
    /// It waits for something other than records.
    Waiting,
    Paused,
    Finished,
    /// Whoever runs it does not answer, or nobody does.
    Unknown,
}

impl From<StreamTaskState> for TaskState {
    fn from(state: StreamTaskState) -> Self {
        match state {
            StreamTaskState::Restoring => Self::Restoring,
            StreamTaskState::Running => Self::Running,
            StreamTaskState::Waiting => Self::Waiting,
            StreamTaskState::Paused => Self::Paused,
            StreamTaskState::Finished => Self::Finished,
            StreamTaskState::Unknown => Self::Unknown,
        }
    }
}

/// A task of a stream.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamTaskEntry {
    /// The partition of the input; of a merge its shard.
    pub(crate) partition: u32,
    /// The broker that runs it.
    pub(crate) leader: Option<u32>,
    /// In which epoch of its changelog.
    pub(crate) leader_epoch: Option<u32>,
    #[schema(inline)]
    pub(crate) state: TaskState,
    /// What it waits for, or why it does not run.
    pub(crate) reason: Option<String>,
    /// The next offset that it reads, as last committed.
    pub(crate) next_offset: Option<u64>,
    /// Where what it reads ends.
    pub(crate) end_offset: Option<u64>,
    pub(crate) lag: Option<u64>,
    /// The time that it has reached, in milliseconds since 1970.
    pub(crate) watermark_ms: Option<i64>,
    /// The whole stream waits for this one.
    pub(crate) holds_back: bool,
    /// Its partition has been silent for so long that nobody waits for it.
    pub(crate) idle: bool,
    pub(crate) records: StreamRecords,
    /// Windows, or sessions, that are open.
    pub(crate) open_windows: u64,
    /// Groups in them.
    pub(crate) groups: u64,
    pub(crate) memory_bytes: u64,
    /// How long ago it has committed last.
    pub(crate) checkpoint_age_ms: Option<u64>,
    /// Commits since it began to run there.
    pub(crate) commits: u64,
    /// Rows since it began to run there.
    pub(crate) rows: u64,
}

impl From<&StreamTask> for StreamTaskEntry {
    fn from(task: &StreamTask) -> Self {
        Self {
            partition: task.number,
            leader: task.leader.map(|broker| broker.0),
            leader_epoch: task.epoch.map(pubg1_model::LeaderEpoch::get),
            state: task.state.into(),
            reason: task.reason.clone(),
            next_offset: task.next_offset.map(pubg1_model::Offset::get),
            end_offset: task.end_offset.map(pubg1_model::Offset::get),
            lag: task.lag(),
            watermark_ms: task.watermark_ms,
            holds_back: task.holds_back,
            idle: task.is_idle,
            records: task.outcomes.into(),
            open_windows: task.open_windows,
            groups: task.groups,
            memory_bytes: task.memory_bytes,
            checkpoint_age_ms: task.checkpoint_age_ms,
            commits: task.commits,
            rows: task.rows,
        }
    }
}

/// A document as it is; it is JSON, whoever wrote it.
pub(crate) fn document(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).or_else(|_| to_raw_value(text)).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl From<StreamDescription> for StreamDetail {
    fn from(stream: StreamDescription) -> Self {
        let (shards, partitions): (Vec<_>, Vec<_>) =
            stream.tasks.iter().partition(|task| task.kind == StreamTaskKind::Merge);
        let entries = |tasks: &[&StreamTask]| tasks.iter().map(|task| StreamTaskEntry::from(*task)).collect();
        let sum = |count: fn(&StreamTask) -> u64| stream.tasks.iter().map(count).sum();
        let outcomes = stream.tasks.iter().fold(StreamOutcomes::default(), |sum, task| {
            // What a merge reads are results, not records.
            let own = StreamOutcomes { late_merges: task.outcomes.late_merges, ..StreamOutcomes::default() };
            sum.plus(if task.kind == StreamTaskKind::Merge { own } else { task.outcomes })
        });
        Self {
            stream: stream.name.as_str().to_owned(),
            generation: stream.generation,
            state: stream.phase.into(),
            reason: stream.reason.clone(),
            created_at: stream.created_ms,
            document: document(&stream.document),
            watermark_ms: stream.watermark_ms,
            held_back_by: partitions.iter().filter(|task| task.holds_back).map(|task| task.number).collect(),
            lag: partitions.iter().filter_map(|task| task.lag()).reduce(u64::saturating_add),
            records: outcomes.into(),
            open_windows: sum(|task| task.open_windows),
            groups: sum(|task| task.groups),
            memory_bytes: sum(|task| task.memory_bytes),
            checkpoint_age_ms: stream.tasks.iter().filter_map(|task| task.checkpoint_age_ms).max(),
            partitions: entries(&partitions),
            shards: entries(&shards),
            topics: StreamTopicNames {
                input: stream.topics.input.into(),
                output: stream.topics.output.into(),
                late: stream.topics.late.into(),
                changelog: stream.topics.changelog.into(),
                partials: stream.topics.partials.map(String::from),
            },
            next: stream.next.map(|next| Box::new(Self::from(*next))),
        }
    }
}

/// Windows of a stream.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamWindows {
    pub(crate) stream: String,
    /// The rows, as they stand in the output topic, by window and group.
    #[schema(value_type = Vec<Object>)]
    pub(crate) windows: Vec<Box<RawValue>>,
    /// There are more rows than were asked for.
    pub(crate) more: bool,
    /// What the rows are made from.
    pub(crate) as_of: Vec<WindowsAsOfEntry>,
    /// The partitions of the input whose tasks did not answer: their records are not in the rows.
    pub(crate) missing: Vec<u32>,
}

/// How far a partition of the input is in the rows.
#[derive(Serialize, ToSchema)]
pub(crate) struct WindowsAsOfEntry {
    pub(crate) partition: u32,
    /// All records before this one are in the rows.
    pub(crate) offset: u64,
    /// The partition's time, in milliseconds since 1970.
    pub(crate) watermark_ms: Option<i64>,
    /// In which epoch the partition's task was asked.
    pub(crate) leader_epoch: u32,
}

impl From<WindowsAsOf> for WindowsAsOfEntry {
    fn from(as_of: WindowsAsOf) -> Self {
        Self {
            partition: as_of.partition,
            offset: as_of.offset.get(),
            watermark_ms: as_of.watermark_ms,
            leader_epoch: as_of.epoch.get(),
        }
    }
}
