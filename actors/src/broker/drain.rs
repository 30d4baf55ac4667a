//! The end in order: refuse, answer, flush, close, join.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::Running;
use crate::{
    group_coordinator::GroupCoordinatorHandle,
    handles::DrainReport,
    metadata::MetadataHandle,
    node::{NodeContext, Phase},
    partition::{Drain, PartitionStatus},
    streams::StreamTasks,
};

/// Refuses new work from now on and lets long polls go.
pub(crate) fn begin_drain(node: &NodeContext) {
    if node.enter(Phase::Draining) {
        for slot in node.table.slots() {
            slot.wake_waiting();
        }
    }
}

/// Shuts down what [`begin_drain`] has closed the door of.
pub(crate) async fn drain(
    node: &Arc<NodeContext>,
    metadata: &MetadataHandle,
    groups: &GroupCoordinatorHandle,
    streams: &StreamTasks,
    running: Running,
    patience: Duration,
) -> DrainReport {
    let deadline = Instant::now() + patience;
    let mut unfinished = Vec::new();
    within(deadline, "streams", streams.quiesce(), &mut unfinished).await;
    within(deadline, "group coordinator", groups.quiesce(), &mut unfinished).await;
    close_partitions(node, deadline, &mut unfinished).await;
    let mut removals = node.removals.subscribe();
    let removed = async { removals.wait_for(|count| *count == 0).await.map(drop).unwrap_or_default() };
    within(deadline, "removal of deleted topics", removed, &mut unfinished).await;
    within(deadline, "metadata", metadata.close(), &mut unfinished).await;
    let stopped = running.stop(node, unfinished.is_empty());
    within(deadline, "threads", async { stopped.await.unwrap_or_default() }, &mut unfinished).await;
    for name in &unfinished {
        tracing::warn!(name, "had not finished when the drain's deadline came");
    }
    DrainReport { unfinished }
}

async fn within(deadline: Instant, name: &str, step: impl Future<Output = ()>, unfinished: &mut Vec<String>) {
    if tokio::time::timeout_at(deadline, step).await.is_err() {
        unfinished.push(name.to_owned());
    }
}

/// All at once: each flushes on the pool of flushers and closes on the pool of workers.
async fn close_partitions(node: &NodeContext, deadline: Instant, unfinished: &mut Vec<String>) {
    let mut closing = Vec::new();
    for slot in node.table.slots() {
        let (closed, done) = oneshot::channel();
        let name = format!("partition {}", slot.identity.topic_partition());
        if slot.post(Drain { closed }).is_ok() {
            closing.push((name, done));
        } else if slot.view().status != PartitionStatus::Closed {
            // It had died and was about to be started again.
            unfinished.push(name);
        }
    }
    for (name, done) in closing {
        if !matches!(tokio::time::timeout_at(deadline, done).await, Ok(Ok(true))) {
            unfinished.push(name);
        }
    }
}
