//! Errors of committed offsets. They travel between brokers as they are.

use std::sync::Arc;

use pubg1_model::{
    GroupId, InstanceName, TopicPartition,
    consumer_instance::{InvalidDefinition, PollId},
};
use serde::{Deserialize, Serialize};

use super::{AppendError, LookupError, OfflineReason};

/// Why an offset was not committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CommitOffsetError {
    /// The coordinator of the group is still reading the group's offsets.
    #[error("the coordinator of group {group} is loading; try again")]
    Loading {
        /// The group.
        group: GroupId,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The partition does not exist.
    #[error(transparent)]
    UnknownPartition(#[from] LookupError),
    /// The commit cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// The group has members: only they may commit.
    #[error("group {0} has members; only they may commit")]
    HasMembers(GroupId),
    /// The offsets topic did not take it.
    #[error("the offset was not stored: {0}")]
    Append(#[from] AppendError),
}

impl From<GroupRequestError> for CommitOffsetError {
    fn from(error: GroupRequestError) -> Self {
        match error {
            GroupRequestError::Loading { group, retry_after_ms }
            | GroupRequestError::Rebalancing { group, retry_after_ms } => Self::Loading { group, retry_after_ms },
            GroupRequestError::Append(error) => Self::Append(error),
            GroupRequestError::UnknownPartition(error) => Self::UnknownPartition(error),
            GroupRequestError::HasMembers(group) => Self::HasMembers(group),
            error => Self::Invalid(error.to_string()),
        }
    }
}

impl CommitOffsetError {
    /// Whether the same request may succeed later. A commit may always be repeated.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Loading { .. } | Self::UnknownPartition(LookupError::NotReady { .. }) => true,
            Self::UnknownPartition(_) | Self::Invalid(_) | Self::HasMembers(_) => false,
            Self::Append(error) => error.is_retriable(),
        }
    }

    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Loading { retry_after_ms, .. } | Self::UnknownPartition(LookupError::NotReady { retry_after_ms }) => {
                Some(*retry_after_ms)
            }
            Self::Append(error) => error.retry_after_ms(),
            _ => None,
        }
    }
}

/// Why a committed offset cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CommittedOffsetError {
    /// The coordinator of the group is still reading the group's offsets.
    #[error("the coordinator of group {group} is loading; try again")]
    Loading {
        /// The group.
        group: GroupId,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The partition that stores the group's offsets is offline.
    #[error("the offsets of group {group} cannot be read: {reason}")]
    Offline {
        /// The group.
        group: GroupId,
        /// Why the partition is offline.
        reason: Arc<OfflineReason>,
    },
    /// The partition that stores the group's offsets is led by another broker, or by none at present.
    #[error("the coordinator of group {group} cannot be reached at present; try again")]
    NotLeader {
        /// The group.
        group: GroupId,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Draining,
}

impl CommittedOffsetError {
    /// What the refusal of a question about `group` means.
    pub(crate) fn of(group: GroupId, error: GroupRequestError, retry_after_ms: u64) -> Self {
        match error {
            GroupRequestError::Append(AppendError::Offline(reason)) => Self::Offline { group, reason },
            GroupRequestError::Append(AppendError::Draining) => Self::Draining,
            GroupRequestError::Append(AppendError::NotLeader { .. }) => Self::NotLeader { group, retry_after_ms },
            _ => Self::Loading { group, retry_after_ms },
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Loading { .. } | Self::NotLeader { .. } | Self::Draining => true,
            Self::Offline { reason, .. } => reason.may_pass(),
        }
    }
}

/// Why a request for a consumer group was not carried out. Unless it is retriable, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GroupRequestError {
    /// The coordinator of the group is still reading the group.
    #[error("the coordinator of group {group} is loading; try again")]
    Loading {
        /// The group.
        group: GroupId,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// What the request has changed could not be stored, or is not known to be.
    #[error("the group's change was not stored: {0}")]
    Append(#[from] AppendError),
    /// A partition does not exist.
    #[error(transparent)]
    UnknownPartition(#[from] LookupError),
    /// Nobody knows the group.
    #[error("there is no group {0}")]
    UnknownGroup(GroupId),
    /// There is no such instance: it was never created, was deleted, or was not heard of for too long.
    #[error("group {group} has no consumer instance {instance}")]
    UnknownInstance {
        /// The group.
        group: GroupId,
        /// The instance.
        instance: InstanceName,
    },
    /// There is no such member.
    #[error("group {group} has no member {member}")]
    UnknownMember {
        /// The group.
        group: GroupId,
        /// The member.
        member: String,
    },
    /// An instance of this name exists.
    #[error("group {group} has a consumer instance {instance} already")]
    InstanceExists {
        /// The group.
        group: GroupId,
        /// The instance.
        instance: InstanceName,
    },
    /// A setting of an instance is not acceptable.
    #[error(transparent)]
    InvalidDefinition(#[from] InvalidDefinition),
    /// What is to be stored is not acceptable: metadata too long, a pattern that is none, too many instances.
    #[error("{0}")]
    Invalid(String),
    /// An instance either subscribes or is assigned partitions by hand.
    #[error("instance {0} subscribes or is assigned partitions by hand, not both; end the one before the other")]
    MixedSubscription(InstanceName),
    /// The instance reads nothing yet.
    #[error("instance {0} has not subscribed to anything")]
    NotSubscribed(InstanceName),
    /// The partition is not the instance's own.
    #[error("partition {0} is not assigned to the instance")]
    NotAssigned(TopicPartition),
    /// Another member reads the partition now, or has read on in it since this one was given anything of it.
    #[error("partition {0} belongs to another member of the group by now, or did meanwhile; poll before you commit")]
    NotOwner(TopicPartition),
    /// The member was silent for longer than its session, and others may have its partitions. Its next poll joins again.
    #[error("instance {0} was expelled from its group, as it had not been heard of; poll to join again")]
    Expelled(InstanceName),
    /// The poll has ended: its coordinator has changed, or it had taken too long. Nothing of it may be given out.
    #[error("poll {} is over; begin another", .0.0)]
    PollGone(PollId),
    /// An earlier poll of the same instance has not ended, and as many requests wait for that as may.
    #[error("instance {instance} is busy: too many requests wait for an earlier poll; try again")]
    Busy {
        /// The instance.
        instance: InstanceName,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Whether the client has the last delivery is not known, so its positions cannot be committed.
    #[error("whether the last records reached the client is not known; poll again, or name the offsets to commit")]
    DeliveryUnknown(InstanceName),
    /// Only a group without members may be changed from outside.
    #[error("group {0} has members; only they may commit, and it cannot be changed or deleted meanwhile")]
    HasMembers(GroupId),
    /// Another member has taken this static identity over.
    #[error("another member uses the identity {group_instance_id} of instance {instance} by now")]
    Fenced {
        /// The instance.
        instance: InstanceName,
        /// The identity.
        group_instance_id: String,
    },
    /// The members cannot agree on an assignor.
    #[error("no assignor of the instance suits every member of group {0}")]
    InconsistentProtocol(GroupId),
    /// The group has as many members, or instances, as it may have.
    #[error("group {group} has {members_max} members already")]
    GroupFull {
        /// The group.
        group: GroupId,
        /// The limit.
        members_max: u32,
    },
    /// The members are changing.
    #[error("group {group} is rebalancing; try again")]
    Rebalancing {
        /// The group.
        group: GroupId,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
}

impl GroupRequestError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Loading { .. }
            | Self::Busy { .. }
            | Self::Rebalancing { .. }
            | Self::UnknownPartition(LookupError::NotReady { .. }) => true,
            Self::Append(error) => error.is_retriable(),
            _ => false,
        }
    }

    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Loading { retry_after_ms, .. }
            | Self::Busy { retry_after_ms, .. }
            | Self::Rebalancing { retry_after_ms, .. }
            | Self::UnknownPartition(LookupError::NotReady { retry_after_ms }) => Some(*retry_after_ms),
            Self::Append(error) => error.retry_after_ms(),
            _ => None,
        }
    }
}
