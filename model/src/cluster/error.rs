//! Why commands are refused.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    Incarnation, PARTITIONS_PER_TOPIC_MAX, STREAM_NAME_BYTES_MAX, STREAMS_MAX, StreamStateKind, TEXT_BYTES_MAX,
    TOPICS_MAX,
};
use crate::{BrokerId, LeaderEpoch, PartitionId, StreamId, StreamName, TopicId, TopicName, topic::InvalidTopicConfig};

/// Why a command was refused. The image is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// A text is empty or too long, or not of its form.
    #[error("{field} must have 1 to {TEXT_BYTES_MAX} bytes{form}")]
    Text {
        /// The field.
        field: Cow<'static, str>,
        /// What else is demanded.
        form: Cow<'static, str>,
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
    /// The command means a life of the broker that is over.
    #[error("broker {broker} has been restarted meanwhile, as incarnation {current}")]
    Restarted {
        /// The broker.
        broker: BrokerId,
        /// The life that is registered.
        current: Incarnation,
    },
    /// The broker keeps partitions.
    #[error("broker {broker} still keeps {partitions} partitions; move them to other brokers first")]
    KeepsPartitions {
        /// The broker.
        broker: BrokerId,
        /// How many.
        partitions: usize,
    },
    /// The name is in use.
    #[error("topic {0} exists already")]
    TopicExists(TopicName),
    /// The id is in use.
    #[error("a topic with id {0} exists already")]
    TopicIdExists(TopicId),
    /// The id belonged to a topic that was deleted.
    #[error("the topic with id {0} was deleted; ids are not used again")]
    TopicIdDeleted(TopicId),
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
    /// Somebody leads the partition in this epoch already.
    #[error("broker {leader} leads partition {partition} of {topic_id} in epoch {epoch}")]
    LedAlready {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// The epoch.
        epoch: LeaderEpoch,
        /// The leader.
        leader: BrokerId,
    },
    /// Nobody leads the partition in this epoch.
    #[error("nobody leads partition {partition} of {topic_id} in epoch {epoch}")]
    NotLed {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// The partition is kept by other brokers than expected.
    #[error("the replicas of partition {partition} of {topic_id} are {}, not as expected", numbers(current))]
    OtherReplicas {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// Its replicas.
        current: Vec<BrokerId>,
    },
    /// The new replicas are no set of different brokers.
    #[error("partition {partition} of {topic_id} cannot be kept by {}: a broker occurs twice", numbers(to))]
    RepeatedReplica {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// The new replicas.
        to: Vec<BrokerId>,
    },
    /// The partition is being moved already.
    #[error("partition {partition} of {topic_id} is being moved to {} already", numbers(to))]
    MovingAlready {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// Where it goes.
        to: Vec<BrokerId>,
    },
    /// There is no such move.
    #[error("partition {partition} of {topic_id} is not being moved to {}", numbers(to))]
    NotMoving {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// The move that was meant.
        to: Vec<BrokerId>,
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
    /// A stream needs the topic.
    #[error("stream {stream} needs topic {topic}; delete the stream first")]
    TopicInUse {
        /// The topic.
        topic: TopicName,
        /// The stream.
        stream: StreamName,
    },
    /// The name is in use.
    #[error("stream {0} exists already")]
    StreamExists(StreamName),
    /// The id is in use.
    #[error("a stream with id {0} exists already")]
    StreamIdExists(StreamId),
    /// Too many streams.
    #[error("a cluster has at most {STREAMS_MAX} streams; delete one first")]
    TooManyStreams,
    /// The name is too long for those of the stream's topics.
    #[error("the name of a stream has at most {STREAM_NAME_BYTES_MAX} characters, {0} has more")]
    StreamName(StreamName),
    /// The declaration is empty or too long.
    #[error("the declaration of stream {stream} has {bytes} bytes, which is none or too many")]
    StreamDocument {
        /// The stream.
        stream: StreamName,
        /// How many bytes.
        bytes: usize,
    },
    /// A topic has not as many partitions as the stream needs.
    #[error("topic {topic} has {partitions} partitions, the stream was made for {expected}; try again")]
    StreamPartitions {
        /// The topic.
        topic: TopicName,
        /// How many it has.
        partitions: usize,
        /// How many were expected.
        expected: u32,
    },
    /// There is a second stage and no topic for it.
    #[error("stream {0} has a second stage, and no topic for its partial results")]
    NoPartials(StreamName),
    /// No such stream.
    #[error("there is no stream with id {0}")]
    UnknownStream(StreamId),
    /// No such generation of the stream, or it is not the next one.
    #[error("the stream with id {id} has no such generation {generation}")]
    UnknownGeneration {
        /// The stream.
        id: StreamId,
        /// The generation.
        generation: u32,
    },
    /// The stream has been declared anew meanwhile.
    #[error("stream {stream} is at generation {current} already, {generation} is not after it")]
    StaleGeneration {
        /// The stream.
        stream: StreamName,
        /// Its latest generation.
        current: u32,
        /// The one that was to follow.
        generation: u32,
    },
    /// The stream is in another state than expected, or in one that it stays in.
    #[error("stream {stream} is {}", current.name())]
    StreamState {
        /// The stream.
        stream: StreamName,
        /// Its state.
        current: StreamStateKind,
    },
    /// None asked for, or not so many left.
    #[error("{0} producer ids cannot be reserved")]
    ProducerIds(u32),
}

/// Broker ids as they are written in a sentence.
fn numbers(brokers: &[BrokerId]) -> String {
    brokers.iter().map(BrokerId::to_string).collect::<Vec<_>>().join(", ")
}
