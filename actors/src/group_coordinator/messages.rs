//! What the coordinator is told.

use std::sync::Arc;

use actix::Message;
use pubg1_metrics::InMailbox;
use pubg1_model::{InstanceName, LeaderEpoch, PartitionId, consumer_instance::Edge};
use tokio::sync::{oneshot, watch};

use super::{
    call::Call,
    lag::{ReadPosition, Sampled},
    replay::Replayed,
    shard::{Appending, Client},
};
use crate::{
    admission::Permit,
    errors::{AppendError, GroupRequestError, OfflineReason},
    handles::{GroupListing, GroupProgress},
};

/// A request for a group.
pub(super) struct Asked {
    /// The partition of the offsets topic.
    pub(super) partition: PartitionId,
    pub(super) call: Call,
    /// Who asks.
    pub(super) edge: Edge,
    /// It has waited long enough for an earlier request of the same instance.
    pub(super) in_vain: bool,
    pub(super) client: Client,
    pub(super) in_mailbox: InMailbox,
}

/// Tell the version of an instance's assignment, now and whenever it changes.
pub(super) struct WatchAssignment {
    /// The partition of the offsets topic.
    pub(super) partition: PartitionId,
    pub(super) group: pubg1_model::GroupId,
    pub(super) instance: InstanceName,
    pub(super) reply: oneshot::Sender<Result<watch::Receiver<u64>, GroupRequestError>>,
    pub(super) permit: Permit,
}

/// What there is in the partitions that are led here.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) groups: Vec<T>,
    pub(super) partitions: Vec<PartitionId>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { groups: Vec::new(), partitions: Vec::new() }
    }
}

/// Tell which groups there are.
pub(super) struct List {
    pub(super) reply: oneshot::Sender<Listed<GroupListing>>,
    pub(super) permit: Permit,
}

/// Tell what groups have committed.
pub(super) struct Progress {
    pub(super) reply: oneshot::Sender<Listed<GroupProgress>>,
    pub(super) permit: Permit,
}

/// The cluster image has changed.
pub(super) struct ImageChanged;

/// Time has passed.
pub(super) struct Tick;

/// Say when nothing is under way.
pub(super) struct Quiesce {
    pub(super) quiet: oneshot::Sender<()>,
}

/// A partition of the offsets topic was read to its end in an epoch.
pub(super) struct Loaded {
    pub(super) partition: PartitionId,
    pub(super) epoch: LeaderEpoch,
    /// The number of the watcher that has read it.
    pub(super) watcher: u64,
    pub(super) replayed: Replayed,
}

/// A partition of the offsets topic no longer leads, or in another epoch.
pub(super) struct Lost {
    pub(super) partition: PartitionId,
    pub(super) reason: Option<Arc<OfflineReason>>,
}

/// An append has ended.
pub(super) struct Appended {
    pub(super) partition: PartitionId,
    pub(super) epoch: LeaderEpoch,
    pub(super) appending: Appending,
    pub(super) result: Result<(), AppendError>,
}

/// It was found out where partitions end that groups read.
pub(super) struct LagSampled {
    pub(super) ends: Vec<(ReadPosition, Sampled)>,
}

macro_rules! messages {
    ($($message:ty),+) => {$(impl Message for $message { type Result = (); })+};
}

messages!(Asked, WatchAssignment, List, Progress, ImageChanged, Tick, Quiesce, Loaded, Lost, Appended, LagSampled);

/// A fault, for tests.
#[cfg(any(test, feature = "testing"))]
pub(super) struct Panic;

#[cfg(any(test, feature = "testing"))]
impl Message for Panic {
    type Result = ();
}
