//! Replication and election of one partition, as pure state machines.
//!
//! The promise they keep: **a record that was acknowledged is never lost, and never moves to another
//! offset.** Followers pull, a quorum commits, the log with the newest *adopted* epoch wins, and a
//! controller drives the elections.
//!
//! - [`Replica`] is one copy of the partition: what it promised, what it adopted, how far its log
//!   and its disk are, and the role it plays. Events are its methods; what has to be done is
//!   returned as [`Effect`]s, to be carried out in their order.
//! - [`LeaderProgress`] is what a leader knows of its followers, and the rule of the high watermark.
//! - [`Election`] is what the controller does with the answers to a fence.
//! - [`ReplicaSet`] is the arithmetic of quorums, joint while the set of replicas changes.
//! - [`message`] holds what replicas and controller say to each other.
//!
//! There is no clock: times are parameters, in milliseconds of a monotonic clock. The rules are
//! checked by a model that drives these very functions (`tests/replication_model.rs`); which rule
//! prevents what is written down in `docs/MODEL.md`.
//!
//! Sources: Liskov and Cowling, "Viewstamped Replication Revisited" (2012), for the adopted epoch;
//! KIP-101 and KIP-279 for truncation by epoch; KIP-207 for the first answers of a new leader;
//! Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), for joint
//! quorums.

mod effect;
mod election;
mod leader;
pub mod message;
mod quorum;
mod replica;

pub use effect::Effect;
pub use election::{Decision, Election, ElectionError};
pub use leader::{LatestOffsetUnknown, LeaderProgress};
pub use message::StorageId;
pub use quorum::{ReplicaSet, quorum, quorum_reached};
pub use replica::{
    AnswerRefused, Counting, FetchRefused, Flush, Following, Identity, NotElectable, NotLeader, Phase, QueryRefused,
    Recovered, Replica, Role, StaleEpoch,
};
