//! The life of a broker: first start, restart, readiness, drain, and what it refuses.

use std::fs;

use pubg1::demo::Launch;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, TestBroker, hold_recovery_up, launch_in, run, wait_until};

#[tokio::test]
async fn a_first_start_makes_a_working_broker_and_a_restart_finds_everything() {
    let mut broker = TestBroker::start(&[]).await;
    let read = |name: &str| fs::read_to_string(broker.data_dir().join(name)).expect("the file is there");
    assert_eq!(read("http.addr").trim_end(), broker.client.base());
    assert_eq!(read("broker.pid").trim_end(), broker.process.pid().to_string());
    let before = broker.get("/cluster").await.1;

    broker.post("/publish", &json!({ "partition": 2, "value": "kept" })).await;
    broker.process.end().await.expect("it ends in order");
    assert!(!broker.data_dir().join("broker.pid").try_exists().expect("the directory is there"));
    broker.start_again().await;
    broker.ready().await;

    let after = broker.get("/cluster").await.1;
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    let consumed = broker.get("/consume?partition=2&offset=0").await.1;
    assert_eq!(consumed["messages"][0]["value"], "kept", "{consumed}");
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_exits_with_zero() {
    let mut broker = TestBroker::start(&[]).await;
    // A consumer that waits for records must not hold the broker back.
    let waiting = format!("{}/topics/pubg1/partitions/0/records?wait=60s", broker.client.base());
    let waiting = tokio::spawn(reqwest::get(waiting));
    let stored = broker.post("/publish", &json!({ "partition": 1, "value": "acknowledged" })).await;
    assert_eq!(stored.0, 200);
    broker.process.end().await.expect("it ends with 0");
    // Answered or cut off, but not left waiting.
    let _answer = waiting.await.expect("the waiting request ends");
    broker.start_again().await;
    broker.ready().await;
    assert_eq!(broker.get("/loglen?partition=1").await.1, json!({ "length": 1 }));
}

#[tokio::test]
async fn it_ends_with_the_program_that_started_it() {
    let broker = TestBroker::start(&[]).await;
    let client = broker.client.clone();
    let pid_file = broker.data_dir().join("broker.pid");
    let mut process = broker.process;
    process.close_stdin();
    wait_until("the broker drains", || async { (!pid_file.try_exists().expect("readable")).then_some(()) }).await;
    wait_until("nobody answers", || async { client.ready().await.err() }).await;
}

#[tokio::test]
async fn two_brokers_on_one_directory_are_refused() {
    let mut broker = TestBroker::start(&[]).await;
    let second = Launch { log: broker.directory.path().join("second.log"), ..broker.launch.clone() };
    let error = second.start("127.0.0.1:0").await.expect_err("the directory is taken").to_string();
    assert!(error.contains("data"), "{error}");
    // The first one is not disturbed, and still the one that is announced.
    assert_eq!(broker.get("/readyz").await.0, 200);
    let pid = fs::read_to_string(broker.data_dir().join("broker.pid")).expect("the file is there");
    assert_eq!(pid.trim_end(), broker.process.pid().to_string());
    broker.process.end().await.expect("it ends in order");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let broker = TestBroker::start(&[]).await;
    let other = tempfile::tempdir().expect("a temporary directory");
    let error = launch_in(other.path(), &[]).start(&broker.address()).await.expect_err("the port is taken").to_string();
    assert!(error.contains(&broker.address()), "{error}");
}

#[test]
fn unknown_and_impossible_settings_are_refused_with_code_2() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("broker.toml");
    fs::write(&file, "[log]\nfluhs = \"quorum\"\n").expect("written");
    let path = file.to_str().expect("text");
    for (arguments, variables, expected) in [
        (vec!["broker", "--config", path], vec![], "did you mean `log.flush`"),
        (vec!["config", "check", "--config", path], vec![], "did you mean `log.flush`"),
        (vec!["broker"], vec![("PUBG1_HTPT", "127.0.0.1:0")], "did you mean `PUBG1_HTTP`"),
        (vec!["broker", "--http", "0.0.0.0:0"], vec![], "--allow-remote"),
        (vec!["broker", "--rpc", "nonsense"], vec![], "ADDRESS:PORT"),
        (vec!["broker", "--flush", "sometimes"], vec![], "interval=MS"),
        (vec!["broker", "--fluhs", "quorum"], vec![], "--flush"),
    ] {
        let output = run(&arguments, &variables, b"");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn readiness_says_that_recovery_is_under_way() {
    let mut broker = TestBroker::start(&[]).await;
    broker.post("/publish", &json!({ "partition": 0, "value": "before" })).await;
    broker.process.kill().await.expect("the broker is killed");

    let mut held = hold_recovery_up(&broker);
    broker.start_again().await;
    held.reached().await;
    let (status, readiness) = broker.get("/readyz").await;
    assert_eq!(status, 503, "{readiness}");
    let checks = readiness["checks"].as_array().expect("checks");
    let failed: Vec<&Value> = checks.iter().filter(|check| check["ok"] == false).collect();
    assert!(!failed.is_empty() && failed.iter().all(|check| check["reason"].is_string()), "{readiness}");
    assert_eq!(broker.get("/livez").await.0, 200);
    let refused = broker.post("/publish", &json!({ "partition": 0, "value": "too early" })).await;
    assert_eq!(refused.0, 503, "{}", refused.1);
    let unhealthy = broker.pubg1(&["cluster", "info"], b"").await;
    assert_eq!(unhealthy.status.code(), Some(10), "{}", String::from_utf8_lossy(&unhealthy.stderr));

    tokio::task::spawn_blocking(move || held.release()).await.expect("joined");
    tokio::time::timeout(DEADLINE, broker.ready()).await.expect("it becomes ready");
    assert_eq!(broker.get("/loglen?partition=0").await.1, json!({ "length": 1 }));
}
