//! The topics that groups may read, as the cluster image tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pubg1_model::{
    TopicId, TopicName, TopicPartition,
    cluster::ClusterImage,
    consumer_group::{TopicPartitions, TopicPattern},
};

/// The topics of an image.
#[derive(Clone, Debug, Default)]
pub(super) struct Topics {
    image: Arc<ClusterImage>,
    ids: BTreeMap<TopicName, TopicId>,
    partitions: TopicPartitions,
}

/// What another image has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TopicChanges {
    /// Topics that are gone, though another of that name may exist by now.
    pub(super) gone: BTreeSet<TopicName>,
    /// Topics that have appeared, vanished or grown.
    pub(super) changed: BTreeSet<TopicName>,
}

impl Topics {
    pub(super) fn of(image: Arc<ClusterImage>) -> Self {
        let count =
            |topic: &pubg1_model::cluster::TopicImage| u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let outer = || image.topics.values().filter(|topic| !topic.name.is_internal());
        let ids = outer().map(|topic| (topic.name.clone(), topic.id)).collect();
        let partitions = outer().map(|topic| (topic.name.clone(), count(topic))).collect();
        Self { ids, partitions, image }
    }

    /// Looks at another image; `None` when it brings nothing new here.
    pub(super) fn follow(&mut self, image: Arc<ClusterImage>) -> Option<TopicChanges> {
        if image.version == self.image.version {
            return None;
        }
        let next = Self::of(image);
        let mut changes = TopicChanges::default();
        for (name, id) in &self.ids {
            if next.ids.get(name) != Some(id) {
                changes.gone.insert(name.clone());
            }
        }
        let differs = |name: &&TopicName| {
            self.ids.get(*name) != next.ids.get(*name) || self.partitions.get(*name) != next.partitions.get(*name)
        };
        changes.changed = self.ids.keys().chain(next.ids.keys()).filter(differs).cloned().collect();
        *self = next;
        (changes != TopicChanges::default()).then_some(changes)
    }

    pub(super) const fn partitions(&self) -> &TopicPartitions {
        &self.partitions
    }

    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        self.image.partition(&partition.topic, partition.partition).is_some()
    }

    pub(super) fn has_topic(&self, topic: &TopicName) -> bool {
        self.image.topic(topic).is_some()
    }

    /// The topics whose names match.
    pub(super) fn matching(&self, pattern: &TopicPattern) -> BTreeSet<TopicName> {
        self.ids.keys().filter(|topic| pattern.matches(topic)).cloned().collect()
    }
}
