//! A partition: its log, who waits for it, and the actor that owns both.
//!
//! [`slot`] is what outlives the actor: its address, its published view, the lease on its directory.
//! [`leader`] holds the rules of a leading partition without any actor in it; [`actor`] is the thin
//! shell around them.

mod actor;
mod leader;
mod messages;
mod purgatory;
mod recovery;
mod role;
mod slot;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pubg1_model::{BrokerId, LeaderEpoch, Offset, record_batch::ValidBatch};
pub use pubg1_storage::Appended;

use crate::errors::OfflineReason;

pub(crate) use actor::start_partition;
#[cfg(any(test, feature = "testing"))]
pub use messages::Fault;
pub(crate) use messages::{Append, DeleteRecords, Drain, Maintain, Remove, SetConfig};
pub(crate) use slot::{PartitionIdentity, PartitionSlot};

/// When an append is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// Where the time of an append went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendPhases {
    /// From the call until the partition took the message up.
    pub queue: Duration,
    /// The append itself.
    pub append: Duration,
    /// From the append until the high watermark had passed it; zero unless `acks=all`.
    pub flush: Duration,
}

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendReply {
    /// Where each batch is, in order; empty for [`Acks::None`].
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
    /// Who leads.
    pub leader: BrokerId,
    /// The epoch of its leadership; the last known one while nobody leads.
    pub leader_epoch: LeaderEpoch,
}

#[cfg(test)]
mod tests;
