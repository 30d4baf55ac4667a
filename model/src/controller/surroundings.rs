//! What the parts of the controller look at while they decide.

use std::collections::BTreeMap;

use super::{ControllerConfig, Key, elections::Hint, peers::Peers};
use crate::{
    BrokerId,
    cluster::{ClusterImage, Incarnation, PartitionImage},
};

/// The longest pause between fences, as a power of two of the first one.
const RETRY_DOUBLINGS_MAX: u32 = 3;

#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a ControllerConfig,
    pub(super) image: &'a ClusterImage,
    pub(super) peers: &'a Peers,
    pub(super) alive: &'a BTreeMap<BrokerId, Incarnation>,
    pub(super) now_ms: u64,
}

impl<'a> Surroundings<'a> {
    pub(super) fn partition(&self, key: Key) -> Option<&'a PartitionImage> {
        self.image.partition_by_id(key.0, key.1)
    }

    /// How long a broker has to answer fences before they are sent again: longer each time, since
    /// it may just be slow.
    pub(super) fn retry_ms(&self, broker: BrokerId) -> u64 {
        let retries = self.peers.get(broker).map_or(0, |peer| peer.retries);
        self.config.fence_retry_ms << retries.min(RETRY_DOUBLINGS_MAX)
    }

    fn is_draining(&self, broker: BrokerId) -> bool {
        self.image.brokers.get(&broker).is_some_and(|known| known.draining)
    }

    /// Whether it can take a leadership.
    pub(super) fn is_in_service(&self, broker: BrokerId) -> bool {
        self.alive.contains_key(&broker) && !self.is_draining(broker)
    }

    /// Whether the leader has said that the new replicas of the move which is under way can stand
    /// alone.
    pub(super) fn is_move_complete(&self, key: Key, partition: &PartitionImage) -> bool {
        let complete = self.peers.report(key, partition).and_then(|report| report.move_complete);
        partition.moving_to.is_some() && complete == Some(partition.moving_since)
    }

    /// The order in which equal logs are preferred.
    pub(super) fn preference(&self, partition: &PartitionImage, hint: &Hint) -> Vec<BrokerId> {
        let mut members: Vec<_> = partition.members().collect();
        members.sort_by_key(|broker| {
            let is_target = hint.target == Some(*broker);
            let has_resigned = hint.resigned.is_some_and(|(resigned, _)| resigned == *broker);
            let leaves = partition.moving_to.as_ref().is_some_and(|new| !new.contains(broker));
            (!is_target, has_resigned, self.is_draining(*broker), leaves)
        });
        members
    }
}
