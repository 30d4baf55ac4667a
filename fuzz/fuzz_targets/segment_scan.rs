//! A log of arbitrary bytes is opened, read, written and opened again.
//!
//! Run with `cargo +nightly fuzz run segment_scan fuzz/corpus/segment_scan fuzz/seeds/segment_scan`.
//! The first byte says which parts of the input are what; frames of batches and the checksum of the
//! checkpoint are made right, since no fuzzer guesses a CRC.

#![no_main]

use std::{fs, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use pubg1_model::{
    LeaderEpoch, Offset,
    record_batch::{BatchBuilder, BatchIter, HEADER_BYTES, MAGIC, NewRecord},
    topic::TopicConfig,
};
use pubg1_storage::{LogReader, PartitionLog, StorageError};

const SLOT_BYTES: usize = 128;

static DIR: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory"));

fuzz_target!(|input: &[u8]| {
    let Some((flags, mut rest)) = input.split_first() else { return };
    let dir = DIR.path();
    for entry in fs::read_dir(dir).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("removable");
    }
    if flags & 1 != 0 && rest.len() >= SLOT_BYTES {
        let (slot, after) = rest.split_at(SLOT_BYTES);
        fs::write(dir.join("partition-checkpoint"), checkpoint(slot)).expect("writable");
        rest = after;
    }
    let cut = if flags & 2 != 0 { rest.len() / 2 } else { rest.len() };
    let (first, second) = rest.split_at(cut);
    let mut next = 0;
    for bytes in [first, second] {
        let log = if flags & 4 != 0 { bytes.to_vec() } else { sealed(bytes) };
        fs::write(dir.join(format!("{next:020}.log")), &log).expect("writable");
        let Some(last) = BatchIter::new(&log).flatten().last() else { break };
        next = last.header().next_offset().map_or(1, Offset::get).max(1);
    }
    open(dir);
});

/// One slot whose frame is right.
fn checkpoint(input: &[u8]) -> Vec<u8> {
    let mut slot = input.to_vec();
    slot[4..8].copy_from_slice(b"PBC1");
    let crc = crc32c::crc32c(&slot[4..]);
    slot[..4].copy_from_slice(&crc.to_be_bytes());
    slot
}

/// The input as batches back to back whose frames are right, as long as their lengths allow.
fn sealed(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(batch) = bytes.get_mut(at..).filter(|batch| batch.len() >= HEADER_BYTES) {
        let length = i32::from_be_bytes([0, 0, batch[10] & 3, batch[11]]).max(49);
        let end = usize::try_from(length).expect("positive") + 12;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = MAGIC;
        if let Some(batch) = batch.get_mut(..end) {
            let crc = crc32c::crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        at += end;
    }
    bytes
}

fn config() -> TopicConfig {
    TopicConfig {
        segment_bytes: 16 * 1024,
        max_message_bytes: 4096,
        index_interval_bytes: 64,
        ..TopicConfig::default()
    }
}

fn open(dir: &Path) {
    let (mut log, report) = match PartitionLog::open(dir, &config(), 0) {
        Ok(opened) => opened,
        Err(StorageError::Damage(_)) => return,
        Err(error) => panic!("{error}"),
    };
    assert!(report.log_start <= report.log_end);
    assert_eq!(log.flushed_offset(), report.log_end);
    let found = contents(&log.reader(), report.log_end);
    log.reader().find_timestamp(1, Offset::MAX).ok();
    if report.log_end < Offset::new(1 << 60) {
        let mut builder = BatchBuilder::new(pubg1_model::compression::Compression::None);
        builder.push(&NewRecord { timestamp_ms: 0, key: None, value: Some(b"v"), headers: &[] }).expect("a record");
        let epoch = log.leader_epochs().latest().unwrap_or(LeaderEpoch::ZERO);
        let appended = log.append(&builder.finish(None).expect("a batch"), epoch, 0).expect("it is open");
        assert_eq!(appended.base_offset, report.log_end);
    }
    let log_end = log.log_end_offset();
    let extended = contents(&log.reader(), log_end);
    assert!(extended.starts_with(&found));
    drop(log);
    let (log, again) = PartitionLog::open(dir, &config(), 0).expect("it was brought in order");
    assert_eq!((again.truncated_bytes, again.log_end), (0, log_end));
    assert!(contents(&log.reader(), log_end) == extended, "the second recovery differs");
}

fn contents(reader: &LogReader, log_end: Offset) -> Vec<u8> {
    let (mut bytes, mut from) = (Vec::new(), reader.log_start_offset());
    while from < log_end {
        let slice = reader.read(from, Offset::MAX, 500).expect("within the log");
        if slice.runs.is_empty() {
            break;
        }
        assert!(slice.next_offset > from);
        slice.runs.iter().for_each(|run| bytes.extend_from_slice(run));
        from = slice.next_offset;
    }
    assert!(BatchIter::new(&bytes).all(|batch| batch.is_ok()), "only whole batches are read");
    bytes
}
