//! The metadata log on disk: one command a batch, as JSON, in a log of the same make as a partition's.

use std::{collections::HashSet, path::Path};

use pubg1_model::{
    LeaderEpoch, Offset, TopicId,
    cluster::{ClusterImage, MetadataCommand},
    compression::Compression,
    record_batch::{BatchBuilder, BatchError, BatchIter, NewRecord, ValidBatch},
    topic::TopicConfig,
};
use pubg1_storage::{PartitionLog, StorageError};
use tokio::sync::OwnedMutexGuard;

use crate::storage_errors::{OpenFailure, flush_now};

/// The most that the commands of one batch take when they are decompressed.
const COMMANDS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The largest command. One command begins the epochs of all partitions of a broker.
const COMMAND_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much is read at a time when the log is replayed.
const REPLAY_READ_BYTES: usize = 1024 * 1024;

/// An open metadata log and the image that it leads to.
pub(super) struct MetadataLog {
    pub(super) log: PartitionLog,
    pub(super) epoch: LeaderEpoch,
    /// Every command of the log applied, the unflushed ones too.
    pub(super) image: ClusterImage,
    // After the log: the directory is free only when its files are closed.
    _lease: OwnedMutexGuard<()>,
}

/// Why the log cannot be used.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Not now; it may be tried again.
    Unavailable(String),
    /// Never without an operator.
    Unusable(String),
}

/// Its settings: nothing is ever deleted from it.
fn config() -> TopicConfig {
    TopicConfig {
        retention_ms: None,
        retention_bytes: None,
        max_message_bytes: COMMAND_BYTES_MAX,
        ..TopicConfig::default()
    }
}

impl MetadataLog {
    /// Opens the log, flushes what was found, begins a new epoch and replays every command. Blocks.
    pub(super) fn open(
        dir: &Path,
        now_ms: i64,
        lease: OwnedMutexGuard<()>,
    ) -> Result<(Self, HashSet<TopicId>), OpenError> {
        let (mut log, _) = PartitionLog::open(dir, &config(), now_ms).map_err(open_error)?;
        flush_now(&mut log).map_err(open_error)?;
        let epoch = log.leader_epochs().latest().unwrap_or(LeaderEpoch::ZERO).next();
        log.begin_epoch(epoch).map_err(open_error)?;
        let (image, deleted) = replay(&log)?;
        Ok((Self { log, epoch, image, _lease: lease }, deleted))
    }
}

fn open_error(error: StorageError) -> OpenError {
    match OpenFailure::from(error) {
        OpenFailure::Damaged(reason) => OpenError::Unusable(reason.to_string()),
        OpenFailure::FlushFailed(error) => OpenError::Unusable(error.to_string()),
        OpenFailure::Unavailable(reason) => OpenError::Unavailable(reason),
    }
}

fn replay(log: &PartitionLog) -> Result<(ClusterImage, HashSet<TopicId>), OpenError> {
    let (mut image, mut deleted) = (ClusterImage::default(), HashSet::new());
    let (reader, end) = (log.reader(), log.log_end_offset());
    let mut next = log.log_start_offset();
    while next < end {
        let unreadable = |reason: String| OpenError::Unusable(format!("offset {next}: {reason}"));
        let slice = reader.read(next, end, REPLAY_READ_BYTES).map_err(|error| unreadable(error.to_string()))?;
        for run in &slice.runs {
            for batch in BatchIter::new(run) {
                let records = batch.and_then(|batch| batch.decode(COMMANDS_BYTES_MAX));
                let records = records.map_err(|error| unreadable(error.to_string()))?;
                for record in records.records() {
                    let record = record.map_err(|error| unreadable(error.to_string()))?;
                    let command: MetadataCommand = serde_json::from_slice(record.value.unwrap_or_default())
                        .map_err(|error| unreadable(format!("no command of this version: {error}")))?;
                    image.apply(&command).map_err(|error| unreadable(format!("does not apply: {error}")))?;
                    if let MetadataCommand::DeleteTopic { id } = command {
                        deleted.insert(id);
                    }
                }
            }
        }
        if slice.next_offset <= next {
            return Err(unreadable("nothing can be read".to_owned()));
        }
        next = slice.next_offset;
    }
    Ok((image, deleted))
}

/// The batch that stores a command.
pub(super) fn encode(command: &MetadataCommand, now_ms: i64) -> Result<ValidBatch, BatchError> {
    // Serialising plain data to memory cannot fail; an empty record would be refused at the next replay.
    let json = serde_json::to_vec(command).unwrap_or_default();
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(&NewRecord { timestamp_ms: now_ms, value: Some(&json), ..NewRecord::default() })?;
    batch.finish(None)
}

/// The offset that the high watermark must reach for a batch that ends at `last` to be committed.
pub(super) const fn completed_at(last: Offset) -> Offset {
    last.plus(1)
}
