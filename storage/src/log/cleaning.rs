//! The writer's side of compaction: what a job may work on, and taking its result in.

use std::sync::Arc;

use pubg1_model::{Offset, topic::CleanupPolicy};

use super::PartitionLog;
use crate::{
    Repair, RepairJob, VerificationJob,
    compaction::{Compacted, CompactionJob, KEYS_MAX, Rewriter},
    disk::sync_dir,
    error::StorageError,
    segment::Segment,
};

impl PartitionLog {
    /// A compaction of the closed, flushed segments below the high watermark; `None` when it is
    /// not worth it yet: under [`CleanupPolicy::Compact`] it is once the part that was not
    /// compacted before is as large as the part that was, or tombstones are due.
    #[must_use]
    pub fn begin_compaction(&self, high_watermark: Offset, now_ms: i64) -> Option<CompactionJob> {
        if self.config.cleanup_policy != CleanupPolicy::Compact || self.flush.check().is_err() {
            return None;
        }
        let end_max = high_watermark.min(self.flushed);
        let segments: Vec<(Arc<Segment>, Offset)> = (0..self.sealed.len())
            .map(|at| (Arc::clone(&self.sealed[at]), self.sealed_end(at)))
            .take_while(|(segment, end)| {
                *end <= end_max && !self.rolled.iter().any(|rolled| rolled.segment.base == segment.base)
            })
            .collect();
        let cleaned_end = self.flush.checkpoint().cleaned_end;
        let bytes = |is_dirty: bool| -> u64 {
            let wanted = segments.iter().filter(|(_, end)| (*end > cleaned_end) == is_dirty);
            wanted.map(|(segment, _)| segment.bytes()).sum()
        };
        let (dirty_bytes, clean_bytes) = (bytes(true), bytes(false));
        let is_due = self.tombstones_due_ms.is_some_and(|due| due <= now_ms);
        let is_worth_it = dirty_bytes > 0 && dirty_bytes >= clean_bytes;
        (is_worth_it || (is_due && !segments.is_empty())).then(|| CompactionJob {
            shared: Arc::clone(&self.flush),
            generation: self.flush.generation(),
            segments,
            cleaned_end,
            now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            interval_bytes: self.config.index_interval_bytes,
            keys_max: KEYS_MAX,
        })
    }

    /// The computing of the checksums of the first closed segment that ends above `from`; `None` when there is none that
    /// is flushed.
    #[must_use]
    pub fn begin_verification(&self, from: Offset) -> Option<VerificationJob> {
        let at = (0..self.sealed.len()).find(|at| self.sealed_end(*at) > from)?;
        let segment = &self.sealed[at];
        if self.rolled.iter().any(|rolled| rolled.segment.base == segment.base) {
            return None;
        }
        Some(self.verification_of(segment, self.sealed_end(at), None))
    }

    /// The same for the segment that holds `offset`, be it closed or not: its flushed part.
    #[must_use]
    pub fn begin_verification_at(&self, offset: Offset) -> Option<VerificationJob> {
        match &self.active {
            Some(active) if active.segment().base <= offset => {
                let bytes = self.active_flushed_bytes;
                let flushed =
                    active.segment().batches(0).map_while(Result::ok).take_while(|batch| batch.end() <= bytes);
                let end = flushed.last().map(|batch| batch.last_offset.plus(1))?;
                Some(self.verification_of(active.segment(), end, Some(bytes as u64)))
            }
            _ => self.begin_verification(offset),
        }
    }

    /// Begins to write the closed segment that holds `offset` anew, because it is damaged. From now on its checksums are
    /// computed by whoever reads it.
    #[must_use]
    pub fn begin_repair(&self, offset: Offset, high_watermark: Offset) -> Repair {
        let Some(at) = (0..self.sealed.len()).find(|at| self.sealed_end(*at) > offset) else {
            return Repair::Impossible;
        };
        let (segment, end) = (&self.sealed[at], self.sealed_end(at));
        let is_flushed = !self.rolled.iter().any(|rolled| rolled.segment.base == segment.base);
        // Below the log start nobody has to have anything any more, so the segment cannot be had as a whole.
        let is_whole = segment.base <= offset && segment.base >= self.log_start;
        if !is_whole || !is_flushed || self.flush.check().is_err() {
            return Repair::Impossible;
        }
        segment.set_suspect();
        if end > high_watermark {
            return Repair::NotCommitted;
        }
        Repair::Begun(Box::new(RepairJob {
            segment: Arc::clone(segment),
            end,
            next: segment.base,
            has_gaps: false,
            allows_gaps: self.config.cleanup_policy == CleanupPolicy::Compact,
            shared: Arc::clone(&self.flush),
            tombstones_due_ms: self.tombstones_due_ms,
            generation: self.flush.generation(),
            rewriter: Rewriter::new(&self.flush, segment, self.config.index_interval_bytes),
        }))
    }

    fn verification_of(&self, segment: &Arc<Segment>, end: Offset, bytes: Option<u64>) -> VerificationJob {
        VerificationJob {
            shared: Arc::clone(&self.flush),
            generation: self.flush.generation(),
            segment: Arc::clone(segment),
            path: segment.paths.log.clone(),
            base: segment.base,
            end,
            bytes,
            gaps_end: self.flush.checkpoint().gaps_end,
            epochs: self.epochs.clone(),
        }
    }

    /// Puts the compacted segments in the place of the old ones. Readers keep what they hold.
    /// Segments that were deleted meanwhile stay deleted.
    ///
    /// # Errors
    /// [`StorageError::CompactionOutdated`] when the log was truncated or opened again since the
    /// job began; nothing changes then. [`StorageError::Io`] or [`StorageError::Flush`].
    pub fn install_compaction(&mut self, compacted: Compacted) -> Result<(), StorageError> {
        self.flush.check()?;
        let is_ours = Arc::ptr_eq(&self.flush, &compacted.shared);
        if !is_ours || compacted.generation != self.flush.generation() {
            // Another log of this directory may be writing files of these names.
            if is_ours {
                for replacement in &compacted.replacements {
                    replacement.discard()?;
                }
            }
            return Err(StorageError::CompactionOutdated);
        }
        self.mark_open()?;
        if !compacted.replacements.is_empty() {
            // Gaps are allowed, durably, before there are any.
            self.flush.update_synced(|checkpoint| checkpoint.gaps_end = checkpoint.gaps_end.max(compacted.gaps_end))?;
        }
        for replacement in &compacted.replacements {
            match self.sealed.iter().position(|segment| segment.base == replacement.base) {
                None => replacement.discard()?,
                Some(at) => {
                    replacement.temporary.rename_to(&self.sealed[at].paths)?;
                    self.sealed[at] = Arc::new(Segment::open(&self.dir, replacement.base, i64::MAX)?);
                    self.publish_segments();
                }
            }
        }
        sync_dir(&*self.disk, &self.dir).map_err(|error| self.flush.fail("flush", &self.dir, error))?;
        self.tombstones_due_ms = compacted.tombstones_due_ms;
        self.flush.update_synced(|checkpoint| {
            checkpoint.cleaned_end = checkpoint.cleaned_end.max(compacted.cleaned_end);
        })
    }
}
