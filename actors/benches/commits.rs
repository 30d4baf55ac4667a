//! What committing an offset costs, beside plain appends of the same bytes to the same partition.
//!
//! `append` sends the record of a commit to the group's partition of the offsets topic, as any producer would; `commit`
//! lets the coordinator do it, with all that it checks and keeps. One broker, `acks = all`, with one or 64 requests in
//! flight; with 64 the coordinator puts several commits into one append, which nobody does for a producer.
#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark ends by panicking; criterion's macros make functions"
)]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{StreamExt, stream};
use pubg1_actors::{
    Acks, AppendRequest, Broker, BrokerConfig, BrokerHandle, FlushPolicy, OffsetToCommit, PartitionHandle,
};
use pubg1_metrics::Metrics;
use pubg1_model::{
    BrokerId, GroupId, Offset, PartitionId, TopicName, TopicPartition,
    compression::Compression,
    offset_commit::{OffsetCommitKey, OffsetCommitValue},
    record_batch::{BatchBuilder, NewRecord, ValidBatch},
};

fn topic() -> TopicName {
    "pubg1".parse().expect("a valid name")
}

fn group() -> GroupId {
    "mail".parse().expect("a valid name")
}

fn place() -> TopicPartition {
    TopicPartition { topic: topic(), partition: PartitionId(0) }
}

async fn ready(broker: &BrokerHandle) {
    while !broker.readiness().is_ready() {
        tokio::task::yield_now().await;
    }
}

async fn commit(broker: &BrokerHandle, offset: u64) {
    let commit =
        OffsetToCommit { partition: place(), offset: Offset::new(offset), leader_epoch: None, metadata: String::new() };
    let groups = broker.groups();
    while let Err(error) = groups.commit_simply(&group(), vec![commit.clone()]).await {
        assert!(error.is_retriable(), "{error}");
    }
}

async fn commits(broker: &BrokerHandle, count: u64, in_flight: usize) -> Duration {
    let started = Instant::now();
    stream::iter(0..count)
        .map(|offset| commit(broker, offset))
        .buffer_unordered(in_flight)
        .for_each(|()| async {})
        .await;
    started.elapsed()
}

async fn appends(partition: &PartitionHandle, batch: &ValidBatch, count: u64, in_flight: usize) -> Duration {
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

/// The partition of the offsets topic that grows when the group commits.
async fn partition_of_group(broker: &BrokerHandle) -> PartitionHandle {
    commit(broker, 0).await;
    let offsets: TopicName = "__consumer_offsets".parse().expect("a valid name");
    for number in 0.. {
        let partition = broker.partition(&offsets, PartitionId(number)).expect("one of them has grown");
        if partition.leader_view().await.expect("led here").high_watermark > Offset::new(0) {
            return partition;
        }
    }
    unreachable!("there are not so many partitions")
}

/// The record that the coordinator writes for such a commit.
fn batch() -> ValidBatch {
    let key = OffsetCommitKey { group: group(), topic_partition: place() }.encode().expect("a key");
    let value = OffsetCommitValue {
        offset: Offset::new(1),
        leader_epoch: None,
        metadata: String::new(),
        commit_timestamp_ms: 1_767_225_600_000,
    };
    let value = value.encode().expect("a value");
    let mut batch = BatchBuilder::new(Compression::None);
    let record =
        NewRecord { timestamp_ms: 1_767_225_600_000, key: Some(&key), value: Some(&value), ..NewRecord::default() };
    batch.push(&record).expect("a record fits");
    batch.finish(None).expect("a batch of one record")
}

fn beside_each_other(criterion: &mut Criterion) {
    let system = actix_rt::System::new();
    for (name, flush) in [("interval", FlushPolicy::Interval { ms: 1000 }), ("quorum", FlushPolicy::Quorum)] {
        let mut measured = criterion.benchmark_group(format!("commit_offset/{name}"));
        measured.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(3));
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = BrokerConfig::new(BrokerId(0), dir.path(), "http://127.0.0.1:1");
        config.flush = flush;
        let start = async { Broker::start(config, Metrics::new().expect("metrics")).expect("a broker") };
        let broker = system.block_on(start);
        system.block_on(ready(&broker));
        let partition = system.block_on(partition_of_group(&broker));
        let batch = batch();
        for in_flight in [1, 64] {
            measured.bench_function(format!("append/{in_flight}"), |bencher| {
                bencher.iter_custom(|count| system.block_on(appends(&partition, &batch, count, in_flight)));
            });
            measured.bench_function(format!("commit/{in_flight}"), |bencher| {
                bencher.iter_custom(|count| system.block_on(commits(&broker, count, in_flight)));
            });
        }
        measured.finish();
        drop(partition);
        system.block_on(broker.drain(Duration::from_secs(10)));
    }
}

criterion_group!(benches, beside_each_other);
criterion_main!(benches);
