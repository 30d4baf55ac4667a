//! What holds of every placement and of every plan.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    PartitionId, TopicId,
    cluster::{Incarnation, MetadataCommand},
    replication::StorageId,
    topic::TopicConfig,
};

mod rebalance;

fn everybody(_: BrokerId) -> bool {
    true
}

/// Brokers in these racks.
fn cluster(racks: &[Option<String>]) -> ClusterImage {
    let mut image = ClusterImage::default();
    image.apply(&MetadataCommand::FormatCluster { cluster_id: "c".to_owned() }).unwrap();
    for (broker, rack) in (0..).zip(racks) {
        add_broker(&mut image, broker, rack.clone());
    }
    image
}

fn rackless(brokers: usize) -> ClusterImage {
    cluster(&vec![None; brokers])
}

fn add_broker(image: &mut ClusterImage, broker: u32, rack: Option<String>) {
    let register = MetadataCommand::RegisterBroker {
        broker: BrokerId(broker),
        http_url: "http://127.0.0.1:8000".to_owned(),
        rpc_address: String::new(),
        incarnation: Incarnation::from_bytes([1; 16]),
        storage: StorageId::from_bytes([2; 16]),
        rack,
        replaces: None,
    };
    image.apply(&register).unwrap();
}

fn drain(image: &mut ClusterImage, broker: u32) {
    let incarnation = Incarnation::from_bytes([1; 16]);
    image.apply(&MetadataCommand::SetDraining { broker: BrokerId(broker), incarnation, draining: true }).unwrap();
}

fn add_topic(image: &mut ClusterImage, partitions: Vec<Vec<BrokerId>>) -> TopicId {
    let number = image.topics.len();
    let id = TopicId::from_bytes((number as u128).to_be_bytes());
    let name = format!("topic-{number}").parse().unwrap();
    let config = TopicConfig::default();
    image.apply(&MetadataCommand::CreateTopic { id, name, config, partitions, created_ms: 0 }).unwrap();
    id
}

/// How often each broker occurs.
fn tally<'a>(image: &ClusterImage, brokers: impl Iterator<Item = &'a BrokerId>) -> Vec<usize> {
    let mut tally = vec![0; image.brokers.len()];
    for broker in brokers {
        tally[usize::try_from(broker.0).unwrap()] += 1;
    }
    tally
}

fn spread(tally: &[usize]) -> usize {
    tally.iter().max().unwrap() - tally.iter().min().unwrap()
}

fn racks_of(image: &ClusterImage, replicas: &[BrokerId]) -> usize {
    let rack = |broker: &BrokerId| image.brokers[broker].rack.clone().ok_or(*broker);
    replicas.iter().map(rack).collect::<BTreeSet<_>>().len()
}

/// Topics with any replicas, all equally many.
fn any_topics(brokers: usize, replicas: usize) -> impl Strategy<Value = Vec<Vec<Vec<BrokerId>>>> {
    let all: Vec<_> = (0..u32::try_from(brokers).unwrap()).map(BrokerId).collect();
    let set = proptest::sample::subsequence(all, replicas).prop_shuffle();
    proptest::collection::vec(proptest::collection::vec(set, 1..20), 0..5)
}

/// Brokers, replicas, partitions, and the topics that are there already.
fn any_rackless() -> impl Strategy<Value = (usize, usize, usize, Vec<Vec<Vec<BrokerId>>>)> {
    let sizes = (1_usize..8).prop_flat_map(|brokers| (Just(brokers), 1..=brokers));
    sizes.prop_flat_map(|(brokers, replicas)| {
        (Just(brokers), Just(replicas), 1_usize..60, any_topics(brokers, replicas))
    })
}

proptest! {
    #[test]
    fn a_new_topic_is_spread_evenly((brokers, replicas, partitions, topics) in any_rackless()) {
        let mut image = rackless(brokers);
        for topic in topics {
            add_topic(&mut image, topic);
        }
        let placed = place(&image, everybody, partitions, replicas).unwrap();
        prop_assert_eq!(placed.len(), partitions);
        prop_assert!(spread(&tally(&image, placed.iter().flatten())) <= 1);
        prop_assert!(spread(&tally(&image, placed.iter().map(|set| &set[0]))) <= 1);
        // Which is checked there: as many different brokers as were asked for.
        add_topic(&mut image, placed.clone());
        prop_assert_eq!(placed[0].len(), replicas);
    }

    #[test]
    fn racks_of_equal_size_cost_no_evenness(
        (racks, size) in (1_usize..5, 1_usize..4),
        (replicas, partitions) in (1_usize..5, 1_usize..60),
    ) {
        let image = cluster(&(0..racks * size).map(|broker| Some((broker % racks).to_string())).collect::<Vec<_>>());
        prop_assume!(replicas <= racks * size);
        let placed = place(&image, everybody, partitions, replicas).unwrap();
        for set in &placed {
            prop_assert_eq!(racks_of(&image, set), replicas.min(racks));
        }
        prop_assert!(spread(&tally(&image, placed.iter().flatten())) <= 1);
        prop_assert!(spread(&tally(&image, placed.iter().map(|set| &set[0]))) <= 1);
    }

    #[test]
    fn replicas_stand_in_as_many_racks_as_there_are(
        racks in proptest::collection::vec(proptest::option::of(0_u32..3), 1..8),
        (replicas, partitions) in (1_usize..5, 1_usize..40),
    ) {
        let image = cluster(&racks.iter().map(|rack| rack.map(|rack| rack.to_string())).collect::<Vec<_>>());
        let all: Vec<_> = image.brokers.keys().copied().collect();
        prop_assume!(replicas <= all.len());
        for set in place(&image, everybody, partitions, replicas).unwrap() {
            prop_assert_eq!(racks_of(&image, &set), replicas.min(racks_of(&image, &all)));
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), replicas);
        }
    }

    #[test]
    fn small_topics_are_even_together(brokers in 1_usize..8, replicas in 1_usize..4, topics in 1_usize..30) {
        let mut image = rackless(brokers);
        let replicas = replicas.min(brokers);
        for _ in 0..topics {
            let placed = place(&image, everybody, 1, replicas).unwrap();
            add_topic(&mut image, placed);
        }
        let sets: Vec<_> = image.topics.values().map(|topic| &topic.partitions[0].replicas).collect();
        prop_assert!(spread(&tally(&image, sets.iter().copied().flatten())) <= 1);
        prop_assert!(spread(&tally(&image, sets.iter().map(|set| &set[0]))) <= 2);
    }

    #[test]
    fn whoever_is_not_in_service_gets_only_what_nobody_else_can_take(
        (draining, dead) in (0_u32..5, 0_u32..5),
        (replicas, partitions) in (1_usize..=5, 1_usize..20),
    ) {
        let mut image = rackless(5);
        drain(&mut image, draining);
        let (draining, dead) = (BrokerId(draining), BrokerId(dead));
        let placed = place(&image, |broker| broker != dead, partitions, replicas).unwrap();
        let out: BTreeSet<_> = [draining, dead].into();
        let in_service = 5 - out.len();
        for set in placed {
            let taken = set.iter().filter(|broker| out.contains(broker)).count();
            prop_assert_eq!(taken, replicas.saturating_sub(in_service));
            prop_assert!(!out.contains(&set[0]));
            prop_assert!(set[0] != dead && (set.last() == Some(&dead) || !set.contains(&dead)));
        }
    }
}

#[test]
fn there_must_be_brokers_for_a_quorum() {
    let image = rackless(3);
    let alive = |broker: BrokerId| broker == BrokerId(1);
    let place = |replicas| place(&image, alive, 1, replicas);
    assert_eq!(place(4), Err(PlacementError::TooFewBrokers { replicas: 4, brokers: 3 }));
    assert_eq!(place(3), Err(PlacementError::NoQuorum { replicas: 3, alive: 1 }));
    assert_eq!(place(3).unwrap_err().to_string(), "3 replicas need 2 brokers that are alive, but there are 1");
    assert_eq!(place(1), Ok(vec![vec![BrokerId(1)]]));
}

#[test]
fn topics_begin_at_different_brokers() {
    let mut image = rackless(4);
    let mut first = BTreeSet::new();
    for _ in 0..4 {
        first.insert(place(&image, everybody, 1, 3).unwrap()[0][0]);
        image.apply(&MetadataCommand::ReserveProducerIds { count: 1 }).unwrap();
    }
    assert_eq!(first.len(), 4);
}

#[test]
fn what_a_leader_leaves_behind_is_shared_by_the_others() {
    for (brokers, replicas) in [(4, 3), (5, 3), (3, 3), (6, 2), (4, 2), (7, 3), (8, 3)] {
        let image = rackless(brokers);
        let placed = place(&image, everybody, 120, replicas).unwrap();
        for leader in image.brokers.keys() {
            let seconds = placed.iter().filter(|set| set[0] == *leader).map(|set| &set[1]);
            let mut tally = tally(&image, seconds);
            tally.remove(usize::try_from(leader.0).unwrap());
            let share = tally.iter().sum::<usize>().div_ceil(tally.len());
            assert!(tally.iter().all(|taken| *taken <= 2 * share), "{brokers} brokers, {replicas} replicas: {tally:?}");
        }
    }
}
