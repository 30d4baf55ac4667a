//! What every part of a broker shares. There are no globals: two brokers live in one process.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Instant,
};

use pubg1_metrics::{ActorKind, Metrics, NodeState, RejectReason, ThrottleReason};
use pubg1_model::{PartitionId, TopicName, cluster::Incarnation, replication::StorageId};
use tokio::sync::{Semaphore, watch};

use crate::{
    admission::{Admission, Budget, Permit, Refusal},
    broker::KnownReasons,
    config::BrokerConfig,
    errors::AppendError,
    fatal::Fatal,
    flusher::BlockingPool,
    forward::Tails,
    page_cache::WrittenPages,
    partition::PartitionSlot,
    replica_states::{PartitionKey, ReplicaStates},
    replicator::{Sessions, Sources},
    rpc::Rpc,
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
    /// The cluster that the data directory belongs to.
    pub(crate) cluster_id: String,
    /// This life of the broker.
    pub(crate) incarnation: Incarnation,
    /// The disk of the data directory.
    pub(crate) storage: StorageId,
    /// The metadata version that registered this life, once it is registered.
    pub(crate) registration: OnceLock<u64>,
    /// The way to other brokers.
    pub(crate) rpc: Rpc,
    pub(crate) metrics: Metrics,
    pub(crate) admission: Arc<Admission>,
    pub(crate) fatal: Fatal,
    /// Threads that flush.
    pub(crate) flushers: BlockingPool,
    /// Threads that open, close and remove logs, and search them.
    pub(crate) workers: BlockingPool,
    /// How many logs may be opened at once: fewer than there are workers.
    pub(crate) openings: Arc<Semaphore>,
    /// The thread that compacts: slow work, which the others need not wait for.
    pub(crate) cleaner: BlockingPool,
    /// The thread that stores the metadata, in order: an election waits for nobody's records.
    pub(crate) metadata: BlockingPool,
    /// What was written and stays in memory.
    pub(crate) written_pages: WrittenPages,
    /// What replicas keep beside their logs.
    pub(crate) states: ReplicaStates,
    /// What is wanted of the brokers that lead partitions followed here.
    pub(crate) sources: Sources,
    /// The brokers that follow partitions led here.
    pub(crate) sessions: Sessions,
    /// The partitions of other brokers whose next records are waited for here.
    pub(crate) tails: Tails,
    pub(crate) phase: watch::Sender<Phase>,
    /// Why the start does not get on, if so.
    pub(crate) obstacle: watch::Sender<Obstacle>,
    pub(crate) table: PartitionTable,
    /// How many deleted partitions are still being removed from disk.
    pub(crate) removals: Arc<watch::Sender<usize>>,
    /// Counts the leaderships that were given up here: the controller should hear of it at once.
    pub(crate) resigned: watch::Sender<u64>,
    /// What the controller says about partitions that nobody leads.
    pub(crate) reasons: KnownReasons,
    pub(crate) started_at: Instant,
    /// The zero of [`NodeContext::monotonic_ms`]: of tokio's clock, which a simulation controls.
    pub(crate) clock_origin: tokio::time::Instant,
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

    /// Resolves when the broker has shut down.
    pub(crate) async fn drained(&self) {
        let mut phases = self.phase.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        phases.wait_for(|phase| *phase >= Phase::Drained).await.map(drop).unwrap_or_default();
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

    /// This life of the broker as the transport's handshake tells it.
    pub(crate) fn transport_incarnation(&self) -> u64 {
        self.incarnation.as_u64()
    }

    /// Milliseconds of a clock that never goes back and is no time of day; it goes on while the process is stopped.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.clock_origin.elapsed().as_millis()).unwrap_or(u64::MAX)
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

/// The replicas of one topic on this broker, by partition.
pub(crate) type TopicSlots = BTreeMap<PartitionId, Arc<PartitionSlot>>;

#[derive(Clone, Default)]
struct Slots {
    by_name: HashMap<TopicName, TopicSlots>,
    by_key: HashMap<PartitionKey, Arc<PartitionSlot>>,
}

/// The replicas that this broker keeps. Read on each request, replaced when they come and go. Which topics and
/// partitions there are is told by the cluster image, not here.
#[derive(Default)]
pub(crate) struct PartitionTable(watch::Sender<Arc<Slots>>);

impl PartitionTable {
    /// The replica of a partition on this broker, if it keeps one.
    pub(crate) fn get(&self, topic: &TopicName, partition: PartitionId) -> Option<Arc<PartitionSlot>> {
        self.0.borrow().by_name.get(topic)?.get(&partition).map(Arc::clone)
    }

    /// The same by the topic's id.
    pub(crate) fn find(&self, key: PartitionKey) -> Option<Arc<PartitionSlot>> {
        self.0.borrow().by_key.get(&key).map(Arc::clone)
    }

    /// The replicas of a topic on this broker.
    pub(crate) fn of_topic(&self, topic: &TopicName) -> Vec<Arc<PartitionSlot>> {
        self.0.borrow().by_name.get(topic).map_or_else(Vec::new, |slots| slots.values().map(Arc::clone).collect())
    }

    /// All of them.
    pub(crate) fn slots(&self) -> Vec<Arc<PartitionSlot>> {
        self.0.borrow().by_key.values().map(Arc::clone).collect()
    }

    /// Waits until this broker keeps a replica of the partition.
    pub(crate) async fn placed(&self, topic: &TopicName, partition: PartitionId) -> Arc<PartitionSlot> {
        let mut tables = self.0.subscribe();
        loop {
            if let Some(slot) = tables.borrow_and_update().by_name.get(topic).and_then(|slots| slots.get(&partition)) {
                return Arc::clone(slot);
            }
            if tables.changed().await.is_err() {
                // The sender lives in `self`: this cannot happen, and waiting on is the harmless answer.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Resolves when this replica is no longer the one that the broker keeps of its partition.
    pub(crate) async fn replaced(&self, slot: &Arc<PartitionSlot>) {
        let is_gone = |table: &Arc<Slots>| {
            table.by_key.get(&slot.identity.key()).is_none_or(|current| !Arc::ptr_eq(current, slot))
        };
        // The sender lives in `self`, so the wait cannot fail.
        self.0.subscribe().wait_for(is_gone).await.map(drop).unwrap_or_default();
    }

    pub(crate) fn insert(&self, slots: Vec<Arc<PartitionSlot>>) {
        if slots.is_empty() {
            return;
        }
        self.0.send_modify(|table| {
            let table = Arc::make_mut(table);
            for slot in slots {
                let topic = table.by_name.entry(slot.identity.topic.clone()).or_default();
                topic.insert(slot.identity.partition, Arc::clone(&slot));
                table.by_key.insert(slot.identity.key(), slot);
            }
        });
    }

    pub(crate) fn remove(&self, slots: &[Arc<PartitionSlot>]) {
        if slots.is_empty() {
            return;
        }
        self.0.send_modify(|table| {
            let table = Arc::make_mut(table);
            for slot in slots {
                table.by_key.remove(&slot.identity.key());
                let Some(topic) = table.by_name.get_mut(&slot.identity.topic) else { continue };
                // A topic of this name may have been created again.
                if topic.get(&slot.identity.partition).is_some_and(|current| Arc::ptr_eq(current, slot)) {
                    topic.remove(&slot.identity.partition);
                }
                if topic.is_empty() {
                    table.by_name.remove(&slot.identity.topic);
                }
            }
        });
    }

    /// Takes every partition out: the actors and the table no longer hold each other.
    pub(crate) fn clear(&self) {
        self.0.send_replace(Arc::default());
    }
}
