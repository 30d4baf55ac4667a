//! Tasks that crash anywhere, and are replayed: their output is that of one engine that never stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    master::{Case, cases, feed, json},
    oracle::Record,
};
use crate::{
    LeaderEpoch, Offset, ProducerId,
    compression::Compression,
    producer_state::{ProducerStates, SequenceCheck, SequenceError},
    record_batch::{self, Batch, BatchBuilder, BatchHeader, NewRecord},
    streams::{
        engine::{Output, Stats, WindowEngine},
        plan::{Emit, Expr, Plan, Stages},
        stages::shard_of,
        task::{OutputBatch, OutputTarget, Task, TaskKind, TaskReplay, TaskSpec},
    },
};

const OUTPUTS: u32 = 3;
const LATES: u32 = 2;
/// The logs of the input begin at another offset than 0.
const FIRST_OFFSET: u64 = 7;

/// Where a task loses its memory while it commits.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Never,
    BeforeAppend,
    AfterPieces(usize),
    AfterOutputs(usize),
}

#[derive(Clone, Debug)]
enum Step {
    Feed {
        task: usize,
        batches: usize,
    },
    Update {
        task: usize,
    },
    Commit {
        task: usize,
        crash: Crash,
        snapshot: bool,
    },
    /// Someone who was deposed publishes what was committed once, or the beginning of it.
    Zombie(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let crash = prop_oneof![
        5 => Just(Crash::Never),
        1 => Just(Crash::BeforeAppend),
        2 => (0_usize..20).prop_map(Crash::AfterPieces),
        2 => (0_usize..20).prop_map(Crash::AfterOutputs),
    ];
    let step = prop_oneof![
        6 => (0_usize..8, 1_usize..9).prop_map(|(task, batches)| Step::Feed { task, batches }),
        1 => (0_usize..8).prop_map(|task| Step::Update { task }),
        5 => (0_usize..8, crash, prop::bool::weighted(0.2))
            .prop_map(|(task, crash, snapshot)| Step::Commit { task, crash, snapshot }),
        1 => (0_usize..1000, 0_usize..20).prop_map(|(which, count)| Step::Zombie(which, count)),
    ];
    prop::collection::vec(step, 0..80)
}

/// Partition, key, value and headers of a record.
type Published = (u32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<String>);

/// A partition that follows the rules for idempotent producers.
#[derive(Default)]
struct Log {
    batches: Vec<(u64, Vec<u8>)>,
    next: Offset,
    producers: ProducerStates,
}

impl Log {
    /// A batch of any producer; it is there afterwards.
    fn publish(&mut self, batch: &OutputBatch) {
        let header = *Batch::parse(&batch.bytes).unwrap().header();
        header.check_produced().unwrap();
        match self.producers.check(&header) {
            Ok(SequenceCheck::Next) => self.append(batch.bytes.to_vec()),
            Ok(SequenceCheck::Duplicate { .. }) => {}
            Ok(SequenceCheck::NotIdempotent) => panic!("a batch without a producer"),
            Err(SequenceError::OutOfOrder { expected, .. }) => {
                assert!(batch.is_before(expected), "batches are missing")
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn append(&mut self, mut bytes: Vec<u8>) {
        record_batch::assign(&mut bytes, self.next, LeaderEpoch::ZERO);
        let header = BatchHeader::parse(&bytes).unwrap();
        self.producers.record(&header);
        self.batches.push((self.next.get(), bytes));
        self.next = header.next_offset().unwrap();
    }

    /// The batches from an offset on, as they are read.
    fn read(&self, from: Offset, count: usize) -> Vec<u8> {
        let at = self
            .batches
            .partition_point(|(_, bytes)| BatchHeader::parse(bytes).unwrap().next_offset().unwrap() <= from);
        self.batches[at..].iter().take(count).flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    fn records(&self, partition: u32) -> Vec<Published> {
        let mut records = Vec::new();
        for (_, bytes) in &self.batches {
            let decoded = Batch::parse(bytes).unwrap().decode(1 << 20).unwrap();
            for record in decoded.records() {
                let record = record.unwrap();
                let headers = record.headers().map(|header| header.unwrap().1.map_or_else(String::new, text)).collect();
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                records.push((partition, owned(record.key), owned(record.value), headers));
            }
        }
        records
    }
}

fn text(bytes: &[u8]) -> String {
    str::from_utf8(bytes).unwrap().to_owned()
}

/// A task, in its present life if it has one, and its changelog.
struct Place {
    kind: TaskKind,
    task: Option<Task>,
    epoch: u32,
    changelog: Vec<(u64, Vec<u8>)>,
    appended: u64,
}

struct World {
    plan: Arc<Plan>,
    shards: u32,
    inputs: Vec<Log>,
    /// Advances, by the offset before which they come.
    advances: Vec<BTreeMap<u64, i64>>,
    places: Vec<Place>,
    logs: BTreeMap<(OutputTarget, u32), Log>,
    /// The outputs of all commits that ever were.
    old: Vec<Vec<OutputBatch>>,
    producers: i64,
}

impl World {
    fn new(case: &Case, shards: u32, sizes: &[usize]) -> Self {
        let count = u32::try_from(case.partitions.len()).unwrap();
        let kinds = (0..count + shards).map(|number| TaskKind::of(number, count, shards).unwrap());
        let place = |kind| Place { kind, task: None, epoch: 0, changelog: Vec::new(), appended: 0 };
        let advances = case.partitions.iter().map(|records| {
            let advance = |(at, record): (u64, &Record)| Some((at, record.advance?));
            (FIRST_OFFSET..).zip(records).filter_map(advance).collect()
        });
        Self {
            plan: Arc::new(case.plan.clone()),
            shards,
            inputs: case.partitions.iter().map(|records| input(records, sizes)).collect(),
            advances: advances.collect(),
            places: kinds.map(place).collect(),
            logs: BTreeMap::new(),
            old: Vec::new(),
            producers: 0,
        }
    }

    fn publish(&mut self, batch: &OutputBatch) {
        self.logs.entry((batch.target, batch.partition)).or_default().publish(batch);
    }

    /// The task, replayed if it has lost its memory.
    fn revive(&mut self, at: usize) {
        if self.places[at].task.is_some() {
            return;
        }
        let inputs = u32::try_from(self.inputs.len()).unwrap();
        let spec = TaskSpec {
            kind: self.places[at].kind,
            plan: Arc::clone(&self.plan),
            inputs,
            shards: self.shards,
            output_partitions: OUTPUTS,
            output_bytes_max: 1 << 20,
            late_partitions: LATES,
            late_bytes_max: 1 << 20,
        };
        let mut replay = TaskReplay::new(spec).unwrap();
        for (offset, value) in &self.places[at].changelog {
            replay.apply(value, Offset::new(*offset)).unwrap();
        }
        let (mut task, outputs) = replay.finish();
        outputs.iter().for_each(|batch| self.publish(batch));
        task.published(task.number());
        assert!(task.is_clean());
        if !task.has_begun() {
            self.producers += 1;
            let input = match task.spec().kind {
                TaskKind::Whole { partition } | TaskKind::First { partition } => {
                    self.inputs.get(usize::try_from(partition).unwrap())
                }
                TaskKind::Merge { .. } => None,
            };
            let start = input.map_or(0, |_| FIRST_OFFSET);
            task.begin(ProducerId(self.producers), Offset::new(start), input.map(|input| input.next), 0);
            // The sequences wrap soon.
            task.sequences_from(i32::MAX - 9);
        }
        self.places[at].epoch += 1;
        self.places[at].task = Some(task);
    }

    fn feed(&mut self, at: usize, count: usize) {
        self.revive(at);
        let Self { inputs, advances, places, logs, .. } = self;
        let Place { kind, task, .. } = &mut places[at];
        let task = task.as_mut().unwrap();
        let empty = Log::default();
        let (log, advances) = match *kind {
            TaskKind::Whole { partition } | TaskKind::First { partition } => {
                let partition = usize::try_from(partition).unwrap();
                (&inputs[partition], Some(&advances[partition]))
            }
            TaskKind::Merge { shard } => (logs.get(&(OutputTarget::Partials, shard)).unwrap_or(&empty), None),
        };
        for _ in 0..count {
            if let Some(to) = advances.and_then(|advances| advances.get(&task.position().get())) {
                task.advance(*to, 0).unwrap();
            }
            // One batch at a time where an advance may come in between; all batches of partial results at once.
            let bytes = log.read(task.position(), if advances.is_some() { 1 } else { count });
            let before = task.position();
            let fed = task.feed(&bytes, 0).unwrap();
            assert!(fed.bytes == bytes.len() || !task.can_feed());
            if task.position() == before {
                break;
            }
        }
        if task.is_at_end() {
            task.finish(0).unwrap();
        }
    }

    fn commit(&mut self, at: usize, crash: Crash, snapshot: bool) {
        self.revive(at);
        let place = &mut self.places[at];
        let task = place.task.as_mut().unwrap();
        if snapshot {
            task.force_snapshot();
        }
        let commit = task.commit(LeaderEpoch::new(place.epoch), 0).unwrap();
        assert_eq!(commit.is_snapshot, snapshot);
        let pieces = match crash {
            Crash::BeforeAppend => 0,
            Crash::AfterPieces(count) => count % commit.records.len(),
            Crash::Never | Crash::AfterOutputs(_) => commit.records.len(),
        };
        let first = place.appended;
        for record in commit.records.iter().take(pieces) {
            place.changelog.push((place.appended, record.clone()));
            place.appended += 1;
        }
        if pieces < commit.records.len() {
            place.task = None;
            return;
        }
        task.committed(commit.number);
        if snapshot {
            place.changelog.retain(|(offset, _)| *offset >= first);
        }
        self.old.push(commit.outputs.clone());
        let published = match crash {
            Crash::AfterOutputs(count) => count % (commit.outputs.len() + 1),
            _ => commit.outputs.len(),
        };
        commit.outputs.iter().take(published).for_each(|batch| self.publish(batch));
        let place = &mut self.places[at];
        if matches!(crash, Crash::Never) {
            let task = place.task.as_mut().unwrap();
            task.published(commit.number);
            assert!(task.is_clean());
        } else {
            place.task = None;
        }
    }

    fn step(&mut self, step: &Step) {
        let tasks = self.places.len();
        match step {
            Step::Feed { task, batches } => self.feed(task % tasks, *batches),
            Step::Update { task } => {
                self.revive(task % tasks);
                self.places[task % tasks].task.as_mut().unwrap().emit_updates(0).unwrap();
            }
            Step::Commit { task, crash, snapshot } => self.commit(task % tasks, *crash, *snapshot),
            Step::Zombie(which, count) => {
                let outputs = self.old.get(which % self.old.len().max(1)).cloned().unwrap_or_default();
                outputs.iter().take(*count).for_each(|batch| self.publish(batch));
            }
        }
    }

    fn run_to_the_end(&mut self) -> Stats {
        let is_done = |task: &Task| task.is_finished() && task.is_clean();
        while !self.places.iter().all(|place| place.task.as_ref().is_some_and(is_done)) {
            for at in 0..self.places.len() {
                self.feed(at, 10);
                self.commit(at, Crash::Never, false);
            }
        }
        let tasks = self.places.iter().filter_map(|place| place.task.as_ref());
        tasks.fold(Stats::default(), |all, task| all.plus(&task.status().stats))
    }

    fn records(&self, target: OutputTarget) -> Vec<Published> {
        let logs = self.logs.iter().filter(|((of, _), _)| *of == target);
        logs.flat_map(|((_, partition), log)| log.records(*partition)).collect()
    }
}

/// The log of a partition, in batches of these sizes; a batch begins where an advance comes.
fn input(records: &[Record], sizes: &[usize]) -> Log {
    let mut log = Log { next: Offset::new(FIRST_OFFSET), ..Log::default() };
    let mut sizes = sizes.iter().copied().cycle();
    let mut from = 0;
    while from < records.len() {
        let size = sizes.next().unwrap();
        let to = (from + 1..records.len().min(from + size)).find(|at| records[*at].advance.is_some());
        let to = to.unwrap_or(records.len().min(from + size));
        let codec = Compression::ALL[size % Compression::ALL.len()];
        let mut builder = BatchBuilder::new(codec);
        for record in &records[from..to] {
            let (key, value) = (record.group.to_string(), json(record));
            let record = NewRecord { key: Some(key.as_bytes()), value: Some(value.as_bytes()), ..NewRecord::default() };
            builder.push(&record).unwrap();
        }
        log.append(builder.finish(None).unwrap().bytes().to_vec());
        from = to;
    }
    log
}

/// What an engine that never stops gives for all records.
fn uninterrupted(plan: &Plan, case: &Case) -> (Output, Stats) {
    let numbers: Vec<u32> = (0..).take(case.partitions.len()).collect();
    let mut engine = WindowEngine::new(Arc::new(plan.clone()), &numbers).unwrap();
    let mut out = Output::default();
    for (at, records) in case.partitions.iter().enumerate() {
        let values: Vec<String> = records.iter().map(json).collect();
        feed(&mut engine, at, records, &values, 0, records.len(), &mut out);
    }
    engine.finish(&mut out);
    (out, engine.stats())
}

/// A row of the output topic without what depends on when it came out; its window and group; its number; whether final.
fn parsed(key: Option<&Vec<u8>>, value: &[u8]) -> ((String, i64, i64), String, u64, bool) {
    let mut row: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(value).unwrap();
    let (rev, is_final) = (row.remove("rev").unwrap(), row.remove("final").unwrap());
    let bounds = [&row["window_start"], &row["window_end"]].map(|bound| bound.as_i64().unwrap());
    let place = (text(key.unwrap()), bounds[0], bounds[1]);
    (place, serde_json::to_string(&row).unwrap(), rev.as_u64().unwrap(), is_final.as_bool().unwrap())
}

fn check(world: &World, case: &Case, stats: Stats) -> Result<(), TestCaseError> {
    let Stats { read, accepted, filtered, late, future, malformed, no_time, .. } = stats;
    prop_assert_eq!(read, accepted + filtered + late + future + malformed + no_time);
    prop_assert_eq!(read, case.partitions.iter().map(Vec::len).sum::<usize>() as u64);
    let mut plan = case.plan.clone();
    plan.emit = Emit::Final;
    let (out, expected_stats) = uninterrupted(&plan, case);
    prop_assert_eq!(stats, expected_stats);
    let mut diverted: Vec<Vec<String>> = out
        .diverted
        .iter()
        .map(|one| {
            vec![one.reason.name().to_owned(), one.partition.to_string(), (one.offset + FIRST_OFFSET).to_string()]
        })
        .collect();
    let mut given: Vec<Vec<String>> =
        world.records(OutputTarget::Late).into_iter().map(|(.., headers)| headers).collect();
    diverted.sort();
    given.sort();
    prop_assert_eq!(given, diverted);
    let rows = world.records(OutputTarget::Output);
    let mut expected: Vec<_> = out
        .rows
        .iter()
        .map(|row| {
            let (key, value) = (row.key(), row.to_json(&plan));
            let (place, text, ..) = parsed(key.as_ref(), value.as_bytes());
            (shard_of(&row.group_bytes(), OUTPUTS), place, text)
        })
        .collect();
    let mut finals = Vec::new();
    let mut last: BTreeMap<_, (u64, String)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (partition, key, value, _) in &rows {
        let (place, text, rev, is_final) = parsed(key.as_ref(), value.as_ref().unwrap());
        if case.plan.stages == Stages::Merged {
            prop_assert!(seen.insert((place.clone(), rev)), "twice: {:?} {}", place, rev);
        }
        let known = last.entry((*partition, place.clone())).or_default();
        *known = (rev, text.clone()).max(known.clone());
        if is_final {
            finals.push((*partition, place, text));
        }
    }
    if matches!(case.plan.emit, Emit::Updates { .. }) {
        for (partition, place, text) in expected {
            prop_assert_eq!(last.get(&(partition, place)).map(|(_, text)| text.clone()), Some(text));
        }
    } else {
        expected.sort();
        finals.sort();
        prop_assert_eq!(finals, expected);
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_row_comes_out_once(
        mut case in cases(),
        steps in steps(),
        sizes in prop::collection::vec(1_usize..12, 1..6),
        shards in 1_u32..4,
        apart in any::<bool>(),
    ) {
        // It depends on when a task reads.
        case.plan.time.max_future_ms = None;
        case.plan.stages = Stages::Merged;
        let mut shards = if case.top.is_some() { 1 } else { shards };
        if apart && case.top.is_none() && case.plan.emit == Emit::Final {
            case.plan.stages = Stages::PerPartition;
            case.plan.group[0].expr = Expr::Key;
            shards = 0;
        } else if case.partitions.len() == 1 {
            shards = 0;
        }
        let mut world = World::new(&case, shards, &sizes);
        for step in &steps {
            world.step(step);
        }
        let stats = world.run_to_the_end();
        check(&world, &case, stats)?;
        // And again from the changelogs, and what the zombies still have.
        for place in &mut world.places {
            place.task = None;
        }
        for at in 0..world.places.len() {
            world.revive(at);
        }
        for batch in world.old.concat() {
            world.publish(&batch);
        }
        let stats = world.run_to_the_end();
        check(&world, &case, stats)?;
    }

    #[test]
    fn damaged_changelogs_are_refused_or_harmless(
        mut case in cases(),
        steps in steps(),
        at: prop::sample::Index,
        bit in 0_u8..8,
        cut: bool,
    ) {
        case.plan.stages = Stages::Merged;
        let shards = u32::from(case.partitions.len() > 1);
        let mut world = World::new(&case, shards, &[3]);
        for step in &steps {
            world.step(step);
        }
        world.run_to_the_end();
        for place in &world.places {
            let mut replay = TaskReplay::new(place.task.as_ref().unwrap().spec().clone()).unwrap();
            let damaged = at.index(place.changelog.len());
            for (number, (offset, value)) in place.changelog.iter().enumerate() {
                let mut value = value.clone();
                if number == damaged {
                    let byte = at.index(value.len());
                    if cut { value.truncate(byte) } else { value[byte] ^= 1 << bit }
                }
                if replay.apply(&value, Offset::new(*offset)).is_err() {
                    break;
                }
            }
            let _unimportant = replay.finish();
        }
    }
}
