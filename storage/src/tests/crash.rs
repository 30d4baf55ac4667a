//! What a crash can leave behind, and what recovery makes of it.

use std::{fs, path::Path};

use proptest::prelude::*;
use pubg1_model::{
    LeaderEpoch, Offset,
    compression::Compression,
    topic::{CleanupPolicy, TopicConfig},
};

use super::fixtures::{
    EPOCH, append, base_offsets, batch, batch_of, contents, copy_dir, files, flush, keyed, open, small_segments,
    temp_dir,
};
use crate::{DamageReason, PartitionLog, RecoveryReport, StorageError, checkpoint::CHECKPOINT_FILE, segment::LOG};

/// A log that crashed: what was flushed of it and what was not.
struct Crashed {
    dir: tempfile::TempDir,
    config: TopicConfig,
    flushed: Offset,
    /// Everything that was appended.
    bytes: Vec<u8>,
    flushed_bytes: usize,
}

/// `flushed` batches that were flushed and `unflushed` ones that were not.
fn crashed(flushed: usize, unflushed: usize, value_bytes: usize) -> Crashed {
    let dir = temp_dir();
    let config = small_segments();
    let (mut log, _) = open(dir.path(), &config);
    for at in 0..flushed {
        append(&mut log, &batch(1 + at % 3, value_bytes, 1000));
    }
    flush(&mut log);
    let (flushed, flushed_bytes) = (log.flushed_offset(), contents(&log.reader()).len());
    for at in 0..unflushed {
        append(&mut log, &batch(1 + at % 2, value_bytes, 2000));
    }
    let bytes = contents(&log.reader());
    // Dropping is what a crash of the process leaves: no cut, no mark.
    drop(log);
    Crashed { dir, config, flushed, bytes, flushed_bytes }
}

fn reopen(dir: &Path, config: &TopicConfig) -> Result<(PartitionLog, RecoveryReport), StorageError> {
    PartitionLog::open(dir, config, 0)
}

impl Crashed {
    /// Recovers a copy of the log after `harm` and checks that what is found is whole, begins what
    /// was appended, and holds everything that was flushed.
    fn recovers_after(&self, what: &str, harm: impl FnOnce(&Path)) -> RecoveryReport {
        let copy = copy_dir(self.dir.path());
        harm(copy.path());
        let (mut log, report) = reopen(copy.path(), &self.config).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = contents(&log.reader());
        assert!(self.bytes.starts_with(&found), "{what}: other batches than were appended");
        assert!(found.len() >= self.flushed_bytes, "{what}: flushed batches are gone");
        base_offsets(&found);
        assert_eq!(log.flushed_offset(), log.log_end_offset());
        // It goes on where it ends, and a second crash changes nothing.
        let next = append(&mut log, &batch(1, 10, 3000));
        assert_eq!(next.base_offset, report.log_end);
        let found = contents(&log.reader());
        drop(log);
        let (log, second) = reopen(copy.path(), &self.config).unwrap();
        assert_eq!(second.truncated_bytes, 0, "{what}: {second:?}");
        assert!(contents(&log.reader()) == found, "{what}: the second recovery differs");
        report
    }

    /// Checks that `harm` is reported as damage and that nothing is changed because of it.
    fn is_damaged_after(&self, what: &str, harm: impl FnOnce(&Path)) -> crate::Damage {
        let copy = copy_dir(self.dir.path());
        harm(copy.path());
        let before: Vec<_> = files(copy.path(), LOG).iter().map(|path| fs::read(path).unwrap()).collect();
        let damage = match reopen(copy.path(), &self.config) {
            Err(StorageError::Damage(damage)) => damage,
            other => panic!("{what}: {other:?}"),
        };
        let after: Vec<_> = files(copy.path(), LOG).iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(before == after, "{what}: a damaged log was changed");
        assert!(damage.offset < self.flushed, "{what}: {damage}");
        assert!(damage.file.starts_with(copy.path()));
        damage
    }

    fn last_log(dir: &Path) -> std::path::PathBuf {
        files(dir, LOG).pop().unwrap()
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    let crashed = crashed(20, 20, 1000);
    let report = crashed.recovers_after("nothing", |_| ());
    assert_eq!((report.clean, report.truncated_bytes), (false, 0));
    assert!(report.segments > 2);
}

#[test]
fn the_end_may_be_cut_at_any_byte() {
    let crashed = crashed(3, 4, 40);
    let (flushed, end) = (crashed.flushed_bytes, crashed.bytes.len());
    for bytes in 0..=end {
        let cut = |dir: &Path| {
            let file = fs::OpenOptions::new().write(true).open(Crashed::last_log(dir)).unwrap();
            file.set_len(bytes as u64).unwrap();
        };
        // The same, but with the space that was allocated ahead still there.
        let zero = |dir: &Path| {
            let path = Crashed::last_log(dir);
            let mut contents = fs::read(&path).unwrap();
            contents[bytes..].fill(0);
            fs::write(&path, contents).unwrap();
        };
        if bytes < flushed {
            crashed.is_damaged_after(&format!("cut at {bytes}"), cut);
        } else {
            crashed.recovers_after(&format!("cut at {bytes}"), cut);
        }
        // A batch may end with a zero, and then nothing changes.
        if bytes < flushed && crashed.bytes[bytes..flushed].iter().any(|byte| *byte != 0) {
            crashed.is_damaged_after(&format!("zeros from {bytes}"), zero);
        } else {
            crashed.recovers_after(&format!("zeros from {bytes}"), zero);
        }
    }
}

#[test]
fn every_byte_of_the_end_may_be_wrong() {
    let crashed = crashed(3, 4, 40);
    let mut positions: Vec<usize> = Vec::new();
    let mut at = 0;
    for batch in pubg1_model::record_batch::BatchIter::new(&crashed.bytes) {
        positions.push(at);
        at += batch.unwrap().bytes().len();
    }
    for byte in 0..crashed.bytes.len() {
        let flip = |dir: &Path| {
            let path = Crashed::last_log(dir);
            let mut contents = fs::read(&path).unwrap();
            contents[byte] ^= 0x41;
            fs::write(&path, contents).unwrap();
        };
        let what = format!("byte {byte} is wrong");
        let begin = positions.iter().rev().find(|position| **position <= byte).copied().unwrap();
        if byte < crashed.flushed_bytes {
            let damage = crashed.is_damaged_after(&what, flip);
            assert_eq!(damage.position, begin as u64, "{damage}");
        } else {
            let report = crashed.recovers_after(&what, flip);
            // The last byte of a batch may be a zero, which looks like space that was never used.
            let torn = (crashed.bytes.len() - begin) as u64;
            assert!((torn - 1..=torn).contains(&report.truncated_bytes), "{what}: {report:?}");
        }
    }
}

#[test]
fn damage_in_an_earlier_segment_is_found_when_it_is_read() {
    let crashed = crashed(40, 2, 1000);
    assert!(files(crashed.dir.path(), LOG).len() > 2);
    let first = |dir: &Path| files(dir, LOG).remove(0);
    let damage = crashed.is_damaged_after("its last batch is cut", |dir| {
        let path = first(dir);
        let contents = fs::read(&path).unwrap();
        fs::write(&path, &contents[..contents.len() - 1]).unwrap();
    });
    assert!(matches!(damage.reason, DamageReason::Batch(_)), "{damage}");
    crashed.is_damaged_after("it is empty", |dir| fs::write(first(dir), b"").unwrap());
    crashed.is_damaged_after("it is gone", |dir| fs::remove_file(first(dir)).unwrap());
    crashed.is_damaged_after("the second is gone", |dir| fs::remove_file(files(dir, LOG).remove(1)).unwrap());
    let all_gone = |dir: &Path| files(dir, LOG).iter().for_each(|path| fs::remove_file(path).unwrap());
    crashed.is_damaged_after("all are gone", all_gone);
}

#[test]
fn files_that_were_never_synced_may_be_missing() {
    let crashed = crashed(2, 60, 1000);
    let count = files(crashed.dir.path(), LOG).len();
    assert!(count > 3);
    for gone in 1..count {
        crashed.recovers_after(&format!("segment {gone} is missing"), |dir| {
            fs::remove_file(&files(dir, LOG)[gone]).unwrap();
        });
        crashed.recovers_after(&format!("segment {gone} is empty"), |dir| {
            fs::write(&files(dir, LOG)[gone], b"").unwrap();
        });
        crashed.recovers_after(&format!("segment {gone} is all zeros"), |dir| {
            fs::write(&files(dir, LOG)[gone], [0; 5000]).unwrap();
        });
    }
}

#[test]
fn a_log_of_which_nothing_was_flushed_may_vanish() {
    let crashed = crashed(0, 30, 1000);
    let report = crashed.recovers_after("every log is gone", |dir| {
        files(dir, LOG).iter().for_each(|path| fs::remove_file(path).unwrap());
    });
    assert_eq!(report.log_end, Offset::ZERO);
    crashed.recovers_after("the first log is gone", |dir| fs::remove_file(files(dir, LOG).remove(0)).unwrap());
}

#[test]
fn an_unreadable_checkpoint_costs_time_and_nothing_else() {
    let crashed = crashed(40, 5, 1000);
    for (what, bytes) in [("garbled", Some(vec![7; 640])), ("empty", Some(Vec::new())), ("missing", None)] {
        let report = crashed.recovers_after(what, |dir| {
            let path = dir.join(CHECKPOINT_FILE);
            match bytes {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        });
        assert_eq!(report.scanned_bytes, crashed.bytes.len() as u64, "{what}: everything is read");
        assert_eq!(report.log_end, crashed.flushed.plus(7), "{what}");
    }
    // What was flushed is unknown, so bad bytes that others follow cannot be taken for the end.
    let damage = crashed.is_damaged_after("damage besides", |dir| {
        fs::remove_file(dir.join(CHECKPOINT_FILE)).unwrap();
        let path = files(dir, LOG).remove(0);
        let mut contents = fs::read(&path).unwrap();
        contents[5000] ^= 1;
        fs::write(path, contents).unwrap();
    });
    assert!(matches!(damage.reason, DamageReason::Undecidable));
}

#[test]
fn without_the_checkpoint_gaps_are_not_taken_for_the_end() {
    let dir = temp_dir();
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..small_segments() };
    let (mut log, _) = open(dir.path(), &config);
    for at in 0..20_i64 {
        append(&mut log, &keyed(Compression::None, at, &[(if at % 5 == 0 { "a" } else { "b" }, Some("value"))]));
    }
    // Closed for its age, so that the compacted segment is the last.
    log.apply_retention(60_000, Offset::MAX).unwrap();
    flush(&mut log);
    let compacted = log.begin_compaction(Offset::MAX, 60_000).unwrap().run().unwrap();
    log.install_compaction(compacted).unwrap();
    let left = contents(&log.reader());
    assert_eq!(base_offsets(&left), [15, 19]);
    drop(log);
    let (log, report) = open(dir.path(), &config);
    assert!(report.log_end == Offset::new(20) && contents(&log.reader()) == left);
    drop(log);
    fs::remove_file(dir.path().join(CHECKPOINT_FILE)).unwrap();
    let damage = match reopen(dir.path(), &config) {
        Err(StorageError::Damage(damage)) => damage,
        other => panic!("flushed records were cut: {other:?}"),
    };
    assert!(matches!(damage.reason, DamageReason::Undecidable), "{damage}");
}

#[test]
fn a_mark_of_a_clean_stop_does_not_outlive_the_next_append() {
    let dir = temp_dir();
    let config = small_segments();
    let (mut log, report) = open(dir.path(), &config);
    assert!(report.clean);
    append(&mut log, &batch(1, 100, 0));
    log.close().unwrap();
    let (mut log, report) = open(dir.path(), &config);
    assert!(report.clean && report.scanned_bytes == 0 && report.log_end == Offset::new(1));
    append(&mut log, &batch(1, 100, 0));
    drop(log);
    let (log, report) = open(dir.path(), &config);
    assert!(!report.clean && report.log_end == Offset::new(2));
    // Nothing was appended, but the mark was used up by the recovery.
    drop(log);
    assert!(!open(dir.path(), &config).1.clean);
}

#[test]
fn a_clean_log_that_was_changed_by_others_is_damaged() {
    let dir = temp_dir();
    let config = small_segments();
    let (mut log, _) = open(dir.path(), &config);
    append(&mut log, &batch(3, 100, 0));
    log.close().unwrap();
    let path = Crashed::last_log(dir.path());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(reopen(dir.path(), &config), Err(StorageError::Damage(_))));
    fs::write(&path, bytes).unwrap();
    let (log, report) = reopen(dir.path(), &config).unwrap();
    assert_eq!((report.clean, log.log_end_offset()), (true, Offset::new(3)));
}

#[test]
fn what_an_earlier_crash_left_does_not_come_back() {
    // A batch is torn, the one behind it is whole. After recovery the log goes on with a batch of
    // the same size, and crashes again: the old one must not continue it.
    let crashed = crashed(1, 2, 100);
    let copy = copy_dir(crashed.dir.path());
    let path = Crashed::last_log(copy.path());
    let mut contents_of_file = fs::read(&path).unwrap();
    contents_of_file[crashed.flushed_bytes + 70] ^= 1;
    fs::write(&path, contents_of_file).unwrap();
    let (mut log, report) = reopen(copy.path(), &crashed.config).unwrap();
    assert_eq!(report.log_end, crashed.flushed);
    append(&mut log, &batch(1, 100, 2000));
    drop(log);
    let (_, report) = reopen(copy.path(), &crashed.config).unwrap();
    assert_eq!(report.log_end, crashed.flushed.plus(1));
}

#[test]
fn idempotence_survives_any_stop() {
    let dir = temp_dir();
    let config = small_segments();
    let (mut log, _) = open(dir.path(), &config);
    let sent: Vec<_> = (0..40)
        .map(|at| batch_of(Compression::None, 1, 1000, 0, Some((7, at))))
        .map(|batch| (append(&mut log, &batch), batch))
        .collect();
    assert!(log.segment_count() > 2);
    let check = |log: &mut PartitionLog| {
        for (appended, batch) in &sent[35..] {
            let again = append(log, batch);
            assert!(again.duplicate && again.base_offset == appended.base_offset);
        }
        let gap = batch_of(Compression::None, 1, 10, 0, Some((7, 41)));
        assert!(log.append(&gap, EPOCH, 0).is_err());
    };
    check(&mut log);
    drop(log);
    let (mut log, _) = open(dir.path(), &config);
    check(&mut log);
    log.close().unwrap();
    let (mut log, report) = open(dir.path(), &config);
    assert!(report.clean);
    check(&mut log);
    drop(log);
    // Snapshots only save time.
    for path in files(dir.path(), "snapshot") {
        fs::write(path, b"no snapshot").unwrap();
    }
    check(&mut open(dir.path(), &config).0);
}

#[test]
fn leader_epochs_survive_with_or_without_their_checkpoint() {
    let dir = temp_dir();
    let config = small_segments();
    let (mut log, _) = open(dir.path(), &config);
    for epoch in [1, 1, 3, 4] {
        log.append(&batch(2, 10, 0), LeaderEpoch::new(epoch), 0).unwrap();
    }
    let entries = log.leader_epochs().entries().to_vec();
    assert_eq!(entries.iter().map(|entry| entry.start_offset.get()).collect::<Vec<_>>(), [0, 4, 6]);
    drop(log);
    for harm in ["nothing", "garbled", "missing"] {
        let path = dir.path().join("leader-epoch-checkpoint");
        match harm {
            "garbled" => fs::write(&path, "0\n1\nx").unwrap(),
            "missing" => fs::remove_file(&path).unwrap(),
            _ => {}
        }
        let (log, _) = open(dir.path(), &config);
        assert_eq!(log.leader_epochs().entries(), entries, "{harm}");
    }
    let (mut log, _) = open(dir.path(), &config);
    log.begin_epoch(LeaderEpoch::new(9)).unwrap();
    drop(log);
    let (mut log, _) = open(dir.path(), &config);
    assert_eq!(log.leader_epochs().latest(), Some(LeaderEpoch::new(9)), "an epoch without batches is kept");
    assert!(matches!(log.begin_epoch(LeaderEpoch::new(8)), Err(StorageError::StaleEpoch { .. })));
    assert!(log.append(&batch(1, 1, 0), LeaderEpoch::new(8), 0).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Pages of a map reach the disk in any order, and what is not synced may stay away: of the
    /// bytes that were not flushed any blocks are lost, or hold what was there before.
    #[test]
    fn any_blocks_that_were_not_flushed_may_be_lost(
        flushed in 0..30_usize,
        unflushed in 0..40_usize,
        block_bytes in prop::sample::select(vec![512_usize, 4096]),
        stale in any::<bool>(),
        lost in prop::collection::vec(any::<bool>(), 160),
    ) {
        let crashed = crashed(flushed, unflushed, 600);
        crashed.recovers_after("blocks are lost", |dir| {
            let mut skip = crashed.flushed_bytes;
            let mut block = 0;
            for path in files(dir, LOG) {
                let mut contents = fs::read(&path).unwrap();
                let valid = contents.len() - contents.iter().rev().take_while(|byte| **byte == 0).count();
                let kept = skip.min(valid);
                skip -= kept;
                let old = contents.clone();
                for start in (kept / block_bytes * block_bytes..contents.len()).step_by(block_bytes) {
                    let end = (start + block_bytes).min(contents.len());
                    if lost[block % lost.len()] {
                        let from = start.max(kept);
                        contents[from..end].fill(0);
                        if stale {
                            // Bytes of real batches, from elsewhere in the file.
                            contents[from..end].copy_from_slice(&old[..end - from]);
                        }
                    }
                    block += 1;
                }
                fs::write(&path, contents).unwrap();
            }
        });
    }

    /// No bytes at all make opening panic, hang or take more memory than the file has.
    #[test]
    fn arbitrary_files_are_no_log(
        log in prop::collection::vec(any::<u8>(), 0..3000),
        index in prop::collection::vec(any::<u8>(), 0..100),
        checkpoint in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let dir = temp_dir();
        for (name, bytes) in [("log", &log), ("index", &index), ("timeindex", &index), ("snapshot", &index)] {
            fs::write(dir.path().join(format!("{:020}.{name}", 0)), bytes).unwrap();
        }
        fs::write(dir.path().join(CHECKPOINT_FILE), checkpoint).unwrap();
        let (log, report) = reopen(dir.path(), &small_segments()).unwrap();
        assert_eq!(report.log_end, Offset::ZERO);
        assert!(contents(&log.reader()).is_empty());
    }
}
