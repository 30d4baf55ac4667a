//! Operations of clients that reach a broker which does not lead the partition: sent on to the one that does.
//!
//! Any broker takes any request. What the replica here cannot serve goes to the leader that the cluster image names,
//! as a request of kinds 30 to 39 (40 to 49 for consumer groups, see
//! [`group_coordinator`](crate::group_coordinator); 50 to 59 for streams, see [`streams`](crate::streams)). The broker that receives one answers from its own replica or not
//! at all, so a request travels once, whatever the two brokers believe.
//!
//! [`messages`] is what travels, [`answers`] the receiving end, [`route`] finds the leader and waits for one, [`remote`]
//! asks it. [`tails`] waits there for new records.
//!
//! # When a request is sent again
//!
//! - Nothing was done for certain (no leader is known, the connection was not there, the answer is "not I"): after the
//!   next change, for [`route::PATIENCE`] in total. A broker that has just started and has not caught up with the
//!   metadata log says so at once instead: it knows only who led in its former life, and any other broker knows better.
//! - The outcome is unknown: reads, and appends of an idempotent producer that the leader can recognise. Any other
//!   append is answered as unknown.

mod answers;
mod messages;
mod refusal;
mod remote;
mod route;
mod tails;

pub(crate) use answers::{answer, views_here};
pub(crate) use messages::Place;
pub(crate) use refusal::Refusal;
pub(crate) use remote::{ask_in_sync, ask_replica_batches, ask_replica_status, ask_views};
pub(crate) use route::{Absent, Leader, PATIENCE, Patience, Route};
pub(crate) use tails::Tails;

#[cfg(test)]
mod tests;
