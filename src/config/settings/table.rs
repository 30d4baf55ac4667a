//! The table of settings: one row each, with its key, its flag, its text, and how it is read and
//! shown.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use pubg1_model::{record_batch::TimestampType, topic::CleanupPolicy};
use serde_json::Value;

use super::{
    BrokerSettings, LogFormat,
    peers::{self, HostPort},
};

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file.
    pub key: &'static str,
    /// Its flag on the command line, when it has one.
    pub flag: Option<&'static str>,
    /// What it is for.
    pub about: &'static str,
    pub(in crate::config) set: fn(&mut BrokerSettings, &str) -> Result<(), String>,
    get: fn(&BrokerSettings) -> Value,
}

impl Setting {
    /// Its name in the environment.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", crate::config::ENVIRONMENT_PREFIX, self.key.replace('.', "_").to_ascii_uppercase())
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

fn none_or<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "none" { Ok(None) } else { read(text).map(Some) }
}

/// A name that people give: for a rack, for a cluster.
fn label(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=100).contains(&text.len()) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 100 letters, digits, hyphens, underscores and dots".to_owned())
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
pub static SETTINGS: [Setting; 36] = [
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
        "Address for other brokers; closed without voters. Default with voters: its entry there",
        |s, t| s.rpc = address(t)?,
        |s| s.rpc.to_string()
    ),
    setting!(
        "advertise_rpc",
        Some("--advertise-rpc"),
        "What other brokers are told to connect to; `none`: its entry in voters, else rpc",
        |s, t| s.advertise_rpc = none_or(t, |t| t.parse::<HostPort>())?,
        |s| or_null(s.advertise_rpc.as_ref().map(ToString::to_string))
    ),
    setting!(
        "voters",
        Some("--voters"),
        "The brokers that keep the metadata, the same list everywhere: ID@HOST:PORT,…; `none`: this one alone",
        |s, t| s.voters = none_or(t, peers::parse_voters)?.unwrap_or_default(),
        |s| or_null((!s.voters.is_empty()).then(|| peers::voters_text(&s.voters)))
    ),
    setting!(
        "cluster_id",
        Some("--cluster-id"),
        "The cluster that this broker belongs to; `none`: the one that its data directory names",
        |s, t| s.cluster_id = none_or(t, label)?,
        |s| or_null(s.cluster_id.clone())
    ),
    setting!(
        "rack",
        Some("--rack"),
        "Where it stands: the replicas of a partition are spread over racks; `none`: not said",
        |s, t| s.rack = none_or(t, label)?,
        |s| or_null(s.rack.clone())
    ),
    setting!(
        "replication_factor",
        Some("--replication-factor"),
        "Replicas of a new topic that does not say; with fewer brokers, as many as there are",
        |s, t| s.replication_factor = number(t, 1, 16)?,
        |s| s.replication_factor
    ),
    setting!(
        "session_timeout_ms",
        None,
        "How long a broker may be silent before it counts as dead; the same everywhere",
        |s, t| s.session_timeout_ms = number(t, 100, 60_000)?,
        |s| s.session_timeout_ms
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
        |s, t| s.advertise_http = none_or(t, url)?,
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
        "log.page_cache_bytes",
        None,
        "How much of what was written last stays in memory, over all partitions; `none`: the kernel decides",
        |s, t| s.page_cache_bytes = none_or(t, |bytes| number(bytes, 16 << 20, 1 << 50))?,
        |s| or_null(s.page_cache_bytes)
    ),
    setting!(
        "log.retention_check_ms",
        None,
        "How often old records are looked for",
        |s, t| s.retention_check_interval_ms = number(t, 10, 86_400_000)?,
        |s| s.retention_check_interval_ms
    ),
    setting!(
        "groups.offsets_retention_ms",
        None,
        "How long the committed offsets of a consumer group without members are kept; the same everywhere",
        |s, t| s.offsets_retention_ms = number(t, 1000, u64::MAX)?,
        |s| s.offsets_retention_ms
    ),
    setting!(
        "streams.threads",
        None,
        "Threads that streams are computed on",
        |s, t| s.streams_threads = number(t, 1, 256)?,
        |s| s.streams_threads
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
        "topic.timestamp_type",
        None,
        "Default for topics: whose clock records have, `create_time` (the producer's) or `log_append_time`",
        |s, t| s.topic.timestamp_type = match t {
            "create_time" => TimestampType::CreateTime,
            "log_append_time" => TimestampType::LogAppendTime,
            _ => return Err("must be create_time or log_append_time".to_owned()),
        },
        |s| match s.topic.timestamp_type {
            TimestampType::CreateTime => "create_time",
            TimestampType::LogAppendTime => "log_append_time",
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
