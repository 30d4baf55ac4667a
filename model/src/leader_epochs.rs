//! Where each leader epoch begins in a partition: how two logs find the point where they part.
//!
//! A follower asks the leader for the end of its own newest epoch and truncates to it, never to a
//! remembered high watermark (KIP-101). When the leader never had that epoch it answers with the
//! newest one below it, and both step down until they meet (KIP-279).
//!
//! The text form is Kafka's `leader-epoch-checkpoint`: a line `0` (the version), a line with the
//! number of entries, and one line `epoch start-offset` for each.

use std::fmt::Write as _;

use crate::{LeaderEpoch, Offset};

/// One epoch and the offset of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The first offset that was, or will be, appended in it.
    pub start_offset: Offset,
}

/// The epochs of one partition; both epochs and start offsets grow strictly. An epoch in which
/// nothing was appended leaves no trace once the next one begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

/// What a follower does after the leader's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// The logs are equal below this offset: truncate to it and copy from there.
    At(Offset),
    /// Truncate to this offset and ask again, about the newest epoch that is left.
    AskAgain(Offset),
}

/// Why bytes are no leader-epoch checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the leader-epoch checkpoint: {reason}")]
pub struct CheckpointError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl LeaderEpochs {
    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// Whether no epoch is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The newest epoch.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// The epoch that the record at `offset` was, or would be, appended in.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        self.entries[..after].last().map(|entry| entry.epoch)
    }

    /// Notes that `epoch` begins at `start_offset`. The epoch that is already the newest is left as
    /// it is; entries that contradict the new one are removed. Returns whether anything changed and
    /// has to be stored.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if self.entries.last().is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset) {
            return false;
        }
        self.entries.retain(|entry| entry.epoch < epoch && entry.start_offset < start_offset);
        self.entries.push(EpochStart { epoch, start_offset });
        true
    }

    /// The newest epoch not above `epoch`, and where it ends: at the start of the next one, or at
    /// the log end. When all epochs are newer the answer is `epoch` itself, ending where the oldest
    /// known one begins. `None` when no epoch is known.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let oldest = self.entries.first()?;
        let after = self.entries.partition_point(|entry| entry.epoch <= epoch);
        Some(match self.entries[..after].last() {
            None => (epoch, oldest.start_offset),
            Some(found) => (found.epoch, self.entries.get(after).map_or(log_end, |next| next.start_offset)),
        })
    }

    /// The follower's step: what the answer of a leader's [`LeaderEpochs::end_offset_for`], asked
    /// for this log's newest epoch, means for this log.
    #[must_use]
    pub fn divergence(&self, log_end: Offset, leader: (LeaderEpoch, Offset)) -> Divergence {
        let (leader_epoch, leader_end) = leader;
        match self.end_offset_for(leader_epoch, log_end) {
            Some((epoch, end)) if epoch != leader_epoch => Divergence::AskAgain(end.min(log_end)),
            Some((_, end)) => Divergence::At(end.min(leader_end).min(log_end)),
            None => Divergence::At(leader_end.min(log_end)),
        }
    }

    /// Forgets the epochs that begin at or after `offset`, as the log does when it is truncated.
    /// Returns whether anything changed.
    pub fn truncate_to(&mut self, offset: Offset) -> bool {
        let before = self.entries.len();
        self.entries.truncate(self.entries.partition_point(|entry| entry.start_offset < offset));
        self.entries.len() != before
    }

    /// Forgets the epochs that end at or before `offset`, as the log does when its head is deleted;
    /// the epoch that `offset` lies in begins there from now on. Returns whether anything changed.
    pub fn start_from(&mut self, offset: Offset) -> bool {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        let Some(current) = after.checked_sub(1) else { return false };
        if current == 0 && self.entries[0].start_offset == offset {
            return false;
        }
        self.entries.drain(..current);
        self.entries[0].start_offset = offset;
        true
    }

    /// The checkpoint's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = format!("0\n{}\n", self.entries.len());
        for entry in &self.entries {
            // Writing to a String cannot fail.
            writeln!(out, "{} {}", entry.epoch, entry.start_offset).ok();
        }
        out
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`] naming the line. The epochs can then be read from the batches of the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let text = str::from_utf8(bytes).map_err(|_| CheckpointError { line: 1, reason: "it is no text" })?;
        let mut lines = text.lines().zip(1..);
        let mut next = |reason| lines.next().ok_or(CheckpointError { line: text.lines().count() + 1, reason });
        if next("the version is missing")?.0 != "0" {
            return Err(CheckpointError { line: 1, reason: "the version is not 0" });
        }
        let count = next("the number of entries is missing")?.0;
        let count: usize =
            count.parse().map_err(|_| CheckpointError { line: 2, reason: "the number of entries is no number" })?;
        let mut epochs = Self::default();
        for (text, line) in lines {
            let wrong = |reason| CheckpointError { line, reason };
            let entry = parse_entry(text).ok_or(wrong("it should be an epoch and an offset"))?;
            if let Some(last) = epochs.entries.last()
                && (last.epoch >= entry.epoch || last.start_offset >= entry.start_offset)
            {
                return Err(wrong("epochs and offsets must grow"));
            }
            epochs.entries.push(entry);
        }
        if epochs.entries.len() != count {
            return Err(CheckpointError { line: 2, reason: "the number of entries is wrong" });
        }
        Ok(epochs)
    }
}

fn parse_entry(line: &str) -> Option<EpochStart> {
    let (epoch, start_offset) = line.split_once(' ')?;
    Some(EpochStart {
        epoch: LeaderEpoch::from_wire(epoch.parse().ok()?)?,
        start_offset: Offset::from_wire(start_offset.parse().ok()?)?,
    })
}

#[cfg(test)]
mod tests;
