//! Replication between brokers: followers pull, in sessions.
//!
//! A broker keeps one `Source` for each other broker that leads a partition followed here. In it lies what every
//! following replica wants next, its *wish*: records from an offset on, which acknowledges all before it, or where an
//! epoch ends. The `ReplicatorActor` of the source sends wishes on as they come, and but for the moment in which
//! an answer is taken in, at least one request is outstanding there, so that an answer has something to come back on.
//!
//! ```text
//! PartitionActor ── want ──► Source ──► ReplicatorActor ── poll: new wishes ──► Session ── FetchRequested ──► PartitionActor
//!   (follower)  ◄── PullAnswered ───────────┘        ◄── answers, batches ────────┘  ◄── FetchSink ────────────  (leader)
//! ```
//!
//! A *session* is what the leading broker remembers between requests: a request brings only wishes that are new, and
//! the others stay parked with their partitions until there is something to tell. So a thousand idle partitions cost one
//! empty poll now and then, and a busy one never waits for them. Requests of a session are taken in their order; when
//! one is lost or comes twice the session is over, and the follower begins another with everything it wants.
//!
//! The session is also how a leader knows that it still has followers: what its lease on reads rests on.

mod actor;
mod pace;
mod source;
mod wire;
mod wishes;

pub(crate) use source::{FetchSink, Sessions, answer};
pub(crate) use wire::{Outcome, Refusal, Wish};
pub(crate) use wishes::Sources;

#[cfg(test)]
pub(crate) mod tests;
