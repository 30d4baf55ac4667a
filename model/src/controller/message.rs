//! What the controller hears from the brokers, and what it wants done.

use serde::{Deserialize, Serialize};

use crate::{
    BrokerId, LeaderEpoch, PartitionId, TopicId,
    cluster::{Incarnation, MetadataCommand},
};

/// A broker says that it lives, and how the partitions are that it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who.
    pub broker: BrokerId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The version of the image that it has applied; its own registration is part of it.
    pub version: u64,
    /// All partitions that it leads by that image but cannot lead: each wants a new epoch.
    pub resigned: Vec<(TopicId, PartitionId, LeaderEpoch)>,
    /// The partitions that it leads whose state has changed since the last heartbeat that was
    /// answered.
    pub led: Vec<LedPartition>,
    /// Whether `led` has all that it leads.
    pub full: bool,
}

/// A partition as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number in it.
    pub partition: PartitionId,
    /// The epoch of the leader.
    pub epoch: LeaderEpoch,
    /// The replicas that are caught up, the leader among them.
    pub in_sync: Vec<BrokerId>,
    /// The version of the image that the move began with which the leader knows of, once its new replicas can stand
    /// alone: another move may have taken its place meanwhile, even one to the same replicas.
    pub move_complete: Option<u64>,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// Whether this life of the broker is registered.
    pub known: bool,
    /// Whether the next heartbeat has to be a full one.
    pub send_full: bool,
    /// Whether this life of the broker was registered and is no more: another has taken its place, or the broker has
    /// left the cluster. It must end.
    pub is_over: bool,
}

/// A partition whose replica is to promise an epoch and to tell how its log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRequest {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number in it.
    pub partition: PartitionId,
    /// The epoch.
    pub epoch: LeaderEpoch,
}

/// A leader is to hold appends until another replica has everything, so that nothing is in doubt
/// when its epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRequest {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number in it.
    pub partition: PartitionId,
    /// The epoch of the leader.
    pub epoch: LeaderEpoch,
    /// Who shall lead next.
    pub to: BrokerId,
}

/// Something that the controller wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A command for the metadata log; its end is told by
    /// [`Controller::on_proposed`](super::Controller::on_proposed).
    Propose(MetadataCommand),
    /// Fences for a broker, answered by
    /// [`Controller::on_fence_answers`](super::Controller::on_fence_answers).
    Fence {
        /// To whom.
        broker: BrokerId,
        /// The life that is meant.
        incarnation: Incarnation,
        /// The version of the image that the epochs are from: a broker that is behind waits for it.
        version: u64,
        /// The partitions.
        partitions: Vec<FenceRequest>,
    },
    /// A leader prepares to be replaced, and says when it is ready:
    /// [`Controller::on_transfer_ready`](super::Controller::on_transfer_ready).
    Transfer {
        /// The leader of all of them.
        leader: BrokerId,
        /// The life that is meant.
        incarnation: Incarnation,
        /// The partitions.
        partitions: Vec<TransferRequest>,
    },
}

/// Why a leadership is not moved as an operator asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaderRequestError {
    /// There is no such partition.
    #[error("there is no such partition")]
    UnknownPartition,
    /// The broker does not keep it.
    #[error("broker {0} keeps no replica of the partition")]
    NotAReplica(BrokerId),
    /// The broker is not heard of.
    #[error("broker {0} is not alive")]
    NotAlive(BrokerId),
    /// The broker is being taken out of service.
    #[error("broker {0} is draining and takes no leadership")]
    Draining(BrokerId),
    /// Nobody leads the partition at present.
    #[error("the partition has no leader at present")]
    NoLeader,
    /// The replica is not caught up.
    #[error("the replica of broker {0} is not in sync")]
    NotInSync(BrokerId),
}
