//! `kill -9` of leaders, followers, controllers, two brokers and all of them, under load: nothing acknowledged is
//! lost, moved or doubled, and the replicas end up the same.

use pubg1::verify::{Plan, writer::Surface};

use crate::harness::{TestCluster, plan, size};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_followers_and_controllers_lose_nothing() {
    let mut cluster = TestCluster::start().await;
    let faults = "kill leader 0; wait 300ms; restart; healthy; kill follower 1; wait 300ms; restart; healthy; \
                  kill controller; wait 300ms; restart; healthy";
    let report = cluster.survive(&plan("killed"), faults).await;
    assert_eq!(report.availability.faults.len(), 3);
    let [leader, follower, controller] = &report.availability.faults[..] else { panic!("three faults") };
    assert!(leader.failover_ms.is_some() && leader.partitions_led > 0, "{leader:?}");
    assert!(controller.controller, "{controller:?}");
    assert!(!follower.what.is_empty());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_whomever_chance_hits_lose_nothing() {
    let mut cluster = TestCluster::start().await;
    let kills = size("PUBG1_TEST_KILLS", 4);
    let faults = format!("repeat {kills}: kill any; wait 200ms; restart; healthy; wait 100ms");
    let report = cluster.survive(&plan("kills"), &faults).await;
    assert_eq!(report.availability.faults.len() as u64, kills);
    cluster.end().await;
}

/// Without an identity a repeated request may store a record twice, but no other may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_without_identity_lose_nothing_either() {
    let mut cluster = TestCluster::start().await;
    let plain = Plan { idempotent: false, surface: Surface::Publish, rate: 400, ..plan("plain") };
    cluster
        .survive(&plain, "wait 300ms; kill leader; wait 300ms; restart; healthy; kill controller; restart; healthy")
        .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_loses_its_quorum_comes_back_with_it() {
    let mut cluster = TestCluster::start().await;
    let faults = "wait 300ms; kill two; wait 1s; restart; healthy; wait 300ms";
    cluster.survive(&plan("quorum"), faults).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_brokers_killed_at_once_lose_nothing() {
    let mut cluster = TestCluster::start().await;
    let blackouts = size("PUBG1_TEST_BLACKOUTS", 2);
    let faults = format!("repeat {blackouts}: wait 300ms; kill all; restart; healthy; wait 200ms");
    cluster.survive(&plan("blackout"), &faults).await;
    cluster.end().await;
}
