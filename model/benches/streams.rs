//! The window engine on one thread, beside a count in a hash map over the same bytes with the same
//! parser: tumbling windows of ten seconds over bids, by a field of the JSON and by the record key.
//! What is measured is the time on the processor, so that other work on the machine matters less.

#[path = "common/bids.rs"]
mod bids;
#[path = "common/processor_time.rs"]
mod processor_time;

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pubg1_model::streams::{
    engine::{InputRecord, Output, WindowEngine},
    json::{Fields, Found},
    plan::{Aggregate, AggregateFunction, Expr, FieldPath, GroupColumn, Plan, Stages, TimeFormat, TimeSource, Window},
    value::Value,
};

use bids::{Bid, bids};
use processor_time::ProcessorTime;

const RECORDS: u64 = 200_000;
const BATCH: usize = 1000;
const WINDOW_MS: i64 = 10_000;

fn records(bids: &[Bid]) -> Vec<InputRecord<'_>> {
    fn record((offset, bid): (u64, &Bid)) -> InputRecord<'_> {
        InputRecord {
            offset,
            timestamp_ms: bid.time_ms,
            append_time_ms: Some(bid.time_ms),
            key: Some(&bid.key),
            value: Some(&bid.value),
        }
    }
    (0..).zip(bids).map(record).collect()
}

fn plan(group: Expr) -> Plan {
    let mut plan = Plan::count(Window::tumbling(WINDOW_MS));
    plan.stages = if group == Expr::Key { Stages::PerPartition } else { Stages::Merged };
    plan.group = vec![GroupColumn { name: "auction".to_owned(), expr: group }];
    plan
}

fn field(name: &str) -> Expr {
    Expr::Field(FieldPath::dotted(name))
}

/// Everything out of the JSON: the time, the group and a filter, and several aggregates.
fn rich_plan(window: Window) -> Plan {
    let mut plan = plan(field("auction"));
    plan.window = window;
    plan.time.source = TimeSource::Field { path: FieldPath::dotted("date_time"), format: TimeFormat::Millis };
    let functions = [
        AggregateFunction::Count,
        AggregateFunction::Sum(field("price")),
        AggregateFunction::Min(field("price")),
        AggregateFunction::Max(field("price")),
        AggregateFunction::Avg(field("price")),
    ];
    plan.aggregates = functions.into_iter().map(|function| Aggregate { function, filter: None }).collect();
    plan
}

fn run(mut engine: WindowEngine, records: &[InputRecord<'_>], changes: bool) -> usize {
    let (mut out, mut rows, mut bytes) = (Output::default(), 0, 0);
    for (n, batch) in records.chunks(BATCH).enumerate() {
        engine.feed(0, batch, &mut out);
        rows += out.rows.len();
        out = Output::default();
        // Five commits a second at a million records a second.
        if changes && n % 200 == 199 {
            bytes += engine.changes().len();
        }
    }
    engine.finish(&mut out);
    black_box(bytes);
    rows + out.rows.len()
}

fn streams(criterion: &mut Criterion<ProcessorTime>) {
    let bids: Vec<Bid> = bids(RECORDS).collect();
    let records = records(&bids);
    let mut group = criterion.benchmark_group("streams");
    group.throughput(Throughput::Elements(RECORDS));
    group.sample_size(10).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));

    group.bench_function("limit: hash map by JSON field", |bench| {
        let mut fields = Fields::new();
        let slot = fields.slot(&FieldPath::dotted("auction"));
        let mut found = Found::default();
        bench.iter(|| {
            let mut counts: HashMap<(i64, i64), u64> = HashMap::new();
            for record in &records {
                let Some(value) = record.value else { continue };
                if fields.find(value, &mut found).is_ok()
                    && let Value::Exact(auction) = found.value(slot, value)
                    && let Some(auction) = auction.to_int()
                {
                    *counts.entry((record.timestamp_ms / WINDOW_MS, auction)).or_default() += 1;
                }
            }
            counts.len()
        });
    });
    group.bench_function("limit: hash map by record key", |bench| {
        bench.iter(|| {
            let mut counts: HashMap<(i64, &[u8]), u64> = HashMap::new();
            for record in &records {
                *counts.entry((record.timestamp_ms / WINDOW_MS, record.key.unwrap_or_default())).or_default() += 1;
            }
            counts.len()
        });
    });
    let cases = [
        ("count by JSON field", plan(field("auction")), false),
        ("count by JSON field, checkpoints", plan(field("auction")), true),
        ("count by record key", plan(Expr::Key), false),
        ("count by record key, checkpoints", plan(Expr::Key), true),
        ("time, group and five aggregates of JSON fields", rich_plan(Window::tumbling(WINDOW_MS)), true),
        (
            "the same, hopping by a fifth",
            rich_plan(Window::Hopping { size_ms: WINDOW_MS, hop_ms: WINDOW_MS / 5, origin_ms: 0 }),
            true,
        ),
        ("the same, sessions", rich_plan(Window::Session { gap_ms: 1000 }), true),
    ];
    for (name, plan, changes) in cases {
        let Ok(mut engine) = WindowEngine::new(Arc::new(plan), &[0]) else { continue };
        if changes {
            engine.track_changes();
        }
        group.bench_function(name, |bench| {
            bench.iter_batched(|| engine.clone(), |engine| run(engine, &records, changes), BatchSize::PerIteration);
        });
    }
    group.finish();
    restore(criterion);
}

/// A million groups, out of a snapshot.
fn restore(criterion: &mut Criterion<ProcessorTime>) {
    const GROUPS: u64 = 1_000_000;
    let plan = Arc::new(plan(Expr::Key));
    let Ok(mut engine) = WindowEngine::new(Arc::clone(&plan), &[0]) else { return };
    let mut out = Output::default();
    for offset in 0..GROUPS {
        let key = format!("key-{offset:012}");
        let record = InputRecord { offset, timestamp_ms: 5, key: Some(key.as_bytes()), ..InputRecord::default() };
        engine.feed(0, &[record], &mut out);
    }
    let mut group = criterion.benchmark_group(format!("{GROUPS} groups, {} MB", engine.memory_bytes() >> 20));
    group.throughput(Throughput::Elements(GROUPS));
    group.sample_size(10).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    group.bench_function("snapshot", |bench| bench.iter(|| engine.snapshot(1 << 20).len()));
    let pieces = engine.snapshot(1 << 20);
    group.bench_function("restore", |bench| {
        bench.iter(|| {
            let pieces = pieces.iter().map(Vec::as_slice);
            WindowEngine::restore(Arc::clone(&plan), &[0], pieces).map(|engine| engine.memory_bytes())
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ProcessorTime);
    targets = streams
}
criterion_main!(benches);
