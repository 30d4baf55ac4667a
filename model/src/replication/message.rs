//! What replicas and controller say to each other about one partition.
//!
//! Every message carries the epoch it belongs to. Whoever receives one of a higher epoch than it
//! has promised raises its promise first ([`Replica::observe_epoch`](super::Replica::observe_epoch)).

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BrokerId, LeaderEpoch, Offset, cluster::Incarnation};

/// The identity of a disk: random, new when the disk is empty, and new when it may have lost what
/// was acknowledged from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StorageId(Uuid);

impl StorageId {
    /// The id made of these 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a replica keeps on disk beside its log. It is stored before the answer that rests on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DurableState {
    /// It takes part in no older epoch than this.
    pub promised_epoch: LeaderEpoch,
    /// The newest epoch whose leader's log it has taken over completely; `None` when it has
    /// forgotten, or is new. On the wire: -1.
    pub adopted_epoch: Option<LeaderEpoch>,
}

/// A replica's answer to a fence. The promise is on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FenceAnswer {
    /// Who answers.
    pub broker: BrokerId,
    /// Which life of it; only this life can be elected on this answer.
    pub incarnation: Incarnation,
    /// The epoch of the fence.
    pub epoch: LeaderEpoch,
    /// The newest epoch it has adopted; `None` does not count towards the quorum.
    pub adopted_epoch: Option<LeaderEpoch>,
    /// How far its log counts.
    pub counted_offset: Offset,
}

/// A follower asks where an epoch ends in the leader's log (KIP-101, KIP-279).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpochEndQuery {
    /// The epoch of the leader.
    pub epoch: LeaderEpoch,
    /// The epoch asked about: the newest in the follower's log.
    pub asked_epoch: LeaderEpoch,
}

/// The leader's answer to an [`EpochEndQuery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpochEndAnswer {
    /// The epoch of the leader.
    pub epoch: LeaderEpoch,
    /// The newest epoch of the leader's log that is not above the one asked about, and where it
    /// ends there; `None` when the leader's log knows no epoch, that is, when it is empty.
    pub end: Option<(LeaderEpoch, Offset)>,
}

/// A follower asks for records. The fetch offset is the acknowledgement of all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplicaFetch {
    /// The epoch of the leader.
    pub epoch: LeaderEpoch,
    /// The metadata version that registered this life of the follower's broker: it orders lives,
    /// so that what is still under way from a former one is recognised (KIP-631's broker epoch).
    pub registration: u64,
    /// The follower's disk.
    pub storage: StorageId,
    /// The newest epoch the follower has adopted.
    pub adopted_epoch: Option<LeaderEpoch>,
    /// The follower's log end offset, which is its counted offset too: it flushes before it asks.
    pub fetch_offset: Offset,
}

/// A run of records of one epoch in a [`FetchAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpochSpan {
    /// The epoch that is written in the batches.
    pub epoch: LeaderEpoch,
    /// The first offset.
    pub start_offset: Offset,
    /// The offset after the last.
    pub end_offset: Offset,
}

/// What a leader answers to a [`ReplicaFetch`], beside the batches themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FetchAnswer {
    /// The epoch of the leader.
    pub epoch: LeaderEpoch,
    /// What the leader knows to be committed.
    pub high_watermark: Offset,
    /// The follower adopts the epoch once its counted offset reaches this.
    pub adopt_at: Offset,
    /// The batches, in order, from the fetch offset on; empty when there is nothing new.
    pub spans: Vec<EpochSpan>,
}
