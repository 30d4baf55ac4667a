//! Streams: window queries over topics, computed where the data is led.
//!
//! A stream is a document in the metadata log. Each of its generations has tasks, and each task a partition of an
//! internal changelog topic: the broker that leads that partition runs the task. All that a task knows is in that
//! partition, so a task moves with the leadership, and is read again after whatever goes wrong.
//!
//! ```text
//! cluster image ──► StreamsActor ──► watch: one a changelog partition kept here; waits for it to be led here
//!                                      │ starts, and ends
//!                                      ▼
//!                                StreamWindowActor × task      streams arbiters, low priority
//!                                      ▲ messages: what changes the task, one after the other
//!                                      │
//!                                    drive: reads the input, appends commits, publishes their outputs
//! ```
//!
//! [`task_actor`] owns the task and is thin: it orders messages and calls
//! [`Task`](pubg1_model::streams::task::Task). [`drive`] does what has to be waited for. [`restore`] reads the changelog,
//! [`feed`] the input, [`commit`] appends and publishes, [`times`] asks the tasks of other partitions how far they are.
//! [`declare`] is what changes a stream, [`mod@describe`] and [`mod@windows`] what is told of it, on any broker;
//! [`wire`] is what brokers ask each other for that. [`upkeep`] looks after streams as a whole.

mod actor;
mod cell;
mod commit;
mod declare;
mod describe;
mod drive;
mod feed;
mod messages;
mod restore;
mod task_actor;
mod times;
mod topics;
mod upkeep;
mod watch;
mod windows;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

use actix::{Addr, Context, Handler, Message, dev::ToEnvelope};
use pubg1_metrics::{ActorKind, RejectReason};
use pubg1_model::TopicId;
use tokio::sync::oneshot;

use crate::{node::NodeContext, replica_states::PartitionKey};
use actor::StreamsActor;
use cell::TaskCell;
use messages::Quiesce;

pub(crate) use actor::start_streams;
pub(crate) use declare::{create, delete, pause, replace, resume};
pub(crate) use describe::{describe, list};
pub(crate) use windows::windows;
pub(crate) use wire::answer;

/// What runs of streams on this broker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StreamTasks(Arc<Inner>);

struct Inner {
    node: Arc<NodeContext>,
    /// The tasks that run here, by their partition of the changelog.
    cells: RwLock<BTreeMap<PartitionKey, Arc<TaskCell>>>,
    /// What each life of a task holds. It outlives the actor: no two lives of a task run at once.
    lives: Mutex<BTreeMap<PartitionKey, Weak<tokio::sync::Mutex<()>>>>,
    address: RwLock<Option<Addr<StreamsActor>>>,
}

impl StreamTasks {
    pub(crate) fn new(node: Arc<NodeContext>) -> Self {
        Self(Arc::new(Inner { node, cells: RwLock::default(), lives: Mutex::default(), address: RwLock::new(None) }))
    }

    fn set_address(&self, address: Option<Addr<StreamsActor>>) {
        *self.0.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Queues a message that is sent once, or by tests. `false`: there is no actor.
    #[expect(clippy::disallowed_methods, reason = "sent once, or by tests")]
    fn post<M>(&self, message: M) -> bool
    where
        M: Message + Send + 'static,
        M::Result: Send,
        StreamsActor: Handler<M>,
        Context<StreamsActor>: ToEnvelope<StreamsActor, M>,
    {
        let address = self.0.address.read().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = address.as_ref().filter(|address| address.connected()) else {
            self.0.node.metrics.actor(ActorKind::Streams).rejected(RejectReason::Unavailable).inc();
            return false;
        };
        address.do_send(message);
        true
    }

    /// The task of a partition of a changelog, if it runs here.
    fn cell(&self, key: PartitionKey) -> Option<Arc<TaskCell>> {
        self.0.cells.read().unwrap_or_else(PoisonError::into_inner).get(&key).map(Arc::clone)
    }

    /// The tasks of a changelog that run here.
    fn of_changelog(&self, changelog: TopicId) -> Vec<Arc<TaskCell>> {
        let first = (changelog, pubg1_model::PartitionId(0));
        let cells = self.0.cells.read().unwrap_or_else(PoisonError::into_inner);
        let of_it = cells.range(first..).take_while(|((topic, _), _)| *topic == changelog);
        of_it.map(|(_, cell)| Arc::clone(cell)).collect()
    }

    fn insert(&self, key: PartitionKey, cell: Arc<TaskCell>) {
        self.0.cells.write().unwrap_or_else(PoisonError::into_inner).insert(key, cell);
    }

    /// Removes a task, unless another one has its place.
    fn remove(&self, key: PartitionKey, cell: &Arc<TaskCell>) {
        let mut cells = self.0.cells.write().unwrap_or_else(PoisonError::into_inner);
        if cells.get(&key).is_some_and(|current| Arc::ptr_eq(current, cell)) {
            cells.remove(&key);
        }
    }

    /// Ends all tasks, and starts none any more. Resolves when none runs. What they have committed is published by
    /// those that take their place.
    pub(crate) async fn quiesce(&self) {
        let (quiet, answer) = oneshot::channel();
        if self.post(Quiesce { quiet }) {
            // A dropped answer says as much: the actor is gone.
            answer.await.unwrap_or_default();
        }
        self.set_address(None);
    }

    /// Makes the tasks of all streams here panic.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn panic_tasks(&self) {
        let cells = self.0.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.values().for_each(|cell| cell.panic());
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn inject_panic(&self) {
        self.post(messages::Panic);
    }
}

#[cfg(test)]
mod tests;
