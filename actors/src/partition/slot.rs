//! What is there of a partition whether its actor lives or not.

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use actix::{Addr, Context, Handler, Message, dev::ToEnvelope};
use pubg1_metrics::TopicMetrics;
use pubg1_model::{
    BrokerId, LeaderEpoch, Offset, PartitionId, TopicId, TopicName, TopicPartition, cluster::PartitionImage,
    topic::TopicConfig,
};
use pubg1_storage::LogReader;
use tokio::sync::watch;

use super::{PartitionStatus, PartitionView, Tick, actor::PartitionActor, lease::Lease};
use crate::{
    errors::{AppendError, FetchError},
    node::NodeContext,
    replica_states::PartitionKey,
};

/// How long after the last contact with a quorum a leader may answer reads, in milliseconds.
pub(crate) const LEASE_MS: u64 = 400;

/// Which partition, and where its files are.
#[derive(Clone, Debug)]
pub(crate) struct PartitionIdentity {
    pub(crate) topic: TopicName,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: PartitionId,
    pub(crate) dir: PathBuf,
}

impl PartitionIdentity {
    pub(crate) fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }

    pub(crate) const fn key(&self) -> PartitionKey {
        (self.topic_id, self.partition)
    }
}

/// What the metadata log says of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) image: PartitionImage,
    pub(crate) config: TopicConfig,
    /// The version of the image that it was taken from: never older than the registration of this broker.
    pub(crate) version: u64,
}

/// What keeps two lives of a partition, or two partitions one after the other, from using one directory at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirLocks {
    /// Held together with the open log: a new actor opens it only when the former has let go.
    pub(crate) log: Arc<tokio::sync::Mutex<()>>,
    /// Held while the directory is compacted: one job at a time, also across a restart.
    pub(crate) compaction: Arc<tokio::sync::Mutex<()>>,
}

/// What the partition's actor publishes: the view, and the reader that belongs to it.
pub(crate) struct Published {
    pub(crate) view: PartitionView,
    /// There while the log is open.
    pub(crate) reader: Option<LogReader>,
    /// There while the replica leads.
    pub(crate) lease: Option<Arc<Lease>>,
}

/// A partition, as its handles see it. The actor comes and goes behind it.
pub(crate) struct PartitionSlot {
    pub(crate) identity: PartitionIdentity,
    pub(crate) node: Arc<NodeContext>,
    pub(crate) topic_metrics: Arc<TopicMetrics>,
    pub(crate) published: watch::Sender<Published>,
    pub(crate) locks: DirLocks,
    /// What the actor shall do; `None` when the partition is no longer kept here.
    assignment: RwLock<Option<Arc<Assignment>>>,
    /// It is not kept here any more though the topic is there: other brokers keep it.
    is_moved: AtomicBool,
    /// A [`Tick`] is on its way.
    is_ticked: AtomicBool,
    address: RwLock<Option<Addr<PartitionActor>>>,
    /// Set when the actor ends after it has answered everyone: what its mailbox still holds was not handled.
    ended_in_order: AtomicBool,
}

/// There is no actor to take the message: it has died, or ended.
#[derive(Debug)]
pub(crate) struct NotRunning;

impl PartitionSlot {
    pub(crate) fn new(
        identity: PartitionIdentity,
        node: Arc<NodeContext>,
        assignment: Assignment,
        locks: DirLocks,
    ) -> Arc<Self> {
        let view = PartitionView {
            status: PartitionStatus::Recovering,
            log_start_offset: Offset::ZERO,
            high_watermark: Offset::ZERO,
            log_end_offset: Offset::ZERO,
            flushed_offset: Offset::ZERO,
            size_bytes: 0,
            leader: assignment.image.leader,
            leader_epoch: LeaderEpoch::ZERO,
            adopted_epoch: None,
            in_sync: Arc::new([]),
            move_complete: None,
            resigned: None,
        };
        Arc::new(Self {
            topic_metrics: node.metrics.topic(identity.topic.as_str()),
            identity,
            node,
            published: watch::Sender::new(Published { view, reader: None, lease: None }),
            locks,
            assignment: RwLock::new(Some(Arc::new(assignment))),
            is_moved: AtomicBool::new(false),
            is_ticked: AtomicBool::new(false),
            address: RwLock::new(None),
            ended_in_order: AtomicBool::new(false),
        })
    }

    pub(crate) fn view(&self) -> PartitionView {
        self.published.borrow().view.clone()
    }

    /// What the actor shall do; `None` when the partition is no longer kept here.
    pub(crate) fn assignment(&self) -> Option<Arc<Assignment>> {
        self.assignment.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The other brokers that keep the partition, the leader first.
    pub(crate) fn peers(&self) -> Vec<BrokerId> {
        let Some(assignment) = self.assignment() else { return Vec::new() };
        let me = self.node.config.broker_id;
        let mut peers: Vec<BrokerId> = assignment.image.members().filter(|broker| *broker != me).collect();
        peers.sort_by_key(|broker| assignment.image.leader != Some(*broker));
        peers
    }

    /// Says what the actor shall do from now on. The caller tells it to look.
    pub(crate) fn assign(&self, assignment: Assignment) {
        *self.assignment.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(assignment));
    }

    /// The partition is not kept here any more: its topic is gone, or it has moved to other brokers.
    pub(crate) fn dismiss(&self, is_moved: bool) {
        self.is_moved.store(is_moved, Ordering::Release);
        *self.assignment.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn is_moved(&self) -> bool {
        self.is_moved.load(Ordering::Acquire)
    }

    /// Whether the replica leads others, which have to be looked after.
    pub(crate) fn has_followers(&self) -> bool {
        self.published.borrow().lease.as_ref().is_some_and(|lease| lease.has_followers())
    }

    /// Sends a [`Tick`] unless one is on its way already.
    pub(crate) fn tick(&self) {
        if !self.is_ticked.swap(true, Ordering::AcqRel) && self.post(Tick).is_err() {
            self.take_tick();
        }
    }

    pub(super) fn take_tick(&self) {
        self.is_ticked.store(false, Ordering::Release);
    }

    pub(super) fn set_address(&self, address: Option<Addr<PartitionActor>>) {
        *self.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Ends in order: no message is queued any more, and one that was queued and not handled has left no trace.
    pub(super) fn end(&self, status: PartitionStatus) {
        self.set_address(None);
        self.publish_status(status);
        self.ended_in_order.store(true, Ordering::Release);
    }

    /// What becomes of a message that was queued and never answered.
    pub(crate) fn interrupted(&self) -> AppendError {
        let retry_after_ms = self.node.retry_after_ms();
        if self.ended_in_order.load(Ordering::Acquire) {
            return match self.published.borrow().view.status {
                PartitionStatus::Deleted => AppendError::Deleted,
                _ if self.is_moved() => AppendError::NotLeader { leader: None, retry_after_ms },
                _ => AppendError::Draining,
            };
        }
        self.node.fatal.get().map_or(AppendError::OutcomeUnknown { retry_after_ms }, AppendError::Failed)
    }

    /// Queues a message whose number is bounded otherwise: by permits, or by one outstanding at a time.
    #[expect(
        clippy::disallowed_methods,
        reason = "every message posted here is bounded by a permit or by construction"
    )]
    pub(crate) fn post<M>(&self, message: M) -> Result<(), NotRunning>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        PartitionActor: Handler<M>,
        Context<PartitionActor>: ToEnvelope<PartitionActor, M>,
    {
        let address = self.address.read().unwrap_or_else(PoisonError::into_inner);
        let address = address.as_ref().filter(|address| address.connected()).ok_or(NotRunning)?;
        address.do_send(message);
        Ok(())
    }

    /// Whether records can be read from a partition in this state.
    pub(crate) fn check_readable(&self, view: &PartitionView) -> Result<(), FetchError> {
        if self.node.is_draining() {
            return Err(FetchError::Draining);
        }
        let retry_after_ms = self.node.retry_after_ms();
        match &view.status {
            PartitionStatus::Leader => Ok(()),
            PartitionStatus::Follower => Err(FetchError::NotLeader { leader: view.leader, retry_after_ms }),
            PartitionStatus::Recovering | PartitionStatus::Electing => Err(FetchError::NotReady { retry_after_ms }),
            PartitionStatus::Offline(reason) => Err(FetchError::Offline(Arc::clone(reason))),
            PartitionStatus::Closed if self.is_moved() => Err(FetchError::NotLeader { leader: None, retry_after_ms }),
            PartitionStatus::Closed => Err(FetchError::Draining),
            PartitionStatus::Deleted => Err(FetchError::Deleted),
        }
    }

    /// The view, and the reader that goes with it, when this replica leads and a quorum has confirmed that lately: a
    /// leader that was cut off or held up must not answer what its successor would answer otherwise.
    pub(crate) fn readable(&self) -> Result<(PartitionView, LogReader), FetchError> {
        let published = self.published.borrow();
        self.check_readable(&published.view)?;
        let not_ready = || FetchError::NotReady { retry_after_ms: self.node.retry_after_ms() };
        let lease = published.lease.as_ref().filter(|lease| lease.holds(self.node.monotonic_ms(), LEASE_MS));
        lease.ok_or_else(not_ready)?;
        // The reader is cloned so that a read that waits for the disk does not hold up the publisher.
        let reader = published.reader.clone().ok_or_else(not_ready)?;
        Ok((published.view.clone(), reader))
    }

    /// Replaces the status; offsets stay. A partition whose log is closed has no reader, and leads nothing.
    pub(crate) fn publish_status(&self, status: PartitionStatus) {
        self.publish_status_with(status, |_| ());
    }

    /// As [`PartitionSlot::publish_status`]; `change` sees the former view.
    pub(super) fn publish_status_with(&self, status: PartitionStatus, change: impl FnOnce(&mut PartitionView)) {
        self.published.send_modify(|published| {
            let Published { view, reader, lease } = published;
            change(view);
            (*reader, *lease) = (None, None);
            view.in_sync = Arc::new([]);
            view.move_complete = None;
            view.status = status;
        });
    }

    /// The leadership is over: from now on nothing is read here, though what else has changed is published later.
    pub(super) fn end_leadership(&self) {
        self.published.send_if_modified(|published| {
            let led = published.view.status == PartitionStatus::Leader || published.lease.is_some();
            if led {
                published.view.status = PartitionStatus::Electing;
                published.lease = None;
            }
            led
        });
    }

    /// The actor has died: a leadership is never resumed, so if it led it wants a new epoch.
    pub(super) fn publish_death(&self) {
        let mut has_resigned = false;
        self.publish_status_with(PartitionStatus::Recovering, |view| {
            if view.is_led_by(self.node.config.broker_id) {
                view.resigned = Some(view.leader_epoch);
                has_resigned = true;
            }
        });
        if has_resigned {
            self.node.resigned.send_modify(|count| *count += 1);
        }
    }

    /// Wakes everyone who waits for this partition, so that they look at the broker's state.
    pub(crate) fn wake_waiting(&self) {
        self.published.send_modify(|_| ());
    }
}
