//! What is written at the leader comes to its followers.

use pubg1_model::{
    ProducerId,
    topic::{CleanupPolicy, TopicConfig},
};

use super::cluster::{Cluster, records, request};
use crate::{
    Acks, AppendRequest, FlushPolicy, PartitionStatus,
    fixture::{idempotent, keyed, offset, until, within},
};

#[actix_rt::test]
async fn followers_copy_to_the_byte_and_learn_what_is_committed() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    let leader = cluster.leader().await;
    let replica = cluster.slot(leader).await;
    for n in 0..50_u64 {
        let value = format!("{n}");
        let reply = replica.append(request(&[&value, "x"], Acks::All)).await.unwrap();
        assert_eq!(reply.appended[0].base_offset, offset(2 * n));
        assert_eq!(reply.leader.0 as usize, leader);
        // Acknowledged: it is below the high watermark, and two replicas of three have it on disk.
        assert!(replica.view().high_watermark >= offset(2 * n + 2));
    }
    cluster.converged().await;
    for follower in cluster.followers().await {
        let view = cluster.view(follower).await;
        assert_eq!(view.status, PartitionStatus::Follower);
        assert_eq!(
            (view.leader_epoch, view.adopted_epoch),
            (replica.view().leader_epoch, Some(replica.view().leader_epoch))
        );
        assert!(cluster.slot(follower).await.read(offset(0), 1000).is_err(), "only the leader is read from");
    }
    let in_sync = cluster.seen(leader, |view| view.in_sync.len() == 3).await.in_sync;
    assert!(in_sync.iter().any(|broker| broker.0 as usize == leader));
    assert_eq!(records(&replica).len(), 100);
    cluster.end().await;
}

#[actix_rt::test]
async fn a_follower_that_was_away_catches_up_while_appends_go_on() {
    let small = TopicConfig { segment_bytes: 16 * 1024, max_message_bytes: 8 * 1024, ..TopicConfig::default() };
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, small).await;
    cluster.append("before").await;
    let away = cluster.followers().await[0];
    cluster.kill(away).await;
    let filler = "x".repeat(2000);
    for _ in 0..100 {
        cluster.append(&filler).await;
    }
    cluster.revive(away);
    for n in 0..100 {
        cluster.append(&format!("{n}")).await;
    }
    cluster.converged().await;
    assert_eq!(cluster.view(away).await.log_end_offset, offset(201));
    cluster.end().await;
}

/// Nothing is appended any more that the news could go along with.
#[actix_rt::test]
async fn a_follower_that_comes_back_hears_what_is_committed_in_a_quiet_partition_too() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    cluster.append("the only one").await;
    let away = cluster.followers().await[0];
    cluster.seen(away, |view| view.high_watermark == offset(1)).await;
    for _ in 0..2 {
        cluster.kill(away).await;
        cluster.revive(away);
        let view = cluster.seen(away, |view| view.high_watermark == offset(1)).await;
        assert_eq!(view.status, PartitionStatus::Follower);
    }
    cluster.end().await;
}

#[actix_rt::test]
async fn log_ends_count_under_interval() {
    let cluster = Cluster::start_with(3, |config| config.flush = FlushPolicy::Interval { ms: 10_000 }).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    for n in 0..20 {
        assert_eq!(cluster.append(&format!("{n}")).await, n);
    }
    cluster.converged().await;
    let leader = cluster.leader().await;
    assert!(cluster.view(leader).await.flushed_offset < offset(20), "nobody waited for a disk");
    cluster.end().await;
}

/// What a follower has and what it wants next go in one request; one that says nothing would be answered with nothing.
#[actix_rt::test]
async fn a_record_costs_one_request_of_each_follower() {
    const RECORDS: u64 = 300;
    let cluster = Cluster::start_with(3, |config| {
        config.flush = FlushPolicy::Interval { ms: 60_000 };
        config.partition_arbiters = 1;
    })
    .await;
    cluster.create_topic(3, TopicConfig::default()).await;
    cluster.append("first").await;
    cluster.converged().await;
    let leader = cluster.leader().await;
    let fetches = || cluster.broker(leader).node().metrics.replication().fetches.get();
    let (before, begun) = (fetches(), std::time::Instant::now());
    for n in 0..RECORDS {
        cluster.append(&format!("{n}")).await;
    }
    // Of each follower: one for each record; while nothing comes, one for each wait of 150 ms, and for news of what is
    // committed, every 50 ms.
    let waits = u64::try_from(begun.elapsed().as_millis()).unwrap() * 4 / 150 + 10;
    let most = 2 * (RECORDS + waits);
    let sent = fetches() - before;
    assert!(sent <= most, "{sent} requests for {RECORDS} records, at most {most}");
    cluster.end().await;
}

#[actix_rt::test]
async fn a_quorum_is_enough_and_less_is_not() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    cluster.append("three").await;
    let followers = cluster.followers().await;
    cluster.kill(followers[0]).await;
    cluster.append("two").await;
    let leader = cluster.leader().await;
    let replica = cluster.slot(leader).await;
    cluster.kill(followers[1]).await;
    // Nobody acknowledges what one replica of three has.
    let error = within(replica.append(request(&["one"], Acks::All))).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    // Cut off, it does not answer reads for long either.
    until(|| replica.readable().is_err()).await;
    // Nor does it judge a producer by what it knows: another may lead and know more.
    let gap = AppendRequest { batches: vec![idempotent(&["later"], ProducerId(7), 5)], acks: Acks::All };
    let error = within(replica.append(gap)).await.unwrap_err();
    assert!(error.is_retriable() && !error.is_outcome_unknown(), "{error}");
    cluster.revive(followers[1]);
    cluster.append("again").await;
    cluster.end().await;
}

#[actix_rt::test]
async fn what_is_deleted_at_the_leader_goes_at_its_followers() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    for n in 0..30 {
        cluster.append(&format!("{n}")).await;
    }
    let replica = cluster.slot(cluster.leader().await).await;
    replica.delete_records_before(offset(17)).await.unwrap();
    for broker in 0..3 {
        cluster.seen(broker, |view| view.log_start_offset == offset(17)).await;
    }
    cluster.converged().await;
    cluster.end().await;
}

#[actix_rt::test]
async fn the_largest_batches_are_copied_too() {
    let large = 1024 * 1024 * 64;
    let cluster = Cluster::start(3).await;
    let config = TopicConfig { segment_bytes: large, max_message_bytes: large, ..TopicConfig::default() };
    cluster.create_topic(3, config).await;
    let value = "x".repeat(63 * 1024 * 1024);
    for _ in 0..2 {
        cluster.append(&value).await;
    }
    cluster.append("small").await;
    cluster.converged().await;
    cluster.end().await;
}

#[actix_rt::test]
async fn a_follower_whose_records_are_deleted_begins_again_where_its_leader_does() {
    let small = TopicConfig { segment_bytes: 16 * 1024, max_message_bytes: 8 * 1024, ..TopicConfig::default() };
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, small).await;
    for n in 0..5 {
        cluster.append(&format!("{n}")).await;
    }
    cluster.converged().await;
    let away = cluster.followers().await[0];
    cluster.kill(away).await;
    let filler = "x".repeat(2000);
    for _ in 0..30 {
        let leader = cluster.slot(cluster.leader().await).await;
        within(leader.append(request(&[&filler, "a", "b"], Acks::All))).await.unwrap();
    }
    let leader = cluster.slot(cluster.leader().await).await;
    // Within a batch.
    within(leader.delete_records_before(offset(66))).await.unwrap();
    cluster.restart(away).await;
    cluster.seen(away, |view| view.log_start_offset == offset(66) && view.log_end_offset == offset(95)).await;
    cluster.append("after").await;
    cluster.converged().await;
    cluster.end().await;
}

#[actix_rt::test]
async fn a_compacted_log_is_copied_with_its_gaps() {
    let compacted = TopicConfig {
        cleanup_policy: CleanupPolicy::Compact,
        segment_bytes: 16 * 1024,
        max_message_bytes: 8 * 1024,
        ..TopicConfig::default()
    };
    let mut cluster = Cluster::start_with(3, |config| config.retention_check_interval_ms = 10).await;
    cluster.create_topic(3, compacted).await;
    let away = cluster.followers().await[0];
    let dir = cluster.slot(away).await.identity.dir.clone();
    cluster.kill(away).await;
    let filler = "x".repeat(1000);
    for n in 0..100_u64 {
        let (key, value) = (format!("k{}", n % 3), format!("{n} {filler}"));
        let leader = cluster.slot(cluster.leader().await).await;
        let request = AppendRequest { batches: vec![keyed(&key, &value)], acks: Acks::All };
        within(leader.append(request)).await.unwrap();
    }
    let leader = cluster.leader().await;
    cluster.seen(leader, |view| view.size_bytes < 50_000).await;
    std::fs::remove_dir_all(dir).unwrap();
    cluster.restart(away).await;
    cluster
        .seen(away, |view| view.log_end_offset == offset(100) && view.adopted_epoch == Some(view.leader_epoch))
        .await;
    assert!(cluster.view(away).await.size_bytes < 60_000, "what is gone there does not come here");
    // It can be opened again, and led.
    cluster.kill(away).await;
    cluster.restart(away).await;
    cluster.seen(away, |view| view.log_end_offset == offset(100)).await;
    cluster.end().await;
}
