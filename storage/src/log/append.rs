//! Appending, and closing a segment when it is full or old.

use std::sync::Arc;

use pubg1_model::{
    LeaderEpoch, Offset,
    producer_state::SequenceCheck,
    record_batch::{TimestampType, ValidBatch},
};

use super::PartitionLog;
use crate::{
    active_segment::ActiveSegment,
    error::{AppendError, StorageError},
    flush::Rolled,
    page_cache::Written,
    segment::SegmentPaths,
};

/// Where a batch is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// It was appended before, by an earlier attempt of its producer; nothing was written now.
    pub duplicate: bool,
}

impl PartitionLog {
    /// Appends a batch at the log end: sets its base offset and leader epoch and copies it, once,
    /// into the mapped segment. It is readable at once and durable after the next flush.
    ///
    /// A batch of an idempotent producer that is already in the log is answered with its offsets. Where the topic wants
    /// the time of the append, that is `now_ms`.
    /// The first append in a new epoch notes the epoch as [`PartitionLog::begin_epoch`] does.
    ///
    /// # Errors
    /// [`AppendError`]; the log is then as it was before.
    pub fn append(&mut self, batch: &ValidBatch, epoch: LeaderEpoch, now_ms: i64) -> Result<Appended, AppendError> {
        self.flush.check()?;
        let bytes = batch.bytes().len();
        if bytes as u64 > self.config.max_message_bytes {
            return Err(AppendError::TooLarge { bytes, bytes_max: self.config.max_message_bytes });
        }
        let current = self.epochs.latest();
        if let Some(current) = current.filter(|current| *current > epoch) {
            return Err(AppendError::StaleEpoch { current, received: epoch });
        }
        if let SequenceCheck::Duplicate { base_offset, last_offset } = self.producers.check(batch.header())? {
            return Ok(Appended { base_offset, last_offset, duplicate: true });
        }
        let base_offset = self.log_end;
        let log_end = base_offset.plus(batch.header().offsets_spanned());
        if log_end == Offset::MAX {
            return Err(AppendError::OffsetsExhausted);
        }
        let stamped;
        let batch = match self.config.timestamp_type {
            TimestampType::CreateTime => batch,
            TimestampType::LogAppendTime => {
                stamped = batch.appended_at(now_ms);
                &stamped
            }
        };
        let mut header = *batch.header();
        header.base_offset = base_offset.to_wire();
        header.partition_leader_epoch = epoch.to_wire();
        let last_offset = header.last_offset().ok_or(AppendError::OffsetsExhausted)?;

        self.mark_open()?;
        if current != Some(epoch) {
            self.begin_epoch(epoch)?;
        }
        let interval_bytes = self.config.index_interval_bytes;
        let active = self.active_for(bytes, base_offset, last_offset, now_ms)?;
        active.append(batch, &header, interval_bytes, now_ms)?;
        self.producers.record(&header);
        self.log_end = log_end;
        self.shared.set_log_end(log_end);
        Ok(Appended { base_offset, last_offset, duplicate: false })
    }

    /// The active segment, a new one, that begins at `begin`, if the batch does not fit or the old one is too old.
    pub(super) fn active_for(
        &mut self,
        bytes: usize,
        begin: Offset,
        last_offset: Offset,
        now_ms: i64,
    ) -> Result<&mut ActiveSegment, StorageError> {
        let is_usable = self.active.as_ref().is_some_and(|active| {
            active.has_room_for(bytes, last_offset, self.config.segment_bytes)
                && !(active.bytes() > 0 && is_older(active.first_append_ms(), self.config.segment_ms, now_ms))
        });
        if !is_usable {
            if self.active.as_ref().is_some_and(|active| active.bytes() == 0) {
                // It has the new one's name, and nothing in it.
                self.active = None;
            }
            let capacity = self.capacity(bytes);
            let new = ActiveSegment::create(&self.disk, &self.dir, begin, capacity, now_ms)?;
            if let Err(error) = self.seal_active() {
                SegmentPaths::new(&self.dir, begin).remove()?;
                return Err(error);
            }
            self.active = Some(new);
            self.active_flushed_bytes = 0;
            self.names_changed += 1;
            self.publish_segments();
        }
        self.active.as_mut().ok_or_else(|| {
            StorageError::io("find the active segment of", &self.dir)(std::io::ErrorKind::NotFound.into())
        })
    }

    /// What was appended since this was last asked, for [`PageCache`](crate::PageCache): whole pieces of the active
    /// segment, and of closed ones everything. Mostly nothing.
    pub fn take_written(&mut self) -> impl ExactSizeIterator<Item = Written> + use<> {
        self.written.extend(self.active.as_mut().and_then(|active| active.take_written(false)));
        std::mem::take(&mut self.written).into_iter()
    }

    /// Closes the active segment. Its syncing is left to the next flush.
    pub(super) fn seal_active(&mut self) -> Result<(), StorageError> {
        if let Some(active) = &mut self.active {
            active.finish()?;
        }
        let Some(mut active) = self.active.take() else { return Ok(()) };
        self.written.extend(active.take_written(true));
        let (segment, files) = active.into_sealed();
        let snapshot = (self.log_end, self.producers.encode());
        self.rolled.push(Arc::new(Rolled { segment: Arc::clone(&segment), files, snapshot }));
        self.sealed.push(segment);
        self.active_flushed_bytes = 0;
        Ok(())
    }
}

/// Whether `age_ms` have passed since `since_ms`.
pub(super) fn is_older(since_ms: i64, age_ms: u64, now_ms: i64) -> bool {
    u64::try_from(now_ms.saturating_sub(since_ms)).is_ok_and(|age| age >= age_ms)
}
