//! The settings of a broker: their types, their defaults, and what they must be together. The
//! table that reads and shows them is in [`table`].

pub mod peers;
pub mod table;

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use pubg1_actors::PAGE_CACHE_BYTES_DEFAULT;
use pubg1_model::{TopicName, consumer_group::OFFSETS_RETENTION_MS_DEFAULT, topic::TopicConfig};

use peers::{HostPort, Voter};
pub use table::{SETTINGS, Setting, find};

/// When a record counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// When it is on disk; one flush serves all who wait.
    Quorum,
    /// At once; the disk follows every so many milliseconds. A crash of the machine (not of the
    /// process) may take the records of the last interval.
    Interval {
        /// Milliseconds between two flushes.
        ms: u64,
    },
}

impl FromStr for Flush {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "quorum" {
            return Ok(Self::Quorum);
        }
        let ms = text.strip_prefix("interval=").and_then(|ms| ms.parse().ok()).filter(|ms| (1..=60_000).contains(ms));
        ms.map(|ms| Self::Interval { ms })
            .ok_or_else(|| "must be `quorum` or `interval=MS` with 1 to 60000 milliseconds".to_owned())
    }
}

impl std::fmt::Display for Flush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quorum => f.write_str("quorum"),
            Self::Interval { ms } => write!(f, "interval={ms}"),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a broker is told.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The number of this broker in its cluster.
    pub node_id: u32,
    /// Where clients reach it. Port 0: any free one.
    pub http: SocketAddr,
    /// Where it listens for other brokers. Without voters no port is opened there.
    pub rpc: SocketAddr,
    /// What other brokers are told to connect to; its entry among the voters, or `rpc`, when absent.
    pub advertise_rpc: Option<HostPort>,
    /// The brokers that keep the metadata. None: this one is alone. A broker that is not among
    /// them joins their cluster.
    pub voters: Vec<Voter>,
    /// The cluster that it must belong to.
    pub cluster_id: Option<String>,
    /// Where it stands: replicas are spread over racks.
    pub rack: Option<String>,
    /// How many replicas a topic gets that does not say.
    pub replication_factor: u32,
    /// How long a broker may be silent before another one takes over what it leads, in milliseconds.
    pub session_timeout_ms: u64,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// What clients are told to connect to; derived from `http` when absent.
    pub advertise_http: Option<String>,
    /// Whether addresses that other machines reach may be listened on.
    pub allow_remote: bool,
    /// Threads that serve HTTP.
    pub http_workers: usize,
    /// Threads that partitions live on.
    pub partition_arbiters: usize,
    /// How long a drain may take, in milliseconds.
    pub drain_timeout_ms: u64,
    /// When a record counts as stored.
    pub flush: Flush,
    /// How much of what was written last stays in the page cache, in bytes; `None`: the kernel decides.
    pub page_cache_bytes: Option<u64>,
    /// How often retention and compaction look for work, in milliseconds.
    pub retention_check_interval_ms: u64,
    /// How long the offsets of a consumer group without members are kept, in milliseconds.
    pub offsets_retention_ms: u64,
    /// Threads that streams are computed on.
    pub streams_threads: usize,
    /// How log lines look.
    pub logging_format: LogFormat,
    /// Which log lines there are, in the syntax of `tracing`'s filter.
    pub logging_filter: String,
    /// Bytes of produce requests that may be under way at once.
    pub in_flight_bytes_max: u64,
    /// Produce requests that may be under way at once.
    pub in_flight_requests_max: u64,
    /// The topic of the simple surface, created at the first start.
    pub default_topic: TopicName,
    /// Its partitions.
    pub default_topic_partitions: u32,
    /// How many partitions a topic gets that does not say.
    pub partitions_default: u32,
    /// What topics are configured with unless they say otherwise.
    pub topic: TopicConfig,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            node_id: 0,
            http: SocketAddr::from(([127, 0, 0, 1], 8000)),
            rpc: SocketAddr::from(([127, 0, 0, 1], 9000)),
            advertise_rpc: None,
            voters: Vec::new(),
            cluster_id: None,
            rack: None,
            replication_factor: 3,
            session_timeout_ms: 1000,
            data_dir: PathBuf::from("data"),
            advertise_http: None,
            allow_remote: false,
            http_workers: std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8),
            partition_arbiters: std::thread::available_parallelism().map_or(1, usize::from).clamp(2, 8) / 2,
            drain_timeout_ms: 10_000,
            flush: Flush::Quorum,
            page_cache_bytes: Some(PAGE_CACHE_BYTES_DEFAULT),
            retention_check_interval_ms: 30_000,
            offsets_retention_ms: OFFSETS_RETENTION_MS_DEFAULT,
            streams_threads: 1,
            logging_format: LogFormat::Text,
            logging_filter: "info,actix_server=warn,openraft=off".to_owned(),
            in_flight_bytes_max: 64 * 1024 * 1024,
            in_flight_requests_max: 4096,
            default_topic: default_topic_name(),
            default_topic_partitions: 4,
            partitions_default: 1,
            topic: TopicConfig::default(),
        }
    }
}

#[allow(clippy::expect_used, reason = "the name is a constant within the allow-list; a test reads it")]
fn default_topic_name() -> TopicName {
    "pubg1".parse().expect("a valid name")
}

impl BrokerSettings {
    /// Checks what no single value shows.
    pub(super) fn validate(&self) -> Result<(), String> {
        self.topic.validate().map_err(|error| format!("topic.{error}"))?;
        for (name, address) in [("http", self.http), ("rpc", self.rpc)] {
            if !address.ip().is_loopback() && !self.allow_remote {
                return Err(format!(
                    "{name} = {address} can be reached from other machines, and this broker asks nobody who they are: \
                     listen on 127.0.0.1, or say --allow-remote if the network may read, write and delete everything"
                ));
            }
        }
        self.validate_peers()?;
        if self.http.port() != 0 && self.http == self.rpc {
            return Err(format!("http and rpc are both {}: give them different ports", self.http));
        }
        if self.topic.max_message_bytes > self.in_flight_bytes_max {
            return Err(format!(
                "topic.max_message_bytes = {} exceeds limits.in_flight_bytes = {}: such a batch would never be admitted",
                self.topic.max_message_bytes, self.in_flight_bytes_max
            ));
        }
        Ok(())
    }

    fn own_entry(&self) -> Option<&Voter> {
        self.voters.iter().find(|voter| voter.id == self.node_id)
    }

    /// Whether other brokers are expected: only then is `rpc` listened on.
    #[must_use]
    pub fn expects_peers(&self) -> bool {
        !self.voters.is_empty()
    }

    /// What other brokers are told to connect to; `None` for a broker that is alone.
    #[must_use]
    pub fn advertised_rpc(&self) -> Option<String> {
        if !self.expects_peers() {
            return None;
        }
        let given = self.advertise_rpc.as_ref().or_else(|| self.own_entry().map(|voter| &voter.address));
        Some(given.map_or_else(|| self.rpc.to_string(), ToString::to_string))
    }

    /// With voters, the own entry says where to listen unless `rpc` itself was set.
    pub(super) fn follow_voters(&mut self) -> Result<bool, String> {
        let Some(entry) = self.own_entry() else { return Ok(false) };
        match entry.address.listen_address() {
            Some(address) => self.rpc = address,
            None => {
                return Err(format!(
                    "voters name this broker by a host, {}: say with --rpc on which address it listens there",
                    entry.address
                ));
            }
        }
        Ok(true)
    }

    fn validate_peers(&self) -> Result<(), String> {
        if !self.expects_peers() {
            return Ok(());
        }
        let other = self.voters.iter().any(|voter| voter.id != self.node_id);
        let told = self.advertise_rpc.is_some() || self.own_entry().is_some();
        if self.rpc.ip().is_unspecified() && !told && other {
            return Err(format!("rpc = {} is no address to connect to: set --advertise-rpc too", self.rpc));
        }
        if self.rpc.port() == 0 {
            return Err("rpc must have a port: the other brokers have to know it beforehand".to_owned());
        }
        let taken = self.voters.iter().find(|voter| voter.id != self.node_id && voter.address.is(self.rpc));
        if let Some(voter) = taken {
            return Err(format!(
                "rpc = {} is the address of voter {}, and this is broker {}: is node_id right?",
                self.rpc, voter.id, self.node_id
            ));
        }
        Ok(())
    }
}
