//! Epochs and leaders.

use super::*;

type Leadership = (u32, Option<u32>, Option<Incarnation>);

fn leaderships(image: &ClusterImage) -> Vec<Leadership> {
    let partitions = &image.topic_by_id(id(1)).unwrap().partitions;
    let leadership = |partition: &PartitionImage| {
        (partition.leader_epoch.get(), partition.leader.map(|leader| leader.0), partition.leader_incarnation)
    };
    partitions.iter().map(leadership).collect()
}

fn first(image: &ClusterImage) -> &PartitionImage {
    &image.topic_by_id(id(1)).unwrap().partitions[0]
}

#[test]
fn an_epoch_begins_without_a_leader_when_the_expected_one_ends() {
    let mut image = cluster();
    let before = image.clone();
    image.apply(&begin(&[expecting(1, 0, 0), expecting(1, 1, 0)])).unwrap();
    assert_eq!(leaderships(&image), [(1, None, None); 2]);
    assert_eq!(leaderships(&before), [(0, None, None); 2], "who holds the former image sees no change");
    image.apply(&set(&[leading(1, 0, 1, 0, LIFE)])).unwrap();
    image.apply(&begin(&[expecting(1, 0, 1)])).unwrap();
    assert_eq!(leaderships(&image), [(2, None, None), (1, None, None)]);

    let (topic_id, partition) = (id(1), PartitionId(0));
    let (current, expected) = (LeaderEpoch::new(2), LeaderEpoch::new(1));
    let stale = begin(&[expecting(1, 1, 1), expecting(1, 0, 1)]);
    assert_eq!(refused(&image, &stale), MetadataError::StaleEpoch { topic_id, partition, current, expected });
    let twice = begin(&[expecting(1, 0, 2), expecting(1, 0, 2)]);
    assert_eq!(refused(&image, &twice), MetadataError::RepeatedPartition { topic_id, partition });
    let missing = begin(&[expecting(1, 2, 0)]);
    let partition = PartitionId(2);
    assert_eq!(refused(&image, &missing), MetadataError::UnknownPartition { topic_id, partition });
}

#[test]
fn an_epoch_gets_one_leader_all_or_none() {
    let mut image = cluster();
    image.apply(&begin(&[expecting(1, 0, 0), expecting(1, 1, 0)])).unwrap();
    image.apply(&set(&[leading(1, 0, 1, 0, LIFE), leading(1, 1, 1, 1, LIFE)])).unwrap();
    assert_eq!(leaderships(&image), [(1, Some(0), Some(LIFE)), (1, Some(1), Some(LIFE))]);

    image.apply(&begin(&[expecting(1, 1, 1)])).unwrap();
    let (topic_id, partition) = (id(1), PartitionId(0));
    let (epoch, leader) = (LeaderEpoch::new(1), BrokerId(0));
    let second = set(&[leading(1, 1, 2, 1, LIFE), leading(1, 0, 1, 1, LIFE)]);
    assert_eq!(refused(&image, &second), MetadataError::LedAlready { topic_id, partition, epoch, leader });
    let twice = set(&[leading(1, 1, 2, 0, LIFE), leading(1, 1, 2, 1, LIFE)]);
    let partition = PartitionId(1);
    assert_eq!(refused(&image, &twice), MetadataError::RepeatedPartition { topic_id, partition });
    let (current, expected) = (LeaderEpoch::new(2), LeaderEpoch::new(1));
    let late = set(&[leading(1, 1, 1, 0, LIFE)]);
    assert_eq!(refused(&image, &late), MetadataError::StaleEpoch { topic_id, partition, current, expected });
}

#[test]
fn only_a_replica_that_still_lives_can_lead() {
    let mut image = cluster();
    image.apply(&create(2, "single", &[&[0]])).unwrap();
    image.apply(&begin(&[expecting(1, 0, 0), expecting(2, 0, 0)])).unwrap();
    let error = refused(&image, &set(&[leading(1, 0, 1, 1, LIFE), leading(2, 0, 1, 1, LIFE)]));
    let (topic_id, partition) = (id(2), PartitionId(0));
    assert_eq!(error, MetadataError::NotAReplica { topic_id, partition, leader: BrokerId(1) });

    image.apply(&register(1, NEXT_LIFE, Some(LIFE))).unwrap();
    let (broker, current) = (BrokerId(1), NEXT_LIFE);
    assert_eq!(refused(&image, &set(&[leading(1, 0, 1, 1, LIFE)])), MetadataError::Restarted { broker, current });
    image.apply(&set(&[leading(1, 0, 1, 1, NEXT_LIFE)])).unwrap();
}

#[test]
fn who_was_deposed_is_remembered_until_another_leads() {
    let mut image = cluster();
    assert!(!first(&image).led);
    image.apply(&begin(&[expecting(1, 0, 0)])).unwrap();
    assert_eq!((first(&image).led, first(&image).deposed), (false, None));
    image.apply(&set(&[leading(1, 0, 1, 0, LIFE)])).unwrap();
    assert_eq!((first(&image).led, first(&image).deposed), (true, None));
    for epoch in [1, 2] {
        image.apply(&begin(&[expecting(1, 0, epoch)])).unwrap();
        assert_eq!((first(&image).led, first(&image).deposed), (true, Some((BrokerId(0), LIFE))));
    }
    image.apply(&set(&[leading(1, 0, 3, 1, LIFE)])).unwrap();
    assert_eq!((first(&image).led, first(&image).deposed), (true, None));
}

#[test]
fn epochs_end_before_they_wrap() {
    let mut image = cluster();
    let topic = Arc::make_mut(image.topics.get_mut("orders").unwrap());
    topic.partitions[0].leader_epoch = LeaderEpoch::MAX;
    let error = refused(&image, &begin(&[expecting(1, 0, u32::MAX)]));
    assert_eq!(error, MetadataError::EpochsExhausted { topic_id: id(1), partition: PartitionId(0) });
}
