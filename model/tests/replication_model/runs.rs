//! The runs: scopes in which nothing may break, rules broken on purpose that have to be caught, and
//! a check of what the checker takes for one state.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    time::Instant,
};

use pubg1_model::replication::Counting;
use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    fingerprint::Told,
    properties::{DURABLE, MISSING, SAFETY, TWO_LEADERS},
    scope::{Mutant, Scope, Start},
    steps::Step,
};

const BASE: Scope = Scope::BASE;

/// The scopes of every test run.
const SMALL: &[(&str, Scope)] = &[
    ("a process ends", Scope { epochs: 3, crashes: 1, ..BASE }),
    ("two records", Scope { epochs: 3, records: 2, ..BASE }),
    ("two records, a process ends", Scope { epochs: 2, records: 2, crashes: 1, ..BASE }),
    ("a disk is lost, a process ends", Scope { epochs: 2, crashes: 1, wipes: 1, ..BASE }),
    ("high watermarks travel", Scope { epochs: 2, records: 2, crashes: 1, hints: true, ..BASE }),
    ("controllers change, leaders step down", Scope { epochs: 3, controller_changes: 1, step_downs: 1, ..BASE }),
    (
        "log ends count, a machine reboots",
        Scope { counting: Counting::LogEnd, epochs: 2, crashes: 1, wipes: 1, ..BASE },
    ),
    ("a new partition", Scope { start: Start::Founding, epochs: 2, crashes: 1, wipes: 1, ..BASE }),
    ("the replica set changes", Scope { moves: true, epochs: 2, ..BASE }),
];

/// The scopes of a run that takes minutes: `PUBG1_MODEL=large`, or a part of the name of one.
const LARGE: &[(&str, Scope)] = &[
    ("four epochs, two records, a process ends", Scope { epochs: 4, records: 2, crashes: 1, ..BASE }),
    ("three epochs, three records", Scope { epochs: 3, records: 3, ..BASE }),
    ("three epochs, two records, two processes end", Scope { epochs: 3, records: 2, crashes: 2, ..BASE }),
    ("three epochs, a disk is lost, a process ends", Scope { epochs: 3, crashes: 1, wipes: 1, ..BASE }),
    ("two records, a disk is lost, two processes end", Scope { epochs: 2, records: 2, crashes: 2, wipes: 1, ..BASE }),
    ("two records, two disks are lost, one after the other", Scope { epochs: 2, records: 2, wipes: 2, ..BASE }),
    ("three epochs, high watermarks travel", Scope { epochs: 3, records: 2, crashes: 1, hints: true, ..BASE }),
    (
        "two records, log ends count",
        Scope { counting: Counting::LogEnd, epochs: 2, records: 2, crashes: 1, wipes: 1, ..BASE },
    ),
    ("the replica set changes, or does not after all", Scope { moves: true, cancels: true, epochs: 2, ..BASE }),
    ("the replica set changes, two records", Scope { moves: true, epochs: 2, records: 2, ..BASE }),
    ("the replica set changes, a disk is lost", Scope { moves: true, epochs: 2, wipes: 1, ..BASE }),
];

/// Explores all of a scope.
fn holds(name: &str, scope: Scope) {
    let started = Instant::now();
    let checker = scope.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    println!(
        "{name}: {} steps to {} states, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    for (name, path) in checker.discoveries().into_iter().filter(|(name, _)| SAFETY.contains(name)) {
        println!("broken: {name}\n{}", numbered(&path.into_actions()));
    }
    checker.assert_properties();
}

fn numbered(steps: &[Step]) -> String {
    steps.iter().zip(1..).map(|(step, number)| format!("  {number}. {step:?}\n")).collect()
}

#[test]
fn nothing_breaks_within_the_small_scopes() {
    for (name, scope) in SMALL {
        holds(name, *scope);
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a switch of this test alone, no configuration of the product")]
fn nothing_breaks_within_the_large_scopes() {
    let Ok(chosen) = std::env::var("PUBG1_MODEL") else { return };
    let known = LARGE.iter().filter(|(name, _)| chosen == "large" || name.contains(&chosen));
    let run = known.map(|(name, scope)| holds(name, *scope)).count();
    assert!(run > 0, "no large scope is named {chosen:?}");
}

/// The shortest way to break `property` when a rule is broken; it fails when there is none.
fn is_caught(mutant: Mutant, property: &'static str, scope: Scope) {
    let scope = Scope { mutant: Some(mutant), ..scope };
    let started = Instant::now();
    let (mut shortest, mut states): (Option<Vec<Step>>, _) = (None, 0);
    loop {
        let mut search = scope.checker().threads(1).finish_when(HasDiscoveries::AnyOf(BTreeSet::from([property])));
        // The checker tells the last of the ways it met in a block of states: look for shorter ones.
        if let Some(known) = &shortest {
            search = search.target_max_depth(known.len() + 1);
        }
        let checker = search.spawn_bfs().join();
        states = states.max(checker.unique_state_count());
        let Some(path) = checker.discovery(property) else { break };
        shortest = Some(path.into_actions());
    }
    let shortest = shortest.unwrap_or_else(|| panic!("{mutant:?} breaks nothing within {states} states"));
    println!(
        "{mutant:?}: after {} steps, among {states} states, {:.1} s: {property} does not hold\n{}",
        shortest.len(),
        started.elapsed().as_secs_f64(),
        numbered(&shortest)
    );
}

#[test]
fn picking_by_offset_alone_is_caught() {
    is_caught(Mutant::PicksByOffsetAlone, MISSING, Scope { epochs: 3, records: 2, ..BASE });
}

#[test]
fn counting_the_forgetful_in_a_fence_is_caught() {
    is_caught(Mutant::CountsForgetfulInFence, MISSING, Scope { epochs: 2, wipes: 1, ..BASE });
}

#[test]
fn forgetting_a_promise_is_caught() {
    is_caught(Mutant::ForgetsPromise, MISSING, Scope { epochs: 2, wipes: 1, ..BASE });
}

#[test]
fn resuming_a_leadership_is_caught() {
    is_caught(Mutant::ResumesLeadership, MISSING, Scope { epochs: 1, records: 2, crashes: 1, ..BASE });
}

#[test]
fn adopting_at_the_start_of_the_epoch_is_caught() {
    is_caught(Mutant::AdoptsAtEpochStart, MISSING, Scope { epochs: 2, wipes: 1, ..BASE });
}

#[test]
fn counting_before_adoption_is_caught() {
    is_caught(Mutant::CountsBeforeAdoption, MISSING, Scope { epochs: 3, records: 2, ..BASE });
}

#[test]
fn acknowledging_before_the_flush_is_caught() {
    let scope = Scope { counting: Counting::LogEnd, epochs: 2, crashes: 1, ..BASE };
    is_caught(Mutant::AcknowledgesBeforeFlush, MISSING, scope);
}

#[test]
fn truncating_to_the_high_watermark_is_caught() {
    is_caught(Mutant::TruncatesToHighWatermark, MISSING, Scope { epochs: 2, crashes: 1, hints: true, ..BASE });
}

#[test]
fn electing_another_life_is_caught() {
    is_caught(Mutant::IgnoresIncarnation, MISSING, Scope { epochs: 2, wipes: 1, ..BASE });
}

#[test]
fn committing_a_leader_unchecked_is_caught() {
    is_caught(Mutant::CommitsLeaderUnchecked, TWO_LEADERS, Scope { epochs: 3, controller_changes: 1, ..BASE });
}

#[test]
fn moving_without_the_old_quorum_is_caught() {
    is_caught(Mutant::MovesWithoutOldQuorum, MISSING, Scope { moves: true, cancels: true, epochs: 2, ..BASE });
}

#[test]
fn ending_a_move_early_is_caught() {
    is_caught(Mutant::EndsMoveEarly, DURABLE, Scope { moves: true, epochs: 1, ..BASE });
}

/// All states of a scope that `key` tells apart, each as the text that the checker tells it by.
fn texts<K: Eq + std::hash::Hash>(scope: Scope, key: impl Fn(&Told) -> K) -> (usize, BTreeSet<Vec<u8>>) {
    let (mut known, mut found) = (HashSet::new(), BTreeSet::new());
    let mut open: VecDeque<Told> = scope.init_states().into();
    while let Some(told) = open.pop_front() {
        if known.insert(key(&told)) {
            found.insert(told.text());
            open.extend(scope.next_states(&told));
        }
    }
    (known.len(), found)
}

/// Replicas have no names, incarnations no numbers, and leaders that are over no place: taking such
/// states for one must hide no state. So a search that takes only equal states for one has to find
/// the same texts.
#[test]
fn states_that_are_taken_for_one_hide_nothing() {
    let whole = |told: &Told| {
        let mut state = told.state.clone();
        state.seen = crate::cluster::Seen::default();
        format!("{state:?}")
    };
    let text = |told: &Told| told.text();
    for (name, scope) in [
        ("a new partition", Scope { start: Start::Founding, epochs: 1, crashes: 1, wipes: 1, ..BASE }),
        ("two epochs, a process ends", Scope { epochs: 2, crashes: 1, ..BASE }),
        ("the replica set changes", Scope { moves: true, cancels: true, epochs: 1, ..BASE }),
    ] {
        let (states, found) = texts(scope, whole);
        let (taken, expected) = texts(scope, text);
        println!("{name}: {states} states are taken for {taken}");
        assert_eq!(found.len(), expected.len(), "{name}");
        assert!(found == expected, "{name}");
    }
}
