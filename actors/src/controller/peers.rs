//! Who is certainly gone: a broker whose port refuses connections needs no timeout to be declared dead.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use actix_rt::task::JoinHandle;
use pubg1_model::{
    BrokerId,
    cluster::{ClusterImage, Incarnation},
};
use pubg1_transport::{PeerClient, PeerState};
use tokio::time::Instant;

use super::{ControllerHandle, messages::BrokerGone};

/// The registered life of each broker, and since when it is known here.
#[derive(Default)]
pub(super) struct Lives(Mutex<BTreeMap<BrokerId, (Incarnation, Instant)>>);

impl Lives {
    /// Takes over an image; the brokers of which it has another life than was known.
    fn follow(&self, image: &ClusterImage) -> Vec<BrokerId> {
        let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|broker, _| image.brokers.contains_key(broker));
        let now = Instant::now();
        let is_new = |(broker, incarnation): &(BrokerId, Incarnation)| {
            let former = lives.get(broker).map(|(known, _)| *known);
            if former != Some(*incarnation) {
                lives.insert(*broker, (*incarnation, now));
            }
            former != Some(*incarnation)
        };
        let registered = image.brokers.iter().map(|(broker, known)| (*broker, known.incarnation));
        registered.filter(is_new).map(|(broker, _)| broker).collect()
    }

    /// The registered life of a broker, if what is found at its port says that it is over.
    fn over(&self, broker: BrokerId, found: &PeerState) -> Option<Incarnation> {
        let PeerState::Refused { attempted, incarnation: reached, .. } = found else { return None };
        let lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (registered, known_since) = lives.get(&broker)?;
        // A life listens before it registers. What was found before that was the end of a former one.
        let is_over = *reached == Some(registered.as_u64()) || attempted >= known_since;
        is_over.then_some(*registered)
    }
}

/// Keeps a connection to every broker of the image and tells the controller of those that refuse one.
pub(super) async fn watch_peers(handle: ControllerHandle) {
    let mut images = handle.0.metadata.images();
    let mut watched: BTreeMap<BrokerId, (String, AbortOnDrop)> = BTreeMap::new();
    loop {
        let image = images.borrow_and_update().clone();
        let begun = handle.0.lives.follow(&image);
        let gone: Vec<BrokerId> = watched.keys().filter(|id| !image.brokers.contains_key(id)).copied().collect();
        for broker in gone {
            watched.remove(&broker);
            handle.0.node.rpc.forget(broker);
        }
        for (broker, registration) in &image.brokers {
            handle.0.node.rpc.set_address(*broker, &registration.rpc_address);
            if begun.contains(broker) {
                handle.0.node.rpc.wake(*broker);
            }
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
    if let Some(incarnation) = handle.0.lives.over(broker, state) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pubg1_model::{cluster::MetadataCommand, replication::StorageId};

    use super::*;

    fn register(image: &mut ClusterImage, life: u8) -> Incarnation {
        let incarnation = Incarnation::from_bytes([life; 16]);
        let command = MetadataCommand::RegisterBroker {
            broker: BrokerId(1),
            http_url: "http://127.0.0.1:8001".to_owned(),
            rpc_address: "127.0.0.1:9001".to_owned(),
            incarnation,
            storage: StorageId::from_bytes([1; 16]),
            rack: None,
            replaces: image.brokers.get(&BrokerId(1)).map(|known| known.incarnation),
        };
        image.apply(&command).unwrap();
        incarnation
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_refused_before_a_life_began_says_nothing_of_it() {
        let (lives, mut image) = (Lives::default(), ClusterImage::default());
        image.apply(&MetadataCommand::FormatCluster { cluster_id: "c".to_owned() }).unwrap();
        let (before, broker) = (Instant::now(), BrokerId(1));
        let refused = |attempted, incarnation| PeerState::Refused { since: before, attempted, incarnation };
        assert_eq!(lives.over(broker, &refused(before, None)), None, "who is not registered has no life");

        let first = register(&mut image, 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(lives.follow(&image), [broker]);
        assert_eq!(lives.follow(&image), []);
        assert_eq!(lives.over(broker, &refused(before, None)), None, "it was not there yet");
        assert_eq!(lives.over(broker, &refused(before, Some(first.as_u64()))), Some(first));
        assert_eq!(lives.over(broker, &refused(Instant::now(), None)), Some(first));
        assert_eq!(lives.over(broker, &PeerState::Unreachable { since: before }), None);

        // It comes back before the next attempt finds it: the attempts before found the end of the former life.
        let found_at = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        let second = register(&mut image, 2);
        assert_eq!(lives.follow(&image), [broker]);
        assert_eq!(lives.over(broker, &refused(found_at, Some(first.as_u64()))), None);
        assert_eq!(lives.over(broker, &refused(Instant::now(), Some(first.as_u64()))), Some(second), "gone again");
    }
}
