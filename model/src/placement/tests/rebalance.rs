//! Plans that even what there is.

use super::*;

/// The image once all these moves have ended.
fn moved(image: &ClusterImage, moves: &[ReplicaMove]) -> ClusterImage {
    let mut image = image.clone();
    // They are accepted as one command.
    image.apply(&MetadataCommand::BeginMoves { moves: moves.to_vec() }).unwrap();
    for topic in image.topics.values_mut() {
        for partition in &mut std::sync::Arc::make_mut(topic).partitions {
            if let Some(to) = partition.moving_to.take() {
                partition.replicas = to;
            }
        }
    }
    image
}

fn sets(image: &ClusterImage) -> Vec<&[BrokerId]> {
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.replicas.as_slice()).collect()
}

fn replicas(image: &ClusterImage) -> Vec<usize> {
    tally(image, sets(image).into_iter().flatten())
}

fn leaders(image: &ClusterImage) -> Vec<usize> {
    tally(image, sets(image).into_iter().map(|set| &set[0]))
}

fn filled(mut image: ClusterImage, topics: Vec<Vec<Vec<BrokerId>>>) -> ClusterImage {
    for topic in topics {
        add_topic(&mut image, topic);
    }
    image
}

fn ids(brokers: &[u32]) -> Vec<BrokerId> {
    brokers.iter().copied().map(BrokerId).collect()
}

proptest! {
    #[test]
    fn afterwards_all_have_equally_many((brokers, replicas_each, _, topics) in any_rackless()) {
        let image = filled(rackless(brokers), topics);
        let moves = super::super::rebalance(&image, everybody);
        let after = moved(&image, &moves);
        prop_assert!(spread(&replicas(&after)) <= 1, "{:?}", replicas(&after));
        prop_assert!(spread(&leaders(&after)) <= 1, "{:?}", leaders(&after));
        prop_assert!(sets(&after).iter().all(|set| set.len() == replicas_each));
        prop_assert_eq!(super::super::rebalance(&after, everybody), vec![], "there is nothing left to do");
        // No broker gives away more than it has too many, nor gets any if it has enough.
        let most = replicas(&image).iter().sum::<usize>().div_ceil(brokers);
        for (broker, had) in (0..).map(BrokerId).zip(replicas(&image)) {
            let leaving = |moved: &&ReplicaMove| moved.expected.contains(&broker) && !moved.to.contains(&broker);
            let coming = |moved: &&ReplicaMove| !moved.expected.contains(&broker) && moved.to.contains(&broker);
            let (left, came) = (moves.iter().filter(leaving).count(), moves.iter().filter(coming).count());
            prop_assert!(left == 0 || came == 0, "{} left broker {} and {} came", left, broker, came);
            prop_assert!(left <= (had + 1).saturating_sub(most), "{} of {} left broker {}", left, had, broker);
        }
    }

    #[test]
    fn racks_are_kept_and_spread(
        racks in proptest::collection::vec(0_u32..3, 6),
        topics in any_topics(6, 3),
    ) {
        let image = filled(cluster(&racks.iter().map(|rack| Some(rack.to_string())).collect::<Vec<_>>()), topics);
        let all: Vec<_> = image.brokers.keys().copied().collect();
        let after = moved(&image, &super::super::rebalance(&image, everybody));
        for set in sets(&after) {
            prop_assert_eq!(racks_of(&image, set), racks_of(&image, &all).min(3));
        }
        prop_assert_eq!(super::super::rebalance(&after, everybody), vec![]);
        prop_assert!(spread(&leaders(&after)) <= spread(&replicas(&after)).max(1));
    }

    #[test]
    fn who_drains_is_left_and_who_is_dead_is_waited_for(
        topics in any_topics(6, 3),
        (draining, dead) in (0_u32..3, 3_u32..6),
    ) {
        let mut image = filled(rackless(6), topics);
        drain(&mut image, draining);
        let moves = super::super::rebalance(&image, |broker| broker != BrokerId(dead));
        let after = moved(&image, &moves);
        let (draining, dead) = (usize::try_from(draining).unwrap(), usize::try_from(dead).unwrap());
        prop_assert_eq!(replicas(&after)[draining], 0);
        prop_assert_eq!(replicas(&after)[dead], replicas(&image)[dead]);
        prop_assert_eq!(leaders(&after)[dead], leaders(&image)[dead]);
        let in_service = (0..6).filter(|site| ![draining, dead].contains(site));
        let shares: Vec<_> = in_service.map(|site| replicas(&after)[site]).collect();
        prop_assert!(spread(&shares) <= 1, "{:?}", shares);
    }
}

#[test]
fn a_new_broker_gets_its_share_and_nobody_else_anything() {
    let mut image = rackless(3);
    let placed = place(&image, everybody, 100, 3).unwrap();
    add_topic(&mut image, placed);
    assert_eq!(super::super::rebalance(&image, everybody), []);
    add_broker(&mut image, 3, None);
    let moves = super::super::rebalance(&image, everybody);
    for ReplicaMove { expected, to, .. } in &moves {
        assert!(to.iter().all(|broker| expected.contains(broker) || *broker == BrokerId(3)));
    }
    let after = moved(&image, &moves);
    assert_eq!((replicas(&after), leaders(&after)), (vec![75; 4], vec![25; 4]));
}

#[test]
fn topics_are_evened_each_if_possible() {
    let mut image = rackless(2);
    for _ in 0..2 {
        add_topic(&mut image, vec![ids(&[0]); 10]);
    }
    let after = moved(&image, &super::super::rebalance(&image, everybody));
    for topic in after.topics.values() {
        let on_first = topic.partitions.iter().filter(|partition| partition.replicas == ids(&[0])).count();
        assert_eq!(on_first, 5);
    }
}

#[test]
fn what_moves_already_is_counted_where_it_goes() {
    let mut image = rackless(2);
    let topic_id = add_topic(&mut image, vec![ids(&[0]); 4]);
    let move_of =
        |partition| ReplicaMove { topic_id, partition: PartitionId(partition), expected: ids(&[0]), to: ids(&[1]) };
    image.apply(&MetadataCommand::BeginMoves { moves: vec![move_of(2)] }).unwrap();
    let moves = super::super::rebalance(&image, everybody);
    assert_eq!(moves.len(), 1);
    assert!(moves[0].partition != PartitionId(2) && moves[0].to == ids(&[1]));
    image.apply(&MetadataCommand::BeginMoves { moves }).unwrap();
    assert_eq!(super::super::rebalance(&image, everybody), []);
}

#[test]
fn who_drains_and_has_to_stay_does_not_lead() {
    let mut image = rackless(2);
    let topic_id = add_topic(&mut image, vec![ids(&[0, 1])]);
    drain(&mut image, 0);
    let (partition, expected, to) = (PartitionId(0), ids(&[0, 1]), ids(&[1, 0]));
    let swap = ReplicaMove { topic_id, partition, expected, to };
    assert_eq!(super::super::rebalance(&image, everybody), [swap]);
}
