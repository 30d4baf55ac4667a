//! `.index`: where batches lie, one entry for every few KiB of log.
//!
//! Kafka's format: entries of 8 big-endian bytes, the last offset of a batch relative to the
//! segment's base offset (i32) and the position where that batch begins (i32), both growing.
//! Everything here takes arbitrary bytes and never fails on them: what an index says is a hint
//! that its reader checks against the batch it points to.

/// Size of an entry.
pub(crate) const ENTRY_BYTES: usize = 8;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Last offset of the batch, relative to the segment's base offset.
    pub(crate) relative_offset: u32,
    /// Where the batch begins in the log.
    pub(crate) position: u32,
}

impl IndexEntry {
    pub(crate) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        out[..4].copy_from_slice(&self.relative_offset.to_be_bytes());
        out[4..].copy_from_slice(&self.position.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let [o0, o1, o2, o3, p0, p1, p2, p3] = *bytes;
        Self { relative_offset: u32::from_be_bytes([o0, o1, o2, o3]), position: u32::from_be_bytes([p0, p1, p2, p3]) }
    }
}

fn entries(index: &[u8]) -> &[[u8; ENTRY_BYTES]] {
    index.as_chunks().0
}

fn last_where(index: &[u8], holds: impl Fn(IndexEntry) -> bool) -> Option<IndexEntry> {
    let entries = entries(index);
    let after = entries.partition_point(|entry| holds(IndexEntry::decode(entry)));
    entries[..after].last().map(IndexEntry::decode)
}

/// The newest entry whose offset is not above `relative_offset`.
pub(crate) fn at_or_below_offset(index: &[u8], relative_offset: u64) -> Option<IndexEntry> {
    last_where(index, |entry| u64::from(entry.relative_offset) <= relative_offset)
}

/// The newest entry whose position is not above `position`.
pub(crate) fn at_or_below_position(index: &[u8], position: u64) -> Option<IndexEntry> {
    last_where(index, |entry| u64::from(entry.position) <= position)
}

/// The oldest entry whose position is not below `position`.
pub(crate) fn at_or_above_position(index: &[u8], position: u64) -> Option<IndexEntry> {
    let entries = entries(index);
    let before = entries.partition_point(|entry| u64::from(IndexEntry::decode(entry).position) < position);
    entries.get(before).map(IndexEntry::decode)
}

/// The newest entry.
pub(crate) fn last(index: &[u8]) -> Option<IndexEntry> {
    entries(index).last().map(IndexEntry::decode)
}

/// Whether the file holds whole entries and both columns grow.
pub(crate) fn is_sorted(index: &[u8]) -> bool {
    let (entries, rest) = index.as_chunks();
    rest.is_empty()
        && entries.is_sorted_by(|a, b| {
            let (a, b) = (IndexEntry::decode(a), IndexEntry::decode(b));
            a.relative_offset < b.relative_offset && a.position < b.position
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(entries: &[(u32, u32)]) -> Vec<u8> {
        entries
            .iter()
            .flat_map(|(relative_offset, position)| {
                IndexEntry { relative_offset: *relative_offset, position: *position }.encode()
            })
            .collect()
    }

    #[test]
    fn lookups_find_the_entry_before() {
        let index = encode(&[(9, 100), (19, 5000), (29, 9000)]);
        assert_eq!(at_or_below_offset(&index, 8), None);
        assert_eq!(at_or_below_offset(&index, 9).map(|entry| entry.position), Some(100));
        assert_eq!(at_or_below_offset(&index, 28).map(|entry| entry.position), Some(5000));
        assert_eq!(at_or_below_offset(&index, u64::MAX).map(|entry| entry.position), Some(9000));
        assert_eq!(at_or_below_position(&index, 8999).map(|entry| entry.relative_offset), Some(19));
        assert_eq!(at_or_below_position(&index, 99), None);
        assert_eq!(at_or_above_position(&index, 101).map(|entry| entry.relative_offset), Some(19));
        assert_eq!(at_or_above_position(&index, 9000).map(|entry| entry.relative_offset), Some(29));
        assert_eq!(at_or_above_position(&index, 9001), None);
        assert_eq!(last(&[]), None);
        assert!(is_sorted(&index) && is_sorted(&[]));
        assert!(!is_sorted(&index[..20]), "half an entry");
        assert!(!is_sorted(&encode(&[(9, 100), (9, 200)])), "offsets must grow");
        assert!(!is_sorted(&encode(&[(0, 0), (0, 0)])), "zeros that were never cut");
    }

    #[test]
    fn an_entry_is_two_big_endian_numbers() {
        assert_eq!(
            IndexEntry { relative_offset: 0x0102_0304, position: 0x0506_0708 }.encode(),
            [1, 2, 3, 4, 5, 6, 7, 8]
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_harmless(bytes: Vec<u8>, offset: u64) {
            at_or_below_offset(&bytes, offset);
            at_or_below_position(&bytes, offset);
            at_or_above_position(&bytes, offset);
            is_sorted(&bytes);
        }
    }
}
