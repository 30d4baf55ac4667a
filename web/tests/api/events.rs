//! Server-sent events: what comes, and how it is resumed.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{Api, Reply, batch};

const RECORDS: &str = "/topics/pubg1/partitions/0/records";

/// A client's side of an event stream.
struct Stream {
    response: Response,
    buffer: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    id: Option<i64>,
    name: String,
    data: Value,
}

impl Stream {
    async fn open(api: &Api, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = api.request(Method::GET, &format!("{RECORDS}?{query}")).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(!response.headers().contains_key("content-encoding"), "a stream is not compressed");
        Self { response, buffer: String::new() }
    }

    /// The next event, comments left out; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let event = parse(block);
                self.buffer = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn record(&mut self) -> (u64, Value) {
        loop {
            let event = self.next().await.unwrap();
            if event.name == "record" {
                assert_eq!(event.id, event.data["offset"].as_i64());
                return (event.data["offset"].as_u64().unwrap(), event.data["value"].clone());
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let data = serde_json::from_str(field("data:")?).unwrap();
    Some(Event { id: field("id:").map(|id| id.parse().unwrap()), name: field("event:").unwrap().to_owned(), data })
}

async fn publish(api: &Api, n: u64) {
    api.post("/publish", json!({"partition": 0, "n": n}).to_string()).await.ok();
}

#[actix_rt::test]
async fn events_follow_the_log_and_resume_after_the_last_one_seen() {
    let api = Api::start().await;
    publish(&api, 0).await;
    publish(&api, 1).await;
    let mut stream = Stream::open(&api, "offset=0", None).await;
    let start = stream.next().await.unwrap();
    assert_eq!((start.id, start.name.as_str()), (Some(-1), "control"));
    assert_eq!(start.data, json!({"next_offset": 0, "high_watermark": 2, "up_to_date": false}));
    assert_eq!(stream.record().await, (0, json!({"partition": 0, "n": 0})));
    assert_eq!(stream.record().await.0, 1);
    let caught_up = stream.next().await.unwrap();
    assert_eq!((caught_up.id, caught_up.data["up_to_date"].as_bool()), (Some(1), Some(true)));
    publish(&api, 2).await;
    assert_eq!(stream.record().await.0, 2, "a new record comes by itself");
    drop(stream);

    publish(&api, 3).await;
    // The query still says tail=0; the id takes precedence.
    let mut stream = Stream::open(&api, "tail=0", Some("1")).await;
    assert_eq!([stream.record().await.0, stream.record().await.0], [2, 3]);
    let mut stream = Stream::open(&api, "tail=0", Some("-1")).await;
    assert_eq!(stream.record().await.0, 0);
    api.stop().await;
}

#[actix_rt::test]
async fn a_stream_that_cannot_begin_is_refused_and_one_that_cannot_go_on_says_why() {
    let api = Api::start().await;
    let open = |query: &str, id: &str| {
        let request = api.request(Method::GET, &format!("{RECORDS}?{query}"));
        api.send(request.header("accept", "text/event-stream").header("last-event-id", id.to_owned()))
    };
    open("", "7").await.refused(416, 41601);
    open("", "x").await.refused(400, 400);
    api.create_topic("short", 1).await;
    let request = api.request(Method::GET, "/topics/short/partitions/0/records").header("accept", "text/event-stream");
    let mut stream = Stream { response: request.send().await.unwrap(), buffer: String::new() };
    assert_eq!(stream.next().await.unwrap().name, "control");
    assert_eq!(api.delete("/admin/topics/short").await.status, 204);
    let last = loop {
        let event = stream.next().await.unwrap();
        if event.name == "error" {
            break event;
        }
    };
    assert_eq!(last.data["error_code"], 40401);
    assert_eq!(stream.next().await, None);
    api.stop().await;
}

#[actix_rt::test]
async fn a_quiet_stream_is_pinged_and_an_old_one_ends() {
    let api = Api::start_with(|_, limits| {
        limits.event_ping = std::time::Duration::from_millis(5);
        limits.event_stream_age_max = std::time::Duration::from_millis(50);
    })
    .await;
    let response = Stream::open(&api, "", None).await.response;
    let text = Reply::of(response).await;
    assert!(text.text().starts_with("retry: "), "{}", text.text());
    assert!(text.text().contains(": ping\n\n"), "{}", text.text());
    api.stop().await;
}

#[actix_rt::test]
async fn bytes_that_are_no_text_do_not_stop_a_stream() {
    let api = Api::start().await;
    api.post("/topics/pubg1/partitions/0/batches", batch(&[b"\xff", b"2"], None)).await.ok();
    let mut stream = Stream::open(&api, "", None).await;
    assert_eq!(stream.record().await, (0, Value::Null));
    assert_eq!(stream.record().await, (1, json!(2)));
    api.stop().await;
}
