//! `.timeindex`: how far timestamps have come, beside each entry of the offset index.
//!
//! Kafka's format: entries of 12 big-endian bytes, the largest timestamp of the segment so far
//! (i64, milliseconds) and the last offset of the batch that holds it, relative to the segment's
//! base offset (i32). Timestamps grow strictly. One more entry is written when a segment is
//! closed, so the last entry holds the largest timestamp of the whole segment.

/// Size of an entry.
pub(crate) const ENTRY_BYTES: usize = 12;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// The largest timestamp in the segment so far.
    pub(crate) timestamp_ms: i64,
    /// Last offset of the batch that holds it, relative to the segment's base offset.
    pub(crate) relative_offset: u32,
}

impl TimeEntry {
    pub(crate) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        out[..8].copy_from_slice(&self.timestamp_ms.to_be_bytes());
        out[8..].copy_from_slice(&self.relative_offset.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let [t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3] = *bytes;
        Self {
            timestamp_ms: i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            relative_offset: u32::from_be_bytes([o0, o1, o2, o3]),
        }
    }
}

/// The newest entry below `timestamp_ms`: nothing before the batch it names is as late.
pub(crate) fn below(index: &[u8], timestamp_ms: i64) -> Option<TimeEntry> {
    let entries = index.as_chunks().0;
    let after = entries.partition_point(|entry| TimeEntry::decode(entry).timestamp_ms < timestamp_ms);
    entries[..after].last().map(TimeEntry::decode)
}

/// The newest entry.
pub(crate) fn last(index: &[u8]) -> Option<TimeEntry> {
    index.as_chunks().0.last().map(TimeEntry::decode)
}

/// Whether the file holds whole entries, timestamps grow and offsets do not go back.
pub(crate) fn is_sorted(index: &[u8]) -> bool {
    let (entries, rest) = index.as_chunks();
    rest.is_empty()
        && entries.is_sorted_by(|a, b| {
            let (a, b) = (TimeEntry::decode(a), TimeEntry::decode(b));
            a.timestamp_ms < b.timestamp_ms && a.relative_offset <= b.relative_offset
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_entry_below_a_time_is_found() {
        let index: Vec<u8> = [(10, 1), (20, 5), (30, 6)]
            .into_iter()
            .flat_map(|(timestamp_ms, relative_offset)| TimeEntry { timestamp_ms, relative_offset }.encode())
            .collect();
        assert_eq!(below(&index, 10), None);
        assert_eq!(below(&index, 20).map(|entry| entry.relative_offset), Some(1));
        assert_eq!(below(&index, i64::MAX).map(|entry| entry.relative_offset), Some(6));
        assert_eq!(last(&index).map(|entry| entry.timestamp_ms), Some(30));
        assert!(is_sorted(&index));
        assert!(!is_sorted(&index[1..]));
    }

    #[test]
    fn an_entry_is_a_long_and_an_int() {
        let entry = TimeEntry { timestamp_ms: 0x0102_0304_0506_0708, relative_offset: 0x090a_0b0c };
        assert_eq!(entry.encode(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(TimeEntry::decode(&entry.encode()), entry);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_harmless(bytes: Vec<u8>, timestamp_ms: i64) {
            below(&bytes, timestamp_ms);
            is_sorted(&bytes);
        }
    }
}
