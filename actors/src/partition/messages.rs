//! What a partition's actor is told: verbs from outside, past participles when slow work is done.

use std::{sync::Arc, time::Duration};

use actix::Message;
use pubg1_metrics::InMailbox;
use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    record_batch::ValidBatch,
    replication::{
        Flush,
        message::{EpochEndAnswer, FenceAnswer, FetchAnswer},
    },
};
use pubg1_storage::{Compacted, Damage, FlushError, Flushed, LogSlice, ReadError, RepairError, StorageError};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Acks, AppendReply,
    lease::Attachment,
    opening::{OpenLog, OpenedReplica, OpeningFailure},
};
use crate::{
    admission::Permit,
    errors::{AppendError, DeleteRecordsError},
    node::Removal,
    replicator::{FetchSink, Refusal, Wish},
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

/// Look whether the followers are still there.
pub(crate) struct Tick;

/// The metadata log says something new of this partition: it stands in the slot.
pub(crate) struct AssignmentChanged;

/// The controller looks for the leader of an epoch. Answered when the promise is on disk; not answered when a newer
/// epoch is promised or the replica cannot tell what it has.
pub(crate) struct Fence {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) reply: oneshot::Sender<FenceAnswer>,
}

/// Hand the leadership of `epoch` over to a follower: answered when it has everything and nothing more is appended.
/// Not answered when that does not come to pass.
pub(crate) struct Transfer {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) to: BrokerId,
    pub(crate) reply: oneshot::Sender<()>,
}

/// A follower asks this replica as its leader: at most one request of each is outstanding.
pub(crate) struct FetchRequested {
    pub(crate) from: BrokerId,
    pub(crate) wish: Wish,
    /// There when it is a fetch.
    pub(crate) attachment: Option<Arc<Attachment>>,
    pub(crate) sink: FetchSink,
}

/// The leader has answered this replica.
pub(crate) struct PullAnswered {
    /// Which wish it answers.
    pub(crate) token: u64,
    pub(crate) answered: Answered,
}

/// What a leader answered.
pub(crate) enum Answered {
    /// Records, or news of what is committed.
    Fetched { answer: FetchAnswer, log_start: Offset, batches: Vec<ValidBatch> },
    /// Where an epoch ends.
    EpochEnd(EpochEndAnswer),
    /// Nothing, and why.
    Refused(Refusal),
    /// Something that cannot be what the leader wrote.
    Corrupt { reason: String },
}

/// Why a damaged segment was not mended.
pub(super) enum NotRepaired {
    /// The peers have something else there, or nothing; or the disk failed.
    Misfit(RepairError),
    /// Nobody asks for it any more.
    Ended,
}

/// A damaged segment was copied from another replica, or not.
pub(super) struct SegmentRepaired {
    pub(super) life: u64,
    pub(super) damage: Arc<Damage>,
    pub(super) result: Result<Compacted, NotRepaired>,
}

/// Somebody was sent bytes from this log that are not what was written.
pub(crate) struct DamageSuspected {
    pub(crate) offset: Offset,
}

/// Answer who waits, flush, close, end. Answered with whether the log was closed in order.
pub(crate) struct Drain {
    pub(crate) closed: oneshot::Sender<bool>,
}

/// The partition is not kept here any more: end, and remove the directory.
pub(crate) struct Remove(pub(crate) Removal);

/// The replica was opened, or not.
pub(super) struct Opened {
    pub(super) result: Result<Box<OpenedReplica>, OpeningFailure>,
}

/// The log comes back from a thread that may block.
pub(super) struct LogReturned {
    pub(super) open: OpenLog,
    pub(super) result: Result<(), StorageError>,
}

/// What the replica keeps beside its log is on disk.
pub(super) struct StateStored {
    /// Which store it was.
    pub(super) serial: u64,
}

/// A flush has ended.
pub(super) struct FlushCompleted {
    /// What it means to the protocol; `None` for one that only looked after files.
    pub(super) flush: Option<Flush>,
    pub(super) result: Result<Flushed, FlushError>,
    pub(super) took: Duration,
}

/// Old records were read for a follower.
pub(super) struct ReadCompleted {
    pub(super) from: BrokerId,
    /// The epoch in which it was begun.
    pub(super) epoch: LeaderEpoch,
    pub(super) offset: Offset,
    pub(super) result: Result<LogSlice, ReadError>,
}

/// A compaction has ended.
pub(super) struct CompactionCompleted {
    /// The life of the replica in which it was begun.
    pub(super) life: u64,
    pub(super) result: Result<Compacted, StorageError>,
}

/// A part of the log was read and its checksums computed.
pub(super) struct Verified {
    /// The life of the replica in which it was begun.
    pub(super) life: u64,
    pub(super) result: Result<(), Damage>,
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

messages!(
    Append,
    DeleteRecords,
    Maintain,
    Tick,
    AssignmentChanged,
    Fence,
    Transfer,
    FetchRequested,
    PullAnswered,
    DamageSuspected,
    Drain,
    Remove,
    Opened,
    LogReturned,
    StateStored,
    FlushCompleted,
    ReadCompleted,
    CompactionCompleted,
    SegmentRepaired,
    Verified
);
