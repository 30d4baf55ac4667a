//! What a partition's actor is told: verbs from outside, past participles when slow work is done.

use std::time::{Duration, Instant};

use actix::Message;
use pubg1_metrics::InMailbox;
use pubg1_model::{LeaderEpoch, Offset, record_batch::ValidBatch, topic::TopicConfig};
use pubg1_storage::{Compacted, FlushError, Flushed, StorageError};
use tokio::sync::oneshot;

use super::{
    Acks, AppendReply,
    recovery::{RecoveredLog, RecoveryFailure},
};
use crate::{
    admission::Permit,
    errors::{AppendError, DeleteRecordsError},
    node::Removal,
};

/// Where the answer to an append goes.
pub(super) type AppendAnswer = oneshot::Sender<Result<AppendReply, AppendError>>;

/// Append batches.
pub(crate) struct Append {
    pub(crate) batches: Vec<ValidBatch>,
    pub(crate) acks: Acks,
    /// The epoch in which alone it may be appended; `None` for any.
    pub(crate) epoch: Option<LeaderEpoch>,
    /// `None` for `acks=0`.
    pub(crate) reply: Option<AppendAnswer>,
    pub(crate) sent_at: Instant,
    /// `None` for the broker's own appends, of which few are outstanding by construction.
    pub(crate) permit: Option<Permit>,
    pub(crate) in_mailbox: InMailbox,
}

/// Delete every record below an offset.
pub(crate) struct DeleteRecords {
    pub(crate) offset: Offset,
    pub(crate) reply: oneshot::Sender<Result<Offset, DeleteRecordsError>>,
    pub(crate) permit: Permit,
    pub(crate) in_mailbox: InMailbox,
}

/// Look after retention and compaction.
pub(crate) struct Maintain;

/// The settings of the topic have changed.
pub(crate) struct SetConfig(pub(crate) TopicConfig);

/// Answer who waits, flush, close, end. Answered with whether the log was closed in order.
pub(crate) struct Drain {
    pub(crate) closed: oneshot::Sender<bool>,
}

/// The topic was deleted: end, and remove the directory.
pub(crate) struct Remove(pub(crate) Removal);

/// The log was opened, or not.
pub(super) struct Recovered {
    pub(super) result: Result<RecoveredLog, RecoveryFailure>,
}

/// A flush has ended.
pub(super) struct FlushCompleted {
    /// The epoch in which it was begun.
    pub(super) epoch: LeaderEpoch,
    pub(super) result: Result<Flushed, FlushError>,
    pub(super) took: Duration,
}

/// A compaction has ended.
pub(super) struct CompactionCompleted {
    /// The epoch in which it was begun.
    pub(super) epoch: LeaderEpoch,
    pub(super) result: Result<Compacted, StorageError>,
}

/// A fault, for tests.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The actor panics in its handler.
    Panic,
    /// The next flush fails without touching the disk.
    FailFlush,
    /// Flushes that are begun from now on end only after [`Fault::ResumeFlushes`].
    HoldFlushes,
    /// Flushes end again.
    ResumeFlushes,
}

#[cfg(any(test, feature = "testing"))]
impl Message for Fault {
    type Result = ();
}

macro_rules! messages {
    ($($message:ty),+) => {$(impl Message for $message { type Result = (); })+};
}

messages!(Append, DeleteRecords, Maintain, SetConfig, Drain, Remove, Recovered, FlushCompleted, CompactionCompleted);
