//! What every part of a broker shares. There are no globals: two brokers live in one process.

use std::{collections::HashMap, sync::Arc, time::Instant};

use pubg1_metrics::{ActorKind, Metrics, NodeState, RejectReason, ThrottleReason};
use pubg1_model::{PartitionId, TopicName};
use tokio::sync::watch;

use crate::{
    admission::{Admission, Budget, Permit, Refusal},
    config::BrokerConfig,
    errors::AppendError,
    fatal::Fatal,
    flusher::BlockingPool,
    partition::PartitionSlot,
};

/// Where a broker is in its life. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Starting,
    Recovering,
    Ready,
    Draining,
    Drained,
}

/// What a piece of the broker waits for at present, when it cannot go on: shown by readiness.
pub(crate) type Obstacle = Option<String>;

/// The shared parts of a broker.
pub(crate) struct NodeContext {
    pub(crate) config: BrokerConfig,
    pub(crate) metrics: Metrics,
    pub(crate) admission: Arc<Admission>,
    pub(crate) fatal: Fatal,
    /// Threads that flush.
    pub(crate) flushers: BlockingPool,
    /// Threads that open, close and remove logs, and search them.
    pub(crate) workers: BlockingPool,
    /// The thread that compacts: slow work, which the others need not wait for.
    pub(crate) cleaner: BlockingPool,
    pub(crate) phase: watch::Sender<Phase>,
    /// Why the start does not get on, if so.
    pub(crate) obstacle: watch::Sender<Obstacle>,
    pub(crate) table: PartitionTable,
    /// How many deleted partitions are still being removed from disk.
    pub(crate) removals: Arc<watch::Sender<usize>>,
    pub(crate) started_at: Instant,
}

impl NodeContext {
    /// Moves on to `phase`; never back. Says whether it moved.
    pub(crate) fn enter(&self, phase: Phase) -> bool {
        let moved = self.phase.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
        if moved {
            self.metrics.node().set_state(match phase {
                Phase::Starting => NodeState::Starting,
                Phase::Recovering => NodeState::Recovering,
                Phase::Ready => NodeState::Ready,
                Phase::Draining | Phase::Drained => NodeState::Draining,
            });
        }
        moved
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Resolves when the broker begins to shut down.
    pub(crate) async fn draining(&self) {
        let mut phases = self.phase.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        phases.wait_for(|phase| *phase >= Phase::Draining).await.map(drop).unwrap_or_default();
    }

    /// Takes a permit for a request to an actor of `kind`, or says at once why not.
    pub(crate) fn admit(&self, kind: ActorKind, bytes: u64) -> Result<Permit, AppendError> {
        let rejected = |reason| self.metrics.actor(kind).rejected(reason).inc();
        if let Some(error) = self.fatal.get() {
            rejected(RejectReason::Unavailable);
            return Err(AppendError::Failed(error));
        }
        if self.is_draining() {
            rejected(RejectReason::Draining);
            return Err(AppendError::Draining);
        }
        self.admission.try_acquire(bytes).map_err(|refusal| match refusal {
            Refusal::Exhausted(budget) => {
                let (reason, throttled) = match budget {
                    Budget::Bytes => (RejectReason::Bytes, ThrottleReason::Bytes),
                    Budget::Requests => (RejectReason::Requests, ThrottleReason::Requests),
                };
                rejected(reason);
                self.metrics.throttled(throttled);
                AppendError::Overloaded { budget, retry_after_ms: self.retry_after_ms() }
            }
            Refusal::TooLarge { bytes_max } => {
                rejected(RejectReason::Bytes);
                AppendError::RequestTooLarge { bytes, bytes_max }
            }
        })
    }

    pub(crate) fn retry_after_ms(&self) -> u64 {
        self.admission.limits().retry_after_ms
    }
}

/// A deleted partition that is being removed; counted until it is dropped.
pub(crate) struct Removal(Arc<watch::Sender<usize>>);

impl Removal {
    pub(crate) fn begin(node: &NodeContext) -> Self {
        node.removals.send_modify(|count| *count += 1);
        Self(Arc::clone(&node.removals))
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The partitions of one topic on this broker, by number.
pub(crate) type TopicSlots = Arc<[Arc<PartitionSlot>]>;

type Topics = HashMap<TopicName, TopicSlots>;

/// Every partition of this broker. Read on each request, replaced when topics come and go.
#[derive(Default)]
pub(crate) struct PartitionTable(watch::Sender<Arc<Topics>>);

impl PartitionTable {
    pub(crate) fn snapshot(&self) -> Arc<Topics> {
        Arc::clone(&self.0.borrow())
    }

    /// One partition: `None` when the topic is not here, `Err` with their number when it has fewer.
    pub(crate) fn partition(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Option<Result<Arc<PartitionSlot>, u32>> {
        find(&self.0.borrow(), topic, partition)
    }

    /// Waits until the topic is here, then as [`PartitionTable::partition`].
    pub(crate) async fn placed(&self, topic: &TopicName, partition: PartitionId) -> Result<Arc<PartitionSlot>, u32> {
        let mut tables = self.0.subscribe();
        loop {
            if let Some(found) = find(&tables.borrow_and_update(), topic, partition) {
                return found;
            }
            if tables.changed().await.is_err() {
                // The sender lives in `self`: this cannot happen, and waiting on is the harmless answer.
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn insert(&self, topic: TopicName, slots: TopicSlots) {
        self.0.send_modify(|table| drop(Arc::make_mut(table).insert(topic, slots)));
    }

    pub(crate) fn remove(&self, topic: &TopicName) {
        self.0.send_modify(|table| drop(Arc::make_mut(table).remove(topic)));
    }

    /// Takes every partition out: the actors and the table no longer hold each other.
    pub(crate) fn clear(&self) {
        self.0.send_replace(Arc::default());
    }
}

fn find(table: &Topics, topic: &TopicName, partition: PartitionId) -> Option<Result<Arc<PartitionSlot>, u32>> {
    let slots = table.get(topic)?;
    let slot = usize::try_from(partition.0).ok().and_then(|at| slots.get(at));
    Some(slot.map(Arc::clone).ok_or(u32::try_from(slots.len()).unwrap_or(u32::MAX)))
}
