//! Looks at a group all the time, from any broker.

use std::{collections::HashMap, time::Duration};

use pubg1_model::{GroupId, TopicName};

use super::Sharing;
use crate::{
    client::group_reply::GroupReply,
    verify::{
        brokers::Dice,
        history::{
            Entry,
            groups::{Look, Membership},
        },
    },
};

const PAUSE_MS: u64 = 60;

/// Looks until it is stopped.
pub(super) async fn run(sharing: Sharing, (number, name): (u32, GroupId), partitions: usize, mut dice: Dice) {
    let partitions = u32::try_from(partitions).unwrap_or(0);
    let mut members: HashMap<String, u32> = HashMap::new();
    loop {
        tokio::time::sleep(Duration::from_millis(PAUSE_MS / 2 + dice.below(PAUSE_MS))).await;
        let broker = sharing.brokers.any(&mut dice);
        let start_us = sharing.recorder.now_us();
        let asked = sharing.brokers.client(broker).group(&name);
        let Ok(Ok(described)) = tokio::time::timeout(sharing.attempt_timeout, asked).await else { continue };
        sharing.recorder.record(Entry::Look(Look {
            group: number,
            broker,
            start_us,
            end_us: sharing.recorder.now_us(),
            membership: membership(&described, &sharing.topic, &mut members),
            committed: committed(&described, &sharing.topic, partitions),
        }));
    }
}

/// What the answer says is committed in each partition.
pub(super) fn committed(described: &GroupReply, topic: &TopicName, partitions: u32) -> Vec<(u32, Option<u64>)> {
    let known: HashMap<u32, u64> = described
        .partitions
        .iter()
        .filter(|partition| partition.topic == *topic)
        .filter_map(|partition| Some((partition.partition.0, partition.committed?)))
        .collect();
    (0..partitions).map(|partition| (partition, known.get(&partition).copied())).collect()
}

fn membership(described: &GroupReply, topic: &TopicName, known: &mut HashMap<String, u32>) -> Option<Membership> {
    let generation = described.generation.and_then(|generation| u32::try_from(generation).ok())?;
    let mut owners = Vec::new();
    for member in &described.members {
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        let number = *known.entry(member.member_id.clone()).or_insert(next);
        let own = member.assignment.iter().filter(|place| place.topic == *topic);
        owners.extend(own.map(|place| (place.partition.0, number)));
    }
    let members = u32::try_from(described.members.len()).unwrap_or(u32::MAX);
    Some(Membership { generation, stable: described.state == "Stable", members, owners })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_get_numbers_that_stay_theirs() {
        let topic: TopicName = "t".parse().unwrap();
        let describe = |members: &[&str]| -> GroupReply {
            let member = |(index, id): (usize, &&str)| json!({ "member_id": id, "assignment": [{ "topic": "t", "partition": index }] });
            let members: Vec<_> = members.iter().enumerate().map(member).collect();
            serde_json::from_value(json!({ "state": "Stable", "generation": 3, "members": members, "partitions": [
                { "topic": "t", "partition": 1, "committed": 7 }, { "topic": "u", "partition": 0, "committed": 9 },
            ] }))
            .unwrap()
        };
        let mut known = HashMap::new();
        let first = membership(&describe(&["b", "a"]), &topic, &mut known).unwrap();
        assert_eq!((first.owners, first.members, first.stable), (vec![(0, 0), (1, 1)], 2, true));
        let second = membership(&describe(&["a"]), &topic, &mut known).unwrap();
        assert_eq!(second.owners, [(0, 1)]);
        assert_eq!(committed(&describe(&[]), &topic, 2), [(0, None), (1, Some(7))]);
    }
}
