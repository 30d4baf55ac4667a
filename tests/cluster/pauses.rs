//! Brokers that stop without knowing it, and wake up in another time.

use std::time::Duration;

use pubg1::verify::Plan;

use crate::harness::{TestCluster, plan, size};

/// The old leader acknowledges nothing and answers nothing stale when it wakes: the checker compares every
/// acknowledgement and every read with what was known before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_knows_its_place_when_it_wakes() {
    let mut cluster = TestCluster::start().await;
    let pauses = size("PUBG1_TEST_PAUSES", 1);
    // Readers ask any broker all the time, the one that just woke up among them.
    let plan = Plan { readers: 4, attempt_timeout: Duration::from_millis(500), ..plan("paused") };
    let faults = format!("repeat {pauses}: wait 200ms; pause leader 0 3s; wait 500ms; healthy");
    let report = cluster.survive(&plan, &faults).await;
    let failed_over = report.availability.faults.iter().filter(|fault| fault.failover_ms.is_some()).count();
    assert_eq!(failed_over as u64, pauses, "a pause of 3 s is long enough for another leader: {:#?}", report.events);
    cluster.end().await;
}

/// A slow minority delays nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_follower_delays_no_write() {
    let mut cluster = TestCluster::start().await;
    // Who asks the paused broker itself gets no answer, and asks another one soon.
    let plan = Plan { partitions: 1, attempt_timeout: Duration::from_millis(300), ..plan("slow") };
    let report = cluster.survive(&plan, "wait 1s; pause follower 0 2s; healthy").await;
    let [fault] = &report.availability.faults[..] else { panic!("one fault") };
    if fault.partitions_led == 0 && !fault.controller {
        assert!(fault.unavailable_ms < 1_000.0, "writes waited for a paused follower: {fault:?}");
    }
    cluster.end().await;
}
