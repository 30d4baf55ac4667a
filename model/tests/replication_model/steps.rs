//! What can happen next.

use pubg1_model::{BrokerId, LeaderEpoch, Offset, replication::ReplicaSet};

use crate::{
    cluster::{Broken, Node, State, index},
    faults::drop_useless,
    moves::cancel_move,
    protocol::commit_leader,
    scope::Scope,
};

/// One step. `late` says that the acknowledgement which the replica could send now is under way
/// and arrives when it may, or never.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The controller commits the next epoch, in which nobody leads yet.
    BeginEpoch,
    /// A replica answers the fence of the current epoch.
    Fence { replica: BrokerId, late: bool },
    /// The controller commits the leader it has chosen.
    SetLeader { leader: BrokerId },
    /// The controller is deposed; a decision of it may still be under way.
    ChangeController,
    /// The deposed controller tries to commit its decision.
    SetLeaderLate { leader: BrokerId },
    /// A replica learns that it was made leader of this epoch.
    Lead { replica: BrokerId, epoch: LeaderEpoch },
    /// A replica learns the leader of this epoch, and cuts its log where they part.
    Follow { replica: BrokerId, epoch: LeaderEpoch, late: bool },
    /// The leader appends a record.
    Produce { leader: BrokerId },
    /// All of a log so far is flushed.
    Flush { replica: BrokerId },
    /// A follower fetches, and gets so many records.
    Fetch { follower: BrokerId, records: u64 },
    /// An acknowledgement that was under way arrives.
    Arrive { at: usize },
    /// A leader hears nothing of its followers and steps down.
    Resign { leader: BrokerId },
    /// The process ends, its log ends at `keep` from now on, and it starts again.
    Crash { replica: BrokerId, keep: u64, late: bool },
    /// The disk is lost with the process, which starts again with an empty one.
    Wipe { replica: BrokerId, late: bool },
    /// The metadata log begins the change of the replica set.
    BeginMove,
    /// A leader learns the current replica set.
    LearnSet { leader: BrokerId },
    /// The metadata log ends the change, as this leader asked.
    EndMove { leader: BrokerId },
    /// The metadata log takes the change back.
    CancelMove,
}

impl Scope {
    /// Candidates for the next step; those that do nothing are dropped by [`Scope::after`].
    pub fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let spent = &state.spent;
        if state.metadata.epoch.get() < self.epochs {
            steps.push(Step::BeginEpoch);
        }
        if let Some(election) = &state.election {
            steps.extend(self.outcomes(election).into_iter().map(|leader| Step::SetLeader { leader }));
            if spent.controller_changes < self.controller_changes {
                steps.push(Step::ChangeController);
            }
        }
        if let Some(election) = &state.deposed {
            steps.extend(self.outcomes(election).into_iter().map(|leader| Step::SetLeaderLate { leader }));
        }
        for node in &state.nodes {
            self.steps_of(state, node, steps);
        }
        steps.extend((0..state.late.len()).map(|at| Step::Arrive { at }));
        if self.moves {
            if !state.metadata.moved {
                steps.push(Step::BeginMove);
            }
            if self.cancels && matches!(state.metadata.set, ReplicaSet::Joint { .. }) {
                steps.push(Step::CancelMove);
            }
        }
    }

    fn steps_of(&self, state: &State, node: &Node, steps: &mut Vec<Step>) {
        let replica = node.replica.identity().broker;
        let in_time_or_late = [false, true];
        if state.election.is_some() && state.metadata.set.contains(replica) {
            steps.extend(in_time_or_late.map(|late| Step::Fence { replica, late }));
        }
        for entry in &state.metadata.leaders {
            let epoch = entry.epoch;
            if epoch < node.replica.promised_epoch() {
                continue;
            }
            if !state.metadata.moved && index(replica) == 3 {
                continue;
            }
            if entry.leader == replica {
                steps.push(Step::Lead { replica, epoch });
            } else {
                steps.extend(in_time_or_late.map(|late| Step::Follow { replica, epoch, late }));
            }
        }
        if node.replica.leading().is_some() {
            if state.spent.records < self.records {
                steps.push(Step::Produce { leader: replica });
            }
            if state.spent.step_downs < self.step_downs {
                steps.push(Step::Resign { leader: replica });
            }
            if self.moves {
                steps.extend([Step::LearnSet { leader: replica }, Step::EndMove { leader: replica }]);
            }
        }
        steps.push(Step::Flush { replica });
        if let Some(following) = node.replica.following() {
            let ahead = state.node(following.leader()).replica.log_end().since(node.replica.log_end());
            steps.extend((0..=ahead).map(|records| Step::Fetch { follower: replica, records }));
        }
        if state.spent.crashes < self.crashes {
            let kept = node.replica.flushed().get()..=node.replica.log_end().get();
            let crash = |keep| in_time_or_late.map(|late| Step::Crash { replica, keep, late });
            steps.extend(kept.flat_map(crash));
        }
        if state.spent.wipes < self.wipes && !state.any_forgetful() && state.metadata.set.contains(replica) {
            steps.extend(in_time_or_late.map(|late| Step::Wipe { replica, late }));
        }
    }

    /// The state after a step; `None` when the step cannot be taken or changes nothing.
    pub fn after(&self, before: &State, step: &Step) -> Option<State> {
        let mut state = before.clone();
        match *step {
            Step::BeginEpoch => self.begin_epoch(&mut state),
            Step::Fence { replica, late } => self.fence(&mut state, replica, late)?,
            Step::SetLeader { leader } => {
                let election = state.election.take()?;
                commit_leader(&mut state, &election, election.epoch(), leader)?;
            }
            Step::ChangeController => {
                state.deposed = state.election.take();
                state.spent.controller_changes += 1;
            }
            Step::SetLeaderLate { leader } => self.set_leader_late(&mut state, leader)?,
            Step::Lead { replica, epoch } => self.lead(&mut state, replica, epoch)?,
            Step::Follow { replica, epoch, late } => self.follow(&mut state, replica, epoch, late)?,
            Step::Produce { leader } => self.produce(&mut state, leader)?,
            Step::Flush { replica } => self.flush(&mut state, replica)?,
            Step::Fetch { follower, records } => self.fetch(&mut state, follower, records)?,
            Step::Arrive { at } => self.arrive(&mut state, at)?,
            Step::Resign { leader } => {
                state.spent.step_downs += 1;
                state.node_mut(leader).replica.step_down();
            }
            Step::Crash { replica, keep, late } => self.crash(&mut state, replica, Offset::new(keep), late)?,
            Step::Wipe { replica, late } => self.wipe(&mut state, replica, late)?,
            Step::BeginMove => self.begin_move(&mut state),
            Step::LearnSet { leader } => self.learn_set(&mut state, leader)?,
            Step::EndMove { leader } => self.end_move(&mut state, leader)?,
            Step::CancelMove => cancel_move(&mut state)?,
        }
        drop_useless(&mut state);
        for (was, is) in before.nodes.iter().zip(&state.nodes) {
            let led = was.replica.leading().map(|progress| progress.epoch());
            if led.is_some_and(|epoch| is.leads(epoch)) && is.replica.high_watermark() < was.replica.high_watermark() {
                state.broken = Some(Broken::HighWatermark);
            }
        }
        Some(state)
    }
}
