//! What a leader knows of its followers, and what follows from it: the high watermark, when a
//! replica may adopt, when a change of the replica set is complete, when to step down.

use super::{ReplicaSet, message::ReplicaFetch, message::StorageId, quorum_reached};
use crate::{BrokerId, LeaderEpoch, Offset};

/// The leader cannot yet say what its latest offset is: it would be smaller than what its
/// predecessor has said (KIP-207). Try again soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leader of epoch {epoch} has not committed up to {epoch_start}, where its epoch began; try again")]
pub struct LatestOffsetUnknown {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Where the epoch begins.
    pub epoch_start: Offset,
}

/// One follower as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Follower {
    broker: BrokerId,
    /// The disk it was last heard from; `None` until it was heard from in this epoch.
    storage: Option<StorageId>,
    /// The newest life of its broker that was heard from.
    registration: u64,
    /// It may adopt the epoch, and count, once it holds everything below this.
    adopt_at: Offset,
    /// What it has acknowledged since it adopted the epoch.
    acknowledged: Option<Offset>,
    /// When it was last heard from, or when the epoch began.
    contact_ms: u64,
}

impl Follower {
    /// Notes which disk speaks.
    ///
    /// What a former disk acknowledged in this epoch counted towards commits, so the new one has to
    /// hold all that could have been among it before it counts: the log up to where it ends now.
    fn speaks_from(&mut self, fetch: &ReplicaFetch, log_end: Offset) {
        match self.storage {
            Some(known) if known == fetch.storage => {}
            None if fetch.adopted_epoch.is_some_and(|adopted| adopted < fetch.epoch) => {
                self.storage = Some(fetch.storage);
            }
            _ => {
                self.storage = Some(fetch.storage);
                self.adopt_at = log_end;
                self.acknowledged = None;
            }
        }
    }
}

/// The state of a leadership: one epoch of one leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaderProgress {
    epoch: LeaderEpoch,
    start_offset: Offset,
    leader: BrokerId,
    set: ReplicaSet,
    followers: Vec<Follower>,
    /// The log end when the change of the replica set was learnt.
    joint_from: Option<Offset>,
}

/// Why a fetch does not get past the leader's view of its followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    UnknownReplica,
    FormerLife,
}

impl LeaderProgress {
    /// A leadership that begins now, with a log that ends at `start_offset`.
    pub(super) fn new(
        leader: BrokerId,
        epoch: LeaderEpoch,
        start_offset: Offset,
        set: ReplicaSet,
        now_ms: u64,
    ) -> Self {
        let joint_from = matches!(set, ReplicaSet::Joint { .. }).then_some(start_offset);
        let stable = ReplicaSet::Stable(Vec::new());
        let mut progress = Self { epoch, start_offset, leader, set: stable, followers: Vec::new(), joint_from };
        progress.take_set(set, now_ms);
        progress
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The log end offset when the epoch began.
    #[must_use]
    pub const fn start_offset(&self) -> Offset {
        self.start_offset
    }

    /// The replicas that count.
    #[must_use]
    pub const fn replica_set(&self) -> &ReplicaSet {
        &self.set
    }

    /// What this follower has acknowledged since it adopted the epoch.
    #[must_use]
    pub fn acknowledged(&self, broker: BrokerId) -> Option<Offset> {
        self.follower(broker)?.acknowledged
    }

    /// The disk this follower was last heard from in this epoch.
    #[must_use]
    pub fn storage(&self, broker: BrokerId) -> Option<StorageId> {
        self.follower(broker)?.storage
    }

    /// The offset at which this follower adopts the epoch.
    #[must_use]
    pub fn adopt_at(&self, broker: BrokerId) -> Option<Offset> {
        Some(self.follower(broker)?.adopt_at)
    }

    fn follower(&self, broker: BrokerId) -> Option<&Follower> {
        self.followers.iter().find(|follower| follower.broker == broker)
    }

    /// Takes note of a fetch; answers where the follower adopts.
    pub(super) fn on_fetch(
        &mut self,
        from: BrokerId,
        fetch: &ReplicaFetch,
        log_end: Offset,
        now_ms: u64,
    ) -> Result<Offset, NotAdmitted> {
        let epoch = self.epoch;
        let follower =
            self.followers.iter_mut().find(|follower| follower.broker == from).ok_or(NotAdmitted::UnknownReplica)?;
        if fetch.registration < follower.registration {
            return Err(NotAdmitted::FormerLife);
        }
        follower.registration = fetch.registration;
        follower.speaks_from(fetch, log_end);
        follower.contact_ms = follower.contact_ms.max(now_ms);
        if fetch.adopted_epoch == Some(epoch) && fetch.fetch_offset >= follower.adopt_at {
            // A request that was overtaken by a newer one takes nothing back.
            follower.acknowledged = follower.acknowledged.max(Some(fetch.fetch_offset));
        }
        Ok(follower.adopt_at)
    }

    /// The greatest offset below which everything is committed, the leader's own counted offset
    /// being `own`; `None` while no quorum has adopted the epoch.
    #[must_use]
    pub fn committed(&self, own: Offset) -> Option<Offset> {
        self.set.quorum_reached(|broker| self.counted(broker, own))
    }

    fn counted(&self, broker: BrokerId, own: Offset) -> Option<Offset> {
        if broker == self.leader { Some(own) } else { self.acknowledged(broker) }
    }

    /// Takes over a replica set that was committed in the metadata log. During a change, the log
    /// end is noted: below it, commits may have needed the old set only.
    pub(super) fn on_replica_set(&mut self, set: ReplicaSet, log_end: Offset, now_ms: u64) {
        if set == self.set {
            return;
        }
        self.joint_from = matches!(set, ReplicaSet::Joint { .. }).then_some(log_end);
        self.take_set(set, now_ms);
    }

    fn take_set(&mut self, set: ReplicaSet, now_ms: u64) {
        self.followers.retain(|follower| set.contains(follower.broker));
        for broker in set.members().filter(|broker| *broker != self.leader) {
            if self.follower(broker).is_none() {
                self.followers.push(Follower {
                    broker,
                    storage: None,
                    registration: 0,
                    adopt_at: self.start_offset,
                    acknowledged: None,
                    contact_ms: now_ms,
                });
            }
        }
        self.set = set;
    }

    /// The log end noted when the change of the replica set was learnt; `None` when there is none.
    #[must_use]
    pub const fn joint_from(&self) -> Option<Offset> {
        self.joint_from
    }

    /// Whether the new set of a change can stand alone: a quorum of it has adopted this epoch and
    /// holds everything up to the log end noted at the start of the change. The metadata entry that
    /// ends the change expects this epoch still to be the current one.
    #[must_use]
    pub fn is_move_complete(&self, own: Offset) -> bool {
        match (&self.set, self.joint_from) {
            (ReplicaSet::Joint { new, .. }, Some(noted)) => {
                quorum_reached(new, |broker| self.counted(broker, own)) >= Some(noted)
            }
            _ => false,
        }
    }

    /// The latest offset that a client may be told: the high watermark, once it has reached the
    /// start of the epoch (KIP-207).
    ///
    /// # Errors
    /// [`LatestOffsetUnknown`] until then.
    pub fn latest_offset(&self, high_watermark: Offset) -> Result<Offset, LatestOffsetUnknown> {
        if high_watermark < self.start_offset {
            return Err(LatestOffsetUnknown { epoch: self.epoch, epoch_start: self.start_offset });
        }
        Ok(high_watermark)
    }

    /// When to step down if no more is heard: `silence_ms_max` after a quorum, the leader included,
    /// was last in contact. `None` when the leader is a quorum alone, or is not counted itself and
    /// nobody is.
    #[must_use]
    pub fn step_down_at_ms(&self, silence_ms_max: u64) -> Option<u64> {
        let contact = |broker| {
            if broker == self.leader { Some(u64::MAX) } else { Some(self.follower(broker)?.contact_ms) }
        };
        let last_ms = self.set.quorum_reached(contact)?;
        (last_ms != u64::MAX).then(|| last_ms.saturating_add(silence_ms_max))
    }
}

#[cfg(test)]
mod tests;
