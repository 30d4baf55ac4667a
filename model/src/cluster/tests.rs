//! The metadata state machine: each command, each refusal, and what holds after any commands.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    BrokerId, LeaderEpoch, PartitionId, ProducerId, TopicId, TopicName,
    topic::{CleanupPolicy, InvalidTopicConfig, TopicConfig},
};

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
    let http_url = format!("http://127.0.0.1:800{broker}");
    MetadataCommand::RegisterBroker { broker: BrokerId(broker), http_url, incarnation, replaces }
}

fn create(number: u8, topic: &str, partitions: &[&[u32]]) -> MetadataCommand {
    MetadataCommand::CreateTopic {
        id: id(number),
        name: name(topic),
        config: TopicConfig::default(),
        partitions: partitions.iter().map(|replicas| replicas.iter().copied().map(BrokerId).collect()).collect(),
        created_ms: 1_357_034_400_000,
    }
}

fn expecting(number: u8, partition: u32, epoch: u32) -> EpochExpectation {
    EpochExpectation { topic_id: id(number), partition: PartitionId(partition), expected: LeaderEpoch::new(epoch) }
}

fn begin(partitions: &[EpochExpectation], leader: Option<u32>) -> MetadataCommand {
    MetadataCommand::BeginEpochs { partitions: partitions.to_vec(), leader: leader.map(BrokerId) }
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
    assert!(matches!(refused(&image, &nameless), MetadataError::Text { field: "cluster_id", .. }));
    let again = MetadataCommand::FormatCluster { cluster_id: "d".to_owned() };
    assert_eq!(refused(&formatted(), &again), MetadataError::AlreadyFormatted { cluster_id: "c".to_owned() });
}

#[test]
fn a_restarted_broker_replaces_its_former_life_and_no_other() {
    let mut image = cluster();
    let stale = MetadataError::StaleIncarnation { broker: BrokerId(0), current: LIFE };
    assert_eq!(refused(&image, &register(0, NEXT_LIFE, None)), stale, "two processes with one id");
    assert_eq!(refused(&image, &register(0, NEXT_LIFE, Some(OTHER_LIFE))), stale);
    image.apply(&register(0, NEXT_LIFE, Some(LIFE))).unwrap();
    assert_eq!(image.brokers[&BrokerId(0)].incarnation, NEXT_LIFE);
    image.apply(&register(0, NEXT_LIFE, None)).unwrap();
    let unknown = register(7, LIFE, Some(OTHER_LIFE));
    assert_eq!(refused(&image, &unknown), MetadataError::UnknownBroker(BrokerId(7)));
}

#[test]
fn an_address_must_be_a_url() {
    for http_url in [String::new(), "127.0.0.1:8000".to_owned(), format!("http://{}", "x".repeat(TEXT_BYTES_MAX))] {
        let command =
            MetadataCommand::RegisterBroker { broker: BrokerId(0), http_url, incarnation: LIFE, replaces: None };
        assert!(matches!(refused(&formatted(), &command), MetadataError::Text { field: "http_url", .. }));
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
    assert_eq!(refused(&image, &begin(&[expecting(1, 0, 0)], Some(0))), MetadataError::UnknownTopic(id(1)));
    image.apply(&create(2, "orders", &[&[0]])).unwrap();
    assert_eq!(image.topic(&name("orders")).unwrap().id, id(2));
    assert!(image.topic_by_id(id(1)).is_none());
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
    assert!(matches!(error, MetadataError::Config(InvalidTopicConfig { setting: "segment_bytes", .. })));
}

#[test]
fn an_epoch_begins_when_the_expected_one_ends_for_all_or_none() {
    let mut image = cluster();
    let before = image.clone();
    image.apply(&begin(&[expecting(1, 0, 0), expecting(1, 1, 0)], Some(1))).unwrap();
    let epochs = |image: &ClusterImage| {
        let partitions = &image.topic_by_id(id(1)).unwrap().partitions;
        partitions.iter().map(|partition| (partition.leader_epoch.get(), partition.leader)).collect::<Vec<_>>()
    };
    assert_eq!(epochs(&image), [(1, Some(BrokerId(1))); 2]);
    assert_eq!(epochs(&before), [(0, None); 2], "who holds the former image sees no change");
    image.apply(&begin(&[expecting(1, 0, 1)], None)).unwrap();
    assert_eq!(epochs(&image), [(2, None), (1, Some(BrokerId(1)))]);

    let (topic_id, partition) = (id(1), PartitionId(0));
    let (current, expected) = (LeaderEpoch::new(2), LeaderEpoch::new(1));
    let stale = begin(&[expecting(1, 1, 1), expecting(1, 0, 1)], Some(0));
    assert_eq!(refused(&image, &stale), MetadataError::StaleEpoch { topic_id, partition, current, expected });
    let twice = begin(&[expecting(1, 0, 2), expecting(1, 0, 2)], Some(0));
    assert_eq!(refused(&image, &twice), MetadataError::RepeatedPartition { topic_id, partition });
    let missing = begin(&[expecting(1, 2, 0)], Some(0));
    let partition = PartitionId(2);
    assert_eq!(refused(&image, &missing), MetadataError::UnknownPartition { topic_id, partition });
}

#[test]
fn only_a_replica_can_lead() {
    let mut image = cluster();
    image.apply(&create(2, "single", &[&[0]])).unwrap();
    assert_eq!(refused(&image, &begin(&[], Some(9))), MetadataError::UnknownBroker(BrokerId(9)));
    let error = refused(&image, &begin(&[expecting(1, 0, 0), expecting(2, 0, 0)], Some(1)));
    let (topic_id, partition) = (id(2), PartitionId(0));
    assert_eq!(error, MetadataError::NotAReplica { topic_id, partition, leader: BrokerId(1) });
}

#[test]
fn epochs_end_before_they_wrap() {
    let mut image = cluster();
    let topic = Arc::make_mut(image.topics.get_mut("orders").unwrap());
    topic.partitions[0].leader_epoch = LeaderEpoch::MAX;
    let error = refused(&image, &begin(&[expecting(1, 0, u32::MAX)], Some(0)));
    assert_eq!(error, MetadataError::EpochsExhausted { topic_id: id(1), partition: PartitionId(0) });
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

#[test]
fn commands_are_stored_under_names_that_stay() {
    for (command, stored) in [
        (
            register(1, LIFE, None),
            r#"{"command":"register_broker","broker":1,"http_url":"http://127.0.0.1:8001","incarnation":"01010101-0101-0101-0101-010101010101","replaces":null}"#,
        ),
        (
            begin(&[expecting(1, 2, 3)], Some(1)),
            r#"{"command":"begin_epochs","partitions":[{"topic_id":"01010101-0101-0101-0101-010101010101","partition":2,"expected":3}],"leader":1}"#,
        ),
        (MetadataCommand::ReserveProducerIds { count: 5 }, r#"{"command":"reserve_producer_ids","count":5}"#),
    ] {
        assert_eq!(serde_json::to_string(&command).unwrap(), stored);
        assert_eq!(serde_json::from_str::<MetadataCommand>(stored).unwrap(), command);
    }
    assert!(serde_json::from_str::<MetadataCommand>(r#"{"command":"drop_everything"}"#).is_err());
    assert!(serde_json::from_str::<MetadataCommand>(r#"{"command":"reserve_producer_ids","count":5,"x":1}"#).is_err());
}

fn any_command() -> impl Strategy<Value = MetadataCommand> {
    let replicas = proptest::collection::vec(proptest::collection::vec((0_u32..4).prop_map(BrokerId), 0..3), 0..4);
    let expectation = (0_u8..5, 0_u32..4, 0_u32..3).prop_map(|(topic, at, epoch)| expecting(topic, at, epoch));
    let life = || proptest::sample::select(vec![LIFE, NEXT_LIFE, OTHER_LIFE]);
    prop_oneof![
        (0_u32..4, life(), proptest::option::of(life())).prop_map(|(broker, life, old)| register(broker, life, old)),
        (0_u8..5, 0_u8..5, replicas).prop_map(|(number, topic, partitions)| MetadataCommand::CreateTopic {
            id: id(number),
            name: name(&format!("t{topic}")),
            config: TopicConfig::default(),
            partitions,
            created_ms: 0,
        }),
        (0_u8..5).prop_map(|number| MetadataCommand::DeleteTopic { id: id(number) }),
        (0_u8..5, 0_u64..40_000).prop_map(|(number, segment_bytes)| MetadataCommand::AlterTopic {
            id: id(number),
            config: TopicConfig { segment_bytes, max_message_bytes: 1024, ..TopicConfig::default() },
        }),
        (proptest::collection::vec(expectation, 0..4), proptest::option::of((0_u32..4).prop_map(BrokerId)))
            .prop_map(|(partitions, leader)| MetadataCommand::BeginEpochs { partitions, leader }),
        (0_u32..5).prop_map(|count| MetadataCommand::ReserveProducerIds { count }),
    ]
}

proptest! {
    #[test]
    fn the_same_commands_give_the_same_image(commands in proptest::collection::vec(any_command(), 0..60)) {
        let mut image = formatted();
        let mut applied = Vec::new();
        for command in commands {
            let before = image.clone();
            match image.apply(&command) {
                Err(_) => prop_assert_eq!(&image, &before),
                Ok(_) => {
                    prop_assert_eq!(image.version, before.version + 1);
                    applied.push(command);
                }
            }
            for (name, topic) in &image.topics {
                prop_assert_eq!(name, &topic.name);
                prop_assert_eq!(image.topic_by_id(topic.id), Some(topic));
                for (number, partition) in topic.numbered_partitions() {
                    prop_assert!(partition.leader.is_none_or(|leader| partition.replicas.contains(&leader)));
                    // Epochs never go back.
                    let former = before.topic_by_id(topic.id).and_then(|topic| topic.partition(number));
                    prop_assert!(former.is_none_or(|former| former.leader_epoch <= partition.leader_epoch));
                }
            }
            prop_assert_eq!(image.names.len(), image.topics.len());
        }
        // Replayed from their stored form, and from a snapshot.
        let mut replayed = formatted();
        for command in &applied {
            let stored = serde_json::to_vec(command).unwrap();
            replayed.apply(&serde_json::from_slice(&stored).unwrap()).unwrap();
        }
        prop_assert_eq!(&replayed, &image);
        let snapshot = serde_json::to_vec(&image).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<ClusterImage>(&snapshot).unwrap(), &image);
    }
}
