//! Ctrl-C, SIGTERM and `kill -9` for the programs around a broker: nothing is left behind, and
//! what was begun can be continued.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::{TestBroker, command, hold_recovery_up, wait_until};

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

/// Whether a process runs; one that ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn an_interrupted_load_finishes_what_is_under_way_and_continues() {
    let broker = TestBroker::start(&[]).await;
    let progress = broker.directory.path().join("progress.json");
    let progress = progress.to_str().expect("text");
    let arguments = ["produce", "pubg1", "--resume", progress];
    let variables = [("PUBG1_BROKER", broker.client.base())];
    let mut load = command(&arguments, &variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pubg1 starts");
    let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}\n")).collect();
    let mut input = load.stdin.take().expect("a pipe");
    input.write_all(lines[..500].concat().as_bytes()).expect("written");
    input.flush().expect("written");
    wait_until("the first half is stored", || async {
        let mut stored = 0;
        for partition in 0..4 {
            stored +=
                broker.get(&format!("/loglen?partition={partition}")).await.1["length"].as_u64().expect("a number");
        }
        (stored == 500).then_some(())
    })
    .await;

    signal(load.id(), Signal::INT);
    let output = tokio::task::spawn_blocking(move || load.wait_with_output()).await.expect("joined").expect("it ends");
    drop(input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("everything before record 500") && stderr.contains("--resume"), "{stderr}");

    broker.pubg1_ok(&arguments, lines.concat().as_bytes()).await;
    let stored = broker.pubg1_ok(&["consume", "pubg1", "-e"], b"").await;
    let mut stored: Vec<&str> = stored.split_inclusive('\n').collect();
    let mut expected: Vec<&str> = lines.iter().map(String::as_str).collect();
    stored.sort_unstable();
    expected.sort_unstable();
    assert_eq!(stored, expected);
}

/// A demo that would run for minutes, and the broker that it has started.
fn long_demo(temporary: &Path) -> (Child, u32) {
    let directory = temporary.to_str().expect("text");
    let mut demo = command(&["demo", "--brokers", "1", "--records", "1000000000"], &[("TMPDIR", directory)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pubg1 starts");
    let mut lines = BufReader::new(demo.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let line = lines.next().expect("the demo says where its broker is");
    let pid = line.strip_prefix("broker ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    // The pipe stays open: what is said later must not be an error.
    std::thread::spawn(move || lines.for_each(drop));
    (demo, pid.unwrap_or_else(|| panic!("no process id: {line}")))
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing_behind() {
    for interruption in [Signal::INT, Signal::TERM] {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let (mut demo, broker) = long_demo(temporary.path());
        assert!(runs(broker));
        signal(demo.id(), interruption);
        let status = tokio::task::spawn_blocking(move || demo.wait()).await.expect("joined").expect("it ends");
        assert_eq!(status.code(), Some(1));
        assert!(!runs(broker), "the broker outlives the demo");
        assert_eq!(fs::read_dir(temporary.path()).expect("readable").count(), 0, "files are left");
    }
}

#[tokio::test]
async fn a_killed_demo_takes_its_broker_along() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let (mut demo, broker) = long_demo(temporary.path());
    demo.kill().expect("killed");
    demo.wait().expect("it ends");
    wait_until("the broker ends, too", || async { (!runs(broker)).then_some(()) }).await;
}

#[tokio::test]
async fn a_second_signal_ends_a_broker_at_once() {
    let mut broker = TestBroker::start(&[]).await;
    broker.post("/publish", &json!({ "partition": 0, "value": "x" })).await;
    broker.process.kill().await.expect("the broker is killed");
    let mut held = hold_recovery_up(&broker);
    broker.start_again().await;
    held.reached().await;

    // It cannot drain what it has not recovered; the log says that it tries.
    signal(broker.process.pid(), Signal::TERM);
    wait_until("the drain begins", || async {
        let log = fs::read_to_string(&broker.launch.log).expect("a log");
        log.contains("draining").then_some(())
    })
    .await;
    signal(broker.process.pid(), Signal::TERM);
    let status = broker.process.ended().await.expect("it ends");
    assert_eq!(status.code(), Some(1));
    held.release();
    broker.start_again().await;
    broker.ready().await;
    assert_eq!(broker.get("/loglen?partition=0").await.1, json!({ "length": 1 }));
}
