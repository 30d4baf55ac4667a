//! What is known of each registered broker: whether it lives, and what it reports.

use std::collections::{BTreeMap, BTreeSet};

use super::{Heartbeat, HeartbeatAnswer, Key};
use crate::{
    BrokerId, LeaderEpoch,
    cluster::{ClusterImage, Incarnation, PartitionImage},
};

/// A partition as its leader has reported it.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) epoch: LeaderEpoch,
    pub(super) in_sync: Vec<BrokerId>,
    pub(super) move_complete: Option<u64>,
}

/// The registered life of a broker.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) incarnation: Incarnation,
    heard_ms: u64,
    /// When its port refused.
    gone_ms: Option<u64>,
    has_reported: bool,
    /// How often fences were sent again since it last answered any.
    pub(super) retries: u32,
    pub(super) led: BTreeMap<Key, Report>,
    pub(super) resigned: BTreeSet<(Key, LeaderEpoch)>,
}

impl Peer {
    const fn new(incarnation: Incarnation, now_ms: u64) -> Self {
        Self {
            incarnation,
            heard_ms: now_ms,
            gone_ms: None,
            has_reported: false,
            retries: 0,
            led: BTreeMap::new(),
            resigned: BTreeSet::new(),
        }
    }

    /// When it is declared dead if no more is heard of it.
    pub(super) const fn expires_ms(&self, session_timeout_ms: u64) -> u64 {
        if self.gone_ms.is_some() { 0 } else { self.heard_ms.saturating_add(session_timeout_ms) }
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.gone_ms.is_some()
    }
}

/// All registered brokers.
#[derive(Debug)]
pub(super) struct Peers {
    session_timeout_ms: u64,
    /// A heartbeat that comes so soon after a refused connection was sent before it.
    late_ms: u64,
    map: BTreeMap<BrokerId, Peer>,
    now_ms: u64,
}

impl Peers {
    pub(super) const fn new(session_timeout_ms: u64, late_ms: u64, now_ms: u64) -> Self {
        Self { session_timeout_ms, late_ms, map: BTreeMap::new(), now_ms }
    }

    pub(super) fn get(&self, broker: BrokerId) -> Option<&Peer> {
        self.map.get(&broker)
    }

    pub(super) fn get_mut(&mut self, broker: BrokerId) -> Option<&mut Peer> {
        self.map.get_mut(&broker)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (BrokerId, &Peer)> {
        self.map.iter().map(|(broker, peer)| (*broker, peer))
    }

    /// Time goes on. If it did so without the controller, whose process was stopped perhaps, then
    /// that nothing was heard meanwhile says nothing about those who lived before.
    pub(super) fn on_time(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.now_ms) > self.session_timeout_ms / 2 {
            for peer in self.map.values_mut() {
                if self.now_ms < peer.expires_ms(self.session_timeout_ms) {
                    peer.heard_ms = now_ms;
                }
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Follows the registrations. A new life is presumed alive: it has just registered.
    pub(super) fn on_image(&mut self, image: &ClusterImage, now_ms: u64) {
        self.map.retain(|broker, _| image.brokers.contains_key(broker));
        for (broker, registration) in &image.brokers {
            let peer = self.map.entry(*broker).or_insert_with(|| Peer::new(registration.incarnation, now_ms));
            if peer.incarnation != registration.incarnation {
                *peer = Peer::new(registration.incarnation, now_ms);
            }
        }
    }

    /// The second value: whether it changes anything but the time.
    pub(super) fn on_heartbeat(&mut self, heartbeat: &Heartbeat, now_ms: u64) -> (HeartbeatAnswer, bool) {
        let (session_timeout_ms, late_ms) = (self.session_timeout_ms, self.late_ms);
        let registered = self.map.get_mut(&heartbeat.broker);
        let Some(peer) = registered.filter(|peer| peer.incarnation == heartbeat.incarnation) else {
            return (HeartbeatAnswer { known: false, send_full: false, is_over: false }, false);
        };
        let was_alive = now_ms < peer.expires_ms(session_timeout_ms);
        if peer.gone_ms.is_none_or(|gone_ms| now_ms >= gone_ms.saturating_add(late_ms)) {
            peer.gone_ms = None;
            peer.heard_ms = peer.heard_ms.max(now_ms);
        }
        let resigned: BTreeSet<_> =
            heartbeat.resigned.iter().map(|(topic_id, partition, epoch)| ((*topic_id, *partition), *epoch)).collect();
        let changes = !was_alive || heartbeat.full || !heartbeat.led.is_empty() || resigned != peer.resigned;
        peer.resigned = resigned;
        if heartbeat.full {
            peer.led.clear();
            peer.has_reported = true;
        }
        for led in &heartbeat.led {
            let (in_sync, move_complete) = (led.in_sync.clone(), led.move_complete);
            peer.led.insert((led.topic_id, led.partition), Report { epoch: led.epoch, in_sync, move_complete });
        }
        (HeartbeatAnswer { known: true, send_full: !peer.has_reported, is_over: false }, changes)
    }

    /// Its port refuses. Whether that is news.
    pub(super) fn on_gone(&mut self, broker: BrokerId, incarnation: Option<Incarnation>, now_ms: u64) -> bool {
        match self.map.get_mut(&broker) {
            Some(peer) if incarnation.is_none_or(|incarnation| incarnation == peer.incarnation) => {
                peer.gone_ms.replace(now_ms).is_none()
            }
            _ => false,
        }
    }

    pub(super) fn is_alive(&self, broker: BrokerId, now_ms: u64) -> bool {
        self.map.get(&broker).is_some_and(|peer| now_ms < peer.expires_ms(self.session_timeout_ms))
    }

    /// Everyone who lives now, and in which life.
    pub(super) fn alive(&self, now_ms: u64) -> BTreeMap<BrokerId, Incarnation> {
        let alive = self.iter().filter(|(broker, _)| self.is_alive(*broker, now_ms));
        alive.map(|(broker, peer)| (broker, peer.incarnation)).collect()
    }

    /// When the next of those who live now is declared dead, if no more is heard.
    pub(super) fn next_expiry_ms(&self, now_ms: u64) -> Option<u64> {
        self.map.values().map(|peer| peer.expires_ms(self.session_timeout_ms)).filter(|expiry| now_ms < *expiry).min()
    }

    /// Whether this life of the broker has certainly ended.
    pub(super) fn is_over(&self, broker: BrokerId, incarnation: Incarnation) -> bool {
        self.map.get(&broker).is_none_or(|peer| peer.incarnation != incarnation || peer.is_gone())
    }

    /// What the leader of a partition has reported of it in the current epoch.
    pub(super) fn report(&self, key: Key, partition: &PartitionImage) -> Option<&Report> {
        let peer = self.map.get(&partition.leader?)?;
        let report = peer.led.get(&key).filter(|report| report.epoch == partition.leader_epoch)?;
        (partition.leader_incarnation == Some(peer.incarnation)).then_some(report)
    }

    /// Forgets what was reported of a partition before this epoch; `None`: of one that is deleted.
    pub(super) fn forget_before(&mut self, key: Key, epoch: Option<LeaderEpoch>) {
        for peer in self.map.values_mut() {
            if peer.led.get(&key).is_some_and(|report| epoch.is_none_or(|epoch| report.epoch < epoch)) {
                peer.led.remove(&key);
            }
        }
    }
}
