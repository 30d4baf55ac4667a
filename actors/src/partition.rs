//! A partition: its log, who waits for it, and the actor that owns both.
//!
//! [`slot`] is what outlives the actor: its address, what it was told, its published view, the lock on its
//! directory; [`serve`] is what it does for clients while it is led here. [`replica`] is one copy of the partition, the protocol and the log together, without any actor in it;
//! [`actor`] is the shell around it that does slow work elsewhere. [`lease`] is until when a leader may answer.

mod actor;
mod elections;
mod lease;
mod messages;
mod opening;
mod purgatory;
mod replica;
mod role;
mod serve;
mod slot;
mod view;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pubg1_model::{BrokerId, LeaderEpoch, Offset, record_batch::ValidBatch};
pub use pubg1_storage::Appended;

use crate::errors::OfflineReason;

pub(crate) use actor::start_partition;
pub(crate) use elections::{fence, transfer};
pub(crate) use lease::{Attachment, Contact};
#[cfg(any(test, feature = "testing"))]
pub use messages::Fault;
pub(crate) use messages::{
    Answered, Append, AssignmentChanged, DamageSuspected, DeleteRecords, Drain, Fence, FetchRequested, Maintain,
    PullAnswered, Remove, Tick, Transfer,
};
pub(crate) use opening::{counting, name_of_aside};
pub(crate) use slot::{Assignment, DirLocks, PartitionIdentity, PartitionSlot};
pub use view::{LeaderView, ReplicaBatches, ReplicaStatus};

/// When an append is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Acks {
    /// At once, before anything is written (`acks=0`).
    None,
    /// When the leader has appended it (`acks=1`).
    Leader,
    /// When the high watermark has passed it (`acks=all`).
    #[default]
    All,
}

/// Batches for one partition.
#[derive(Clone, Debug)]
pub struct AppendRequest {
    /// The batches, appended in this order with nothing in between.
    pub batches: Vec<ValidBatch>,
    /// When to answer.
    pub acks: Acks,
}

impl AppendRequest {
    /// Bytes of all batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.batches.iter().map(|batch| u64::try_from(batch.bytes().len()).unwrap_or(u64::MAX)).sum()
    }
}

/// Where the time of an append went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AppendPhases {
    /// From the call until the partition took the message up.
    pub queue: Duration,
    /// The append itself.
    pub append: Duration,
    /// From the append until the high watermark had passed it; zero unless `acks=all`.
    pub flush: Duration,
}

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AppendReply {
    /// Where each batch is, in order; empty for [`Acks::None`].
    #[serde(with = "crate::errors::wire::appended")]
    pub appended: Vec<Appended>,
    /// Who took it.
    pub leader: BrokerId,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where the time went.
    pub phases: AppendPhases,
}

/// Committed records, as whole batches.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Batches in order, each run a slice of a mapped segment. The first batch may begin before the
    /// offset that was asked for; its earlier records are to be skipped.
    pub runs: Vec<Bytes>,
    /// Where the next read begins: after the last batch here, or the offset that was asked for.
    pub next_offset: Offset,
    /// The first offset of the partition when this was read.
    pub log_start_offset: Offset,
    /// The high watermark when this was read.
    pub high_watermark: Offset,
    /// Who led when this was read.
    pub leader: BrokerId,
    /// The leader's epoch when this was read.
    pub leader_epoch: LeaderEpoch,
}

impl Fetched {
    /// Whether there was nothing to read yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// What a partition does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionStatus {
    /// Its log is being opened and checked.
    Recovering,
    /// It takes appends and answers reads.
    Leader,
    /// It copies from the leader.
    Follower,
    /// Nobody leads as far as this replica knows; or it leads, and does not know yet how far its predecessor had
    /// committed (KIP-207): then it takes appends, and answers no reads.
    Electing,
    /// It serves nothing.
    Offline(Arc<OfflineReason>),
    /// It was closed in order: the broker shuts down.
    Closed,
    /// Its topic was deleted.
    Deleted,
}

impl PartitionStatus {
    /// One word, for metrics and JSON.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Electing => "electing",
            Self::Offline(_) => "offline",
            Self::Closed => "closed",
            Self::Deleted => "deleted",
        }
    }
}

/// What a partition publishes: a snapshot, replaced as a whole.
///
/// `log_start_offset ≤ high_watermark ≤ log_end_offset` and `flushed_offset ≤ log_end_offset` hold in
/// every view. While the status is not [`PartitionStatus::Leader`] the offsets are those last known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// What it does.
    pub status: PartitionStatus,
    /// The first record that can be read.
    pub log_start_offset: Offset,
    /// Below it: committed, readable.
    pub high_watermark: Offset,
    /// The next to be written.
    pub log_end_offset: Offset,
    /// Below it: on disk.
    pub flushed_offset: Offset,
    /// Bytes of the log.
    pub size_bytes: u64,
    /// Who leads, as far as this replica knows.
    pub leader: Option<BrokerId>,
    /// The newest epoch that this replica knows of, and takes part in.
    pub leader_epoch: LeaderEpoch,
    /// The newest epoch whose log it has taken over completely; `None`: it is new, or has forgotten.
    pub adopted_epoch: Option<LeaderEpoch>,
    /// The replicas that have what is committed and keep up, the leader among them. Known to the leader only.
    pub in_sync: Arc<[BrokerId]>,
    /// The metadata version that the move which is under way began with, when it can be ended, as the leader sees it.
    pub move_complete: Option<u64>,
    /// The epoch that this replica is named as the leader of and cannot lead: it wants a new one.
    pub resigned: Option<LeaderEpoch>,
}

impl PartitionView {
    /// Whether the replica on `broker`, whose view this is, leads; it may not know yet what it can tell.
    #[must_use]
    pub fn is_led_by(&self, broker: BrokerId) -> bool {
        self.leader == Some(broker) && matches!(self.status, PartitionStatus::Leader | PartitionStatus::Electing)
    }
}

#[cfg(test)]
mod tests;
