//! `roundrobin`: one partition after the other.

use super::{Plan, Subscribers, TopicPartitions, give};

/// All partitions of all topics in order, each to the next member that wants the topic.
pub(super) fn assign(subscribers: &Subscribers<'_>, topics: &TopicPartitions) -> Plan {
    let mut plan = subscribers.empty_plan();
    let mut turn = subscribers.members().iter().cycle();
    for (topic, partitions, _) in subscribers.by_topic(topics) {
        for partition in 0..partitions {
            // Somebody wants the topic, so that the search ends.
            if let Some(member) = turn.find(|member| member.topics.contains(topic)) {
                give(&mut plan, member, topic, partition);
            }
        }
    }
    plan
}
