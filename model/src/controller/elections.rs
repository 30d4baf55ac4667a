//! Epochs without a leader: who is fenced, what was answered, who shall lead.

use std::collections::BTreeMap;

use super::{Action, FenceRequest, Key, peers::Peers, surroundings::Surroundings};
use crate::{
    BrokerId, LeaderEpoch,
    cluster::{Incarnation, LeaderChoice, PartitionImage},
    replication::{Decision, Election, ReplicaSet, message::FenceAnswer},
};

/// What the controller knew when it ended an epoch, for the election that follows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hint {
    /// Who shall win if several could.
    pub(super) target: Option<BrokerId>,
    /// Who said itself that it cannot lead, and so serves nobody any more.
    pub(super) resigned: Option<(BrokerId, Incarnation)>,
}

/// One partition without a leader.
#[derive(Debug)]
struct Pending {
    epoch: LeaderEpoch,
    hint: Hint,
    /// The newest answer of each broker, whichever life gave it.
    answers: Vec<FenceAnswer>,
    /// The last fence to each broker, and the life it was sent to.
    fenced: Vec<(BrokerId, Incarnation, u64)>,
    /// Since when the answers of a quorum allow a decision.
    decidable_ms: Option<u64>,
    /// Since when only the move under way is in the way of a decision.
    stuck_ms: Option<u64>,
}

impl Pending {
    const fn new(epoch: LeaderEpoch, hint: Hint) -> Self {
        Self { epoch, hint, answers: Vec::new(), fenced: Vec::new(), decidable_ms: None, stuck_ms: None }
    }

    fn has_answered(&self, broker: BrokerId, incarnation: Incarnation) -> bool {
        self.answers.iter().any(|answer| answer.broker == broker && answer.incarnation == incarnation)
    }

    /// Whether a deposed leader can no longer answer reads out of its epoch: it has promised this
    /// one, it has said that it does not lead, or its life is over.
    fn is_harmless(&self, (broker, incarnation): (BrokerId, Incarnation), peers: &Peers) -> bool {
        self.has_answered(broker, incarnation)
            || self.hint.resigned == Some((broker, incarnation))
            || peers.is_over(broker, incarnation)
    }
}

/// Fences of one broker that are to be sent.
#[derive(Default)]
struct Batch {
    requests: Vec<FenceRequest>,
    is_retry: bool,
}

/// All partitions without a leader, but those whose first epoch has yet to begin.
#[derive(Debug, Default)]
pub(super) struct Elections {
    pending: BTreeMap<Key, Pending>,
    /// For the epochs that end as soon as the command that was proposed is applied.
    hints: BTreeMap<Key, (LeaderEpoch, Hint)>,
    /// Those that can be decided.
    choices: Vec<LeaderChoice>,
    /// Those that could be if their moves were taken back.
    stuck: Vec<Key>,
    is_dirty: bool,
    due_ms: Option<u64>,
}

impl Elections {
    /// Something has changed that may matter to any of them.
    pub(super) const fn touch(&mut self) {
        self.is_dirty = true;
    }

    /// What is known for the election in the epoch after `ended`.
    pub(super) fn hint(&mut self, key: Key, ended: LeaderEpoch, hint: Hint) {
        self.hints.insert(key, (ended.next(), hint));
    }

    /// Follows a partition; `None`: it is deleted.
    pub(super) fn on_partition(&mut self, key: Key, partition: Option<&PartitionImage>) {
        self.touch();
        let Some(partition) = partition.filter(|partition| partition.leader.is_none()) else {
            let ended = partition.map(|partition| partition.leader_epoch);
            self.pending.remove(&key);
            if self.hints.get(&key).is_some_and(|(epoch, _)| ended.is_none_or(|ended| *epoch <= ended)) {
                self.hints.remove(&key);
            }
            return;
        };
        let epoch = partition.leader_epoch;
        if epoch == LeaderEpoch::ZERO || self.pending.get(&key).is_some_and(|pending| pending.epoch == epoch) {
            return;
        }
        let hint = self.hints.remove(&key).filter(|(of, _)| *of == epoch).map(|(_, hint)| hint);
        self.pending.insert(key, Pending::new(epoch, hint.unwrap_or_default()));
    }

    pub(super) fn on_answer(&mut self, broker: BrokerId, key: Key, answer: FenceAnswer) {
        let Some(pending) = self.pending.get_mut(&key) else { return };
        if answer.broker != broker || answer.epoch != pending.epoch {
            return;
        }
        match pending.answers.iter_mut().find(|known| known.broker == broker) {
            Some(known) => *known = answer,
            None => pending.answers.push(answer),
        }
        self.is_dirty = true;
    }

    /// Sends the fences that are due and finds what can be decided. Answers to whom fences were
    /// sent again.
    pub(super) fn step(&mut self, around: &Surroundings<'_>, actions: &mut Vec<Action>) -> Vec<BrokerId> {
        if !self.is_dirty && self.due_ms.is_none_or(|due_ms| around.now_ms < due_ms) {
            return Vec::new();
        }
        self.is_dirty = false;
        self.choices.clear();
        self.stuck.clear();
        let mut due_ms = None;
        let mut batches = BTreeMap::new();
        for (key, pending) in &mut self.pending {
            let Some(partition) = around.image.partition_by_id(key.0, key.1) else { continue };
            fence(*key, pending, partition, around, &mut batches);
            let next_ms = match decide(*key, pending, partition, around) {
                Outcome::Elect(choice) => {
                    self.choices.push(choice);
                    None
                }
                Outcome::At(at_ms) => Some(at_ms),
                Outcome::Stuck => {
                    self.stuck.push(*key);
                    None
                }
                Outcome::Unknown => None,
            };
            let retries = pending.fenced.iter().filter(|(broker, life, _)| {
                around.alive.get(broker) == Some(life) && !pending.has_answered(*broker, *life)
            });
            let retries = retries.map(|(broker, _, sent_ms)| sent_ms.saturating_add(around.retry_ms(*broker)));
            due_ms = retries.chain(next_ms).chain(due_ms).min();
        }
        self.due_ms = due_ms;
        let mut retried = Vec::new();
        for (broker, batch) in batches {
            let Some(incarnation) = around.alive.get(&broker).copied() else { continue };
            let (version, partitions) = (around.image.version, batch.requests);
            actions.push(Action::Fence { broker, incarnation, version, partitions });
            if batch.is_retry {
                retried.push(broker);
            }
        }
        retried
    }

    pub(super) const fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// The leaders that can be set now.
    pub(super) fn choices(&self) -> &[LeaderChoice] {
        &self.choices
    }

    /// The partitions that would get a leader if their moves were taken back.
    pub(super) fn stuck(&self) -> &[Key] {
        &self.stuck
    }
}

/// Fences the replicas that have not answered, and the deposed leader even when it is no replica
/// any more: once it has promised the epoch nobody has to wait for its lease.
fn fence(
    key: Key,
    pending: &mut Pending,
    partition: &PartitionImage,
    around: &Surroundings<'_>,
    batches: &mut BTreeMap<BrokerId, Batch>,
) {
    let deposed = partition.deposed.map(|(broker, _)| broker).filter(|broker| !partition.is_kept_by(*broker));
    for broker in partition.members().chain(deposed) {
        let Some(incarnation) = around.alive.get(&broker).copied() else { continue };
        if pending.has_answered(broker, incarnation) {
            continue;
        }
        let sent = pending.fenced.iter_mut().find(|(known, _, _)| *known == broker);
        let is_retry = match sent {
            Some((_, life, sent_ms)) if *life == incarnation => {
                if around.now_ms < sent_ms.saturating_add(around.retry_ms(broker)) {
                    continue;
                }
                *sent_ms = around.now_ms;
                true
            }
            Some(sent) => {
                *sent = (broker, incarnation, around.now_ms);
                false
            }
            None => {
                pending.fenced.push((broker, incarnation, around.now_ms));
                false
            }
        };
        let batch = batches.entry(broker).or_default();
        let (topic_id, partition) = key;
        batch.requests.push(FenceRequest { topic_id, partition, epoch: pending.epoch });
        batch.is_retry |= is_retry;
    }
}

/// What the answers of one election allow.
enum Outcome {
    Elect(LeaderChoice),
    /// It can be decided then, if nothing changes.
    At(u64),
    /// Not while its move lasts.
    Stuck,
    Unknown,
}

/// The election as the replicas that live now have answered it.
fn election(pending: &Pending, set: ReplicaSet, around: &Surroundings<'_>) -> Election {
    let mut election = Election::new(pending.epoch, set);
    for answer in &pending.answers {
        // The answer of a deposed leader that is no replica any more is no vote.
        let is_vote = election.replica_set().contains(answer.broker);
        if is_vote && around.alive.get(&answer.broker) == Some(&answer.incarnation) {
            election.on_answer(*answer).unwrap_or_default();
        }
    }
    election
}

fn decide(key: Key, pending: &mut Pending, partition: &PartitionImage, around: &Surroundings<'_>) -> Outcome {
    let preference = around.preference(partition, &pending.hint);
    let is_silent = |broker: &BrokerId| {
        around.alive.get(broker).is_some_and(|incarnation| !pending.has_answered(*broker, *incarnation))
    };
    let is_complete = !partition.members().any(|broker| is_silent(&broker));
    let decision = election(pending, partition.replica_set(), around).decide(&preference);
    let Decision::Elect { leader, incarnation, epoch } = decision else {
        pending.decidable_ms = None;
        return if is_complete { when_stuck(pending, partition, around) } else { Outcome::Unknown };
    };
    pending.stuck_ms = None;
    let decidable_ms = *pending.decidable_ms.get_or_insert(around.now_ms);
    let mut at_ms = decidable_ms;
    if !is_complete {
        at_ms = decidable_ms.saturating_add(around.config.fence_grace_ms);
    }
    if partition.deposed.is_some_and(|deposed| !pending.is_harmless(deposed, around.peers)) {
        // A quorum has promised the epoch by now, so that no quorum renews the lease any more.
        at_ms = at_ms.max(decidable_ms.saturating_add(around.config.lease_ms));
    }
    if around.now_ms < at_ms {
        return Outcome::At(at_ms);
    }
    Outcome::Elect(LeaderChoice { topic_id: key.0, partition: key.1, epoch, leader, incarnation })
}

/// Everyone who lives has answered, and that is not enough. New replicas that have not caught up
/// yet are no quorum, and without a leader they never will be; then the move is taken back, if the
/// former replicas can go on, once a session has passed in which another broker might have returned.
fn when_stuck(pending: &mut Pending, partition: &PartitionImage, around: &Surroundings<'_>) -> Outcome {
    let former = ReplicaSet::Stable(partition.replicas.clone());
    let is_moving = partition.moving_to.is_some();
    if !is_moving || matches!(election(pending, former, around).decide(&[]), Decision::Wait { .. }) {
        pending.stuck_ms = None;
        return Outcome::Unknown;
    }
    let stuck_ms = *pending.stuck_ms.get_or_insert(around.now_ms);
    let at_ms = stuck_ms.saturating_add(around.config.session_timeout_ms);
    if around.now_ms < at_ms { Outcome::At(at_ms) } else { Outcome::Stuck }
}

impl Elections {
    /// Why a partition has no leader at present.
    pub(super) fn reason(&self, key: Key, partition: &PartitionImage, around: &Surroundings<'_>) -> String {
        let epoch = partition.leader_epoch;
        let Some(pending) = self.pending.get(&key) else {
            return format!("its epoch after {epoch} has not begun yet");
        };
        let decision = election(pending, partition.replica_set(), around).decide(&[]);
        let Decision::Wait { silent, forgetful } = decision else {
            return format!("a leader of epoch {epoch} is being set");
        };
        let (waiting, dead): (Vec<_>, Vec<_>) =
            silent.into_iter().partition(|broker| around.alive.contains_key(broker));
        let mut reason = format!("no quorum of its replicas {} can elect a leader", list(partition.members()));
        for (brokers, what) in
            [(dead, "not alive"), (waiting, "yet to answer"), (forgetful, "new or without the log that it had")]
        {
            if !brokers.is_empty() {
                reason.push_str(&format!("; {what}: {}", list(brokers.into_iter())));
            }
        }
        reason
    }
}

fn list(brokers: impl Iterator<Item = BrokerId>) -> String {
    brokers.map(|broker| broker.to_string()).collect::<Vec<_>>().join(", ")
}
