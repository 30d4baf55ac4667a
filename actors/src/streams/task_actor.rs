//! The actor that owns a task: it orders messages, and calls the task. What has to be waited for is done by its driver,
//! which ends with it.

use std::{sync::Arc, time::Instant};

use actix::{Actor, ActorContext, Context, Handler};
use pubg1_metrics::{ActorKind, StreamOutcome, StreamTaskGauges};
use pubg1_model::{
    Offset,
    streams::{
        engine::Stats,
        task::{CommitToAppend, OutputTarget, Task, TaskError, TaskTime},
    },
};
use tokio::sync::oneshot;

use super::{
    cell::TaskCell,
    describe::TaskReport,
    drive::drive,
    messages::{
        Begin, CaughtUp, Committed, Describe, DriverEnded, End, Feed, Forget, Idle, Made, MakeCommit, NextStep,
        OwnTime, Published, ReadOpen, ReadWindows, Restored, Resumed, SkipTo, Step,
    },
    watch::Watcher,
    windows::{OpenParts, TaskRows},
};
use crate::supervision::DeathGuard;

/// Readers that wait for a commit, at most.
const READERS_MAX: usize = 256;

/// A reader whose answer is ready, and is given when everything in it is committed.
enum Reader {
    Rows(oneshot::Sender<TaskRows>, TaskRows),
    Open(oneshot::Sender<OpenParts>, OpenParts),
}

pub(super) struct StreamWindowActor {
    cell: Arc<TaskCell>,
    task: Option<Box<Task>>,
    /// It has read all there was, up to here.
    caught_up_at: Option<Offset>,
    was_caught_up: bool,
    /// What was counted already.
    counted: (Stats, u64),
    rows: u64,
    commits: u64,
    /// The commit that each waits for.
    readers: Vec<(u64, Reader)>,
    /// Readers that wait for the task to come as far as they have seen elsewhere.
    behind: Vec<(Offset, ReadWindows)>,
    _driver: Watcher,
    guard: DeathGuard,
}

impl StreamWindowActor {
    /// On the arbiter that it will live on.
    pub(super) fn new(cell: Arc<TaskCell>, guard: DeathGuard, ctx: &Context<Self>) -> Self {
        let address = actix::AsyncContext::address(ctx);
        cell.set_address(Some(address.clone()));
        let driver = Watcher(actix_rt::spawn(drive(Arc::clone(&cell), address)));
        Self {
            cell,
            task: None,
            caught_up_at: None,
            was_caught_up: false,
            counted: (Stats::default(), 0),
            rows: 0,
            commits: 0,
            readers: Vec::new(),
            behind: Vec::new(),
            _driver: driver,
            guard,
        }
    }

    fn now_ms(&self) -> i64 {
        self.cell.now_ms()
    }

    /// Whether no record is known that the task has not read.
    fn is_caught_up(&self, task: &Task) -> bool {
        self.caught_up_at.is_some_and(|at| task.position() >= at.max(self.cell.end()))
    }

    fn own_time(&self, task: &Task) -> Option<TaskTime> {
        task.time(self.now_ms(), self.is_caught_up(task))
    }

    /// Where the task stands, for everybody.
    fn publish(&mut self) {
        let Some(task) = &self.task else { return self.cell.set_memory(0) };
        let status = task.status();
        self.cell.set_memory(bytes(status.memory_bytes));
        let (before, skipped_before) = self.counted;
        let now = status.stats;
        let grown = |outcome, now: u64, before: u64| {
            self.cell.series.records(outcome).inc_by(now.saturating_sub(before));
        };
        grown(StreamOutcome::Accepted, now.accepted, before.accepted);
        grown(StreamOutcome::Filtered, now.filtered, before.filtered);
        grown(StreamOutcome::Late, now.late, before.late);
        grown(StreamOutcome::Future, now.future, before.future);
        grown(StreamOutcome::Malformed, now.malformed, before.malformed);
        grown(StreamOutcome::NoTime, now.no_time, before.no_time);
        grown(StreamOutcome::Skipped, status.skipped, skipped_before);
        let now_ms = self.now_ms();
        let is_idle = self.is_idle(task);
        let lag_ms = status.watermark_ms.filter(|_| !status.is_finished).map(|at| now_ms.saturating_sub(at).max(0));
        self.cell.series.set(StreamTaskGauges {
            watermark_lag: lag_ms.and_then(|ms| u64::try_from(ms).ok()).map(std::time::Duration::from_millis),
            input_lag: self.cell.end().get().saturating_sub(status.position.get()),
            open_windows: bytes(status.open.windows + status.open.waiting),
            groups: bytes(status.open.groups),
            state_bytes: bytes(status.memory_bytes),
            is_idle,
        });
        self.counted = (now, status.skipped);
    }

    fn is_idle(&self, task: &Task) -> bool {
        let timeout = task.spec().plan.time.idle_timeout_ms;
        timeout.is_some_and(|timeout| self.own_time(task).is_some_and(|time| time.is_idle(timeout)))
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Task, i64) -> Result<T, TaskError>) -> Result<T, TaskError> {
        let now_ms = self.now_ms();
        let task = self.task.as_mut().ok_or(TaskError::NotBegun)?;
        let done = work(task, now_ms);
        self.publish();
        self.answer_those_behind();
        self.cell.work.notify_one();
        done
    }

    fn answer_those_behind(&mut self) {
        let Some(position) = self.task.as_ref().map(|task| task.position()) else { return };
        let ready: Vec<_> = self.behind.extract_if(.., |(wanted, _)| *wanted <= position).collect();
        ready.into_iter().for_each(|(_, read)| self.read_windows(read));
    }

    fn next_step(&mut self) -> Result<Step, TaskError> {
        self.with(|task, now_ms| {
            if task.is_at_end() && !task.is_finished() {
                task.finish(now_ms)?;
            }
            if task.is_update_due(now_ms) {
                task.emit_updates(now_ms)?;
            }
            Ok(Step {
                position: task.position(),
                can_feed: task.can_feed(),
                is_finished: task.is_finished(),
                over_memory: None,
            })
        })
        .map(|step| Step { over_memory: self.cell.over_memory(), ..step })
    }

    fn feed(&mut self, feed: &Feed) -> Result<usize, TaskError> {
        self.cell.set_end(feed.end);
        let fed = self.with(|task, now_ms| Ok(task.feed(&feed.batches, now_ms)?.bytes));
        if self.task.as_ref().is_some_and(|task| feed.end > task.position()) {
            self.caught_up_at = None;
        }
        fed
    }

    fn caught_up(&mut self, at: Offset) {
        self.cell.set_end(at);
        self.caught_up_at = Some(at);
        self.was_caught_up = true;
        self.publish();
    }

    fn idle(&mut self, mut all: Vec<Option<TaskTime>>) -> Result<bool, TaskError> {
        let Some(task) = &self.task else { return Ok(false) };
        if let Some(own) = self.own_time(task) {
            match usize::try_from(own.partition).ok().and_then(|at| all.get_mut(at)) {
                Some(place) => *place = Some(own),
                None => all = vec![Some(own)],
            }
        }
        let Some(to) = task.idle_target(&all) else { return Ok(false) };
        self.with(|task, now_ms| task.advance(to, now_ms)).map(|()| true)
    }

    fn make_commit(&mut self, make: &MakeCommit) -> Result<Made, TaskError> {
        let now_ms = self.now_ms();
        let wanted = make.now || !self.readers.is_empty();
        let Some(task) = &mut self.task else { return Ok(Made::Nothing { is_clean: true }) };
        if !task.has_begun() || !(task.is_commit_due(now_ms) || wanted && !task.is_clean()) {
            return Ok(Made::Nothing { is_clean: task.is_clean() });
        }
        let commit = task.commit(make.epoch, now_ms)?;
        self.publish();
        self.cell.room.notify_one();
        self.count(&commit);
        Ok(Made::Commit(commit))
    }

    fn committed(&mut self, number: u64) {
        let now_ms = self.now_ms();
        if let Some(task) = &mut self.task {
            task.committed(number);
        }
        self.commits += 1;
        self.cell.set_committed(now_ms);
        self.answer_readers(number, false);
    }

    /// Gives the answers that wait for a commit up to this one, or for nothing.
    fn answer_readers(&mut self, number: u64, is_published: bool) {
        let all = self.task.as_ref().is_some_and(|task| task.is_clean());
        let is_ready =
            |wanted: u64, reader: &Reader| wanted <= number && (is_published || !reader.waits_for_publication());
        let ready: Vec<_> = self.readers.extract_if(.., |(wanted, reader)| all || is_ready(*wanted, reader)).collect();
        ready.into_iter().for_each(|(_, reader)| reader.answer());
    }

    fn describe(&self) -> Option<TaskReport> {
        let task = self.task.as_ref()?;
        let (status, mut told) = (task.status(), self.cell.outline());
        told.next_offset = Some(status.position);
        told.end_offset = Some(status.end.unwrap_or(self.cell.end_now()).max(status.position));
        told.watermark_ms = status.watermark_ms.filter(|_| !status.is_finished);
        told.is_idle = self.is_idle(task);
        told.outcomes = crate::handles::StreamOutcomes::of(status.stats, status.skipped);
        told.open_windows = bytes(status.open.windows + status.open.waiting);
        told.groups = bytes(status.open.groups);
        told.memory_bytes = bytes(status.memory_bytes);
        (told.commits, told.rows) = (self.commits, self.rows);
        if status.is_finished && task.is_clean() {
            told.state = crate::handles::StreamTaskState::Finished;
        }
        Some(TaskReport { was_caught_up: self.was_caught_up, task: told })
    }

    /// Gives an answer when everything that it is made from is committed.
    fn answer_reader(&mut self, latest: bool, reader: Reader) {
        let Some(task) = &self.task else { return };
        if latest || task.is_clean() {
            return reader.answer();
        }
        self.readers.retain(|(_, reader)| !reader.is_gone());
        if self.readers.len() < READERS_MAX {
            // What is in memory now is in the next commit that is made, if not in the last one.
            self.readers.push((task.number() + 1, reader));
            self.cell.work.notify_one();
        }
    }

    fn read_windows(&mut self, read: ReadWindows) {
        let epoch = self.cell.epoch;
        let Some(task) = &mut self.task else { return };
        if task.position() < read.past {
            self.behind.retain(|(_, read)| !read.reply.is_closed());
            if self.behind.len() < READERS_MAX {
                self.behind.push((read.past, read));
            }
            return;
        }
        let ReadWindows { query, open, reply, .. } = read;
        let latest = query.latest;
        let rows = match TaskRows::read(task, &query, &open, epoch) {
            Ok(rows) => rows,
            Err(error) => return tracing::warn!(%error, "windows cannot be read"),
        };
        self.answer_reader(latest, Reader::Rows(reply, rows));
    }

    fn read_open(&mut self, read: ReadOpen) {
        let ReadOpen { query, reply } = read;
        let epoch = self.cell.epoch;
        let Some(task) = &mut self.task else { return };
        let parts = OpenParts::read(task, &query, epoch);
        self.answer_reader(false, Reader::Open(reply, parts));
    }

    /// Counts what a commit gives out.
    fn count(&mut self, commit: &CommitToAppend) {
        let rows = commit.outputs.iter().filter(|output| output.target == OutputTarget::Output);
        let records = rows.filter_map(|output| pubg1_model::record_batch::BatchHeader::parse(&output.bytes).ok());
        let rows: u64 = records.map(|header| u64::try_from(header.record_count).unwrap_or(0)).sum();
        self.rows += rows;
        self.cell.series.rows.inc_by(rows);
        self.cell.series.corrections.inc_by(commit.corrections);
    }
}

impl Reader {
    /// What a partition has handed on is not among what it has open: the second stage must be able to see it.
    const fn waits_for_publication(&self) -> bool {
        matches!(self, Self::Open(..))
    }

    /// Whether nobody waits for the answer any more.
    fn is_gone(&self) -> bool {
        match self {
            Self::Rows(reply, _) => reply.is_closed(),
            Self::Open(reply, _) => reply.is_closed(),
        }
    }

    fn answer(self) {
        // Whoever asked may have gone.
        match self {
            Self::Rows(reply, rows) => reply.send(rows).map_err(drop).unwrap_or_default(),
            Self::Open(reply, parts) => reply.send(parts).map_err(drop).unwrap_or_default(),
        }
    }
}

pub(super) fn bytes(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Actor for StreamWindowActor {
    type Context = Context<Self>;
}

macro_rules! handlers {
    ($($message:ty => $result:ty, |$this:ident, $value:pat_param, $ctx:pat_param| $work:expr;)+) => {$(
        impl Handler<$message> for StreamWindowActor {
            type Result = $result;

            fn handle(&mut self, message: $message, ctx: &mut Context<Self>) -> $result {
                let (started, $value, $ctx) = (Instant::now(), message, ctx);
                let done = {
                    let $this = &mut *self;
                    $work
                };
                let metrics = &self.cell.services.node.metrics;
                metrics.actor(ActorKind::StreamTask).handled(started.elapsed());
                done
            }
        }
    )+};
}

handlers! {
    Restored => (), |this, Restored { task }, _| {
        // The metrics count from here on, not what was read before.
        this.counted = (task.status().stats, task.status().skipped);
        this.task = Some(task);
        this.caught_up_at = None;
        this.publish();
    };
    Forget => (), |this, Forget, _| {
        this.task = None;
        this.readers.clear();
        this.behind.clear();
        this.publish();
    };
    Begin => (), |this, Begin { producer_id, start, end }, _| {
        let now_ms = this.now_ms();
        if let Some(task) = &mut this.task {
            task.begin(producer_id, start, end, now_ms);
        }
        this.cell.work.notify_one();
    };
    NextStep => Result<Step, TaskError>, |this, NextStep, _| this.next_step();
    Feed => Result<usize, TaskError>, |this, feed, _| this.feed(&feed);
    CaughtUp => (), |this, CaughtUp { at }, _| this.caught_up(at);
    Resumed => (), |this, Resumed, _| this.caught_up_at = None;
    SkipTo => (), |this, SkipTo { to }, _| {
        let skip = |task: &mut Task, now_ms| { task.skip_to(to, now_ms); Ok(()) };
        this.with(skip).unwrap_or_default();
    };
    OwnTime => Option<TaskTime>, |this, OwnTime, _| this.task.as_ref().and_then(|task| this.own_time(task));
    Idle => Result<bool, TaskError>, |this, Idle { all }, _| this.idle(all);
    MakeCommit => Result<Made, TaskError>, |this, make, _| this.make_commit(&make);
    Committed => (), |this, Committed { number }, _| this.committed(number);
    Published => (), |this, Published { number }, _| {
        if let Some(task) = &mut this.task {
            task.published(number);
        }
        this.answer_readers(number, true);
        this.cell.work.notify_one();
    };
    Describe => Option<TaskReport>, |this, Describe, _| this.describe();
    ReadWindows => (), |this, read, _| this.read_windows(read);
    ReadOpen => (), |this, read, _| this.read_open(read);
    // Without the guard's word this is a death.
    DriverEnded => (), |_this, DriverEnded, ctx| ctx.stop();
    End => (), |this, End, ctx| {
        this.guard.finish();
        ctx.stop();
    };
}

#[cfg(any(test, feature = "testing"))]
impl Handler<super::messages::Panic> for StreamWindowActor {
    type Result = ();

    #[allow(clippy::panic, reason = "a fault that is injected on purpose")]
    fn handle(&mut self, _: super::messages::Panic, _: &mut Context<Self>) {
        panic!("a test asked for this panic");
    }
}
