//! Which partition a key belongs to, exactly as Kafka's clients decide it, so that keys written by
//! any client of either system meet in the same partition.

use crate::{GroupId, PartitionId};

/// The partition of a record with this key among `partitions`: murmur2, made positive, modulo.
/// 0 partitions count as one.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> PartitionId {
    PartitionId((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

/// The partition of the offsets topic that a consumer group belongs to: Java's string hash, made
/// positive, modulo. 0 partitions count as one.
#[must_use]
pub fn partition_for_group(group: &GroupId, partitions: u32) -> PartitionId {
    // Java hashes UTF-16 units; group names are ASCII, where units and bytes are the same.
    let hash = group.as_str().bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    PartitionId((hash & 0x7fff_ffff) % partitions.max(1))
}

/// Austin Appleby's MurmurHash2, 32 bits, with the seed that Kafka uses.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut words = data.chunks_exact(4);
    // Java counts lengths in 32 bits; a key is far shorter than that.
    let mut hash = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u32::from(byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_kafkas_test_vectors() {
        for (key, expected) in [
            (b"21".as_slice(), -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key).cast_signed(), expected, "{key:?}");
        }
    }

    #[test]
    fn a_key_goes_where_kafka_sends_it() {
        // The hash without its sign bit, modulo.
        assert_eq!(partition_for_key(b"21", 1000), PartitionId(340));
        assert_eq!(partition_for_key(b"abc", 10), PartitionId(7));
        assert_eq!(partition_for_key(b"abc", 1), PartitionId(0));
        assert_eq!(partition_for_key(b"abc", 0), PartitionId(0));
    }

    #[test]
    fn a_group_goes_where_java_sends_it() {
        // "my-group".hashCode() == 1187207500 + … is computed here the long way, in 64 bits.
        let group: GroupId = "my-group".parse().unwrap();
        let hash = "my-group".bytes().fold(0_i64, |hash, byte| (hash * 31 + i64::from(byte)) & 0xffff_ffff);
        assert_eq!(i64::from(partition_for_group(&group, 50).0), (hash & 0x7fff_ffff) % 50);
        // "abc".hashCode() == 96354.
        assert_eq!(partition_for_group(&"abc".parse().unwrap(), 50), PartitionId(4));
    }
}
