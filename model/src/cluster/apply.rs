//! The rules of each command: first everything is checked, then everything is changed.

mod brokers;
mod leaders;
mod moves;
mod streams;

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use super::{
    ClusterImage, MetadataCommand, MetadataError, MetadataReply, PARTITIONS_PER_TOPIC_MAX, PartitionImage,
    TEXT_BYTES_MAX, TOPICS_MAX, TopicImage,
};
use crate::{BrokerId, PartitionId, ProducerId, TopicId, topic::TopicConfig};

impl ClusterImage {
    /// Applies a command.
    ///
    /// # Errors
    /// [`MetadataError`] when it is refused; the image is then as it was.
    pub fn apply(&mut self, command: &MetadataCommand) -> Result<MetadataReply, MetadataError> {
        if !self.is_formatted() && !matches!(command, MetadataCommand::FormatCluster { .. }) {
            return Err(MetadataError::NotFormatted);
        }
        let reply = self.apply_checked(command)?;
        self.version += 1;
        Ok(reply)
    }

    fn apply_checked(&mut self, command: &MetadataCommand) -> Result<MetadataReply, MetadataError> {
        match command {
            MetadataCommand::FormatCluster { cluster_id } => self.format(cluster_id)?,
            MetadataCommand::RegisterBroker { broker, replaces, .. } => {
                if let Some(registration) = self.new_registration(command) {
                    self.register(*broker, registration, *replaces)?;
                }
            }
            MetadataCommand::UnregisterBroker { broker } => self.unregister(*broker)?,
            MetadataCommand::SetDraining { broker, incarnation, draining } => {
                self.set_draining(*broker, *incarnation, *draining)?;
            }
            MetadataCommand::CreateTopic { id, name, config, partitions, created_ms } => {
                self.check_new_topic(config, partitions)?;
                self.insert_topic(TopicImage {
                    id: *id,
                    name: name.clone(),
                    config: config.clone(),
                    created_ms: *created_ms,
                    partitions: partitions.iter().cloned().map(PartitionImage::new).collect(),
                })?;
            }
            MetadataCommand::DeleteTopic { id } => {
                self.check_topic_is_free(*id)?;
                let name = self.names.remove(id).ok_or(MetadataError::UnknownTopic(*id))?;
                self.topics.remove(&name);
                Arc::make_mut(&mut self.deleted).insert(*id);
            }
            MetadataCommand::AlterTopic { id, config } => {
                config.validate()?;
                self.topic_mut(*id)?.config = config.clone();
            }
            MetadataCommand::BeginEpochs { partitions } => self.begin_epochs(partitions)?,
            MetadataCommand::SetLeaders { leaders } => self.set_leaders(leaders)?,
            MetadataCommand::BeginMoves { moves } => self.begin_moves(moves)?,
            MetadataCommand::EndMove { topic_id, partition, epoch, to, since } => {
                self.end_move(*topic_id, *partition, *epoch, (to, *since))?;
            }
            MetadataCommand::CancelMove { topic_id, partition, to } => self.cancel_move(*topic_id, *partition, to)?,
            MetadataCommand::CreateStream { id, name, generation, definition, created_ms } => {
                self.create_stream(*id, name, *generation, definition, *created_ms)?;
            }
            MetadataCommand::SetStreamState { id, generation, from, to } => {
                self.set_stream_state(*id, *generation, *from, to)?;
            }
            MetadataCommand::DeleteStream { id, generation } => self.delete_stream(*id, *generation)?,
            MetadataCommand::ReplaceStream { id, generation, definition, created_ms } => {
                self.replace_stream(*id, *generation, definition, *created_ms)?;
            }
            MetadataCommand::SwitchStream { id, generation } => self.switch_stream(*id, *generation)?,
            MetadataCommand::ReserveProducerIds { count } => {
                let first = ProducerId(self.next_producer_id);
                let next = self.next_producer_id.checked_add(i64::from(*count)).filter(|_| *count > 0);
                self.next_producer_id = next.ok_or(MetadataError::ProducerIds(*count))?;
                return Ok(MetadataReply::ProducerIds { first, count: *count });
            }
        }
        Ok(MetadataReply::Done)
    }

    fn format(&mut self, cluster_id: &str) -> Result<(), MetadataError> {
        if self.is_formatted() {
            return Err(MetadataError::AlreadyFormatted { cluster_id: self.cluster_id.clone() });
        }
        check_text("cluster_id", cluster_id, true, "")?;
        cluster_id.clone_into(&mut self.cluster_id);
        Ok(())
    }

    fn check_new_topic(&self, config: &TopicConfig, partitions: &[Vec<BrokerId>]) -> Result<(), MetadataError> {
        config.validate()?;
        if self.topics.len() >= TOPICS_MAX {
            return Err(MetadataError::TooManyTopics);
        }
        if !(1..=PARTITIONS_PER_TOPIC_MAX).contains(&partitions.len()) {
            return Err(MetadataError::PartitionCount(partitions.len()));
        }
        let replicas = partitions[0].len();
        self.check_replication_factor(replicas)?;
        for (partition, assigned) in (0..).map(PartitionId).zip(partitions) {
            if assigned.len() != replicas || has_repetition(assigned) {
                return Err(MetadataError::Replicas { partition });
            }
            self.check_registered(assigned)?;
        }
        Ok(())
    }

    fn check_replication_factor(&self, replicas: usize) -> Result<(), MetadataError> {
        let brokers = self.brokers.len();
        if (1..=brokers).contains(&replicas) {
            Ok(())
        } else {
            Err(MetadataError::ReplicationFactor { replicas, brokers })
        }
    }

    fn check_registered(&self, brokers: &[BrokerId]) -> Result<(), MetadataError> {
        let unknown = brokers.iter().find(|broker| !self.brokers.contains_key(broker));
        unknown.map_or(Ok(()), |unknown| Err(MetadataError::UnknownBroker(*unknown)))
    }

    fn insert_topic(&mut self, topic: TopicImage) -> Result<(), MetadataError> {
        if self.topics.contains_key(&topic.name) {
            return Err(MetadataError::TopicExists(topic.name));
        }
        if self.names.contains_key(&topic.id) {
            return Err(MetadataError::TopicIdExists(topic.id));
        }
        if self.was_deleted(topic.id) {
            return Err(MetadataError::TopicIdDeleted(topic.id));
        }
        self.names.insert(topic.id, topic.name.clone());
        self.topics.insert(topic.name.clone(), Arc::new(topic));
        Ok(())
    }

    /// The topic to be changed: copied first when someone still holds the former image.
    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, MetadataError> {
        let topic = self.names.get(&id).and_then(|name| self.topics.get_mut(name));
        topic.map(Arc::make_mut).ok_or(MetadataError::UnknownTopic(id))
    }

    fn partition_of(&self, topic_id: TopicId, partition: PartitionId) -> Result<&PartitionImage, MetadataError> {
        let topic = self.topic_by_id(topic_id).ok_or(MetadataError::UnknownTopic(topic_id))?;
        topic.partition(partition).ok_or(MetadataError::UnknownPartition { topic_id, partition })
    }

    fn partition_mut(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
    ) -> Result<&mut PartitionImage, MetadataError> {
        let partitions = &mut self.topic_mut(topic_id)?.partitions;
        let found = usize::try_from(partition.0).ok().and_then(|at| partitions.get_mut(at));
        found.ok_or(MetadataError::UnknownPartition { topic_id, partition })
    }
}

fn has_repetition(brokers: &[BrokerId]) -> bool {
    brokers.iter().collect::<BTreeSet<_>>().len() != brokers.len()
}

fn check_text(field: &'static str, text: &str, has_form: bool, form: &'static str) -> Result<(), MetadataError> {
    if has_form && (1..=TEXT_BYTES_MAX).contains(&text.len()) {
        Ok(())
    } else {
        Err(MetadataError::Text { field: Cow::Borrowed(field), form: Cow::Borrowed(form) })
    }
}

/// Refuses a command that names a partition twice.
fn check_distinct(partitions: impl Iterator<Item = (TopicId, PartitionId)>) -> Result<(), MetadataError> {
    let mut seen = BTreeSet::new();
    for (topic_id, partition) in partitions {
        if !seen.insert((topic_id, partition)) {
            return Err(MetadataError::RepeatedPartition { topic_id, partition });
        }
    }
    Ok(())
}
