//! What the actor costs: single-record batches through a handle, beside the log they end in.
//!
//! `direct` is `PartitionLog::append` on one thread, the limit. `handle` sends the same batches through a
//! broker with 64 appends, or one, in flight; `flush = interval`, `acks = all`.
#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark ends by panicking; criterion's macros make functions"
)]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{StreamExt, stream};
use pubg1_actors::{Acks, AppendRequest, Broker, BrokerConfig, BrokerHandle, FlushPolicy, PartitionHandle};
use pubg1_metrics::Metrics;
use pubg1_model::{
    BrokerId, LeaderEpoch, PartitionId,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord, ValidBatch},
    topic::TopicConfig,
};
use pubg1_storage::PartitionLog;

const VALUE_BYTES: usize = 100;

fn batch() -> ValidBatch {
    let value = [b'v'; VALUE_BYTES];
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(&NewRecord { timestamp_ms: 1, value: Some(&value), ..NewRecord::default() }).expect("a record fits");
    batch.finish(None).expect("a batch of one record")
}

fn config() -> TopicConfig {
    // Small enough that a long run does not fill the disk.
    TopicConfig { retention_bytes: Some(256 * 1024 * 1024), ..TopicConfig::default() }
}

async fn ready(broker: &BrokerHandle) -> PartitionHandle {
    let topic = "pubg1".parse().expect("a valid name");
    loop {
        if broker.readiness().is_ready() {
            return broker.partition(&topic, PartitionId(0)).expect("the default topic is there");
        }
        tokio::task::yield_now().await;
    }
}

async fn append(partition: &PartitionHandle, batch: &ValidBatch, count: u64, in_flight: usize) -> Duration {
    let started = Instant::now();
    stream::iter(0..count)
        .map(|_| partition.append(AppendRequest { batches: vec![batch.clone()], acks: Acks::All }))
        .buffer_unordered(in_flight)
        .for_each(|reply| async {
            reply.expect("appended");
        })
        .await;
    started.elapsed()
}

fn appends(criterion: &mut Criterion) {
    let batch = batch();
    let mut group = criterion.benchmark_group("append_single_record");
    group.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(3));

    group.bench_function("direct", |bencher| {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut log, _) = PartitionLog::open(dir.path(), &config(), 0).expect("an empty log");
        let epoch = LeaderEpoch::new(1);
        log.begin_epoch(epoch).expect("the first epoch");
        bencher.iter(|| log.append(&batch, epoch, 1).expect("appended"));
    });

    let system = actix_rt::System::new();
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker_config = BrokerConfig::new(BrokerId(0), dir.path(), "http://127.0.0.1:1");
    broker_config.flush = FlushPolicy::Interval { ms: 1000 };
    broker_config.topic_defaults = config();
    let start = async { Broker::start(broker_config, Metrics::new().expect("metrics")).expect("a broker") };
    let broker = system.block_on(start);
    let partition = system.block_on(ready(&broker));
    for in_flight in [1, 64] {
        group.bench_function(format!("handle/{in_flight}"), |bencher| {
            bencher.iter_custom(|count| system.block_on(append(&partition, &batch, count, in_flight)));
        });
    }
    group.finish();
    drop(partition);
    system.block_on(broker.drain(Duration::from_secs(10)));
}

criterion_group!(benches, appends);
criterion_main!(benches);
