//! Groups as an operator sees them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    consumer_client::Instance,
    harness::{Api, V2_JSON},
};

async fn send(api: &Api, method: Method, path: &str, body: Value) -> crate::harness::Reply {
    api.send(api.request(method, path).body(body.to_string())).await
}

#[actix_rt::test]
async fn a_group_tells_who_is_in_it_and_how_far_it_is() {
    let api = Api::start().await;
    let minute_ago = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() - 60_000;
    let minute_ago = u64::try_from(minute_ago).unwrap();
    let records: Vec<Value> = (0..5).map(|n| json!({"value": n, "timestamp": minute_ago})).collect();
    api.post_as("/topics/pubg1/partitions/0", V2_JSON, json!({"records": records}).to_string()).await.ok();
    api.get("/groups/g").await.refused(404, 40405);
    assert_eq!(api.get("/groups").await.ok(), json!([]));

    let instance = Instance::subscribed(&api, "g", "pubg1", json!({"name": "i"})).await;
    instance.poll(&api, "max_records=2").await;
    instance.commit(&api).await;
    let listed = api.get("/groups").await;
    assert_eq!(listed.header("coordinators-missing"), Some("0"));
    assert_eq!(
        listed.ok(),
        json!([{"group": "g", "state": "Stable", "protocol_type": "consumer", "members": 1, "coordinator": 0}])
    );
    let group = api.get("/groups/g").await.ok();
    for (name, value) in [("group", "g"), ("state", "Stable"), ("protocol_type", "consumer")] {
        assert_eq!(group[name], value, "{group}");
    }
    assert_eq!((&group["coordinator"], &group["lag"]), (&json!(0), &json!(3)));
    let member = &group["members"][0];
    assert_eq!((&member["instance_id"], &member["topics"]), (&json!("i"), &json!(["pubg1"])));
    assert_eq!((&member["client_host"], &group["leader"]), (&json!("127.0.0.1"), &member["member_id"]));
    assert_eq!(member["assignment"].as_array().unwrap().len(), 4);
    let partitions = group["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 4, "those that are assigned, too");
    let first = &partitions[0];
    for (name, value) in [("partition", 0), ("committed", 2), ("end", 5), ("lag", 3)] {
        assert_eq!(first[name], value, "{name}: {first}");
    }
    assert_eq!(first["owner"], member["member_id"]);
    assert!((60.0..120.0).contains(&first["lag_seconds"].as_f64().unwrap()), "{first}");
    assert!(first["committed_at"].as_i64().unwrap() > 0);
    assert_eq!((&partitions[1]["committed"], &partitions[1]["lag"]), (&json!(0), &json!(0)));
    instance.poll(&api, "").await;
    instance.commit(&api).await;
    let caught_up = api.get("/groups/g").await.ok();
    assert_eq!(
        (&caught_up["partitions"][0]["lag"], &caught_up["partitions"][0]["lag_seconds"]),
        (&json!(0), &json!(0.0))
    );
    api.stop().await;
}

#[actix_rt::test]
async fn a_group_without_members_is_moved_and_deleted() {
    let api = Api::start().await;
    let records: Vec<Value> = (0..5).map(|n| json!({"value": n, "timestamp": 1000 * (n + 1)})).collect();
    api.post_as("/topics/pubg1/partitions/0", V2_JSON, json!({"records": records}).to_string()).await.ok();
    let seek = |to: Value, dry_run: bool| {
        let body = json!({"topic": "pubg1", "partitions": [0], "to": to, "dry_run": dry_run});
        send(&api, Method::POST, "/groups/g/seek", body)
    };
    let moved = |dry_run: bool, committed: Value, offset: u64| {
        let entry = json!({"topic": "pubg1", "partition": 0, "committed": committed, "offset": offset,
            "beginning": 0, "end": 5, "lag": 5 - offset});
        json!({"group": "g", "dry_run": dry_run, "offsets": [entry]})
    };
    let instance = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    assert_eq!(instance.values(&api, 5).await.len(), 5);
    instance.commit(&api).await;
    assert_eq!(seek(json!("beginning"), true).await.ok(), moved(true, json!(5), 0));
    seek(json!("beginning"), false).await.refused(409, 40909);
    api.delete("/groups/g").await.refused(409, 40909);
    let places = json!({"partitions": [{"topic": "pubg1", "partition": 0}]});
    send(&api, Method::DELETE, "/groups/g/offsets", places.clone()).await.refused(409, 40909);
    assert_eq!(instance.committed(&api, "pubg1", 0).await, 5, "nothing was changed");
    instance.delete(&api).await.no_content();

    for (to, offset, before) in [
        (json!({"timestamp": "1970-01-01T00:00:03Z"}), 2, 5),
        (json!({"timestamp": 4000}), 3, 2),
        (json!({"offset": 1}), 1, 3),
        (json!("end"), 5, 1),
        (json!("beginning"), 0, 5),
    ] {
        assert_eq!(seek(to, false).await.ok(), moved(false, json!(before), offset));
        assert_eq!(api.get("/offset?group_id=g&partition=0").await.ok()["offset"], offset);
    }
    let error = seek(json!({"offset": 6}), false).await.refused(416, 41601);
    assert_eq!((&error["partition"], &error["end_offset"]), (&json!(0), &json!(5)));
    seek(json!("middle"), false).await.refused(422, 422);
    let elsewhere = json!({"topic": "pubg1", "partitions": [9], "to": "end"});
    send(&api, Method::POST, "/groups/g/seek", elsewhere).await.refused(404, 40402);
    let all = send(&api, Method::POST, "/groups/g/seek", json!({"topic": "pubg1", "to": "end"})).await.ok();
    assert_eq!(all["offsets"].as_array().unwrap().len(), 4, "all partitions of the topic");

    assert_eq!(send(&api, Method::DELETE, "/groups/g/offsets", places).await.status, 204);
    assert_eq!(api.get("/groups/g/offsets").await.ok()["offsets"].as_array().unwrap().len(), 3);
    assert_eq!(send(&api, Method::DELETE, "/groups/g/offsets", json!({"topic": "pubg1"})).await.status, 204);
    assert_eq!(api.get("/groups/g/offsets").await.ok(), json!({"offsets": []}));
    api.post("/commit_offset", json!({"group_id": "h", "partition": 0, "offset": 1}).to_string()).await.ok();
    assert_eq!(api.get("/groups/h").await.ok()["state"], "Empty");
    assert_eq!(api.delete("/groups/h").await.status, 204);
    api.get("/groups/h").await.refused(404, 40405);
    api.delete("/groups/h").await.refused(404, 40405);
    assert_eq!(api.get("/offset?group_id=h&partition=0").await.ok()["offset"], 0);
    api.stop().await;
}
