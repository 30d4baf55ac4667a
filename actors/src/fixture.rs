//! What the tests of this crate share: brokers on temporary directories, batches, conditions to wait for.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use pubg1_metrics::Metrics;
use pubg1_model::{
    BrokerId, LeaderEpoch, Offset, PartitionId, ProducerId, TopicName,
    compression::Compression,
    record_batch::{BatchBuilder, BatchIter, NewRecord, ProducerIdentity, ValidBatch},
};
use pubg1_model::{cluster::Incarnation, replication::StorageId};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::{
    Acks, AppendError, AppendReply, AppendRequest, Broker, BrokerConfig, BrokerHandle, PartitionHandle,
    PartitionStatus, PartitionView, RestartPolicy,
    admission::Admission,
    fatal::Fatal,
    flusher::{BlockingPool, BlockingThreads},
    forward::Tails,
    node::{NodeContext, Phase},
    page_cache::WrittenPages,
    partition::counting,
    replica_states::ReplicaStates,
    replicator::{Sessions, Sources},
    rpc::Rpc,
};

/// A directory on which brokers are started one after the other.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn config(&self) -> BrokerConfig {
        let mut config = BrokerConfig::new(BrokerId(0), self.dir.path(), "http://127.0.0.1:8000");
        config.restart = RestartPolicy {
            restarts_max: 3,
            window: Duration::from_secs(600),
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(2),
        };
        config
    }

    /// A broker with the default configuration, ready.
    pub(crate) async fn start(&self) -> BrokerHandle {
        self.start_with(|_| ()).await
    }

    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut BrokerConfig)) -> BrokerHandle {
        let mut config = self.config();
        change(&mut config);
        let broker = Broker::start(config, Metrics::new().unwrap()).unwrap();
        ready(&broker).await;
        broker
    }
}

/// The shared parts of a broker without its actors, and the threads behind them in the order in which they end.
pub(crate) fn bare_node(config: BrokerConfig) -> (Arc<NodeContext>, Vec<BlockingThreads>) {
    let (fatal, mut threads) = (Fatal::new(), Vec::new());
    let mut pool = |name: &str, count| {
        let (pool, running) = BlockingPool::start(name, count, &fatal).unwrap();
        threads.push(running);
        pool
    };
    let (flushers, workers, cleaner, metadata) = (pool("flush", 2), pool("work", 2), pool("clean", 1), pool("meta", 1));
    let writer = pool("state", 1);
    let written_pages = WrittenPages::new(config.page_cache_bytes, pool("cache", 1));
    let boot = Some("this boot".to_owned());
    let states = ReplicaStates::open(&config.data_dir, counting(config.flush), boot, writer, &fatal).unwrap();
    let node = Arc::new(NodeContext {
        cluster_id: "c".to_owned(),
        incarnation: Incarnation::from_bytes(*Uuid::new_v4().as_bytes()),
        storage: StorageId::from_bytes([config.broker_id.0.to_be_bytes()[3]; 16]),
        registration: OnceLock::new(),
        rpc: Rpc::new(config.broker_id, Vec::new()),
        admission: Admission::new(config.admission),
        openings: Arc::new(Semaphore::new(1)),
        config,
        metrics: Metrics::new().unwrap(),
        fatal,
        flushers,
        workers,
        cleaner,
        metadata,
        written_pages,
        states,
        sources: Sources::default(),
        sessions: Sessions::default(),
        tails: Tails::default(),
        phase: watch::Sender::new(Phase::Starting),
        obstacle: watch::Sender::new(None),
        table: Default::default(),
        removals: Arc::default(),
        resigned: watch::Sender::new(0),
        reasons: crate::broker::KnownReasons::default(),
        started_at: std::time::Instant::now(),
        clock_origin: tokio::time::Instant::now(),
    });
    (node, threads)
}

/// Nothing here takes long; a test that hangs fails instead.
pub(crate) async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), step).await.expect("the condition never came")
}

/// Waits for a condition that nothing announces.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    within(async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while !condition() {
            looks.tick().await;
        }
    })
    .await;
}

/// Lets time pass: the pause between two looks at a condition.
pub(crate) async fn pass(time: Duration) {
    tokio::time::timeout(time, std::future::pending::<()>()).await.expect_err("it never ends by itself");
}

pub(crate) async fn ready(broker: &BrokerHandle) {
    let mut phases = broker.node().phase.subscribe();
    within(phases.wait_for(|phase| *phase == Phase::Ready)).await.unwrap();
}

pub(crate) fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

/// A partition of the default topic.
pub(crate) fn partition(broker: &BrokerHandle, number: u32) -> PartitionHandle {
    broker.partition(&topic("pubg1"), PartitionId(number)).unwrap()
}

/// Waits until the partition's view fulfils a condition.
pub(crate) async fn seen(partition: &PartitionHandle, condition: impl Fn(&PartitionView) -> bool) -> PartitionView {
    let slot = partition.slot();
    let mut views = slot.published.subscribe();
    within(views.wait_for(|published| condition(&published.view))).await.unwrap().view.clone()
}

/// Waits until the partition leads in an epoch after `epoch`.
pub(crate) async fn leads_after(partition: &PartitionHandle, epoch: LeaderEpoch) -> PartitionView {
    seen(partition, |view| view.status == PartitionStatus::Leader && view.leader_epoch > epoch).await
}

/// A batch with these values, the timestamps counting up from 1000.
pub(crate) fn batch(values: &[&str]) -> ValidBatch {
    build(values, None)
}

/// A batch of an idempotent producer.
pub(crate) fn idempotent(values: &[&str], producer: ProducerId, sequence: i32) -> ValidBatch {
    build(values, Some(ProducerIdentity { id: producer, epoch: 0, sequence }))
}

/// A batch with one record that has a key.
pub(crate) fn keyed(key: &str, value: &str) -> ValidBatch {
    let mut batch = BatchBuilder::new(Compression::None);
    let record = NewRecord { key: Some(key.as_bytes()), value: Some(value.as_bytes()), ..NewRecord::default() };
    batch.push(&record).unwrap();
    batch.finish(None).unwrap()
}

fn build(values: &[&str], producer: Option<ProducerIdentity>) -> ValidBatch {
    let mut batch = BatchBuilder::new(Compression::None);
    for (timestamp_ms, value) in (1000..).zip(values) {
        batch.push(&NewRecord { timestamp_ms, value: Some(value.as_bytes()), ..NewRecord::default() }).unwrap();
    }
    batch.finish(producer).unwrap()
}

pub(crate) async fn append(partition: &PartitionHandle, batch: ValidBatch) -> Result<AppendReply, AppendError> {
    append_with(partition, batch, Acks::All).await
}

pub(crate) async fn append_with(
    partition: &PartitionHandle,
    batch: ValidBatch,
    acks: Acks,
) -> Result<AppendReply, AppendError> {
    within(partition.append(AppendRequest { batches: vec![batch], acks })).await
}

/// Every committed record: its offset and value.
pub(crate) fn records(partition: &PartitionHandle) -> Vec<(u64, String)> {
    let mut out = Vec::new();
    let mut next = partition.view().log_start_offset;
    loop {
        let fetched = partition.slot().read(next, 1024 * 1024).unwrap();
        if fetched.is_empty() {
            assert_eq!(next, fetched.high_watermark);
            return out;
        }
        for batch in fetched.runs.iter().flat_map(|run| BatchIter::new(run)) {
            let decoded = batch.unwrap().decode(1024 * 1024).unwrap();
            for record in decoded.records() {
                let record = record.unwrap();
                if record.offset >= next {
                    out.push((record.offset.get(), String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
                }
            }
        }
        next = fetched.next_offset;
    }
}

/// The values of every committed record, which must lie at the offsets 0, 1, 2, …
pub(crate) fn values(partition: &PartitionHandle) -> Vec<String> {
    let records = records(partition);
    for (expected, (offset, _)) in records.iter().enumerate() {
        assert_eq!(*offset, u64::try_from(expected).unwrap());
    }
    records.into_iter().map(|(_, value)| value).collect()
}

pub(crate) const fn offset(number: u64) -> Offset {
    Offset::new(number)
}
