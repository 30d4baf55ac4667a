//! What the coordinator of a group can be asked, and answers. It travels between brokers as it is.

use pubg1_model::{
    GroupId, InstanceName, Offset, TopicPartition,
    consumer_instance::{InstanceDefinition, PollId, Subscription},
};
use serde::{Deserialize, Serialize};

use crate::{
    errors::GroupRequestError,
    handles::{
        CommittedOffset, Delivered, DeliveredRange, GroupDescription, InstanceDescription, OffsetToCommit, PollGrant,
    },
};

/// A request for a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) group: GroupId,
    pub(super) what: Request,
}

/// What is asked. Each may be asked again without harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// What a group has committed, in these partitions or everywhere.
    Committed(Option<Vec<TopicPartition>>),
    /// Commit without a member.
    CommitSimply(Vec<OffsetToCommit>),
    /// The group.
    Describe,
    /// Delete the group.
    DeleteGroup,
    /// Delete what was committed.
    DeleteOffsets(Vec<TopicPartition>),
    /// Take a member out.
    RemoveMember(String),
    /// Something of an instance.
    Instance(InstanceName, InstanceRequest),
}

/// What is asked of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InstanceRequest {
    /// Create it. `creation` tells a repetition from another of the same name.
    Create { creation: u64, definition: InstanceDefinition },
    /// How it is.
    Describe,
    /// Remove it.
    Delete,
    /// Say what it reads.
    Subscribe(Subscription),
    /// It lives.
    Heartbeat,
    /// Begin a poll.
    BeginPoll(BeginPoll),
    /// Store what a poll gives.
    Deliver { poll: PollId, ranges: Vec<DeliveredRange> },
    /// A poll has ended.
    Confirm { poll: PollId, received: bool },
    /// Move.
    Seek(Vec<(TopicPartition, Offset)>),
    /// Commit what it has.
    CommitPositions { patience_ms: u64 },
    /// Commit these offsets.
    CommitOffsets(Vec<OffsetToCommit>),
    /// Commit what this poll has delivered.
    CommitPoll(PollId),
}

/// How a poll is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BeginPoll {
    /// The number that the edge has drawn: a repetition is recognised by it.
    pub(crate) attempt: u64,
    pub(crate) acknowledged: Option<PollId>,
    pub(crate) patience_ms: u64,
    pub(crate) held_for_ms: u64,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Committed(Vec<(TopicPartition, CommittedOffset)>),
    Group(Box<GroupDescription>),
    Instance(Box<InstanceDescription>),
    Grant(Box<PollGrant>),
    Delivered(Delivered),
}

/// The answer to a [`Call`].
pub(super) type CallAnswer = Result<Reply, GroupRequestError>;

impl Request {
    /// How long the coordinator may let it wait for an earlier one of the same instance.
    pub(super) const fn patience_ms(&self) -> u64 {
        match self {
            Self::Instance(_, InstanceRequest::BeginPoll(BeginPoll { patience_ms, .. }))
            | Self::Instance(_, InstanceRequest::CommitPositions { patience_ms }) => *patience_ms,
            _ => 0,
        }
    }

    /// Whether it was carried out if `error` is what a repetition is told.
    pub(super) const fn is_done_by(&self, error: &GroupRequestError) -> bool {
        match self {
            Self::Instance(_, InstanceRequest::Delete) => matches!(error, GroupRequestError::UnknownInstance { .. }),
            Self::Instance(_, InstanceRequest::Confirm { .. }) => matches!(error, GroupRequestError::PollGone(_)),
            Self::RemoveMember(_) => matches!(error, GroupRequestError::UnknownMember { .. }),
            Self::DeleteGroup => matches!(error, GroupRequestError::UnknownGroup(_)),
            _ => false,
        }
    }

    /// Whether what is answered may be nothing but memory: then it counts only while the partition may be read. What was
    /// stored counts in any case.
    pub(super) const fn rests_on_memory(&self) -> bool {
        matches!(
            self,
            Self::Committed(_)
                | Self::Describe
                | Self::Instance(
                    _,
                    InstanceRequest::Describe
                        | InstanceRequest::Heartbeat
                        | InstanceRequest::BeginPoll(_)
                        | InstanceRequest::Confirm { .. }
                )
        )
    }

    /// About how many bytes it keeps in memory.
    pub(super) fn bytes(&self) -> u64 {
        const EACH: usize = 64;
        let of_offset = |offset: &OffsetToCommit| EACH + offset.partition.topic.as_str().len() + offset.metadata.len();
        let bytes = match self {
            Self::CommitSimply(offsets) | Self::Instance(_, InstanceRequest::CommitOffsets(offsets)) => {
                offsets.iter().map(of_offset).sum()
            }
            Self::Committed(Some(partitions)) | Self::DeleteOffsets(partitions) => EACH * partitions.len(),
            Self::Instance(_, InstanceRequest::Deliver { ranges, .. }) => 2 * EACH * ranges.len(),
            Self::Instance(_, InstanceRequest::Seek(offsets)) => EACH * offsets.len(),
            _ => 0,
        };
        u64::try_from(EACH + bytes).unwrap_or(u64::MAX)
    }
}
