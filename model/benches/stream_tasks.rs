//! A task of a stream on one thread, from record batches as they are in the log to the commits and the
//! batches that it gives out, beside a count in a hash map over the same batches with the same
//! parser; and a task of a million groups, in memory and out of its changelog.
//!
//! What is measured is the time on the processor. The clock that the task is told goes a millisecond
//! for each thousand records, so that it commits as often as it would at a million a second.

#![expect(clippy::expect_used, reason = "a benchmark that does not do its work must not have a result")]

#[path = "common/bids.rs"]
mod bids;
#[path = "common/processor_time.rs"]
mod processor_time;

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pubg1_model::{
    LeaderEpoch, Offset, ProducerId,
    compression::Compression,
    record_batch::{BatchBuilder, BatchIter, NewRecord, RecordView, assign},
    streams::{
        json::{Fields, Found},
        plan::{Expr, FieldPath, GroupColumn, Plan, Stages, Window},
        task::{CommitToAppend, OutputBatch, OutputTarget, Task, TaskKind, TaskReplay, TaskSpec},
        value::Value,
    },
};

use bids::bids;
use processor_time::ProcessorTime;

const RECORDS: u64 = 1_000_000;
/// What a producer puts into a batch.
const BATCH_RECORDS: usize = 500;
const WINDOW_MS: i64 = 10_000;
/// When the task's clock begins: with the bids.
const BEGIN_MS: i64 = 1_700_000_000_000;
const GROUPS: u64 = 1_000_000;
const EPOCH: LeaderEpoch = LeaderEpoch::new(1);
const INFLATED_BYTES_MAX: usize = 1 << 30;

/// Record batches, back to back, as a partition stores them.
fn log(records: impl Iterator<Item = (i64, Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let mut log = Vec::new();
    let mut records = records.peekable();
    let mut next = Offset::ZERO;
    while records.peek().is_some() {
        let mut batch = BatchBuilder::new(Compression::None);
        for (timestamp_ms, key, value) in records.by_ref().take(BATCH_RECORDS) {
            let record = NewRecord { timestamp_ms, key: Some(&key), value: Some(&value), headers: &[] };
            batch.push(&record).expect("a record");
        }
        let count = batch.len() as u64;
        let batch = batch.finish(None).expect("a batch");
        let mut bytes = batch.bytes().to_vec();
        assign(&mut bytes, next, EPOCH);
        next = next.plus(count);
        log.extend_from_slice(&bytes);
    }
    log
}

/// All records of a log, decoded.
fn each(log: &[u8], mut take: impl FnMut(RecordView<'_>)) {
    for batch in BatchIter::unchecked(log) {
        let decoded = batch.and_then(|batch| batch.decode(INFLATED_BYTES_MAX)).expect("a batch");
        decoded.records().for_each(|record| take(record.expect("a record")));
    }
}

fn spec(group: Expr, kind: TaskKind, inputs: u32, shards: u32) -> TaskSpec {
    let mut plan = Plan::count(Window::tumbling(WINDOW_MS));
    plan.stages = if group == Expr::Key { Stages::PerPartition } else { Stages::Merged };
    plan.group = vec![GroupColumn { name: "auction".to_owned(), expr: group }];
    let (output_partitions, late_partitions, bytes_max) = (4, 4, 1 << 20);
    let (output_bytes_max, late_bytes_max) = (bytes_max, bytes_max);
    let plan = Arc::new(plan);
    TaskSpec { kind, plan, inputs, shards, output_partitions, output_bytes_max, late_partitions, late_bytes_max }
}

fn auction() -> Expr {
    Expr::Field(FieldPath::dotted("auction"))
}

fn begun(spec: TaskSpec) -> Task {
    let mut task = Task::new(spec).expect("a plan");
    task.begin(ProducerId(7), Offset::ZERO, None, BEGIN_MS);
    task
}

/// Runs a task over a log; `commit` takes what it would append and publish.
fn feed(task: &mut Task, log: &[u8], commit: &mut impl FnMut(CommitToAppend)) {
    let (mut at, mut records) = (0, 0_i64);
    while at < log.len() {
        // It ends a step by itself.
        let fed = task.feed(&log[at..], BEGIN_MS + records / 1_000).expect("records");
        at += fed.bytes;
        records += i64::try_from(fed.records).unwrap_or(0);
        let now_ms = BEGIN_MS + records / 1_000;
        if task.is_commit_due(now_ms) {
            make_commit(task, now_ms, commit);
        }
    }
    make_commit(task, BEGIN_MS + records / 1_000, commit);
}

fn make_commit(task: &mut Task, now_ms: i64, commit: &mut impl FnMut(CommitToAppend)) {
    let made = task.commit(EPOCH, now_ms).expect("a commit");
    let number = made.number;
    commit(made);
    task.committed(number);
    task.published(number);
}

/// The same, and closes all windows in the end.
fn run(task: &mut Task, log: &[u8], mut commit: impl FnMut(CommitToAppend)) {
    feed(task, log, &mut commit);
    task.finish(i64::MAX).expect("rows");
    make_commit(task, i64::MAX, &mut commit);
    assert!(task.status().open.groups == 0 && task.position() > Offset::ZERO, "everything is closed");
    let stats = task.status().stats;
    assert_eq!((stats.late, stats.future, stats.late_merges), (0, 0, 0), "everything is in a window");
}

/// Both stages: the first's results go to the second as they would through their topic.
fn run_stages(log: &[u8]) -> usize {
    let mut first = begun(spec(auction(), TaskKind::First { partition: 0 }, 1, 1));
    let mut second = begun(spec(auction(), TaskKind::Merge { shard: 0 }, 1, 1));
    let (mut partials, mut next, mut bytes) = (Vec::new(), Offset::ZERO, 0);
    run(&mut first, log, |made| {
        bytes += made.bytes();
        for OutputBatch { bytes, .. } in made.outputs.iter().filter(|output| output.target == OutputTarget::Partials) {
            let mut batch = bytes.to_vec();
            assign(&mut batch, next, EPOCH);
            next = BatchIter::unchecked(&batch)
                .flatten()
                .filter_map(|batch| batch.header().next_offset())
                .last()
                .unwrap_or(next);
            partials.extend_from_slice(&batch);
        }
    });
    run(&mut second, &partials, |made| bytes += made.bytes() + outputs_of(&made));
    bytes
}

fn outputs_of(made: &CommitToAppend) -> usize {
    made.outputs.iter().map(|output| output.bytes.len()).sum()
}

fn speed(criterion: &mut Criterion<ProcessorTime>) {
    let log = log(bids(RECORDS).map(|bid| (bid.time_ms, bid.key, bid.value)));
    let mut group = criterion.benchmark_group(format!("tasks, {} MB of batches", log.len() >> 20));
    group.throughput(Throughput::Elements(RECORDS));
    group.sample_size(10).measurement_time(Duration::from_secs(8)).warm_up_time(Duration::from_secs(1));

    group.bench_function("limit: decode", |bench| {
        bench.iter(|| {
            let mut bytes = 0;
            each(&log, |record| bytes += record.value.map_or(0, <[u8]>::len));
            bytes
        });
    });
    group.bench_function("limit: hash map by JSON field", |bench| {
        let mut fields = Fields::new();
        let slot = fields.slot(&FieldPath::dotted("auction"));
        let mut found = Found::default();
        bench.iter(|| {
            let mut counts: HashMap<(i64, i64), u64> = HashMap::new();
            each(&log, |record| {
                let Some(value) = record.value else { return };
                if fields.find(value, &mut found).is_ok()
                    && let Value::Exact(auction) = found.value(slot, value)
                    && let Some(auction) = auction.to_int()
                {
                    *counts.entry((record.timestamp_ms / WINDOW_MS, auction)).or_default() += 1;
                }
            });
            counts.len()
        });
    });
    group.bench_function("limit: hash map by record key", |bench| {
        bench.iter(|| {
            let mut counts: HashMap<(i64, Vec<u8>), u64> = HashMap::new();
            each(&log, |record| {
                let key = record.key.unwrap_or_default().to_vec();
                *counts.entry((record.timestamp_ms / WINDOW_MS, key)).or_default() += 1;
            });
            counts.len()
        });
    });
    for (name, group_by) in [("count by JSON field", auction()), ("count by record key", Expr::Key)] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let mut task = begun(spec(group_by.clone(), TaskKind::Whole { partition: 0 }, 1, 0));
                let mut bytes = 0;
                run(&mut task, &log, |made| bytes += made.bytes() + outputs_of(&made));
                bytes
            });
        });
    }
    group.bench_function("count by JSON field, two stages", |bench| bench.iter(|| run_stages(&log)));
    group.finish();
}

/// A million groups in a task: what it takes in memory, and how long it takes to have them again.
fn restore(criterion: &mut Criterion<ProcessorTime>) {
    let groups = log((0..GROUPS).map(|number| (5, format!("key-{number:012}").into_bytes(), b"{}".to_vec())));
    let spec = spec(Expr::Key, TaskKind::Whole { partition: 0 }, 1, 0);
    let mut task = begun(spec.clone());
    let mut changelog: Vec<Vec<u8>> = Vec::new();
    let before = resident_bytes();
    // As its partition keeps it: what a snapshot replaces is deleted.
    feed(&mut task, &groups, &mut |made| {
        if made.is_snapshot {
            changelog.clear();
        }
        changelog.extend(made.records);
    });
    assert_eq!(task.status().open.groups as u64, GROUPS, "nothing is closed");
    let grown = resident_bytes().saturating_sub(before + changelog_bytes(&changelog));
    let title = format!(
        "{GROUPS} groups, {} MB by its own account, {} MB more resident",
        task.memory_bytes() >> 20,
        grown >> 20
    );
    let mut group = criterion.benchmark_group(title);
    group.throughput(Throughput::Elements(GROUPS));
    group.sample_size(10).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    assert_eq!(replay(&spec, &changelog).status(), task.status(), "everything comes back");
    let name = format!("restore from {} MB in {} records", changelog_bytes(&changelog) >> 20, changelog.len());
    group.bench_function(name, |bench| bench.iter(|| black_box(replay(&spec, &changelog))));
    group.finish();
}

fn replay(spec: &TaskSpec, changelog: &[Vec<u8>]) -> Task {
    let mut replay = TaskReplay::new(spec.clone()).expect("a plan");
    for (offset, value) in (0..).map(Offset::new).zip(changelog) {
        replay.apply(value, offset).expect("a changelog");
    }
    replay.finish().0
}

fn changelog_bytes(changelog: &[Vec<u8>]) -> usize {
    changelog.iter().map(Vec::capacity).sum()
}

/// What this process has in memory, as Linux counts it.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ProcessorTime);
    // Memory first, while nothing has been given back that could be taken again.
    targets = restore, speed
}
criterion_main!(benches);
