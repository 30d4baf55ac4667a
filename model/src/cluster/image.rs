//! The image: brokers, topics, partitions and who leads them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BrokerId, LeaderEpoch, PartitionId, TopicId, TopicName, topic::TopicConfig};

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
    /// Which life of it this is.
    pub incarnation: Incarnation,
}

/// A partition: where it is kept and who leads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionImage {
    /// The brokers that keep it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The one that leads it in the current epoch, if any.
    pub leader: Option<BrokerId>,
    /// The current epoch; [`LeaderEpoch::ZERO`] until the first leader.
    pub leader_epoch: LeaderEpoch,
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
    /// The first producer id that is not handed out.
    pub next_producer_id: i64,
    /// Follows `topics`.
    pub(super) names: BTreeMap<TopicId, TopicName>,
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
}

impl From<ClusterImage> for StoredImage {
    fn from(image: ClusterImage) -> Self {
        Self {
            cluster_id: image.cluster_id,
            version: image.version,
            brokers: image.brokers,
            topics: image.topics.into_values().map(Arc::unwrap_or_clone).collect(),
            next_producer_id: image.next_producer_id,
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
        }
    }
}
