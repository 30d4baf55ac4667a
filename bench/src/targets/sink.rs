//! A system that does nothing: record batches are encoded as for a real one, acknowledged at once, and
//! handed to whoever subscribes. What it shows is the load generator's own cost.

use std::{
    future::ready,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pubg1_model::record_batch::BatchIter;
use tokio::sync::mpsc;

use super::pubg1::encode::Encoder;
use crate::target::{Description, Message, Publisher, SendError, Subscriber, Target, TargetError, Topic};

/// The most that a decoded batch may take.
const DECODED_BYTES_MAX: usize = 1 << 30;
/// Batches that a subscriber may lag behind before they are dropped: the sink waits for nobody.
const QUEUE: usize = 4096;

/// The sink.
#[derive(Default)]
pub struct Sink {
    subscribers: Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>,
    records: Arc<AtomicU64>,
}

struct SinkPublisher {
    encoder: Encoder,
    subscribers: Vec<mpsc::Sender<Bytes>>,
    turn: usize,
    records: Arc<AtomicU64>,
}

struct SinkSubscriber(mpsc::Receiver<Bytes>);

impl Sink {
    fn subscribers(&self) -> Vec<mpsc::Sender<Bytes>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Target for Sink {
    fn prepare<'a>(&'a self, _topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>> {
        Box::pin(ready(Ok(Description {
            name: "sink".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            client: "record batches are encoded and dropped".to_owned(),
            durability: "none".to_owned(),
            replicas: 0,
            address: "sink:".to_owned(),
        })))
    }

    fn publisher<'a>(
        &'a self,
        topic: &'a Topic,
        _index: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>> {
        let publisher = SinkPublisher {
            encoder: Encoder::new(topic.record_bytes),
            subscribers: self.subscribers(),
            turn: 0,
            records: Arc::clone(&self.records),
        };
        Box::pin(ready(Ok(Box::new(publisher) as Box<dyn Publisher>)))
    }

    fn subscriber<'a>(
        &'a self,
        _topic: &'a Topic,
        _index: u32,
        _count: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Box::pin(ready(Ok(Box::new(SinkSubscriber(receiver)) as Box<dyn Subscriber>)))
    }

    fn replay<'a>(&'a self, _topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(ready(Err(TargetError::Unsupported("the sink keeps nothing that could be read again".to_owned()))))
    }

    fn clean<'a>(&'a self, _topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Box::pin(ready(Ok(())))
    }
}

impl Publisher for SinkPublisher {
    fn send(&mut self, batch: &[Message], filling: &[u8]) -> BoxFuture<'static, Result<(), SendError>> {
        let encoded = self.encoder.encode(batch, filling);
        let result = encoded.map(|bytes| {
            self.records.fetch_add(batch.len() as u64, Ordering::Relaxed);
            if !self.subscribers.is_empty() {
                self.turn = (self.turn + 1) % self.subscribers.len();
                // A subscriber that is too far behind, or gone, misses it.
                let _missed = self.subscribers[self.turn].try_send(bytes);
            }
        });
        Box::pin(ready(result))
    }
}

impl Subscriber for SinkSubscriber {
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let Ok(Some(bytes)) = tokio::time::timeout(wait, self.0.recv()).await else { return Ok(()) };
            for batch in BatchIter::unchecked(&bytes).flatten() {
                let Ok(decoded) = batch.decode(DECODED_BYTES_MAX) else { continue };
                decoded.records().flatten().filter_map(|record| record.value).for_each(&mut *each);
            }
            Ok(())
        })
    }
}
