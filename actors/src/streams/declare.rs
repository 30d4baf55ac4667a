//! What changes a stream: on any broker, in the metadata log.

use std::sync::Arc;

use pubg1_model::{
    StreamId, StreamName, TopicId, TopicName,
    cluster::{
        ClusterImage, MetadataCommand, MetadataError, PauseReason, STREAM_NAME_BYTES_MAX, StreamDefinition,
        StreamImage, StreamState, StreamStateKind, TopicImage, changelog_topic, partials_topic,
    },
    record_batch::TimestampType,
    streams::{document::StreamDocument, task::merge_shards},
    topic::TopicConfig,
};
use uuid::Uuid;

use super::{
    describe::describe,
    topics::{
        changelog_places, create_internal, delete_topics, internal_topics, is_empty, late_config, led, not_created,
        result_topic,
    },
};
use crate::{
    errors::{CreateTopicError, StreamError},
    handles::{CreateStreamOptions, StreamDescription},
    metadata::ProposeError,
    node::Phase,
    rpc::Services,
};

/// How often another declaration may be faster.
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

/// What the topics of results are called.
#[derive(Clone, Copy)]
enum Naming {
    /// As the document says; they may be there already.
    AsDeclared,
    /// With the number of the generation, which nobody has written to.
    OfGeneration,
}

impl Naming {
    /// The topics of rows and of late records.
    fn topics(self, document: &StreamDocument, generation: u32) -> Result<(TopicName, TopicName), StreamError> {
        let named = |topic: &TopicName| match self {
            Self::AsDeclared => Ok(topic.clone()),
            Self::OfGeneration => format!("{topic}.g{generation}").parse().map_err(|_| {
                StreamError::State(format!(
                    "the name of topic {topic} is too long for a topic {topic}.g{generation} beside it"
                ))
            }),
        };
        Ok((named(&document.output)?, named(&document.late_output)?))
    }

    /// The topics that must not be there before a generation is.
    fn new_topics(self, document: &StreamDocument, generation: u32) -> Result<Vec<TopicName>, StreamError> {
        let (changelog, partials) = internal_names(document, generation)?;
        let mut topics = vec![changelog, partials];
        if matches!(self, Self::OfGeneration) {
            let (output, late) = self.topics(document, generation)?;
            topics.extend([output, late]);
        }
        Ok(topics)
    }

    /// The first generation from this one on of which no topic is there. What is left over of a stream that had the
    /// name, or of a declaration that came to nothing, is not taken for this one's.
    fn free_generation(self, image: &ClusterImage, document: &StreamDocument, first: u32) -> Result<u32, StreamError> {
        let mut generation = first;
        while self.new_topics(document, generation)?.iter().any(|topic| image.topic(topic).is_some()) {
            generation = generation.saturating_add(1);
        }
        Ok(generation)
    }
}

/// The changelog of a generation, and its topic of partial results.
fn internal_names(document: &StreamDocument, generation: u32) -> Result<(TopicName, TopicName), StreamError> {
    let changelog = changelog_topic(&document.name, generation);
    let names = changelog.and_then(|changelog| Ok((changelog, partials_topic(&document.name, generation)?)));
    names.map_err(|error| StreamError::State(error.to_string()))
}

/// Topics that a declaration has created. They are deleted again when nothing comes of it.
#[derive(Default)]
struct Created {
    internal: Vec<TopicId>,
    results: Vec<Arc<TopicImage>>,
}

impl Created {
    async fn undo(&mut self, services: &Arc<Services>) {
        let mut topics = std::mem::take(&mut self.internal);
        for topic in std::mem::take(&mut self.results) {
            // Somebody may have found it, and written to it.
            if is_empty(services, &topic).await.unwrap_or(false) {
                topics.push(topic.id);
            }
        }
        delete_topics(services, topics).await;
    }

    /// The topic of results: the one that is there, if it may be, or a new one.
    async fn result(
        &mut self,
        services: &Services,
        (naming, name): (Naming, &TopicName),
        input: &TopicImage,
        config: Option<TopicConfig>,
    ) -> Result<TopicId, StreamError> {
        let known = || services.metadata.image().topic(name).map(|topic| topic.id);
        let existing = known().filter(|_| matches!(naming, Naming::AsDeclared));
        if let Some(id) = existing {
            return Ok(id);
        }
        match (result_topic(services, name, input, config).await, naming) {
            (Ok(topic), _) => {
                let id = topic.id;
                self.results.push(topic);
                Ok(id)
            }
            (Err(CreateTopicError::Exists(_)), Naming::AsDeclared) => {
                known().ok_or_else(|| not_created(name, CreateTopicError::Exists(name.clone())))
            }
            (Err(error), _) => Err(not_created(name, error)),
        }
    }

    /// Creates the topics of a generation.
    async fn generation(
        &mut self,
        services: &Services,
        document: &StreamDocument,
        input: &TopicImage,
        (naming, generation): (Naming, u32),
    ) -> Result<StreamDefinition, StreamError> {
        let partitions = u32::try_from(input.partitions.len()).unwrap_or(u32::MAX);
        let shards = merge_shards(&document.plan, partitions);
        let (name, partials_name) = internal_names(document, generation)?;
        let image = services.metadata.image();
        let places = changelog_places(services, &image, input, shards).map_err(|error| not_created(&name, error))?;
        // The first one: the number is this declaration's with it.
        let changelog = create_internal(services, &name, places.clone()).await;
        let changelog = changelog.map_err(|error| not_created(&name, error))?;
        self.internal.push(changelog);
        let (output, late) = naming.topics(document, generation)?;
        let output = self.result(services, (naming, &output), input, None).await?;
        let late = self.result(services, (naming, &late), input, Some(late_config(services, input))).await?;
        let mut partials = None;
        if shards > 0 {
            let merges = places.into_iter().skip(input.partitions.len()).collect();
            let created = create_internal(services, &partials_name, merges).await;
            let created = created.map_err(|error| not_created(&partials_name, error))?;
            self.internal.push(created);
            partials = Some(created);
        }
        tracing::debug!(stream = %document.name, changelog = %name, "the topics of a stream are there");
        let document = document.canonical();
        let input_topic = input.id;
        Ok(StreamDefinition { document, input_topic, changelog, partials, output, late, partitions, shards })
    }
}

/// Creates the topics of a generation, from the first free number on.
async fn define(
    services: &Arc<Services>,
    document: &StreamDocument,
    input: &TopicImage,
    (naming, first): (Naming, u32),
) -> Result<(u32, StreamDefinition, Created), StreamError> {
    let mut generation = first;
    let mut tries = 0;
    loop {
        generation = naming.free_generation(&services.metadata.image(), document, generation)?;
        let mut created = Created::default();
        match created.generation(services, document, input, (naming, generation)).await {
            Ok(definition) => return Ok((generation, definition, created)),
            Err(error) => {
                created.undo(services).await;
                // Another declaration was faster.
                let is_taken = matches!(
                    &error,
                    StreamError::Topic { error, .. } if matches!(**error, CreateTopicError::Exists(_))
                );
                if !is_taken || tries == GENERATION_TRIES {
                    return Err(error);
                }
                tries += 1;
                generation = generation.saturating_add(1);
            }
        }
    }
}

/// Proposes what registers a generation; the topics that were created for it are deleted again when it is refused.
async fn register(
    services: &Arc<Services>,
    command: MetadataCommand,
    changelog: TopicId,
    mut created: Created,
) -> Result<(), StreamError> {
    match services.metadata.propose(command).await {
        Ok(_) => {
            led(services, changelog).await;
            Ok(())
        }
        Err(error) => {
            if matches!(error, ProposeError::Refused(_)) {
                created.undo(services).await;
            }
            Err(error.into())
        }
    }
}

/// Refuses topics of results that somebody has written to: rows of another life are in them.
async fn refuse_used(services: &Arc<Services>, document: &StreamDocument) -> Result<(), StreamError> {
    let image = services.metadata.image();
    for topic in [&document.output, &document.late_output].into_iter().filter_map(|name| image.topic(name)) {
        if !is_empty(services, topic).await? {
            return Err(StreamError::OutputNotEmpty(topic.name.clone()));
        }
    }
    Ok(())
}

/// Declares a stream.
pub(crate) async fn create(
    services: &Arc<Services>,
    document: StreamDocument,
    options: CreateStreamOptions,
) -> Result<StreamDescription, StreamError> {
    let image = known_image(services)?;
    if image.stream(&document.name).is_some() {
        return Err(StreamError::StreamExists(document.name));
    }
    let input = check(&image, &document)?;
    if !options.append {
        refuse_used(services, &document).await?;
    }
    let (generation, definition, created) = define(services, &document, &input, (Naming::AsDeclared, 1)).await?;
    let changelog = definition.changelog;
    let command = MetadataCommand::CreateStream {
        id: StreamId::from_bytes(*Uuid::new_v4().as_bytes()),
        name: document.name.clone(),
        generation,
        definition,
        created_ms: services.node.config.clock.now_ms(),
    };
    register(services, command, changelog, created).await?;
    describe(services, &document.name).await
}

/// Declares a stream anew: the next generation is computed beside the present one, into topics of its own.
pub(crate) async fn replace(
    services: &Arc<Services>,
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
    let next = (Naming::OfGeneration, last.generation.saturating_add(1));
    let (generation, definition, created) = define(services, &document, &input, next).await?;
    let changelog = definition.changelog;
    let command = MetadataCommand::ReplaceStream {
        id: stream.id,
        generation,
        definition,
        created_ms: services.node.config.clock.now_ms(),
    };
    register(services, command, changelog, created).await?;
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
