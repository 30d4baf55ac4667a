//! The groups of a partition of the offsets topic, built from its records.

use std::collections::HashMap;

use pubg1_model::{
    GroupId,
    consumer_group::{GroupMetadataKey, GroupMetadataValue, WireError},
    consumer_instance::{
        InstanceKey, InstanceRecordError, StoredInstance, StoredPosition,
        records::{DEFINITION_KEY_VERSION, POSITION_KEY_VERSION},
    },
    offset_commit::{OffsetCommitError, OffsetCommitKey, OffsetCommitValue},
    record_batch::{BatchError, BatchIter},
};

use super::{group::StoredGroup, outbox::BARRIER_KEY_VERSION};

/// Decompressed bytes of one batch; these are small and written uncompressed.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The versions of keys that Kafka uses for committed offsets and for groups.
const OFFSET_KEY_VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;
const GROUP_KEY_VERSION: i16 = 2;

/// What the records say, by group.
#[derive(Debug, Default)]
pub(super) struct Replayed(pub(super) HashMap<GroupId, StoredGroup>);

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Offset(#[from] OffsetCommitError),
    #[error(transparent)]
    Group(#[from] WireError),
    #[error(transparent)]
    Instance(#[from] InstanceRecordError),
    #[error("a key of version {0} is not known")]
    Version(i16),
}

impl Replayed {
    /// Replays batches. Records of other kinds are skipped: a later version may write them.
    pub(super) fn replay(&mut self, batches: &[u8]) -> Result<(), BatchError> {
        for batch in BatchIter::new(batches) {
            let decoded = batch?.decode(BATCH_BYTES_MAX)?;
            for record in decoded.records() {
                let record = record?;
                if let Err(error) = self.apply(record.key.unwrap_or_default(), record.value) {
                    tracing::warn!(offset = %record.offset, %error, "a record of the offsets topic is skipped");
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Unusable> {
        let version = key.first_chunk().map_or(-1, |version| i16::from_be_bytes(*version));
        match version {
            version if OFFSET_KEY_VERSIONS.contains(&version) => {
                let OffsetCommitKey { group, topic_partition } = OffsetCommitKey::decode(key)?;
                let value = value.map(OffsetCommitValue::decode).transpose()?;
                let offsets = &mut self.0.entry(group).or_default().offsets;
                match value {
                    Some(value) => offsets.commit(topic_partition, value),
                    None => {
                        offsets.remove(&topic_partition);
                    }
                }
            }
            GROUP_KEY_VERSION => {
                let GroupMetadataKey { group } = GroupMetadataKey::decode(key)?;
                let value = value.map(GroupMetadataValue::decode).transpose()?;
                self.0.entry(group).or_default().group = value;
            }
            DEFINITION_KEY_VERSION | POSITION_KEY_VERSION => self.apply_instance(InstanceKey::decode(key)?, value)?,
            BARRIER_KEY_VERSION => {}
            version => return Err(Unusable::Version(version)),
        }
        Ok(())
    }

    fn apply_instance(&mut self, key: InstanceKey, value: Option<&[u8]>) -> Result<(), Unusable> {
        let InstanceKey { group, instance, partition } = key;
        let group = self.0.entry(group).or_default();
        match (partition, value) {
            (None, Some(value)) => {
                group.instances.insert(instance, StoredInstance::decode(value)?);
            }
            (None, None) => {
                group.instances.remove(&instance);
            }
            (Some(partition), Some(value)) => {
                let value = StoredPosition::decode(value)?;
                group.positions.entry(instance).or_default().insert(partition, value);
            }
            (Some(partition), None) => {
                if let Some(positions) = group.positions.get_mut(&instance) {
                    positions.remove(&partition);
                    if positions.is_empty() {
                        group.positions.remove(&instance);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pubg1_model::{
        Offset, PartitionId, TopicPartition,
        compression::Compression,
        record_batch::{BatchBuilder, NewRecord},
    };

    use super::*;

    fn key(group: &str, topic: &str, partition: u32) -> OffsetCommitKey {
        let topic_partition = TopicPartition { topic: topic.parse().unwrap(), partition: PartitionId(partition) };
        OffsetCommitKey { group: group.parse().unwrap(), topic_partition }
    }

    fn value(offset: u64) -> OffsetCommitValue {
        let offset = Offset::new(offset);
        OffsetCommitValue { offset, leader_epoch: None, metadata: String::new(), commit_timestamp_ms: 0 }
    }

    #[test]
    fn the_last_record_counts_and_a_tombstone_removes() {
        let commits = [
            ("g", 0, Some(5)),
            ("g", 0, Some(7)),
            ("g", 1, Some(1)),
            ("h", 0, Some(2)),
            ("g", 1, None),
            ("x", 9, None),
        ];
        let mut batch = BatchBuilder::new(Compression::None);
        for strange in [&b"\0\x63\0\x01g"[..], b"", b"\0\x02\0\x05g", &BARRIER_KEY_VERSION.to_be_bytes()] {
            batch.push(&NewRecord { key: Some(strange), value: Some(b"later"), ..NewRecord::default() }).unwrap();
        }
        for (group, partition, committed) in commits {
            let key = key(group, "t", partition).encode().unwrap();
            let value = committed.map(|offset| value(offset).encode().unwrap());
            batch.push(&NewRecord { key: Some(&key), value: value.as_deref(), ..NewRecord::default() }).unwrap();
        }
        let mut replayed = Replayed::default();
        replayed.replay(batch.finish(None).unwrap().bytes()).unwrap();
        let offsets = |group: &str| {
            let group = &replayed.0[&group.parse::<GroupId>().unwrap()];
            group.offsets.iter().map(|(partition, value)| (partition.to_string(), value.clone())).collect::<Vec<_>>()
        };
        assert_eq!(offsets("g"), [("t-0".to_owned(), value(7))]);
        assert_eq!(offsets("h"), [("t-0".to_owned(), value(2))]);
        assert_eq!(offsets("x"), []);
    }
}
