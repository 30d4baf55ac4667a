//! Epochs begin, and get their leaders.

use super::check_distinct;
use crate::{
    LeaderEpoch, PartitionId, TopicId,
    cluster::{ClusterImage, EpochExpectation, LeaderChoice, MetadataError, PartitionImage},
};

impl ClusterImage {
    pub(super) fn begin_epochs(&mut self, changes: &[EpochExpectation]) -> Result<(), MetadataError> {
        check_distinct(changes.iter().map(|change| (change.topic_id, change.partition)))?;
        for change in changes {
            let EpochExpectation { topic_id, partition, expected } = *change;
            self.partition_in(topic_id, partition, expected)?;
            check_next_epoch(topic_id, partition, expected)?;
        }
        for change in changes {
            self.partition_mut(change.topic_id, change.partition)?.begin_epoch();
        }
        Ok(())
    }

    pub(super) fn set_leaders(&mut self, choices: &[LeaderChoice]) -> Result<(), MetadataError> {
        check_distinct(choices.iter().map(|choice| (choice.topic_id, choice.partition)))?;
        for choice in choices {
            let LeaderChoice { topic_id, partition, epoch, leader, incarnation } = *choice;
            let image = self.partition_in(topic_id, partition, epoch)?;
            if let Some(leader) = image.leader {
                return Err(MetadataError::LedAlready { topic_id, partition, epoch, leader });
            }
            if !image.is_kept_by(leader) {
                return Err(MetadataError::NotAReplica { topic_id, partition, leader });
            }
            self.check_life(leader, incarnation)?;
        }
        for choice in choices {
            let partition = self.partition_mut(choice.topic_id, choice.partition)?;
            partition.leader = Some(choice.leader);
            partition.leader_incarnation = Some(choice.incarnation);
            partition.led = true;
            partition.deposed = None;
        }
        Ok(())
    }

    /// The partition, if it is in this epoch.
    pub(super) fn partition_in(
        &self,
        topic_id: TopicId,
        partition: PartitionId,
        expected: LeaderEpoch,
    ) -> Result<&PartitionImage, MetadataError> {
        let image = self.partition_of(topic_id, partition)?;
        if image.leader_epoch == expected {
            Ok(image)
        } else {
            Err(MetadataError::StaleEpoch { topic_id, partition, current: image.leader_epoch, expected })
        }
    }
}

/// Whether there is an epoch after this one.
pub(super) fn check_next_epoch(
    topic_id: TopicId,
    partition: PartitionId,
    epoch: LeaderEpoch,
) -> Result<(), MetadataError> {
    if epoch == LeaderEpoch::MAX { Err(MetadataError::EpochsExhausted { topic_id, partition }) } else { Ok(()) }
}

impl PartitionImage {
    /// The next epoch, in which nobody leads yet.
    pub(super) fn begin_epoch(&mut self) {
        self.deposed = self.leader.zip(self.leader_incarnation).or(self.deposed);
        self.leader = None;
        self.leader_incarnation = None;
        self.leader_epoch = self.leader_epoch.next();
    }
}
