//! The command line against a real broker: what goes in comes out.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use pubg1::config::SETTINGS;
use serde_json::{Value, json};

use crate::harness::{TestBroker, command, run};

fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn lines_go_in_and_come_out() {
    let broker = TestBroker::start(&[]).await;
    broker.pubg1_ok(&["topic", "create", "greetings", "--partitions", "1"], b"").await;
    let input = "hello\n\nwith \u{fc}mlaut\nlast";
    broker.pubg1_ok(&["produce", "greetings"], input.as_bytes()).await;
    let text = broker.pubg1_ok(&["consume", "greetings", "--until-end"], b"").await;
    assert_eq!(text, format!("{input}\n"));

    let format = ["consume", "greetings", "--offset", "2", "-n", "1", "-f", "%t/%p/%o/%k/%v%%\\n"];
    assert_eq!(broker.pubg1_ok(&format, b"").await, "greetings/0/2//with \u{fc}mlaut%\n");
    let last = ["consume", "greetings", "--offset", "-1", "--until-end"];
    assert_eq!(broker.pubg1_ok(&last, b"").await, "last\n");
    let latest = ["consume", "greetings", "--offset", "latest", "--until-end"];
    assert_eq!(broker.pubg1_ok(&latest, b"").await, "");
}

#[tokio::test]
async fn ndjson_brings_keys_and_times_under_every_compression() {
    let broker = TestBroker::start(&[]).await;
    broker.pubg1_ok(&["topic", "create", "events", "--config", "retention_ms=none"], b"").await;
    let mut expected = Vec::new();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let line = json!({ "user": compression, "at": "2013-01-01T10:17:00Z", "n": [1, 2.5, null] }).to_string();
        let arguments = ["produce", "events", "-i", "ndjson", "-k", "user", "-t", "at", "--compression", compression];
        broker.pubg1_ok(&arguments, format!("{line}\n").as_bytes()).await;
        expected.push((compression.to_owned(), serde_json::from_str::<Value>(&line).expect("JSON")));
    }
    let text = broker.pubg1_ok(&["consume", "events", "--until-end", "-o", "json"], b"").await;
    let records = documents(&text);
    assert_eq!(records.len(), expected.len(), "{text}");
    for (key, value) in expected {
        let record = records.iter().find(|record| record["key"] == key).unwrap_or_else(|| panic!("{key}: {text}"));
        assert_eq!(record["value"], value);
        assert_eq!(record["timestamp"], 1_357_035_420_000_i64);
        assert_eq!((&record["topic"], &record["headers"]), (&json!("events"), &json!([])));
    }
}

#[tokio::test]
async fn the_flights_go_in_as_csv_and_come_out_in_order() {
    let broker = TestBroker::start(&[]).await;
    let create = ["topic", "create", "flights", "--partitions", "3", "-c", "retention_ms=none"];
    broker.pubg1_ok(&create, b"").await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/flights-2013-01.csv.gz");
    let load = ["produce", "flights", file, "-k", "tailnum", "-t", "time", "--infer-types", "-o", "json"];
    let summary: Value = serde_json::from_str(&broker.pubg1_ok(&load, b"").await).expect("JSON");
    assert_eq!((&summary["acknowledged"], &summary["unacknowledged"]), (&json!(27_004), &json!(0)), "{summary}");

    let records = documents(&broker.pubg1_ok(&["consume", "flights", "-e", "-o", "json"], b"").await);
    assert_eq!(records.len(), 27_004);
    for partition in 0..3 {
        let own: Vec<&Value> = records.iter().filter(|record| record["partition"] == partition).collect();
        assert!(own.len() > 5_000, "partition {partition} has {} records", own.len());
        assert!(own.is_sorted_by_key(|record| record["timestamp"].as_i64()), "partition {partition} is out of order");
        assert!((0..).zip(&own).all(|(offset, record)| record["offset"] == offset));
    }
    let first = records.iter().find(|record| record["key"] == "N14228").expect("the first flight");
    assert_eq!((&first["value"]["carrier"], &first["value"]["flight"]), (&json!("UA"), &json!(1545)));

    // By time: the last day, wherever it is.
    let since = ["consume", "flights", "-e", "--since", "2013-01-31T00:00:00Z", "-f", "%T\\n"];
    let times = broker.pubg1_ok(&since, b"").await;
    let since_ms = 1_359_590_400_000_i64;
    let late = records.iter().filter(|record| record["timestamp"].as_i64() >= Some(since_ms)).count();
    assert_eq!(times.lines().count(), late);
    assert!(times.lines().all(|line| line.parse::<i64>().expect("a time") >= since_ms));
}

#[tokio::test]
async fn consume_follows_through_a_kill_without_gap_or_repetition() {
    let mut broker = TestBroker::start(&[]).await;
    broker.pubg1_ok(&["topic", "create", "live", "-p", "1"], b"").await;
    let mut consumer =
        command(&["consume", "live", "-n", "4", "-f", "%o %v\\n"], &[("PUBG1_BROKER", broker.client.base())])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pubg1 starts");
    let mut out = BufReader::new(consumer.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    broker.pubg1_ok(&["produce", "live"], b"one\ntwo\n").await;
    let reading = tokio::task::spawn_blocking(move || {
        let first: Vec<String> = out.by_ref().take(2).collect();
        (first, out)
    });
    let (first, out) = reading.await.expect("joined");
    assert_eq!(first, ["0 one", "1 two"]);

    broker.kill_and_restart().await;
    broker.pubg1_ok(&["produce", "live"], b"three\nfour\nfive\n").await;
    let rest = tokio::task::spawn_blocking(move || {
        let rest: Vec<String> = out.collect();
        (rest, consumer.wait_with_output().expect("it ends"))
    });
    let (rest, output) = rest.await.expect("joined");
    assert_eq!(rest, ["2 three", "3 four"]);
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("waiting for more"), "{stderr}");
}

#[tokio::test]
async fn a_load_is_continued_exactly_where_it_stopped() {
    let broker = TestBroker::start(&[]).await;
    broker.pubg1_ok(&["topic", "create", "load", "-p", "3"], b"").await;
    let progress = broker.directory.path().join("progress.json");
    let progress = progress.to_str().expect("text");
    let all: Vec<String> = (0..1_000).map(|number| format!("{{\"id\":{},\"n\":{number}}}", number % 50)).collect();
    let produce = ["produce", "load", "-i", "ndjson", "-k", "id", "--resume", progress];

    // A broken line in the middle: what stands before it is stored.
    let mut broken = all[..600].join("\n");
    broken.push_str("\n{oops\n");
    let output = broker.pubg1(&produce, broken.as_bytes()).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("record 600") && stderr.contains("--resume"), "{stderr}");

    broker.pubg1_ok(&produce, all.join("\n").as_bytes()).await;
    broker.pubg1_ok(&produce, all.join("\n").as_bytes()).await;
    let stored = broker.pubg1_ok(&["consume", "load", "-e"], b"").await;
    let mut stored: Vec<&str> = stored.lines().collect();
    let mut expected: Vec<&str> = all.iter().map(String::as_str).collect();
    stored.sort_unstable();
    expected.sort_unstable();
    assert_eq!(stored, expected);

    let other = broker.pubg1(&["produce", "pubg1", "--resume", progress], b"x\n").await;
    assert_eq!(other.status.code(), Some(2), "progress of another topic is refused");
    let skipped = broker.pubg1_ok(&["produce", "load", "--skip", "2", "-o", "json"], b"a\nb\nc\n").await;
    let summary: Value = serde_json::from_str(&skipped).expect("JSON");
    assert_eq!((&summary["acknowledged"], &summary["skipped"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn typed_lines_go_out_at_once() {
    let broker = TestBroker::start(&[]).await;
    let variables = [("PUBG1_BROKER", broker.client.base())];
    let mut producer =
        command(&["produce", "pubg1", "-p", "0"], &variables).stdin(Stdio::piped()).spawn().expect("pubg1 starts");
    let mut consumer = command(&["consume", "pubg1", "-p", "0", "-n", "2"], &variables)
        .stdout(Stdio::piped())
        .spawn()
        .expect("pubg1 starts");
    let mut input = producer.stdin.take().expect("a pipe");
    let mut output = BufReader::new(consumer.stdout.take().expect("a pipe")).lines();
    let talk = tokio::task::spawn_blocking(move || {
        for word in ["first", "second"] {
            // The input stays open: the line has to come back before the next one is typed.
            writeln!(input, "{word}").expect("written");
            assert_eq!(output.next().expect("a line").expect("text"), word);
        }
        drop(input);
        (producer.wait().expect("it ends"), consumer.wait().expect("it ends"))
    });
    let (producer, consumer) = talk.await.expect("joined");
    assert!(producer.success() && consumer.success());
}

#[tokio::test]
async fn topics_are_created_described_altered_trimmed_and_deleted() {
    let broker = TestBroker::start(&[]).await;
    let create = ["topic", "create", "t", "--partitions", "2", "--config", "retention_ms=1000000", "-o", "json"];
    let created: Value = serde_json::from_str(&broker.pubg1_ok(&create, b"").await).expect("JSON");
    assert_eq!(created["partitions"].as_array().map(Vec::len), Some(2));
    let again = broker.pubg1(&["topic", "create", "t"], b"").await;
    assert_eq!(again.status.code(), Some(1), "it exists");
    broker.pubg1_ok(&["topic", "create", "t", "--if-not-exists"], b"").await;
    let list: Value =
        serde_json::from_str(&broker.pubg1_ok(&["topic", "list", "-o", "json"], b"").await).expect("JSON");
    assert_eq!(list, json!([{ "name": "pubg1", "partitions": 4 }, { "name": "t", "partitions": 2 }]));

    broker.pubg1_ok(&["topic", "alter", "t", "--config", "retention-bytes=5000", "-c", "retention_ms=none"], b"").await;
    broker.pubg1_ok(&["produce", "t", "--partition", "1"], b"a\nb\nc\n").await;
    broker.pubg1_ok(&["topic", "trim", "t", "--partition", "1", "--before", "2"], b"").await;
    let describe = ["topic", "describe", "t", "-o", "json"];
    let topic: Value = serde_json::from_str(&broker.pubg1_ok(&describe, b"").await).expect("JSON");
    let partition = &topic["partitions"][1];
    assert_eq!((&partition["beginning_offset"], &partition["end_offset"]), (&json!(2), &json!(3)), "{topic}");
    assert_eq!(broker.pubg1_ok(&["consume", "t", "-e"], b"").await, "c\n");
    let table = broker.pubg1_ok(&["topic", "describe", "t"], b"").await;
    assert!(table.contains("retention_bytes") && table.contains("5000"), "{table}");

    broker.pubg1_ok(&["topic", "delete", "t", "--yes"], b"").await;
    assert_eq!(broker.pubg1(&["topic", "describe", "t"], b"").await.status.code(), Some(1));
    let info: Value =
        serde_json::from_str(&broker.pubg1_ok(&["cluster", "info", "-o", "json"], b"").await).expect("JSON");
    assert_eq!((&info["ready"], &info["cluster"]["broker_id"]), (&json!(true), &json!(0)), "{info}");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let broker = TestBroker::start(&[]).await;
    let many: String = (0..20_000).map(|number| format!("{number:0100}\n")).collect();
    broker.pubg1_ok(&["produce", "pubg1", "-p", "0"], many.as_bytes()).await;
    let mut consumer = command(&["consume", "pubg1", "-e"], &[("PUBG1_BROKER", broker.client.base())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pubg1 starts");
    let ended = tokio::task::spawn_blocking(move || {
        let mut first = String::new();
        // The pipe closes with the reader, long before everything is written.
        BufReader::new(consumer.stdout.take().expect("a pipe")).read_line(&mut first).expect("text");
        consumer.wait_with_output().expect("it ends")
    });
    let output = ended.await.expect("joined");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn nobody_there_is_a_failure_with_advice() {
    // Port 1 of this machine has no listener that a test could meet.
    let output = run(&["topic", "list", "--broker", "http://127.0.0.1:1"], &[], b"");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("127.0.0.1:1") && stderr.contains("pubg1 broker"), "{stderr}");
    let output = run(&["topic", "list", "--broker", "ftp://x", "-o", "json"], &[], b"");
    let error: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(error["exit_code"], 1);
}

#[test]
fn the_configuration_is_shown_with_its_origins() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "node_id = 5\nhttp = \"127.0.0.1:8005\"\n").expect("written");
    let path = file.path().to_str().expect("text");
    let show = ["config", "show", "--origin", "-o", "json", "--config", path, "--flush", "interval=9"];
    let output = run(&show, &[("PUBG1_HTTP", "127.0.0.1:8006")], b"");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let row = |key: &str| {
        let row = rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key} is missing"));
        (row["value"].clone(), row["origin"].as_str().expect("an origin").to_owned())
    };
    assert_eq!(rows.len(), SETTINGS.len());
    assert_eq!(row("node_id"), (json!(5), format!("file {path}")));
    assert_eq!(row("http"), (json!("127.0.0.1:8006"), "environment PUBG1_HTTP".to_owned()));
    assert_eq!(row("log.flush"), (json!("interval=9"), "flag --flush".to_owned()));
    assert_eq!(row("rpc"), (json!("127.0.0.1:9000"), "default".to_owned()));

    // What is shown is a file that can be read.
    let text = run(&["config", "show", "--config", path], &[], b"").stdout;
    std::fs::write(file.path(), &text).expect("written");
    let again = run(&["config", "show", "--config", path], &[], b"");
    assert_eq!(String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&text));
}

#[test]
fn help_teaches_and_every_shell_is_completed() {
    for command in [
        "broker",
        "topic",
        "produce",
        "consume",
        "cluster",
        "partition",
        "config",
        "openapi",
        "completions",
        "demo",
        "report",
    ] {
        let output = run(&[command, "--help"], &[], b"");
        assert!(output.status.success() && !output.stdout.is_empty(), "{command}");
    }
    let help = String::from_utf8(run(&["--help"], &[], b"").stdout).expect("text");
    assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell], &[], b"");
        assert!(String::from_utf8_lossy(&output.stdout).contains("consume"), "{shell}");
    }
}

#[tokio::test]
async fn the_openapi_document_is_the_one_that_is_served() {
    let broker = TestBroker::start(&[]).await;
    let printed: Value = serde_json::from_str(&broker.pubg1_ok(&["openapi"], b"").await).expect("JSON");
    assert!(printed["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", printed["openapi"]);
    assert!(printed["paths"]["/topics/{topic}/partitions/{partition}/batches"].is_object());
    let (status, served) = broker.get("/openapi.json").await;
    assert_eq!((status, &served["paths"]), (200, &printed["paths"]));
}
