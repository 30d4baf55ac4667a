//! What can go wrong with a log, one type per operation.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use pubg1_model::{
    LeaderEpoch, Offset, producer_state::SequenceError, record_batch::BatchError, topic::InvalidTopicConfig,
};

/// Bytes that were on stable storage and are not what was written.
///
/// It is never the end of the log and never skipped: the partition stays closed until the range is
/// repaired from a replica or an operator decides.
#[derive(Debug, thiserror::Error)]
#[error("{} is damaged at byte {position}, offset {offset}: {reason}; \
         the log is left as it is: restore the partition from a replica or a backup", file.display())]
pub struct Damage {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in the file the damage begins.
    pub position: u64,
    /// The offset that should be there.
    pub offset: Offset,
    /// What is wrong.
    #[source]
    pub reason: DamageReason,
}

/// What is wrong with damaged bytes.
#[derive(Debug, thiserror::Error)]
pub enum DamageReason {
    /// They are no record batch, or its checksum does not hold.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch is one, but not the one that belongs here.
    #[error("a batch with offsets {first} to {last} is there")]
    Discontinuity {
        /// The batch's base offset, as it is stored.
        first: i64,
        /// The batch's last offset.
        last: i64,
    },
    /// The batch's leader epoch is not the one that led when its offset was given.
    #[error("the batch is of leader epoch {epoch} where epoch {expected} belongs")]
    Epoch {
        /// The epoch that began before this offset.
        expected: i32,
        /// The batch's epoch.
        epoch: i32,
    },
    /// The file ends, or is missing, though more was flushed to it.
    #[error("the log ends here, but everything below offset {flushed} was on stable storage")]
    Missing {
        /// The recovery point.
        flushed: Offset,
    },
    /// The checkpoint that says what was flushed cannot be read and batches follow the bad ones.
    #[error("batches are bad and others follow, and the checkpoint that tells a torn end from damage is unreadable")]
    Undecidable,
}

/// Why a log cannot be opened, cut, cleaned or closed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Flushed data are not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// Another log is open on the same directory.
    #[error("{} is in use by another log; stop the other broker first", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A setting of the topic is out of bounds.
    #[error(transparent)]
    Config(#[from] InvalidTopicConfig),
    /// A flush failed before; see [`FlushError`].
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// A newer leader has been here.
    #[error("leader epoch {received} is older than the log's epoch {current}")]
    StaleEpoch {
        /// The log's newest epoch.
        current: LeaderEpoch,
        /// The epoch that was asked for.
        received: LeaderEpoch,
    },
    /// An offset that the log has not reached.
    #[error("offset {offset} is above the log end {log_end}")]
    AboveLogEnd {
        /// What was asked for.
        offset: Offset,
        /// The log end offset.
        log_end: Offset,
    },
    /// The result of a compaction belongs to a log that has been truncated or opened again since.
    #[error("the log was truncated or opened again while it was compacted; the result is dropped")]
    CompactionOutdated,
}

impl StorageError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// Whether space on the disk is what is missing.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_disk_full(source))
    }
}

/// Whether the disk, or the quota on it, is used up.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why a batch was not appended. The log is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no space. The next append tries again.
    #[error("no space left for {}; free space, delete records or shorten the retention", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The batch is larger than the topic allows.
    #[error("the batch has {bytes} bytes, the topic allows {bytes_max}; send smaller batches")]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// The topic's `max_message_bytes`.
        bytes_max: u64,
    },
    /// The batch breaks its producer's sequence.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A newer leader has been here.
    #[error("leader epoch {received} is older than the log's epoch {current}")]
    StaleEpoch {
        /// The log's newest epoch.
        current: LeaderEpoch,
        /// The epoch of the append.
        received: LeaderEpoch,
    },
    /// A batch of the leader's log does not come next in this one.
    #[error("a batch of {records} records from offset {first} on does not continue the log, which ends at {log_end}")]
    NotNext {
        /// Where it should begin.
        log_end: Offset,
        /// Where it begins, as it says.
        first: i64,
        /// How many offsets it takes.
        records: u64,
    },
    /// A batch of the leader's log is of another epoch than the one that was recorded for its offset.
    #[error("the batch at offset {offset} is of leader epoch {epoch}, there {assigned:?} was recorded")]
    OtherEpoch {
        /// The batch's first offset.
        offset: Offset,
        /// The batch's epoch.
        epoch: i32,
        /// The epoch that its offset belongs to, if one is known.
        assigned: Option<LeaderEpoch>,
    },
    /// The batch would pass the largest offset.
    #[error("the partition has used up its offsets")]
    OffsetsExhausted,
    /// A flush failed before; nothing is accepted any more.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// Anything else that the system refuses.
    #[error(transparent)]
    Storage(StorageError),
}

impl From<StorageError> for AppendError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io { path, source, .. } if is_disk_full(&source) => Self::DiskFull { path },
            StorageError::Flush(error) => Self::Flush(error),
            other => Self::Storage(other),
        }
    }
}

/// Why nothing can be read at an offset.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset was deleted or is not written yet.
    #[error("offset {offset} is out of range, the log holds {log_start} to {log_end} (exclusive)")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first readable offset.
        log_start: Offset,
        /// The offset after the last record.
        log_end: Offset,
    },
    /// The stored bytes are not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// A flush that failed. It is final: what the system has not written may be gone from its cache,
/// and asking again can succeed without it, so the process has to end and recover from disk.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}; records that are not on disk may be lost, \
         so the log accepts nothing more and the process must be restarted", path.display())]
pub struct FlushError {
    /// What was tried.
    pub operation: &'static str,
    /// The file or directory.
    pub path: Arc<Path>,
    /// The system's reason.
    pub source: Arc<io::Error>,
}
