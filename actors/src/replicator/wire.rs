//! What followers and leaders say to each other, kinds 20 to 29.

use pubg1_model::{
    LeaderEpoch, Offset,
    replication::message::{EpochEndAnswer, EpochEndQuery, FetchAnswer, ReplicaFetch},
};
use serde::{Deserialize, Serialize};

use crate::replica_states::PartitionKey;

/// The kinds of requests.
pub(crate) mod kind {
    /// A request of a fetch session.
    pub(crate) const POLL: u16 = 20;
    /// A leader has sent what cannot be what was written.
    pub(crate) const DAMAGE: u16 = 21;
}

/// What a following replica wants of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// Records, and it has everything before them.
    Fetch(ReplicaFetch),
    /// Where an epoch ends in the leader's log.
    EpochEnd(EpochEndQuery),
}

/// A wish on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentWish {
    pub(crate) key: PartitionKey,
    /// Comes back with the answer; greater for a later wish.
    pub(crate) token: u64,
    pub(crate) wish: Wish,
}

/// A request of a fetch session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Poll {
    /// The metadata version that registered this life of the follower.
    pub(crate) registration: u64,
    /// Which session; chosen by the follower.
    pub(crate) session: u64,
    /// The place of the request in it, from 0; 0 begins the session.
    pub(crate) number: u64,
    /// The greatest number of a request whose answer has been received.
    pub(crate) heard: Option<u64>,
    /// How long the answer may wait for something to tell, in milliseconds.
    pub(crate) wait_ms: u64,
    /// Bytes of batches in the answer, and in that of each wish; at least one batch whatever its size.
    pub(crate) max_bytes: u64,
    /// Partitions that are no longer followed from this broker, or no longer in the same epoch.
    pub(crate) forgotten: Vec<PartitionKey>,
    /// Wishes that are new; each takes the place of the former one for its partition.
    pub(crate) wishes: Vec<SentWish>,
}

/// The answer to a [`Poll`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PollAnswer {
    /// The session is not known, or a request of it is missing: begin another.
    UnknownSession,
    /// What there is to tell; possibly nothing.
    Answers(Vec<SentOutcome>),
}

/// The answer to one wish. Its batches lie in the payload, behind those of the answers before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentOutcome {
    pub(crate) key: PartitionKey,
    pub(crate) token: u64,
    pub(crate) outcome: Outcome,
    /// Bytes in the payload.
    pub(crate) bytes: u64,
}

/// The answer to a wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Records, or news of what is committed.
    Fetched {
        answer: FetchAnswer,
        /// Where the leader's log starts.
        log_start: Offset,
    },
    /// Where the epoch ends.
    EpochEnd(EpochEndAnswer),
    /// Nothing.
    Refused(Refusal),
}

/// Why a wish is not fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    /// The broker keeps no replica of the partition, as far as it knows.
    #[error("the partition is not kept there")]
    NotKept,
    /// The replica there does not lead.
    #[error("the replica there does not lead")]
    NotLeader,
    /// The replica there is in another epoch.
    #[error("the replica there is in another epoch")]
    OtherEpoch,
    /// The replica there is being opened, or cannot read its log.
    #[error("the replica there cannot answer at present")]
    Unavailable,
    /// The leader does not know of this replica yet.
    #[error("the leader does not know of this replica yet")]
    UnknownReplica,
    /// A later life of this broker has registered.
    #[error("a later life of this broker has registered")]
    FormerLife,
    /// The log ends before what was asked for: look again for where the logs part.
    #[error("the leader's log ends before")]
    BeyondLogEnd,
    /// What was asked for is deleted: begin again here.
    #[error("the leader's log starts at {log_start}")]
    BelowLogStart {
        /// The epoch of the leader.
        epoch: LeaderEpoch,
        /// Where its log starts.
        log_start: Offset,
    },
}

/// A leader has sent what cannot be what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DamageReport {
    pub(crate) key: PartitionKey,
    /// Where it was asked for records.
    pub(crate) offset: Offset,
}
