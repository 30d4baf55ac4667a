//! Connections to the same peer that do not wait for each other.
//!
//! A connection has a window: so many requests, and no more, until some are answered. What clients ask may be answered
//! late (a long poll, an append that waits for a quorum), and the quorum is reached by requests of the other kinds. With
//! one window for all of them enough clients would stop what they wait for.

use std::sync::Arc;

use pubg1_model::BrokerId;
use pubg1_transport::{Counters, Identity, Network, PeerClient, PeerState, Peers, TransportConfig, random_seed};
use tokio::runtime::Handle;

use super::kind;

/// What travels together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The metadata group and the controller, kinds 1 to 19: small, and never late. Whether a peer lives is seen here.
    Protocol,
    /// Replication, kinds 20 to 29.
    Replication,
    /// What clients asked for, kinds from 30 on.
    Clients,
}

/// Requests that one broker may have under way at another: of the metadata group and the controller,
const PROTOCOL_WINDOW: u32 = 256;
/// of replication, which has a few fetches outstanding for each broker that is followed, and reports of damage,
const REPLICATION_WINDOW: u32 = 32;
/// and of clients.
pub(crate) const CLIENT_WINDOW: u32 = 1024;

impl Lane {
    const ALL: [Self; 3] = [Self::Protocol, Self::Replication, Self::Clients];

    /// The lane of a kind of request.
    pub(super) fn of(kind: u16) -> Self {
        match kind {
            kind if kind < *kind::REPLICATION.start() => Self::Protocol,
            kind if kind::REPLICATION.contains(&kind) => Self::Replication,
            _ => Self::Clients,
        }
    }

    fn config(self, config: &TransportConfig) -> TransportConfig {
        let window_requests = match self {
            Self::Protocol => PROTOCOL_WINDOW,
            Self::Replication => REPLICATION_WINDOW,
            Self::Clients => CLIENT_WINDOW,
        };
        TransportConfig { window_requests, lane: self.number(), ..config.clone() }
    }

    /// As it is called on the wire.
    const fn number(self) -> u8 {
        match self {
            Self::Protocol => 0,
            Self::Replication => 1,
            Self::Clients => 2,
        }
    }

    /// The lane of that number.
    pub(super) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.number() == number)
    }

    /// Where requests of the lane are read and answered, if not on the transport's thread. What a follower asks for goes to
    /// a partition, and what it is answered comes from there: if all partitions run on one thread, another one would only
    /// hand both on. Of several, one that is held up would keep followers of the others' partitions waiting.
    pub(super) const fn home(self, partitions: &[Handle]) -> Option<&Handle> {
        match (self, partitions) {
            (Self::Replication, [only]) => Some(only),
            _ => None,
        }
    }
}

/// The clients of the peers, whatever network they use.
trait Clients: Send + Sync {
    fn client(&self, peer: BrokerId, address: &str) -> PeerClient;
    fn get(&self, peer: BrokerId) -> Option<PeerClient>;
    fn remove(&self, peer: BrokerId);
}

impl<N: Network> Clients for Peers<N> {
    fn client(&self, peer: BrokerId, address: &str) -> PeerClient {
        Self::client(self, peer, address)
    }

    fn get(&self, peer: BrokerId) -> Option<PeerClient> {
        Self::get(self, peer)
    }

    fn remove(&self, peer: BrokerId) {
        Self::remove(self, peer);
    }
}

/// One connection for each lane and peer, opened by the first request that takes it.
pub(super) struct Lanes([Box<dyn Clients>; 3]);

impl Lanes {
    /// On the tokio runtime that this is called on, but for replication: what a replicator gets would only be handed on
    /// by another thread, so its connection lives on one of `partitions`, where the replicator itself does.
    pub(super) fn new<N: Network>(
        partitions: &[Handle],
        network: &N,
        identity: &Identity,
        config: &TransportConfig,
        counters: &Arc<Counters>,
    ) -> Self {
        Self(Lane::ALL.map(|lane| -> Box<dyn Clients> {
            let (config, counters) = (lane.config(config), Arc::clone(counters));
            let homes = match lane {
                Lane::Replication => partitions.to_vec(),
                Lane::Protocol | Lane::Clients => vec![Handle::current()],
            };
            Box::new(Peers::at_homes(homes, network.clone(), identity.clone(), config, counters, random_seed()))
        }))
    }

    pub(super) fn client(&self, lane: Lane, peer: BrokerId, address: &str) -> PeerClient {
        let [protocol, replication, clients] = &self.0;
        match lane {
            Lane::Protocol => protocol,
            Lane::Replication => replication,
            Lane::Clients => clients,
        }
        .client(peer, address)
    }

    /// Has every connection that is down tried at once.
    pub(super) fn wake(&self, peer: BrokerId, address: &str) {
        let protocol = self.client(Lane::Protocol, peer, address);
        let [_, others @ ..] = &self.0;
        let others = others.iter().filter_map(|clients| clients.get(peer));
        for client in others.chain([protocol]) {
            if !matches!(*client.state().borrow(), PeerState::Connected { .. }) {
                client.connect();
            }
        }
    }

    pub(super) fn remove(&self, peer: BrokerId) {
        self.0.iter().for_each(|clients| clients.remove(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lanes_are_told_by_number_and_replication_is_served_where_all_partitions_run() {
        let numbers = [(Lane::Protocol, 0), (Lane::Replication, 1), (Lane::Clients, 2)];
        let here = Handle::current();
        for (lane, number) in numbers {
            assert_eq!((lane.config(&TransportConfig::default()).lane, Lane::numbered(number)), (number, Some(lane)));
            assert_eq!(lane.home(std::slice::from_ref(&here)).is_some(), lane == Lane::Replication);
            assert!(lane.home(&[]).is_none() && lane.home(&[here.clone(), here.clone()]).is_none());
        }
        assert_eq!(Lane::numbered(3), None);
    }

    #[test]
    fn every_kind_has_its_lane() {
        for kind in [1, 9, kind::PROPOSE, kind::HEARTBEAT, kind::FENCE, kind::TRANSFER, 19] {
            assert_eq!(Lane::of(kind), Lane::Protocol, "{kind}");
        }
        for kind in kind::REPLICATION {
            assert_eq!(Lane::of(kind), Lane::Replication, "{kind}");
        }
        for kind in kind::CLIENT.chain(kind::GROUPS).chain(kind::STREAMS) {
            assert_eq!(Lane::of(kind), Lane::Clients, "{kind}");
        }
    }
}
