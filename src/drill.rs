//! A drill: load on a schedule, faults on a schedule, and for each fault what it cost in milliseconds;
//! in the end the checker's verdict over every record that was acknowledged.
//!
//! The load comes from the bench engine and goes through the checker's producers and readers
//! ([`mod@load`]); [`runner`] does things to the brokers and [`watch`] asks the others what they know of
//! it; [`outcome`] computes the rest from the history.

pub mod disks;
pub mod fit;
mod load;
pub mod needs;
pub mod network;
mod outcome;
pub mod plan;
pub mod plans;
mod runner;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use pubg1_bench::{
    engine::{self, Clock, Measured, Workload},
    report::{Environment, Mark, Report},
    target::{Acks, Description, Target, Topic},
};
use pubg1_model::TopicName;
use tokio::{sync::watch::Receiver, time::Instant};

use crate::{
    cluster_process::{ClusterLaunch, ClusterProcess},
    error::CommandError,
    terminal::Terminal,
    verify::{
        self,
        brokers::{Brokers, Dice},
        clock::{Recorder, micros},
        collector::Collector,
        faults::FaultRunner,
        health,
        history::{Ending, Entry, History, Setting},
        last_look,
        payload::Payload,
        reader::Reading,
        writer::{self, Surface, Writing},
    },
};
use disks::Disks;
use load::Load;
use network::Network;
use outcome::{Observed, Schedule};
use plan::{DrillPlan, Need};
use runner::{Means, Runner};

/// How long a cluster that is well may take to give an identity.
const PREPARE_DEADLINE: Duration = Duration::from_secs(30);

/// A request is no larger than this: a topic takes a megabyte.
const REQUEST_BYTES: usize = 500_000;
const REQUEST_RECORDS: u32 = 1_000;

/// What a drill shall do.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The plan's name, or that of its file.
    pub name: String,
    /// Load and faults.
    pub plan: DrillPlan,
    /// How the brokers are started.
    pub launch: ClusterLaunch,
    /// The topic's partitions; each has a producer.
    pub partitions: u32,
    /// Replicas of each; at most the number of brokers.
    pub replicas: u32,
    /// How long load is sent before anything counts.
    pub warm_up: Duration,
    /// Whether producers have an identity, so that a repeated request is stored once.
    pub idempotent: bool,
    /// An attempt that takes longer has an unknown outcome.
    pub attempt_timeout: Duration,
    /// How long the cluster may take to be well after a fault.
    pub settle: Duration,
    /// Where the history is kept.
    pub history: Option<PathBuf>,
    /// What chance depends on.
    pub seed: u64,
}

/// Runs a drill. What a broken promise is, the report says; errors are what kept the drill from taking place. Once there
/// is a measurement, what goes wrong is in the report, too.
///
/// # Errors
/// Brokers that do not start, and a history that cannot be written.
pub async fn run(drill: &Drill, network: Option<Arc<Network>>, terminal: Terminal) -> Result<Report, CommandError> {
    std::fs::create_dir_all(&drill.launch.directory).map_err(|source| {
        let path = drill.launch.directory.clone();
        CommandError::File { action: "create", path, source }
    })?;
    // Before the cluster: what it writes to goes when it has ended.
    let disks = match drill.plan.needs(Need::Disks) {
        true => Some(Arc::new(Disks::make(&drill.launch.directory, drill.launch.brokers)?)),
        false => None,
    };
    let mut cluster = match &network {
        Some(network) => drill.launch.start_at(network.places()).await?,
        None => drill.launch.start().await?,
    };
    let mut report = on(drill, &mut cluster, Means { network, disks: disks.clone() }, terminal).await?;
    let ended = cluster.end().await;
    if let (Err(error), Some(found)) = (ended, &mut report.drill) {
        found.verdict.broken.push(format!("the brokers did not end in order: {error}"));
    }
    Ok(report)
}

/// What the parts of a drill have in common.
struct Scene {
    topic: TopicName,
    brokers: Brokers,
    payload: Payload,
    recorder: Recorder,
    first_offsets: Vec<u64>,
}

async fn on(
    drill: &Drill,
    cluster: &mut ClusterProcess,
    means: Means,
    terminal: Terminal,
) -> Result<Report, CommandError> {
    let topic: TopicName =
        "drill".parse().map_err(|error: pubg1_model::InvalidName| CommandError::Failed(error.to_string()))?;
    let brokers = Brokers::at(&cluster.urls())?;
    let mut dice = Dice::new(drill.seed);
    let plan = verify::Plan {
        partitions: drill.partitions,
        replication_factor: drill.replicas,
        ..verify::Plan::on(topic.clone())
    };
    let first_offsets = verify::prepare(&plan, &brokers).await?;
    let setting = Setting {
        run: format!("{:08x}", dice.below(1 << 32)),
        topic: topic.to_string(),
        brokers: brokers.urls(),
        first_offsets: first_offsets.clone(),
        idempotent: drill.idempotent,
        committed: true,
        ..Setting::default()
    };
    let payload = Payload::new(&setting.run, topic.as_str(), drill.plan.bytes);
    let (recorder, entries) = Recorder::start();
    let bar = terminal.progress(records(drill), "records");
    let collector = Collector::start(entries, drill.history.as_deref(), bar.clone())?;
    recorder.record(Entry::Setting(setting));
    let scene = Scene { topic, brokers, payload, recorder, first_offsets };

    let load = Arc::new(load(drill, &scene, &mut dice).await?);
    let mut observed = Vec::new();
    let tell = |what: &str| bar.suspend(|| terminal.note(what));
    let faults = FaultRunner::new(cluster, scene.topic.clone(), scene.recorder.clone(), dice, |_| {});
    let mut runner = Runner::new(
        faults,
        means,
        scene.brokers.clone(),
        scene.topic.clone(),
        (scene.recorder.clone(), drill.settle),
        tell,
    );
    let faults = async {
        let clock = begun(load.clock()).await?;
        runner.run(&drill.plan, clock.zero().into(), &mut observed).await
    };
    // The faults wait for a load that may never begin.
    let faults = async { Ok(faults.await) };
    let (mut measured, done): (Measured, Result<(), CommandError>) = tokio::try_join!(send(drill, &load), faults)?;
    let mut problems: Vec<String> = done.err().map(|error| format!("the faults: {error}")).into_iter().collect();
    measured.processes = runner.costs();
    drop(runner);

    let writing_until_us = scene.recorder.now_us();
    problems.extend(load.finish(Instant::now() + drill.settle).await);
    problems.extend(health::wait_healthy(&scene.brokers, &scene.topic, drill.settle).await.err());
    load.stop_reading().await;
    bar.finish_and_clear();
    let found =
        last_look::read(&scene.brokers, &scene.topic, Some(&scene.payload), &scene.first_offsets, drill.settle).await;
    // Without a last look the judge knows that nothing was read, and the rest was measured all the same.
    let found = found.unwrap_or_else(|error| {
        problems.push(format!("the last look: {error}"));
        last_look::Found { copies: Vec::new(), not_compared: None }
    });
    found.copies.into_iter().for_each(|copy| scene.recorder.record(Entry::Copy(copy)));
    let unhealthy = (!problems.is_empty()).then(|| problems.join("; "));
    scene.recorder.record(Entry::Ending(Ending { writing_until_us, unhealthy, not_compared: found.not_compared }));
    let schedule = schedule(drill, &scene.recorder, measured.clock);
    drop((load, scene));
    Ok(report(drill, &measured, &collector.finish().await?, &observed, schedule))
}

fn schedule(drill: &Drill, recorder: &Recorder, clock: Clock) -> Schedule {
    let zero_us = recorder.us_at(clock.zero());
    Schedule {
        zero_us,
        end_us: zero_us.saturating_add(micros(drill.plan.duration)),
        step_us: micros(Duration::from_secs_f64(f64::from(drill.partitions) / drill.plan.rate)),
    }
}

/// How many records fit into a request.
fn batch_records(bytes: usize) -> u32 {
    u32::try_from(REQUEST_BYTES / bytes.max(1)).unwrap_or(u32::MAX).clamp(1, REQUEST_RECORDS)
}

/// How many records are due, the warm-up's among them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number for a bar")]
fn records(drill: &Drill) -> u64 {
    (drill.plan.rate * (drill.plan.duration + drill.warm_up).as_secs_f64()) as u64
}

async fn begun(mut clock: Receiver<Option<Clock>>) -> Result<Clock, CommandError> {
    let begun = clock.wait_for(Option::is_some).await.ok().and_then(|clock| *clock);
    begun.ok_or_else(|| CommandError::Failed("the load never began".to_owned()))
}

async fn load(drill: &Drill, scene: &Scene, dice: &mut Dice) -> Result<Load, CommandError> {
    let client = scene.brokers.together()?;
    let mut identities = Vec::new();
    for _ in 0..drill.partitions {
        identities.push(match drill.idempotent {
            true => Some(writer::identity(&client, PREPARE_DEADLINE).await?),
            false => None,
        });
    }
    let writing = Writing {
        brokers: scene.brokers.clone(),
        topic: scene.topic.clone(),
        payload: scene.payload.clone(),
        batch: 1,
        surface: Surface::Batches,
        acks: "all",
        attempt_timeout: drill.attempt_timeout,
        pause: Duration::ZERO,
        recorder: scene.recorder.clone(),
    };
    let reading = Reading {
        brokers: scene.brokers.clone(),
        topic: scene.topic.clone(),
        payload: scene.payload.clone(),
        first_offsets: scene.first_offsets.clone(),
        attempt_timeout: drill.attempt_timeout,
        recorder: scene.recorder.clone(),
    };
    Ok(Load::new(writing, reading, identities, dice.below(u64::MAX)))
}

async fn send(drill: &Drill, load: &Arc<Load>) -> Result<Measured, CommandError> {
    let workload = Workload {
        rate: Some(drill.plan.rate),
        duration: drill.plan.duration,
        warm_up: drill.warm_up,
        publishers: drill.partitions,
        consumers: 1,
        // What waits for an answer goes together when it is there.
        in_flight: 1,
        batch_records: batch_records(drill.plan.bytes),
        answer_limit: drill.settle,
        drain_limit: drill.settle,
        ..Workload::default()
    };
    let topic = Topic {
        name: "drill".to_owned(),
        partitions: drill.partitions,
        partition: None,
        replicas: drill.replicas,
        record_bytes: drill.plan.bytes,
        acks: Acks::All,
        group: None,
    };
    let target: Arc<dyn Target> = Arc::<Load>::clone(load);
    let ran = engine::run(&target, &topic, &workload, load.as_ref()).await;
    ran.map_err(|error| CommandError::Failed(format!("the load failed: {error}")))
}

fn report(drill: &Drill, measured: &Measured, history: &History, observed: &[Observed], schedule: Schedule) -> Report {
    let found = outcome::outcome(history, observed, drill.name.clone(), schedule);
    let mark = |fault: &pubg1_bench::report::FaultOutcome| Mark {
        at_s: fault.at_s,
        until_s: fault.until_s,
        what: fault.kind.clone(),
    };
    let mut report = measured.report();
    for kind in history.writes.iter().filter_map(|write| outcome::error_kind(&write.outcome)) {
        *report.retries.entry(kind).or_default() += 1;
    }
    report.title = format!("drill {}", drill.name);
    report.environment = Environment::here();
    report.system = description(drill, history);
    report.settings = settings(drill);
    report.marks = found.faults.iter().map(mark).collect();
    report.drill = Some(found);
    report
}

fn description(drill: &Drill, history: &History) -> Description {
    Description {
        name: "PubG1".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        client: "record batches through changing brokers, one request of a partition at a time, repeated until \
                 acknowledged"
            .to_owned(),
        durability: format!("brokers run with {}", drill.launch.arguments.join(" ")),
        replicas: drill.replicas.min(drill.launch.brokers),
        address: history.setting.brokers.join(","),
    }
}

fn settings(drill: &Drill) -> Vec<(String, String)> {
    let time = |time| humantime::format_duration(time).to_string();
    let plan: Vec<String> = drill.plan.events.iter().take(10).map(ToString::to_string).collect();
    [
        ("plan", plan.join("; ")),
        ("brokers", drill.launch.brokers.to_string()),
        ("partitions", drill.partitions.to_string()),
        ("replicas", drill.replicas.to_string()),
        ("rate", drill.plan.rate.to_string()),
        ("bytes", drill.plan.bytes.to_string()),
        ("duration", time(drill.plan.duration)),
        ("warm-up", time(drill.warm_up)),
        ("idempotent", drill.idempotent.to_string()),
        ("attempt-timeout", time(drill.attempt_timeout)),
        ("settle", time(drill.settle)),
        ("seed", drill.seed.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
