//! Topics and partitions: described, created, changed, deleted.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, V2_JSON};

#[actix_rt::test]
async fn topics_are_created_described_changed_and_deleted() {
    let api = Api::start().await;
    let body = json!({"topic_name": "orders", "partitions_count": 2, "replication_factor": 1, "configs": {"retention_ms": null}});
    let created = api.post("/admin/topics", body.to_string()).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.json()["configs"]["retention_ms"], Value::Null);
    api.post("/admin/topics", body.to_string()).await.refused(409, 40904);

    let list = api.get("/topics").await;
    assert_eq!(list.header("content-type"), Some("application/vnd.kafka.v2+json"));
    assert_eq!(list.ok(), json!(["orders", "pubg1"]));
    let topic = api.get("/topics/orders/").await.ok();
    assert_eq!((&topic["name"], topic["partitions"].as_array().unwrap().len()), (&json!("orders"), 2));
    let partition = json!({"partition": 1, "leader": 0, "leader_epoch": topic["partitions"][1]["leader_epoch"],
        "replicas": [{"broker": 0, "leader": true, "in_sync": true}]});
    assert_eq!(topic["partitions"][1], partition);
    assert_eq!(api.get("/topics/orders/partitions").await.ok()[1], partition);
    assert_eq!(api.get("/topics/orders/partitions/1").await.ok(), partition);
    assert_eq!(
        api.get("/topics/orders/partitions/1/offsets").await.ok(),
        json!({"beginning_offset": 0, "end_offset": 0})
    );
    api.get("/topics/none").await.refused(404, 40401);
    api.get("/topics/none/partitions").await.refused(404, 40401);
    api.get("/topics/orders/partitions/2").await.refused(404, 40402);
    api.get("/topics/orders/partitions/2/offsets").await.refused(404, 40402);
    api.get("/topics/orders/partitions/x").await.refused(404, 404);

    let alter = |configs: Value| {
        let request =
            api.request(Method::PUT, "/admin/topics/orders/configs").body(json!({"configs": configs}).to_string());
        api.send(request)
    };
    let altered = alter(json!({"segment_bytes": 2_097_152, "max_message_bytes": 4096})).await.ok();
    assert_eq!(
        (&altered["configs"]["segment_bytes"], &altered["configs"]["retention_ms"]),
        (&json!(2_097_152), &Value::Null)
    );
    assert_eq!(api.get("/topics/orders").await.ok()["configs"], altered["configs"]);
    alter(json!({"segment_bytes": 1})).await.refused(400, 40002);
    alter(json!({"no_such": 1})).await.refused(400, 40002);

    assert_eq!(api.delete("/admin/topics/orders").await.status, 204);
    api.delete("/admin/topics/orders").await.refused(404, 40401);
    api.get("/topics/orders").await.refused(404, 40401);
    api.stop().await;
}

#[actix_rt::test]
async fn impossible_topics_are_refused() {
    let api = Api::start().await;
    for (body, status, code) in [
        (json!({"topic_name": "a/b"}), 400, 400),
        (json!({"topic_name": ".."}), 400, 400),
        (json!({"topic_name": "x".repeat(201)}), 400, 400),
        (json!({"topic_name": "__mine"}), 403, 40301),
        (json!({"topic_name": "t", "partitions_count": 0}), 400, 40002),
        (json!({"topic_name": "t", "replication_factor": 3}), 400, 40002),
        (json!({"topic_name": "t", "configs": {"cleanup_policy": "none"}}), 400, 40002),
        (json!({"topic_name": "t", "partitions": 3}), 400, 400),
        (json!({}), 400, 400),
    ] {
        api.post("/admin/topics", body.to_string()).await.refused(status, code);
    }
    assert_eq!(api.get("/topics").await.ok(), json!(["pubg1"]));
    api.stop().await;
}

#[actix_rt::test]
async fn the_brokers_own_topics_are_hidden_and_closed() {
    let api = Api::start().await;
    api.post("/commit_offset", json!({"group_id": "g", "partition": 0, "offset": 1}).to_string()).await.ok();
    assert_eq!(api.get("/topics").await.ok(), json!(["pubg1"]));
    let all = api.get("/topics?internal=true").await.ok();
    let own =
        all.as_array().unwrap().iter().find_map(|name| name.as_str().filter(|name| name.starts_with("__"))).unwrap();
    let one = json!({"records": [{"value": 1}]}).to_string();
    api.post_as(&format!("/topics/{own}"), V2_JSON, one).await.refused(403, 40301);
    api.post(&format!("/topics/{own}/partitions/0/batches"), "x").await.refused(403, 40301);
    api.post("/publish", json!({"topic": own, "partition": 0}).to_string()).await.refused(403, 40301);
    api.delete(&format!("/admin/topics/{own}")).await.refused(403, 40301);
    api.delete(&format!("/topics/{own}/partitions/0/records?before=0")).await.refused(403, 40301);
    api.stop().await;
}

#[actix_rt::test]
async fn records_are_deleted_up_to_an_offset() {
    let api = Api::start().await;
    for n in 0..4 {
        api.post("/publish", json!({"partition": 0, "n": n}).to_string()).await.ok();
    }
    let path = "/topics/pubg1/partitions/0/records";
    assert_eq!(api.delete(&format!("{path}?before=3")).await.ok(), json!({"beginning_offset": 3}));
    assert_eq!(
        api.get("/topics/pubg1/partitions/0/offsets").await.ok(),
        json!({"beginning_offset": 3, "end_offset": 4})
    );
    let refused = api.get(&format!("{path}?offset=2")).await.refused(416, 41601);
    assert_eq!((&refused["beginning_offset"], &refused["end_offset"]), (&json!(3), &json!(4)));
    api.delete(&format!("{path}?before=9")).await.refused(416, 41601);
    api.delete(path).await.refused(400, 400);
    api.stop().await;
}

#[actix_rt::test]
async fn brokers_and_cluster_are_described() {
    let api = Api::start().await;
    assert_eq!(api.get("/").await.ok(), json!({}));
    assert_eq!(api.get("/brokers").await.ok(), json!({"brokers": [0]}));
    let cluster = api.get("/cluster").await.ok();
    assert!(!cluster["cluster_id"].as_str().unwrap().is_empty());
    let broker = &cluster["brokers"][0];
    assert_eq!((&broker["broker_id"], &broker["http_url"]), (&json!(0), &json!(format!("http://{}", api.address))));
    assert_eq!((&broker["draining"], &broker["alive"], &broker["rack"]), (&json!(false), &json!(true), &Value::Null));
    assert!(broker["rpc_address"].is_string() && broker["incarnation"].is_string());
    assert_eq!((&cluster["controller"], &cluster["metadata"]["voters"]), (&json!(0), &json!([0])));
    assert_eq!(cluster["flush"], "interval=50");
    assert!(cluster["metadata"]["term"].is_u64() && cluster["metadata"]["last_applied"].is_u64());
    assert_eq!((&cluster["topics"], &cluster["partitions"]), (&json!(1), &json!(4)));
    api.stop().await;
}
