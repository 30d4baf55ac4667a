//! What an instance is told when it is created, and the words of a poll.

use serde::{Deserialize, Serialize};

use crate::{Offset, TopicName, TopicPartition, consumer_group::Assignor};

/// The longest that a client may wait for records, be silent in its group, or be silent at all; in milliseconds.
const REQUEST_TIMEOUT_MS_MAX: u64 = 3_600_000;
const SESSION_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=1_800_000;
const INSTANCE_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
const AUTO_COMMIT_INTERVAL_MS_MAX: u64 = 3_600_000;
const FETCH_MIN_BYTES_MAX: u64 = 10_000_000;
/// The longest text in a definition, in bytes.
const TEXT_BYTES_MAX: usize = 255;
/// The longest that what is subscribed to may be, in bytes: it is one record.
const SUBSCRIPTION_BYTES_MAX: usize = 256 * 1024;

/// How records are shown to the consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordFormat {
    /// Bytes, in base64.
    #[default]
    Binary,
    /// JSON values.
    Json,
    /// UTF-8 text.
    Text,
}

/// Where reading begins in a partition in which the group has no offset, or one that is no longer there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OffsetReset {
    /// At the first record that is left.
    #[default]
    Earliest,
    /// Behind the last record.
    Latest,
    /// Nowhere: it is an error.
    None,
}

/// How it is known that the client has what was delivered to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirmation {
    /// The broker that it talks to says so, once the answer has been written to the connection.
    #[default]
    Edge,
    /// The client says so: its next call names the poll that it has received.
    Token,
}

/// What an instance reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subscription {
    /// Nothing yet.
    #[default]
    None,
    /// These topics, shared with the other members of the group.
    Topics(Vec<TopicName>),
    /// The topics whose names match, shared with the other members of the group.
    Pattern(String),
    /// These partitions, for itself: it is no member of the group.
    Manual(Vec<TopicPartition>),
}

/// What an instance is told when it is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceDefinition {
    /// How it wants its records.
    pub format: RecordFormat,
    /// Where it begins when there is no offset.
    pub auto_offset_reset: OffsetReset,
    /// Commit what was confirmed, at most this often, in milliseconds; `None`: only when asked.
    pub auto_commit_interval_ms: Option<u64>,
    /// How many bytes a poll waits for.
    pub fetch_min_bytes: u64,
    /// How long a poll waits when it does not say so itself, in milliseconds.
    pub request_timeout_ms: u64,
    /// Without a call for this long it is expelled from its group, in milliseconds.
    pub session_timeout_ms: u64,
    /// Without a call for this long it is removed, in milliseconds.
    pub instance_timeout_ms: u64,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
    /// The assignors that it can live with, the preferred one first.
    pub assignors: Vec<String>,
    /// How deliveries are confirmed.
    pub confirmation: Confirmation,
    /// How the client calls itself.
    pub client_id: String,
    /// Where it was when it created the instance.
    pub client_host: String,
}

/// A definition that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{field}: {reason}")]
pub struct InvalidDefinition {
    /// The setting.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The number of a poll. It names one poll of one instance and is never used again, whoever coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PollId(pub u64);

impl PollId {
    /// No poll: what a client names that has received nothing yet.
    pub const NONE: Self = Self(0);
}

/// Where a poll begins in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PollStart {
    /// At this offset.
    At(Offset),
    /// Where this rule says: the group has no offset there.
    Reset(OffsetReset),
}

impl Default for InstanceDefinition {
    fn default() -> Self {
        Self {
            format: RecordFormat::default(),
            auto_offset_reset: OffsetReset::default(),
            auto_commit_interval_ms: None,
            fetch_min_bytes: 1,
            request_timeout_ms: 1_000,
            session_timeout_ms: 45_000,
            instance_timeout_ms: 300_000,
            group_instance_id: None,
            assignors: Assignor::ALL.iter().map(|assignor| assignor.as_str().to_owned()).collect(),
            confirmation: Confirmation::default(),
            client_id: String::new(),
            client_host: String::new(),
        }
    }
}

impl InstanceDefinition {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`InvalidDefinition`] naming the first setting that cannot be honoured.
    pub fn validate(&self) -> Result<(), InvalidDefinition> {
        let refuse = |field: &str, reason: String| Err(InvalidDefinition { field: field.to_owned(), reason });
        let interval = self.auto_commit_interval_ms.unwrap_or_default();
        for (field, value, allowed) in [
            ("consumer.request.timeout.ms", self.request_timeout_ms, 0..=REQUEST_TIMEOUT_MS_MAX),
            ("session.timeout.ms", self.session_timeout_ms, SESSION_TIMEOUT_MS),
            ("consumer.instance.timeout.ms", self.instance_timeout_ms, INSTANCE_TIMEOUT_MS),
            ("auto.commit.interval.ms", interval, 0..=AUTO_COMMIT_INTERVAL_MS_MAX),
            ("fetch.min.bytes", self.fetch_min_bytes, 0..=FETCH_MIN_BYTES_MAX),
        ] {
            if !allowed.contains(&value) {
                return refuse(field, format!("{value} must be between {} and {}", allowed.start(), allowed.end()));
            }
        }
        let group_instance_id = self.group_instance_id.as_deref();
        for (field, text) in [
            ("client.id", &*self.client_id),
            ("client.host", &*self.client_host),
            ("group.instance.id", group_instance_id.unwrap_or_default()),
        ] {
            if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
                return refuse(field, format!("has at most {TEXT_BYTES_MAX} bytes and no control characters"));
            }
        }
        if group_instance_id.is_some_and(str::is_empty) {
            return refuse("group.instance.id", "must not be empty".to_owned());
        }
        if self.assignors.is_empty() {
            return refuse("partition.assignment.strategy", "must name an assignor".to_owned());
        }
        let unknown = self.assignors.iter().find_map(|name| name.parse::<Assignor>().err());
        unknown.map_or(Ok(()), |error| refuse("partition.assignment.strategy", error.to_string()))
    }
}

impl Subscription {
    /// Checks that it fits into a record.
    ///
    /// # Errors
    /// [`InvalidDefinition`].
    pub fn validate(&self) -> Result<(), InvalidDefinition> {
        let with_number = |partition: &TopicPartition| partition.topic.as_str().len() + 16;
        let (field, bytes) = match self {
            Self::None => return Ok(()),
            Self::Topics(topics) => ("topics", topics.iter().map(|topic| topic.as_str().len() + 8).sum::<usize>()),
            Self::Pattern(pattern) => ("topic_pattern", pattern.len()),
            Self::Manual(partitions) => ("partitions", partitions.iter().map(with_number).sum()),
        };
        if bytes > SUBSCRIPTION_BYTES_MAX {
            let reason = format!("has {bytes} bytes, and may have {SUBSCRIPTION_BYTES_MAX}");
            return Err(InvalidDefinition { field: field.to_owned(), reason });
        }
        Ok(())
    }
}
