//! NDJSON produce.

use std::convert::Infallible;

use futures_util::StreamExt;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::{Api, NDJSON, Reply};

fn acks(reply: &Reply) -> Vec<Value> {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some(NDJSON)), "{}", reply.text());
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[actix_rt::test]
async fn each_line_is_answered_in_order() {
    let api = Api::start().await;
    let body = [
        r#"{"key":"k","value":{"n": 1.0},"partition":1,"timestamp":9,"headers":[{"key":"h","value":"eA=="}]}"#,
        "",
        r#"{"value":"text","partition":2}"#,
        r#"{"valu":1}"#,
        "  ",
        "nonsense",
        r#"{"value":2,"partition":9}"#,
        r#"{"value":null,"key":{"id": 7},"partition":1}"#,
    ]
    .join("\r\n");
    let acks = acks(&api.post_as("/topics/pubg1", NDJSON, body).await);
    assert_eq!(acks.len(), 6, "{acks:?}");
    let epoch = &acks[0]["leader_epoch"];
    assert_eq!(acks[0], json!({"partition": 1, "offset": 0, "leader": 0, "leader_epoch": epoch}));
    assert_eq!((&acks[1]["partition"], &acks[1]["offset"]), (&json!(2), &json!(0)));
    assert_eq!((&acks[2]["error_code"], &acks[2]["line"]), (&json!(422), &json!(4)));
    assert_eq!((&acks[3]["error_code"], &acks[3]["line"]), (&json!(400), &json!(6)));
    assert_eq!((&acks[4]["error_code"], &acks[4]["line"]), (&json!(40402), &json!(7)));
    assert_eq!((&acks[5]["partition"], &acks[5]["offset"]), (&json!(1), &json!(1)));
    let records = api.get("/topics/pubg1/partitions/1/records?format=text").await.ok();
    assert_eq!(
        (&records[0]["key"], &records[0]["value"], &records[0]["timestamp"]),
        (&json!("k"), &json!("{\"n\":1.0}"), &json!(9))
    );
    assert_eq!(records[0]["headers"], json!([{"key": "h", "value": "eA=="}]));
    assert_eq!((&records[1]["key"], &records[1]["value"]), (&json!("{\"id\":7}"), &Value::Null));
    api.stop().await;
}

#[actix_rt::test]
async fn acknowledgements_come_while_lines_are_still_being_sent() {
    let api = Api::start().await;
    let (lines, body) = piecewise();
    let request = api.request(Method::POST, "/topics/pubg1/partitions/0").header("content-type", NDJSON);
    let mut reply = request.body(body).send().await.unwrap().bytes_stream();
    let mut received = String::new();
    for n in 0..3 {
        lines.send(Ok(format!("{{\"value\":{n}}}\n"))).await.unwrap();
        while received.lines().count() <= n {
            received.push_str(std::str::from_utf8(&reply.next().await.unwrap().unwrap()).unwrap());
        }
        let ack: Value = serde_json::from_str(received.lines().last().unwrap()).unwrap();
        assert_eq!(ack["offset"], n);
    }
    lines.send(Ok("{\"value\":3}".to_owned())).await.unwrap();
    drop(lines);
    while let Some(chunk) = reply.next().await {
        received.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    assert_eq!(received.lines().count(), 4, "the last line needs no line break");
    api.stop().await;
}

/// A request body that is sent piece by piece.
fn piecewise() -> (mpsc::Sender<Result<String, Infallible>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (sender, Body::wrap_stream(stream))
}

#[actix_rt::test]
async fn many_lines_are_all_there_in_order() {
    let api = Api::start_with(|_, limits| limits.group_lines_max = 700).await;
    let body: String = (0..5000).map(|n| format!("{{\"value\":{n}}}\n")).collect();
    let acks = acks(&api.post_as("/topics/pubg1/partitions/3", NDJSON, body).await);
    let offsets: Vec<u64> = acks.iter().map(|ack| ack["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (0..5000).collect::<Vec<_>>());
    let values = api.values("pubg1", 3).await;
    assert!(values.iter().enumerate().all(|(n, value)| *value == json!(n.to_string())));
    api.stop().await;
}

#[actix_rt::test]
async fn a_long_line_is_refused_alone_and_a_broken_body_ends_the_stream() {
    let api = Api::start_with(|_, limits| limits.line_bytes_max = 100).await;
    let body = format!("{{\"value\":1}}\n{{\"value\":\"{}\"}}\n{{\"value\":3}}\n", "x".repeat(1000));
    let answered = acks(&api.post_as("/topics/pubg1/partitions/0", NDJSON, body).await);
    assert_eq!(
        (&answered[0]["offset"], &answered[1]["error_code"], &answered[2]["offset"]),
        (&json!(0), &json!(413), &json!(1))
    );
    let request = api.request(Method::POST, "/topics/pubg1/partitions/0").header("content-type", NDJSON);
    let broken = api.send(request.header("content-encoding", "gzip").body("not gzip")).await;
    let answered = acks(&broken);
    assert_eq!((answered.len(), &answered[0]["error_code"]), (1, &json!(400)));
    api.stop().await;
}

#[actix_rt::test]
async fn what_concerns_the_whole_stream_is_its_status() {
    let api = Api::start().await;
    api.post_as("/topics/none", NDJSON, "{\"value\":1}").await.refused(404, 40401);
    api.post_as("/topics/pubg1/partitions/9", NDJSON, "{\"value\":1}").await.refused(404, 40402);
    api.post_as("/topics/pubg1?acks=7", NDJSON, "{\"value\":1}").await.refused(400, 400);
    assert_eq!(acks(&api.post_as("/topics/pubg1", NDJSON, "").await), Vec::<Value>::new());
    assert!(api.get("/metrics").await.text().contains("pubg1_requests_total{api=\"produce_ndjson\",code=\"404\"} 2"));
    api.stop().await;
}
