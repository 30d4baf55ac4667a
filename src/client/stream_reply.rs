//! What a broker answers about streams, as far as the command line needs it.

use pubg1_model::{BrokerId, PartitionId, TopicName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One line of `GET /streams`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamLine {
    /// The stream.
    pub stream: String,
    /// How often it was declared.
    #[serde(default)]
    pub generation: u32,
    /// `running`, `paused` or `finished`.
    pub state: String,
    /// Why it is paused.
    #[serde(default)]
    pub reason: Option<String>,
    /// What it reads.
    pub input: TopicName,
    /// Where its rows go.
    pub output: TopicName,
    /// When it was declared, in milliseconds since 1970.
    #[serde(default)]
    pub created_at: i64,
    /// The generation that will take its place.
    #[serde(default)]
    pub next_generation: Option<u32>,
}

/// `GET /streams/{s}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct StreamReply {
    /// The stream.
    pub stream: String,
    /// How often it was declared.
    #[serde(default)]
    pub generation: u32,
    /// `running`, `paused` or `finished`.
    pub state: String,
    /// Why it is paused.
    #[serde(default)]
    pub reason: Option<String>,
    /// When it was declared, in milliseconds since 1970.
    #[serde(default)]
    pub created_at: i64,
    /// Its document.
    pub document: Box<RawValue>,
    /// Its topics.
    pub topics: StreamTopicsReply,
    /// The time up to which its results are complete, in milliseconds since 1970.
    #[serde(default)]
    pub watermark_ms: Option<i64>,
    /// The partitions that hold it back.
    #[serde(default)]
    pub held_back_by: Vec<PartitionId>,
    /// How many records it has not read.
    #[serde(default)]
    pub lag: Option<u64>,
    /// What became of the records.
    #[serde(default)]
    pub records: StreamRecordsReply,
    /// Windows that are open.
    #[serde(default)]
    pub open_windows: u64,
    /// Groups in them.
    #[serde(default)]
    pub groups: u64,
    /// The memory that it takes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// How long ago the task that is furthest behind has committed.
    #[serde(default)]
    pub checkpoint_age_ms: Option<u64>,
    /// Its tasks by the partitions of the input.
    #[serde(default)]
    pub partitions: Vec<StreamTaskReply>,
    /// Its tasks that merge.
    #[serde(default)]
    pub shards: Vec<StreamTaskReply>,
    /// The generation that will take its place.
    #[serde(default)]
    pub next: Option<Box<StreamReply>>,
}

/// The topics of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamTopicsReply {
    /// What it reads.
    pub input: TopicName,
    /// Its rows.
    pub output: TopicName,
    /// The records that are in no window.
    pub late: TopicName,
    /// What its tasks know.
    #[serde(default)]
    pub changelog: Option<String>,
    /// What is merged.
    #[serde(default)]
    pub partials: Option<String>,
}

/// What became of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamRecordsReply {
    /// All that were read.
    pub read: u64,
    /// In a window.
    pub accepted: u64,
    /// Not wanted.
    pub filtered: u64,
    /// Too late.
    pub late: u64,
    /// Too early.
    pub future: u64,
    /// No JSON.
    pub malformed: u64,
    /// Without a time.
    pub no_time: u64,
    /// How often records were late for one of their windows.
    pub late_pairs: u64,
    /// Results that came too late to be merged.
    pub late_merges: u64,
    /// Deleted before they were read.
    pub skipped: u64,
}

/// A task of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamTaskReply {
    /// The partition of the input, or the shard.
    pub partition: u32,
    /// The broker that runs it.
    #[serde(default)]
    pub leader: Option<BrokerId>,
    /// In which epoch of its changelog.
    #[serde(default)]
    pub leader_epoch: Option<u32>,
    /// `restoring`, `running` and the like.
    pub state: String,
    /// What it waits for.
    #[serde(default)]
    pub reason: Option<String>,
    /// The next offset that it reads.
    #[serde(default)]
    pub next_offset: Option<u64>,
    /// Where what it reads ends.
    #[serde(default)]
    pub end_offset: Option<u64>,
    /// What is between them.
    #[serde(default)]
    pub lag: Option<u64>,
    /// The time that it has reached, in milliseconds since 1970.
    #[serde(default)]
    pub watermark_ms: Option<i64>,
    /// Whether the stream waits for it.
    #[serde(default)]
    pub holds_back: bool,
    /// Whether nobody waits for it.
    #[serde(default)]
    pub idle: bool,
    /// What became of its records.
    #[serde(default)]
    pub records: StreamRecordsReply,
    /// Windows that are open.
    #[serde(default)]
    pub open_windows: u64,
    /// Groups in them.
    #[serde(default)]
    pub groups: u64,
    /// The memory that it takes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// How long ago it has committed.
    #[serde(default)]
    pub checkpoint_age_ms: Option<u64>,
    /// Commits since it runs where it is.
    #[serde(default)]
    pub commits: u64,
    /// Rows since it runs where it is.
    #[serde(default)]
    pub rows: u64,
}

/// `GET /streams/{s}/windows`.
#[derive(Debug, Serialize, Deserialize)]
pub struct WindowsReply {
    /// The stream.
    pub stream: String,
    /// The rows as they stand in the output topic.
    pub windows: Vec<Box<RawValue>>,
    /// Whether there are more.
    #[serde(default)]
    pub more: bool,
    /// What they are made from.
    #[serde(default)]
    pub as_of: Vec<WindowsAsOfReply>,
    /// Partitions of the input that are not in them.
    #[serde(default)]
    pub missing: Vec<PartitionId>,
}

/// How far a partition of the input is in the rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WindowsAsOfReply {
    /// The partition.
    pub partition: PartitionId,
    /// All records before this one are in the rows.
    pub offset: u64,
    /// The partition's time, in milliseconds since 1970.
    #[serde(default)]
    pub watermark_ms: Option<i64>,
    /// In which epoch it was asked.
    #[serde(default)]
    pub leader_epoch: u32,
}
