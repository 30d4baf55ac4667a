//! Committed offsets through the broker's handle, with the real log underneath.

mod failover;
mod instances;

use std::time::Duration;

use pubg1_model::{
    GroupId, LeaderEpoch, Offset, PartitionId, TopicPartition,
    compression::Compression,
    offset_commit::{OffsetCommitKey, OffsetCommitValue},
    record_batch::{BatchBuilder, NewRecord},
};

use super::{
    OFFSETS_PARTITIONS,
    messages::{Loaded, Lost},
    offsets_topic, partition_of,
    replay::Replayed,
};
use crate::{
    Acks, AppendError, AppendRequest, BrokerHandle, CommitOffsetError, LookupError, NewTopic, PartitionHandle,
    fixture::*,
    testing::{Fault, inject, panic_group_coordinator},
};

#[test]
fn the_offsets_topic_is_internal_and_its_settings_are_valid() {
    assert!(offsets_topic().is_internal());
    super::offsets_topic_config().validate().unwrap();
}

#[test]
fn groups_hash_as_in_kafka() {
    // By hand from Java's definition; the last name is known for hashing to the smallest integer.
    for (group, partition) in [("a", 97 % 16), ("ab", (97 * 31 + 98) % 16), ("polygenelubricants", 0)] {
        assert_eq!(partition_of(&group.parse().unwrap()), PartitionId(partition), "{group}");
    }
}

fn group(name: &str) -> GroupId {
    name.parse().unwrap()
}

fn place(topic_name: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(topic_name), partition: PartitionId(partition) }
}

async fn commit(broker: &BrokerHandle, name: &str, at: TopicPartition, to: u64) -> Result<(), CommitOffsetError> {
    // The coordinator may be loading after a restart, which is retriable.
    loop {
        match within(broker.commit_offset(group(name), at.clone(), offset(to), "note".to_owned())).await {
            Err(error) if error.is_retriable() => tokio::task::yield_now().await,
            other => return other,
        }
    }
}

async fn committed(broker: &BrokerHandle, name: &str, at: TopicPartition) -> Option<Offset> {
    loop {
        match within(broker.committed_offset(group(name), at.clone())).await {
            Err(error) if error.is_retriable() => tokio::task::yield_now().await,
            other => return other.unwrap().map(|value| value.offset),
        }
    }
}

fn partition_of_group(broker: &BrokerHandle, name: &str) -> PartitionHandle {
    broker.partition(&offsets_topic(), partition_of(&group(name))).unwrap()
}

#[actix_rt::test]
async fn commits_survive_drains_and_kills() {
    let fixture = Fixture::new();
    for round in 0..4_u64 {
        let broker = fixture.start().await;
        let before = round.checked_sub(1).map(Offset::new);
        assert_eq!(committed(&broker, "g", place("pubg1", 1)).await, before);
        assert_eq!(committed(&broker, "g", place("pubg1", 2)).await, None);
        commit(&broker, "g", place("pubg1", 1), round).await.unwrap();
        commit(&broker, "h", place("pubg1", 1), 100 + round).await.unwrap();
        assert_eq!(committed(&broker, "g", place("pubg1", 1)).await, Some(offset(round)));
        let all = within(broker.committed_offsets(group("h"))).await.unwrap();
        assert_eq!(all[&place("pubg1", 1)].metadata, "note");
        if round % 2 == 0 { broker.abort().await } else { drop(broker.drain(Duration::from_secs(60)).await) }
    }
}

#[actix_rt::test]
async fn many_commits_at_once_are_all_answered_and_the_last_counts() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    commit(&broker, "g", place("pubg1", 0), 0).await.unwrap();
    let commits = (1..=500).map(|to| broker.commit_offset(group("g"), place("pubg1", 0), offset(to), String::new()));
    let results = within(futures_util::future::join_all(commits)).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(committed(&broker, "g", place("pubg1", 0)).await, Some(offset(500)));
    // They went together: one append was under way while the others gathered.
    let view = partition_of_group(&broker, "g").view();
    assert_eq!(view.log_end_offset, offset(501));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn what_makes_no_sense_is_refused() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let error = commit(&broker, "g", place("pubg1", 4), 0).await.unwrap_err();
    assert!(matches!(error, CommitOffsetError::UnknownPartition(LookupError::UnknownPartition { partitions: 4, .. })));
    let error = commit(&broker, "g", place("nowhere", 0), 0).await.unwrap_err();
    assert!(matches!(error, CommitOffsetError::UnknownPartition(LookupError::UnknownTopic(_))));
    let too_long = "m".repeat(5000);
    let error = within(broker.commit_offset(group("g"), place("pubg1", 0), offset(0), too_long)).await.unwrap_err();
    assert!(matches!(error, CommitOffsetError::Invalid(_)) && !error.is_retriable());
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn the_coordinator_and_its_partition_may_die() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    commit(&broker, "g", place("pubg1", 0), 3).await.unwrap();
    panic_group_coordinator(&broker);
    assert_eq!(committed(&broker, "g", place("pubg1", 0)).await, Some(offset(3)));
    let partition = partition_of_group(&broker, "g");
    let epoch: LeaderEpoch = partition.view().leader_epoch;
    inject(&partition, Fault::Panic).unwrap();
    commit(&broker, "g", place("pubg1", 0), 4).await.unwrap();
    leads_after(&partition, epoch).await;
    assert_eq!(committed(&broker, "g", place("pubg1", 0)).await, Some(offset(4)));
    assert!(broker.drain(Duration::from_secs(60)).await.is_complete());
}

#[actix_rt::test]
async fn a_deleted_topic_takes_its_offsets_along() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let create = || NewTopic { name: topic("t"), partitions: Some(1), replication_factor: None, config: None };
    within(broker.create_topic(create())).await.unwrap();
    commit(&broker, "g", place("t", 0), 5).await.unwrap();
    commit(&broker, "g", place("pubg1", 0), 6).await.unwrap();
    let partition = partition_of_group(&broker, "g");
    let end = partition.view().high_watermark;
    within(broker.delete_topic(&topic("t"))).await.unwrap();
    seen(&partition, |view| view.high_watermark > end).await;
    within(broker.create_topic(create())).await.unwrap();
    broker.abort().await;

    let broker = fixture.start().await;
    assert_eq!(committed(&broker, "g", place("t", 0)).await, None);
    assert_eq!(committed(&broker, "g", place("pubg1", 0)).await, Some(offset(6)));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn commits_of_an_epoch_that_is_over_are_not_appended() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = partition_of_group(&broker, "g");
    let epoch = partition.view().leader_epoch;
    let request = || AppendRequest { batches: vec![keyed("k", "v")], acks: Acks::All };
    within(partition.slot().append_internally(request(), epoch)).await.unwrap();
    inject(&partition, Fault::Panic).unwrap();
    let view = leads_after(&partition, epoch).await;
    // A load may have read to the end by now: what came behind it would be answered and not be known.
    let late = within(partition.slot().append_internally(request(), epoch)).await;
    assert!(matches!(late, Err(AppendError::NotReady { .. })), "{late:?}");
    assert_eq!(partition.view().log_end_offset, view.log_end_offset);
    within(partition.slot().append_internally(request(), view.leader_epoch)).await.unwrap();
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn a_partition_that_is_read_twice_keeps_what_was_committed_meanwhile() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    commit(&broker, "g", place("pubg1", 0), 6).await.unwrap();
    let (partition, epoch) = (partition_of(&group("g")), partition_of_group(&broker, "g").view().leader_epoch);
    let groups = &broker.services().groups;
    let loaded = |watcher| Loaded { partition, epoch, watcher, replayed: Replayed::default() };
    // As if it had been read before the commit, by whichever task watches the partition.
    for watcher in 0..u64::from(2 * OFFSETS_PARTITIONS) {
        assert!(groups.post(loaded(watcher)));
    }
    assert_eq!(committed(&broker, "g", place("pubg1", 0)).await, Some(offset(6)));
    // What a task has read that watches no longer does not count at all.
    assert!(groups.post(Lost { partition, reason: None }));
    assert!(groups.post(loaded(u64::MAX)));
    let asked = within(broker.committed_offset(group("g"), place("pubg1", 0))).await;
    assert!(asked.as_ref().is_err_and(|error| error.is_retriable()), "{asked:?}");
    broker.abort().await;
}

#[actix_rt::test]
async fn offsets_of_a_topic_that_is_gone_are_removed_when_they_are_loaded() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    commit(&broker, "g", place("pubg1", 0), 6).await.unwrap();
    // As if the broker had been killed between the topic and its offsets.
    let key = OffsetCommitKey { group: group("g"), topic_partition: place("gone", 0) }.encode().unwrap();
    let value = OffsetCommitValue {
        offset: offset(5),
        ..within(broker.committed_offsets(group("g"))).await.unwrap()[&place("pubg1", 0)].clone()
    };
    let mut left = BatchBuilder::new(Compression::None);
    let value = value.encode().unwrap();
    left.push(&NewRecord { key: Some(&key), value: Some(&value), ..NewRecord::default() }).unwrap();
    let partition = partition_of_group(&broker, "g");
    append(&partition, left.finish(None).unwrap()).await.unwrap();
    let end = partition.view().high_watermark;
    broker.abort().await;

    let broker = fixture.start().await;
    seen(&partition_of_group(&broker, "g"), |view| view.high_watermark > end).await;
    let new = NewTopic { name: topic("gone"), partitions: Some(1), replication_factor: None, config: None };
    within(broker.create_topic(new)).await.unwrap();
    assert_eq!(committed(&broker, "g", place("pubg1", 0)).await, Some(offset(6)));
    while committed(&broker, "g", place("gone", 0)).await.is_some() {}
    broker.drain(Duration::from_secs(60)).await;
}
