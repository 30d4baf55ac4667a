//! The demo with several brokers: the leader of a partition and a follower are killed while records
//! stream in through changing brokers, both come back, and in the end every replica holds the same, and
//! a window query that ran meanwhile has given the right rows.

use std::time::{Duration, Instant};

use pubg1_model::TopicName;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::{LiveReader, Restart, end_offsets, flights::Flights, load, read_all, report::Report, windows};
use crate::{
    cluster_process::{ClusterLaunch, ClusterProcess},
    error::CommandError,
    producer::{Delivery, Producer, ProducerOptions},
    terminal::{Terminal, grouped},
    verify::{
        availability::{Quantiles, measure},
        brokers::{Brokers, Dice},
        clock::{Recorder, micros},
        faults::{FaultRunner, Happening, Step, Target},
        health::wait_healthy,
        history::{Ending, Entry, History, Outcome, Setting, Write},
        judge::judge_replicas,
        last_look,
    },
};

/// How long the cluster may take to have leaders, and to be well after the last fault.
const WELL_DEADLINE: Duration = Duration::from_secs(60);
const REPLICAS: u32 = 3;

/// What the demo is asked to do with a cluster.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Records to send.
    pub records: u64,
    /// Partitions of the topic.
    pub partitions: u32,
    /// How often a leader and a follower are killed.
    pub kills: u64,
    /// The brokers' flush policy.
    pub flush: String,
    /// How the brokers are started, without the flush policy.
    pub launch: ClusterLaunch,
}

/// What only a cluster has to show.
#[derive(Clone, Debug, Serialize)]
pub struct Failures {
    /// How many brokers there are.
    pub brokers: u32,
    /// What was done to them and what they did next.
    pub events: Vec<String>,
    /// From a kill to the last new leader, as the brokers that were left told it.
    pub failover: Quantiles,
    /// The same until the producer had an acknowledgement by each new leader.
    pub failover_to_clients: Quantiles,
    /// The longest time without acknowledgement in any partition, after each kill.
    pub unavailable: Quantiles,
    /// Copies of partitions that were compared with their leader's.
    pub copies_compared: u64,
    /// Where they differ, or could not be read.
    pub replica_problems: Vec<String>,
    /// Why they were not compared.
    pub not_compared: Option<String>,
}

impl Failures {
    /// Its part of the table.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let times = |of: &Quantiles| match of.count {
            0 => "none".to_owned(),
            1 => format!("{:.0} ms", of.max_ms),
            _ => format!("p50 {:.0}, max {:.0} ms", of.p50_ms, of.max_ms),
        };
        let compared = match &self.not_compared {
            Some(_) => "not compared".to_owned(),
            None => format!("{} of {} compared", grouped(self.replica_problems.len() as u64), self.copies_compared),
        };
        vec![
            ("brokers", self.brokers.to_string()),
            ("replicas that differ", compared),
            ("failover, as the brokers tell it", times(&self.failover)),
            ("failover, as the producer saw it", times(&self.failover_to_clients)),
            ("unavailable after a kill", times(&self.unavailable)),
        ]
    }
}

/// Runs the demo and reports; the brokers are ended whatever happens.
///
/// # Errors
/// Brokers that do not start or come back, and records that they will not take.
pub async fn run(plan: &ClusterPlan, terminal: Terminal) -> Result<Report, CommandError> {
    let flights = Flights::unpack().map_err(CommandError::Failed)?;
    let topic: TopicName =
        "flights".parse().map_err(|error: pubg1_model::InvalidName| CommandError::Failed(error.to_string()))?;
    let mut launch = plan.launch.clone();
    launch.arguments.extend(["--flush".to_owned(), plan.flush.clone()]);
    let started = Instant::now();
    let mut cluster = launch.start().await?;
    let start_ms = started.elapsed().as_millis();
    introduce(&cluster, start_ms, terminal);
    let client = cluster.client()?;
    let brokers = Brokers::at(&cluster.urls())?;
    // Everything that is acknowledged has to be found at the end, however long the run is.
    let body = json!({
        "topic_name": topic,
        "partitions_count": plan.partitions,
        "replication_factor": REPLICAS.min(plan.launch.brokers),
        "configs": { "retention_ms": null },
    });
    client.create_topic(&body).await?;
    brokers.wait_led(&topic, WELL_DEADLINE).await?;
    windows::declare(&client).await?;

    let bar = terminal.progress(plan.records, "records");
    let reader = LiveReader::start(&client, &topic, plan.partitions);
    let (acknowledged, watched) = watch::channel(0);
    let producer = Producer::start(&client, topic.clone(), ProducerOptions::default()).await?;
    let (recorder, entries) = Recorder::start();
    let mut happenings = Vec::new();
    let tell = |happening: Happening| {
        bar.suspend(|| terminal.note(&happening.what));
        happenings.push(happening);
    };
    let dice = Dice::new(Dice::any_seed());
    let runner = FaultRunner::new(&mut cluster, topic.clone(), recorder.clone(), dice, tell);
    let loading = load(producer, plan.records, &flights, &acknowledged, &bar, Some(recorder.clone()));
    let (load, killed_at) = tokio::try_join!(loading, kill_and_restart(plan, runner, watched))?;
    let writing_until_us = recorder.now_us();
    bar.finish_and_clear();

    let well = wait_healthy(&brokers, &topic, WELL_DEADLINE).await;
    well.map_err(|problem| CommandError::Failed(format!("the cluster does not get well: {problem}")))?;
    let ends = end_offsets(&client, &topic, plan.partitions).await?;
    let live = reader.until(&ends).await?;
    let reading = Instant::now();
    let found = read_all(&client, &topic, &ends).await?;
    let reading = reading.elapsed();
    let firsts = vec![0; usize::try_from(plan.partitions).unwrap_or(0)];
    let copies = last_look::read(&brokers, &topic, None, &firsts, WELL_DEADLINE).await?;
    let windows = windows::check(&client, &topic, &flights, load.sent).await?;

    let restarts = killed_at.into_iter().zip(happenings.iter().filter_map(|happening| happening.restart));
    let restarts = restarts.map(|(acknowledged, ready_after)| Restart { acknowledged, ready_after }).collect();
    let mut report = Report::new(&plan.flush, &load, &live, &found, restarts, start_ms, reading);
    drop((load, recorder));
    let history = history(entries, copies, firsts, writing_until_us).await;
    report.cluster = Some(failures(plan, &history, happenings));
    report.windows = Some(windows);
    cluster.end().await?;
    Ok(report)
}

fn introduce(cluster: &ClusterProcess, start_ms: u128, terminal: Terminal) {
    for node in cluster.nodes() {
        let pid = node.pid().unwrap_or(0);
        terminal.note(&format!("broker {} on {}: process {pid}", node.id, node.client.base()));
    }
    terminal.note(&format!("{} brokers, ready in {start_ms} ms", cluster.nodes().len()));
}

/// A leader at a third of the way, a follower at two thirds, as often as the plan says. Answers how
/// much was acknowledged at each kill.
async fn kill_and_restart(
    plan: &ClusterPlan,
    mut runner: FaultRunner<'_>,
    mut acknowledged: watch::Receiver<u64>,
) -> Result<Vec<u64>, CommandError> {
    let targets = [Target::Leader(None), Target::Follower(None)];
    let kills = plan.kills * targets.len() as u64;
    let mut killed_at = Vec::new();
    for (kill, target) in (1..=kills).zip(targets.into_iter().cycle()) {
        let at = plan.records / (kills + 1) * kill;
        let count = match acknowledged.wait_for(|count| *count >= at).await {
            Ok(count) => (*count).min(plan.records),
            // The producer failed, and says why.
            Err(_) => return Ok(killed_at),
        };
        killed_at.push(count);
        runner.step(Step::Kill(target)).await?;
        runner.step(Step::Restart).await?;
    }
    Ok(killed_at)
}

/// Puts an acknowledgement down as a write, so that gaps are measured as the checker does it.
pub(super) fn record(recorder: &Recorder, delivery: &Delivery) {
    let Some(base) = delivery.base_offset else { return };
    let end_us = recorder.us_at(delivery.at);
    recorder.record(Entry::Write(Write {
        producer: 0,
        partition: delivery.partition.0,
        number: base.get(),
        count: delivery.tags.len() as u64,
        broker: 0,
        due_us: None,
        start_us: end_us.saturating_sub(micros(delivery.latency)),
        end_us,
        outcome: Outcome::Acknowledged {
            offset: base.get(),
            epoch: delivery.leader.map(|(_, epoch)| epoch.get()),
            leader: delivery.leader.map(|(broker, _)| broker.0),
            duplicate: delivery.duplicate,
        },
    }));
}

async fn history(
    mut entries: mpsc::UnboundedReceiver<Entry>,
    found: last_look::Found,
    first_offsets: Vec<u64>,
    writing_until_us: u64,
) -> History {
    let mut history = History { setting: Setting { first_offsets, ..Setting::default() }, ..History::default() };
    while let Some(entry) = entries.recv().await {
        history.push(entry);
    }
    history.copies = found.copies;
    history.ending = Ending { writing_until_us, unhealthy: None, not_compared: found.not_compared };
    history
}

fn failures(plan: &ClusterPlan, history: &History, happenings: Vec<Happening>) -> Failures {
    let measured = measure(history);
    let verdict = judge_replicas(history);
    let after_kills = measured.faults.iter().map(|fault| Duration::from_secs_f64(fault.unavailable_ms / 1000.0));
    Failures {
        brokers: plan.launch.brokers,
        failover: Quantiles::of(happenings.iter().filter_map(|happening| happening.succession)),
        failover_to_clients: measured.failover,
        unavailable: Quantiles::of(after_kills),
        copies_compared: verdict.copies_compared,
        replica_problems: verdict.examples.into_iter().map(|finding| finding.what).collect(),
        not_compared: history.ending.not_compared.clone(),
        events: happenings.into_iter().map(|happening| happening.what).collect(),
    }
}
