//! The simple surface, word for word.

use serde_json::{Value, json};

use crate::harness::Api;

#[actix_rt::test]
async fn what_is_published_is_consumed_as_it_was_sent() {
    let api = Api::start().await;
    let sent = "{ \"partition\":0, \"key\":\"k\",\n \"value\": {\"n\": 1.50, \"big\": 12345678901234567890123}, \"client_ts\": 1767225600.25 }";
    let reply = api.post("/publish", sent).await.ok();
    assert_eq!(reply, json!({"status": "ok", "offset": 0, "leader": 0, "leader_epoch": reply["leader_epoch"]}));
    assert_eq!(api.post("/publish", json!({"partition": 0, "value": 2}).to_string()).await.ok()["offset"], 1);

    let consumed = api.get("/consume?partition=0&offset=0").await;
    assert!(consumed.text().contains(sent), "the bytes are kept: {}", consumed.text());
    let body = consumed.ok();
    assert_eq!(body["messages"][1], json!({"partition": 0, "value": 2}));
    assert_eq!(body["next_offset"], 2);
    assert_eq!(api.get("/loglen?partition=0").await.ok(), json!({"length": 2}));
    assert_eq!(api.get("/loglen?partition=1").await.ok(), json!({"length": 0}));

    let records = api.get("/topics/pubg1/partitions/0/records?format=text").await.ok();
    assert_eq!(records[0]["key"], "k", "the key is the record's key");
    assert_eq!(records[0]["timestamp"], 1_767_225_600_250_i64, "client_ts in seconds is the record's time");
    assert_eq!(records[1]["key"], Value::Null);
    api.stop().await;
}

#[actix_rt::test]
async fn consume_is_bounded_and_forgiving_about_offsets() {
    let api = Api::start().await;
    for n in 0..5 {
        api.post("/publish", json!({"partition": 2, "n": n}).to_string()).await.ok();
    }
    let consume = |query: &str| {
        let path = format!("/consume?partition=2&{query}");
        let api = &api;
        async move { api.get(&path).await.ok() }
    };
    assert_eq!(consume("").await["messages"].as_array().unwrap().len(), 5, "the offset defaults to 0");
    let two = consume("offset=1&max_messages=2").await;
    assert_eq!(two, json!({"messages": [{"partition": 2, "n": 1}, {"partition": 2, "n": 2}], "next_offset": 3}));
    let one = consume("offset=3&max_bytes=1").await;
    assert_eq!(one["next_offset"], 4, "at least one message, whatever max_bytes says");
    assert_eq!(consume("offset=5").await, json!({"messages": [], "next_offset": 5}));
    assert_eq!(consume("offset=99").await, json!({"messages": [], "next_offset": 99}), "a consumer may poll ahead");

    api.delete("/topics/pubg1/partitions/2/records?before=4").await.ok();
    let rest = consume("offset=0").await;
    assert_eq!(rest, json!({"messages": [{"partition": 2, "n": 4}], "next_offset": 5}), "deleted ones are passed over");
    api.stop().await;
}

#[actix_rt::test]
async fn a_partition_that_is_missing_bad_or_unknown_is_400() {
    let api = Api::start().await;
    for partition in ["", "partition=", "partition=x", "partition=-1", "partition=4", "partition=99999999999"] {
        for path in ["/consume", "/loglen", "/offset"] {
            api.get(&format!("{path}?group_id=g&{partition}")).await.refused(400, 400);
        }
    }
    for partition in [
        "",
        "\"partition\":null,",
        "\"partition\":\"0\",",
        "\"partition\":-1,",
        "\"partition\":4,",
        "\"partition\":1e3,",
    ] {
        api.post("/publish", format!("{{{partition}\"value\":1}}")).await.refused(400, 400);
        api.post("/commit_offset", format!("{{{partition}\"group_id\":\"g\",\"offset\":1}}")).await.refused(400, 400);
    }
    for body in ["", "[]", "7", "{", "{\"partition\":0}x", "{\"partition\":0,\"partition\":0}"] {
        api.post("/publish", body).await.refused(400, 400);
    }
    api.get("/offset?partition=0").await.refused(400, 400);
    api.get("/consume?partition=0&offset=x").await.refused(400, 400);
    api.get("/consume?partition=0&topic=missing").await.refused(404, 40401);
    api.get("/consume?partition=0&topic=a%2Fb").await.refused(400, 400);
    api.stop().await;
}

#[actix_rt::test]
async fn offsets_are_committed_durably() {
    let directory = tempfile::tempdir().unwrap();
    let api = Api::start_in(directory.path(), |_, _| ()).await;
    assert_eq!(api.get("/offset?group_id=g&partition=0").await.ok(), json!({"offset": 0}));
    let body = json!({"group_id": "g", "partition": 0, "offset": 17});
    assert_eq!(api.post("/commit_offset", body.to_string()).await.ok(), json!({"status": "ok"}));
    assert_eq!(api.get("/offset?group_id=g&partition=0").await.ok(), json!({"offset": 17}));
    assert_eq!(api.get("/offset?group_id=g&partition=1").await.ok(), json!({"offset": 0}));
    assert_eq!(api.get("/offset?group_id=other&partition=0").await.ok(), json!({"offset": 0}));
    api.post("/commit_offset", json!({"group_id": "a/b", "partition": 0, "offset": 1}).to_string())
        .await
        .refused(400, 400);
    api.stop().await;
    let api = Api::start_in(directory.path(), |_, _| ()).await;
    assert_eq!(api.get("/offset?group_id=g&partition=0").await.ok(), json!({"offset": 17}));
    api.stop().await;
}

#[actix_rt::test]
async fn metadata_names_urls_for_a_topic() {
    let api = Api::start().await;
    let url = format!("http://{}", api.address);
    let metadata = api.get("/metadata").await.ok();
    let expected = json!({
        "leader_epochs": metadata["leader_epochs"],
        "partitions": {"0": [url], "1": [url], "2": [url], "3": [url]},
        "leaders": {"0": url, "1": url, "2": url, "3": url},
        "members": [url],
    });
    assert_eq!(metadata, expected);
    assert_eq!(metadata["leader_epochs"].as_object().unwrap().len(), 4);
    api.create_topic("one", 1).await;
    assert_eq!(api.get("/metadata?topic=one").await.ok()["leaders"], json!({"0": url}));
    api.get("/metadata?topic=none").await.refused(404, 40401);
    api.stop().await;
}

#[actix_rt::test]
async fn publish_reaches_other_topics_by_body_or_query() {
    let api = Api::start().await;
    api.create_topic("orders", 1).await;
    api.post("/publish", json!({"partition": 0, "topic": "orders", "value": 1}).to_string()).await.ok();
    api.post("/publish?topic=orders", json!({"partition": 0, "value": 2}).to_string()).await.ok();
    assert_eq!(api.get("/loglen?partition=0&topic=orders").await.ok()["length"], 2);
    assert_eq!(api.get("/loglen?partition=0").await.ok()["length"], 0);
    let acks = api.post("/publish?acks=1", json!({"partition": 0}).to_string()).await.ok();
    assert_eq!(acks["offset"], 0);
    assert_eq!(api.post("/publish?acks=0", json!({"partition": 0}).to_string()).await.ok()["offset"], Value::Null);
    api.post("/publish?acks=2", json!({"partition": 0}).to_string()).await.refused(400, 400);
    api.stop().await;
}
