//! Streams from the command line: declared, watched, followed, read, paused, replaced and deleted.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::harness::{TestBroker, command, wait_until};

const SQL: &str = "CREATE MATERIALIZED VIEW busy WITH (idle_timeout = '10m') AS
    SELECT page, COUNT(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '10' SECOND) GROUP BY page, window_start";

async fn json_of(broker: &TestBroker, arguments: &[&str]) -> Value {
    let text = broker.pubg1_ok(&[arguments, &["-o", "json"]].concat(), b"").await;
    serde_json::from_str(&text).expect("JSON")
}

/// Waits until the stream has read so many records.
async fn read(broker: &TestBroker, count: u64) -> Value {
    let described = || async {
        let stream = json_of(broker, &["stream", "describe", "busy"]).await;
        (stream["records"]["read"] == count).then_some(stream)
    };
    wait_until("the stream has read everything", described).await
}

const CLICKS: &[u8] = b"{\"page\":\"/a\",\"ts\":1000}\n{\"page\":\"/b\",\"ts\":2000}\n{\"page\":\"/a\",\"ts\":3000}\n\
    {\"page\":\"/a\",\"ts\":21000}\n";

#[tokio::test]
async fn a_stream_is_declared_watched_and_followed() {
    let broker = TestBroker::start(&[]).await;
    broker.pubg1_ok(&["topic", "create", "clicks", "--partitions", "1"], b"").await;
    let create = ["stream", "create", "--sql", SQL];
    let told = broker.pubg1_ok(&create, b"").await;
    assert_eq!(told, "stream busy is created: it reads clicks; rows go to busy, what is in no window to busy.late\n");
    let again = broker.pubg1(&create, b"").await;
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    assert!(broker.pubg1_ok(&[&create[..], &["--if-not-exists"]].concat(), b"").await.contains("exists already"));
    let listed = broker.pubg1_ok(&["stream", "list"], b"").await;
    let words: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["busy", "running", "1", "clicks", "busy"]);

    broker.pubg1_ok(&["produce", "clicks", "--partition", "0"], CLICKS).await;
    let stream = read(&broker, 4).await;
    assert_eq!((&stream["watermark_ms"], &stream["lag"]), (&json!(21_000), &json!(0)), "{stream}");
    let shown = broker.pubg1_ok(&["stream", "describe", "busy"], b"").await;
    assert!(shown.starts_with("stream busy is running, generation 1, declared "), "{shown}");
    assert!(shown.contains("results are complete up to 1970-01-01T00:00:21Z"), "{shown}");

    let rows = broker.pubg1_ok(&["stream", "tail", "busy", "--from", "earliest", "-n", "2"], b"").await;
    let mut lines: Vec<&str> = rows.lines().collect();
    lines.sort_unstable();
    let window = "1970-01-01T00:00:00Z 1970-01-01T00:00:10Z";
    assert_eq!(lines, [format!("{window} page=/a n=2"), format!("{window} page=/b n=1")]);
    let row = broker.pubg1_ok(&["stream", "tail", "busy", "--from", "earliest", "-n", "1", "-o", "json"], b"").await;
    assert_eq!(serde_json::from_str::<Value>(&row).expect("a row")["window_end"], 10_000);

    let open = json_of(&broker, &["stream", "windows", "busy", "--state", "open"]).await;
    assert_eq!((&open["windows"][0]["page"], &open["windows"][0]["n"]), (&json!("/a"), &json!(1)), "{open}");
    let closed = broker.pubg1_ok(&["stream", "windows", "busy", "--state", "closed", "--key", "/b"], b"").await;
    let words: Vec<&str> = closed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["1970-01-01T00:00:00Z", "1970-01-01T00:00:10Z", "/b", "1", "1", "0", "final"], "{closed}");
}

#[tokio::test]
async fn a_stream_goes_on_after_a_pause_and_a_kill() {
    let mut broker = TestBroker::start(&[]).await;
    broker.pubg1_ok(&["topic", "create", "clicks", "--partitions", "1"], b"").await;
    broker.pubg1_ok(&["stream", "create", "--sql", SQL], b"").await;
    assert_eq!(broker.pubg1_ok(&["stream", "pause", "busy"], b"").await, "stream busy is paused\n");
    broker.pubg1_ok(&["produce", "clicks", "--partition", "0"], CLICKS).await;
    broker.kill_and_restart().await;
    assert_eq!(json_of(&broker, &["stream", "describe", "busy"]).await["state"], "paused");
    assert_eq!(broker.pubg1_ok(&["stream", "resume", "busy"], b"").await, "stream busy is running\n");
    read(&broker, 4).await;
    broker.kill_and_restart().await;
    let stream = read(&broker, 4).await;
    assert_eq!(stream["open_windows"], 1, "{stream}");
    let published = || async {
        let rows = broker.pubg1_ok(&["stream", "tail", "busy", "--from", "earliest", "-e"], b"").await;
        (rows.lines().count() >= 2).then_some(rows)
    };
    let rows = wait_until("the rows are published", published).await;
    assert_eq!(rows.lines().count(), 2, "each row once: {rows}");
    // Nor does one come again later: a stream that stands still has published all that it had to.
    broker.pubg1_ok(&["stream", "pause", "busy"], b"").await;
    let again = broker.pubg1_ok(&["stream", "tail", "busy", "--from", "earliest", "-e"], b"").await;
    let sorted = |rows: &str| {
        let mut rows: Vec<String> = rows.lines().map(str::to_owned).collect();
        rows.sort();
        rows
    };
    assert_eq!(sorted(&again), sorted(&rows), "each row once");
    broker.pubg1_ok(&["stream", "resume", "busy"], b"").await;

    let replace = ["stream", "create", "--replace", "--sql"];
    let same = broker.pubg1_ok(&[&replace[..], &[SQL]].concat(), b"").await;
    assert!(same.contains("nothing was changed"), "{same}");
    let other = SQL.replace("COUNT(*) AS n", "COUNT(*) AS clicks");
    let told = broker.pubg1_ok(&[&replace[..], &[&other]].concat(), b"").await;
    assert!(told.starts_with("generation 2 of stream busy is computed beside generation 1"), "{told}");
    let switched = || async {
        let stream = json_of(&broker, &["stream", "describe", "busy"]).await;
        (stream["generation"] == 2).then_some(())
    };
    wait_until("the next generation takes the name", switched).await;
    let mut tail = command(&["stream", "tail", "busy"], &[("PUBG1_BROKER", broker.client.base())]);
    let mut tail = tail.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("pubg1 starts");
    let mut notes = BufReader::new(tail.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(notes.any(|note| note.contains("waiting for more")), "it follows the stream");
    let told = broker.pubg1_ok(&["stream", "delete", "busy", "--yes"], b"").await;
    assert_eq!(told, "stream busy is deleted; its rows stay in their topic\n");
    let note = notes.last().unwrap_or_default();
    assert!(note.contains("stream busy is deleted; its rows stay in the topic busy.g2"), "{note}");
    assert_eq!(tail.wait().expect("it ends").code(), Some(1));
    let gone = broker.pubg1(&["stream", "describe", "busy"], b"").await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("40406"));
}

#[tokio::test]
async fn what_cannot_be_declared_is_refused_before_a_broker_is_asked() {
    let broker = TestBroker::start(&[]).await;
    for (arguments, told) in [
        (vec!["--sql", "SELECT x\nFROM y"], "the query:2:6: Y is no window"),
        (vec!["--sql", SQL.split_once(" AS\n").expect("a SELECT").1], "the query has no name"),
        (vec!["--sql", SQL, "--name", "idle"], "calls the stream busy"),
        (vec!["--sql", SQL, "--replace", "--if-not-exists"], "cannot be used with"),
    ] {
        let output = broker.pubg1(&[&["stream", "create"], &arguments[..]].concat(), b"").await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(told), "{errors}");
    }
    let output = broker.pubg1(&["stream", "create", "--sql", SQL], b"").await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("40401"), "{errors}");
}
