//! Carries a plan out, fault by fault, and notes when what happened.

use std::{sync::Arc, time::Duration};

use pubg1_model::TopicName;
use tokio::time::Instant;

use super::{
    disks::Disks,
    network::Network,
    outcome::Observed,
    plan::{Action, DrillPlan, Event, Need},
    watch::Watch,
};
use crate::{
    error::CommandError,
    verify::{
        brokers::Brokers,
        clock::{Recorder, micros},
        faults::{Begun, FaultRunner, State, Target, led_by},
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
        Self { faults, means, brokers, topic, recorder, settle, tell: Box::new(tell) }
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
        for event in &plan.events {
            tokio::time::sleep_until(zero + event.at).await;
            if event.action == Action::Rolling {
                for broker in 0..u32::try_from(self.brokers.clients().len()).unwrap_or(0) {
                    let target = Target::Broker(broker);
                    seen.push(self.fault(&Event { target, ..*event }).await?);
                }
            } else {
                seen.push(self.fault(event).await?);
            }
        }
        Ok(())
    }

    async fn fault(&mut self, event: &Event) -> Result<Observed, CommandError> {
        let (brokers, before) = self.faults.choose(event.target).await?;
        let led = led_by(&before.topic, &brokers);
        let mut watch = Watch::new(&self.topic, &brokers, led.clone());
        self.brokers.clients().iter().zip(0..).filter(|(_, id)| !brokers.contains(id)).for_each(|(client, _)| {
            watch.ask(client.clone());
        });
        let begun = self.begin(event, &brokers, &before);
        watch.begin(begun.at);
        (self.tell)(&begun.what);
        let at_us = self.recorder.us_at(begun.at.into_std());
        // What the fault rests on: dropping it takes the fault back, whatever happens.
        let held = self.inject(event, &brokers).await?;
        tokio::time::sleep_until(begun.at + event.lasts).await;
        self.take_back(event, &brokers, held).await?;
        let until_us = self.recorder.now_us();
        self.brokers.clients().iter().zip(0..).filter(|(_, id)| brokers.contains(id)).for_each(|(client, _)| {
            watch.ask(client.clone());
        });
        let well = wait_healthy(&self.brokers, &self.topic, self.settle).await;
        let well_at = begun.at.elapsed();
        well.map_err(|problem| {
            CommandError::Failed(format!("{}: the cluster does not get well: {problem}", begun.what))
        })?;
        // A cluster is well only when all partitions are led; that it was seen may take one look more.
        if event.is_deadly() {
            let until = Instant::now() + ELECTION_DEADLINE;
            while watch.seen().all_elected().is_none() && !led.is_empty() && Instant::now() < until {
                tokio::time::sleep(POLL).await;
            }
        }
        let seen = watch.seen();
        let in_ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        let observed = Observed {
            kind: event.kind(),
            what: begun.what,
            at_us,
            until_us,
            led,
            detected_ms: seen.detected.map(in_ms),
            elected_ms: seen.all_elected().map(in_ms),
            full_replicas_ms: Some(in_ms(well_at)).filter(|_| seen.disturbed || event.is_deadly()),
        };
        (self.tell)(&format!("well again {} ms later", micros(well_at) / 1_000));
        Ok(observed)
    }

    fn begin(&self, event: &Event, brokers: &[u32], before: &State) -> Begun {
        let verb = match event.action {
            Action::Kill => "killed",
            Action::Stop | Action::Rolling => "stopped",
            Action::Pause => "paused",
            Action::Cut => "cut off",
            Action::OneWay => "silenced",
            Action::Bridge => "cut off from all but one",
            Action::SlowDisk => "slowed the disk of",
            Action::FillDisk => "filled the disk of",
            Action::PowerCut => "cut the power of",
        };
        self.faults.begin(verb, brokers, before)
    }

    async fn inject(&mut self, event: &Event, brokers: &[u32]) -> Result<Held, CommandError> {
        match event.action {
            Action::Kill => self.faults.cluster().kill(brokers).await?,
            Action::Stop | Action::Rolling => {
                for broker in brokers {
                    self.faults.cluster().node(*broker)?.end().await?;
                }
            }
            Action::Pause => {
                for broker in brokers {
                    self.faults.cluster().node(*broker)?.pause()?;
                }
            }
            Action::Cut | Action::OneWay | Action::Bridge => {
                let network = self.means.network.as_ref().ok_or_else(|| missing(Need::Network))?;
                for broker in brokers {
                    network.cut(event.action, *broker).await?;
                }
            }
            Action::SlowDisk => return Ok(Held(self.disks()?.slow(brokers))),
            Action::FillDisk => self.on_disks(brokers, Disks::fill).await?,
            Action::PowerCut => {
                self.on_disks(brokers, Disks::cut).await?;
                self.faults.cluster().kill(brokers).await?;
                self.on_disks(brokers, Disks::restore).await?;
            }
        }
        Ok(Held(Vec::new()))
    }

    async fn take_back(&mut self, event: &Event, brokers: &[u32], held: Held) -> Result<(), CommandError> {
        match event.action {
            Action::Kill | Action::Stop | Action::Rolling | Action::PowerCut => {
                self.faults.cluster().start_missing().await?;
            }
            Action::Pause => {
                for broker in brokers {
                    self.faults.cluster().node(*broker)?.resume()?;
                }
            }
            Action::Cut | Action::OneWay | Action::Bridge => {
                self.means.network.as_ref().ok_or_else(|| missing(Need::Network))?.heal().await?;
            }
            Action::SlowDisk => {
                let released = tokio::task::spawn_blocking(move || drop(held)).await;
                released.map_err(|error| CommandError::Failed(error.to_string()))?;
            }
            Action::FillDisk => self.on_disks(brokers, Disks::empty).await?,
        }
        Ok(())
    }

    fn disks(&self) -> Result<&Arc<Disks>, CommandError> {
        self.means.disks.as_ref().ok_or_else(|| missing(Need::Disks))
    }

    /// Does something to disks that may take a while.
    async fn on_disks(
        &self,
        brokers: &[u32],
        what: fn(&Disks, &[u32]) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let (disks, brokers) = (Arc::clone(self.disks()?), brokers.to_vec());
        let done = tokio::task::spawn_blocking(move || what(&disks, &brokers)).await;
        done.map_err(|error| CommandError::Failed(error.to_string()))?
    }
}

/// What keeps a fault up.
struct Held(#[allow(dead_code, reason = "dropping it is the point")] Vec<super::disks::SlowDisk>);

fn missing(need: Need) -> CommandError {
    CommandError::Failed(format!("this was started without {}", need.in_words()))
}
