//! One change of the replica set: from replicas 0, 1, 2 to 0, 1, 3.

use std::sync::Arc;

use pubg1_model::{
    BrokerId,
    replication::{Recovered, Replica, ReplicaSet},
};

use crate::{
    cluster::{State, broker},
    scope::{Mutant, Scope},
};

impl Scope {
    pub fn begin_move(&self, state: &mut State) {
        let epoch = state.metadata.epoch;
        let metadata = Arc::make_mut(&mut state.metadata);
        metadata.moved = true;
        let (old, new) = ([0, 1, 2].map(broker).to_vec(), [0, 1, 3].map(broker).to_vec());
        metadata.set = ReplicaSet::Joint { old, new };
        let node = state.node_mut(broker(3));
        node.replica = Replica::forgotten(node.replica.identity(), self.counting, Recovered::empty(), epoch);
    }

    pub fn learn_set(&self, state: &mut State, leader: BrokerId) -> Option<()> {
        let mut set = state.metadata.set.clone();
        if let (ReplicaSet::Joint { new, .. }, true) = (&set, self.breaks(Mutant::MovesWithoutOldQuorum)) {
            set = ReplicaSet::Stable(new.clone());
        }
        if *state.node(leader).replica.leading()?.replica_set() == set {
            return None;
        }
        let effects = state.node_mut(leader).replica.on_replica_set(set, 0);
        self.carry_out(state, leader, &effects);
        Some(())
    }

    pub fn end_move(&self, state: &mut State, leader: BrokerId) -> Option<()> {
        let ReplicaSet::Joint { new, .. } = &state.metadata.set else { return None };
        let replica = &state.node(leader).replica;
        let epoch = replica.leading()?.epoch();
        let early = self.breaks(Mutant::EndsMoveEarly) || self.breaks(Mutant::MovesWithoutOldQuorum);
        let may = replica.is_move_complete() || early;
        if !may || state.metadata.epoch != epoch {
            return None;
        }
        let set = ReplicaSet::Stable(new.clone());
        Arc::make_mut(&mut state.metadata).set = set;
        state.seen.move_ended = true;
        Some(())
    }
}

pub fn cancel_move(state: &mut State) -> Option<()> {
    let ReplicaSet::Joint { old, .. } = &state.metadata.set else { return None };
    let set = ReplicaSet::Stable(old.clone());
    Arc::make_mut(&mut state.metadata).set = set;
    Some(())
}
