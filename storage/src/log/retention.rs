//! Deleting the head of the log: by age, by size, by request.

use pubg1_model::{Offset, topic::CleanupPolicy};

use super::{PartitionLog, append::is_older};
use crate::error::StorageError;

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Segments.
    pub segments: usize,
    /// Bytes of their batches.
    pub bytes: u64,
}

impl PartitionLog {
    /// Closes the active segment when it is old enough, and under [`CleanupPolicy::Delete`] deletes
    /// the oldest segments while they are expired or the log is larger than it should be. Only
    /// segments that lie below the high watermark as a whole are deleted.
    ///
    /// A segment's age counts from its last append, by the broker's clock, and not from what its
    /// records say: old data just loaded are kept as long as new ones, and a record dated into the
    /// future keeps nothing alive.
    ///
    /// # Errors
    /// [`StorageError::Io`] or [`StorageError::Flush`].
    pub fn apply_retention(&mut self, now_ms: i64, high_watermark: Offset) -> Result<Deleted, StorageError> {
        self.flush.check()?;
        self.close_if_old(now_ms)?;
        if self.config.cleanup_policy != CleanupPolicy::Delete {
            return Ok(Deleted::default());
        }
        let mut size_bytes = self.size_bytes();
        let mut count = 0;
        for (at, segment) in self.sealed.iter().enumerate() {
            let is_expired =
                self.config.retention_ms.is_some_and(|age| is_older(segment.last_append_ms(), age, now_ms));
            let left_bytes = size_bytes - segment.bytes();
            let is_surplus = self.config.retention_bytes.is_some_and(|kept| left_bytes >= kept);
            if self.sealed_end(at) > high_watermark || !(is_expired || is_surplus) {
                break;
            }
            size_bytes = left_bytes;
            count += 1;
        }
        self.delete_head(count, self.log_start)
    }

    /// Makes `offset` the first readable one, durably, and deletes the segments below it. Returns
    /// the new log start offset; one at or below the old changes nothing.
    ///
    /// # Errors
    /// [`StorageError::AboveLogEnd`], [`StorageError::Io`] or [`StorageError::Flush`].
    pub fn delete_records_before(&mut self, offset: Offset) -> Result<Offset, StorageError> {
        self.flush.check()?;
        if offset > self.log_end {
            return Err(StorageError::AboveLogEnd { offset, log_end: self.log_end });
        }
        if offset <= self.log_start {
            return Ok(self.log_start);
        }
        if offset == self.log_end && self.active.as_ref().is_some_and(|active| active.bytes() > 0) {
            // Nothing of the active segment is needed any more: its space is given back, too.
            self.mark_open()?;
            self.seal_active()?;
        }
        let count = (0..self.sealed.len()).take_while(|at| self.sealed_end(*at) <= offset).count();
        self.delete_head(count, offset)?;
        Ok(self.log_start)
    }

    /// The offset after a closed segment: where the next one begins.
    pub(super) fn sealed_end(&self, at: usize) -> Offset {
        let next = self.sealed.get(at + 1).or_else(|| self.active.as_ref().map(|active| active.segment()));
        next.map_or(self.log_end, |segment| segment.base)
    }

    fn close_if_old(&mut self, now_ms: i64) -> Result<(), StorageError> {
        let Some(active) = &self.active else { return Ok(()) };
        let deletes = self.config.cleanup_policy == CleanupPolicy::Delete;
        let is_expired = deletes
            && self.config.retention_ms.is_some_and(|age| is_older(active.segment().last_append_ms(), age, now_ms));
        let is_old = is_older(active.first_append_ms(), self.config.segment_ms, now_ms);
        if active.bytes() > 0 && (is_old || is_expired) {
            self.mark_open()?;
            self.seal_active()?;
            self.publish_segments();
        }
        Ok(())
    }

    /// Deletes the `count` oldest closed segments. The new log start is durable first, so that a
    /// crash in between leaves only files that the next start removes.
    fn delete_head(&mut self, count: usize, log_start: Offset) -> Result<Deleted, StorageError> {
        let end = count.checked_sub(1).map_or(self.log_start, |last| self.sealed_end(last));
        let log_start = log_start.max(end);
        if log_start == self.log_start {
            return Ok(Deleted::default());
        }
        self.mark_open()?;
        self.flush.update_synced(|checkpoint| checkpoint.log_start = log_start)?;
        self.log_start = log_start;
        self.shared.set_log_start(log_start);
        self.epochs.start_from(log_start);
        let deleted: Vec<_> = self.sealed.drain(..count).collect();
        self.rolled.retain(|rolled| self.sealed.iter().any(|segment| segment.base == rolled.segment.base));
        // What lies below the log start needs no flush any more.
        self.flushed = self.flushed.max(log_start);
        self.publish_segments();
        let mut report = Deleted::default();
        for segment in deleted {
            report.segments += 1;
            report.bytes += segment.bytes();
            segment.paths.remove()?;
        }
        Ok(report)
    }
}
