//! Leaderships that move while their leader lives: it holds appends until the next leader has
//! everything, and only then its epoch ends.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Key, TransferRequest, index::Index, peers::Report, surroundings::Surroundings};
use crate::{BrokerId, LeaderEpoch, cluster::PartitionImage};

/// Why a leadership moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The leader is being taken out of service.
    Drain,
    /// The preferred leader is back.
    Preferred,
    /// An operator wants it.
    Requested,
    /// The leader is not among the new replicas of a move that is complete.
    Leave,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    epoch: LeaderEpoch,
    leader: BrokerId,
    to: BrokerId,
    reason: Reason,
    begun_ms: u64,
    is_ready: bool,
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) key: Key,
    pub(super) to: BrokerId,
    pub(super) reason: Reason,
}

#[derive(Debug)]
pub(super) struct Transfers {
    under_way: BTreeMap<Key, Transfer>,
    /// Those that the next actions tell to their leaders.
    unsent: BTreeSet<Key>,
    /// Where operators have put leaderships: the preferred leader does not take these back.
    requested: BTreeMap<Key, BrokerId>,
    /// When preferred leaders are looked after next.
    preferred_ms: u64,
    /// The last partition that was given back to its preferred leader.
    cursor: Option<Key>,
}

impl Transfers {
    pub(super) const fn new(preferred_ms: u64) -> Self {
        Self {
            under_way: BTreeMap::new(),
            unsent: BTreeSet::new(),
            requested: BTreeMap::new(),
            preferred_ms,
            cursor: None,
        }
    }

    /// Follows a partition; `None`: it is deleted.
    pub(super) fn on_partition(&mut self, key: Key, partition: Option<&PartitionImage>) {
        let leads_on = |transfer: &Transfer| {
            partition.is_some_and(|now| now.leader == Some(transfer.leader) && now.leader_epoch == transfer.epoch)
        };
        if self.under_way.get(&key).is_some_and(|transfer| !leads_on(transfer)) {
            self.remove(key);
        }
        let is_elsewhere = |to: &BrokerId| partition.is_none_or(|now| now.leader.is_some_and(|leader| leader != *to));
        if !self.under_way.contains_key(&key) && self.requested.get(&key).is_some_and(is_elsewhere) {
            self.requested.remove(&key);
        }
    }

    pub(super) fn on_ready(&mut self, ready: &TransferRequest) {
        let transfer = self.under_way.get_mut(&(ready.topic_id, ready.partition));
        if let Some(transfer) = transfer.filter(|known| known.epoch == ready.epoch && known.to == ready.to) {
            transfer.is_ready = true;
        }
    }

    /// An operator's wish takes the place of what is under way.
    pub(super) fn request(&mut self, key: Key, epoch: LeaderEpoch, leader: BrokerId, to: BrokerId, now_ms: u64) {
        self.requested.insert(key, to);
        self.begin(key, Transfer { epoch, leader, to, reason: Reason::Requested, begun_ms: now_ms, is_ready: false });
    }

    fn begin(&mut self, key: Key, transfer: Transfer) {
        self.under_way.insert(key, transfer);
        self.unsent.insert(key);
    }

    fn remove(&mut self, key: Key) {
        self.under_way.remove(&key);
        self.unsent.remove(&key);
    }

    /// Drops what has no more prospect and begins what is due. Answers the transfers whose epochs
    /// are to end: they are ready, or the leader has to go in any case.
    pub(super) fn step(&mut self, around: &Surroundings<'_>, index: &Index, actions: &mut Vec<Action>) -> Vec<Ended> {
        let ended = self.end(around);
        self.begin_drains(around, index);
        self.begin_leaves(around, index);
        if around.now_ms >= self.preferred_ms {
            self.preferred_ms = around.now_ms.saturating_add(around.config.preferred_interval_ms);
            self.begin_preferred(around, index);
        }
        self.send(around, actions);
        ended
    }

    fn end(&mut self, around: &Surroundings<'_>) -> Vec<Ended> {
        let mut ended = Vec::new();
        let mut hopeless = Vec::new();
        for (key, transfer) in &self.under_way {
            let Transfer { to, reason, .. } = *transfer;
            let is_late = around.now_ms >= transfer.begun_ms.saturating_add(around.config.transfer_timeout_ms);
            if !around.alive.contains_key(&to) {
                hopeless.push(*key);
            } else if transfer.is_ready || (is_late && matches!(reason, Reason::Drain | Reason::Leave)) {
                ended.push(Ended { key: *key, to, reason });
            } else if is_late {
                hopeless.push(*key);
            }
        }
        for key in hopeless {
            self.remove(key);
            self.requested.remove(&key);
        }
        ended
    }

    /// A leader that drains hands over to whoever is in sync. Without such a replica it leads on.
    fn begin_drains(&mut self, around: &Surroundings<'_>, index: &Index) {
        for (leader, registration) in &around.image.brokers {
            if !registration.draining || !around.alive.contains_key(leader) {
                continue;
            }
            let under_way = self.under_way.values().filter(|transfer| transfer.leader == *leader).count();
            let mut room = around.config.drain_batch.saturating_sub(under_way);
            for key in index.led_by(*leader) {
                if room == 0 {
                    break;
                }
                let in_hand = self.under_way.get(&key).map(|transfer| transfer.reason);
                if in_hand.is_none() && self.begin_if_possible(key, Reason::Drain, around, |_, _| true) {
                    room -= 1;
                }
            }
        }
    }

    /// A leader that its partition is about to leave behind hands over to one of the new replicas.
    fn begin_leaves(&mut self, around: &Surroundings<'_>, index: &Index) {
        for key in &index.moving {
            let Some(partition) = around.partition(*key).filter(|partition| leaves(partition)) else { continue };
            if self.under_way.contains_key(key) || !around.is_move_complete(*key, partition) {
                continue;
            }
            let is_new = |partition: &PartitionImage, to| partition.moving_to.iter().flatten().any(|new| *new == to);
            self.begin_if_possible(*key, Reason::Leave, around, is_new);
        }
    }

    /// Gives some leaderships back to their preferred leaders, in turn.
    fn begin_preferred(&mut self, around: &Surroundings<'_>, index: &Index) {
        let after = |key: &&Key| self.cursor.is_none_or(|cursor| **key > cursor);
        let (later, earlier): (Vec<_>, Vec<_>) = index.displaced.iter().partition(after);
        let mut room = around.config.preferred_batch;
        for key in later.into_iter().chain(earlier) {
            if room == 0 {
                break;
            }
            if self.under_way.contains_key(key) || self.requested.contains_key(key) || index.moving.contains(key) {
                continue;
            }
            let is_first = |partition: &PartitionImage, to| partition.replicas.first() == Some(&to);
            if self.begin_if_possible(*key, Reason::Preferred, around, is_first) {
                self.cursor = Some(*key);
                room -= 1;
            }
        }
    }

    /// Begins a transfer to the first replica that is `wanted`, alive, in sync and in service.
    fn begin_if_possible(
        &mut self,
        key: Key,
        reason: Reason,
        around: &Surroundings<'_>,
        wanted: impl Fn(&PartitionImage, BrokerId) -> bool,
    ) -> bool {
        let Some(partition) = around.partition(key) else { return false };
        let (Some(leader), Some(Report { in_sync, .. })) = (partition.leader, around.peers.report(key, partition))
        else {
            return false;
        };
        let is_fit = |broker: &BrokerId| {
            *broker != leader && in_sync.contains(broker) && around.is_in_service(*broker) && wanted(partition, *broker)
        };
        let Some(to) = partition.members().find(is_fit).filter(|_| around.alive.contains_key(&leader)) else {
            return false;
        };
        let epoch = partition.leader_epoch;
        self.begin(key, Transfer { epoch, leader, to, reason, begun_ms: around.now_ms, is_ready: false });
        true
    }

    fn send(&mut self, around: &Surroundings<'_>, actions: &mut Vec<Action>) {
        let mut batches: BTreeMap<BrokerId, Vec<TransferRequest>> = BTreeMap::new();
        for key in std::mem::take(&mut self.unsent) {
            let Some(Transfer { epoch, leader, to, .. }) = self.under_way.get(&key).copied() else { continue };
            let (topic_id, partition) = key;
            batches.entry(leader).or_default().push(TransferRequest { topic_id, partition, epoch, to });
        }
        for (leader, partitions) in batches {
            if let Some(incarnation) = around.alive.get(&leader).copied() {
                actions.push(Action::Transfer { leader, incarnation, partitions });
            }
        }
    }

    /// Whether one is under way.
    pub(super) fn contains(&self, key: Key) -> bool {
        self.under_way.contains_key(&key)
    }

    /// When there is something to do next, if nothing happens.
    pub(super) fn due_ms(&self, around: &Surroundings<'_>, index: &Index) -> Option<u64> {
        let waiting = self.under_way.values().filter(|transfer| !transfer.is_ready);
        let late_ms = waiting.map(|transfer| transfer.begun_ms.saturating_add(around.config.transfer_timeout_ms)).min();
        let late_ms = late_ms.filter(|late_ms| around.now_ms < *late_ms);
        let preferred_ms = (!index.displaced.is_empty()).then_some(self.preferred_ms);
        late_ms.into_iter().chain(preferred_ms).min()
    }
}

/// Whether the leader is not among the new replicas of a move.
pub(super) fn leaves(partition: &PartitionImage) -> bool {
    let new = partition.moving_to.as_ref();
    new.zip(partition.leader).is_some_and(|(new, leader)| !new.contains(&leader))
}
