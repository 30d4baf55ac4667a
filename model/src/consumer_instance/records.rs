//! The records that keep instances in the offsets topic, beside Kafka's own.
//!
//! Key version 1000 (group, instance) is the definition, key version 1001 (group, instance, topic, partition) a
//! position. Kafka's tools take keys of versions that they do not know for somebody else's. Big-endian; a text is an
//! `i16` length and its bytes. A record without a value removes what the key names.

use serde::{Deserialize, Serialize};

use super::{Edge, InstanceDefinition, PollId, Subscription};
use crate::{BrokerId, GroupId, InstanceName, Offset, PartitionId, TopicName, TopicPartition};

/// The version of a definition's key.
pub const DEFINITION_KEY_VERSION: i16 = 1000;
/// The version of a position's key.
pub const POSITION_KEY_VERSION: i16 = 1001;
const VALUE_VERSION: i16 = 0;
/// The same of a position; those of version 0 do not say where it began.
const POSITION_VALUE_VERSION: i16 = 1;
/// In place of an offset that there is none.
const NONE: i64 = -1;

/// An instance as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredInstance {
    /// The number that its creator has drawn for it.
    pub creation: u64,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
    /// What it was told.
    pub definition: InstanceDefinition,
    /// What it reads.
    pub subscription: Subscription,
    /// Its member in the group.
    pub member_id: Option<String>,
}

/// A position as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredPosition {
    /// Below it: the client has it.
    pub confirmed: Option<Offset>,
    /// The poll that brought it there.
    pub by: Option<PollId>,
    /// Whether it was moved here.
    pub is_sought: bool,
    /// Where the instance began in the partition.
    pub begun: Option<Offset>,
    /// What was delivered and may be confirmed: by which poll, through whom, and the offset after its last record.
    pub delivered: Option<(PollId, Edge, Offset)>,
}

/// Something of an instance that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceChange {
    /// Its definition.
    Definition(StoredInstance),
    /// How far it is in a partition; `None`: that is forgotten.
    Position(TopicPartition, Option<StoredPosition>),
}

/// The key of an instance's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceKey {
    /// The group.
    pub group: GroupId,
    /// The instance.
    pub instance: InstanceName,
    /// The partition whose position it is; `None` for the definition.
    pub partition: Option<TopicPartition>,
}

/// A record of an instance that cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceRecordError {
    /// Larger than the format allows.
    #[error("{0} is too large for a record of an instance")]
    TooLarge(&'static str),
    /// Another kind of record, or another version of the program.
    #[error("version {version} of an instance's {part} is not supported")]
    Version {
        /// Key or value.
        part: &'static str,
        /// The version that the bytes state.
        version: i16,
    },
    /// The bytes are not what the version says.
    #[error("the {0} in an instance's record is malformed or cut off")]
    Malformed(&'static str),
}

type Result<T, E = InstanceRecordError> = std::result::Result<T, E>;

impl InstanceKey {
    /// The record's key.
    ///
    /// # Errors
    /// [`InstanceRecordError::TooLarge`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        let version = if self.partition.is_some() { POSITION_KEY_VERSION } else { DEFINITION_KEY_VERSION };
        let mut out = version.to_be_bytes().to_vec();
        write_text(&mut out, "group", self.group.as_str())?;
        write_text(&mut out, "instance", self.instance.as_str())?;
        if let Some(TopicPartition { topic, partition }) = &self.partition {
            write_text(&mut out, "topic", topic.as_str())?;
            let number = i32::try_from(partition.0).map_err(|_| InstanceRecordError::TooLarge("partition"))?;
            out.extend_from_slice(&number.to_be_bytes());
        }
        Ok(out)
    }

    /// Reads a record's key.
    ///
    /// # Errors
    /// [`InstanceRecordError::Version`] for other records of the topic, else [`InstanceRecordError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed = InstanceRecordError::Malformed;
        let mut input = bytes;
        let version = i16::from_be_bytes(take(&mut input, "key")?);
        if version != DEFINITION_KEY_VERSION && version != POSITION_KEY_VERSION {
            return Err(InstanceRecordError::Version { part: "key", version });
        }
        let group: GroupId = read_text(&mut input, "group")?.parse().map_err(|_| malformed("group"))?;
        let instance: InstanceName = read_text(&mut input, "instance")?.parse().map_err(|_| malformed("instance"))?;
        let partition = if version == POSITION_KEY_VERSION {
            let topic: TopicName = read_text(&mut input, "topic")?.parse().map_err(|_| malformed("topic"))?;
            let number = i32::from_be_bytes(take(&mut input, "partition")?);
            let partition = PartitionId(u32::try_from(number).map_err(|_| malformed("partition"))?);
            Some(TopicPartition { topic, partition })
        } else {
            None
        };
        if input.is_empty() { Ok(Self { group, instance, partition }) } else { Err(malformed("key")) }
    }
}

impl StoredInstance {
    /// The record's value: its version, and JSON.
    ///
    /// # Errors
    /// [`InstanceRecordError::TooLarge`] is what a value that JSON cannot hold would be; there is none.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = VALUE_VERSION.to_be_bytes().to_vec();
        serde_json::to_writer(&mut out, self).map_err(|_| InstanceRecordError::TooLarge("definition"))?;
        Ok(out)
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// [`InstanceRecordError::Version`] or [`InstanceRecordError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = bytes;
        value_version(&mut input, VALUE_VERSION)?;
        serde_json::from_slice(input).map_err(|_| InstanceRecordError::Malformed("definition"))
    }
}

impl StoredPosition {
    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(55);
        let offset = |offset: Option<Offset>| offset.map_or(NONE, Offset::to_wire).to_be_bytes();
        out.extend_from_slice(&POSITION_VALUE_VERSION.to_be_bytes());
        out.extend_from_slice(&offset(self.confirmed));
        // 0 is the number of no poll.
        out.extend_from_slice(&self.by.map_or(0, |poll| poll.0).to_be_bytes());
        out.push(u8::from(self.is_sought));
        out.extend_from_slice(&offset(self.begun));
        out.extend_from_slice(&offset(self.delivered.map(|(_, _, next)| next)));
        if let Some((poll, edge, _)) = self.delivered {
            out.extend_from_slice(&poll.0.to_be_bytes());
            out.extend_from_slice(&edge.broker.0.to_be_bytes());
            out.extend_from_slice(&edge.incarnation.to_be_bytes());
        }
        out
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// [`InstanceRecordError::Version`] or [`InstanceRecordError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = bytes;
        let version = value_version(&mut input, POSITION_VALUE_VERSION)?;
        let confirmed = read_offset(&mut input, "position")?;
        let by = u64::from_be_bytes(take(&mut input, "poll")?);
        let by = (by != 0).then_some(PollId(by));
        let [is_sought] = take(&mut input, "position")?;
        let is_sought = is_sought != 0;
        let begun = if version == 0 { None } else { read_offset(&mut input, "position")? };
        let delivered = match read_offset(&mut input, "delivered position")? {
            None => None,
            Some(next) => {
                let poll = PollId(u64::from_be_bytes(take(&mut input, "delivery's poll")?));
                let broker = BrokerId(u32::from_be_bytes(take(&mut input, "delivery's broker")?));
                let incarnation = u64::from_be_bytes(take(&mut input, "delivery's broker")?);
                Some((poll, Edge { broker, incarnation }, next))
            }
        };
        if input.is_empty() {
            Ok(Self { confirmed, by, is_sought, begun, delivered })
        } else {
            Err(InstanceRecordError::Malformed("position"))
        }
    }
}

fn read_offset(input: &mut &[u8], field: &'static str) -> Result<Option<Offset>> {
    match i64::from_be_bytes(take(input, field)?) {
        NONE => Ok(None),
        offset => Offset::from_wire(offset).map(Some).ok_or(InstanceRecordError::Malformed(field)),
    }
}

/// The version of a value, up to this one.
fn value_version(input: &mut &[u8], newest: i16) -> Result<i16> {
    let version = i16::from_be_bytes(take(input, "value")?);
    let is_known = (0..=newest).contains(&version);
    if is_known { Ok(version) } else { Err(InstanceRecordError::Version { part: "value", version }) }
}

fn write_text(out: &mut Vec<u8>, field: &'static str, text: &str) -> Result<()> {
    let length = i16::try_from(text.len()).map_err(|_| InstanceRecordError::TooLarge(field))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn read_text<'a>(input: &mut &'a [u8], field: &'static str) -> Result<&'a str> {
    let malformed = InstanceRecordError::Malformed(field);
    let Ok(length) = usize::try_from(i16::from_be_bytes(take(input, field)?)) else { return Err(malformed) };
    let Some((text, rest)) = input.split_at_checked(length) else { return Err(malformed) };
    *input = rest;
    str::from_utf8(text).map_err(|_| malformed)
}

fn take<const N: usize>(input: &mut &[u8], field: &'static str) -> Result<[u8; N]> {
    let (taken, rest) = input.split_first_chunk::<N>().ok_or(InstanceRecordError::Malformed(field))?;
    *input = rest;
    Ok(*taken)
}
