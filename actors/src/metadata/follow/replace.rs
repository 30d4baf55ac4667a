//! The end of a leader, noticed before it is silent for long.
//!
//! When the machine of the leader says that nobody listens at its port, or the leader itself says that it leaves,
//! waiting for the election timeout would tell nothing new. The members campaign after a short random pause. A voter
//! that has just heard of its leader would refuse its vote; one that knows the leader to be gone campaigns itself
//! first, which frees its vote. Of the candidates of one term the one with the highest number wins, so that this does
//! not split the votes.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use openraft::raft::VoteRequest;
use pubg1_model::BrokerId;
use tokio::time::{Instant, sleep, timeout};

use super::super::{Leadership, MetadataHandle, group::Group};
use crate::{
    raft::{
        network::ask,
        types::{RaftMetrics, Vote, broker_id, node_id},
        wire::{self, KIND_RESIGN, Resignation},
    },
    supervision::jitter,
};

/// Brokers that notice the end of the leader do not all campaign at once.
const SPREAD: Duration = Duration::from_millis(100);
/// How long a campaign may take at least before the next one, and up to twice that.
const CAMPAIGN_PATIENCE: Duration = Duration::from_millis(100);
/// After this many the usual election timeout goes on.
const CAMPAIGNS_MAX: usize = 5;
/// How often the way to the leader is looked up again: it may not have been known at first.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a leader that leaves waits for the others to hear it.
const FAREWELL: Duration = Duration::from_millis(200);

impl MetadataHandle {
    /// Notes who leads, and answers since when this broker has known.
    fn follow(&self, leader: Leadership) -> Instant {
        let mut followed = self.0.followed.lock().unwrap_or_else(PoisonError::into_inner);
        match *followed {
            Some((known, since)) if known == leader => since,
            _ => followed.insert((leader, Instant::now())).1,
        }
    }

    /// Resolves when the leader of this term is known to be gone: at once when it is.
    async fn gone(&self, leader: Leadership) {
        let mut resigned = self.0.resigned.subscribe();
        let since = self.follow(leader);
        tokio::select! {
            () = self.0.group.transport.gone(leader.broker, since) => {}
            // The sender lives in `self`, so the wait cannot fail.
            _ = resigned.wait_for(|resigned| *resigned == Some(leader)) => {}
        }
    }

    fn is_gone(&self, leader: Leadership) -> bool {
        self.gone(leader).now_or_never().is_some()
    }

    /// Frees the vote of this broker when it is bound to a leader that is gone. Under the ballot.
    pub(in crate::metadata) async fn give_up_gone_leader(&self, group: &Group, request: &VoteRequest<u64>) {
        let Some(vote) = vote(group).await else { return };
        let leader = vote.leader_id().voted_for().map(broker_id).filter(|leader| *leader != self.0.group.broker);
        let Some(broker) = leader.filter(|_| vote.is_committed() && request.vote > vote) else { return };
        if self.is_gone(Leadership { broker, term: vote.leader_id().get_term() }) {
            // A member that has ended is noticed elsewhere.
            group.raft.trigger().elect().await.unwrap_or_default();
        }
    }
}

/// The vote of this broker, after whatever was asked of it before; `None` when openraft has ended.
async fn vote(group: &Group) -> Option<Vote> {
    group.raft.with_raft_state(|state| *state.vote_ref()).await.ok()
}

/// The leader, if it is another broker.
fn other_leader(metrics: &RaftMetrics) -> Option<Leadership> {
    let leader = metrics.current_leader.filter(|leader| *leader != metrics.id)?;
    Some(Leadership { broker: broker_id(leader), term: metrics.current_term })
}

/// Campaigns whenever the leader is known to be gone, and right after the group was founded.
pub(super) async fn replace_gone_leaders(handle: &MetadataHandle, group: &Group) {
    if group.is_new {
        campaign(group, |metrics| metrics.current_leader.is_some(), || false).await;
    }
    let mut metrics = group.raft.metrics();
    loop {
        let led = metrics.wait_for(|metrics| other_leader(metrics).is_some()).await;
        let Some(leader) = led.ok().and_then(|metrics| other_leader(&metrics)) else { return };
        tokio::select! {
            changed = metrics.wait_for(|metrics| other_leader(metrics) != Some(leader)) => match changed {
                Ok(_) => continue,
                Err(_) => return,
            },
            () = sleep(LOOK_AGAIN) => continue,
            () = handle.gone(leader) => {}
        }
        tracing::info!(leader = %leader.broker, term = leader.term, "the leader of the metadata is gone");
        let replaced = |metrics: &RaftMetrics| {
            metrics
                .current_leader
                .is_some_and(|now| now != node_id(leader.broker) || metrics.current_term > leader.term)
        };
        campaign(group, replaced, || !handle.is_gone(leader)).await;
        // Whatever came of it: from here on the timeouts of openraft decide, until there is another leader.
        if metrics.wait_for(|metrics| other_leader(metrics) != Some(leader)).await.is_err() {
            return;
        }
    }
}

/// Campaigns some times, until there is a leader or no reason any more. Who has just voted for another waits for what
/// comes of that, and who was told that its log is shorter leaves it to the others for a while.
async fn campaign(group: &Group, led: impl Fn(&RaftMetrics) -> bool, reason_gone: impl Fn() -> bool) {
    let mut metrics = group.raft.metrics();
    let mut pause = SPREAD.mul_f64(jitter());
    for _ in 0..CAMPAIGNS_MAX {
        let Some(before) = vote(group).await else { return };
        let mut found = timeout(pause, metrics.wait_for(&led)).await.is_ok();
        pause = CAMPAIGN_PATIENCE.mul_f64(1.0 + jitter());
        if !found && group.behind.swap(false, Ordering::Relaxed) {
            found = timeout(pause * 2, metrics.wait_for(&led)).await.is_ok();
        }
        if found || reason_gone() || group.on_probation() {
            return;
        }
        let _ballot = group.ballot.lock().await;
        if vote(group).await == Some(before) {
            // A member that has ended is noticed elsewhere.
            group.raft.trigger().elect().await.unwrap_or_default();
        }
    }
}

/// Tells the others that this broker, which has led and shuts down, leads no more.
pub(in crate::metadata) async fn resign(handle: &MetadataHandle, metrics: &RaftMetrics) {
    let me = handle.0.group.broker;
    let Ok(body) = wire::encode(&Resignation { broker: me, term: metrics.current_term }) else { return };
    let others = metrics.membership_config.voter_ids().map(broker_id).filter(|broker| *broker != me);
    let told = others.map(|other: BrokerId| {
        let (transport, body) = (&*handle.0.group.transport, body.clone());
        async move { ask::<()>(transport, other, KIND_RESIGN, body, FAREWELL).await }
    });
    // Who has not heard it finds out.
    drop(join_all(told).await);
}
