//! Whether the indexes of a closed segment are its own.

use pubg1_model::Offset;

use super::Recovery;
use crate::{offset_index, segment::Segment, time_index};

impl Recovery<'_> {
    /// Whether a closed segment's indexes belong to its log, and the log ends where it should; its
    /// last leader epoch if so. Only the ends are compared with the log: entries in between are
    /// checked by whoever follows them.
    pub(super) fn check_indexes(&self, segment: &Segment, end: Offset, is_deep: bool) -> Option<i32> {
        let (index, time_index) = (segment.index.bytes(), segment.time_index.bytes());
        if index.len() % offset_index::ENTRY_BYTES != 0 || time_index.len() % time_index::ENTRY_BYTES != 0 {
            return None;
        }
        if is_deep && !(offset_index::is_sorted(index) && time_index::is_sorted(time_index)) {
            return None;
        }
        let from = match offset_index::last(index) {
            None => 0,
            Some(entry) => segment.verify(entry)?.position,
        };
        let indexed_timestamp_ms = match time_index::last(time_index) {
            None => -1,
            Some(entry) => {
                let offset = segment.base.plus(u64::from(entry.relative_offset));
                let batch = segment.locate(offset).ok()??;
                if batch.last_offset != offset || batch.header.max_timestamp != entry.timestamp_ms {
                    return None;
                }
                entry.timestamp_ms
            }
        };
        let (mut epoch, mut next_offset, mut position) = (-1, segment.base, from);
        for batch in segment.batches(from) {
            let batch = batch.ok()?;
            let since_entry = (batch.position - from) as u64;
            if batch.header.max_timestamp > indexed_timestamp_ms || since_entry > self.config.index_interval_bytes {
                return None;
            }
            (epoch, next_offset) = (batch.header.partition_leader_epoch, batch.last_offset.plus(1));
            position = batch.end();
        }
        (position as u64 == segment.bytes() && next_offset == end).then_some(epoch)
    }
}
