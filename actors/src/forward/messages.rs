//! What travels between brokers for a client. Record batches are payload and are never decoded here.

use std::time::Duration;

use pubg1_model::{LeaderEpoch, Offset, PartitionId, TopicId};
use serde::{Deserialize, Serialize};

use crate::partition::{Acks, Fetched, LeaderView, ReplicaBatches};

/// The kinds of these requests.
pub(crate) mod kind {
    /// Append batches.
    pub(crate) const APPEND: u16 = 30;
    /// Read committed batches.
    pub(crate) const READ: u16 = 31;
    /// Find the first record at or after a time.
    pub(crate) const FIND_TIMESTAMP: u16 = 32;
    /// Delete the records below an offset.
    pub(crate) const DELETE_RECORDS: u16 = 33;
    /// The leader's view, at once or when an offset can be read.
    pub(crate) const VIEW: u16 = 34;
    /// A replica's own state.
    pub(crate) const REPLICA_STATUS: u16 = 35;
    /// Batches of a replica's own log.
    pub(crate) const REPLICA_READ: u16 = 36;
    /// Which replicas are in sync, of many partitions at once.
    pub(crate) const IN_SYNC: u16 = 37;
    /// The leader's views of many partitions at once.
    pub(crate) const VIEWS: u16 = 38;
}

/// The partition that is meant, whatever its topic is called by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) topic_id: TopicId,
    pub(crate) partition: PartitionId,
}

/// Append; the batches are the payload, back to back. Answered with a `Result<AppendReply, AppendError>`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Append {
    pub(super) place: Place,
    pub(super) acks: Acks,
}

/// Read; answered with a `Result<ReadReply, FetchError>` and the batches as payload.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Read {
    pub(super) place: Place,
    pub(super) from: Offset,
    pub(super) max_bytes: u64,
}

/// What was read, without the batches.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReadReply {
    pub(super) next_offset: Offset,
    pub(super) log_start_offset: Offset,
    pub(super) high_watermark: Offset,
    pub(super) leader: pubg1_model::BrokerId,
    pub(super) leader_epoch: LeaderEpoch,
}

impl ReadReply {
    pub(super) const fn of(fetched: &Fetched) -> Self {
        let Fetched { next_offset, log_start_offset, high_watermark, leader, leader_epoch, .. } = *fetched;
        Self { next_offset, log_start_offset, high_watermark, leader, leader_epoch }
    }

    pub(super) fn with(self, batches: bytes::Bytes) -> Fetched {
        let Self { next_offset, log_start_offset, high_watermark, leader, leader_epoch } = self;
        Fetched { runs: runs(batches), next_offset, log_start_offset, high_watermark, leader, leader_epoch }
    }
}

/// Find a time; answered with a `Result<Option<(Offset, i64)>, FetchError>`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FindTimestamp {
    pub(super) place: Place,
    pub(super) timestamp_ms: i64,
}

/// Delete records; answered with a `Result<Deleted, DeleteRecordsError>`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DeleteRecords {
    pub(super) place: Place,
    pub(super) before: Offset,
}

/// The view; answered with a `Result<LeaderView, FetchError>`, at once unless something is waited for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct View {
    pub(super) place: Place,
    pub(super) wait: Option<WaitAbove>,
}

/// Answer when the record at this offset can be read, or when the time is over.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct WaitAbove {
    pub(super) offset: Offset,
    pub(super) at_most: Duration,
}

/// The answer to [`View`].
pub(super) type ViewAnswer = Result<LeaderView, crate::errors::FetchError>;

/// Read a replica's log; answered with a `Result<ReplicaReadReply, FetchError>` and the batches as payload.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReplicaRead {
    pub(super) place: Place,
    pub(super) from: Option<Offset>,
    pub(super) max_bytes: u64,
}

/// What was read of a replica, without the batches.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReplicaReadReply {
    pub(super) next_offset: Offset,
    pub(super) log_start_offset: Offset,
    pub(super) high_watermark: Offset,
    pub(super) leader_epoch: LeaderEpoch,
}

impl ReplicaReadReply {
    pub(super) const fn of(read: &ReplicaBatches) -> Self {
        let ReplicaBatches { next_offset, log_start_offset, high_watermark, leader_epoch, .. } = *read;
        Self { next_offset, log_start_offset, high_watermark, leader_epoch }
    }

    pub(super) fn with(self, batches: bytes::Bytes) -> ReplicaBatches {
        let Self { next_offset, log_start_offset, high_watermark, leader_epoch } = self;
        ReplicaBatches { runs: runs(batches), next_offset, log_start_offset, high_watermark, leader_epoch }
    }
}

fn runs(batches: bytes::Bytes) -> Vec<bytes::Bytes> {
    if batches.is_empty() { Vec::new() } else { vec![batches] }
}
