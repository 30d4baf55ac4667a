//! What a broker is told at its start.

use std::{fmt, path::PathBuf, time::Duration};

use pubg1_model::{BrokerId, TopicName, consumer_group::OFFSETS_RETENTION_MS_DEFAULT, topic::TopicConfig};
use uuid::Uuid;

use crate::{admission::AdmissionLimits, clock::Clock, errors::StartError, supervision::RestartPolicy};

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// When it is on disk: the high watermark follows the flushed offset. Survives a power cut.
    Quorum,
    /// When it is in the page cache; flushed this often. Survives the process, not the machine.
    Interval {
        /// The longest time that a record stays unflushed, in milliseconds.
        ms: u64,
    },
}

impl fmt::Display for FlushPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quorum => f.write_str("quorum"),
            Self::Interval { ms } => write!(f, "interval={ms}"),
        }
    }
}

/// How much of what was written last stays in the page cache where nothing else is said: followers and consumers that
/// keep up are far closer to the end.
pub const PAGE_CACHE_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;

/// The topic that exists from the first start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions it gets.
    pub partitions: u32,
}

/// Everything a broker is told. [`BrokerConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The broker's number in its cluster. A data directory belongs to one number.
    pub broker_id: BrokerId,
    /// The cluster that the data directory must belong to. `None`: whichever it belongs to; a new
    /// directory begins a cluster with a random id.
    pub cluster_id: Option<String>,
    /// Where everything is stored. One process at a time.
    pub data_dir: PathBuf,
    /// Where clients reach this broker: `http://host:port`.
    pub advertised_http: String,
    /// Where it listens for other brokers, `address:port`; `None`: it opens no port for them.
    pub rpc_listen: Option<String>,
    /// Where other brokers reach it, `host:port`; empty when they cannot.
    pub rpc_advertised: String,
    /// The brokers that found the cluster, with their addresses for other brokers; the same list at each of
    /// them, and it stays as it was when others join later. Empty: this broker alone.
    pub voters: Vec<(BrokerId, String)>,
    /// Where it stands; replicas are spread over racks.
    pub rack: Option<String>,
    /// How many replicas a new topic gets that does not say, at most one a broker.
    pub replication_factor: u32,
    /// When a record counts as written.
    pub flush: FlushPolicy,
    /// How much of what was written last stays in the page cache, in bytes, over all partitions; `None`: the kernel
    /// decides.
    pub page_cache_bytes: Option<u64>,
    /// Threads on which partitions run.
    pub partition_arbiters: usize,
    /// Threads that flush.
    pub flusher_threads: usize,
    /// Threads that open, close and remove logs, and search them. One more compacts.
    pub worker_threads: usize,
    /// How much may be under way at once.
    pub admission: AdmissionLimits,
    /// How long an append may wait for its acknowledgement before its outcome is called unknown.
    pub append_timeout_ms: u64,
    /// The topic that exists from the first start on; `None` for none.
    pub default_topic: Option<DefaultTopic>,
    /// The settings of new topics that bring none of their own.
    pub topic_defaults: TopicConfig,
    /// How many partitions a new topic gets that does not say.
    pub partitions_default: u32,
    /// How often retention and compaction are looked after.
    pub retention_check_interval_ms: u64,
    /// A broker that is not heard from for this long is declared dead, and a leader that hears from no quorum of its
    /// followers steps down.
    pub session_timeout_ms: u64,
    /// How long the offsets of a consumer group are kept that has no members any more, or never had any.
    pub offsets_retention_ms: u64,
    /// Threads that streams are computed on.
    pub streams_threads: usize,
    /// How many restarts of an actor are borne.
    pub restart: RestartPolicy,
    /// The time of day.
    pub clock: Clock,
}

impl BrokerConfig {
    /// A working single node with its data in `data_dir`.
    #[must_use]
    pub fn new(broker_id: BrokerId, data_dir: impl Into<PathBuf>, advertised_http: impl Into<String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            broker_id,
            cluster_id: None,
            data_dir: data_dir.into(),
            advertised_http: advertised_http.into(),
            rpc_listen: None,
            rpc_advertised: String::new(),
            voters: Vec::new(),
            rack: None,
            replication_factor: 3,
            flush: FlushPolicy::Quorum,
            page_cache_bytes: Some(PAGE_CACHE_BYTES_DEFAULT),
            partition_arbiters: (cores / 2).clamp(1, 16),
            // More than there are cores: they wait for the disk, which serves several at once as fast as one.
            flusher_threads: (2 * cores).clamp(4, 8),
            worker_threads: (2 * cores).clamp(4, 16),
            admission: AdmissionLimits::default(),
            append_timeout_ms: 30_000,
            default_topic: "pubg1".parse().ok().map(|name| DefaultTopic { name, partitions: 4 }),
            topic_defaults: TopicConfig::default(),
            partitions_default: 1,
            retention_check_interval_ms: 30_000,
            session_timeout_ms: 1000,
            offsets_retention_ms: OFFSETS_RETENTION_MS_DEFAULT,
            streams_threads: 1,
            restart: RestartPolicy::default(),
            clock: Clock::system(),
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`StartError::Config`] naming the first setting that cannot be honoured.
    pub fn validate(&self) -> Result<(), StartError> {
        let refuse = |setting, reason: String| Err(StartError::Config { setting, reason });
        let url = &self.advertised_http;
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return refuse("advertised_http", format!("{url:?} must begin with http:// or https://"));
        }
        if self.voters.len() > 1 && (self.rpc_listen.is_none() || self.rpc_advertised.is_empty()) {
            return refuse("rpc", "a broker of a cluster must have an address for the other brokers".to_owned());
        }
        if self.voters.iter().map(|(id, _)| id).collect::<std::collections::BTreeSet<_>>().len() != self.voters.len() {
            return refuse("voters", "a broker is listed twice".to_owned());
        }
        if self.replication_factor == 0 {
            return refuse("replication_factor", "must be at least 1".to_owned());
        }
        for (setting, value) in [
            ("partition_arbiters", self.partition_arbiters),
            ("flusher_threads", self.flusher_threads),
            ("worker_threads", self.worker_threads),
            ("streams_threads", self.streams_threads),
        ] {
            if !(1..=256).contains(&value) {
                return refuse(setting, format!("{value} must be between 1 and 256"));
            }
        }
        for (setting, value) in [
            ("admission.bytes_max", self.admission.bytes_max),
            ("admission.requests_max", self.admission.requests_max),
            ("append_timeout_ms", self.append_timeout_ms),
            ("session_timeout_ms", self.session_timeout_ms),
            ("retention_check_interval_ms", self.retention_check_interval_ms),
            ("offsets_retention_ms", self.offsets_retention_ms),
            ("partitions_default", u64::from(self.partitions_default)),
        ] {
            if value == 0 {
                return refuse(setting, "must be at least 1".to_owned());
            }
        }
        if self.flush == (FlushPolicy::Interval { ms: 0 }) {
            return refuse(
                "flush",
                "an interval must be at least 1 ms; use quorum to flush before answering".to_owned(),
            );
        }
        if self.default_topic.as_ref().is_some_and(|topic| topic.name.is_internal()) {
            return refuse("default_topic", "names that begin with __ belong to the broker".to_owned());
        }
        self.topic_defaults.validate().or_else(|error| refuse("topic_defaults", error.to_string()))
    }

    /// The cluster that the founders' list stands for, when it is one of several brokers: every broker that is told
    /// the same list comes to the same id without having met the others.
    pub(crate) fn founders_cluster_id(&self) -> Option<String> {
        let alone = self.voters.iter().all(|(broker, _)| *broker == self.broker_id);
        (!alone).then(|| {
            let mut voters: Vec<String> =
                self.voters.iter().map(|(broker, address)| format!("{broker}@{address}")).collect();
            voters.sort_unstable();
            Uuid::new_v5(&Uuid::NAMESPACE_URL, voters.join(",").as_bytes()).simple().to_string()
        })
    }

    /// The brokers that found the cluster: this one when it is alone.
    pub(crate) fn founders(&self) -> Vec<(BrokerId, String)> {
        if self.voters.is_empty() {
            return vec![(self.broker_id, self.rpc_advertised.clone())];
        }
        self.voters.clone()
    }

    pub(crate) const fn append_timeout(&self) -> Duration {
        Duration::from_millis(self.append_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_nonsense_is_refused() {
        let config = || BrokerConfig::new(BrokerId(0), "data", "http://127.0.0.1:8000");
        config().validate().unwrap();
        let refused = |change: &dyn Fn(&mut BrokerConfig)| {
            let mut config = config();
            change(&mut config);
            match config.validate().unwrap_err() {
                StartError::Config { setting, .. } => setting,
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused(&|c| c.advertised_http = "localhost:8000".into()), "advertised_http");
        assert_eq!(refused(&|c| c.flush = FlushPolicy::Interval { ms: 0 }), "flush");
        assert_eq!(refused(&|c| c.worker_threads = 0), "worker_threads");
        assert_eq!(refused(&|c| c.admission.bytes_max = 0), "admission.bytes_max");
        assert_eq!(refused(&|c| c.topic_defaults.segment_bytes = 1), "topic_defaults");
        let internal = DefaultTopic { name: "__x".parse().unwrap(), partitions: 1 };
        assert_eq!(refused(&|c| c.default_topic = Some(internal.clone())), "default_topic");
    }
}
