//! What must hold in every state, one function for each promise, and what must be reached in some.

use std::sync::Arc;

use pubg1_model::{
    LeaderEpoch,
    replication::{Counting, ReplicaSet},
};
use stateright::Property;

use crate::{
    cluster::{Broken, Node, State, place},
    fingerprint::Told,
    scope::{Mutant, Scope},
};

pub const MISSING: &str = "no committed record is missing from a leader";
pub const TWO_LEADERS: &str = "no two leaders share an epoch";
pub const WATERMARK: &str = "the high watermark of a leader never moves back";
pub const AGREE: &str = "adopted logs agree below the committed end";
pub const DURABLE: &str = "an acknowledged record is durable";
pub const KNOWN: &str = "what is known to be committed is committed";

/// All that may never break.
pub const SAFETY: [&str; 6] = [MISSING, TWO_LEADERS, WATERMARK, AGREE, DURABLE, KNOWN];

pub fn all(scope: &Scope) -> Vec<Property<Scope>> {
    let mut properties = vec![
        Property::always(MISSING, |_, told: &Told| leaders_hold_all_committed(&told.state)),
        Property::always(TWO_LEADERS, |_, told: &Told| one_leader_for_each_epoch(&told.state)),
        Property::always(WATERMARK, |_, told: &Told| told.state.broken != Some(Broken::HighWatermark)),
        Property::always(AGREE, |_, told: &Told| adopted_logs_agree(&told.state)),
        Property::always(DURABLE, |scope: &Scope, told: &Told| acknowledged_is_durable(scope, &told.state)),
        Property::always(KNOWN, |_, told: &Told| known_is_committed(&told.state)),
    ];
    properties.extend(reached(scope));
    properties
}

/// A model in which nothing happens breaks nothing: these have to be found within the scope.
fn reached(scope: &Scope) -> Vec<Property<Scope>> {
    let mut reached = vec![Property::sometimes("a record survives its leader", |_, told: &Told| {
        let state = &told.state;
        let survivor = |node: &Arc<Node>| {
            node.replica
                .leading()
                .is_some_and(|progress| state.committed.first().is_some_and(|first| first.in_epoch < progress.epoch()))
        };
        state.nodes.iter().any(survivor)
    })];
    let mut must = |on: bool, property: Property<Scope>| {
        if on {
            reached.push(property);
        }
    };
    must(scope.epochs > 2, Property::sometimes("a follower is cut", |_, told: &Told| told.state.seen.truncated));
    must(
        scope.crashes > 0,
        Property::sometimes("an acknowledgement outlives its sender", |_, told: &Told| told.state.seen.late_counted),
    );
    must(
        scope.wipes > 0,
        Property::sometimes("a wiped replica is back", |_, told: &Told| {
            told.state.seen.forgetful_adopted && told.state.spent.wipes > 0
        }),
    );
    must(scope.moves, Property::sometimes("a move ends", |_, told: &Told| told.state.seen.move_ended));
    must(
        scope.controller_changes > 0,
        Property::sometimes("a deposed controller is refused", |_, told: &Told| told.state.seen.deposed_refused),
    );
    reached
}

/// Every leader holds, at its offset, each record that was committed in its epoch or before.
fn leaders_hold_all_committed(state: &State) -> bool {
    let holds = |node: &Arc<Node>| {
        let Some(progress) = node.replica.leading() else { return true };
        let mut committed = state.committed.iter().enumerate();
        committed.all(|(at, known)| known.in_epoch > progress.epoch() || node.holds(at, known.entry))
    };
    state.broken != Some(Broken::TwoAtOneOffset) && state.nodes.iter().all(holds)
}

fn one_leader_for_each_epoch(state: &State) -> bool {
    let leading = |node: &Arc<Node>| node.replica.leading().map(|progress| progress.epoch());
    let epochs: Vec<LeaderEpoch> = state.nodes.iter().filter_map(leading).collect();
    let shared = epochs.iter().enumerate().any(|(at, epoch)| epochs[..at].contains(epoch));
    !shared && state.broken != Some(Broken::LedTwice)
}

/// Where two replicas have adopted the epoch of a commit, or a later one, and have the offset, they
/// have the record.
fn adopted_logs_agree(state: &State) -> bool {
    let agrees = |node: &Arc<Node>| {
        let adopted = node.replica.adopted_epoch();
        let mut committed = state.committed.iter().enumerate();
        committed
            .all(|(at, known)| adopted < Some(known.in_epoch) || at >= node.log.len() || node.holds(at, known.entry))
    };
    state.nodes.iter().all(agrees)
}

/// Each committed record is on the disks of a quorum, but for a replica that has lost its disk and
/// is not back yet. (In the logs of a quorum, when log ends count.)
fn acknowledged_is_durable(scope: &Scope, state: &State) -> bool {
    let set = match &state.metadata.set {
        ReplicaSet::Joint { old, .. } => ReplicaSet::Stable(old.clone()),
        stable => stable.clone(),
    };
    let flushed = scope.counting == Counting::Flushed || scope.breaks(Mutant::AcknowledgesBeforeFlush);
    state.committed.iter().enumerate().all(|(at, known)| {
        set.is_quorum(|broker| {
            let node = state.node(broker);
            let on_disk = at < place(node.replica.flushed()) || !flushed;
            node.has_lost_its_disk() || (on_disk && node.holds(at, known.entry))
        })
    })
}

/// The high watermark that a replica remembers lies within what is committed, and it never cuts
/// its log below.
fn known_is_committed(state: &State) -> bool {
    let within = |node: &Arc<Node>| {
        let known = place(node.replica.high_watermark());
        known <= state.committed.len()
            && state.committed[..known].iter().enumerate().all(|(at, known)| node.holds(at, known.entry))
    };
    state.broken != Some(Broken::CutBelowHighWatermark) && state.nodes.iter().all(within)
}
