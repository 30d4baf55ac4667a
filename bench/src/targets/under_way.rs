//! Batches that are on their way before anybody waits for them.

use std::{
    future::Future,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::BoxFuture};

use crate::target::{Message, SendError};

/// What a publisher answers.
pub(crate) type Acknowledgement = BoxFuture<'static, Result<(), SendError>>;

/// Runs the future as far as it goes without waiting, so that the batch leaves at once and in order.
pub(crate) fn start(future: impl Future<Output = Result<(), SendError>> + Send + 'static) -> Acknowledgement {
    let mut future = future.boxed();
    // Nobody is woken by this: whoever waits for the rest polls it first.
    match future.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => std::future::ready(outcome).boxed(),
        Poll::Pending => future,
    }
}

/// The payloads of a batch, in one piece of memory.
pub(crate) fn payloads(batch: &[Message], filling: &[u8], record_bytes: usize) -> impl Iterator<Item = Bytes> + use<> {
    let mut all = BytesMut::zeroed(batch.len() * record_bytes);
    for (message, payload) in batch.iter().zip(all.chunks_exact_mut(record_bytes.max(1))) {
        message.write(filling, payload);
    }
    let mut all = all.freeze();
    (0..batch.len()).map(move |_| all.split_to(record_bytes))
}

/// Which partition the next batch goes to.
#[derive(Debug)]
pub(crate) struct Turns {
    partitions: Vec<u32>,
    next: usize,
}

impl Turns {
    /// Over all partitions, or the only one; publishers begin at different ones.
    pub(crate) fn new(partitions: u32, only: Option<u32>, publisher: u32) -> Self {
        let partitions: Vec<u32> = only.map_or_else(|| (0..partitions.max(1)).collect(), |only| vec![only]);
        let next = publisher as usize % partitions.len();
        Self { partitions, next }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u32 {
        let partition = self.partitions[self.next];
        self.next = (self.next + 1) % self.partitions.len();
        partition
    }
}

/// The partitions that are read by one of so many subscribers.
pub(crate) fn shared(partitions: u32, index: u32, count: u32) -> Vec<u32> {
    (0..partitions.max(1)).filter(|partition| partition % count.max(1) == index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_written_into_equal_payloads() {
        let batch: Vec<Message> =
            (0..3).map(|number| Message { due_ns: number * 10, timestamp_ms: 0, number, key: None }).collect();
        let payloads: Vec<Bytes> = payloads(&batch, &[b'x'; 100], 20).collect();
        assert_eq!(payloads.len(), 3);
        for (number, payload) in (0..).zip(&payloads) {
            assert_eq!((payload.len(), Message::read_stamp(payload)), (20, Some((number * 10, number))));
            assert_eq!(payload[16..], *b"xxxx");
        }
    }

    #[test]
    fn partitions_are_dealt_out_in_turns() {
        let mut turns = Turns::new(3, None, 1);
        assert_eq!([turns.next(), turns.next(), turns.next(), turns.next()], [1, 2, 0, 1]);
        let mut turns = Turns::new(3, Some(2), 1);
        assert_eq!([turns.next(), turns.next()], [2, 2]);
        assert_eq!((shared(5, 0, 2), shared(5, 1, 2), shared(1, 1, 2)), (vec![0, 2, 4], vec![1, 3], vec![]));
    }

    #[tokio::test]
    async fn a_batch_leaves_before_anybody_waits() {
        let (left, mut seen) = tokio::sync::oneshot::channel();
        let (acknowledge, acknowledged) = tokio::sync::oneshot::channel::<()>();
        let waiting = start(async move {
            left.send(()).unwrap();
            acknowledged.await.map_err(|error| SendError { kind: "gone".into(), reason: error.to_string() })
        });
        seen.try_recv().unwrap();
        acknowledge.send(()).unwrap();
        waiting.await.unwrap();
    }
}
