//! The offsets that a group has committed, and when they are forgotten.

use std::collections::BTreeMap;

use super::ConsumerGroup;
use crate::{TopicPartition, offset_commit::OffsetCommitValue};

/// How long the offsets of a group without members are kept, as Kafka's `offsets.retention.minutes`.
pub const OFFSETS_RETENTION_MS_DEFAULT: u64 = 7 * 24 * 60 * 60 * 1000;

/// The committed offsets of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupOffsets {
    offsets: BTreeMap<TopicPartition, OffsetCommitValue>,
}

impl GroupOffsets {
    /// Keeps an offset, in place of an older one.
    pub fn commit(&mut self, partition: TopicPartition, value: OffsetCommitValue) {
        self.offsets.insert(partition, value);
    }

    /// Forgets an offset; whether there was one.
    pub fn remove(&mut self, partition: &TopicPartition) -> bool {
        self.offsets.remove(partition).is_some()
    }

    /// The offset of a partition.
    #[must_use]
    pub fn get(&self, partition: &TopicPartition) -> Option<&OffsetCommitValue> {
        self.offsets.get(partition)
    }

    /// All offsets, by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &OffsetCommitValue)> {
        self.offsets.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// What has to be forgotten now: tombstones for them are due. Nothing while the group has members, rebalances, or
    /// holds reserved ids. Time counts from when the group became Empty, or from the commit if that came later; in a
    /// group that never had members, from the commit.
    #[must_use]
    pub fn expired(&self, group: &ConsumerGroup, retention_ms: u64, wall_ms: i64) -> Vec<TopicPartition> {
        if !group.is_idle() {
            return Vec::new();
        }
        let empty_since_ms = group.empty_since_ms().unwrap_or(i64::MIN);
        let retention_ms = i64::try_from(retention_ms).unwrap_or(i64::MAX);
        let is_over = |value: &OffsetCommitValue| {
            value.commit_timestamp_ms.max(empty_since_ms).saturating_add(retention_ms) <= wall_ms
        };
        let old = self.offsets.iter().filter(|(_, value)| is_over(value));
        old.map(|(partition, _)| partition.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Offset, PartitionId,
        consumer_group::{GroupMetadataMember, GroupMetadataValue, GroupTimeouts, MemberId},
    };

    fn partition(number: u32) -> TopicPartition {
        TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(number) }
    }

    fn committed(times: &[i64]) -> GroupOffsets {
        let mut offsets = GroupOffsets::default();
        for (number, &commit_timestamp_ms) in (0..).zip(times) {
            let (offset, metadata) = (Offset::new(7), String::new());
            let value = OffsetCommitValue { offset, leader_epoch: None, metadata, commit_timestamp_ms };
            offsets.commit(partition(number), value);
        }
        offsets
    }

    /// A group whose state began at `since`.
    fn group(since: i64, members: Vec<GroupMetadataMember>) -> ConsumerGroup {
        let value = GroupMetadataValue {
            protocol_type: "consumer".to_owned(),
            generation: super::super::Generation::new(3),
            protocol: None,
            leader: None,
            current_state_timestamp_ms: Some(since),
            members,
        };
        ConsumerGroup::restore(GroupTimeouts::default(), &value, &|_| false, 0)
    }

    #[test]
    fn without_members_the_time_counts_from_each_commit() {
        let offsets = committed(&[10, 20]);
        let simple = ConsumerGroup::new(GroupTimeouts::default());
        assert_eq!(offsets.expired(&simple, 100, 109), []);
        assert_eq!(offsets.expired(&simple, 100, 110), [partition(0)]);
        assert_eq!(offsets.expired(&simple, 100, 120), [partition(0), partition(1)]);
        assert_eq!(offsets.expired(&simple, u64::MAX, i64::MAX - 1), []);
    }

    #[test]
    fn the_time_counts_from_when_the_group_became_empty() {
        let offsets = committed(&[10, 900]);
        let empty = group(500, Vec::new());
        assert_eq!(offsets.expired(&empty, 100, 599), []);
        assert_eq!(offsets.expired(&empty, 100, 600), [partition(0)], "1 was committed later, without a member");
        assert_eq!(offsets.expired(&empty, 100, 1000).len(), 2);
    }

    #[test]
    fn nothing_is_forgotten_while_the_group_is_alive_or_rebalances() {
        let member = |assignment: &[u8]| GroupMetadataMember {
            member_id: MemberId::from("m"),
            group_instance_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: 10_000,
            session_timeout_ms: 10_000,
            subscription: Vec::new(),
            assignment: assignment.to_vec(),
        };
        let offsets = committed(&[10]);
        for assignment in [b"a".as_slice(), b""] {
            assert_eq!(offsets.expired(&group(0, vec![member(assignment)]), 100, i64::MAX), []);
        }
    }
}
