//! The replication protocol, checked by exhaustion: every order of elections, fetches, commits,
//! flushes, crashes and lost disks within the bounds of a scope, driving the functions that ship.
//!
//! What is covered, how large the runs are, and what was found: `docs/MODEL.md`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends by panicking, and so do the functions it calls")]
#![allow(clippy::print_stdout, reason = "the sizes of the runs are their result")]
#![allow(unreachable_pub, reason = "the modules of a test are private to it")]

#[path = "replication_model/cluster.rs"]
mod cluster;
#[path = "replication_model/faults.rs"]
mod faults;
#[path = "replication_model/fingerprint.rs"]
mod fingerprint;
#[path = "replication_model/moves.rs"]
mod moves;
#[path = "replication_model/properties.rs"]
mod properties;
#[path = "replication_model/protocol.rs"]
mod protocol;
#[path = "replication_model/runs.rs"]
mod runs;
#[path = "replication_model/scope.rs"]
mod scope;
#[path = "replication_model/steps.rs"]
mod steps;

use stateright::{Model, Property};

use self::{cluster::State, fingerprint::Told, scope::Scope, steps::Step};

impl Model for Scope {
    type State = Told;
    type Action = Step;

    fn init_states(&self) -> Vec<Told> {
        vec![Told { state: State::initial(self), scope: *self }]
    }

    fn actions(&self, told: &Told, steps: &mut Vec<Step>) {
        self.steps(&told.state, steps);
    }

    fn next_state(&self, told: &Told, step: Step) -> Option<Told> {
        Some(Told { state: self.after(&told.state, &step)?, scope: *self })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}
