//! Whole brokers on a simulated network: the real actors over the real transport, while machines lose their power,
//! processes are killed, and links are cut, held up and slow. Everything that goes wrong follows from a seed. See
//! `docs/SIMULATION.md`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends by panicking, and so do its functions; the runner says how it went"
)]
#![allow(unreachable_pub, reason = "the modules are shared by the functions of one test")]

#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/consumers.rs"]
mod consumers;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/invariants.rs"]
mod invariants;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/runner.rs"]
mod runner;
#[path = "simulation/workload.rs"]
mod workload;

use std::{collections::BTreeMap, time::Duration};

use cluster::{Cluster, PARTITIONS};
use pubg1_actors::BrokerState;
use pubg1_model::PartitionId;

/// The virtual time that a cluster may take to be ready.
const FOUNDING: Duration = Duration::from_secs(15);
/// That leaderships may take to be where they should: they are given back every 10 s, and the controller may have been
/// replaced by then.
const BALANCED: Duration = Duration::from_secs(60);
/// And that a broker may take from its start until it knows what was decided without it: less than a leader that looks
/// for it now and then.
const CAUGHT_UP: Duration = Duration::from_millis(300);

/// A cluster that serves, with clients at work.
fn founded<'a>(seed: u64, is_told: bool) -> Cluster<'a> {
    let mut cluster = Cluster::new(seed, is_told);
    let ready = cluster.run_until(FOUNDING, |it| it.history.borrow().counts().get("acknowledged") > Some(&20));
    assert!(ready, "the cluster never served: {:?}", cluster.history.borrow().counts());
    cluster
}

/// The last look: all replicas hold the same, and everything that was acknowledged.
fn look_at_replicas(cluster: &Cluster<'_>) {
    for partition in (0..PARTITIONS).map(PartitionId) {
        let logs = cluster.logs(partition);
        assert_eq!(logs.len(), 3, "{partition} has three replicas");
        for (broker, log) in &logs {
            cluster.history.borrow_mut().replica_at_the_end(*broker, partition, log);
        }
        if let Err(text) = invariants::replicas_agree(partition, &logs) {
            cluster.history.borrow_mut().violate(text);
        }
    }
    let history = cluster.history.borrow();
    assert!(history.violations().is_empty(), "{:#?}", history.violations());
}

/// One run. What it was made of.
fn run(seed: u64, is_told: bool) -> BTreeMap<String, u64> {
    let mut cluster = founded(seed, is_told);
    faults::storm(&mut cluster, seed);
    look_at_replicas(&cluster);
    let history = cluster.history.borrow();
    let mut counts: BTreeMap<String, u64> =
        history.counts().iter().map(|(what, times)| ((*what).to_owned(), *times)).collect();
    counts.insert("epochs led".to_owned(), u64::try_from(history.epochs_led()).unwrap_or(0));
    counts.insert("virtual ms".to_owned(), u64::try_from(cluster.sim.elapsed().as_millis()).unwrap_or(0));
    counts
}

#[test]
fn every_invariant_holds_whatever_goes_wrong() {
    if let Some(seed) = runner::seed() {
        // One seed, as the runner starts it, or whoever looks at a failure: with `PUBG1_SIM_LOG` it tells what happens.
        let is_told = runner::log();
        return runner::report(&run(seed, is_told));
    }
    let seeds = runner::seeds();
    let totals = runner::run_each(seeds.clone());
    println!("seeds {seeds:?}: {totals:#?}");
    if seeds.end - seeds.start >= 20 {
        // The runs were ones: everything that can go wrong did, and clients went on.
        let expected = [
            "acknowledged",
            "reads",
            "group commits",
            "records consumed",
            "kills",
            "power cuts",
            "unflushed bytes lost",
        ];
        for what in expected.into_iter().chain(["cut links", "links cut one way", "held links", "slow links"]) {
            assert!(totals.get(what).is_some_and(|times| *times > 0), "no {what} in {totals:?}");
        }
    }
}

/// Clusters of the scenarios below, one after the other.
const CLUSTERS: u64 = 3;

/// Lets `cut` come between the leader of a partition and others for a while, clients at work on both sides.
fn replaces_its_leader(from_seed: u64, cut: impl Fn(&mut Cluster<'_>, usize), mend: impl Fn(&mut Cluster<'_>, usize)) {
    for seed in from_seed..from_seed + CLUSTERS {
        let mut cluster = founded(seed, false);
        let led_by_another = |it: &Cluster<'_>| {
            let controller = it.controller();
            (0..PARTITIONS).find_map(|partition| it.leader(PartitionId(partition)).filter(|at| controller != Some(*at)))
        };
        let found = cluster.run_until(BALANCED, |it| led_by_another(it).is_some());
        let leaders = || (0..PARTITIONS).map(|partition| cluster.leader(PartitionId(partition))).collect::<Vec<_>>();
        assert!(found, "seed {seed}: led by {:?}, controller {:?}", leaders(), cluster.controller());
        let leader = led_by_another(&cluster).unwrap();
        cut(&mut cluster, leader);
        cluster.run(3_500);
        mend(&mut cluster, leader);
        cluster.run(500);
        faults::heal(&mut cluster);
        look_at_replicas(&cluster);
    }
}

fn others(cluster: &Cluster<'_>, than: usize) -> Vec<String> {
    let others = cluster.machines.iter().enumerate().filter(|(at, _)| *at != than);
    others.map(|(_, machine)| machine.name.clone()).collect()
}

/// First the controller loses it, then its followers: it hears of no successor, and is to step down by itself later than
/// the successor begins. Its lease ends before that.
#[test]
fn a_leader_that_is_lost_bit_by_bit_answers_nothing_that_its_successor_denies() {
    replaces_its_leader(
        1_000,
        |it, leader| {
            let (own, controller) = (it.machines[leader].name.clone(), it.controller().unwrap());
            it.sim.partition(own.as_str(), it.machines[controller].name.as_str());
            it.run(950);
            others(it, leader).iter().for_each(|other| it.sim.partition(own.as_str(), other.as_str()));
        },
        |it, leader| {
            let own = it.machines[leader].name.as_str();
            others(it, leader).iter().for_each(|other| it.sim.repair(own, other.as_str()));
        },
    );
}

/// Everything that was sent to it arrives late and at once, old fetches among it: they renew no lease.
#[test]
fn a_leader_whose_messages_were_held_back_answers_nothing_that_its_successor_denies() {
    replaces_its_leader(
        2_000,
        |it, leader| {
            others(it, leader).iter().for_each(|other| it.sim.hold(it.machines[leader].name.as_str(), other.as_str()));
        },
        |it, leader| {
            let own = it.machines[leader].name.as_str();
            others(it, leader).iter().for_each(|other| it.sim.release(own, other.as_str()));
        },
    );
}

/// What silence alone would take: voters keep to a leader that they have just heard of for so long.
const KEPT_TO: Duration = Duration::from_millis(500);

/// Its port refuses, and that tells more than silence.
#[test]
fn a_controller_whose_process_ends_is_replaced_before_it_was_silent_for_long() {
    for seed in 3_000..3_000 + 2 * CLUSTERS {
        let mut cluster = founded(seed, false);
        let controller = cluster.controller().unwrap();
        cluster.kill(controller);
        let replaced = cluster.run_until(KEPT_TO, |it| it.controller().is_some_and(|now| now != controller));
        assert!(replaced, "seed {seed}: machine {controller} is the controller {KEPT_TO:?} after its death");
        cluster.start(controller);
        faults::heal(&mut cluster);
        look_at_replicas(&cluster);
    }
}

/// It is sent what it has missed as soon as it asks, however long the others wait between two looks at its port.
#[test]
fn a_broker_that_was_away_for_long_knows_soon_what_it_has_missed() {
    for seed in 4_000..4_000 + CLUSTERS {
        let mut cluster = founded(seed, false);
        for turn in 0..3 {
            let controller = cluster.controller().unwrap();
            let away = (controller + 1) % cluster.machines.len();
            cluster.kill(away);
            cluster.run(3_000);
            cluster.start(away);
            let knows = |it: &Cluster<'_>| {
                let broker = it.machines[away].broker();
                broker.is_some_and(|broker| broker.readiness().state != BrokerState::Starting)
            };
            assert!(cluster.run_until(CAUGHT_UP, knows), "seed {seed}, turn {turn}: not within {CAUGHT_UP:?}");
        }
        faults::heal(&mut cluster);
        look_at_replicas(&cluster);
    }
}
