//! Errors of committed offsets. They travel between brokers as they are.

use std::sync::Arc;

use pubg1_model::{GroupId, offset_commit::OffsetCommitError};
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
    /// The offsets topic did not take it.
    #[error("the offset was not stored: {0}")]
    Append(#[from] AppendError),
}

impl From<OffsetCommitError> for CommitOffsetError {
    fn from(error: OffsetCommitError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl CommitOffsetError {
    /// Whether the same request may succeed later. A commit may always be repeated.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Loading { .. } | Self::UnknownPartition(LookupError::NotReady { .. }) => true,
            Self::UnknownPartition(_) | Self::Invalid(_) => false,
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
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Loading { .. } | Self::NotLeader { .. } | Self::Draining => true,
            Self::Offline { reason, .. } => reason.may_pass(),
        }
    }
}
