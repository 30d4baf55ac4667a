//! Which cause of the table each error of the broker is.

use pubg1_actors::{
    AlterTopicError, AppendError, ClusterChangeError, CommitOffsetError, CommittedOffsetError, CreateTopicError,
    DeleteRecordsError, DeleteTopicError, FetchError, LookupError, MetadataUnavailable, OfflineReason, ProducerIdError,
};
use pubg1_model::{InvalidName, record_batch::BatchError};

use super::{ApiError, Cause};

fn offline(reason: &OfflineReason) -> Cause {
    match reason {
        OfflineReason::Damaged { .. } => Cause::Storage,
        OfflineReason::Unavailable { .. } | OfflineReason::FlushFailed { .. } => Cause::Unavailable,
        OfflineReason::NoLeader { .. } => Cause::NoLeader,
    }
}

fn append_cause(error: &AppendError) -> Cause {
    match error {
        AppendError::NotReady { .. } => Cause::Recovering,
        AppendError::NotLeader { .. } => Cause::NotLeader,
        AppendError::Offline(reason) => offline(reason),
        AppendError::Overloaded { .. } => Cause::Overloaded,
        AppendError::RequestTooLarge { .. } | AppendError::BatchTooLarge { .. } => Cause::TooLarge,
        AppendError::OutOfOrderSequence { .. } => Cause::SequenceGap,
        AppendError::StaleProducerEpoch { .. } => Cause::StaleProducerEpoch,
        AppendError::Invalid { .. } => Cause::InvalidBatch,
        AppendError::DiskFull { .. } => Cause::DiskFull,
        AppendError::Storage { .. } | AppendError::Failed(_) => Cause::Unavailable,
        AppendError::Partial { cause, .. } => append_cause(cause),
        AppendError::Draining => Cause::Draining,
        AppendError::Deleted => Cause::NoTopic,
        AppendError::OutcomeUnknown { .. } | AppendError::TimedOut { .. } => Cause::OutcomeUnknown,
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        let refusal = Self::new(append_cause(&error), error.to_string());
        let innermost = match &error {
            AppendError::Partial { cause, .. } => cause,
            error => error,
        };
        match innermost {
            AppendError::OutOfOrderSequence { expected, received, .. } => {
                refusal.with("expected", *expected).with("received", *received)
            }
            AppendError::StaleProducerEpoch { current, received, .. } => {
                refusal.with("current", *current).with("received", *received)
            }
            _ => refusal,
        }
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        let cause = match error {
            LookupError::UnknownTopic(_) => Cause::NoTopic,
            LookupError::UnknownPartition { .. } => Cause::NoPartition,
            LookupError::NotReady { .. } => Cause::Recovering,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        let message = error.to_string();
        match error {
            FetchError::NotReady { .. } => Self::new(Cause::Recovering, message),
            FetchError::NotLeader { .. } => Self::new(Cause::NotLeader, message),
            FetchError::Unreachable { .. } => Self::new(Cause::Unavailable, message),
            FetchError::Offline(reason) => Self::new(offline(&reason), message),
            FetchError::OffsetOutOfRange { log_start_offset, high_watermark, .. } => {
                Self::new(Cause::OffsetOutOfRange, message)
                    .with("beginning_offset", log_start_offset.get())
                    .with("end_offset", high_watermark.get())
            }
            FetchError::Overloaded { .. } => Self::new(Cause::Overloaded, message),
            FetchError::Storage { .. } => Self::new(Cause::Storage, message),
            FetchError::Draining => Self::new(Cause::Draining, message),
            FetchError::Deleted => Self::new(Cause::NoTopic, message),
        }
    }
}

impl From<DeleteRecordsError> for ApiError {
    fn from(error: DeleteRecordsError) -> Self {
        match error {
            DeleteRecordsError::Append(error) => error.into(),
            DeleteRecordsError::OffsetOutOfRange { high_watermark, .. } => {
                Self::new(Cause::OffsetOutOfRange, error.to_string()).with("end_offset", high_watermark.get())
            }
        }
    }
}

impl From<CommitOffsetError> for ApiError {
    fn from(error: CommitOffsetError) -> Self {
        match error {
            CommitOffsetError::Loading { .. } => Self::new(Cause::Recovering, error.to_string()),
            CommitOffsetError::UnknownPartition(error) => error.into(),
            CommitOffsetError::Invalid(_) => Self::new(Cause::Unprocessable, error.to_string()),
            CommitOffsetError::HasMembers(_) => Self::new(Cause::GroupNotEmpty, error.to_string()),
            CommitOffsetError::Append(error) => error.into(),
        }
    }
}

impl From<CommittedOffsetError> for ApiError {
    fn from(error: CommittedOffsetError) -> Self {
        let cause = match &error {
            CommittedOffsetError::Loading { .. } => Cause::Recovering,
            CommittedOffsetError::NotLeader { .. } => Cause::NotLeader,
            CommittedOffsetError::Offline { reason, .. } => offline(reason),
            CommittedOffsetError::Draining => Cause::Draining,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<MetadataUnavailable> for ApiError {
    fn from(error: MetadataUnavailable) -> Self {
        let cause = match error {
            MetadataUnavailable::NotReady { .. } => Cause::Recovering,
            MetadataUnavailable::Overloaded { .. } => Cause::Overloaded,
            MetadataUnavailable::DiskFull { .. } => Cause::DiskFull,
            MetadataUnavailable::OutcomeUnknown { .. } => Cause::OutcomeUnknown,
            MetadataUnavailable::Draining => Cause::Draining,
            MetadataUnavailable::Storage { .. }
            | MetadataUnavailable::NoLeader { .. }
            | MetadataUnavailable::Failed(_) => Cause::Unavailable,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<CreateTopicError> for ApiError {
    fn from(error: CreateTopicError) -> Self {
        let cause = match error {
            CreateTopicError::Unavailable(error) => return error.into(),
            CreateTopicError::Internal(_) => Cause::InternalTopic,
            CreateTopicError::Exists(_) => Cause::TopicExists,
            CreateTopicError::Refused(_) => Cause::InvalidTopic,
            CreateTopicError::NoPlace { .. } => Cause::Unavailable,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<AlterTopicError> for ApiError {
    fn from(error: AlterTopicError) -> Self {
        let cause = match error {
            AlterTopicError::Unavailable(error) => return error.into(),
            AlterTopicError::Internal(_) => Cause::InternalTopic,
            AlterTopicError::UnknownTopic(_) => Cause::NoTopic,
            AlterTopicError::Refused(_) => Cause::InvalidTopic,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<DeleteTopicError> for ApiError {
    fn from(error: DeleteTopicError) -> Self {
        let cause = match error {
            DeleteTopicError::Unavailable(error) => return error.into(),
            DeleteTopicError::Internal(_) => Cause::InternalTopic,
            DeleteTopicError::UnknownTopic(_) => Cause::NoTopic,
            DeleteTopicError::InUse { .. } => Cause::TopicInUse,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<ClusterChangeError> for ApiError {
    fn from(error: ClusterChangeError) -> Self {
        let cause = match error {
            ClusterChangeError::Unknown(error) => return error.into(),
            ClusterChangeError::Unavailable(error) => return error.into(),
            ClusterChangeError::UnknownBroker(_) => Cause::NoBroker,
            ClusterChangeError::Invalid(_) => Cause::Unprocessable,
            ClusterChangeError::Refused(_) => Cause::NotPossible,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<ProducerIdError> for ApiError {
    fn from(error: ProducerIdError) -> Self {
        match error {
            ProducerIdError::Unavailable(error) => error.into(),
            ProducerIdError::Refused(_) => Self::new(Cause::Unavailable, error.to_string()),
        }
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        Self::new(Cause::InvalidBatch, format!("the body is not a sequence of record batches: {error}"))
    }
}

impl From<InvalidName> for ApiError {
    fn from(error: InvalidName) -> Self {
        Self::new(Cause::InvalidName, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pubg1_model::{BrokerId, LeaderEpoch, Offset, ProducerId};

    use super::*;

    #[test]
    fn errors_of_the_data_path_have_their_causes() {
        let producer_id = ProducerId(1);
        let damaged =
            OfflineReason::Damaged { file: "f".into(), position: 1, offset: Offset::ZERO, detail: "d".into() };
        let retry_after_ms = 1;
        let leaderless = OfflineReason::NoLeader { reason: "brokers 1 and 2 are away".to_owned() };
        for (error, cause) in [
            (AppendError::NotReady { retry_after_ms }, Cause::Recovering),
            (AppendError::NotLeader { leader: None, retry_after_ms }, Cause::NotLeader),
            (AppendError::Offline(Arc::new(leaderless)), Cause::NoLeader),
            (AppendError::Offline(Arc::new(damaged)), Cause::Storage),
            (AppendError::BatchTooLarge { bytes: 2, bytes_max: 1 }, Cause::TooLarge),
            (AppendError::OutOfOrderSequence { producer_id, expected: 3, received: 5 }, Cause::SequenceGap),
            (AppendError::StaleProducerEpoch { producer_id, current: 2, received: 1 }, Cause::StaleProducerEpoch),
            (AppendError::DiskFull { retry_after_ms }, Cause::DiskFull),
            (AppendError::TimedOut { waited_ms: 1 }, Cause::OutcomeUnknown),
            (AppendError::OutcomeUnknown { retry_after_ms }, Cause::OutcomeUnknown),
            (AppendError::Draining, Cause::Draining),
            (AppendError::Deleted, Cause::NoTopic),
        ] {
            let waits = error.is_retriable();
            let refusal = ApiError::from(error);
            assert_eq!(refusal.cause(), cause);
            assert_eq!(refusal.cause().row().retry_after_s.is_some(), waits, "{cause:?}: Retry-After says retriable");
        }
    }

    #[test]
    fn a_gap_tells_what_is_expected_and_a_wrong_offset_what_is_there() {
        let gap = AppendError::OutOfOrderSequence { producer_id: ProducerId(1), expected: 3, received: 5 };
        let (leader, leader_epoch) = (BrokerId(0), LeaderEpoch::ZERO);
        let partial = AppendError::Partial { appended: Vec::new(), leader, leader_epoch, cause: Box::new(gap) };
        assert_eq!(ApiError::from(partial).to_json()["expected"], 3);
        let [requested, log_start_offset, high_watermark] = [9, 2, 7].map(Offset::new);
        let error = ApiError::from(FetchError::OffsetOutOfRange { requested, log_start_offset, high_watermark });
        assert_eq!((&error.to_json()["beginning_offset"], &error.to_json()["end_offset"]), (&2.into(), &7.into()));
    }
}
