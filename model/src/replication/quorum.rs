//! The arithmetic of quorums, also while the set of replicas changes.

use serde::{Deserialize, Serialize};

use crate::BrokerId;

/// How many of `replicas` make a quorum: two quorums of one set always share a replica.
#[must_use]
pub const fn quorum(replicas: usize) -> usize {
    replicas / 2 + 1
}

/// The greatest value that a quorum of `replicas` has reached; `None` when fewer than a quorum have
/// a value. With offsets it is the quorum-th largest of them.
///
/// It compares every pair: sets are small, and nothing is allocated on the path of a fetch.
pub fn quorum_reached<T: Ord + Copy>(replicas: &[BrokerId], value: impl Fn(BrokerId) -> Option<T>) -> Option<T> {
    let reached = |goal: T| replicas.iter().filter(|&&replica| value(replica) >= Some(goal)).count();
    let reached_by_quorum = |goal: &T| reached(*goal) >= quorum(replicas.len());
    replicas.iter().filter_map(|&replica| value(replica)).filter(reached_by_quorum).max()
}

/// The brokers that keep a partition.
///
/// Majorities of two sets that differ in one replica need not meet, so a change is joint: while it
/// lasts, commits and elections need a quorum of the old set and one of the new.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReplicaSet {
    /// One set, the preferred leader first.
    Stable(Vec<BrokerId>),
    /// A change from one set to another.
    Joint {
        /// The set before the change.
        old: Vec<BrokerId>,
        /// The set after it.
        new: Vec<BrokerId>,
    },
}

impl ReplicaSet {
    /// The sets that each have to give a quorum.
    fn sets(&self) -> impl Iterator<Item = &[BrokerId]> {
        let (first, second) = match self {
            Self::Stable(replicas) => (replicas, None),
            Self::Joint { old, new } => (old, Some(new)),
        };
        std::iter::once(first).chain(second).map(Vec::as_slice)
    }

    /// Every broker that keeps the partition or is about to, each once.
    pub fn members(&self) -> impl Iterator<Item = BrokerId> {
        let (first, second): (&[BrokerId], &[BrokerId]) = match self {
            Self::Stable(replicas) => (replicas, &[]),
            Self::Joint { old, new } => (old, new),
        };
        first.iter().chain(second.iter().filter(|replica| !first.contains(replica))).copied()
    }

    /// Whether this broker keeps the partition or is about to.
    #[must_use]
    pub fn contains(&self, broker: BrokerId) -> bool {
        self.sets().any(|set| set.contains(&broker))
    }

    /// Whether the replicas that `counts` accepts are a quorum, of both sets during a change.
    pub fn is_quorum(&self, counts: impl Fn(BrokerId) -> bool) -> bool {
        self.sets().all(|set| set.iter().filter(|&&replica| counts(replica)).count() >= quorum(set.len()))
    }

    /// The greatest value that a quorum has reached, of both sets during a change; `None` when one
    /// of them has no quorum of replicas with a value.
    pub fn quorum_reached<T: Ord + Copy>(&self, value: impl Fn(BrokerId) -> Option<T>) -> Option<T> {
        self.sets().map(|set| quorum_reached(set, &value)).min().flatten()
    }
}

#[cfg(test)]
mod tests;
