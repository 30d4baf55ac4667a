//! What is given back, and what that costs readers: nothing but time.

use std::{fs::File, io::IoSliceMut, os::unix::fs::FileExt, path::Path};

use pubg1_model::{Offset, topic::TopicConfig};
use rustix::{
    fs::statfs,
    io::{Errno, ReadWriteFlags, preadv2},
};

use super::fixtures::{EPOCH, batch, flush, open};
use crate::{PageCache, PartitionLog, Written, page_cache::PIECE_BYTES};

const MIB: u64 = 1024 * 1024;

/// Magic of a file system that has nothing but memory, of `statfs(2)`.
const TMPFS: i64 = 0x0102_1994;

/// Whether the byte of the file is in memory; as expected where the file system does not tell.
fn is_in_memory(path: &Path, at: u64, expected: bool) -> bool {
    let file = File::open(path).unwrap();
    match preadv2(&file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) {
        Ok(bytes) => bytes == 1,
        Err(Errno::AGAIN) => false,
        // Not every file system tells.
        Err(Errno::OPNOTSUPP) => expected,
        Err(error) => panic!("{error}"),
    }
}

/// A log with so much in it, in one segment, of which nothing was flushed.
fn eight_mebibytes(dir: &Path) -> PartitionLog {
    let (mut log, _) = open(dir, &TopicConfig::default());
    for at in 0..16 {
        log.append(&batch(8, 64 * 1024, at), EPOCH, 0).unwrap();
    }
    log
}

#[test]
fn the_oldest_pages_are_given_back_and_everything_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    if statfs(dir.path()).unwrap().f_type == TMPFS {
        eprintln!("SKIPPED: a file system in memory has nowhere else to keep its pages");
        return;
    }
    let config = TopicConfig { segment_bytes: 10 * MIB, ..TopicConfig::default() };
    let (mut log, _) = open(dir.path(), &config);
    let mut cache = PageCache::new(8 * MIB);
    let large = batch(8, 64 * 1024, 0);
    let mut told = 0;
    for _ in 0..64 {
        log.append(&large, EPOCH, 0).unwrap();
        // On disk: what is dirty can't be given back.
        flush(&mut log);
        let written: Vec<Written> = log.take_written().collect();
        told += written.iter().map(Written::bytes).sum::<u64>();
        cache.add(written).unwrap();
    }
    let size = log.size_bytes();
    assert!(told <= size && size - told < PIECE_BYTES as u64, "told {told} of {size}");

    let path = |base: u64| dir.path().join(format!("{base:020}.log"));
    assert!(!is_in_memory(&path(0), MIB, false), "the first segment is the oldest");
    let newest = log.reader().read(log.recent_from(), Offset::MAX, 0).unwrap();
    assert!(newest.bytes > 0 && log.recent_from() < log.log_end_offset(), "the newest 8 MiB are kept");

    let (reader, mut next) = (log.reader(), Offset::ZERO);
    while next < log.log_end_offset() {
        let slice = reader.read(next, Offset::MAX, MIB.try_into().unwrap()).unwrap();
        for run in &slice.runs {
            assert!(pubg1_model::record_batch::BatchIter::new(run).all(|batch| batch.is_ok()));
        }
        next = slice.next_offset;
    }
}

#[test]
fn a_slice_outlives_that_its_pages_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = eight_mebibytes(dir.path());
    let held = log.reader().read(Offset::ZERO, Offset::MAX, usize::MAX).unwrap().runs.concat();
    let slice = log.reader().read(Offset::ZERO, Offset::MAX, usize::MAX).unwrap();
    let written: Vec<Written> = log.take_written().collect();
    assert!(!written.is_empty());
    // Dirty at the first time, clean at the second.
    for _ in 0..2 {
        written.iter().for_each(|part| part.release().unwrap());
        flush(&mut log);
    }
    assert!(slice.runs.concat() == held);
    log.append(&batch(8, 64 * 1024, 17), EPOCH, 0).unwrap();
}

#[test]
fn what_an_earlier_life_has_written_is_nobodys_newest() {
    let dir = tempfile::tempdir().unwrap();
    eight_mebibytes(dir.path()).close().unwrap();
    let (mut log, _) = open(dir.path(), &TopicConfig::default());
    assert_eq!(log.take_written().len(), 0);
}

#[test]
fn what_is_recent_was_not_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), &TopicConfig::default());
    let mut cache = PageCache::new(8 * MIB);
    assert_eq!(log.recent_from(), Offset::ZERO);
    for at in 0..40 {
        log.append(&batch(8, 64 * 1024, at), EPOCH, 0).unwrap();
        cache.add(log.take_written().collect::<Vec<_>>()).unwrap();
    }
    let (recent, end) = (log.recent_from(), log.log_end_offset());
    // Of 20 MiB two pieces of 4 MiB are kept and one is not whole yet; 16 records are a MiB.
    assert!(recent > Offset::ZERO && end.since(recent) >= 8 * 16 - 8, "{recent} of {end}");
}

#[test]
fn what_was_given_back_before_it_was_on_disk_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = eight_mebibytes(dir.path());
    // What a disk that failed has instead.
    let lost = |at: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join(format!("{:020}.log", 0))).unwrap();
        file.write_all_at(&[0; 512], at).unwrap();
    };
    // In the third batch.
    lost(MIB + 4096);
    assert!(log.reader().read(Offset::ZERO, Offset::MAX, usize::MAX).is_ok(), "written a moment ago: nobody looks");
    log.take_written().for_each(|part| part.release().unwrap());
    let slice = log.reader().read(Offset::ZERO, Offset::MAX, usize::MAX).unwrap();
    assert_eq!(slice.next_offset, Offset::new(16), "what comes before the damage");
    assert!(log.reader().read(slice.next_offset, Offset::MAX, usize::MAX).is_err());
}

#[test]
fn a_segment_that_is_gone_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = eight_mebibytes(dir.path());
    let written: Vec<Written> = log.take_written().collect();
    assert!(!written.is_empty());
    log.restart_at(Offset::new(7)).unwrap();
    let mut cache = PageCache::new(0);
    cache.add(written).unwrap();
}
