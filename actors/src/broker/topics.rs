//! Topics: found, created, and those that must exist.

use std::{sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, PartitionId, TopicId, TopicName,
    cluster::{MetadataCommand, MetadataError, PARTITIONS_PER_TOPIC_MAX, TopicImage},
    topic::TopicConfig,
};
use uuid::Uuid;

use super::RETRY_PAUSE;
use crate::{
    errors::{CreateTopicError, LookupError},
    group_coordinator::{OFFSETS_PARTITIONS, offsets_topic, offsets_topic_config},
    handles::{NewTopic, PartitionHandle},
    metadata::{MetadataHandle, ProposeError},
    node::{NodeContext, Phase},
};

/// How long a request for a new topic waits for its partitions to serve.
const CREATED_PATIENCE: Duration = Duration::from_secs(10);

/// Finds a partition of this broker.
pub(crate) fn lookup(
    node: &NodeContext,
    metadata: &MetadataHandle,
    topic: &TopicName,
    partition: PartitionId,
) -> Result<PartitionHandle, LookupError> {
    match node.table.partition(topic, partition) {
        Some(Ok(slot)) => Ok(PartitionHandle::new(slot)),
        Some(Err(partitions)) => Err(LookupError::UnknownPartition { topic: topic.clone(), partition, partitions }),
        // It may exist, or come to exist, before the start is complete; and it may have been created just now.
        None if *node.phase.borrow() != Phase::Ready || metadata.image().topic(topic).is_some() => {
            Err(LookupError::NotReady { retry_after_ms: node.retry_after_ms() })
        }
        None => Err(LookupError::UnknownTopic(topic.clone())),
    }
}

/// Creates a topic and waits until its partitions serve, or cannot.
pub(crate) async fn create_topic(
    node: &NodeContext,
    metadata: &MetadataHandle,
    topic: NewTopic,
) -> Result<Arc<TopicImage>, CreateTopicError> {
    let partitions = topic.partitions.unwrap_or(node.config.partitions_default);
    let replicas = topic.replication_factor.unwrap_or(1);
    let config = topic.config.unwrap_or_else(|| node.config.topic_defaults.clone());
    let image = propose_topic(node, metadata, &topic.name, partitions, replicas, config).await?;
    let deadline = tokio::time::Instant::now() + CREATED_PATIENCE;
    for (partition, _) in image.numbered_partitions() {
        // The topic exists, whatever its partitions do; who asks them next hears it from them.
        let serves = async {
            if let Ok(slot) = node.table.placed(&image.name, partition).await {
                PartitionHandle::new(slot).settled(CREATED_PATIENCE).await.unwrap_or_default();
            }
        };
        tokio::time::timeout_at(deadline, serves).await.unwrap_or_default();
    }
    // The image after the epochs were begun.
    Ok(metadata.image().topic_by_id(image.id).map_or(image, Arc::clone))
}

async fn propose_topic(
    node: &NodeContext,
    metadata: &MetadataHandle,
    name: &TopicName,
    partitions: u32,
    replicas: u32,
    config: TopicConfig,
) -> Result<Arc<TopicImage>, CreateTopicError> {
    let brokers: Vec<BrokerId> = metadata.image().brokers.keys().copied().collect();
    let (partitions, replicas) = (to_usize(partitions), to_usize(replicas));
    if partitions > PARTITIONS_PER_TOPIC_MAX {
        return Err(CreateTopicError::Refused(MetadataError::PartitionCount(partitions)));
    }
    if replicas > brokers.len() {
        let error = MetadataError::ReplicationFactor { replicas, brokers: brokers.len() };
        return Err(CreateTopicError::Refused(error));
    }
    let assign = |partition| brokers.iter().cycle().skip(partition).take(replicas).copied().collect();
    let id = TopicId::from_bytes(*Uuid::new_v4().as_bytes());
    let command = MetadataCommand::CreateTopic {
        id,
        name: name.clone(),
        config,
        partitions: (0..partitions).map(assign).collect(),
        created_ms: node.config.clock.now_ms(),
    };
    match metadata.propose(command).await {
        Ok(_) => match metadata.image().topic_by_id(id) {
            Some(topic) => Ok(Arc::clone(topic)),
            // Deleted again by somebody else within this moment.
            None => Err(CreateTopicError::Refused(MetadataError::UnknownTopic(id))),
        },
        Err(ProposeError::Refused(MetadataError::TopicExists(name))) => Err(CreateTopicError::Exists(name)),
        Err(ProposeError::Refused(error)) => Err(CreateTopicError::Refused(error)),
        Err(ProposeError::Unavailable(error)) => Err(error.into()),
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Creates the topics that must exist, waits for every log to be opened, and declares the broker ready.
pub(super) async fn complete_start(node: Arc<NodeContext>, metadata: MetadataHandle) {
    ensure_topic(&node, &metadata, &offsets_topic(), OFFSETS_PARTITIONS, offsets_topic_config()).await;
    if let Some(topic) = &node.config.default_topic {
        ensure_topic(&node, &metadata, &topic.name, topic.partitions, node.config.topic_defaults.clone()).await;
    }
    for topic in metadata.image().topics.values() {
        for (partition, _) in topic.numbered_partitions() {
            let opened = async {
                if let Ok(slot) = node.table.placed(&topic.name, partition).await {
                    // Offline is opened, too: what there is to know is known, the others need not wait for it.
                    PartitionHandle::new(slot).settled(Duration::MAX).await.unwrap_or_default();
                }
            };
            tokio::select! {
                () = node.draining() => return,
                () = opened => {}
            }
        }
    }
    node.metrics.storage().set_recovery_duration(node.started_at.elapsed());
    if node.enter(Phase::Ready) {
        tracing::info!(took_ms = node.started_at.elapsed().as_millis(), "the broker is ready");
    }
}

async fn ensure_topic(
    node: &NodeContext,
    metadata: &MetadataHandle,
    name: &TopicName,
    partitions: u32,
    config: TopicConfig,
) {
    while !node.is_draining() && metadata.image().topic(name).is_none() {
        match propose_topic(node, metadata, name, partitions, 1, config.clone()).await {
            Ok(_) | Err(CreateTopicError::Exists(_)) => {
                node.obstacle.send_replace(None);
                return;
            }
            Err(error) => {
                tracing::warn!(topic = %name, %error, "a topic that must exist could not be created; it is tried again");
                node.obstacle.send_replace(Some(format!("topic {name}: {error}")));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}
