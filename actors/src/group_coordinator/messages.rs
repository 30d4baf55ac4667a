//! What the coordinator is told.

use std::{collections::BTreeMap, sync::Arc};

use actix::Message;
use pubg1_metrics::InMailbox;
use pubg1_model::{
    GroupId, LeaderEpoch, PartitionId, TopicName, TopicPartition,
    offset_commit::{OffsetCommitKey, OffsetCommitValue},
};
use tokio::sync::oneshot;

use super::{offsets::GroupOffsets, shard::PendingCommit};
use crate::{
    admission::Permit,
    errors::{AppendError, CommitOffsetError, CommittedOffsetError, OfflineReason},
};

/// Store an offset.
pub(super) struct Commit {
    /// The partition of the offsets topic.
    pub(super) partition: PartitionId,
    pub(super) key: OffsetCommitKey,
    pub(super) value: OffsetCommitValue,
    pub(super) encoded_key: Vec<u8>,
    pub(super) encoded_value: Vec<u8>,
    pub(super) reply: oneshot::Sender<Result<(), CommitOffsetError>>,
    pub(super) permit: Permit,
    pub(super) in_mailbox: InMailbox,
}

/// Tell what a group has committed.
pub(super) struct Fetch {
    /// The partition of the offsets topic.
    pub(super) partition: PartitionId,
    pub(super) group: GroupId,
    pub(super) only: Option<TopicPartition>,
    pub(super) reply: oneshot::Sender<Result<BTreeMap<TopicPartition, OffsetCommitValue>, CommittedOffsetError>>,
    pub(super) permit: Permit,
    pub(super) in_mailbox: InMailbox,
}

/// A topic was deleted.
pub(super) struct ForgetTopic {
    pub(super) topic: TopicName,
}

/// Say when nothing is under way.
pub(super) struct Quiesce {
    pub(super) quiet: oneshot::Sender<()>,
}

/// A partition of the offsets topic was read to its end in an epoch.
pub(super) struct Loaded {
    pub(super) partition: PartitionId,
    pub(super) epoch: LeaderEpoch,
    pub(super) offsets: GroupOffsets,
}

/// A partition of the offsets topic no longer leads, or in another epoch.
pub(super) struct Lost {
    pub(super) partition: PartitionId,
    pub(super) reason: Option<Arc<OfflineReason>>,
}

/// An append of commits has ended.
pub(super) struct CommitsAppended {
    pub(super) partition: PartitionId,
    pub(super) epoch: LeaderEpoch,
    pub(super) commits: Vec<PendingCommit>,
    pub(super) result: Result<(), AppendError>,
}

macro_rules! messages {
    ($($message:ty),+) => {$(impl Message for $message { type Result = (); })+};
}

messages!(Commit, Fetch, ForgetTopic, Quiesce, Loaded, Lost, CommitsAppended);

/// A fault, for tests.
#[cfg(any(test, feature = "testing"))]
pub(super) struct Panic;

#[cfg(any(test, feature = "testing"))]
impl Message for Panic {
    type Result = ();
}
