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
use pubg1_model::{LeaderEpoch, Offset, PartitionId, TopicId, TopicName, TopicPartition};
use pubg1_storage::LogReader;
use tokio::sync::watch;

use super::{PartitionStatus, PartitionView, actor::PartitionActor};
use crate::{
    errors::{AppendError, FetchError},
    node::NodeContext,
};

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
}

/// What the partition's actor publishes: the view, and the reader that belongs to it.
pub(crate) struct Published {
    pub(crate) view: PartitionView,
    /// There while the partition leads.
    pub(crate) reader: Option<LogReader>,
}

/// A partition, as its handles see it. The actor comes and goes behind it.
pub(crate) struct PartitionSlot {
    pub(crate) identity: PartitionIdentity,
    pub(crate) node: Arc<NodeContext>,
    pub(crate) topic_metrics: Arc<TopicMetrics>,
    pub(crate) published: watch::Sender<Published>,
    /// Held together with the open log: a new actor opens it only when the former has let go.
    pub(crate) lease: Arc<tokio::sync::Mutex<()>>,
    /// Held while the directory is compacted: one job at a time, also across a restart.
    pub(crate) compaction: Arc<tokio::sync::Mutex<()>>,
    address: RwLock<Option<Addr<PartitionActor>>>,
    /// Set when the actor ends after it has answered everyone: what its mailbox still holds was not handled.
    ended_in_order: AtomicBool,
}

/// There is no actor to take the message: it has died, or ended.
#[derive(Debug)]
pub(crate) struct NotRunning;

impl PartitionSlot {
    pub(crate) fn new(identity: PartitionIdentity, node: Arc<NodeContext>) -> Arc<Self> {
        let view = PartitionView {
            status: PartitionStatus::Recovering,
            log_start_offset: Offset::ZERO,
            high_watermark: Offset::ZERO,
            log_end_offset: Offset::ZERO,
            flushed_offset: Offset::ZERO,
            size_bytes: 0,
            leader: node.config.broker_id,
            leader_epoch: LeaderEpoch::ZERO,
        };
        Arc::new(Self {
            topic_metrics: node.metrics.topic(identity.topic.as_str()),
            identity,
            node,
            published: watch::Sender::new(Published { view, reader: None }),
            lease: Arc::default(),
            compaction: Arc::default(),
            address: RwLock::new(None),
            ended_in_order: AtomicBool::new(false),
        })
    }

    pub(crate) fn view(&self) -> PartitionView {
        self.published.borrow().view.clone()
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
        if self.ended_in_order.load(Ordering::Acquire) {
            return match self.published.borrow().view.status {
                PartitionStatus::Deleted => AppendError::Deleted,
                _ => AppendError::Draining,
            };
        }
        let retry_after_ms = self.node.retry_after_ms();
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
        match &view.status {
            PartitionStatus::Leader => Ok(()),
            PartitionStatus::Recovering => Err(FetchError::NotReady { retry_after_ms: self.node.retry_after_ms() }),
            PartitionStatus::Offline(reason) => Err(FetchError::Offline(Arc::clone(reason))),
            PartitionStatus::Closed => Err(FetchError::Draining),
            PartitionStatus::Deleted => Err(FetchError::Deleted),
        }
    }

    /// The view, and the reader that goes with it.
    pub(crate) fn readable(&self) -> Result<(PartitionView, LogReader), FetchError> {
        let published = self.published.borrow();
        self.check_readable(&published.view)?;
        let not_ready = || FetchError::NotReady { retry_after_ms: self.node.retry_after_ms() };
        // The reader is cloned so that a read that waits for the disk does not hold up the publisher.
        let reader = published.reader.clone().ok_or_else(not_ready)?;
        Ok((published.view.clone(), reader))
    }

    /// Replaces the status; offsets stay, the reader goes unless the partition leads.
    pub(crate) fn publish_status(&self, status: PartitionStatus) {
        self.published.send_modify(|published| {
            if status != PartitionStatus::Leader {
                published.reader = None;
            }
            published.view.status = status;
        });
    }

    /// Wakes everyone who waits for this partition, so that they look at the broker's state.
    pub(crate) fn wake_waiting(&self) {
        self.published.send_modify(|_| ());
    }
}
