//! Readers beside a writer that appends, cuts and deletes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pubg1_model::{Offset, record_batch::BatchIter};

use super::fixtures::{EPOCH, append, batch, flush, open, small_segments, temp_dir};
use crate::{LogReader, ReadError};

#[test]
fn reads_are_bounded_by_bytes_and_by_offset() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    let reader = log.reader();
    assert!(reader.read(Offset::ZERO, Offset::MAX, 100).unwrap().runs.is_empty(), "nothing is there yet");
    for _ in 0..100 {
        append(&mut log, &batch(3, 200, 0));
    }
    assert!(log.segment_count() > 3);
    let one = reader.read(Offset::ZERO, Offset::MAX, 0).unwrap();
    assert_eq!((one.runs.len(), one.next_offset), (1, Offset::new(3)), "one batch at least");
    let size = one.bytes;
    for max_bytes in [1, size - 1, size, size + 1, 3 * size, 50_000, usize::MAX] {
        let slice = reader.read(Offset::new(4), Offset::MAX, max_bytes).unwrap();
        assert!(slice.bytes <= max_bytes.max(size));
        assert!(max_bytes < size || slice.bytes + size > max_bytes || slice.next_offset == Offset::new(300));
        let bytes: Vec<u8> = slice.runs.concat();
        let first = BatchIter::new(&bytes).next().unwrap().unwrap().header().base_offset;
        let last = BatchIter::new(&bytes).last().unwrap().unwrap().header().next_offset().unwrap();
        assert_eq!((first, last), (3, slice.next_offset), "the batch that holds the offset comes whole");
    }
    for below in 0..=300 {
        let slice = reader.read(Offset::ZERO, Offset::new(below), usize::MAX).unwrap();
        assert_eq!(slice.next_offset, Offset::new(below / 3 * 3), "whole batches below {below}");
    }
    let end = reader.read(Offset::new(300), Offset::MAX, 1).unwrap();
    assert_eq!((end.runs.len(), end.next_offset), (0, Offset::new(300)));
    assert!(matches!(reader.read(Offset::new(301), Offset::MAX, 1), Err(ReadError::OffsetOutOfRange { .. })));
}

/// Reads from `from` and checks that what comes is whole and begins no later than asked.
fn read_whole(reader: &LogReader, from: Offset, below: Offset) -> usize {
    match reader.read(from, below, 20_000) {
        Ok(slice) => {
            let mut next = None;
            for run in &slice.runs {
                for batch in BatchIter::new(run) {
                    let header = *batch.unwrap().header();
                    assert!(next.is_none_or(|next| next == header.base_offset), "a gap");
                    next = Some(header.next_offset().unwrap().to_wire());
                }
            }
            assert_eq!(next.unwrap_or(from.to_wire()), slice.next_offset.to_wire());
            slice.runs.len()
        }
        Err(ReadError::OffsetOutOfRange { .. }) => 0,
        Err(ReadError::Damage(damage)) => panic!("{damage}"),
    }
}

#[test]
fn readers_are_safe_beside_truncation_retention_and_flushing() {
    let dir = temp_dir();
    let config = pubg1_model::topic::TopicConfig { retention_bytes: Some(40_000), ..small_segments() };
    let (mut log, _) = open(dir.path(), &config);
    let reader = log.reader();
    let (done, runs) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (reader, done, runs) = (reader.clone(), &done, &runs);
            scope.spawn(move || {
                let mut held = std::collections::VecDeque::new();
                let mut step = thread;
                while !done.load(Ordering::Acquire) {
                    step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (start, end) = (reader.log_start_offset(), reader.log_end_offset());
                    let from = start.plus(step % (end.since(start) + 1));
                    runs.fetch_add(read_whole(&reader, from, end), Ordering::Relaxed);
                    reader.find_timestamp(i64::try_from(step % 3000).unwrap(), end).unwrap();
                    // Slices stay readable long after their segments are gone.
                    if let Ok(slice) = reader.read(from, end, 5000) {
                        held.extend(slice.runs);
                    }
                    while held.len() > 50 {
                        let run = held.pop_front().unwrap();
                        assert!(BatchIter::new(&run).all(|batch| batch.is_ok()));
                    }
                }
            });
        }
        for step in 0..3000_u64 {
            log.append(&batch(1 + usize::try_from(step % 5).unwrap(), 400, i64::try_from(step).unwrap()), EPOCH, 0)
                .unwrap();
            if step % 10 == 0 {
                flush(&mut log);
            }
            if step % 37 == 0 {
                let cut = log.log_end_offset().get().saturating_sub(step % 40);
                log.truncate_to(Offset::new(cut)).unwrap();
            }
            if step % 50 == 0 {
                flush(&mut log);
                log.apply_retention(0, log.flushed_offset()).unwrap();
            }
        }
        // On a loaded machine the readers may have had no turn yet.
        while runs.load(Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn what_changed_while_the_log_was_closed_is_not_handed_out() {
    let (dir, config) = (temp_dir(), small_segments());
    let (mut log, _) = open(dir.path(), &config);
    for _ in 0..40 {
        append(&mut log, &batch(1, 1000, 0));
    }
    flush(&mut log);
    log.close().unwrap();
    let victim = &super::fixtures::files(dir.path(), "log")[1];
    let mut bytes = std::fs::read(victim).unwrap();
    bytes[500] ^= 1;
    std::fs::write(victim, bytes).unwrap();

    let (log, _) = open(dir.path(), &config);
    let reader = log.reader();
    let first = log.begin_verification(Offset::ZERO).unwrap();
    let damaged = first.end();
    assert_eq!(reader.read(Offset::ZERO, damaged, usize::MAX).unwrap().next_offset, damaged);
    let before_it = Offset::new(damaged.get() - 1);
    assert_eq!(reader.read(before_it, Offset::MAX, usize::MAX).unwrap().next_offset, damaged, "what is good is given");
    let refused = reader.read(damaged, Offset::MAX, usize::MAX).unwrap_err();
    let ReadError::Damage(damage) = refused else { panic!("{refused}") };
    assert_eq!((&damage.file, damage.offset), (victim, damaged));
    // A read of what was verified as a whole trusts it; the job finds what has changed since.
    first.run().unwrap();
    assert!(log.begin_verification(damaged).unwrap().run().is_err());
    assert_eq!(reader.read(damaged.plus(1), damaged.plus(2), usize::MAX).unwrap().next_offset, damaged.plus(2));
}
