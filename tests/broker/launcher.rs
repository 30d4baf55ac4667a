//! `pubg1 cluster` and the scripts beside it, with real processes: what is started is found, watched,
//! killed, started again, and gone at the end.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{DEADLINE, command, program, wait_until};

/// A cluster with its launcher, and what the launcher prints.
struct TestCluster {
    launcher: Child,
    lines: mpsc::Receiver<String>,
    directory: TempDir,
}

impl TestCluster {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = free_ports().to_string();
        let data = directory.path().join("data").display().to_string();
        let mut words = vec!["cluster", "-o", "json", "--base-port", &port, "--data-dir", &data, "--interval", "50ms"];
        words.extend(arguments);
        let log = fs::File::create(directory.path().join("launcher.log")).expect("a file");
        let mut launcher =
            command(&words, &[]).stdout(Stdio::piped()).stderr(log).spawn().expect("pubg1 cluster starts");
        let stdout = launcher.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { launcher, lines, directory }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Reads what is printed until a document is as it should be.
    fn printed(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            let document: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if wanted(&document) {
                return document;
            }
            seen.push(line);
        }
        let log = fs::read_to_string(self.directory.path().join("launcher.log")).unwrap_or_default();
        panic!("never printed: {what}; {seen:?}; {log}");
    }

    fn state(&self) -> Value {
        let text = fs::read_to_string(self.data().join("cluster.json")).expect("cluster.json");
        serde_json::from_str(&text).expect("JSON")
    }

    fn broker_state(&self, word: &str) -> Value {
        self.printed(&format!("broker 0 is {word}"), |document| document["brokers"][0]["state"] == word)
    }

    fn signal(&self, signal: Signal) {
        send(u64::from(self.launcher.id()), signal);
    }

    /// Runs one of the scripts on this cluster.
    fn script(&self, name: &str, arguments: &[&str]) -> Output {
        script(&self.data(), name, arguments)
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        // Its brokers end with it.
        drop(self.launcher.kill());
        drop(self.launcher.wait());
    }
}

fn script(data: &Path, name: &str, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let mut script = Command::new(path);
    script.args(arguments).env("PUBG1_CLUSTER_DIR", data).env("PUBG1_BINARY", program()).output().expect("it runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn send(pid: u64, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

fn runs(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}

/// A port for http that is free, with the one for rpc above it.
fn free_ports() -> u16 {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        if port < 60_000 && TcpListener::bind(("127.0.0.1", port + 1000)).is_ok() {
            return port;
        }
    }
    panic!("no two free ports");
}

#[test]
fn a_broker_that_dies_is_shown_and_comes_back_when_it_is_asked_for() {
    let mut cluster = TestCluster::start(&["--brokers", "1", "--set", "default_topic.partitions=2"]);
    let up = cluster.printed("the topic", |document| document["topics"][0]["partitions"][1]["leader"] == 0);
    let pid = up["brokers"][0]["pid"].as_u64().expect("a process id");
    let state = cluster.state();
    assert_eq!(state["brokers"][0]["pid"], pid);
    assert_eq!(state["launcher_pid"], cluster.launcher.id());
    let pid_file = fs::read_to_string(cluster.data().join("broker-0/broker.pid")).expect("broker.pid");
    assert_eq!(pid_file.trim(), pid.to_string());

    send(pid, Signal::KILL);
    let dead = cluster.broker_state("dead");
    assert!(dead["brokers"][0]["note"].as_str().is_some_and(|note| note.contains("SIGKILL")), "{dead}");
    assert_eq!(cluster.state()["brokers"][0]["pid"], Value::Null);

    fs::write(cluster.data().join("start-0"), "").expect("written");
    let again = cluster.broker_state("up");
    assert_ne!(again["brokers"][0]["pid"], pid);
    assert_eq!(cluster.state()["brokers"][0]["pid"], again["brokers"][0]["pid"]);

    cluster.signal(Signal::TERM);
    assert_eq!(cluster.launcher.wait().expect("it ends").code(), Some(0));
    let state = cluster.state();
    assert_eq!((&state["launcher_pid"], &state["brokers"][0]["pid"]), (&Value::Null, &Value::Null));
    assert!(!runs(again["brokers"][0]["pid"].as_u64().expect("a process id")));
}

#[test]
fn a_broker_is_started_again_by_itself_when_that_was_said() {
    let cluster = TestCluster::start(&["--brokers", "1", "--restart-after", "10ms"]);
    let first = cluster.broker_state("up")["brokers"][0]["pid"].as_u64().expect("a process id");
    send(first, Signal::KILL);
    let second = cluster.printed("another process", |document| {
        document["brokers"][0]["state"] == "up" && document["brokers"][0]["pid"] != first
    });
    assert!(second["brokers"][0]["pid"].is_u64());
}

#[tokio::test]
async fn brokers_end_with_a_launcher_that_is_killed() {
    let cluster = TestCluster::start(&["--brokers", "1"]);
    let pid = cluster.broker_state("up")["brokers"][0]["pid"].as_u64().expect("a process id");
    cluster.signal(Signal::KILL);
    wait_until("the broker ends", || async { (!runs(pid)).then_some(()) }).await;
}

#[test]
fn what_cannot_start_is_a_failure_and_leaves_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().display().to_string();
    let output = command(&["cluster", "--brokers", "1", "--base-port", &port, "--data-dir", &data], &[]).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(if port.parse::<u32>().is_ok_and(|port| port > 64_535) { 2 } else { 1 }));
    assert!(!text(&output).is_empty());
    let output = command(&["cluster", "--flush", "never", "--data-dir", &data], &[]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[test]
fn scripts_kill_and_restart_a_broker_of_a_launcher() {
    let cluster = TestCluster::start(&["--brokers", "1"]);
    let pid = cluster.broker_state("up")["brokers"][0]["pid"].as_u64().expect("a process id");
    let killed = cluster.script("kill-leader", &["pubg1", "0"]);
    assert!(killed.status.success(), "{}", text(&killed));
    assert!(text(&killed).contains(&format!("kill -9 {pid}: broker 0")), "{}", text(&killed));
    cluster.broker_state("dead");
    let missing = cluster.script("kill-broker", &["0"]);
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing));

    let restarted = cluster.script("restart-broker", &["0"]);
    assert!(restarted.status.success(), "{}", text(&restarted));
    assert!(text(&restarted).contains("its launcher starts it again"), "{}", text(&restarted));
    let running = cluster.script("restart-broker", &["0"]);
    assert!(!running.status.success() && text(&running).contains("runs already"), "{}", text(&running));
}

#[test]
fn scripts_touch_no_process_that_is_not_a_broker_of_the_cluster() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("broker-0");
    fs::create_dir(&data).expect("made");
    // All that a script looks at says that this process is broker 0, but the process itself.
    let mut bystander = Command::new("sleep").arg("600").spawn().expect("sleep starts");
    fs::write(data.join("broker.pid"), bystander.id().to_string()).expect("written");
    fs::write(data.join("http.addr"), "http://127.0.0.1:1\n").expect("written");
    fs::write(data.join("broker.json"), json!({ "broker_id": 0 }).to_string()).expect("written");
    for (name, arguments) in [("kill-broker", &["0"][..]), ("pause-broker", &["0", "1"]), ("rolling-restart", &["0"])] {
        let output = script(directory.path(), name, arguments);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        assert!(text(&output).contains("does not run"), "{name}: {}", text(&output));
    }
    assert!(bystander.try_wait().expect("it is ours").is_none());
    drop(bystander.kill());
    drop(bystander.wait());
}

#[test]
fn every_script_explains_itself_and_refuses_what_it_does_not_know() {
    let scripts = [
        "kill-leader",
        "kill-follower",
        "kill-controller",
        "kill-broker",
        "restart-broker",
        "pause-broker",
        "rolling-restart",
        "cut-link",
        "cluster-in-namespaces",
    ];
    let empty = tempfile::tempdir().expect("a temporary directory");
    for name in scripts {
        let output = script(empty.path(), name, &["--help"]);
        let help = text(&output);
        assert!(output.status.success() && help.contains(&format!("scripts/{name}")), "{name}: {help}");
        let output = script(empty.path(), name, &["no-such-thing", "x", "y", "z"]);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{name}: {}", text(&output));
    }
}
