//! A cluster forms, spreads leaders over its brokers, and each of them serves everything.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{TestCluster, wait_until};

fn leaders(metadata: &Value) -> BTreeSet<&str> {
    metadata["leaders"].as_object().into_iter().flatten().filter_map(|(_, leader)| leader.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_brokers_become_one_cluster_and_any_of_them_serves_anybody() {
    let cluster = TestCluster::start().await;
    // All of them know each other, and who decides.
    let described = cluster.get(0, "/cluster").await.1;
    for broker in 0..4 {
        let own = wait_until("every broker names the same controller", || async {
            let own = cluster.get(broker, "/cluster").await.1;
            (own["controller"].is_number() && own["brokers"].as_array().is_some_and(|all| all.len() == 4))
                .then_some(own)
        })
        .await;
        assert_eq!((&own["cluster_id"], &own["broker_id"]), (&described["cluster_id"], &json!(broker)));
    }
    let body = json!({ "topic_name": "shared", "partitions_count": 4, "replication_factor": 3 });
    let created = cluster.post(1, "/admin/topics", &body).await;
    assert_eq!(created.0, 201, "{}", created.1);
    for broker in 0..4 {
        let led = || async {
            let (status, metadata) = cluster.get(broker, "/metadata?topic=shared").await;
            let all = metadata["leaders"].as_object().is_some_and(|leaders| leaders.values().all(Value::is_string));
            (status == 200 && all).then_some(metadata)
        };
        let metadata = wait_until("every partition has a leader on every broker", led).await;
        assert_eq!(metadata["members"].as_array().map(Vec::len), Some(4), "{metadata}");
        assert!(leaders(&metadata).len() > 1, "one broker leads everything: {metadata}");
        for (partition, replicas) in metadata["partitions"].as_object().expect("partitions") {
            assert_eq!(replicas.as_array().map(Vec::len), Some(3), "partition {partition}: {metadata}");
        }
    }
    // Everybody takes records for every partition, and everybody has them then.
    for broker in 0..4 {
        for partition in 0..4 {
            let message = json!({ "topic": "shared", "partition": partition, "value": broker });
            let (status, published) = cluster.post(broker, "/publish", &message).await;
            assert_eq!((status, &published["offset"]), (200, &json!(broker)), "{published}");
            assert!(published["leader"].is_number() && published["leader_epoch"].is_number(), "{published}");
        }
    }
    for broker in 0..4 {
        for partition in 0..4 {
            let path = format!("/consume?topic=shared&partition={partition}&offset=0");
            let consumed = cluster.get(broker, &path).await.1;
            let values: Vec<&Value> =
                consumed["messages"].as_array().expect("messages").iter().map(|message| &message["value"]).collect();
            assert_eq!(values, [&json!(0), &json!(1), &json!(2), &json!(3)], "{consumed}");
        }
    }
    let health = cluster.get(3, "/cluster/health").await;
    assert_eq!((health.0, &health.1["status"]), (200, &json!("ok")), "{}", health.1);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_ended_in_order_finds_everything_again() {
    let mut cluster = TestCluster::start().await;
    let message = json!({ "partition": 2, "value": "kept" });
    let published = cluster.post(0, "/publish", &message).await;
    assert_eq!(published.0, 200, "{}", published.1);
    for broker in 0..4 {
        cluster.processes.node(broker).expect("a broker").end().await.expect("it ends in order");
    }
    cluster.processes.start_missing().await.expect("the cluster starts again");
    for broker in 0..4 {
        let consumed = wait_until("the record is there again", || async {
            let (status, consumed) = cluster.get(broker, "/consume?partition=2&offset=0").await;
            (status == 200).then_some(consumed)
        })
        .await;
        assert_eq!(consumed["messages"][0]["value"], "kept", "{consumed}");
    }
    cluster.end().await;
}
