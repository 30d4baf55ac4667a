//! How far the tasks of other partitions are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use pubg1_model::{
    BrokerId, PartitionId, TopicId,
    streams::task::{TaskTime, is_ahead as is_ahead_of},
};
use pubg1_transport::Payload;

use super::{StreamTasks, cell::TaskCell, drive::Halt, messages::OwnTime, wire::kind};

/// How long another broker may take to tell.
const TIMES_TIMEOUT: Duration = Duration::from_millis(500);

/// The times of the tasks of a changelog that run here, as far as they may be told: a leader that was cut off does not
/// know what its successor has read.
pub(super) async fn times_here(tasks: &StreamTasks, changelog: TopicId) -> Vec<TaskTime> {
    let cells = tasks.of_changelog(changelog);
    let asked = cells.iter().map(|cell| async {
        let time = cell.ask(OwnTime).await.flatten()?;
        cell.slot.leader_view().is_ok().then_some(time)
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// The times of all partitions of the input, each where it is known.
pub(super) async fn times(cell: &TaskCell) -> Vec<Option<TaskTime>> {
    let services = &cell.services;
    let (changelog, inputs) = (cell.plan.changelog.0, cell.spec.inputs);
    let image = services.metadata.image();
    let mut leaders: BTreeMap<BrokerId, ()> = BTreeMap::new();
    for partition in (0..inputs).map(PartitionId) {
        let placed = image.partition_by_id(changelog, partition);
        leaders.extend(placed.and_then(|placed| placed.leader).map(|leader| (leader, ())));
    }
    let asked = leaders.into_keys().map(|leader| async move {
        if leader == services.node.config.broker_id {
            return times_here(&cell.tasks, changelog).await;
        }
        let asked = services.node.rpc.call(leader, kind::TIMES, &changelog, Payload::empty(), TIMES_TIMEOUT).await;
        asked.map(|(times, _): (Vec<TaskTime>, _)| times).unwrap_or_default()
    });
    let mut all = vec![None; usize::try_from(inputs).unwrap_or(0)];
    for time in join_all(asked).await.into_iter().flatten() {
        if let Some(place) = usize::try_from(time.partition).ok().and_then(|at| all.get_mut(at)) {
            *place = Some(time);
        }
    }
    all
}

/// Whether the task is so far ahead of the others that it should not read on.
pub(super) async fn is_ahead(cell: &Arc<TaskCell>) -> Result<bool, Halt> {
    let time = &cell.spec.plan.time;
    let Some(max_skew_ms) = time.max_skew_ms else { return Ok(false) };
    let Some(own) = cell.ask(OwnTime).await.ok_or(Halt::Gone)? else { return Ok(false) };
    let all = times(cell).await;
    Ok(is_ahead_of(own.partition, &all, time.idle_timeout_ms, max_skew_ms))
}
