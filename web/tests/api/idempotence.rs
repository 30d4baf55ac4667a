//! Idempotent producers on every produce route.

use pubg1_model::{ProducerId, record_batch::ProducerIdentity};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, NDJSON, Reply, V2_JSON, batch};

async fn producer(api: &Api) -> i64 {
    let reply = api.post("/producers", "{}").await.ok();
    assert_eq!(reply["producer_epoch"], 0);
    reply["producer_id"].as_i64().unwrap()
}

async fn send(api: &Api, path: &str, content_type: &str, id: i64, sequence: i32, body: String) -> Reply {
    let request = api.request(Method::POST, path).header("content-type", content_type);
    let request = request.header("producer-id", id).header("producer-epoch", 0).header("producer-seq", sequence);
    api.send(request.body(body)).await
}

#[actix_rt::test]
async fn publish_and_v2_answer_a_retry_with_the_first_offsets() {
    let api = Api::start().await;
    let id = producer(&api).await;
    assert_ne!(id, producer(&api).await, "an id is handed out once");
    let object = json!({"partition": 0, "value": 1}).to_string();
    let first = send(&api, "/publish", "application/json", id, 0, object.clone()).await;
    assert_eq!((first.ok()["offset"].clone(), first.header("producer-duplicate")), (json!(0), None));
    let again = send(&api, "/publish", "application/json", id, 0, object.clone()).await;
    assert_eq!((again.ok()["offset"].clone(), again.header("producer-duplicate")), (json!(0), Some("true")));

    let records = json!({"records": [{"value": 1}, {"value": 2}]}).to_string();
    let path = "/topics/pubg1/partitions/0";
    let first = send(&api, path, V2_JSON, id, 1, records.clone()).await.ok();
    let again = send(&api, path, V2_JSON, id, 1, records.clone()).await;
    assert_eq!(
        (again.ok()["offsets"].clone(), again.header("producer-duplicate")),
        (first["offsets"].clone(), Some("true"))
    );

    let gap = send(&api, path, V2_JSON, id, 9, records.clone()).await.refused(409, 40905);
    assert_eq!((&gap["expected"], &gap["received"]), (&json!(3), &json!(9)));
    send(&api, "/publish", "application/json", id, 9, object).await.refused(409, 40905);
    assert_eq!(api.get("/loglen?partition=0").await.ok()["length"], 3);
    // Another partition has sequences of its own.
    let elsewhere = send(&api, "/topics/pubg1/partitions/1", V2_JSON, id, 0, records).await;
    assert_eq!(elsewhere.ok()["offsets"][0]["offset"], 0);
    api.stop().await;
}

#[actix_rt::test]
async fn a_request_with_a_sequence_goes_to_one_partition_that_a_retry_reaches_too() {
    let api = Api::start().await;
    let id = producer(&api).await;
    let two = json!({"records": [{"value": 1, "partition": 0}, {"value": 2, "partition": 1}]}).to_string();
    send(&api, "/topics/pubg1", V2_JSON, id, 0, two).await.refused(422, 422);
    let in_turn = json!({"records": [{"value": 1}]}).to_string();
    send(&api, "/topics/pubg1", V2_JSON, id, 0, in_turn).await.refused(422, 422);
    let keyed = json!({"records": [{"value": 1, "key": "k"}, {"value": 2, "key": "k"}]}).to_string();
    send(&api, "/topics/pubg1", V2_JSON, id, 0, keyed).await.ok();
    for headers in
        [vec![("producer-id", "1")], vec![("producer-id", "1"), ("producer-epoch", "x"), ("producer-seq", "0")]]
    {
        let mut request = api.request(Method::POST, "/publish").body("{\"partition\":0}");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        api.send(request).await.refused(400, 400);
    }
    api.stop().await;
}

#[actix_rt::test]
async fn raw_batches_carry_their_identity_and_old_epochs_are_fenced() {
    let api = Api::start().await;
    let id = producer(&api).await;
    let path = "/topics/pubg1/partitions/0/batches";
    let of = |epoch, sequence| batch(&[b"a", b"b"], Some(ProducerIdentity { id: ProducerId(id), epoch, sequence }));
    let first = api.post(path, of(1, 0)).await;
    assert_eq!(first.ok()["offsets"][0]["duplicate"], false);
    let again = api.post(path, of(1, 0)).await;
    assert_eq!(
        (again.ok()["offsets"][0]["duplicate"].clone(), again.header("producer-duplicate")),
        (json!(true), Some("true"))
    );
    assert_eq!(again.json()["offsets"][0]["base_offset"], 0);
    let gap = api.post(path, of(1, 5)).await.refused(409, 40905);
    assert_eq!(gap["expected"], 2);
    api.post(path, of(0, 2)).await.refused(403, 40302);
    let request = api.request(Method::POST, path).header("producer-id", id).header("producer-epoch", 1);
    api.send(request.header("producer-seq", 7).body(of(1, 2))).await.refused(422, 422);
    api.stop().await;
}

#[actix_rt::test]
async fn an_interrupted_line_stream_is_resumed_without_loss_or_repetition() {
    let api = Api::start_with(|_, limits| limits.group_lines_max = 3).await;
    let id = producer(&api).await;
    let path = "/topics/pubg1/partitions/2";
    let lines = |from: usize, to: usize| -> String { (from..to).map(|n| format!("{{\"value\":{n}}}\n")).collect() };
    let acks = |reply: &Reply| -> Vec<Value> {
        reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let first = acks(&send(&api, path, NDJSON, id, 0, lines(0, 40)).await);
    assert!(first.iter().enumerate().all(|(n, ack)| ack["offset"] == json!(n)), "{first:?}");
    // The client saw only the first ten answers, and goes on from there.
    let second = acks(&send(&api, path, NDJSON, id, 10, lines(10, 60)).await);
    assert_eq!(second.len(), 50);
    for (n, ack) in (10..).zip(&second) {
        if n < 40 {
            assert_eq!(ack["duplicate"], true, "{n}: {ack}");
            assert!(ack["offset"].is_null() || ack["offset"] == json!(n), "{n}: {ack}");
        } else {
            assert_eq!((ack["offset"].clone(), &ack["duplicate"]), (json!(n), &Value::Null), "{n}");
        }
    }
    let values: Vec<Value> = (0..60).map(|n: u64| json!(n.to_string())).collect();
    assert_eq!(api.values("pubg1", 2).await, values);

    let gap = acks(&send(&api, path, NDJSON, id, 99, lines(99, 101)).await);
    assert_eq!(
        (&gap[0]["error_code"], &gap[0]["expected"], &gap[1]["error_code"]),
        (&json!(40905), &json!(60), &json!(40905))
    );
    let bad = acks(&send(&api, path, NDJSON, id, 60, format!("{}nonsense\n{}", lines(60, 61), lines(61, 62))).await);
    assert_eq!(
        (&bad[0]["offset"], &bad[1]["error_code"], &bad[2]["error_code"]),
        (&json!(60), &json!(400), &json!(400))
    );
    assert_eq!(api.values("pubg1", 2).await.len(), 61, "nothing is written after an error");
    api.stop().await;
}
