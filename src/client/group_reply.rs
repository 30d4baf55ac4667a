//! What a broker answers about groups and to their members, as far as the command line needs it.

use base64::{Engine, engine::general_purpose::STANDARD};
use pubg1_model::{BrokerId, Offset, PartitionId, TopicName};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// `POST /consumers/{g}`.
#[derive(Clone, Debug, Deserialize)]
pub struct ConsumerReply {
    /// The instance's name.
    pub instance_id: String,
    /// Where its calls go; any other broker serves them as well.
    #[serde(default)]
    pub base_uri: String,
}

/// A record that a member was given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GroupRecord {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its time in milliseconds since 1970.
    #[serde(default)]
    pub timestamp: i64,
    /// What it is about.
    #[serde(default, deserialize_with = "bytes")]
    pub key: Option<Vec<u8>>,
    /// What it says.
    #[serde(default, deserialize_with = "bytes")]
    pub value: Option<Vec<u8>>,
    /// What else it says.
    #[serde(default)]
    pub headers: Vec<HeaderReply>,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HeaderReply {
    /// Its name.
    pub key: String,
    /// What it says.
    #[serde(default, deserialize_with = "bytes")]
    pub value: Option<Vec<u8>>,
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| STANDARD.decode(text).map_err(D::Error::custom)).transpose()
}

/// What a member was given at once.
#[derive(Clone, Debug, Default)]
pub struct Polled {
    /// The records, in each partition in order.
    pub records: Vec<GroupRecord>,
    /// The generation in which they were given.
    pub generation: Option<u32>,
    /// What a one-call member shows the next time: it acknowledges these records.
    pub token: Option<String>,
    /// The name under which a one-call member may leave.
    pub member: Option<String>,
}

/// A partition by its topic and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlaceReply {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
}

/// Where a member reads or a group has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedOffset {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The next offset; `None` or negative: nowhere.
    pub offset: Option<i64>,
}

impl PlacedOffset {
    /// This next offset of a partition.
    #[must_use]
    pub fn next(topic: &TopicName, partition: PartitionId, offset: u64) -> Self {
        Self { topic: topic.clone(), partition, offset: Some(i64::try_from(offset).unwrap_or(i64::MAX)) }
    }

    /// The offset, if there is one.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.offset.and_then(|offset| u64::try_from(offset).ok())
    }
}

/// `{"offsets": […]}` or `{"positions": […]}`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct OffsetsOfMember {
    #[serde(alias = "positions")]
    pub(super) offsets: Vec<PlacedOffset>,
}

/// `{"partitions": […]}`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct AssignmentOfMember {
    #[serde(default)]
    pub(super) partitions: Vec<PlaceReply>,
}

/// One line of `GET /groups`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupLine {
    /// The group.
    pub group: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    #[serde(default)]
    pub state: String,
    /// What kind of members it has: `consumer`.
    #[serde(default)]
    pub protocol_type: String,
    /// How many members there are.
    #[serde(default)]
    pub members: u64,
    /// The broker that keeps it.
    #[serde(default)]
    pub coordinator: Option<BrokerId>,
}

/// `GET /groups/{g}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GroupReply {
    /// The group.
    #[serde(default)]
    pub group: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    #[serde(default)]
    pub state: String,
    /// What kind of members it has: `consumer`.
    #[serde(default)]
    pub protocol_type: Option<String>,
    /// How partitions are shared out.
    #[serde(default)]
    pub protocol: Option<String>,
    /// How often they were shared out.
    #[serde(default)]
    pub generation: Option<i64>,
    /// The broker that keeps it.
    #[serde(default)]
    pub coordinator: Option<BrokerId>,
    /// Its members.
    #[serde(default)]
    pub members: Vec<MemberReply>,
    /// What it has committed and what it reads.
    #[serde(default)]
    pub partitions: Vec<GroupPartition>,
}

/// One member of a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberReply {
    /// Its name, given by the coordinator.
    pub member_id: String,
    /// The consumer instance behind it.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// The name that it keeps over its lives.
    #[serde(default)]
    pub group_instance_id: Option<String>,
    /// What it calls itself.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Where it calls from.
    #[serde(default)]
    pub client_host: Option<String>,
    /// What it reads.
    #[serde(default)]
    pub assignment: Vec<PlaceReply>,
}

/// How far a group is in one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The offset that it reads next.
    #[serde(default)]
    pub committed: Option<u64>,
    /// What it noted with it.
    #[serde(default)]
    pub metadata: Option<String>,
    /// When it was committed, in milliseconds since 1970.
    #[serde(default)]
    pub committed_at: Option<i64>,
    /// Where the partition ends.
    #[serde(default)]
    pub end: Option<u64>,
    /// Records between them.
    #[serde(default)]
    pub lag: Option<u64>,
    /// For how long the oldest of them waits.
    #[serde(default)]
    pub lag_seconds: Option<f64>,
    /// `growing`, `steady` or `shrinking`.
    #[serde(default)]
    pub trend: Option<String>,
    /// The member that reads it.
    #[serde(default)]
    pub owner: Option<String>,
}

/// `POST /groups/{g}/seek`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeekReply {
    /// Whether nothing was changed.
    #[serde(default)]
    pub dry_run: bool,
    /// Each partition.
    pub offsets: Vec<SoughtOffset>,
}

/// A partition's offset before and after.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SoughtOffset {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// What was committed.
    #[serde(default)]
    pub committed: Option<u64>,
    /// What is, or would be.
    pub offset: u64,
    /// How many records the group is behind then.
    #[serde(default)]
    pub lag: Option<u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_are_read_from_base64() {
        let record: GroupRecord = serde_json::from_value(json!({
            "topic": "t", "partition": 1, "offset": 7, "key": null, "value": "aGVsbG8=", "timestamp": 9,
            "headers": [{ "key": "h", "value": "eA==" }, { "key": "n", "value": null }],
        }))
        .unwrap();
        assert_eq!((record.key, record.value.as_deref()), (None, Some(&b"hello"[..])));
        assert_eq!((record.offset.get(), record.partition.0, record.timestamp), (7, 1, 9));
        assert_eq!((record.headers[0].value.as_deref(), &record.headers[1].value), (Some(&b"x"[..]), &None));
        let bad = json!({ "topic": "t", "partition": 1, "offset": 7, "value": "no base64!" });
        assert!(serde_json::from_value::<GroupRecord>(bad).is_err());
    }

    #[test]
    fn groups_are_read_with_what_they_leave_out() {
        let described: GroupReply = serde_json::from_value(json!({
            "group": "g", "state": "Stable", "generation": 4, "coordinator": 2,
            "members": [{ "member_id": "m-1", "assignment": [{ "topic": "t", "partition": 0 }] }],
            "partitions": [{ "topic": "t", "partition": 0, "committed": null, "end": 4, "owner": "m-1" }],
        }))
        .unwrap();
        assert_eq!(described.coordinator, Some(BrokerId(2)));
        assert_eq!(described.members[0].assignment[0].partition.0, 0);
        assert_eq!((described.partitions[0].committed, described.partitions[0].end), (None, Some(4)));
        for list in ["offsets", "positions"] {
            let places = json!([{ "topic": "t", "partition": 0, "offset": -1 }, { "topic": "t", "partition": 1, "offset": null },
                { "topic": "t", "partition": 2, "offset": 5 }]);
            let placed: OffsetsOfMember = serde_json::from_value(json!({ list: places })).unwrap();
            let offsets: Vec<Option<u64>> = placed.offsets.iter().map(PlacedOffset::offset).collect();
            assert_eq!(offsets, [None, None, Some(5)]);
        }
    }
}
