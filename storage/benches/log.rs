//! The log beside its limits, in one run: appending against checksum and copy of the same bytes
//! (into memory that is in use, and into fresh memory, which is what a log writes to), reading without a copy, recovery against the checksum alone.
//!
//! `cargo bench -p pubg1-storage --bench log`. Each line "… % of the limit" divides the best time of
//! the limit by the best time of the log. Times are CPU times of the thread, but for recovery, which
//! waits for the disk.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints and may panic")]

use std::{
    cell::Cell,
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use memmap2::MmapMut;
use pubg1_model::{
    LeaderEpoch, Offset,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord, ValidBatch},
    topic::TopicConfig,
};
use pubg1_storage::PartitionLog;
use rustix::time::{ClockId, clock_gettime};

const EPOCH: LeaderEpoch = LeaderEpoch::new(1);
/// What one turn appends.
const APPENDED_BYTES: usize = 32 * 1024 * 1024;

fn config() -> TopicConfig {
    TopicConfig { segment_bytes: 1024 * 1024 * 1024 + 1024 * 1024, ..TopicConfig::default() }
}

fn batch(records: usize, record_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let value: Vec<u8> = (0..record_bytes).map(|at| (at * 31 % 251).try_into().unwrap()).collect();
    for _ in 0..records {
        builder.push(&NewRecord { timestamp_ms: 1, key: None, value: Some(&value), headers: &[] }).unwrap();
    }
    builder.finish(None).unwrap().bytes().clone()
}

/// Runs a measurement and returns the best time of one turn. `turn` returns what it took.
fn best(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut turn: impl FnMut() -> Duration) -> Duration {
    let best = Cell::new(Duration::MAX);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|turns| {
            (0..turns)
                .map(|_| {
                    let took = turn();
                    best.set(best.get().min(took));
                    took
                })
                .sum()
        });
    });
    best.get()
}

/// CPU time of this thread: what else runs on the machine does not count.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn report(what: &str, bytes: usize, log: Duration, limit: Duration) {
    if log == Duration::MAX || limit == Duration::MAX {
        // Filtered out on the command line.
        return;
    }
    let gib = |time: Duration| bytes as f64 / time.as_secs_f64() / f64::from(1 << 30);
    println!(
        "{what}: {:.2} GiB/s, limit {:.2} GiB/s: {:.0} % of the limit",
        gib(log),
        gib(limit),
        100.0 * limit.as_secs_f64() / log.as_secs_f64()
    );
}

fn append(criterion: &mut Criterion) {
    for record_bytes in [1024, 100] {
        for records in [1, 100, 1000] {
            let bytes = batch(records, record_bytes);
            let count = APPENDED_BYTES / bytes.len();
            let total = count * bytes.len();
            let what = format!("append {records} records of {record_bytes} B");
            let mut group = criterion.benchmark_group(&what);
            group.throughput(Throughput::Bytes(total as u64)).sample_size(10);
            // As a request comes in: the batch is validated, then appended.
            let log = best(&mut group, "log", || {
                let dir = tempfile::tempdir().unwrap();
                let (mut log, _) = PartitionLog::open(dir.path(), &config(), 0).unwrap();
                let start = cpu_time();
                for _ in 0..count {
                    let batch = ValidBatch::new(bytes.clone()).unwrap();
                    black_box(log.append(&batch, EPOCH, 0).unwrap());
                }
                cpu_time() - start
            });
            let copy = |mut target: MmapMut| {
                let start = cpu_time();
                for target in target.chunks_exact_mut(bytes.len()) {
                    black_box(crc32c::crc32c(black_box(&bytes[21..])));
                    target.copy_from_slice(&bytes);
                }
                let took = cpu_time() - start;
                black_box(&target);
                took
            };
            // Memory that was written before, and memory that is new, as a log's always is.
            let warm = best(&mut group, "limit, memory in use", || {
                let mut target = MmapMut::map_anon(total).unwrap();
                target.fill(1);
                copy(target)
            });
            let fresh = best(&mut group, "limit, fresh memory", || copy(MmapMut::map_anon(total).unwrap()));
            group.finish();
            report(&format!("{what}, fresh memory"), total, log, fresh);
            report(&format!("{what}, memory in use"), total, log, warm);
        }
    }
}

/// A log of `total_bytes`, flushed, of which the open part has yet to be recovered.
fn filled(total_bytes: usize, record_bytes: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = PartitionLog::open(dir.path(), &config(), 0).unwrap();
    let batch = ValidBatch::new(batch(100, record_bytes)).unwrap();
    for _ in 0..total_bytes / batch.bytes().len() {
        log.append(&batch, EPOCH, 0).unwrap();
    }
    let flushed = log.begin_flush().unwrap().run().unwrap();
    log.complete_flush(flushed);
    dir
}

fn read(criterion: &mut Criterion) {
    let total = 256 * 1024 * 1024;
    let dir = filled(total, 1024);
    let (log, _) = PartitionLog::open(dir.path(), &config(), 0).unwrap();
    let reader = log.reader();
    let mut group = criterion.benchmark_group("sequential read, 1 MiB at a time");
    group.throughput(Throughput::Bytes(total as u64)).sample_size(10);
    let walk = |touch: &mut dyn FnMut(&Bytes)| {
        let start = cpu_time();
        let mut from = Offset::ZERO;
        loop {
            let slice = reader.read(from, Offset::MAX, 1024 * 1024).unwrap();
            if slice.runs.is_empty() {
                return cpu_time() - start;
            }
            slice.runs.iter().for_each(&mut *touch);
            from = slice.next_offset;
        }
    };
    // Only finding the slices, which is what serving them costs the log; then with their bytes read.
    let find = best(&mut group, "find", || {
        walk(&mut |run| {
            black_box(run);
        })
    });
    let sum = best(&mut group, "find and checksum", || {
        walk(&mut |run| {
            black_box(crc32c::crc32c(run));
        })
    });
    let memory = vec![1_u8; total];
    let limit = best(&mut group, "limit: checksum of as much memory", || {
        let start = cpu_time();
        memory.chunks(1024 * 1024).for_each(|chunk| {
            black_box(crc32c::crc32c(chunk));
        });
        cpu_time() - start
    });
    group.finish();
    println!(
        "sequential read: {:.0} GiB/s found, no byte touched",
        total as f64 / find.as_secs_f64() / f64::from(1 << 30)
    );
    report("sequential read with checksum", total, sum, limit);
}

fn recover(criterion: &mut Criterion) {
    let total = 1024 * 1024 * 1024;
    let dir = filled(total, 1024);
    let mut group = criterion.benchmark_group("recovery of 1 GiB");
    group.throughput(Throughput::Bytes(total as u64)).sample_size(10);
    let log = best(&mut group, "log", || {
        let start = Instant::now();
        let (log, report) = PartitionLog::open(dir.path(), &config(), 0).unwrap();
        let took = start.elapsed();
        assert!(!report.clean && report.scanned_bytes > 1_000_000_000, "{report:?}");
        drop(log);
        took
    });
    let memory = vec![1_u8; 64 * 1024 * 1024];
    let limit = best(&mut group, "limit: checksum of as much memory", || {
        let start = Instant::now();
        for _ in 0..total / memory.len() {
            black_box(crc32c::crc32c(black_box(&memory)));
        }
        start.elapsed()
    });
    group.finish();
    report("recovery of 1 GiB", total, log, limit);
}

fn main() {
    let quick = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut criterion = quick;
    append(&mut criterion);
    read(&mut criterion);
    recover(&mut criterion);
    criterion.final_summary();
}
