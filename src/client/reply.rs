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
    /// What else is said about it.
    #[serde(flatten)]
    pub details: serde_json::Map<String, Value>,
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
    /// The epoch of its leadership.
    #[serde(default)]
    pub leader_epoch: u32,
    /// Where it is kept.
    #[serde(default)]
    pub replicas: Vec<ReplicaReply>,
}

impl PartitionReply {
    /// The broker that leads it.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        u32::try_from(self.leader).ok().map(BrokerId)
    }

    /// Whether it is led and all of its replicas have everything.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.leader >= 0 && self.replicas.iter().all(|replica| replica.in_sync)
    }
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

/// `GET /topics/{t}/partitions/{p}/replicas`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicasReply {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The broker that leads it.
    #[serde(default, deserialize_with = "broker_or_none")]
    pub leader: Option<BrokerId>,
    /// The epoch of its leadership.
    #[serde(default)]
    pub leader_epoch: u32,
    /// Where it is moving to.
    #[serde(default)]
    pub moving_to: Option<Vec<BrokerId>>,
    /// Its replicas.
    pub replicas: Vec<ReplicaState>,
}

/// What a replica says of itself; offsets are absent when it did not answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicaState {
    /// The broker that keeps it.
    pub broker: BrokerId,
    /// `leader`, `follower` and the like.
    #[serde(default)]
    pub role: Option<String>,
    /// Whether it has everything that is committed, as the leader sees it.
    #[serde(default)]
    pub in_sync: Option<bool>,
    /// The epoch that it follows.
    #[serde(default)]
    pub adopted_epoch: Option<u32>,
    /// Its first offset.
    #[serde(default)]
    pub log_start_offset: Option<u64>,
    /// Records below this are committed, as far as it knows.
    #[serde(default)]
    pub high_watermark: Option<u64>,
    /// The offset after its last record.
    #[serde(default)]
    pub log_end_offset: Option<u64>,
    /// Its records below this are on disk.
    #[serde(default)]
    pub flushed_offset: Option<u64>,
    /// Why it did not answer.
    #[serde(default)]
    pub error: Option<String>,
}

/// A broker's number; -1 stands for none as `null` does.
fn broker_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<BrokerId>, D::Error> {
    let number = Option::<i64>::deserialize(deserializer)?;
    Ok(number.and_then(|number| u32::try_from(number).ok()).map(BrokerId))
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
    /// The broker that decides about the cluster; `None` while there is none.
    #[serde(default, deserialize_with = "broker_or_none")]
    pub controller: Option<BrokerId>,
    /// The state of the metadata.
    #[serde(default)]
    pub metadata: Option<MetadataReply>,
    /// The brokers.
    #[serde(default)]
    pub brokers: Vec<BrokerReply>,
    /// Everything else it says.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// The state of the cluster's metadata.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MetadataReply {
    /// The term of its leader.
    #[serde(default)]
    pub term: u64,
    /// The last entry that this broker has applied.
    #[serde(default)]
    pub last_applied: Option<u64>,
    /// The brokers that keep it.
    #[serde(default)]
    pub voters: Vec<BrokerId>,
}

/// One broker of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BrokerReply {
    /// Its number.
    pub broker_id: BrokerId,
    /// Where clients reach it.
    #[serde(default)]
    pub http_url: String,
    /// Where other brokers reach it.
    #[serde(default)]
    pub rpc_address: String,
    /// Where it stands.
    #[serde(default)]
    pub rack: Option<String>,
    /// Whether it gives its leaderships away.
    #[serde(default)]
    pub draining: bool,
    /// Whether it is there, as far as the broker that answers knows.
    #[serde(default)]
    pub alive: Option<bool>,
    /// Everything else that is said of it.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// `GET /cluster/health`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthReply {
    /// `ok`, `degraded` or `unavailable`.
    pub status: String,
    /// The broker that decides about the cluster.
    #[serde(default, deserialize_with = "broker_or_none")]
    pub controller: Option<BrokerId>,
    /// How many brokers there are.
    #[serde(default)]
    pub brokers: u64,
    /// How many of them are alive.
    #[serde(default)]
    pub brokers_alive: u64,
    /// How many partitions there are.
    #[serde(default)]
    pub partitions: u64,
    /// How many of them nobody leads.
    #[serde(default)]
    pub offline_partitions: u64,
    /// How many of them have replicas that lag or are gone.
    #[serde(default)]
    pub under_replicated_partitions: u64,
    /// What is wrong, in words.
    #[serde(default)]
    pub problems: Vec<String>,
}

impl HealthReply {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == "ok"
    }
}

/// `POST /admin/rebalance`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MovesReply {
    /// What moves.
    #[serde(default)]
    pub moves: Vec<MoveReply>,
}

/// A partition that goes to other brokers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MoveReply {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub partition: PartitionId,
    /// Where it is.
    pub from: Vec<BrokerId>,
    /// Where it goes.
    pub to: Vec<BrokerId>,
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
    /// The broker that leads the partition.
    #[serde(default)]
    pub leader: Option<BrokerId>,
    /// The leader's epoch.
    #[serde(default)]
    pub leader_epoch: Option<LeaderEpoch>,
}

/// `POST /publish`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct PublishReply {
    /// Where the object is; absent when nobody waited for it (`acks=0`).
    #[serde(default)]
    pub offset: Option<Offset>,
    /// The broker that leads the partition.
    #[serde(default)]
    pub leader: Option<BrokerId>,
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
