//! `kill -9`, again and again, under load: nothing acknowledged is lost, moved or doubled.

use std::hash::{BuildHasher, RandomState};

use pubg1::{
    demo::{self, Plan, report::Report},
    terminal::{OutputFormat, Terminal},
};

use crate::harness::{launch_in, size};

const TERMINAL: Terminal = Terminal { format: OutputFormat::Json, color: false };

async fn survive(records: u64, kill_at: Vec<u64>, kill_while_starting: bool, flush: &str) -> Report {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let launch = launch_in(directory.path(), &[]);
    let kills = kill_at.len() as u64;
    let plan =
        Plan { records, partitions: 4, kill_at: kill_at.clone(), kill_while_starting, flush: flush.to_owned(), launch };
    let report = demo::run(&plan, TERMINAL).await.unwrap_or_else(|error| panic!("killed at {kill_at:?}: {error}"));
    assert!(report.is_clean(), "killed at {kill_at:?}: {report:#?}");
    assert_eq!((report.sent, report.acknowledged, report.kills), (records, records, kills));
    report
}

/// Counts of acknowledged records, so that every kill meets the broker at work.
fn random_moments(kills: u64, records: u64) -> Vec<u64> {
    let random = RandomState::new();
    let mut moments: Vec<u64> = (0..kills).map(|kill| random.hash_one(kill) % records).collect();
    moments.sort_unstable();
    moments
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing() {
    let kills = size("PUBG1_TEST_KILLS", 6);
    let records = kills * 10_000;
    survive(records, random_moments(kills, records), true, "quorum").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_when_the_disk_follows_later() {
    // The page cache outlives the process: only a crash of the machine may take the last interval.
    let records = 40_000;
    survive(records, random_moments(3, records), false, "interval=50").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_before_a_kill_is_at_its_offset() {
    let records = size("PUBG1_TEST_RECORDS", 200_000);
    let report = survive(records, vec![records], false, "quorum").await;
    assert_eq!(report.found, records);
}
