//! One replica of a partition: what it has promised and adopted, how far its log and its disk are,
//! and the role it plays.

mod following;
mod leading;

use serde::{Deserialize, Serialize};

use super::{
    Effect, LeaderProgress, ReplicaSet,
    message::{DurableState, FenceAnswer, StorageId},
};
use crate::{BrokerId, LeaderEpoch, Offset, cluster::Incarnation, leader_epochs::LeaderEpochs};

pub use following::{AnswerRefused, Following, Phase};
pub use leading::{FetchRefused, NotElectable, NotLeader, QueryRefused};

/// How far a replica's log counts towards commits and elections (`log.flush`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counting {
    /// Up to the flushed offset: what is acknowledged survives a power cut of every machine.
    Flushed,
    /// Up to the log end: what is acknowledged survives while a quorum of machines stays up. A
    /// machine that lost a part of its log must come back with [`Replica::forgotten`].
    LogEnd,
}

/// Who a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its broker.
    pub broker: BrokerId,
    /// Which life of the broker's process.
    pub incarnation: Incarnation,
    /// The metadata version that registered this life: a later life has a greater one.
    pub registration: u64,
    /// Its disk.
    pub storage: StorageId,
}

/// What recovery found on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// What was stored beside the log.
    pub durable: DurableState,
    /// The epochs of the log.
    pub epochs: LeaderEpochs,
    /// The log end offset.
    pub log_end: Offset,
    /// Everything below is on the disk for certain; at most `log_end`.
    pub flushed: Offset,
    /// The high watermark that was last noted, a hint.
    pub high_watermark: Offset,
}

/// The flush of a log up to where it ended when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flush {
    /// The promised epoch when it began. A flush that ends in a later epoch says nothing about
    /// this log any more: the log may have been cut meanwhile.
    pub epoch: LeaderEpoch,
    /// The log end offset when it began.
    pub up_to: Offset,
}

/// The part a replica plays in the epoch that it has promised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// None: it knows of no leader in its promised epoch, or has stepped down.
    Waiting,
    /// It was chosen and flushes its tail before it leads.
    Elected {
        /// The replicas that will count.
        set: ReplicaSet,
        /// When it was chosen.
        now_ms: u64,
    },
    /// It leads.
    Leader(LeaderProgress),
    /// It follows.
    Follower(Following),
}

/// The epoch of a message or a command is over for this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("epoch {received} is over: this replica has promised epoch {promised}")]
pub struct StaleEpoch {
    /// The epoch that was received.
    pub received: LeaderEpoch,
    /// The epoch that is promised.
    pub promised: LeaderEpoch,
}

/// One replica of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    identity: Identity,
    counting: Counting,
    durable: DurableState,
    epochs: LeaderEpochs,
    log_end: Offset,
    flushed: Offset,
    high_watermark: Offset,
    role: Role,
}

impl Replica {
    /// A replica of a partition that nobody has ever led, with an empty log.
    ///
    /// Precondition: a metadata read newer than this broker's registration shows the partition in
    /// `epoch`, and that no leader has been set yet. So nothing was ever acknowledged that this
    /// replica could have forgotten, and it counts from the start; otherwise a new partition would
    /// wait for ever for a quorum of replicas that remember.
    #[must_use]
    pub fn founded(identity: Identity, counting: Counting, epoch: LeaderEpoch) -> Self {
        let durable = DurableState { promised_epoch: epoch, adopted_epoch: Some(LeaderEpoch::ZERO) };
        Self::recovered(identity, counting, Recovered { durable, ..Recovered::empty() })
    }

    /// A replica after a restart that has everything it ever counted. It leads nothing, not even
    /// the epoch it led before.
    #[must_use]
    pub fn recovered(identity: Identity, counting: Counting, found: Recovered) -> Self {
        let Recovered { durable, epochs, log_end, flushed, high_watermark } = found;
        let flushed = flushed.min(log_end);
        let high_watermark = high_watermark.min(log_end);
        Self { identity, counting, durable, epochs, log_end, flushed, high_watermark, role: Role::Waiting }
    }

    /// A replica that may have lost what it counted: wiped, damaged, new to the partition, or
    /// rebooted without its tail. `identity` has a new storage id; `found` is what is left.
    ///
    /// `metadata_epoch` is the partition's epoch in a metadata read newer than this broker's
    /// registration: every fence that its former disk answered belongs to an epoch not above it, so
    /// that a forgotten promise is taken again. With all its log gone it holds
    /// [`Recovered::empty`].
    #[must_use]
    pub fn forgotten(identity: Identity, counting: Counting, found: Recovered, metadata_epoch: LeaderEpoch) -> Self {
        let promised_epoch = found.durable.promised_epoch.max(metadata_epoch);
        let durable = DurableState { promised_epoch, adopted_epoch: None };
        Self::recovered(identity, counting, Recovered { durable, ..found })
    }

    /// Who it is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// What it keeps beside the log.
    #[must_use]
    pub const fn durable(&self) -> DurableState {
        self.durable
    }

    /// It takes part in no older epoch.
    #[must_use]
    pub const fn promised_epoch(&self) -> LeaderEpoch {
        self.durable.promised_epoch
    }

    /// The newest epoch whose leader's log it has taken over; `None`: it has forgotten, or is new.
    #[must_use]
    pub const fn adopted_epoch(&self) -> Option<LeaderEpoch> {
        self.durable.adopted_epoch
    }

    /// The epochs of its log.
    #[must_use]
    pub const fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// The next offset to write.
    #[must_use]
    pub const fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Below it, the log is on stable storage.
    #[must_use]
    pub const fn flushed(&self) -> Offset {
        self.flushed
    }

    /// How far its log counts.
    #[must_use]
    pub const fn counted(&self) -> Offset {
        match self.counting {
            Counting::Flushed => self.flushed,
            Counting::LogEnd => self.log_end,
        }
    }

    /// Below it everything is committed. It never moves back on a leader.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The part it plays.
    #[must_use]
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// The leadership it holds.
    #[must_use]
    pub const fn leading(&self) -> Option<&LeaderProgress> {
        if let Role::Leader(progress) = &self.role { Some(progress) } else { None }
    }

    /// The leader it follows, and how far it has got.
    #[must_use]
    pub const fn following(&self) -> Option<&Following> {
        if let Role::Follower(following) = &self.role { Some(following) } else { None }
    }

    /// What recovery would find if the process ended now and lost nothing.
    #[must_use]
    pub fn to_recovered(&self) -> Recovered {
        Recovered {
            durable: self.durable,
            epochs: self.epochs.clone(),
            log_end: self.log_end,
            flushed: self.flushed,
            high_watermark: self.high_watermark,
        }
    }

    /// Takes note of the epoch of any message: a higher one than promised is promised first, and
    /// ends every role in an older one.
    pub fn observe_epoch(&mut self, epoch: LeaderEpoch) -> Vec<Effect> {
        if epoch <= self.durable.promised_epoch {
            return Vec::new();
        }
        self.durable.promised_epoch = epoch;
        let mut effects = vec![Effect::Store(self.durable)];
        effects.extend(self.step_down());
        effects
    }

    /// Stops leading or following without promising anything: a leader without contact to a quorum
    /// does so, or one that resigns. It will not lead again in this epoch.
    pub fn step_down(&mut self) -> Vec<Effect> {
        match std::mem::replace(&mut self.role, Role::Waiting) {
            Role::Leader(_) => vec![Effect::FailWaiting],
            Role::Waiting | Role::Elected { .. } | Role::Follower(_) => Vec::new(),
        }
    }

    /// A fence: the controller looks for the leader of `epoch`. The answer is sent after the
    /// effects, so that the promise is on disk. A fence that arrives twice is answered twice.
    ///
    /// # Errors
    /// [`StaleEpoch`] when a newer epoch is promised already.
    pub fn fence(&mut self, epoch: LeaderEpoch) -> Result<(Vec<Effect>, FenceAnswer), StaleEpoch> {
        self.refuse_older(epoch)?;
        let effects = self.observe_epoch(epoch);
        let Identity { broker, incarnation, .. } = self.identity;
        let DurableState { adopted_epoch, .. } = self.durable;
        Ok((effects, FenceAnswer { broker, incarnation, epoch, adopted_epoch, counted_offset: self.counted() }))
    }

    fn refuse_older(&self, received: LeaderEpoch) -> Result<(), StaleEpoch> {
        let promised = self.durable.promised_epoch;
        if received < promised { Err(StaleEpoch { received, promised }) } else { Ok(()) }
    }

    /// The flush to start now, if one would change anything. None is started by a replica without a
    /// role or one that still looks for where its log parts from the leader's: its log may be cut
    /// in this very epoch.
    #[must_use]
    pub fn begin_flush(&self) -> Option<Flush> {
        let settled = match &self.role {
            Role::Waiting => false,
            Role::Elected { .. } | Role::Leader(_) => true,
            Role::Follower(following) => matches!(following.phase(), Phase::Copying { .. }),
        };
        (settled && self.flushed < self.log_end)
            .then_some(Flush { epoch: self.durable.promised_epoch, up_to: self.log_end })
    }

    /// A flush has ended well. An elected replica begins to lead, a follower may adopt, a leader
    /// may commit. (A flush that fails ends the process.)
    pub fn on_flushed(&mut self, flush: Flush) -> Vec<Effect> {
        if flush.epoch != self.durable.promised_epoch {
            return Vec::new();
        }
        self.flushed = self.flushed.max(flush.up_to.min(self.log_end));
        match &self.role {
            Role::Waiting => Vec::new(),
            Role::Elected { .. } => self.lead_when_flushed(),
            Role::Leader(_) => self.advance(),
            Role::Follower(_) => self.adopt_when_complete(),
        }
    }

    /// Cuts the log and its epochs; an epoch that began at the very end and has no record goes too.
    fn truncate(&mut self, to: Offset) -> Option<Effect> {
        let to = to.min(self.log_end);
        let changed = self.epochs.truncate_to(to) || to < self.log_end;
        self.log_end = to;
        self.flushed = self.flushed.min(to);
        self.high_watermark = self.high_watermark.min(to);
        changed.then_some(Effect::Truncate { to })
    }
}

impl Recovered {
    /// A disk that holds nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            durable: DurableState { promised_epoch: LeaderEpoch::ZERO, adopted_epoch: None },
            epochs: LeaderEpochs::default(),
            log_end: Offset::ZERO,
            flushed: Offset::ZERO,
            high_watermark: Offset::ZERO,
        }
    }
}

#[cfg(test)]
mod tests;
