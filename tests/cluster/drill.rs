//! Drills: faults on a schedule under load, what each cost, and plans that are refused before anything is started.

use std::{
    path::Path,
    process::{Command, Output},
};

use pubg1_bench::report::{FaultOutcome, Report};

use crate::harness::{program, turn};

/// The seed's plan in a hurry.
const PLAN: &str = "\
# a leader, then a follower
rate 200
duration 9s
at 1s: kill leader 0 for 1500ms
at 5s: kill follower 0 for 1500ms
";

/// What brokers get over without being killed.
const GENTLE: &str = "\
rate 100
duration 7s
at 300ms: pause leader 0 for 2s
at 3s: stop leader 0 for 500ms
at 4500ms: rolling
";

/// Runs `pubg1 drill` in this directory; its brokers and their data are below it.
async fn drill(directory: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("drill").args(words).env("TMPDIR", directory).current_dir(directory);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.expect("joined").expect("the program runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_says_in_which_order_and_when_a_cluster_gets_over_a_fault() {
    let _turn = turn().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("mine.plan"), PLAN).expect("writable");
    let words = "--plan mine.plan --warm-up 500ms --save saved.json --history run.jsonl -o json --fail-if lost>0 \
                 --fail-if max>0ms";
    let output = drill(directory.path(), &words.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(output.status.code(), Some(10), "a threshold was met, and no promise broken: {}", said(&output));
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
    let saved = std::fs::read(directory.path().join("saved.json")).expect("it is kept");
    assert_eq!(serde_json::from_slice::<Report>(&saved).expect("a report"), report);
    let failed: Vec<bool> = report.thresholds.iter().map(|threshold| threshold.failed).collect();
    assert_eq!(failed, [false, true], "{:?}", report.thresholds);

    let system = &report.system;
    let names = [&system.name, &system.version, &system.client, &system.durability, &system.address];
    assert!(names.into_iter().all(|text| !text.is_empty()) && system.replicas == 3, "{system:?}");
    // Two of them were killed, and others came in their places.
    let processes = &report.processes;
    assert_eq!(processes.len(), 4, "{processes:?}");
    assert!(processes.iter().all(|process| !process.ended && process.cpu_s > 0.0), "{processes:?}");

    let drill = report.drill.expect("a drill's part");
    let verdict = &drill.verdict;
    assert_eq!((verdict.lost, verdict.moved, verdict.duplicated, verdict.broken.len()), (0, 0, 0, 0), "{verdict:#?}");
    // The warm-up's records are judged, too.
    assert_eq!(report.totals.acknowledged, 1_800, "200 each second: {:#?}", report.totals);
    assert_eq!(verdict.acknowledged, 1_900, "{verdict:#?}");
    assert_eq!(report.totals.consumed, 1_800, "what was acknowledged was received");

    let [leader, follower] = &drill.faults[..] else { panic!("two faults: {:#?}", drill.faults) };
    assert_eq!((leader.kind.as_str(), follower.kind.as_str()), ("kill leader", "kill follower"));
    assert!(leader.at_s >= 1.0 && follower.at_s >= 5.0, "{:#?}", drill.faults);
    let (elected, first_write) =
        (time(leader, "elected", leader.elected_ms), time(leader, "write", leader.first_write_ms));
    let detected = time(leader, "detected", leader.detected_ms);
    // A leader may be seen in the look after the one in which a client already wrote to it.
    assert!(detected <= elected && detected < 1_500.0 && first_write < 5_000.0, "{leader:#?}");
    assert!(time(leader, "whole", leader.full_replicas_ms) >= 1_500.0, "not before it is back: {leader:#?}");
    assert!(time(follower, "whole", follower.full_replicas_ms) >= 1_500.0, "{follower:#?}");
    assert!(leader.unavailable_ms <= first_write + 2_000.0 && leader.unavailable_ms > 0.0, "{leader:#?}");
    let p99s = [leader.p99_before_ms, leader.p99_during_ms, leader.p99_after_ms];
    assert!(p99s.into_iter().all(|p99| p99 > Some(0.0)), "{leader:#?}");
    assert!(drill.faults.iter().all(|fault| !fault.load_ended) && drill.remarks.is_empty(), "{drill:#?}");
    let marks: Vec<(f64, Option<f64>)> = report.marks.iter().map(|mark| (mark.at_s, mark.until_s)).collect();
    assert_eq!(marks, [(leader.at_s, leader.until_s), (follower.at_s, follower.until_s)]);
    // The checker comes to the same verdict from what was kept.
    let check = Command::new(program()).args(["verify", "--check", "run.jsonl"]).current_dir(directory.path()).output();
    let check = check.expect("it runs");
    assert!(check.status.success(), "{}", said(&check));
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).expect("readable").flatten().map(|file| file.file_name()).collect();
    assert_eq!(left.len(), 3, "the brokers' data are gone: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_are_paused_and_stopped_and_restarted_one_after_the_other() {
    let _turn = turn().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("mine.plan"), GENTLE).expect("writable");
    let words = "--plan mine.plan --brokers 3 --partitions 2 --warm-up 200ms -o json";
    let output = drill(directory.path(), &words.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
    let faults = report.drill.expect("a drill's part").faults;
    let kinds: Vec<&str> = faults.iter().map(|fault| fault.kind.as_str()).collect();
    let rolling = ["rolling restart"; 3];
    assert_eq!(kinds, [&["pause leader", "stop leader"][..], &rolling].concat());
    let [paused, stopped, restarted @ ..] = &faults[..] else { panic!("five faults: {faults:#?}") };
    // The others bear silence for a second.
    assert!(time(paused, "elected", paused.elected_ms) > 500.0, "{paused:#?}");
    assert!(lasted(paused) >= 2.0 && lasted(stopped) >= 0.5, "{faults:#?}");
    assert!(time(stopped, "elected", stopped.elected_ms) > 0.0, "{stopped:#?}");
    // What is started again counts as over: its start belongs to what comes after.
    let whole = |fault: &FaultOutcome| time(fault, "whole", fault.full_replicas_ms) / 1_000.0;
    assert!(restarted.iter().all(|fault| whole(fault) > lasted(fault)), "{restarted:#?}");
}

/// How long a fault was kept up, in seconds.
fn lasted(fault: &FaultOutcome) -> f64 {
    fault.until_s.unwrap_or_else(|| panic!("it was taken back: {fault:#?}")) - fault.at_s
}

fn time(fault: &FaultOutcome, what: &str, ms: Option<f64>) -> f64 {
    ms.unwrap_or_else(|| panic!("{what}: {fault:#?}"))
}

#[tokio::test]
async fn a_plan_that_cannot_be_carried_out_is_refused_before_anything_is_started() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("bad.plan"), "rate 100\n\nat 5s: tickle leader for 1s\n").expect("writable");
    std::fs::write(directory.path().join("nobody.plan"), "at 5s: kill broker 9 for 1s\n").expect("writable");
    for (words, reason) in [
        (&["--plan", "bad.plan"][..], "line 3"),
        (&["--plan", "nobody.plan"], "no broker 9 of 4 brokers"),
        (&["--plan", "bridge", "--brokers", "2"], "it takes 3 brokers"),
        (&["--plan", "follower", "--replicas", "1"], "no follower"),
        (&["--value-bytes", "0"], "not 0"),
        (&["--plan", "no.plan"], "the plans are classic"),
        (&["--duration", "3s"], "ends before the last fault"),
        (&["--fail-if", "p99"], "is no comparison"),
        (&["plans", "chaos"], "the plans are classic"),
    ] {
        let output = drill(directory.path(), words).await;
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", said(&output));
        assert!(said(&output).contains(reason), "{words:?}: {}", said(&output));
    }
    // Nowhere but where root's programs are.
    let mut command = Command::new(program());
    command.args(["drill", "--plan", "power-cut"]).env("PATH", "/nowhere").env("TMPDIR", directory.path());
    let output = command.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("bash is not installed"), "{}", said(&output));
    assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 2, "nothing was started");
}

#[tokio::test]
async fn a_named_plan_is_printed_as_the_file_that_it_is() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let list = drill(directory.path(), &["plans", "-o", "json"]).await;
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list.stdout).expect("a list");
    assert!(list.len() >= 12, "{list:?}");
    for plan in &list {
        let name = plan["name"].as_str().expect("a name");
        let printed = drill(directory.path(), &["plans", name]).await;
        let text = String::from_utf8(printed.stdout).expect("a text");
        let read: Result<pubg1::drill::plan::DrillPlan, _> = text.parse();
        assert_eq!(read.ok(), plan["plan"].as_str().expect("a plan").parse().ok(), "{text}");
    }
}
