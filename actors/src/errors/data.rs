//! Errors of finding a partition and of writing to it. They travel between brokers as they are.

use std::{path::PathBuf, sync::Arc};

use pubg1_model::{BrokerId, LeaderEpoch, Offset, PartitionId, ProducerId, TopicName};
use serde::{Deserialize, Serialize};

use super::wire;
use crate::{admission::Budget, fatal::FatalError, partition::Appended};

/// Why a partition serves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OfflineReason {
    /// Records that were on disk for certain are not what they were. Nothing is cut off or skipped:
    /// restore the files, or delete the topic.
    #[error("{} is damaged at byte {position} (offset {offset}): {detail}; restore the file or delete the topic",
        .file.display())]
    Damaged {
        /// The damaged file.
        #[serde(with = "wire::path")]
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
    /// No broker can be made its leader.
    #[error("it has no leader: {reason}")]
    NoLeader {
        /// What the controller says.
        reason: String,
    },
}

impl OfflineReason {
    /// Whether it may pass without anybody's help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoLeader { .. })
    }
}

/// No such partition in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AppendError {
    /// The partition is being recovered, or the broker has just started and does not know yet who leads it. Nothing was
    /// done.
    #[error("the partition is being recovered, or the broker has just started; try again")]
    NotReady {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Another broker leads the partition, or none at present. Nothing was written.
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
        #[serde(with = "wire::appended")]
        appended: Vec<Appended>,
        /// Who took it.
        leader: BrokerId,
        /// In which epoch.
        leader_epoch: LeaderEpoch,
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
            | Self::NotLeader { .. }
            | Self::Overloaded { .. }
            | Self::DiskFull { .. }
            | Self::Storage { .. }
            | Self::Draining
            | Self::OutcomeUnknown { .. }
            | Self::TimedOut { .. }
            | Self::Failed(_) => true,
            Self::Offline(reason) => reason.may_pass(),
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
            | Self::NotLeader { retry_after_ms, .. }
            | Self::Overloaded { retry_after_ms, .. }
            | Self::DiskFull { retry_after_ms }
            | Self::Storage { retry_after_ms, .. }
            | Self::OutcomeUnknown { retry_after_ms } => Some(*retry_after_ms),
            Self::Partial { cause, .. } => cause.retry_after_ms(),
            _ => None,
        }
    }
}
