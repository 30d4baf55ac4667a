//! The bodies about consumer instances and consumer groups.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A count that may be written as text, as older clients do.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what the options' own reader takes")]
pub(crate) enum Count {
    Number(i64),
    Text(Digits),
}

/// A count as text.
#[derive(Deserialize, ToSchema)]
#[schema(pattern = "^(-1|[0-9]{1,18})$")]
#[expect(dead_code, reason = "describes what the options' own reader takes")]
pub(crate) struct Digits(String);

/// A switch that may be written as text, as older clients do.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what the options' own reader takes")]
pub(crate) enum Switch {
    Flag(bool),
    Text(SwitchName),
}

/// A switch as text.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SwitchName {
    True,
    False,
}

/// A time: milliseconds since 1970, or text as `2026-11-26T06:24:00Z`.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what the times' own reader takes")]
pub(crate) enum Time {
    Milliseconds(i64),
    Text(String),
}

/// How a consumer instance sees keys and values.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConsumerFormat {
    Binary,
    Json,
    Text,
}

/// Where reading begins without a committed offset.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ResetName {
    Earliest,
    Latest,
    None,
}

/// How partitions are shared.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AssignorName {
    Range,
    Roundrobin,
    #[serde(rename = "cooperative-sticky")]
    CooperativeSticky,
}

/// The options of a new consumer instance. All may be left out.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewConsumer)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what the options' own reader takes")]
pub(crate) struct NewConsumer {
    /// How it is called in its group; made up when absent.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    name: Option<String>,
    /// The same under its older name; it wins.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    id: Option<String>,
    /// How keys and values are shown; `binary` when absent.
    #[schema(inline)]
    format: Option<ConsumerFormat>,
    /// Where it begins without a committed offset; `earliest` when absent.
    #[schema(inline)]
    #[serde(rename = "auto.offset.reset")]
    auto_offset_reset: Option<ResetName>,
    /// Commit what was read by itself, with the next poll; `true` when absent.
    #[schema(inline)]
    #[serde(rename = "auto.commit.enable")]
    auto_commit_enable: Option<Switch>,
    /// The same as `auto.commit.enable`.
    #[schema(inline)]
    #[serde(rename = "enable.auto.commit")]
    enable_auto_commit: Option<Switch>,
    /// Commit by itself at most this often, in milliseconds; 5000 when absent.
    #[schema(inline)]
    #[serde(rename = "auto.commit.interval.ms")]
    auto_commit_interval_ms: Option<Count>,
    /// A poll that finds fewer bytes waits for more, until its timeout. -1 to 10000000.
    #[schema(inline)]
    #[serde(rename = "fetch.min.bytes")]
    fetch_min_bytes: Option<Count>,
    /// The same as `fetch.min.bytes`.
    #[schema(inline)]
    #[serde(rename = "responseMinBytes")]
    response_min_bytes: Option<Count>,
    /// How long a poll waits that does not say, in milliseconds; 1000 when absent, at most 60000.
    #[schema(inline)]
    #[serde(rename = "consumer.request.timeout.ms")]
    consumer_request_timeout_ms: Option<Count>,
    /// The same as `consumer.request.timeout.ms`.
    #[schema(inline)]
    #[serde(rename = "requestWaitMs")]
    request_wait_ms: Option<Count>,
    /// Without a call for this long its partitions go to others, in milliseconds; 45000 when absent.
    #[schema(inline)]
    #[serde(rename = "session.timeout.ms")]
    session_timeout_ms: Option<Count>,
    /// Without a call for this long it is removed, in milliseconds; 300000 when absent.
    #[schema(inline)]
    #[serde(rename = "consumer.instance.timeout.ms")]
    consumer_instance_timeout_ms: Option<Count>,
    /// The identity of a static member.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    #[serde(rename = "group.instance.id")]
    group_instance_id: Option<String>,
    /// How partitions are shared; all members must know one way in common.
    #[schema(inline)]
    #[serde(rename = "partition.assignment.strategy")]
    partition_assignment_strategy: Option<AssignorName>,
    /// Without transactions both levels are the same.
    #[schema(inline)]
    #[serde(rename = "isolation.level")]
    isolation_level: Option<IsolationLevel>,
}

/// Which records are read.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IsolationLevel {
    ReadUncommitted,
    ReadCommitted,
}

/// A consumer instance was created.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedConsumer {
    pub(crate) instance_id: String,
    /// The URL of the instance, as the client reaches it. Any other broker serves it as well.
    pub(crate) base_uri: String,
}

/// The topics of a subscription.
#[derive(Serialize, ToSchema)]
pub(crate) struct SubscribedTopics {
    /// Those that a pattern matches at present, too.
    pub(crate) topics: Vec<String>,
}

/// A partition of a topic.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct PartitionName {
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    pub(crate) topic: String,
    pub(crate) partition: u32,
}

/// A list of partitions, one at least.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes what the lists' own reader takes")]
pub(crate) struct PartitionList {
    #[schema(min_items = 1)]
    partitions: Vec<PartitionName>,
}

/// The partitions of a consumer instance.
#[derive(Serialize, ToSchema)]
pub(crate) struct Assignment {
    pub(crate) partitions: Vec<PartitionName>,
}

/// An offset in a partition, with what was stored beside it.
#[derive(Serialize, ToSchema)]
pub(crate) struct OffsetEntry {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// -1 when nothing was committed.
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// A list of offsets.
#[derive(Serialize, ToSchema)]
pub(crate) struct OffsetList {
    pub(crate) offsets: Vec<OffsetEntry>,
}

/// Where a consumer instance is in a partition.
#[derive(Serialize, ToSchema)]
pub(crate) struct PositionEntry {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// The next record to be delivered; `null` before the first poll.
    pub(crate) offset: Option<u64>,
}

/// Where a consumer instance is.
#[derive(Serialize, ToSchema)]
pub(crate) struct PositionList {
    pub(crate) positions: Vec<PositionEntry>,
}

/// A consumer group in the list.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupEntry {
    pub(crate) group: String,
    #[schema(inline)]
    pub(crate) state: GroupState,
    /// `consumer`, or empty for a group that only commits offsets.
    pub(crate) protocol_type: String,
    pub(crate) members: u32,
    /// The broker that coordinates it.
    pub(crate) coordinator: u32,
}

/// Where a group is in its protocol.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) enum GroupState {
    /// It has no members.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// Partitions are being assigned.
    CompletingRebalance,
    /// Every member knows its partitions.
    Stable,
    /// It is gone.
    Dead,
}

/// A consumer group.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupBody {
    pub(crate) group: String,
    #[schema(inline)]
    pub(crate) state: GroupState,
    /// `consumer`, or empty for a group that only commits offsets.
    pub(crate) protocol_type: String,
    /// The assignor in use.
    pub(crate) protocol: Option<String>,
    /// It grows whenever the members change.
    pub(crate) generation: u32,
    /// The broker that coordinates it.
    pub(crate) coordinator: u32,
    /// The member that leads it.
    pub(crate) leader: Option<String>,
    pub(crate) members: Vec<MemberEntry>,
    pub(crate) partitions: Vec<GroupPartitionEntry>,
    /// The lag of all partitions together, as far as it is known.
    pub(crate) lag: u64,
}

/// A member of a consumer group.
#[derive(Serialize, ToSchema)]
pub(crate) struct MemberEntry {
    pub(crate) member_id: String,
    /// The identity of a static member.
    pub(crate) group_instance_id: Option<String>,
    /// The consumer instance behind it, for a member over HTTP.
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// The topics that it reads.
    pub(crate) topics: Vec<String>,
    /// The partitions that are its own.
    pub(crate) assignment: Vec<PartitionName>,
}

/// A partition that a consumer group reads.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupPartitionEntry {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// The next record that the group reads; `null` when nothing was committed.
    pub(crate) committed: Option<u64>,
    pub(crate) metadata: Option<String>,
    /// When it was committed, in milliseconds since 1970.
    pub(crate) committed_at: Option<i64>,
    pub(crate) leader_epoch: Option<u32>,
    /// The end of the partition; `null` when its leader cannot be asked.
    pub(crate) end: Option<u64>,
    /// How many records the group is behind; never negative.
    pub(crate) lag: Option<u64>,
    /// The age of the first record that the group has not read; 0 when it has read all.
    pub(crate) lag_seconds: Option<f64>,
    #[schema(inline)]
    pub(crate) trend: Option<Trend>,
    /// The member that reads it.
    pub(crate) owner: Option<String>,
}

/// Where a group's lag goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trend {
    Growing,
    Steady,
    Shrinking,
}

/// Where a group was moved to, or would be.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupMoved {
    pub(crate) group: String,
    /// Nothing was changed.
    pub(crate) dry_run: bool,
    pub(crate) offsets: Vec<SeekEntry>,
}

/// A partition in which a group was moved.
#[derive(Serialize, ToSchema)]
pub(crate) struct SeekEntry {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// What was committed before.
    pub(crate) committed: Option<u64>,
    /// The next record that the group reads.
    pub(crate) offset: u64,
    /// The first record of the partition.
    pub(crate) beginning: u64,
    /// The end of the partition.
    pub(crate) end: u64,
    /// How many records the group is behind after it.
    pub(crate) lag: u64,
}
