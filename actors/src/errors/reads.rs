//! Errors of reading, and of deleting what can be read. They travel between brokers as they are.

use std::sync::Arc;

use pubg1_model::{BrokerId, Offset};
use serde::{Deserialize, Serialize};

use super::{AppendError, OfflineReason, wire};

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FetchError {
    /// The partition is being recovered, or the broker has just started and does not know yet who leads it. Nothing was
    /// done.
    #[error("the partition is being recovered, or the broker has just started; try again")]
    NotReady {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Another broker leads the partition, or none at present.
    #[error("{}; try again", wire::not_leader(*.leader))]
    NotLeader {
        /// Who leads, as far as is known.
        leader: Option<BrokerId>,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The partition serves nothing.
    #[error("the partition is offline: {0}")]
    Offline(Arc<OfflineReason>),
    /// The offset was deleted or does not exist yet.
    #[error("offset {requested} is not there; records {log_start_offset} to {high_watermark} (exclusive) are")]
    OffsetOutOfRange {
        /// What was asked for.
        requested: Offset,
        /// The first record.
        log_start_offset: Offset,
        /// The end of what may be read.
        high_watermark: Offset,
    },
    /// The broker whose replica is wanted does not answer.
    #[error("broker {broker} cannot be reached; try again")]
    Unreachable {
        /// The broker.
        broker: BrokerId,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// A budget is used up.
    #[error("the broker is overloaded; try again")]
    Overloaded {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The log could not be read.
    #[error("the log cannot be read: {reason}")]
    Storage {
        /// The error.
        reason: String,
    },
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Draining,
    /// The topic was deleted.
    #[error("the topic was deleted")]
    Deleted,
}

impl FetchError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::NotReady { .. }
            | Self::NotLeader { .. }
            | Self::Unreachable { .. }
            | Self::Overloaded { .. }
            | Self::Draining => true,
            Self::Offline(reason) => reason.may_pass(),
            Self::OffsetOutOfRange { .. } | Self::Storage { .. } | Self::Deleted => false,
        }
    }

    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::NotReady { retry_after_ms }
            | Self::NotLeader { retry_after_ms, .. }
            | Self::Unreachable { retry_after_ms, .. }
            | Self::Overloaded { retry_after_ms } => Some(*retry_after_ms),
            _ => None,
        }
    }
}

/// Why records were not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DeleteRecordsError {
    /// Records that are not committed cannot be deleted.
    #[error("offset {requested} lies beyond the high watermark {high_watermark}")]
    OffsetOutOfRange {
        /// What was asked for.
        requested: Offset,
        /// The furthest that is possible.
        high_watermark: Offset,
    },
    /// The partition cannot do it now, for the same reasons as it cannot be written to.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl DeleteRecordsError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Append(error) if error.is_retriable())
    }
}
