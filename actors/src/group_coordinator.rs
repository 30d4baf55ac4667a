//! Consumer groups: who reads what, how far they are, and the consumers over HTTP among them.
//!
//! All of it is records in the internal, compacted topic `__consumer_offsets`, in the partition that the group hashes
//! to: committed offsets and groups in Kafka's format, consumer instances beside them. The coordinator of a group is the
//! broker that leads that partition; any broker takes a request and brings it there, see [`routed`].
//!
//! [`group`] is one group and what can be asked of it, without waiting for anything. [`shard`] is one partition: a
//! request changes its groups at once, and is answered when the records of the change are committed; when they are not,
//! the partition is read again ([`follow`], [`replay`]). A coordinator that takes a partition over reads it from the
//! start; until then it answers with a retriable error.

mod actor;
mod call;
mod follow;
mod group;
mod lag;
mod messages;
mod outbox;
mod replay;
mod routed;
mod sample;
mod shard;
mod topics;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
};

use actix::{Addr, Context, Handler, Message, dev::ToEnvelope};
use pubg1_metrics::{ActorKind, RejectReason};
use pubg1_model::{
    GroupId, InstanceName, LeaderEpoch, PartitionId, TopicName, TopicPartition,
    consumer_instance::Edge,
    topic::{CleanupPolicy, TopicConfig},
};
use pubg1_transport::PeerState;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    admission::Permit,
    broker,
    errors::{AppendError, GroupRequestError, LookupError},
    metadata::MetadataHandle,
    node::NodeContext,
    rpc::CLIENT_WINDOW,
};
use actor::GroupCoordinatorActor;
use call::{Call, Reply};
use group::Refused;
use messages::{Asked, Listed, Quiesce, WatchAssignment};
use shard::Client;

pub(crate) use actor::start_group_coordinator;
pub(crate) use call::{BeginPoll, InstanceRequest, Reply as GroupReply, Request as GroupRequest};
pub(crate) use routed::answer;

/// How many partitions the offsets topic has. Fixed: a group's partition follows from it.
pub(crate) const OFFSETS_PARTITIONS: u32 = 16;

/// The topic that stores the offsets.
pub(crate) fn offsets_topic() -> TopicName {
    #[allow(clippy::expect_used, reason = "the name is a constant that a test parses")]
    "__consumer_offsets".parse().expect("a valid name")
}

/// Its settings: the newest record of each key is kept, for ever, in small segments.
pub(crate) fn offsets_topic_config() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy::Compact,
        retention_ms: None,
        retention_bytes: None,
        segment_bytes: 16 * 1024 * 1024,
        ..TopicConfig::default()
    }
}

/// The partition of the offsets topic that keeps a group: `abs(hashCode(group)) % 16`, as in Kafka.
fn partition_of(group: &GroupId) -> PartitionId {
    // Java's String.hashCode counts UTF-16 units; the names that are allowed are ASCII.
    let hash = group.as_str().bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    // Kafka's Utils.abs: the smallest integer, which has no absolute value, counts as 0.
    PartitionId(hash.checked_abs().map_or(0, i32::unsigned_abs) % OFFSETS_PARTITIONS)
}

/// The way to the coordinator. Cheap to clone.
#[derive(Clone)]
pub(crate) struct GroupCoordinatorHandle(Arc<CoordinatorSlot>);

struct CoordinatorSlot {
    node: Arc<NodeContext>,
    metadata: MetadataHandle,
    address: RwLock<Option<Addr<GroupCoordinatorActor>>>,
    /// Numbers of polls and assignments that were drawn here.
    numbers: AtomicU64,
    unsettled: Unsettled,
    /// Places for those who wait for another broker to say that an assignment has changed.
    waiters: Semaphore,
}

/// How many wait for assignments at other brokers, all of them together: a quarter of what one connection takes, so that
/// the rest of each is for what is answered at once.
const WAITERS_MAX: usize = CLIENT_WINDOW as usize / 4;

/// Partitions with an append that may come to lie in the log later, though nobody here waits for it any more. It
/// outlives the actor.
#[derive(Default)]
struct Unsettled(Mutex<BTreeMap<PartitionId, LeaderEpoch>>);

impl Unsettled {
    /// An append begins.
    fn begin(&self, partition: PartitionId, epoch: LeaderEpoch) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, epoch);
    }

    /// All appends of this epoch until now are in the log, or never will be.
    fn settle(&self, partition: PartitionId, epoch: LeaderEpoch) {
        let mut epochs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.get(&partition) == Some(&epoch) {
            epochs.remove(&partition);
        }
    }

    fn is_unsettled(&self, partition: PartitionId, epoch: LeaderEpoch) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&partition) == Some(&epoch)
    }
}

impl GroupCoordinatorHandle {
    pub(crate) fn new(node: Arc<NodeContext>, metadata: MetadataHandle) -> Self {
        Self(Arc::new(CoordinatorSlot {
            node,
            metadata,
            address: RwLock::new(None),
            // 0 stands for none: `PollId::NONE`.
            numbers: AtomicU64::new(1),
            unsettled: Unsettled::default(),
            waiters: Semaphore::new(WAITERS_MAX),
        }))
    }

    fn set_address(&self, address: Option<Addr<GroupCoordinatorActor>>) {
        *self.0.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Queues a message whose number is bounded otherwise. `false`: there is no actor.
    #[expect(clippy::disallowed_methods, reason = "every message carries a permit or is sent once")]
    fn post<M>(&self, message: M) -> bool
    where
        M: Message + Send + 'static,
        M::Result: Send,
        GroupCoordinatorActor: Handler<M>,
        Context<GroupCoordinatorActor>: ToEnvelope<GroupCoordinatorActor, M>,
    {
        let address = self.0.address.read().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = address.as_ref().filter(|address| address.connected()) else {
            self.0.node.metrics.actor(ActorKind::GroupCoordinator).rejected(RejectReason::Unavailable).inc();
            return false;
        };
        address.do_send(message);
        true
    }

    /// Whether a partition exists, as far as is known here.
    pub(crate) fn check_partition(&self, partition: &TopicPartition) -> Result<(), LookupError> {
        let TopicPartition { topic, partition } = partition;
        broker::find(&self.0.node, &self.0.metadata.image(), topic, *partition).map(drop)
    }

    /// Asks the coordinator here.
    async fn call_here(&self, call: Call, edge: Edge, in_vain: bool) -> Result<Reply, Refused> {
        let node = &self.0.node;
        let retry_after_ms = node.retry_after_ms();
        let group = call.group.clone();
        let permit = node.admit(ActorKind::GroupCoordinator, call.what.bytes()).map_err(GroupRequestError::from)?;
        let in_mailbox = node.metrics.actor(ActorKind::GroupCoordinator).sent();
        let (reply, answer) = oneshot::channel();
        let partition = partition_of(&group);
        if !self.post(Asked { partition, call, edge, in_vain, client: Client { reply, permit }, in_mailbox }) {
            return Err(GroupRequestError::Loading { group, retry_after_ms }.into());
        }
        // A dropped reply means that the actor died with the request in its hands.
        let unknown = || node.fatal.get().map_or(AppendError::OutcomeUnknown { retry_after_ms }, AppendError::Failed);
        answer.await.unwrap_or_else(|_| Err(GroupRequestError::from(unknown()).into()))
    }

    /// The versions of an instance's assignment, from the coordinator here.
    async fn watch_assignment(
        &self,
        group: GroupId,
        instance: InstanceName,
    ) -> Result<watch::Receiver<u64>, GroupRequestError> {
        let node = &self.0.node;
        let permit = node.admit(ActorKind::GroupCoordinator, 0)?;
        let (reply, answer) = oneshot::channel();
        let partition = partition_of(&group);
        let loading = GroupRequestError::Loading { group: group.clone(), retry_after_ms: node.retry_after_ms() };
        if !self.post(WatchAssignment { partition, group, instance, reply, permit }) {
            return Err(loading);
        }
        answer.await.unwrap_or(Err(loading))
    }

    /// What the coordinator here knows of: `question` is how it is asked.
    async fn list_here<T, M>(&self, question: impl FnOnce(oneshot::Sender<Listed<T>>, Permit) -> M) -> Listed<T>
    where
        M: Message<Result = ()> + Send + 'static,
        GroupCoordinatorActor: Handler<M>,
        Context<GroupCoordinatorActor>: ToEnvelope<GroupCoordinatorActor, M>,
    {
        let Ok(permit) = self.0.node.admit(ActorKind::GroupCoordinator, 0) else { return Listed::default() };
        let (reply, answer) = oneshot::channel();
        self.post(question(reply, permit));
        answer.await.unwrap_or_default()
    }

    /// Whether a broker that polls for clients does not live any more, as far as is known here.
    fn is_gone(&self, edge: Edge) -> bool {
        let node = &self.0.node;
        if edge.broker == node.config.broker_id {
            return edge.incarnation != node.transport_incarnation();
        }
        let image = self.0.metadata.image();
        let registered = image.brokers.get(&edge.broker).map(|broker| broker.incarnation.as_u64());
        if registered != Some(edge.incarnation) {
            return true;
        }
        let Some(client) = node.rpc.client(edge.broker) else { return false };
        let states = client.state();
        let state = states.borrow();
        match &*state {
            PeerState::Idle => {
                client.connect();
                false
            }
            PeerState::Connected { incarnation, .. } => *incarnation != edge.incarnation,
            PeerState::Refused { .. } | PeerState::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// Resolves when everything that was taken is answered.
    pub(crate) async fn quiesce(&self) {
        let (quiet, answer) = oneshot::channel();
        if self.post(Quiesce { quiet }) {
            // A dropped answer says as much: the actor is gone.
            answer.await.unwrap_or_default();
        }
        self.set_address(None);
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn inject_panic(&self) {
        self.post(messages::Panic);
    }
}

#[cfg(test)]
mod tests;
