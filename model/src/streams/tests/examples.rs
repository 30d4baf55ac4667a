//! What the rules mean, one by one.

use std::sync::Arc;

use crate::streams::{
    engine::{Diverted, InputRecord, Output, Reason, Row, Silence, TimeAdvance, WindowEngine},
    plan::{CalendarUnit, Emit, Expr, FieldPath, Fill, GroupColumn, Plan, Stages, TimeSource, Window},
    stages::{MergeStage, PartitionStage},
    time,
};

/// A count by record key and record time.
fn by_key(window: Window) -> Plan {
    let mut plan = Plan::count(window);
    plan.group = vec![GroupColumn { name: "key".to_owned(), expr: Expr::Key }];
    plan
}

fn engine(plan: Plan, partitions: u32) -> WindowEngine {
    WindowEngine::new(Arc::new(plan), &(0..partitions).collect::<Vec<_>>()).unwrap()
}

/// Feeds records of a key and a time; each is appended at its time.
fn feed(engine: &mut WindowEngine, partition: u32, records: &[(&str, i64)], out: &mut Output) {
    let first = engine.next_offset(partition).unwrap();
    let record = |(offset, (key, timestamp_ms)): (u64, &(&'static str, i64))| InputRecord {
        offset,
        timestamp_ms: *timestamp_ms,
        append_time_ms: Some(*timestamp_ms),
        key: Some(key.as_bytes()),
        value: None,
    };
    let records: Vec<(&'static str, i64)> =
        records.iter().map(|(key, at)| (&*Box::leak((*key).to_owned().into_boxed_str()), *at)).collect();
    let records: Vec<InputRecord<'_>> = (first..).zip(&records).map(record).collect();
    engine.feed(partition, &records, out);
}

/// The rows as `start-end key count`, with the number of repeated ones.
fn texts(rows: &[Row]) -> Vec<String> {
    let text = |row: &Row| {
        let key = row.key().map(|key| String::from_utf8(key).unwrap()).unwrap_or_default();
        let rev = if row.rev > 0 { format!(" rev {}", row.rev) } else { String::new() };
        let early = if row.is_final { "" } else { " early" };
        format!("{}-{} {key} {}{rev}{early}", row.window_start_ms, row.window_end_ms, row.records)
    };
    rows.iter().map(text).collect()
}

fn taken(out: &mut Output) -> Vec<String> {
    texts(&std::mem::take(out).rows)
}

const NONE: [&str; 0] = [];

fn silence(partition: u32, silent_ms: i64) -> Silence {
    Silence { partition, caught_up: true, silent_ms }
}

fn advance_all(engine: &mut WindowEngine, silences: &[Silence], out: &mut Output) -> usize {
    let advances = engine.idle_advances(silences);
    for advance in &advances {
        engine.advance(*advance, out);
    }
    advances.len()
}

#[test]
fn windows_close_although_other_partitions_are_silent() {
    let mut engine = engine(by_key(Window::tumbling(100)), 4);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a", 10), ("a", 250)], &mut out);
    feed(&mut engine, 1, &[("b", 20)], &mut out);
    assert_eq!(taken(&mut out), NONE, "the others may still have records");
    // Partition 1 is idle; 2 and 3 never had a record.
    let mut silences = [silence(1, 9_999), silence(2, 0), silence(3, 0)];
    advance_all(&mut engine, &silences, &mut out);
    assert_eq!(taken(&mut out), NONE, "partition 1 is not idle yet");
    silences[0].silent_ms = 10_000;
    assert_eq!(advance_all(&mut engine, &silences, &mut out), 3);
    assert_eq!(taken(&mut out), ["0-100 a 1", "0-100 b 1"]);
    // Who comes back starts from there.
    feed(&mut engine, 1, &[("b", 99), ("b", 260)], &mut out);
    assert_eq!(out.diverted, [Diverted { partition: 1, offset: 1, reason: Reason::Late }]);
    // A partition with records that were not read holds back all.
    silences[1].caught_up = false;
    assert_eq!(advance_all(&mut engine, &silences[1..2], &mut out), 0);
}

#[test]
fn windows_close_although_all_are_silent_at_the_pace_of_the_clock() {
    let mut engine = engine(by_key(Window::tumbling(60_000)), 2);
    let mut out = Output::default();
    let old = time::parse("2013-01-01T00:00:10Z").unwrap();
    feed(&mut engine, 0, &[("a", old)], &mut out);
    assert_eq!(advance_all(&mut engine, &[silence(0, 10_000), silence(1, 10_000)], &mut out), 2);
    assert_eq!(engine.watermark_ms(), Some(old + 10_000), "not the time of today");
    // Silence counts from the last record, not from the last advance.
    advance_all(&mut engine, &[silence(0, 49_999), silence(1, 49_999)], &mut out);
    assert_eq!(taken(&mut out), NONE);
    advance_all(&mut engine, &[silence(0, 50_000), silence(1, 50_000)], &mut out);
    assert_eq!(taken(&mut out).len(), 1);
    assert_eq!(advance_all(&mut engine, &[silence(0, 50_000), silence(1, 50_000)], &mut out), 0);
}

#[test]
fn without_an_idle_timeout_all_are_waited_for() {
    let mut plan = by_key(Window::tumbling(100));
    plan.time.idle_timeout_ms = None;
    let mut engine = engine(plan, 2);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a", 10), ("a", 250)], &mut out);
    assert_eq!(advance_all(&mut engine, &[silence(0, i64::MAX), silence(1, i64::MAX)], &mut out), 0);
}

#[test]
fn a_record_from_the_future_changes_nothing_but_a_counter() {
    let mut engine = engine(by_key(Window::tumbling(100)), 1);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a", 10)], &mut out);
    let poison = InputRecord {
        offset: 1,
        timestamp_ms: 600_051,
        append_time_ms: Some(50),
        key: Some(b"a"),
        ..InputRecord::default()
    };
    engine.feed(0, &[poison], &mut out);
    assert_eq!(out.diverted, [Diverted { partition: 0, offset: 1, reason: Reason::Future }]);
    assert_eq!(engine.watermark_ms(), Some(10));
    assert_eq!(engine.stats().future, 1);
    engine.feed(0, &[InputRecord { offset: 2, timestamp_ms: 600_050, ..poison }], &mut out);
    assert_eq!(engine.watermark_ms(), Some(600_050));
}

#[test]
fn a_jump_of_a_year_emits_all_open_windows() {
    let year = 365 * 86_400_000;
    for (window, expected) in [
        (Window::tumbling(100), vec!["0-100 a 1", "100-200 b 1"]),
        (
            Window::Hopping { size_ms: 100, hop_ms: 50, origin_ms: 0 },
            vec!["-50-50 a 1", "0-100 a 1", "50-150 b 1", "100-200 b 1"],
        ),
        (Window::Session { gap_ms: 30 }, vec!["10-10 a 1", "110-110 b 1"]),
    ] {
        let mut plan = by_key(window);
        plan.time.max_out_of_order_ms = 1000;
        let mut engine = engine(plan, 1);
        let mut out = Output::default();
        feed(&mut engine, 0, &[("a", 10), ("b", 110), ("c", year)], &mut out);
        assert_eq!(taken(&mut out), expected);
    }
}

#[test]
fn lateness_is_counted_per_window() {
    let mut plan = by_key(Window::Hopping { size_ms: 100, hop_ms: 50, origin_ms: 0 });
    plan.time.allowed_lateness_ms = 10;
    let mut engine = engine(plan, 1);
    let mut out = Output::default();
    // 109 does not close [0, 100), which may be 10 late.
    feed(&mut engine, 0, &[("a", 109), ("a", 60), ("a", 110), ("a", 60), ("a", 160), ("a", 60)], &mut out);
    assert_eq!(texts(&out.rows), ["0-100 a 1", "50-150 a 4"]);
    let stats = engine.stats();
    assert_eq!((stats.accepted, stats.late, stats.late_pairs), (5, 1, 3));
    assert_eq!(out.diverted, [Diverted { partition: 0, offset: 5, reason: Reason::Late }]);
}

#[test]
fn sessions_of_partitions_are_joined() {
    let mut engine = engine(by_key(Window::Session { gap_ms: 10 }), 2);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a", 0), ("a", 8), ("b", 100)], &mut out);
    // Partition 1 has a session that goes on, and reaches the one of partition 0.
    feed(&mut engine, 1, &[("a", 18), ("a", 27), ("a", 36)], &mut out);
    assert_eq!(taken(&mut out), NONE, "partition 1 may go on");
    feed(&mut engine, 1, &[("a", 47), ("b", 100)], &mut out);
    assert_eq!(taken(&mut out), ["0-36 a 5", "47-47 a 1"]);
}

#[test]
fn a_session_that_begins_earlier_than_it_seemed_is_waited_for() {
    let mut plan = by_key(Window::Session { gap_ms: 6 });
    plan.time.max_out_of_order_ms = 5;
    let mut engine = engine(plan, 2);
    let mut out = Output::default();
    feed(&mut engine, 1, &[("a", 20), ("a", 16), ("b", 23)], &mut out);
    feed(&mut engine, 0, &[("a", 10), ("b", 25)], &mut out);
    assert_eq!((taken(&mut out), engine.watermark_ms()), (vec![], Some(18)));
    engine.finish(&mut out);
    assert_eq!(taken(&mut out), ["10-20 a 3", "23-25 b 2"]);
}

#[test]
fn what_comes_after_the_close_is_a_correction_while_the_window_is_kept() {
    for (retain_ms, expected) in [(1000, vec!["0-100 a 2 rev 1", "0-100 b 1"]), (0, vec![])] {
        let mut plan = by_key(Window::tumbling(100));
        plan.retain_ms = retain_ms;
        let mut engine = engine(plan, 2);
        let mut out = Output::default();
        feed(&mut engine, 1, &[("a", 10), ("b", 20)], &mut out);
        feed(&mut engine, 0, &[("a", 30), ("a", 150)], &mut out);
        engine.leave(1, &mut out);
        assert_eq!(taken(&mut out), ["0-100 a 1"]);
        feed(&mut engine, 1, &[("b", 90), ("b", 180)], &mut out);
        assert_eq!(out.advances, [TimeAdvance { partition: 1, before_offset: 2, watermark_ms: 150 }]);
        assert_eq!(out.diverted, [Diverted { partition: 1, offset: 2, reason: Reason::Late }]);
        assert_eq!(out.late_merges.len(), if retain_ms > 0 { 0 } else { 2 });
        assert_eq!(engine.stats().late_merges, out.late_merges.len() as u64);
        // The row of b is the first one of its group.
        assert_eq!(out.corrections, if retain_ms > 0 { 1 } else { 0 });
        assert_eq!(taken(&mut out), expected);
        let closed = engine.read(0, 99, true, false);
        assert_eq!(closed.len(), if retain_ms > 0 { 2 } else { 0 });
    }
}

#[test]
fn a_session_that_comes_after_the_close_corrects_what_contains_it() {
    let mut plan = by_key(Window::Session { gap_ms: 10 });
    plan.retain_ms = 1000;
    let mut engine = engine(plan, 2);
    let mut out = Output::default();
    feed(&mut engine, 1, &[("a", 5), ("b", 9)], &mut out);
    feed(&mut engine, 0, &[("a", 0), ("b", 0), ("a", 8), ("c", 50)], &mut out);
    engine.leave(1, &mut out);
    assert_eq!(taken(&mut out), ["0-0 b 1", "0-8 a 2"]);
    feed(&mut engine, 1, &[("c", 55)], &mut out);
    // The session of b would have become longer.
    assert_eq!((out.late_merges.len(), out.late_merges[0].window_start_ms), (1, 9));
    assert_eq!(taken(&mut out), ["0-8 a 3 rev 1"]);
}

#[test]
fn windows_can_be_read_while_they_are_open() {
    let mut plan = by_key(Window::tumbling(100));
    plan.retain_ms = 150;
    plan.emit = Emit::FinalAndUpdates { interval_ms: 10 };
    let mut engine = engine(plan, 2);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a", 10), ("a", 120)], &mut out);
    feed(&mut engine, 1, &[("a", 20), ("b", 30)], &mut out);
    engine.emit_updates(&mut out);
    assert_eq!(taken(&mut out), ["0-100 a 2 early", "0-100 b 1 early", "100-200 a 1 early"]);
    engine.emit_updates(&mut out);
    assert_eq!(taken(&mut out), NONE, "nothing has changed");
    feed(&mut engine, 1, &[("b", 99)], &mut out);
    engine.emit_updates(&mut out);
    assert_eq!(taken(&mut out), ["0-100 b 2 rev 1 early"]);
    feed(&mut engine, 1, &[("b", 130)], &mut out);
    assert_eq!(taken(&mut out), ["0-100 a 2 rev 1", "0-100 b 2 rev 2"]);
    let rows = engine.read(0, 1000, true, true);
    assert_eq!(texts(&rows), ["0-100 a 2 rev 1", "0-100 b 2 rev 2", "100-200 a 1 rev 1 early", "100-200 b 1 early"]);
    // Closed windows go when they are over.
    feed(&mut engine, 0, &[("a", 250)], &mut out);
    feed(&mut engine, 1, &[("a", 250)], &mut out);
    assert_eq!(texts(&engine.read(0, 1000, true, false)), ["100-200 a 1 rev 1", "100-200 b 1"]);
}

#[test]
fn known_groups_have_rows_without_records() {
    let mut plan = by_key(Window::tumbling(100));
    plan.fill = Some(Fill { forget_after_ms: 200 });
    let mut engine = engine(plan, 1);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a", 10), ("b", 110), ("b", 900_000)], &mut out);
    let expected = ["0-100 a 1", "100-200 a 0", "100-200 b 1", "200-300 a 0", "200-300 b 0", "300-400 b 0"];
    assert_eq!(taken(&mut out), expected);
    engine.finish(&mut out);
    assert_eq!(taken(&mut out), ["900000-900100 b 1"]);
}

#[test]
fn days_are_those_of_the_time_zone() {
    let zone = "America/New_York".to_owned();
    let mut plan = by_key(Window::Calendar { unit: CalendarUnit::Day, timezone: zone });
    plan.time.max_future_ms = None;
    let mut engine = engine(plan, 1);
    let mut out = Output::default();
    let at = |text: &str| time::parse(text).unwrap();
    let times = ["2013-03-10T04:59:59Z", "2013-03-10T05:00:00Z", "2013-03-11T03:59:59Z", "2013-03-11T04:00:00Z"];
    feed(&mut engine, 0, &times.map(|text| ("a", at(text))), &mut out);
    engine.finish(&mut out);
    let days: Vec<(i64, u64)> =
        out.rows.iter().map(|row| ((row.window_end_ms - row.window_start_ms) / 3_600_000, row.records)).collect();
    assert_eq!(days, [(24, 1), (23, 2), (24, 1)]);
}

#[test]
fn rows_are_written_with_their_window() {
    let mut plan = by_key(Window::tumbling(100));
    plan.output[0].name = "n".to_owned();
    let mut engine = engine(plan, 1);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a\"", 10)], &mut out);
    engine.feed(
        0,
        &[InputRecord { offset: 5, timestamp_ms: 20, key: Some(b"\xff"), ..InputRecord::default() }],
        &mut out,
    );
    engine.finish(&mut out);
    let json: Vec<String> = out.rows.iter().map(|row| row.to_json(engine.plan())).collect();
    assert_eq!(json[0], r#"{"n":1,"window_start":0,"window_end":100,"rev":0,"final":true,"records":1}"#);
    assert_eq!(out.rows[0].key(), Some(b"a\"".to_vec()));
    assert_eq!(out.rows[1].key(), Some(b"\xff".to_vec()));
    assert_eq!(out.rows[0].timestamp_ms(engine.plan()), 99);
}

#[test]
fn values_are_not_looked_at_unless_they_are_needed() {
    let mut engine = engine(by_key(Window::tumbling(100)), 1);
    let mut out = Output::default();
    let record = InputRecord { offset: 0, timestamp_ms: 5, value: Some(b"no JSON"), ..InputRecord::default() };
    engine.feed(0, &[record], &mut out);
    assert_eq!(engine.stats().accepted, 1);
    let mut plan = by_key(Window::tumbling(100));
    plan.filter = Some(Expr::Field(FieldPath::dotted("x")));
    let mut engine = self::engine(plan, 1);
    engine.feed(0, &[record, InputRecord { offset: 1, value: None, ..record }], &mut out);
    assert_eq!(engine.stats().malformed, 2);
}

#[test]
fn time_may_be_that_of_the_append() {
    let mut plan = by_key(Window::tumbling(100));
    plan.time.source = TimeSource::AppendTime;
    let mut engine = engine(plan, 1);
    let mut out = Output::default();
    let record = InputRecord { timestamp_ms: 7777, append_time_ms: Some(5), key: Some(b"a"), ..InputRecord::default() };
    engine.feed(0, &[record, InputRecord { offset: 1, append_time_ms: None, ..record }], &mut out);
    engine.finish(&mut out);
    assert_eq!(texts(&out.rows), ["0-100 a 1"]);
    assert_eq!(engine.stats().no_time, 1);
}

#[test]
fn a_partition_far_ahead_is_not_read() {
    let mut plan = by_key(Window::tumbling(100));
    plan.time.max_skew_ms = Some(500);
    let mut engine = engine(plan, 2);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a", 1000)], &mut out);
    assert!(!engine.is_ahead(0), "nothing is known of the other");
    feed(&mut engine, 1, &[("a", 499)], &mut out);
    assert!(engine.is_ahead(0) && !engine.is_ahead(1));
    feed(&mut engine, 1, &[("a", 500)], &mut out);
    assert!(!engine.is_ahead(0));
}

#[test]
fn memory_is_counted_and_bounded() {
    let mut plan = by_key(Window::tumbling(1000));
    plan.memory_max_bytes = 1 << 20;
    let mut engine = engine(plan, 1);
    let mut out = Output::default();
    let keys: Vec<String> = (0..100_000).map(|n| format!("key-{n:08}")).collect();
    let empty = engine.memory_bytes();
    assert!(!engine.is_over_memory());
    for (offset, key) in (0..).zip(&keys) {
        let record = InputRecord { offset, timestamp_ms: 5, key: Some(key.as_bytes()), ..InputRecord::default() };
        engine.feed(0, &[record], &mut out);
    }
    let per_group = (engine.memory_bytes() - empty) / keys.len();
    assert!(engine.is_over_memory() && per_group < 150, "{per_group} bytes");
    assert_eq!(engine.open().groups, keys.len());
    engine.finish(&mut out);
    assert!(!engine.is_over_memory());
    assert_eq!(out.rows.len(), keys.len());
}

#[test]
fn without_a_second_stage_each_partition_has_its_own_time() {
    let mut plan = by_key(Window::tumbling(100));
    plan.stages = Stages::PerPartition;
    let mut engine = engine(plan.clone(), 2);
    let mut out = Output::default();
    feed(&mut engine, 0, &[("a", 10), ("a", 150)], &mut out);
    assert_eq!(taken(&mut out), ["0-100 a 1"]);
    plan.group.clear();
    let error = WindowEngine::new(Arc::new(plan), &[0]).unwrap_err();
    assert_eq!(error.part, "stages");
}

/// What a partition hands on when it gets records of a key and a time.
fn handed_on(stage: &mut PartitionStage, records: &[(&'static str, i64)]) -> Vec<u8> {
    let record = |(offset, (key, timestamp_ms)): (u64, &(&'static str, i64))| InputRecord {
        offset,
        timestamp_ms: *timestamp_ms,
        append_time_ms: Some(*timestamp_ms),
        key: Some(key.as_bytes()),
        value: None,
    };
    let records: Vec<InputRecord<'_>> = (stage.next_offset()..).zip(records).map(record).collect();
    stage.feed(&records, &mut Vec::new()).encode(0, 1)
}

#[test]
fn what_was_open_before_it_was_handed_on_is_read_once() {
    for (window, early, late) in [
        (Window::Session { gap_ms: 10 }, "0-9 a 3 early", "0-9 a 3"),
        (Window::tumbling(100), "0-100 a 3 early", "0-100 a 3"),
    ] {
        let mut plan = by_key(window);
        plan.retain_ms = 1000;
        let plan = Arc::new(plan);
        let mut stages = [0, 1].map(|partition| PartitionStage::new(Arc::clone(&plan), partition).unwrap());
        let mut merge = MergeStage::new(Arc::clone(&plan), &[0, 1]).unwrap();
        let mut out = Output::default();
        merge.accept(0, &handed_on(&mut stages[0], &[("a", 0), ("a", 5)]), &mut out).unwrap();
        let open = [(0, stages[0].open(0, 1000).encode(0, 1))];
        // It goes on, and is closed in its partition before the second stage is asked.
        merge.accept(0, &handed_on(&mut stages[0], &[("a", 9), ("b", 200)]), &mut out).unwrap();
        assert_eq!(texts(&merge.read_with(true, &open).unwrap()), [early]);
        merge.accept(1, &handed_on(&mut stages[1], &[("b", 150)]), &mut out).unwrap();
        assert_eq!(taken(&mut out), [late]);
        assert_eq!(texts(&merge.read_with(true, &open).unwrap()), [late]);
    }
}
