//! Topics: found, created, and those that must exist.

use std::{sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, PartitionId, TopicId, TopicName,
    cluster::{ClusterImage, MetadataCommand, MetadataError, PARTITIONS_PER_TOPIC_MAX, PartitionImage, TopicImage},
    placement::{self, PlacementError},
    topic::TopicConfig,
};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{RETRY_PAUSE, cluster_status::alive_brokers, operations::lives};
use crate::{
    errors::{CreateTopicError, LookupError},
    forward::Place,
    group_coordinator::{OFFSETS_PARTITIONS, offsets_topic, offsets_topic_config},
    handles::{NewTopic, PartitionHandle},
    metadata::{MetadataHandle, ProposeError},
    node::{NodeContext, Phase},
    partition::{PartitionSlot, PartitionStatus},
    rpc::Services,
};

/// How long a request for a new topic waits for its partitions to serve.
const CREATED_PATIENCE: Duration = Duration::from_secs(10);

/// Finds a partition of the cluster.
pub(crate) fn lookup(
    services: &Arc<Services>,
    topic: &TopicName,
    partition: PartitionId,
) -> Result<PartitionHandle, LookupError> {
    let node = &services.node;
    let image = services.metadata.image();
    let (found, partition_image) = find(node, &image, topic, partition)?;
    let alone = partition_image.replicas == [node.config.broker_id] && partition_image.moving_to.is_none();
    let place = Place { topic_id: found.id, partition };
    Ok(PartitionHandle::new(Arc::clone(services), found.name.clone(), place, alone))
}

/// A partition in the image.
pub(crate) fn find<'i>(
    node: &NodeContext,
    image: &'i ClusterImage,
    topic: &TopicName,
    partition: PartitionId,
) -> Result<(&'i TopicImage, &'i PartitionImage), LookupError> {
    let Some(found) = image.topic(topic) else {
        // It may exist, or come to exist, before the start is complete.
        return Err(match *node.phase.borrow() {
            Phase::Starting | Phase::Recovering => LookupError::NotReady { retry_after_ms: node.retry_after_ms() },
            _ => LookupError::UnknownTopic(topic.clone()),
        });
    };
    let Some(partition_image) = found.partition(partition) else {
        let partitions = u32::try_from(found.partitions.len()).unwrap_or(u32::MAX);
        return Err(LookupError::UnknownPartition { topic: topic.clone(), partition, partitions });
    };
    Ok((found, partition_image))
}

/// Creates a topic and waits until its partitions serve, or cannot.
pub(crate) async fn create_topic(services: &Services, topic: NewTopic) -> Result<Arc<TopicImage>, CreateTopicError> {
    let Services { node, metadata, .. } = services;
    let NewTopic { name, partitions, replication_factor, config } = topic;
    let partitions = partitions.unwrap_or(node.config.partitions_default);
    let config = config.unwrap_or_else(|| node.config.topic_defaults.clone());
    let alive = alive_brokers(services).await;
    let new = Planned { name: &name, partitions, replicas: replication_factor, config, alive };
    let image = propose_topic(node, metadata, new).await?;
    let deadline = Instant::now() + CREATED_PATIENCE;
    // The topic exists, whatever its partitions do; who asks them next hears it from them.
    timeout_at(deadline, led(metadata, image.id)).await.unwrap_or_default();
    for (partition, alone) in kept_here(node, &image) {
        timeout_at(deadline, opened(node, metadata, &image, partition, alone)).await.unwrap_or_default();
    }
    // The image after the leaders were set.
    Ok(metadata.image().topic_by_id(image.id).map_or(image, Arc::clone))
}

/// Resolves when every partition of a topic has a leader, or the topic is gone.
async fn led(metadata: &MetadataHandle, topic: TopicId) {
    let all_led = |image: &Arc<ClusterImage>| {
        image.topic_by_id(topic).is_none_or(|topic| topic.partitions.iter().all(|partition| partition.leader.is_some()))
    };
    // The image's sender lives in `metadata`, so the wait cannot fail.
    metadata.images().wait_for(all_led).await.map(drop).unwrap_or_default();
}

/// A topic that is about to be created.
struct Planned<'a> {
    name: &'a TopicName,
    partitions: u32,
    /// `None`: as many as is usual, or as there are brokers.
    replicas: Option<u32>,
    config: TopicConfig,
    /// The brokers that live, if that is known.
    alive: Option<Vec<BrokerId>>,
}

async fn propose_topic(
    node: &NodeContext,
    metadata: &MetadataHandle,
    planned: Planned<'_>,
) -> Result<Arc<TopicImage>, CreateTopicError> {
    let Planned { name, partitions, replicas, config, alive } = planned;
    let image = metadata.image();
    let usual = to_usize(node.config.replication_factor).min(image.brokers.len());
    let (partitions, replicas) = (to_usize(partitions), replicas.map_or(usual, to_usize));
    if partitions > PARTITIONS_PER_TOPIC_MAX {
        return Err(CreateTopicError::Refused(MetadataError::PartitionCount(partitions)));
    }
    let retry_after_ms = node.retry_after_ms();
    let assignment = placement::place(&image, lives(alive.as_deref()), partitions, replicas);
    let assignment = assignment.map_err(|error| match error {
        PlacementError::TooFewBrokers { replicas, brokers } => {
            CreateTopicError::Refused(MetadataError::ReplicationFactor { replicas, brokers })
        }
        PlacementError::NoQuorum { .. } => CreateTopicError::NoPlace { reason: error.to_string(), retry_after_ms },
    })?;
    let id = TopicId::from_bytes(*Uuid::new_v4().as_bytes());
    let command = MetadataCommand::CreateTopic {
        id,
        name: name.clone(),
        config,
        partitions: assignment,
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

/// Sees that the topics exist which must, waits for every log here to be opened, and declares the broker ready.
pub(super) async fn complete_start(node: Arc<NodeContext>, metadata: MetadataHandle) {
    ensure_topic(&node, &metadata, &offsets_topic(), OFFSETS_PARTITIONS, offsets_topic_config()).await;
    if let Some(topic) = &node.config.default_topic {
        ensure_topic(&node, &metadata, &topic.name, topic.partitions, node.config.topic_defaults.clone()).await;
    }
    for topic in metadata.image().topics.values() {
        for (partition, alone) in kept_here(&node, topic) {
            tokio::select! {
                () = node.draining() => return,
                () = opened(&node, &metadata, topic, partition, alone) => {}
            }
        }
    }
    let is_open = |slot: &Arc<PartitionSlot>| {
        !matches!(slot.view().status, PartitionStatus::Recovering | PartitionStatus::Offline(_))
    };
    if node.table.slots().iter().all(is_open) {
        node.states.settle();
    }
    node.metrics.storage().set_recovery_duration(node.started_at.elapsed());
    if node.enter(Phase::Ready) {
        tracing::info!(took_ms = node.started_at.elapsed().as_millis(), "the broker is ready");
    }
}

/// The partitions of a topic that this broker keeps, and whether it alone does.
fn kept_here(node: &NodeContext, topic: &TopicImage) -> impl Iterator<Item = (PartitionId, bool)> {
    let this = node.config.broker_id;
    let kept = topic.numbered_partitions().filter(move |(_, placed)| placed.is_kept_by(this));
    kept.map(|(partition, placed)| (partition, placed.members().count() == 1))
}

/// Resolves when the log of a partition here is open, or the partition is not kept here any more. Offline is open, too:
/// what there is to know is known, and the others need not wait for it.
async fn opened(
    node: &NodeContext,
    metadata: &MetadataHandle,
    topic: &TopicImage,
    partition: PartitionId,
    alone: bool,
) {
    let is_not_kept = |image: &Arc<ClusterImage>| {
        let placed = image.topic_by_id(topic.id).and_then(|topic| topic.partition(partition));
        placed.is_none_or(|placed| !placed.is_kept_by(node.config.broker_id))
    };
    let mut images = metadata.images();
    tokio::select! {
        () = async { node.table.placed(&topic.name, partition).await.settled(alone).await } => {}
        // The image's sender lives as long as the metadata's handle.
        _ = images.wait_for(is_not_kept) => {}
    }
}

/// Waits until a topic exists. The controller creates it, once enough brokers have registered to keep it.
async fn ensure_topic(
    node: &NodeContext,
    metadata: &MetadataHandle,
    name: &TopicName,
    partitions: u32,
    config: TopicConfig,
) {
    let replicas = to_usize(node.config.replication_factor).min(node.config.founders().len());
    let mut images = metadata.images();
    while !node.is_draining() {
        let image = Arc::clone(&images.borrow_and_update());
        if image.topic(name).is_some() {
            break;
        }
        let obstacle = if !metadata.is_controller() {
            format!("topic {name}: the controller has not created it yet")
        } else if image.brokers.len() < replicas {
            let known = image.brokers.len();
            format!("topic {name}: it needs {replicas} brokers, {known} of them are known by now")
        } else {
            let replicas = u32::try_from(replicas).ok();
            let new = Planned { name, partitions, replicas, config: config.clone(), alive: None };
            match propose_topic(node, metadata, new).await {
                Ok(_) | Err(CreateTopicError::Exists(_)) => break,
                Err(error) => {
                    tracing::warn!(topic = %name, %error, "a topic that must exist could not be created; it is tried again");
                    format!("topic {name}: {error}")
                }
            }
        };
        node.obstacle.send_replace(Some(obstacle));
        tokio::select! {
            () = node.draining() => return,
            () = sleep(RETRY_PAUSE) => {}
            Ok(()) = images.changed() => {}
        }
    }
    node.obstacle.send_replace(None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, topic, within};

    #[actix_rt::test]
    async fn a_start_does_not_wait_for_what_is_deleted_meanwhile() {
        let fixture = Fixture::new();
        let broker = fixture.start().await;
        let new = NewTopic { name: topic("short-lived"), partitions: None, replication_factor: None, config: None };
        let image = within(broker.create_topic(new)).await.unwrap();
        within(broker.delete_topic(&topic("short-lived"))).await.unwrap();
        let (node, metadata) = (&broker.services().node, &broker.services().metadata);
        crate::fixture::until(|| node.table.of_topic(&image.name).is_empty()).await;
        // As a start does that read the image just before.
        for (partition, alone) in kept_here(node, &image) {
            within(opened(node, metadata, &image, partition, alone)).await;
        }
        broker.abort().await;
    }
}
