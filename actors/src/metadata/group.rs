//! The group as it runs here, and how it is brought up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{MetadataHandle, actor::OpenError};
use crate::raft::{
    formation::end_probation,
    log_store::LogStore,
    network::Network,
    settle::{Part, settle},
    state_machine::StateMachine,
    store::{Store, StoreError},
    types::{Raft, broker_id, node_id},
    wire::{Answer, ReadPoint, Refusal},
};

/// A running member of the group. Clones are the same member.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) raft: Raft,
    pub(super) store: Store,
    /// It has just founded the group: there was no leader before.
    pub(super) is_new: bool,
    /// Held from looking at the own vote until what follows from it is on its way to openraft.
    pub(super) ballot: Arc<tokio::sync::Mutex<()>>,
    /// Set when a vote was refused because another member has a longer log.
    pub(super) behind: Arc<AtomicBool>,
    /// While it is set, no vote is given and none asked for.
    probation: Arc<AtomicBool>,
}

/// What there is for other brokers to ask.
#[derive(Clone, Default)]
pub(super) enum Access {
    /// Nothing.
    #[default]
    Closed,
    /// The store, while it is being found out what an empty one may do.
    Settling(Store),
    /// The group.
    Running(Group),
}

impl Group {
    pub(super) fn on_probation(&self) -> bool {
        self.probation.load(Ordering::Acquire)
    }

    /// How far a broker must have applied to know what this one, the leader, knows. It makes sure first that it still
    /// is the leader.
    ///
    /// The end of the log, not the commit: a leader that was started again has forgotten how far that was.
    pub(super) async fn read_point(&self) -> Answer<ReadPoint> {
        let leader = || Refusal::NotLeader { leader: self.raft.metrics().borrow().current_leader.map(broker_id) };
        let (read, _) = self.raft.get_read_log_id().await.map_err(|_| leader())?;
        let last = self.raft.metrics().borrow().last_log_index;
        last.max(read.map(|read| read.index)).map(|index| ReadPoint { index }).ok_or_else(leader)
    }

    /// From here on it votes and campaigns as everyone does.
    pub(super) async fn end_probation(&self) -> Result<(), StoreError> {
        end_probation(&self.store).await?;
        self.probation.store(false, Ordering::Release);
        self.raft.runtime_config().elect(true);
        Ok(())
    }
}

/// Opens the store, settles what it may do, and starts openraft on the runtime this runs on.
pub(super) async fn bring_up(handle: &MetadataHandle, pause: Duration) -> Result<Group, OpenError> {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let (node, group) = (&handle.0.node, &handle.0.group);
    // Held by the store: the former one is closed when this is granted.
    let lease = Arc::clone(&handle.0.lease).lock_owned().await;
    let (dir, writer, metrics) = (node.config.data_dir.join("metadata"), node.metadata.clone(), node.metrics.clone());
    let opened = node.metadata.run(move || Store::open(&dir, writer, metrics, lease)).await;
    let store = opened.unwrap_or(Err(StoreError::Stopped))?;
    handle.set_access(Access::Settling(store.clone()));
    for (broker, address) in &group.voters {
        group.transport.learn(*broker, address);
    }
    let waiting = |obstacle| drop(node.obstacle.send_replace(obstacle));
    let part = settle(&store, group, waiting).await?;
    let probation = part == Part::Probation;
    let config = group.raft_config(probation).map_err(OpenError::Unusable)?;
    let publisher = handle.clone();
    let machine = StateMachine::open(store.clone(), Arc::new(move |image| publisher.publish(image)))?;
    let behind = Arc::default();
    let network = Network::new(Arc::clone(&group.transport), Arc::clone(&behind));
    let log = LogStore::new(store.clone());
    let raft = Raft::new(node_id(group.broker), Arc::new(config), network, log, machine).await;
    let raft = raft.map_err(|error| match store.failure() {
        Some(failure) => failure.into(),
        None => OpenError::Unusable(error.to_string()),
    })?;
    let (is_new, ballot) = (part == Part::Founder, Arc::default());
    Ok(Group { raft, store, is_new, ballot, behind, probation: Arc::new(AtomicBool::new(probation)) })
}
