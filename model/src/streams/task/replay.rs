//! A task, out of its changelog.

use super::{
    OutputBatch, Task, TaskSpec,
    changelog::{Body, PieceHead, SNAPSHOT, read_commit, read_piece},
    outbox::Outbox,
    stage::Stage,
};
use crate::{
    Offset,
    streams::{
        codec::{Damaged, Reader},
        engine::RestoreError,
        plan::PlanError,
    },
};

/// Why a changelog gives no task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The plan cannot be executed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A record is not what a task of this kind writes.
    #[error("the record at offset {0} of the changelog is damaged, or of another task")]
    Damaged(Offset),
    /// The windows cannot be restored.
    #[error("the record at offset {offset} of the changelog: {problem}")]
    State {
        /// The record.
        offset: Offset,
        /// What is wrong.
        #[source]
        problem: RestoreError,
    },
    /// Commits are missing.
    #[error("the record at offset {offset} of the changelog ends commit {found}, the one before was {last}")]
    Missing {
        /// The record.
        offset: Offset,
        /// The commit before.
        last: u64,
        /// The commit that follows.
        found: u64,
    },
}

/// Reads a changelog from its start to its end.
#[derive(Debug)]
pub struct TaskReplay {
    task: Task,
    /// The pieces of a commit that is not complete.
    unfinished: Option<(PieceHead, Vec<u8>)>,
    /// What the last commit gives out.
    outputs: Vec<OutputBatch>,
}

impl TaskReplay {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// [`PlanError`] if the plan cannot be executed.
    pub fn new(spec: TaskSpec) -> Result<Self, PlanError> {
        Ok(Self { task: Task::untracked(spec)?, unfinished: None, outputs: Vec::new() })
    }

    /// Takes the value of the next record. Pieces whose beginning is not there are passed over; if a commit is missing
    /// by that, the next one shows it.
    ///
    /// # Errors
    /// [`ReplayError`]; the replay is of no use then.
    pub fn apply(&mut self, value: &[u8], offset: Offset) -> Result<(), ReplayError> {
        let (head, bytes) = read_piece(value).map_err(|Damaged| ReplayError::Damaged(offset))?;
        self.task.changelog_bytes += value.len();
        if head.index == 0 {
            self.unfinished = None;
            if head.is_last {
                return self.commit(head, bytes, offset, value.len());
            }
            self.unfinished = Some((head, bytes.to_vec()));
            return Ok(());
        }
        let follows = |before: &PieceHead| {
            let same = (before.kind, before.epoch, before.number) == (head.kind, head.epoch, head.number);
            same && before.index.checked_add(1) == Some(head.index)
        };
        let Some((_, mut whole)) = self.unfinished.take_if(|(before, _)| follows(before)) else {
            self.unfinished = None;
            return Ok(());
        };
        whole.extend_from_slice(bytes);
        if head.is_last {
            let stored = whole.len();
            return self.commit(head, &whole, offset, stored);
        }
        self.unfinished = Some((head, whole));
        Ok(())
    }

    fn commit(&mut self, head: PieceHead, body: &[u8], offset: Offset, stored: usize) -> Result<(), ReplayError> {
        let is_snapshot = head.kind == SNAPSHOT;
        let last = self.task.number;
        // The log may begin with a snapshot, and with nothing else but the first commit.
        if last.checked_add(1) != Some(head.number) && !(last == 0 && is_snapshot) {
            return Err(ReplayError::Missing { offset, last, found: head.number });
        }
        let damaged = |Damaged| ReplayError::Damaged(offset);
        let mut reader = Reader(body);
        let Body { progress, sequences, published, outputs } =
            read_commit(&self.task.spec, &mut reader).map_err(damaged)?;
        // One commit follows the other only when that is published.
        if progress.producer_id.is_none() || published != head.number.saturating_sub(1) {
            return Err(ReplayError::Damaged(offset));
        }
        if is_snapshot {
            self.task.stage = Stage::new(&self.task.spec)?;
            self.task.snapshot_bytes = stored;
            self.task.changelog_bytes = 0;
        }
        while !reader.is_empty() {
            let piece = reader.bytes().map_err(damaged)?;
            self.task.stage.apply_changes(piece).map_err(|problem| ReplayError::State { offset, problem })?;
        }
        self.task.progress = progress;
        self.task.outbox = Outbox::restored(sequences);
        self.task.number = head.number;
        if !outputs.is_empty() {
            self.task.last_output = head.number;
        }
        self.task.told_published = published;
        self.outputs = outputs;
        Ok(())
    }

    /// The task as it was after the last complete commit, and what is to be published again before it goes on; then
    /// call [`Task::published`] with [`Task::number`].
    #[must_use]
    pub fn finish(self) -> (Task, Vec<OutputBatch>) {
        let mut task = self.task;
        task.stage.track_changes();
        task.published = task.number.saturating_sub(1);
        task.committed(task.number);
        (task, self.outputs)
    }
}
