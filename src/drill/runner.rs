//! Carries a plan out, fault by fault, and notes when what happened.

use std::{sync::Arc, time::Duration};

use pubg1_bench::{process_cost::Processes, report::ProcessCost};
use pubg1_model::TopicName;
use tokio::time::Instant;

use super::{
    disks::{Disks, SlowDisk},
    network::Network,
    outcome::Observed,
    plan::{Action, DrillPlan, Event, Need},
    watch::Watch,
};
use crate::{
    cluster_process::ClusterProcess,
    error::CommandError,
    verify::{
        brokers::Brokers,
        clock::{Recorder, micros},
        faults::{FaultRunner, Target, led_by},
        health::wait_healthy,
    },
};

/// How long new leaders are waited for when the fault is over.
const ELECTION_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

/// What faults are carried out with.
pub(super) struct Means {
    /// Where links can be cut.
    pub(super) network: Option<Arc<Network>>,
    /// Where disks can be slow, full, or gone.
    pub(super) disks: Option<Arc<Disks>>,
}

/// Carries a plan out.
pub(super) struct Runner<'a> {
    faults: FaultRunner<'a>,
    means: Means,
    brokers: Brokers,
    topic: TopicName,
    recorder: Recorder,
    settle: Duration,
    processes: Processes,
    tell: Box<dyn FnMut(&str) + Send + 'a>,
}

impl<'a> Runner<'a> {
    /// A runner that tells what it does.
    pub(super) fn new(
        faults: FaultRunner<'a>,
        means: Means,
        brokers: Brokers,
        topic: TopicName,
        (recorder, settle): (Recorder, Duration),
        tell: impl FnMut(&str) + Send + 'a,
    ) -> Self {
        let processes = Processes::default();
        Self { faults, means, brokers, topic, recorder, settle, processes, tell: Box::new(tell) }
    }

    /// Carries the plan out, with times that count from `zero`. A fault begins later than it should when the cluster
    /// was not well before.
    ///
    /// # Errors
    /// What cannot be done, and a cluster that does not get well.
    pub(super) async fn run(
        &mut self,
        plan: &DrillPlan,
        zero: Instant,
        seen: &mut Vec<Observed>,
    ) -> Result<(), CommandError> {
        tokio::time::sleep_until(zero).await;
        self.processes = Processes::begin(&named(self.faults.cluster()));
        for event in &plan.events {
            tokio::time::sleep_until(zero + event.at).await;
            if event.action == Action::Rolling {
                for broker in 0..u32::try_from(self.brokers.clients().len()).unwrap_or(0) {
                    let target = Target::Broker(broker);
                    self.fault(&Event { target, ..*event }, seen).await?;
                }
            } else {
                self.fault(event, seen).await?;
            }
        }
        Ok(())
    }

    /// What the brokers' processes have used since the load began.
    pub(super) fn costs(&self) -> Vec<ProcessCost> {
        self.processes.end()
    }

    /// Carries a fault out. What it cost is put down whatever comes of it, once it has begun.
    async fn fault(&mut self, event: &Event, seen: &mut Vec<Observed>) -> Result<(), CommandError> {
        let (brokers, before) = self.faults.choose(event.target).await?;
        let led = led_by(&before.topic, &brokers);
        let mut watch = Watch::new(&self.topic, &brokers, led.clone());
        self.ask(&mut watch, |broker| !brokers.contains(&broker));
        self.processes.look();
        // What the fault rests on: dropping it takes the fault back, whatever happens.
        let injected = self.inject(event, &brokers, &watch).await;
        let Some(at) = watch.begun() else { return injected.map(drop) };
        let begun = self.faults.begin(done_to(event.action), &brokers, &before, at);
        (self.tell)(&begun.what);
        let mut observed = Observed {
            kind: event.kind(),
            what: begun.what,
            at_us: self.recorder.us_at(at.into_std()),
            led,
            deadly: event.is_deadly(),
            ..Observed::default()
        };
        let ended = match injected {
            Ok(held) => self.until_well(event, (&brokers, held), (&mut watch, at), &mut observed).await,
            Err(error) => Err(error),
        };
        let known = watch.seen();
        observed.detected_ms = known.detected.map(in_ms);
        observed.elected_ms = known.all_elected().map(in_ms);
        seen.push(observed);
        ended
    }

    /// Waits until the fault has lasted its time, takes it back, and waits until the cluster is well.
    async fn until_well(
        &mut self,
        event: &Event,
        (brokers, held): (&[u32], Held),
        (watch, at): (&mut Watch, Instant),
        observed: &mut Observed,
    ) -> Result<(), CommandError> {
        tokio::time::sleep_until(at + event.lasts).await;
        let until = self.take_back(event, brokers, held).await?;
        observed.until_us = Some(self.recorder.us_at(until.into_std()));
        if event.is_deadly() {
            self.faults.cluster().start_missing().await?;
            self.processes.follow(&named(self.faults.cluster()));
        }
        self.ask(watch, |broker| brokers.contains(&broker));
        let well = wait_healthy(&self.brokers, &self.topic, self.settle).await;
        let well_after = at.elapsed();
        well.map_err(|problem| {
            CommandError::Failed(format!("{}: the cluster does not get well: {problem}", observed.what))
        })?;
        // A cluster is well only when all partitions are led; that it was seen may take one look more.
        if event.is_deadly() {
            let until = Instant::now() + ELECTION_DEADLINE;
            while watch.seen().all_elected().is_none() && !observed.led.is_empty() && Instant::now() < until {
                tokio::time::sleep(POLL).await;
            }
        }
        let was_ill = watch.seen().disturbed || event.is_deadly();
        observed.full_replicas_ms = Some(in_ms(well_after)).filter(|_| was_ill);
        (self.tell)(&format!("well again {} ms later", micros(well_after) / 1_000));
        Ok(())
    }

    /// Has those brokers asked that this is true of.
    fn ask(&self, watch: &mut Watch, which: impl Fn(u32) -> bool) {
        let clients = self.brokers.clients().iter().zip(0..).filter(|(_, broker)| which(*broker));
        clients.for_each(|(client, _)| watch.ask(client.clone()));
    }

    /// Does it. The watch is told when it takes effect: just before a signal is sent, or when a tool has done what it
    /// was started for, so that its own time counts for nobody.
    async fn inject(&mut self, event: &Event, brokers: &[u32], watch: &Watch) -> Result<Held, CommandError> {
        match event.action {
            Action::Kill => {
                watch.begin();
                self.faults.cluster().kill(brokers).await?;
            }
            Action::Stop | Action::Rolling => {
                watch.begin();
                for broker in brokers {
                    self.faults.cluster().node(*broker)?.end().await?;
                }
            }
            Action::Pause => {
                watch.begin();
                for broker in brokers {
                    self.faults.cluster().node(*broker)?.pause()?;
                }
            }
            Action::Cut | Action::OneWay | Action::Bridge => {
                let network = self.means.network.as_ref().ok_or_else(|| missing(Need::Network))?;
                for broker in brokers {
                    network.cut(event.action, *broker).await?;
                    watch.begin();
                }
            }
            Action::SlowDisk => {
                let slow = self.on_disks(brokers, Disks::slow).await?;
                watch.begin();
                return Ok(Held(slow));
            }
            Action::FillDisk => {
                self.on_disks(brokers, Disks::fill).await?;
                watch.begin();
            }
            Action::PowerCut => {
                self.on_disks(brokers, Disks::cut).await?;
                watch.begin();
                self.faults.cluster().kill(brokers).await?;
            }
        }
        Ok(Held(Vec::new()))
    }

    /// Takes it back, and says when it was over. Brokers that have ended may start then.
    async fn take_back(&mut self, event: &Event, brokers: &[u32], held: Held) -> Result<Instant, CommandError> {
        match event.action {
            Action::Kill | Action::Stop | Action::Rolling => {}
            Action::PowerCut => self.on_disks(brokers, Disks::restore).await?,
            Action::Pause => {
                for broker in brokers {
                    self.faults.cluster().node(*broker)?.resume()?;
                }
            }
            Action::Cut | Action::OneWay | Action::Bridge => {
                self.means.network.as_ref().ok_or_else(|| missing(Need::Network))?.heal().await?;
            }
            Action::SlowDisk => {
                let release = move || held.0.into_iter().try_for_each(SlowDisk::release);
                let released = tokio::task::spawn_blocking(release).await;
                released.map_err(|error| CommandError::Failed(error.to_string()))??;
            }
            Action::FillDisk => self.on_disks(brokers, Disks::empty).await?,
        }
        Ok(Instant::now())
    }

    fn disks(&self) -> Result<&Arc<Disks>, CommandError> {
        self.means.disks.as_ref().ok_or_else(|| missing(Need::Disks))
    }

    /// Does something to disks that may take a while.
    async fn on_disks<T: Send + 'static>(
        &self,
        brokers: &[u32],
        what: fn(&Disks, &[u32]) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let (disks, brokers) = (Arc::clone(self.disks()?), brokers.to_vec());
        let done = tokio::task::spawn_blocking(move || what(&disks, &brokers)).await;
        done.map_err(|error| CommandError::Failed(error.to_string()))?
    }
}

/// What keeps a fault up.
struct Held(Vec<SlowDisk>);

const fn done_to(action: Action) -> &'static str {
    match action {
        Action::Kill => "killed",
        Action::Stop | Action::Rolling => "stopped",
        Action::Pause => "paused",
        Action::Cut => "cut off",
        Action::OneWay => "silenced",
        Action::Bridge => "cut off from all but one",
        Action::SlowDisk => "slowed the disk of",
        Action::FillDisk => "filled the disk of",
        Action::PowerCut => "cut the power of",
    }
}

/// The brokers' processes, those that run.
fn named(cluster: &ClusterProcess) -> Vec<(String, u32)> {
    cluster.nodes().iter().filter_map(|node| Some((format!("broker {}", node.id), node.pid()?))).collect()
}

fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn missing(need: Need) -> CommandError {
    CommandError::Failed(format!("this was started without {}", need.in_words()))
}
