//! A good log with arbitrary indexes: opening repairs them or reading does without them.
//!
//! Run with `cargo +nightly fuzz run index fuzz/corpus/index fuzz/seeds/index`. The first byte says
//! which files the input replaces, and whether the log was stopped cleanly.

#![no_main]

use std::{fs, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use pubg1_model::{
    LeaderEpoch, Offset,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord},
    topic::TopicConfig,
};
use pubg1_storage::PartitionLog;

const RECORDS: u64 = 120;

/// A closed log of several segments, and a directory to break it in.
struct Fixture {
    clean: Vec<(String, Vec<u8>)>,
    crashed: Vec<(String, Vec<u8>)>,
    dir: tempfile::TempDir,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let (mut log, _) = PartitionLog::open(dir.path(), &config(), 0).expect("a new log");
    for at in 0..RECORDS {
        let mut builder = BatchBuilder::new(Compression::None);
        let timestamp_ms = time(at);
        let value = vec![7; 300];
        builder.push(&NewRecord { timestamp_ms, key: None, value: Some(&value), headers: &[] }).expect("a record");
        log.append(&builder.finish(None).expect("a batch"), LeaderEpoch::new(1), 0).expect("it is open");
        if at == RECORDS * 3 / 4 {
            let pending = log.begin_flush().expect("there is something");
            let flushed = pending.run().expect("a disk");
            log.complete_flush(flushed);
        }
    }
    let crashed = files(dir.path());
    log.close().expect("a disk");
    Fixture { clean: files(dir.path()), crashed, dir }
});

fn config() -> TopicConfig {
    TopicConfig {
        segment_bytes: 16 * 1024,
        max_message_bytes: 4096,
        index_interval_bytes: 1024,
        ..TopicConfig::default()
    }
}

fn time(at: u64) -> i64 {
    i64::try_from(1000 + at * 10 - at % 3 * 15).expect("small")
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| (entry.file_name().into_string().expect("ASCII"), fs::read(entry.path()).expect("readable")))
        .collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, bytes)) = input.split_first() else { return };
    let Fixture { clean, crashed, dir } = &*FIXTURE;
    for entry in fs::read_dir(dir.path()).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("removable");
    }
    let is_clean = flags & 4 != 0;
    for (name, contents) in if is_clean { clean } else { crashed } {
        let harmed = (flags & 1 != 0 && name.ends_with(".index")) || (flags & 2 != 0 && name.ends_with(".timeindex"));
        let mut contents = contents.clone();
        if harmed && flags & 8 != 0 {
            // Over what is there, so that parts stay plausible.
            contents.iter_mut().zip(bytes).for_each(|(old, new)| *old ^= new);
        } else if harmed {
            contents = bytes.to_vec();
        }
        fs::write(dir.path().join(name), contents).expect("writable");
    }
    let (log, report) = PartitionLog::open(dir.path(), &config(), 0).expect("the log is whole");
    assert_eq!((report.clean, report.truncated_bytes, report.log_end.get()), (is_clean, 0, RECORDS));
    let reader = log.reader();
    for at in 0..RECORDS {
        let slice = reader.read(Offset::new(at), Offset::MAX, 1).expect("within the log");
        assert_eq!(slice.next_offset.get(), at + 1);
        let found = reader.find_timestamp(time(at), Offset::MAX).expect("the log is whole");
        let first = (0..RECORDS).find(|first| time(*first) >= time(at)).map(|first| (Offset::new(first), time(first)));
        assert_eq!(found, first);
    }
    let whole = reader.read(Offset::ZERO, Offset::MAX, usize::MAX).expect("within the log");
    assert_eq!(whole.next_offset.get(), RECORDS);
});
