//! What a follower does to its log that a leader does not: taking over batches as they are, the epochs that
//! they belong to, and beginning again where the leader's log begins.

use std::sync::Arc;

use pubg1_model::{
    Offset,
    leader_epochs::{EpochStart, LeaderEpochs},
    producer_state::ProducerStates,
    record_batch::{BatchHeader, ValidBatch},
};

use super::{Appended, PartitionLog};
use crate::{
    active_segment::ActiveSegment,
    disk::sync_dir,
    epoch_checkpoint,
    error::{AppendError, StorageError},
    producer_snapshot,
    segment::Segment,
};

impl PartitionLog {
    /// Appends a batch of the leader's log with the offset and the epoch that it came with.
    ///
    /// It has to begin at the log end. Where the leader has compacted, it may leave a gap below what
    /// [`PartitionLog::allow_gaps_to`] allows; and the first batch of an empty log may begin before the log start,
    /// because a log can start within a batch. Its epoch was recorded before, by [`PartitionLog::record_epochs`].
    /// Nothing else is judged: the leader has.
    ///
    /// # Errors
    /// [`AppendError::NotNext`] or [`AppendError::OtherEpoch`] for a batch that does not belong here, and those of
    /// space and disk; the log is then as it was before.
    pub fn append_replicated(&mut self, batch: &ValidBatch, now_ms: i64) -> Result<Appended, AppendError> {
        self.flush.check()?;
        let header = *batch.header();
        let (base_offset, last_offset) = self.check_next(&header)?;
        let log_end = last_offset.plus(1);
        if log_end == Offset::MAX {
            return Err(AppendError::OffsetsExhausted);
        }
        self.mark_open()?;
        let interval_bytes = self.config.index_interval_bytes;
        let begin = base_offset.min(self.log_end);
        let active = self.active_for(batch.bytes().len(), begin, last_offset, now_ms)?;
        active.append(batch, &header, interval_bytes, now_ms)?;
        self.producers.record(&header);
        self.log_end = log_end;
        self.shared.set_log_end(log_end);
        Ok(Appended { base_offset, last_offset, duplicate: false })
    }

    /// The first and the last offset of a batch that comes next in this log.
    fn check_next(&self, header: &BatchHeader) -> Result<(Offset, Offset), AppendError> {
        let log_end = self.log_end;
        let misplaced =
            || AppendError::NotNext { log_end, first: header.base_offset, records: header.offsets_spanned() };
        let (Some(first), Some(last)) = (header.first_offset(), header.last_offset()) else { return Err(misplaced()) };
        let begins_the_log = first < log_end && last >= log_end && self.segments().next().is_none();
        let follows_a_gap = first > log_end && first <= self.flush.checkpoint().gaps_end;
        if last < first || !(first == log_end || begins_the_log || follows_a_gap) {
            return Err(misplaced());
        }
        let assigned = self.epochs.epoch_at(first.max(self.log_start));
        if assigned.is_none() || assigned != header.leader_epoch() {
            return Err(AppendError::OtherEpoch { offset: first, epoch: header.partition_leader_epoch, assigned });
        }
        Ok((first, last))
    }

    /// Notes, durably, where leader epochs begin, before a batch of any of them is appended. One that begins above
    /// the log end is forgotten by the next [`PartitionLog::open`] unless the log has reached it by then.
    ///
    /// # Errors
    /// [`StorageError::Io`], and those of a log that accepts nothing more.
    pub fn record_epochs(&mut self, starts: impl IntoIterator<Item = EpochStart>) -> Result<(), StorageError> {
        self.flush.check()?;
        let mut epochs = self.epochs.clone();
        let mut changed = false;
        for EpochStart { epoch, start_offset } in starts {
            changed |= epochs.assign(epoch, start_offset);
        }
        if changed {
            epoch_checkpoint::store(&*self.disk, &self.dir, &epochs)?;
            self.epochs = epochs;
        }
        Ok(())
    }

    /// Allows, durably, that batches up to the one that begins at `offset` leave gaps, because the leader has
    /// compacted them.
    ///
    /// # Errors
    /// [`StorageError::Io`] or [`StorageError::Flush`].
    pub fn allow_gaps_to(&mut self, offset: Offset) -> Result<(), StorageError> {
        if self.flush.checkpoint().gaps_end < offset {
            self.flush.update_synced(|checkpoint| checkpoint.gaps_end = checkpoint.gaps_end.max(offset))?;
        }
        Ok(())
    }

    /// Drops everything, durably, and begins an empty log at `offset`: the leader has deleted what comes before, or
    /// what is here is not to be kept. Waits for a flush that is running.
    ///
    /// # Errors
    /// [`StorageError::Io`]; [`StorageError::Flush`] when it failed halfway: only opening the log again tells what
    /// it holds.
    pub fn restart_at(&mut self, offset: Offset) -> Result<(), StorageError> {
        if offset < self.log_end {
            // The log promises nothing above `offset` before it promises anything else.
            self.truncate_to(offset.min(self.log_start))?;
        }
        self.flush.check()?;
        let flush = Arc::clone(&self.flush);
        let paused = flush.pause();
        flush.next_generation();
        flush.update_synced(|checkpoint| {
            checkpoint.clean = None;
            checkpoint.log_start = offset;
        })?;
        self.is_marked_open = true;
        (self.log_start, self.log_end, self.flushed) = (offset, offset, offset);
        self.shared.set_log_end(offset);
        self.shared.set_log_start(offset);
        self.drop_everything().map_err(|error| flush.fail_with(error))?;
        flush.update_synced(|checkpoint| {
            checkpoint.recovery_point = offset;
            checkpoint.gaps_end = offset;
            checkpoint.cleaned_end = offset;
        })?;
        drop(paused);
        Ok(())
    }

    fn drop_everything(&mut self) -> Result<(), StorageError> {
        let segments: Vec<Arc<Segment>> = self.segments().cloned().collect();
        self.active = None;
        self.active_flushed_bytes = 0;
        self.sealed.clear();
        self.rolled.clear();
        self.publish_segments();
        for segment in segments.iter().rev() {
            segment.paths.remove()?;
        }
        self.epochs = LeaderEpochs::default();
        epoch_checkpoint::store(&*self.disk, &self.dir, &self.epochs)?;
        producer_snapshot::remove_above(&self.dir, Offset::ZERO)?;
        self.producers = ProducerStates::default();
        self.tombstones_due_ms = None;
        sync_dir(&*self.disk, &self.dir).map_err(StorageError::io("sync directory", &self.dir))
    }

    /// What lies above it was written a short while ago, and is in memory: the part of the segment that is appended to
    /// which was not given back.
    #[must_use]
    pub fn recent_from(&self) -> Offset {
        self.active.as_ref().and_then(ActiveSegment::kept_from).unwrap_or(self.log_end)
    }
}
