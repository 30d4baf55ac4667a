//! What makes two states the same to the checker.
//!
//! States are one when no step can ever tell them apart: incarnations matter only where they are
//! compared, so a number of restarts is not told; of the leaders in the metadata log only those
//! matter that lead or still may. Replicas have no names: of all the namings of a state, the one with
//! the least text is told.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    replication::{Election, Phase, ReplicaSet, Role},
};

use crate::{
    cluster::{Node, State, broker, index, storage},
    scope::Scope,
};

/// The text of a state: short numbers, one byte each.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
struct Text(Vec<u8>);

impl Text {
    fn push(&mut self, number: impl TryInto<u8>) {
        self.0.push(number.try_into().unwrap_or_else(|_| panic!("the model counts to 255")));
    }

    fn epoch(&mut self, epoch: LeaderEpoch) {
        self.push(epoch.get());
    }

    fn maybe_epoch(&mut self, epoch: Option<LeaderEpoch>) {
        self.push(epoch.map_or(0, |epoch| epoch.get() + 1));
    }

    fn offset(&mut self, offset: Offset) {
        self.push(offset.get());
    }

    fn maybe_offset(&mut self, offset: Option<Offset>) {
        self.push(offset.map_or(0, |offset| offset.get() + 1));
    }

    fn set(&mut self, set: &ReplicaSet) {
        let [_, _, third, ..] = [0, 1, 2].map(broker);
        self.push(match set {
            ReplicaSet::Stable(members) if members.contains(&third) => 0_u8,
            ReplicaSet::Joint { .. } => 1,
            ReplicaSet::Stable(_) => 2,
        });
    }
}

/// A state and the scope it is in, as the checker sees it.
#[derive(Clone, Debug)]
pub struct Told {
    pub state: State,
    pub scope: Scope,
}

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl Hash for Told {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(&self.text());
    }
}

/// The namings that no step can tell apart: all of three replicas, or the swap of the two that stay
/// when the replica set changes.
const OF_THREE: &[&[usize]] = &[&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]];
const OF_A_MOVE: &[&[usize]] = &[&[0, 1, 2, 3], &[1, 0, 2, 3]];

impl Told {
    /// The text that stands for the state and all that behave like it.
    pub fn text(&self) -> Vec<u8> {
        let state = &self.state;
        let own: Vec<Text> = state.nodes.iter().map(|node| own_text(node)).collect();
        let namings = if self.scope.moves { OF_A_MOVE } else { OF_THREE };
        // Only the names that are interchangeable are sorted; what they have in common is the order.
        let interchangeable = if self.scope.moves { 2 } else { 3 };
        let sorted = |order: &&&[usize]| order[..interchangeable].is_sorted_by_key(|at| &own[*at]);
        namings.iter().filter(sorted).map(|order| text(self, &own, order).0).min().unwrap_or_default()
    }
}

/// What of a replica does not depend on the names of others.
fn own_text(node: &Node) -> Text {
    let (replica, mut text) = (&node.replica, Text::default());
    text.epoch(replica.promised_epoch());
    text.maybe_epoch(replica.adopted_epoch());
    text.offset(replica.flushed());
    text.offset(replica.high_watermark());
    text.push(node.log.len());
    for entry in &node.log {
        text.epoch(entry.epoch);
        text.push(u8::from(entry.resumed));
    }
    text.push(replica.epochs().entries().len());
    for entry in replica.epochs().entries() {
        text.epoch(entry.epoch);
        text.offset(entry.start_offset);
    }
    text.push(node.disk);
    text.push(u8::from(node.resumed));
    match replica.role() {
        Role::Waiting => text.push(0_u8),
        Role::Elected { .. } => text.push(1_u8),
        Role::Leader(progress) => {
            text.push(2_u8);
            text.offset(progress.start_offset());
            text.set(progress.replica_set());
            text.maybe_offset(progress.joint_from());
        }
        Role::Follower(following) => {
            text.push(3_u8);
            text.epoch(following.epoch());
            match following.phase() {
                Phase::Diverging => text.push(0_u8),
                Phase::Copying { adopt_at } => text.push(adopt_at.map_or(1, |offset| offset.get() + 2)),
            }
        }
    }
    text
}

/// The state, its replicas in this order.
fn text(told: &Told, own: &[Text], order: &[usize]) -> Text {
    let state = &told.state;
    let mut text = Text(Vec::with_capacity(160));
    let name = |named: BrokerId| order.iter().position(|at| *at == index(named)).unwrap_or(order.len());
    for at in order {
        text.0.extend_from_slice(&own[*at].0);
        let node = &state.nodes[*at];
        if let Some(progress) = node.replica.leading() {
            for other in order.iter().filter(|other| *other != at).map(|other| broker(*other)) {
                let known = progress.storage(other);
                let disks = 0..=state.node(other).disk;
                text.push(
                    disks.into_iter().find(|disk| known == Some(storage(other, *disk))).map_or(0, |disk| disk + 1),
                );
                text.maybe_offset(progress.adopt_at(other));
                text.maybe_offset(progress.acknowledged(other));
            }
        }
        if let Some(following) = node.replica.following() {
            text.push(name(following.leader()));
        }
    }
    text.epoch(state.metadata.epoch);
    text.set(&state.metadata.set);
    text.push(u8::from(state.metadata.moved));
    for entry in &state.metadata.leaders {
        let node = state.node(entry.leader);
        if node.leads(entry.epoch) || node.can_lead(entry, &told.scope) {
            text.epoch(entry.epoch);
            text.push(name(entry.leader));
            text.set(&entry.set);
        }
    }
    text.push(u8::MAX);
    // Whether the current epoch has its leader decides what a deposed controller may do.
    text.push(u8::from(state.set_leader(state.metadata.epoch).is_some()));
    for election in [&state.election, &state.deposed] {
        tell_election(&mut text, state, election.as_ref(), order);
    }
    let mut late: Vec<_> = state.late.iter().map(|late| (name(late.from), late)).collect();
    late.sort_by_key(|(from, late)| (*from, late.fetch.registration, late.fetch.epoch, late.fetch.fetch_offset));
    for (from, late) in late {
        text.push(from + 1);
        text.push(name(late.to));
        text.epoch(late.fetch.epoch);
        text.push(u8::from(late.fetch.storage == state.node(late.from).replica.identity().storage));
        text.maybe_epoch(late.fetch.adopted_epoch);
        text.offset(late.fetch.fetch_offset);
    }
    text.push(0_u8);
    for known in &state.committed {
        text.epoch(known.entry.epoch);
        text.push(u8::from(known.entry.resumed));
        text.epoch(known.in_epoch);
    }
    text.push(u8::MAX);
    let spent = state.spent;
    for number in [spent.records, spent.crashes, spent.wipes, spent.controller_changes, spent.step_downs] {
        text.push(number);
    }
    text.push(state.broken.map_or(0, |broken| broken as u8 + 1));
    text
}

fn tell_election(text: &mut Text, state: &State, election: Option<&Arc<Election>>, order: &[usize]) {
    let Some(election) = election else { return text.push(0_u8) };
    text.push(1_u8);
    text.epoch(election.epoch());
    text.set(election.replica_set());
    for at in order {
        let answer = election.answers().iter().find(|answer| index(answer.broker) == *at);
        let Some(answer) = answer else {
            text.push(0_u8);
            continue;
        };
        text.push(1 + u8::from(answer.incarnation == state.nodes[*at].replica.identity().incarnation));
        text.maybe_epoch(answer.adopted_epoch);
        text.offset(answer.counted_offset);
    }
}
