//! The place of one broker in the cluster: its process, or what became of it.

use std::{
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::plan::BrokerSpec;
use crate::{demo::broker_process::BrokerProcess, error::CommandError};

/// A broker's place.
#[derive(Debug)]
pub struct Slot {
    spec: BrokerSpec,
    url: String,
    state: State,
    /// Whether it was told to end.
    closing: bool,
}

#[derive(Debug)]
enum State {
    Starting(JoinHandle<Result<BrokerProcess, CommandError>>),
    Up(BrokerProcess),
    Dead { since: Instant, how: String, in_order: bool },
}

impl Slot {
    /// A place that is empty.
    #[must_use]
    pub fn new(spec: BrokerSpec) -> Self {
        let state = State::Dead { since: Instant::now(), how: "was not started".to_owned(), in_order: true };
        Self { url: spec.url(), spec, state, closing: false }
    }

    /// The broker's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.spec.id
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id, while it runs and listens.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Up(process) => Some(process.pid()),
            State::Starting(_) | State::Dead { .. } => None,
        }
    }

    /// Begins to start it.
    ///
    /// # Errors
    /// [`CommandError::File`] when it cannot have its directory.
    pub fn start(&mut self) -> Result<(), CommandError> {
        let path = self.spec.launch.data_dir.clone();
        std::fs::create_dir_all(&path).map_err(|source| CommandError::File { action: "create", path, source })?;
        let (launch, http) = (self.spec.launch.clone(), self.spec.http.to_string());
        self.state = State::Starting(tokio::spawn(async move { launch.start(&http).await }));
        Ok(())
    }

    /// Looks what became of it. Answers what is to be told.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when the system does not say.
    pub async fn poll(&mut self) -> Result<Option<String>, CommandError> {
        let id = self.id();
        let dead = |how: String, in_order| State::Dead { since: Instant::now(), how, in_order };
        match &mut self.state {
            State::Starting(task) if task.is_finished() => {
                match task.await {
                    Ok(Ok(process)) => {
                        let pid = process.pid();
                        self.state = State::Up(process);
                        if self.closing {
                            self.close();
                        }
                        return Ok(Some(format!("broker {id} listens at {}, process {pid}", self.url)));
                    }
                    Ok(Err(error)) => self.state = dead(error.to_string(), false),
                    Err(error) => self.state = dead(error.to_string(), false),
                }
                Ok(Some(format!("broker {id}: {}", self.note())))
            }
            State::Up(process) => {
                let pid = process.pid();
                let Some(status) = process.try_ended()? else { return Ok(None) };
                self.state = dead(how(status), status.success());
                Ok(Some(format!("broker {id}, process {pid}, {}", how(status))))
            }
            State::Starting(_) | State::Dead { .. } => Ok(None),
        }
    }

    /// Whether there is, or will be, a process.
    #[must_use]
    pub fn runs(&self) -> bool {
        !matches!(self.state, State::Dead { .. })
    }

    /// Since when it is dead.
    #[must_use]
    pub fn dead_for(&self) -> Option<Duration> {
        match &self.state {
            State::Dead { since, .. } => Some(since.elapsed()),
            State::Starting(_) | State::Up(_) => None,
        }
    }

    /// Why it is dead, if it did not end in order.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match &self.state {
            State::Dead { how, in_order: false, .. } => Some(format!("broker {}: {how}", self.id())),
            _ => None,
        }
    }

    /// One word for a table.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match &self.state {
            State::Starting(_) => "starting",
            State::Up(_) => "up",
            State::Dead { .. } => "dead",
        }
    }

    /// What there is to say about it, on one line.
    #[must_use]
    pub fn note(&self) -> String {
        match &self.state {
            State::Dead { how, .. } => how.lines().next().unwrap_or_default().to_owned(),
            State::Starting(_) | State::Up(_) => String::new(),
        }
    }

    /// Tells it to end in order, now or as soon as it listens.
    pub fn close(&mut self) {
        self.closing = true;
        if let State::Up(process) = &mut self.state {
            process.close_stdin();
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.state = State::Dead { since: Instant::now(), how: "was killed".to_owned(), in_order: false };
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended in order".to_owned(),
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(9)) => "was killed by signal 9 (SIGKILL)".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_it_was() {
        assert_eq!(how(ExitStatus::from_raw(0)), "ended in order");
        assert_eq!(how(ExitStatus::from_raw(1 << 8)), "ended with exit code 1");
        assert_eq!(how(ExitStatus::from_raw(9)), "was killed by signal 9 (SIGKILL)");
        assert_eq!(how(ExitStatus::from_raw(15)), "was ended by signal 15");
    }
}
