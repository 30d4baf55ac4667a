//! The settings of a broker: one row each, with its type, bounds and text.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use pubg1_model::{
    TopicName,
    topic::{CleanupPolicy, TopicConfig},
};
use serde_json::Value;

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
    /// Where other brokers will reach it. A lone broker opens no port there.
    pub rpc: SocketAddr,
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
    /// How often retention and compaction look for work, in milliseconds.
    pub retention_check_interval_ms: u64,
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
            data_dir: PathBuf::from("data"),
            advertise_http: None,
            allow_remote: false,
            http_workers: std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8),
            partition_arbiters: std::thread::available_parallelism().map_or(1, usize::from).clamp(2, 8) / 2,
            drain_timeout_ms: 10_000,
            flush: Flush::Quorum,
            retention_check_interval_ms: 30_000,
            logging_format: LogFormat::Text,
            logging_filter: "info,actix_server=warn".to_owned(),
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
        if !self.http.ip().is_loopback() && !self.allow_remote {
            return Err(format!(
                "http = {} can be reached from other machines, and this broker asks nobody who they are: \
                 listen on 127.0.0.1, or say --allow-remote if the network may read, write and delete everything",
                self.http
            ));
        }
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
}

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file.
    pub key: &'static str,
    /// Its flag on the command line, when it has one.
    pub flag: Option<&'static str>,
    /// What it is for.
    pub about: &'static str,
    pub(super) set: fn(&mut BrokerSettings, &str) -> Result<(), String>,
    get: fn(&BrokerSettings) -> Value,
}

impl Setting {
    /// Its name in the environment.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", super::ENVIRONMENT_PREFIX, self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// Its value as JSON; `null` when it is absent.
    #[must_use]
    pub fn value(&self, settings: &BrokerSettings) -> Value {
        (self.get)(settings)
    }
}

/// The row of this key.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(text: &str, low: T, high: T) -> Result<T, String> {
    match text.replace('_', "").parse::<T>() {
        Ok(value) if value >= low && value <= high => Ok(value),
        _ => Err(format!("must be a whole number from {low} to {high}")),
    }
}

fn number_or_none(text: &str) -> Result<Option<u64>, String> {
    if text == "none" {
        return Ok(None);
    }
    number(text, 0, u64::MAX).map(Some).map_err(|reason| format!("{reason}, or `none`"))
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.strip_prefix("http://").unwrap_or(text);
    let numeric = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| "must be ADDRESS:PORT, for example 127.0.0.1:8000 or [::1]:8000".to_owned())
}

fn url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', ' ']) => Ok(format!("http://{host}")),
        _ => Err("must be http://HOST:PORT".to_owned()),
    }
}

fn or_null<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or(Value::Null, Into::into)
}

macro_rules! setting {
    ($key:literal, $flag:expr, $about:literal, |$s:ident, $text:ident| $set:expr, |$g:ident| $get:expr) => {
        Setting {
            key: $key,
            flag: $flag,
            about: $about,
            set: |$s, $text| {
                $set;
                Ok(())
            },
            get: |$g| Value::from($get),
        }
    };
}

/// Every setting there is, in the order in which `config show` prints them.
pub static SETTINGS: [Setting; 26] = [
    setting!(
        "node_id",
        Some("--node-id"),
        "Number of this broker in its cluster",
        |s, t| s.node_id = number(t, 0, i32::MAX.unsigned_abs())?,
        |s| s.node_id
    ),
    setting!(
        "http",
        Some("--http"),
        "Address for clients; port 0 takes a free one",
        |s, t| s.http = address(t)?,
        |s| s.http.to_string()
    ),
    setting!(
        "rpc",
        Some("--rpc"),
        "Address for other brokers; a lone broker opens no port there",
        |s, t| s.rpc = address(t)?,
        |s| s.rpc.to_string()
    ),
    setting!(
        "data_dir",
        Some("--data-dir"),
        "Directory that holds everything",
        |s, t| s.data_dir = if t.is_empty() { return Err("must not be empty".to_owned()) } else { PathBuf::from(t) },
        |s| s.data_dir.display().to_string()
    ),
    setting!(
        "advertise_http",
        Some("--advertise-http"),
        "What clients are told to connect to; `none`: derived from http",
        |s, t| s.advertise_http = if t == "none" { None } else { Some(url(t)?) },
        |s| or_null(s.advertise_http.clone())
    ),
    setting!(
        "allow_remote",
        Some("--allow-remote"),
        "Listen where other machines reach it, although nobody is authenticated",
        |s, t| s.allow_remote = boolean(t)?,
        |s| s.allow_remote
    ),
    setting!(
        "http_workers",
        Some("--http-workers"),
        "Threads that serve HTTP",
        |s, t| s.http_workers = number(t, 1, 256)?,
        |s| s.http_workers
    ),
    setting!(
        "partition_arbiters",
        None,
        "Threads that partitions live on",
        |s, t| s.partition_arbiters = number(t, 1, 256)?,
        |s| s.partition_arbiters
    ),
    setting!(
        "drain_timeout_ms",
        None,
        "How long the orderly end may take",
        |s, t| s.drain_timeout_ms = number(t, 100, 600_000)?,
        |s| s.drain_timeout_ms
    ),
    setting!(
        "log.flush",
        Some("--flush"),
        "When a record counts as stored: `quorum` (on disk) or `interval=MS`",
        |s, t| s.flush = t.parse()?,
        |s| s.flush.to_string()
    ),
    setting!(
        "log.retention_check_ms",
        None,
        "How often old records are looked for",
        |s, t| s.retention_check_interval_ms = number(t, 10, 86_400_000)?,
        |s| s.retention_check_interval_ms
    ),
    setting!(
        "logging.format",
        Some("--log-format"),
        "Log lines as `text` or `json`",
        |s, t| s.logging_format = match t {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err("must be text or json".to_owned()),
        },
        |s| match s.logging_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    ),
    setting!(
        "logging.filter",
        Some("--log-filter"),
        "Which log lines: a level, or target=level,…",
        |s, t| s.logging_filter = crate::logging::check_filter(t)?,
        |s| s.logging_filter.clone()
    ),
    setting!(
        "limits.in_flight_bytes",
        None,
        "Bytes of produce requests under way at once; more are answered 429",
        |s, t| s.in_flight_bytes_max = number(t, 1024, 1 << 40)?,
        |s| s.in_flight_bytes_max
    ),
    setting!(
        "limits.in_flight_requests",
        None,
        "Produce requests under way at once; more are answered 429",
        |s, t| s.in_flight_requests_max = number(t, 1, 1 << 20)?,
        |s| s.in_flight_requests_max
    ),
    setting!(
        "default_topic.name",
        None,
        "Topic of the simple surface, created at the first start",
        |s, t| s.default_topic = t.parse().map_err(|error: pubg1_model::InvalidName| error.to_string())?,
        |s| s.default_topic.as_str()
    ),
    setting!(
        "default_topic.partitions",
        None,
        "Its partitions",
        |s, t| s.default_topic_partitions = number(t, 1, 1024)?,
        |s| s.default_topic_partitions
    ),
    setting!(
        "topic.partitions",
        None,
        "Default for topics: how many partitions",
        |s, t| s.partitions_default = number(t, 1, 10_000)?,
        |s| s.partitions_default
    ),
    setting!(
        "topic.cleanup_policy",
        None,
        "Default for topics: `delete` old segments or `compact` by key",
        |s, t| s.topic.cleanup_policy = match t {
            "delete" => CleanupPolicy::Delete,
            "compact" => CleanupPolicy::Compact,
            _ => return Err("must be delete or compact".to_owned()),
        },
        |s| match s.topic.cleanup_policy {
            CleanupPolicy::Delete => "delete",
            CleanupPolicy::Compact => "compact",
        }
    ),
    setting!(
        "topic.retention_ms",
        None,
        "Default for topics: how long records are kept; `none`: for ever",
        |s, t| s.topic.retention_ms = number_or_none(t)?,
        |s| or_null(s.topic.retention_ms)
    ),
    setting!(
        "topic.retention_bytes",
        None,
        "Default for topics: bytes a partition keeps; `none`: no limit",
        |s, t| s.topic.retention_bytes = number_or_none(t)?,
        |s| or_null(s.topic.retention_bytes)
    ),
    setting!(
        "topic.segment_bytes",
        None,
        "Default for topics: size at which a segment is closed",
        |s, t| s.topic.segment_bytes = number(t, 0, u64::MAX)?,
        |s| s.topic.segment_bytes
    ),
    setting!(
        "topic.segment_ms",
        None,
        "Default for topics: age at which a segment is closed",
        |s, t| s.topic.segment_ms = number(t, 0, u64::MAX)?,
        |s| s.topic.segment_ms
    ),
    setting!(
        "topic.max_message_bytes",
        None,
        "Default for topics: largest record batch",
        |s, t| s.topic.max_message_bytes = number(t, 0, u64::MAX)?,
        |s| s.topic.max_message_bytes
    ),
    setting!(
        "topic.delete_retention_ms",
        None,
        "Default for topics: how long a tombstone outlives compaction",
        |s, t| s.topic.delete_retention_ms = number(t, 0, u64::MAX)?,
        |s| s.topic.delete_retention_ms
    ),
    setting!(
        "topic.index_interval_bytes",
        None,
        "Default for topics: bytes of log per entry of the offset index",
        |s, t| s.topic.index_interval_bytes = number(t, 0, u64::MAX)?,
        |s| s.topic.index_interval_bytes
    ),
];
