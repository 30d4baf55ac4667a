//! A consumer over HTTP: what it reads, how far it has come, and what it was given without being known to have it.
//!
//! An instance belongs to the log of its group, not to a process. The coordinator keeps it, and whichever broker a
//! client talks to (the *edge*) polls for it:
//!
//! 1. The edge begins a poll and is told where to read.
//! 2. It reads, and says up to where: that is *delivered*, and stored before the client gets a byte.
//! 3. When the client has the answer the delivery is *confirmed*, and becomes the position. What is not confirmed is
//!    delivered again by the next poll, so nothing is ever skipped.
//!
//! [`ConsumerInstance`] is the state machine. Each change leaves a mark, and [`ConsumerInstance::take_changes`] turns
//! the marks into records ([`records`]); restoring them gives an instance that skips nothing either, whichever of the
//! newest records are missing.

mod definition;
mod poll;
pub mod records;
mod state;
#[cfg(test)]
mod tests;

pub use definition::{
    Confirmation, InstanceDefinition, InvalidDefinition, OffsetReset, PollId, PollStart, RecordFormat, Subscription,
};
pub use poll::{Begun, DeliveryUnknown, Edge, NewPoll, PollOver, Range, UnderWay};
pub use records::{InstanceChange, InstanceKey, InstanceRecordError, StoredInstance, StoredPosition};
pub use state::{ConsumerInstance, NotAssigned};
