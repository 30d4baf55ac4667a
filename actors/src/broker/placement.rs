//! Which partitions run here: follows the cluster image.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use pubg1_model::{
    LeaderEpoch, PartitionId, TopicId,
    cluster::{ClusterImage, EpochExpectation, TopicImage},
    topic::TopicConfig,
};

use super::RETRY_PAUSE;
use crate::{
    arbiters::ArbiterHandles,
    data_dir::{partition_dir, topic_of_dir},
    group_coordinator::GroupCoordinatorHandle,
    metadata::{MetadataHandle, ProposeError},
    node::{NodeContext, Removal},
    partition::{PartitionIdentity, PartitionSlot, Remove, SetConfig, start_partition},
};

/// Starts and ends partitions as topics come and go.
pub(super) struct Placement {
    pub(super) node: Arc<NodeContext>,
    pub(super) metadata: MetadataHandle,
    pub(super) groups: GroupCoordinatorHandle,
    pub(super) arbiters: ArbiterHandles,
    /// What is placed, with the settings that it was told.
    placed: HashMap<TopicId, Placed>,
}

struct Placed {
    topic: pubg1_model::TopicName,
    config: TopicConfig,
    slots: Vec<Arc<PartitionSlot>>,
}

impl Placement {
    pub(super) fn new(
        node: Arc<NodeContext>,
        metadata: MetadataHandle,
        groups: GroupCoordinatorHandle,
        arbiters: ArbiterHandles,
    ) -> Self {
        Self { node, metadata, groups, arbiters, placed: HashMap::new() }
    }

    /// Makes what runs here agree with the image: ends what was deleted, tells new settings, and starts
    /// what is new, in new epochs begun by one command for all of it.
    pub(super) async fn reconcile(&mut self) {
        loop {
            let image = self.metadata.image();
            self.remove_deleted(&image);
            self.tell_settings(&image);
            let expected = self.not_placed(&image);
            if expected.is_empty() {
                return;
            }
            match self.metadata.begin_epochs(expected, self.node.config.broker_id).await {
                Ok(()) => {
                    self.node.obstacle.send_replace(None);
                    self.place(&image);
                }
                // The image has moved on: look again.
                Err(ProposeError::Refused(error)) => tracing::debug!(%error, "epochs were not begun"),
                Err(ProposeError::Unavailable(error)) => {
                    if self.node.is_draining() {
                        return;
                    }
                    tracing::warn!(%error, "partitions wait for new leader epochs");
                    self.node.obstacle.send_replace(Some(error.to_string()));
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// The epochs that end when the partitions which are not placed yet are led anew.
    fn not_placed(&self, image: &ClusterImage) -> Vec<EpochExpectation> {
        let is_new = |topic: &&Arc<TopicImage>| !self.placed.contains_key(&topic.id);
        let epochs = |topic: &Arc<TopicImage>| {
            let topic_id = topic.id;
            let expectation = move |(partition, image): (PartitionId, &pubg1_model::cluster::PartitionImage)| {
                EpochExpectation { topic_id, partition, expected: image.leader_epoch }
            };
            topic.numbered_partitions().map(expectation).collect::<Vec<_>>()
        };
        image.topics.values().filter(is_new).flat_map(epochs).collect()
    }

    /// Starts every partition that is not placed, in the epoch after the one that `image` tells.
    fn place(&mut self, image: &ClusterImage) {
        for topic in image.topics.values() {
            if self.placed.contains_key(&topic.id) {
                continue;
            }
            let slots: Vec<_> = topic
                .numbered_partitions()
                .map(|(partition, image)| self.start(topic, partition, image.leader_epoch.next()))
                .collect();
            self.node.table.insert(topic.name.clone(), slots.clone().into());
            let placed = Placed { topic: topic.name.clone(), config: topic.config.clone(), slots };
            self.placed.insert(topic.id, placed);
        }
    }

    fn start(&self, topic: &TopicImage, partition: PartitionId, epoch: LeaderEpoch) -> Arc<PartitionSlot> {
        let identity = PartitionIdentity {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition,
            dir: partition_dir(&self.node.config.data_dir.join("partitions"), topic.id, partition),
        };
        let slot = PartitionSlot::new(identity, Arc::clone(&self.node));
        let arbiter = self.arbiters.partition(topic.id, partition).clone();
        start_partition(&slot, &self.metadata, Some(epoch), arbiter, &self.arbiters.control);
        slot
    }

    fn remove_deleted(&mut self, image: &ClusterImage) {
        let gone: Vec<TopicId> = self.placed.keys().filter(|id| image.topic_by_id(**id).is_none()).copied().collect();
        for id in gone {
            let Some(placed) = self.placed.remove(&id) else { continue };
            self.node.table.remove(&placed.topic);
            for slot in &placed.slots {
                // One that has died finds its topic gone when it is started again.
                slot.post(Remove(Removal::begin(&self.node))).map_err(drop).unwrap_or_default();
            }
            self.groups.forget_topic(placed.topic.clone());
            self.node.metrics.remove_topic(placed.topic.as_str());
        }
    }

    fn tell_settings(&mut self, image: &ClusterImage) {
        for (id, placed) in &mut self.placed {
            let Some(topic) = image.topic_by_id(*id).filter(|topic| topic.config != placed.config) else { continue };
            placed.config = topic.config.clone();
            for slot in &placed.slots {
                // One that does not run reads the settings when it recovers.
                slot.post(SetConfig(topic.config.clone())).map_err(drop).unwrap_or_default();
            }
        }
    }
}

/// Removes the directories of topics that the metadata log says were deleted, in case the process ended
/// before their removal did. Anything else that nobody knows is left alone and told.
pub(super) fn remove_leftovers(node: &Arc<NodeContext>, metadata: &MetadataHandle, partitions: PathBuf) {
    let (image, metadata) = (metadata.image(), metadata.clone());
    node.workers.submit(move || {
        let entries = match std::fs::read_dir(&partitions) {
            Ok(entries) => entries,
            Err(error) => return tracing::warn!(dir = %partitions.display(), %error, "cannot be listed"),
        };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let topic = path.file_name().and_then(|name| name.to_str()).and_then(topic_of_dir);
            match topic {
                Some(topic) if image.topic_by_id(topic).is_some() => {}
                Some(topic) if metadata.was_deleted(topic) => {
                    if let Err(error) = std::fs::remove_dir_all(&path) {
                        tracing::warn!(dir = %path.display(), %error, "a deleted partition could not be removed");
                    }
                }
                _ => tracing::warn!(path = %path.display(), "belongs to no topic that is known; it is left alone"),
            }
        }
    });
}
