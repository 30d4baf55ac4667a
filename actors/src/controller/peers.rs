//! Who is certainly gone: a broker whose port refuses connections needs no timeout to be declared dead.

use std::collections::BTreeMap;

use actix_rt::task::JoinHandle;
use pubg1_model::{BrokerId, cluster::ClusterImage};
use pubg1_transport::{PeerClient, PeerState};

use super::{ControllerHandle, messages::BrokerGone};

/// Keeps a connection to every broker of the image and tells the controller of those that refuse one.
pub(super) async fn watch_peers(handle: ControllerHandle) {
    let mut images = handle.0.metadata.images();
    let mut watched: BTreeMap<BrokerId, (String, AbortOnDrop)> = BTreeMap::new();
    loop {
        let image = images.borrow_and_update().clone();
        let gone: Vec<BrokerId> = watched.keys().filter(|id| !image.brokers.contains_key(id)).copied().collect();
        for broker in gone {
            watched.remove(&broker);
            handle.0.node.rpc.forget(broker);
        }
        for (broker, registration) in &image.brokers {
            handle.0.node.rpc.set_address(*broker, &registration.rpc_address);
            let known = watched.get(broker).is_some_and(|(address, _)| *address == registration.rpc_address);
            if known {
                continue;
            }
            if let Some(client) = handle.0.node.rpc.client(*broker) {
                client.connect();
                let watch = actix_rt::spawn(watch_peer(handle.clone(), client));
                watched.insert(*broker, (registration.rpc_address.clone(), AbortOnDrop(watch)));
            }
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Ends a task with the one who keeps it.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch_peer(handle: ControllerHandle, client: PeerClient) {
    let mut states = client.state();
    loop {
        let state = states.borrow_and_update().clone();
        tell(&handle, client.peer(), &state);
        if states.changed().await.is_err() {
            return;
        }
    }
}

fn tell(handle: &ControllerHandle, broker: BrokerId, state: &PeerState) {
    if matches!(state, PeerState::Refused { .. }) {
        let image: std::sync::Arc<ClusterImage> = handle.0.metadata.image();
        let incarnation = image.brokers.get(&broker).map(|registration| registration.incarnation);
        handle.post(BrokerGone { broker, incarnation });
    }
}

/// Tells a new controller what is known of each peer: no state may change any more.
pub(super) fn tell_what_is_known(handle: &ControllerHandle) {
    let image = handle.0.metadata.image();
    for broker in image.brokers.keys() {
        if let Some(client) = handle.0.node.rpc.client(*broker) {
            let state = client.state().borrow().clone();
            tell(handle, *broker, &state);
        }
    }
}
