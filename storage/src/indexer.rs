//! When an index gets an entry: the same rule for appending, recovery and compaction.

use pubg1_model::{Offset, record_batch::BatchHeader};

use crate::{
    offset_index::{self, IndexEntry},
    time_index::{self, TimeEntry},
};

/// Timestamps at or below this one are "none" (Kafka writes -1) and are not indexed.
const NO_TIMESTAMP: i64 = -1;

/// Follows the batches of one segment and says which entries its indexes get. `Copy`, so that an
/// append can look ahead and commit only when everything is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indexer {
    base: Offset,
    /// Bytes of log since the last entry, the entry's own batch included.
    bytes_since_entry: u64,
    /// Timestamp of the last time entry.
    indexed_timestamp_ms: i64,
    /// The largest timestamp so far, and the last offset of its batch, relative to the base.
    largest: TimeEntry,
}

impl Indexer {
    pub(crate) const fn new(base: Offset) -> Self {
        Self {
            base,
            bytes_since_entry: 0,
            indexed_timestamp_ms: NO_TIMESTAMP,
            largest: TimeEntry { timestamp_ms: NO_TIMESTAMP, relative_offset: 0 },
        }
    }

    /// Goes on with a segment whose indexes are complete.
    pub(crate) fn resume(base: Offset, log_bytes: u64, index: &[u8], time_index: &[u8]) -> Self {
        let mut indexer = Self::new(base);
        let position = offset_index::last(index).map_or(0, |entry| u64::from(entry.position));
        indexer.bytes_since_entry = log_bytes.saturating_sub(position);
        if let Some(entry) = time_index::last(time_index) {
            indexer.indexed_timestamp_ms = entry.timestamp_ms;
            indexer.largest = entry;
        }
        indexer
    }

    /// Takes the batch at `position` in, and returns the entries to be written for it. `None` for
    /// the whole when the batch cannot be addressed in this segment.
    pub(crate) fn push(
        &mut self,
        header: &BatchHeader,
        position: u64,
        interval_bytes: u64,
    ) -> Option<(Option<IndexEntry>, Option<TimeEntry>)> {
        let relative_offset = relative(self.base, header.last_offset()?)?;
        let position = u32::try_from(position).ok().filter(|position| i32::try_from(*position).is_ok())?;
        if header.max_timestamp > self.largest.timestamp_ms {
            self.largest = TimeEntry { timestamp_ms: header.max_timestamp, relative_offset };
        }
        let mut entries = (None, None);
        if self.bytes_since_entry > interval_bytes {
            entries = (Some(IndexEntry { relative_offset, position }), self.finish());
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.total_bytes() as u64;
        Some(entries)
    }

    /// The time entry that is due when the segment is closed, if it says anything new.
    pub(crate) fn finish(&mut self) -> Option<TimeEntry> {
        (self.largest.timestamp_ms > self.indexed_timestamp_ms).then(|| {
            self.indexed_timestamp_ms = self.largest.timestamp_ms;
            self.largest
        })
    }

    /// The largest timestamp so far; -1 when there is none.
    pub(crate) const fn largest_timestamp_ms(&self) -> i64 {
        self.largest.timestamp_ms
    }
}

/// `offset` relative to `base`, if an index can express it.
pub(crate) fn relative(base: Offset, offset: Offset) -> Option<u32> {
    let relative = offset.get().checked_sub(base.get())?;
    i32::try_from(relative).ok().and_then(|relative| u32::try_from(relative).ok())
}

/// Both indexes of a segment, built in memory.
#[derive(Clone, Debug)]
pub(crate) struct BuiltIndexes {
    pub(crate) indexer: Indexer,
    pub(crate) index: Vec<u8>,
    pub(crate) time_index: Vec<u8>,
    interval_bytes: u64,
}

impl BuiltIndexes {
    pub(crate) const fn new(base: Offset, interval_bytes: u64) -> Self {
        Self { indexer: Indexer::new(base), index: Vec::new(), time_index: Vec::new(), interval_bytes }
    }

    /// Takes a batch in; `false` when it cannot be addressed.
    pub(crate) fn push(&mut self, header: &BatchHeader, position: u64) -> bool {
        let Some((index, time)) = self.indexer.push(header, position, self.interval_bytes) else { return false };
        self.index.extend(index.iter().flat_map(|entry| entry.encode()));
        self.time_index.extend(time.iter().flat_map(|entry| entry.encode()));
        true
    }

    /// Writes the last time entry of a closed segment.
    pub(crate) fn finish(&mut self) {
        self.time_index.extend(self.indexer.finish().iter().flat_map(|entry| entry.encode()));
    }
}
