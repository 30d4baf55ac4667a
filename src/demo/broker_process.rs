//! A broker in a process of its own, which never outlives this one.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::last_lines;
use crate::{client::Client, error::CommandError};

const POLL: Duration = Duration::from_millis(5);
const START_DEADLINE: Duration = Duration::from_secs(20);
const END_DEADLINE: Duration = Duration::from_secs(20);
const LOG_LINES: usize = 20;

/// How a broker is started, again and again on the same data.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, and what stands before `broker` when another one starts it.
    pub program: Vec<OsString>,
    /// Where the broker keeps its data.
    pub data_dir: PathBuf,
    /// Where its log goes; appended to.
    pub log: PathBuf,
    /// Further arguments of `broker`.
    pub arguments: Vec<String>,
}

/// A running broker. Dropping it kills the process.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Launch {
    /// The whole command line of a broker at this address, without what ties it to the program that
    /// started it: with this it can be started again by others.
    #[must_use]
    pub fn command_line(&self, http: &str) -> Vec<OsString> {
        let mut words = self.program.clone();
        words.extend(["broker", "--http", http, "--data-dir"].map(OsString::from));
        words.push(self.data_dir.clone().into_os_string());
        words.extend(self.arguments.iter().map(OsString::from));
        words
    }

    /// Starts a broker at this address and waits until it listens.
    ///
    /// # Errors
    /// [`CommandError::Failed`] with the end of its log.
    pub async fn start(&self, http: &str) -> Result<BrokerProcess, CommandError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| CommandError::Failed(format!("{what}: {error}"));
        let log_file = File::options().create(true).append(true).open(&self.log);
        let log_file = log_file.map_err(|error| failed("cannot write the broker's log", &error))?;
        let mut words = self.program.iter();
        let mut command = Command::new(words.next().map_or("pubg1".as_ref(), OsString::as_os_str));
        let mut child = command
            .args(words)
            .args(["broker", "--http", http, "--exit-with-stdin"])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(&self.arguments)
            // Ctrl-C is for the program that started it, which ends it in order then.
            .process_group(0)
            // It ends when this pipe closes: even a kill -9 of this process leaves nothing behind.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .map_err(|error| failed("cannot start a broker", &error))?;
        let stdout = child.stdout.take();
        let mut process = BrokerProcess { child, url: String::new(), log: self.log.clone() };
        let reading = tokio::task::spawn_blocking(move || {
            let lines = stdout.map(|stdout| BufReader::new(stdout).lines());
            lines
                .into_iter()
                .flatten()
                .map_while(Result::ok)
                .find_map(|line| line.strip_prefix("http=").map(str::to_owned))
        });
        match tokio::time::timeout(START_DEADLINE, reading).await {
            Ok(Ok(Some(url))) => process.url = url,
            _ => {
                let log = last_lines(&process.log, LOG_LINES);
                return Err(CommandError::Failed(format!("the broker does not start; its log ends with\n{log}")));
            }
        }
        Ok(process)
    }
}

impl BrokerProcess {
    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when the deadline passes or the process ends.
    pub async fn wait_ready(&mut self, client: &Client, deadline: Duration) -> Result<(), CommandError> {
        let until = Instant::now() + deadline;
        let mut last = String::new();
        while Instant::now() < until {
            match client.ready().await {
                Ok(ready) if ready.ready => return Ok(()),
                Ok(ready) => last = ready.body.to_string(),
                Err(error) => last = error.to_string(),
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                last = format!("it ended with {status}");
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let log = last_lines(&self.log, LOG_LINES);
        Err(CommandError::Failed(format!("the broker is not ready: {last}; its log ends with\n{log}")))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when the system does not say.
    pub fn try_ended(&mut self) -> Result<Option<ExitStatus>, CommandError> {
        self.child.try_wait().map_err(|error| CommandError::Failed(format!("cannot wait for the broker: {error}")))
    }

    /// Closes its standard input, as the end of the program that started it does: it drains.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Ends it as a power cut would: no signal handler, no flush.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when it cannot be killed.
    pub async fn kill(&mut self) -> Result<(), CommandError> {
        let pid = self.child.id();
        self.child.kill().map_err(|error| CommandError::Failed(format!("cannot kill broker {pid}: {error}")))?;
        self.wait(END_DEADLINE).await.map(drop)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when it is not there any more.
    pub fn signal(&self, signal: Signal) -> Result<(), CommandError> {
        let pid = self.child.id();
        let failed = |what: &dyn std::fmt::Display| CommandError::Failed(format!("cannot signal broker {pid}: {what}"));
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| failed(&"no process id"))?;
        kill_process(process, signal).map_err(|error| failed(&error))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when it does not.
    pub async fn ended(&mut self) -> Result<ExitStatus, CommandError> {
        self.wait(END_DEADLINE).await
    }

    /// Ends it in order, and expects that it says so.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when it does not end or ends with an error.
    pub async fn end(&mut self) -> Result<(), CommandError> {
        self.signal(Signal::TERM)?;
        let status = self.wait(END_DEADLINE).await?;
        if status.success() {
            return Ok(());
        }
        let log = last_lines(&self.log, LOG_LINES);
        Err(CommandError::Failed(format!("the broker ended with {status}; its log ends with\n{log}")))
    }

    async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus, CommandError> {
        let until = Instant::now() + deadline;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < until => tokio::time::sleep(POLL).await,
                Ok(None) => return Err(CommandError::Failed(format!("broker {} does not end", self.child.id()))),
                Err(error) => return Err(CommandError::Failed(format!("cannot wait for the broker: {error}"))),
            }
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // It may have ended already; either way nothing of it is left after this.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
