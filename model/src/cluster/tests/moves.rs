//! Replica sets change.

use super::*;

fn moved(partition: u32, expected: &[u32], to: &[u32]) -> ReplicaMove {
    let (topic_id, partition) = (id(1), PartitionId(partition));
    ReplicaMove { topic_id, partition, expected: brokers(expected), to: brokers(to) }
}

pub(super) fn begin_move(partition: u32, expected: &[u32], to: &[u32]) -> MetadataCommand {
    MetadataCommand::BeginMoves { moves: vec![moved(partition, expected, to)] }
}

/// The end of the move that is under way.
fn end(image: &ClusterImage, epoch: u32, to: &[u32]) -> MetadataCommand {
    let (topic_id, partition, since) = (id(1), PartitionId(0), first(image).moving_since);
    MetadataCommand::EndMove { topic_id, partition, epoch: LeaderEpoch::new(epoch), to: brokers(to), since }
}

fn cancel(partition: u32, to: &[u32]) -> MetadataCommand {
    MetadataCommand::CancelMove { topic_id: id(1), partition: PartitionId(partition), to: brokers(to) }
}

/// Four brokers; partition 0 of `orders` is on 0 and 1 and led by `leader`, if any, in epoch 1.
fn led_by(leader: Option<u32>) -> ClusterImage {
    let mut image = cluster();
    for broker in [2, 3] {
        image.apply(&register(broker, LIFE, None)).unwrap();
    }
    image.apply(&begin(&[expecting(1, 0, 0)])).unwrap();
    if let Some(leader) = leader {
        image.apply(&set(&[leading(1, 0, 1, leader, LIFE)])).unwrap();
    }
    image
}

fn first(image: &ClusterImage) -> &PartitionImage {
    &image.topic_by_id(id(1)).unwrap().partitions[0]
}

#[test]
fn while_it_moves_a_partition_is_kept_by_both_sets() {
    let mut image = led_by(Some(0));
    assert_eq!(first(&image).replica_set(), ReplicaSet::Stable(brokers(&[0, 1])));
    image.apply(&begin_move(0, &[0, 1], &[2, 1, 3])).unwrap();
    let set = ReplicaSet::Joint { old: brokers(&[0, 1]), new: brokers(&[2, 1, 3]) };
    assert_eq!(first(&image).replica_set(), set);
    assert_eq!(first(&image).members().collect::<Vec<_>>(), brokers(&[0, 1, 2, 3]));
    assert_eq!(set.members().collect::<Vec<_>>(), brokers(&[0, 1, 2, 3]));
    assert!(first(&image).is_kept_by(BrokerId(3)));
}

#[test]
fn moves_that_cannot_be_are_refused() {
    let mut image = led_by(Some(0));
    image.apply(&begin_move(1, &[1, 0], &[1, 2])).unwrap();
    let (topic_id, partition) = (id(1), PartitionId(0));
    for (command, expected) in [
        (begin_move(0, &[1, 0], &[2]), MetadataError::OtherReplicas { topic_id, partition, current: brokers(&[0, 1]) }),
        (begin_move(0, &[0, 1], &[]), MetadataError::ReplicationFactor { replicas: 0, brokers: 4 }),
        (begin_move(0, &[0, 1], &[2, 2]), MetadataError::RepeatedReplica { topic_id, partition, to: brokers(&[2, 2]) }),
        (begin_move(0, &[0, 1], &[7]), MetadataError::UnknownBroker(BrokerId(7))),
        (begin_move(2, &[0, 1], &[2]), MetadataError::UnknownPartition { topic_id, partition: PartitionId(2) }),
        (
            begin_move(1, &[1, 0], &[3]),
            MetadataError::MovingAlready { topic_id, partition: PartitionId(1), to: brokers(&[1, 2]) },
        ),
        (
            MetadataCommand::BeginMoves { moves: vec![moved(0, &[0, 1], &[2]), moved(0, &[0, 1], &[3])] },
            MetadataError::RepeatedPartition { topic_id, partition },
        ),
    ] {
        assert_eq!(refused(&image, &command), expected);
    }
}

#[test]
fn a_move_ends_in_the_epoch_of_the_leader_that_saw_it_complete() {
    let mut image = led_by(Some(1));
    let (topic_id, partition) = (id(1), PartitionId(0));
    let not_moving = |to: &[u32]| MetadataError::NotMoving { topic_id, partition, to: brokers(to) };
    assert_eq!(refused(&image, &end(&image, 1, &[1, 2])), not_moving(&[1, 2]));
    image.apply(&begin_move(0, &[0, 1], &[1, 2])).unwrap();
    assert_eq!(refused(&image, &end(&image, 1, &[2, 1])), not_moving(&[2, 1]));
    let (current, expected) = (LeaderEpoch::new(1), LeaderEpoch::ZERO);
    let stale = MetadataError::StaleEpoch { topic_id, partition, current, expected };
    assert_eq!(refused(&image, &end(&image, 0, &[1, 2])), stale);
    let first_move = end(&image, 1, &[1, 2]);
    image.apply(&cancel(0, &[1, 2])).unwrap();
    image.apply(&begin_move(0, &[0, 1], &[1, 2])).unwrap();
    assert_eq!(refused(&image, &first_move), not_moving(&[1, 2]), "another move to the same replicas");
    let ends = end(&image, 1, &[1, 2]);
    image.apply(&ends).unwrap();
    assert_eq!(first(&image).replica_set(), ReplicaSet::Stable(brokers(&[1, 2])));
    assert_eq!((first(&image).leader, first(&image).leader_epoch.get()), (Some(BrokerId(1)), 1), "it leads on");

    let mut image = led_by(None);
    image.apply(&begin_move(0, &[0, 1], &[1, 2])).unwrap();
    let epoch = LeaderEpoch::new(1);
    assert_eq!(refused(&image, &end(&image, 1, &[1, 2])), MetadataError::NotLed { topic_id, partition, epoch });
}

#[test]
fn a_leader_that_its_partition_leaves_behind_is_deposed() {
    let mut image = led_by(Some(0));
    image.apply(&begin_move(0, &[0, 1], &[1, 2])).unwrap();
    let ends = end(&image, 1, &[1, 2]);
    image.apply(&ends).unwrap();
    assert_eq!((first(&image).leader, first(&image).leader_epoch.get()), (None, 2));
    assert_eq!(first(&image).deposed, Some((BrokerId(0), LIFE)));
    assert_eq!(first(&image).replicas, brokers(&[1, 2]));
}

#[test]
fn a_move_can_be_taken_back_at_any_time() {
    for (leader, afterwards) in [(None, (None, 1)), (Some(0), (Some(BrokerId(0)), 1))] {
        let mut image = led_by(leader);
        image.apply(&begin_move(0, &[0, 1], &[1, 2])).unwrap();
        image.apply(&cancel(0, &[1, 2])).unwrap();
        assert_eq!((first(&image).leader, first(&image).leader_epoch.get()), afterwards);
        assert_eq!(first(&image).replica_set(), ReplicaSet::Stable(brokers(&[0, 1])));
        let (topic_id, partition) = (id(1), PartitionId(0));
        let error = MetadataError::NotMoving { topic_id, partition, to: brokers(&[1, 2]) };
        assert_eq!(refused(&image, &cancel(0, &[1, 2])), error);
    }
    // One of the new replicas leads already.
    let mut image = led_by(None);
    image.apply(&begin_move(0, &[0, 1], &[1, 2])).unwrap();
    image.apply(&set(&[leading(1, 0, 1, 2, LIFE)])).unwrap();
    image.apply(&cancel(0, &[1, 2])).unwrap();
    assert_eq!((first(&image).leader, first(&image).leader_epoch.get()), (None, 2));
    assert_eq!(first(&image).deposed, Some((BrokerId(2), LIFE)));
}
