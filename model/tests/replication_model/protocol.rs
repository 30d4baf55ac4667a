//! The steps of the protocol. Every decision is made by the shipped functions; here stand the
//! network between them, the logs, and what the metadata log accepts.

use std::sync::Arc;

use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    replication::{
        Decision, Effect, Election, Replica, ReplicaSet, Role,
        message::{EpochEndAnswer, FenceAnswer, ReplicaFetch},
    },
};

use crate::{
    cluster::{Broken, Committed, Entry, Late, Node, SetLeader, State, before_leading, end, index, place, recovered},
    scope::{Mutant, Scope},
};

impl Scope {
    pub fn begin_epoch(&self, state: &mut State) {
        let metadata = Arc::make_mut(&mut state.metadata);
        metadata.epoch = metadata.epoch.next();
        let set = match &metadata.set {
            ReplicaSet::Joint { new, .. } if self.breaks(Mutant::MovesWithoutOldQuorum) => {
                ReplicaSet::Stable(new.clone())
            }
            set => set.clone(),
        };
        state.election = Some(Arc::new(Election::new(metadata.epoch, set)));
    }

    pub fn fence(&self, state: &mut State, replica: BrokerId, late: bool) -> Option<()> {
        let mut election = Election::clone(state.election.as_ref()?);
        self.send_late(state, replica, late)?;
        let (effects, answer) = state.node_mut(replica).replica.fence(election.epoch()).ok()?;
        if election.answers().contains(&answer) {
            return None;
        }
        // It may have left the set since the epoch began.
        election.on_answer(answer).ok()?;
        state.election = Some(Arc::new(election));
        self.carry_out(state, replica, &effects);
        Some(())
    }

    /// Every decision that some of the answers allow: an answer may be lost, or come too late, and
    /// any order may be the preferred one.
    pub fn outcomes(&self, election: &Election) -> Vec<BrokerId> {
        let answers = election.answers();
        let mut leaders = Vec::new();
        for subset in 1_u32..1 << answers.len() {
            let mut heard = Election::new(election.epoch(), election.replica_set().clone());
            for (at, answer) in answers.iter().enumerate() {
                if subset & (1 << at) != 0 {
                    heard.on_answer(self.as_heard(*answer)).expect("an answer to this fence");
                }
            }
            for answer in heard.answers() {
                if let Decision::Elect { leader, .. } = heard.decide(&[answer.broker])
                    && !leaders.contains(&leader)
                {
                    leaders.push(leader);
                }
            }
        }
        leaders
    }

    /// An answer to a fence, as a controller that breaks a rule reads it.
    fn as_heard(&self, mut answer: FenceAnswer) -> FenceAnswer {
        if self.breaks(Mutant::PicksByOffsetAlone) {
            answer.adopted_epoch = answer.adopted_epoch.map(|_| LeaderEpoch::ZERO);
        }
        if self.breaks(Mutant::CountsForgetfulInFence) {
            answer.adopted_epoch = answer.adopted_epoch.or(Some(LeaderEpoch::ZERO));
        }
        answer
    }

    pub fn set_leader_late(&self, state: &mut State, leader: BrokerId) -> Option<()> {
        let election = state.deposed.take()?;
        let (epoch, current) = (election.epoch(), state.metadata.epoch);
        if self.breaks(Mutant::CommitsLeaderUnchecked) {
            return commit_leader(state, &election, current, leader);
        }
        if current == epoch && state.set_leader(epoch).is_none() {
            return commit_leader(state, &election, epoch, leader);
        }
        state.seen.deposed_refused = true;
        Some(())
    }

    pub fn lead(&self, state: &mut State, replica: BrokerId, epoch: LeaderEpoch) -> Option<()> {
        let entry =
            state.metadata.leaders.iter().rev().find(|entry| entry.epoch == epoch && entry.leader == replica)?;
        let SetLeader { mut incarnation, set, .. } = entry.clone();
        let node = state.node_mut(replica);
        if self.breaks(Mutant::IgnoresIncarnation) {
            incarnation = node.replica.identity().incarnation;
            if node.replica.adopted_epoch().is_none() && node.replica.promised_epoch() == epoch {
                let found = before_leading(recovered(node, node.replica.log_end(), self));
                node.replica = Replica::recovered(node.replica.identity(), self.counting, found);
            }
        }
        let effects = node.replica.elect(epoch, incarnation, set, 0).ok()?;
        self.carry_out(state, replica, &effects);
        Some(())
    }

    pub fn follow(&self, state: &mut State, replica: BrokerId, epoch: LeaderEpoch, late: bool) -> Option<()> {
        let leader = state.metadata.leaders.iter().map(|entry| (entry.epoch, entry.leader));
        let leader =
            leader.filter(|entry| entry.0 == epoch).map(|entry| entry.1).find(|at| state.node(*at).leads(epoch))?;
        let following = state.node(replica).replica.following();
        if following.is_some_and(|following| (following.epoch(), following.leader()) == (epoch, leader)) {
            return None;
        }
        self.send_late(state, replica, late)?;
        let known_committed = state.node(replica).replica.high_watermark();
        let effects = state.node_mut(replica).replica.follow(epoch, leader).ok()?;
        self.carry_out(state, replica, &effects);
        while let Some(query) = state.node(replica).replica.epoch_end_query() {
            let mut answer = state.node(leader).replica.epoch_end(&query).ok()?;
            if self.breaks(Mutant::TruncatesToHighWatermark) {
                let to = state.node(replica).replica.high_watermark();
                answer = EpochEndAnswer { end: Some((query.asked_epoch, to)), ..answer };
            }
            let effects = state.node_mut(replica).replica.on_epoch_end(&answer).ok()?;
            self.carry_out(state, replica, &effects);
        }
        if state.node(replica).replica.log_end() < known_committed {
            state.broken = Some(Broken::CutBelowHighWatermark);
        }
        Some(())
    }

    pub fn produce(&self, state: &mut State, leader: BrokerId) -> Option<()> {
        state.spent.records += 1;
        let node = state.node_mut(leader);
        let epoch = node.replica.leading()?.epoch();
        node.log.push(Entry { epoch, resumed: node.resumed });
        let (_, effects) = node.replica.append(1).ok()?;
        self.carry_out(state, leader, &effects);
        Some(())
    }

    pub fn flush(&self, state: &mut State, replica: BrokerId) -> Option<()> {
        let flush = state.node(replica).replica.begin_flush()?;
        let effects = state.node_mut(replica).replica.on_flushed(flush);
        self.carry_out(state, replica, &effects);
        Some(())
    }

    pub fn fetch(&self, state: &mut State, follower: BrokerId, records: u64) -> Option<()> {
        let leader = state.node(follower).replica.following()?.leader();
        let (followed, led) = (state.nodes[index(follower)].clone(), state.node(leader).replica.clone());
        let fetch = followed.replica.next_fetch()?;
        let read_to = fetch.fetch_offset.plus(records);
        let asked = self.as_counted(fetch);
        let answered = state.node_mut(leader).replica.on_fetch(follower, &asked, Offset::ZERO, read_to, 0);
        let (mut answer, effects) = answered.ok()?;
        self.carry_out(state, leader, &effects);
        if !self.hints {
            answer.high_watermark = Offset::ZERO;
        }
        if self.breaks(Mutant::AdoptsAtEpochStart) {
            answer.adopt_at = state.node(leader).replica.leading()?.start_offset();
        }
        let copied = state.node(leader).log[place(fetch.fetch_offset)..place(read_to)].to_vec();
        let node = state.node_mut(follower);
        let effects = node.replica.on_fetch_answer(&answer).ok()?;
        node.log.extend(copied);
        self.carry_out(state, follower, &effects);
        let adopted = state.node(follower).replica.adopted_epoch();
        state.seen.forgetful_adopted |= followed.replica.adopted_epoch().is_none() && adopted.is_some();
        let changed = state.node(follower).replica != followed.replica || state.node(leader).replica != led;
        changed.then_some(())
    }

    pub fn as_counted(&self, mut fetch: ReplicaFetch) -> ReplicaFetch {
        if self.breaks(Mutant::CountsBeforeAdoption) {
            fetch.adopted_epoch = fetch.adopted_epoch.map(|_| fetch.epoch);
        }
        fetch
    }

    pub fn arrive(&self, state: &mut State, at: usize) -> Option<()> {
        let Late { from, to, fetch } = state.late.remove(at);
        let (_, effects) =
            state.node_mut(to).replica.on_fetch(from, &fetch, Offset::ZERO, fetch.fetch_offset, 0).ok()?;
        state.seen.late_counted |= !effects.is_empty();
        self.carry_out(state, to, &effects);
        Some(())
    }

    /// What the actor would do, and what it shows.
    pub fn carry_out(&self, state: &mut State, replica: BrokerId, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::Truncate { to } => {
                    state.seen.truncated |= place(to) < state.node(replica).log.len();
                    state.node_mut(replica).log.truncate(place(to));
                }
                Effect::Flush(flush) if matches!(state.node(replica).replica.role(), Role::Elected { .. }) => {
                    let effects = state.node_mut(replica).replica.on_flushed(flush);
                    self.carry_out(state, replica, &effects);
                }
                Effect::AdvanceHighWatermark { to } => commit(state, replica, to),
                Effect::Lead { epoch } => {
                    let led = |node: &Arc<Node>| node.replica.identity().broker != replica && node.leads(epoch);
                    if state.nodes.iter().any(led) {
                        state.broken = state.broken.or(Some(Broken::LedTwice));
                    }
                }
                Effect::Flush(_)
                | Effect::Store(_)
                | Effect::RecordEpochStart { .. }
                | Effect::FailWaiting
                | Effect::RestartLog { .. } => {}
            }
        }
    }
}

pub fn commit_leader(state: &mut State, election: &Election, epoch: LeaderEpoch, leader: BrokerId) -> Option<()> {
    let incarnation = election.answers().iter().find(|answer| answer.broker == leader)?.incarnation;
    let metadata = Arc::make_mut(&mut state.metadata);
    let set = metadata.set.clone();
    metadata.leaders.push(SetLeader { epoch, leader, incarnation, set });
    Some(())
}

/// A leader says that everything below `to` is committed.
pub fn commit(state: &mut State, replica: BrokerId, to: Offset) {
    let node = &state.nodes[index(replica)];
    let Some(progress) = node.replica.leading() else { return };
    let in_epoch = progress.epoch();
    if to > end(&node.log) || to != node.replica.high_watermark() {
        state.broken = Some(Broken::HighWatermark);
        return;
    }
    for (at, entry) in node.log[..place(to)].iter().enumerate() {
        match state.committed.get(at) {
            None => state.committed.push(Committed { entry: *entry, in_epoch }),
            Some(known) if known.entry != *entry => state.broken = Some(Broken::TwoAtOneOffset),
            Some(_) => {}
        }
    }
}
