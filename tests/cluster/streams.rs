//! Streams that go on through kills of whatever they need: of brokers that lead their input, their output, their
//! changelog, of all brokers at once, and through the sleep of one that wakes up and thinks that it still leads. Every
//! row comes out once and is what the engine gives for the records of the topic.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use pubg1::{
    client::{Client, stream_reply::StreamReply},
    consumer::{self, Event, Span},
    demo::flights::Flights,
    producer::{OutgoingRecord, Producer, ProducerOptions},
    verify::brokers::{Brokers, Dice},
};
use pubg1_model::{Offset, PartitionId, TopicName, streams::document::StreamDocument};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{
    harness::{BROKERS, TestCluster, size, wait_until},
    stream_oracle::Oracle,
};

const PARTITIONS: u32 = 4;
const MINUTE_MS: i64 = 60_000;
/// Flights in a second; so about two days pass in one.
const RATE: u64 = 2_000;
/// By which time the results have to be there again, after the election: more than a busy machine explains.
const RESUMED_MAX: Duration = Duration::from_secs(20);

/// Flights by origin and scheduled hour: more than half of them are out of order, and some are late. What the partitions
/// have of a group has to meet.
const BY_ORIGIN: &str = "
    CREATE MATERIALIZED VIEW \"by-origin\" WITH (max_out_of_order = '30m', allowed_lateness = '30m', idle_timeout = '1h') AS
    SELECT origin, window_start, COUNT(*) AS flights, SUM(dep_delay) AS minutes, AVG(dep_delay) AS mean,
           QUANTILE(dep_delay, 0.95) AS p95, COUNT(DISTINCT tailnum) AS planes, LAST(dest) AS last_dest
    FROM TUMBLE(flights, scheduled, INTERVAL '1' HOUR)
    WHERE origin IS NOT NULL
    GROUP BY origin, window_start";
/// Sessions of aircraft: each partition by itself.
const BY_PLANE: &str = "
    CREATE MATERIALIZED VIEW \"by-plane\" WITH (max_out_of_order = '2h', idle_timeout = '1h') AS
    SELECT record_key AS plane, window_start, COUNT(*) AS flights, SUM(distance) AS miles
    FROM SESSION(flights, scheduled, INTERVAL '6' HOUR)
    WHERE record_key IS NOT NULL
    GROUP BY record_key, window_start";

/// A cluster with a topic of flights.
struct Airport {
    cluster: TestCluster,
    client: Client,
    topic: TopicName,
}

impl Airport {
    async fn open() -> Self {
        let cluster = TestCluster::start().await;
        let client = cluster.processes.client().expect("URLs");
        let topic: TopicName = "flights".parse().expect("a name");
        let body = json!({
            "topic_name": topic, "partitions_count": PARTITIONS, "replication_factor": 3,
            "configs": { "retention_ms": null },
        });
        client.create_topic(&body).await.expect("created");
        let brokers = Brokers::at(&cluster.processes.urls()).expect("URLs");
        brokers.wait_led(&topic, Duration::from_secs(30)).await.expect("led");
        Self { cluster, client, topic }
    }

    async fn declare(&self, sql: &str) -> StreamDocument {
        let document = pubg1_sql::compile_view(sql).expect("SQL");
        self.client.create_stream(&document, false).await.expect("declared");
        document
    }

    async fn described(&self, document: &StreamDocument) -> StreamReply {
        wait_until("a broker describes the stream", || async { self.client.stream(&document.name).await.ok() }).await
    }

    /// Writes one record to each of these partitions.
    async fn write(&self, partitions: std::ops::Range<u32>, timestamp_ms: i64, value: &Value) {
        let (mut producer, _deliveries) = self.producer().await;
        let value = value.to_string().into_bytes();
        for partition in partitions {
            let record = OutgoingRecord { key: None, value: Some(&value), timestamp_ms };
            producer.send(PartitionId(partition), &record, 0).await.expect("sent");
        }
        producer.finish().await.expect("acknowledged");
    }

    async fn producer(&self) -> (Producer, tokio::sync::mpsc::UnboundedReceiver<pubg1::producer::Delivery>) {
        Producer::start(&self.client, self.topic.clone(), ProducerOptions::default()).await.expect("a producer")
    }

    /// The broker that leads a partition.
    async fn leader(&self, topic: &TopicName, partition: u32) -> u32 {
        wait_until("the partition is led", || async {
            let described = self.client.topic(topic).await.ok()?;
            described.partitions.get(partition as usize)?.leader().map(|broker| broker.0)
        })
        .await
    }

    /// Waits until every partition of these topics is led by a broker that is not `dead`, as one says that is awake.
    async fn elected(&self, topics: &[TopicName], dead: &[u32]) {
        wait_until("every partition is led again", || async {
            for topic in topics {
                let described = self.client.topic(topic).await.ok()?;
                let led = described
                    .partitions
                    .iter()
                    .all(|partition| partition.leader().is_some_and(|leader| !dead.contains(&leader.0)));
                if !led {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// What a broker says of itself, once it answers.
    async fn metrics(&self, broker: u32) -> Option<String> {
        let node = self.cluster.processes.nodes().iter().find(|node| node.id == broker).expect("a broker");
        let answer = reqwest::get(format!("{}/metrics", node.client.base())).await.ok()?;
        answer.text().await.ok()
    }

    /// Waits until a broker that has slept has noticed that its task is another one's: a commit of it was refused, or it
    /// has stopped. Which of them is told.
    async fn has_given_up(&self, broker: u32, task: u32) -> &'static str {
        wait_until("the broker that slept gives its task up", || async {
            match counter(&self.metrics(broker).await?, "pubg1_stream_fenced_total", task) {
                None => Some("has stopped"),
                Some(0) => None,
                Some(_) => Some("was fenced"),
            }
        })
        .await
    }

    /// Waits until every replica of these topics has everything.
    async fn whole(&self, topics: &[TopicName]) {
        wait_until("all replicas are in sync", || async {
            for topic in topics {
                let described = self.client.topic(topic).await.ok()?;
                if !described.partitions.iter().all(pubg1::client::reply::PartitionReply::is_whole) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

/// A counter of a task of the stream by-origin; `None` where the task does not run.
fn counter(metrics: &str, name: &str, task: u32) -> Option<u64> {
    let series = format!("{name}{{stream=\"by-origin\",task=\"{task}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse().ok())
}

/// Flights that come in at a steady rate, until they are told to stop.
struct Arrivals {
    stop: Arc<AtomicBool>,
    latest_ms: Arc<AtomicI64>,
    task: JoinHandle<u64>,
}

impl Arrivals {
    async fn start(airport: &Airport) -> Self {
        let (stop, latest_ms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (mut producer, mut deliveries) = airport.producer().await;
        let (stopped, latest) = (Arc::clone(&stop), Arc::clone(&latest_ms));
        let task = tokio::spawn(async move {
            let flights = Flights::unpack().expect("flights");
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                for _ in 0..RATE / 50 {
                    let record = flights.record(number);
                    let partition = producer.partition_for(record.key.as_deref(), number);
                    let outgoing = OutgoingRecord {
                        key: record.key.as_deref(),
                        value: Some(&record.value),
                        timestamp_ms: record.timestamp_ms,
                    };
                    producer.send(partition, &outgoing, number).await.expect("sent");
                    latest.fetch_max(record.scheduled_ms, Ordering::Relaxed);
                    number += 1;
                }
                producer.send_due().await.expect("sent");
                while deliveries.try_recv().is_ok() {}
            }
            producer.finish().await.expect("everything is acknowledged");
            number
        });
        Self { stop, latest_ms, task }
    }

    fn latest_ms(&self) -> i64 {
        self.latest_ms.load(Ordering::Relaxed)
    }

    /// Ends; how many there were.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("joined")
    }
}

/// Follows an output topic: the latest end of a window among its rows.
fn follow(client: &Client, output: &TopicName) -> (JoinSet<()>, watch::Receiver<i64>) {
    let span = |partition| Span { partition: PartitionId(partition), from: Offset::ZERO, until: None };
    let spans: Vec<Span> = (0..PARTITIONS).map(span).collect();
    let (sender, receiver) = watch::channel(i64::MIN);
    let mut tasks = JoinSet::new();
    let (client, output) = (client.clone(), output.clone());
    tasks.spawn(async move {
        let (_tasks, mut events) = consumer::start(&client, &output, &spans);
        while let Some(event) = events.recv().await {
            if let Event::Batches(run) = event {
                let mut latest = i64::MIN;
                run.each(&mut |record| {
                    // A row's record has the last millisecond of its window.
                    latest = latest.max(record.timestamp_ms);
                    true
                })
                .expect("batches");
                sender.send_if_modified(|seen| latest > std::mem::replace(seen, latest.max(*seen)));
            }
        }
    });
    (tasks, receiver)
}

/// Waits for a row of a window that had not begun at `latest_ms`: it is made of records that were sent after that.
async fn results_after(rows: &mut watch::Receiver<i64>, latest_ms: i64) {
    let waiting = rows.wait_for(|end| *end > latest_ms + 60 * MINUTE_MS);
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("results in time").expect("rows");
}

/// What is killed next: in turn each kind of partition that the streams need, then all brokers.
async fn victims(airport: &Airport, kinds: &[(TopicName, u32)], turn: u64) -> (Vec<u32>, String) {
    let kind = usize::try_from(turn).expect("small") % (kinds.len() + 1);
    let Some((topic, partitions)) = kinds.get(kind) else {
        return ((0..BROKERS).collect(), "all brokers".to_owned());
    };
    let round = u32::try_from(turn).expect("small") / u32::try_from(kinds.len() + 1).expect("few");
    let partition = round % partitions;
    let leader = airport.leader(topic, partition).await;
    (vec![leader], format!("broker {leader}, which leads {topic}-{partition}"))
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "few")]
        let place = (part * times.len().saturating_sub(1) as f64).round() as usize;
        times.get(place).copied().unwrap_or_default().as_millis()
    };
    format!("p50 {} ms, p90 {} ms, max {} ms of {}", at(0.5), at(0.9), at(1.0), times.len())
}

/// The topics that streams need, each with its partitions.
fn needed(streams: &[StreamReply], input: &TopicName) -> Vec<(TopicName, u32)> {
    let internal = |name: &Option<String>| name.as_ref().map(|name| name.parse::<TopicName>().expect("a name"));
    let mut topics = vec![(input.clone(), PARTITIONS)];
    for stream in streams {
        let tasks = u32::try_from(stream.partitions.len() + stream.shards.len()).expect("few");
        let shards = u32::try_from(stream.shards.len()).expect("few");
        topics.push((stream.topics.output.clone(), PARTITIONS));
        topics.extend(internal(&stream.topics.changelog).map(|topic| (topic, tasks.max(1))));
        topics.extend(internal(&stream.topics.partials).map(|topic| (topic, shards.max(1))));
    }
    topics
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_brokers_cost_no_row_and_double_none() {
    let mut airport = Airport::open().await;
    let documents = [airport.declare(BY_ORIGIN).await, airport.declare(BY_PLANE).await];
    let streams = [airport.described(&documents[0]).await, airport.described(&documents[1]).await];
    let kinds = needed(&streams, &airport.topic);
    let topics: Vec<TopicName> = kinds.iter().map(|(topic, _)| topic.clone()).collect();
    let (_following, mut rows) = follow(&airport.client, &documents[0].output);
    let arrivals = Arrivals::start(&airport).await;
    results_after(&mut rows, arrivals.latest_ms()).await;

    let mut dice = Dice::new(size("PUBG1_TEST_SEED", 1));
    let (mut elections, mut resumed, mut restarts) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..size("PUBG1_TEST_STREAM_KILLS", 7) {
        airport.whole(&topics).await;
        // At any moment: about two days of flights arrive in a second.
        let hours = i64::try_from(dice.below(12)).expect("few");
        results_after(&mut rows, arrivals.latest_ms() + hours * 60 * MINUTE_MS).await;
        let (dead, what) = victims(&airport, &kinds, turn).await;
        let (killed, latest_ms) = (Instant::now(), arrivals.latest_ms());
        airport.cluster.processes.kill(&dead).await.expect("killed");
        if dead.len() > 1 {
            airport.cluster.processes.start_missing().await.expect("started");
            airport.elected(&topics, &[]).await;
        } else {
            airport.elected(&topics, &dead).await;
        }
        let elected = killed.elapsed();
        results_after(&mut rows, latest_ms).await;
        let after = killed.elapsed().saturating_sub(elected);
        println!("killed {what}: led again after {elected:?}, results {after:?} later");
        if dead.len() > 1 {
            restarts.push(after);
        } else {
            elections.push(elected);
            resumed.push(after);
        }
        airport.cluster.processes.start_missing().await.expect("started");
    }
    println!("elections: {}", quantiles(&mut elections));
    println!("results after an election: {}", quantiles(&mut resumed));
    println!("results after all brokers were ready again: {}", quantiles(&mut restarts));
    assert!(resumed.last().is_none_or(|longest| *longest < RESUMED_MAX), "{resumed:?}\n{}", airport.cluster.logs());
    println!("{}", conclude(airport, arrivals, &documents).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_wakes_up_changes_nothing() {
    let mut airport = Airport::open().await;
    let documents = [airport.declare(BY_ORIGIN).await, airport.declare(BY_PLANE).await];
    let stream = airport.described(&documents[0]).await;
    let changelog: TopicName = stream.topics.changelog.expect("a changelog").parse().expect("a name");
    let tasks = u32::try_from(stream.partitions.len() + stream.shards.len()).expect("few");
    let (_following, mut rows) = follow(&airport.client, &documents[0].output);
    let arrivals = Arrivals::start(&airport).await;
    results_after(&mut rows, arrivals.latest_ms()).await;
    let seconds = size("PUBG1_TEST_STREAM_PAUSE_SECONDS", 4);
    for turn in 0..u32::try_from(size("PUBG1_TEST_STREAM_PAUSES", 2)).expect("few") {
        // The last task of a stream with two stages merges.
        let task = (tasks - 1 + turn) % tasks;
        let sleeper = airport.leader(&changelog, task).await;
        wait_until("the task runs there", || async {
            let metrics = airport.metrics(sleeper).await?;
            counter(&metrics, "pubg1_stream_commits_total", task).filter(|commits| *commits > 0)
        })
        .await;
        let began = Instant::now();
        airport.cluster.processes.node(sleeper).expect("a broker").pause().expect("paused");
        let latest_ms = arrivals.latest_ms();
        results_after(&mut rows, latest_ms).await;
        println!("broker {sleeper} sleeps; results of others after {:?}", began.elapsed());
        let (awake, mut results) = (began + Duration::from_secs(seconds), 0);
        while let Ok(changed) = tokio::time::timeout_at(awake.into(), rows.changed()).await {
            changed.expect("rows");
            results += 1;
        }
        println!("{results} times results until it wakes up after {:?}", began.elapsed());
        // What it wakes up with is the task of a leader that was replaced.
        airport.elected(&[changelog.clone(), airport.topic.clone()], &[sleeper]).await;
        airport.cluster.processes.node(sleeper).expect("a broker").resume().expect("resumed");
        let ended = airport.has_given_up(sleeper, task).await;
        println!("after {:?} the old task {ended}", began.elapsed());
        results_after(&mut rows, arrivals.latest_ms()).await;
        airport.whole(&[changelog.clone(), airport.topic.clone()]).await;
    }
    println!("{}", conclude(airport, arrivals, &documents).await);
}

/// No flight comes any more; a record of a much later day for each partition closes all windows. Then everything is
/// compared, and what was compared is told.
async fn conclude(airport: Airport, arrivals: Arrivals, documents: &[StreamDocument]) -> String {
    let latest_ms = arrivals.latest_ms();
    let sent = arrivals.end().await;
    let closing_ms = latest_ms + 10 * 24 * 60 * MINUTE_MS;
    airport.write(0..PARTITIONS, closing_ms, &json!({ "scheduled": closing_ms })).await;
    let mut told = vec![format!("{sent} flights")];
    for document in documents {
        let oracle = Oracle::of(&airport.client, document, PARTITIONS).await;
        // Otherwise nothing would be said about what is late.
        assert!(document.name.as_str() != "by-origin" || oracle.late() > 0, "no flight is late");
        told.push(oracle.compare(&airport.client).await);
    }
    airport.cluster.end().await;
    told.join("\n")
}

/// The rows that a stream has given out, by the start of their window: how many records each is made of.
async fn windows(airport: &Airport, document: &StreamDocument) -> BTreeMap<i64, u64> {
    let mut windows = BTreeMap::new();
    for record in crate::stream_oracle::read_topic(&airport.client, &document.output).await {
        let row: Value = serde_json::from_slice(&record.value.expect("a row")).expect("JSON");
        let (start, records) =
            (row["window_start"].as_i64().expect("a time"), row["records"].as_u64().expect("a count"));
        assert!(windows.insert(start, records).is_none(), "a window came out twice: {row}");
    }
    windows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_partitions_hold_no_window_back() {
    let airport = Airport::open().await;
    let document = airport
        .declare(
            "CREATE MATERIALIZED VIEW \"by-second\" WITH (idle_timeout = '1s') AS
             SELECT window_start, COUNT(*) AS n FROM TUMBLE(flights, record_time, INTERVAL '1' SECOND)
             GROUP BY window_start",
        )
        .await;
    // Days that are long past: the clock's time is of no matter but for how much of it passes.
    const BEGIN_MS: i64 = 1_357_000_000_000;
    let value = json!({});

    // Three partitions never had a record.
    airport.write(0..1, BEGIN_MS, &value).await;
    airport.write(0..1, BEGIN_MS + 1_500, &value).await;
    wait_until("a window closes though three partitions are empty", || async {
        windows(&airport, &document).await.contains_key(&BEGIN_MS).then_some(())
    })
    .await;

    // All had some, and three say nothing any more.
    airport.write(0..PARTITIONS, BEGIN_MS + 60_000, &value).await;
    let began = Instant::now();
    airport.write(0..1, BEGIN_MS + 63_500, &value).await;
    wait_until("a window closes though three partitions are silent", || async {
        let windows = windows(&airport, &document).await;
        (windows.get(&(BEGIN_MS + 60_000)) == Some(&u64::from(PARTITIONS))).then_some(())
    })
    .await;
    println!("three partitions silent: closed after {:?}", began.elapsed());

    // Nobody says anything any more: the last window ends all the same.
    wait_until("the last window closes though all partitions are silent", || async {
        windows(&airport, &document).await.contains_key(&(BEGIN_MS + 63_000)).then_some(())
    })
    .await;
    println!("all partitions silent: closed after {:?}", began.elapsed());
    let described = airport.described(&document).await;
    let watermark_ms = described.watermark_ms.expect("a time");
    let passed = i64::try_from(began.elapsed().as_millis()).expect("short");
    assert!(watermark_ms <= BEGIN_MS + 63_500 + passed, "time goes on as the clock does, and is not set to it");

    // It was closed rightly: what comes goes on from there, and nothing was late.
    airport.write(0..PARTITIONS, BEGIN_MS + 3_600_000, &value).await;
    airport.write(0..PARTITIONS, BEGIN_MS + 3_700_000, &value).await;
    wait_until("the windows after the silence", || async {
        let windows = windows(&airport, &document).await;
        (windows.get(&(BEGIN_MS + 3_600_000)) == Some(&u64::from(PARTITIONS))).then_some(())
    })
    .await;
    let records = airport.described(&document).await.records;
    assert_eq!((records.accepted, records.late, records.late_merges), (records.read, 0, 0), "{records:?}");
    airport.cluster.end().await;
}
