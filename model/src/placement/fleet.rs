//! The brokers as placement sees them, numbered from 0 in the order of their ids.

use std::collections::BTreeMap;

use crate::{
    BrokerId,
    cluster::{BrokerRegistration, ClusterImage, PartitionImage},
};

/// Whether a broker can take something on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    In,
    Draining,
    Dead,
}

/// One broker.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) broker: BrokerId,
    pub(super) rack: usize,
    pub(super) service: Service,
    /// Where it stands in the rotation.
    pub(super) turn: usize,
    /// Replicas and preferred leaderships that it has, in all topics.
    pub(super) replicas: usize,
    pub(super) leaders: usize,
}

#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) sites: Vec<Site>,
    /// How many brokers of each rack are in service.
    pub(super) rack_sizes: Vec<usize>,
}

impl Fleet {
    pub(super) fn new(image: &ClusterImage, alive: impl Fn(BrokerId) -> bool) -> Self {
        let mut racks = BTreeMap::new();
        let count = image.brokers.len();
        let start = usize::try_from(image.version % (count.max(1) as u64)).unwrap_or_default();
        let mut sites = Vec::with_capacity(count);
        for (at, (broker, registration)) in image.brokers.iter().enumerate() {
            let next_rack = racks.len();
            // Without a rack it is alone.
            let name = registration.rack.as_deref().ok_or(*broker);
            let rack = *racks.entry(name).or_insert(next_rack);
            let service = service(registration, alive(*broker));
            let turn = (at + count - start) % count;
            sites.push(Site { broker: *broker, rack, service, turn, replicas: 0, leaders: 0 });
        }
        let mut rack_sizes = vec![0; racks.len()];
        for site in sites.iter().filter(|site| site.service == Service::In) {
            rack_sizes[site.rack] += 1;
        }
        let mut fleet = Self { sites, rack_sizes };
        fleet.count(image);
        fleet
    }

    fn count(&mut self, image: &ClusterImage) {
        for partition in image.topics.values().flat_map(|topic| &topic.partitions) {
            let sites = self.members(destination(partition));
            for site in &sites {
                self.sites[*site].replicas += 1;
            }
            if let Some(leader) = sites.first() {
                self.sites[*leader].leaders += 1;
            }
        }
    }

    /// The numbers of these brokers.
    pub(super) fn members(&self, brokers: &[BrokerId]) -> Vec<usize> {
        let number = |broker: &BrokerId| self.sites.binary_search_by_key(broker, |site| site.broker).ok();
        brokers.iter().filter_map(number).collect()
    }

    pub(super) fn brokers(&self, members: &[usize]) -> Vec<BrokerId> {
        members.iter().map(|site| self.sites[*site].broker).collect()
    }

    pub(super) fn is_in_service(&self, site: usize) -> bool {
        self.sites[site].service == Service::In
    }
}

/// Where a partition is kept once its move has ended.
pub(super) fn destination(partition: &PartitionImage) -> &[BrokerId] {
    partition.moving_to.as_ref().unwrap_or(&partition.replicas)
}

const fn service(registration: &BrokerRegistration, is_alive: bool) -> Service {
    match (is_alive, registration.draining) {
        (true, false) => Service::In,
        (true, true) => Service::Draining,
        (false, _) => Service::Dead,
    }
}
