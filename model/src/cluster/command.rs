//! The commands of the metadata log, in the JSON form in which they are stored, and their answers.

use serde::{Deserialize, Serialize};

use super::{Incarnation, StreamDefinition, StreamState, StreamStateKind};
use crate::{
    BrokerId, LeaderEpoch, PartitionId, ProducerId, StreamId, StreamName, TopicId, TopicName, replication::StorageId,
    topic::TopicConfig,
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
        /// Where the other brokers reach it: `host:port`; may be empty when it is alone.
        rpc_address: String,
        /// The life that registers.
        incarnation: Incarnation,
        /// Its disk.
        storage: StorageId,
        /// The rack it stands in, if that matters.
        rack: Option<String>,
        /// The life that it replaces: the one in the image, `None` when there is none.
        replaces: Option<Incarnation>,
    },
    /// Forgets a broker that keeps no partition.
    UnregisterBroker {
        /// Its number.
        broker: BrokerId,
    },
    /// Takes a broker out of service, or back: one that drains leads nothing and gets nothing new.
    /// Its next life does not drain.
    SetDraining {
        /// Its number.
        broker: BrokerId,
        /// The life that is meant.
        incarnation: Incarnation,
        /// Whether it drains.
        draining: bool,
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
    /// Begins the next epoch of some partitions, of all or of none. Nobody leads in it yet.
    BeginEpochs {
        /// The partitions, each at most once, and the epochs that end.
        partitions: Vec<EpochExpectation>,
    },
    /// Says who leads some partitions, all or none, in epochs in which nobody has led yet.
    SetLeaders {
        /// The partitions, each at most once, and their leaders.
        leaders: Vec<LeaderChoice>,
    },
    /// Begins to move some partitions to other replicas, all or none. Until the end of its move a
    /// partition is kept by both sets.
    BeginMoves {
        /// The partitions, each at most once, and where they go.
        moves: Vec<ReplicaMove>,
    },
    /// Ends a move whose new replicas can stand alone, as the leader of the epoch has found. A
    /// leader that is not among them leads no more.
    EndMove {
        /// The topic.
        topic_id: TopicId,
        /// The partition's number in it.
        partition: PartitionId,
        /// The epoch of the leader.
        epoch: LeaderEpoch,
        /// The new replicas of the move that ends.
        to: Vec<BrokerId>,
        /// The version of the image that it began with: it may have been taken back meanwhile, and the same begun
        /// again. 0, as in commands that were stored before there was this field: whenever it began.
        #[serde(default)]
        since: u64,
    },
    /// Takes a move back. A leader that is not among the former replicas leads no more.
    CancelMove {
        /// The topic.
        topic_id: TopicId,
        /// The partition's number in it.
        partition: PartitionId,
        /// The new replicas of the move that is cancelled.
        to: Vec<BrokerId>,
    },
    /// Registers a stream, which runs from then on. Its topics must be there.
    CreateStream {
        /// Its identity, new.
        id: StreamId,
        /// Its name, not in use.
        name: StreamName,
        /// The number of this declaration.
        generation: u32,
        /// Its declaration and its topics.
        definition: StreamDefinition,
        /// When, in milliseconds since 1970.
        created_ms: i64,
    },
    /// Pauses a stream, lets it go on, or says that it has finished; one that has finished stays so.
    SetStreamState {
        /// The stream.
        id: StreamId,
        /// Which of its generations.
        generation: u32,
        /// The state that it is expected to be in.
        from: StreamStateKind,
        /// The state that it will be in.
        to: StreamState,
    },
    /// Forgets a stream. Its topics stay, and can be deleted then.
    DeleteStream {
        /// The stream.
        id: StreamId,
        /// The generation that was to replace it: only that is forgotten then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u32>,
    },
    /// Registers another declaration of a stream, which runs beside the present one until it takes its place. One that
    /// was registered before, and has not taken the place yet, is forgotten.
    ReplaceStream {
        /// The stream.
        id: StreamId,
        /// The number of the new declaration, greater than those before.
        generation: u32,
        /// The new declaration and its topics.
        definition: StreamDefinition,
        /// When, in milliseconds since 1970.
        created_ms: i64,
    },
    /// Puts the next generation of a stream in the place of the present one, which is forgotten.
    SwitchStream {
        /// The stream.
        id: StreamId,
        /// The generation that takes the place.
        generation: u32,
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

/// Who leads a partition in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaderChoice {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number in it.
    pub partition: PartitionId,
    /// The epoch it was chosen for: the current one.
    pub epoch: LeaderEpoch,
    /// A replica.
    pub leader: BrokerId,
    /// The life of it that was chosen: the one that is registered.
    pub incarnation: Incarnation,
}

/// A partition that gets other replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaMove {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number in it.
    pub partition: PartitionId,
    /// Its replicas now.
    pub expected: Vec<BrokerId>,
    /// Its replicas afterwards, the preferred leader first.
    pub to: Vec<BrokerId>,
}

/// The answer to a command that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
