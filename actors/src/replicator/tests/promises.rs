//! Fences, and what is stored before they are answered.

use std::{sync::mpsc, time::Duration};

use pubg1_model::{
    LeaderEpoch, Offset, PartitionId, TopicId,
    controller::FenceRequest,
    replication::{Counting, StorageId},
    topic::TopicConfig,
};

use super::cluster::{Cluster, request};
use crate::{
    Acks, FlushPolicy, PartitionStatus,
    fatal::Fatal,
    fixture::{offset, within},
    flusher::BlockingPool,
    partition,
    replica_states::{ReplicaRow, ReplicaStates},
};

#[actix_rt::test]
async fn a_fence_is_answered_when_the_promise_is_on_disk_and_ends_the_leadership() {
    let cluster = Cluster::start(1).await;
    cluster.create_topic(1, TopicConfig::default()).await;
    let slot = cluster.slot(0).await;
    within(slot.append(request(&["a"], Acks::All))).await.unwrap();
    let (node, view) = (cluster.broker(0).node(), slot.view());
    let fence = |epoch| FenceRequest { topic_id: slot.identity.topic_id, partition: PartitionId(0), epoch };
    let next = view.leader_epoch.next();

    // The thread that stores is held up.
    let (resume, held) = mpsc::channel::<()>();
    let row = ReplicaRow {
        promised_epoch: LeaderEpoch::ZERO,
        adopted_epoch: None,
        storage: StorageId::from_bytes([1; 16]),
        disk: StorageId::from_bytes([1; 16]),
        high_watermark: Offset::ZERO,
        is_suspect: false,
    };
    let elsewhere = (TopicId::from_bytes([9; 16]), PartitionId(0));
    node.states.store(elsewhere, row, move || held.recv().unwrap_or_default());
    let mut answer = Box::pin(partition::fence(node, vec![fence(next)]));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut answer).await.is_err(), "not stored, not answered");
    let error = within(slot.append(request(&["late"], Acks::All))).await.unwrap_err();
    assert!(error.is_retriable() && !error.is_outcome_unknown(), "{error}");
    drop(resume);
    let answers = within(answer).await;
    let [(_, _, answer)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((answer.epoch, answer.adopted_epoch), (next, Some(view.leader_epoch)));
    assert_eq!((answer.counted_offset, answer.incarnation), (offset(1), node.incarnation));
    assert_eq!(node.states.load(slot.identity.key()).unwrap().promised_epoch, next);
    cluster.seen(0, |view| view.status == PartitionStatus::Electing).await;

    // Twice asked, twice answered; what is over is not.
    assert_eq!(within(partition::fence(node, vec![fence(next), fence(next)])).await.len(), 2);
    assert!(within(partition::fence(node, vec![fence(view.leader_epoch)])).await.is_empty());
    cluster.end().await;
}

#[actix_rt::test]
async fn a_machine_that_went_down_under_interval_starts_over_and_a_lone_one_goes_on() {
    let interval = |config: &mut crate::BrokerConfig| config.flush = FlushPolicy::Interval { ms: 60_000 };
    for replicas in [1, 3] {
        let mut cluster = Cluster::start_with(3, interval).await;
        cluster.create_topic(replicas, TopicConfig::default()).await;
        cluster.append("a").await;
        let victim = match replicas {
            1 => cluster.leader().await,
            _ => cluster.followers().await[0],
        };
        let (home, key) = (cluster.home(victim).to_owned(), cluster.slot(victim).await.identity.key());
        cluster.kill(victim).await;
        // A life under another boot of the machine that did not end.
        let (writer, thread) = BlockingPool::start("test", 1, &Fatal::new()).unwrap();
        let other = Some("another boot".to_owned());
        let states = ReplicaStates::open(&home, Counting::LogEnd, other, writer, &Fatal::new()).unwrap();
        let before = states.load(key).unwrap();
        states.close(false);
        thread.finish();
        cluster.restart(victim).await;
        cluster.append("b").await;
        cluster.converged().await;
        let after = cluster.broker(victim).node().states.load(key).unwrap();
        assert_eq!(after.storage == before.storage, replicas == 1, "as another disk, if there are others");
        assert!(!after.is_suspect && after.adopted_epoch.is_some());
        cluster.end().await;
    }
}
