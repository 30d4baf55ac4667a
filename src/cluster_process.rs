//! A cluster of broker processes that this process owns: started, killed, paused, restarted,
//! damaged, and gone when it is dropped.

mod damage;
mod directory;
mod ports;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use rustix::process::Signal;

use crate::{
    client::Client,
    demo::{Launch, broker_process::BrokerProcess},
    error::CommandError,
};
pub use damage::{Damage, flip_bit, wipe};
pub use directory::ClusterDirectory;
pub use ports::free_ports;

/// How long a broker may take until it is ready: with others, until a quorum of them is there.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How a cluster is started.
#[derive(Clone, Debug)]
pub struct ClusterLaunch {
    /// The program, and what stands before `broker` when another one starts it.
    pub program: Vec<OsString>,
    /// Each broker has a directory and a log in it.
    pub directory: PathBuf,
    /// How many brokers.
    pub brokers: u32,
    /// Further arguments of every broker.
    pub arguments: Vec<String>,
}

/// Where a broker listens, and what starts it there.
#[derive(Clone, Debug)]
pub struct Place {
    /// What stands before the program: `ip netns exec NAME`.
    pub before: Vec<OsString>,
    /// Where clients reach it.
    pub http: SocketAddr,
    /// Where other brokers reach it.
    pub rpc: SocketAddr,
}

/// One broker of the cluster: its place, and its process when there is one.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// A client that talks to it alone.
    pub client: Client,
    http: SocketAddr,
    launch: Launch,
    process: Option<BrokerProcess>,
    paused: bool,
}

/// The cluster. Dropping it kills every process.
#[derive(Debug)]
pub struct ClusterProcess {
    nodes: Vec<Node>,
}

impl ClusterLaunch {
    /// Starts all brokers on free ports and waits until each is ready.
    ///
    /// # Errors
    /// No free ports, or a broker that does not start.
    pub async fn start(&self) -> Result<ClusterProcess, CommandError> {
        let count = usize::try_from(self.brokers).unwrap_or(0);
        let ports = free_ports(count * 2)?;
        let (http, rpc) = ports.split_at(count);
        let places = http.iter().zip(rpc).map(|(http, rpc)| Place { before: Vec::new(), http: *http, rpc: *rpc });
        self.start_at(places.collect()).await
    }

    /// Starts a broker in each of these places and waits until each is ready.
    ///
    /// # Errors
    /// A broker that does not start.
    pub async fn start_at(&self, places: Vec<Place>) -> Result<ClusterProcess, CommandError> {
        let voters: Vec<String> =
            (0..).zip(&places).map(|(id, place): (u32, _)| format!("{id}@{}", place.rpc)).collect();
        let (alone, voters) = (places.len() == 1, voters.join(","));
        let mut nodes = Vec::new();
        for (id, place) in (0..).zip(places) {
            let mut arguments = vec!["--node-id".to_owned(), id.to_string()];
            if !alone {
                arguments.extend(["--rpc".to_owned(), place.rpc.to_string(), "--voters".to_owned(), voters.clone()]);
            }
            arguments.extend(self.arguments.iter().cloned());
            nodes.push(Node {
                id,
                client: Client::new(&format!("http://{}", place.http))?,
                http: place.http,
                launch: Launch {
                    program: place.before.into_iter().chain(self.program.iter().cloned()).collect(),
                    data_dir: self.directory.join(format!("broker-{id}")),
                    log: self.directory.join(format!("broker-{id}.log")),
                    arguments,
                },
                process: None,
                paused: false,
            });
        }
        let mut cluster = ClusterProcess { nodes };
        cluster.start_missing().await?;
        Ok(cluster)
    }
}

impl Node {
    /// Whether its process was started and not killed.
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Whether its process was stopped by a signal and not woken.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(BrokerProcess::pid)
    }

    /// Where its data are.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.launch.data_dir
    }

    /// Where its log is.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.launch.log
    }

    /// Starts it and returns when it listens; whether it is ready is another question.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&mut self) -> Result<(), CommandError> {
        if self.process.is_none() {
            self.process = Some(self.launch.start(&self.http.to_string()).await?);
            self.paused = false;
        }
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn ready(&mut self) -> Result<(), CommandError> {
        match self.process.as_mut() {
            Some(process) => process.wait_ready(&self.client, READY_DEADLINE).await,
            None => Err(CommandError::Failed(format!("broker {} does not run", self.id))),
        }
    }

    /// `kill -9`. A broker that does not run stays as it is.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(&mut self) -> Result<(), CommandError> {
        self.paused = false;
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Ends it in order, as an operator would.
    ///
    /// # Errors
    /// It does not end, or not in order.
    pub async fn end(&mut self) -> Result<(), CommandError> {
        match self.process.take() {
            Some(mut process) => process.end().await,
            None => Ok(()),
        }
    }

    /// SIGSTOP: it does nothing any more and does not know it.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<(), CommandError> {
        self.signal(Signal::STOP)?;
        self.paused = true;
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self) -> Result<(), CommandError> {
        self.signal(Signal::CONT)?;
        self.paused = false;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), CommandError> {
        match &self.process {
            Some(process) => process.signal(signal),
            None => Err(CommandError::Failed(format!("broker {} does not run", self.id))),
        }
    }
}

impl ClusterProcess {
    /// The brokers, by their number.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The broker with this number.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&mut self, id: u32) -> Result<&mut Node, CommandError> {
        let node = usize::try_from(id).ok().and_then(|index| self.nodes.get_mut(index));
        node.ok_or_else(|| CommandError::Failed(format!("there is no broker {id}")))
    }

    /// The URLs of all brokers.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.base().to_owned()).collect()
    }

    /// A client of all brokers together.
    ///
    /// # Errors
    /// Never: the URLs are its own.
    pub fn client(&self) -> Result<Client, CommandError> {
        Ok(Client::new(&self.urls().join(","))?)
    }

    /// The brokers that run and are not paused: those that can be asked.
    pub fn awake(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.runs() && !node.paused)
    }

    /// `kill -9` of these brokers: all signals first, then the waiting.
    ///
    /// # Errors
    /// One cannot be killed.
    pub async fn kill(&mut self, brokers: &[u32]) -> Result<(), CommandError> {
        for broker in brokers {
            let node = self.node(*broker)?;
            if node.runs() {
                node.signal(Signal::KILL)?;
            }
        }
        for broker in brokers {
            self.node(*broker)?.kill().await?;
        }
        Ok(())
    }

    /// Starts every broker that does not run, at the same time, and waits until each is ready.
    /// Returns the longest time until ready.
    ///
    /// # Errors
    /// A broker that does not start or become ready.
    pub async fn start_missing(&mut self) -> Result<Duration, CommandError> {
        let begun = Instant::now();
        let starting = self.nodes.iter_mut().filter(|node| !node.runs()).map(|node| async move {
            node.start().await?;
            node.ready().await
        });
        try_join_all(starting).await?;
        Ok(begun.elapsed())
    }

    /// Ends every broker in order: those that wait for others all at once.
    ///
    /// # Errors
    /// One that does not end in order; the others are ended all the same.
    pub async fn end(mut self) -> Result<(), CommandError> {
        let ending = self.nodes.iter_mut().map(|node| async move {
            if node.paused {
                node.resume()?;
            }
            node.end().await
        });
        let ended = futures_util::future::join_all(ending).await;
        ended.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }
}
