//! The topics of a stream.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use pubg1_model::{
    BrokerId, Offset, TopicId, TopicName,
    cluster::{ClusterImage, MetadataCommand, MetadataError, StreamImage, TopicImage},
    placement,
    topic::{CleanupPolicy, TopicConfig},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    broker,
    errors::{CreateTopicError, StreamError},
    handles::NewTopic,
    metadata::ProposeError,
    rpc::Services,
};

/// How long a new stream waits for its changelog to be led. It begins when that is.
const LED_PATIENCE: Duration = Duration::from_secs(5);

/// The most that topics take.
const MESSAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Room for what is told of a late record, beside itself.
const LATE_HEADERS_BYTES: u64 = 1024;

/// The settings of changelogs and of partial results: everything is kept until a task says that it may go.
pub(super) fn internal_config() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy::Delete,
        retention_ms: None,
        retention_bytes: None,
        segment_bytes: 256 * 1024 * 1024,
        max_message_bytes: MESSAGE_BYTES_MAX,
        ..TopicConfig::default()
    }
}

/// Whether a topic was made for the state of a stream.
pub(super) fn is_stream_topic(name: &TopicName) -> bool {
    name.as_str().starts_with("__stream-")
}

/// The topics of a generation that nobody needs but itself.
pub(super) fn internal_topics(stream: &StreamImage) -> Vec<TopicId> {
    std::iter::once(stream.changelog).chain(stream.partials).collect()
}

/// Deletes topics. What does not succeed is done later, by whoever looks for what is left over.
pub(super) async fn delete_topics(services: &Services, topics: Vec<TopicId>) {
    for id in topics {
        if let Err(error) = services.metadata.propose_own(MetadataCommand::DeleteTopic { id }).await {
            tracing::debug!(?id, %error, "a topic of a stream that is gone stays for now");
        }
    }
}

/// The settings of a new topic of late records: it takes whatever record the input holds, with headers.
pub(super) fn late_config(services: &Services, input: &TopicImage) -> TopicConfig {
    let usual = services.node.config.topic_defaults.clone();
    let with_headers = input.config.max_message_bytes.saturating_add(LATE_HEADERS_BYTES).min(MESSAGE_BYTES_MAX);
    let max_message_bytes = usual.max_message_bytes.max(with_headers);
    TopicConfig { max_message_bytes, segment_bytes: usual.segment_bytes.max(max_message_bytes), ..usual }
}

/// Creates a topic of results, with as many partitions and replicas as the input.
pub(super) async fn result_topic(
    services: &Services,
    name: &TopicName,
    input: &TopicImage,
    config: Option<TopicConfig>,
) -> Result<Arc<TopicImage>, CreateTopicError> {
    let replicas = input.partitions.first().map_or(1, |partition| partition.replicas.len());
    let new = NewTopic {
        name: name.clone(),
        partitions: u32::try_from(input.partitions.len()).ok(),
        replication_factor: u32::try_from(replicas).ok(),
        config,
    };
    broker::create_topic(services, new).await
}

/// Whether nothing was written to a topic since it was created.
pub(super) async fn is_empty(services: &Arc<Services>, topic: &TopicImage) -> Result<bool, StreamError> {
    let ends = topic.numbered_partitions().map(|(number, _)| async move {
        let partition = broker::lookup(services, &topic.name, number).ok()?;
        Some(partition.leader_view().await.ok()?.log_end_offset)
    });
    let ends: Option<Vec<Offset>> = join_all(ends).await.into_iter().collect();
    let retry_after_ms = services.node.retry_after_ms();
    let ends = ends.ok_or_else(|| StreamError::OutputUnavailable { topic: topic.name.clone(), retry_after_ms })?;
    Ok(ends.iter().all(|end| *end == Offset::ZERO))
}

pub(super) fn not_created(topic: &TopicName, error: CreateTopicError) -> StreamError {
    match error {
        CreateTopicError::Unavailable(error) => StreamError::Unavailable(error),
        error => StreamError::Topic { topic: topic.clone(), error: Arc::new(error) },
    }
}

/// Where the tasks' state is kept: that of a partition where the partition is, that of the shards anywhere.
pub(super) fn changelog_places(
    services: &Services,
    image: &ClusterImage,
    input: &TopicImage,
    shards: u32,
) -> Result<Vec<Vec<BrokerId>>, CreateTopicError> {
    let retry_after_ms = services.node.retry_after_ms();
    let replicas = input.partitions.first().map_or(1, |partition| partition.replicas.len());
    let place = |count: usize| {
        placement::place(image, |_| true, count, replicas)
            .map_err(|error| CreateTopicError::NoPlace { reason: error.to_string(), retry_after_ms })
    };
    let shards = usize::try_from(shards).unwrap_or(0);
    let mut places: Vec<Vec<BrokerId>> = input.partitions.iter().map(|partition| partition.replicas.clone()).collect();
    if places.iter().any(|place| place.len() != replicas) {
        // Partitions of different numbers of replicas: those of one topic have equally many.
        return place(places.len() + shards);
    }
    if shards > 0 {
        places.extend(place(shards)?);
    }
    Ok(places)
}

/// Creates an internal topic with its partitions at these places.
pub(super) async fn create_internal(
    services: &Services,
    name: &TopicName,
    partitions: Vec<Vec<BrokerId>>,
) -> Result<TopicId, CreateTopicError> {
    let id = TopicId::from_bytes(*Uuid::new_v4().as_bytes());
    let command = MetadataCommand::CreateTopic {
        id,
        name: name.clone(),
        config: internal_config(),
        partitions,
        created_ms: services.node.config.clock.now_ms(),
    };
    match services.metadata.propose(command).await {
        Ok(_) => Ok(id),
        Err(ProposeError::Refused(MetadataError::TopicExists(name))) => Err(CreateTopicError::Exists(name)),
        Err(ProposeError::Refused(error)) => Err(CreateTopicError::Refused(error)),
        Err(ProposeError::Unavailable(error)) => Err(error.into()),
    }
}

/// Waits until all partitions of a topic are led, for a while.
pub(super) async fn led(services: &Services, topic: TopicId) {
    let all_led = |image: &Arc<ClusterImage>| {
        image.topic_by_id(topic).is_none_or(|topic| topic.partitions.iter().all(|partition| partition.leader.is_some()))
    };
    let mut images = services.metadata.images();
    timeout(LED_PATIENCE, images.wait_for(all_led)).await.map(drop).unwrap_or_default();
}
