//! What is there of a task whether its actor lives or not.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use pubg1_metrics::StreamTaskSeries;
use pubg1_model::{
    LeaderEpoch, Offset, PartitionId, StreamId, StreamName, TopicId, TopicName,
    streams::{
        document::StreamDocument,
        task::{TaskKind, TaskSpec},
    },
};
use tokio::sync::{Notify, OwnedMutexGuard, watch};

use super::{StreamTasks, task_actor::StreamWindowActor};
use crate::{
    forward::Place,
    handles::{StreamTask, StreamTaskKind, StreamTaskState},
    partition::PartitionSlot,
    rpc::Services,
};

/// What a generation of a stream is, as its tasks need it.
pub(super) struct StreamPlan {
    pub(super) id: StreamId,
    pub(super) name: StreamName,
    pub(super) generation: u32,
    pub(super) document: StreamDocument,
    pub(super) inputs: u32,
    pub(super) shards: u32,
    pub(super) input: (TopicId, TopicName),
    pub(super) changelog: (TopicId, TopicName),
    pub(super) partials: Option<(TopicId, TopicName)>,
    pub(super) output: (TopicId, TopicName, u32),
    pub(super) late: (TopicId, TopicName, u32),
}

/// What a task shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Read on.
    Run,
    /// Stand still, and tell what it knows.
    Hold,
}

/// Where a task is, in words.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) state: StreamTaskState,
    pub(super) reason: Option<String>,
}

/// A task in one epoch of its changelog.
pub(super) struct TaskCell {
    pub(super) services: Arc<Services>,
    pub(super) tasks: StreamTasks,
    pub(super) plan: Arc<StreamPlan>,
    pub(super) spec: TaskSpec,
    pub(super) slot: Arc<PartitionSlot>,
    pub(super) epoch: LeaderEpoch,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) series: StreamTaskSeries,
    stage: Mutex<Stage>,
    address: RwLock<Option<Addr<StreamWindowActor>>>,
    /// Bytes that the task holds.
    memory: AtomicU64,
    /// Where what it reads ends, as it was last seen.
    end: AtomicU64,
    /// When it committed last, by the wall clock; 0: not yet.
    committed_at_ms: AtomicI64,
    /// Woken when there is room again, and when there is something to commit.
    pub(super) room: Notify,
    pub(super) work: Notify,
    /// The last field: the next life of the task begins when nothing is left of this one.
    _life: OwnedMutexGuard<()>,
}

/// What a task is started with.
pub(super) struct TaskStart {
    pub(super) services: Arc<Services>,
    pub(super) tasks: StreamTasks,
    pub(super) plan: Arc<StreamPlan>,
    pub(super) spec: TaskSpec,
    pub(super) slot: Arc<PartitionSlot>,
    pub(super) epoch: LeaderEpoch,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) life: OwnedMutexGuard<()>,
}

impl TaskCell {
    pub(super) fn new(start: TaskStart) -> Self {
        let TaskStart { services, tasks, plan, spec, slot, epoch, wanted, life } = start;
        let series = services.node.metrics.streams().task(plan.name.as_str(), slot.identity.partition.0);
        Self {
            services,
            tasks,
            plan,
            spec,
            slot,
            epoch,
            wanted,
            series,
            stage: Mutex::new(Stage { state: StreamTaskState::Restoring, reason: None }),
            address: RwLock::new(None),
            memory: AtomicU64::new(0),
            end: AtomicU64::new(0),
            committed_at_ms: AtomicI64::new(0),
            room: Notify::new(),
            work: Notify::new(),
            _life: life,
        }
    }

    pub(super) fn set_address(&self, address: Option<Addr<StreamWindowActor>>) {
        *self.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub(super) fn address(&self) -> Option<Addr<StreamWindowActor>> {
        let address = self.address.read().unwrap_or_else(PoisonError::into_inner);
        address.as_ref().filter(|address| address.connected()).cloned()
    }

    /// Asks the actor; `None`: there is none, or it has died over it.
    pub(super) async fn ask<M>(&self, message: M) -> Option<M::Result>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        StreamWindowActor: Handler<M>,
        actix::Context<StreamWindowActor>: ToEnvelope<StreamWindowActor, M>,
    {
        self.address()?.send(message).await.ok()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn panic(&self) {
        if let Some(address) = self.address() {
            #[expect(clippy::disallowed_methods, reason = "sent by tests")]
            address.do_send(super::messages::Panic);
        }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.services.node.config.clock.now_ms()
    }

    pub(super) fn set_state(&self, state: StreamTaskState) {
        self.set_stage(state, None);
    }

    /// It waits for something.
    pub(super) fn waits(&self, reason: impl Into<String>) {
        self.set_stage(StreamTaskState::Waiting, Some(reason.into()));
    }

    fn set_stage(&self, state: StreamTaskState, reason: Option<String>) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage { state, reason };
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The partition of the changelog.
    pub(super) fn partition(&self) -> PartitionId {
        self.slot.identity.partition
    }

    /// The partition that it reads.
    pub(super) fn source(&self) -> (&TopicName, Place) {
        let ((topic_id, topic), partition) = match (self.spec.kind, &self.plan.partials) {
            (TaskKind::Merge { shard }, Some(partials)) => (partials, shard),
            (TaskKind::Whole { partition } | TaskKind::First { partition }, _)
            | (TaskKind::Merge { shard: partition }, None) => (&self.plan.input, partition),
        };
        (topic, Place { topic_id: *topic_id, partition: PartitionId(partition) })
    }

    pub(super) fn set_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that all tasks of this generation hold on this broker, if that is more than they may.
    pub(super) fn over_memory(&self) -> Option<u64> {
        let all = self.tasks.of_changelog(self.plan.changelog.0);
        let held: u64 = all.iter().map(|cell| cell.memory.load(Ordering::Relaxed)).sum();
        let limit = u64::try_from(self.spec.plan.memory_max_bytes).unwrap_or(u64::MAX);
        (held > limit).then_some(held)
    }

    /// What it reads ends there now.
    pub(super) fn set_end(&self, end: Offset) {
        self.end.store(end.get(), Ordering::Relaxed);
    }

    pub(super) fn end(&self) -> Offset {
        Offset::new(self.end.load(Ordering::Relaxed))
    }

    /// The same, as it is now if what it reads is led here.
    pub(super) fn end_now(&self) -> Offset {
        let (_, place) = self.source();
        let slot = self.services.node.table.find((place.topic_id, place.partition)).filter(|slot| slot.leads());
        slot.map_or(Offset::ZERO, |slot| slot.view().high_watermark).max(self.end())
    }

    pub(super) fn set_committed(&self, now_ms: i64) {
        self.committed_at_ms.store(now_ms, Ordering::Relaxed);
    }

    /// How long ago it has committed, in milliseconds.
    pub(super) fn checkpoint_age_ms(&self) -> Option<u64> {
        let at = self.committed_at_ms.load(Ordering::Relaxed);
        (at > 0).then(|| u64::try_from(self.now_ms().saturating_sub(at)).unwrap_or(0))
    }

    /// What is known of the task without asking it.
    pub(super) fn outline(&self) -> StreamTask {
        let (kind, number) = kind_of(self.spec.kind);
        let Stage { state, reason } = self.stage();
        StreamTask {
            leader: Some(self.services.node.config.broker_id),
            epoch: Some(self.epoch),
            state,
            reason,
            checkpoint_age_ms: self.checkpoint_age_ms(),
            ..StreamTask::unknown(kind, number)
        }
    }
}

/// A kind of task and its number, as they are told.
pub(super) const fn kind_of(kind: TaskKind) -> (StreamTaskKind, u32) {
    match kind {
        TaskKind::Whole { partition } => (StreamTaskKind::Whole, partition),
        TaskKind::First { partition } => (StreamTaskKind::First, partition),
        TaskKind::Merge { shard } => (StreamTaskKind::Merge, shard),
    }
}
