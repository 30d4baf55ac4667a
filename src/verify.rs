//! The checker: producers write numbered records through changing brokers, readers look on, faults
//! happen, and in the end every acknowledged record must be where it was acknowledged, on every
//! replica.
//!
//! Taking part ([`writer`], [`reader`], [`groups`], [`last_look`]) and judging ([`judge`], [`availability`])
//! know only the [`history`] of each other.

pub mod availability;
pub mod brokers;
pub mod clock;
pub mod faults;
pub mod groups;
pub mod health;
pub mod history;
pub mod judge;
pub mod last_look;
pub mod payload;
pub mod reader;
pub mod report;
pub mod writer;

pub(crate) mod collector;

use std::{path::PathBuf, time::Duration};

use pubg1_model::{TopicName, topic::TopicConfig};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{cluster_process::ClusterProcess, error::CommandError, terminal::Terminal};
use brokers::{Brokers, Dice};
use clock::Recorder;
use collector::Collector;
use faults::{FaultPlan, FaultRunner, GroupTargets};
use groups::{GroupPlan, Groups};
use history::{Ending, Entry, Setting};
use payload::Payload;
use reader::Reading;
use report::Report;
use writer::{Course, Lane, Surface, Writing};

/// How long a cluster that is well may take to create a topic and give an identity.
const PREPARE_DEADLINE: Duration = Duration::from_secs(30);

/// What a run shall do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The topic; it is created when it is missing.
    pub topic: TopicName,
    /// Its partitions, if it is created.
    pub partitions: u32,
    /// How many replicas each has, if it is created.
    pub replication_factor: u32,
    /// The size of its segments, if it is created.
    pub segment_bytes: Option<u64>,
    /// Producers; each writes to every partition.
    pub producers: u32,
    /// Whether they have an identity, so that a repeated request is stored once.
    pub idempotent: bool,
    /// `all` or `1`.
    pub acks: &'static str,
    /// Records per request.
    pub batch: u64,
    /// Size of a record's value.
    pub value_bytes: usize,
    /// Which route they use.
    pub surface: Surface,
    /// Readers that look on.
    pub readers: u32,
    /// Consumer groups that read and commit.
    pub groups: Option<GroupPlan>,
    /// Records per second, all producers together; 0: as fast as they are acknowledged.
    pub rate: u64,
    /// The run ends when so many are acknowledged.
    pub records: Option<u64>,
    /// The run ends after so long.
    pub duration: Option<Duration>,
    /// An attempt that takes longer has an unknown outcome.
    pub attempt_timeout: Duration,
    /// How long the cluster may take to be well in the end.
    pub settle: Duration,
    /// Where the history is kept.
    pub history: Option<PathBuf>,
    /// What chance depends on.
    pub seed: u64,
}

impl Plan {
    /// The usual run on this topic.
    #[must_use]
    pub fn on(topic: TopicName) -> Self {
        Self {
            topic,
            partitions: 4,
            replication_factor: 3,
            segment_bytes: None,
            producers: 3,
            idempotent: false,
            acks: "all",
            batch: 10,
            value_bytes: 200,
            surface: Surface::Batches,
            readers: 2,
            groups: None,
            rate: 0,
            records: None,
            duration: None,
            attempt_timeout: Duration::from_millis(1_500),
            settle: Duration::from_secs(60),
            history: None,
            seed: Dice::any_seed(),
        }
    }
}

/// Faults that are carried out while the run lasts: it lasts until they are done.
pub struct Faults<'a> {
    /// Whom they hit.
    pub cluster: &'a mut ClusterProcess,
    /// What is done.
    pub plan: FaultPlan,
}

/// Runs, judges and reports. What a broken promise is, the report says; errors are what kept the
/// run from taking place.
///
/// # Errors
/// A cluster that is not there, a topic that cannot be had, a history that cannot be written.
pub async fn run(
    plan: &Plan,
    brokers: &Brokers,
    faults: Option<Faults<'_>>,
    terminal: Terminal,
) -> Result<Report, CommandError> {
    let mut dice = Dice::new(plan.seed);
    let first_offsets = prepare(plan, brokers).await?;
    let setting = Setting {
        run: format!("{:08x}", dice.below(1 << 32)),
        topic: plan.topic.to_string(),
        brokers: brokers.urls(),
        first_offsets: first_offsets.clone(),
        idempotent: plan.idempotent,
        committed: plan.acks == "all",
        groups: plan.groups.map_or(0, |groups| groups.groups),
        session_us: plan.groups.map_or(0, |groups| clock::micros(groups.session)),
    };
    let payload = Payload::new(&setting.run, plan.topic.as_str(), plan.value_bytes);
    let (recorder, entries) = Recorder::start();
    let bar = terminal.progress(plan.records.unwrap_or(0), "records");
    let collector = Collector::start(entries, plan.history.as_deref(), bar.clone())?;
    let run = setting.run.clone();
    recorder.record(Entry::Setting(setting));

    let groups = match plan.groups {
        Some(groups) => {
            let read = (&plan.topic, &payload);
            let start = Groups::start(
                groups,
                &run,
                brokers,
                read,
                plan.attempt_timeout,
                (&recorder, &mut dice),
                &first_offsets,
            );
            Some(start.await?)
        }
        None => None,
    };
    let targets = groups.as_ref().map(Groups::targets).unwrap_or_default();
    let (course, go) = watch::channel(Course::Go);
    let mut lanes = write(plan, brokers, &payload, &recorder, go, &mut dice).await?;
    let (stop, going) = watch::channel(false);
    let readers = read(plan, brokers, &payload, &recorder, &first_offsets, going, &mut dice);

    let mut happenings = Vec::new();
    let mut problems = Vec::new();
    let lasting =
        last(plan, (faults, targets), &recorder, collector.acknowledged(), &mut happenings, dice, &bar, terminal);
    tokio::select! {
        lasted = lasting => problems.extend(lasted.err().map(|error| format!("the faults: {error}"))),
        problem = first_to_give_up(&mut lanes) => problems.push(problem),
    }
    let writing_until_us = recorder.now_us();
    course.send_replace(Course::Finish(Instant::now() + plan.settle));
    while let Some(ended) = lanes.join_next().await {
        problems.extend(gave_up(ended));
    }
    problems.extend(health::wait_healthy(brokers, &plan.topic, plan.settle).await.err());
    if let Some(groups) = groups {
        problems.extend(groups.finish(plan.settle).await.err().map(|error| format!("the groups: {error}")));
    }
    stop.send_replace(true);
    drop(readers.join_all().await);
    bar.finish_and_clear();

    let found = last_look::read(brokers, &plan.topic, Some(&payload), &first_offsets, plan.settle).await?;
    found.copies.into_iter().for_each(|copy| recorder.record(Entry::Copy(copy)));
    let unhealthy = (!problems.is_empty()).then(|| problems.join("; "));
    recorder.record(Entry::Ending(Ending { writing_until_us, unhealthy, not_compared: found.not_compared }));
    drop(recorder);
    let history = collector.finish().await?;
    Ok(Report::of(&history, happenings))
}

/// The topic, led everywhere; answers where its partitions end.
pub(crate) async fn prepare(plan: &Plan, brokers: &Brokers) -> Result<Vec<u64>, CommandError> {
    let client = brokers.together()?;
    match client.topic(&plan.topic).await {
        Ok(_) => {}
        Err(error) if error.status() == Some(404) => {
            let known = client.cluster().await?.brokers.len().max(1);
            let replicas = u32::try_from(known).unwrap_or(u32::MAX).min(plan.replication_factor);
            // Everything that is acknowledged has to be found at the end, however long the run is.
            let mut configs = json!({ "retention_ms": null });
            if let Some(bytes) = plan.segment_bytes {
                configs["segment_bytes"] = bytes.into();
                // A message has to fit into a segment.
                let message_bytes = TopicConfig::default().max_message_bytes;
                configs["max_message_bytes"] = message_bytes.min(bytes).into();
            }
            let body = json!({
                "topic_name": plan.topic,
                "partitions_count": plan.partitions,
                "replication_factor": replicas,
                "configs": configs,
            });
            client.create_topic(&body).await?;
        }
        Err(error) => return Err(error.into()),
    }
    brokers.wait_led(&plan.topic, PREPARE_DEADLINE).await?;
    let partitions = client.topic(&plan.topic).await?.partitions.len();
    brokers.end_offsets(&plan.topic, u32::try_from(partitions).unwrap_or(0), PREPARE_DEADLINE).await
}

async fn write(
    plan: &Plan,
    brokers: &Brokers,
    payload: &Payload,
    recorder: &Recorder,
    course: watch::Receiver<Course>,
    dice: &mut Dice,
) -> Result<JoinSet<Result<(), CommandError>>, CommandError> {
    let client = brokers.together()?;
    let partitions = u32::try_from(client.topic(&plan.topic).await?.partitions.len()).unwrap_or(0);
    let batch = if plan.surface == Surface::Publish { 1 } else { plan.batch.max(1) };
    let lanes = u64::from(plan.producers) * u64::from(partitions);
    let pause = match plan.rate {
        0 => Duration::ZERO,
        rate => Duration::from_micros(1_000_000 * batch * lanes / rate),
    };
    let writing = Writing {
        brokers: brokers.clone(),
        topic: plan.topic.clone(),
        payload: payload.clone(),
        batch,
        surface: plan.surface,
        acks: plan.acks,
        attempt_timeout: plan.attempt_timeout,
        pause,
        recorder: recorder.clone(),
    };
    let mut running = JoinSet::new();
    for producer in 0..plan.producers {
        let identity = match plan.idempotent {
            true => Some(writer::identity(&client, PREPARE_DEADLINE).await?),
            false => None,
        };
        for partition in 0..partitions {
            let dice = Dice::new(dice.below(u64::MAX));
            let lane = Lane::new(writing.clone(), (producer, partition), identity, course.clone(), dice);
            running.spawn(lane.run());
        }
    }
    Ok(running)
}

fn read(
    plan: &Plan,
    brokers: &Brokers,
    payload: &Payload,
    recorder: &Recorder,
    first_offsets: &[u64],
    stop: watch::Receiver<bool>,
    dice: &mut Dice,
) -> JoinSet<()> {
    let reading = Reading {
        brokers: brokers.clone(),
        topic: plan.topic.clone(),
        payload: payload.clone(),
        first_offsets: first_offsets.to_vec(),
        attempt_timeout: plan.attempt_timeout,
        recorder: recorder.clone(),
    };
    let mut running = JoinSet::new();
    for _ in 0..plan.readers {
        running.spawn(reader::run(reading.clone(), stop.clone(), Dice::new(dice.below(u64::MAX))));
    }
    running
}

/// Returns when the run is long enough.
#[allow(clippy::too_many_arguments, reason = "the threads of a run meet here")]
async fn last(
    plan: &Plan,
    (faults, targets): (Option<Faults<'_>>, GroupTargets),
    recorder: &Recorder,
    mut acknowledged: watch::Receiver<u64>,
    happenings: &mut Vec<faults::Happening>,
    dice: Dice,
    bar: &indicatif::ProgressBar,
    terminal: Terminal,
) -> Result<(), CommandError> {
    let long_enough = async {
        let enough = async {
            match plan.records {
                // It ends with the run.
                Some(records) => drop(acknowledged.wait_for(|count| *count >= records).await),
                None => std::future::pending().await,
            }
        };
        let over = async {
            match plan.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        if plan.records.is_some() || plan.duration.is_some() {
            tokio::select! {
                () = enough => {}
                () = over => {}
            }
        }
    };
    let faults_done = async {
        let Some(Faults { cluster, plan: faults }) = faults else { return Ok(()) };
        let tell = |happening: faults::Happening| {
            bar.suspend(|| terminal.note(&happening.what));
            happenings.push(happening);
        };
        let runner = FaultRunner::new(cluster, plan.topic.clone(), recorder.clone(), dice, tell);
        runner.with_groups(targets).run(&faults).await
    };
    let ((), done) = tokio::join!(long_enough, faults_done);
    done
}

/// A producer does not end by itself: what it says when it does.
async fn first_to_give_up(lanes: &mut JoinSet<Result<(), CommandError>>) -> String {
    while let Some(ended) = lanes.join_next().await {
        if let Some(problem) = gave_up(ended) {
            return problem;
        }
    }
    std::future::pending().await
}

fn gave_up(ended: Result<Result<(), CommandError>, tokio::task::JoinError>) -> Option<String> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("a producer gave up: {error}")),
        Err(error) => Some(format!("a producer ended: {error}")),
    }
}
