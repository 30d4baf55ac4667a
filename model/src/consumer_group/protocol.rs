//! What consumers say of themselves and what they are given, in the layout that Kafka's clients use among each
//! other (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment`).
//!
//! Any version from 0 on is read, a version after the last known one as that one: fields are only added at the end.
//! A name that no topic can have is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Generation,
    wire::{Reader, WireError, Writer},
};
use crate::{PartitionId, TopicName, TopicPartition};

/// The protocol type of consumers.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";
const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 0;

/// What a consumer says of itself when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics that it wants to read.
    pub topics: BTreeSet<TopicName>,
    /// What its assignor wants to tell the leader's.
    pub user_data: Option<Vec<u8>>,
    /// What it reads at the moment, in cooperative protocols (version 1). Left empty for server-driven members: theirs
    /// move at once.
    pub owned: BTreeSet<TopicPartition>,
    /// The generation in which it was given that (version 2).
    pub generation: Option<Generation>,
    /// Where it is (version 3).
    pub rack: Option<String>,
}

/// What a consumer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The partitions that it reads from now on.
    pub partitions: BTreeSet<TopicPartition>,
    /// What the leader's assignor wants to tell the member's.
    pub user_data: Option<Vec<u8>>,
}

impl Subscription {
    /// A subscription to these topics.
    #[must_use]
    pub fn to_topics(topics: impl IntoIterator<Item = TopicName>) -> Self {
        Self { topics: topics.into_iter().collect(), ..Self::default() }
    }

    /// The bytes, version 3.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] for a partition number above 2³¹ − 1.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut out = Writer::default();
        out.int16(SUBSCRIPTION_VERSION);
        out.count("topics", self.topics.len())?;
        for topic in &self.topics {
            out.text("topic", topic.as_str())?;
        }
        out.optional_blob("user data", self.user_data.as_deref())?;
        write_partitions(&mut out, &self.owned)?;
        out.int32(self.generation.map_or(-1, Generation::to_wire));
        out.optional_text("rack", self.rack.as_deref())?;
        Ok(out.bytes)
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`WireError::Version`] below 0, [`WireError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let version = version(&mut input, "a subscription")?;
        let mut topics = BTreeSet::new();
        for _ in 0..input.count("topics")? {
            topics.extend(input.text("topic")?.parse::<TopicName>().ok());
        }
        let user_data = input.optional_blob("user data")?.map(<[u8]>::to_vec);
        let owned = if version >= 1 { read_partitions(&mut input)? } else { BTreeSet::new() };
        let generation = if version >= 2 { Generation::from_wire(input.int32("generation")?) } else { None };
        let rack = if version >= 3 { input.optional_text("rack")?.map(str::to_owned) } else { None };
        Ok(Self { topics, user_data, owned, generation, rack })
    }
}

impl Assignment {
    /// An assignment of these partitions.
    #[must_use]
    pub fn of(partitions: impl IntoIterator<Item = TopicPartition>) -> Self {
        Self { partitions: partitions.into_iter().collect(), user_data: None }
    }

    /// The bytes, version 0, which all later ones equal.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] for a partition number above 2³¹ − 1.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut out = Writer::default();
        out.int16(ASSIGNMENT_VERSION);
        write_partitions(&mut out, &self.partitions)?;
        out.optional_blob("user data", self.user_data.as_deref())?;
        Ok(out.bytes)
    }

    /// Reads the bytes. No bytes at all are an empty assignment.
    ///
    /// # Errors
    /// [`WireError::Version`] below 0, [`WireError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut input = Reader::new(bytes);
        version(&mut input, "an assignment")?;
        let partitions = read_partitions(&mut input)?;
        let user_data = input.optional_blob("user data")?.map(<[u8]>::to_vec);
        Ok(Self { partitions, user_data })
    }
}

fn version(input: &mut Reader<'_>, what: &'static str) -> Result<i16, WireError> {
    let version = input.int16("version")?;
    if version < 0 { Err(WireError::Version { what, version }) } else { Ok(version) }
}

/// Topic by topic, in order.
fn write_partitions(out: &mut Writer, partitions: &BTreeSet<TopicPartition>) -> Result<(), WireError> {
    let mut topics: BTreeMap<&TopicName, Vec<u32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(partition.0);
    }
    out.count("topics", topics.len())?;
    for (topic, numbers) in topics {
        out.text("topic", topic.as_str())?;
        out.count("partitions", numbers.len())?;
        for number in numbers {
            out.unsigned("partition", number)?;
        }
    }
    Ok(())
}

fn read_partitions(input: &mut Reader<'_>) -> Result<BTreeSet<TopicPartition>, WireError> {
    let mut partitions = BTreeSet::new();
    for _ in 0..input.count("topics")? {
        let topic = input.text("topic")?.parse::<TopicName>().ok();
        for _ in 0..input.count("partitions")? {
            let partition = PartitionId(input.unsigned("partition")?);
            partitions.extend(topic.clone().map(|topic| TopicPartition { topic, partition }));
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic_partition(topic: &str, partition: u32) -> TopicPartition {
        TopicPartition { topic: topic.parse().unwrap(), partition: PartitionId(partition) }
    }

    fn subscription() -> Subscription {
        Subscription {
            topics: ["a", "b"].iter().map(|name| name.parse().unwrap()).collect(),
            user_data: Some(b"u".to_vec()),
            owned: [topic_partition("a", 0), topic_partition("a", 2)].into(),
            generation: Some(Generation::new(5)),
            rack: Some("r".to_owned()),
        }
    }

    const TOPICS: &[u8] = b"\0\0\0\x02\0\x01a\0\x01b\0\0\0\x01u";
    const OWNED: &[u8] = b"\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x02";

    #[test]
    fn subscriptions_are_those_of_kafkas_clients() {
        let bytes = [b"\0\x03", TOPICS, OWNED, b"\0\0\0\x05\0\x01r"].concat();
        assert_eq!(subscription().encode().unwrap(), bytes);
        assert_eq!(Subscription::decode(&bytes), Ok(subscription()));
        let v2 = Subscription { rack: None, ..subscription() };
        assert_eq!(Subscription::decode(&[b"\0\x02", TOPICS, OWNED, b"\0\0\0\x05"].concat()), Ok(v2.clone()));
        let v1 = Subscription { generation: None, ..v2 };
        assert_eq!(Subscription::decode(&[b"\0\x01", TOPICS, OWNED].concat()), Ok(v1.clone()));
        let v0 = Subscription { owned: BTreeSet::new(), ..v1 };
        assert_eq!(Subscription::decode(&[b"\0\0", TOPICS].concat()), Ok(v0));
        let later = [b"\0\x07", TOPICS, OWNED, b"\0\0\0\x05\0\x01r", b"more"].concat();
        assert_eq!(Subscription::decode(&later), Ok(subscription()), "fields are only added");
    }

    #[test]
    fn assignments_are_those_of_kafkas_clients() {
        let assignment = Assignment::of([topic_partition("a", 2), topic_partition("a", 0)]);
        let bytes = [b"\0\0", OWNED, b"\xff\xff\xff\xff"].concat();
        assert_eq!(assignment.encode().unwrap(), bytes);
        assert_eq!(Assignment::decode(&bytes), Ok(assignment.clone()));
        let later = [b"\0\x03", OWNED, b"\xff\xff\xff\xff"].concat();
        assert_eq!(Assignment::decode(&later), Ok(assignment));
        assert_eq!(Assignment::decode(b""), Ok(Assignment::default()));
        assert_eq!(Assignment::default().encode().unwrap(), b"\0\0\0\0\0\0\xff\xff\xff\xff", "never no bytes");
    }

    #[test]
    fn names_that_no_topic_has_are_left_out() {
        let read = Subscription::decode(b"\0\0\0\0\0\x02\0\x03a/b\0\x01t\xff\xff\xff\xff").unwrap();
        assert_eq!(read, Subscription::to_topics(["t".parse().unwrap()]));
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = subscription().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(Subscription::decode(&bytes[..end]).is_err(), "{end}");
        }
        let negative = Subscription::decode(b"\xff\xff\0\0\0\0");
        assert_eq!(negative, Err(WireError::Version { what: "a subscription", version: -1 }));
        let endless = Assignment::decode(b"\0\0\x7f\xff\xff\xff");
        assert_eq!(endless, Err(WireError::Malformed { field: "topic" }));
        let below = Assignment::decode(b"\0\0\0\0\0\x01\0\x01a\0\0\0\x01\xff\xff\xff\xff");
        assert_eq!(below, Err(WireError::Malformed { field: "partition" }));
        assert!(Assignment::of([topic_partition("a", u32::MAX)]).encode().is_err());
    }

    proptest! {
        #[test]
        fn they_come_back(
            topics in proptest::collection::btree_set("[a-z]{1,20}", 0..5),
            owned in proptest::collection::btree_set(("[a-z]{1,3}", 0..=i32::MAX as u32), 0..10),
            user_data: Option<Vec<u8>>,
            generation in proptest::option::of(0..=i32::MAX as u32),
            rack in proptest::option::of("\\PC{0,20}"),
        ) {
            let owned: BTreeSet<_> = owned.iter().map(|(topic, number)| topic_partition(topic, *number)).collect();
            let assignment = Assignment { partitions: owned.clone(), user_data: user_data.clone() };
            prop_assert_eq!(Assignment::decode(&assignment.encode().unwrap()), Ok(assignment));
            let topics = topics.iter().map(|name| name.parse().unwrap()).collect();
            let generation = generation.map(Generation::new);
            let subscription = Subscription { topics, user_data, owned, generation, rack };
            prop_assert_eq!(Subscription::decode(&subscription.encode().unwrap()), Ok(subscription));
        }

        #[test]
        fn arbitrary_bytes_are_no_reason_to_panic(mut bytes: Vec<u8>, version in 0_u8..5) {
            drop((Subscription::decode(&bytes), Assignment::decode(&bytes)));
            bytes.splice(0..0, [0, version]);
            drop((Subscription::decode(&bytes), Assignment::decode(&bytes)));
        }
    }
}
