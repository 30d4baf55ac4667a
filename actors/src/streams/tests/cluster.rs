//! Three brokers in one process: leaders come and go while a stream is computed.

use pubg1_model::{BrokerId, TopicName};

use super::*;
use crate::{WindowsQuery, replicator::tests::cluster::Cluster};

async fn start(partitions: u32) -> Cluster {
    let cluster = Cluster::start(3).await;
    let new = NewTopic { name: topic("in"), partitions: Some(partitions), replication_factor: Some(3), config: None };
    within(cluster.broker(0).create_topic(new)).await.unwrap();
    known(&cluster, |broker| broker.image().topic(&topic("in")).is_some()).await;
    cluster
}

async fn known(cluster: &Cluster, is_known: impl Fn(&BrokerHandle) -> bool) {
    until(|| cluster.running().into_iter().all(|broker| is_known(cluster.broker(broker)))).await;
}

fn number(broker: BrokerId) -> usize {
    broker.0 as usize
}

/// The broker that leads a partition, as one that runs tells.
async fn leader(cluster: &Cluster, topic: &TopicName, partition: u32) -> usize {
    let of = || {
        let image = cluster.broker(cluster.running()[0]).image();
        let leader = image.partition(topic, PartitionId(partition))?.leader.map(number)?;
        cluster.running().contains(&leader).then_some(leader)
    };
    until(|| of().is_some()).await;
    of().unwrap()
}

#[actix_rt::test]
async fn every_row_comes_once_while_leaders_die() {
    let mut cluster = start(3).await;
    let document = document("s", |_| ());
    let created = within(cluster.broker(0).streams().create(document.clone(), FRESH)).await.unwrap();
    known(&cluster, |broker| broker.image().stream(&stream("s")).is_some()).await;
    let mut inputs: Vec<Vec<Record>> = vec![Vec::new(); 3];
    for round in 0..6_usize {
        let running = cluster.running();
        for partition in 0..3 {
            let from = 80 * i64::try_from(round).unwrap();
            let new = records(i64::from(partition), from..from + 80);
            // The edge is never the one that dies next: an append whose outcome is unknown would be lost to the test.
            produce(cluster.broker(running[round % running.len()]), partition, &new).await;
            inputs[partition as usize].extend(new);
        }
        let topic = match round % 3 {
            0 => &created.topics.changelog,
            1 => &created.topics.output,
            _ => &created.topics.input,
        };
        let dead = leader(&cluster, topic, u32::try_from(round % 3).unwrap()).await;
        cluster.kill(dead).await;
        let other = cluster.running()[0];
        gives(cluster.broker(other), "s.out", &oracle(&document, &inputs, false)).await;
        cluster.restart(dead).await;
    }
    described(cluster.broker(1), "s", is_caught_up).await;
    assert_eq!(rows(cluster.broker(2), "s.out").await, oracle(&document, &inputs, false));
    cluster.end().await;
}

#[actix_rt::test]
async fn a_broker_that_drains_hands_its_tasks_over() {
    let mut cluster = start(3).await;
    let document = document("s", |_| ());
    within(cluster.broker(1).streams().create(document.clone(), FRESH)).await.unwrap();
    known(&cluster, |broker| broker.image().stream(&stream("s")).is_some()).await;
    let mut inputs: Vec<Vec<Record>> = vec![Vec::new(); 3];
    for broker in 0..3 {
        let edge = cluster.broker((broker + 1) % 3).clone();
        for partition in 0..3 {
            let from = 100 * i64::try_from(broker).unwrap();
            let new = records(i64::from(partition), from..from + 100);
            produce(&edge, partition, &new).await;
            inputs[partition as usize].extend(new);
        }
        let leaving = cluster.broker(broker).clone();
        within(leaving.resign_leaderships(Duration::from_secs(20))).await;
        let report = within(leaving.drain(Duration::from_secs(20))).await;
        assert!(report.is_complete(), "{report:?}");
        drop(leaving);
        gives(&edge, "s.out", &oracle(&document, &inputs, false)).await;
        cluster.kill(broker).await;
        cluster.restart(broker).await;
    }
    cluster.end().await;
}

#[actix_rt::test]
async fn any_broker_tells_of_a_stream_and_its_windows() {
    let cluster = start(3).await;
    let document = document("s", |value| value["output"]["retain"] = json!("1h"));
    within(cluster.broker(0).streams().create(document.clone(), FRESH)).await.unwrap();
    known(&cluster, |broker| broker.image().stream(&stream("s")).is_some()).await;
    let inputs: Vec<_> = (0..3).map(|partition| records(partition, 0..120)).collect();
    for (partition, records) in (0..).zip(&inputs) {
        produce(cluster.broker(0), partition, records).await;
    }
    gives(cluster.broker(1), "s.out", &oracle(&document, &inputs, false)).await;
    let described = described(cluster.broker(0), "s", is_caught_up).await;
    let leaders: std::collections::BTreeSet<_> = described.tasks.iter().filter_map(|task| task.leader).collect();
    assert!(leaders.len() > 1, "its tasks are spread over brokers: {leaders:?}");
    assert!(described.watermark_ms.is_some());
    let mut answers = Vec::new();
    for broker in cluster.running() {
        let streams = cluster.broker(broker).streams();
        let answer = within(streams.windows(&stream("s"), WindowsQuery::default())).await.unwrap();
        assert!(answer.missing.is_empty(), "{answer:?}");
        let n = |json: &str| serde_json::from_str::<Value>(json).unwrap()["n"].as_i64().unwrap();
        assert_eq!(answer.rows.iter().map(|row| n(&row.json)).sum::<i64>(), 360);
        answers.push(answer.rows);
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]));
    cluster.end().await;
}

#[actix_rt::test]
async fn a_task_waits_while_nobody_takes_its_rows() {
    let mut cluster = start(1).await;
    let new = NewTopic { name: topic("s.out"), partitions: Some(1), replication_factor: Some(1), config: None };
    within(cluster.broker(0).create_topic(new)).await.unwrap();
    let document = document("s", |_| ());
    within(cluster.broker(0).streams().create(document.clone(), FRESH)).await.unwrap();
    known(&cluster, |broker| broker.image().stream(&stream("s")).is_some()).await;
    let dead = leader(&cluster, &topic("s.out"), 0).await;
    cluster.kill(dead).await;
    let edge = cluster.broker(cluster.running()[0]).clone();
    let inputs = [records(0, 0..200)];
    produce(&edge, 0, &inputs[0]).await;
    let waits = |told: &StreamDescription| {
        let task = &told.tasks[0];
        let reason = task.reason.as_deref().unwrap_or_default();
        task.state == StreamTaskState::Waiting && reason.contains("s.out") && task.leader != Some(edge_of(dead))
    };
    let told = described(&edge, "s", waits).await;
    assert_eq!(told.phase, StreamPhase::Running);
    cluster.restart(dead).await;
    gives(&edge, "s.out", &oracle(&document, &inputs, false)).await;
    drop(edge);
    cluster.end().await;
}

fn edge_of(broker: usize) -> BrokerId {
    BrokerId(u32::try_from(broker).unwrap())
}
