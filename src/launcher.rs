//! A cluster of broker processes on this machine: starts them, shows who leads what, ends them in
//! order. They end with this process whatever happens to it.

pub mod board;
pub mod plan;
pub mod slot;
pub mod state_file;
mod watcher;

use std::{
    fs::{self, File},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, FromArgMatches};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{client::Client, config, demo, error::CommandError, terminal::Terminal};
use board::Board;
use plan::Plan;
use slot::Slot;
use watcher::Watcher;

/// How often the processes are looked after.
const TICK: Duration = Duration::from_millis(50);
/// How long a cluster may take until all of its brokers are ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Signals that come so soon after the first one are no second request.
const SAME_REQUEST: Duration = Duration::from_millis(500);
/// What brokers get on top of the time that they may take for their own orderly end.
const END_GRACE: Duration = Duration::from_secs(10);

/// How a cluster is started.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Starting a cluster")]
pub struct StartArgs {
    /// How many brokers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub brokers: u16,
    /// http port of broker 0; rpc is 1000 above
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub base_port: u16,
    /// Directory of the cluster: a directory for each broker, and cluster.json
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// When a record counts as stored: quorum (on disk), or interval=MS [default: quorum]
    #[arg(long, value_name = "POLICY")]
    pub flush: Option<String>,
    /// Replicas of a new topic that does not say [default: 3]
    #[arg(long, value_name = "N")]
    pub replication_factor: Option<String>,
    /// Any other setting of the brokers, by its key; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::assignment)]
    pub set: Vec<(&'static str, String)>,
    /// Start a broker again that ended, after this time
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub restart_after: Option<Duration>,
    /// How often to look who leads what
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub interval: Duration,
    /// Further arguments of `pubg1 broker`, for all of them
    #[arg(last = true, value_name = "BROKER ARGUMENT")]
    pub arguments: Vec<String>,
}

impl StartArgs {
    /// What they are when nothing is said.
    #[must_use]
    pub fn unchanged() -> Option<Self> {
        let command = Self::augment_args(clap::Command::new("cluster"));
        let matches = command.try_get_matches_from(["cluster"]).ok()?;
        Self::from_arg_matches(&matches).ok()
    }
}

/// Runs a cluster until it is told to stop.
///
/// # Errors
/// Arguments that make no cluster, brokers that do not start or do not end in order.
pub async fn run(terminal: Terminal, args: StartArgs) -> Result<(), CommandError> {
    let mut stop = listen()?;
    let directory = prepare(&args.data_dir)?;
    let _lock = lock(&directory)?;
    let plan = Plan::new(&args, directory, demo::this_program()?, &config::environment())?;
    let client = Client::new(&plan.urls().join(","))?;
    let mut cluster = Cluster::start(plan, args.restart_after)?;
    let board = Board::new(terminal, &cluster.plan);
    let ran = tokio::select! {
        ran = cluster.supervise(client, board, args.interval) => ran,
        signal = stop.recv() => {
            terminal.note(&format!("{}: the brokers are ended in order", signal.unwrap_or("told to stop")));
            Ok(())
        }
    };
    let ended = tokio::select! {
        ended = cluster.end(terminal) => ended,
        signal = again(&mut stop) => {
            Err(CommandError::Failed(format!("{signal} again: the brokers that still ran were killed")))
        }
    };
    let wrote = cluster.record_end();
    ran.and(ended).and(wrote)
}

/// Ctrl-C, SIGTERM, and the end of the terminal.
fn listen() -> Result<mpsc::UnboundedReceiver<&'static str>, CommandError> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let kinds =
        [(SignalKind::interrupt(), "Ctrl-C"), (SignalKind::terminate(), "SIGTERM"), (SignalKind::hangup(), "SIGHUP")];
    for (kind, name) in kinds {
        let mut signals =
            signal(kind).map_err(|error| CommandError::Failed(format!("cannot listen for signals: {error}")))?;
        let sender = sender.clone();
        tokio::spawn(async move { while signals.recv().await.is_some() && sender.send(name).is_ok() {} });
    }
    Ok(receiver)
}

/// The second request to stop. What comes at once with the first one is the same: `timeout` and terminals tell a process
/// and its group.
async fn again(stop: &mut mpsc::UnboundedReceiver<&'static str>) -> &'static str {
    let begun = Instant::now();
    while let Some(signal) = stop.recv().await {
        if begun.elapsed() >= SAME_REQUEST {
            return signal;
        }
    }
    // Every sender lives in a task that never ends.
    std::future::pending().await
}

/// The directory, made if need be, as an absolute path: brokers may be started from elsewhere.
fn prepare(directory: &PathBuf) -> Result<PathBuf, CommandError> {
    let failed = |action| move |source| CommandError::File { action, path: directory.clone(), source };
    fs::create_dir_all(directory).map_err(failed("create"))?;
    let absolute = fs::canonicalize(directory).map_err(failed("read"))?;
    if absolute.join("partitions").is_dir() {
        return Err(CommandError::Usage(format!(
            "{} holds the data of a broker that runs alone: give the cluster another directory",
            directory.display()
        )));
    }
    Ok(absolute)
}

/// One launcher at a time.
fn lock(directory: &std::path::Path) -> Result<File, CommandError> {
    let path = directory.join(".lock");
    let failed = |source| CommandError::File { action: "lock", path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(CommandError::Failed(format!("a cluster runs in {} already", directory.display())))
        }
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The processes.
struct Cluster {
    plan: Plan,
    slots: Vec<Slot>,
    restart_after: Option<Duration>,
}

impl Cluster {
    fn start(plan: Plan, restart_after: Option<Duration>) -> Result<Self, CommandError> {
        let slots = plan.brokers.iter().cloned().map(Slot::new).collect();
        let mut cluster = Self { plan, slots, restart_after };
        for slot in &mut cluster.slots {
            slot.start()?;
        }
        cluster.record()?;
        Ok(cluster)
    }

    /// Writes `cluster.json` as it is now.
    fn record(&self) -> Result<(), CommandError> {
        let pids: Vec<Option<u32>> = self.slots.iter().map(Slot::pid).collect();
        state_file::write(&self.plan, Some(std::process::id()), &pids)
    }

    fn record_end(&self) -> Result<(), CommandError> {
        state_file::write(&self.plan, None, &vec![None; self.slots.len()])
    }

    /// Looks after the processes and shows the cluster; ends only with an error.
    async fn supervise(&mut self, client: Client, mut board: Board, interval: Duration) -> Result<(), CommandError> {
        self.until_ready().await?;
        board.ready(&self.slots);
        let mut watcher = Watcher::start(client, interval);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    for event in self.look_after().await? {
                        board.event(&event)?;
                    }
                    board.draw(&self.slots, None)?;
                }
                sight = watcher.next() => board.draw(&self.slots, Some(sight))?,
            }
        }
    }

    /// One round: who ended, who is to be started again. Answers what is to be told.
    async fn look_after(&mut self) -> Result<Vec<String>, CommandError> {
        let mut events = Vec::new();
        for slot in &mut self.slots {
            events.extend(slot.poll().await?);
            let asked = state_file::take_start_request(&self.plan.directory, slot.id());
            let due = self.restart_after.is_some_and(|after| slot.dead_for().is_some_and(|dead| dead >= after));
            if slot.dead_for().is_some() && (asked || due) {
                slot.start()?;
                events.push(format!("broker {} is started again", slot.id()));
            }
        }
        if !events.is_empty() {
            self.record()?;
        }
        Ok(events)
    }

    async fn until_ready(&mut self) -> Result<(), CommandError> {
        let deadline = Instant::now() + READY_DEADLINE;
        let mut ticks = tokio::time::interval(TICK / 5);
        let mut waiting: Vec<(usize, Client)> = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            waiting.push((index, Client::new(slot.url())?));
        }
        while let Some((index, client)) = waiting.first() {
            ticks.tick().await;
            self.look_after().await?;
            if let Some(reason) = self.slots.iter().find_map(Slot::failure) {
                return Err(CommandError::Failed(reason));
            }
            if self.slots[*index].pid().is_none() {
                continue;
            }
            let reason = match client.ready().await {
                Ok(ready) if ready.ready => {
                    waiting.remove(0);
                    continue;
                }
                Ok(ready) => ready.body.to_string(),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                let id = self.slots[*index].id();
                return Err(CommandError::Failed(format!("broker {id} does not become ready: {reason}")));
            }
        }
        Ok(())
    }

    /// Ends all that run, at the same time: there is nobody left to hand a leadership to.
    async fn end(&mut self, terminal: Terminal) -> Result<(), CommandError> {
        for slot in &mut self.slots {
            slot.close();
        }
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(TICK / 5);
        let mut problems = Vec::new();
        while self.slots.iter().any(Slot::runs) {
            ticks.tick().await;
            for slot in &mut self.slots {
                if !slot.runs() {
                    continue;
                }
                slot.poll().await?;
                problems.extend(slot.failure());
            }
            if begun.elapsed() > self.plan.drain_timeout + END_GRACE {
                for slot in self.slots.iter_mut().filter(|slot| slot.runs()) {
                    problems.push(format!("broker {} did not end and was killed", slot.id()));
                    slot.kill();
                }
            }
        }
        if problems.is_empty() {
            let seconds = begun.elapsed().as_secs_f64();
            terminal.note(&format!("all brokers ended in order ({seconds:.1} s); the data are in {}", self.plan.shown));
            return Ok(());
        }
        Err(CommandError::Failed(problems.join("\n")))
    }
}
