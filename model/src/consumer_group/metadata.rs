//! The records of a group itself in `__consumer_offsets`, in Kafka's layout: key version 2, value version 3.
//!
//! Values of the versions 0 to 3 are read, version 3 is written. Big-endian; a text is an `i16` length and its
//! bytes, −1 for none; bytes have an `i32` length. A record without a value removes the group.

use super::{
    Generation, GroupInstanceId, MemberId,
    wire::{Reader, WireError, Writer},
};
use crate::GroupId;

const KEY_VERSION: i16 = 2;
const VALUE_VERSION: i16 = 3;

/// The key of a group's record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupMetadataKey {
    /// The group.
    pub group: GroupId,
}

/// The value of a group's record. Members mean that the group is Stable, none that it is Empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataValue {
    /// The kind of group; empty when it never had a member.
    pub protocol_type: String,
    /// The generation.
    pub generation: Generation,
    /// The protocol that the members use.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: Option<MemberId>,
    /// Since when the group is in its state, in milliseconds since 1970.
    pub current_state_timestamp_ms: Option<i64>,
    /// The members.
    pub members: Vec<GroupMetadataMember>,
}

/// A member in a group's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataMember {
    /// Its id.
    pub member_id: MemberId,
    /// Its name, when it is static.
    pub group_instance_id: Option<GroupInstanceId>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// How long it may take to join again.
    pub rebalance_timeout_ms: u32,
    /// How long it may be silent.
    pub session_timeout_ms: u32,
    /// What it says of itself under the group's protocol.
    pub subscription: Vec<u8>,
    /// What the leader gave it.
    pub assignment: Vec<u8>,
}

impl GroupMetadataKey {
    /// The record's key.
    ///
    /// # Errors
    /// None for a valid group name; the signature is that of the other codecs.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut out = Writer::default();
        out.int16(KEY_VERSION);
        out.text("group", self.group.as_str())?;
        Ok(out.bytes)
    }

    /// Reads a record's key.
    ///
    /// # Errors
    /// [`WireError::Version`] for other records of the topic, else [`WireError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let version = input.int16("key version")?;
        if version != KEY_VERSION {
            return Err(WireError::Version { what: "a group's key", version });
        }
        let group = input.text("group")?.parse().map_err(|_| WireError::Malformed { field: "group" })?;
        expect_end(&input, "group key")?;
        Ok(Self { group })
    }
}

impl GroupMetadataValue {
    /// The record's value.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] for a text or bytes beyond what the format can express.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut out = Writer::default();
        out.int16(VALUE_VERSION);
        out.text("protocol type", &self.protocol_type)?;
        out.int32(self.generation.to_wire());
        out.optional_text("protocol", self.protocol.as_deref())?;
        out.optional_text("leader", self.leader.as_ref().map(MemberId::as_str))?;
        out.int64(self.current_state_timestamp_ms.unwrap_or(-1));
        out.count("members", self.members.len())?;
        for member in &self.members {
            member.encode(&mut out)?;
        }
        Ok(out.bytes)
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// [`WireError::Version`] or [`WireError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let version = input.int16("value version")?;
        if !(0..=VALUE_VERSION).contains(&version) {
            return Err(WireError::Version { what: "a group's value", version });
        }
        let protocol_type = input.text("protocol type")?.to_owned();
        let generation =
            Generation::from_wire(input.int32("generation")?).ok_or(WireError::Malformed { field: "generation" })?;
        let protocol = input.optional_text("protocol")?.map(str::to_owned);
        let leader = input.optional_text("leader")?.and_then(MemberId::from_wire);
        let since = if version >= 2 { input.int64("current state timestamp")? } else { -1 };
        let count = input.count("members")?;
        let members = (0..count).map(|_| GroupMetadataMember::decode(&mut input, version)).collect::<Result<_, _>>()?;
        expect_end(&input, "group value")?;
        let current_state_timestamp_ms = (since >= 0).then_some(since);
        Ok(Self { protocol_type, generation, protocol, leader, current_state_timestamp_ms, members })
    }
}

impl GroupMetadataMember {
    fn encode(&self, out: &mut Writer) -> Result<(), WireError> {
        out.text("member id", self.member_id.as_str())?;
        out.optional_text("group instance id", self.group_instance_id.as_ref().map(GroupInstanceId::as_str))?;
        out.text("client id", &self.client_id)?;
        out.text("client host", &self.client_host)?;
        out.unsigned("rebalance timeout", self.rebalance_timeout_ms)?;
        out.unsigned("session timeout", self.session_timeout_ms)?;
        out.blob("subscription", &self.subscription)?;
        out.blob("assignment", &self.assignment)
    }

    fn decode(input: &mut Reader<'_>, version: i16) -> Result<Self, WireError> {
        let member_id = MemberId::from(input.text("member id")?);
        let instance = if version >= 3 { input.optional_text("group instance id")? } else { None };
        let client_id = input.text("client id")?.to_owned();
        let client_host = input.text("client host")?.to_owned();
        let rebalance_timeout_ms = if version >= 1 { Some(input.unsigned("rebalance timeout")?) } else { None };
        let session_timeout_ms = input.unsigned("session timeout")?;
        Ok(Self {
            member_id,
            group_instance_id: instance.and_then(GroupInstanceId::from_wire),
            client_id,
            client_host,
            // Before there was a rebalance timeout the session timeout was used for both.
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: input.blob("subscription")?.to_vec(),
            assignment: input.blob("assignment")?.to_vec(),
        })
    }
}

const fn expect_end(input: &Reader<'_>, field: &'static str) -> Result<(), WireError> {
    if input.is_at_end() { Ok(()) } else { Err(WireError::Malformed { field }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: &str, instance: Option<&str>) -> GroupMetadataMember {
        GroupMetadataMember {
            member_id: MemberId::from(id),
            group_instance_id: instance.map(GroupInstanceId::from),
            client_id: "c".to_owned(),
            client_host: "h".to_owned(),
            rebalance_timeout_ms: 3,
            session_timeout_ms: 4,
            subscription: b"s".to_vec(),
            assignment: b"as".to_vec(),
        }
    }

    fn value(members: Vec<GroupMetadataMember>) -> GroupMetadataValue {
        GroupMetadataValue {
            protocol_type: "consumer".to_owned(),
            generation: Generation::new(7),
            protocol: Some("range".to_owned()),
            leader: Some(MemberId::from("m")),
            current_state_timestamp_ms: Some(9),
            members,
        }
    }

    const HEAD: &[u8] = b"\0\x08consumer\0\0\0\x07\0\x05range\0\x01m";

    #[test]
    fn the_bytes_are_kafkas() {
        let key = GroupMetadataKey { group: "g1".parse().unwrap() };
        assert_eq!(key.encode().unwrap(), b"\0\x02\0\x02g1");
        assert_eq!(GroupMetadataKey::decode(b"\0\x02\0\x02g1"), Ok(key));
        let tail =
            b"\0\0\0\0\0\0\0\x09\0\0\0\x01\0\x01m\0\x01i\0\x01c\0\x01h\0\0\0\x03\0\0\0\x04\0\0\0\x01s\0\0\0\x02as";
        let bytes = [b"\0\x03", HEAD, tail].concat();
        let stable = value(vec![member("m", Some("i"))]);
        assert_eq!(stable.encode().unwrap(), bytes);
        assert_eq!(GroupMetadataValue::decode(&bytes), Ok(stable));
    }

    #[test]
    fn older_versions_are_read() {
        let tails: [&[u8]; 3] = [
            b"\0\0\0\x01\0\x01m\0\x01c\0\x01h\0\0\0\x04\0\0\0\x01s\0\0\0\x02as",
            b"\0\0\0\x01\0\x01m\0\x01c\0\x01h\0\0\0\x03\0\0\0\x04\0\0\0\x01s\0\0\0\x02as",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01\0\x01m\0\x01c\0\x01h\0\0\0\x03\0\0\0\x04\0\0\0\x01s\0\0\0\x02as",
        ];
        for (version, tail) in (0_u8..).zip(tails) {
            let read = GroupMetadataValue::decode(&[&[0, version], HEAD, tail].concat()).unwrap();
            let rebalance_timeout_ms = if version == 0 { 4 } else { 3 };
            let expected = GroupMetadataMember { rebalance_timeout_ms, ..member("m", None) };
            assert_eq!(read, GroupMetadataValue { current_state_timestamp_ms: None, ..value(vec![expected]) });
        }
    }

    #[test]
    fn other_records_and_damaged_ones_are_told_apart() {
        let offset = GroupMetadataKey::decode(b"\0\x01\0\x02g1\0\x01t\0\0\x01\x02");
        assert_eq!(offset, Err(WireError::Version { what: "a group's key", version: 1 }));
        let newer = GroupMetadataValue::decode(b"\0\x04\x09consumer");
        assert_eq!(newer, Err(WireError::Version { what: "a group's value", version: 4 }));
        let bytes = value(vec![member("m", None), member("n", Some("i"))]).encode().unwrap();
        for end in 0..bytes.len() {
            let cut = GroupMetadataValue::decode(&bytes[..end]);
            assert!(matches!(cut, Err(WireError::Malformed { .. })), "{end}");
        }
        let long = [bytes.as_slice(), b"x"].concat();
        assert_eq!(GroupMetadataValue::decode(&long), Err(WireError::Malformed { field: "group value" }));
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let mut large = value(Vec::new());
        large.protocol_type = "x".repeat(32_768);
        let error = WireError::TooLarge { field: "protocol type", length: 32_768, max: 32_767 };
        assert_eq!(large.encode(), Err(error));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_reason_to_panic(mut bytes: Vec<u8>, version in 0_u8..5) {
            drop((GroupMetadataKey::decode(&bytes), GroupMetadataValue::decode(&bytes)));
            bytes.splice(0..0, [0, version]);
            drop((GroupMetadataKey::decode(&bytes), GroupMetadataValue::decode(&bytes)));
        }

        #[test]
        fn a_changed_byte_is_no_reason_to_panic(at in 0..150_usize, byte: u8) {
            let mut bytes = value(vec![member("m", None), member("n", Some("i"))]).encode().unwrap();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(read) = GroupMetadataValue::decode(&bytes) {
                prop_assert_eq!(GroupMetadataValue::decode(&read.encode().unwrap()), Ok(read));
            }
        }
    }
}
