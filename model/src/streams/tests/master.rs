//! The master invariant: whatever the order in which partitions are read, the batches, the updates
//! in between and the restores, the final rows are those of a batch computation over the accepted
//! records; and every record is accounted for.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, sample::Index};

use super::oracle::{self, Counts, Kind, Oracle, Record, Rows};
use crate::streams::{
    engine::{InputRecord, Output, Row, Stats, TimeAdvance, WindowEngine},
    plan::{
        Aggregate, AggregateFunction, BinaryOp, CalendarUnit, Emit, Expr, FieldPath, Fill, GroupColumn, OrderBy,
        OutputColumn, Plan, Stages, TimeFormat, TimeRule, TimeSource, Top, Window,
    },
    stages::{MergeStage, PartialBatch, PartitionStage},
    value::Value,
};

/// A step of a run.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Feeds so many records of one of the partitions that have some left.
    Feed(usize, usize),
    /// Gives out what has changed.
    Update,
    /// Goes on with an engine that was restored: from a snapshot in pieces of this size, or from the
    /// last one and the changes since.
    Restore(Option<usize>),
}

pub(super) fn field(name: &str) -> Expr {
    Expr::Field(FieldPath::dotted(name))
}

pub(super) fn test_plan(window: Window) -> Plan {
    use AggregateFunction as F;
    let value = || field("v");
    let positive = Expr::Binary(BinaryOp::Greater, Box::new(value()), Box::new(Expr::Literal(Value::int(0))));
    let functions = vec![
        (F::Count, None),
        (F::Count, Some(positive)),
        (F::Sum(value()), None),
        (F::Min(value()), None),
        (F::Max(value()), None),
        (F::First(value()), None),
        (F::Last(value()), None),
        (F::Distinct(value()), None),
        (F::Quantile { value: value(), q: 0.5 }, None),
        // These depend on the order in which parts are merged, which must always be the same.
        (F::Sum(field("f")), None),
        (F::StdDev { value: field("f"), sample: false }, None),
    ];
    let aggregates: Vec<Aggregate> =
        functions.into_iter().map(|(function, filter)| Aggregate { function, filter }).collect();
    let output = (0..aggregates.len())
        .map(|index| OutputColumn { name: format!("c{index}"), expr: Expr::Aggregate(index) })
        .collect();
    Plan {
        time: TimeRule {
            source: TimeSource::Field { path: FieldPath::dotted("t"), format: TimeFormat::Auto },
            ..TimeRule::default()
        },
        filter: Some(Expr::IsNull(Box::new(field("unwanted")))),
        group: vec![GroupColumn { name: "g".to_owned(), expr: field("g") }],
        aggregates,
        output,
        ..Plan::count(window)
    }
}

/// The value of a record.
pub(super) fn json(record: &Record) -> String {
    let Record { time, group, value, .. } = record;
    let noise = (*value as f64 + 0.1) / 3.0;
    match record.kind {
        Kind::Good => format!(r#"{{"g":"{group}","v":{value}e-2,"f":{noise:e},"t":{time}}}"#),
        Kind::Unwanted => format!(r#"{{"unwanted":1,"g":"{group}","v":{value}e-2,"t":{time}}}"#),
        Kind::Malformed => r#"{"g":"#.to_owned(),
        Kind::WithoutTime => format!(r#"{{"g":"{group}","v":1,"t":"tomorrow"}}"#),
    }
}

/// Runs the engine over the records.
pub(super) fn run(plan: &Plan, partitions: &[Vec<Record>], steps: &[Step]) -> (Vec<Row>, Vec<Row>, Stats) {
    let plan = Arc::new(plan.clone());
    let numbers: Vec<u32> = (0..partitions.len()).map(|number| u32::try_from(number).unwrap()).collect();
    let values: Vec<Vec<String>> = partitions.iter().map(|records| records.iter().map(json).collect()).collect();
    let mut engine = WindowEngine::new(Arc::clone(&plan), &numbers).unwrap();
    engine.track_changes();
    let mut saved = engine.snapshot(100);
    let mut fed = vec![0; partitions.len()];
    let mut out = Output::default();
    for step in steps.iter().chain(std::iter::repeat(&Step::Feed(0, 1000))) {
        match step {
            Step::Feed(which, count) => {
                let left: Vec<usize> = (0..fed.len()).filter(|at| fed[*at] < partitions[*at].len()).collect();
                if left.is_empty() {
                    break;
                }
                let at = left[which % left.len()];
                feed(&mut engine, at, &partitions[at], &values[at], fed[at], *count, &mut out);
                fed[at] = partitions[at].len().min(fed[at] + count);
            }
            Step::Update => engine.emit_updates(&mut out),
            Step::Restore(piece_bytes) => {
                match piece_bytes {
                    Some(piece_bytes) => saved = engine.snapshot(*piece_bytes),
                    None => saved.push(engine.changes()),
                }
                let pieces = saved.iter().map(Vec::as_slice);
                let mut restored = WindowEngine::restore(Arc::clone(&plan), &numbers, pieces).unwrap();
                restored.track_changes();
                assert!(restored.clone().snapshot(1 << 20) == engine.clone().snapshot(1 << 20), "another state");
                engine = restored;
            }
        }
    }
    let early = out.rows.len();
    assert!(out.late_merges.is_empty() && out.advances.is_empty());
    let diverted = out.diverted.len() as u64;
    engine.finish(&mut out);
    let stats = engine.stats();
    assert_eq!(diverted, stats.late + stats.future + stats.malformed + stats.no_time);
    assert_eq!(engine.open(), crate::streams::engine::Open::default());
    let late = out.rows.split_off(early);
    (out.rows, late, stats)
}

/// Runs the two stages apart, with a restore of each at every opportunity; the rows of all shards,
/// and whether they are final.
fn apart(case: &Case, steps: &[Step], shards: u32) -> Vec<((i64, i64, char, String), bool)> {
    let plan = Arc::new(case.plan.clone());
    let numbers: Vec<u32> = (0..case.partitions.len()).map(|number| u32::try_from(number).unwrap()).collect();
    let mut partitions: Vec<PartitionStage> =
        numbers.iter().map(|number| PartitionStage::new(Arc::clone(&plan), *number).unwrap()).collect();
    let mut merges: Vec<MergeStage> =
        (0..shards).map(|_| MergeStage::new(Arc::clone(&plan), &numbers).unwrap()).collect();
    let mut out = Output::default();
    let hand_on = |batch: &PartialBatch, from: usize, merges: &mut Vec<MergeStage>, out: &mut Output| {
        for (shard, merge) in (0..).zip(merges) {
            merge.accept(numbers[from], &batch.encode(shard, shards), out).unwrap();
        }
    };
    let mut fed = vec![0; numbers.len()];
    for step in steps.iter().chain(std::iter::repeat(&Step::Feed(0, 1000))) {
        match step {
            Step::Feed(which, count) => {
                let left: Vec<usize> = (0..fed.len()).filter(|at| fed[*at] < case.partitions[*at].len()).collect();
                if left.is_empty() {
                    break;
                }
                let at = left[which % left.len()];
                for offset in fed[at]..case.partitions[at].len().min(fed[at] + count) {
                    let record = &case.partitions[at][offset];
                    if let Some(watermark_ms) = record.advance {
                        hand_on(&partitions[at].advance(watermark_ms), at, &mut merges, &mut out);
                    }
                    let value = json(record);
                    let key = record.group.to_string();
                    let record = InputRecord {
                        offset: offset as u64,
                        append_time_ms: Some(record.appended),
                        key: Some(key.as_bytes()),
                        value: Some(value.as_bytes()),
                        ..InputRecord::default()
                    };
                    let batch = partitions[at].feed(&[record], &mut out.diverted);
                    hand_on(&batch, at, &mut merges, &mut out);
                }
                fed[at] = case.partitions[at].len().min(fed[at] + count);
            }
            Step::Update => {
                for (at, partition) in partitions.iter_mut().enumerate() {
                    hand_on(&partition.updates(), at, &mut merges, &mut out);
                }
                merges.iter_mut().for_each(|merge| merge.emit_updates(&mut out));
            }
            Step::Restore(_) => {
                for (number, partition) in numbers.iter().zip(&mut partitions) {
                    let bytes = partition.snapshot(usize::MAX);
                    *partition = PartitionStage::new(Arc::clone(&plan), *number).unwrap();
                    partition.apply_changes(&bytes[0]).unwrap();
                }
                for merge in &mut merges {
                    let bytes = merge.snapshot(usize::MAX);
                    *merge = MergeStage::new(Arc::clone(&plan), &numbers).unwrap();
                    merge.apply_changes(&bytes[0]).unwrap();
                }
            }
        }
    }
    for (at, partition) in partitions.iter_mut().enumerate() {
        hand_on(&partition.finish(), at, &mut merges, &mut out);
    }
    out.rows.iter().map(|row| (text(row), row.is_final)).collect()
}

/// Feeds so many records; advances come where they were.
pub(super) fn feed(
    engine: &mut WindowEngine,
    at: usize,
    records: &[Record],
    values: &[String],
    from: usize,
    count: usize,
    out: &mut Output,
) {
    let partition = u32::try_from(at).unwrap();
    let keys: Vec<String> = records.iter().map(|record| record.group.to_string()).collect();
    let mut batch = Vec::new();
    for offset in from..records.len().min(from + count) {
        if let Some(watermark_ms) = records[offset].advance {
            engine.feed(partition, &batch, out);
            batch.clear();
            let advance = TimeAdvance { partition, before_offset: offset as u64, watermark_ms };
            engine.advance(advance, out);
        }
        batch.push(InputRecord {
            offset: offset as u64,
            timestamp_ms: 0,
            append_time_ms: Some(records[offset].appended),
            key: Some(keys[offset].as_bytes()),
            value: Some(values[offset].as_bytes()),
        });
    }
    engine.feed(partition, &batch, out);
}

/// A row as the oracle writes it.
fn text(row: &Row) -> (i64, i64, char, String) {
    let group = row.group[0].as_text().and_then(|text| text.chars().next()).unwrap();
    let columns = row.columns[..9].iter().map(|value| {
        let mut out = String::new();
        value.write_json(&mut out);
        out
    });
    (row.window_end_ms, row.window_start_ms, group, columns.collect::<Vec<_>>().join(" "))
}

fn texts(rows: &[Row]) -> Rows {
    rows.iter().map(text).collect()
}

/// The whole of a row, also what depends on the order of merging; but not its number.
fn bytes(plan: &Plan, rows: &[Row]) -> Vec<String> {
    let finals = rows.iter().filter(|row| row.is_final);
    finals.map(|row| Row { rev: 0, ..row.clone() }.to_json(plan)).collect()
}

fn windows() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1_i64..40).prop_map(|size_ms| Window::Hopping { size_ms, hop_ms: size_ms, origin_ms: 3 }),
        (2_i64..40, 1_i64..40)
            .prop_map(|(size_ms, hop)| { Window::Hopping { size_ms, hop_ms: hop.min(size_ms), origin_ms: -5 } }),
        (0_i64..12).prop_map(|gap_ms| Window::Session { gap_ms }),
        Just(Window::Calendar { unit: CalendarUnit::Day, timezone: "UTC".to_owned() }),
    ]
}

fn records(spread: i64) -> impl Strategy<Value = Vec<Record>> {
    let kind = prop_oneof![
        12 => Just(Kind::Good),
        1 => Just(Kind::Unwanted),
        1 => Just(Kind::Malformed),
        1 => Just(Kind::WithoutTime),
    ];
    let record = (kind, 0_i64..12, -20_i64..20, 0_u8..5, -30_i64..30, 0_u8..30);
    prop::collection::vec(record, 0..50).prop_map(move |records| {
        let mut now = 0;
        let record = |(kind, step, jitter, group, value, chance): (Kind, i64, i64, u8, i64, u8)| {
            now += step * spread;
            let time = if chance == 29 { now + 10_000 * spread } else { now + jitter * spread };
            let advance = (chance == 28).then_some(now + 15 * spread);
            Record { kind, time, appended: now, group: char::from(b'a' + group), value: value * 50, advance }
        };
        records.into_iter().map(record).collect()
    })
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..12, 1_usize..12).prop_map(|(which, count)| Step::Feed(which, count)),
        2 => Just(Step::Update),
        1 => (1_usize..2000).prop_map(|bytes| Step::Restore(Some(bytes))),
        2 => Just(Step::Restore(None)),
    ];
    prop::collection::vec(step, 0..60)
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) plan: Plan,
    pub(super) partitions: Vec<Vec<Record>>,
    more_than: usize,
    pub(super) top: Option<usize>,
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    let rules = (0_i64..30, 0_i64..30, prop::option::of(5_i64..300));
    let rows = (0_usize..3, prop::option::of(1_usize..4), prop::option::of(0_i64..60));
    let emits = prop_oneof![
        Just(Emit::Final),
        Just(Emit::Updates { interval_ms: 1 }),
        Just(Emit::FinalAndUpdates { interval_ms: 1 })
    ];
    (windows(), rules, rows, emits, prop::bool::ANY).prop_flat_map(|(window, rules, rows, emit, keyed)| {
        let spread = if matches!(window, Window::Calendar { .. }) { 7_000_000 } else { 1 };
        let fixed = matches!(window, Window::Hopping { .. });
        let mut plan = test_plan(window);
        plan.time.max_out_of_order_ms = rules.0 * spread;
        plan.time.allowed_lateness_ms = rules.1 * spread;
        plan.time.max_future_ms = rules.2.map(|max| max * spread);
        plan.emit = emit;
        let (more_than, top, forget) = rows;
        if more_than > 0 {
            let least = Expr::Literal(Value::int(i64::try_from(more_than).unwrap()));
            plan.having = Some(Expr::Binary(BinaryOp::GreaterOrEqual, Box::new(Expr::Records), Box::new(least)));
        }
        let top = top.filter(|_| fixed && emit == Emit::Final && !keyed);
        plan.top = top.map(|limit| Top { order: vec![OrderBy { expr: Expr::Aggregate(2), descending: true }], limit });
        // Rows without records are not known early.
        plan.fill = forget.filter(|_| fixed && emit == Emit::Final).map(|forget_after_ms| Fill { forget_after_ms });
        if keyed {
            plan.stages = Stages::PerPartition;
            plan.group[0].expr = Expr::Key;
        }
        let partitions = prop::collection::vec(records(spread), 1..5);
        (Just(plan), partitions).prop_map(move |(plan, mut partitions)| {
            if keyed {
                partitions.truncate(1);
            }
            Case { plan, partitions, more_than, top }
        })
    })
}

fn expected(case: &Case) -> (Oracle, Rows) {
    let mut oracle = oracle::batch(&case.plan, &case.partitions);
    if let Some(fill) = case.plan.fill {
        oracle::fill(&mut oracle, &case.plan, fill.forget_after_ms);
    }
    let rows = match case.top {
        Some(limit) => oracle.top(case.more_than, limit),
        None => oracle.rows(case.more_than),
    };
    (oracle, rows)
}

fn check(case: &Case, steps: &[Step]) -> Result<Vec<Row>, TestCaseError> {
    let (oracle, expected) = expected(case);
    let (early, late, stats) = run(&case.plan, &case.partitions, steps);
    let Stats { read, accepted, filtered, late: late_records, future, malformed, no_time, late_pairs, .. } = stats;
    prop_assert_eq!(read, accepted + filtered + late_records + future + malformed + no_time);
    prop_assert_eq!(read, case.partitions.iter().map(|records| records.len() as u64).sum::<u64>());
    let counts = Counts { accepted, filtered, late: late_records, future, malformed, no_time, late_pairs };
    prop_assert_eq!(counts, oracle.counts);
    let all: Vec<Row> = early.iter().chain(&late).cloned().collect();
    let finals: Vec<Row> = all.iter().filter(|row| row.is_final).cloned().collect();
    match case.plan.emit {
        Emit::Final | Emit::FinalAndUpdates { .. } => {
            prop_assert_eq!(texts(&finals), expected.clone());
            // Before the end, those came out that the query's time had passed.
            let gap = if let Window::Session { gap_ms } = case.plan.window { gap_ms + 1 } else { 0 };
            let passed =
                |end: i64| oracle.watermark.is_some_and(|now| end + gap + case.plan.time.allowed_lateness_ms <= now);
            let closed: Rows = expected.into_iter().filter(|row| passed(row.0)).collect();
            let early: Vec<Row> = early.into_iter().filter(|row| row.is_final).collect();
            prop_assert_eq!(texts(&early), closed);
        }
        Emit::Updates { .. } => {
            // The last row of each window and group is the right one.
            let mut last = BTreeMap::new();
            for row in texts(&all) {
                last.insert((row.0, row.1, row.2), row.3);
            }
            for (end, start, group, columns) in &expected {
                prop_assert_eq!(last.get(&(*end, *start, *group)), Some(columns));
            }
            for row in texts(&finals) {
                prop_assert!(expected.contains(&row), "{:?}", row);
            }
        }
    }
    let mut records: BTreeMap<(i64, i64, char), u64> = BTreeMap::new();
    for row in &all {
        let (end, start, group, _) = text(row);
        let before = records.insert((end, start, group), row.records);
        // An early row tells something new.
        prop_assert!(row.is_final || before.is_none_or(|before| before < row.records), "{:?}", row);
    }
    let mut revs: BTreeMap<(i64, i64, char), u32> = BTreeMap::new();
    for row in &all {
        let (end, start, group, _) = text(row);
        // Sessions that grow have other bounds each time.
        if !case.plan.window.is_session() && case.plan.having.is_none() {
            let next = revs.entry((end, start, group)).or_default();
            prop_assert_eq!(row.rev, *next);
            *next += 1;
        }
    }
    Ok(all)
}

proptest! {
    #[test]
    fn final_rows_are_those_of_a_batch_computation(case in cases(), one in steps(), other in steps()) {
        let a = check(&case, &one)?;
        let b = check(&case, &other)?;
        // Not only equal in what the oracle knows: the same bytes.
        if !matches!(case.plan.emit, Emit::Updates { .. }) {
            prop_assert_eq!(bytes(&case.plan, &a), bytes(&case.plan, &b));
        }
    }

    #[test]
    fn stages_apart_give_what_the_engine_gives(mut case in cases(), steps in steps(), shards in 1_u32..4) {
        case.plan.stages = Stages::Merged;
        // A Top-N needs all groups of a window in one shard.
        let shards = if case.top.is_some() { 1 } else { shards };
        let (_, expected) = expected(&case);
        let mut rows = apart(&case, &steps, shards);
        if shards > 1 {
            rows.sort();
        }
        let finals: Rows = rows.into_iter().filter_map(|(row, is_final)| is_final.then_some(row)).collect();
        if matches!(case.plan.emit, Emit::Updates { .. }) {
            for row in finals {
                prop_assert!(expected.contains(&row), "{:?}", row);
            }
        } else {
            prop_assert_eq!(finals, expected);
        }
    }

    #[test]
    fn damaged_states_are_refused_or_harmless(case in cases(), steps in steps(), at: Index, flip in 1_u8..) {
        let plan = Arc::new(case.plan.clone());
        let numbers: Vec<u32> = (0..case.partitions.len()).map(|number| u32::try_from(number).unwrap()).collect();
        let mut engine = WindowEngine::new(Arc::clone(&plan), &numbers).unwrap();
        let mut out = Output::default();
        for (number, records) in case.partitions.iter().enumerate() {
            let values: Vec<String> = records.iter().map(json).collect();
            feed(&mut engine, number, records, &values, 0, steps.len(), &mut out);
        }
        let mut bytes = engine.snapshot(usize::MAX).pop().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _unimportant = WindowEngine::restore(Arc::clone(&plan), &numbers, [bytes.as_slice()]);
        bytes.truncate(at);
        let _unimportant = WindowEngine::restore(plan, &numbers, [bytes.as_slice()]);
    }
}
