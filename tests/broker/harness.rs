//! A broker of one's own: free port, temporary data, ended whatever happens.

use std::{
    ffi::OsString,
    future::Future,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use pubg1::{
    client::Client,
    demo::{Launch, broker_process::BrokerProcess},
};
use rustix::fs::OFlags;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the test is a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_pubg1")
}

/// A running broker and the directory that it works in.
pub(crate) struct TestBroker {
    // Before the directory: the process must be gone when its files are removed.
    pub(crate) process: BrokerProcess,
    pub(crate) client: Client,
    pub(crate) launch: Launch,
    pub(crate) directory: TempDir,
}

/// How to start a broker below this directory.
pub(crate) fn launch_in(directory: &Path, arguments: &[&str]) -> Launch {
    Launch {
        program: vec![OsString::from(program())],
        data_dir: directory.join("data"),
        log: directory.join("broker.log"),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
    }
}

impl TestBroker {
    /// Starts a broker that is ready.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let launch = launch_in(directory.path(), arguments);
        let mut process = launch.start("127.0.0.1:0").await.expect("the broker starts");
        let client = Client::new(process.url()).expect("the broker prints its URL");
        process.wait_ready(&client, DEADLINE).await.expect("the broker becomes ready");
        Self { process, client, launch, directory }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.launch.data_dir.clone()
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> String {
        self.client.base().trim_start_matches("http://").to_owned()
    }

    /// Starts it again on the same address and data, without waiting for it to be ready.
    pub(crate) async fn start_again(&mut self) {
        self.process = self.launch.start(&self.address()).await.expect("the broker starts again");
    }

    pub(crate) async fn ready(&mut self) {
        self.process.wait_ready(&self.client, DEADLINE).await.expect("the broker becomes ready");
    }

    pub(crate) async fn kill_and_restart(&mut self) {
        self.process.kill().await.expect("the broker is killed");
        self.start_again().await;
        self.ready().await;
    }

    /// `GET`, as status and JSON.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(reqwest::get(format!("{}{path}", self.client.base())).await).await
    }

    /// `POST` of a JSON body, as status and JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.client.base())).json(body);
        answer(request.send().await).await
    }

    /// Runs `pubg1` against this broker.
    pub(crate) async fn pubg1(&self, arguments: &[&str], input: &[u8]) -> Output {
        let broker = self.client.base().to_owned();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let input = input.to_vec();
        let running = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(&arguments, &[("PUBG1_BROKER", &broker)], &input)
        });
        running.await.expect("the command runs")
    }

    /// The same, for a command that must succeed: its standard output.
    pub(crate) async fn pubg1_ok(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.pubg1(arguments, input).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pubg1 {arguments:?}: {}: {stderr}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }
}

async fn answer(response: reqwest::Result<reqwest::Response>) -> (u16, Value) {
    let response = response.expect("the broker answers");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("the broker answers to the end");
    let text = String::from_utf8_lossy(&body);
    (status, serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{status}: {error}: {text}")))
}

/// `pubg1` with these arguments, and of our variables only these.
pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program());
    for name in ["PUBG1_BROKER", "PUBG1_CONFIG"] {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied());
    command
}

/// Runs `pubg1` to its end.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = command(arguments, variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pubg1 starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // A command that ends early does not read all of its input.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("pubg1 ends")
    })
}

/// Asks again and again until the answer is there.
pub(crate) async fn wait_until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while begun.elapsed() < DEADLINE {
        ticks.tick().await;
        if let Some(value) = condition().await {
            return value;
        }
    }
    panic!("waited {} s for this: {what}", DEADLINE.as_secs());
}

/// A recovery that is held up: it goes on when this is released, and a broker that is gone needs none.
pub(crate) struct HeldRecovery {
    checkpoint: PathBuf,
    aside: PathBuf,
    pipe: Option<std::fs::File>,
}

/// Makes the recovery of a broker that does not run wait until it is released. Recovery reads a
/// partition's leader epochs; a pipe in their place holds it up until somebody writes.
pub(crate) fn hold_recovery_up(broker: &TestBroker) -> HeldRecovery {
    let checkpoint = a_checkpoint(&broker.data_dir());
    let aside = checkpoint.with_extension("aside");
    std::fs::rename(&checkpoint, &aside).expect("renamed");
    let made = Command::new("mkfifo").arg(&checkpoint).status().expect("mkfifo runs");
    assert!(made.success());
    HeldRecovery { checkpoint, aside, pipe: None }
}

impl HeldRecovery {
    /// Waits until a recovery has come to the pipe, and keeps it there.
    pub(crate) async fn reached(&mut self) {
        let checkpoint = self.checkpoint.clone();
        let opened = || async { writer_of(&checkpoint) };
        self.pipe = Some(wait_until("recovery reads the leader epochs", opened).await);
    }

    /// Lets a recovery that waits go on, and those that begin later.
    pub(crate) fn release(mut self) {
        let text = std::fs::read(&self.aside).expect("a checkpoint");
        let pipe = self.pipe.take().or_else(|| writer_of(&self.checkpoint));
        // The file is back before recovery goes on: it may replace it.
        std::fs::rename(&self.aside, &self.checkpoint).expect("renamed");
        if let Some(mut pipe) = pipe
            && let Err(error) = pipe.write_all(&text)
        {
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}");
        }
    }
}

/// The writing end of a pipe, if somebody reads: without a reader, opening it fails.
fn writer_of(pipe: &Path) -> Option<std::fs::File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag");
    std::fs::OpenOptions::new().write(true).custom_flags(nonblocking).open(pipe).ok()
}

/// The leader epochs of a partition that holds a record.
fn a_checkpoint(data_dir: &Path) -> PathBuf {
    let partitions = std::fs::read_dir(data_dir.join("partitions")).expect("partitions");
    let directories = partitions.map(|entry| entry.expect("an entry").path());
    let mut filled = directories.filter(|path| path.join("00000000000000000000.log").is_file());
    filled.next().expect("a partition with a record").join("leader-epoch-checkpoint")
}

/// A number from the environment, for runs that may be longer than the usual ones.
pub(crate) fn size(variable: &str, default: u64) -> u64 {
    let value = std::env::var_os(variable).map(|value| value.to_string_lossy().parse());
    value.map_or(default, |value| value.unwrap_or_else(|_| panic!("{variable} must be a number")))
}
