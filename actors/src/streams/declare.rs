//! What changes a stream: on any broker, in the metadata log.

use std::sync::Arc;

use pubg1_model::{
    StreamId, StreamName, TopicName,
    cluster::{
        ClusterImage, MetadataCommand, MetadataError, PauseReason, STREAM_NAME_BYTES_MAX, StreamDefinition,
        StreamImage, StreamState, StreamStateKind, TopicImage, changelog_topic, partials_topic,
    },
    record_batch::TimestampType,
    streams::{document::StreamDocument, task::merge_shards},
};
use uuid::Uuid;

use super::{
    describe::describe,
    topics::{
        changelog_places, create_internal, delete_topics, internal_topics, late_config, led, not_created, result_topic,
    },
};
use crate::{
    errors::{CreateTopicError, StreamError},
    handles::StreamDescription,
    metadata::ProposeError,
    node::Phase,
    rpc::Services,
};

/// Generations whose topics are there already and passed over, at most.
const GENERATION_TRIES: u32 = 16;

impl From<ProposeError> for StreamError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused(MetadataError::StreamExists(name)) => Self::StreamExists(name),
            ProposeError::Refused(error @ MetadataError::StreamState { .. }) => Self::State(error.to_string()),
            ProposeError::Refused(error) => Self::Refused(error),
            ProposeError::Unavailable(error) => Self::Unavailable(error),
        }
    }
}

/// The image, once the broker knows its streams.
pub(super) fn known_image(services: &Services) -> Result<Arc<ClusterImage>, StreamError> {
    let image = services.metadata.image();
    if !image.is_formatted() || *services.node.phase.borrow() == Phase::Starting {
        return Err(StreamError::NotReady { retry_after_ms: services.node.retry_after_ms() });
    }
    Ok(image)
}

/// The stream with this name.
pub(super) fn find(
    services: &Services,
    name: &StreamName,
) -> Result<(Arc<ClusterImage>, Arc<StreamImage>), StreamError> {
    let image = known_image(services)?;
    let stream = image.stream(name).map(Arc::clone).ok_or_else(|| StreamError::UnknownStream(name.clone()))?;
    Ok((image, stream))
}

/// What the document asks for that no stream can have.
fn check(image: &ClusterImage, document: &StreamDocument) -> Result<Arc<TopicImage>, StreamError> {
    if let Some(topic) = [&document.input, &document.output, &document.late_output].iter().find(|it| it.is_internal()) {
        return Err(StreamError::Internal((*topic).clone()));
    }
    let bytes = document.name.as_str().len();
    if bytes > STREAM_NAME_BYTES_MAX {
        return Err(StreamError::NameTooLong { name: document.name.clone(), bytes, bytes_max: STREAM_NAME_BYTES_MAX });
    }
    let input = image.topic(&document.input).ok_or_else(|| StreamError::UnknownInput(document.input.clone()))?;
    if document.plan.reads_append_time() && input.config.timestamp_type != TimestampType::LogAppendTime {
        return Err(StreamError::NoAppendTime(document.input.clone()));
    }
    Ok(Arc::clone(input))
}

/// Creates the topics of a generation, from the first free number on.
async fn define(
    services: &Services,
    document: &StreamDocument,
    input: &TopicImage,
    (output, late): (&TopicName, &TopicName),
    first: u32,
) -> Result<(u32, StreamDefinition), StreamError> {
    let partitions = u32::try_from(input.partitions.len()).unwrap_or(u32::MAX);
    let shards = merge_shards(&document.plan, partitions);
    let output = result_topic(services, output, input, None).await?.id;
    let late = result_topic(services, late, input, Some(late_config(services, input))).await?.id;
    let mut generation = first;
    let (name, changelog, places) = loop {
        let name =
            changelog_topic(&document.name, generation).map_err(|error| StreamError::State(error.to_string()))?;
        let image = services.metadata.image();
        let places = changelog_places(services, &image, input, shards).map_err(|error| not_created(&name, error))?;
        match create_internal(services, &name, places.clone()).await {
            Ok(id) => break (name, id, places),
            // Left over of a stream of this name, and not deleted yet.
            Err(CreateTopicError::Exists(_)) if generation < first.saturating_add(GENERATION_TRIES) => generation += 1,
            Err(error) => return Err(not_created(&name, error)),
        }
    };
    let mut partials = None;
    if shards > 0 {
        let merges = places.into_iter().skip(input.partitions.len()).collect();
        let topic =
            partials_topic(&document.name, generation).map_err(|error| StreamError::State(error.to_string()))?;
        match create_internal(services, &topic, merges).await {
            Ok(id) => partials = Some(id),
            Err(error) => {
                delete_topics(services, vec![changelog]).await;
                return Err(not_created(&topic, error));
            }
        }
    }
    tracing::debug!(stream = %document.name, changelog = %name, "the topics of a stream are there");
    let document = document.canonical();
    let input_topic = input.id;
    Ok((generation, StreamDefinition { document, input_topic, changelog, partials, output, late, partitions, shards }))
}

/// Proposes what registers a generation; its topics are deleted again when it is refused.
async fn register(
    services: &Services,
    command: MetadataCommand,
    definition: &StreamDefinition,
) -> Result<(), StreamError> {
    match services.metadata.propose(command).await {
        Ok(_) => {
            led(services, definition.changelog).await;
            Ok(())
        }
        Err(error) => {
            if matches!(error, ProposeError::Refused(_)) {
                delete_topics(services, std::iter::once(definition.changelog).chain(definition.partials).collect())
                    .await;
            }
            Err(error.into())
        }
    }
}

/// Declares a stream.
pub(crate) async fn create(services: &Services, document: StreamDocument) -> Result<StreamDescription, StreamError> {
    let image = known_image(services)?;
    if image.stream(&document.name).is_some() {
        return Err(StreamError::StreamExists(document.name));
    }
    let input = check(&image, &document)?;
    let topics = (&document.output, &document.late_output);
    let (generation, definition) = define(services, &document, &input, topics, 1).await?;
    let command = MetadataCommand::CreateStream {
        id: StreamId::from_bytes(*Uuid::new_v4().as_bytes()),
        name: document.name.clone(),
        generation,
        definition: definition.clone(),
        created_ms: services.node.config.clock.now_ms(),
    };
    register(services, command, &definition).await?;
    describe(services, &document.name).await
}

/// Declares a stream anew: the next generation is computed beside the present one, into topics of its own.
pub(crate) async fn replace(
    services: &Services,
    name: &StreamName,
    document: StreamDocument,
) -> Result<StreamDescription, StreamError> {
    if document.name != *name {
        return Err(StreamError::OtherName { asked: name.clone(), declared: document.name });
    }
    let (image, stream) = find(services, name)?;
    let canonical = document.canonical();
    let last = stream.next.as_deref().unwrap_or(&stream);
    if *last.document == *canonical {
        return describe(services, name).await;
    }
    let input = check(&image, &document)?;
    let generation = last.generation.saturating_add(1);
    // The number that the topics of results carry is that of the generation, unless topics of it were left over.
    let of_generation = |topic: &TopicName| -> Result<TopicName, StreamError> {
        format!("{topic}.g{generation}").parse().map_err(|_| {
            StreamError::State(format!(
                "the name of topic {topic} is too long for a topic {topic}.g{generation} beside it"
            ))
        })
    };
    let (output, late) = (of_generation(&document.output)?, of_generation(&document.late_output)?);
    let (generation, definition) = define(services, &document, &input, (&output, &late), generation).await?;
    let command = MetadataCommand::ReplaceStream {
        id: stream.id,
        generation,
        definition: definition.clone(),
        created_ms: services.node.config.clock.now_ms(),
    };
    register(services, command, &definition).await?;
    if let Some(abandoned) = &stream.next {
        delete_topics(services, internal_topics(abandoned)).await;
    }
    describe(services, name).await
}

/// Sets the state of those generations of a stream that are in another one.
async fn set_state(
    services: &Services,
    stream: &StreamImage,
    from: StreamStateKind,
    to: &StreamState,
) -> Result<(), StreamError> {
    for known in stream.generations().filter(|known| known.state.kind() == from) {
        let command =
            MetadataCommand::SetStreamState { id: stream.id, generation: known.generation, from, to: to.clone() };
        services.metadata.propose(command).await?;
    }
    Ok(())
}

/// Has a stream stand still.
pub(crate) async fn pause(services: &Services, name: &StreamName) -> Result<StreamDescription, StreamError> {
    let (_, stream) = find(services, name)?;
    refuse_finished(&stream)?;
    let to = StreamState::Paused { reason: PauseReason::Asked };
    set_state(services, &stream, StreamStateKind::Running, &to).await?;
    describe(services, name).await
}

/// Has a stream go on.
pub(crate) async fn resume(services: &Services, name: &StreamName) -> Result<StreamDescription, StreamError> {
    let (_, stream) = find(services, name)?;
    refuse_finished(&stream)?;
    set_state(services, &stream, StreamStateKind::Paused, &StreamState::Running).await?;
    describe(services, name).await
}

fn refuse_finished(stream: &StreamImage) -> Result<(), StreamError> {
    if stream.generations().all(|known| known.state == StreamState::Finished) {
        return Err(StreamError::State(format!("stream {} has finished", stream.name)));
    }
    Ok(())
}

/// Deletes a stream and what it knows.
pub(crate) async fn delete(services: &Services, name: &StreamName) -> Result<(), StreamError> {
    let (_, stream) = find(services, name)?;
    let command = MetadataCommand::DeleteStream { id: stream.id, generation: None };
    match services.metadata.propose(command).await {
        Ok(_) => {}
        Err(ProposeError::Refused(MetadataError::UnknownStream(_))) => {
            return Err(StreamError::UnknownStream(name.clone()));
        }
        Err(error) => return Err(error.into()),
    }
    delete_topics(services, stream.generations().flat_map(internal_topics).collect()).await;
    Ok(())
}
