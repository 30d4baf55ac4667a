//! The JSON bodies of the API, as the API's description shows them.

mod cluster;
pub(crate) mod groups;
pub(crate) mod streams;

use std::collections::BTreeMap;

use pubg1_model::topic::TopicConfig;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use cluster::{
    BrokerEntry, BrokerLife, Cluster, ClusterHealth, HealthStatus, LeaderMoved, MetadataGroupEntry, MoveEntry, Moves,
    PartitionReplicas, ReplicaState, ReplicasMoved,
};

/// Every error.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"error_code": 40401, "message": "there is no topic orders"}))]
pub(crate) struct ErrorBody {
    /// What happened, as a number whose first three digits are the HTTP status.
    error_code: u32,
    /// What happened, where, and what to do.
    message: String,
}

/// `{"status":"ok"}`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ok {
    #[schema(example = "ok")]
    pub(crate) status: &'static str,
}

/// One record's fate in a produce reply.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProducedRecord {
    /// `null` when it failed.
    pub(crate) partition: Option<u32>,
    /// `null` when it failed, and with `acks=0`.
    pub(crate) offset: Option<u64>,
    pub(crate) error_code: Option<u32>,
    pub(crate) error: Option<String>,
    /// The broker that leads the partition.
    pub(crate) leader: Option<u32>,
    pub(crate) leader_epoch: Option<u32>,
}

/// The reply to a v2 produce request: one entry a record, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(crate) struct Produced {
    pub(crate) offsets: Vec<ProducedRecord>,
    pub(crate) key_schema_id: Option<u32>,
    pub(crate) value_schema_id: Option<u32>,
}

/// One batch's fate in the reply of the fast path.
#[derive(Serialize, ToSchema)]
pub(crate) struct AppendedBatch {
    pub(crate) partition: u32,
    /// `null` with `acks=0`.
    pub(crate) base_offset: Option<u64>,
    pub(crate) last_offset: Option<u64>,
    /// The batch was appended by an earlier attempt; the offsets are those.
    pub(crate) duplicate: bool,
}

/// The reply of the fast path: one entry a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct AppendedBatches {
    pub(crate) offsets: Vec<AppendedBatch>,
    pub(crate) leader: u32,
    pub(crate) leader_epoch: u32,
}

/// A record's header; its value is base64.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct HeaderEntry {
    key: String,
    value: Option<String>,
}

/// A record as it is read.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecordEntry {
    topic: String,
    /// A base64 string, a JSON value or a string, as the format says; `null` for none.
    #[schema(value_type = serde_json::Value)]
    key: serde_json::Value,
    #[schema(value_type = serde_json::Value)]
    value: serde_json::Value,
    partition: u32,
    offset: u64,
    /// Milliseconds since 1970.
    timestamp: i64,
    /// Absent when the record has none.
    #[schema(required = false)]
    headers: Vec<HeaderEntry>,
}

/// A record as it is sent.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewRecord)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what the envelope's own reader takes")]
pub(crate) struct NewRecordEntry {
    /// A base64 string, a JSON value or a string, as the content type says.
    #[schema(value_type = Option<serde_json::Value>)]
    key: serde_json::Value,
    /// As the key; `null` deletes the key in a compacted topic.
    #[schema(value_type = serde_json::Value)]
    value: serde_json::Value,
    partition: Option<u32>,
    /// Milliseconds since 1970; the time of arrival when absent.
    #[schema(minimum = 0)]
    timestamp: Option<i64>,
    headers: Option<Vec<HeaderEntry>>,
}

/// The body of a v2 produce request.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes what the envelope's own reader takes")]
pub(crate) struct ProduceEnvelope {
    #[schema(min_items = 1)]
    records: Vec<NewRecordEntry>,
}

/// A replica of a partition.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplicaEntry {
    pub(crate) broker: u32,
    pub(crate) leader: bool,
    /// Whether it has what is committed, as the leader sees it; `false` when the leader cannot be asked.
    pub(crate) in_sync: bool,
}

/// A partition.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartitionEntry {
    pub(crate) partition: u32,
    /// -1 when no broker leads it.
    pub(crate) leader: i64,
    /// It grows with every new leader.
    pub(crate) leader_epoch: u32,
    pub(crate) replicas: Vec<ReplicaEntry>,
}

/// A topic.
#[derive(Serialize, ToSchema)]
pub(crate) struct TopicEntry {
    pub(crate) name: String,
    #[schema(value_type = TopicConfigBody)]
    pub(crate) configs: TopicConfig,
    pub(crate) partitions: Vec<PartitionEntry>,
}

/// The settings of a topic. What is absent keeps its value, or the default at creation.
#[derive(Serialize, ToSchema)]
#[schema(as = TopicConfig)]
pub(crate) struct TopicConfigBody {
    /// `delete` or `compact`.
    #[schema(required = false)]
    cleanup_policy: CleanupPolicyBody,
    /// `create_time`: records have the time that their producer gave them; `log_append_time`: that of their append.
    #[schema(required = false)]
    timestamp_type: TimestampTypeBody,
    /// How long records are kept at least; `null`: for ever.
    #[schema(required = false)]
    retention_ms: Option<u64>,
    /// How many bytes a partition keeps at least; `null`: no limit.
    #[schema(required = false)]
    retention_bytes: Option<u64>,
    #[schema(required = false, minimum = 16384, maximum = 2147483647)]
    segment_bytes: u64,
    #[schema(required = false, minimum = 1)]
    segment_ms: u64,
    #[schema(required = false, minimum = 1024, maximum = 67108864)]
    max_message_bytes: u64,
    #[schema(required = false)]
    delete_retention_ms: u64,
    #[schema(required = false, minimum = 64, maximum = 16777216)]
    index_interval_bytes: u64,
}

/// What happens to old records.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CleanupPolicy)]
#[expect(dead_code, reason = "describes the model's type, which knows nothing of HTTP")]
pub(crate) enum CleanupPolicyBody {
    Delete,
    Compact,
}

/// Whose clock gives records their time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TimestampType)]
#[expect(dead_code, reason = "describes the model's type, which knows nothing of HTTP")]
pub(crate) enum TimestampTypeBody {
    CreateTime,
    LogAppendTime,
}

/// Where a partition begins and ends.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartitionOffsets {
    pub(crate) beginning_offset: u64,
    /// The high watermark: where the next committed record goes.
    pub(crate) end_offset: u64,
}

/// Where a partition begins after a deletion.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeletedRecords {
    pub(crate) beginning_offset: u64,
}

/// The brokers' numbers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Brokers {
    pub(crate) brokers: Vec<u32>,
}

/// An idempotent producer's identity.
#[derive(Serialize, ToSchema)]
pub(crate) struct Producer {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
}

/// The body of `GET /metadata`.
#[derive(Serialize, ToSchema)]
pub(crate) struct SimpleMetadata {
    /// The URLs of each partition's replicas.
    pub(crate) partitions: BTreeMap<u32, Vec<String>>,
    /// The URL of each partition's leader; `null` when there is none.
    pub(crate) leaders: BTreeMap<u32, Option<String>>,
    /// The epoch of each partition's leadership; it grows with every new leader.
    pub(crate) leader_epochs: BTreeMap<u32, u32>,
    /// The URLs of all brokers.
    pub(crate) members: Vec<String>,
}

/// The reply to `POST /publish`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Published {
    #[schema(example = "ok")]
    pub(crate) status: &'static str,
    /// `null` with `acks=0`.
    pub(crate) offset: Option<u64>,
    pub(crate) leader: u32,
    pub(crate) leader_epoch: u32,
}

/// The reply to `POST /publish?redirect=1` of a broker that does not lead the partition. Nothing was written.
#[derive(Serialize, ToSchema)]
pub(crate) struct Redirected {
    #[schema(example = "redirect")]
    pub(crate) status: &'static str,
    /// The URL of the broker that leads.
    pub(crate) leader: String,
}

/// What `POST /publish` answers.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum PublishReply {
    /// The object is in the log.
    Published(Published),
    /// Another broker leads, and the client asked to be told.
    Redirected(Redirected),
}

/// The reply to `GET /consume`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Consumed {
    /// The stored values: JSON as it was sent, anything else as a string.
    messages: Vec<serde_json::Value>,
    /// Ask for this offset next.
    next_offset: u64,
}

/// The reply to `GET /offset`.
#[derive(Serialize, ToSchema)]
pub(crate) struct CommittedOffset {
    /// 0 when nothing was committed.
    pub(crate) offset: u64,
}

/// The reply to `GET /loglen`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LogLength {
    /// The high watermark.
    pub(crate) length: u64,
}
