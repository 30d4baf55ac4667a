//! The demo: real records, brokers that are killed in the middle, and an account of every
//! acknowledged record. With several brokers see [`cluster`]; here is what a lone one has to show.

pub mod broker_process;
pub mod checker;
pub mod cluster;
pub mod flights;
pub mod report;
pub mod windows;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use pubg1_model::{Offset, PartitionId, TopicName};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::{
    client::Client,
    consumer::{self, Event, Span},
    error::CommandError,
    producer::{Delivery, OutgoingRecord, Producer, ProducerOptions},
    terminal::Terminal,
    verify::clock::Recorder,
};
use broker_process::BrokerProcess;
pub use broker_process::Launch;
use checker::{Ledger, Sighting};
use flights::Flights;
use report::Report;

/// How long the live reader and the final one may take to reach the end.
const READ_DEADLINE: Duration = Duration::from_secs(60);
/// Longer latencies count as this one.
const LATENCY_US_MAX: u64 = 600_000_000;
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// After so many records the producer goes on through other brokers, if there are several.
const RECORDS_PER_BROKER: u64 = 50_000;

/// What the demo is asked to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Records to send.
    pub records: u64,
    /// Partitions of the topic.
    pub partitions: u32,
    /// The broker is killed when so many records are acknowledged; in rising order.
    pub kill_at: Vec<u64>,
    /// Kill it once more while it starts, each time.
    pub kill_while_starting: bool,
    /// The broker's flush policy.
    pub flush: String,
    /// How the broker is started, without the flush policy.
    pub launch: Launch,
}

impl Plan {
    /// Kills at equal distances.
    #[must_use]
    pub fn even_kills(records: u64, kills: u64) -> Vec<u64> {
        (1..=kills).map(|kill| records / (kills + 1) * kill).collect()
    }
}

/// Runs the demo and reports; the broker is ended whatever happens.
///
/// # Errors
/// A broker that does not start or come back, and records that it will not take.
pub async fn run(plan: &Plan, terminal: Terminal) -> Result<Report, CommandError> {
    let flights = Arc::new(Flights::unpack().map_err(CommandError::Failed)?);
    let topic: TopicName =
        "flights".parse().map_err(|error: pubg1_model::InvalidName| CommandError::Failed(error.to_string()))?;
    let mut launch = plan.launch.clone();
    launch.arguments.extend(["--flush".to_owned(), plan.flush.clone()]);
    let started = Instant::now();
    let mut broker = launch.start("127.0.0.1:0").await?;
    let client = Client::new(broker.url())?;
    broker.wait_ready(&client, READY_DEADLINE).await?;
    let start_ms = started.elapsed().as_millis();
    terminal.note(&format!(
        "broker {} on {}, data in {}, ready in {start_ms} ms",
        broker.pid(),
        broker.url(),
        plan.launch.data_dir.display()
    ));
    // Everything that is acknowledged has to be found at the end, however long the run is.
    let body = json!({ "topic_name": topic, "partitions_count": plan.partitions, "configs": { "retention_ms": null } });
    client.create_topic(&body).await?;

    let bar = terminal.progress(plan.records, "records");
    let reader = LiveReader::start(&client, &topic, plan.partitions);
    let (acknowledged, watched) = watch::channel(0);
    // Before the first kill: asking for an identity is not repeated.
    let producer = Producer::start(&client, topic.clone(), ProducerOptions::default()).await?;
    let loading = load(producer, plan.records, &flights, &acknowledged, &bar, None);
    let killing = kill_and_restart(plan, &launch, &client, &mut broker, watched, &bar);
    let (load, restarts) = tokio::try_join!(loading, killing)?;
    bar.finish_and_clear();

    let ends = end_offsets(&client, &topic, plan.partitions).await?;
    let live = reader.until(&ends).await?;
    let reading = Instant::now();
    let found = read_all(&client, &topic, &ends).await?;
    let report = Report::new(&plan.flush, &load, &live, &found, restarts, start_ms, reading.elapsed());
    broker.end().await?;
    Ok(report)
}

/// What the producer saw.
pub struct Loaded {
    ledger: Ledger,
    sent: u64,
    value_bytes: u64,
    duration: Duration,
    latency_us: Histogram<u64>,
    repeated: u64,
    /// Where deliveries are put down for the measurement of gaps.
    recorder: Option<Recorder>,
}

async fn load(
    (mut producer, mut deliveries): (Producer, mpsc::UnboundedReceiver<Delivery>),
    records: u64,
    flights: &Flights,
    acknowledged: &watch::Sender<u64>,
    bar: &ProgressBar,
    recorder: Option<Recorder>,
) -> Result<Loaded, CommandError> {
    let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
        .map_err(|error| CommandError::Failed(format!("no histogram: {error}")))?;
    let begun = Instant::now();
    let mut loaded = Loaded {
        ledger: Ledger::default(),
        sent: 0,
        value_bytes: 0,
        duration: Duration::ZERO,
        latency_us,
        repeated: 0,
        recorder,
    };
    for number in 0..records {
        let record = flights.record(number);
        let partition = producer.partition_for(record.key.as_deref(), number);
        let outgoing = OutgoingRecord {
            key: record.key.as_deref(),
            value: Some(&record.value),
            timestamp_ms: record.timestamp_ms,
        };
        let tag = checker::fingerprint(outgoing.key, outgoing.value);
        producer.send(partition, &outgoing, tag).await?;
        loaded.sent += 1;
        loaded.value_bytes += record.value.len() as u64;
        if number % RECORDS_PER_BROKER == RECORDS_PER_BROKER - 1 {
            producer.change_brokers();
        }
        if number % 256 == 0 {
            while let Ok(delivery) = deliveries.try_recv() {
                loaded.take(&delivery, acknowledged, bar);
            }
        }
    }
    let finishing = producer.finish();
    tokio::pin!(finishing);
    loop {
        tokio::select! {
            Some(delivery) = deliveries.recv() => loaded.take(&delivery, acknowledged, bar),
            finished = &mut finishing => break finished?,
        }
    }
    while let Ok(delivery) = deliveries.try_recv() {
        loaded.take(&delivery, acknowledged, bar);
    }
    loaded.duration = begun.elapsed();
    // Whoever waits for a count that is not reached any more may stop.
    acknowledged.send_replace(u64::MAX);
    Ok(loaded)
}

impl Loaded {
    fn take(&mut self, delivery: &Delivery, acknowledged: &watch::Sender<u64>, bar: &ProgressBar) {
        let records = delivery.tags.len() as u64;
        if let Some(base) = delivery.base_offset {
            for (offset, tag) in (base.get()..).zip(&delivery.tags) {
                self.ledger.acknowledge(delivery.partition, offset, *tag);
            }
        }
        self.repeated += if delivery.duplicate { records } else { 0 };
        let us = u64::try_from(delivery.latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record_n(us, records);
        if let Some(recorder) = &self.recorder {
            cluster::record(recorder, delivery);
        }
        let total = self.ledger.acknowledged();
        acknowledged.send_replace(total);
        bar.set_position(total);
    }
}

/// One kill and what it cost.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// Records acknowledged when the broker was killed.
    pub acknowledged: u64,
    /// From starting the process to `/readyz` saying yes.
    pub ready_after: Duration,
}

async fn kill_and_restart(
    plan: &Plan,
    launch: &Launch,
    client: &Client,
    broker: &mut BrokerProcess,
    mut acknowledged: watch::Receiver<u64>,
    bar: &ProgressBar,
) -> Result<Vec<Restart>, CommandError> {
    let mut restarts = Vec::new();
    let http = client.base().trim_start_matches("http://");
    for at in &plan.kill_at {
        let count = match acknowledged.wait_for(|count| count >= at).await {
            Ok(count) => (*count).min(plan.records),
            // The producer failed, and says why.
            Err(_) => return Ok(restarts),
        };
        bar.set_message(format!("kill -9 {}", broker.pid()));
        broker.kill().await?;
        if plan.kill_while_starting {
            launch.start(http).await?.kill().await?;
        }
        let begun = Instant::now();
        *broker = launch.start(http).await?;
        broker.wait_ready(client, READY_DEADLINE).await?;
        let ready_after = begun.elapsed();
        bar.set_message(format!("broker {} ready again after {} ms", broker.pid(), ready_after.as_millis()));
        restarts.push(Restart { acknowledged: count, ready_after });
    }
    Ok(restarts)
}

async fn end_offsets(client: &Client, topic: &TopicName, partitions: u32) -> Result<Vec<Offset>, CommandError> {
    let mut ends = Vec::new();
    for partition in 0..partitions {
        ends.push(client.offsets(topic, PartitionId(partition)).await?.end_offset);
    }
    Ok(ends)
}

/// Reads the topic while it is written, and through the broker's restart.
struct LiveReader {
    task: tokio::task::JoinHandle<Result<Sighting, CommandError>>,
    ends: watch::Sender<Option<Vec<Offset>>>,
}

impl LiveReader {
    fn start(client: &Client, topic: &TopicName, partitions: u32) -> Self {
        let from_zero = |partition| Span { partition: PartitionId(partition), from: Offset::ZERO, until: None };
        let spans: Vec<Span> = (0..partitions).map(from_zero).collect();
        let (client, topic) = (client.clone(), topic.clone());
        let (ends, known) = watch::channel(None);
        let task = tokio::spawn(async move {
            let (_tasks, events) = consumer::start(&client, &topic, &spans);
            follow(events, known).await
        });
        Self { task, ends }
    }

    /// What it saw when it has come to these ends.
    async fn until(self, ends: &[Offset]) -> Result<Sighting, CommandError> {
        self.ends.send_replace(Some(ends.to_vec()));
        match tokio::time::timeout(READ_DEADLINE, self.task).await {
            Ok(Ok(sighting)) => sighting,
            Ok(Err(error)) => Err(CommandError::Failed(format!("the reader failed: {error}"))),
            Err(_) => Err(CommandError::Failed("the reader did not reach the end of the topic".to_owned())),
        }
    }
}

async fn follow(
    mut events: mpsc::Receiver<Event>,
    mut ends: watch::Receiver<Option<Vec<Offset>>>,
) -> Result<Sighting, CommandError> {
    let mut sighting = Sighting::default();
    let mut ends_known = true;
    loop {
        if ends.borrow().as_ref().is_some_and(|ends| sighting.reaches(ends)) {
            return Ok(sighting);
        }
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => sighting.take(event)?,
                None => return Ok(sighting),
            },
            changed = ends.changed(), if ends_known => ends_known = changed.is_ok(),
        }
    }
}

/// Reads the whole topic once more, from its first record.
async fn read_all(client: &Client, topic: &TopicName, ends: &[Offset]) -> Result<Sighting, CommandError> {
    let spans: Vec<Span> = (0..)
        .zip(ends)
        .map(|(partition, end)| Span { partition: PartitionId(partition), from: Offset::ZERO, until: Some(*end) })
        .collect();
    let mut sighting = Sighting::default();
    let reading = async {
        let (_tasks, mut events) = consumer::start(client, topic, &spans);
        while let Some(event) = events.recv().await {
            sighting.take(event)?;
        }
        Ok::<(), CommandError>(())
    };
    match tokio::time::timeout(READ_DEADLINE, reading).await {
        Ok(read) => read?,
        Err(_) => return Err(CommandError::Failed("reading everything back took too long".to_owned())),
    }
    Ok(sighting)
}

impl Sighting {
    /// Notes what a reader reports.
    ///
    /// # Errors
    /// Records that cannot be read, or were deleted.
    pub fn take(&mut self, event: Event) -> Result<(), CommandError> {
        match event {
            Event::Batches(run) => {
                let decoded = run.each(&mut |record| {
                    let fingerprint = checker::fingerprint(record.key, record.value);
                    self.see(run.partition, record.offset.get(), fingerprint);
                    true
                });
                decoded.map_err(|error| CommandError::Failed(format!("partition {}: {error}", run.partition)))
            }
            Event::Failed(_, error) => Err(error.into()),
            Event::Skipped { partition, from, to } => {
                Err(CommandError::Failed(format!("partition {partition}: offsets {from} to {to} are gone")))
            }
            Event::Ended(_) | Event::Waiting(_) | Event::Disturbed(..) => Ok(()),
        }
    }
}

/// The program that is running, to be run again as a broker.
///
/// # Errors
/// [`CommandError::Failed`] when the system does not say which it is.
pub fn this_program() -> Result<PathBuf, CommandError> {
    std::env::current_exe().map_err(|error| CommandError::Failed(format!("cannot find this program's file: {error}")))
}

/// The last lines of a broker's log, for an error message.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
