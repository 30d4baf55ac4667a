//! What a broker tells its controller, ten times a second: that it lives, and what it leads.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, LeaderEpoch, PartitionId, TopicId,
    cluster::{ClusterImage, MetadataCommand},
    controller::{Heartbeat, HeartbeatAnswer, LedPartition},
};
use pubg1_transport::{Payload, PeerState};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{fatal::FatalError, metadata::MetadataHandle, node::NodeContext, partition::PartitionStatus, rpc::kind};

/// How often.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often another broker is asked while there is no controller.
const LONE_INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take: the next heartbeat does not wait for ever for the former.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How long a broker that ends waits for the metadata log to take note: long enough for another one to decide.
const DECISION_PATIENCE: Duration = Duration::from_secs(2);

type Key = (TopicId, PartitionId);

/// What was told and acknowledged, and by whom.
#[derive(Default)]
struct Told {
    controller: Option<(BrokerId, u64)>,
    led: HashMap<Key, LedPartition>,
    send_full: bool,
}

/// Sends heartbeats until the broker ends. It goes on during a drain: what is handed over must be told.
pub(crate) async fn beat(node: Arc<NodeContext>, metadata: MetadataHandle) {
    let mut told = Told::default();
    let mut last_asked = (node.config.broker_id, Instant::now());
    let (mut leaders, mut wishes) = (metadata.controller(), node.resigned.subscribe());
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let ended = tokio::select! {
            _ = ticks.tick() => false,
            changed = leaders.changed() => changed.is_err(),
            changed = wishes.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
        wishes.borrow_and_update();
        let controller = leaders.borrow_and_update().as_ref().map(|lead| (lead.broker, lead.term));
        if let Some(controller) = controller {
            tell(&node, &metadata, controller, &mut told).await;
        } else if last_asked.1.elapsed() >= LONE_INTERVAL {
            last_asked = (ask_another(&node, &metadata, last_asked.0).await, Instant::now());
        }
    }
}

/// Without a controller: hears from another broker, the one after `last`, whether this life of the broker is over.
/// One whose place was taken by another process is not told anything any more.
async fn ask_another(node: &NodeContext, metadata: &MetadataHandle, last: BrokerId) -> BrokerId {
    let (image, me) = (metadata.image(), node.config.broker_id);
    let others = || image.brokers.keys().copied().filter(|broker| *broker != me);
    let Some(other) = others().find(|broker| *broker > last).or_else(|| others().next()) else { return last };
    let heartbeat = Heartbeat {
        broker: me,
        incarnation: node.incarnation,
        version: image.version,
        resigned: Vec::new(),
        led: Vec::new(),
        full: false,
    };
    match node.rpc.call(other, kind::HEARTBEAT, &heartbeat, Payload::empty(), TIMEOUT).await {
        Ok((Some(HeartbeatAnswer { is_over: true, .. }), _)) => end(node, other),
        // It is no controller, or the next will say more.
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(broker = %other, %error, "without a controller, another broker was asked in vain")
        }
    }
    other
}

/// This life of the broker is over, says another one.
fn end(node: &NodeContext, by: BrokerId) {
    let reason = format!("broker {by} knows another process under its number, or none; broker ids must be unique");
    node.fatal.report(FatalError::NotRegistered { broker: node.config.broker_id, reason });
}

async fn tell(node: &NodeContext, metadata: &MetadataHandle, controller: (BrokerId, u64), told: &mut Told) {
    if told.controller != Some(controller) {
        *told = Told { controller: Some(controller), led: HashMap::new(), send_full: true };
    }
    let full = told.send_full;
    let (led, resigned) = standing(node);
    let changed = |now: &&LedPartition| full || told.led.get(&(now.topic_id, now.partition)) != Some(*now);
    let heartbeat = Heartbeat {
        broker: node.config.broker_id,
        incarnation: node.incarnation,
        version: metadata.image().version,
        resigned,
        led: led.iter().filter(changed).cloned().collect(),
        full,
    };
    let asked_at = Instant::now();
    let answered = node.rpc.call(controller.0, kind::HEARTBEAT, &heartbeat, Payload::empty(), TIMEOUT).await;
    if answered.is_ok() && controller.0 != node.config.broker_id {
        node.metrics.replication().observe_heartbeat(asked_at.elapsed());
    }
    match answered {
        Ok((Some(HeartbeatAnswer { is_over: true, .. }), _)) => end(node, controller.0),
        Ok((Some(HeartbeatAnswer { known, send_full, .. }), _)) => {
            if !known {
                tracing::debug!(controller = %controller.0, "the controller does not know this life of the broker yet");
            }
            told.led = led.into_iter().map(|led| ((led.topic_id, led.partition), led)).collect();
            told.send_full = send_full;
        }
        // Not the controller any more, or not yet.
        Ok((None, _)) => told.send_full = true,
        Err(error) => {
            tracing::debug!(controller = %controller.0, %error, "a heartbeat was not answered");
            told.send_full = true;
        }
    }
}

/// What this broker leads, and what it should lead and cannot.
fn standing(node: &NodeContext) -> (Vec<LedPartition>, Vec<(TopicId, PartitionId, LeaderEpoch)>) {
    let (mut led, mut resigned) = (Vec::new(), Vec::new());
    for slot in node.table.slots() {
        let published = slot.published.borrow();
        let (topic_id, partition) = (slot.identity.topic_id, slot.identity.partition);
        let view = &published.view;
        if let Some(epoch) = view.resigned {
            resigned.push((topic_id, partition, epoch));
        }
        if view.status == PartitionStatus::Leader {
            led.push(LedPartition {
                topic_id,
                partition,
                epoch: view.leader_epoch,
                in_sync: view.in_sync.to_vec(),
                move_complete: view.move_complete,
            });
        }
    }
    (led, resigned)
}

/// Gives every leadership away, as far as there are other replicas to take them: when this returns, this broker leads
/// nothing that others could lead, or the time is up.
pub(crate) async fn resign_leaderships(node: &NodeContext, metadata: &MetadataHandle, deadline: Instant) {
    let (broker, incarnation) = (node.config.broker_id, node.incarnation);
    if metadata.image().brokers.len() < 2 {
        return;
    }
    let command = MetadataCommand::SetDraining { broker, incarnation, draining: true };
    // Where most brokers have ended nobody decides any more, and nobody is there to lead either.
    let decided_by = deadline.min(Instant::now() + DECISION_PATIENCE);
    match tokio::time::timeout_at(decided_by, metadata.propose_own(command)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return tracing::warn!(%error, "leaderships are not handed over"),
        Err(_) => return tracing::warn!("the metadata log did not answer in time; leaderships are not handed over"),
    }
    let mut images = metadata.images();
    let mut looks = tokio::time::interval(INTERVAL);
    let handed_over = async {
        while may_be_taken_over(node, &images.borrow_and_update()) {
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                // Brokers end without a word in the metadata log.
                _ = looks.tick() => {}
            }
        }
    };
    if tokio::time::timeout_at(deadline, handed_over).await.is_err() {
        tracing::warn!("some leaderships were not handed over in time; their next leaders are elected");
    }
}

/// Whether this broker leads what another replica could lead: one that is there, and means to stay.
fn may_be_taken_over(node: &NodeContext, image: &ClusterImage) -> bool {
    let is_there = |broker: &BrokerId| {
        let stays = image.brokers.get(broker).is_some_and(|registered| !registered.draining);
        let client = node.rpc.client(*broker).filter(|_| stays);
        client.is_some_and(|client| matches!(*client.state().borrow(), PeerState::Connected { .. }))
    };
    let mut partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    partitions.any(|partition| {
        partition.leader == Some(node.config.broker_id) && partition.members().any(|replica| is_there(&replica))
    })
}
