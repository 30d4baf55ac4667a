//! The replica as follower: it finds where its log parts from the leader's, cuts it there, copies,
//! and adopts the epoch when it has taken over all it must.

use super::{Replica, Role, StaleEpoch};
use crate::{
    BrokerId, LeaderEpoch, Offset,
    leader_epochs::Divergence,
    replication::{
        Effect,
        message::{EpochEndAnswer, EpochEndQuery, FetchAnswer, ReplicaFetch},
    },
};

/// A leader that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Following {
    pub(super) epoch: LeaderEpoch,
    pub(super) leader: BrokerId,
    pub(super) phase: Phase,
}

/// How far a follower has got in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It looks for the offset where its log parts from the leader's.
    Diverging,
    /// Its log is a prefix of the leader's, and it copies.
    Copying {
        /// It adopts the epoch once its counted offset reaches this; `None` until the leader said.
        adopt_at: Option<Offset>,
    },
}

impl Following {
    /// The leader's epoch.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The leader.
    #[must_use]
    pub const fn leader(&self) -> BrokerId {
        self.leader
    }

    /// How far it has got.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }
}

/// Why an answer of the leader is dropped. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRefused {
    /// This replica does not follow the leader of that epoch, or does not wait for this answer.
    #[error("an answer of the leader of epoch {received} that is not waited for")]
    Unexpected {
        /// The epoch of the answer.
        received: LeaderEpoch,
    },
    /// The records do not begin at the log end offset, leave a gap, or are of a newer epoch than
    /// their leader's, or of an older one than the record before them.
    #[error("the records at {start_offset} of epoch {epoch} do not continue the log, which ends at {log_end}")]
    NotContiguous {
        /// Where the offending records begin.
        start_offset: Offset,
        /// Their epoch.
        epoch: LeaderEpoch,
        /// Where they should begin.
        log_end: Offset,
    },
}

impl Replica {
    /// The metadata log names the leader of `epoch`, another replica than this one.
    ///
    /// # Errors
    /// [`StaleEpoch`] when a newer epoch is promised.
    pub fn follow(&mut self, epoch: LeaderEpoch, leader: BrokerId) -> Result<Vec<Effect>, StaleEpoch> {
        self.refuse_older(epoch)?;
        let mut effects = self.observe_epoch(epoch);
        if self.following().is_none_or(|following| following.leader != leader) {
            effects.extend(self.step_down());
            self.role = Role::Follower(Following { epoch, leader, phase: Phase::Diverging });
            self.copy_when_empty();
        }
        Ok(effects)
    }

    /// The leader refused a fetch as beyond its log end: look again for where the logs part.
    pub fn diverge_again(&mut self) {
        if let Role::Follower(following) = &mut self.role {
            following.phase = Phase::Diverging;
        }
        self.copy_when_empty();
    }

    /// Where an empty log parts from another is known without asking.
    fn copy_when_empty(&mut self) {
        if self.epochs.is_empty() {
            self.copy();
        }
    }

    fn copy(&mut self) {
        if let Role::Follower(following) = &mut self.role {
            following.phase = Phase::Copying { adopt_at: None };
        }
    }

    /// The next question about where the logs part; `None` when that is not what it looks for.
    #[must_use]
    pub fn epoch_end_query(&self) -> Option<EpochEndQuery> {
        let following = self.following()?;
        match following.phase {
            Phase::Diverging => Some(EpochEndQuery { epoch: following.epoch, asked_epoch: self.epochs.latest()? }),
            Phase::Copying { .. } => None,
        }
    }

    /// The leader's answer to the last question. The log is cut to the end of the largest common
    /// epoch, never to a remembered high watermark; then it copies, or asks the next question.
    ///
    /// # Errors
    /// [`AnswerRefused::Unexpected`] when it does not ask.
    pub fn on_epoch_end(&mut self, answer: &EpochEndAnswer) -> Result<Vec<Effect>, AnswerRefused> {
        let unexpected = AnswerRefused::Unexpected { received: answer.epoch };
        let query = self.epoch_end_query().ok_or(unexpected)?;
        if query.epoch != answer.epoch {
            return Err(unexpected);
        }
        let divergence = match answer.end {
            Some(end) => self.epochs.divergence(self.log_end, end),
            None => Divergence::At(Offset::ZERO),
        };
        match divergence {
            Divergence::At(to) => {
                let effect = self.truncate(to);
                self.copy();
                Ok(effect.into_iter().collect())
            }
            Divergence::AskAgain(to) => {
                let effect = self.truncate(to);
                self.copy_when_empty();
                Ok(effect.into_iter().collect())
            }
        }
    }

    /// The next fetch; `None` when it does not copy, or has to flush first: the fetch offset is an
    /// acknowledgement, so it is sent only when everything before it counts.
    #[must_use]
    pub fn next_fetch(&self) -> Option<ReplicaFetch> {
        let following = self.following()?;
        let copying = matches!(following.phase, Phase::Copying { .. });
        (copying && self.counted() == self.log_end).then_some(ReplicaFetch {
            epoch: following.epoch,
            registration: self.identity.registration,
            storage: self.identity.storage,
            adopted_epoch: self.durable.adopted_epoch,
            fetch_offset: self.log_end,
        })
    }

    /// Records from the leader. They are appended to the log as they are, right after this method
    /// has accepted them and before its effects are carried out.
    ///
    /// # Errors
    /// [`AnswerRefused`], and the log must not be written to.
    pub fn on_fetch_answer(&mut self, answer: &FetchAnswer) -> Result<Vec<Effect>, AnswerRefused> {
        let unexpected = AnswerRefused::Unexpected { received: answer.epoch };
        let following = self.following().filter(|following| following.epoch == answer.epoch).ok_or(unexpected)?;
        if !matches!(following.phase, Phase::Copying { .. }) {
            return Err(unexpected);
        }
        let (mut log_end, mut newest) = (self.log_end, self.epochs.latest());
        for span in &answer.spans {
            let continues = span.start_offset == log_end && span.end_offset > span.start_offset;
            let in_order = newest <= Some(span.epoch) && span.epoch <= answer.epoch;
            if !(continues && in_order) {
                let (start_offset, epoch) = (span.start_offset, span.epoch);
                return Err(AnswerRefused::NotContiguous { start_offset, epoch, log_end });
            }
            (log_end, newest) = (span.end_offset, Some(span.epoch));
        }
        let mut effects = Vec::new();
        for span in &answer.spans {
            let (epoch, start_offset) = (span.epoch, span.start_offset);
            if self.epochs.assign(epoch, start_offset) {
                effects.push(Effect::RecordEpochStart { epoch, start_offset });
            }
        }
        self.log_end = log_end;
        self.high_watermark = self.high_watermark.max(answer.high_watermark.min(log_end));
        if let Role::Follower(following) = &mut self.role {
            following.phase = Phase::Copying { adopt_at: Some(answer.adopt_at) };
        }
        if self.counted() < self.log_end {
            effects.extend(self.begin_flush().map(Effect::Flush));
        }
        effects.extend(self.adopt_when_complete());
        Ok(effects)
    }

    /// The leader has deleted what comes next: the log begins again where the leader's does.
    ///
    /// # Errors
    /// [`AnswerRefused::Unexpected`] when it does not copy from the leader of `epoch`, or holds
    /// more than that.
    pub fn on_below_log_start(&mut self, epoch: LeaderEpoch, log_start: Offset) -> Result<Effect, AnswerRefused> {
        let copying = self
            .following()
            .is_some_and(|following| following.epoch == epoch && matches!(following.phase, Phase::Copying { .. }));
        if !copying || log_start <= self.log_end {
            return Err(AnswerRefused::Unexpected { received: epoch });
        }
        self.epochs.truncate_to(Offset::ZERO);
        (self.log_end, self.flushed) = (log_start, log_start);
        Ok(Effect::RestartLog { at: log_start })
    }

    /// Adopts the epoch once its log holds, and counts, all that the leader asks for.
    pub(super) fn adopt_when_complete(&mut self) -> Vec<Effect> {
        let Some(following) = self.following() else { return Vec::new() };
        let (epoch, phase) = (following.epoch, following.phase);
        let Phase::Copying { adopt_at: Some(adopt_at) } = phase else { return Vec::new() };
        if self.durable.adopted_epoch >= Some(epoch) || self.counted() < adopt_at {
            return Vec::new();
        }
        self.durable.adopted_epoch = Some(epoch);
        vec![Effect::Store(self.durable)]
    }
}
