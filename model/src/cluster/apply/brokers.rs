//! Brokers come, restart, drain and go.

use std::collections::btree_map::Entry;

use super::check_text;
use crate::{
    BrokerId,
    cluster::{BrokerRegistration, ClusterImage, Incarnation, MetadataCommand, MetadataError},
};

impl ClusterImage {
    /// What a registration writes; `None` for any other command.
    pub(super) fn new_registration(&self, command: &MetadataCommand) -> Option<BrokerRegistration> {
        let MetadataCommand::RegisterBroker { broker: _, http_url, rpc_address, incarnation, storage, rack, .. } =
            command
        else {
            return None;
        };
        Some(BrokerRegistration {
            http_url: http_url.clone(),
            rpc_address: rpc_address.clone(),
            incarnation: *incarnation,
            storage: *storage,
            registration: self.version + 1,
            rack: rack.clone(),
            draining: false,
        })
    }

    pub(super) fn register(
        &mut self,
        broker: BrokerId,
        mut registration: BrokerRegistration,
        replaces: Option<Incarnation>,
    ) -> Result<(), MetadataError> {
        check_addresses(&registration)?;
        match self.brokers.entry(broker) {
            Entry::Occupied(mut known) => {
                let current = known.get();
                if registration.incarnation == current.incarnation {
                    // The same life may say again, or anew, where it is reached.
                    registration.registration = current.registration;
                    registration.draining = current.draining;
                } else if replaces != Some(current.incarnation) {
                    return Err(MetadataError::StaleIncarnation { broker, current: current.incarnation });
                }
                known.insert(registration);
            }
            Entry::Vacant(_) if replaces.is_some() => return Err(MetadataError::UnknownBroker(broker)),
            Entry::Vacant(place) => {
                place.insert(registration);
            }
        }
        Ok(())
    }

    pub(super) fn unregister(&mut self, broker: BrokerId) -> Result<(), MetadataError> {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        let partitions = partitions.filter(|partition| partition.is_kept_by(broker)).count();
        if partitions > 0 {
            return Err(MetadataError::KeepsPartitions { broker, partitions });
        }
        self.brokers.remove(&broker).map(drop).ok_or(MetadataError::UnknownBroker(broker))
    }

    pub(super) fn set_draining(
        &mut self,
        broker: BrokerId,
        incarnation: Incarnation,
        draining: bool,
    ) -> Result<(), MetadataError> {
        self.check_life(broker, incarnation)?;
        if let Some(registration) = self.brokers.get_mut(&broker) {
            registration.draining = draining;
        }
        Ok(())
    }

    /// Whether this life of the broker is the one that is registered.
    pub(super) fn check_life(&self, broker: BrokerId, incarnation: Incarnation) -> Result<(), MetadataError> {
        let current = self.brokers.get(&broker).ok_or(MetadataError::UnknownBroker(broker))?.incarnation;
        if current == incarnation { Ok(()) } else { Err(MetadataError::Restarted { broker, current }) }
    }
}

fn check_addresses(registration: &BrokerRegistration) -> Result<(), MetadataError> {
    let BrokerRegistration { http_url, rpc_address, rack, .. } = registration;
    let is_http = http_url.starts_with("http://") || http_url.starts_with("https://");
    check_text("http_url", http_url, is_http, " and begin with http:// or https://")?;
    if !rpc_address.is_empty() {
        let port = rpc_address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        let is_address = port.is_some_and(|port| port.parse::<u16>().is_ok());
        check_text("rpc_address", rpc_address, is_address, " and the form host:port")?;
    }
    rack.as_ref().map_or(Ok(()), |rack| check_text("rack", rack, true, ""))
}
