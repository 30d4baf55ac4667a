//! How long clients wait when a leader dies. The report is the point; the limits only catch what is grossly wrong on
//! a busy machine.

use pubg1::verify::Plan;

use crate::harness::{TestCluster, plan, size};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_replaced_before_clients_notice_much() {
    let mut cluster = TestCluster::start().await;
    let kills = size("PUBG1_TEST_FAILOVERS", 3);
    // A request each 10 ms and partition: what is shorter is not seen.
    let plan = Plan { batch: 1, producers: 1, rate: 400, readers: 1, ..plan("failover") };
    let faults = format!("repeat {kills}: wait 300ms; kill data-leader; wait 700ms; restart; healthy");
    let report = cluster.survive(&plan, &faults).await;
    let felt = &report.availability;
    println!("unavailable after a leader's death: {:?}", felt.unavailable);
    println!("failover as clients saw it: {:?}", felt.failover);
    println!("failover as brokers tell it: {:?}", report.succession);
    assert_eq!(felt.unavailable.count, kills, "{:#?}", report.events);
    assert!(felt.unavailable.p50_ms < 1_000.0, "{:?}", felt.faults);

    let faults = format!("repeat {kills}: wait 300ms; kill controller; wait 700ms; restart; healthy");
    let report = cluster.survive(&Plan { topic: "controllers".parse().expect("a name"), ..plan }, &faults).await;
    println!("unavailable after the controller's death: {:?}", report.availability.unavailable_controller);
    assert!(report.availability.unavailable_controller.p50_ms < 3_000.0, "{:?}", report.availability.faults);
    cluster.end().await;
}
