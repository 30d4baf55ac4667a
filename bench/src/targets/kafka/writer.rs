//! Hands records to librdkafka's queue; a batch is acknowledged when the last of it is delivered.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
};
use tokio::sync::oneshot;

use crate::{
    target::{Message, Publisher, SendError, Topic},
    targets::{
        address::send_error,
        under_way::{self, Acknowledgement, Turns},
    },
};

/// Until a full queue is tried again.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a flush may take.
const FLUSH: Duration = Duration::from_secs(5);

/// Records of one batch that are not delivered.
struct Batch {
    left: AtomicUsize,
    done: Mutex<Option<oneshot::Sender<Result<(), SendError>>>>,
}

impl Batch {
    fn settle(&self, outcome: Result<(), SendError>) {
        let last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if !last && outcome.is_ok() {
            return;
        }
        if let Some(done) = self.done.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Whoever gave up waiting is not told.
            done.send(outcome).ok();
        }
    }
}

/// Tells a batch what became of its records.
struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        batch.settle(match result {
            Ok(_) => Ok(()),
            Err((error, record)) => {
                let kind = match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::MessageTimedOut) => "timed out",
                    _ => "refused",
                };
                Err(send_error(kind, format!("{error} (partition {})", record.partition())))
            }
        });
    }
}

/// A producer with a thread of its own.
pub(super) struct Writer {
    producer: Arc<ThreadedProducer<Deliveries>>,
    topic: Arc<str>,
    turns: Turns,
    record_bytes: usize,
}

impl Writer {
    /// Connects when there is something to send.
    pub(super) fn open(config: &ClientConfig, topic: &Topic, index: u32) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: Arc::new(config.create_with_context(Deliveries)?),
            topic: topic.name.as_str().into(),
            turns: Turns::new(topic.partitions, topic.partition, index),
            record_bytes: topic.record_bytes,
        })
    }
}

impl Publisher for Writer {
    fn send(&mut self, batch: &[Message], filling: &[u8]) -> Acknowledgement {
        let (done, outcome) = oneshot::channel();
        let waiting = Arc::new(Batch { left: AtomicUsize::new(batch.len()), done: Mutex::new(Some(done)) });
        let partition = i32::try_from(self.turns.next()).unwrap_or(i32::MAX);
        let heads: Vec<(Option<u32>, i64)> = batch.iter().map(|message| (message.key, message.timestamp_ms)).collect();
        let payloads = under_way::payloads(batch, filling, self.record_bytes);
        let (producer, topic) = (Arc::clone(&self.producer), Arc::clone(&self.topic));
        under_way::start(async move {
            for ((key, timestamp_ms), payload) in heads.into_iter().zip(payloads) {
                let key = key.map(u32::to_be_bytes);
                let mut record = BaseRecord::with_opaque_to(&topic, Arc::clone(&waiting)).payload(&payload[..]);
                record = record.partition(partition).timestamp(timestamp_ms);
                record.key = key.as_ref().map(<[u8; 4]>::as_slice);
                while let Err((error, back)) = producer.send(record) {
                    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                        return Err(send_error("refused", error));
                    }
                    record = back;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            drop(waiting);
            outcome.await.map_err(|error| send_error("gone", error))?
        })
    }

    fn flush(&mut self) -> futures_util::future::BoxFuture<'_, ()> {
        let producer = Arc::clone(&self.producer);
        Box::pin(async move {
            let flushed = tokio::task::spawn_blocking(move || producer.flush(FLUSH)).await;
            if let Ok(Err(error)) = flushed {
                tracing::debug!(%error, "records are still under way");
            }
        })
    }
}
