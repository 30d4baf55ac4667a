//! Which command to propose next, and when.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Key,
    elections::{Elections, Hint},
    index::Index,
    surroundings::Surroundings,
    transfers::{Ended, Reason, Transfers, leaves},
};
use crate::{
    LeaderEpoch,
    cluster::{ClusterImage, EpochExpectation, MetadataCommand, PartitionImage},
};

/// The most partitions in one command.
const BATCH_MAX: usize = 5000;

/// The proposal under way, and the pause after the last one.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    is_under_way: bool,
    /// The image that the last proposal was made from, and until when to wait for a newer one.
    /// Without it the same would be proposed again before its effect can be seen.
    pause: Option<(u64, u64)>,
}

impl Proposals {
    pub(super) fn may_propose(&self, image: &ClusterImage, now_ms: u64) -> bool {
        let pauses = |(version, until_ms)| image.version == version && now_ms < until_ms;
        !self.is_under_way && !self.pause.is_some_and(pauses)
    }

    pub(super) fn begin(&mut self, command: Option<MetadataCommand>, image: &ClusterImage) -> Option<MetadataCommand> {
        self.is_under_way = command.is_some();
        self.pause = command.is_some().then_some((image.version, u64::MAX));
        command
    }

    pub(super) fn on_ended(&mut self, until_ms: u64) {
        self.is_under_way = false;
        self.pause = self.pause.map(|(version, _)| (version, until_ms));
    }

    pub(super) fn due_ms(&self, image: &ClusterImage, now_ms: u64) -> Option<u64> {
        let pause = self.pause.filter(|_| !self.is_under_way)?;
        (image.version == pause.0 && now_ms < pause.1).then_some(pause.1)
    }
}

/// The most urgent command, if any: leaders that can be set, epochs that have to begin, moves that
/// are in the way, moves that can end.
pub(super) fn next(
    around: &Surroundings<'_>,
    index: &Index,
    ended: &[Ended],
    transfers: &Transfers,
    elections: &mut Elections,
) -> Option<MetadataCommand> {
    let leaders: Vec<_> = elections.choices().iter().take(BATCH_MAX).copied().collect();
    if !leaders.is_empty() {
        return Some(MetadataCommand::SetLeaders { leaders });
    }
    let partitions = epochs_to_begin(around, index, ended, elections);
    if !partitions.is_empty() {
        return Some(MetadataCommand::BeginEpochs { partitions });
    }
    let stuck = elections.stuck().iter().find_map(|key| {
        let to = around.partition(*key)?.moving_to.clone()?;
        Some(MetadataCommand::CancelMove { topic_id: key.0, partition: key.1, to })
    });
    stuck.or_else(|| move_to_end(around, index, ended, transfers, elections))
}

fn epochs_to_begin(
    around: &Surroundings<'_>,
    index: &Index,
    ended: &[Ended],
    elections: &mut Elections,
) -> Vec<EpochExpectation> {
    let mut keys: BTreeSet<Key> = index.lost.union(&index.unbegun).copied().collect();
    for (leader, led) in index.leaders() {
        if !around.alive.contains_key(&leader) {
            keys.extend(led);
        }
    }
    let mut hints = BTreeMap::<Key, Hint>::new();
    for (broker, peer) in around.peers.iter() {
        let resigned = Some((broker, peer.incarnation));
        for (key, epoch) in &peer.resigned {
            let leads = |partition: &&PartitionImage| {
                partition.leader.zip(partition.leader_incarnation) == resigned && partition.leader_epoch == *epoch
            };
            if around.partition(*key).filter(leads).is_some() {
                keys.insert(*key);
                hints.entry(*key).or_default().resigned = resigned;
            }
        }
    }
    for Ended { key, to, .. } in ended.iter().filter(|ended| ended.reason != Reason::Leave) {
        keys.insert(*key);
        hints.entry(*key).or_default().target = Some(*to);
    }
    let mut partitions = Vec::new();
    for key in keys {
        // When the epochs are used up, the partition stays as it is.
        let partition = around.partition(key).filter(|partition| partition.leader_epoch < LeaderEpoch::MAX);
        let Some(expected) = partition.map(|partition| partition.leader_epoch) else { continue };
        if partitions.len() == BATCH_MAX {
            break;
        }
        if let Some(hint) = hints.get(&key) {
            elections.hint(key, expected, *hint);
        }
        partitions.push(EpochExpectation { topic_id: key.0, partition: key.1, expected });
    }
    partitions
}

/// A move whose new replicas can stand alone; if its leader leaves, one whose successor is ready,
/// or that has nobody to hand over to.
fn move_to_end(
    around: &Surroundings<'_>,
    index: &Index,
    ended: &[Ended],
    transfers: &Transfers,
    elections: &mut Elections,
) -> Option<MetadataCommand> {
    for key in &index.moving {
        let Some(partition) = around.partition(*key) else { continue };
        let Some(to) = partition.moving_to.clone().filter(|_| around.is_move_complete(*key, partition)) else {
            continue;
        };
        if leaves(partition) {
            if partition.leader_epoch == LeaderEpoch::MAX {
                continue;
            }
            let handed_over = ended.iter().find(|ended| ended.key == *key && ended.reason == Reason::Leave);
            if handed_over.is_none() && transfers.contains(*key) {
                continue;
            }
            let target = handed_over.map(|ended| ended.to);
            elections.hint(*key, partition.leader_epoch, Hint { target, resigned: None });
        }
        let (epoch, since) = (partition.leader_epoch, partition.moving_since);
        return Some(MetadataCommand::EndMove { topic_id: key.0, partition: key.1, epoch, to, since });
    }
    None
}
