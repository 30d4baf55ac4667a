//! The writer's side of compaction: what a job may work on, and taking its result in.

use std::sync::Arc;

use pubg1_model::{Offset, topic::CleanupPolicy};

use super::PartitionLog;
use crate::{
    compaction::{Compacted, CompactionJob, KEYS_MAX},
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
