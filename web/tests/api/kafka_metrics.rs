//! The cluster under kafka_exporter's names and labels, from any broker.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    consumer_client::{Instance, publish, soon},
    harness::Api,
};

/// kafka_exporter's families and their labels.
const FAMILIES: [(&str, &[&str]); 15] = [
    ("kafka_brokers", &[]),
    ("kafka_broker_info", &["address", "id"]),
    ("kafka_topic_partitions", &["topic"]),
    ("kafka_topic_partition_current_offset", &["partition", "topic"]),
    ("kafka_topic_partition_oldest_offset", &["partition", "topic"]),
    ("kafka_topic_partition_in_sync_replica", &["partition", "topic"]),
    ("kafka_topic_partition_leader", &["partition", "topic"]),
    ("kafka_topic_partition_leader_is_preferred", &["partition", "topic"]),
    ("kafka_topic_partition_replicas", &["partition", "topic"]),
    ("kafka_topic_partition_under_replicated_partition", &["partition", "topic"]),
    ("kafka_consumergroup_current_offset", &["consumergroup", "partition", "topic"]),
    ("kafka_consumergroup_current_offset_sum", &["consumergroup", "topic"]),
    ("kafka_consumergroup_lag", &["consumergroup", "partition", "topic"]),
    ("kafka_consumergroup_lag_sum", &["consumergroup", "topic"]),
    ("kafka_consumergroup_members", &["consumergroup"]),
];

/// An exposition of a broker once it has all of these lines.
async fn with_lines(api: &Api, path: &str, wanted: &[&str]) -> String {
    let mut text = String::new();
    let look = async {
        loop {
            text = api.get(path).await.text().to_owned();
            if wanted.iter().all(|wanted| text.lines().any(|line| line == *wanted)) {
                return;
            }
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(60), look).await;
    assert!(found.is_ok(), "{wanted:?} are not in\n{text}");
    text
}

#[actix_rt::test]
async fn any_broker_tells_about_the_whole_cluster() {
    let three = Api::start_three().await;
    let [a, b, c] = &three;
    publish(a, "pubg1", 0, (0..6).map(Value::from)).await;
    let instance = Instance::create(a, "g", json!({})).await;
    instance.post(a, "/subscription", json!({"topics": ["pubg1"]})).await.no_content();
    assert_eq!(instance.poll(a, "max_records=2&timeout=10000").await.len(), 2);
    instance.commit(a).await;
    for api in [a, b, c] {
        let text = with_lines(
            api,
            "/metrics/kafka",
            &[
                "kafka_brokers 3",
                "kafka_topic_partitions{topic=\"pubg1\"} 1",
                "kafka_topic_partitions{topic=\"__consumer_offsets\"} 16",
                "kafka_topic_partition_current_offset{partition=\"0\",topic=\"pubg1\"} 6",
                "kafka_topic_partition_oldest_offset{partition=\"0\",topic=\"pubg1\"} 0",
                "kafka_topic_partition_replicas{partition=\"0\",topic=\"pubg1\"} 3",
                "kafka_topic_partition_in_sync_replica{partition=\"0\",topic=\"pubg1\"} 3",
                "kafka_topic_partition_under_replicated_partition{partition=\"0\",topic=\"pubg1\"} 0",
                "kafka_consumergroup_members{consumergroup=\"g\"} 1",
                "kafka_consumergroup_current_offset{consumergroup=\"g\",partition=\"0\",topic=\"pubg1\"} 2",
                "kafka_consumergroup_current_offset_sum{consumergroup=\"g\",topic=\"pubg1\"} 2",
                "kafka_consumergroup_lag{consumergroup=\"g\",partition=\"0\",topic=\"pubg1\"} 4",
                "kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"pubg1\"} 4",
            ],
        )
        .await;
        has_the_families_of_kafka_exporter(&text);
        let info = format!("kafka_broker_info{{address=\"{}\",id=\"1\"}} 1", b.address);
        assert!(text.lines().any(|line| line == info), "{info}\n{text}");
        let leader = a.get("/topics/pubg1/partitions/0").await.ok()["leader"].clone();
        let leads = format!("kafka_topic_partition_leader{{partition=\"0\",topic=\"pubg1\"}} {leader}");
        assert!(text.lines().any(|line| line == leads), "{leads}\n{text}");
    }
    // One partition of these at each broker, and nobody else has it.
    let single = json!({"topic_name": "single", "partitions_count": 3, "replication_factor": 1});
    assert_eq!(a.post("/admin/topics", single.to_string()).await.status, 201);
    with_lines(
        a,
        "/metrics/kafka",
        &["kafka_topic_partition_under_replicated_partition{partition=\"2\",topic=\"single\"} 0"],
    )
    .await;
    let [a, b, c] = three;
    c.kill().await;
    let under_replicated = "kafka_topic_partition_under_replicated_partition{partition=\"0\",topic=\"pubg1\"} 1";
    with_lines(&a, "/metrics/kafka", &["kafka_brokers 2", under_replicated]).await;
    let controller = soon(async || a.get("/cluster").await.ok()["controller"].as_u64().filter(|it| *it != 2)).await;
    let controller = if controller == 0 { &a } else { &b };
    with_lines(controller, "/metrics", &["pubg1_alive_brokers 2", "pubg1_leaderless_partitions 1"]).await;
    for api in [a, b] {
        api.kill().await;
    }
}

/// Each family once, in one piece, as a gauge, with the labels that it has there and no others.
fn has_the_families_of_kafka_exporter(text: &str) {
    let (mut labels, mut kinds) = (BTreeMap::<&str, BTreeSet<&str>>::new(), Vec::new());
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            kinds.push(family.strip_suffix(" gauge").unwrap());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            value.parse::<u64>().unwrap();
            let (name, pairs) = series.split_once('{').unwrap_or((series, ""));
            assert_eq!(kinds.last(), Some(&name), "{line}");
            let names = pairs.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
            labels.entry(name).or_default().extend(names);
        }
    }
    kinds.sort_unstable();
    let mut wanted = FAMILIES.map(|(name, _)| name);
    wanted.sort_unstable();
    assert_eq!(kinds, wanted);
    for (name, wanted) in FAMILIES {
        assert_eq!(labels[name].iter().copied().collect::<Vec<_>>(), wanted, "{name}");
    }
}

#[actix_rt::test]
async fn only_get_is_served_and_the_document_has_it() {
    let api = Api::start().await;
    api.send(api.request(Method::POST, "/metrics/kafka")).await.refused(405, 405);
    let document = api.get("/openapi.json").await.ok();
    assert!(document["paths"]["/metrics/kafka"]["get"].is_object());
    let reply = api.get("/metrics/kafka").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    api.stop().await;
}
