//! Batches, logs and what is in them.

use std::{path::Path, sync::Arc};

use pubg1_model::{
    LeaderEpoch, Offset, ProducerId,
    compression::Compression,
    record_batch::{Batch, BatchBuilder, BatchIter, NewRecord, ProducerIdentity, ValidBatch},
    topic::TopicConfig,
};

use crate::{Appended, Disk, LogReader, PartitionLog, RecoveryReport, SystemDisk};

pub(super) const EPOCH: LeaderEpoch = LeaderEpoch::new(1);

/// The smallest segments there are, so that a test sees many.
pub(super) fn small_segments() -> TopicConfig {
    TopicConfig {
        segment_bytes: 16 * 1024,
        max_message_bytes: 16 * 1024,
        segment_ms: 60_000,
        index_interval_bytes: 256,
        retention_ms: None,
        ..TopicConfig::default()
    }
}

/// A batch of `records` records with values of `value_bytes`, the first at time `timestamp_ms`.
pub(super) fn batch(records: usize, value_bytes: usize, timestamp_ms: i64) -> ValidBatch {
    batch_of(Compression::None, records, value_bytes, timestamp_ms, None)
}

pub(super) fn batch_of(
    codec: Compression,
    records: usize,
    value_bytes: usize,
    timestamp_ms: i64,
    producer: Option<(i64, i32)>,
) -> ValidBatch {
    let mut builder = BatchBuilder::new(codec);
    for at in 0..records {
        let value: Vec<u8> = (0..value_bytes).map(|byte| u8::try_from((byte * 31 + at * 7) % 251).unwrap()).collect();
        let timestamp_ms = timestamp_ms + i64::try_from(at).unwrap();
        builder.push(&NewRecord { timestamp_ms, key: Some(b"key"), value: Some(&value), headers: &[] }).unwrap();
    }
    let identity = producer.map(|(id, sequence)| ProducerIdentity { id: ProducerId(id), epoch: 0, sequence });
    builder.finish(identity).unwrap()
}

/// A batch of one record per key and value.
pub(super) fn keyed(codec: Compression, timestamp_ms: i64, records: &[(&str, Option<&str>)]) -> ValidBatch {
    let mut builder = BatchBuilder::new(codec);
    for (key, value) in records {
        let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
        builder.push(&NewRecord { timestamp_ms, key, value, headers: &[] }).unwrap();
    }
    builder.finish(None).unwrap()
}

/// A directory in memory where there is one: syncing it costs nothing.
pub(super) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn open(dir: &Path, config: &TopicConfig) -> (PartitionLog, RecoveryReport) {
    open_on(Arc::new(SystemDisk), dir, config)
}

pub(super) fn open_on(disk: Arc<dyn Disk>, dir: &Path, config: &TopicConfig) -> (PartitionLog, RecoveryReport) {
    PartitionLog::open_on(disk, dir, config, 0).unwrap()
}

pub(super) fn append(log: &mut PartitionLog, batch: &ValidBatch) -> Appended {
    log.append(batch, EPOCH, 0).unwrap()
}

pub(super) fn flush(log: &mut PartitionLog) {
    if let Some(pending) = log.begin_flush() {
        let flushed = pending.run().unwrap();
        log.complete_flush(flushed);
    }
}

/// Everything the log holds, as bytes.
pub(super) fn contents(reader: &LogReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut from = reader.log_start_offset();
    loop {
        let slice = reader.read(from, Offset::MAX, 10_000).unwrap();
        if slice.runs.is_empty() {
            return bytes;
        }
        assert!(slice.next_offset > from);
        assert_eq!(slice.bytes, slice.runs.iter().map(bytes::Bytes::len).sum::<usize>());
        slice.runs.iter().for_each(|run| bytes.extend_from_slice(run));
        from = slice.next_offset;
    }
}

/// Base offsets of the batches, their checksums verified.
pub(super) fn base_offsets(bytes: &[u8]) -> Vec<u64> {
    BatchIter::new(bytes).map(|batch| batch.unwrap().header().first_offset().unwrap().get()).collect()
}

/// Offset, timestamp, key and value of every record.
pub(super) type Record = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

pub(super) fn records(reader: &LogReader) -> Vec<Record> {
    let bytes = contents(reader);
    let read = |batch: Batch<'_>| -> Vec<Record> {
        let decoded = batch.decode(1 << 24).unwrap();
        let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let records = decoded.records().map(Result::unwrap);
        records.map(|record| (record.offset.get(), record.timestamp_ms, own(record.key), own(record.value))).collect()
    };
    BatchIter::new(&bytes).flat_map(|batch| read(batch.unwrap())).collect()
}

/// The files of a directory with an extension, in order.
pub(super) fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

/// A copy of a directory, as a crash would leave it.
pub(super) fn copy_dir(from: &Path) -> tempfile::TempDir {
    let to = temp_dir();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}
