//! What is told and asked about streams.

use std::sync::Arc;

use pubg1_model::{BrokerId, LeaderEpoch, Offset, StreamName, TopicName, streams::engine::Stats};
use serde::{Deserialize, Serialize};

/// How a stream is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateStreamOptions {
    /// Write to the output and late topics although there are records in them.
    pub append: bool,
}

/// What a stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamPhase {
    /// It reads.
    Running,
    /// It stands still, with all that it knows.
    Paused,
    /// It has read all that it was to read.
    Finished,
}

impl StreamPhase {
    /// One word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
        }
    }
}

/// A stream in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamListing {
    /// Its name.
    pub name: StreamName,
    /// How often it was declared.
    pub generation: u32,
    /// What it does.
    pub phase: StreamPhase,
    /// Why it is paused, in words; `None` when it is not.
    pub reason: Option<String>,
    /// The topic that it reads.
    pub input: TopicName,
    /// The topic of its rows.
    pub output: TopicName,
    /// When it was declared, in milliseconds since 1970.
    pub created_ms: i64,
    /// The generation that is computed beside this one and will take its place.
    pub next_generation: Option<u32>,
}

/// The topics of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTopics {
    /// What it reads.
    pub input: TopicName,
    /// Its rows.
    pub output: TopicName,
    /// The records that are in no window.
    pub late: TopicName,
    /// What its tasks know.
    pub changelog: TopicName,
    /// What the partitions' tasks send to those that merge; `None` when nothing is merged.
    pub partials: Option<TopicName>,
}

/// One generation of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamDescription {
    /// Its name.
    pub name: StreamName,
    /// How often it was declared.
    pub generation: u32,
    /// The declaration: the canonical document.
    pub document: Arc<str>,
    /// What it does.
    pub phase: StreamPhase,
    /// Why it is paused, in words; `None` when it is not.
    pub reason: Option<String>,
    /// When it was declared, in milliseconds since 1970.
    pub created_ms: i64,
    /// Its topics.
    pub topics: StreamTopics,
    /// The time up to which its results are complete; `None` while that is not known.
    pub watermark_ms: Option<i64>,
    /// What computes it: a task for each partition that is read, then one for each shard of the merge, if there is one.
    pub tasks: Vec<StreamTask>,
    /// The generation that is computed beside this one and will take its place.
    pub next: Option<Box<StreamDescription>>,
}

/// What a task does for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamTaskKind {
    /// Everything, for one partition of the input.
    Whole,
    /// The first stage, for one partition of the input.
    First,
    /// The second stage, for a part of the groups.
    Merge,
}

impl StreamTaskKind {
    /// One word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::First => "first",
            Self::Merge => "merge",
        }
    }
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamTaskState {
    /// It reads what it knows from its changelog.
    Restoring,
    /// It reads, or waits for records.
    Running,
    /// It waits for something other than records: the reason says for what.
    Waiting,
    /// The stream is paused.
    Paused,
    /// It has read all that it was to read.
    Finished,
    /// Whoever runs it does not answer, or nobody does.
    Unknown,
}

impl StreamTaskState {
    /// One word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restoring => "restoring",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Unknown => "unknown",
        }
    }
}

/// A task, as far as the broker that runs it tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTask {
    /// What it does.
    pub kind: StreamTaskKind,
    /// The partition of the input, or the shard of the merge.
    pub number: u32,
    /// The broker that runs it.
    pub leader: Option<BrokerId>,
    /// In which epoch of its changelog.
    pub epoch: Option<LeaderEpoch>,
    /// Where it is.
    pub state: StreamTaskState,
    /// What it waits for, or why it does not run, in words.
    pub reason: Option<String>,
    /// The next offset that it reads; of a merge in its partition of the partial results. What is committed may be a
    /// moment behind.
    pub next_offset: Option<Offset>,
    /// Where what it reads ends.
    pub end_offset: Option<Offset>,
    /// The time that it has reached.
    pub watermark_ms: Option<i64>,
    /// Whether the whole stream waits for this one.
    pub holds_back: bool,
    /// Whether its partition has been silent for so long that nobody waits for it.
    pub is_idle: bool,
    /// What became of the records.
    pub outcomes: StreamOutcomes,
    /// Windows, or sessions, that are open.
    pub open_windows: u64,
    /// Groups in them.
    pub groups: u64,
    /// Bytes of memory that it takes.
    pub memory_bytes: u64,
    /// How long ago it has committed last, in milliseconds.
    pub checkpoint_age_ms: Option<u64>,
    /// Commits since it began to run here.
    pub commits: u64,
    /// Rows since it began to run here.
    pub rows: u64,
}

impl StreamTask {
    /// One of which nothing is known.
    pub(crate) const fn unknown(kind: StreamTaskKind, number: u32) -> Self {
        Self {
            kind,
            number,
            leader: None,
            epoch: None,
            state: StreamTaskState::Unknown,
            reason: None,
            next_offset: None,
            end_offset: None,
            watermark_ms: None,
            holds_back: false,
            is_idle: false,
            outcomes: StreamOutcomes::NONE,
            open_windows: 0,
            groups: 0,
            memory_bytes: 0,
            checkpoint_age_ms: None,
            commits: 0,
            rows: 0,
        }
    }

    /// Records that it has not read yet.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let (next, end) = (self.next_offset?, self.end_offset?);
        Some(end.get().saturating_sub(next.get()))
    }
}

/// What became of the records of a task: `read` is the sum of `accepted` to `no_time`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOutcomes {
    /// Records read.
    pub read: u64,
    /// In at least one window.
    pub accepted: u64,
    /// Not wanted by the filter.
    pub filtered: u64,
    /// Too late for all their windows.
    pub late: u64,
    /// Of a time too far after their append.
    pub future: u64,
    /// Not JSON.
    pub malformed: u64,
    /// Without a time.
    pub no_time: u64,
    /// Pairs of a record and a window for which it was late.
    pub late_pairs: u64,
    /// Partial results that came after the close of a window that is not kept any more.
    pub late_merges: u64,
    /// Records that were deleted before they were read.
    pub skipped: u64,
}

impl StreamOutcomes {
    const NONE: Self = Self {
        read: 0,
        accepted: 0,
        filtered: 0,
        late: 0,
        future: 0,
        malformed: 0,
        no_time: 0,
        late_pairs: 0,
        late_merges: 0,
        skipped: 0,
    };

    /// The outcomes of an engine.
    pub(crate) const fn of(stats: Stats, skipped: u64) -> Self {
        let Stats { read, accepted, filtered, late, future, malformed, no_time, late_pairs, late_merges } = stats;
        Self { read, accepted, filtered, late, future, malformed, no_time, late_pairs, late_merges, skipped }
    }

    /// The sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            accepted: self.accepted + other.accepted,
            filtered: self.filtered + other.filtered,
            late: self.late + other.late,
            future: self.future + other.future,
            malformed: self.malformed + other.malformed,
            no_time: self.no_time + other.no_time,
            late_pairs: self.late_pairs + other.late_pairs,
            late_merges: self.late_merges + other.late_merges,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// Which windows are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowsQuery {
    /// Only the group whose rows have this key.
    pub key: Option<Vec<u8>>,
    /// Only windows that end at this time or later.
    pub from_ms: i64,
    /// Only windows that begin at this time or earlier.
    pub to_ms: i64,
    /// Those that are closed and still kept.
    pub closed: bool,
    /// Those that are open, as they are now.
    pub open: bool,
    /// Also what is not committed yet: it may be taken back when a broker dies.
    pub latest: bool,
    /// How many rows at most.
    pub limit: usize,
}

impl Default for WindowsQuery {
    fn default() -> Self {
        Self { key: None, from_ms: i64::MIN, to_ms: i64::MAX, closed: true, open: true, latest: false, limit: 1_000 }
    }
}

/// A row of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRow {
    /// The key of its record: the group. `None` when there are no groups.
    pub key: Option<Vec<u8>>,
    /// The row as it stands in the output topic: a JSON object.
    pub json: String,
    /// The start of its window.
    pub window_start_ms: i64,
    /// The end of its window.
    pub window_end_ms: i64,
    /// Whether the window is closed.
    pub is_final: bool,
}

/// What rows are made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowsAsOf {
    /// The partition of the input.
    pub partition: u32,
    /// All records before this one are in the rows.
    pub offset: Offset,
    /// The partition's time.
    pub watermark_ms: Option<i64>,
    /// In which epoch the partition's task was asked.
    pub epoch: LeaderEpoch,
}

/// Windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowsAnswer {
    /// The rows, by window and group.
    pub rows: Vec<WindowRow>,
    /// Whether there are more rows than were asked for.
    pub is_cut: bool,
    /// What they are made from.
    pub as_of: Vec<WindowsAsOf>,
    /// The partitions of the input whose tasks did not answer: their records are not in the rows.
    pub missing: Vec<u32>,
}
