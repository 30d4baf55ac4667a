//! What is told and asked about consumer groups.

use std::time::Duration;

/// Where a group is in its protocol.
pub use pubg1_model::consumer_group::GroupState as GroupStatus;
use pubg1_model::{
    BrokerId, GroupId, InstanceName, LeaderEpoch, Offset, TopicName, TopicPartition,
    consumer_instance::{InstanceDefinition, PollId, PollStart, Subscription},
    offset_commit::OffsetCommitValue,
};
use serde::{Deserialize, Serialize};

/// How long an edge may take from the beginning of a poll to its end, unless it says otherwise: the longest poll and
/// some time to write the answer.
pub const POLL_HELD_MAX: Duration = Duration::from_secs(90);

/// A consumer instance to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewInstance {
    /// Its name; `None` for one that nobody has.
    pub name: Option<InstanceName>,
    /// What it is told.
    pub definition: InstanceDefinition,
}

/// A consumer instance as its coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceDescription {
    /// Its name.
    pub name: InstanceName,
    /// What it was told.
    pub definition: InstanceDefinition,
    /// What it reads.
    pub subscription: Subscription,
    /// The topics that this means at present.
    pub topics: Vec<TopicName>,
    /// The partitions that are its own at present.
    pub assignment: Vec<TopicPartition>,
    /// Changes whenever the assignment does.
    pub assignment_version: u64,
    /// Its member in the group; `None` when it is none, or was expelled and has not polled since.
    pub member_id: Option<String>,
    /// The generation of the group.
    pub generation: u32,
    /// The next offset of each of its partitions, where that is known, as far as deliveries are confirmed.
    pub positions: Vec<(TopicPartition, Offset)>,
}

/// How a poll is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollRequest {
    /// The last poll that the client has received, where the client confirms by token.
    pub acknowledged: Option<PollId>,
    /// How long to wait for an earlier poll of the same instance to end. After that this one takes its place.
    pub patience: Duration,
    /// How long this poll may take. After that it is dropped, and what it delivered counts as not received.
    pub held_for: Duration,
}

impl Default for PollRequest {
    fn default() -> Self {
        Self { acknowledged: None, patience: Duration::from_secs(5), held_for: POLL_HELD_MAX }
    }
}

/// A poll has begun. Where the client confirms by token, this poll's number becomes its token only with a delivery of at
/// least one record: a poll without any leaves it as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollGrant {
    /// Its number.
    pub poll: PollId,
    /// Where to read.
    pub partitions: Vec<(TopicPartition, PollStart)>,
    /// The version of the assignment, for [`GroupsHandle::await_change`](super::GroupsHandle::await_change).
    pub assignment_version: u64,
    /// What the instance was told.
    pub definition: InstanceDefinition,
    /// The generation of the group; `None` for one that is no member. It is stored: no later answer tells an earlier one.
    pub generation: Option<u32>,
}

/// What a poll delivers of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredRange {
    /// The partition.
    pub partition: TopicPartition,
    /// Where it began to read: what the grant said, or where the reset has led to.
    pub from: Offset,
    /// The offset after the last record; `from` when there is none.
    pub next: Offset,
}

/// A delivery was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Partitions that the instance has lost, or was made to seek in, since the poll began. Their records must not be
    /// given to the client.
    pub refused: Vec<TopicPartition>,
    /// The generation of the group in which the others are the instance's; `None` for one that is no member.
    pub generation: Option<u32>,
}

/// An offset to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetToCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the next record to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, when the client knows it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Comes back with the offset.
    pub metadata: String,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The offset of the next record to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, when the client knew it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the client wanted back.
    pub metadata: String,
    /// When it was committed, in milliseconds since 1970.
    pub commit_timestamp_ms: i64,
}

impl OffsetToCommit {
    /// An offset and nothing else.
    #[must_use]
    pub const fn at(partition: TopicPartition, offset: Offset) -> Self {
        Self { partition, offset, leader_epoch: None, metadata: String::new() }
    }
}

impl From<CommittedOffset> for OffsetCommitValue {
    fn from(committed: CommittedOffset) -> Self {
        let CommittedOffset { offset, leader_epoch, metadata, commit_timestamp_ms } = committed;
        Self { offset, leader_epoch, metadata, commit_timestamp_ms }
    }
}

/// One line of the list of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupListing {
    /// The group.
    pub group: GroupId,
    /// Where it is in its protocol.
    pub status: GroupStatus,
    /// Its protocol type: `consumer`, or empty for a group that only commits offsets.
    pub protocol_type: String,
    /// How many members it has.
    pub members: u32,
    /// Who coordinates it.
    pub coordinator: BrokerId,
}

/// How far a group is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupProgress {
    /// The group.
    pub group: GroupId,
    /// How many members it has.
    pub members: u32,
    /// What it has committed.
    pub committed: Vec<(TopicPartition, Offset)>,
}

/// The groups of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupList {
    /// By name.
    pub groups: Vec<GroupListing>,
    /// How many partitions of the offsets topic could not be asked: their groups are missing.
    pub missing: u32,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDescription {
    /// The group.
    pub group: GroupId,
    /// Where it is in its protocol.
    pub status: GroupStatus,
    /// Its protocol type: `consumer`, or empty for a group that only commits offsets.
    pub protocol_type: String,
    /// The assignor in use.
    pub protocol: Option<String>,
    /// How often its members have changed.
    pub generation: u32,
    /// The member that leads it.
    pub leader: Option<String>,
    /// Who coordinates it.
    pub coordinator: BrokerId,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// The partitions that it has committed in or that somebody owns.
    pub partitions: Vec<GroupPartition>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    /// Its id.
    pub member_id: String,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
    /// The consumer instance behind it, for a member over HTTP.
    pub instance: Option<InstanceName>,
    /// How the client calls itself.
    pub client_id: String,
    /// Where the client is.
    pub client_host: String,
    /// The topics that it reads.
    pub topics: Vec<TopicName>,
    /// The partitions that are its own.
    pub assignment: Vec<TopicPartition>,
}

/// A partition that a group reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// What the group has committed there.
    pub committed: Option<CommittedOffset>,
    /// The member that reads it.
    pub owner: Option<String>,
    /// How far the group was behind lately, the oldest first: how many milliseconds ago, and how many records.
    pub lag_samples: Vec<LagSample>,
}

/// How far a group was behind in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagSample {
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// By how many records.
    pub lag: u64,
}
