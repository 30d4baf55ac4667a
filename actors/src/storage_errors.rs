//! What the errors of storage mean for a broker: the one place that knows both.

use std::fmt::Display;

use pubg1_model::{Offset, producer_state::SequenceError};
use pubg1_storage::{AppendError as LogAppendError, Damage, FlushError, PartitionLog, ReadError, StorageError};

use crate::{
    errors::{AppendError, FetchError, OfflineReason},
    partition::PartitionView,
};

/// Why a log could not be opened.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    /// Flushed data are not what was written.
    Damaged(OfflineReason),
    /// A flush failed while it was opened: what is on disk is not known, and trying again would not tell.
    FlushFailed(FlushError),
    /// Anything that may pass: no space, no descriptors, a system call that failed.
    Unavailable(String),
}

impl From<StorageError> for OpenFailure {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Damage(damage) => Self::Damaged(damaged(&damage)),
            StorageError::Flush(error) => Self::FlushFailed(error),
            other => Self::Unavailable(chain(&other)),
        }
    }
}

pub(crate) fn damaged(damage: &Damage) -> OfflineReason {
    OfflineReason::Damaged {
        file: damage.file.clone(),
        position: damage.position,
        offset: damage.offset,
        detail: chain(&damage.reason),
    }
}

/// An error with its sources, which our own errors do not repeat in their text.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// An append that storage refused, as the client is told.
pub(crate) fn append_error(error: LogAppendError, retry_after_ms: u64) -> AppendError {
    match error {
        LogAppendError::DiskFull { .. } => AppendError::DiskFull { retry_after_ms },
        LogAppendError::TooLarge { bytes, bytes_max } => {
            AppendError::BatchTooLarge { bytes: u64::try_from(bytes).unwrap_or(u64::MAX), bytes_max }
        }
        LogAppendError::Sequence(SequenceError::OutOfOrder { producer_id, expected, received }) => {
            AppendError::OutOfOrderSequence { producer_id, expected, received }
        }
        LogAppendError::Sequence(SequenceError::StaleEpoch { producer_id, current, received }) => {
            AppendError::StaleProducerEpoch { producer_id, current, received }
        }
        LogAppendError::OffsetsExhausted => AppendError::Invalid { reason: error.to_string() },
        LogAppendError::StaleEpoch { .. }
        | LogAppendError::NotNext { .. }
        | LogAppendError::OtherEpoch { .. }
        | LogAppendError::Flush(_)
        | LogAppendError::Storage(_) => AppendError::Storage { reason: error.to_string(), retry_after_ms },
    }
}

/// Anything else that storage refused to a writer.
pub(crate) fn storage_error(error: &StorageError, retry_after_ms: u64) -> AppendError {
    if error.is_disk_full() {
        AppendError::DiskFull { retry_after_ms }
    } else {
        AppendError::Storage { reason: chain(error), retry_after_ms }
    }
}

/// A read that storage refused, as the client is told.
pub(crate) fn read_error(error: ReadError, requested: Offset, view: &PartitionView) -> FetchError {
    match error {
        // Retention has moved the start since the view was published.
        ReadError::OffsetOutOfRange { log_start, .. } => {
            FetchError::OffsetOutOfRange { requested, log_start_offset: log_start, high_watermark: view.high_watermark }
        }
        ReadError::Damage(damage) => FetchError::Storage { reason: damage.to_string() },
    }
}

/// Flushes everything at once, on a thread that may block.
pub(crate) fn flush_now(log: &mut PartitionLog) -> Result<(), StorageError> {
    if let Some(flush) = log.begin_flush() {
        let flushed = flush.run()?;
        log.complete_flush(flushed);
    }
    Ok(())
}

/// Closes a log, on a thread that may block. An error leaves it to be checked by the next start.
pub(crate) fn close(log: PartitionLog, what: &impl Display) -> bool {
    let closed = log.close();
    if let Err(error) = &closed {
        tracing::warn!(%what, error = chain(error), "the log was not closed; the next start checks it");
    }
    closed.is_ok()
}
