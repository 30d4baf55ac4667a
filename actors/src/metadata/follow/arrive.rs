//! A broker arrives in the group: it catches up, ends its probation, is a voter that the others can reach.

use std::{collections::BTreeSet, time::Duration};

use pubg1_model::BrokerId;
use tokio::time::{Instant, sleep, timeout};

use super::super::{MetadataHandle, group::Group};
use crate::raft::{
    network::ask,
    types::{RaftMetrics, broker_id, node_id},
    wire::{self, Joining, KIND_JOIN, KIND_READ, Member, ReadPoint, Refusal},
};

/// The shortest pause between two attempts to catch up, and the longest.
const ASK_PAUSE: Duration = Duration::from_millis(5);
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);
/// How long one broker is waited for.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// How often a broker asks to be a member.
const JOIN_PAUSE: Duration = Duration::from_millis(500);
/// After so long without a leader a broker says so, and tells everyone anew where it is reached.
const LEADERLESS: Duration = Duration::from_secs(2);

/// Done when the broker is a member like any other.
pub(super) async fn arrive(handle: &MetadataHandle, group: &Group) {
    tokio::join!(catch_up(handle, group), leave_probation(handle, group), be_voter(handle, group));
}

/// Has the image catch up with what the group knew when it was asked, once.
async fn catch_up(handle: &MetadataHandle, group: &Group) {
    if handle.is_opened() {
        return;
    }
    let late = Instant::now() + LEADERLESS;
    let mut changes = group.raft.metrics();
    loop {
        changes.borrow_and_update();
        if let Some(ReadPoint { index }) = read_point(handle, group).await {
            let mut metrics = group.raft.metrics();
            let applied = metrics.wait_for(|metrics| metrics.last_applied.is_some_and(|last| last.index >= index));
            if applied.await.is_err() {
                return;
            }
            handle.0.node.obstacle.send_replace(None);
            handle.0.opened.send_replace(true);
            return;
        }
        if Instant::now() > late {
            let reason = "the brokers that decide about the cluster have no leader that answers";
            handle.0.node.obstacle.send_replace(Some(reason.to_owned()));
        }
        // A leader whose peers are known to be gone is told so at once, and asking alone is a change of the metrics.
        sleep(ASK_PAUSE).await;
        // At the next change, or when an answer was lost.
        timeout(CATCH_UP_PAUSE, changes.changed()).await.map(drop).unwrap_or_default();
    }
}

async fn read_point(handle: &MetadataHandle, group: &Group) -> Option<ReadPoint> {
    let leader = broker_id(group.raft.current_leader().await?);
    if leader == handle.0.group.broker {
        return group.read_point().await.ok();
    }
    let transport = &*handle.0.group.transport;
    ask(transport, leader, KIND_READ, wire::encode(&()).ok()?, ANSWER_PATIENCE).await.ok()?.ok()
}

/// The probation ends when the log contains the registration of this disk: everything that the broker may have
/// acknowledged in its former life lies before that.
async fn leave_probation(handle: &MetadataHandle, group: &Group) {
    if !group.on_probation() {
        return;
    }
    tracing::warn!("the metadata was lost here, or never was; the broker votes when it has caught up and registered");
    let (me, storage) = (handle.0.group.broker, handle.0.group.storage);
    let mut images = handle.images();
    let registered = images.wait_for(|image| image.brokers.get(&me).is_some_and(|known| known.storage == storage));
    if registered.await.is_err() {
        return;
    }
    match group.end_probation().await {
        Ok(()) => tracing::info!("the broker votes from here on"),
        // The store says the same to openraft, which ends by it.
        Err(error) => tracing::error!(%error, "the end of the probation could not be stored"),
    }
}

/// Sees to it that the members have this broker as a voter, under its present address.
async fn be_voter(handle: &MetadataHandle, group: &Group) {
    let metrics = group.raft.metrics();
    let mut leaderless_since = Instant::now();
    loop {
        let now = metrics.borrow().clone();
        if now.current_leader.is_some() {
            leaderless_since = Instant::now();
        }
        let listed = is_listed(handle, &now);
        if listed && handle.is_opened() {
            return;
        }
        if !listed || leaderless_since.elapsed() > LEADERLESS {
            join(handle, group, &now).await;
        }
        sleep(JOIN_PAUSE).await;
    }
}

fn is_listed(handle: &MetadataHandle, metrics: &RaftMetrics) -> bool {
    let (members, address) = (metrics.membership_config.membership(), &handle.0.group.rpc_address);
    let moved = |known: &str| !address.is_empty() && known != address;
    members.voter_ids().any(|voter| voter == metrics.id)
        && members.get_node(&metrics.id).is_some_and(|known| !moved(&known.addr))
}

/// Asks one after the other until the leader has heard it.
async fn join(handle: &MetadataHandle, running: &Group, metrics: &RaftMetrics) {
    let group = &handle.0.group;
    let me = Member { broker: group.broker, address: group.rpc_address.clone() };
    if metrics.current_leader == Some(node_id(group.broker)) {
        // Only its address is not the one that the others know. Refused: it is asked again.
        return handle.let_join(running, me).map(drop).unwrap_or_default();
    }
    let Ok(body) = wire::encode(&me) else { return };
    let members = metrics.membership_config.nodes().map(|(node, _)| broker_id(*node));
    let mut to_ask: Vec<BrokerId> = members.chain(group.voter_ids()).collect();
    let mut asked = BTreeSet::from([group.broker]);
    while let Some(other) = to_ask.pop() {
        if !asked.insert(other) {
            continue;
        }
        match ask::<Joining>(&*group.transport, other, KIND_JOIN, body.clone(), ANSWER_PATIENCE).await {
            Ok(Ok(_)) => return,
            Ok(Err(Refusal::NotLeader { leader: Some(leader) })) => to_ask.push(leader),
            _ => {}
        }
    }
}
