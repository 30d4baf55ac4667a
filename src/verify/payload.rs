//! What a record of a run looks like: a JSON object that says who wrote it, filled up to a size.
//! Reading writes it again and compares, so that any changed byte is noticed.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::history::{FOREIGN, RecordId};

/// The smallest size that may be asked for; a record is never shorter than its head.
pub const VALUE_BYTES_MIN: usize = 1;

/// Writes and reads the records of one run.
#[derive(Clone, Debug)]
pub struct Payload {
    run: String,
    topic: String,
    value_bytes: usize,
}

impl Payload {
    /// Records of this run, of about this size.
    #[must_use]
    pub fn new(run: &str, topic: &str, value_bytes: usize) -> Self {
        Self { run: run.to_owned(), topic: topic.to_owned(), value_bytes }
    }

    /// The record's value. It can be sent to `POST /publish` as it is.
    #[must_use]
    pub fn encode(&self, id: RecordId) -> Vec<u8> {
        let RecordId { producer, partition, number } = id;
        let (run, topic) = (&self.run, &self.topic);
        let mut value = format!(
            "{{\"partition\":{partition},\"topic\":\"{topic}\",\"run\":\"{run}\",\"producer\":{producer},\"number\":{number},\"fill\":\""
        )
        .into_bytes();
        // Different for every record: a page of another one in its place is noticed.
        let mut state = number ^ (u64::from(producer) << 40) ^ (u64::from(partition) << 52);
        while value.len() + 2 < self.value_bytes {
            state = mixed(state);
            let room = self.value_bytes - value.len() - 2;
            value.extend_from_slice(&format!("{state:016x}").as_bytes()[..room.min(16)]);
        }
        value.extend_from_slice(b"\"}");
        value
    }

    /// Which record of this run a value is. Anything else is foreign, numbered by a fingerprint.
    #[must_use]
    pub fn decode(&self, partition: u32, value: Option<&[u8]>) -> RecordId {
        let value = value.unwrap_or_default();
        let id = member(value, b"\"partition\":").and_then(|home| {
            let producer = u32::try_from(member(value, b"\"producer\":")?).ok()?;
            let number = member(value, b"\"number\":")?;
            Some(RecordId { producer, partition: u32::try_from(home).ok()?, number })
        });
        id.filter(|id| !id.is_foreign() && self.encode(*id) == value).unwrap_or_else(|| RecordId {
            producer: FOREIGN,
            partition,
            number: fingerprint(value),
        })
    }
}

/// A number that stands for these bytes.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The number that follows a name.
fn member(value: &[u8], name: &[u8]) -> Option<u64> {
    let at = value.windows(name.len()).position(|window| window == name)? + name.len();
    let digits = value[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&value[at..at + digits]).ok()?.parse().ok()
}

/// The next number of a sequence in which every bit depends on every other (splitmix64).
#[must_use]
pub const fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RecordId = RecordId { producer: 3, partition: 1, number: 17 };

    #[test]
    fn a_record_comes_back_as_it_was_sent() {
        for bytes in [0, 90, 100, 256, 1024] {
            let payload = Payload::new("ab12", "verify", bytes);
            let value = payload.encode(ID);
            assert_eq!(payload.decode(1, Some(&value)), ID);
            assert!(value.len() == bytes || bytes < 95, "{} of {bytes}", value.len());
            let object: serde_json::Value = serde_json::from_slice(&value).unwrap();
            assert_eq!((&object["partition"], &object["topic"]), (&1.into(), &"verify".into()));
        }
    }

    #[test]
    fn any_changed_byte_makes_it_foreign() {
        let payload = Payload::new("ab12", "verify", 200);
        let value = payload.encode(ID);
        for index in 0..value.len() {
            let mut damaged = value.clone();
            damaged[index] ^= 1;
            let read = payload.decode(1, Some(&damaged));
            assert!(read.is_foreign(), "byte {index}: {}", String::from_utf8_lossy(&damaged));
        }
        assert!(payload.decode(1, None).is_foreign());
        assert!(Payload::new("other", "verify", 200).decode(1, Some(&value)).is_foreign());
    }
}
