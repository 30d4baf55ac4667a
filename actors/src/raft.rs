//! The metadata group: openraft, what it stores, and how its members reach each other.
//!
//! Reading order: [`types`] says what openraft is about here, [`store`] is the disk, [`log_store`] and
//! [`state_machine`] are what openraft sees of it, [`wire`] and [`network`] carry its messages, [`formation`] and
//! [`settle`] decide what an empty store may do. The actor around all that is [`crate::metadata`].

pub(crate) mod formation;
pub(crate) mod log_store;
pub(crate) mod network;
pub(crate) mod settle;
pub(crate) mod state_machine;
pub(crate) mod store;
pub(crate) mod types;
pub(crate) mod wire;

use std::{sync::Arc, time::Duration};

use openraft::{Config, SnapshotPolicy};
use pubg1_model::{BrokerId, replication::StorageId};

pub(crate) use network::{CallError, RaftTransport};

/// How often the leader is heard of. openraft looks at its timers every one and a half of these.
pub(crate) const HEARTBEAT_MS: u64 = 75;
/// How long a silent leader is borne, from and to. The longer one is also how long a voter that has just heard of its
/// leader refuses to vote for another.
const ELECTION_MS: (u64, u64) = (250, 500);
/// One chunk of a snapshot; it must be sent, synced and answered within the time below.
const SNAPSHOT_CHUNK_BYTES: u64 = 512 << 10;
const SNAPSHOT_CHUNK_MS: u64 = 2_000;
/// Entries in one message; their bytes are limited, too.
const ENTRIES_PER_MESSAGE: u64 = 256;

/// Who is in the group at first, and how this broker takes part.
#[derive(Clone)]
pub(crate) struct GroupConfig {
    /// This broker.
    pub(crate) broker: BrokerId,
    /// Where the others reach it; empty when there are none.
    pub(crate) rpc_address: String,
    /// Its disk.
    pub(crate) storage: StorageId,
    /// The first voters and where they are reached. A broker that is not among them joins the group that they are.
    pub(crate) voters: Vec<(BrokerId, String)>,
    /// How they are reached.
    pub(crate) transport: Arc<dyn RaftTransport>,
    /// When the log is cut.
    pub(crate) limits: LogLimits,
}

/// When the log is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// A snapshot is made after this many entries.
    pub(crate) snapshot_after: u64,
    /// This many entries before it are kept, for brokers that were away for a moment.
    pub(crate) kept: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { snapshot_after: 5_000, kept: 1_000 }
    }
}

impl GroupConfig {
    pub(crate) fn voter_ids(&self) -> Vec<BrokerId> {
        self.voters.iter().map(|(broker, _)| *broker).collect()
    }

    /// What openraft is told. A broker on probation does not campaign.
    pub(crate) fn raft_config(&self, probation: bool) -> Result<Config, String> {
        let config = Config {
            cluster_name: "metadata".to_owned(),
            heartbeat_interval: HEARTBEAT_MS,
            election_timeout_min: ELECTION_MS.0,
            election_timeout_max: ELECTION_MS.1,
            install_snapshot_timeout: SNAPSHOT_CHUNK_MS,
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            max_payload_entries: ENTRIES_PER_MESSAGE,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.limits.snapshot_after),
            replication_lag_threshold: self.limits.snapshot_after,
            max_in_snapshot_log_to_keep: self.limits.kept,
            purge_batch_size: (self.limits.kept / 4).max(1),
            enable_elect: !probation,
            ..Config::default()
        };
        config.validate().map_err(|error| error.to_string())
    }
}

/// The longest time that a group with a quorum is without a leader when the old one just went silent.
pub(crate) const ELECTION_PATIENCE: Duration = Duration::from_millis(4 * ELECTION_MS.1);

#[cfg(test)]
mod tests;
