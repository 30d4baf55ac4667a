//! What replication costs: four brokers in one process, over the real transport, on real directories.
//!
//! Appends of 64 records of 1 KiB, one replica beside three; then a thousand partitions: until they are led, what they
//! cost while nothing is written, and until they are led again after a broker was stopped. Everything shares this
//! machine, so the numbers are to be compared with each other.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark ends by panicking, and prints what it has measured"
)]

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use pubg1_actors::{Acks, AppendRequest, Broker, BrokerConfig, BrokerHandle, FlushPolicy, NewTopic, PartitionHandle};
use pubg1_metrics::Metrics;
use pubg1_model::{
    BrokerId, PartitionId, TopicName,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord, ValidBatch},
};
use tempfile::TempDir;

const BROKERS: u32 = 4;
const RECORDS: u32 = 64;

fn batch() -> ValidBatch {
    let value = [b'v'; 1024];
    let mut batch = BatchBuilder::new(Compression::None);
    for _ in 0..RECORDS {
        batch.push(&NewRecord { timestamp_ms: 1, value: Some(&value), ..NewRecord::default() }).expect("a record fits");
    }
    batch.finish(None).expect("a batch")
}

struct Cluster {
    brokers: Vec<BrokerHandle>,
    _homes: Vec<TempDir>,
}

impl Cluster {
    async fn start(flush: FlushPolicy) -> Self {
        let ports: Vec<TcpListener> =
            (0..BROKERS).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let address = |port: &TcpListener| port.local_addr().expect("an address").to_string();
        let voters: Vec<(BrokerId, String)> = (0..).map(BrokerId).zip(ports.iter().map(address)).collect();
        drop(ports);
        let homes: Vec<TempDir> = voters.iter().map(|_| tempfile::tempdir().expect("a directory")).collect();
        let start = |((broker, address), home): (&(BrokerId, String), &TempDir)| {
            let mut config = BrokerConfig::new(*broker, home.path(), "http://127.0.0.1:1");
            config.voters.clone_from(&voters);
            config.rpc_listen = Some(address.clone());
            config.rpc_advertised.clone_from(address);
            config.default_topic = None;
            config.flush = flush;
            Broker::start(config, Metrics::new().expect("metrics")).expect("a broker")
        };
        let brokers: Vec<BrokerHandle> = voters.iter().zip(&homes).map(start).collect();
        while !brokers.iter().all(|broker| broker.readiness().is_ready()) {
            pause().await;
        }
        Self { brokers, _homes: homes }
    }

    async fn create(&self, name: &str, partitions: u32, replicas: u32) -> TopicName {
        let name: TopicName = name.parse().expect("a valid name");
        let new = NewTopic {
            name: name.clone(),
            partitions: Some(partitions),
            replication_factor: Some(replicas),
            config: None,
        };
        self.brokers[0].create_topic(new).await.expect("a topic");
        self.led(&name, partitions).await;
        name
    }

    /// Waits until every partition is led by a broker that runs.
    async fn led(&self, topic: &TopicName, partitions: u32) {
        loop {
            let image = self.brokers[0].image();
            let runs = |leader: BrokerId| self.brokers.iter().any(|broker| broker.broker_id() == leader);
            let led = image.topic(topic).map_or(0, |topic| {
                topic.partitions.iter().filter(|partition| partition.leader.is_some_and(runs)).count()
            });
            if led == partitions as usize {
                return;
            }
            pause().await;
        }
    }

    /// The handle of partition 0 on the broker that leads it.
    fn leader(&self, topic: &TopicName) -> PartitionHandle {
        let image = self.brokers[0].image();
        let leader = image.partition(topic, PartitionId(0)).and_then(|partition| partition.leader).expect("a leader");
        self.brokers[leader.0 as usize].partition(topic, PartitionId(0)).expect("a partition")
    }

    async fn end(self) {
        for broker in &self.brokers {
            drop(broker.drain(Duration::from_secs(10)).await);
        }
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

async fn appends(what: &str, flush: FlushPolicy, replicas: u32) {
    let cluster = Cluster::start(flush).await;
    let handle = cluster.leader(&cluster.create("appends", 1, replicas).await);
    let batch = batch();
    for in_flight in [1, 16] {
        let (started, count) = (Instant::now(), 4000_u32);
        let mut times = stream::iter(0..count)
            .map(|_| async {
                let sent = Instant::now();
                let request = AppendRequest { batches: vec![batch.clone()], acks: Acks::All };
                handle.append(request).await.expect("appended");
                sent.elapsed()
            })
            .buffer_unordered(in_flight)
            .collect::<Vec<Duration>>()
            .await;
        times.sort_unstable();
        let rate = f64::from(count * RECORDS) / started.elapsed().as_secs_f64();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{what}, {in_flight:>2} in flight: {rate:>8.0} records/s, p50 {p50:?}, p99 {p99:?}");
    }
    drop(handle);
    cluster.end().await;
}

/// Processor time of this process.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system, in ticks of 10 ms.
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

async fn partitions() {
    let mut cluster = Cluster::start(FlushPolicy::Interval { ms: 1000 }).await;
    let started = Instant::now();
    let topic = cluster.create("partitions", 1000, 3).await;
    println!("1000 partitions of 3 replicas are led {:?} after they were asked for", started.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, started) = (processor_time(), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (processor_time() - before).as_secs_f64() / started.elapsed().as_secs_f64() / f64::from(BROKERS);
    println!("while nothing is written a broker takes {:.1} % of a core", 100.0 * share);
    let stopped = cluster.brokers.pop().expect("the last broker");
    let stop = Instant::now();
    stopped.abort().await;
    drop(stopped);
    let stop_took = stop.elapsed();
    cluster.led(&topic, 1000).await;
    println!("all are led again {:?} after a broker was stopped, which took {stop_took:?}", stop.elapsed() - stop_took);
    cluster.end().await;
}

fn main() {
    let system = actix_rt::System::new();
    system.block_on(async {
        let interval = FlushPolicy::Interval { ms: 1000 };
        appends("interval, 1 replica ", interval, 1).await;
        appends("interval, 3 replicas", interval, 3).await;
        appends("quorum, 1 replica   ", FlushPolicy::Quorum, 1).await;
        appends("quorum, 3 replicas  ", FlushPolicy::Quorum, 3).await;
        partitions().await;
    });
}
