//! What the actors of streams are told.

use actix::Message;
use bytes::Bytes;
use pubg1_model::{
    LeaderEpoch, Offset, ProducerId,
    streams::task::{CommitToAppend, Task, TaskError, TaskTime},
};
use tokio::sync::oneshot;

use super::{
    describe::TaskReport,
    windows::{OpenParts, OpenQuery, TaskRows, TaskWindowsQuery},
};

/// To the actor of all streams: the cluster image has changed.
pub(super) struct ImageChanged;

/// To the actor of all streams: time has passed.
pub(super) struct Tick;

/// To the actor of all streams: end all tasks, and say when none runs.
pub(super) struct Quiesce {
    pub(super) quiet: oneshot::Sender<()>,
}

/// To the actor of all streams: a task has ended for good, or the whole upkeep has.
pub(super) struct UpkeepDone;

/// To the actor of a task: end.
pub(super) struct End;

/// To the actor of a task: nothing drives it any more. It dies, and is started again if it is still wanted.
pub(super) struct DriverEnded;

/// The task goes on after it has stood still.
pub(super) struct Resumed;

/// A fault, for tests.
#[cfg(any(test, feature = "testing"))]
pub(super) struct Panic;

/// This is the task, as its changelog says.
pub(super) struct Restored {
    pub(super) task: Box<Task>,
}

/// The task's memory is of no use any more.
pub(super) struct Forget;

/// Begin: nothing was committed yet.
pub(super) struct Begin {
    pub(super) producer_id: ProducerId,
    pub(super) start: Offset,
    pub(super) end: Option<Offset>,
}

/// What shall be done next?
pub(super) struct NextStep;

/// What there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Where to read on.
    pub(super) position: Offset,
    /// Whether it takes anything.
    pub(super) can_feed: bool,
    /// Whether all is read, and closed.
    pub(super) is_finished: bool,
    /// More than the stream may hold on this broker, in bytes.
    pub(super) over_memory: Option<u64>,
}

/// Records were read.
pub(super) struct Feed {
    pub(super) batches: Bytes,
    /// The end of what may be read, as it was then.
    pub(super) end: Offset,
}

/// All was read that there is.
pub(super) struct CaughtUp {
    pub(super) at: Offset,
}

/// Records before this were deleted: pass over them.
pub(super) struct SkipTo {
    pub(super) to: Offset,
}

/// Tell the own time.
pub(super) struct OwnTime;

/// See to it that silence has its effect. `others`: the times of the other partitions, where they are known; one for
/// each partition.
pub(super) struct Idle {
    pub(super) all: Vec<Option<TaskTime>>,
}

/// Make a commit if one is due, or if `now`, if there is anything to commit.
pub(super) struct MakeCommit {
    pub(super) epoch: LeaderEpoch,
    pub(super) now: bool,
}

/// What came of it.
pub(super) enum Made {
    /// This is to be appended.
    Commit(CommitToAppend),
    /// It is not time yet. Whether there is anything to commit.
    Nothing { is_clean: bool },
}

/// A commit is stored at the quorum.
pub(super) struct Committed {
    pub(super) number: u64,
}

/// The outputs of a commit are published.
pub(super) struct Published {
    pub(super) number: u64,
}

/// How is the task doing?
pub(super) struct Describe;

/// The windows that the task can tell of.
pub(super) struct ReadWindows {
    pub(super) query: TaskWindowsQuery,
    pub(super) open: Vec<(u32, Vec<u8>)>,
    /// What it has to have read before.
    pub(super) past: Offset,
    pub(super) reply: oneshot::Sender<TaskRows>,
}

/// What a first stage has open.
pub(super) struct ReadOpen {
    pub(super) query: OpenQuery,
    pub(super) reply: oneshot::Sender<OpenParts>,
}

macro_rules! messages {
    ($($message:ty => $result:ty;)+) => {$(impl Message for $message { type Result = $result; })+};
}

messages! {
    ImageChanged => ();
    Tick => ();
    Quiesce => ();
    UpkeepDone => ();
    End => ();
    DriverEnded => ();
    Resumed => ();
    Restored => ();
    Forget => ();
    Begin => ();
    NextStep => Result<Step, TaskError>;
    Feed => Result<usize, TaskError>;
    CaughtUp => ();
    SkipTo => ();
    OwnTime => Option<TaskTime>;
    Idle => Result<bool, TaskError>;
    MakeCommit => Result<Made, TaskError>;
    Committed => ();
    Published => ();
    Describe => Option<TaskReport>;
    ReadWindows => ();
    ReadOpen => ();
}

#[cfg(any(test, feature = "testing"))]
impl Message for Panic {
    type Result = ();
}
