//! The image: brokers, topics, partitions and who leads them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{StreamImage, Tombstones};
use crate::{
    BrokerId, LeaderEpoch, PartitionId, StreamName, TopicId, TopicName,
    replication::{ReplicaSet, StorageId},
    topic::TopicConfig,
};

/// One life of a broker process: random, new at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(Uuid);

impl Incarnation {
    /// The incarnation made of these 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// A short form, as telling as 64 random bits are.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0.as_u64_pair().0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    /// Where clients reach it: `http://host:port`.
    pub http_url: String,
    /// Where the other brokers reach it: `host:port`; may be empty when it is alone.
    pub rpc_address: String,
    /// Which life of it this is.
    pub incarnation: Incarnation,
    /// Its disk.
    pub storage: StorageId,
    /// The version of the image that first showed this life: a later life has a greater one.
    pub registration: u64,
    /// The rack it stands in, if that matters.
    pub rack: Option<String>,
    /// Whether it is being taken out of service: it leads nothing and gets no new replicas.
    pub draining: bool,
}

/// A partition: where it is kept and who leads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionImage {
    /// The brokers that keep it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The brokers that will keep it once its move has ended, if one is under way.
    pub moving_to: Option<Vec<BrokerId>>,
    /// The version of the image that this move began with; 0 while none is under way.
    #[serde(default)]
    pub moving_since: u64,
    /// The one that leads it in the current epoch, if any.
    pub leader: Option<BrokerId>,
    /// The life of the leader that was chosen. No other life of it may lead in this epoch.
    pub leader_incarnation: Option<Incarnation>,
    /// The current epoch; [`LeaderEpoch::ZERO`] until the first election.
    pub leader_epoch: LeaderEpoch,
    /// Whether a leader was ever set: if not, nothing was ever acknowledged.
    pub led: bool,
    /// Who led last, while nobody leads: it may not have heard yet that it does not.
    pub deposed: Option<(BrokerId, Incarnation)>,
}

impl PartitionImage {
    /// A new partition.
    #[must_use]
    pub const fn new(replicas: Vec<BrokerId>) -> Self {
        Self {
            replicas,
            moving_to: None,
            moving_since: 0,
            leader: None,
            leader_incarnation: None,
            leader_epoch: LeaderEpoch::ZERO,
            led: false,
            deposed: None,
        }
    }

    /// The brokers whose quorums decide.
    #[must_use]
    pub fn replica_set(&self) -> ReplicaSet {
        match &self.moving_to {
            None => ReplicaSet::Stable(self.replicas.clone()),
            Some(new) => ReplicaSet::Joint { old: self.replicas.clone(), new: new.clone() },
        }
    }

    /// Every broker that keeps it or is about to, each once.
    pub fn members(&self) -> impl Iterator<Item = BrokerId> {
        let new = self.moving_to.as_deref().unwrap_or_default();
        self.replicas.iter().chain(new.iter().filter(|broker| !self.replicas.contains(broker))).copied()
    }

    /// Whether this broker keeps it or is about to.
    #[must_use]
    pub fn is_kept_by(&self, broker: BrokerId) -> bool {
        self.members().any(|member| member == broker)
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicImage {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its settings.
    pub config: TopicConfig,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
    /// Its partitions; the position is the number.
    pub partitions: Vec<PartitionImage>,
}

impl TopicImage {
    /// The partition with this number.
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(partition.0).ok()?)
    }

    /// The partitions with their numbers.
    pub fn numbered_partitions(&self) -> impl Iterator<Item = (PartitionId, &PartitionImage)> {
        (0..).map(PartitionId).zip(&self.partitions)
    }
}

/// Everything that the cluster agrees on. A clone shares the topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredImage", into = "StoredImage")]
pub struct ClusterImage {
    /// The cluster's identity; empty until it is formatted.
    pub cluster_id: String,
    /// How many commands have changed the image.
    pub version: u64,
    /// The brokers.
    pub brokers: BTreeMap<BrokerId, BrokerRegistration>,
    /// The topics.
    pub topics: BTreeMap<TopicName, Arc<TopicImage>>,
    /// The streams.
    pub streams: BTreeMap<StreamName, Arc<StreamImage>>,
    /// The first producer id that is not handed out.
    pub next_producer_id: i64,
    /// Follows `topics`.
    pub(super) names: BTreeMap<TopicId, TopicName>,
    /// Shared by clones: it changes rarely.
    pub(super) deleted: Arc<Tombstones>,
}

impl ClusterImage {
    /// Whether the cluster has its identity.
    #[must_use]
    pub fn is_formatted(&self) -> bool {
        !self.cluster_id.is_empty()
    }

    /// The topic with this name.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// A partition of the topic with this name.
    #[must_use]
    pub fn partition(&self, topic: &TopicName, partition: PartitionId) -> Option<&PartitionImage> {
        self.topic(topic)?.partition(partition)
    }

    /// A partition of the topic with this id.
    #[must_use]
    pub fn partition_by_id(&self, topic_id: TopicId, partition: PartitionId) -> Option<&PartitionImage> {
        self.topic_by_id(topic_id)?.partition(partition)
    }

    /// Whether the topic with this id is among those that were deleted last.
    #[must_use]
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(id)
    }

    /// How many partitions all topics have together.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.topics.values().map(|topic| topic.partitions.len()).sum()
    }
}

/// The form of an image in a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredImage {
    cluster_id: String,
    version: u64,
    brokers: BTreeMap<BrokerId, BrokerRegistration>,
    topics: Vec<TopicImage>,
    next_producer_id: i64,
    deleted: Vec<TopicId>,
    /// Absent in snapshots that were stored before there were streams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    streams: Vec<StreamImage>,
}

impl From<ClusterImage> for StoredImage {
    fn from(image: ClusterImage) -> Self {
        Self {
            cluster_id: image.cluster_id,
            version: image.version,
            brokers: image.brokers,
            topics: image.topics.into_values().map(Arc::unwrap_or_clone).collect(),
            next_producer_id: image.next_producer_id,
            deleted: image.deleted.iter().collect(),
            streams: image.streams.into_values().map(Arc::unwrap_or_clone).collect(),
        }
    }
}

impl From<StoredImage> for ClusterImage {
    fn from(stored: StoredImage) -> Self {
        Self {
            cluster_id: stored.cluster_id,
            version: stored.version,
            brokers: stored.brokers,
            names: stored.topics.iter().map(|topic| (topic.id, topic.name.clone())).collect(),
            topics: stored.topics.into_iter().map(|topic| (topic.name.clone(), Arc::new(topic))).collect(),
            next_producer_id: stored.next_producer_id,
            deleted: Arc::new(stored.deleted.into_iter().collect()),
            streams: stored.streams.into_iter().map(|stream| (stream.name.clone(), Arc::new(stream))).collect(),
        }
    }
}
