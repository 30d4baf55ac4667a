//! Brokers, the cluster, and where partitions are kept.

use serde::Serialize;
use utoipa::ToSchema;

/// A broker of the cluster.
#[derive(Serialize, ToSchema)]
pub(crate) struct BrokerEntry {
    pub(crate) broker_id: u32,
    pub(crate) http_url: String,
    /// Where other brokers reach it; empty when it is alone.
    pub(crate) rpc_address: String,
    pub(crate) rack: Option<String>,
    /// Which start of it is registered.
    pub(crate) incarnation: String,
    /// Whether it is being taken out of service.
    pub(crate) draining: bool,
    /// Whether the controller hears of it; `null` when no controller can be asked.
    pub(crate) alive: Option<bool>,
}

/// The group of brokers that keeps the cluster's metadata, as this broker sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct MetadataGroupEntry {
    pub(crate) term: u64,
    /// The last entry of its log that was applied here.
    pub(crate) last_applied: u64,
    /// The brokers that decide.
    pub(crate) voters: Vec<u32>,
}

/// The cluster as this broker sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Cluster {
    pub(crate) cluster_id: String,
    /// The broker that answers.
    pub(crate) broker_id: u32,
    /// The broker that decides about the cluster; `null` while there is none.
    pub(crate) controller: Option<u32>,
    /// Grows with every change of the cluster's metadata.
    pub(crate) version: u64,
    pub(crate) uptime_ms: u64,
    /// When a record counts as stored at the broker that answers, its setting `log.flush`: `quorum` or `interval=MS`.
    pub(crate) flush: String,
    pub(crate) metadata: MetadataGroupEntry,
    pub(crate) brokers: Vec<BrokerEntry>,
    /// Topics and partitions, without the broker's own.
    pub(crate) topics: usize,
    pub(crate) partitions: usize,
}

/// How a cluster is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthStatus {
    /// Everything is there.
    Ok,
    /// Everything can be used, but a failure more may change that.
    Degraded,
    /// Something cannot be used.
    Unavailable,
}

/// How the cluster is.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClusterHealth {
    pub(crate) status: HealthStatus,
    /// The broker that decides about the cluster; `null` when none answers.
    pub(crate) controller: Option<u32>,
    pub(crate) brokers: usize,
    /// Brokers that the controller hears of; when none answers, only this one is known to live.
    pub(crate) brokers_alive: usize,
    /// Of all topics, the brokers' own included.
    pub(crate) partitions: usize,
    /// Partitions that nobody leads.
    pub(crate) offline_partitions: usize,
    /// Partitions with a replica that is not in sync; 0 when no controller answers, who would know.
    pub(crate) under_replicated_partitions: u64,
    /// What is not as it should be, in sentences.
    pub(crate) problems: Vec<String>,
}

/// A replica of a partition, as it says itself.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplicaState {
    pub(crate) broker: u32,
    /// What it does; `null`, as all that follows, when it does not answer.
    pub(crate) role: Option<String>,
    /// Whether it has what is committed, as the leader sees it; `null` when the leader does not answer.
    pub(crate) in_sync: Option<bool>,
    /// The newest leader epoch that it takes part in.
    pub(crate) adopted_epoch: Option<u32>,
    pub(crate) log_start_offset: Option<u64>,
    /// What it knows to be committed.
    pub(crate) high_watermark: Option<u64>,
    pub(crate) log_end_offset: Option<u64>,
    /// Below it: on its disk.
    pub(crate) flushed_offset: Option<u64>,
    /// Why it does not answer, or does not serve.
    pub(crate) error: Option<String>,
}

/// The replicas of a partition, each asked.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartitionReplicas {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// `null` when no broker leads it.
    pub(crate) leader: Option<u32>,
    pub(crate) leader_epoch: u32,
    /// The replicas after the move that is under way; `null` when there is none.
    pub(crate) moving_to: Option<Vec<u32>>,
    pub(crate) replicas: Vec<ReplicaState>,
}

/// Who leads a partition after its leadership was to move.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeaderMoved {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// The broker that leads now: the one that was named, unless that takes longer than a moment.
    pub(crate) leader: Option<u32>,
    pub(crate) leader_epoch: u32,
}

/// Where a partition is kept, and where it goes.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplicasMoved {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) replicas: Vec<u32>,
    /// The replicas after the move that is under way; `null` when there is none.
    pub(crate) moving_to: Option<Vec<u32>>,
}

/// Whether a broker is in service.
#[derive(Serialize, ToSchema)]
pub(crate) struct BrokerLife {
    pub(crate) broker_id: u32,
    pub(crate) draining: bool,
}

/// A partition that gets other replicas.
#[derive(Serialize, ToSchema)]
pub(crate) struct MoveEntry {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) from: Vec<u32>,
    /// The preferred leader first.
    pub(crate) to: Vec<u32>,
}

/// Moves that were begun, or would be.
#[derive(Serialize, ToSchema)]
pub(crate) struct Moves {
    pub(crate) moves: Vec<MoveEntry>,
}
