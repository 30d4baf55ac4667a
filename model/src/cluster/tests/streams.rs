//! Streams, and the topics that they use.

use super::*;
use crate::{Offset, StreamId, StreamName};

fn stream_id(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

fn stream_name(name: &str) -> StreamName {
    name.parse().unwrap()
}

/// `orders` is the input; the changelog is topic 2, the output 3, the late records' 4, the partial results' 5.
pub(super) fn definition(partials: bool) -> StreamDefinition {
    StreamDefinition {
        document: "{}".to_owned(),
        input_topic: id(1),
        changelog: id(if partials { 6 } else { 2 }),
        partials: partials.then(|| id(5)),
        output: id(3),
        late: id(4),
        partitions: 2,
        shards: u32::from(partials),
    }
}

fn with_topics() -> ClusterImage {
    let mut image = cluster();
    let topics: [(u8, &str, usize); 5] =
        [(2, "changelog", 2), (3, "out", 1), (4, "late", 1), (5, "partials", 1), (6, "changelog-3", 3)];
    for (number, name, partitions) in topics {
        image.apply(&create(number, name, &vec![&[0_u32][..]; partitions])).unwrap();
    }
    image
}

pub(super) fn create_stream(number: u8, name: &str, definition: StreamDefinition) -> MetadataCommand {
    MetadataCommand::CreateStream {
        id: stream_id(number),
        name: stream_name(name),
        generation: 1,
        definition,
        created_ms: 7,
    }
}

fn set_state(generation: u32, from: StreamStateKind, to: StreamState) -> MetadataCommand {
    MetadataCommand::SetStreamState { id: stream_id(1), generation, from, to }
}

fn replace(generation: u32, definition: StreamDefinition) -> MetadataCommand {
    MetadataCommand::ReplaceStream { id: stream_id(1), generation, definition, created_ms: 8 }
}

fn delete_topic(number: u8) -> MetadataCommand {
    MetadataCommand::DeleteTopic { id: id(number) }
}

fn with_stream() -> ClusterImage {
    let mut image = with_topics();
    image.apply(&create_stream(1, "counts", definition(false))).unwrap();
    image
}

#[test]
fn a_stream_runs_and_keeps_its_topics() {
    let mut image = with_stream();
    let stream = image.stream(&stream_name("counts")).unwrap();
    assert!(Arc::ptr_eq(stream, image.stream_by_id(stream_id(1)).unwrap()));
    assert_eq!((&stream.state, stream.tasks(), stream.created_ms), (&StreamState::Running, 2, 7));
    for number in 1..5 {
        let refused = refused(&image, &delete_topic(number));
        assert!(matches!(refused, MetadataError::TopicInUse { stream, .. } if stream == stream_name("counts")));
    }
    image.apply(&delete_topic(5)).unwrap();
    image.apply(&MetadataCommand::DeleteStream { id: stream_id(1), generation: None }).unwrap();
    assert!(image.streams.is_empty() && image.stream_by_id(stream_id(1)).is_none());
    (1..5).for_each(|number| assert!(image.apply(&delete_topic(number)).is_ok()));
}

#[test]
fn streams_that_cannot_be_are_refused() {
    let image = with_stream();
    let with = |change: fn(&mut StreamDefinition)| {
        let mut changed = definition(false);
        change(&mut changed);
        create_stream(2, "other", changed)
    };
    let partitions = |topic: &str, partitions, expected| MetadataError::StreamPartitions {
        topic: name(topic),
        partitions,
        expected,
    };
    let long = "x".repeat(STREAM_NAME_BYTES_MAX + 1);
    for (command, expected) in [
        (create_stream(2, "counts", definition(false)), MetadataError::StreamExists(stream_name("counts"))),
        (create_stream(1, "other", definition(false)), MetadataError::StreamIdExists(stream_id(1))),
        (create_stream(2, &long, definition(false)), MetadataError::StreamName(stream_name(&long))),
        (with(|made| made.output = id(9)), MetadataError::UnknownTopic(id(9))),
        (with(|made| made.partitions = 3), partitions("orders", 2, 3)),
        (with(|made| made.shards = 1), partitions("changelog", 2, 3)),
        (with(|made| (made.shards, made.changelog) = (1, id(6))), MetadataError::NoPartials(stream_name("other"))),
        (with(|made| made.partials = Some(id(5))), partitions("partials", 1, 0)),
        (with(|made| made.document.clear()), MetadataError::StreamDocument { stream: stream_name("other"), bytes: 0 }),
    ] {
        assert_eq!(refused(&image, &command), expected);
    }
    let longest = "x".repeat(STREAM_NAME_BYTES_MAX);
    changelog_topic(&stream_name(&longest), u32::MAX).unwrap();
    partials_topic(&stream_name(&longest), u32::MAX).unwrap();
}

#[test]
fn a_state_follows_the_one_that_was_expected() {
    use StreamStateKind::{Finished, Paused, Running};
    let mut image = with_stream();
    let state = |image: &ClusterImage| image.streams[&stream_name("counts")].state.clone();
    let asked = StreamState::Paused { reason: PauseReason::Asked };
    let wrong = |current| MetadataError::StreamState { stream: stream_name("counts"), current };
    assert_eq!(refused(&image, &set_state(1, Paused, StreamState::Running)), wrong(Running));
    image.apply(&set_state(1, Running, asked.clone())).unwrap();
    assert_eq!(state(&image), asked);
    let (partition, expected, log_start) = (PartitionId(1), Offset::new(3), Offset::new(9));
    let gap = StreamState::Paused { reason: PauseReason::Gap { partition, expected, log_start } };
    image.apply(&set_state(1, Paused, gap)).unwrap();
    image.apply(&set_state(1, Paused, StreamState::Running)).unwrap();
    image.apply(&set_state(1, Running, StreamState::Finished)).unwrap();
    assert_eq!(refused(&image, &set_state(1, Finished, StreamState::Running)), wrong(Finished));
    let unknown = MetadataError::UnknownGeneration { id: stream_id(1), generation: 2 };
    assert_eq!(refused(&image, &set_state(2, Running, asked)), unknown);
    let problem = "x".repeat(TEXT_BYTES_MAX + 1);
    let failed = StreamState::Paused { reason: PauseReason::Failed { task: PartitionId(0), problem } };
    assert!(matches!(refused(&image, &set_state(1, Finished, failed)), MetadataError::Text { .. }));
}

#[test]
fn a_new_generation_runs_beside_the_old_one_and_takes_its_place() {
    let mut image = with_stream();
    let switch = |generation| MetadataCommand::SwitchStream { id: stream_id(1), generation };
    let unknown = |generation| MetadataError::UnknownGeneration { id: stream_id(1), generation };
    assert_eq!(refused(&image, &switch(1)), unknown(1));
    let stale = MetadataError::StaleGeneration { stream: stream_name("counts"), current: 1, generation: 1 };
    assert_eq!(refused(&image, &replace(1, definition(true))), stale);
    image.apply(&replace(2, definition(true))).unwrap();
    assert!(matches!(refused(&image, &delete_topic(6)), MetadataError::TopicInUse { .. }));
    let paused = StreamState::Paused { reason: PauseReason::Asked };
    image.apply(&set_state(2, StreamStateKind::Running, paused.clone())).unwrap();
    let states = |image: &ClusterImage| -> Vec<(u32, StreamStateKind)> {
        let stream = &image.streams[&stream_name("counts")];
        stream.generations().map(|one| (one.generation, one.state.kind())).collect()
    };
    assert_eq!(states(&image), [(1, StreamStateKind::Running), (2, StreamStateKind::Paused)]);
    // One is given up, the next one takes the place.
    let give_up = |generation| MetadataCommand::DeleteStream { id: stream_id(1), generation: Some(generation) };
    assert_eq!(refused(&image, &give_up(1)), unknown(1));
    image.apply(&give_up(2)).unwrap();
    assert_eq!(states(&image).len(), 1);
    image.apply(&replace(2, definition(true))).unwrap();
    image.apply(&replace(3, definition(true))).unwrap();
    assert_eq!(refused(&image, &switch(2)), unknown(2));
    image.apply(&switch(3)).unwrap();
    assert_eq!(states(&image), [(3, StreamStateKind::Running)]);
    let stream = image.stream_by_id(stream_id(1)).unwrap();
    assert_eq!((stream.name.as_str(), stream.tasks()), ("counts", 3));
    image.apply(&delete_topic(2)).unwrap();
}

#[test]
fn streams_are_stored_and_images_without_them_are_read() {
    let mut image = with_stream();
    image.apply(&replace(2, definition(true))).unwrap();
    let reason = PauseReason::Memory { task: PartitionId(1), bytes: 5, limit: 4 };
    image.apply(&set_state(1, StreamStateKind::Running, StreamState::Paused { reason })).unwrap();
    let stored = serde_json::to_string(&image).unwrap();
    assert!(stored.contains(r#""state":{"state":"paused","reason":{"reason":"memory","task":1,"bytes":5,"limit":4}}"#));
    assert_eq!(serde_json::from_str::<ClusterImage>(&stored).unwrap(), image);
    // An image without streams is stored as before there were any.
    let without = serde_json::to_string(&with_topics()).unwrap();
    assert!(!without.contains("streams"));
    assert_eq!(serde_json::from_str::<ClusterImage>(&without).unwrap(), with_topics());
    let command = set_state(1, StreamStateKind::Running, StreamState::Finished);
    let stored = r#"{"command":"set_stream_state","id":"01010101-0101-0101-0101-010101010101","generation":1,"from":"running","to":{"state":"finished"}}"#;
    assert_eq!(serde_json::to_string(&command).unwrap(), stored);
    for command in [command, create_stream(1, "counts", definition(true)), replace(4, definition(false))] {
        let stored = serde_json::to_string(&command).unwrap();
        assert_eq!(serde_json::from_str::<MetadataCommand>(&stored).unwrap(), command);
    }
}
