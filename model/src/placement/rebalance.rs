//! A plan that evens what the brokers keep and lead.

use super::{
    fleet::{Fleet, Service, Site, destination},
    leaders::even,
};
use crate::{
    PartitionId, TopicId,
    cluster::{ClusterImage, PartitionImage, ReplicaMove},
};

/// A partition that may be moved.
struct Item<'a> {
    topic_id: TopicId,
    partition: PartitionId,
    image: &'a PartitionImage,
    /// The number of its topic.
    topic: usize,
    /// The sites that shall keep it, the preferred leader first.
    set: Vec<usize>,
}

struct Plan<'a> {
    fleet: &'a Fleet,
    items: Vec<Item<'a>>,
    /// What each site keeps, in all topics.
    replicas: Vec<usize>,
    /// What each site keeps of each topic.
    of_topic: Vec<Vec<usize>>,
}

pub(super) fn plan(image: &ClusterImage, fleet: &Fleet) -> Vec<ReplicaMove> {
    let mut plan = Plan::new(image, fleet);
    plan.leave_draining();
    plan.spread_racks();
    plan.even_replicas();
    plan.even_leaders();
    plan.moves()
}

impl<'a> Plan<'a> {
    fn new(image: &'a ClusterImage, fleet: &'a Fleet) -> Self {
        let mut items = Vec::new();
        let mut of_topic = vec![vec![0; fleet.sites.len()]; image.topics.len()];
        for (topic, topic_image) in image.topics.values().enumerate() {
            for (partition, image) in topic_image.numbered_partitions() {
                let set = fleet.members(destination(image));
                for site in &set {
                    of_topic[topic][*site] += 1;
                }
                if image.moving_to.is_none() {
                    items.push(Item { topic_id: topic_image.id, partition, image, topic, set });
                }
            }
        }
        let replicas = fleet.sites.iter().map(|site| site.replicas).collect();
        Self { fleet, items, replicas, of_topic }
    }

    fn site(&self, number: usize) -> &'a Site {
        &self.fleet.sites[number]
    }

    /// How many racks a partition would stand in if `to` took the place of `from`.
    fn racks_with(&self, item: usize, from: usize, to: usize) -> usize {
        let members = self.items[item].set.iter().map(|site| if *site == from { to } else { *site });
        let mut racks: Vec<_> = members.map(|site| self.site(site).rack).collect();
        racks.sort_unstable();
        racks.dedup();
        racks.len()
    }

    fn replace(&mut self, item: usize, from: usize, to: usize) {
        let Item { topic, set, .. } = &mut self.items[item];
        for site in set.iter_mut().filter(|site| **site == from) {
            *site = to;
            self.replicas[from] -= 1;
            self.replicas[to] += 1;
            self.of_topic[*topic][from] -= 1;
            self.of_topic[*topic][to] += 1;
        }
    }

    /// Who could take the place of `from`: the one that gives the most racks, then has the least.
    fn best_instead(&self, item: usize, from: usize) -> Option<usize> {
        let Item { topic, set, .. } = &self.items[item];
        let free = (0..self.fleet.sites.len()).filter(|site| self.fleet.is_in_service(*site) && !set.contains(site));
        free.min_by_key(|to| {
            let racks = self.racks_with(item, from, *to);
            (std::cmp::Reverse(racks), self.replicas[*to], self.of_topic[*topic][*to], self.site(*to).turn)
        })
    }

    fn leave_draining(&mut self) {
        for item in 0..self.items.len() {
            for from in self.items[item].set.clone() {
                if self.site(from).service != Service::Draining {
                    continue;
                }
                if let Some(to) = self.best_instead(item, from) {
                    self.replace(item, from, to);
                }
            }
            // One that has to stay shall at least not lead.
            let set = &mut self.items[item].set;
            let leads = set.first().is_some_and(|first| self.fleet.sites[*first].service == Service::Draining);
            let other = set.iter().position(|site| self.fleet.is_in_service(*site));
            if let Some(other) = other.filter(|_| leads) {
                set.swap(0, other);
            }
        }
    }

    /// Moves replicas that share a rack to racks that have none of the partition.
    fn spread_racks(&mut self) {
        for item in 0..self.items.len() {
            for from in self.items[item].set.clone().into_iter().rev() {
                let racks = self.racks_with(item, from, from);
                let to = self.best_instead(item, from).filter(|to| self.racks_with(item, from, *to) > racks);
                if let Some(to) = to.filter(|_| self.fleet.is_in_service(from)) {
                    self.replace(item, from, to);
                }
            }
        }
    }

    /// Moves replicas from those that have most to those that have least, while that evens the
    /// numbers and takes no rack from a partition.
    fn even_replicas(&mut self) {
        let mut order: Vec<_> = (0..self.fleet.sites.len()).filter(|site| self.fleet.is_in_service(*site)).collect();
        'next: loop {
            order.sort_by_key(|site| (self.replicas[*site], self.site(*site).turn));
            for from in order.iter().rev() {
                for to in &order {
                    if self.replicas[*to] + 2 > self.replicas[*from] {
                        break;
                    }
                    if let Some(item) = self.movable(*from, *to) {
                        self.replace(item, *from, *to);
                        continue 'next;
                    }
                }
            }
            return;
        }
    }

    /// The partition to move from a site to another: of the topic that is least even between them,
    /// and rather a follower than the preferred leader.
    fn movable(&self, from: usize, to: usize) -> Option<usize> {
        let mut best: Option<(_, usize)> = None;
        for (number, item) in self.items.iter().enumerate() {
            if !item.set.contains(&from) || item.set.contains(&to) {
                continue;
            }
            let of_topic = &self.of_topic[item.topic];
            let is_follower = item.set.first() != Some(&from);
            // Never negative, so that it can be compared.
            let unevenness = (self.items.len() + of_topic[from]).saturating_sub(of_topic[to]);
            let worth = (unevenness, is_follower);
            if best.is_none_or(|(known, _)| known < worth)
                && self.racks_with(number, from, to) >= self.racks_with(number, from, from)
            {
                best = Some((worth, number));
            }
        }
        best.map(|(_, number)| number)
    }

    fn even_leaders(&mut self) {
        let fit: Vec<_> = (0..self.fleet.sites.len()).map(|site| self.fleet.is_in_service(site)).collect();
        let (mut numbers, mut sets, mut leaders) = (Vec::new(), Vec::new(), Vec::new());
        let mut counts: Vec<_> = self.fleet.sites.iter().map(|site| site.leaders).collect();
        for (number, item) in self.items.iter().enumerate() {
            let former = self.fleet.members(destination(item.image));
            if let (Some(former), Some(leader)) = (former.first(), item.set.first()) {
                counts[*former] -= 1;
                counts[*leader] += 1;
                numbers.push(number);
                sets.push(item.set.clone());
                leaders.push(*leader);
            }
        }
        even(&sets, &mut leaders, &mut counts, &fit);
        for (number, leader) in numbers.into_iter().zip(leaders) {
            let set = &mut self.items[number].set;
            if let Some(at) = set.iter().position(|site| *site == leader) {
                set.swap(0, at);
            }
        }
    }

    fn moves(self) -> Vec<ReplicaMove> {
        let moves = self.items.into_iter().map(|item| {
            let to = self.fleet.brokers(&item.set);
            let Item { topic_id, partition, image, .. } = item;
            ReplicaMove { topic_id, partition, expected: image.replicas.clone(), to }
        });
        moves.filter(|moved| moved.to != moved.expected).collect()
    }
}
