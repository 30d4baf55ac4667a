//! How the cluster stands: asked of its controller, and of the replicas themselves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use pubg1_model::{
    BrokerId, Offset, PartitionId, TopicName, TopicPartition,
    cluster::{ClusterImage, TopicImage},
};
use pubg1_transport::Payload;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use crate::{
    controller::ClusterStatus,
    errors::{FetchError, LookupError, MetadataUnavailable, OfflineReason},
    forward::{self, Place},
    partition::{LeaderView, ReplicaBatches, ReplicaStatus},
    rpc::{Services, kind},
};

/// How long one answer of the controller may take.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// The pause before the controller is asked again, or looked for.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long a replica may take to tell how it is.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);
/// For so long the reasons of the controller are told to everyone who asks.
const REASONS_ARE_FRESH: Duration = Duration::from_millis(500);

/// What the controller said last about partitions that nobody leads, and when.
#[derive(Default)]
pub(crate) struct KnownReasons(tokio::sync::Mutex<Option<(Instant, Reasons)>>);

type Reasons = BTreeMap<(TopicName, PartitionId), Arc<OfflineReason>>;

/// Asks the controller, whichever broker that is, until one answers or `patience` is over. To ask twice must do no
/// harm.
pub(super) async fn ask_controller<Q: Serialize + Sync, A: DeserializeOwned>(
    services: &Services,
    kind: u16,
    question: &Q,
    patience: Duration,
) -> Result<A, MetadataUnavailable> {
    let Services { node, metadata, .. } = services;
    let until = Instant::now() + patience;
    loop {
        let controller = metadata.controller().borrow().map(|leads| leads.broker);
        if let Some(controller) = controller {
            let asked = node.rpc.call::<_, Option<A>>(controller, kind, question, Payload::empty(), ANSWER_TIMEOUT);
            match asked.await {
                Ok((Some(answer), _)) => return Ok(answer),
                // It is the controller no more, or does not know it yet.
                Ok((None, _)) => {}
                Err(error) => tracing::debug!(%controller, kind, %error, "the controller was asked in vain"),
            }
        }
        if Instant::now() >= until {
            return Err(MetadataUnavailable::NoLeader { retry_after_ms: node.retry_after_ms() });
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// How the cluster stands, as its controller sees it.
pub(crate) async fn cluster_status(
    services: &Services,
    patience: Duration,
) -> Result<ClusterStatus, MetadataUnavailable> {
    ask_controller(services, kind::CLUSTER_STATUS, &(), patience).await
}

/// The brokers that live; `None` when that is not known.
pub(super) async fn alive_brokers(services: &Services) -> Option<Vec<BrokerId>> {
    if services.metadata.image().brokers.len() == 1 {
        return None;
    }
    cluster_status(services, Duration::ZERO).await.ok().map(|status| status.alive)
}

/// Why nobody leads a partition, if the controller knows.
pub(crate) async fn why_no_leader(
    services: &Services,
    topic: &TopicName,
    partition: PartitionId,
) -> Option<Arc<OfflineReason>> {
    // One asks, the others wait for what it hears.
    let mut known = services.node.reasons.0.lock().await;
    let fresh = known.as_ref().is_some_and(|(heard_at, _)| heard_at.elapsed() < REASONS_ARE_FRESH);
    if !fresh {
        let offline = cluster_status(services, Duration::ZERO).await.map(|status| status.offline).unwrap_or_default();
        let reasons = offline.into_iter().map(|offline| {
            let reason = Arc::new(OfflineReason::NoLeader { reason: offline.reason });
            ((offline.topic, offline.partition), reason)
        });
        *known = Some((Instant::now(), reasons.collect()));
    }
    let (_, reasons) = known.as_ref()?;
    reasons.get(&(topic.clone(), partition)).cloned()
}

/// What is said of a partition's replicas: its place in the image, and what each of them says itself. `None`: it does
/// not answer, or keeps none.
pub(crate) async fn replica_statuses(
    services: &Services,
    topic: &TopicName,
    partition: PartitionId,
) -> Result<Vec<(BrokerId, Result<ReplicaStatus, String>)>, LookupError> {
    let (place, members) = members(services, topic, partition)?;
    let asked = members.into_iter().map(|broker| async move {
        let status = match own_slot(services, broker, topic, partition) {
            Some(slot) => Ok(Some(slot.replica_status())),
            None => forward::ask_replica_status(services, broker, place, REPLICA_TIMEOUT).await,
        };
        let status = match status {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("the broker does not keep it yet".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        (broker, status)
    });
    Ok(join_all(asked).await)
}

/// Reads batches of one replica's own log, wherever it is.
pub(crate) async fn replica_batches(
    services: &Services,
    (topic, partition): (&TopicName, PartitionId),
    broker: BrokerId,
    from: Option<Offset>,
    max_bytes: usize,
) -> Result<ReplicaBatches, FetchError> {
    let retry_after_ms = services.node.retry_after_ms();
    let (place, _) = members(services, topic, partition).map_err(|_| FetchError::Deleted)?;
    match own_slot(services, broker, topic, partition) {
        Some(slot) => slot.read_replica(from, max_bytes),
        None if broker == services.node.config.broker_id => Err(FetchError::NotReady { retry_after_ms }),
        None => forward::ask_replica_batches(&services.node, broker, place, from, max_bytes).await,
    }
}

fn own_slot(
    services: &Services,
    broker: BrokerId,
    topic: &TopicName,
    partition: PartitionId,
) -> Option<Arc<crate::partition::PartitionSlot>> {
    let this = services.node.config.broker_id;
    if broker == this { services.node.table.get(topic, partition) } else { None }
}

/// The partition's place, and the brokers that keep it or are about to.
pub(super) fn members(
    services: &Services,
    topic: &TopicName,
    partition: PartitionId,
) -> Result<(Place, Vec<BrokerId>), LookupError> {
    let image = services.metadata.image();
    let found = image.topic(topic).ok_or_else(|| LookupError::UnknownTopic(topic.clone()))?;
    let placed = found.partition(partition).ok_or_else(|| LookupError::UnknownPartition {
        topic: topic.clone(),
        partition,
        partitions: u32::try_from(found.partitions.len()).unwrap_or(u32::MAX),
    })?;
    Ok((Place { topic_id: found.id, partition }, placed.members().collect()))
}

/// The replicas that are in sync, of each partition of a topic, as the leaders see it; none where that is not known.
pub(crate) async fn in_sync(services: &Services, topic: &TopicImage) -> Vec<Vec<BrokerId>> {
    let mut led: BTreeMap<BrokerId, Vec<Place>> = BTreeMap::new();
    for (partition, placed) in topic.numbered_partitions() {
        if let Some(leader) = placed.leader {
            led.entry(leader).or_default().push(Place { topic_id: topic.id, partition });
        }
    }
    let asked = led.into_iter().map(|(leader, places)| async move {
        let asked = places.iter().map(|place| place.partition).collect::<Vec<_>>();
        let told = forward::ask_in_sync(services, leader, places, REPLICA_TIMEOUT).await.unwrap_or_default();
        asked.into_iter().zip(told)
    });
    let told: BTreeMap<PartitionId, Vec<BrokerId>> = join_all(asked).await.into_iter().flatten().collect();
    topic.numbered_partitions().map(|(partition, _)| told.get(&partition).cloned().unwrap_or_default()).collect()
}

/// The views of all partitions of the cluster that a leader tells in time. One question for each broker, except this
/// one, whose views are read where they are.
pub(crate) async fn leader_views(services: &Services, image: &ClusterImage) -> Vec<(TopicPartition, LeaderView)> {
    let mut led: BTreeMap<BrokerId, (Vec<TopicPartition>, Vec<Place>)> = BTreeMap::new();
    for topic in image.topics.values() {
        for (partition, placed) in topic.numbered_partitions() {
            let Some(leader) = placed.leader else { continue };
            let (names, places) = led.entry(leader).or_default();
            names.push(TopicPartition { topic: topic.name.clone(), partition });
            places.push(Place { topic_id: topic.id, partition });
        }
    }
    let asked = led.into_iter().map(|(leader, (names, places))| async move {
        let views = if leader == services.node.config.broker_id {
            forward::views_here(services, &places)
        } else {
            forward::ask_views(services, leader, &places, REPLICA_TIMEOUT).await.unwrap_or_default()
        };
        names.into_iter().zip(views).filter_map(|(name, view)| Some((name, view?)))
    });
    join_all(asked).await.into_iter().flatten().collect()
}
