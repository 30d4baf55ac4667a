//! How long clients wait when a leader dies. The report is the point; the limits only catch what is grossly wrong on
//! a busy machine.

use pubg1::verify::Plan;

use pubg1_model::TopicName;
use serde_json::json;

use crate::harness::{BROKERS, TestCluster, plan, size, wait_until};

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

/// Only a broker that knows better can tell who leads, and none answers it: so it sends its clients on, and keeps none of
/// them until they give up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_back_sends_clients_on_until_it_knows_who_leads() {
    let mut cluster = TestCluster::start().await;
    let new = json!({ "topic_name": "back", "partitions_count": BROKERS, "replication_factor": 3 });
    assert_eq!(cluster.post(0, "/admin/topics", &new).await.0, 201);
    let record = json!({ "records": [{ "value": "eA==" }] });
    let (topic, leads): (TopicName, _) = ("back".parse().expect("a name"), 0);
    let client = cluster.processes.node(leads).expect("a broker").client.clone();
    let partition = wait_until("the broker leads one of as many partitions as there are brokers", async || {
        let partitions = client.topic(&topic).await.ok()?.partitions;
        partitions.iter().find(|partition| partition.leader == i64::from(leads)).map(|found| found.partition)
    })
    .await;
    let path = format!("/topics/back/partitions/{}", partition);
    assert_eq!(cluster.post(0, &path, &record).await.0, 200);

    let others = 1..BROKERS;
    others.clone().for_each(|other| cluster.processes.node(other).and_then(|it| it.pause()).expect("paused"));
    cluster.processes.kill(&[leads]).await.expect("killed");
    cluster.processes.node(leads).expect("a broker").start().await.expect("started");
    // At first it has not read what topics there are.
    wait_until("it knows the topic", async || client.topic(&topic).await.ok()).await;
    let (status, answer) = cluster.post(0, &path, &record).await;
    assert_eq!((status, &answer["error_code"]), (503, &json!(50303)), "{answer}");
    let (status, answer) = cluster.get(0, &format!("{path}/records?offset=0")).await;
    assert_eq!((status, &answer["error_code"]), (503, &json!(50303)), "{answer}");

    others.for_each(|other| cluster.processes.node(other).and_then(|it| it.resume()).expect("resumed"));
    wait_until("it takes records again", async || {
        let (status, answer) = cluster.post(0, &path, &record).await;
        assert!(status == 200 || status == 503, "{answer}");
        (status == 200).then_some(())
    })
    .await;
    cluster.end().await;
}
