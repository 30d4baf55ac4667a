//! The metadata state machine: each command, each refusal, and what holds after any commands.

use std::sync::Arc;

use super::*;
use crate::{
    BrokerId, LeaderEpoch, PartitionId, ProducerId, TopicId, TopicName,
    replication::{ReplicaSet, StorageId},
    topic::{CleanupPolicy, TopicConfig},
};

mod leaders;
mod moves;
mod stored;
mod streams;

const LIFE: Incarnation = Incarnation::from_bytes([1; 16]);
const NEXT_LIFE: Incarnation = Incarnation::from_bytes([2; 16]);
const OTHER_LIFE: Incarnation = Incarnation::from_bytes([3; 16]);

fn id(number: u8) -> TopicId {
    TopicId::from_bytes([number; 16])
}

fn name(name: &str) -> TopicName {
    name.parse().unwrap()
}

fn register(broker: u32, incarnation: Incarnation, replaces: Option<Incarnation>) -> MetadataCommand {
    MetadataCommand::RegisterBroker {
        broker: BrokerId(broker),
        http_url: format!("http://127.0.0.1:800{broker}"),
        rpc_address: format!("127.0.0.1:900{broker}"),
        incarnation,
        storage: StorageId::from_bytes([9; 16]),
        rack: None,
        replaces,
    }
}

fn drain(broker: u32, incarnation: Incarnation, draining: bool) -> MetadataCommand {
    MetadataCommand::SetDraining { broker: BrokerId(broker), incarnation, draining }
}

fn create(number: u8, topic: &str, partitions: &[&[u32]]) -> MetadataCommand {
    MetadataCommand::CreateTopic {
        id: id(number),
        name: name(topic),
        config: TopicConfig::default(),
        partitions: partitions.iter().map(|replicas| brokers(replicas)).collect(),
        created_ms: 1_357_034_400_000,
    }
}

fn expecting(number: u8, partition: u32, epoch: u32) -> EpochExpectation {
    EpochExpectation { topic_id: id(number), partition: PartitionId(partition), expected: LeaderEpoch::new(epoch) }
}

fn begin(partitions: &[EpochExpectation]) -> MetadataCommand {
    MetadataCommand::BeginEpochs { partitions: partitions.to_vec() }
}

fn leading(number: u8, partition: u32, epoch: u32, leader: u32, incarnation: Incarnation) -> LeaderChoice {
    let (epoch, leader) = (LeaderEpoch::new(epoch), BrokerId(leader));
    LeaderChoice { topic_id: id(number), partition: PartitionId(partition), epoch, leader, incarnation }
}

fn set(leaders: &[LeaderChoice]) -> MetadataCommand {
    MetadataCommand::SetLeaders { leaders: leaders.to_vec() }
}

fn brokers(numbers: &[u32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn formatted() -> ClusterImage {
    let mut image = ClusterImage::default();
    image.apply(&MetadataCommand::FormatCluster { cluster_id: "c".to_owned() }).unwrap();
    image
}

/// Two brokers and the topic `orders` of two partitions.
fn cluster() -> ClusterImage {
    let mut image = formatted();
    for command in [register(0, LIFE, None), register(1, LIFE, None), create(1, "orders", &[&[0, 1], &[1, 0]])] {
        image.apply(&command).unwrap();
    }
    image
}

fn refused(image: &ClusterImage, command: &MetadataCommand) -> MetadataError {
    let mut tried = image.clone();
    let error = tried.apply(command).unwrap_err();
    assert_eq!(&tried, image, "a refused command changes nothing: {command:?}");
    error
}

#[test]
fn nothing_happens_before_the_cluster_has_its_identity() {
    let image = ClusterImage::default();
    assert_eq!(refused(&image, &register(0, LIFE, None)), MetadataError::NotFormatted);
    let nameless = MetadataCommand::FormatCluster { cluster_id: String::new() };
    assert!(matches!(refused(&image, &nameless), MetadataError::Text { field, .. } if field == "cluster_id"));
    let again = MetadataCommand::FormatCluster { cluster_id: "d".to_owned() };
    assert_eq!(refused(&formatted(), &again), MetadataError::AlreadyFormatted { cluster_id: "c".to_owned() });
}

#[test]
fn a_restarted_broker_replaces_its_former_life_and_no_other() {
    let mut image = cluster();
    let stale = MetadataError::StaleIncarnation { broker: BrokerId(0), current: LIFE };
    assert_eq!(refused(&image, &register(0, NEXT_LIFE, None)), stale, "two processes with one id");
    assert_eq!(refused(&image, &register(0, NEXT_LIFE, Some(OTHER_LIFE))), stale);
    let former = image.brokers[&BrokerId(0)].registration;
    image.apply(&register(0, NEXT_LIFE, Some(LIFE))).unwrap();
    let known = image.brokers[&BrokerId(0)].clone();
    assert_eq!((known.incarnation, known.registration), (NEXT_LIFE, image.version));
    assert!(former < known.registration, "lives are ordered");
    // Said again, it is the same life.
    image.apply(&register(0, NEXT_LIFE, None)).unwrap();
    assert_eq!(image.brokers[&BrokerId(0)], known);
    let unknown = register(7, LIFE, Some(OTHER_LIFE));
    assert_eq!(refused(&image, &unknown), MetadataError::UnknownBroker(BrokerId(7)));
}

#[test]
fn a_broker_drains_until_its_next_life() {
    let mut image = cluster();
    let (broker, current) = (BrokerId(0), LIFE);
    assert_eq!(refused(&image, &drain(0, NEXT_LIFE, true)), MetadataError::Restarted { broker, current });
    assert_eq!(refused(&image, &drain(7, LIFE, true)), MetadataError::UnknownBroker(BrokerId(7)));
    let is_draining = |image: &ClusterImage| image.brokers[&broker].draining;
    image.apply(&drain(0, LIFE, true)).unwrap();
    assert!(is_draining(&image));
    image.apply(&register(0, LIFE, None)).unwrap();
    assert!(is_draining(&image), "the same life says where it is reached");
    image.apply(&drain(0, LIFE, false)).unwrap();
    assert!(!is_draining(&image));
    image.apply(&drain(0, LIFE, true)).unwrap();
    image.apply(&register(0, NEXT_LIFE, Some(LIFE))).unwrap();
    assert!(!is_draining(&image));
}

#[test]
fn a_broker_goes_when_it_keeps_nothing() {
    let mut image = cluster();
    image.apply(&register(2, LIFE, None)).unwrap();
    image.apply(&moves::begin_move(0, &[0, 1], &[0, 2])).unwrap();
    let gone = |broker| MetadataCommand::UnregisterBroker { broker: BrokerId(broker) };
    for (broker, partitions) in [(0, 2), (1, 2), (2, 1)] {
        let error = MetadataError::KeepsPartitions { broker: BrokerId(broker), partitions };
        assert_eq!(refused(&image, &gone(broker)), error);
    }
    image.apply(&MetadataCommand::DeleteTopic { id: id(1) }).unwrap();
    image.apply(&gone(2)).unwrap();
    assert_eq!(refused(&image, &gone(2)), MetadataError::UnknownBroker(BrokerId(2)));
}

#[test]
fn addresses_and_racks_have_their_forms() {
    let with = |change: fn(&mut String, &mut String, &mut Option<String>)| {
        let mut command = register(0, LIFE, None);
        if let MetadataCommand::RegisterBroker { http_url, rpc_address, rack, .. } = &mut command {
            change(http_url, rpc_address, rack);
        }
        command
    };
    for (wrong, command) in [
        ("http_url", with(|http, _, _| http.clear())),
        ("http_url", with(|http, _, _| *http = "127.0.0.1:8000".to_owned())),
        ("http_url", with(|http, _, _| *http = format!("http://{}", "x".repeat(TEXT_BYTES_MAX)))),
        ("rpc_address", with(|_, rpc, _| *rpc = "127.0.0.1".to_owned())),
        ("rpc_address", with(|_, rpc, _| *rpc = ":9000".to_owned())),
        ("rpc_address", with(|_, rpc, _| *rpc = "host:http".to_owned())),
        ("rack", with(|_, _, rack| *rack = Some(String::new()))),
    ] {
        let error = refused(&formatted(), &command);
        assert!(matches!(&error, MetadataError::Text { field, .. } if field == wrong), "{error}");
    }
    for command in [
        with(|_, rpc, _| rpc.clear()),
        with(|_, rpc, _| *rpc = "[::1]:9000".to_owned()),
        with(|_, _, rack| *rack = Some("cellar".to_owned())),
    ] {
        formatted().apply(&command).unwrap();
    }
}

#[test]
fn a_new_topic_has_its_partitions_and_no_leader() {
    let image = cluster();
    let topic = image.topic(&name("orders")).unwrap();
    assert!(Arc::ptr_eq(topic, image.topic_by_id(id(1)).unwrap()));
    let numbers: Vec<_> = topic.numbered_partitions().map(|(number, _)| number.0).collect();
    assert_eq!((numbers, image.partition_count()), (vec![0, 1], 2));
    let partition = image.partition(&name("orders"), PartitionId(1)).unwrap();
    assert_eq!(partition.replicas, [BrokerId(1), BrokerId(0)]);
    assert_eq!((partition.leader, partition.leader_epoch), (None, LeaderEpoch::ZERO));
    assert_eq!(image.partition(&name("orders"), PartitionId(2)), None);
    assert_eq!(image.partition(&name("other"), PartitionId(0)), None);
}

#[test]
fn topics_that_cannot_be_are_refused() {
    let image = cluster();
    for (command, expected) in [
        (create(2, "orders", &[&[0]]), MetadataError::TopicExists(name("orders"))),
        (create(1, "other", &[&[0]]), MetadataError::TopicIdExists(id(1))),
        (create(2, "t", &[]), MetadataError::PartitionCount(0)),
        (create(2, "t", &vec![&[0_u32][..]; 10_001]), MetadataError::PartitionCount(10_001)),
        (create(2, "t", &[&[]]), MetadataError::ReplicationFactor { replicas: 0, brokers: 2 }),
        (create(2, "t", &[&[0, 1, 2]]), MetadataError::ReplicationFactor { replicas: 3, brokers: 2 }),
        (create(2, "t", &[&[0], &[0, 1]]), MetadataError::Replicas { partition: PartitionId(1) }),
        (create(2, "t", &[&[0, 0]]), MetadataError::Replicas { partition: PartitionId(0) }),
        (create(2, "t", &[&[0], &[2]]), MetadataError::UnknownBroker(BrokerId(2))),
    ] {
        assert_eq!(refused(&image, &command), expected);
    }
    let mut largest = image;
    largest.apply(&create(2, "t", &vec![&[0_u32][..]; PARTITIONS_PER_TOPIC_MAX])).unwrap();
}

#[test]
fn a_cluster_has_a_largest_number_of_topics() {
    let mut image = cluster();
    for number in 1..TOPICS_MAX {
        let mut command = create(0, &format!("t{number}"), &[&[0]]);
        if let MetadataCommand::CreateTopic { id, .. } = &mut command {
            *id = TopicId::from_bytes((number as u128 + 1).to_be_bytes());
        }
        image.apply(&command).unwrap();
    }
    assert_eq!(refused(&image, &create(2, "one-more", &[&[0]])), MetadataError::TooManyTopics);
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let mut image = cluster();
    image.apply(&MetadataCommand::DeleteTopic { id: id(1) }).unwrap();
    assert!(image.topics.is_empty());
    assert_eq!(refused(&image, &MetadataCommand::DeleteTopic { id: id(1) }), MetadataError::UnknownTopic(id(1)));
    assert_eq!(refused(&image, &begin(&[expecting(1, 0, 0)])), MetadataError::UnknownTopic(id(1)));
    assert_eq!(refused(&image, &create(1, "again", &[&[0]])), MetadataError::TopicIdDeleted(id(1)));
    image.apply(&create(2, "orders", &[&[0]])).unwrap();
    assert_eq!(image.topic(&name("orders")).unwrap().id, id(2));
    assert!(image.topic_by_id(id(1)).is_none());
    assert_eq!([1, 2].map(|number| image.was_deleted(id(number))), [true, false]);
}

#[test]
fn the_oldest_deleted_topics_are_forgotten() {
    let number = |number: u32| TopicId::from_bytes(u128::from(number).to_be_bytes());
    let most = u32::try_from(TOMBSTONES_MAX).unwrap();
    let mut tombstones: Tombstones = (0..most).map(number).collect();
    tombstones.insert(number(0));
    assert!(tombstones.contains(number(0)), "one that is there already makes no other go");
    tombstones.insert(number(most));
    assert_eq!([0, 1, most].map(|at| tombstones.contains(number(at))), [false, true, true]);
    assert_eq!(tombstones.iter().count(), TOMBSTONES_MAX);
}

#[test]
fn settings_are_replaced_when_they_can_be_honoured() {
    let mut image = cluster();
    let alter = |id, config| MetadataCommand::AlterTopic { id, config };
    let compact = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
    image.apply(&alter(id(1), compact.clone())).unwrap();
    assert_eq!(image.topic_by_id(id(1)).unwrap().config, compact);
    assert_eq!(refused(&image, &alter(id(2), compact)), MetadataError::UnknownTopic(id(2)));
    let tiny = TopicConfig { segment_bytes: 1, ..TopicConfig::default() };
    let error = refused(&image, &alter(id(1), tiny));
    assert!(matches!(error, MetadataError::Config(invalid) if invalid.setting == "segment_bytes"));
}

#[test]
fn producer_ids_are_handed_out_once() {
    let mut image = formatted();
    let reserve = |count| MetadataCommand::ReserveProducerIds { count };
    let first = |first| Ok(MetadataReply::ProducerIds { first: ProducerId(first), count: 1000 });
    assert_eq!(image.apply(&reserve(1000)), first(0));
    assert_eq!(image.apply(&reserve(1000)), first(1000));
    assert_eq!(refused(&image, &reserve(0)), MetadataError::ProducerIds(0));
    image.next_producer_id = i64::MAX - 5;
    assert_eq!(refused(&image, &reserve(6)), MetadataError::ProducerIds(6));
}
