//! What a system under load offers: places to publish to and to receive from.
//!
//! Every system gets the same messages in the same batches at the same times; how it carries them is
//! its own business, with its client's best means.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// Bytes at the start of every payload: when the record was due, then its number.
pub const STAMP_BYTES: usize = 16;

/// Bits of a record's number below the mark of its run, by which a run knows its own records.
pub const RUN_SHIFT: u32 = 40;

/// A record that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// When it was to be sent, in nanoseconds since the run began.
    pub due_ns: u64,
    /// The same in milliseconds since 1970: the record's own timestamp, where the system has one.
    pub timestamp_ms: i64,
    /// Its number among those of its publisher; the bits from [`RUN_SHIFT`] on are the run's mark.
    pub number: u64,
    /// Its key's number, of as many as were asked for; `None`: it has no key.
    pub key: Option<u32>,
}

impl Message {
    /// Writes the payload of this record: the stamp, then as much of the filling as there is room for.
    /// The buffer's length is the size of the payload; a shorter one than the stamp gets a part of it.
    pub fn write(&self, filling: &[u8], into: &mut [u8]) {
        let mut stamp = [0; STAMP_BYTES];
        stamp[..8].copy_from_slice(&self.due_ns.to_le_bytes());
        stamp[8..].copy_from_slice(&self.number.to_le_bytes());
        let head = into.len().min(STAMP_BYTES);
        into[..head].copy_from_slice(&stamp[..head]);
        let body = &mut into[head..];
        let length = body.len().min(filling.len());
        body[..length].copy_from_slice(&filling[..length]);
    }

    /// When the record with this payload was due, and its number. `None`: not a payload of a run.
    #[must_use]
    pub fn read_stamp(payload: &[u8]) -> Option<(u64, u64)> {
        let (due, rest) = payload.split_first_chunk::<8>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*due), u64::from_le_bytes(*number)))
    }
}

/// How the topic, stream or queue shall be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name; fresh for a run unless one was named.
    pub name: String,
    /// Partitions, or the system's nearest thing.
    pub partitions: u32,
    /// The only partition that is written to.
    pub partition: Option<u32>,
    /// Replicas of each, where the system offers it.
    pub replicas: u32,
    /// Size of a payload in bytes, with the stamp.
    pub record_bytes: usize,
    /// What an acknowledgement waits for.
    pub acks: Acks,
    /// A consumer group to read as, where the system has groups.
    pub group: Option<String>,
}

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acks {
    /// A quorum of the replicas, or all in sync: the safest that the system has.
    All,
    /// The leader.
    Leader,
}

/// What a system says of itself, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its name: `PubG1`, `NATS JetStream`.
    pub name: String,
    /// Its version, as it tells it.
    pub version: String,
    /// Which library, route and batching the client uses.
    pub client: String,
    /// What is on disk, and where, when a record is acknowledged.
    pub durability: String,
    /// Replicas that it really keeps.
    pub replicas: u32,
    /// Where it was reached.
    pub address: String,
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is not there, or broke off.
    #[error("{address} does not answer: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What was said.
        reason: String,
    },
    /// It will not do what was asked.
    #[error("{address} refuses to {what}: {reason}")]
    Refused {
        /// Who.
        address: String,
        /// What was asked.
        what: String,
        /// What was said.
        reason: String,
    },
    /// The target cannot do it at all.
    #[error("{0}")]
    Unsupported(String),
}

/// Why a batch is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {reason}")]
pub struct SendError {
    /// A short name, of which there are few: errors are counted by it.
    pub kind: String,
    /// What was said.
    pub reason: String,
}

/// A system under load.
pub trait Target: Send + Sync {
    /// Makes the topic and learns what the system says of itself.
    fn prepare<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>>;

    /// One of the publishers; each has connections of its own. Partitions are spread over them.
    fn publisher<'a>(&'a self, topic: &'a Topic, index: u32) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>>;

    /// One of so many subscribers, which share the partitions; it reads what is published from now on.
    fn subscriber<'a>(
        &'a self,
        topic: &'a Topic,
        index: u32,
        count: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>>;

    /// A subscriber of everything that the topic holds, from its beginning.
    fn replay<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>>;

    /// Removes what [`Target::prepare`] made.
    fn clean<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>>;
}

/// Sends batches.
pub trait Publisher: Send {
    /// Puts the batch on its way at once; the future is ready when all of it is acknowledged. Called
    /// again before that, as often as the run's window allows, so requests overlap.
    fn send(&mut self, batch: &[Message], filling: &[u8]) -> BoxFuture<'static, Result<(), SendError>>;

    /// Waits until what [`Publisher::send`] keeps back to make larger batches of its own is on its way.
    fn flush(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Failures since the last call that the client overcame by itself, by kind.
    fn overcome(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
}

/// Receives records.
pub trait Subscriber: Send {
    /// Waits until there are records, or this long, and gives the payload of each to `each`.
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>>;

    /// Commits what was received, where the system keeps that, and leaves its group.
    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
impl Topic {
    /// A topic of one partition and one replica.
    pub(crate) fn plain() -> Self {
        Self {
            name: "t".to_owned(),
            partitions: 1,
            partition: None,
            replicas: 1,
            record_bytes: 100,
            acks: Acks::All,
            group: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_when_it_was_due_whatever_its_size() {
        let message = Message { due_ns: 1_234_567_890, timestamp_ms: 0, number: 42, key: None };
        for size in [16, 17, 100, 1024] {
            let mut payload = vec![b' '; size];
            message.write(&[b'x'; 2000], &mut payload);
            assert_eq!(Message::read_stamp(&payload), Some((1_234_567_890, 42)));
            assert!(payload[STAMP_BYTES..].iter().all(|byte| *byte == b'x'));
        }
        let mut short = [0; 7];
        message.write(b"", &mut short);
        assert_eq!(Message::read_stamp(&short), None);
    }
}
