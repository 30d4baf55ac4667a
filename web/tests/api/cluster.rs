//! The cluster, its brokers and the replicas of partitions: asked, and changed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, NDJSON, Reply, V2_JSON, batch};

const PARTITION: &str = "/topics/pubg1/partitions/0";
const ADMIN: &str = "/admin/topics/pubg1/partitions/0";

#[actix_rt::test]
async fn a_broker_that_is_alone_is_a_healthy_cluster() {
    let api = Api::start().await;
    // What is in sync the controller hears with the next heartbeat.
    let health =
        soon(async || Some(api.get("/cluster/health").await.ok()).filter(|health| health["status"] == "ok")).await;
    let partitions = health["partitions"].as_u64().unwrap();
    assert!(partitions >= 4, "{health}");
    assert_eq!(
        health,
        json!({"status": "ok", "controller": 0, "brokers": 1, "brokers_alive": 1, "partitions": partitions,
            "offline_partitions": 0, "under_replicated_partitions": 0, "problems": []})
    );
    api.stop().await;
}

#[actix_rt::test]
async fn a_replica_tells_how_it_is_and_what_it_has() {
    let api = Api::start().await;
    let acks = api.post(&format!("{PARTITION}/batches"), batch(&[b"a", b"b"], None)).await;
    let epoch = acks.ok()["leader_epoch"].clone();
    assert_eq!((acks.header("leader"), acks.header("leader-epoch")), (Some("0"), Some(&*epoch.to_string())));
    let replicas = api.get(&format!("{PARTITION}/replicas")).await.ok();
    let flushed = replicas["replicas"][0]["flushed_offset"].clone();
    assert_eq!(
        replicas,
        json!({"topic": "pubg1", "partition": 0, "leader": 0, "leader_epoch": epoch, "moving_to": null, "replicas": [
            {"broker": 0, "role": "leader", "in_sync": true, "adopted_epoch": epoch, "log_start_offset": 0,
             "high_watermark": 2, "log_end_offset": 2, "flushed_offset": flushed, "error": null}]})
    );
    let read = api.get(&format!("{PARTITION}/batches?offset=0")).await;
    let own = api.get(&format!("{PARTITION}/batches?offset=0&replica=0")).await;
    assert_eq!((own.status, &own.bytes), (200, &read.bytes));
    for (name, value) in [("next-offset", "2"), ("high-watermark", "2"), ("replica", "0")] {
        assert_eq!(own.header(name), Some(value), "{name}");
    }
    api.get(&format!("{PARTITION}/batches?offset=3&replica=0")).await.refused(416, 41601);
    api.get(&format!("{PARTITION}/batches?replica=7")).await.refused(404, 40403);
    api.get("/topics/pubg1/partitions/9/replicas").await.refused(404, 40402);
    api.stop().await;
}

#[actix_rt::test]
async fn every_acknowledgement_says_by_whom_and_in_which_epoch() {
    let api = Api::start().await;
    let epoch = api.get(PARTITION).await.ok()["leader_epoch"].clone();
    let published = api.post("/publish?redirect=1", "{\"partition\":0}").await.ok();
    assert_eq!((&published["leader"], &published["leader_epoch"]), (&json!(0), &epoch), "it leads itself");
    api.post("/publish?redirect=2", "{\"partition\":0}").await.refused(400, 400);
    let metadata = api.get("/metadata").await.ok();
    assert_eq!(metadata["leader_epochs"]["0"], epoch);
    let records = api.get(&format!("{PARTITION}/records")).await;
    let deleted = api.delete(&format!("{PARTITION}/records?before=1")).await;
    assert_eq!(deleted.ok(), json!({"beginning_offset": 1}));
    for reply in [records, deleted] {
        assert_eq!((reply.header("leader"), reply.header("leader-epoch")), (Some("0"), Some(&*epoch.to_string())));
    }
    api.stop().await;
}

#[actix_rt::test]
async fn what_cannot_be_changed_is_refused_with_a_reason() {
    let api = Api::start().await;
    let post = |path: &str, body: Value| api.send(api.request(Method::POST, path).body(body.to_string()));
    post(&format!("{ADMIN}/leader"), json!({"leader": 7})).await.refused(409, 40907);
    post(&format!("{ADMIN}/leader"), json!({})).await.refused(400, 400);
    post("/admin/topics/none/partitions/0/leader", json!({"leader": 0})).await.refused(404, 40401);
    post(&format!("{ADMIN}/replicas"), json!({"replicas": [0, 7]})).await.refused(404, 40403);
    post(&format!("{ADMIN}/replicas"), json!({"replicas": []})).await.refused(422, 422);
    api.delete(&format!("{ADMIN}/replicas")).await.refused(409, 40907);
    post("/admin/brokers/7/drain", json!({"drain": true})).await.refused(404, 40403);
    post("/admin/brokers/x/drain", json!({"drain": true})).await.refused(404, 40403);
    api.delete("/admin/brokers/0").await.refused(409, 40907);
    api.delete("/admin/brokers/7").await.refused(404, 40403);
    assert_eq!(post("/admin/rebalance", json!({"dry_run": true})).await.ok(), json!({"moves": []}));
    api.stop().await;
}

#[actix_rt::test]
async fn a_broker_is_taken_out_of_service_and_put_back() {
    let api = Api::start().await;
    for drain in [true, false] {
        let reply = api.post("/admin/brokers/0/drain", json!({"drain": drain}).to_string()).await;
        assert_eq!(reply.ok(), json!({"broker_id": 0, "draining": drain}));
        assert_eq!(api.get("/cluster").await.ok()["brokers"][0]["draining"], drain);
        // There is nobody else to lead.
        api.post("/publish", "{\"partition\":0}").await.ok();
        api.create_topic(if drain { "drained" } else { "back" }, 1).await;
    }
    api.stop().await;
}

/// What `look` finds at last.
async fn soon(look: impl AsyncFn() -> Option<Value>) -> Value {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), found).await.unwrap()
}

/// What a client does that is told to come back.
async fn patiently<F: Future<Output = Reply>>(request: impl Fn() -> F) -> Value {
    loop {
        let reply = request().await;
        if reply.status != 503 {
            return reply.ok();
        }
        assert!(reply.header("retry-after").is_some(), "{}", reply.text());
    }
}

#[actix_rt::test]
async fn any_broker_of_a_cluster_serves_any_client() {
    let three = Api::start_three().await;
    let leads = patiently(|| three[0].post("/publish", "{\"partition\":0,\"n\":0}")).await;
    let (leader, epoch) = (leads["leader"].as_u64().unwrap(), leads["leader_epoch"].clone());
    let at = usize::try_from(leader).unwrap();
    let (first, second) = (&three[(at + 1) % 3], &three[(at + 2) % 3]);
    let url = format!("http://{}", three[at].address);

    let lines = first.post_as("/topics/pubg1", NDJSON, "{\"value\":1}\n{\"value\":2}\n").await;
    let acks: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(acks[1], json!({"partition": 0, "offset": 2, "leader": leader, "leader_epoch": epoch}));
    let records = json!({"records": [{"value": 3}]}).to_string();
    let produced = second.post_as("/topics/pubg1", V2_JSON, records).await.ok();
    let entry = &produced["offsets"][0];
    assert_eq!((&entry["offset"], &entry["leader"], &entry["leader_epoch"]), (&json!(3), &json!(leader), &epoch));
    let raw = second.post(&format!("{PARTITION}/batches"), batch(&[b"4"], None)).await;
    assert_eq!(
        (raw.header("leader"), raw.header("leader-epoch")),
        (Some(&*leader.to_string()), Some(&*epoch.to_string()))
    );
    assert_eq!(raw.ok()["offsets"][0]["base_offset"], 4);
    let elsewhere = first.post("/publish?redirect=1", "{\"partition\":0}").await.ok();
    assert_eq!(elsewhere, json!({"status": "redirect", "leader": url}));

    for api in &three {
        assert_eq!(api.values("pubg1", 0).await.len(), 5);
        assert_eq!(api.get("/consume?partition=0&offset=3").await.ok()["messages"], json!([3, 4]));
        assert_eq!(api.get("/loglen?partition=0").await.ok(), json!({"length": 5}));
        let metadata = api.get("/metadata").await.ok();
        assert_eq!((&metadata["leaders"]["0"], &metadata["leader_epochs"]["0"]), (&json!(url), &epoch));
        assert_eq!(metadata["partitions"]["0"].as_array().unwrap().len(), 3);
    }
    let path = format!("{PARTITION}/records?offset=5&wait=20s");
    let poll = first.get(&path);
    let publish = second.post("/publish", "{\"partition\":0,\"n\":5}");
    let (polled, published) = tokio::join!(poll, publish);
    assert_eq!((&polled.ok()[0]["offset"], &published.ok()["offset"]), (&json!(5), &json!(5)));
    for api in three {
        api.kill().await;
    }
}

#[actix_rt::test]
async fn a_cluster_says_how_it_is_and_goes_on_without_a_leader_that_dies() {
    let three = Api::start_three().await;
    patiently(|| three[0].post("/publish", "{\"partition\":0}")).await;
    let health = async || three[1].get("/cluster/health").await.ok();
    soon(async || Some(health().await).filter(|health| health["status"] == "ok")).await;
    let placed = three[1].get("/topics/pubg1").await.ok()["partitions"][0].clone();
    let leader = placed["leader"].as_u64().unwrap();
    for replica in placed["replicas"].as_array().unwrap() {
        assert_eq!(replica["in_sync"], true, "{placed}");
    }
    let replicas = three[0].get(&format!("{PARTITION}/replicas")).await.ok();
    for replica in replicas["replicas"].as_array().unwrap() {
        let path = format!("{PARTITION}/batches?offset=0&replica={}", replica["broker"]);
        // Followers hear with their next fetch what is committed.
        let own = soon(async || {
            let own = three[0].get(&path).await;
            (own.status == 200 && !own.bytes.is_empty()).then(|| json!(own.bytes))
        });
        assert_eq!(own.await, json!(three[0].get(&format!("{PARTITION}/batches?offset=0")).await.bytes), "{replicas}");
    }
    let [a, b, c] = three;
    let (dead, left): (Vec<Api>, Vec<Api>) =
        [a, b, c].into_iter().partition(|api| api.broker.broker_id().0 == u32::try_from(leader).unwrap());
    for api in dead {
        api.kill().await;
    }
    let next = patiently(|| left[0].post("/publish", "{\"partition\":0}")).await;
    assert_ne!(next["leader"], leader);
    assert!(next["leader_epoch"].as_u64() > placed["leader_epoch"].as_u64());
    let health = async || left[1].get("/cluster/health").await.ok();
    let is_thin = |health: &Value| health["brokers_alive"] == 2 && health["status"] == "degraded";
    let health = soon(async || Some(health().await).filter(is_thin)).await;
    assert_eq!((&health["brokers"], &health["offline_partitions"]), (&json!(3), &json!(0)));
    let problem = format!("broker {leader} is not heard from");
    assert!(health["problems"].as_array().unwrap().contains(&json!(problem)), "{health}");
    for api in left {
        api.kill().await;
    }
}
