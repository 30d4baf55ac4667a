//! The metadata log: what the cluster agrees on, one command after the other, published as an image.
//!
//! The rules are [`ClusterImage::apply`]; the actor stores a command, flushes it, and only then
//! publishes the image that it leads to and answers. Metadata is flushed whatever the flush policy of
//! records is. A Raft group takes the place of this log when there are several brokers; commands,
//! image and handle stay.

mod actor;
mod log;
mod messages;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use actix::Addr;
use pubg1_metrics::ActorKind;
use pubg1_model::{
    BrokerId, LeaderEpoch, PartitionId, TopicId,
    cluster::{ClusterImage, EpochExpectation, MetadataCommand, MetadataError, MetadataReply},
};
use tokio::sync::{oneshot, watch};

use crate::{
    errors::{AppendError, MetadataUnavailable},
    node::NodeContext,
};
use actor::MetadataActor;
use messages::{Close, Propose};

pub(crate) use actor::start_metadata;

/// Why a command was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposeError {
    /// The command breaks a rule.
    #[error(transparent)]
    Refused(MetadataError),
    /// It could not be stored.
    #[error(transparent)]
    Unavailable(#[from] MetadataUnavailable),
}

/// The way to the metadata log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MetadataHandle(Arc<MetadataSlot>);

/// What there is of the metadata log whether its actor lives or not.
struct MetadataSlot {
    node: Arc<NodeContext>,
    image: watch::Sender<Arc<ClusterImage>>,
    /// Whether the log has been read.
    opened: watch::Sender<bool>,
    /// Topics that the log says were deleted: what is left of them on disk may go.
    deleted: Mutex<HashSet<TopicId>>,
    lease: Arc<tokio::sync::Mutex<()>>,
    address: RwLock<Option<Addr<MetadataActor>>>,
}

impl MetadataHandle {
    pub(crate) fn new(node: Arc<NodeContext>) -> Self {
        Self(Arc::new(MetadataSlot {
            node,
            image: watch::Sender::default(),
            opened: watch::Sender::new(false),
            deleted: Mutex::default(),
            lease: Arc::default(),
            address: RwLock::new(None),
        }))
    }

    /// The image as last published.
    pub(crate) fn image(&self) -> Arc<ClusterImage> {
        Arc::clone(&self.0.image.borrow())
    }

    /// A receiver of every new image.
    pub(crate) fn images(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.0.image.subscribe()
    }

    /// Resolves when the log has been read.
    pub(crate) async fn opened(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        self.0.opened.subscribe().wait_for(|opened| *opened).await.map(drop).unwrap_or_default();
    }

    /// Whether the log says that a topic with this id was deleted.
    pub(crate) fn was_deleted(&self, topic: TopicId) -> bool {
        self.0.deleted.lock().unwrap_or_else(PoisonError::into_inner).contains(&topic)
    }

    fn set_address(&self, address: Option<Addr<MetadataActor>>) {
        *self.0.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }

    fn address(&self) -> Option<Addr<MetadataActor>> {
        let address = self.0.address.read().unwrap_or_else(PoisonError::into_inner);
        address.as_ref().filter(|address| address.connected()).cloned()
    }

    /// Applies a command: answered when it is on disk and the image is published.
    pub(crate) async fn propose(&self, command: MetadataCommand) -> Result<MetadataReply, ProposeError> {
        let node = &self.0.node;
        let retry_after_ms = node.retry_after_ms();
        let permit = node.admit(ActorKind::Metadata, 0).map_err(|refusal| match refusal {
            AppendError::Failed(error) => MetadataUnavailable::Failed(error),
            AppendError::Draining => MetadataUnavailable::Draining,
            _ => MetadataUnavailable::Overloaded { retry_after_ms },
        })?;
        let address = self.address().ok_or(MetadataUnavailable::NotReady { retry_after_ms })?;
        let (reply, answer) = oneshot::channel();
        let in_mailbox = node.metrics.actor(ActorKind::Metadata).sent();
        #[expect(clippy::disallowed_methods, reason = "the message carries a permit")]
        address.do_send(Propose { command, reply, permit, in_mailbox });
        answer.await.unwrap_or_else(|_| {
            let unknown = MetadataUnavailable::OutcomeUnknown { retry_after_ms };
            Err(node.fatal.get().map_or(unknown, MetadataUnavailable::Failed).into())
        })
    }

    /// Begins the next epoch of partitions under `leader`, one command for all of them.
    pub(crate) async fn begin_epochs(
        &self,
        partitions: Vec<EpochExpectation>,
        leader: BrokerId,
    ) -> Result<(), ProposeError> {
        let command = MetadataCommand::BeginEpochs { partitions, leader: Some(leader) };
        self.propose(command).await.map(drop)
    }

    /// Begins the next epoch of one partition and says which it is. `None`: the topic is gone.
    pub(crate) async fn begin_epoch(
        &self,
        topic_id: TopicId,
        partition: PartitionId,
        leader: BrokerId,
    ) -> Result<Option<LeaderEpoch>, ProposeError> {
        let image = self.image();
        let Some(current) = image.topic_by_id(topic_id).and_then(|topic| topic.partition(partition)) else {
            return Ok(None);
        };
        let expected = current.leader_epoch;
        self.begin_epochs(vec![EpochExpectation { topic_id, partition, expected }], leader).await?;
        Ok(Some(expected.next()))
    }

    /// Closes the log when everything in it is flushed and answered.
    pub(crate) async fn close(&self) {
        let Some(address) = self.address() else { return };
        let (closed, done) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "sent once, at shutdown")]
        address.do_send(Close { closed });
        // A dropped answer says as much: the actor is gone.
        done.await.unwrap_or_default();
        self.set_address(None);
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn inject_panic(&self) {
        if let Some(address) = self.address() {
            #[expect(clippy::disallowed_methods, reason = "sent by tests")]
            address.do_send(messages::Panic);
        }
    }
}
