//! A log that copies another one.

use pubg1_model::{
    LeaderEpoch, Offset,
    compression::Compression,
    leader_epochs::EpochStart,
    record_batch::ValidBatch,
    topic::{CleanupPolicy, TopicConfig},
};

use super::fixtures::{EPOCH, append, batch, batch_of, contents, flush, keyed, open, small_segments, temp_dir};
use crate::{AppendError, PartitionLog, Repair, RepairError, StorageError};

/// Copies everything that `to` lacks, as a follower does.
pub(super) fn copy(from: &PartitionLog, to: &mut PartitionLog) {
    to.record_epochs(from.leader_epochs().entries().iter().copied()).unwrap();
    loop {
        let slice = from.reader().read(to.log_end_offset(), Offset::MAX, 5000).unwrap();
        if slice.runs.is_empty() {
            break;
        }
        for run in &slice.runs {
            for batch in ValidBatch::split_stored(run).unwrap() {
                let first = batch.header().first_offset().unwrap();
                if first > to.log_end_offset() {
                    assert!(matches!(to.append_replicated(&batch, 0), Err(AppendError::NotNext { .. })));
                    to.allow_gaps_to(first).unwrap();
                }
                to.append_replicated(&batch, 0).unwrap();
            }
        }
        assert_eq!(to.log_end_offset(), slice.next_offset);
    }
}

fn epoch_start(epoch: u32, start_offset: u64) -> EpochStart {
    EpochStart { epoch: LeaderEpoch::new(epoch), start_offset: Offset::new(start_offset) }
}

/// The batches of a log, as they are in it.
fn stored(log: &PartitionLog) -> Vec<ValidBatch> {
    ValidBatch::split_stored(&contents(&log.reader()).into()).unwrap()
}

#[test]
fn a_copy_is_the_same_to_the_byte_and_remembers_producers() {
    let (leader_dir, follower_dir, config) = (temp_dir(), temp_dir(), small_segments());
    let (mut leader, _) = open(leader_dir.path(), &config);
    let (mut follower, _) = open(follower_dir.path(), &config);
    for sequence in 0..40 {
        let sent = batch_of(Compression::None, 2, 700, 0, Some((7, 2 * sequence)));
        let epoch = if sequence < 20 { EPOCH } else { EPOCH.next() };
        leader.append(&sent, epoch, 0).unwrap();
    }
    copy(&leader, &mut follower);
    flush(&mut follower);
    assert_eq!(contents(&follower.reader()), contents(&leader.reader()));
    assert_eq!(follower.leader_epochs(), leader.leader_epochs());
    assert!(follower.segment_count() > 2);
    drop(follower);

    let (mut follower, report) = open(follower_dir.path(), &config);
    assert_eq!((report.truncated_bytes, report.log_end), (0, leader.log_end_offset()));
    assert_eq!(follower.leader_epochs(), leader.leader_epochs());
    // It may lead now: what a producer sends again is recognised.
    let again = batch_of(Compression::None, 2, 700, 0, Some((7, 78)));
    let place = follower.append(&again, EPOCH.next().next(), 0).unwrap();
    assert_eq!((place.duplicate, place.base_offset), (true, Offset::new(78)));
}

#[test]
fn a_batch_that_does_not_come_next_is_refused() {
    let (leader_dir, follower_dir, config) = (temp_dir(), temp_dir(), small_segments());
    let (mut leader, _) = open(leader_dir.path(), &config);
    let (mut follower, _) = open(follower_dir.path(), &config);
    for _ in 0..3 {
        append(&mut leader, &batch(2, 10, 0));
    }
    let batches = stored(&leader);
    let unknown = follower.append_replicated(&batches[0], 0).unwrap_err();
    assert!(matches!(unknown, AppendError::OtherEpoch { assigned: None, .. }), "{unknown}");
    follower.record_epochs([epoch_start(1, 0)]).unwrap();
    follower.append_replicated(&batches[0], 0).unwrap();
    for wrong in [&batches[0], &batches[2]] {
        let error = follower.append_replicated(wrong, 0).unwrap_err();
        assert!(matches!(error, AppendError::NotNext { .. }), "{error}");
    }
    follower.record_epochs([epoch_start(2, 2)]).unwrap();
    let stale = follower.append_replicated(&batches[1], 0).unwrap_err();
    assert!(matches!(stale, AppendError::OtherEpoch { epoch: 1, .. }), "{stale}");
    assert_eq!(follower.log_end_offset(), Offset::new(2));
}

#[test]
fn gaps_of_a_compacted_log_are_copied_and_survive_a_crash() {
    let (leader_dir, follower_dir) = (temp_dir(), temp_dir());
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..small_segments() };
    let (mut leader, _) = open(leader_dir.path(), &config);
    let filler = "x".repeat(900);
    for number in 0..60 {
        let key = format!("k{}", number % 2);
        append(&mut leader, &keyed(Compression::None, 0, &[(&key, Some(&filler))]));
    }
    flush(&mut leader);
    let job = leader.begin_compaction(Offset::MAX, 0).unwrap();
    leader.install_compaction(job.run().unwrap()).unwrap();
    assert!(stored(&leader).len() < 40);
    let (mut follower, _) = open(follower_dir.path(), &config);
    copy(&leader, &mut follower);
    assert_eq!(contents(&follower.reader()), contents(&leader.reader()));
    drop(follower);
    let (follower, report) = open(follower_dir.path(), &config);
    assert_eq!((report.truncated_bytes, report.log_end), (0, leader.log_end_offset()));
    assert_eq!(contents(&follower.reader()), contents(&leader.reader()));
}

#[test]
fn a_log_begins_again_where_the_leaders_does_even_within_a_batch() {
    let (leader_dir, follower_dir, config) = (temp_dir(), temp_dir(), small_segments());
    let (mut leader, _) = open(leader_dir.path(), &config);
    let (mut follower, _) = open(follower_dir.path(), &config);
    for _ in 0..30 {
        append(&mut leader, &batch(3, 500, 0));
        if leader.log_end_offset() == Offset::new(30) {
            copy(&leader, &mut follower);
            flush(&mut follower);
        }
    }
    let pending = {
        append_unflushed(&mut follower);
        follower.begin_flush().unwrap()
    };
    leader.delete_records_before(Offset::new(61)).unwrap();
    follower.restart_at(Offset::new(61)).unwrap();
    // A flush of what is gone says nothing about what comes.
    follower.complete_flush(pending.run().unwrap());
    assert_eq!((follower.log_start_offset(), follower.log_end_offset()), (Offset::new(61), Offset::new(61)));
    assert!(follower.leader_epochs().is_empty() && follower.segment_count() == 0);
    for crash in [false, true] {
        if crash {
            drop(follower);
            follower = open(follower_dir.path(), &config).0;
            assert_eq!(follower.log_end_offset(), Offset::new(61));
        }
    }
    follower.record_epochs([epoch_start(1, 61)]).unwrap();
    copy_from_start(&leader, &mut follower);
    flush(&mut follower);
    assert_eq!(contents(&follower.reader()), contents(&leader.reader()));
    drop(follower);
    let (follower, report) = open(follower_dir.path(), &config);
    assert_eq!((report.log_start, report.log_end), (Offset::new(61), Offset::new(90)));
    assert_eq!(contents(&follower.reader()), contents(&leader.reader()));
}

fn append_unflushed(log: &mut PartitionLog) {
    log.append(&batch(1, 10, 0), EPOCH, 0).unwrap();
}

fn copy_from_start(from: &PartitionLog, to: &mut PartitionLog) {
    for batch in stored(from) {
        to.append_replicated(&batch, 0).unwrap();
    }
}

#[test]
fn a_log_can_begin_again_below_where_it_was() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    for _ in 0..40 {
        append(&mut log, &batch(1, 1000, 0));
    }
    flush(&mut log);
    log.delete_records_before(Offset::new(20)).unwrap();
    for at in [10, 0, 50] {
        log.restart_at(Offset::new(at)).unwrap();
        drop(log);
        log = open(dir.path(), &config).0;
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset::new(at), Offset::new(at)));
        assert!(log.leader_epochs().is_empty());
        append(&mut log, &batch(1, 10, 0));
        flush(&mut log);
    }
}

#[test]
fn a_cut_at_the_end_forgets_an_epoch_without_records() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    append(&mut log, &batch(2, 10, 0));
    log.begin_epoch(EPOCH.next()).unwrap();
    assert_eq!(log.truncate_to(Offset::new(2)).unwrap(), Offset::new(2));
    assert_eq!(log.leader_epochs().latest(), Some(EPOCH));
    drop(log);
    let (log, _) = open(dir.path(), &config);
    assert_eq!((log.leader_epochs().latest(), log.log_end_offset()), (Some(EPOCH), Offset::new(2)));
}

#[test]
fn a_flipped_bit_in_a_closed_segment_is_found() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    for _ in 0..40 {
        append(&mut log, &batch(1, 1000, 0));
    }
    assert!(log.begin_verification(Offset::ZERO).is_none(), "not flushed yet");
    flush(&mut log);
    let mut next = Offset::ZERO;
    let mut jobs = Vec::new();
    while let Some(job) = log.begin_verification(next) {
        job.run().unwrap();
        assert!(job.end() > next);
        next = job.end();
        jobs.push(job);
    }
    assert!(jobs.len() >= 2 && next < log.log_end_offset());
    let victim = &super::fixtures::files(dir.path(), "log")[1];
    let mut bytes = std::fs::read(victim).unwrap();
    bytes[500] ^= 1;
    std::fs::write(victim, bytes).unwrap();
    jobs[0].run().unwrap();
    let damage = jobs[1].run().unwrap_err();
    assert_eq!((&damage.file, damage.position), (victim, 0));
    // What was deleted meanwhile is no damage.
    log.delete_records_before(log.log_end_offset()).unwrap();
    jobs[1].run().unwrap();
}

#[test]
fn a_flipped_bit_in_the_flushed_part_of_the_open_segment_is_found() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    assert!(log.begin_verification_at(Offset::ZERO).is_none());
    for _ in 0..3 {
        append(&mut log, &batch(1, 1000, 0));
    }
    flush(&mut log);
    append(&mut log, &batch(1, 1000, 0));
    let job = log.begin_verification_at(Offset::new(1)).unwrap();
    assert_eq!(job.end(), Offset::new(3), "what is not flushed is not judged");
    job.run().unwrap();
    let victim = &super::fixtures::files(dir.path(), "log")[0];
    let file = std::fs::OpenOptions::new().write(true).open(victim).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff], 1500).unwrap();
    let damage = job.run().unwrap_err();
    assert_eq!(damage.offset, Offset::new(1));
}

#[test]
fn a_damaged_segment_is_written_anew_from_a_copy() {
    let (dir, copy_dir, config) = (temp_dir(), temp_dir(), small_segments());
    let ((mut log, _), (mut copy, _)) = (open(dir.path(), &config), open(copy_dir.path(), &config));
    for _ in 0..40 {
        append(&mut log, &batch(1, 1000, 0));
        append(&mut copy, &batch(1, 1000, 0));
    }
    flush(&mut log);
    let victim = super::fixtures::files(dir.path(), "log")[1].clone();
    let good = std::fs::read(&victim).unwrap();
    let first = log.begin_verification(Offset::ZERO).unwrap().end();
    let file = std::fs::OpenOptions::new().write(true).open(&victim).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff], 500).unwrap();
    let damage = log.begin_verification(first).unwrap().run().unwrap_err();

    assert!(matches!(log.begin_repair(damage.offset, first), Repair::NotCommitted));
    assert!(matches!(log.begin_repair(log.log_end_offset().plus(1), Offset::MAX), Repair::Impossible));
    let reader = copy.reader();
    let batches = |from: Offset| -> Vec<ValidBatch> {
        let slice = reader.read(from, Offset::MAX, 3000).unwrap();
        slice.runs.iter().flat_map(|run| ValidBatch::split_stored(run).unwrap()).collect()
    };
    let begin = |log: &PartitionLog| match log.begin_repair(damage.offset, Offset::MAX) {
        Repair::Begun(job) => *job,
        other => panic!("{other:?}"),
    };
    // Something else, or not all of it, changes nothing.
    let Err(RepairError::Misfit { expected, .. }) = begin(&log).push(&batches(Offset::ZERO)) else { panic!() };
    assert_eq!(expected, first);
    let partial = begin(&log).push(&batches(first)).unwrap();
    assert!(matches!(partial.finish(), Err(RepairError::TooShort { .. })));
    assert!(log.reader().read(first, Offset::MAX, 1).is_err(), "nobody is given it meanwhile");

    let mut job = begin(&log);
    while let Some(from) = job.next() {
        job = job.push(&batches(from)).unwrap();
    }
    log.install_compaction(job.finish().unwrap()).unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), good);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().filter(is_temporary).count(), 0);
    log.begin_verification(first).unwrap().run().unwrap();
    let end = log.log_end_offset();
    assert_eq!(log.reader().read(Offset::ZERO, Offset::MAX, usize::MAX).unwrap().next_offset, end);
    // What was deleted of it, no peer has either.
    log.delete_records_before(first.plus(1)).unwrap();
    assert!(matches!(log.begin_repair(first.plus(1), Offset::MAX), Repair::Impossible));
    drop(log);
    assert_eq!(open(dir.path(), &config).0.log_end_offset(), end);
}

#[test]
fn damage_gets_no_new_checksum_by_compaction() {
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..small_segments() };
    let dir = temp_dir();
    let (mut log, _) = open(dir.path(), &config);
    let filler = "x".repeat(1000);
    for n in 0..40 {
        append(&mut log, &keyed(Compression::None, 0, &[("a", Some(&filler)), (&format!("k{n}"), Some("v"))]));
    }
    flush(&mut log);
    let victim = &super::fixtures::files(dir.path(), "log")[0];
    let file = std::fs::OpenOptions::new().write(true).open(victim).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff], 500).unwrap();
    let job = log.begin_compaction(log.log_end_offset(), 0).unwrap();
    assert!(matches!(job.run(), Err(StorageError::Damage(damage)) if damage.file == *victim));
}

fn is_temporary(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().file_name().to_string_lossy().ends_with("tmp")
}
