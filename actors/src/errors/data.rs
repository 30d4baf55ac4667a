//! Errors of reading, writing and committing.

use std::{path::PathBuf, sync::Arc};

use pubg1_model::{GroupId, Offset, PartitionId, ProducerId, TopicName, offset_commit::OffsetCommitError};

use crate::{admission::Budget, fatal::FatalError, partition::Appended};

/// Why a partition serves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfflineReason {
    /// Records that were on disk for certain are not what they were. Nothing is cut off or skipped:
    /// restore the files, or delete the topic.
    #[error("{} is damaged at byte {position} (offset {offset}): {detail}; restore the file or delete the topic",
        .file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage begins, in bytes.
        position: u64,
        /// The offset that should be there.
        offset: Offset,
        /// What is wrong there.
        detail: String,
    },
    /// The log cannot be opened at present; it is tried again and again.
    #[error("the log cannot be opened: {reason}; it is tried again")]
    Unavailable {
        /// The error of the operating system.
        reason: String,
    },
    /// A flush failed: what is on disk is not known until the next start.
    #[error("a flush failed: {reason}; acknowledgements have stopped, restart the broker")]
    FlushFailed {
        /// The error of the operating system.
        reason: String,
    },
}

/// No such partition here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No topic of this name.
    #[error("there is no topic {0}")]
    UnknownTopic(TopicName),
    /// The topic has fewer partitions.
    #[error("topic {topic} has partitions 0 to {}, not {partition}", partitions.saturating_sub(1))]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// The broker does not know its topics yet, or has just learnt of this one.
    #[error("the broker is starting; try again")]
    NotReady {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
}

/// Why an append was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The partition is being recovered.
    #[error("the partition is being recovered; try again")]
    NotReady {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The partition serves nothing.
    #[error("the partition is offline: {0}")]
    Offline(Arc<OfflineReason>),
    /// A budget is used up. Nothing was written.
    #[error("the broker is overloaded ({}); try again", match .budget {
        Budget::Bytes => "bytes waiting to be written",
        Budget::Requests => "requests waiting to be answered",
    })]
    Overloaded {
        /// Which one.
        budget: Budget,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The request alone exceeds the broker's budget.
    #[error("the request has {bytes} bytes, the broker takes at most {bytes_max} at once; send less")]
    RequestTooLarge {
        /// Bytes of the request.
        bytes: u64,
        /// The budget.
        bytes_max: u64,
    },
    /// A batch is larger than the topic takes.
    #[error("a record batch has {bytes} bytes, max_message_bytes of the topic is {bytes_max}")]
    BatchTooLarge {
        /// Bytes of the batch.
        bytes: u64,
        /// The topic's limit.
        bytes_max: u64,
    },
    /// A gap in the sequence of an idempotent producer.
    #[error("producer {producer_id} sent sequence number {received}, expected is {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The number that the next batch must have.
        expected: i32,
        /// The number that it has.
        received: i32,
    },
    /// A newer instance of the producer has taken over.
    #[error("producer {producer_id} sent epoch {received}, current is {current}")]
    StaleProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The newest epoch.
        current: i16,
        /// The epoch of the batch.
        received: i16,
    },
    /// The batch breaks a rule of its topic.
    #[error("the record batch is refused: {reason}")]
    Invalid {
        /// The rule.
        reason: String,
    },
    /// The disk has no space. Nothing was written; it heals when space returns.
    #[error("the disk is full; nothing was written, free space or delete records")]
    DiskFull {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The log could not be written to. Nothing was written.
    #[error("the log cannot be written: {reason}")]
    Storage {
        /// The error.
        reason: String,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Some batches of the request are in the log, the rest is not.
    #[error("the first {} batches were written, then: {cause}", appended.len())]
    Partial {
        /// What was written, in order.
        appended: Vec<Appended>,
        /// Why the next one was not.
        cause: Box<AppendError>,
    },
    /// The broker is shutting down. Nothing was written.
    #[error("the broker is shutting down")]
    Draining,
    /// The topic was deleted.
    #[error("the topic was deleted")]
    Deleted,
    /// The partition was interrupted: the records may or may not be in the log.
    #[error("the partition was interrupted; whether the records were written is not known")]
    OutcomeUnknown {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The records are in the log but were not committed in time: they may or may not last.
    #[error("no acknowledgement within {waited_ms} ms; whether the records will be committed is not known")]
    TimedOut {
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// The broker has failed and is about to end.
    #[error("the broker has failed: {0}")]
    Failed(Arc<FatalError>),
}

impl AppendError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::NotReady { .. }
            | Self::Overloaded { .. }
            | Self::DiskFull { .. }
            | Self::Storage { .. }
            | Self::Draining
            | Self::OutcomeUnknown { .. }
            | Self::TimedOut { .. }
            | Self::Failed(_) => true,
            Self::Offline(reason) => matches!(**reason, OfflineReason::Unavailable { .. }),
            Self::Partial { cause, .. } => cause.is_retriable(),
            Self::RequestTooLarge { .. }
            | Self::BatchTooLarge { .. }
            | Self::OutOfOrderSequence { .. }
            | Self::StaleProducerEpoch { .. }
            | Self::Invalid { .. }
            | Self::Deleted => false,
        }
    }

    /// Whether the records may be in the log although this is an error.
    #[must_use]
    pub const fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. } | Self::TimedOut { .. } | Self::Partial { .. } | Self::Failed(_))
    }

    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::NotReady { retry_after_ms }
            | Self::Overloaded { retry_after_ms, .. }
            | Self::DiskFull { retry_after_ms }
            | Self::Storage { retry_after_ms, .. }
            | Self::OutcomeUnknown { retry_after_ms } => Some(*retry_after_ms),
            Self::Partial { cause, .. } => cause.retry_after_ms(),
            _ => None,
        }
    }
}

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The partition is being recovered.
    #[error("the partition is being recovered; try again")]
    NotReady {
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
            Self::NotReady { .. } | Self::Overloaded { .. } | Self::Draining => true,
            Self::Offline(reason) => matches!(**reason, OfflineReason::Unavailable { .. }),
            Self::OffsetOutOfRange { .. } | Self::Storage { .. } | Self::Deleted => false,
        }
    }

    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::NotReady { retry_after_ms } | Self::Overloaded { retry_after_ms } => Some(*retry_after_ms),
            _ => None,
        }
    }
}

/// Why records were not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// Why an offset was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    #[error(transparent)]
    Invalid(#[from] OffsetCommitError),
    /// The offsets topic did not take it.
    #[error("the offset was not stored: {0}")]
    Append(#[from] AppendError),
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Draining,
}

impl CommittedOffsetError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Loading { .. } | Self::Draining => true,
            Self::Offline { reason, .. } => matches!(**reason, OfflineReason::Unavailable { .. }),
        }
    }
}
