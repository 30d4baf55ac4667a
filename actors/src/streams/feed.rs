//! What a task reads: records, and the silence between them.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use pubg1_model::{Offset, cluster::PauseReason, streams::document::OnGap, streams::task::TaskKind};
use tokio::time::{Instant, sleep, timeout};

use super::{
    cell::{TaskCell, Wanted},
    drive::Halt,
    messages::{CaughtUp, Feed, Idle, NextStep, OwnTime, Resumed, SkipTo, Step},
    restore::source,
    task_actor::bytes as count,
    times::{is_ahead, times},
};
use crate::{errors::FetchError, handles::PartitionHandle, handles::StreamTaskState, partition::Fetched};

/// How much is read at a time.
const READ_BYTES: usize = 1024 * 1024;
/// How often others are asked how far they are, at most.
const TIMES_INTERVAL: Duration = Duration::from_millis(200);
/// How long a wait for records is, at least and at most: while nothing happens it doubles.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a task waits for room before it looks again.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// The pause before a partition that cannot be read is read again.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// Lets the task read, for as long as it is wanted.
pub(super) async fn feed(cell: &Arc<TaskCell>) -> Result<Infallible, Halt> {
    let input = source(cell)?;
    let mut wait = WAIT_MIN;
    let mut skew_looked_at: Option<Instant> = None;
    loop {
        let wanted = hold(cell).await?;
        let step = next_step(cell).await?;
        if step.is_finished {
            cell.set_state(StreamTaskState::Running);
            return pending().await;
        }
        if !step.can_feed {
            cell.work.notify_one();
            timeout(ROOM_PATIENCE, cell.room.notified()).await.unwrap_or_default();
            continue;
        }
        if may_be_ahead(cell, &mut skew_looked_at) && is_ahead(cell).await? {
            cell.waits("it is further than the other partitions by more than max_skew");
            skew_looked_at = None;
            sleep(TIMES_INTERVAL).await;
            continue;
        }
        match read(cell, &input, step.position).await {
            Ok(fetched) if fetched.is_empty() => {
                cell.set_state(match wanted {
                    Wanted::Run => StreamTaskState::Running,
                    Wanted::Hold => StreamTaskState::Paused,
                });
                cell.ask(CaughtUp { at: fetched.high_watermark }).await.ok_or(Halt::Gone)?;
                wait = if pass_time(cell).await? { WAIT_MIN } else { (2 * wait).min(wait_max(cell)) };
                wait_for_records(cell, &input, step.position, wait, wanted).await;
            }
            Ok(fetched) => {
                cell.set_state(StreamTaskState::Running);
                wait = WAIT_MIN;
                for run in &fetched.runs {
                    if !feed_run(cell, run, fetched.high_watermark).await? {
                        break;
                    }
                }
            }
            Err(FetchError::OffsetOutOfRange { log_start_offset, .. }) if step.position < log_start_offset => {
                pass_gap(cell, step.position, log_start_offset).await?;
            }
            Err(error) => {
                cell.waits(format!("{} cannot be read: {error}", input.topic_partition()));
                sleep(READ_PAUSE).await;
            }
        }
    }
}

/// Waits while the task shall stand still; what it shall do now.
///
/// A second stage never stands still by itself: it comes to rest when it has taken what the first has handed on. What
/// was handed on at the last could not be read otherwise, by those who ask for windows.
async fn hold(cell: &TaskCell) -> Result<Wanted, Halt> {
    let mut wanted = cell.wanted.clone();
    let now = *wanted.borrow_and_update();
    if now == Wanted::Run || matches!(cell.spec.kind, TaskKind::Merge { .. }) {
        return Ok(now);
    }
    cell.set_state(StreamTaskState::Paused);
    cell.work.notify_one();
    wanted.wait_for(|wanted| *wanted == Wanted::Run).await.map_err(|_| Halt::Gone)?;
    // What came meanwhile is not known yet.
    cell.ask(Resumed).await.ok_or(Halt::Gone)?;
    cell.set_state(StreamTaskState::Running);
    Ok(Wanted::Run)
}

async fn next_step(cell: &TaskCell) -> Result<Step, Halt> {
    let step = cell.ask(NextStep).await.ok_or(Halt::Gone)?.map_err(|error| Halt::of(cell, &error))?;
    match step.over_memory {
        None => Ok(step),
        Some(bytes) => {
            let limit = count(cell.spec.plan.memory_max_bytes);
            Err(Halt::Failed(PauseReason::Memory { task: cell.partition(), bytes, limit }))
        }
    }
}

/// Whether the others are to be asked before this one reads on.
fn may_be_ahead(cell: &TaskCell, looked_at: &mut Option<Instant>) -> bool {
    let matters = matches!(cell.spec.kind, TaskKind::First { .. }) && cell.spec.plan.time.max_skew_ms.is_some();
    let is_time = looked_at.is_none_or(|at| at.elapsed() >= TIMES_INTERVAL);
    if matters && is_time {
        *looked_at = Some(Instant::now());
    }
    matters && is_time
}

/// Reads on. When the partition is led here nothing is counted as consumed.
async fn read(cell: &TaskCell, input: &PartitionHandle, from: Offset) -> Result<Fetched, FetchError> {
    let (_, place) = cell.source();
    match cell.services.node.table.find((place.topic_id, place.partition)).filter(|slot| slot.leads()) {
        Some(slot) => match slot.read_internally(from, READ_BYTES) {
            Err(FetchError::NotLeader { .. } | FetchError::NotReady { .. }) => input.read(from, READ_BYTES).await,
            read => read,
        },
        None => input.read(from, READ_BYTES).await,
    }
}

/// Feeds what was read, in bounded steps with others in between; `false`: the task takes no more at present.
async fn feed_run(cell: &TaskCell, run: &Bytes, end: Offset) -> Result<bool, Halt> {
    let mut rest = run.clone();
    while !rest.is_empty() {
        let fed = cell.ask(Feed { batches: rest.clone(), end }).await.ok_or(Halt::Gone)?;
        let done = fed.map_err(|error| Halt::of(cell, &error))?;
        if done == 0 {
            // Full; or what was read are no batches, and is read again.
            tokio::task::yield_now().await;
            return Ok(false);
        }
        rest = rest.slice(done.min(rest.len())..);
        tokio::task::yield_now().await;
    }
    Ok(true)
}

/// Records were deleted before they were read.
async fn pass_gap(cell: &TaskCell, expected: Offset, log_start: Offset) -> Result<(), Halt> {
    let (TaskKind::Whole { .. } | TaskKind::First { .. }) = cell.spec.kind else {
        return Err(Halt::failed(cell, format!("partial results before offset {log_start} were deleted")));
    };
    match cell.plan.document.on_gap {
        OnGap::Skip => cell.ask(SkipTo { to: log_start }).await.ok_or(Halt::Gone),
        OnGap::Fail => {
            let (_, place) = cell.source();
            Err(Halt::Failed(PauseReason::Gap { partition: place.partition, expected, log_start }))
        }
    }
}

/// Silence moves time on. Whether it has.
async fn pass_time(cell: &TaskCell) -> Result<bool, Halt> {
    let Some(timeout_ms) = cell.spec.plan.time.idle_timeout_ms else { return Ok(false) };
    let Some(own) = cell.ask(OwnTime).await.ok_or(Halt::Gone)? else { return Ok(false) };
    if !own.is_idle(timeout_ms) {
        return Ok(false);
    }
    let all = match cell.spec.kind {
        TaskKind::First { .. } => times(cell).await,
        TaskKind::Whole { .. } | TaskKind::Merge { .. } => Vec::new(),
    };
    cell.ask(Idle { all }).await.ok_or(Halt::Gone)?.map_err(|error| Halt::of(cell, &error))
}

/// How long a wait may be: rows may be due before.
fn wait_max(cell: &TaskCell) -> Duration {
    use pubg1_model::streams::plan::Emit;
    match cell.spec.plan.emit {
        Emit::Final => WAIT_MAX,
        Emit::Updates { interval_ms } | Emit::FinalAndUpdates { interval_ms } => {
            Duration::from_millis(u64::try_from(interval_ms).unwrap_or(0)).clamp(WAIT_MIN, WAIT_MAX)
        }
    }
}

/// Waits until there is something to read, or something else to do than what was `seen`.
async fn wait_for_records(cell: &TaskCell, input: &PartitionHandle, position: Offset, wait: Duration, seen: Wanted) {
    let mut wanted = cell.wanted.clone();
    let deadline = Instant::now() + wait;
    tokio::select! {
        view = input.wait_above(position, deadline) => match view {
            Ok(_) => {}
            Err(error) => {
                cell.waits(format!("{} cannot be read: {error}", input.topic_partition()));
                sleep(READ_PAUSE).await;
            }
        },
        // By its value: the copy of a receiver takes all that its original has not looked at for new. The sender lives as
        // long as the task is kept here.
        changed = wanted.wait_for(|wanted| *wanted != seen) => changed.map(drop).unwrap_or_default(),
    }
}
