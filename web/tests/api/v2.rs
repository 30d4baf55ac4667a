//! Produce in the REST Proxy v2 dialect.

use base64::{Engine, engine::general_purpose::STANDARD};
use pubg1_model::partitioner::partition_for_key;
use serde_json::{Value, json};

use crate::harness::{Api, NDJSON, V2_BINARY, V2_JSON, V2_TEXT, batch};

#[actix_rt::test]
async fn records_go_where_they_say_or_where_their_key_hashes() {
    let api = Api::start().await;
    api.create_topic("t", 8).await;
    let body = json!({"records": [
        {"key": "a", "value": 1}, {"value": 2, "partition": 5}, {"key": "a", "value": 3}, {"value": 4}, {"value": 5},
    ]});
    let reply = api.post_as("/topics/t", V2_JSON, body.to_string()).await;
    assert_eq!(reply.header("content-type"), Some("application/vnd.kafka.v2+json"));
    let offsets = reply.ok()["offsets"].clone();
    let hashed = partition_for_key(b"\"a\"", 8).0;
    assert_eq!((&offsets[0]["partition"], &offsets[0]["offset"]), (&json!(hashed), &json!(0)));
    assert_eq!((&offsets[2]["partition"], &offsets[2]["offset"]), (&json!(hashed), &json!(1)));
    assert_eq!(offsets[1]["partition"], 5);
    assert_eq!(offsets[3]["partition"], offsets[4]["partition"], "records without key stay together in a request");
    assert_eq!((&offsets[0]["error_code"], &offsets[0]["error"]), (&Value::Null, &Value::Null));
    assert_eq!(offsets[0]["leader"], 0);
    assert!(offsets[0]["leader_epoch"].is_u64());

    let mut partitions = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let body = json!({"records": [{"value": 1}]}).to_string();
        partitions.insert(api.post_as("/topics/t", V2_JSON, body).await.ok()["offsets"][0]["partition"].as_u64());
    }
    assert!(partitions.len() > 1, "and take turns between requests");
    api.stop().await;
}

#[actix_rt::test]
async fn every_format_comes_back_in_every_format() {
    let api = Api::start().await;
    let b64 = |text: &str| STANDARD.encode(text);
    let headers = json!([{"key": "trace", "value": b64("x")}, {"key": "empty", "value": null}]);
    let path = "/topics/pubg1/partitions/1";
    let json_body = json!({"records": [{"key": {"id": 1}, "value": {"a": [1]}, "timestamp": 5, "headers": headers}]});
    api.post_as(path, V2_JSON, json_body.to_string()).await.ok();
    let binary = json!({"records": [{"key": b64("k"), "value": b64("v")}, {"key": b64("k"), "value": null}]});
    api.post_as(path, V2_BINARY, binary.to_string()).await.ok();
    // Plain application/json, the generic type, and none at all mean binary, as in Karapace.
    for content_type in ["application/json", "application/vnd.kafka.v2+json; charset=utf-8"] {
        api.post_as(path, content_type, json!({"records": [{"value": b64("c")}]}).to_string()).await.ok();
    }
    api.post(path, json!({"records": [{"value": b64("c")}]}).to_string()).await.ok();
    api.post_as(path, V2_TEXT, json!({"records": [{"key": "k", "value": "text é"}]}).to_string()).await.ok();

    let read = |format: &str| {
        let path = format!("{path}/records?format={format}");
        let api = &api;
        async move { api.get(&path).await }
    };
    let as_json = read("json").await;
    assert_eq!(as_json.header("content-type"), Some(V2_JSON));
    let as_json = as_json.ok();
    let first = json!({"topic": "pubg1", "partition": 1, "offset": 0, "timestamp": 5, "key": {"id": 1}, "value": {"a": [1]},
        "headers": [{"key": "trace", "value": b64("x")}, {"key": "empty", "value": null}]});
    assert_eq!(as_json[0], first);
    assert_eq!((&as_json[1]["key"], &as_json[1]["value"]), (&json!("k"), &json!("v")), "what is no JSON is a string");
    assert_eq!(as_json[2]["value"], Value::Null);
    let as_binary = read("binary").await.ok();
    assert_eq!(as_binary[0]["value"], b64("{\"a\":[1]}"));
    assert_eq!(as_binary[5]["value"], b64("c"));
    let as_text = read("text").await.ok();
    assert_eq!((&as_text[0]["key"], &as_text[6]["value"]), (&json!("{\"id\":1}"), &json!("text é")));
    api.stop().await;
}

#[actix_rt::test]
async fn what_is_wrong_with_the_request_as_a_whole_is_its_status() {
    let api = Api::start().await;
    let one = json!({"records": [{"value": 1}]}).to_string();
    api.post_as("/topics/none", V2_JSON, one.clone()).await.refused(404, 40401);
    api.post_as("/topics/pubg1/partitions/4", V2_JSON, one.clone()).await.refused(404, 40402);
    api.post_as("/topics/pubg1/partitions/x", V2_JSON, one.clone()).await.refused(404, 404);
    api.post_as("/topics/__consumer_offsets", V2_JSON, one.clone()).await.refused(403, 40301);
    api.post_as("/topics/a%20b", V2_JSON, one.clone()).await.refused(400, 400);
    api.post_as("/topics/pubg1", "text/plain", one.clone()).await.refused(415, 415);
    api.post_as("/topics/pubg1", "application/vnd.kafka.avro.v2+json", one.clone()).await.refused(415, 415);
    let accept = api.request(reqwest::Method::POST, "/topics/pubg1").header("content-type", V2_JSON);
    api.send(accept.header("accept", "image/png").body(one)).await.refused(406, 406);
    for (body, status) in [
        ("", 400),
        ("[]", 400),
        ("{", 400),
        (r#"{"records":1}"#, 400),
        (r#"{"records":[1]}"#, 400),
        ("{}", 422),
        (r#"{"records":[]}"#, 422),
        (r#"{"records":[{"vlaue":1}]}"#, 422),
        (r#"{"records":[{"key":1}]}"#, 422),
    ] {
        api.post_as("/topics/pubg1", V2_JSON, body).await.refused(status, status.into());
    }
    api.post_as("/topics/pubg1", V2_BINARY, r#"{"records":[{"value":"%%"}]}"#).await.refused(400, 400);
    let unknown = json!({"records": [{"value": 1, "partition": 0}, {"value": 2, "partition": 9}]}).to_string();
    api.post_as("/topics/pubg1", V2_JSON, unknown).await.refused(404, 40402);
    let elsewhere = json!({"records": [{"value": 1, "partition": 0}]}).to_string();
    api.post_as("/topics/pubg1/partitions/1", V2_JSON, elsewhere).await.refused(422, 422);
    for partition in 0..4 {
        assert_eq!(api.values("pubg1", partition).await.len(), 0, "nothing was written");
    }
    api.stop().await;
}

#[actix_rt::test]
async fn a_record_may_fail_alone() {
    let api = Api::start().await;
    let body = json!({"topic_name": "small", "configs": {"max_message_bytes": 2000}});
    assert_eq!(api.post("/admin/topics", body.to_string()).await.status, 201);
    let large = "x".repeat(3000);
    let some = json!({"records": [{"value": "a"}, {"value": large}, {"value": "b"}]}).to_string();
    let offsets = api.post_as("/topics/small", V2_TEXT, some).await.ok()["offsets"].clone();
    assert_eq!((&offsets[0]["offset"], &offsets[2]["offset"]), (&json!(0), &json!(1)));
    assert_eq!((&offsets[1]["offset"], &offsets[1]["error_code"]), (&Value::Null, &json!(413)));
    assert!(offsets[1]["error"].as_str().unwrap().contains("2000"));
    let none = api.post_as("/topics/small", V2_TEXT, json!({"records": [{"value": large}]}).to_string()).await;
    assert_eq!((none.status, &none.json()["offsets"][0]["error_code"]), (422, &json!(413)));
    // Together they are larger than one batch may be: they take several.
    let many: Vec<Value> = (0..20).map(|n| json!({"value": format!("{n:0>500}")})).collect();
    let offsets =
        api.post_as("/topics/small", V2_TEXT, json!({"records": many}).to_string()).await.ok()["offsets"].clone();
    let offsets: Vec<u64> = offsets.as_array().unwrap().iter().map(|entry| entry["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (2..22).collect::<Vec<_>>());
    api.stop().await;
}

#[actix_rt::test]
async fn a_compacted_topic_needs_keys_on_every_route() {
    let api = Api::start().await;
    let body = json!({"topic_name": "table", "configs": {"cleanup_policy": "compact"}});
    assert_eq!(api.post("/admin/topics", body.to_string()).await.status, 201);
    let records = json!({"records": [{"value": "a"}, {"key": "k", "value": "b"}]}).to_string();
    let offsets = api.post_as("/topics/table", V2_TEXT, records).await.ok()["offsets"].clone();
    assert_eq!((&offsets[0]["error_code"], &offsets[1]["offset"]), (&json!(422), &json!(0)));
    api.post("/publish?topic=table", "{\"partition\":0}").await.refused(422, 422);
    let lines = api.post_as("/topics/table", NDJSON, "{\"value\":1}").await;
    assert_eq!(lines.json()["error_code"], 422);
    api.post("/topics/table/partitions/0/batches", batch(&[b"v"], None)).await.refused(422, 42208);
    assert_eq!(api.values("table", 0).await, [json!("b")]);
    api.stop().await;
}
