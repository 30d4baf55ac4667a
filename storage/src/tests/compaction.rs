//! Compaction keeps the newest value of each key, at its offset.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pubg1_model::{
    Offset,
    compression::Compression,
    record_batch::BatchIter,
    topic::{CleanupPolicy, TopicConfig},
};

use super::fixtures::{
    Record, append, batch, batch_of, contents, copy_dir, files, flush, keyed, open, records, small_segments, temp_dir,
};
use crate::{PartitionLog, StorageError, segment::LOG};

fn compacted_topic() -> TopicConfig {
    TopicConfig { cleanup_policy: CleanupPolicy::Compact, delete_retention_ms: 1000, ..small_segments() }
}

/// Closes the active segment, so that everything can be compacted.
fn seal(log: &mut PartitionLog) {
    // Old enough, whenever it was begun.
    log.apply_retention(1_000_000_000, Offset::ZERO).unwrap();
    flush(log);
}

/// Compacts what can be; whether there was anything to do.
fn compact(log: &mut PartitionLog, now_ms: i64) -> bool {
    let Some(job) = log.begin_compaction(log.log_end_offset(), now_ms) else { return false };
    let compacted = job.run().unwrap();
    log.install_compaction(compacted).unwrap();
    true
}

/// The newest record of each key; a tombstone counts as none.
fn newest(records: &[Record]) -> BTreeMap<Vec<u8>, (u64, Vec<u8>)> {
    let mut newest = BTreeMap::new();
    for (offset, _, key, value) in records {
        let key = key.clone().unwrap();
        match value {
            Some(value) => drop(newest.insert(key, (*offset, value.clone()))),
            None => drop(newest.remove(&key)),
        }
    }
    newest
}

fn offsets(log: &PartitionLog) -> Vec<u64> {
    records(&log.reader()).iter().map(|record| record.0).collect()
}

#[test]
fn superseded_records_go_and_the_others_keep_their_offsets() {
    for codec in [Compression::None, Compression::Lz4] {
        let dir = temp_dir();
        let (mut log, _) = open(dir.path(), &compacted_topic());
        append(&mut log, &keyed(codec, 10, &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]));
        append(&mut log, &keyed(codec, 20, &[("c", Some("1")), ("c", Some("2"))]));
        append(&mut log, &keyed(codec, 30, &[("a", Some("3"))]));
        append(&mut log, &keyed(codec, 40, &[("d", Some("1"))]));
        seal(&mut log);
        let held = log.reader().read(Offset::ZERO, Offset::MAX, 1 << 20).unwrap();
        assert!(compact(&mut log, 0));
        assert_eq!(offsets(&log), [1, 4, 5, 6]);
        let next = append(&mut log, &keyed(codec, 50, &[("e", Some("1"))]));
        assert_eq!(next.base_offset, Offset::new(7));
        // An offset whose record is gone leads to the batch that spans it.
        let slice = log.reader().read(Offset::new(2), Offset::MAX, 1).unwrap();
        assert_eq!(slice.next_offset, Offset::new(3));
        let batches: usize = held.runs.iter().map(|run| BatchIter::new(run).map(Result::unwrap).count()).sum();
        assert_eq!(batches, 4, "who read before keeps what was there");
        flush(&mut log);
        drop(log);
        let (log, report) = open(dir.path(), &compacted_topic());
        assert_eq!((report.truncated_bytes, report.log_end), (0, Offset::new(8)));
        assert_eq!(offsets(&log), [1, 4, 5, 6, 7]);
    }
}

#[test]
fn tombstones_stay_for_a_while_and_then_go() {
    let dir = temp_dir();
    let (mut log, _) = open(dir.path(), &compacted_topic());
    append(&mut log, &keyed(Compression::None, 0, &[("a", Some("1"))]));
    append(&mut log, &keyed(Compression::None, 0, &[("a", None), ("b", Some("1"))]));
    seal(&mut log);
    assert!(compact(&mut log, 5000));
    assert_eq!(offsets(&log), [1, 2], "the tombstone is there for consumers that are behind");
    assert!(!compact(&mut log, 5999), "nothing is dirty and nothing is due");
    assert!(compact(&mut log, 6000));
    assert_eq!(offsets(&log), [2]);
    assert!(!compact(&mut log, 60_000), "nothing is left to do");
}

#[test]
fn an_empty_batch_stays_where_it_is_needed() {
    let dir = temp_dir();
    let (mut log, _) = open(dir.path(), &compacted_topic());
    // Every batch of a producer overwrites the same key.
    let sent: Vec<_> = (0..5).map(|at| batch_of(Compression::None, 1, 50, 0, Some((9, at)))).collect();
    for batch in &sent {
        append(&mut log, batch);
    }
    append(&mut log, &keyed(Compression::None, 0, &[("key", Some("newest"))]));
    append(&mut log, &keyed(Compression::None, 0, &[("other", Some("1"))]));
    append(&mut log, &keyed(Compression::None, 0, &[("other", Some("2"))]));
    seal(&mut log);
    append(&mut log, &keyed(Compression::None, 0, &[("other", Some("3"))]));
    seal(&mut log);
    assert!(compact(&mut log, 0));
    let bytes = contents(&log.reader());
    let found: Vec<_> = BatchIter::new(&bytes)
        .map(|batch| *batch.unwrap().header())
        .map(|header| (header.base_offset, header.record_count))
        .collect();
    assert_eq!(found, [(4, 0), (5, 1), (7, 0), (8, 1)], "the producer's last, and the segment's last");
    // The producer's sequence is still known, even without snapshots.
    drop(log);
    files(dir.path(), "snapshot").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let (mut log, _) = open(dir.path(), &compacted_topic());
    assert!(append(&mut log, &sent[4]).duplicate);
}

#[test]
fn only_flushed_segments_below_the_high_watermark_are_touched() {
    let dir = temp_dir();
    let (mut log, _) = open(dir.path(), &compacted_topic());
    for _ in 0..3 {
        append(&mut log, &keyed(Compression::None, 0, &[("a", Some("1")), ("a", Some("2"))]));
        log.apply_retention(1_000_000_000, Offset::ZERO).unwrap();
    }
    assert!(log.begin_compaction(Offset::MAX, 0).is_none(), "nothing is flushed");
    flush(&mut log);
    assert!(log.begin_compaction(Offset::new(1), 0).is_none(), "the first segment ends above");
    let compacted = log.begin_compaction(Offset::new(5), 0).unwrap().run().unwrap();
    assert_eq!(compacted.records_removed(), 3);
    assert!(compacted.bytes_removed() > 0);
    log.install_compaction(compacted).unwrap();
    assert_eq!(offsets(&log), [3, 4, 5]);
    log.set_config(&small_segments()).unwrap();
    assert!(log.begin_compaction(Offset::MAX, 0).is_none(), "another policy");
}

#[test]
fn a_result_that_comes_too_late_is_refused() {
    let dir = temp_dir();
    let config = compacted_topic();
    let (mut log, _) = open(dir.path(), &config);
    let fill = |log: &mut PartitionLog| {
        append(log, &keyed(Compression::None, 0, &[("a", Some("1")), ("a", Some("2"))]));
        seal(log);
    };
    fill(&mut log);
    fill(&mut log);
    let late = log.begin_compaction(Offset::MAX, 0).unwrap().run().unwrap();
    log.truncate_to(Offset::new(2)).unwrap();
    assert!(matches!(log.install_compaction(late), Err(StorageError::CompactionOutdated)));
    assert_eq!(offsets(&log), [0, 1]);
    assert!(files(dir.path(), "tmp").is_empty());
    // A segment that retention deletes meanwhile stays deleted.
    fill(&mut log);
    fill(&mut log);
    let job = log.begin_compaction(Offset::MAX, 0).unwrap();
    log.delete_records_before(Offset::new(2)).unwrap();
    let compacted = job.run().unwrap();
    log.install_compaction(compacted).unwrap();
    assert_eq!(log.reader().log_start_offset(), Offset::new(2));
    assert_eq!(offsets(&log), [5]);
    // A log that was opened again is another log.
    (0..3).for_each(|_| fill(&mut log));
    let late = log.begin_compaction(Offset::MAX, 0).unwrap().run().unwrap();
    drop(log);
    let (mut log, _) = open(dir.path(), &config);
    assert!(matches!(log.install_compaction(late), Err(StorageError::CompactionOutdated)));
}

#[test]
fn a_crash_at_any_point_of_an_installation_leaves_a_whole_log() {
    let dir = temp_dir();
    let config = compacted_topic();
    let (mut log, _) = open(dir.path(), &config);
    for at in 0..200 {
        let key = format!("{}", at % 7);
        append(&mut log, &keyed(Compression::None, 0, &[(&key, Some(&"v".repeat(300)))]));
    }
    seal(&mut log);
    let expected = newest(&records(&log.reader()));
    let before = copy_dir(dir.path());
    let compacted = log.begin_compaction(Offset::MAX, 0).unwrap().run().unwrap();
    let written = copy_dir(dir.path());
    assert_eq!(newest(&records(&open(written.path(), &config).0.reader())), expected);
    assert!(files(written.path(), "tmp").is_empty(), "leftovers are removed");
    log.install_compaction(compacted).unwrap();
    drop(log);
    // Old and new segments in any mixture, as single renames leave them, with indexes of either.
    let segments: Vec<_> = files(before.path(), LOG).iter().map(|path| path.file_stem().unwrap().to_owned()).collect();
    for mixture in 0..1_u32 << segments.len().min(6) {
        let mixed = copy_dir(dir.path());
        for (at, stem) in segments.iter().enumerate() {
            for (extension, shift) in [("log", 0), ("index", 1), ("timeindex", 2)] {
                if mixture.rotate_left(shift) >> (at % 6) & 1 == 1 {
                    let name = std::path::Path::new(stem).with_extension(extension);
                    std::fs::copy(before.path().join(&name), mixed.path().join(&name)).unwrap();
                }
            }
        }
        let (log, report) = open(mixed.path(), &config);
        assert_eq!((report.truncated_bytes, report.log_end), (0, Offset::new(200)), "mixture {mixture:b}");
        assert_eq!(newest(&records(&log.reader())), expected);
    }
}

#[test]
fn gaps_are_damage_where_nothing_was_compacted() {
    let dir = temp_dir();
    let (mut log, _) = open(dir.path(), &compacted_topic());
    for _ in 0..3 {
        append(&mut log, &batch(1, 100, 0));
    }
    flush(&mut log);
    drop(log);
    let path = files(dir.path(), LOG).remove(0);
    let bytes = std::fs::read(&path).unwrap();
    let size = BatchIter::new(&bytes).next().unwrap().unwrap().bytes().len();
    std::fs::write(&path, [&bytes[..size], &bytes[2 * size..]].concat()).unwrap();
    let opened = PartitionLog::open(dir.path(), &compacted_topic(), 0);
    assert!(matches!(opened, Err(StorageError::Damage(damage)) if damage.offset == Offset::new(1)));
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u8, Option<u16>)>, u16),
    Seal,
    Compact { keys_max: usize },
    Truncate { back: u64 },
    Reopen { close: bool },
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (0..6_u8, prop::option::weighted(0.8, any::<u16>()));
    let step = prop_oneof![
        10 => (prop::collection::vec(record, 1..6), 0..5_u16).prop_map(|(records, codec)| Step::Append(records, codec)),
        3 => Just(Step::Seal),
        4 => (1..8_usize).prop_map(|keys_max| Step::Compact { keys_max }),
        1 => (0..10_u64).prop_map(|back| Step::Truncate { back }),
        1 => any::<bool>().prop_map(|close| Step::Reopen { close }),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_value_of_each_key_stays_at_its_offset(steps in steps()) {
        let dir = temp_dir();
        let config = compacted_topic();
        let mut log = open(dir.path(), &config).0;
        let mut all: Vec<Record> = Vec::new();
        let (mut now_ms, mut compacted_below) = (0, Offset::ZERO);
        for step in steps {
            match step {
                Step::Append(records, codec) => {
                    let named: Vec<_> = records
                        .iter()
                        .map(|(key, value)| (key.to_string(), value.map(|value| value.to_string())))
                        .collect();
                    let refs: Vec<_> = named.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
                    let base = append(&mut log, &keyed(Compression::from_wire(codec).unwrap(), now_ms, &refs));
                    for (at, (key, value)) in named.into_iter().enumerate() {
                        let offset = base.base_offset.plus(at as u64).get();
                        all.push((offset, now_ms, Some(key.into_bytes()), value.map(String::into_bytes)));
                    }
                }
                Step::Seal => seal(&mut log),
                Step::Compact { keys_max } => {
                    // Few keys at a time, so that it takes several jobs.
                    while let Some(mut job) = log.begin_compaction(log.log_end_offset(), now_ms) {
                        job.keys_max = keys_max;
                        let compacted = job.run().unwrap();
                        log.install_compaction(compacted).unwrap();
                        compacted_below = log.log_end_offset();
                    }
                }
                Step::Truncate { back } => {
                    // As far as the log was compacted nothing may be cut: that is below what is committed.
                    let target = Offset::new(log.log_end_offset().get().saturating_sub(back)).max(compacted_below);
                    let end = log.truncate_to(target).unwrap();
                    all.retain(|record| record.0 < end.get());
                }
                Step::Reopen { close } => {
                    if close {
                        log.close().unwrap();
                    } else {
                        drop(log);
                    }
                    let (opened, report) = open(dir.path(), &config);
                    prop_assert_eq!(report.truncated_bytes, 0);
                    log = opened;
                }
                Step::Wait => now_ms += 700,
            }
            let found = records(&log.reader());
            prop_assert!(found.iter().all(|record| all.contains(record)), "a record was changed");
            prop_assert_eq!(newest(&found), newest(&all));
            prop_assert_eq!(log.log_end_offset().get(), all.last().map_or(0, |record| record.0 + 1));
        }
    }
}
