//! The simple surface, with exact bodies.

use serde_json::{Value, json};

use crate::harness::TestBroker;

#[tokio::test]
async fn the_simple_surface_answers_with_exact_bodies() {
    let broker = TestBroker::start(&[]).await;
    let url = broker.client.base();
    let port: u16 = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");

    let (status, health) = broker.get("/health").await;
    assert_eq!((status, &health["status"], &health["port"]), (200, &json!("ok"), &json!(port)), "{health}");

    let replicas = json!([url]);
    let expected = json!({
        "partitions": { "0": replicas, "1": replicas, "2": replicas, "3": replicas },
        "leaders": { "0": url, "1": url, "2": url, "3": url },
        "members": [url],
    });
    let (status, metadata) = broker.get("/metadata").await;
    assert_eq!(status, 200);
    for member in ["partitions", "leaders", "members"] {
        assert_eq!(metadata[member], expected[member], "{metadata}");
    }

    let message = json!({ "partition": 0, "key": "k", "value": { "a": [1, null] }, "client_ts": 17 });
    let (status, published) = broker.post("/publish", &message).await;
    assert_eq!((status, &published["status"], &published["offset"]), (200, &json!("ok"), &json!(0)), "{published}");
    let second = json!({ "partition": 0, "value": "only a value" });
    assert_eq!(broker.post("/publish", &second).await.1["offset"], 1);

    let (status, consumed) = broker.get("/consume?partition=0&offset=0").await;
    assert_eq!((status, consumed), (200, json!({ "messages": [message, second], "next_offset": 2 })));
    assert_eq!(broker.get("/consume?partition=0&offset=2").await, (200, json!({ "messages": [], "next_offset": 2 })));
    let limited = broker.get("/consume?partition=0&offset=0&max_messages=1").await;
    assert_eq!(limited, (200, json!({ "messages": [message], "next_offset": 1 })));
    assert_eq!(broker.get("/consume?partition=1&offset=0").await, (200, json!({ "messages": [], "next_offset": 0 })));

    assert_eq!(broker.get("/loglen?partition=0").await, (200, json!({ "length": 2 })));
    assert_eq!(broker.get("/loglen?partition=3").await, (200, json!({ "length": 0 })));
}

#[tokio::test]
async fn commits_are_durable() {
    let mut broker = TestBroker::start(&[]).await;
    assert_eq!(broker.get("/offset?group_id=g&partition=0").await, (200, json!({ "offset": 0 })));
    for offset in [3, 7] {
        let commit = json!({ "group_id": "g", "partition": 0, "offset": offset });
        let (status, committed) = broker.post("/commit_offset", &commit).await;
        assert_eq!((status, &committed["status"]), (200, &json!("ok")), "{committed}");
    }
    broker.kill_and_restart().await;
    assert_eq!(broker.get("/offset?group_id=g&partition=0").await, (200, json!({ "offset": 7 })));
    assert_eq!(broker.get("/offset?group_id=other&partition=0").await, (200, json!({ "offset": 0 })));
}

#[tokio::test]
async fn what_makes_no_sense_is_400_with_a_json_error() {
    let broker = TestBroker::start(&[]).await;
    let is_error = |(status, body): (u16, Value)| {
        assert_eq!(status, 400, "{body}");
        assert!(body["error_code"].is_number() && body["message"].is_string(), "{body}");
    };
    is_error(broker.post("/publish", &json!({ "key": "no partition" })).await);
    is_error(broker.post("/publish", &json!({ "partition": 99, "value": 1 })).await);
    is_error(broker.post("/publish", &json!({ "partition": "zero", "value": 1 })).await);
    is_error(broker.post("/publish", &json!([1, 2])).await);
    is_error(broker.get("/consume?offset=0").await);
    is_error(broker.get("/consume?partition=-1&offset=0").await);
    is_error(broker.get("/loglen?partition=4").await);
    is_error(broker.get("/offset?partition=0").await);
}
