//! Leaders come and go.

use pubg1_model::{PartitionId, topic::TopicConfig};

use super::cluster::{Cluster, records, request};
use crate::{
    Acks, PartitionStatus,
    fixture::{offset, within},
    partition,
    testing::Fault,
};

#[actix_rt::test]
async fn a_follower_takes_over_with_everything_that_was_acknowledged() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        for n in 0..20 {
            let value = format!("{round} {n}");
            acknowledged.push((cluster.append(&value).await, value));
        }
        let leader = cluster.leader().await;
        let epoch = cluster.view(leader).await.leader_epoch;
        cluster.kill(leader).await;
        let next = cluster.leader().await;
        assert_ne!(next, leader);
        assert!(cluster.view(next).await.leader_epoch > epoch);
        cluster.restart(leader).await;
        cluster.converged().await;
    }
    let found = records(&*cluster.slot(cluster.leader().await).await);
    for (at, value) in acknowledged {
        let there = found.iter().find(|(offset, _)| *offset == at);
        assert_eq!(there.map(|(_, value)| value), Some(&value));
    }
    cluster.end().await;
}

#[actix_rt::test]
async fn a_tail_that_nobody_else_has_is_cut() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    cluster.append("kept").await;
    cluster.converged().await;
    let former = cluster.leader().await;
    let followers = cluster.followers().await;
    for follower in &followers {
        cluster.kill(*follower).await;
    }
    // In its log, and at nobody else's.
    let lost = within(cluster.slot(former).await.append(request(&["lost", "lost"], Acks::Leader))).await;
    cluster.kill(former).await;
    for follower in followers {
        cluster.revive(follower);
    }
    assert_eq!(cluster.append("instead").await, 1);
    cluster.restart(former).await;
    cluster.converged().await;
    let found = records(&*cluster.slot(cluster.leader().await).await);
    assert_eq!(found, [(0, "kept".to_owned()), (1, "instead".to_owned())], "{lost:?}");
    cluster.end().await;
}

#[actix_rt::test]
async fn an_actor_that_dies_gives_its_leadership_up_at_once() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    cluster.append("before").await;
    let former = cluster.leader().await;
    let epoch = cluster.view(former).await.leader_epoch;
    cluster.slot(former).await.post(Fault::Panic).unwrap();
    cluster.seen(former, |view| view.leader_epoch > epoch).await;
    assert_eq!(cluster.append("after").await, 1);
    cluster.converged().await;
    cluster.end().await;
}

#[actix_rt::test]
async fn a_leadership_is_handed_over_without_an_error() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    cluster.append("before").await;
    cluster.converged().await;
    let leader = cluster.leader().await;
    let to = cluster.followers().await[0];
    let view = cluster.view(leader).await;
    let node = cluster.broker(leader).node();
    let handover = pubg1_model::controller::TransferRequest {
        topic_id: cluster.slot(leader).await.identity.topic_id,
        partition: PartitionId(0),
        epoch: view.leader_epoch,
        to: pubg1_model::BrokerId(u32::try_from(to).unwrap()),
    };
    assert_eq!(within(partition::transfer(node, vec![handover])).await, [handover]);
    // Nobody has begun a new epoch: what is appended meanwhile waits, and is appended here after all.
    let reply = within(cluster.slot(leader).await.append(request(&["held"], Acks::All))).await.unwrap();
    assert_eq!((reply.appended[0].base_offset, reply.leader_epoch), (offset(1), view.leader_epoch));
    let stale = pubg1_model::controller::TransferRequest { epoch: pubg1_model::LeaderEpoch::ZERO, ..handover };
    assert!(within(partition::transfer(node, vec![stale])).await.is_empty());
    cluster.end().await;
}

#[actix_rt::test]
async fn a_leader_without_followers_steps_down() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    let leader = cluster.leader().await;
    for follower in cluster.followers().await {
        cluster.kill(follower).await;
    }
    let view = cluster.seen(leader, |view| view.status == PartitionStatus::Electing).await;
    assert_eq!((view.leader, view.resigned), (None, Some(view.leader_epoch)));
    cluster.end().await;
}

#[actix_rt::test]
async fn a_broker_that_drains_follows_the_next_leader() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, TopicConfig::default()).await;
    assert_eq!(cluster.append("before").await, 0);
    cluster.converged().await;
    let leader = cluster.leader().await;
    // The last in the order of preference: the other one is elected.
    let draining = *cluster.followers().await.last().unwrap();
    cluster.broker(draining).begin_drain();
    cluster.kill(leader).await;
    // Nothing is committed without the one that drains.
    assert_eq!(cluster.append("after").await, 1);
    cluster.end().await;
}
