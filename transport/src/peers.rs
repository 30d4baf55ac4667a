//! One client for each peer, made when it is first asked for.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pubg1_model::BrokerId;
use tokio::runtime::Handle;

use crate::{Counters, Identity, Network, PeerClient, TransportConfig};

/// The clients of one broker. Clones share them.
#[derive(Clone)]
pub struct Peers<N> {
    inner: Arc<Inner<N>>,
}

struct Inner<N> {
    network: N,
    identity: Identity,
    config: TransportConfig,
    counters: Arc<Counters>,
    seed: u64,
    /// Where connections live: a peer's on the one that its number falls to.
    homes: Vec<Handle>,
    clients: Mutex<BTreeMap<BrokerId, PeerClient>>,
}

impl<N: Network> Peers<N> {
    /// No clients yet. Their connections will live on the tokio runtime this is called on, whoever asks for them.
    /// `seed` as for [`PeerClient::new`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(network: N, identity: Identity, config: TransportConfig, counters: Arc<Counters>, seed: u64) -> Self {
        Self::at_homes(vec![Handle::current()], network, identity, config, counters, seed)
    }

    /// The same with connections on several runtimes, or on another one than the caller's: that of broker *n* lives on
    /// number *n* modulo how many there are. Of none, on the caller's.
    ///
    /// # Panics
    /// Without `homes`, when a client is asked for outside of a tokio runtime.
    #[must_use]
    pub fn at_homes(
        homes: Vec<Handle>,
        network: N,
        identity: Identity,
        config: TransportConfig,
        counters: Arc<Counters>,
        seed: u64,
    ) -> Self {
        let clients = Mutex::default();
        Self { inner: Arc::new(Inner { network, identity, config, counters, seed, homes, clients }) }
    }

    /// The client of `peer` at `address`. A peer that has moved gets a new one; requests to the old address end with
    /// the last clone of the old one.
    #[must_use]
    pub fn client(&self, peer: BrokerId, address: &str) -> PeerClient {
        let Inner { network, identity, config, counters, seed, homes, .. } = &*self.inner;
        let mut clients = self.clients();
        if let Some(client) = clients.get(&peer).filter(|client| client.address() == address) {
            return client.clone();
        }
        let home = usize::try_from(peer.0).unwrap_or_default().checked_rem(homes.len()).and_then(|at| homes.get(at));
        let _inside = home.map(Handle::enter);
        let client = PeerClient::new(
            network.clone(),
            peer,
            address,
            identity.clone(),
            config.clone(),
            Arc::clone(counters),
            seed.wrapping_add(u64::from(peer.0)),
        );
        clients.insert(peer, client.clone());
        client
    }

    /// The client of `peer`, if it was asked for before.
    #[must_use]
    pub fn get(&self, peer: BrokerId) -> Option<PeerClient> {
        self.clients().get(&peer).cloned()
    }

    /// Forgets a peer that has left the cluster and closes its connection.
    pub fn remove(&self, peer: BrokerId) {
        let client = self.clients().remove(&peer);
        if let Some(client) = client {
            client.close();
        }
    }

    /// Closes every connection.
    pub fn close(&self) {
        let clients = std::mem::take(&mut *self.clients());
        clients.values().for_each(PeerClient::close);
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<BrokerId, PeerClient>> {
        self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N> fmt::Debug for Peers<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(clients.values()).finish()
    }
}
