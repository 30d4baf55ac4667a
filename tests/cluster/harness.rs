//! A cluster of one's own: free ports, temporary data, ended whatever happens.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use pubg1::{
    cluster_process::{ClusterLaunch, ClusterProcess},
    terminal::{OutputFormat, Terminal},
    verify::{self, Faults, Plan, brokers::Brokers, report::Report},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// How long anything may take before the test is a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How many brokers a cluster has.
pub(crate) const BROKERS: u32 = 4;
pub(crate) const TERMINAL: Terminal = Terminal { format: OutputFormat::Json, color: false };

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The program under test.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_pubg1")
}

/// A running cluster and the directory that it works in.
pub(crate) struct TestCluster {
    // Before the directory: the processes must be gone when their files are removed.
    pub(crate) processes: ClusterProcess,
    directory: PathBuf,
    temporary: Option<TempDir>,
    _turn: MutexGuard<'static, ()>,
}

/// Waits until no other test has a cluster.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

/// How to start so many brokers below a directory.
pub(crate) fn launch(directory: &Path, brokers: u32, arguments: &[&str]) -> ClusterLaunch {
    ClusterLaunch {
        program: vec![OsString::from(program())],
        directory: directory.to_owned(),
        brokers,
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
    }
}

impl TestCluster {
    /// Starts four brokers and waits until each is ready.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further arguments for each of them.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut cluster = Self::start_below(directory.path(), arguments).await;
        cluster.temporary = Some(directory);
        cluster
    }

    /// The same in a directory that somebody else removes.
    pub(crate) async fn start_in(directory: &Path) -> Self {
        Self::start_below(directory, &[]).await
    }

    async fn start_below(directory: &Path, arguments: &[&str]) -> Self {
        let turn = turn().await;
        let processes = launch(directory, BROKERS, arguments).start().await.expect("the cluster starts");
        Self { processes, directory: directory.to_owned(), temporary: None, _turn: turn }
    }

    /// Puts a file beside the brokers' directories.
    pub(crate) fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.directory.join(name);
        std::fs::write(&path, contents).expect("writable");
        path
    }

    /// Writes while the faults happen, checks everything, and expects that every promise was kept. Producers write at
    /// a steady rate that leaves the brokers time to breathe.
    pub(crate) async fn survive(&mut self, plan: &Plan, faults: &str) -> Report {
        let parsed = faults.parse().expect("a fault plan");
        let history = self.directory.join("history.jsonl");
        let plan = Plan { history: Some(history.clone()), ..plan.clone() };
        let brokers = Brokers::at(&self.processes.urls()).expect("URLs");
        let during = Some(Faults { cluster: &mut self.processes, plan: parsed });
        let report = verify::run(&plan, &brokers, during, TERMINAL).await;
        let report = report.unwrap_or_else(|error| panic!("{faults}: {error}\n{}", self.logs()));
        if !report.is_clean() {
            // The judge can look at it again.
            let kept = std::env::temp_dir().join(format!("pubg1-history-{}.jsonl", std::process::id()));
            let copied = std::fs::copy(&history, &kept);
            panic!(
                "{faults} (seed {}): {}\n{:#?}\nhistory: {kept:?} {copied:?}\n{}",
                plan.seed,
                report.accusation(),
                report.verdict,
                self.logs()
            );
        }
        assert_eq!(report.not_compared, None, "every replica is compared");
        assert!(report.verdict.acknowledged > 0 && report.verdict.copies_compared > 0, "{:#?}", report.verdict);
        report
    }

    /// The attempts of the last run whose outcome was never told, as its history has them.
    pub(crate) fn unknown_attempts(&self) -> String {
        let history = std::fs::read_to_string(self.directory.join("history.jsonl")).unwrap_or_default();
        let unknown = history.lines().filter(|line| line.contains("\"unknown\"") || line.contains("\"fault\""));
        format!("{}\n{}", unknown.collect::<Vec<_>>().join("\n"), self.logs())
    }

    /// The end of every broker's log.
    pub(crate) fn logs(&self) -> String {
        let ends = self.processes.nodes().iter().map(|node| {
            let log = std::fs::read_to_string(node.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("--- broker {}\n{}", node.id, lines[lines.len().saturating_sub(30)..].join("\n"))
        });
        ends.collect::<Vec<_>>().join("\n")
    }

    /// `GET` from one broker, as status and JSON.
    pub(crate) async fn get(&self, broker: usize, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.processes.nodes()[broker].client.base());
        answer(reqwest::get(url).await).await
    }

    /// `POST` of a JSON body to one broker, as status and JSON.
    pub(crate) async fn post(&self, broker: usize, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.processes.nodes()[broker].client.base());
        answer(reqwest::Client::new().post(url).json(body).send().await).await
    }

    /// Ends every broker in order.
    pub(crate) async fn end(self) {
        self.processes.end().await.expect("every broker ends in order");
    }
}

async fn answer(response: reqwest::Result<reqwest::Response>) -> (u16, Value) {
    let response = response.expect("the broker answers");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("the broker answers to the end");
    let text = String::from_utf8_lossy(&body);
    (status, serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{status}: {error}: {text}")))
}

/// The load of most tests: idempotent, a few hundred requests a second.
pub(crate) fn plan(topic: &str) -> Plan {
    let topic = topic.parse().expect("a topic's name");
    Plan { partitions: 4, producers: 2, idempotent: true, rate: 2_000, ..Plan::on(topic) }
}

/// Asks again and again until the answer is there.
pub(crate) async fn wait_until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited {} s for this: {what}", DEADLINE.as_secs()))
}

/// A number from the environment, for runs that may be longer than the usual ones.
pub(crate) fn size(variable: &str, default: u64) -> u64 {
    let value = std::env::var_os(variable).map(|value| value.to_string_lossy().parse());
    value.map_or(default, |value| value.unwrap_or_else(|_| panic!("{variable} must be a number")))
}
