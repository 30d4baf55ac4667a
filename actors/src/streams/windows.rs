//! Windows for readers, on any broker: each task is asked where it runs.
//!
//! Where there is a second stage, its shards know what was handed on to them; what partitions have open comes from their
//! own tasks, and is added. An answer is given when everything that it is made from is committed, unless the reader wants
//! the latest.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use pubg1_model::{
    LeaderEpoch, Offset, PartitionId, StreamName,
    cluster::StreamImage,
    streams::{
        engine::Row,
        task::{Task, TaskError, TaskKind},
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{
    StreamTasks,
    declare::find,
    messages::{ReadOpen, ReadWindows},
    wire::{ask_open, ask_windows},
};
use crate::{
    broker,
    errors::StreamError,
    handles::{WindowRow, WindowsAnswer, WindowsAsOf, WindowsQuery},
    replica_states::PartitionKey,
    rpc::Services,
};

/// How long a reader waits for a task that does not answer, or does not run at present.
const PATIENCE: Duration = Duration::from_secs(3);
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a task may take to commit what it has told.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// Which windows a task shall tell of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskWindowsQuery {
    pub(super) key: Option<Vec<u8>>,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    pub(super) closed: bool,
    pub(super) open: bool,
    pub(super) latest: bool,
    pub(super) limit: u64,
}

/// Which open windows a first stage shall tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenQuery {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    /// For how many shards; 0: only how far it is.
    pub(super) shards: u32,
}

/// What a task tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskRows {
    pub(super) rows: Vec<WindowRow>,
    pub(super) as_of: Option<WindowsAsOf>,
}

/// What a first stage has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenParts {
    /// For each shard.
    pub(super) parts: Vec<Vec<u8>>,
    pub(super) as_of: Option<WindowsAsOf>,
}

fn as_of(task: &Task, epoch: LeaderEpoch) -> Option<WindowsAsOf> {
    let (TaskKind::Whole { partition } | TaskKind::First { partition }) = task.spec().kind else { return None };
    let status = task.status();
    let watermark_ms = status.watermark_ms.filter(|_| !status.is_finished);
    Some(WindowsAsOf { partition, offset: status.position, watermark_ms, epoch })
}

impl TaskRows {
    pub(super) fn read(
        task: &mut Task,
        query: &TaskWindowsQuery,
        open: &[(u32, Vec<u8>)],
        epoch: LeaderEpoch,
    ) -> Result<Self, TaskError> {
        let TaskWindowsQuery { from_ms, to_ms, closed, .. } = *query;
        let rows = if query.open && matches!(task.spec().kind, TaskKind::Merge { .. }) {
            task.read_windows_with(from_ms, to_ms, closed, open)?
        } else {
            task.read_windows(from_ms, to_ms, closed, query.open)
        };
        let plan = Arc::clone(&task.spec().plan);
        let row = |row: &Row| WindowRow {
            key: row.key(),
            json: row.to_json(&plan),
            window_start_ms: row.window_start_ms,
            window_end_ms: row.window_end_ms,
            is_final: row.is_final,
        };
        let wanted = |row: &&Row| query.key.is_none() || row.key() == query.key;
        let mut rows: Vec<WindowRow> = rows.iter().filter(wanted).map(row).collect();
        sort(&mut rows);
        rows.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        Ok(Self { rows, as_of: as_of(task, epoch) })
    }
}

fn sort(rows: &mut [WindowRow]) {
    rows.sort_by(|a, b| {
        let order = |row: &WindowRow| (row.window_start_ms, row.window_end_ms);
        order(a).cmp(&order(b)).then_with(|| a.key.cmp(&b.key))
    });
}

impl OpenParts {
    pub(super) fn read(task: &mut Task, query: &OpenQuery, epoch: LeaderEpoch) -> Self {
        let parts = (0..query.shards).map(|shard| task.open_partials(shard, query.from_ms, query.to_ms)).collect();
        Self { parts, as_of: as_of(task, epoch) }
    }
}

/// The windows of a task that runs here; `None`: it does not, or not as the one that counts.
pub(super) async fn windows_here(
    tasks: &StreamTasks,
    key: PartitionKey,
    query: TaskWindowsQuery,
    open: Vec<(u32, Vec<u8>)>,
    past: Offset,
) -> Option<TaskRows> {
    let (reply, rows) = oneshot::channel();
    let slot = {
        let cell = tasks.cell(key)?;
        cell.ask(ReadWindows { query, open, past, reply }).await?;
        Arc::clone(&cell.slot)
    };
    let rows = timeout(COMMIT_PATIENCE, rows).await.ok()?.ok()?;
    // Looked at afterwards: the answer is not older than this.
    slot.leader_view().ok().map(|_| rows)
}

/// What a first stage that runs here has open.
pub(super) async fn open_here(tasks: &StreamTasks, key: PartitionKey, query: OpenQuery) -> Option<OpenParts> {
    let (reply, parts) = oneshot::channel();
    let slot = {
        let cell = tasks.cell(key)?;
        cell.ask(ReadOpen { query, reply }).await?;
        Arc::clone(&cell.slot)
    };
    let parts = timeout(COMMIT_PATIENCE, parts).await.ok()?.ok()?;
    slot.leader_view().ok().map(|_| parts)
}

/// Asks until there is an answer, for a while.
async fn patiently<T>(ask: impl AsyncFn() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            None if Instant::now() < until => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

/// The windows of a stream.
pub(crate) async fn windows(
    services: &Arc<Services>,
    name: &StreamName,
    query: WindowsQuery,
) -> Result<WindowsAnswer, StreamError> {
    let (_, stream) = find(services, name)?;
    let WindowsQuery { key, from_ms, to_ms, closed, open, latest, limit } = query;
    let of_task = TaskWindowsQuery {
        key,
        from_ms,
        to_ms,
        closed,
        open,
        latest,
        // One more says that there are more.
        limit: u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1),
    };
    let mut answer = if stream.shards == 0 {
        of_partitions(services, &stream, &of_task).await
    } else {
        of_shards(services, &stream, &of_task).await
    };
    sort(&mut answer.rows);
    answer.is_cut = answer.rows.len() > limit;
    answer.rows.truncate(limit);
    Ok(answer)
}

/// Where the partial results for a shard end.
async fn handed_on(services: &Arc<Services>, stream: &StreamImage, shard: PartitionId) -> Option<Offset> {
    let image = services.metadata.image();
    let topic = image.topic_by_id(stream.partials?)?;
    let partials = broker::lookup(services, &topic.name, shard).ok()?;
    partials.leader_view().await.ok().map(|view| view.high_watermark)
}

/// Every partition by itself.
async fn of_partitions(services: &Services, stream: &StreamImage, query: &TaskWindowsQuery) -> WindowsAnswer {
    let asked = (0..stream.partitions).map(|partition| async move {
        let key = (stream.changelog, PartitionId(partition));
        (partition, patiently(async || ask_windows(services, key, query, &[], Offset::ZERO).await).await)
    });
    let mut answer = WindowsAnswer::default();
    for (partition, told) in join_all(asked).await {
        match told {
            Some(TaskRows { rows, as_of }) => {
                answer.rows.extend(rows);
                answer.as_of.extend(as_of);
            }
            None => answer.missing.push(partition),
        }
    }
    answer
}

/// The shards of the second stage, with what the partitions have open.
async fn of_shards(services: &Arc<Services>, stream: &StreamImage, query: &TaskWindowsQuery) -> WindowsAnswer {
    let shards = if query.open { stream.shards } else { 0 };
    let open = OpenQuery { from_ms: query.from_ms, to_ms: query.to_ms, shards };
    let asked = (0..stream.partitions).map(|partition| async move {
        let key = (stream.changelog, PartitionId(partition));
        (partition, patiently(async || ask_open(services, key, open).await).await)
    });
    let mut answer = WindowsAnswer::default();
    let mut parts: Vec<Vec<(u32, Vec<u8>)>> = vec![Vec::new(); usize::try_from(stream.shards).unwrap_or(0)];
    for (partition, told) in join_all(asked).await {
        let Some(told) = told else {
            answer.missing.push(partition);
            continue;
        };
        answer.as_of.extend(told.as_of);
        for (shard, part) in parts.iter_mut().zip(told.parts) {
            shard.push((partition, part));
        }
    }
    let asked = (0..stream.shards).zip(&parts).map(|(shard, parts)| async move {
        let key = (stream.changelog, PartitionId(stream.partitions + shard));
        // What partitions have handed on by now is not among what they have open.
        let past = handed_on(services, stream, PartitionId(shard)).await?;
        patiently(async || ask_windows(services, key, query, parts, past).await).await
    });
    for told in join_all(asked).await {
        match told {
            Some(TaskRows { rows, .. }) => answer.rows.extend(rows),
            // Groups of all partitions are in it.
            None => answer.missing = (0..stream.partitions).collect(),
        }
    }
    answer
}
