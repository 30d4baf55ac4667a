//! What goes wrong: processes end, disks are lost, and messages outlive who sent them.

use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    replication::{Counting, Recovered, Replica},
};

use crate::{
    cluster::{Late, Node, State, before_leading, place, recovered},
    scope::{Mutant, Scope},
};

impl Scope {
    pub fn crash(&self, state: &mut State, replica: BrokerId, keep: Offset, late: bool) -> Option<()> {
        let node = state.node(replica);
        let loses = keep < node.replica.log_end();
        let forgets = loses && self.counting == Counting::LogEnd && !self.breaks(Mutant::AcknowledgesBeforeFlush);
        if forgets {
            if state.spent.wipes >= self.wipes || state.any_forgetful() {
                return None;
            }
            state.spent.wipes += 1;
        }
        self.send_late(state, replica, late)?;
        state.spent.crashes += 1;
        let (metadata_epoch, set) = (state.metadata.epoch, state.metadata.set.clone());
        let node = state.node_mut(replica);
        let found = recovered(node, keep, self);
        node.log.truncate(place(keep));
        node.life += 1;
        node.disk += u8::from(forgets);
        let identity = Node::identity(replica, node.life, node.disk);
        let led = node.replica.leading().map(|progress| progress.epoch());
        node.replica = if forgets {
            Replica::forgotten(identity, self.counting, found.clone(), metadata_epoch)
        } else {
            Replica::recovered(identity, self.counting, found.clone())
        };
        if let (Some(epoch), true) = (led, self.breaks(Mutant::ResumesLeadership)) {
            node.replica = Replica::recovered(identity, self.counting, before_leading(found));
            node.resumed = true;
            let effects = node.replica.elect(epoch, identity.incarnation, set, 0).ok()?;
            self.carry_out(state, replica, &effects);
        }
        Some(())
    }

    pub fn wipe(&self, state: &mut State, replica: BrokerId, late: bool) -> Option<()> {
        self.send_late(state, replica, late)?;
        state.spent.wipes += 1;
        let known = if self.breaks(Mutant::ForgetsPromise) { LeaderEpoch::ZERO } else { state.metadata.epoch };
        let node = state.node_mut(replica);
        node.log.clear();
        node.life += 1;
        node.disk += 1;
        let identity = Node::identity(replica, node.life, node.disk);
        node.replica = Replica::forgotten(identity, self.counting, Recovered::empty(), known);
        Some(())
    }

    /// Leaves the acknowledgement that `replica` could send now under way. While it waits for the
    /// answer nothing of it changes, so that only a message that its sender has left behind is
    /// worth a place of its own.
    pub fn send_late(&self, state: &mut State, replica: BrokerId, late: bool) -> Option<()> {
        if late {
            let node = state.node(replica);
            let fetch = self.as_counted(node.replica.next_fetch()?);
            let late = Late { from: replica, to: node.replica.following()?.leader(), fetch };
            if state.late.contains(&late) || !is_useful(state, &late) {
                return None;
            }
            state.late.push(late);
        }
        Some(())
    }
}

/// Forgets messages that nobody would take, or that would tell nothing new: they never will.
pub fn drop_useless(state: &mut State) {
    if !state.late.is_empty() {
        let late = std::mem::take(&mut state.late);
        state.late = late.into_iter().filter(|late| is_useful(state, late)).collect();
    }
}

pub fn is_useful(state: &State, late: &Late) -> bool {
    let mut leader = state.node(late.to).replica.clone();
    let taken = leader.on_fetch(late.from, &late.fetch, Offset::ZERO, late.fetch.fetch_offset, 0);
    taken.is_ok() && leader != state.node(late.to).replica
}
