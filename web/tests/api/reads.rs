//! Stateless reads as lists and lines; long polls.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, NDJSON, V2_JSON, batch, shared};

const RECORDS: &str = "/topics/pubg1/partitions/0/records";

async fn publish(api: &Api, count: u64) {
    for n in 0..count {
        let ms = 1_767_225_600_000 + n * 1000;
        api.post("/publish", json!({"partition": 0, "n": n, "client_ts": ms}).to_string()).await.ok();
    }
}

fn offsets(records: &Value) -> Vec<u64> {
    records.as_array().unwrap().iter().map(|record| record["offset"].as_u64().unwrap()).collect()
}

#[actix_rt::test]
async fn a_read_begins_at_an_offset_a_time_or_before_the_end() {
    let api = Api::start().await;
    publish(&api, 5).await;
    for (query, expected) in [
        ("", vec![0, 1, 2, 3, 4]),
        ("offset=3", vec![3, 4]),
        ("offset=5", vec![]),
        ("tail=2", vec![3, 4]),
        ("tail=99", vec![0, 1, 2, 3, 4]),
        ("tail=0", vec![]),
        ("timestamp=1767225602000", vec![2, 3, 4]),
        ("timestamp=1767225602001", vec![3, 4]),
        ("timestamp=1867225602000", vec![]),
        ("timestamp=0", vec![0, 1, 2, 3, 4]),
        ("offset=1&max_records=2", vec![1, 2]),
        ("offset=1&max_bytes=1", vec![1]),
    ] {
        let reply = api.get(&format!("{RECORDS}?format=json&{query}")).await;
        assert_eq!(offsets(&reply.ok()), expected, "{query}");
        let next = expected.last().map_or(5, |last| last + 1);
        assert_eq!(reply.header("next-offset"), Some(next.to_string().as_str()), "{query}");
        assert_eq!((reply.header("high-watermark"), reply.header("log-start-offset")), (Some("5"), Some("0")));
    }
    for query in [
        "offset=1&tail=1",
        "timestamp=1&offset=1",
        "offset=x",
        "offset=-1",
        "max_records=0",
        "wait=soon",
        "format=avro",
        "max_bytes=-1",
    ] {
        api.get(&format!("{RECORDS}?{query}")).await.refused(400, 400);
    }
    let refused = api.get(&format!("{RECORDS}?offset=6")).await.refused(416, 41601);
    assert_eq!((&refused["beginning_offset"], &refused["end_offset"]), (&json!(0), &json!(5)));
    api.stop().await;
}

#[actix_rt::test]
async fn the_form_follows_accept() {
    let api = Api::start().await;
    publish(&api, 2).await;
    let accept = |accept: &str| api.send(api.request(Method::GET, RECORDS).header("accept", accept));
    let lines = accept(NDJSON).await;
    assert_eq!(lines.header("content-type"), Some(NDJSON));
    let values: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((values.len(), &values[1]["value"]["n"]), (2, &json!(1)));
    assert_eq!(accept("application/json").await.ok()[0]["value"]["n"], 0, "who says JSON means JSON");
    assert_eq!(accept(V2_JSON).await.header("content-type"), Some(V2_JSON));
    assert!(accept("*/*").await.ok()[0]["value"].is_string(), "base64 by default, as in the dialect");
    accept("text/html").await.refused(406, 406);
    api.get("/topics/none/partitions/0/records").await.refused(404, 40401);
    api.get("/topics/pubg1/partitions/7/records").await.refused(404, 40402);
    api.get("/topics/pubg1/partitions/x/records").await.refused(404, 404);
    api.get("/topics//partitions/0/records").await.refused(400, 400);
    api.stop().await;
}

#[actix_rt::test]
async fn a_record_that_cannot_be_shown_names_itself_and_can_be_passed() {
    let api = Api::start().await;
    let body = batch(&[b"1", b"\xff\xfe", b"3"], None);
    api.post("/topics/pubg1/partitions/0/batches", body).await.ok();
    let list = api.get(&format!("{RECORDS}?format=json")).await;
    assert_eq!(
        (offsets(&list.ok()), list.header("next-offset")),
        (vec![0], Some("1")),
        "what is before it is delivered"
    );
    let refused = api.get(&format!("{RECORDS}?format=json&offset=1")).await.refused(422, 42207);
    assert_eq!((&refused["topic"], &refused["partition"], &refused["offset"]), (&json!("pubg1"), &json!(0), &json!(1)));
    assert_eq!(offsets(&api.get(&format!("{RECORDS}?format=json&offset=2")).await.ok()), [2]);
    assert_eq!(offsets(&api.get(&format!("{RECORDS}?format=binary")).await.ok()), [0, 1, 2]);
    let lines = api.send(api.request(Method::GET, RECORDS).header("accept", NDJSON)).await;
    assert!(lines.text().lines().nth(1).unwrap().contains("\"value_base64\":\"//4=\""), "{}", lines.text());
    let consumed = api.get("/consume?partition=0").await.ok();
    assert_eq!(consumed["messages"], json!([1, "\u{fffd}\u{fffd}", 3]));
    api.stop().await;
}

#[actix_rt::test]
async fn a_long_poll_wakes_when_a_record_comes() {
    let api = shared(Api::start().await);
    let waiting = actix_rt::spawn({
        let api = shared(api.request(Method::GET, &format!("{RECORDS}?format=json&wait=30s")));
        async move { crate::harness::Reply::of(api.try_clone().unwrap().send().await.unwrap()).await }
    });
    // The poll is being served once the gauge says so.
    while !api.get("/metrics").await.text().contains("pubg1_requests_in_flight{api=\"fetch\"} 1") {
        tokio::task::yield_now().await;
    }
    api.post("/publish", json!({"partition": 0, "n": 7}).to_string()).await.ok();
    assert_eq!(waiting.await.unwrap().ok()[0]["value"]["n"], 7);
    let nothing = api.get(&format!("{RECORDS}?offset=1&wait=1ms")).await;
    assert_eq!(nothing.ok(), json!([]));
    shared_into(api).stop().await;
}

#[actix_rt::test]
async fn reads_that_wait_are_counted() {
    let api = Api::start_with(|_, limits| limits.waiting_reads_max = 0).await;
    let refused = api.get(&format!("{RECORDS}?wait=1s")).await;
    refused.refused(429, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    api.get(RECORDS).await.ok();
    assert!(api.get("/metrics").await.text().contains("pubg1_throttled_requests_total{reason=\"waits\"} 1"));
    api.stop().await;
}

fn shared_into(api: std::sync::Arc<Api>) -> Api {
    std::sync::Arc::into_inner(api).unwrap()
}
