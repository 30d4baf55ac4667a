//! Consumer groups: for now, the offsets that they have committed.
//!
//! An offset is a record in the internal, compacted topic `__consumer_offsets`, in the partition that the
//! group hashes to, in Kafka's format. It is appended with `acks=all`, and neither the coordinator's memory
//! nor the client hears of it before it is committed. A coordinator that takes a partition over reads it
//! from the start; until then it answers with a retriable error.
//!
//! The coordinator of a group is the broker that leads the group's partition. Any broker takes a commit or a question
//! and brings it there, see [`routed`].

mod actor;
mod messages;
mod offsets;
mod routed;
mod shard;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use actix::{Addr, Context, Handler, Message, dev::ToEnvelope};
use pubg1_metrics::{ActorKind, RejectReason};
use pubg1_model::{
    GroupId, PartitionId, TopicName, TopicPartition,
    offset_commit::{OffsetCommitKey, OffsetCommitValue},
    topic::{CleanupPolicy, TopicConfig},
};
use tokio::sync::oneshot;

use crate::{
    errors::{AppendError, CommitOffsetError, CommittedOffsetError},
    metadata::MetadataHandle,
    node::NodeContext,
};
use actor::GroupCoordinatorActor;
use messages::{Commit, Fetch, ForgetTopic, Quiesce};

pub(crate) use actor::start_group_coordinator;
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
}

impl GroupCoordinatorHandle {
    pub(crate) fn new(node: Arc<NodeContext>, metadata: MetadataHandle) -> Self {
        Self(Arc::new(CoordinatorSlot { node, metadata, address: RwLock::new(None) }))
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

    /// Commits with the coordinator here.
    async fn commit_here(&self, key: OffsetCommitKey, value: OffsetCommitValue) -> Result<(), CommitOffsetError> {
        let node = &self.0.node;
        let retry_after_ms = node.retry_after_ms();
        let group = key.group.clone();
        let (encoded_key, encoded_value) = (key.encode()?, value.encode()?);
        let bytes = u64::try_from(encoded_key.len() + encoded_value.len()).unwrap_or(u64::MAX);
        let permit = node.admit(ActorKind::GroupCoordinator, bytes)?;
        let in_mailbox = node.metrics.actor(ActorKind::GroupCoordinator).sent();
        let (reply, answer) = oneshot::channel();
        let partition = partition_of(&group);
        let commit = Commit { partition, key, value, encoded_key, encoded_value, reply, permit, in_mailbox };
        if !self.post(commit) {
            return Err(CommitOffsetError::Loading { group, retry_after_ms });
        }
        let unknown = || node.fatal.get().map_or(AppendError::OutcomeUnknown { retry_after_ms }, AppendError::Failed);
        answer.await.unwrap_or_else(|_| Err(unknown().into()))
    }

    /// What a group has committed, as the coordinator here knows it: in one partition, or everywhere.
    async fn committed_here(
        &self,
        group: GroupId,
        only: Option<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, OffsetCommitValue>, CommittedOffsetError> {
        let node = &self.0.node;
        let retry_after_ms = node.retry_after_ms();
        let permit = node.admit(ActorKind::GroupCoordinator, 0).map_err(|refusal| match refusal {
            AppendError::Draining => CommittedOffsetError::Draining,
            _ => CommittedOffsetError::Loading { group: group.clone(), retry_after_ms },
        })?;
        let in_mailbox = node.metrics.actor(ActorKind::GroupCoordinator).sent();
        let (reply, answer) = oneshot::channel();
        let partition = partition_of(&group);
        let fetch = Fetch { partition, group: group.clone(), only, reply, permit, in_mailbox };
        let loading = || CommittedOffsetError::Loading { group, retry_after_ms };
        if !self.post(fetch) {
            return Err(loading());
        }
        answer.await.unwrap_or_else(|_| Err(loading()))
    }

    /// Removes what groups have committed in a topic that was deleted.
    pub(crate) fn forget_topic(&self, topic: TopicName) {
        self.post(ForgetTopic { topic });
    }

    /// Resolves when every commit that was taken is answered.
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
