//! The demo with a cluster: it shows what it promises, and leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use pubg1::demo::{self, cluster::ClusterPlan};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{BROKERS, TERMINAL, launch, program, turn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_kills_a_leader_and_a_follower_and_loses_nothing() {
    let _turn = turn().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let plan = ClusterPlan {
        records: 40_000,
        partitions: 4,
        kills: 1,
        flush: "quorum".to_owned(),
        launch: launch(directory.path(), BROKERS, &[]),
    };
    let report = demo::cluster::run(&plan, TERMINAL).await.expect("the demo ends");
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.sent, report.acknowledged, report.found, report.kills), (40_000, 40_000, 40_000, 2));
    let failures = report.cluster.expect("a cluster's part");
    // The follower may have led another partition.
    assert_eq!(failures.copies_compared, 12, "{failures:#?}");
    assert!(failures.failover.count >= 1 && failures.replica_problems.is_empty(), "{failures:#?}");
    let windows = report.windows.expect("a window query");
    assert!(windows.expected > 2_000 && windows.equal == windows.expected, "{windows:#?}");
    assert!(windows.late > 500 && windows.late_wrong == 0 && windows.out_of_order > 10_000, "{windows:#?}");
}

/// Whether a process runs; one that ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_demo_ends_all_of_its_brokers() {
    let _turn = turn().await;
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut demo = Command::new(program())
        .args(["demo", "--records", "1000000000"])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pubg1 starts");
    let mut lines = BufReader::new(demo.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let brokers: Vec<u32> = lines
        .by_ref()
        .map_while(|line| line.rsplit_once(": process ").and_then(|(_, pid)| pid.parse().ok()))
        .take(4)
        .collect();
    assert_eq!(brokers.len(), 4, "the demo says where its brokers are");
    // The pipe stays open: what is said later must not be an error.
    std::thread::spawn(move || lines.for_each(drop));
    assert!(brokers.iter().all(|broker| runs(*broker)));
    let pid = i32::try_from(demo.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("the demo is there");
    let status = tokio::task::spawn_blocking(move || demo.wait()).await.expect("joined").expect("it ends");
    assert_eq!(status.code(), Some(1));
    assert!(!brokers.iter().any(|broker| runs(*broker)), "brokers outlive the demo");
    assert_eq!(fs::read_dir(temporary.path()).expect("readable").count(), 0, "files are left");
}
