//! Follows a partition of a changelog that is kept here: each time that it begins to be led here its task is started, and
//! ended with the leadership.

use std::{future::pending, sync::Arc, time::Duration};

use actix_rt::task::JoinHandle;
use pubg1_metrics::ActorKind;
use pubg1_model::{
    LeaderEpoch, PartitionId, TopicId,
    cluster::{ClusterImage, PauseReason},
    streams::task::{TaskKind, TaskSpec},
    topic::TopicConfig,
};
use tokio::{
    sync::{Mutex, oneshot, watch},
    time::{Instant, sleep},
};

use super::{
    StreamTasks,
    cell::{StreamPlan, TaskCell, TaskStart, Wanted},
    drive::pause_stream,
    messages::End,
    task_actor::StreamWindowActor,
};
use crate::{
    arbiters::Place,
    partition::{PartitionSlot, PartitionStatus},
    replica_states::PartitionKey,
    rpc::Services,
    supervision::{DeathGuard, Exit, RestartHistory, jitter},
};

/// How long a task that dies again and again rests, unless its stream is paused for that.
const REST: Duration = Duration::from_secs(30);

/// Work that ends with this.
pub(super) struct Watcher(pub(super) JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A partition of a changelog.
pub(super) struct Watched {
    pub(super) services: Arc<Services>,
    pub(super) tasks: StreamTasks,
    pub(super) plan: Arc<StreamPlan>,
    pub(super) partition: PartitionId,
    pub(super) wanted: watch::Receiver<Wanted>,
    /// Where the task runs.
    pub(super) place: Place,
    /// Held by each life of the task.
    pub(super) life: Arc<Mutex<()>>,
}

impl Watched {
    fn key(&self) -> PartitionKey {
        (self.plan.changelog.0, self.partition)
    }

    /// As its topics are at present.
    fn spec(&self) -> Option<TaskSpec> {
        let image = self.services.metadata.image();
        let StreamPlan { inputs, shards, document, output, late, .. } = &*self.plan;
        Some(TaskSpec {
            kind: TaskKind::of(self.partition.0, *inputs, *shards)?,
            plan: Arc::new(document.plan.clone()),
            inputs: *inputs,
            shards: *shards,
            output_partitions: output.2,
            output_bytes_max: bytes_max(&image, output.0),
            late_partitions: late.2,
            late_bytes_max: bytes_max(&image, late.0),
        })
    }
}

/// The most bytes of a batch that a topic takes.
fn bytes_max(image: &ClusterImage, topic: TopicId) -> usize {
    let known = image.topic_by_id(topic).map(|topic| topic.config.max_message_bytes);
    let bytes = known.unwrap_or_else(|| TopicConfig::default().max_message_bytes);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Follows the partition, for as long as it is kept here.
pub(super) async fn watch_task(watched: Watched) {
    let table = &watched.services.node.table;
    let (id, name) = &watched.plan.changelog;
    loop {
        let slot = table.placed(name, watched.partition).await;
        if slot.identity.topic_id != *id {
            // One of that name that is on its way out.
            table.replaced(&slot).await;
            continue;
        }
        tokio::select! {
            () = follow(&watched, &slot) => return,
            () = table.replaced(&slot) => {}
        }
    }
}

async fn follow(watched: &Watched, slot: &Arc<PartitionSlot>) {
    let mut views = slot.published.subscribe();
    loop {
        let leads = views.wait_for(|published| published.view.status == PartitionStatus::Leader);
        let Ok(epoch) = leads.await.map(|published| published.view.leader_epoch) else { return };
        let mut ends = views.clone();
        let ended = ends.wait_for(|published| {
            published.view.status != PartitionStatus::Leader || published.view.leader_epoch != epoch
        });
        let runs = async {
            run(watched, slot, epoch).await;
            // It has ended by itself, and does so once an epoch.
            pending::<()>().await;
        };
        tokio::select! {
            ended = ended => if ended.is_err() { return },
            () = runs => {}
        }
    }
}

/// A life of a task. It ends with this.
struct Life {
    key: PartitionKey,
    cell: Arc<TaskCell>,
}

impl Life {
    fn start(watched: &Watched, start: TaskStart) -> (Self, oneshot::Receiver<Exit>) {
        let cell = Arc::new(TaskCell::new(start));
        let (guard, exit) = DeathGuard::new();
        let for_actor = Arc::clone(&cell);
        let address = watched.place.start(move |ctx| StreamWindowActor::new(for_actor, guard, ctx));
        cell.set_address(Some(address));
        watched.tasks.insert(watched.key(), Arc::clone(&cell));
        (Self { key: watched.key(), cell }, exit)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.cell.tasks.remove(self.key, &self.cell);
        if let Some(address) = self.cell.address() {
            #[expect(clippy::disallowed_methods, reason = "sent once")]
            address.do_send(End);
        }
        self.cell.set_address(None);
    }
}

/// Runs the task in an epoch: one that panics is started again, from its changelog. One that does so again and again
/// pauses its stream, and the broker goes on.
async fn run(watched: &Watched, slot: &Arc<PartitionSlot>, epoch: LeaderEpoch) {
    let node = &watched.services.node;
    let mut history = RestartHistory::new(node.config.restart);
    loop {
        let Some(spec) = watched.spec() else { return };
        let start = TaskStart {
            services: Arc::clone(&watched.services),
            tasks: watched.tasks.clone(),
            plan: Arc::clone(&watched.plan),
            spec,
            slot: Arc::clone(slot),
            epoch,
            wanted: watched.wanted.clone(),
            life: Arc::clone(&watched.life).lock_owned().await,
        };
        let (life, exit) = Life::start(watched, start);
        if exit.await == Ok(Exit::Finished) {
            return;
        }
        drop(life);
        node.metrics.actor(ActorKind::StreamTask).restarts.inc();
        let (stream, task) = (&watched.plan.name, watched.partition);
        let Some(pause) = history.on_death(Instant::now(), jitter()) else {
            tracing::error!(%stream, %task, "a task of a stream dies again and again");
            let problem = "it panics again and again; the broker's log says where".to_owned();
            pause_stream(&watched.services, &watched.plan, PauseReason::Failed { task, problem }).await;
            // That ends this, unless the stream was paused already, or was told to go on meanwhile.
            sleep(REST).await;
            continue;
        };
        tracing::warn!(%stream, %task, "a task of a stream has died and is read again");
        sleep(pause).await;
    }
}
