//! The commands of the metadata log, in the JSON form in which they are stored, and their answers.

use serde::{Deserialize, Serialize};

use super::{Incarnation, PARTITIONS_PER_TOPIC_MAX, TEXT_BYTES_MAX, TOPICS_MAX};
use crate::{
    BrokerId, LeaderEpoch, PartitionId, ProducerId, TopicId, TopicName,
    topic::{InvalidTopicConfig, TopicConfig},
};

/// A change of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum MetadataCommand {
    /// Gives the cluster its identity; the first command of all.
    FormatCluster {
        /// The identity, not empty.
        cluster_id: String,
    },
    /// Adds a broker, or replaces the former life of one.
    RegisterBroker {
        /// Its number.
        broker: BrokerId,
        /// Where clients reach it: `http://host:port`.
        http_url: String,
        /// The life that registers.
        incarnation: Incarnation,
        /// The life that it replaces: the one in the image, `None` when there is none.
        replaces: Option<Incarnation>,
    },
    /// Creates a topic whose partitions nobody leads yet.
    CreateTopic {
        /// Its identity, new.
        id: TopicId,
        /// Its name, not in use.
        name: TopicName,
        /// Its settings.
        config: TopicConfig,
        /// The replicas of each partition, the preferred leader first; all equally many.
        partitions: Vec<Vec<BrokerId>>,
        /// When, in milliseconds since 1970.
        created_ms: i64,
    },
    /// Deletes a topic.
    DeleteTopic {
        /// The topic.
        id: TopicId,
    },
    /// Replaces the settings of a topic.
    AlterTopic {
        /// The topic.
        id: TopicId,
        /// All its settings.
        config: TopicConfig,
    },
    /// Begins the next epoch of some partitions, of all or of none.
    BeginEpochs {
        /// The partitions, each at most once, and the epochs that end.
        partitions: Vec<EpochExpectation>,
        /// Who leads in the new epochs: a replica of each, or nobody.
        leader: Option<BrokerId>,
    },
    /// Takes producer ids out of the pool for good.
    ReserveProducerIds {
        /// How many, at least 1.
        count: u32,
    },
}

/// A partition and the epoch that a command expects it to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochExpectation {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number in it.
    pub partition: PartitionId,
    /// The epoch.
    pub expected: LeaderEpoch,
}

/// The answer to a command that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataReply {
    /// It is done.
    Done,
    /// These producer ids belong to whoever sent the command.
    ProducerIds {
        /// The first of them.
        first: ProducerId,
        /// How many.
        count: u32,
    },
}

/// Why a command was refused. The image is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The cluster has no identity yet.
    #[error("the cluster is not formatted")]
    NotFormatted,
    /// The cluster has an identity already.
    #[error("the cluster is formatted already, as {cluster_id}")]
    AlreadyFormatted {
        /// Its identity.
        cluster_id: String,
    },
    /// A text is empty or too long, or no URL.
    #[error("{field} must have 1 to {TEXT_BYTES_MAX} bytes{form}")]
    Text {
        /// The field.
        field: &'static str,
        /// What else is demanded.
        form: &'static str,
    },
    /// No such broker.
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    /// Another life of the broker has registered.
    #[error("broker {broker} is registered by another process, incarnation {current}; broker ids must be unique")]
    StaleIncarnation {
        /// The broker.
        broker: BrokerId,
        /// The life that is registered.
        current: Incarnation,
    },
    /// The name is in use.
    #[error("topic {0} exists already")]
    TopicExists(TopicName),
    /// The id is in use.
    #[error("a topic with id {0} exists already")]
    TopicIdExists(TopicId),
    /// No such topic.
    #[error("there is no topic with id {0}")]
    UnknownTopic(TopicId),
    /// No such partition.
    #[error("the topic with id {topic_id} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
    },
    /// Too many topics.
    #[error("a cluster has at most {TOPICS_MAX} topics; delete one first")]
    TooManyTopics,
    /// Too few or too many partitions.
    #[error("a topic has 1 to {PARTITIONS_PER_TOPIC_MAX} partitions, not {0}")]
    PartitionCount(usize),
    /// Too few or too many replicas.
    #[error("the replication factor must be 1 to {brokers}, the number of brokers, not {replicas}")]
    ReplicationFactor {
        /// Replicas that were asked for.
        replicas: usize,
        /// Brokers that are registered.
        brokers: usize,
    },
    /// Partitions differ in their number of replicas, or a broker occurs twice.
    #[error("the replicas of partition {partition} are not as many different brokers as those of partition 0")]
    Replicas {
        /// The partition.
        partition: PartitionId,
    },
    /// A setting that cannot be honoured.
    #[error(transparent)]
    Config(#[from] InvalidTopicConfig),
    /// The partition is in another epoch than expected.
    #[error("partition {partition} of {topic_id} is in leader epoch {current}, not {expected}")]
    StaleEpoch {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// The epoch that it is in.
        current: LeaderEpoch,
        /// The epoch that was expected.
        expected: LeaderEpoch,
    },
    /// The new leader does not keep the partition.
    #[error("broker {leader} is no replica of partition {partition} of {topic_id}")]
    NotAReplica {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// The broker.
        leader: BrokerId,
    },
    /// A partition occurs twice in one command.
    #[error("partition {partition} of {topic_id} occurs twice")]
    RepeatedPartition {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
    },
    /// There are no epochs left, after 2³¹ of them.
    #[error("partition {partition} of {topic_id} has used up its leader epochs")]
    EpochsExhausted {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
    },
    /// None asked for, or not so many left.
    #[error("{0} producer ids cannot be reserved")]
    ProducerIds(u32),
}
