//! What the controller does with the answers to a fence: it waits for a quorum of replicas that
//! remember, and takes the log that holds all that was committed.

use super::{ReplicaSet, message::FenceAnswer};
use crate::{BrokerId, LeaderEpoch, Offset, cluster::Incarnation};

/// One election: an epoch that was committed as begun, and nobody leads yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    epoch: LeaderEpoch,
    set: ReplicaSet,
    /// At most one of each replica, ordered by broker.
    answers: Vec<FenceAnswer>,
}

/// What the answers so far allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No quorum of replicas that remember has answered: the partition stays offline.
    Wait {
        /// Who has not answered.
        silent: Vec<BrokerId>,
        /// Who has answered that it has forgotten, or is new.
        forgetful: Vec<BrokerId>,
    },
    /// The leader to propose, with a compare-and-set on the epoch.
    Elect {
        /// The replica.
        leader: BrokerId,
        /// The life of it that answered; no other may lead on this election.
        incarnation: Incarnation,
        /// The epoch.
        epoch: LeaderEpoch,
    },
}

/// Why an answer is of no use to an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElectionError {
    /// It answers another fence.
    #[error("broker {broker} answered the fence of epoch {answered}, this is the election of epoch {epoch}")]
    OtherEpoch {
        /// Who answered.
        broker: BrokerId,
        /// The fence that it answered.
        answered: LeaderEpoch,
        /// The epoch of the election.
        epoch: LeaderEpoch,
    },
    /// It comes from a broker that does not keep the partition.
    #[error("broker {broker} is no replica of the partition")]
    NotAReplica {
        /// Who answered.
        broker: BrokerId,
    },
}

impl Election {
    /// An election without answers. `set` is the replica set when the epoch was begun, or later.
    #[must_use]
    pub const fn new(epoch: LeaderEpoch, set: ReplicaSet) -> Self {
        Self { epoch, set, answers: Vec::new() }
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The replicas whose answers count.
    #[must_use]
    pub const fn replica_set(&self) -> &ReplicaSet {
        &self.set
    }

    /// The answers so far, ordered by broker.
    #[must_use]
    pub fn answers(&self) -> &[FenceAnswer] {
        &self.answers
    }

    /// Takes an answer; a later one of the same broker replaces it.
    ///
    /// # Errors
    /// [`ElectionError`] when it belongs to another election.
    pub fn on_answer(&mut self, answer: FenceAnswer) -> Result<(), ElectionError> {
        let FenceAnswer { broker, epoch: answered, .. } = answer;
        if answered != self.epoch {
            return Err(ElectionError::OtherEpoch { broker, answered, epoch: self.epoch });
        }
        if !self.set.contains(broker) {
            return Err(ElectionError::NotAReplica { broker });
        }
        match self.answers.binary_search_by_key(&broker, |known| known.broker) {
            Ok(at) => self.answers[at] = answer,
            Err(at) => self.answers.insert(at, answer),
        }
        Ok(())
    }

    fn answer_of(&self, broker: BrokerId) -> Option<&FenceAnswer> {
        self.answers.iter().find(|answer| answer.broker == broker)
    }

    /// Whether every replica has answered: more time changes nothing.
    #[must_use]
    pub fn is_unanimous(&self) -> bool {
        self.set.members().all(|broker| self.answer_of(broker).is_some())
    }

    /// Chooses among the answers so far: the greatest adopted epoch, then the greatest offset, then
    /// the earliest in `preferred`, then the smallest broker id.
    ///
    /// A replica that has forgotten, or is new, does not count towards the quorum: what it once
    /// acknowledged may be what it no longer has. It is never chosen. Every quorum of the others
    /// meets every quorum that committed, and the one that was in both, or a log that contains its
    /// committed prefix, ranks first (VR's view change).
    #[must_use]
    pub fn decide(&self, preferred: &[BrokerId]) -> Decision {
        let remembers = |broker| self.answer_of(broker).is_some_and(|answer| answer.adopted_epoch.is_some());
        let rank = |answer: &&FenceAnswer| {
            let place = preferred.iter().position(|broker| *broker == answer.broker).unwrap_or(preferred.len());
            (rank_of_log(answer), std::cmp::Reverse((place, answer.broker)))
        };
        let best = self.answers.iter().filter(|answer| answer.adopted_epoch.is_some()).max_by_key(rank);
        match best {
            Some(best) if self.set.is_quorum(remembers) => {
                Decision::Elect { leader: best.broker, incarnation: best.incarnation, epoch: self.epoch }
            }
            _ => Decision::Wait {
                silent: self.set.members().filter(|broker| self.answer_of(*broker).is_none()).collect(),
                forgetful: self
                    .set
                    .members()
                    .filter(|broker| self.answer_of(*broker).is_some() && !remembers(*broker))
                    .collect(),
            },
        }
    }
}

/// Logs are compared by this, the greater containing all that was committed of the lesser.
fn rank_of_log(answer: &FenceAnswer) -> (Option<LeaderEpoch>, Offset) {
    (answer.adopted_epoch, answer.counted_offset)
}

#[cfg(test)]
mod tests;
