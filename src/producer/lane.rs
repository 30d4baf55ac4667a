//! One partition's stream of batches: a window of requests under way, and recovery in order.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use pubg1_model::{PartitionId, TopicName};
use tokio::sync::mpsc;

use super::{Acks, Delivery, ProducerOptions, Sealed};
use crate::client::{Client, ClientError, backoff::Backoff, reply::ProduceReply};

/// HTTP status of a gap in the sequence numbers.
const CONFLICT: u16 = 409;

/// Why a partition's batches are not delivered.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The broker will not take a batch, or did not for too long.
    #[error("partition {partition} of {topic}: {records} records are not acknowledged after {}: {source}", humantime::format_duration(Duration::from_secs(waited.as_secs())))]
    GivenUp {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Records that are not acknowledged. They may or may not be stored.
        records: u64,
        /// How long the first of them was tried.
        waited: Duration,
        /// The last answer.
        source: ClientError,
    },
    /// The lane ended before.
    #[error("partition {partition} of {topic} takes no more records")]
    Stopped {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
    },
}

struct Pending {
    number: u64,
    bytes: Bytes,
    tags: Vec<u64>,
    since: Instant,
    reply: Option<ProduceReply>,
}

type Answer = (u64, Result<ProduceReply, ClientError>);

pub(super) struct Lane {
    client: Client,
    topic: TopicName,
    partition: PartitionId,
    options: ProducerOptions,
    deliver: mpsc::UnboundedSender<Delivery>,
    window: VecDeque<Pending>,
    sent: u64,
    /// The partition knows this producer.
    known: bool,
}

impl Lane {
    pub(super) fn new(
        client: Client,
        topic: TopicName,
        partition: PartitionId,
        options: ProducerOptions,
        deliver: mpsc::UnboundedSender<Delivery>,
    ) -> Self {
        Self { client, topic, partition, options, deliver, window: VecDeque::new(), sent: 0, known: false }
    }

    /// Sends until the channel closes and all is acknowledged, or a batch is given up.
    pub(super) async fn run(mut self, mut sealed: mpsc::Receiver<Sealed>) -> Result<(), LaneError> {
        let mut answers: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
        let mut trouble = None;
        let mut open = true;
        loop {
            // A partition takes the first batch of a producer that it does not know with any sequence
            // number. Were several under way, the second could come to be the first. And where nobody
            // waits for an append, nobody learns that it came too early.
            let one = !self.known || self.options.acks == Acks::None;
            let in_flight_max = if one { 1 } else { self.options.in_flight.max(1) };
            let room = self.window.len() < in_flight_max;
            tokio::select! {
                Some((number, answer)) = answers.next(), if !answers.is_empty() => {
                    if let Err(error) = self.take_answer(number, answer) {
                        // The first one is the cause; the gaps behind it are its consequence.
                        trouble = trouble.or(Some(error));
                    }
                }
                next = sealed.recv(), if open && room && trouble.is_none() => match next {
                    Some(next) => answers.push(self.post_new(next)),
                    None => open = false,
                },
                else => return Ok(()),
            }
            if answers.is_empty()
                && let Some(error) = trouble.take()
            {
                self.recover(error).await?;
            }
        }
    }

    fn post_new(&mut self, sealed: Sealed) -> BoxFuture<'static, Answer> {
        let number = self.sent;
        self.sent += 1;
        let bytes = sealed.batch.bytes().clone();
        self.window.push_back(Pending {
            number,
            bytes: bytes.clone(),
            tags: sealed.tags,
            since: Instant::now(),
            reply: None,
        });
        let (client, topic, partition, acks) =
            (self.client.clone(), self.topic.clone(), self.partition, self.options.acks.as_str());
        Box::pin(async move { (number, client.produce(&topic, partition, acks, bytes).await) })
    }

    /// Keeps an acknowledgement, and delivers those that have no gap before them.
    fn take_answer(&mut self, number: u64, answer: Result<ProduceReply, ClientError>) -> Result<(), ClientError> {
        let reply = answer?;
        self.known = true;
        if let Some(pending) = self.window.iter_mut().find(|pending| pending.number == number) {
            pending.reply = Some(reply);
        }
        while self.window.front().is_some_and(|pending| pending.reply.is_some())
            && let Some(pending) = self.window.pop_front()
        {
            let leader = pending.reply.as_ref().and_then(|reply| reply.leader.zip(reply.leader_epoch));
            let appended = pending.reply.and_then(|reply| reply.offsets.first().copied());
            // Nobody listens any more when the producer was dropped.
            let _closed = self.deliver.send(Delivery {
                partition: self.partition,
                base_offset: appended.and_then(|appended| appended.base_offset),
                tags: pending.tags,
                bytes: pending.bytes.len(),
                latency: pending.since.elapsed(),
                duplicate: appended.is_some_and(|appended| appended.duplicate),
                at: Instant::now(),
                leader,
            });
        }
        Ok(())
    }

    /// Sends the window again, one batch after the other, until all of it is acknowledged.
    async fn recover(&mut self, mut error: ClientError) -> Result<(), LaneError> {
        let mut backoff = Backoff::default();
        // A gap is the order in which requests arrived; in order there is none.
        let mut retriable = error.is_retriable() || error.status() == Some(CONFLICT);
        let mut wait = error.is_retriable();
        while let Some(pending) = self.window.front() {
            if !retriable || pending.since.elapsed() > self.options.delivery_timeout {
                return Err(self.give_up(error));
            }
            if wait {
                tokio::time::sleep(backoff.pause(&error)).await;
            }
            let (number, bytes) = (pending.number, pending.bytes.clone());
            let acks = self.options.acks.as_str();
            let answer = self.client.produce(&self.topic, self.partition, acks, bytes).await;
            match self.take_answer(number, answer) {
                Ok(()) => (backoff, wait) = (Backoff::default(), false),
                Err(again) => {
                    (retriable, wait) = (again.is_retriable(), true);
                    error = again;
                }
            }
        }
        Ok(())
    }

    fn give_up(&self, source: ClientError) -> LaneError {
        LaneError::GivenUp {
            topic: self.topic.clone(),
            partition: self.partition,
            records: self.window.iter().map(|pending| pending.tags.len() as u64).sum(),
            waited: self.window.front().map_or(Duration::ZERO, |pending| pending.since.elapsed()),
            source,
        }
    }
}
