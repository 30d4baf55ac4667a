//! Partitions get other replicas.

use super::{check_distinct, has_repetition, leaders::check_next_epoch};
use crate::{
    BrokerId, LeaderEpoch, PartitionId, TopicId,
    cluster::{ClusterImage, MetadataError, PartitionImage, ReplicaMove},
};

impl ClusterImage {
    pub(super) fn begin_moves(&mut self, moves: &[ReplicaMove]) -> Result<(), MetadataError> {
        check_distinct(moves.iter().map(|moved| (moved.topic_id, moved.partition)))?;
        for ReplicaMove { topic_id, partition, expected, to } in moves {
            let (topic_id, partition) = (*topic_id, *partition);
            let image = self.partition_of(topic_id, partition)?;
            if let Some(to) = image.moving_to.clone() {
                return Err(MetadataError::MovingAlready { topic_id, partition, to });
            }
            if image.replicas != *expected {
                return Err(MetadataError::OtherReplicas { topic_id, partition, current: image.replicas.clone() });
            }
            self.check_replication_factor(to.len())?;
            if has_repetition(to) {
                return Err(MetadataError::RepeatedReplica { topic_id, partition, to: to.clone() });
            }
            self.check_registered(to)?;
        }
        for ReplicaMove { topic_id, partition, to, .. } in moves {
            // The version that this command leads to.
            let since = self.version + 1;
            let image = self.partition_mut(*topic_id, *partition)?;
            (image.moving_to, image.moving_since) = (Some(to.clone()), since);
        }
        Ok(())
    }

    pub(super) fn end_move(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
        epoch: LeaderEpoch,
        (to, since): (&[BrokerId], u64),
    ) -> Result<(), MetadataError> {
        let image = self.partition_in(topic_id, partition, epoch)?;
        check_move(image, topic_id, partition, to)?;
        if since != 0 && image.moving_since != since {
            return Err(MetadataError::NotMoving { topic_id, partition, to: to.to_vec() });
        }
        // That the new replicas can stand alone was found by the leader of this epoch.
        let leader = image.leader.ok_or(MetadataError::NotLed { topic_id, partition, epoch })?;
        self.settle(topic_id, partition, to.to_vec(), Some(leader))
    }

    pub(super) fn cancel_move(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
        to: &[BrokerId],
    ) -> Result<(), MetadataError> {
        let image = self.partition_of(topic_id, partition)?;
        check_move(image, topic_id, partition, to)?;
        let (replicas, leader) = (image.replicas.clone(), image.leader);
        self.settle(topic_id, partition, replicas, leader)
    }

    /// Ends a move with these replicas. A leader that is not among them is deposed.
    fn settle(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
        replicas: Vec<BrokerId>,
        leader: Option<BrokerId>,
    ) -> Result<(), MetadataError> {
        let is_deposed = leader.is_some_and(|leader| !replicas.contains(&leader));
        if is_deposed {
            check_next_epoch(topic_id, partition, self.partition_of(topic_id, partition)?.leader_epoch)?;
        }
        let image = self.partition_mut(topic_id, partition)?;
        image.replicas = replicas;
        (image.moving_to, image.moving_since) = (None, 0);
        if is_deposed {
            image.begin_epoch();
        }
        Ok(())
    }
}

fn check_move(
    image: &PartitionImage,
    topic_id: TopicId,
    partition: PartitionId,
    to: &[BrokerId],
) -> Result<(), MetadataError> {
    if image.moving_to.as_deref() == Some(to) {
        Ok(())
    } else {
        Err(MetadataError::NotMoving { topic_id, partition, to: to.to_vec() })
    }
}
