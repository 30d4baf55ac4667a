//! The offsets of the groups in one partition of the offsets topic: built by replay, changed by commits,
//! both through [`GroupOffsets::apply`].

use std::collections::{BTreeMap, HashMap};

use pubg1_model::{
    GroupId, TopicName, TopicPartition,
    offset_commit::{OffsetCommitError, OffsetCommitKey, OffsetCommitValue},
    record_batch::{BatchError, BatchIter},
};

/// Decompressed bytes of one batch; commits are small and written uncompressed.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Committed offsets by group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GroupOffsets(HashMap<GroupId, BTreeMap<TopicPartition, OffsetCommitValue>>);

impl GroupOffsets {
    /// Takes one committed record over; without a value it removes the offset.
    pub(super) fn apply(&mut self, key: OffsetCommitKey, value: Option<OffsetCommitValue>) {
        let OffsetCommitKey { group, topic_partition } = key;
        match value {
            Some(value) => {
                self.0.entry(group).or_default().insert(topic_partition, value);
            }
            None => {
                if let Some(offsets) = self.0.get_mut(&group) {
                    offsets.remove(&topic_partition);
                    if offsets.is_empty() {
                        self.0.remove(&group);
                    }
                }
            }
        }
    }

    /// What a group has committed, in one partition or everywhere.
    pub(super) fn of_group(
        &self,
        group: &GroupId,
        only: Option<&TopicPartition>,
    ) -> BTreeMap<TopicPartition, OffsetCommitValue> {
        let Some(offsets) = self.0.get(group) else { return BTreeMap::new() };
        match only {
            None => offsets.clone(),
            Some(partition) => offsets
                .get_key_value(partition)
                .map(|(partition, value)| (partition.clone(), value.clone()))
                .into_iter()
                .collect(),
        }
    }

    /// Everything that was committed in the topics that are wanted.
    pub(super) fn keys_of_topics(&self, is_wanted: impl Fn(&TopicName) -> bool) -> Vec<OffsetCommitKey> {
        let of_group = |(group, offsets): (&GroupId, &BTreeMap<TopicPartition, OffsetCommitValue>)| {
            let keys = offsets.keys().filter(|partition| is_wanted(&partition.topic));
            keys.map(|partition| OffsetCommitKey { group: group.clone(), topic_partition: partition.clone() })
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_group).collect()
    }

    /// Replays batches. Records of other kinds are skipped: a later version may write them.
    pub(super) fn replay(&mut self, batches: &[u8]) -> Result<(), BatchError> {
        for batch in BatchIter::new(batches) {
            let decoded = batch?.decode(BATCH_BYTES_MAX)?;
            for record in decoded.records() {
                let record = record?;
                let decoded = decode(record.key, record.value);
                match decoded {
                    Ok((key, value)) => self.apply(key, value),
                    Err(error) => {
                        tracing::warn!(offset = %record.offset, %error, "a record of the offsets topic is skipped");
                    }
                }
            }
        }
        Ok(())
    }
}

fn decode(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<(OffsetCommitKey, Option<OffsetCommitValue>), OffsetCommitError> {
    let key = OffsetCommitKey::decode(key.unwrap_or_default())?;
    Ok((key, value.map(OffsetCommitValue::decode).transpose()?))
}

#[cfg(test)]
mod tests {
    use pubg1_model::{
        Offset, PartitionId,
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
    fn the_last_commit_counts_and_a_tombstone_removes() {
        let mut offsets = GroupOffsets::default();
        let commits = [
            ("g", 0, Some(5)),
            ("g", 0, Some(7)),
            ("g", 1, Some(1)),
            ("h", 0, Some(2)),
            ("g", 1, None),
            ("x", 9, None),
        ];
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(&NewRecord { key: Some(b"\0\x02\0\x01g"), value: Some(b"later"), ..NewRecord::default() }).unwrap();
        for (group, partition, committed) in commits {
            let key = key(group, "t", partition).encode().unwrap();
            let value = committed.map(|offset| value(offset).encode().unwrap());
            batch.push(&NewRecord { key: Some(&key), value: value.as_deref(), ..NewRecord::default() }).unwrap();
        }
        offsets.replay(batch.finish(None).unwrap().bytes()).unwrap();

        let mut expected = GroupOffsets::default();
        expected.apply(key("g", "t", 0), Some(value(7)));
        expected.apply(key("h", "t", 0), Some(value(2)));
        assert_eq!(offsets, expected);
        let partition = key("g", "t", 0).topic_partition;
        let group = "g".parse().unwrap();
        assert_eq!(offsets.of_group(&group, Some(&partition))[&partition], value(7));
        assert_eq!(offsets.of_group(&group, Some(&key("g", "t", 1).topic_partition)), BTreeMap::new());
    }

    #[test]
    fn a_topic_is_found_in_every_group() {
        let mut offsets = GroupOffsets::default();
        for (group, topic) in [("g", "a"), ("h", "a"), ("h", "b")] {
            offsets.apply(key(group, topic, 0), Some(value(1)));
        }
        let mut keys = offsets.keys_of_topics(|topic| topic.as_str() == "a");
        keys.sort();
        assert_eq!(keys, [key("g", "a", 0), key("h", "a", 0)]);
    }
}
