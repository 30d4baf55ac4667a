//! What a broker answers, as far as the command line needs it.

use std::collections::BTreeMap;

use pubg1_model::{BrokerId, LeaderEpoch, Offset, PartitionId, TopicName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Every error's body.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrorReply {
    /// The number in the broker's table of errors.
    pub error_code: i64,
    /// What happened and what to do.
    pub message: String,
}

/// `GET /topics/{t}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopicReply {
    /// Its name.
    pub name: TopicName,
    /// Its settings.
    #[serde(default)]
    pub configs: BTreeMap<String, Value>,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionReply>,
}

/// One partition of a topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartitionReply {
    /// Its number.
    pub partition: PartitionId,
    /// The broker that leads it; negative when none does.
    pub leader: i64,
    /// Where it is kept.
    #[serde(default)]
    pub replicas: Vec<ReplicaReply>,
}

/// One copy of a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicaReply {
    /// The broker that keeps it.
    pub broker: BrokerId,
    /// Whether it leads.
    #[serde(default)]
    pub leader: bool,
    /// Whether it has everything that is committed.
    #[serde(default)]
    pub in_sync: bool,
}

/// `GET /topics/{t}/partitions/{p}/offsets`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OffsetsReply {
    /// The first offset that is there.
    pub beginning_offset: Offset,
    /// The offset after the last committed record.
    pub end_offset: Offset,
}

/// `GET /cluster`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterReply {
    /// The cluster's identity.
    pub cluster_id: String,
    /// The broker that answers.
    pub broker_id: BrokerId,
    /// Everything else it says.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// `GET /readyz`.
#[derive(Clone, Debug)]
pub struct ReadyReply {
    /// Whether it answered that it is ready.
    pub ready: bool,
    /// The whole answer.
    pub body: Value,
}

/// `POST /producers`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ProducerReply {
    /// The producer's identity.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
}

/// `POST /topics/{t}/partitions/{p}/batches`.
#[derive(Clone, Debug, Deserialize)]
pub struct ProduceReply {
    /// One entry per batch.
    #[serde(default)]
    pub offsets: Vec<AppendedReply>,
    /// The leader's epoch.
    #[serde(default)]
    pub leader_epoch: Option<LeaderEpoch>,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct AppendedReply {
    /// Offset of its first record; absent when nobody waited for it (`acks=0`).
    #[serde(default)]
    pub base_offset: Option<Offset>,
    /// Whether it had been stored before, at this offset.
    #[serde(default)]
    pub duplicate: bool,
}

/// One record of a read.
#[derive(Clone, Debug, Deserialize)]
pub struct RecordReply {
    /// Its offset.
    pub offset: Offset,
}
