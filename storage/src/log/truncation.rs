//! Cutting the end of the log, as a follower does to agree with a new leader.

use std::{io::Write, path::Path, sync::Arc};

use pubg1_model::Offset;

use super::PartitionLog;
use crate::{
    active_segment::ActiveSegment,
    disk::sync_dir,
    epoch_checkpoint,
    error::StorageError,
    indexer::{BuiltIndexes, Indexer},
    producer_snapshot::{self, TEMPORARY},
    recovery::{replay, write_indexes},
    segment::{INDEX, LOG, Segment, SegmentPaths, TIME_INDEX, file_name},
};

/// Where the log is cut.
struct Cut {
    /// Segments that stay whole.
    whole: usize,
    /// The next one's bytes that stay.
    prefix_bytes: usize,
    log_end: Offset,
}

impl PartitionLog {
    /// Removes every batch that holds a record at or above `offset`, durably, and returns the new
    /// log end: `offset`, or less when it lies within a batch or in a gap. Above the log end nothing
    /// changes; at the log end, an epoch that begins there and has no record is forgotten.
    ///
    /// Readers keep what they hold: the segment that is cut is written anew, and the old file
    /// lives until they let go of it. Waits for a flush that is running.
    ///
    /// # Errors
    /// [`StorageError::Io`], also when there is no space for the part that stays, and
    /// [`StorageError::Damage`] when the stored bytes are not batches; then nothing has changed.
    /// [`StorageError::Flush`] when it failed halfway: only opening the log again tells where it ends.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, StorageError> {
        self.flush.check()?;
        if offset >= self.log_end {
            self.forget_epochs_at_the_end(offset)?;
            return Ok(self.log_end);
        }
        let segments: Vec<Arc<Segment>> = self.segments().cloned().collect();
        let cut = self.cut_at(&segments, offset)?;
        // What needs space is written first, while there is a way back.
        let temporary = temporary_paths(&self.dir, cut.log_end);
        let mut prefix = None;
        if cut.prefix_bytes > 0 {
            match self.write_prefix(&segments[cut.whole], cut.prefix_bytes, &temporary) {
                Ok(indexer) => prefix = Some(Prefix { temporary, indexer }),
                Err(error) => {
                    temporary.remove()?;
                    return Err(error);
                }
            }
        }

        let flush = Arc::clone(&self.flush);
        let paused = flush.pause();
        flush.next_generation();
        let (log_end, log_start) = (cut.log_end, self.log_start.min(cut.log_end));
        // First the log promises less; a crash from here on finds nothing missing.
        flush.update_synced(|checkpoint| {
            checkpoint.clean = None;
            checkpoint.log_start = log_start;
            checkpoint.recovery_point = checkpoint.recovery_point.min(log_end);
            checkpoint.gaps_end = checkpoint.gaps_end.min(log_end);
            checkpoint.cleaned_end = checkpoint.cleaned_end.min(log_end);
        })?;
        self.is_marked_open = true;
        (self.log_start, self.log_end, self.flushed) = (log_start, log_end, self.flushed.min(log_end));
        self.shared.set_log_end(log_end);
        self.shared.set_log_start(log_start);
        // From here on there is no way back: a log that is neither the old nor the new one must not
        // be appended to.
        self.finish_truncation(&segments, &cut, prefix).map_err(|error| flush.fail_with(error))?;
        drop(paused);
        Ok(log_end)
    }

    fn forget_epochs_at_the_end(&mut self, offset: Offset) -> Result<(), StorageError> {
        let mut epochs = self.epochs.clone();
        if epochs.truncate_to(offset) {
            epoch_checkpoint::store(&*self.disk, &self.dir, &epochs)?;
            self.epochs = epochs;
        }
        Ok(())
    }

    /// Brings files, epochs and producers to where the log ends now.
    fn finish_truncation(
        &mut self,
        segments: &[Arc<Segment>],
        cut: &Cut,
        prefix: Option<Prefix>,
    ) -> Result<(), StorageError> {
        self.remove_segments(segments, cut, prefix)?;
        self.publish_segments();
        self.epochs.truncate_to(self.log_end);
        epoch_checkpoint::store(&*self.disk, &self.dir, &self.epochs)?;
        producer_snapshot::remove_above(&self.dir, self.log_end)?;
        let segments: Vec<Arc<Segment>> = self.segments().cloned().collect();
        self.producers = replay(&self.dir, &segments, self.log_start, self.log_end)?;
        sync_dir(&*self.disk, &self.dir).map_err(StorageError::io("sync directory", &self.dir))
    }

    fn cut_at(&self, segments: &[Arc<Segment>], offset: Offset) -> Result<Cut, StorageError> {
        let after = segments.partition_point(|segment| segment.base < offset);
        if offset <= self.log_start || after == 0 {
            return Ok(Cut { whole: 0, prefix_bytes: 0, log_end: offset });
        }
        let segment = &segments[after - 1];
        // The log ends with the batch before: were it to end in a gap, nobody could tell later.
        let mut log_end = segment.base;
        for batch in segment.batches_near(Offset::new(offset.get() - 1)) {
            let batch = batch?;
            if batch.last_offset >= offset {
                return Ok(Cut { whole: after - 1, prefix_bytes: batch.position, log_end });
            }
            log_end = batch.last_offset.plus(1);
        }
        Ok(Cut { whole: after, prefix_bytes: 0, log_end })
    }

    /// Writes the part of a segment that stays, with its indexes, under temporary names.
    fn write_prefix(&self, segment: &Segment, bytes: usize, to: &SegmentPaths) -> Result<Indexer, StorageError> {
        to.remove()?;
        let mut file = self.disk.create(&to.log).map_err(StorageError::io("create", &to.log))?;
        file.write_all(&segment.log.bytes()[..bytes]).map_err(StorageError::io("write", &to.log))?;
        self.disk.sync(&to.log, &mut || file.sync_all()).map_err(StorageError::io("sync", &to.log))?;
        let mut built = BuiltIndexes::new(segment.base, self.config.index_interval_bytes);
        for batch in segment.batches(0) {
            let batch = batch?;
            if batch.end() > bytes {
                break;
            }
            built.push(&batch.header, batch.position as u64);
        }
        write_indexes(&*self.disk, to, &built)?;
        Ok(built.indexer)
    }

    /// Deletes what the cut removes, newest first, and puts the prefix in the place of its segment.
    fn remove_segments(
        &mut self,
        segments: &[Arc<Segment>],
        cut: &Cut,
        prefix: Option<Prefix>,
    ) -> Result<(), StorageError> {
        let first_append_ms = self.active.as_ref().map(ActiveSegment::first_append_ms);
        if cut.whole < segments.len() {
            self.active = None;
            self.active_flushed_bytes = 0;
        }
        self.sealed.truncate(cut.whole);
        let sealed = &self.sealed;
        self.rolled.retain(|rolled| sealed.iter().any(|segment| segment.base == rolled.segment.base));
        for segment in segments[cut.whole..].iter().skip(usize::from(prefix.is_some())).rev() {
            segment.paths.remove()?;
        }
        let Some(Prefix { temporary, indexer }) = prefix else { return Ok(()) };
        let segment = &segments[cut.whole];
        temporary.rename_to(&segment.paths)?;
        let last_append_ms = segment.last_append_ms();
        let times = [first_append_ms.unwrap_or(last_append_ms).min(last_append_ms), last_append_ms];
        let (base, bytes) = (segment.base, cut.prefix_bytes);
        let active = ActiveSegment::open(&self.disk, &self.dir, base, bytes, self.capacity(0), times)?;
        self.active = Some(active.with_indexer(indexer));
        self.active_flushed_bytes = cut.prefix_bytes;
        Ok(())
    }
}

/// What stays of a segment that is cut, written and synced.
struct Prefix {
    temporary: SegmentPaths,
    indexer: Indexer,
}

fn temporary_paths(dir: &Path, log_end: Offset) -> SegmentPaths {
    let path = |extension| dir.join(format!("{}.{TEMPORARY}", file_name(log_end, extension)));
    SegmentPaths { log: path(LOG), index: path(INDEX), time_index: path(TIME_INDEX) }
}
