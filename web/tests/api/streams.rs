//! Streams as a client sees them: declared, watched, read, followed, replaced and deleted.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{Api, Reply, V2_JSON};

const SQL: &str = "CREATE MATERIALIZED VIEW busy WITH (max_out_of_order = '0s', idle_timeout = '10m') AS
    SELECT page, COUNT(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '10' SECOND) GROUP BY page, window_start";
/// How long anything may take before the test is a failure.
const DEADLINE: Duration = Duration::from_secs(60);

async fn declare(api: &Api, sql: &str) -> Reply {
    api.post_as("/streams", "application/sql", sql.to_owned()).await
}

/// A click on a page, in one of two partitions.
async fn click(api: &Api, partition: u32, page: &str, ts: u64) {
    let body = json!({"records": [{"value": {"page": page, "ts": ts}}]});
    api.post_as(&format!("/topics/clicks/partitions/{partition}"), V2_JSON, body.to_string()).await.ok();
}

/// Asks until the answer is as it should be.
async fn until(api: &Api, path: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let reply = api.get(path).await;
            if reply.status == 200 && condition(&reply.json()) {
                return reply.json();
            }
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, asking).await;
    waited.unwrap_or_else(|_| panic!("{path} did not become as expected"))
}

fn len(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// A client's side of an event stream.
struct Events {
    response: Response,
    buffer: String,
}

impl Events {
    async fn open(api: &Api, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = api.request(Method::GET, &format!("/streams/busy/events?{query}"));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The next piece of the stream, with its lines.
    async fn block(&mut self) -> String {
        let reading = async {
            loop {
                if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                    let block = block.to_owned();
                    self.buffer = rest.to_owned();
                    return block;
                }
                let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
                self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("something comes")
    }

    /// The next event of this name: its id and its data. A row that comes before it is one too many.
    async fn next(&mut self, name: &str) -> (String, Value) {
        loop {
            let block = self.block().await;
            let field = |field: &str| block.lines().find_map(|line| line.strip_prefix(field)).map(str::to_owned);
            let event = field("event: ");
            if event.as_deref() == Some(name) {
                let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
                return (field("id: ").unwrap(), data);
            }
            assert_ne!(event.as_deref(), Some("record"), "in place of {name}: {block}");
        }
    }

    /// The next row.
    async fn row(&mut self) -> (String, Value) {
        let (id, mut record) = self.next("record").await;
        (id, record["value"].take())
    }
}

#[actix_rt::test]
async fn declarations_are_explained_in_every_form() {
    let api = Api::start().await;
    let explained = api.post_as("/streams/explain", "application/sql", SQL).await.ok();
    assert_eq!(explained["document"]["name"], "busy");
    assert!(explained["explanation"].as_array().unwrap().contains(&json!(["stream", "busy"])), "{explained}");
    for body in [explained["document"].to_string(), json!({"sql": SQL}).to_string()] {
        assert_eq!(api.post("/streams/explain", body).await.ok(), explained);
    }
    let select = SQL.split_once(" AS\n").unwrap().1;
    let named = api.post("/streams/explain", json!({"sql": select, "name": "s"}).to_string()).await.ok();
    assert_eq!(named["document"]["name"], "s");
    assert_eq!(api.post_as("/streams/explain?name=t", "text/plain", select).await.ok()["document"]["name"], "t");
    api.get("/streams/explain").await.refused(405, 405);
    api.stop().await;
}

#[actix_rt::test]
async fn what_is_wrong_with_a_declaration_is_said_with_its_place() {
    let api = Api::start().await;
    let error = declare(&api, "SELECT a\nFROM nowhere(b)").await.refused(422, 42209);
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(6)), "{error}");
    let select = SQL.split_once(" AS\n").unwrap().1;
    declare(&api, select).await.refused(422, 42209);
    for (body, path) in [
        (json!({"version": 1}), "$.name"),
        (json!({"version": 2, "name": "s"}), "$.version"),
        (json!({"sql": null}), "$.version"),
        (json!({"version": 1, "name": "s", "input": {"topic": "t"}, "window": {"kind": "tumbling"}}), "$.window.size"),
    ] {
        let error = api.post("/streams", body.to_string()).await.refused(422, 42209);
        assert_eq!(error["path"], path, "{error}");
    }
    for malformed in ["", "[]", "SELECT", "{\"sql\": 1}", "{\"sql\": \"SELECT\", \"nam\": \"s\"}"] {
        api.post("/streams", malformed).await.refused(400, 400);
    }
    api.post_as("/streams", "application/sql", vec![0xff]).await.refused(400, 400);
    api.post("/streams?name=a%2Fb", json!({"sql": select}).to_string()).await.refused(400, 400);
    for (path, body) in [
        ("/streams?name=idle", json!({"sql": SQL})),
        ("/streams", json!({"sql": SQL, "name": "idle"})),
        ("/streams?name=idle", json!({"sql": select, "name": "busy"})),
        ("/streams/explain?name=idle", json!({"sql": SQL})),
    ] {
        assert_eq!(api.post(path, body.to_string()).await.refused(422, 42209)["path"], "$.name", "{path} {body}");
    }
    let named = api.post_as("/streams?name=idle", "application/sql", SQL.to_owned()).await.refused(422, 42209);
    assert_eq!(named["path"], "$.name");
    let reserved = SQL.replace("VIEW busy", "VIEW explain");
    assert_eq!(declare(&api, &reserved).await.refused(422, 42209)["path"], "$.name");
    api.stop().await;
}

#[actix_rt::test]
async fn what_is_not_there_is_said_so() {
    let api = Api::start().await;
    assert_eq!(api.get("/streams").await.ok(), json!([]));
    for path in ["/streams/nobody", "/streams/nobody/windows", "/streams/nobody/events"] {
        api.get(path).await.refused(404, 40406);
    }
    for path in ["/streams/nobody/pause", "/streams/nobody/resume"] {
        api.post(path, "").await.refused(404, 40406);
    }
    api.delete("/streams/nobody").await.refused(404, 40406);
    api.get("/streams/a%20b").await.refused(400, 400);
    declare(&api, SQL).await.refused(404, 40401);
    let put = api.request(Method::PUT, "/streams/busy").header("content-type", "application/sql").body(SQL);
    api.send(put).await.refused(404, 40406);
    api.stop().await;
}

#[actix_rt::test]
async fn a_stream_is_declared_watched_and_read() {
    let api = Api::start().await;
    api.create_topic("clicks", 2).await;
    let created = declare(&api, SQL).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let created = created.json();
    for (name, value) in [("stream", json!("busy")), ("state", json!("running")), ("generation", json!(1))] {
        assert_eq!(created[name], value, "{created}");
    }
    assert_eq!((&created["topics"]["input"], &created["topics"]["output"]), (&json!("clicks"), &json!("busy")));
    declare(&api, SQL).await.refused(409, 40912);
    let listed = api.get("/streams").await.ok();
    assert_eq!((len(&listed), &listed[0]["stream"], &listed[0]["input"]), (1, &json!("busy"), &json!("clicks")));
    for used in ["clicks", "busy"] {
        api.delete(&format!("/admin/topics/{used}")).await.refused(409, 40913);
    }

    for (partition, page, ts) in [(0, "/a", 1_000), (0, "/b", 2_000), (1, "/a", 3_000), (0, "/a", 12_000)] {
        click(&api, partition, page, ts).await;
    }
    // What merges hears of the time a commit later.
    let has_read = |stream: &Value| stream["records"]["read"] == 4 && stream["watermark_ms"] == 3_000;
    let stream = until(&api, "/streams/busy", has_read).await;
    assert_eq!((&stream["lag"], &stream["held_back_by"]), (&json!(0), &json!([1])), "{stream}");
    assert_eq!((len(&stream["partitions"]), &stream["partitions"][0]["leader"]), (2, &json!(0)));
    let open = until(&api, "/streams/busy/windows?state=open", |windows| len(&windows["windows"]) == 3).await;
    let shown = |windows: &Value| {
        let row = |row: &Value| (row["page"].clone(), row["n"].clone(), row["window_start"].clone());
        windows["windows"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let row = |page: &str, n: u64, start: u64| (json!(page), json!(n), json!(start));
    assert_eq!(shown(&open), [row("/a", 2, 0), row("/b", 1, 0), row("/a", 1, 10_000)]);
    assert_eq!((len(&open["as_of"]), &open["missing"], &open["more"]), (2, &json!([]), &json!(false)));
    let one = api.get("/streams/busy/windows?key=/a&from=5000&to=9000&limit=7").await.ok();
    assert_eq!(shown(&one), [row("/a", 2, 0)]);
    assert_eq!(api.get("/streams/busy/windows?limit=1").await.ok()["more"], json!(true));

    click(&api, 1, "/c", 25_000).await;
    let closed = until(&api, "/streams/busy/windows?state=closed", |windows| len(&windows["windows"]) >= 2).await;
    assert_eq!(shown(&closed)[..2], [row("/a", 2, 0), row("/b", 1, 0)]);
    assert_eq!(closed["windows"][0]["final"], json!(true));
    api.get("/streams/busy/windows?state=half").await.refused(400, 400);
    let error = api.get("/streams/busy/windows?from=soon").await.refused(422, 422);
    assert!(error["message"].as_str().unwrap().starts_with("from: "), "{error}");
    api.get("/streams/busy/windows?limit=10001").await.refused(400, 400);
    api.stop().await;
}

#[actix_rt::test]
async fn events_go_on_in_every_partition_where_they_were() {
    let api = Api::start().await;
    api.create_topic("clicks", 2).await;
    assert_eq!(declare(&api, SQL).await.status, 201);
    let mut live = Events::open(&api, "", None).await;
    let (_, start) = live.next("control").await;
    assert_eq!((&start["topic"], &start["next_offsets"]), (&json!("busy"), &json!([0, 0])), "{start}");
    for (partition, page, ts) in [(0, "/a", 1_000), (0, "/b", 1_000), (1, "/c", 1_000), (1, "/d", 1_000)] {
        click(&api, partition, page, ts).await;
    }
    for partition in [0, 1] {
        click(&api, partition, "/e", 11_000).await;
    }
    let page = |row: &Value| row["page"].as_str().unwrap().to_owned();
    let (mut ids, mut pages) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (id, row) = live.row().await;
        ids.push(id);
        pages.push(page(&row));
    }
    let mut sorted = pages.clone();
    sorted.sort();
    assert_eq!(sorted, ["/a", "/b", "/c", "/d"], "each once");
    // After any of them the rest comes, whatever the order of the partitions is then.
    for (seen, id) in ids.iter().enumerate() {
        let mut resumed = Events::open(&api, "from=latest", Some(id)).await;
        let mut rest = Vec::new();
        for _ in seen + 1..4 {
            rest.push(page(&resumed.row().await.1));
        }
        // Nothing comes again, not after the last row either.
        loop {
            let (_, control) = resumed.next("control").await;
            if control["up_to_date"] == json!(true) {
                break;
            }
        }
        rest.extend(pages.iter().take(seen + 1).cloned());
        rest.sort();
        assert_eq!(rest, sorted, "after {id}");
    }
    let (topic, offsets) = ids[3].split_once(':').unwrap();
    let beyond = format!("{topic}:{},0", offsets.split(',').next().unwrap().parse::<u64>().unwrap() + 1_000);
    let refused = api.request(Method::GET, "/streams/busy/events").header("last-event-id", beyond);
    assert_eq!(api.send(refused).await.refused(416, 41601)["partition"], json!(0));
    // Of a topic that is unknown it is not clear at once whether it is gone, or not known yet.
    let unknown = format!("{}:7,7", "0f".repeat(16));
    let ask = || api.request(Method::GET, "/streams/busy/events").header("last-event-id", &unknown).send();
    let refused = Reply::of(ask().await.unwrap()).await;
    refused.refused(503, 50303);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let refusing = async { while ask().await.unwrap().status() != 200 {} };
    tokio::time::timeout(DEADLINE, refusing).await.expect("it is gone for good");
    let mut anew = Events::open(&api, "from=latest", Some(&unknown)).await;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(page(&anew.row().await.1));
    }
    all.sort();
    assert_eq!(all, sorted, "from the first row on");
    let malformed = api.request(Method::GET, "/streams/busy/events").header("last-event-id", "17");
    api.send(malformed).await.refused(400, 400);
    api.stop().await;
}

#[actix_rt::test]
async fn a_stream_pauses_goes_on_is_replaced_and_deleted() {
    let api = Api::start().await;
    api.create_topic("clicks", 1).await;
    assert_eq!(declare(&api, SQL).await.status, 201);
    assert_eq!(api.post("/streams/busy/pause", "").await.ok()["state"], "paused");
    assert_eq!(api.post("/streams/busy/pause", "").await.ok()["state"], "paused", "twice is once");
    click(&api, 0, "/a", 1_000).await;
    click(&api, 0, "/a", 11_000).await;
    assert_eq!(api.post("/streams/busy/resume", "").await.ok()["state"], "running");
    let mut events = Events::open(&api, "from=earliest", None).await;
    let (id, row) = events.row().await;
    assert_eq!(row["n"], json!(1), "{row}");

    let put = |sql: String| {
        let request = api.request(Method::PUT, "/streams/busy").header("content-type", "application/sql");
        api.send(request.body(sql))
    };
    let same = put(SQL.to_owned()).await;
    assert_eq!((same.status, &same.json()["generation"], &same.json()["next"]), (200, &json!(1), &Value::Null));
    let error = put(SQL.replace("VIEW busy", "VIEW idle")).await.refused(422, 42209);
    assert_eq!(error["path"], "$.name");
    let replaced = put(SQL.replace("COUNT(*) AS n", "COUNT(*) AS clicks")).await;
    assert_eq!((replaced.status, &replaced.json()["next"]["generation"]), (202, &json!(2)), "{}", replaced.text());
    let switched = until(&api, "/streams/busy", |stream| stream["generation"] == 2).await;
    assert!(switched["next"].is_null(), "{switched}");
    assert_ne!(switched["topics"]["output"], "busy", "{switched}");
    let ending = async { while events.response.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(DEADLINE, ending).await.expect("the event stream ends with its generation");
    let (_, row) = Events::open(&api, "", Some(&id)).await.row().await;
    assert_eq!((&row["clicks"], &row["window_start"]), (&json!(1), &json!(0)), "the new generation's first row");

    api.delete("/streams/busy").await.no_content();
    api.get("/streams/busy").await.refused(404, 40406);
    assert_eq!(api.get("/streams").await.ok(), json!([]));
    api.get("/topics/busy").await.ok();
    declare(&api, SQL).await.refused(409, 40914);
    let appended = api.post_as("/streams?append=true", "application/sql", SQL.to_owned()).await;
    assert_eq!(appended.status, 201, "{}", appended.text());
    api.stop().await;
}

#[actix_rt::test]
async fn every_broker_of_a_cluster_answers() {
    let three = Api::start_three().await;
    three[0].create_topic("clicks", 2).await;
    assert_eq!(declare(&three[1], SQL).await.status, 201);
    for (partition, ts) in [(0, 1_000), (1, 2_000), (0, 11_000), (1, 12_000)] {
        click(&three[2], partition, "/a", ts).await;
    }
    let mut positions = Vec::new();
    for api in &three {
        let has_closed = |windows: &Value| len(&windows["windows"]) == 1 && len(&windows["missing"]) == 0;
        let closed = until(api, "/streams/busy/windows?state=closed", has_closed).await;
        assert_eq!(closed["windows"][0]["n"], json!(2), "{closed}");
        let stream = until(api, "/streams/busy", |stream| stream["watermark_ms"] == 11_000).await;
        assert_eq!((&stream["records"]["read"], &stream["held_back_by"]), (&json!(4), &json!([0])), "{stream}");
        let mut events = Events::open(api, "from=earliest", None).await;
        let (id, row) = events.row().await;
        assert_eq!((&row["page"], &row["n"]), (&json!("/a"), &json!(2)));
        positions.push(id);
    }
    assert!(positions.windows(2).all(|two| two[0] == two[1]), "an id is good on every broker: {positions:?}");
    let mut events = Events::open(&three[2], "", Some(&positions[0])).await;
    for (partition, ts) in [(0, 21_000), (1, 22_000)] {
        click(&three[0], partition, "/b", ts).await;
    }
    assert_eq!(events.row().await.1["window_start"], json!(10_000), "the next row, and not the first one again");
    drop(events);
    three[2].delete("/streams/busy").await.no_content();
    for api in three {
        api.stop().await;
    }
}

#[actix_rt::test]
async fn what_cannot_be_read_is_not_said_to_be_read() {
    let mut three = Vec::from(Api::start_three().await);
    // Each partition on one broker, so that it has no leader when that is dead.
    let body = json!({"topic_name": "clicks", "partitions_count": 3, "replication_factor": 1});
    assert_eq!(three[0].post("/admin/topics", body.to_string()).await.status, 201);
    assert_eq!(declare(&three[0], SQL).await.status, 201);
    let partitions = three[0].get("/topics/busy/partitions").await.ok();
    let leaders: Vec<u64> =
        partitions.as_array().unwrap().iter().map(|partition| partition["leader"].as_u64().unwrap()).collect();
    let (dead, other) = (leaders[0], leaders.iter().position(|leader| *leader != leaders[0]).expect("spread"));
    let awake = (0..3).find(|broker| *broker != usize::try_from(dead).unwrap()).unwrap();
    let (id, _) = Events::open(&three[awake], "from=earliest", None).await.next("control").await;
    three.remove(usize::try_from(dead).unwrap()).kill().await;

    let api = &three[awake - usize::from(usize::try_from(dead).unwrap() < awake)];
    let row = json!({"records": [{"value": {"page": "/a"}}]});
    api.post_as(&format!("/topics/busy/partitions/{other}"), V2_JSON, row.to_string()).await.ok();
    let mut events = Events::open(api, "", Some(&id)).await;
    let (mut rows, mut waits) = (0, 0);
    // It waits and looks again and again, and does not say meanwhile that there is nothing.
    while rows < 1 || waits < 3 {
        let block = events.block().await;
        assert!(!block.contains("\"up_to_date\":true") && !block.contains("event: error"), "{block}");
        rows += usize::from(block.contains("event: record"));
        waits += usize::from(block == ":");
    }
    drop(events);
    for api in three {
        api.kill().await;
    }
}
