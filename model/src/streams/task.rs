//! A task of a stream: one partition of its input, or one shard of its second stage.
//!
//! A task is fed what it reads, and gives commits and outputs. Everything that it knows is in the records of its
//! commits, one after the other in its changelog: a [`TaskReplay`] of these gives the same task. Whoever runs it keeps
//! this order, and by that every row comes out exactly once:
//!
//! 1. [`Task::feed`], and what else moves time, change the memory alone.
//! 2. [`Task::commit`] makes the records of a commit. They are appended to the changelog; [`Task::committed`] says that
//!    they are there for good.
//! 3. Then the commit's outputs are published. They are ready record batches with sequences, so that they may be
//!    published again, by this task or by the one that takes its place. [`Task::published`] says that they are there.
//! 4. Only then the next commit is made. It says that the former is published.
//!
//! Nothing is visible before it is committed, so nothing that was lost with the memory has been seen. After an error, or
//! an append whose outcome is not known, the task is dropped and replayed.

mod changelog;
mod feed;
mod idle;
mod outbox;
mod read;
mod replay;
mod stage;

use std::sync::Arc;

pub use idle::{TaskTime, idle_target, is_ahead};
pub use outbox::{OutputBatch, OutputTarget};
pub use replay::{ReplayError, TaskReplay};

use self::{
    changelog::{COMMIT, Cutter, SNAPSHOT},
    outbox::Outbox,
    stage::Stage,
};
use super::{
    engine::{Open, Output, Stats},
    partition::FINISHED,
    plan::{Emit, Plan, PlanError, Stages},
};
use crate::{LeaderEpoch, Offset, ProducerId, record_batch::BatchError};

/// How often a task commits, in milliseconds.
pub const COMMIT_INTERVAL_MS: i64 = 200;
/// After how long without another commit one says that the outputs of the last are published, in milliseconds.
pub const SETTLE_INTERVAL_MS: i64 = 1_000;
/// With so many bytes of outputs a commit is due at once, and nothing is fed until it is made.
pub const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// With so many bytes of input a commit is due at once, and nothing is fed until it is made.
pub const INPUT_BYTES_MAX: usize = 32 << 20;
/// The most shards of a second stage.
pub const SHARDS_MAX: u32 = 4;
/// The least bytes of commits after which a snapshot is made.
const SNAPSHOT_AFTER_BYTES: usize = 4 << 20;

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskKind {
    /// Everything, for one partition of the input.
    Whole {
        /// The partition.
        partition: u32,
    },
    /// The first stage, for one partition of the input.
    First {
        /// The partition.
        partition: u32,
    },
    /// The second stage, for one shard of the groups.
    Merge {
        /// The shard: the partition of the partial results that it reads.
        shard: u32,
    },
}

impl TaskKind {
    /// The task of a partition of the changelog; `None` when there is none.
    #[must_use]
    pub const fn of(changelog_partition: u32, inputs: u32, shards: u32) -> Option<Self> {
        if changelog_partition >= inputs.saturating_add(shards) {
            None
        } else if changelog_partition >= inputs {
            Some(Self::Merge { shard: changelog_partition - inputs })
        } else if shards == 0 {
            Some(Self::Whole { partition: changelog_partition })
        } else {
            Some(Self::First { partition: changelog_partition })
        }
    }

    /// The partition of the changelog that holds the task's state.
    #[must_use]
    pub const fn changelog_partition(self, inputs: u32) -> u32 {
        match self {
            Self::Whole { partition } | Self::First { partition } => partition,
            Self::Merge { shard } => inputs + shard,
        }
    }
}

/// How many tasks the second stage of a query over so many partitions has; 0: there is none, every task is
/// [`TaskKind::Whole`].
#[must_use]
pub fn merge_shards(plan: &Plan, inputs: u32) -> u32 {
    match plan.stages {
        Stages::PerPartition => 0,
        Stages::Merged if inputs <= 1 => 0,
        // The first rows of a window are chosen where all its groups are.
        Stages::Merged if plan.top.is_some() => 1,
        Stages::Merged => inputs.min(SHARDS_MAX),
    }
}

/// What a task is made of.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// What it does.
    pub kind: TaskKind,
    /// The query.
    pub plan: Arc<Plan>,
    /// How many partitions the input has.
    pub inputs: u32,
    /// How many shards the second stage has; 0 when there is none.
    pub shards: u32,
    /// How many partitions the output topic has.
    pub output_partitions: u32,
    /// The most bytes of a batch that the output topic takes.
    pub output_bytes_max: usize,
    /// How many partitions the topic of late records has.
    pub late_partitions: u32,
    /// The most bytes of a batch that the topic of late records takes. Of a record that is larger it gets no value.
    pub late_bytes_max: usize,
}

/// What is wrong with what a task is given or makes. It is of no use then.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The input cannot be read.
    #[error("the input cannot be read at offset {offset}: {problem}")]
    Input {
        /// The position of the task.
        offset: Offset,
        /// What is wrong.
        #[source]
        problem: BatchError,
    },
    /// A partial result is not of this stream.
    #[error("the partial result at offset {offset} is damaged, or not of this stream")]
    Partial {
        /// Its position; [`Offset::MAX`] for one that was not in a log.
        offset: Offset,
    },
    /// A row cannot be written.
    #[error("a result cannot be written: {0}")]
    Output(#[from] BatchError),
    /// A result is larger than its topic takes.
    #[error("a result has {bytes} bytes, more than max_message_bytes of its topic, {bytes_max}")]
    TooLarge {
        /// The bytes of a batch that holds it alone.
        bytes: usize,
        /// What the topic takes.
        bytes_max: usize,
    },
    /// The task has not begun.
    #[error("the task has not begun")]
    NotBegun,
    /// The last commit is not published yet.
    #[error("a commit is under way")]
    UnderWay,
}

/// What became of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// How many records were new and are taken.
    pub records: usize,
    /// How many bytes of batches are done with. What follows them is to be fed again: a step is bounded, and the task
    /// takes nothing while its outputs are too many.
    pub bytes: usize,
}

/// A commit, to be appended to the changelog: all records, in this order, in one or more batches.
#[derive(Clone, Debug)]
pub struct CommitToAppend {
    /// Its number.
    pub number: u64,
    /// The values of its records; each at most about 1 MiB.
    pub records: Vec<Vec<u8>>,
    /// What is to be published once it is appended for good. May be empty.
    pub outputs: Vec<OutputBatch>,
    /// How many of the rows among them are final and take the place of a final one.
    pub corrections: u64,
    /// It holds the whole state: once it is appended for good, what lies before its first record can be deleted.
    pub is_snapshot: bool,
    /// What the task goes on with after it: once it is appended for good, nothing before that is read again.
    pub position: Offset,
}

impl CommitToAppend {
    /// How many bytes its records have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.iter().map(Vec::len).sum()
    }
}

/// How a task is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskStatus {
    /// The record that it goes on with: of the input, in a second stage of the partial results.
    pub position: Offset,
    /// Where it ends, if it does.
    pub end: Option<Offset>,
    /// Its time.
    pub watermark_ms: Option<i64>,
    /// What became of the records.
    pub stats: Stats,
    /// Records that were deleted before they were read, and passed over.
    pub skipped: u64,
    /// How much is open.
    pub open: Open,
    /// How many bytes of memory it takes.
    pub memory_bytes: usize,
    /// Its last commit.
    pub commits: u64,
    /// Whether it has closed everything and reads no more.
    pub is_finished: bool,
}

/// What a commit says beside the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    producer_id: Option<ProducerId>,
    end: Option<Offset>,
    position: Offset,
    /// When the last record was read, or appended where the log says so.
    last_record_ms: Option<i64>,
    skipped: u64,
    is_finished: bool,
    /// The time that the second stage has been told.
    told_watermark_ms: Option<i64>,
}

/// A task of a stream.
#[derive(Clone, Debug)]
pub struct Task {
    spec: TaskSpec,
    stage: Stage,
    progress: Progress,
    outbox: Outbox,
    /// Advances since the last commit: before which record, and to which time.
    advances: Vec<(Offset, i64)>,
    /// What came out of the stage and is not in the outbox yet.
    out: Output,
    /// Corrections since the last commit.
    corrections: u64,
    /// Since when there is something to commit.
    dirty_since_ms: Option<i64>,
    input_bytes: usize,
    /// The last commit that was made, the last that is appended for good, the last that is published.
    number: u64,
    committed: u64,
    published: u64,
    /// The last commit with outputs, and the last that is known to be published by one after it.
    last_output: u64,
    told_published: u64,
    last_commit_ms: i64,
    last_update_ms: Option<i64>,
    /// Bytes of the changelog: of the last snapshot, and since.
    snapshot_bytes: usize,
    changelog_bytes: usize,
}

impl Task {
    /// A task of which nothing was committed yet.
    ///
    /// # Errors
    /// [`PlanError`] if the plan cannot be executed.
    pub fn new(spec: TaskSpec) -> Result<Self, PlanError> {
        let mut task = Self::untracked(spec)?;
        task.stage.track_changes();
        Ok(task)
    }

    fn untracked(spec: TaskSpec) -> Result<Self, PlanError> {
        Ok(Self {
            stage: Stage::new(&spec)?,
            spec,
            progress: Progress::default(),
            outbox: Outbox::default(),
            advances: Vec::new(),
            out: Output::default(),
            corrections: 0,
            dirty_since_ms: None,
            input_bytes: 0,
            number: 0,
            committed: 0,
            published: 0,
            last_output: 0,
            told_published: 0,
            last_commit_ms: 0,
            last_update_ms: None,
            snapshot_bytes: 0,
            changelog_bytes: 0,
        })
    }

    /// What it is made of.
    #[must_use]
    pub const fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    /// Whether it knows where to begin and as whom to publish. Otherwise [`Task::begin`] comes first.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.progress.producer_id.is_some()
    }

    /// Says as whom the task publishes, where it begins to read, and where it ends if it does. The first commit stores
    /// this; it is due at once.
    pub fn begin(&mut self, producer_id: ProducerId, start: Offset, end: Option<Offset>, now_ms: i64) {
        self.progress = Progress { producer_id: Some(producer_id), end, position: start, ..Progress::default() };
        self.stage.start_at(start.get());
        self.dirty_since_ms = Some(now_ms.saturating_sub(COMMIT_INTERVAL_MS));
    }

    fn touch(&mut self, now_ms: i64) {
        self.dirty_since_ms.get_or_insert(now_ms);
    }

    /// Whether the task may be fed: it has begun, not finished, and its pending outputs and input are not too many.
    #[must_use]
    pub fn can_feed(&self) -> bool {
        self.has_begun() && !self.is_at_end() && !self.progress.is_finished && !self.is_full()
    }

    const fn is_full(&self) -> bool {
        self.outbox.bytes() > OUTPUT_BYTES_MAX || self.input_bytes > INPUT_BYTES_MAX
    }

    /// Whether all is read that is to be read: then [`Task::finish`] is due.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.progress.end.is_some_and(|end| self.progress.position >= end)
    }

    /// Whether it has closed everything and reads no more. The last commit is still to be made and published, if
    /// [`Task::is_clean`] does not hold.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.progress.is_finished
    }

    /// Whether everything is committed and published.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.dirty_since_ms.is_none() && self.is_settled()
    }

    /// Whether no commit is under way.
    const fn is_settled(&self) -> bool {
        self.committed == self.number && self.published == self.number
    }

    /// Passes over records that were deleted before they were read: goes on at `to`. Gives how many those are.
    pub fn skip_to(&mut self, to: Offset, now_ms: i64) -> u64 {
        let skipped = to.since(self.progress.position);
        if skipped > 0 {
            self.progress.position = to;
            self.progress.skipped += skipped;
            self.stage.start_at(to.get());
            self.touch(now_ms);
        }
        skipped
    }

    /// Time that passed without records, as [`Task::idle_target`] says it. Not for a second stage.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn advance(&mut self, watermark_ms: i64, now_ms: i64) -> Result<(), TaskError> {
        if self.progress.is_finished || self.watermark_ms() >= Some(watermark_ms) {
            return Ok(());
        }
        self.advances.push((self.progress.position, watermark_ms));
        self.touch(now_ms);
        let partials = self.stage.advance(self.progress.position.get(), watermark_ms, &mut self.out);
        self.collect(partials.as_ref(), &[])
    }

    /// Closes all windows: nothing more will be read. A second stage finishes by what the first tells it.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn finish(&mut self, now_ms: i64) -> Result<(), TaskError> {
        if matches!(self.spec.kind, TaskKind::Merge { .. }) || self.progress.is_finished {
            return Ok(());
        }
        self.progress.is_finished = true;
        self.touch(now_ms);
        let partials = self.stage.finish(&mut self.out);
        self.collect(partials.as_ref(), &[])
    }

    /// Whether what has changed should be given out (emit modes with updates).
    #[must_use]
    pub fn is_update_due(&self, now_ms: i64) -> bool {
        let (Emit::Updates { interval_ms } | Emit::FinalAndUpdates { interval_ms }) = self.spec.plan.emit else {
            return false;
        };
        self.can_feed() && self.last_update_ms.is_none_or(|last| now_ms.saturating_sub(last) >= interval_ms)
    }

    /// Gives out what has changed since the last call.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn emit_updates(&mut self, now_ms: i64) -> Result<(), TaskError> {
        self.last_update_ms = Some(now_ms);
        if !self.has_begun() || self.progress.is_finished || !self.spec.plan.emit.has_updates() {
            return Ok(());
        }
        let partials = self.stage.updates(&mut self.out);
        if !self.out.rows.is_empty() || partials.as_ref().is_some_and(|partials| !partials.is_empty()) {
            self.touch(now_ms);
        }
        self.collect(partials.as_ref(), &[])
    }

    /// Whether a commit should be made now. While one is under way it should not.
    #[must_use]
    pub fn is_commit_due(&self, now_ms: i64) -> bool {
        if !self.is_settled() || !self.has_begun() {
            return false;
        }
        let is_old = |since: i64| now_ms.saturating_sub(since) >= COMMIT_INTERVAL_MS;
        self.dirty_since_ms.is_some_and(is_old)
            || self.is_full()
            || self.dirty_since_ms.is_some() && self.progress.is_finished
            || self.told_published < self.last_output
                && now_ms.saturating_sub(self.last_commit_ms) >= SETTLE_INTERVAL_MS
    }

    /// Makes a commit of everything that has happened. The former one must be published. From time to time it is a
    /// snapshot.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn commit(&mut self, epoch: LeaderEpoch, now_ms: i64) -> Result<CommitToAppend, TaskError> {
        let Some(producer_id) = self.progress.producer_id else { return Err(TaskError::NotBegun) };
        // A commit says that the former is published: a replay publishes only the last one again.
        if !self.is_settled() {
            return Err(TaskError::UnderWay);
        }
        self.tell_time()?;
        let outputs = self.outbox.take(producer_id)?;
        let is_snapshot = self.changelog_bytes > SNAPSHOT_AFTER_BYTES.max(self.snapshot_bytes.saturating_mul(2));
        self.number += 1;
        let kind = if is_snapshot { SNAPSHOT } else { COMMIT };
        let mut cutter = Cutter::new(kind, epoch, self.number);
        changelog::write_commit(self, &outputs, &mut cutter);
        if is_snapshot {
            self.stage.snapshot().iter().for_each(|piece| cutter.put_bytes(piece));
        } else {
            cutter.put_bytes(&self.stage.changes());
        }
        let (number, position) = (self.number, self.progress.position);
        let (records, corrections) = (cutter.finish(), std::mem::take(&mut self.corrections));
        let commit = CommitToAppend { number, records, outputs, corrections, is_snapshot, position };
        if is_snapshot {
            self.snapshot_bytes = commit.bytes();
            self.changelog_bytes = 0;
        } else {
            self.changelog_bytes += commit.bytes();
        }
        self.told_published = self.published;
        if !commit.outputs.is_empty() {
            self.last_output = self.number;
        }
        self.advances.clear();
        self.dirty_since_ms = None;
        self.input_bytes = 0;
        self.last_commit_ms = now_ms;
        Ok(commit)
    }

    /// A commit is appended for good. One without outputs needs no [`Task::published`].
    pub fn committed(&mut self, number: u64) {
        self.committed = self.committed.max(number.min(self.number));
        if self.last_output < self.committed {
            self.published = self.published.max(self.committed);
        }
    }

    /// All outputs of a commit are published.
    pub fn published(&mut self, number: u64) {
        self.published = self.published.max(number.min(self.committed));
    }

    /// The number of the last commit that was made; 0 before the first.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Its time; of a second stage the query's, as far as this shard knows it.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        self.stage.watermark_ms()
    }

    /// The record that it goes on with: of the input, in a second stage of the partial results.
    #[must_use]
    pub const fn position(&self) -> Offset {
        self.progress.position
    }

    /// How many bytes of memory it takes. Whoever runs the tasks of a stream holds the sum against the plan's limit.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.stage.memory_bytes() + self.outbox.bytes()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        TaskStatus {
            position: self.progress.position,
            end: self.progress.end,
            watermark_ms: self.watermark_ms(),
            stats: self.stage.stats(),
            skipped: self.progress.skipped,
            open: self.stage.open(),
            memory_bytes: self.memory_bytes(),
            commits: self.number,
            is_finished: self.progress.is_finished,
        }
    }

    /// A second stage has finished when all partitions have.
    fn check_finished(&mut self) {
        if matches!(self.stage, Stage::Merge(_)) && self.watermark_ms() >= Some(FINISHED) {
            self.progress.is_finished = true;
        }
    }
}

#[cfg(test)]
mod tests;
