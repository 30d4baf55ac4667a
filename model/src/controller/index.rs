//! Which partitions need care, by reason: kept up to date by what an image changes, so that nothing
//! looks at all partitions again and again.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Key;
use crate::{
    BrokerId, LeaderEpoch, TopicName,
    cluster::{ClusterImage, PartitionImage, TopicImage},
};

#[derive(Debug, Default)]
pub(super) struct Index {
    /// By leader.
    led_by: BTreeMap<BrokerId, BTreeSet<Key>>,
    /// The life of the leader is over: another one has registered.
    pub(super) lost: BTreeSet<Key>,
    /// No epoch was ever begun.
    pub(super) unbegun: BTreeSet<Key>,
    /// Led by another than the preferred leader.
    pub(super) displaced: BTreeSet<Key>,
    /// A move is under way.
    pub(super) moving: BTreeSet<Key>,
}

impl Index {
    /// The partitions that this broker leads.
    pub(super) fn led_by(&self, broker: BrokerId) -> impl Iterator<Item = Key> {
        self.led_by.get(&broker).into_iter().flatten().copied()
    }

    /// All leaders, with what they lead.
    pub(super) fn leaders(&self) -> impl Iterator<Item = (BrokerId, &BTreeSet<Key>)> {
        self.led_by.iter().map(|(broker, keys)| (*broker, keys))
    }

    /// Takes over a new image; answers the partitions that have changed, come or gone.
    pub(super) fn on_image(&mut self, old: &ClusterImage, new: &ClusterImage) -> Vec<Key> {
        let mut changed = Vec::new();
        for (former, topic) in differences(&old.topics, &new.topics) {
            let same = former.zip(topic).filter(|(former, topic)| former.id == topic.id);
            if let Some(former) = former.filter(|_| same.is_none()) {
                for (number, partition) in former.numbered_partitions() {
                    let key = (former.id, number);
                    self.remove(key, partition);
                    changed.push(key);
                }
            }
            if let Some(topic) = topic {
                self.update_topic(same.map(|(former, _)| former), topic, new, &mut changed);
            }
        }
        self.update_lives(old, new);
        changed
    }

    fn update_topic(
        &mut self,
        former: Option<&TopicImage>,
        topic: &TopicImage,
        image: &ClusterImage,
        changed: &mut Vec<Key>,
    ) {
        for (number, partition) in topic.numbered_partitions() {
            let key = (topic.id, number);
            let former = former.and_then(|former| former.partition(number));
            if former == Some(partition) {
                continue;
            }
            if let Some(former) = former {
                self.remove(key, former);
            }
            self.insert(key, partition, image);
            changed.push(key);
        }
    }

    /// Finds the partitions whose leader has registered anew.
    fn update_lives(&mut self, old: &ClusterImage, new: &ClusterImage) {
        let life = |image: &ClusterImage, broker| image.brokers.get(broker).map(|known| known.incarnation);
        for (broker, keys) in &self.led_by {
            if life(old, broker) == life(new, broker) {
                continue;
            }
            for key in keys {
                if new.partition_by_id(key.0, key.1).is_some_and(|partition| is_lost(partition, new)) {
                    self.lost.insert(*key);
                } else {
                    self.lost.remove(key);
                }
            }
        }
    }

    fn insert(&mut self, key: Key, partition: &PartitionImage, image: &ClusterImage) {
        match partition.leader {
            Some(leader) => {
                self.led_by.entry(leader).or_default().insert(key);
                if partition.replicas.first() != Some(&leader) {
                    self.displaced.insert(key);
                }
                if is_lost(partition, image) {
                    self.lost.insert(key);
                }
            }
            None if partition.leader_epoch == LeaderEpoch::ZERO => {
                self.unbegun.insert(key);
            }
            None => {}
        }
        if partition.moving_to.is_some() {
            self.moving.insert(key);
        }
    }

    fn remove(&mut self, key: Key, partition: &PartitionImage) {
        if let Some(leader) = partition.leader
            && let Some(keys) = self.led_by.get_mut(&leader)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.led_by.remove(&leader);
            }
        }
        for keys in [&mut self.lost, &mut self.unbegun, &mut self.displaced, &mut self.moving] {
            keys.remove(&key);
        }
    }
}

type Topics = BTreeMap<TopicName, Arc<TopicImage>>;

/// The topics that differ, before and after. Both maps are walked once, side by side.
fn differences<'a>(old: &'a Topics, new: &'a Topics) -> Vec<(Option<&'a TopicImage>, Option<&'a TopicImage>)> {
    let mut differences = Vec::new();
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return differences,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((former, _)), Some((name, _))) => former.cmp(name),
        };
        let former = if order.is_le() { old.next().map(|(_, topic)| topic) } else { None };
        let topic = if order.is_ge() { new.next().map(|(_, topic)| topic) } else { None };
        // What no command has changed since is shared.
        if !former.zip(topic).is_some_and(|(former, topic)| Arc::ptr_eq(former, topic)) {
            differences.push((former.map(Arc::as_ref), topic.map(Arc::as_ref)));
        }
    }
}

fn is_lost(partition: &PartitionImage, image: &ClusterImage) -> bool {
    partition.leader.is_some_and(|leader| {
        let registered = image.brokers.get(&leader).map(|known| known.incarnation);
        registered.is_none() || registered != partition.leader_incarnation
    })
}
