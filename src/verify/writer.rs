//! The producers: each keeps one request under way per partition, through whichever broker, and
//! repeats it until it knows that the records are stored.

use std::time::Duration;

use pubg1_model::{
    Offset, PartitionId, ProducerId, TopicName,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord, ProducerIdentity, ValidBatch},
};
use tokio::{sync::watch, time::Instant};

use super::{
    brokers::{Brokers, Dice},
    clock::Recorder,
    history::{Entry, Micros, Outcome, RecordId, Write},
    payload::Payload,
};
use crate::{
    client::{Client, ClientError},
    error::CommandError,
};

const BACKOFF_FIRST: Duration = Duration::from_millis(2);
const BACKOFF_MAX: Duration = Duration::from_millis(50);
/// A broker is kept for up to so many requests; then, or when it fails, another one is asked.
const REQUESTS_PER_BROKER: u64 = 50;
/// Each record says so: time plays no part in a run, and the same record has the same bytes.
const TIMESTAMP_MS: i64 = 1_767_225_600_000;

/// HTTP status of a gap in the sequence numbers.
const CONFLICT: u16 = 409;
/// A gap that so many attempts meet stays.
const CONFLICTS_MAX: u32 = 20;

/// Which of the broker's routes producers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Surface {
    /// Record batches as they are stored.
    Batches,
    /// `POST /publish`, a record a request.
    Publish,
}

/// What all producers have in common.
#[derive(Clone, Debug)]
pub struct Writing {
    /// The brokers.
    pub brokers: Brokers,
    /// The topic.
    pub topic: TopicName,
    /// The records.
    pub payload: Payload,
    /// Records per request.
    pub batch: u64,
    /// The route.
    pub surface: Surface,
    /// `all` or `1`.
    pub acks: &'static str,
    /// An attempt that takes longer has an unknown outcome.
    pub attempt_timeout: Duration,
    /// How long a producer waits from one request of a partition to the next.
    pub pause: Duration,
    /// Where everything is put down.
    pub recorder: Recorder,
}

/// How far writing may go.
#[derive(Clone, Copy, Debug)]
pub enum Course {
    /// On and on.
    Go,
    /// What is under way is repeated until this moment, and nothing is begun.
    Finish(Instant),
}

/// One producer's stream to one partition.
pub struct Lane {
    writing: Writing,
    producer: u32,
    partition: u32,
    identity: Option<ProducerIdentity>,
    course: watch::Receiver<Course>,
    dice: Dice,
    broker: u32,
    requests_left: u64,
}

/// The identity of an idempotent producer, from whichever broker gives one.
///
/// # Errors
/// Nobody gives one in time.
pub async fn identity(client: &Client, deadline: Duration) -> Result<ProducerIdentity, CommandError> {
    let until = Instant::now() + deadline;
    loop {
        match client.create_producer().await {
            Ok(reply) => {
                let id = ProducerId(reply.producer_id);
                return Ok(ProducerIdentity { id, epoch: reply.producer_epoch, sequence: 0 });
            }
            Err(error) if error.is_retriable() && Instant::now() < until => {
                client.change_broker();
                tokio::time::sleep(BACKOFF_MAX).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Lane {
    /// A stream that has written nothing.
    #[must_use]
    pub fn new(
        writing: Writing,
        (producer, partition): (u32, u32),
        identity: Option<ProducerIdentity>,
        course: watch::Receiver<Course>,
        mut dice: Dice,
    ) -> Self {
        let broker = writing.brokers.any(&mut dice);
        Self { writing, producer, partition, identity, course, dice, broker, requests_left: 0 }
    }

    /// Writes until it is told to finish, and what is under way is stored or its time is over.
    ///
    /// # Errors
    /// A record that cannot be encoded, or is refused for good.
    pub async fn run(mut self) -> Result<(), CommandError> {
        let mut number = 0;
        let mut next = Instant::now();
        while matches!(*self.course.borrow(), Course::Go) {
            if !self.deliver(number, self.writing.batch, None).await? {
                return Ok(());
            }
            number += self.writing.batch;
            if self.writing.pause.is_zero() {
                continue;
            }
            // After an interruption the rate goes on as it was; what was missed is not made up for.
            next = (next + self.writing.pause).max(Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                _ = self.course.changed() => {}
            }
        }
        Ok(())
    }

    /// Repeats one request, of so many records from this one on, until it is acknowledged; `false` when time is over
    /// before.
    ///
    /// # Errors
    /// A record that cannot be encoded, or is refused for good.
    pub async fn deliver(&mut self, number: u64, count: u64, due_us: Option<Micros>) -> Result<bool, CommandError> {
        let first = RecordId { producer: self.producer, partition: self.partition, number };
        let batch = self.encode(first, count)?;
        let mut backoff = BACKOFF_FIRST;
        let mut conflicts = 0;
        loop {
            let broker = self.next_broker();
            let start_us = self.writing.recorder.now_us();
            let answer = tokio::time::timeout(self.writing.attempt_timeout, self.attempt(broker, first, &batch)).await;
            let (outcome, fatal) = match answer {
                Ok(Ok(outcome)) => (outcome, None),
                Ok(Err(error)) => {
                    conflicts += u32::from(error.status() == Some(CONFLICT));
                    let fatal = conflicts > CONFLICTS_MAX || !is_passing(&error);
                    (failed(&error), Some(error).filter(|_| fatal))
                }
                Err(_) => (Outcome::Unknown { reason: "no answer in time".to_owned() }, None),
            };
            let end_us = self.writing.recorder.now_us();
            let stored = matches!(outcome, Outcome::Acknowledged { .. });
            let RecordId { producer, partition, number } = first;
            let write = Write { producer, partition, number, count, broker, due_us, start_us, end_us, outcome };
            self.writing.recorder.record(Entry::Write(write));
            if let Some(error) = fatal {
                return Err(error.into());
            }
            if stored {
                return Ok(true);
            }
            if matches!(*self.course.borrow(), Course::Finish(until) if Instant::now() > until) {
                return Ok(false);
            }
            self.requests_left = 0;
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Keeps a broker for a while, then takes any other.
    fn next_broker(&mut self) -> u32 {
        if self.requests_left == 0 {
            let others = self.writing.brokers.clients().len() as u64 - 1;
            let step = u32::try_from(self.dice.below(others)).unwrap_or(0) + 1;
            let count = u32::try_from(others).unwrap_or(0) + 1;
            self.broker = (self.broker + step) % count;
            self.requests_left = 1 + self.dice.below(REQUESTS_PER_BROKER);
        }
        self.requests_left -= 1;
        self.broker
    }

    fn sequence(&self, number: u64) -> Option<ProducerIdentity> {
        // Sequence numbers go on from 0 after the largest one (KIP-98).
        let sequence = i32::try_from(number & 0x7fff_ffff).unwrap_or(0);
        self.identity.map(|identity| ProducerIdentity { sequence, ..identity })
    }

    fn encode(&self, first: RecordId, count: u64) -> Result<ValidBatch, CommandError> {
        let refuse = |error| CommandError::Failed(format!("a record cannot be encoded: {error}"));
        let mut builder = BatchBuilder::new(Compression::None);
        for index in 0..count {
            let value = self.writing.payload.encode(first.plus(index));
            let record = NewRecord { timestamp_ms: TIMESTAMP_MS, key: None, value: Some(&value), headers: &[] };
            builder.push(&record).map_err(refuse)?;
        }
        builder.finish(self.sequence(first.number)).map_err(refuse)
    }

    async fn attempt(&self, broker: u32, first: RecordId, batch: &ValidBatch) -> Result<Outcome, ClientError> {
        let client = self.writing.brokers.client(broker);
        let (place, duplicate, leader, epoch) = match self.writing.surface {
            Surface::Batches => {
                let partition = PartitionId(self.partition);
                let bytes = batch.bytes().clone();
                let reply = client.produce(&self.writing.topic, partition, self.writing.acks, bytes).await?;
                let appended = reply.offsets.first().copied();
                let duplicate = appended.is_some_and(|appended| appended.duplicate);
                (appended.and_then(|appended| appended.base_offset), duplicate, reply.leader, reply.leader_epoch)
            }
            Surface::Publish => {
                let value = self.writing.payload.encode(first);
                let reply = client.publish(self.writing.acks, self.sequence(first.number), value).await?;
                (reply.offset, false, reply.leader, reply.leader_epoch)
            }
        };
        Ok(match place.map(Offset::get) {
            Some(offset) => Outcome::Acknowledged {
                offset,
                epoch: epoch.map(|epoch| epoch.get()),
                leader: leader.map(|leader| leader.0),
                duplicate,
            },
            None => Outcome::Unknown { reason: "acknowledged without an offset".to_owned() },
        })
    }
}

/// Whether the same request may succeed later. A topic that was just created is not yet known
/// everywhere.
fn is_passing(error: &ClientError) -> bool {
    error.is_retriable() || matches!(error.status(), Some(404 | CONFLICT | 500))
}

fn failed(error: &ClientError) -> Outcome {
    match error {
        error if error.changed_nothing() => {
            let code = if let ClientError::Refused { error_code, .. } = error { *error_code } else { 0 };
            Outcome::Refused { code }
        }
        error => Outcome::Unknown { reason: error.to_string() },
    }
}
