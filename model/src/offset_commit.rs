//! The records of the offsets topic: which offset a group has reached in a partition.
//!
//! Key and value have the layout of Kafka's `__consumer_offsets`, so that its tools can read them:
//! key version 1 (group, topic, partition), value version 3 (offset, leader epoch, metadata, commit
//! timestamp). Big-endian; a text is an `i16` length and its bytes. A record without a value removes
//! the offset.

use crate::{GroupId, LeaderEpoch, Offset, PartitionId, TopicName, TopicPartition};

/// The longest metadata that may go with an offset, as in Kafka's `offset.metadata.max.bytes`.
pub const METADATA_BYTES_MAX: usize = 4096;
const KEY_VERSION: i16 = 1;
const VALUE_VERSION: i16 = 3;

/// What an offset is the offset of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetCommitKey {
    /// The consumer group.
    pub group: GroupId,
    /// The partition that it reads.
    pub topic_partition: TopicPartition,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitValue {
    /// The offset of the next record to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, when the client knows it (KIP-320).
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the client wants back with the offset; at most [`METADATA_BYTES_MAX`] bytes.
    pub metadata: String,
    /// When it was committed, in milliseconds since 1970.
    pub commit_timestamp_ms: i64,
}

/// Why a committed offset cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetCommitError {
    /// Larger than the format or the limit allows.
    #[error("{field} is too large: {value}, at most {max}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its size, or its value.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// Another kind of record, or another version of the program.
    #[error("version {version} of an offset commit's {part} is not supported")]
    Version {
        /// Key or value.
        part: &'static str,
        /// The version that the bytes state.
        version: i16,
    },
    /// The bytes are not what the version says.
    #[error("an offset commit's {field} is malformed or cut off")]
    Malformed {
        /// The field.
        field: &'static str,
    },
}

impl OffsetCommitKey {
    /// The record's key.
    ///
    /// # Errors
    /// [`OffsetCommitError::TooLarge`] for a partition number above 2³¹ − 1.
    pub fn encode(&self) -> Result<Vec<u8>, OffsetCommitError> {
        let TopicPartition { topic, partition } = &self.topic_partition;
        let number = i32::try_from(partition.0).map_err(|_| OffsetCommitError::TooLarge {
            field: "partition",
            value: u64::from(partition.0),
            max: i32::MAX as u64,
        })?;
        let mut out = Vec::with_capacity(10 + self.group.as_str().len() + topic.as_str().len());
        out.extend_from_slice(&KEY_VERSION.to_be_bytes());
        write_text(&mut out, "group", self.group.as_str())?;
        write_text(&mut out, "topic", topic.as_str())?;
        out.extend_from_slice(&number.to_be_bytes());
        Ok(out)
    }

    /// Reads a record's key.
    ///
    /// # Errors
    /// [`OffsetCommitError::Version`] for other records of the topic, else [`OffsetCommitError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OffsetCommitError> {
        let mut input = bytes;
        expect_version(&mut input, "key", KEY_VERSION)?;
        let malformed = |field| OffsetCommitError::Malformed { field };
        let group: GroupId = read_text(&mut input, "group")?.parse().map_err(|_| malformed("group"))?;
        let topic: TopicName = read_text(&mut input, "topic")?.parse().map_err(|_| malformed("topic"))?;
        let partition = i32::from_be_bytes(take(&mut input, "partition")?);
        let partition = PartitionId(u32::try_from(partition).map_err(|_| malformed("partition"))?);
        if !input.is_empty() {
            return Err(malformed("key"));
        }
        Ok(Self { group, topic_partition: TopicPartition { topic, partition } })
    }
}

impl OffsetCommitValue {
    /// The record's value.
    ///
    /// # Errors
    /// [`OffsetCommitError::TooLarge`] for metadata above the limit.
    pub fn encode(&self) -> Result<Vec<u8>, OffsetCommitError> {
        if self.metadata.len() > METADATA_BYTES_MAX {
            return Err(OffsetCommitError::TooLarge {
                field: "metadata",
                value: self.metadata.len() as u64,
                max: METADATA_BYTES_MAX as u64,
            });
        }
        let mut out = Vec::with_capacity(24 + self.metadata.len());
        out.extend_from_slice(&VALUE_VERSION.to_be_bytes());
        out.extend_from_slice(&self.offset.to_wire().to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.map_or(-1, LeaderEpoch::to_wire).to_be_bytes());
        write_text(&mut out, "metadata", &self.metadata)?;
        out.extend_from_slice(&self.commit_timestamp_ms.to_be_bytes());
        Ok(out)
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// [`OffsetCommitError::Version`] or [`OffsetCommitError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OffsetCommitError> {
        let mut input = bytes;
        expect_version(&mut input, "value", VALUE_VERSION)?;
        let malformed = |field| OffsetCommitError::Malformed { field };
        let offset = i64::from_be_bytes(take(&mut input, "offset")?);
        let offset = Offset::from_wire(offset).ok_or(malformed("offset"))?;
        let leader_epoch = LeaderEpoch::from_wire(i32::from_be_bytes(take(&mut input, "leader epoch")?));
        let metadata = read_text(&mut input, "metadata")?.to_owned();
        let commit_timestamp_ms = i64::from_be_bytes(take(&mut input, "commit timestamp")?);
        if !input.is_empty() {
            return Err(malformed("value"));
        }
        Ok(Self { offset, leader_epoch, metadata, commit_timestamp_ms })
    }
}

fn write_text(out: &mut Vec<u8>, field: &'static str, text: &str) -> Result<(), OffsetCommitError> {
    let length = i16::try_from(text.len()).map_err(|_| OffsetCommitError::TooLarge {
        field,
        value: text.len() as u64,
        max: i16::MAX as u64,
    })?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn read_text<'a>(input: &mut &'a [u8], field: &'static str) -> Result<&'a str, OffsetCommitError> {
    let malformed = OffsetCommitError::Malformed { field };
    let Ok(length) = usize::try_from(i16::from_be_bytes(take(input, field)?)) else { return Err(malformed) };
    let Some((text, rest)) = input.split_at_checked(length) else { return Err(malformed) };
    *input = rest;
    str::from_utf8(text).map_err(|_| malformed)
}

fn take<const N: usize>(input: &mut &[u8], field: &'static str) -> Result<[u8; N], OffsetCommitError> {
    let (taken, rest) = input.split_first_chunk::<N>().ok_or(OffsetCommitError::Malformed { field })?;
    *input = rest;
    Ok(*taken)
}

fn expect_version(input: &mut &[u8], part: &'static str, expected: i16) -> Result<(), OffsetCommitError> {
    let version = i16::from_be_bytes(take(input, part)?);
    if version == expected { Ok(()) } else { Err(OffsetCommitError::Version { part, version }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> OffsetCommitKey {
        let topic_partition = TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(258) };
        OffsetCommitKey { group: "g1".parse().unwrap(), topic_partition }
    }

    #[test]
    fn the_bytes_are_kafkas() {
        assert_eq!(key().encode().unwrap(), b"\0\x01\0\x02g1\0\x01t\0\0\x01\x02");
        let value = OffsetCommitValue {
            offset: Offset::new(5),
            leader_epoch: None,
            metadata: "m".to_owned(),
            commit_timestamp_ms: 7,
        };
        let bytes = b"\0\x03\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\0\x01m\0\0\0\0\0\0\0\x07";
        assert_eq!(value.encode().unwrap(), bytes);
        assert_eq!(OffsetCommitValue::decode(bytes), Ok(value));
    }

    #[test]
    fn other_records_and_damaged_ones_are_told_apart() {
        // Version 2 of the key is the group's own metadata.
        assert_eq!(
            OffsetCommitKey::decode(b"\0\x02\0\x02g1"),
            Err(OffsetCommitError::Version { part: "key", version: 2 })
        );
        let bytes = key().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(
                matches!(OffsetCommitKey::decode(&bytes[..end]), Err(OffsetCommitError::Malformed { .. })),
                "{end}"
            );
        }
        let long = [bytes.as_slice(), b"x"].concat();
        assert_eq!(OffsetCommitKey::decode(&long), Err(OffsetCommitError::Malformed { field: "key" }));
    }

    #[test]
    fn metadata_above_the_limit_is_refused() {
        let value = |length| OffsetCommitValue {
            offset: Offset::ZERO,
            leader_epoch: Some(LeaderEpoch::new(3)),
            metadata: "m".repeat(length),
            commit_timestamp_ms: 0,
        };
        assert!(value(METADATA_BYTES_MAX).encode().is_ok());
        assert!(matches!(value(METADATA_BYTES_MAX + 1).encode(), Err(OffsetCommitError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn keys_and_values_come_back(
            group in "[a-zA-Z0-9_-]{1,200}",
            topic in "[a-zA-Z0-9_-]{1,200}",
            partition in 0..=i32::MAX as u32,
            offset in 0..=i64::MAX as u64,
            epoch in proptest::option::of(0..=i32::MAX as u32),
            metadata in "\\PC{0,200}",
            commit_timestamp_ms: i64,
        ) {
            let topic_partition = TopicPartition { topic: topic.parse().unwrap(), partition: PartitionId(partition) };
            let key = OffsetCommitKey { group: group.parse().unwrap(), topic_partition };
            prop_assert_eq!(OffsetCommitKey::decode(&key.encode().unwrap()), Ok(key));
            let leader_epoch = epoch.map(LeaderEpoch::new);
            let value = OffsetCommitValue { offset: Offset::new(offset), leader_epoch, metadata, commit_timestamp_ms };
            prop_assert_eq!(OffsetCommitValue::decode(&value.encode().unwrap()), Ok(value));
        }

        #[test]
        fn arbitrary_bytes_are_no_reason_to_panic(mut bytes: Vec<u8>, version in 0_u8..4) {
            drop((OffsetCommitKey::decode(&bytes), OffsetCommitValue::decode(&bytes)));
            bytes.splice(0..0, [0, version]);
            drop((OffsetCommitKey::decode(&bytes), OffsetCommitValue::decode(&bytes)));
        }
    }
}
