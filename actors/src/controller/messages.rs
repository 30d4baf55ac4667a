//! What the controller is told and asked.

use std::sync::Arc;

use actix::Message;
use pubg1_model::{
    BrokerId, PartitionId, TopicId, TopicName,
    cluster::{ClusterImage, Incarnation},
    controller::{FenceRequest, Heartbeat, HeartbeatAnswer, LeaderRequestError, TransferRequest},
    replication::message::FenceAnswer,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The metadata log says something new.
pub(super) struct ImagePublished(pub(super) Arc<ClusterImage>);

/// This broker leads the metadata group from now on, in this term, or does not.
pub(super) struct LeadershipChanged {
    pub(super) term: Option<u64>,
}

/// A broker lives. `None`: this broker is not the controller.
pub(super) struct HeartbeatReceived {
    pub(super) heartbeat: Heartbeat,
    pub(super) reply: oneshot::Sender<Option<HeartbeatAnswer>>,
}

/// The port of a broker refuses connections: that life of it is over.
pub(super) struct BrokerGone {
    pub(super) broker: BrokerId,
    pub(super) incarnation: Incarnation,
}

/// Replicas have promised an epoch.
pub(super) struct FenceAnswered {
    pub(super) term: u64,
    pub(super) broker: BrokerId,
    pub(super) answers: Vec<(TopicId, PartitionId, FenceAnswer)>,
}

/// Leaders hold their appends, and the brokers that shall lead next have everything.
pub(super) struct TransferAnswered {
    pub(super) term: u64,
    pub(super) ready: Vec<TransferRequest>,
}

/// The proposal that was outstanding has ended.
pub(super) struct Proposed {
    pub(super) term: u64,
    pub(super) applied: bool,
}

/// Time has passed.
pub(super) struct Wake;

/// How does the cluster stand? `None`: this broker is not the controller.
pub(super) struct StatusAsked {
    pub(super) reply: oneshot::Sender<Option<ClusterStatus>>,
}

/// An operator names the leader of a partition. `None`: this broker is not the controller.
pub(super) struct LeaderNamed {
    pub(super) request: MoveLeader,
    pub(super) reply: oneshot::Sender<Option<Result<(), LeaderRequestError>>>,
}

macro_rules! messages {
    ($($message:ty),+) => {$(impl Message for $message { type Result = (); })+};
}

messages!(
    ImagePublished,
    LeadershipChanged,
    HeartbeatReceived,
    BrokerGone,
    FenceAnswered,
    TransferAnswered,
    Proposed,
    Wake,
    StatusAsked,
    LeaderNamed
);

/// A partition that nobody leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OfflinePartition {
    pub(crate) topic: TopicName,
    pub(crate) partition: PartitionId,
    /// Why, and what it waits for.
    pub(crate) reason: String,
}

/// How the cluster stands, as its controller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterStatus {
    pub(crate) controller: BrokerId,
    /// Brokers that are heard from.
    pub(crate) alive: Vec<BrokerId>,
    pub(crate) offline: Vec<OfflinePartition>,
    /// Partitions with a replica that is not in sync.
    pub(crate) under_replicated: u64,
}

/// An operator names the leader of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MoveLeader {
    pub(crate) topic_id: TopicId,
    pub(crate) partition: PartitionId,
    pub(crate) to: BrokerId,
}

/// Fences for one broker, which answers when it knows this version of the image: it may not have a replica yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FenceBatch {
    pub(crate) version: u64,
    pub(crate) partitions: Vec<FenceRequest>,
}
