//! The forms in which commands and images are stored and sent, and what holds after any commands.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::StreamId;

#[test]
fn commands_are_stored_under_names_that_stay() {
    for (command, stored) in [
        (
            register(1, LIFE, None),
            r#"{"command":"register_broker","broker":1,"http_url":"http://127.0.0.1:8001","rpc_address":"127.0.0.1:9001","incarnation":"01010101-0101-0101-0101-010101010101","storage":"09090909-0909-0909-0909-090909090909","rack":null,"replaces":null}"#,
        ),
        (
            begin(&[expecting(1, 2, 3)]),
            r#"{"command":"begin_epochs","partitions":[{"topic_id":"01010101-0101-0101-0101-010101010101","partition":2,"expected":3}]}"#,
        ),
        (
            set(&[leading(1, 2, 3, 4, LIFE)]),
            r#"{"command":"set_leaders","leaders":[{"topic_id":"01010101-0101-0101-0101-010101010101","partition":2,"epoch":3,"leader":4,"incarnation":"01010101-0101-0101-0101-010101010101"}]}"#,
        ),
        (
            moves::begin_move(2, &[0], &[1]),
            r#"{"command":"begin_moves","moves":[{"topic_id":"01010101-0101-0101-0101-010101010101","partition":2,"expected":[0],"to":[1]}]}"#,
        ),
        (MetadataCommand::ReserveProducerIds { count: 5 }, r#"{"command":"reserve_producer_ids","count":5}"#),
    ] {
        assert_eq!(serde_json::to_string(&command).unwrap(), stored);
        assert_eq!(serde_json::from_str::<MetadataCommand>(stored).unwrap(), command);
    }
    assert!(serde_json::from_str::<MetadataCommand>(r#"{"command":"drop_everything"}"#).is_err());
    assert!(serde_json::from_str::<MetadataCommand>(r#"{"command":"reserve_producer_ids","count":5,"x":1}"#).is_err());
}

#[test]
fn answers_and_refusals_cross_the_wire() {
    for reply in [MetadataReply::Done, MetadataReply::ProducerIds { first: ProducerId(7), count: 9 }] {
        let sent = serde_json::to_vec(&reply).unwrap();
        assert_eq!(serde_json::from_slice::<MetadataReply>(&sent).unwrap(), reply);
    }
    let tiny = TopicConfig { segment_bytes: 1, ..TopicConfig::default() };
    let text = Cow::Borrowed("text");
    for error in [
        MetadataError::NotFormatted,
        MetadataError::Text { field: text.clone(), form: text },
        MetadataError::UnknownTopic(id(1)),
        MetadataError::TopicExists(name("orders")),
        MetadataError::Config(tiny.validate().unwrap_err()),
        MetadataError::ReplicationFactor { replicas: 3, brokers: 2 },
        MetadataError::Restarted { broker: BrokerId(1), current: LIFE },
    ] {
        let sent = serde_json::to_vec(&error).unwrap();
        let received: MetadataError = serde_json::from_slice(&sent).unwrap();
        assert_eq!(received, error);
        assert_eq!(received.to_string(), error.to_string());
    }
}

fn any_brokers() -> impl Strategy<Value = Vec<BrokerId>> {
    proptest::collection::vec((0_u32..4).prop_map(BrokerId), 0..3)
}

fn any_life() -> impl Strategy<Value = Incarnation> {
    proptest::sample::select(vec![LIFE, NEXT_LIFE, OTHER_LIFE])
}

fn any_leadership() -> impl Strategy<Value = MetadataCommand> {
    let at = || (0_u8..5, (0_u32..4).prop_map(PartitionId), (0_u32..3).prop_map(LeaderEpoch::new));
    let expectation = at().prop_map(|(topic, at, epoch)| expecting(topic, at.0, epoch.get()));
    let choice = (at(), 0_u32..4, any_life()).prop_map(|((topic, at, epoch), leader, life)| LeaderChoice {
        topic_id: id(topic),
        partition: at,
        epoch,
        leader: BrokerId(leader),
        incarnation: life,
    });
    let moved = (at(), any_brokers(), any_brokers()).prop_map(|((topic, partition, _), expected, to)| ReplicaMove {
        topic_id: id(topic),
        partition,
        expected,
        to,
    });
    prop_oneof![
        proptest::collection::vec(expectation, 0..4).prop_map(|partitions| MetadataCommand::BeginEpochs { partitions }),
        proptest::collection::vec(choice, 0..3).prop_map(|leaders| MetadataCommand::SetLeaders { leaders }),
        proptest::collection::vec(moved, 0..3).prop_map(|moves| MetadataCommand::BeginMoves { moves }),
        (at(), any_brokers(), 0_u64..20).prop_map(|((topic, partition, epoch), to, since)| MetadataCommand::EndMove {
            topic_id: id(topic),
            partition,
            epoch,
            to,
            since,
        }),
        (at(), any_brokers()).prop_map(|((topic, partition, _), to)| MetadataCommand::CancelMove {
            topic_id: id(topic),
            partition,
            to,
        }),
    ]
}

fn any_broker_command() -> impl Strategy<Value = MetadataCommand> {
    prop_oneof![
        2 => (0_u32..4, any_life(), proptest::option::of(any_life()))
            .prop_map(|(broker, life, old)| register(broker, life, old)),
        1 => (0_u32..4, any_life(), any::<bool>()).prop_map(|(broker, life, draining)| drain(broker, life, draining)),
        1 => (0_u32..4).prop_map(|broker| MetadataCommand::UnregisterBroker { broker: BrokerId(broker) }),
    ]
}

fn any_stream_command() -> impl Strategy<Value = MetadataCommand> {
    let stream = || (0_u8..3).prop_map(|number| StreamId::from_bytes([number; 16]));
    let definition = || {
        (0_u8..5, 0_u8..5, 0_u8..5).prop_map(|(input, changelog, output)| StreamDefinition {
            document: "{}".to_owned(),
            input_topic: id(input),
            changelog: id(changelog),
            partials: None,
            output: id(output),
            late: id(output),
            partitions: 2,
            shards: 0,
        })
    };
    let kinds = vec![StreamStateKind::Running, StreamStateKind::Paused];
    prop_oneof![
        3 => (stream(), 0_u8..3, definition()).prop_map(|(id, name, definition)| MetadataCommand::CreateStream {
            id,
            name: format!("s{name}").parse().unwrap(),
            generation: 1,
            definition,
            created_ms: 0,
        }),
        1 => (stream(), 0_u32..4, definition()).prop_map(|(id, generation, definition)| {
            MetadataCommand::ReplaceStream { id, generation, definition, created_ms: 0 }
        }),
        1 => (stream(), 0_u32..4).prop_map(|(id, generation)| MetadataCommand::SwitchStream { id, generation }),
        1 => (stream(), proptest::option::of(0_u32..4))
            .prop_map(|(id, generation)| MetadataCommand::DeleteStream { id, generation }),
        1 => (stream(), 0_u32..4, proptest::sample::select(kinds)).prop_map(|(id, generation, from)| {
            let to = StreamState::Paused { reason: PauseReason::Asked };
            MetadataCommand::SetStreamState { id, generation, from, to }
        }),
    ]
}

fn any_command() -> impl Strategy<Value = MetadataCommand> {
    let replicas = proptest::collection::vec(any_brokers(), 0..4);
    prop_oneof![
        4 => any_leadership(),
        2 => any_broker_command(),
        2 => any_stream_command(),
        1 => (0_u8..5, 0_u8..5, replicas).prop_map(|(number, topic, partitions)| MetadataCommand::CreateTopic {
            id: id(number),
            name: name(&format!("t{topic}")),
            config: TopicConfig::default(),
            partitions,
            created_ms: 0,
        }),
        1 => (0_u8..5).prop_map(|number| MetadataCommand::DeleteTopic { id: id(number) }),
        1 => (0_u8..5, 0_u64..40_000).prop_map(|(number, segment_bytes)| MetadataCommand::AlterTopic {
            id: id(number),
            config: TopicConfig { segment_bytes, max_message_bytes: 1024, ..TopicConfig::default() },
        }),
        1 => (0_u32..5).prop_map(|count| MetadataCommand::ReserveProducerIds { count }),
    ]
}

/// What holds of a partition in any image, and after any step from what it was before.
fn check_partition(
    image: &ClusterImage,
    former: Option<&PartitionImage>,
    partition: &PartitionImage,
) -> Result<(), TestCaseError> {
    prop_assert!(partition.leader.is_none_or(|leader| partition.is_kept_by(leader)));
    prop_assert!(partition.members().all(|broker| image.brokers.contains_key(&broker)));
    prop_assert_eq!(partition.leader.is_some(), partition.leader_incarnation.is_some());
    prop_assert_eq!(partition.led, partition.leader.is_some() || partition.deposed.is_some());
    let Some(former) = former else { return Ok(()) };
    // Epochs never go back, and have one leader.
    prop_assert!(former.leader_epoch <= partition.leader_epoch);
    if former.leader_epoch == partition.leader_epoch && former.leader.is_some() {
        prop_assert_eq!(
            former.leader.zip(former.leader_incarnation),
            partition.leader.zip(partition.leader_incarnation)
        );
    }
    prop_assert!(partition.led || !former.led);
    Ok(())
}

proptest! {
    #[test]
    fn the_same_commands_give_the_same_image(commands in proptest::collection::vec(any_command(), 0..60)) {
        let mut image = cluster();
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
                    check_partition(&image, before.topic_by_id(topic.id).and_then(|topic| topic.partition(number)), partition)?;
                }
            }
            prop_assert_eq!(image.names.len(), image.topics.len());
            for stream in image.streams.values() {
                let mut topics = stream.generations().flat_map(StreamImage::topics);
                prop_assert!(topics.all(|topic| image.topic_by_id(topic).is_some()));
            }
        }
        // Replayed from their stored form, and from a snapshot.
        let mut replayed = cluster();
        for command in &applied {
            let stored = serde_json::to_vec(command).unwrap();
            replayed.apply(&serde_json::from_slice(&stored).unwrap()).unwrap();
        }
        prop_assert_eq!(&replayed, &image);
        let snapshot = serde_json::to_vec(&image).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<ClusterImage>(&snapshot).unwrap(), &image);
    }
}
