//! Follows the replicas of the offsets topic on this broker: each that begins to lead is read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Addr;
use actix_rt::task::JoinHandle;
use pubg1_model::{LeaderEpoch, Offset, PartitionId};

use super::{
    GroupCoordinatorHandle,
    actor::{GroupCoordinatorActor, post},
    messages::{Loaded, Lost},
    offsets_topic,
    outbox::{barrier, encode},
    replay::Replayed,
};
use crate::{
    errors::{AppendError, FetchError},
    partition::{Acks, AppendRequest, PartitionSlot, PartitionStatus},
};

/// How much is read at a time when a partition is replayed.
const REPLAY_READ_BYTES: usize = 1024 * 1024;
/// The pause before a partition that could not be read is read again.
const LOAD_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A task that ends with the actor.
pub(super) struct Watcher(pub(super) JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a partition is not read yet.
#[derive(Debug, thiserror::Error)]
enum NotLoaded {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("an append whose outcome was unknown is not settled: {0}")]
    Unsettled(AppendError),
}

/// Follows the replica of a partition on this broker, for as long as there is one, and the next one after it.
pub(super) async fn watch_partition(
    handle: GroupCoordinatorHandle,
    partition: PartitionId,
    watcher: u64,
    address: Addr<GroupCoordinatorActor>,
) {
    let (topic, node) = (offsets_topic(), Arc::clone(&handle.0.node));
    loop {
        let slot = node.table.placed(&topic, partition).await;
        tokio::select! {
            () = follow(&handle, &slot, watcher, &address) => return,
            () = node.table.replaced(&slot) => post(&address, Lost { partition, reason: None }),
        }
    }
}

/// Loads the partition each time that the replica here begins to lead, and says when it no longer does.
async fn follow(
    handle: &GroupCoordinatorHandle,
    slot: &Arc<PartitionSlot>,
    watcher: u64,
    address: &Addr<GroupCoordinatorActor>,
) {
    let partition = slot.identity.partition;
    let mut views = slot.published.subscribe();
    loop {
        let leads = views.wait_for(|published| published.view.status == PartitionStatus::Leader);
        let Ok(epoch) = leads.await.map(|published| published.view.leader_epoch) else { return };
        let goes_on = |status: &PartitionStatus, now: LeaderEpoch| *status == PartitionStatus::Leader && now == epoch;
        loop {
            let began = Instant::now();
            match load(handle, slot, epoch).await {
                Some(Ok(replayed)) => {
                    handle.0.node.metrics.groups().observe_load(began.elapsed());
                    post(address, Loaded { partition, epoch, watcher, replayed });
                    break;
                }
                Some(Err(error)) => tracing::warn!(%partition, %error, "consumer groups cannot be read"),
                None => return,
            }
            // It has stopped leading, which `Lost` says below; or it may be asked again soon.
            let ended = views.wait_for(|published| !goes_on(&published.view.status, published.view.leader_epoch));
            if tokio::time::timeout(LOAD_RETRY_PAUSE, ended).await.is_ok() {
                break;
            }
        }
        let ended = views.wait_for(|published| !goes_on(&published.view.status, published.view.leader_epoch));
        let Ok(reason) = ended.await.map(|published| match &published.view.status {
            PartitionStatus::Offline(reason) => Some(Arc::clone(reason)),
            _ => None,
        }) else {
            return;
        };
        post(address, Lost { partition, reason });
    }
}

/// Reads a partition; `None`: the broker is being stopped. When a leadership begins all that is from before is
/// committed. Within one, an append of this coordinator, or of the actor before it, may still be under way: then a
/// record is appended behind it and waited for.
async fn load(
    handle: &GroupCoordinatorHandle,
    slot: &Arc<PartitionSlot>,
    epoch: LeaderEpoch,
) -> Option<Result<Replayed, NotLoaded>> {
    let partition = slot.identity.partition;
    if handle.0.unsettled.is_unsettled(partition, epoch) {
        if let Err(error) = settle(handle, slot, epoch).await {
            return Some(Err(NotLoaded::Unsettled(error)));
        }
        handle.0.unsettled.settle(partition, epoch);
    }
    let to_load = Arc::clone(slot);
    let read = handle.0.node.workers.run(move || read(&to_load)).await?;
    Some(read.map_err(NotLoaded::from))
}

async fn settle(handle: &GroupCoordinatorHandle, slot: &PartitionSlot, epoch: LeaderEpoch) -> Result<(), AppendError> {
    let batch = encode(&[barrier()], handle.0.node.config.clock.now_ms());
    let batch = batch.map_err(|error| AppendError::Invalid { reason: error.to_string() })?;
    slot.append_internally(AppendRequest { batches: vec![batch], acks: Acks::All }, epoch).await.map(drop)
}

/// Reads a partition to its high watermark. Blocks.
fn read(slot: &PartitionSlot) -> Result<Replayed, FetchError> {
    let mut replayed = Replayed::default();
    let mut next: Offset = slot.leader_view()?.log_start_offset;
    loop {
        let fetched = slot.read_internally(next, REPLAY_READ_BYTES)?;
        if fetched.is_empty() || fetched.next_offset <= next {
            return Ok(replayed);
        }
        for run in &fetched.runs {
            replayed.replay(run).map_err(|error| FetchError::Storage { reason: error.to_string() })?;
        }
        next = fetched.next_offset;
    }
}
