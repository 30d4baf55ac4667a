//! Consuming as a member of a group with one call, and as an event stream.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    consumer_client::{Instance, patient, publish, soon},
    harness::{Api, NDJSON, Reply},
};

/// What a client of the one call remembers.
#[derive(Default)]
struct Caller {
    token: Option<String>,
}

impl Caller {
    async fn ask(&self, api: &Api, group: &str, query: &str) -> Reply {
        let path = format!("/groups/{group}/topics/pubg1/records?format=json&{query}");
        patient(|| {
            let mut request = api.request(Method::GET, &path);
            if let Some(token) = &self.token {
                request = request.header("consumer-token", token);
            }
            api.send(request)
        })
        .await
    }

    /// One call, whose answer arrives.
    async fn values(&mut self, api: &Api, group: &str, query: &str) -> Vec<Value> {
        let reply = self.ask(api, group, query).await;
        let values = values(&reply);
        assert!(reply.header("consumer-generation").unwrap().parse::<u32>().unwrap() > 0, "an empty answer, too");
        self.token = Some(reply.header("consumer-token").unwrap().to_owned());
        values
    }
}

fn values(reply: &Reply) -> Vec<Value> {
    let records = reply.ok();
    records.as_array().unwrap().iter().map(|record| record["value"].clone()).collect()
}

async fn committed(api: &Api, group: &str) -> Value {
    committed_in(api, group, 0).await
}

async fn committed_in(api: &Api, group: &str, partition: u32) -> Value {
    api.get(&format!("/offset?group_id={group}&partition={partition}")).await.ok()["offset"].clone()
}

async fn commit(api: &Api, group: &str, token: Option<&str>, body: Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    patient(|| {
        let mut request = api.request(Method::POST, &format!("/groups/{group}/commits")).body(body.clone());
        if let Some(token) = token {
            request = request.header("consumer-token", token);
        }
        api.send(request)
    })
    .await
}

#[actix_rt::test]
async fn one_call_joins_and_the_next_one_goes_on_and_commits() {
    let api = Api::start().await;
    publish(&api, "pubg1", 0, (0..4).map(Value::from)).await;
    let mut caller = Caller::default();
    assert_eq!(caller.values(&api, "g", "max_records=1").await, [json!(0)]);
    assert_eq!(committed(&api, "g").await, 0, "who knows whether the answer arrived");
    assert_eq!(caller.values(&api, "g", "max_records=1").await, [json!(1)]);
    assert_eq!(committed(&api, "g").await, 1, "the token says that it did");

    let lost = caller.ask(&api, "g", "max_records=1").await;
    assert_eq!(values(&lost), [json!(2)]);
    assert_eq!(values(&caller.ask(&api, "g", "max_records=2").await), [json!(2), json!(3)], "the old token: the same");
    assert_eq!(caller.values(&api, "g", "").await, [json!(2), json!(3)]);
    assert_eq!(caller.values(&api, "g", "wait=10ms").await, Vec::<Value>::new());
    assert_eq!(caller.values(&api, "g", "wait=10ms").await, Vec::<Value>::new(), "an empty answer has a token, too");
    assert_eq!(committed(&api, "g").await, 4);
    let (answer, ()) = tokio::join!(caller.ask(&api, "g", "wait=60s"), publish(&api, "pubg1", 2, [json!("new")]));
    assert_eq!(values(&answer), [json!("new")]);

    let group = api.get("/groups/g").await.ok();
    assert_eq!((&group["state"], group["members"].as_array().unwrap().len()), (&json!("Stable"), 1));
    let member = answer.header("consumer-member").unwrap();
    assert_eq!(group["members"][0]["instance_id"], member);
    assert_eq!(api.delete(&format!("/groups/g/members/{member}")).await.status, 204);
    api.delete(&format!("/groups/g/members/{member}")).await.refused(404, 40403);
    assert_eq!(api.get("/groups/g").await.ok()["state"], "Empty");
    let rejoined = caller.values(&api, "g", "").await;
    assert_eq!(rejoined, [json!("new")], "a member that is gone joins again, and gets what it had not committed");
    api.stop().await;
}

#[actix_rt::test]
async fn commits_by_hand_are_those_of_a_token_or_of_a_group_without_members() {
    let api = Api::start().await;
    publish(&api, "pubg1", 0, (0..4).map(Value::from)).await;
    let entry = |offset: u64| json!({"offsets": [{"topic": "pubg1", "partition": 0, "offset": offset}]});
    commit(&api, "g", None, entry(2)).await.no_content();
    assert_eq!(committed(&api, "g").await, 2, "these very offsets");
    commit(&api, "g", None, Value::Null).await.refused(422, 422);
    commit(&api, "g", None, json!({"offsets": [{"topic": "no", "partition": 0, "offset": 1}]}))
        .await
        .refused(404, 40401);

    let mut caller = Caller::default();
    assert_eq!(caller.values(&api, "g", "commit=manual&max_records=1").await, [json!(2)]);
    assert_eq!(caller.values(&api, "g", "commit=manual&max_records=1").await, [json!(3)]);
    assert_eq!(committed(&api, "g").await, 2, "nothing by itself");
    commit(&api, "g", None, entry(4)).await.refused(409, 40909);
    api.post("/commit_offset", json!({"group_id": "g", "partition": 0, "offset": 4}).to_string())
        .await
        .refused(409, 40909);
    let token = caller.token.clone().unwrap();
    commit(&api, "g", Some(&token), entry(3)).await.no_content();
    assert_eq!(committed(&api, "g").await, 3);
    commit(&api, "g", Some(&token), Value::Null).await.no_content();
    assert_eq!(committed(&api, "g").await, 4, "what was received with the token");
    commit(&api, "other", Some(&token), Value::Null).await.refused(400, 400);
    commit(&api, "g", Some("1x"), Value::Null).await.refused(400, 400);
    caller.ask(&api, "g", "commit=auto").await.refused(409, 40903);
    api.stop().await;
}

#[actix_rt::test]
async fn a_token_of_an_answer_without_records_commits_what_was_received_before() {
    let api = Api::start().await;
    let mut caller = Caller::default();
    assert_eq!(caller.values(&api, "g", "commit=manual&wait=10ms").await, Vec::<Value>::new());
    commit(&api, "g", caller.token.as_deref(), Value::Null).await.no_content();
    assert_eq!(api.get("/groups/g/offsets").await.ok()["offsets"], json!([]), "there was nothing");
    publish(&api, "pubg1", 0, (0..2).map(Value::from)).await;
    assert_eq!(caller.values(&api, "g", "commit=manual&wait=10s").await, [json!(0), json!(1)]);
    // Partitions without records are reset by now, and what was received stays what is committed.
    assert_eq!(caller.values(&api, "g", "commit=manual&wait=10ms").await, Vec::<Value>::new());
    commit(&api, "g", caller.token.as_deref(), Value::Null).await.no_content();
    assert_eq!(committed(&api, "g").await, 2);
    api.stop().await;
}

#[actix_rt::test]
async fn what_a_call_asks_for_is_checked_before_it_joins() {
    let api = Api::start().await;
    for (path, status, code) in [
        ("/groups/g/topics/none/records", 404, 40401),
        ("/groups/g%07/topics/pubg1/records", 400, 400),
        ("/groups/g/topics/pubg1/records?wait=x", 400, 400),
        ("/groups/g/topics/pubg1/records?max_records=0", 400, 400),
        ("/groups/g/topics/pubg1/records?session_timeout_ms=1", 400, 400),
        ("/groups/g/topics/pubg1/records?commit=never", 400, 400),
    ] {
        api.get(path).await.refused(status, code);
    }
    let image = api.request(Method::GET, "/groups/g/topics/pubg1/records").header("accept", "image/png");
    api.send(image).await.refused(406, 406);
    api.send(api.request(Method::HEAD, "/groups/g/topics/pubg1/records")).await;
    api.get("/groups/g").await.refused(404, 40405);
    publish(&api, "pubg1", 0, [json!({"n": 1}), json!(2)]).await;
    let lines = api.request(Method::GET, "/groups/g/topics/pubg1/records").header("accept", NDJSON);
    let lines = api.send(lines).await;
    assert_eq!((lines.status, lines.text().lines().count()), (200, 2));
    api.stop().await;
}

/// A client's side of a group's event stream.
struct Stream {
    response: Response,
    buffer: String,
}

#[derive(Debug)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

impl Stream {
    async fn open(api: &Api, group: &str, last_event_id: Option<&str>) -> Self {
        let path = format!("/groups/{group}/topics/pubg1/records");
        let mut request = api.request(Method::GET, &path).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, buffer: String::new() }
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(std::time::Duration::from_secs(60), self.wait()).await.unwrap()
    }

    async fn wait(&mut self) -> Event {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let event = field("data:").map(|data| Event {
                    id: field("id:").map(str::to_owned),
                    name: field("event:").unwrap().to_owned(),
                    data: serde_json::from_str(data).unwrap(),
                });
                self.buffer = rest.to_owned();
                if let Some(event) = event {
                    return event;
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap().unwrap();
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The records of the next delivery, and the id at its end.
    async fn delivery(&mut self) -> (Vec<Value>, String) {
        let mut values = Vec::new();
        loop {
            let event = self.next().await;
            match event.name.as_str() {
                "record" => values.push(event.data["value"].clone()),
                "control" if !values.is_empty() => {
                    assert_eq!(event.data, json!({"records": values.len()}));
                    return (values, event.id.unwrap());
                }
                _ => assert_eq!(event.name, "control", "{event:?}"),
            }
        }
    }
}

#[actix_rt::test]
async fn a_group_is_followed_as_events_and_resumed_after_the_last_delivery_that_was_seen() {
    let api = Api::start().await;
    publish(&api, "pubg1", 0, [json!(0), json!(1)]).await;
    let mut stream = Stream::open(&api, "g", None).await;
    let (values, first) = stream.delivery().await;
    assert_eq!(values, [json!(0), json!(1)]);
    publish(&api, "pubg1", 0, [json!(2)]).await;
    let (values, second) = stream.delivery().await;
    assert_eq!(values, [json!(2)], "a new record comes by itself");
    soon(async || (committed(&api, "g").await == 3).then_some(())).await;
    drop(stream);

    publish(&api, "pubg1", 0, [json!(3)]).await;
    let mut stream = Stream::open(&api, "g", Some(&first)).await;
    let mut again = stream.delivery().await.0;
    if again.len() < 2 {
        again.extend(stream.delivery().await.0);
    }
    assert_eq!(again, [json!(2), json!(3)], "what this client had not seen the end of");
    drop(stream);
    let mut stream = Stream::open(&api, "g", Some(&second)).await;
    assert_eq!(stream.delivery().await.0, [json!(3)]);
    let member = api.get("/groups/g").await.ok()["members"][0]["member_id"].as_str().unwrap().to_owned();
    assert_eq!(api.delete(&format!("/groups/g/members/{member}")).await.status, 204);
    let last = loop {
        let event = stream.next().await;
        if event.name == "error" {
            break event;
        }
    };
    assert_eq!(last.data["error_code"], 40403);
    api.stop().await;
}

#[actix_rt::test]
async fn a_partition_that_joins_after_the_last_delivery_that_was_seen_comes_again_from_where_it_joined() {
    let api = Api::start().await;
    let other = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    other.assigned(&api, 4).await;
    let mut stream = Stream::open(&api, "g", None).await;
    let others = other.assigned(&api, 2).await;
    let number = |partition: &Value| u32::try_from(partition["partition"].as_u64().unwrap()).unwrap();
    let joining = number(&others[0]);
    let own = (0..4).find(|own| others.iter().all(|other| number(other) != *own)).unwrap();
    publish(&api, "pubg1", joining, [json!("read by the other one")]).await;
    assert_eq!(other.values(&api, 1).await, [json!("read by the other one")]);
    other.commit(&api).await;
    publish(&api, "pubg1", own, [json!("seen")]).await;
    let (values, seen) = stream.delivery().await;
    assert_eq!(values, [json!("seen")]);

    assert_eq!(other.delete(&api).await.status, 204);
    // Two deliveries that nobody reads. A commit says that the stream takes them for received.
    for (value, offset) in [("a", 2), ("b", 3)] {
        publish(&api, "pubg1", joining, [json!(value)]).await;
        soon(async || (committed_in(&api, "g", joining).await == offset).then_some(())).await;
    }
    drop(stream);
    let mut stream = Stream::open(&api, "g", Some(&seen)).await;
    let mut again = stream.delivery().await.0;
    if again.len() < 2 {
        again.extend(stream.delivery().await.0);
    }
    assert_eq!(again, [json!("a"), json!("b")], "neither less nor more");
    api.stop().await;
}
