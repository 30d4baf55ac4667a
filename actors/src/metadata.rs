//! The metadata log: what the cluster agrees on, one command after the other, published as an image.
//!
//! The log is a Raft group over the brokers ([`crate::raft`]); a broker alone is a group of one. The rules are
//! [`ClusterImage::apply`]. A command is proposed on any broker, decided by the group's leader, and answered when the
//! image that it leads to is published *here*. Metadata is synced whatever the flush policy of records is.
//!
//! The leader of the group is the cluster's controller.

mod actor;
mod answer;
mod follow;
mod group;
mod membership;
mod messages;
mod propose;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use actix::Addr;
use pubg1_metrics::ActorKind;
use pubg1_model::{
    BrokerId, TopicId,
    cluster::{ClusterImage, MetadataCommand, MetadataError, MetadataReply},
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::{
    admission::Permit,
    errors::{AppendError, MetadataUnavailable},
    node::NodeContext,
    raft::GroupConfig,
};
use actor::MetadataActor;
use group::Access;
use messages::{Close, Propose};

pub(crate) use actor::start_metadata;
pub(crate) use membership::MembershipError;

/// How long an orderly end waits for commands that are under way.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

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

/// Who leads the group, and since which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leadership {
    /// The broker.
    pub(crate) broker: BrokerId,
    /// The term; a later leadership has a greater one, or the same and another broker.
    pub(crate) term: u64,
}

/// The way to the metadata log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MetadataHandle(Arc<MetadataSlot>);

/// What there is of the metadata log whether its actor lives or not.
struct MetadataSlot {
    node: Arc<NodeContext>,
    group: GroupConfig,
    image: watch::Sender<Arc<ClusterImage>>,
    /// Whether the image has caught up with the group once.
    opened: watch::Sender<bool>,
    controller: watch::Sender<Option<Leadership>>,
    /// The last leader that said that it leads no more.
    resigned: watch::Sender<Option<Leadership>>,
    /// The leader, and when it was last heard: a port that was found closed before says nothing of it.
    heard: Mutex<Option<(Leadership, Instant)>>,
    /// What requests of other brokers are answered from.
    access: RwLock<Access>,
    /// Commands under way here.
    proposals: watch::Sender<usize>,
    /// Brokers that this one, as the leader, is making voters.
    joining: Mutex<BTreeSet<BrokerId>>,
    lease: Arc<tokio::sync::Mutex<()>>,
    address: RwLock<Option<Addr<MetadataActor>>>,
}

impl MetadataHandle {
    pub(crate) fn new(node: Arc<NodeContext>, group: GroupConfig) -> Self {
        Self(Arc::new(MetadataSlot {
            node,
            group,
            image: watch::Sender::default(),
            opened: watch::Sender::new(false),
            controller: watch::Sender::new(None),
            resigned: watch::Sender::new(None),
            heard: Mutex::default(),
            access: RwLock::default(),
            proposals: watch::Sender::new(0),
            joining: Mutex::default(),
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

    /// Resolves when the image has caught up with the group: it has everything that was decided before the start.
    pub(crate) async fn opened(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        self.0.opened.subscribe().wait_for(|opened| *opened).await.map(drop).unwrap_or_default();
    }

    /// Whether that has come: before, the image is the one of a former life, or none.
    pub(crate) fn is_opened(&self) -> bool {
        *self.0.opened.borrow()
    }

    /// Whether the log says that a topic with this id was deleted.
    pub(crate) fn was_deleted(&self, topic: TopicId) -> bool {
        self.0.image.borrow().was_deleted(topic)
    }

    /// Who leads the group as far as this broker knows, now and as it changes. A leader that has lost the others
    /// does not count.
    pub(crate) fn controller(&self) -> watch::Receiver<Option<Leadership>> {
        self.0.controller.subscribe()
    }

    /// Whether this broker leads the group.
    pub(crate) fn is_controller(&self) -> bool {
        self.0.controller.borrow().is_some_and(|leads| leads.broker == self.0.group.broker)
    }

    fn set_address(&self, address: Option<Addr<MetadataActor>>) {
        *self.0.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }

    fn address(&self) -> Option<Addr<MetadataActor>> {
        let address = self.0.address.read().unwrap_or_else(PoisonError::into_inner);
        address.as_ref().filter(|address| address.connected()).cloned()
    }

    /// Applies a command, wherever the leader is: answered when it is stored at a majority and the image that it
    /// leads to is published here.
    pub(crate) async fn propose(&self, command: MetadataCommand) -> Result<MetadataReply, ProposeError> {
        let retry_after_ms = self.0.node.retry_after_ms();
        let permit = self.0.node.admit(ActorKind::Metadata, 0).map_err(|refusal| match refusal {
            AppendError::Failed(error) => MetadataUnavailable::Failed(error),
            AppendError::Draining => MetadataUnavailable::Draining,
            _ => MetadataUnavailable::Overloaded { retry_after_ms },
        })?;
        self.send(command, Some(permit)).await
    }

    /// The same for what the broker itself has to say, which clients must not crowd out and a drain does not stop:
    /// its registration, its drain, the controller's decisions. One at a time of each.
    pub(crate) async fn propose_own(&self, command: MetadataCommand) -> Result<MetadataReply, ProposeError> {
        self.send(command, None).await
    }

    async fn send(&self, command: MetadataCommand, permit: Option<Permit>) -> Result<MetadataReply, ProposeError> {
        let node = &self.0.node;
        let retry_after_ms = node.retry_after_ms();
        let address = self.address().ok_or(MetadataUnavailable::NotReady { retry_after_ms })?;
        let (reply, answer) = oneshot::channel();
        let in_mailbox = node.metrics.actor(ActorKind::Metadata).sent();
        #[expect(clippy::disallowed_methods, reason = "the message carries a permit, or is one of a few")]
        address.do_send(Propose { command, reply, permit, in_mailbox });
        answer.await.unwrap_or_else(|_| {
            let unknown = MetadataUnavailable::OutcomeUnknown { retry_after_ms };
            Err(node.fatal.get().map_or(unknown, MetadataUnavailable::Failed).into())
        })
    }

    /// Leaves the group running elsewhere: answers what is under way, stops taking part, closes the log.
    pub(crate) async fn close(&self) {
        let Some(address) = self.address() else { return };
        let mut proposals = self.0.proposals.subscribe();
        let idle = proposals.wait_for(|count| *count == 0);
        // What is not decided by then is told that its outcome is unknown.
        tokio::time::timeout(CLOSE_PATIENCE, idle).await.map(drop).unwrap_or_default();
        let (closed, done) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "sent once, at shutdown")]
        address.do_send(Close { closed });
        // A dropped answer says as much: the actor is gone.
        done.await.unwrap_or_default();
        self.set_address(None);
    }

    /// Publishes an image, unless a newer one is: a restart makes the image anew from an old snapshot.
    fn publish(&self, image: Arc<ClusterImage>) {
        let metrics = self.0.node.metrics.node();
        self.0.image.send_if_modified(|current| {
            let newer = image.version > current.version;
            if newer {
                self.0.node.metrics.replication().set_registered(image.brokers.len());
                metrics.topics.set(i64::try_from(image.topics.len()).unwrap_or(i64::MAX));
                metrics.metadata_version.set(i64::try_from(image.version).unwrap_or(i64::MAX));
                *current = image;
            }
            newer
        });
    }

    fn access(&self) -> Access {
        self.0.access.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_access(&self, access: Access) {
        *self.0.access.write().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// The actor is gone: nothing may hold its store open.
    fn forget(&self) {
        self.set_address(None);
        self.set_access(Access::Closed);
        self.0.controller.send_replace(None);
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn inject_panic(&self) {
        if let Some(address) = self.address() {
            #[expect(clippy::disallowed_methods, reason = "sent by tests")]
            address.do_send(messages::Panic);
        }
    }
}

#[cfg(test)]
mod tests;
