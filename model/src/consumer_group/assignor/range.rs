//! `range`: neighbouring partitions of each topic.

use super::{Plan, Subscribers, TopicPartitions, give};

/// Each topic by itself is cut into as many pieces as it has subscribers, the first ones larger by one if need be.
/// Members keep their order in every topic, so that equal partitions of equally large topics meet.
pub(super) fn assign(subscribers: &Subscribers<'_>, topics: &TopicPartitions) -> Plan {
    let mut plan = subscribers.empty_plan();
    for (topic, partitions, members) in subscribers.by_topic(topics) {
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let (each, larger) = (partitions / count, partitions % count);
        let mut next = 0;
        for (index, member) in (0..).zip(members) {
            let end = next + each + u32::from(index < larger);
            (next..end).for_each(|partition| give(&mut plan, member, topic, partition));
            next = end;
        }
    }
    plan
}
