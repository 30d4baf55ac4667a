//! `pubg1 bench` against real brokers: what it measures, what it fails for, and what it leaves behind.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use pubg1_bench::report::{Load, ProcessCost, Report};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::{TestBroker, command, run, wait_until};

fn report_of(output: &Output) -> Report {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{}: {error}: {stdout}\n{stderr}", output.status))
}

fn setting<'a>(report: &'a Report, name: &str) -> &'a str {
    let found = report.settings.iter().find(|(known, _)| known == name);
    found.map_or_else(|| panic!("no setting {name}"), |(_, value)| value.as_str())
}

/// How long the broker does nothing.
const PAUSE: Duration = Duration::from_secs(2);

/// A run at 1,000 records a second, in the middle of which the broker does nothing for two seconds.
async fn with_a_pause(further: &'static [&'static str]) -> Report {
    let broker = TestBroker::start(&["--flush", "interval=100"]).await;
    let url = broker.client.base().to_owned();
    let running = tokio::task::spawn_blocking(move || {
        let fixed =
            ["bench", "-o", "json", "--rate", "1000", "--duration", "4s", "--warm-up", "200ms", "--topic", "paused"];
        command(&[&fixed[..], further].concat(), &[("PUBG1_BROKER", &url)])
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    });
    wait_until("half a second of records", || async {
        let (status, offsets) = broker.get("/topics/paused/partitions/0/offsets").await;
        (status == 200 && offsets["end_offset"].as_u64().is_some_and(|end| end >= 500)).then_some(())
    })
    .await;
    let pid = i32::try_from(broker.process.pid()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::STOP).expect("the broker stops");
    let begun = Instant::now();
    wait_until("two seconds of silence", || async { (begun.elapsed() >= PAUSE).then_some(()) }).await;
    kill_process(pid, Signal::CONT).expect("the broker goes on");
    let output = running.await.expect("the command ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    report_of(&output)
}

/// Coordinated omission: whoever waits for the system before the next record is due does not see that it was away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_in_the_open_loops_numbers_and_not_in_the_closed_loops() {
    let (open, closed) = tokio::join!(with_a_pause(&[]), with_a_pause(&["--closed-loop"]));
    assert_eq!(
        (open.load, open.totals.due, open.totals.acknowledged),
        (Load::OpenLoop, 4000, 4000),
        "{:?}",
        open.totals
    );
    for (name, ms) in [("p99.9", open.response.p999_ms), ("maximum", open.response.max_ms)] {
        assert!((1_900.0..8_000.0).contains(&ms), "{name} shows two seconds: {ms} ms");
    }
    // Half of the records were due in the pause and waited a second on average.
    assert!(open.response.p90_ms > 900.0, "{:?}", open.response);
    let slow = open.intervals.iter().filter(|second| second.response_max_ms > 500.0).count();
    assert!(slow >= 2, "the seconds of the pause are seen as such: {:#?}", open.intervals);

    assert_eq!(closed.load, Load::ClosedLoop);
    assert!(closed.totals.acknowledged < 3000, "its schedule stood still: {:?}", closed.totals);
    // One record has waited. A machine that is too slow for a thousand others has no p99.9 without it.
    let high = if closed.response.count > 1000 { closed.response.p999_ms } else { closed.response.p99_ms };
    assert!(high < 500.0, "the rest knows nothing of it: {:?}", closed.response);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_the_seed_works() {
    let broker = TestBroker::start(&[]).await;
    let variables = [
        ("DURATION_SEC", "2"),
        ("TARGET_RPS", "100"),
        ("PARTITION", "0"),
        ("GROUP_ID", "bench"),
        ("PUBG1_BROKER", broker.client.base()),
    ];
    let output = run(&["bench", "-o", "json", "--topic", "seed"], &variables, b"");
    let report = report_of(&output);
    assert!(output.status.success());
    assert_eq!((report.totals.due, report.totals.acknowledged, report.totals.consumed), (200, 200, 200));
    for (name, value) in
        [("rate", "100"), ("duration", "2s"), ("partition", "0"), ("group", "bench"), ("topic", "seed")]
    {
        assert_eq!(setting(&report, name), value);
    }
    assert_eq!(report.command, "pubg1 bench --rate 100 --duration 2s --topic seed --partition 0 --group bench");
    assert_eq!(report.end_to_end.map(|times| times.count), Some(200));
    // The topic that was named stays, and the group has committed all of it and left.
    let (_, offsets) = broker.get("/topics/seed/partitions/0/offsets").await;
    let (_, committed) = broker.get("/groups/bench/offsets").await;
    assert!(offsets["end_offset"].as_u64().is_some_and(|end| end >= 400), "{offsets}");
    let text = committed.to_string();
    assert!(text.contains(&format!(":{}", offsets["end_offset"])), "{text} of {offsets}");
    let (_, group) = broker.get("/groups/bench").await;
    assert_eq!(group["members"], json!([]), "{group}");
}

async fn short_run(broker: &TestBroker, further: &[&str]) -> Output {
    let fixed = ["bench", "-o", "json", "--rate", "200", "--duration", "500ms", "--warm-up", "100ms"];
    broker.pubg1(&[&fixed[..], further].concat(), b"").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_carries_every_record_and_thresholds_set_the_exit_code() {
    let broker = TestBroker::start(&["--flush", "interval=100"]).await;
    for surface in ["batches", "v2", "simple"] {
        let spread =
            ["--surface", surface, "-p", "3", "--keys", "7", "--producers", "2", "--consumers", "2", "--catch-up"];
        let output =
            short_run(&broker, &[&spread[..], &["--fail-if", "p50>100s", "--fail-if", "lost>0"]].concat()).await;
        let report = report_of(&output);
        assert_eq!(output.status.code(), Some(0), "{surface}: {:?}", report.thresholds);
        assert_eq!((report.totals.acknowledged, report.totals.consumed), (100, 100), "{surface}: {:?}", report.totals);
        // The warm-up's records are there, too.
        let read = report.catch_up.map(|read| (read.records, read.bytes));
        assert!(matches!(read, Some((120, bytes)) if bytes >= 12_000), "{surface}: {read:?}");
    }
    let (_, topics) = broker.get("/topics").await;
    assert!(!topics.to_string().contains("bench-"), "the topic of a run goes with it: {topics}");

    let directory = tempfile::tempdir().expect("a temporary directory");
    let saved = directory.path().join("report.json");
    let page = directory.path().join("report.html");
    let files = ["--save", saved.to_str().expect("a path"), "--html", page.to_str().expect("a path")];
    let output =
        short_run(&broker, &[&["--fail-if", "e2e.p99>0us", "--fail-if", "errors>0"], &files[..]].concat()).await;
    assert_eq!(output.status.code(), Some(10), "a threshold was met");
    let report = report_of(&output);
    let failed: Vec<bool> = report.thresholds.iter().map(|threshold| threshold.failed).collect();
    assert_eq!(failed, [true, false]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("e2e.p99>0us"));
    assert_eq!(read(&saved), report);
    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(html.contains("<svg") && html.contains("e2e.p99&gt;0us"), "{} bytes", html.len());
}

fn read(path: &Path) -> Report {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("a report")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_its_own_says_what_it_cost_and_a_ramp_where_it_ends() {
    let arguments = [
        "bench",
        "-o",
        "json",
        "--cluster",
        "2",
        "--rate",
        "50",
        "--duration",
        "300ms",
        "--warm-up",
        "50ms",
        "--ramp",
        "p50<1us",
    ];
    let report = report_of(&run(&arguments, &[], b""));
    let ramp = report.ramp.as_ref().expect("a search");
    // Nothing is that fast: the rate is halved until there is none left to try.
    assert_eq!((ramp.highest_rate, ramp.steps.len()), (None, 6), "{ramp:?}");
    assert_eq!(report.system.replicas, 2);
    assert!(report.system.durability.contains("(log.flush = quorum, as every broker says)"), "{:?}", report.system);
    let names: Vec<&str> = report.processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["broker 0", "broker 1"]);
    assert!(report.processes.iter().all(|process| process.memory_bytes > 1 << 20), "{:?}", report.processes);
    let own = |process: &ProcessCost| (1 << 20..process.memory_bytes).contains(&process.anonymous_bytes);
    assert!(report.processes.iter().all(own), "{:?}", report.processes);
}

#[test]
fn what_it_cannot_do_is_refused_before_it_begins() {
    for (arguments, code, said) in [
        (&["--surface", "smtp"][..], 2, "smtp"),
        (&["--fail-if", "p98>1ms"], 2, "p98"),
        (&["--target", "ftp://x"], 2, "sink:"),
        (&["--partition", "3", "--partitions", "2"], 2, "no partition 3"),
        (&["--rate", "max", "--closed-loop"], 2, "--closed-loop"),
        (&["--flush", "quorum", "--data-dir", "x"], 2, "--cluster"),
        (&["--target", "http://127.0.0.1:1"], 1, "127.0.0.1:1"),
    ] {
        let output = run(&[&["bench"], arguments].concat(), &[], b"");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    let output =
        run(&["bench", "--target", "sink:", "--rate", "max", "--duration", "200ms", "--warm-up", "0"], &[], b"");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("closed loop"), "a loop that is closed says so: {text}");
}
