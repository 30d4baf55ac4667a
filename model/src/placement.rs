//! Where replicas are put: those of new topics, and those that others have too many of.
//!
//! Every broker in service, that is alive and not draining, gets its share of the replicas and of
//! the preferred leaderships, and the replicas of a partition stand in as many racks as possible. A
//! broker without a rack counts as a rack of its own. Racks come before shares: a small rack gets
//! more than its share when replicas would share a rack otherwise.
//!
//! Nothing is drawn by lot. Equal choices are taken in turn, beginning at another broker for each
//! version of the image.

mod assign;
mod fleet;
mod leaders;
mod rebalance;

use crate::{
    BrokerId,
    cluster::{ClusterImage, ReplicaMove},
    replication::quorum,
};
use fleet::Fleet;

/// Why there is no place for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Fewer brokers than replicas.
    #[error("{replicas} replicas need as many brokers, but there are {brokers}")]
    TooFewBrokers {
        /// Replicas of a partition.
        replicas: usize,
        /// Brokers that are registered.
        brokers: usize,
    },
    /// Nobody could lead the topic.
    #[error("{replicas} replicas need {} brokers that are alive, but there are {alive}", quorum(*replicas))]
    NoQuorum {
        /// Replicas of a partition.
        replicas: usize,
        /// Brokers that are alive.
        alive: usize,
    },
}

/// The replicas for each of the partitions of a new topic, the preferred leader first. The second
/// replicas, who follow the preferred leaders when these fail, are spread too.
///
/// A broker that is not in service gets a replica only where the others are too few.
///
/// # Errors
/// [`PlacementError`] when there are too few brokers for so many replicas.
pub fn place(
    image: &ClusterImage,
    alive: impl Fn(BrokerId) -> bool,
    partitions: usize,
    replicas: usize,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    let brokers = image.brokers.len();
    if replicas > brokers {
        return Err(PlacementError::TooFewBrokers { replicas, brokers });
    }
    let living = image.brokers.keys().filter(|broker| alive(**broker)).count();
    if living < quorum(replicas) {
        return Err(PlacementError::NoQuorum { replicas, alive: living });
    }
    Ok(assign::assign(&Fleet::new(image, alive), partitions, replicas))
}

/// The moves that even the numbers of replicas and of preferred leaders, in all topics together.
///
/// Brokers that drain are left by all that has somewhere else to go. What dead brokers keep stays
/// there, as they may return. Partitions that are being moved already are counted where they go,
/// and left alone. A move may change nothing but the preferred leader.
pub fn rebalance(image: &ClusterImage, alive: impl Fn(BrokerId) -> bool) -> Vec<ReplicaMove> {
    rebalance::plan(image, &Fleet::new(image, alive))
}

#[cfg(test)]
mod tests;
