//! The rules of each command: first everything is checked, then everything is changed.

use std::{
    collections::{BTreeSet, btree_map::Entry},
    sync::Arc,
};

use super::{
    BrokerRegistration, ClusterImage, EpochExpectation, Incarnation, MetadataCommand, MetadataError, MetadataReply,
    PARTITIONS_PER_TOPIC_MAX, PartitionImage, TEXT_BYTES_MAX, TOPICS_MAX, TopicImage,
};
use crate::{BrokerId, LeaderEpoch, PartitionId, ProducerId, TopicId, topic::TopicConfig};

impl ClusterImage {
    /// Applies a command.
    ///
    /// # Errors
    /// [`MetadataError`] when it is refused; the image is then as it was.
    pub fn apply(&mut self, command: &MetadataCommand) -> Result<MetadataReply, MetadataError> {
        if !self.is_formatted() && !matches!(command, MetadataCommand::FormatCluster { .. }) {
            return Err(MetadataError::NotFormatted);
        }
        let mut reply = MetadataReply::Done;
        match command {
            MetadataCommand::FormatCluster { cluster_id } => self.format(cluster_id)?,
            MetadataCommand::RegisterBroker { broker, http_url, incarnation, replaces } => {
                let registration = BrokerRegistration { http_url: http_url.clone(), incarnation: *incarnation };
                self.register(*broker, registration, *replaces)?;
            }
            MetadataCommand::CreateTopic { id, name, config, partitions, created_ms } => {
                self.check_new_topic(config, partitions)?;
                let partitions = partitions.iter().map(|replicas| PartitionImage {
                    replicas: replicas.clone(),
                    leader: None,
                    leader_epoch: LeaderEpoch::ZERO,
                });
                self.insert_topic(TopicImage {
                    id: *id,
                    name: name.clone(),
                    config: config.clone(),
                    created_ms: *created_ms,
                    partitions: partitions.collect(),
                })?;
            }
            MetadataCommand::DeleteTopic { id } => {
                let name = self.names.remove(id).ok_or(MetadataError::UnknownTopic(*id))?;
                self.topics.remove(&name);
            }
            MetadataCommand::AlterTopic { id, config } => {
                config.validate()?;
                self.topic_mut(*id)?.config = config.clone();
            }
            MetadataCommand::BeginEpochs { partitions, leader } => self.begin_epochs(partitions, *leader)?,
            MetadataCommand::ReserveProducerIds { count } => {
                let first = ProducerId(self.next_producer_id);
                let next = self.next_producer_id.checked_add(i64::from(*count)).filter(|_| *count > 0);
                self.next_producer_id = next.ok_or(MetadataError::ProducerIds(*count))?;
                reply = MetadataReply::ProducerIds { first, count: *count };
            }
        }
        self.version += 1;
        Ok(reply)
    }

    fn format(&mut self, cluster_id: &str) -> Result<(), MetadataError> {
        if self.is_formatted() {
            return Err(MetadataError::AlreadyFormatted { cluster_id: self.cluster_id.clone() });
        }
        if !(1..=TEXT_BYTES_MAX).contains(&cluster_id.len()) {
            return Err(MetadataError::Text { field: "cluster_id", form: "" });
        }
        cluster_id.clone_into(&mut self.cluster_id);
        Ok(())
    }

    fn register(
        &mut self,
        broker: BrokerId,
        registration: BrokerRegistration,
        replaces: Option<Incarnation>,
    ) -> Result<(), MetadataError> {
        let url = &registration.http_url;
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        if !is_http || url.len() > TEXT_BYTES_MAX {
            return Err(MetadataError::Text { field: "http_url", form: " and begin with http:// or https://" });
        }
        match self.brokers.entry(broker) {
            // The same life may say again, or anew, where it is reached.
            Entry::Occupied(known)
                if replaces != Some(known.get().incarnation) && registration.incarnation != known.get().incarnation =>
            {
                return Err(MetadataError::StaleIncarnation { broker, current: known.get().incarnation });
            }
            Entry::Vacant(_) if replaces.is_some() => return Err(MetadataError::UnknownBroker(broker)),
            entry => {
                entry.insert_entry(registration);
            }
        }
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
        let (replicas, brokers) = (partitions[0].len(), self.brokers.len());
        if !(1..=brokers).contains(&replicas) {
            return Err(MetadataError::ReplicationFactor { replicas, brokers });
        }
        for (partition, assigned) in (0..).map(PartitionId).zip(partitions) {
            if assigned.len() != replicas || assigned.iter().collect::<BTreeSet<_>>().len() != replicas {
                return Err(MetadataError::Replicas { partition });
            }
            if let Some(unknown) = assigned.iter().find(|broker| !self.brokers.contains_key(broker)) {
                return Err(MetadataError::UnknownBroker(*unknown));
            }
        }
        Ok(())
    }

    fn insert_topic(&mut self, topic: TopicImage) -> Result<(), MetadataError> {
        if self.topics.contains_key(&topic.name) {
            return Err(MetadataError::TopicExists(topic.name));
        }
        if self.names.contains_key(&topic.id) {
            return Err(MetadataError::TopicIdExists(topic.id));
        }
        self.names.insert(topic.id, topic.name.clone());
        self.topics.insert(topic.name.clone(), Arc::new(topic));
        Ok(())
    }

    fn begin_epochs(&mut self, changes: &[EpochExpectation], leader: Option<BrokerId>) -> Result<(), MetadataError> {
        if let Some(leader) = leader.filter(|leader| !self.brokers.contains_key(leader)) {
            return Err(MetadataError::UnknownBroker(leader));
        }
        let mut seen = BTreeSet::new();
        for change in changes {
            self.check_epoch(change, leader)?;
            let EpochExpectation { topic_id, partition, .. } = *change;
            if !seen.insert((topic_id, partition)) {
                return Err(MetadataError::RepeatedPartition { topic_id, partition });
            }
        }
        for change in changes {
            let partitions = &mut self.topic_mut(change.topic_id)?.partitions;
            if let Some(partition) = usize::try_from(change.partition.0).ok().and_then(|at| partitions.get_mut(at)) {
                partition.leader_epoch = change.expected.next();
                partition.leader = leader;
            }
        }
        Ok(())
    }

    fn check_epoch(&self, change: &EpochExpectation, leader: Option<BrokerId>) -> Result<(), MetadataError> {
        let EpochExpectation { topic_id, partition, expected } = *change;
        let topic = self.topic_by_id(topic_id).ok_or(MetadataError::UnknownTopic(topic_id))?;
        let image = topic.partition(partition).ok_or(MetadataError::UnknownPartition { topic_id, partition })?;
        if image.leader_epoch != expected {
            return Err(MetadataError::StaleEpoch { topic_id, partition, current: image.leader_epoch, expected });
        }
        if expected == LeaderEpoch::MAX {
            return Err(MetadataError::EpochsExhausted { topic_id, partition });
        }
        if let Some(leader) = leader.filter(|leader| !image.replicas.contains(leader)) {
            return Err(MetadataError::NotAReplica { topic_id, partition, leader });
        }
        Ok(())
    }

    /// The topic to be changed: copied first when someone still holds the former image.
    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, MetadataError> {
        let topic = self.names.get(&id).and_then(|name| self.topics.get_mut(name));
        topic.map(Arc::make_mut).ok_or(MetadataError::UnknownTopic(id))
    }
}
