//! A full disk heals; a failed flush is the end.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use pubg1_model::{LeaderEpoch, Offset};
use rustix::mount::{MountFlags, UnmountFlags};

use super::fixtures::{EPOCH, append, base_offsets, batch, contents, flush, open, open_on, small_segments, temp_dir};
use crate::{AppendError, Disk, PartitionLog, StorageError, SystemDisk};

/// A disk on which calls fail once a countdown has reached zero, until it is reset.
#[derive(Debug)]
struct FailingDisk {
    space: AtomicI64,
    syncs: AtomicI64,
    /// Whether one failed sync makes way for successful ones, as the kernel does.
    heals: bool,
}

const NEVER: i64 = i64::MAX / 2;

impl FailingDisk {
    fn new() -> Arc<Self> {
        Arc::new(Self { space: AtomicI64::new(NEVER), syncs: AtomicI64::new(NEVER), heals: false })
    }

    fn count(counter: &AtomicI64, error: io::ErrorKind) -> io::Result<()> {
        if counter.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(error.into()) }
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        Self::count(&self.space, io::ErrorKind::StorageFull)?;
        SystemDisk.create(path)
    }

    fn allocate(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        Self::count(&self.space, io::ErrorKind::StorageFull)?;
        SystemDisk.allocate(file, offset, bytes)
    }

    fn sync(&self, _path: &Path, sync: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        if let Err(error) = Self::count(&self.syncs, io::ErrorKind::Other) {
            if self.heals {
                self.syncs.store(NEVER, Ordering::SeqCst);
            }
            return Err(error);
        }
        sync()
    }
}

#[test]
fn a_full_disk_fails_the_append_changes_nothing_and_heals() {
    // Each call that needs space fails once, at every point of a log's life.
    for point in 0..60 {
        let (dir, disk, config) = (temp_dir(), FailingDisk::new(), small_segments());
        let (mut log, _) = open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), &config);
        disk.space.store(point, Ordering::SeqCst);
        let (mut failures, mut expected) = (0, Vec::new());
        for at in 0..40_i64 {
            let next = batch(2, 700, at);
            let before = (log.log_end_offset(), contents(&log.reader()), log.producer_count());
            let appended = match log.append(&next, LeaderEpoch::new(1), 0) {
                Ok(appended) => appended,
                Err(AppendError::DiskFull { path }) => {
                    failures += 1;
                    assert!(path.starts_with(dir.path()));
                    let after = (log.log_end_offset(), contents(&log.reader()), log.producer_count());
                    assert_eq!(before.0, after.0);
                    assert!(before == after, "a failed append changed the log");
                    disk.space.store(NEVER, Ordering::SeqCst);
                    append(&mut log, &next)
                }
                Err(other) => panic!("{other}"),
            };
            expected.push(appended.base_offset.get());
            if at % 7 == 0 {
                flush(&mut log);
            }
        }
        assert!(failures <= 1);
        assert_eq!(base_offsets(&contents(&log.reader())), expected);
        let bytes = contents(&log.reader());
        drop(log);
        let (log, report) = open(dir.path(), &config);
        assert_eq!(report.truncated_bytes, 0);
        assert!(contents(&log.reader()) == bytes, "space failed at call {point}");
    }
}

#[test]
fn a_log_on_a_full_disk_can_be_opened_and_read_and_made_smaller() {
    let (dir, disk, config) = (temp_dir(), FailingDisk::new(), small_segments());
    let (mut log, _) = open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), &config);
    for at in 0..40 {
        append(&mut log, &batch(2, 700, at));
    }
    disk.space.store(0, Ordering::SeqCst);
    flush(&mut log);
    assert_eq!(log.flushed_offset(), log.log_end_offset(), "what is allocated can be flushed");
    // Leading in a new epoch must work, or nothing could be deleted.
    log.begin_epoch(LeaderEpoch::new(2)).unwrap();
    let before = log.segment_count();
    assert!(before > 2);
    log.delete_records_before(Offset::new(50)).unwrap();
    assert!(log.segment_count() < before);
    assert!(matches!(log.truncate_to(Offset::new(77)), Err(error) if error.is_disk_full()));
    assert_eq!(log.log_end_offset(), Offset::new(80), "a truncation that needs space changes nothing without it");
    log.close().unwrap();
    let (log, report) = open(dir.path(), &config);
    assert_eq!((report.clean, report.log_start, report.log_end), (true, Offset::new(50), Offset::new(80)));
    assert_eq!(log.leader_epochs().latest(), Some(LeaderEpoch::new(2)));
}

#[test]
fn a_failed_flush_stops_the_log_for_good() {
    for heals in [false, true] {
        // The number of syncs until one fails, so that each of a flush's steps does.
        for point in 0..8 {
            let (dir, config) = (temp_dir(), small_segments());
            let disk = Arc::new(FailingDisk { heals, ..Arc::into_inner(FailingDisk::new()).unwrap() });
            let (mut log, _) = open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), &config);
            append(&mut log, &batch(1, 10, 0));
            flush(&mut log);
            for _ in 0..12 {
                append(&mut log, &batch(2, 700, 0));
            }
            assert!(log.segment_count() > 1);
            let flushed = log.flushed_offset();
            disk.syncs.store(point, Ordering::SeqCst);
            let pending = log.begin_flush().unwrap();
            let another = log.begin_flush().unwrap();
            let Err(error) = pending.run() else {
                assert!(point > 4, "a flush of a closed segment has at least five syncs");
                continue;
            };
            assert!(error.path.starts_with(dir.path()), "{error}");
            // One more flush was under way, and now the disk claims that all is well.
            if heals {
                assert!(another.run().is_err(), "a second flush hides the failure of the first");
            }
            let appended = log.append(&batch(1, 10, 0), EPOCH, 0);
            assert!(matches!(appended, Err(AppendError::Flush(_))), "{appended:?}");
            assert!(log.begin_flush().unwrap().run().is_err());
            assert!(matches!(log.truncate_to(Offset::ZERO), Err(StorageError::Flush(_))));
            assert!(matches!(log.delete_records_before(Offset::new(1)), Err(StorageError::Flush(_))));
            assert!(matches!(log.apply_retention(0, Offset::MAX), Err(StorageError::Flush(_))));
            assert!(matches!(log.begin_epoch(LeaderEpoch::new(5)), Err(StorageError::Flush(_))));
            assert_eq!(log.flushed_offset(), flushed);
            let end = log.log_end_offset();
            assert!(matches!(log.close(), Err(StorageError::Flush(_))));
            // The next process reads the log again, and writes again what may be missing.
            let (log, report) = open(dir.path(), &config);
            assert!(!report.clean);
            assert_eq!((log.log_end_offset(), log.flushed_offset()), (end, end));
        }
    }
}

#[test]
fn a_truncation_that_fails_halfway_stops_the_log() {
    for (what, points) in [("space", 0..8), ("sync", 0..12)] {
        let mut halfway = 0;
        for point in points {
            let (dir, disk, config) = (temp_dir(), FailingDisk::new(), small_segments());
            let (mut log, _) = open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), &config);
            for at in 0..40 {
                append(&mut log, &batch(2, 700, at));
            }
            flush(&mut log);
            let before = contents(&log.reader());
            let counter = if what == "space" { &disk.space } else { &disk.syncs };
            counter.store(point, Ordering::SeqCst);
            let cut = log.truncate_to(Offset::new(31));
            counter.store(NEVER, Ordering::SeqCst);
            match (cut, log.append(&batch(1, 10, 0), EPOCH, 0)) {
                (Ok(end), Ok(appended)) => assert_eq!(appended.base_offset, end),
                (Err(_), Ok(appended)) => {
                    assert_eq!(appended.base_offset, Offset::new(80), "{what} {point}");
                    assert!(contents(&log.reader()).starts_with(&before), "{what} {point}: it changed something");
                }
                (Err(_), Err(AppendError::Flush(_))) => halfway += 1,
                (cut, appended) => panic!("{what} {point}: {cut:?}, {appended:?}"),
            }
            let (end, held) = (log.log_end_offset(), contents(&log.reader()));
            let stopped = log.check_flushes().is_err();
            drop(log);
            // Opened again it is the old log, the new one, or one between them.
            let (log, _) = open(dir.path(), &config);
            let found = contents(&log.reader());
            if stopped {
                assert!(before.starts_with(&found) && log.log_end_offset() >= Offset::new(30), "{what} {point}");
            } else {
                assert!(log.log_end_offset() == end && found == held, "{what} {point}: the log forgot something");
            }
        }
        assert_eq!(halfway > 0, what == "sync", "what needs space is written before the way back is cut off");
    }
}

#[test]
fn a_flush_that_comes_after_its_log_is_gone_changes_nothing() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    append(&mut log, &batch(3, 10, 0));
    let late = log.begin_flush().unwrap();
    drop(log);
    let (mut log, _) = open(dir.path(), &config);
    log.truncate_to(Offset::ZERO).unwrap();
    let flushed = late.run().unwrap();
    log.complete_flush(flushed);
    assert_eq!(log.flushed_offset(), Offset::ZERO);
    drop(log);
    assert_eq!(open(dir.path(), &config).1.log_end, Offset::ZERO);
}

#[test]
fn a_flush_from_before_a_truncation_means_nothing() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    append(&mut log, &batch(3, 10, 0));
    append(&mut log, &batch(3, 10, 0));
    let early = log.begin_flush().unwrap().run().unwrap();
    let late = log.begin_flush().unwrap();
    assert_eq!(log.truncate_to(Offset::new(4)).unwrap(), Offset::new(3));
    log.complete_flush(early);
    let late = late.run().unwrap();
    log.complete_flush(late);
    append(&mut log, &batch(5, 10, 0));
    assert_eq!(log.flushed_offset(), Offset::ZERO);
    flush(&mut log);
    assert_eq!(log.flushed_offset(), Offset::new(8));
}

#[test]
fn one_directory_has_one_log() {
    let (dir, config) = (temp_dir(), small_segments());
    let (log, _) = open(dir.path(), &config);
    assert!(matches!(PartitionLog::open(dir.path(), &config, 0), Err(StorageError::Locked { .. })));
    drop(log);
    open(dir.path(), &config);
}

/// A file system of 8 MiB; `None` where mounting is not permitted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        match rustix::mount::mount("none", dir.path(), "tmpfs", MountFlags::empty(), Some(c"size=8m")) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                println!("skipped, a small file system cannot be mounted here: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH).ok();
    }
}

#[test]
fn a_small_file_system_can_be_filled_emptied_and_filled_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path().join("log");
    let config = pubg1_model::topic::TopicConfig { segment_bytes: 2 * 1024 * 1024, ..small_segments() };
    let (mut log, _) = open(&dir, &config);
    let fill = |log: &mut PartitionLog| {
        let next = batch(10, 1000, 0);
        let mut refused = 0;
        // A flush gives back what closed segments had allocated ahead.
        while refused < 2 {
            match log.append(&next, EPOCH, 0) {
                Ok(_) => refused = 0,
                Err(AppendError::DiskFull { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            if refused > 0 {
                flush(log);
            }
        }
    };
    fill(&mut log);
    let filled_bytes = log.size_bytes();
    assert!(filled_bytes > 7 * 1024 * 1024, "{filled_bytes} bytes fit");
    let expected = contents(&log.reader());
    // A crash on the full disk: nothing is lost, and the log can still be led and cut.
    drop(log);
    let (mut log, report) = open(&dir, &config);
    assert_eq!(report.truncated_bytes, 0);
    assert!(contents(&log.reader()) == expected, "a full disk lost records");
    log.begin_epoch(LeaderEpoch::new(1)).unwrap();
    let smaller = pubg1_model::topic::TopicConfig { retention_bytes: Some(1), ..config.clone() };
    log.set_config(&smaller).unwrap();
    let deleted = log.apply_retention(0, log.flushed_offset()).unwrap();
    assert!(deleted.segments >= 2);
    log.set_config(&config).unwrap();
    fill(&mut log);
    assert!(log.size_bytes() > 6 * 1024 * 1024);
    // Deleting everything gives everything back.
    let end = log.log_end_offset();
    log.delete_records_before(end).unwrap();
    assert_eq!(log.size_bytes(), 0);
    fill(&mut log);
    let expected = contents(&log.reader());
    log.close().unwrap();
    let (log, _) = open(&dir, &config);
    assert_eq!(log.log_start_offset(), end);
    assert!(contents(&log.reader()) == expected, "records were lost");
}
