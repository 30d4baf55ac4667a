//! Single properties of tasks; that every row comes out once is tested with the engine.

use super::{changelog::read_piece, *};
use crate::{
    compression::Compression,
    record_batch::{self, Batch, BatchBuilder, NewRecord},
    streams::plan::{Emit, Expr, GroupColumn, Window},
};

impl Task {
    /// The next commit is a snapshot.
    pub(in crate::streams) const fn force_snapshot(&mut self) {
        self.changelog_bytes = usize::MAX / 2;
        self.snapshot_bytes = 0;
    }

    /// The sequences of all partitions begin here.
    pub(in crate::streams) fn sequences_from(&mut self, sequence: i32) {
        let places = [OutputTarget::Output, OutputTarget::Late, OutputTarget::Partials];
        let sequences = places.into_iter().flat_map(|target| (0..8).map(move |at| ((target, at), sequence)));
        self.outbox = Outbox::restored(sequences.collect());
    }
}

/// Counts by key, in windows of a second by the records' time.
fn plan() -> Plan {
    let mut plan = Plan::count(Window::tumbling(1_000));
    plan.group = vec![GroupColumn { name: "key".to_owned(), expr: Expr::Key }];
    plan.retain_ms = 1_000_000;
    plan
}

fn spec(kind: TaskKind, plan: Plan) -> TaskSpec {
    let shards = u32::from(!matches!(kind, TaskKind::Whole { .. }));
    TaskSpec {
        kind,
        plan: Arc::new(plan),
        inputs: 2,
        shards,
        output_partitions: 3,
        output_bytes_max: 1 << 20,
        late_partitions: 2,
        late_bytes_max: 1 << 20,
    }
}

fn begun(kind: TaskKind, plan: Plan) -> Task {
    let mut task = Task::new(spec(kind, plan)).unwrap();
    task.begin(ProducerId(5), Offset::ZERO, None, 0);
    task
}

/// A batch of records with these keys and times.
fn batch(base: u64, codec: Compression, records: &[(&str, i64)]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (key, timestamp_ms) in records {
        let (timestamp_ms, key) = (*timestamp_ms, Some(key.as_bytes()));
        builder.push(&NewRecord { timestamp_ms, key, value: Some(b"{}"), headers: &[] }).unwrap();
    }
    let mut bytes = builder.finish(None).unwrap().bytes().to_vec();
    record_batch::assign(&mut bytes, Offset::new(base), LeaderEpoch::ZERO);
    bytes
}

fn rows(outputs: &[OutputBatch], target: OutputTarget) -> Vec<String> {
    let mut rows = Vec::new();
    for output in outputs.iter().filter(|output| output.target == target) {
        let decoded = Batch::parse(&output.bytes).unwrap().decode(1 << 20).unwrap();
        rows.extend(decoded.records().map(|record| {
            let record = record.unwrap();
            let text = |bytes: Option<&[u8]>| bytes.map_or("-", |bytes| str::from_utf8(bytes).unwrap()).to_owned();
            let headers = record.headers().map(|header| header.map(|(name, value)| format!(" {name}={}", text(value))));
            let headers: Result<String, _> = headers.collect();
            format!("{} {}{}", text(record.key), text(record.value), headers.unwrap())
        }));
    }
    rows
}

#[test]
fn a_task_begins_with_a_commit_of_its_own() {
    let mut task = Task::new(spec(TaskKind::Whole { partition: 1 }, plan())).unwrap();
    assert!(!task.has_begun() && !task.can_feed() && !task.is_commit_due(1_000_000));
    assert!(matches!(task.commit(LeaderEpoch::ZERO, 0), Err(TaskError::NotBegun)));
    task.begin(ProducerId(5), Offset::new(3), Some(Offset::new(9)), 50);
    assert!(task.is_commit_due(50) && !task.is_clean());
    let commit = task.commit(LeaderEpoch::new(2), 50).unwrap();
    assert_eq!((commit.number, commit.outputs.len(), commit.is_snapshot), (1, 0, false));
    let (head, _) = read_piece(&commit.records[0]).unwrap();
    assert_eq!((head.number, head.epoch, head.index), (1, LeaderEpoch::new(2), 0));
    let mut replay = TaskReplay::new(task.spec().clone()).unwrap();
    for (offset, record) in (0..).zip(&commit.records) {
        replay.apply(record, Offset::new(offset)).unwrap();
    }
    let (replayed, outputs) = replay.finish();
    assert_eq!((&replayed.progress, outputs.len()), (&task.progress, 0));
    assert_eq!((replayed.position(), replayed.number()), (Offset::new(3), 1));
    assert!(replayed.is_clean() && replayed.can_feed());
}

#[test]
fn a_changelog_is_of_one_task_and_without_holes() {
    let mut task = begun(TaskKind::Whole { partition: 0 }, plan());
    let mut commits = Vec::new();
    for number in 1..4 {
        let commit = task.commit(LeaderEpoch::ZERO, 0).unwrap();
        task.committed(number);
        assert_eq!(commit.records.len(), 1);
        commits.push(commit.records[0].clone());
    }
    let mut replay = TaskReplay::new(task.spec().clone()).unwrap();
    replay.apply(&commits[0], Offset::ZERO).unwrap();
    let missing = ReplayError::Missing { offset: Offset::new(2), last: 1, found: 3 };
    assert_eq!(replay.apply(&commits[2], Offset::new(2)), Err(missing));
    for kind in [TaskKind::Whole { partition: 1 }, TaskKind::First { partition: 0 }, TaskKind::Merge { shard: 0 }] {
        let mut other = TaskReplay::new(spec(kind, plan())).unwrap();
        assert_eq!(other.apply(&commits[0], Offset::ZERO), Err(ReplayError::Damaged(Offset::ZERO)));
    }
}

#[test]
fn commits_are_due_in_time() {
    let mut task = begun(TaskKind::Whole { partition: 0 }, plan());
    let run = |task: &mut Task, now_ms| {
        let commit = task.commit(LeaderEpoch::ZERO, now_ms).unwrap();
        assert!(!task.is_commit_due(now_ms + 100_000), "one is under way");
        assert!(matches!(task.commit(LeaderEpoch::ZERO, now_ms), Err(TaskError::UnderWay)));
        task.committed(commit.number);
        task.published(commit.number);
        commit
    };
    run(&mut task, 0);
    assert!(!task.is_commit_due(100_000), "nothing has happened");
    task.feed(&batch(0, Compression::None, &[("a", 10), ("a", 3_000)]), 500).unwrap();
    assert!(!task.is_commit_due(699) && task.is_commit_due(700));
    assert_eq!(run(&mut task, 700).outputs.len(), 1);
    assert!(!task.is_commit_due(1_699));
    assert!(task.is_commit_due(1_700), "that the outputs are published is worth a commit");
    assert_eq!(run(&mut task, 1_700).outputs.len(), 0);
    assert!(!task.is_commit_due(1_000_000) && task.is_clean());
}

#[test]
fn what_is_in_no_window_is_told_with_the_reason() {
    let mut plan = plan();
    plan.time.max_future_ms = Some(100);
    let mut task = begun(TaskKind::Whole { partition: 1 }, plan);
    let mut bytes = batch(0, Compression::Zstd, &[("a", 5_000), ("b", 10), ("c", 99_999)]);
    bytes.extend(batch(3, Compression::None, &[("d", 5_001)]));
    let fed = task.feed(&bytes, 6_000).unwrap();
    assert_eq!(fed, Fed { records: 4, bytes: bytes.len() });
    assert_eq!(task.feed(&bytes, 6_000).unwrap().records, 0, "they are there already");
    let commit = task.commit(LeaderEpoch::ZERO, 0).unwrap();
    let late = rows(&commit.outputs, OutputTarget::Late);
    assert_eq!(late, ["b {} reason=late partition=1 offset=1", "c {} reason=future partition=1 offset=2"]);
    let stats = task.status().stats;
    assert_eq!((stats.read, stats.accepted, stats.late, stats.future), (4, 2, 1, 1));
    assert_eq!(task.time(6_500, true).unwrap().silent_ms, 500);
}

#[test]
fn what_is_too_large_for_the_late_topic_is_told_without_its_value() {
    let mut task =
        Task::new(TaskSpec { late_bytes_max: 1_024, ..spec(TaskKind::Whole { partition: 1 }, plan()) }).unwrap();
    task.begin(ProducerId(5), Offset::ZERO, None, 0);
    let (long, room) = ("v".repeat(2_000), "v".repeat(800));
    let mut builder = BatchBuilder::new(Compression::Zstd);
    for (timestamp_ms, key, value) in [(5_000, "z", "{}"), (5, "a", &long), (5, "b", &room), (5, &long, &room)] {
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        builder.push(&NewRecord { timestamp_ms, key, value, headers: &[] }).unwrap();
    }
    task.feed(builder.finish(None).unwrap().bytes(), 6_000).unwrap();
    let commit = task.commit(LeaderEpoch::ZERO, 0).unwrap();
    assert!(commit.outputs.iter().all(|output| output.bytes.len() <= 1_024));
    let told = rows(&commit.outputs, OutputTarget::Late);
    let expected = [
        "a - reason=late partition=1 offset=1 truncated=true".to_owned(),
        format!("b {room} reason=late partition=1 offset=2"),
        "- - reason=late partition=1 offset=3 truncated=true".to_owned(),
    ];
    assert_eq!(told, expected);
}

#[test]
fn batches_of_rows_are_no_larger_than_the_topic_takes() {
    let begun_with = |output_bytes_max| {
        let spec = TaskSpec { output_bytes_max, ..spec(TaskKind::Whole { partition: 0 }, plan()) };
        let mut task = Task::new(spec).unwrap();
        task.begin(ProducerId(5), Offset::ZERO, None, 0);
        task
    };
    let keys: Vec<String> = (0..30).map(|key| format!("key-{key}")).collect();
    let mut records: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 10)).collect();
    records.push(("z", 5_000));
    let bytes = batch(0, Compression::None, &records);
    let mut task = begun_with(300);
    task.feed(&bytes, 0).unwrap();
    let outputs = task.commit(LeaderEpoch::ZERO, 0).unwrap().outputs;
    assert_eq!(rows(&outputs, OutputTarget::Output).len(), 30);
    assert!(outputs.iter().all(|output| output.bytes.len() <= 300));
    // One that is too large alone is told before anything is committed.
    let refused = begun_with(100).feed(&bytes, 0);
    assert!(matches!(refused, Err(TaskError::TooLarge { bytes_max: 100, .. })), "{refused:?}");
}

#[test]
fn a_topic_with_append_time_says_when_records_came() {
    let mut plan = plan();
    plan.time.max_future_ms = Some(100);
    let mut task = begun(TaskKind::Whole { partition: 0 }, plan);
    let mut bytes = batch(0, Compression::None, &[("a", 5_000)]);
    bytes[22] |= 8;
    task.feed(&bytes, 9_000).unwrap();
    assert_eq!(task.time(9_000, true).unwrap().silent_ms, 4_000);
    assert_eq!(task.status().stats.accepted, 1);
}

#[test]
fn a_feed_is_bounded_by_what_comes_out() {
    let mut task = begun(TaskKind::Whole { partition: 0 }, plan());
    let keys: Vec<String> = (0..60_000).map(|key| format!("key-{key:032}")).collect();
    let mut records: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 10)).collect();
    records.push(("z", 5_000));
    records.resize(records.len() + 5_000, ("z", 5_000));
    let bytes = batch(0, Compression::Lz4, &records);
    let fed = task.feed(&bytes, 0).unwrap();
    assert!(fed.bytes == 0 && !task.can_feed() && task.is_commit_due(0), "{fed:?}");
    assert_eq!(task.feed(&bytes, 0).unwrap(), Fed::default());
    let commit = task.commit(LeaderEpoch::ZERO, 0).unwrap();
    assert_eq!(rows(&commit.outputs, OutputTarget::Output).len(), 60_000);
    task.committed(1);
    task.published(1);
    while task.feed(&bytes, 0).unwrap().bytes == 0 {}
    assert_eq!(task.position(), Offset::new(65_001));
    assert_eq!(task.status().stats.read, 65_001);
}

#[test]
fn a_bounded_run_ends_where_it_was_to() {
    let mut task = Task::new(spec(TaskKind::Whole { partition: 0 }, plan())).unwrap();
    task.begin(ProducerId(5), Offset::new(1), Some(Offset::new(3)), 0);
    let bytes = batch(0, Compression::None, &[("a", 10), ("b", 10), ("c", 10), ("d", 10)]);
    assert_eq!(task.feed(&bytes, 0).unwrap().records, 2);
    assert!(task.is_at_end() && !task.can_feed() && !task.is_finished());
    task.finish(0).unwrap();
    assert!(task.is_finished() && task.is_commit_due(0));
    let commit = task.commit(LeaderEpoch::ZERO, 0).unwrap();
    let mut out = rows(&commit.outputs, OutputTarget::Output);
    out.sort();
    assert_eq!(out.iter().map(|row| &row[..1]).collect::<String>(), "bc");
    assert_eq!(task.position(), Offset::new(3));
}

#[test]
fn what_was_deleted_is_passed_over_and_counted() {
    let mut task = begun(TaskKind::Whole { partition: 0 }, plan());
    assert_eq!(task.skip_to(Offset::new(7), 0), 7);
    assert_eq!(task.skip_to(Offset::new(7), 0), 0);
    task.feed(&batch(5, Compression::None, &[("a", 1), ("a", 1), ("a", 1)]), 0).unwrap();
    assert_eq!((task.status().stats.read, task.status().skipped, task.position().get()), (1, 7, 8));
}

#[test]
fn time_alone_is_told_once_a_commit() {
    let mut first = begun(TaskKind::First { partition: 0 }, plan());
    first.feed(&batch(0, Compression::None, &[("a", 10), ("a", 20)]), 0).unwrap();
    first.feed(&batch(2, Compression::None, &[("a", 30)]), 0).unwrap();
    let commit = first.commit(LeaderEpoch::ZERO, 0).unwrap();
    assert_eq!(commit.outputs.len(), 1);
    assert_eq!(Batch::parse(&commit.outputs[0].bytes).unwrap().header().record_count, 1);
    first.committed(1);
    first.published(1);
    first.feed(&batch(3, Compression::None, &[("a", 30)]), 0).unwrap();
    assert!(first.commit(LeaderEpoch::ZERO, 0).unwrap().outputs.is_empty(), "the time has not moved");
}

#[test]
fn open_windows_are_read_across_tasks() {
    let mut emit = plan();
    emit.emit = Emit::FinalAndUpdates { interval_ms: 100 };
    let mut firsts = [0, 1].map(|partition| begun(TaskKind::First { partition }, emit.clone()));
    let mut merge = begun(TaskKind::Merge { shard: 0 }, emit);
    firsts[0].feed(&batch(0, Compression::None, &[("a", 10), ("a", 1_500)]), 0).unwrap();
    firsts[1].feed(&batch(0, Compression::None, &[("a", 20), ("b", 30), ("b", 1_400)]), 0).unwrap();
    assert!(firsts[0].is_update_due(0));
    firsts[0].emit_updates(0).unwrap();
    assert!(!firsts[0].is_update_due(99) && firsts[0].is_update_due(100));
    let mut base = 0;
    for first in &mut firsts {
        for output in first.commit(LeaderEpoch::ZERO, 0).unwrap().outputs {
            let mut bytes = output.bytes.to_vec();
            record_batch::assign(&mut bytes, Offset::new(base), LeaderEpoch::ZERO);
            merge.feed(&bytes, 0).unwrap();
            base = merge.position().get();
        }
    }
    assert_eq!(merge.watermark_ms(), Some(1_400));
    let count = |rows: Vec<crate::streams::engine::Row>| {
        let row = |row: &crate::streams::engine::Row| (text(row.key()), row.window_end_ms, row.records, row.is_final);
        rows.iter().map(row).collect::<Vec<_>>()
    };
    let key = |key: &str, end, records, is_final| (key.to_owned(), end, records, is_final);
    assert_eq!(count(merge.read_windows(0, 5_000, true, false)), [key("a", 1_000, 2, true), key("b", 1_000, 1, true)]);
    let open: Vec<(u32, Vec<u8>)> =
        (0..).zip(&mut firsts).map(|(at, first)| (at, first.open_partials(0, 0, 5_000))).collect();
    let expected = [key("a", 2_000, 1, false), key("b", 2_000, 1, false)];
    assert_eq!(count(merge.read_windows_with(1_500, 5_000, false, &open).unwrap()), expected);
    assert_eq!(count(merge.read_windows_with(0, 900, false, &open).unwrap()), []);
    assert!(merge.read_windows_with(0, 900, false, &[(0, vec![1, 2])]).is_err());
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.unwrap()).unwrap()
}

#[test]
fn foreign_partial_results_are_refused() {
    let mut merge = begun(TaskKind::Merge { shard: 0 }, plan());
    let bytes = batch(4, Compression::None, &[("a", 10)]);
    assert!(matches!(merge.feed(&bytes, 0), Err(TaskError::Partial { offset }) if offset.get() == 4));
    let mut cut = begun(TaskKind::Whole { partition: 0 }, plan());
    assert!(matches!(cut.feed(&bytes[..70], 0), Err(TaskError::Input { .. })));
}

#[test]
fn tasks_have_their_partitions_of_the_changelog() {
    let kinds = |inputs, shards| (0..9).map_while(|at| TaskKind::of(at, inputs, shards)).collect::<Vec<_>>();
    assert_eq!(kinds(2, 0), [TaskKind::Whole { partition: 0 }, TaskKind::Whole { partition: 1 }]);
    let staged = [TaskKind::First { partition: 0 }, TaskKind::First { partition: 1 }, TaskKind::Merge { shard: 0 }];
    assert_eq!(kinds(2, 1), staged);
    assert_eq!(staged.map(|kind| kind.changelog_partition(2)), [0, 1, 2]);
    let mut plan = plan();
    assert_eq!([1, 2, 9].map(|inputs| merge_shards(&plan, inputs)), [0, 2, 4]);
    plan.stages = Stages::PerPartition;
    assert_eq!(merge_shards(&plan, 9), 0);
    assert!(!plan.reads_append_time());
    plan.filter = Some(Expr::IsNull(Box::new(Expr::AppendTime)));
    assert!(plan.reads_append_time());
}

#[test]
fn sequences_are_compared_around_their_end() {
    let mut task = begun(TaskKind::Whole { partition: 0 }, plan());
    task.sequences_from(i32::MAX - 1);
    task.feed(&batch(0, Compression::None, &[("a", 1), ("a", 1_000), ("a", 2_000), ("a", 3_000)]), 0).unwrap();
    let outputs = task.commit(LeaderEpoch::ZERO, 0).unwrap().outputs;
    assert_eq!(outputs.len(), 1);
    // Three rows: 2³¹ − 2, 2³¹ − 1 and 0; the next one is 1.
    for (expected, before) in [(1, true), (2, true), (0, false), (i32::MAX - 1, false), (i32::MAX - 3, false)] {
        assert_eq!(outputs[0].is_before(expected), before, "{expected}");
    }
}

fn at(partition: u32, watermark_ms: i64, silent_ms: i64) -> TaskTime {
    TaskTime {
        partition,
        watermark_ms: Some(watermark_ms),
        watermark_at_record_ms: Some(watermark_ms),
        next_close_ms: None,
        is_caught_up: true,
        silent_ms,
    }
}

#[test]
fn idle_partitions_follow_the_others() {
    let never = TaskTime { watermark_ms: None, watermark_at_record_ms: None, ..at(2, 0, 0) };
    let (active, idle) = (at(0, 5_000, 3), at(1, 1_000, 60));
    let all = [Some(active), Some(idle), Some(never)];
    assert_eq!([0, 1, 2].map(|own| idle_target(own, &all, 50)), [None, Some(5_000), Some(5_000)]);
    assert_eq!(idle_target(1, &[Some(active), Some(idle), None], 50), None, "one is not known");
    let unread = TaskTime { is_caught_up: false, ..never };
    assert_eq!(idle_target(1, &[Some(active), Some(idle), Some(unread)], 50), None, "one has unread records");
    // All are idle: nothing that is open closes by now, then something does.
    let all = |close| [Some(at(0, 5_000, 70)), Some(TaskTime { next_close_ms: close, ..idle }), Some(never)];
    assert_eq!([0, 1, 2].map(|own| idle_target(own, &all(None), 50)), [None, Some(5_000), Some(5_000)]);
    assert_eq!([0, 1, 2].map(|own| idle_target(own, &all(Some(5_071)), 50)), [None, Some(5_000), Some(5_000)]);
    assert_eq!([0, 1, 2].map(|own| idle_target(own, &all(Some(5_070)), 50)), [Some(5_070); 3]);
    assert_eq!(idle_target(0, &[Some(never)], 50), None);
}

#[test]
fn a_silent_stream_closes_its_windows_and_comes_to_rest() {
    let mut plan = plan();
    plan.time.idle_timeout_ms = Some(100);
    let mut task = begun(TaskKind::Whole { partition: 0 }, plan);
    task.feed(&batch(0, Compression::None, &[("a", 400)]), 10_000).unwrap();
    let target = |task: &Task, now| task.idle_target(&[task.time(now, true)]);
    assert_eq!(target(&task, 10_599), None, "the window is not over");
    assert_eq!(target(&task, 10_600), Some(1_000));
    task.advance(1_000, 10_600).unwrap();
    let commit = task.commit(LeaderEpoch::ZERO, 0).unwrap();
    assert_eq!(rows(&commit.outputs, OutputTarget::Output).len(), 1);
    assert_eq!(target(&task, 1_000_000), None);
}

#[test]
fn who_is_too_far_ahead_waits() {
    let all = [Some(at(0, 5_000, 0)), Some(at(1, 1_000, 0)), None, Some(at(3, 0, 60))];
    assert!(is_ahead(0, &all, Some(50), 3_999));
    assert!(!is_ahead(0, &all, Some(50), 4_000), "those that are idle do not count");
    assert!(!is_ahead(1, &all, Some(50), 0));
    assert!(is_ahead(1, &all, None, 999));
}
