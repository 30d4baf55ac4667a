//! The files: Kafka's rules for indexes, what they cost, retention, and time.

use std::{fs, path::Path};

use pubg1_model::{Offset, compression::Compression, record_batch::BatchIter, topic::TopicConfig};

use super::fixtures::{
    EPOCH, append, batch, batch_of, contents, files, flush, open, records, small_segments, temp_dir,
};
use crate::{
    AppendError, PartitionLog, StorageError,
    segment::{INDEX, LOG, TIME_INDEX, parse_file_name},
};

/// A log of many segments with growing and repeating timestamps, closed.
fn closed_log(dir: &Path, config: &TopicConfig) -> Vec<u8> {
    let (mut log, _) = open(dir, config);
    for at in 0..120_i64 {
        append(&mut log, &batch(1 + usize::try_from(at % 4).unwrap(), 300, 1000 + at * 10 - at % 5 * 30));
    }
    let bytes = contents(&log.reader());
    log.close().unwrap();
    bytes
}

fn base_of(path: &Path) -> i64 {
    parse_file_name(path.file_name().unwrap().to_str().unwrap()).unwrap().0.to_wire()
}

/// What Kafka's own dump tool checks, written from the format's description: index entries name
/// the last offset and the position of a batch, at the interval; time entries name the largest
/// timestamp so far and the batch that holds it, and the last one covers the segment.
fn check_indexes(dir: &Path, interval_bytes: usize) -> usize {
    let mut entries = 0;
    for path in files(dir, LOG) {
        let (base, log) = (base_of(&path), fs::read(&path).unwrap());
        let index = fs::read(path.with_extension(INDEX)).unwrap();
        let time_index = fs::read(path.with_extension(TIME_INDEX)).unwrap();
        let (mut expected, mut expected_times) = (Vec::new(), Vec::new());
        let (mut position, mut since) = (0, 0);
        let (mut largest, mut indexed) = ((-1, 0), -1);
        for batch in BatchIter::new(&log) {
            let batch = batch.unwrap();
            let header = batch.header();
            let last = header.base_offset + i64::from(header.last_offset_delta) - base;
            if header.max_timestamp > largest.0 {
                largest = (header.max_timestamp, last);
            }
            if since > interval_bytes {
                expected.extend(i32::try_from(last).unwrap().to_be_bytes());
                expected.extend(i32::try_from(position).unwrap().to_be_bytes());
                if largest.0 > indexed {
                    expected_times.push(largest);
                    indexed = largest.0;
                }
                since = 0;
            }
            since += batch.bytes().len();
            position += batch.bytes().len();
        }
        if largest.0 > indexed {
            expected_times.push(largest);
        }
        let expected_times: Vec<u8> = expected_times
            .iter()
            .flat_map(|(time, last)| [&time.to_be_bytes()[..], &i32::try_from(*last).unwrap().to_be_bytes()].concat())
            .collect();
        assert_eq!(position, log.len(), "a closed log has no padding");
        assert_eq!(index, expected, "{}", path.display());
        assert_eq!(time_index, expected_times, "{}", path.display());
        entries += index.len() / 8;
    }
    entries
}

#[test]
fn closed_files_are_what_kafka_writes() {
    let (dir, config) = (temp_dir(), small_segments());
    let bytes = closed_log(dir.path(), &config);
    assert!(check_indexes(dir.path(), 256) > 50);
    // The same rules when they are continued, and when they are built by recovery.
    let (mut log, _) = open(dir.path(), &config);
    for _ in 0..30 {
        append(&mut log, &batch(2, 300, 5000));
    }
    drop(log);
    open(dir.path(), &config).0.close().unwrap();
    check_indexes(dir.path(), 256);
    let logs: Vec<u8> = files(dir.path(), LOG).iter().flat_map(|path| fs::read(path).unwrap()).collect();
    assert!(logs.starts_with(&bytes));
    let epochs = fs::read_to_string(dir.path().join("leader-epoch-checkpoint")).unwrap();
    assert_eq!(epochs, "0\n1\n1 0\n");
}

#[test]
fn missing_and_wrong_indexes_are_written_anew() {
    let (dir, config) = (temp_dir(), small_segments());
    let bytes = closed_log(dir.path(), &config);
    let count = files(dir.path(), LOG).len();
    assert!(count > 3);
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 6] = [
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("garbled", |path| fs::write(path, [0x5a; 96]).unwrap()),
        ("half an entry", |path| {
            let index = fs::read(path).unwrap();
            fs::write(path, &index[..index.len() - 1]).unwrap();
        }),
        ("not cut", |path| {
            let mut index = fs::read(path).unwrap();
            index.extend([0; 96]);
            fs::write(path, index).unwrap();
        }),
        ("wrong at its end", |path| {
            let mut index = fs::read(path).unwrap();
            *index.last_mut().unwrap() ^= 1;
            fs::write(path, index).unwrap();
        }),
    ];
    for extension in [INDEX, TIME_INDEX] {
        for (what, harm) in harms {
            let paths = files(dir.path(), extension);
            paths.iter().for_each(|path| harm(path));
            let (log, report) = open(dir.path(), &config);
            assert!(report.clean);
            assert_eq!(report.rebuilt_indexes, count, "{extension} {what}");
            assert!(contents(&log.reader()) == bytes);
            log.close().unwrap();
            check_indexes(dir.path(), 256);
        }
    }
}

#[test]
fn a_wrong_index_slows_reading_down_and_nothing_else() {
    let (dir, config) = (temp_dir(), small_segments());
    let bytes = closed_log(dir.path(), &config);
    // Wrong in the middle, which opening does not look at after a clean stop.
    for path in files(dir.path(), INDEX).into_iter().chain(files(dir.path(), TIME_INDEX)) {
        let mut index = fs::read(&path).unwrap();
        let middle = index.len() / 2;
        index[4..middle].fill(0x11);
        fs::write(&path, index).unwrap();
    }
    let (log, _) = open(dir.path(), &config);
    let reader = log.reader();
    assert!(contents(&reader) == bytes);
    for (offset, timestamp_ms, ..) in records(&reader) {
        let slice = reader.read(Offset::new(offset), Offset::MAX, 1).unwrap();
        assert!(slice.next_offset > Offset::new(offset));
        assert!(reader.find_timestamp(timestamp_ms, Offset::MAX).unwrap().unwrap().0 <= Offset::new(offset));
    }
}

#[test]
fn an_unused_log_costs_no_space_and_a_used_one_grows_in_steps() {
    let dir = temp_dir();
    let config = TopicConfig::default();
    let (mut log, report) = open(dir.path(), &config);
    assert_eq!((report.segments, log.segment_count()), (0, 0));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    append(&mut log, &batch(1, 100, 0));
    let path = files(dir.path(), LOG).remove(0);
    let allocated = || {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(&path).unwrap().blocks() * 512
    };
    assert_eq!(allocated(), 1024 * 1024, "a segment of 256 MiB begins with 1 MiB");
    for _ in 0..20 {
        append(&mut log, &batch(10, 100_000, 0));
    }
    assert!(allocated() > 20_000_000 && allocated() < 40_000_000);
    let bytes = log.size_bytes();
    log.close().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes);
}

#[test]
fn too_large_batches_are_refused() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    let refused = log.append(&batch(1, 17_000, 0), EPOCH, 0);
    assert!(matches!(refused, Err(AppendError::TooLarge { bytes_max: 16_384, .. })), "{refused:?}");
    append(&mut log, &batch(1, 16_000, 0));
    append(&mut log, &batch(1, 16_000, 0));
    assert_eq!(log.segment_count(), 2);
}

#[test]
fn a_batch_that_is_sent_again_after_days_is_a_duplicate() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let dir = temp_dir();
    let (mut log, _) = open(dir.path(), &small_segments());
    let sent = batch_of(Compression::None, 3, 10, 0, Some((7, 0)));
    log.append(&sent, EPOCH, 0).unwrap();
    for day in 0..5 {
        log.apply_retention(day * DAY_MS, Offset::MAX).unwrap();
    }
    let again = log.append(&sent, EPOCH, 5 * DAY_MS).unwrap();
    assert!(again.duplicate && again.base_offset == Offset::ZERO, "{again:?}");
}

#[test]
fn segments_are_closed_by_age_and_deleted_by_age() {
    let dir = temp_dir();
    let config = TopicConfig { retention_ms: Some(10_000), segment_ms: 1000, ..small_segments() };
    let (mut log, _) = open(dir.path(), &config);
    // Timestamps of long ago and of the far future change nothing.
    for (now_ms, timestamp_ms) in [(0, 1), (999, i64::MAX / 2), (1000, 5), (2500, 7)] {
        log.append(&batch(1, 10, timestamp_ms), EPOCH, now_ms).unwrap();
    }
    assert_eq!(log.segment_count(), 3);
    let retain = |log: &mut PartitionLog, now_ms, high_watermark| {
        let deleted = log.apply_retention(now_ms, Offset::new(high_watermark)).unwrap();
        (deleted.segments, log.log_start_offset().get(), log.segment_count())
    };
    assert_eq!(retain(&mut log, 10_998, 4), (0, 0, 3));
    assert_eq!(retain(&mut log, 10_999, 1), (0, 0, 3), "never above the high watermark");
    assert_eq!(retain(&mut log, 10_999, 4), (1, 2, 2));
    assert_eq!(retain(&mut log, 12_500, 4), (2, 4, 0), "the active segment is closed first");
    let appended = log.append(&batch(1, 10, 0), EPOCH, 12_500).unwrap();
    assert_eq!(appended.base_offset, Offset::new(4), "offsets are never given twice");
    flush(&mut log);
    drop(log);
    let (log, report) = open(dir.path(), &config);
    assert_eq!((report.log_start, report.log_end), (Offset::new(4), Offset::new(5)));
    drop(log);
}

#[test]
fn an_emptied_log_remembers_where_it_was() {
    let (dir, config) = (temp_dir(), small_segments());
    for close in [false, true] {
        let (mut log, _) = open(dir.path(), &config);
        append(&mut log, &batch(7, 10, 0));
        flush(&mut log);
        let end = log.log_end_offset();
        assert_eq!(log.delete_records_before(end).unwrap(), end);
        assert_eq!(log.segment_count(), 0);
        if close {
            log.close().unwrap();
        } else {
            drop(log);
        }
        let (log, report) = open(dir.path(), &config);
        assert_eq!((report.log_start, report.log_end, report.clean), (end, end, close));
        let reader = log.reader();
        assert!(reader.read(end, Offset::MAX, 100).unwrap().runs.is_empty());
        assert!(reader.read(Offset::ZERO, Offset::MAX, 100).is_err());
    }
}

#[test]
fn settings_out_of_bounds_are_refused() {
    let dir = temp_dir();
    let config = TopicConfig { segment_bytes: 1, ..TopicConfig::default() };
    assert!(matches!(PartitionLog::open(dir.path(), &config, 0), Err(StorageError::Config(_))));
    let (mut log, _) = open(dir.path(), &small_segments());
    assert!(log.set_config(&config).is_err());
    assert!(matches!(log.delete_records_before(Offset::new(1)), Err(StorageError::AboveLogEnd { .. })));
}

#[test]
fn times_are_found_in_plain_and_compressed_batches() {
    for codec in [Compression::None, Compression::Zstd] {
        let (dir, config) = (temp_dir(), small_segments());
        let (mut log, _) = open(dir.path(), &config);
        for at in 0..100_i64 {
            // Out of order within bounds, with repetitions.
            append(&mut log, &batch_of(codec, 3, 300, 1000 + at * 10 - at % 7 * 15, None));
        }
        assert!(codec != Compression::None || log.segment_count() > 2);
        let (reader, end) = (log.reader(), log.log_end_offset());
        let all = records(&reader);
        for timestamp_ms in (-5..2100).step_by(3) {
            let first = all.iter().find(|record| record.1 >= timestamp_ms).map(|record| (record.0, record.1));
            let found = reader.find_timestamp(timestamp_ms, end).unwrap();
            assert_eq!(found.map(|(offset, time)| (offset.get(), time)), first, "{codec:?} {timestamp_ms}");
        }
        // Not above the high watermark, and not below the log start.
        assert_eq!(reader.find_timestamp(1000, Offset::ZERO).unwrap(), None);
        log.delete_records_before(Offset::new(10)).unwrap();
        assert_eq!(reader.find_timestamp(0, end).unwrap().unwrap().0, Offset::new(10));
    }
}
