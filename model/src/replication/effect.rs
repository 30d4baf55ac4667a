//! What has to be done after an event: values, carried out by the actor that owns the replica.

use super::message::DurableState;
use crate::{LeaderEpoch, Offset};

/// One thing to do. Effects are carried out in the order in which they are returned, each completed
/// before the next, and all before the answer that comes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Store this on disk, synced.
    Store(DurableState),
    /// Record the start of an epoch in the leader-epoch checkpoint, synced.
    RecordEpochStart {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The log end offset at its start.
        start_offset: Offset,
    },
    /// Fail the waiting produce requests: leadership is over, and their outcome is unknown.
    FailWaiting,
    /// Cut the log, durably, so that this is its end.
    Truncate {
        /// The new log end offset.
        to: Offset,
    },
    /// Drop the whole log and begin an empty one here: the leader has deleted all before.
    RestartLog {
        /// The first offset.
        at: Offset,
    },
    /// Flush the log, whole, and report it with
    /// [`Replica::on_flushed`](super::Replica::on_flushed).
    Flush(super::Flush),
    /// Leading has begun: produce requests are accepted from now on.
    Lead {
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// Records below this are committed: answer who waits for them.
    AdvanceHighWatermark {
        /// The high watermark.
        to: Offset,
    },
}
