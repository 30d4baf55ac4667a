//! A partition as others are told of it: by its leader, and by each replica of itself.

use std::sync::Arc;

use bytes::Bytes;
use pubg1_model::{BrokerId, LeaderEpoch, Offset};
use serde::{Deserialize, Serialize};

use super::{PartitionSlot, PartitionStatus, PartitionView};

/// A partition as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderView {
    /// Who leads.
    pub leader: BrokerId,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// The first record that can be read.
    pub log_start_offset: Offset,
    /// Below it: committed, readable.
    pub high_watermark: Offset,
    /// The next to be written.
    pub log_end_offset: Offset,
    /// The replicas that have what is committed, the leader among them.
    pub in_sync: Arc<[BrokerId]>,
}

impl LeaderView {
    pub(super) fn new(view: &PartitionView, leader: BrokerId) -> Self {
        Self {
            leader,
            leader_epoch: view.leader_epoch,
            log_start_offset: view.log_start_offset,
            high_watermark: view.high_watermark,
            log_end_offset: view.log_end_offset,
            in_sync: Arc::clone(&view.in_sync),
        }
    }
}

/// One replica of a partition, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// What it does, in one word.
    pub role: String,
    /// The newest epoch that it takes part in; `None` before the first.
    pub adopted_epoch: Option<LeaderEpoch>,
    /// Its first record.
    pub log_start_offset: Offset,
    /// What it knows to be committed.
    pub high_watermark: Offset,
    /// Where its log ends.
    pub log_end_offset: Offset,
    /// Below it: on its disk.
    pub flushed_offset: Offset,
    /// The replicas that have what is committed; told by the leader only.
    pub in_sync: Vec<BrokerId>,
    /// Why it serves nothing, if so.
    pub error: Option<String>,
}

impl PartitionSlot {
    /// This replica, as it is now.
    pub(crate) fn replica_status(&self) -> ReplicaStatus {
        let view = self.view();
        let leads = view.status == PartitionStatus::Leader;
        ReplicaStatus {
            role: view.status.as_str().to_owned(),
            adopted_epoch: view.adopted_epoch,
            log_start_offset: view.log_start_offset,
            high_watermark: view.high_watermark,
            log_end_offset: view.log_end_offset,
            flushed_offset: view.flushed_offset,
            in_sync: if leads { view.in_sync.to_vec() } else { Vec::new() },
            error: match &view.status {
                PartitionStatus::Offline(reason) => Some(reason.to_string()),
                _ => None,
            },
        }
    }
}

/// Batches of one replica's own log.
#[derive(Clone, Debug)]
pub struct ReplicaBatches {
    /// Batches in order.
    pub runs: Vec<Bytes>,
    /// Where the next read begins.
    pub next_offset: Offset,
    /// The replica's first offset.
    pub log_start_offset: Offset,
    /// What the replica knows to be committed.
    pub high_watermark: Offset,
    /// The newest epoch that the replica takes part in.
    pub leader_epoch: LeaderEpoch,
}
