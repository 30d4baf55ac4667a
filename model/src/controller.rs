//! The controller: it decides who leads each partition, on the broker that leads the metadata.
//!
//! It is pure. What happens is told to it, with the time; what is to be done, it answers as
//! [`Action`]s when it is polled. It keeps no plan of its own: whatever it wants follows from the
//! image and from who lives, so that a proposal that is lost, or is refused because the image has
//! moved on, is just computed again, and a new controller goes on where the former one ended.
//!
//! A partition whose leader is dead, was restarted or resigns gets a new epoch, in which nobody
//! leads (one command for all such partitions). Its replicas are fenced: they promise the epoch
//! and tell how their logs are. [`Election`](crate::replication::Election) chooses, and one more
//! command sets the leaders. Two things are waited for beyond a quorum of answers:
//!
//! - the other replicas that live, for a short grace, as one of them may be preferred;
//! - the lease of a deposed leader that may be alive and does not answer. Until its followers have
//!   been silent for so long it may answer reads, and knows nothing of a successor.
//!
//! A leader that has to go while it is well (it drains, its partition moves away, the preferred
//! leader is back, an operator wants another) is first asked to hold appends until its successor
//! has everything, so that no append is in doubt.
//!
//! A move of replicas ends when the leader says that the new ones can stand alone. It is taken back
//! when it is all that keeps a partition without a leader.
//!
//! A broker is dead when nothing was heard of it for a session, or at once when its port refuses.
//! Sources: KIP-631 for registrations and heartbeats; Gray and Cheriton, "Leases" (1989).

mod elections;
mod index;
mod message;
mod peers;
mod proposals;
mod surroundings;
mod transfers;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    BrokerId, PartitionId, TopicId,
    cluster::{ClusterImage, Incarnation},
    replication::message::FenceAnswer,
};
use elections::Elections;
use index::Index;
use peers::Peers;
use proposals::Proposals;
use surroundings::Surroundings;
use transfers::Transfers;

pub use message::{
    Action, FenceRequest, Heartbeat, HeartbeatAnswer, LeaderRequestError, LedPartition, TransferRequest,
};

/// A partition.
type Key = (TopicId, PartitionId);

/// The longest that a controller may go unpolled.
const POLL_INTERVAL_MS: u64 = 100;

/// The times of a controller, in milliseconds, and the sizes of what it does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// A broker that was not heard of for so long is dead.
    pub session_timeout_ms: u64,
    /// How long an election that has a quorum waits for the other replicas that live.
    pub fence_grace_ms: u64,
    /// How long a leader answers reads after its last contact to a quorum.
    pub lease_ms: u64,
    /// After so long a fence that was not answered is sent again, and a proposal that failed is
    /// made again.
    pub fence_retry_ms: u64,
    /// How often leaderships are given back to preferred leaders.
    pub preferred_interval_ms: u64,
    /// How many at once.
    pub preferred_batch: usize,
    /// How many leaderships a broker that drains hands over at once.
    pub drain_batch: usize,
    /// How long a leader may take to prepare for its successor.
    pub transfer_timeout_ms: u64,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 1000,
            fence_grace_ms: 30,
            lease_ms: 400,
            fence_retry_ms: 100,
            preferred_interval_ms: 10_000,
            preferred_batch: 20,
            drain_batch: 200,
            transfer_timeout_ms: 1000,
        }
    }
}

/// The state of a controller: what it was told.
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    me: BrokerId,
    image: Arc<ClusterImage>,
    peers: Peers,
    /// Who lived when it was last looked.
    alive: BTreeMap<BrokerId, Incarnation>,
    index: Index,
    elections: Elections,
    transfers: Transfers,
    proposals: Proposals,
    now_ms: u64,
    /// Something has happened since the last poll.
    is_dirty: bool,
    due_ms: u64,
}

impl Controller {
    /// A controller on broker `me` that knows nothing yet and presumes every broker alive from now
    /// on. Whoever drives it tells it at once whose ports refuse.
    #[must_use]
    pub fn new(config: ControllerConfig, me: BrokerId, now_ms: u64) -> Self {
        Self {
            config,
            me,
            image: Arc::default(),
            peers: Peers::new(config.session_timeout_ms, config.fence_retry_ms, now_ms),
            alive: BTreeMap::new(),
            index: Index::default(),
            elections: Elections::default(),
            transfers: Transfers::new(now_ms.saturating_add(config.preferred_interval_ms)),
            proposals: Proposals::default(),
            now_ms,
            is_dirty: true,
            due_ms: now_ms,
        }
    }

    /// A newer image.
    pub fn on_image(&mut self, image: Arc<ClusterImage>, now_ms: u64) {
        self.on_time(now_ms);
        if image.version < self.image.version {
            return;
        }
        let former = std::mem::replace(&mut self.image, image);
        self.peers.on_image(&self.image, now_ms);
        for key in self.index.on_image(&former, &self.image) {
            let partition = self.image.partition_by_id(key.0, key.1);
            self.elections.on_partition(key, partition);
            self.transfers.on_partition(key, partition);
            self.peers.forget_before(key, partition.map(|partition| partition.leader_epoch));
        }
        if former.brokers != self.image.brokers {
            self.elections.touch();
        }
        self.is_dirty = true;
    }

    /// A broker lives. Heartbeats of the controller's own broker are told too.
    pub fn on_heartbeat(&mut self, heartbeat: &Heartbeat, now_ms: u64) -> HeartbeatAnswer {
        self.on_time(now_ms);
        let (answer, changes) = self.peers.on_heartbeat(heartbeat, now_ms);
        self.is_dirty |= changes;
        // An older image may not know of its registration yet.
        let is_over = !answer.known && self.image.version >= heartbeat.version;
        HeartbeatAnswer { is_over, ..answer }
    }

    /// The port of a broker refuses: its process is gone. `incarnation`: the life that was reached
    /// there before, if any was.
    pub fn on_gone(&mut self, broker: BrokerId, incarnation: Option<Incarnation>, now_ms: u64) {
        self.on_time(now_ms);
        if broker != self.me && self.peers.on_gone(broker, incarnation, now_ms) {
            self.elections.touch();
            self.is_dirty = true;
        }
    }

    /// A broker has answered fences, some of those it was sent or all.
    pub fn on_fence_answers(
        &mut self,
        broker: BrokerId,
        answers: Vec<(TopicId, PartitionId, FenceAnswer)>,
        now_ms: u64,
    ) {
        self.on_time(now_ms);
        if let Some(peer) = self.peers.get_mut(broker).filter(|peer| peer.retries > 0) {
            peer.retries = 0;
            self.elections.touch();
        }
        for (topic_id, partition, answer) in answers {
            self.elections.on_answer(broker, (topic_id, partition), answer);
        }
        self.is_dirty = true;
    }

    /// A leader holds appends, and the replica that shall follow it has everything.
    pub fn on_transfer_ready(&mut self, ready: &TransferRequest, now_ms: u64) {
        self.on_time(now_ms);
        self.transfers.on_ready(ready);
        self.is_dirty = true;
    }

    /// An operator wants this replica to lead. It does as soon as it can, and is not replaced by
    /// the preferred leader afterwards; when it cannot within the time for a transfer, the leader
    /// stays.
    ///
    /// # Errors
    /// [`LeaderRequestError`] when it cannot.
    pub fn request_leader(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
        to: BrokerId,
        now_ms: u64,
    ) -> Result<(), LeaderRequestError> {
        self.on_time(now_ms);
        let key = (topic_id, partition);
        let image = self.image.partition_by_id(topic_id, partition).ok_or(LeaderRequestError::UnknownPartition)?;
        let is_replica = image.is_kept_by(to);
        let leader = image.leader.filter(|_| !self.index.lost.contains(&key));
        let Some(registration) = self.image.brokers.get(&to).filter(|_| is_replica) else {
            return Err(LeaderRequestError::NotAReplica(to));
        };
        if !self.peers.is_alive(to, now_ms) {
            return Err(LeaderRequestError::NotAlive(to));
        }
        if registration.draining {
            return Err(LeaderRequestError::Draining(to));
        }
        let leader =
            leader.filter(|leader| self.peers.is_alive(*leader, now_ms)).ok_or(LeaderRequestError::NoLeader)?;
        if leader == to {
            return Ok(());
        }
        let report = self.peers.report(key, image);
        if !report.is_some_and(|report| report.in_sync.contains(&to)) {
            return Err(LeaderRequestError::NotInSync(to));
        }
        self.transfers.request(key, image.leader_epoch, leader, to, now_ms);
        self.is_dirty = true;
        Ok(())
    }

    /// The proposal that was under way has ended: it was applied, or it was not as far as is known.
    /// What it asked for is proposed again only from a newer image, or when that does not come.
    pub fn on_proposed(&mut self, ok: bool, now_ms: u64) {
        self.on_time(now_ms);
        let pause_ms = if ok { self.config.session_timeout_ms } else { self.config.fence_retry_ms };
        self.proposals.on_ended(now_ms.saturating_add(pause_ms));
        self.is_dirty = true;
    }

    /// What is to be done now. At most one proposal is under way at a time.
    pub fn poll(&mut self, now_ms: u64) -> Vec<Action> {
        self.on_time(now_ms);
        let alive = self.peers.alive(now_ms);
        if alive != self.alive {
            self.alive = alive;
            self.elections.touch();
            self.is_dirty = true;
        }
        if !self.is_dirty && now_ms < self.due_ms {
            return Vec::new();
        }
        self.is_dirty = false;
        let mut actions = Vec::new();
        let around =
            Surroundings { config: &self.config, image: &self.image, peers: &self.peers, alive: &self.alive, now_ms };
        let ended = self.transfers.step(&around, &self.index, &mut actions);
        let retried = self.elections.step(&around, &mut actions);
        if self.proposals.may_propose(&self.image, now_ms) {
            let command = proposals::next(&around, &self.index, &ended, &self.transfers, &mut self.elections);
            if let Some(command) = self.proposals.begin(command, &self.image) {
                actions.push(Action::Propose(command));
            }
        }
        let dues = [
            self.peers.next_expiry_ms(now_ms),
            self.elections.due_ms(),
            self.transfers.due_ms(&around, &self.index),
            self.proposals.due_ms(&self.image, now_ms),
        ];
        self.due_ms = dues.into_iter().flatten().min().unwrap_or(u64::MAX);
        for broker in retried {
            if let Some(peer) = self.peers.get_mut(broker) {
                peer.retries = peer.retries.saturating_add(1);
            }
        }
        actions
    }

    /// When to poll again, unless something happens before.
    #[must_use]
    pub fn next_wake_ms(&self, now_ms: u64) -> u64 {
        if self.is_dirty { now_ms } else { self.due_ms.clamp(now_ms, now_ms.saturating_add(POLL_INTERVAL_MS)) }
    }

    /// Whether a broker is registered and lives.
    #[must_use]
    pub fn alive(&self, broker: BrokerId, now_ms: u64) -> bool {
        self.peers.is_alive(broker, now_ms)
    }

    /// The replicas that the leader of a partition counts as caught up; `None` when it has none, or
    /// has not said so yet.
    #[must_use]
    pub fn in_sync(&self, topic_id: TopicId, partition: PartitionId) -> Option<&[BrokerId]> {
        let image = self.image.partition_by_id(topic_id, partition)?;
        Some(&self.peers.report((topic_id, partition), image)?.in_sync)
    }

    /// Why nobody serves a partition at present; `None` when somebody does, or it is not there.
    #[must_use]
    pub fn offline_reason(&self, topic_id: TopicId, partition: PartitionId) -> Option<String> {
        let key = (topic_id, partition);
        let image = self.image.partition_by_id(topic_id, partition)?;
        match image.leader {
            Some(leader) if self.index.lost.contains(&key) => {
                Some(format!("broker {leader}, which led it, was restarted"))
            }
            Some(leader) if !self.peers.is_alive(leader, self.now_ms) => {
                Some(format!("broker {leader}, which leads it, is not alive"))
            }
            Some(leader) => {
                let resigned = self.peers.get(leader).map(|peer| &peer.resigned);
                let has_resigned = resigned.is_some_and(|resigned| resigned.contains(&(key, image.leader_epoch)));
                has_resigned.then(|| format!("broker {leader} cannot lead it"))
            }
            None => {
                let alive = self.peers.alive(self.now_ms);
                let (config, peers) = (&self.config, &self.peers);
                let around = Surroundings { config, image: &self.image, peers, alive: &alive, now_ms: self.now_ms };
                Some(self.elections.reason(key, image, &around))
            }
        }
    }

    fn on_time(&mut self, now_ms: u64) {
        self.peers.on_time(now_ms);
        self.now_ms = self.now_ms.max(now_ms);
    }
}

#[cfg(test)]
mod tests;
