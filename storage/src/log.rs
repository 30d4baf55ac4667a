//! Signatures.
#![allow(clippy::todo, missing_docs, clippy::missing_errors_doc, unused_variables, reason = "bodies follow")]
use crate::*;
use bytes::Bytes;
use pubg1_model::{LeaderEpoch, Offset, leader_epochs::LeaderEpochs, record_batch::ValidBatch, topic::TopicConfig};
use std::path::Path;

#[derive(Debug)]
pub struct PartitionLog {}
/// What opening a log found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log was closed properly the last time.
    pub clean: bool,
    /// Bytes whose checksums were computed.
    pub scanned_bytes: u64,
    /// Bytes of a torn end that were cut.
    pub truncated_bytes: u64,
    /// Segments whose indexes were written anew.
    pub rebuilt_indexes: usize,
    pub segments: usize,
    pub log_start: Offset,
    pub log_end: Offset,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub duplicate: bool,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    pub segments: usize,
    pub bytes: u64,
}
#[derive(Debug)]
pub struct PendingFlush {}
#[derive(Debug)]
pub struct Flushed {}
#[derive(Debug)]
pub struct CompactionJob {}
#[derive(Debug)]
pub struct Compacted {}
#[derive(Clone, Debug)]
pub struct LogReader {}
/// Whole batches as they lie in the log.
#[derive(Clone, Debug, Default)]
pub struct LogSlice {
    /// Batches back to back, one run per segment that was touched.
    pub runs: Vec<Bytes>,
    /// Bytes of all runs.
    pub bytes: usize,
    /// Where the next read goes on; the offset asked for when nothing was there.
    pub next_offset: Offset,
}

impl PartitionLog {
    pub fn open(dir: &Path, config: &TopicConfig, now_ms: i64) -> Result<(Self, RecoveryReport), StorageError> {
        todo!()
    }
    pub fn append(&mut self, batch: &ValidBatch, epoch: LeaderEpoch, now_ms: i64) -> Result<Appended, AppendError> {
        todo!()
    }
    pub fn log_start_offset(&self) -> Offset {
        todo!()
    }
    pub fn log_end_offset(&self) -> Offset {
        todo!()
    }
    pub fn flushed_offset(&self) -> Offset {
        todo!()
    }
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    pub fn segment_count(&self) -> usize {
        todo!()
    }
    pub fn leader_epochs(&self) -> &LeaderEpochs {
        todo!()
    }
    pub fn set_config(&mut self, config: &TopicConfig) -> Result<(), StorageError> {
        todo!()
    }
    pub fn reader(&self) -> LogReader {
        todo!()
    }
    pub fn begin_flush(&mut self) -> Option<PendingFlush> {
        todo!()
    }
    pub fn complete_flush(&mut self, flushed: Flushed) {
        todo!()
    }
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) -> Result<(), StorageError> {
        todo!()
    }
    /// Returns the new log end.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, StorageError> {
        todo!()
    }
    /// Returns the new log start.
    pub fn delete_records_before(&mut self, offset: Offset) -> Result<Offset, StorageError> {
        todo!()
    }
    pub fn apply_retention(&mut self, now_ms: i64, high_watermark: Offset) -> Result<Deleted, StorageError> {
        todo!()
    }
    pub fn begin_compaction(&self, high_watermark: Offset, now_ms: i64) -> Option<CompactionJob> {
        todo!()
    }
    pub fn install_compaction(&mut self, compacted: Compacted) -> Result<(), StorageError> {
        todo!()
    }
    pub fn close(self) -> Result<(), StorageError> {
        todo!()
    }
}
impl PendingFlush {
    pub fn run(self) -> Result<Flushed, FlushError> {
        todo!()
    }
}
impl CompactionJob {
    pub fn run(self) -> Result<Compacted, StorageError> {
        todo!()
    }
}
impl LogReader {
    pub fn log_start_offset(&self) -> Offset {
        todo!()
    }
    pub fn log_end_offset(&self) -> Offset {
        todo!()
    }
    pub fn read(&self, from: Offset, below: Offset, max_bytes: usize) -> Result<LogSlice, ReadError> {
        todo!()
    }
    pub fn find_timestamp(&self, timestamp_ms: i64, below: Offset) -> Result<Option<(Offset, i64)>, ReadError> {
        todo!()
    }
}
