//! Machines with a broker each: started, killed, crashed with what was not flushed, and started again.

use std::{
    cell::{Cell, RefCell},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use pubg1_actors::{BrokerConfig, BrokerHandle, DefaultTopic, PartitionView, testing};
use pubg1_metrics::Metrics;
use pubg1_model::{BrokerId, Offset, PartitionId, TopicName};
use pubg1_transport::backoff::SplitMix64;
use tempfile::TempDir;
use tokio::sync::watch;
use turmoil::{Builder, Sim};

use crate::{
    history::{Record, Shared, records_of},
    network::SimulatedNetwork,
    workload::Clients,
};

/// Brokers of a run; each partition has three replicas.
pub(crate) const BROKERS: u32 = 4;
/// The simulation's clock has steps of this.
const TICK: Duration = Duration::from_millis(2);
/// Partitions of the topic that clients use.
pub(crate) const PARTITIONS: u32 = 2;

/// The topic that clients use.
pub(crate) fn topic() -> TopicName {
    "simulated".parse().expect("a name")
}

/// A machine, with the broker on it.
pub(crate) struct Machine {
    pub(crate) id: BrokerId,
    pub(crate) name: String,
    dir: PathBuf,
    /// Whether the broker's process shall run.
    running: watch::Sender<bool>,
    boots: Cell<u64>,
    handle: RefCell<Option<BrokerHandle>>,
    random: RefCell<SplitMix64>,
    pub(crate) clients: Rc<Clients>,
    history: Shared,
}

impl Machine {
    /// What the machine does from its boot on.
    async fn run(self: Rc<Self>) -> turmoil::Result {
        let mut running = self.running.subscribe();
        running.wait_for(|running| *running).await?;
        let metrics = Metrics::new()?;
        let broker = testing::start_simulated(self.config(), metrics, SimulatedNetwork, self.boots.get().to_string());
        let broker = broker.inspect_err(|error| self.history.borrow_mut().violate(error.to_string()))?;
        self.handle.replace(Some(broker.clone()));
        self.clients.start(&broker, &mut self.random.borrow_mut());
        let reason = broker.fatal().await;
        self.history.borrow_mut().violate(format!("{}: {reason}", self.name));
        Ok(())
    }

    fn config(&self) -> BrokerConfig {
        let mut config = BrokerConfig::new(self.id, &self.dir, format!("http://{}:8000", self.name));
        config.rpc_listen = Some("0.0.0.0:9000".to_owned());
        config.rpc_advertised = format!("{}:9000", self.name);
        config.voters = (0..BROKERS).map(|id| (BrokerId(id), format!("b{id}:9000"))).collect();
        config.default_topic = Some(DefaultTopic { name: topic(), partitions: PARTITIONS });
        config.append_timeout_ms = 5_000;
        config
    }

    /// Its broker, while it runs.
    pub(crate) fn broker(&self) -> Option<BrokerHandle> {
        self.handle.borrow().clone()
    }

    /// The replica of a partition here, while its broker runs.
    pub(crate) fn replica(&self, partition: PartitionId) -> Option<(PartitionView, PathBuf)> {
        testing::replica(self.handle.borrow().as_ref()?, &topic(), partition)
    }

    fn records(&self, partition: PartitionId) -> Option<Vec<Record>> {
        testing::replica_batches(self.handle.borrow().as_ref()?, &topic(), partition).map(|runs| records_of(&runs, 0))
    }
}

/// All machines of a run, and the network between them.
pub(crate) struct Cluster<'a> {
    pub(crate) sim: Sim<'a>,
    pub(crate) machines: Vec<Rc<Machine>>,
    pub(crate) history: Shared,
    pub(crate) calm: Rc<Cell<bool>>,
    /// Log what happens.
    is_told: bool,
    _dir: TempDir,
}

impl Cluster<'_> {
    /// Machines that are about to boot.
    pub(crate) fn new(seed: u64, is_told: bool) -> Self {
        let dir = match tempfile::tempdir_in("/dev/shm") {
            Ok(dir) => dir,
            Err(_) => tempfile::tempdir().expect("a directory"),
        };
        let mut sim = Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(600))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(6))
            .tcp_capacity(4096)
            .build();
        let (history, calm) = (Shared::default(), Rc::new(Cell::new(false)));
        let mut random = SplitMix64::new(seed);
        let machines: Vec<Rc<Machine>> = (0..BROKERS)
            .map(|id| {
                let name = format!("b{id}");
                Rc::new(Machine {
                    id: BrokerId(id),
                    dir: dir.path().join(&name),
                    running: watch::Sender::new(true),
                    boots: Cell::new(1),
                    handle: RefCell::new(None),
                    random: RefCell::new(SplitMix64::new(random.below(u64::MAX))),
                    clients: Clients::new(name.clone(), Rc::clone(&history), Rc::clone(&calm)),
                    history: Rc::clone(&history),
                    name,
                })
            })
            .collect();
        for machine in &machines {
            let on_host = Rc::clone(machine);
            sim.host(machine.name.as_str(), move || Rc::clone(&on_host).run());
        }
        Self { sim, machines, history, calm, is_told, _dir: dir }
    }

    /// Tells what happens, to whoever replays a run.
    pub(crate) fn tell(&self, what: &str) {
        if self.is_told {
            tracing::info!(at_ms = self.sim.elapsed().as_millis(), "{what}");
        }
    }

    /// Lets virtual time pass, looking at the replicas all the while.
    pub(crate) fn run(&mut self, ms: u64) {
        let until = self.sim.elapsed() + Duration::from_millis(ms);
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    fn step(&mut self) {
        self.sim.step().expect("the simulation goes on");
        let mut history = self.history.borrow_mut();
        for machine in &self.machines {
            for partition in (0..PARTITIONS).map(PartitionId) {
                if let Some((view, _)) = machine.replica(partition) {
                    history.published(machine.id, partition, &view);
                }
            }
        }
        assert!(history.violations().is_empty(), "at {:?}: {:#?}", self.sim.elapsed(), history.violations());
    }

    /// Runs until `condition` holds, or this much virtual time has passed: then it says so.
    pub(crate) fn run_until(&mut self, at_most: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let until = self.sim.elapsed() + at_most;
        while self.sim.elapsed() < until {
            if condition(self) {
                return true;
            }
            self.step();
        }
        false
    }

    /// The process ends, with everything that it had written in the page cache. The machine is up: its port refuses.
    pub(crate) fn kill(&mut self, at: usize) {
        let machine = Rc::clone(&self.machines[at]);
        machine.running.send_replace(false);
        self.sim.crash(machine.name.as_str());
        drop(machine.handle.take());
        self.sim.bounce(machine.name.as_str());
    }

    /// The process is started again.
    pub(crate) fn start(&self, at: usize) {
        self.machines[at].running.send_replace(true);
    }

    /// The machine loses its power, and with it what was not flushed.
    pub(crate) fn crash(&mut self, at: usize, random: &mut SplitMix64) {
        let machine = Rc::clone(&self.machines[at]);
        let broker = machine.broker();
        let logs = broker.as_ref().map(testing::replicas).unwrap_or_default();
        drop(broker);
        self.sim.crash(machine.name.as_str());
        drop(machine.handle.take());
        let mut lost = 0;
        for (view, dir) in logs {
            lost += lose_unflushed(&dir, view.flushed_offset, random);
        }
        self.history.borrow_mut().count("unflushed bytes lost", lost);
    }

    /// The machine has power again.
    pub(crate) fn boot(&mut self, at: usize) {
        let machine = &self.machines[at];
        machine.boots.set(machine.boots.get() + 1);
        self.sim.bounce(machine.name.as_str());
    }

    /// Whether every replica of every partition has the same end, all of it committed.
    pub(crate) fn is_whole(&self) -> bool {
        (0..PARTITIONS).map(PartitionId).all(|partition| {
            let ends: Vec<_> = self
                .machines
                .iter()
                .filter_map(|machine| machine.replica(partition))
                .map(|(view, _)| (view.log_end_offset, view.high_watermark))
                .collect();
            let first = ends.first().copied();
            ends.len() == 3 && ends.iter().all(|(end, committed)| end == committed && first == Some((*end, *end)))
        })
    }

    /// The logs of all replicas of a partition.
    pub(crate) fn logs(&self, partition: PartitionId) -> Vec<(BrokerId, Vec<Record>)> {
        let log = |machine: &Rc<Machine>| machine.records(partition).map(|records| (machine.id, records));
        self.machines.iter().filter_map(log).collect()
    }

    /// Who leads a partition, as somebody knows.
    pub(crate) fn leader(&self, partition: PartitionId) -> Option<usize> {
        let broker = self.machines.iter().find_map(|machine| machine.broker())?;
        let leader = broker.image().topic(&topic())?.partition(partition)?.leader?;
        usize::try_from(leader.0).ok()
    }

    /// Who is the controller, as somebody knows.
    pub(crate) fn controller(&self) -> Option<usize> {
        let controller = self.machines.iter().find_map(|machine| machine.broker()?.controller())?;
        usize::try_from(controller.0).ok()
    }
}

/// Loses the end of a log: everything from a random place on that is not below `flushed`. Returns how much.
fn lose_unflushed(dir: &Path, flushed: Offset, random: &mut SplitMix64) -> u64 {
    let listing = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let last = listing.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max();
    let Some(path) = last else { return 0 };
    let mut log = fs::read(&path).expect("a log can be read");
    let (mut at, mut keep) = (0, None);
    let mut begins = Vec::new();
    while let Some(head) = log.get(at..at + 12) {
        let base = u64::from_be_bytes(head[..8].try_into().expect("eight bytes"));
        let bytes = u32::from_be_bytes(head[8..].try_into().expect("four bytes"));
        if bytes == 0 {
            break;
        }
        if base >= flushed.get() {
            keep.get_or_insert(at);
            begins.push(at);
        }
        at += 12 + usize::try_from(bytes).expect("small");
    }
    let Some(keep) = keep else { return 0 };
    // Between two batches, or in the middle of one.
    let cut = match random.below(3) {
        0 => keep,
        1 => begins[usize::try_from(random.below(begins.len() as u64)).expect("small")],
        _ => keep + usize::try_from(random.below((at - keep) as u64 + 1)).expect("small"),
    };
    log[cut..].fill(0);
    fs::write(&path, log).expect("a log can be written");
    (at - cut) as u64
}
