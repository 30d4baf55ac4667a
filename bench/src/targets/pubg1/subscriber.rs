//! Reads partitions from their leaders: a read of each is always under way.

use std::{borrow::Cow, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use pubg1_model::record_batch::BatchIter;
use serde::Deserialize;

use super::{
    cluster::Leader,
    delivery::Client,
    http::{Connection, Request},
};
use crate::target::{Subscriber, TargetError};

/// How long the broker waits for a record.
const BROKER_WAIT: Duration = Duration::from_secs(1);
/// The most that one read brings.
const FETCH_BYTES: usize = 4 << 20;
/// The most that a decoded batch may take.
const DECODED_BYTES_MAX: usize = 256 << 20;
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(5);

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Beginning,
    End,
}

/// A partition and how far it is read.
struct Cursor {
    partition: u32,
    offset: u64,
    connection: Option<(Leader, Connection)>,
}

/// What a read brought, from which offset on it counts, and where to go on.
struct Fetched {
    cursor: Cursor,
    from: u64,
    result: Result<Bytes, TargetError>,
}

/// Reads some partitions.
pub(super) struct PartitionSubscriber {
    client: Arc<Client>,
    reads: FuturesUnordered<BoxFuture<'static, Fetched>>,
    /// A read that was through when it was only to be put on its way.
    early: Option<Fetched>,
}

impl PartitionSubscriber {
    pub(super) async fn new(client: Arc<Client>, partitions: &[u32], start: Start) -> Result<Self, TargetError> {
        #[derive(Deserialize)]
        struct Offsets {
            beginning_offset: u64,
            end_offset: u64,
        }
        let reads = FuturesUnordered::new();
        for partition in partitions.iter().copied() {
            let request = Request::get(&format!("/topics/{}/partitions/{partition}/offsets", client.topic));
            let answer = client.cluster.ask(&request, OFFSETS_TIMEOUT).await?;
            let offsets: Offsets = client.cluster.decode(&answer)?;
            let offset = if start == Start::End { offsets.end_offset } else { offsets.beginning_offset };
            reads.push(read(Arc::clone(&client), Cursor { partition, offset, connection: None }));
        }
        Ok(Self { client, reads, early: None })
    }
}

/// Reads on, and says how far.
fn read(client: Arc<Client>, mut cursor: Cursor) -> BoxFuture<'static, Fetched> {
    Box::pin(async move {
        let Cursor { partition, offset, .. } = cursor;
        let request = Request::get(&format!(
            "/topics/{}/partitions/{partition}/batches?offset={offset}&max_bytes={FETCH_BYTES}&wait={}ms",
            client.topic,
            BROKER_WAIT.as_millis()
        ));
        let address = client.cluster.address();
        let asked = client.ask_leader(partition, &request, cursor.connection.take(), BROKER_WAIT).await;
        let result = match asked {
            Ok((answer, leader, connection)) if answer.status == 200 => {
                cursor.connection = Some((leader, connection));
                cursor.offset = answer.next_offset.unwrap_or(offset);
                Ok(answer.body)
            }
            Ok((answer, leader, _)) => Err(super::cluster::refused(&leader.host, &request, &answer)),
            Err(error) => Err(TargetError::Unreachable { address, reason: error.to_string() }),
        };
        if result.is_err() {
            // Nobody may be there to say; then the next read fails, too, and asks again.
            let _learned = client.cluster.learn(&client.topic).await;
        }
        Fetched { cursor, from: offset, result }
    })
}

impl Subscriber for PartitionSubscriber {
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            if self.reads.is_empty() && self.early.is_none() {
                // There are more consumers than partitions.
                tokio::time::sleep(wait).await;
                return Ok(());
            }
            let fetched = match self.early.take() {
                Some(early) => Some(early),
                None => tokio::time::timeout(wait, self.reads.next()).await.unwrap_or_default(),
            };
            let Some(Fetched { cursor, from, result }) = fetched else { return Ok(()) };
            self.reads.push(read(Arc::clone(&self.client), cursor));
            // The next read is on its way while these records are looked at.
            if let Poll::Ready(early) = poll_fn(|context| Poll::Ready(self.reads.poll_next_unpin(context))).await {
                self.early = early;
            }
            records_of(&result?, from, each);
            Ok(())
        })
    }
}

/// Gives the payload of each record from an offset on to `each`.
fn records_of(bytes: &[u8], from: u64, each: &mut (dyn FnMut(&[u8]) + Send)) {
    for batch in BatchIter::unchecked(bytes).flatten() {
        let Ok(decoded) = batch.decode(DECODED_BYTES_MAX) else { continue };
        for record in decoded.records().flatten().filter(|record| record.offset.get() >= from) {
            if let Some(value) = record.value {
                each(&payload(value));
            }
        }
    }
}

/// The stamp of a record that was published as a JSON object; any other value as it is.
pub(super) fn payload(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.starts_with(b"{\"partition\":") {
        return Cow::Borrowed(value);
    }
    let (Some(due), Some(number)) = (member(value, b"\"due\":"), member(value, b"\"number\":")) else {
        return Cow::Borrowed(value);
    };
    let mut stamped = Vec::with_capacity(value.len());
    stamped.extend_from_slice(&due.to_le_bytes());
    stamped.extend_from_slice(&number.to_le_bytes());
    // As long as the value, so that bytes are counted alike.
    stamped.resize(value.len().max(stamped.len()), b' ');
    Cow::Owned(stamped)
}

/// The number that follows a name.
fn member(value: &[u8], name: &[u8]) -> Option<u64> {
    let at = value.windows(name.len()).position(|window| window == name)? + name.len();
    let digits = value[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&value[at..at + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::cluster::Cluster, *};

    #[tokio::test]
    async fn a_read_that_was_through_at_once_is_not_forgotten_though_no_other_is_under_way() {
        let cluster = Arc::new(Cluster::new("http://127.0.0.1:1").unwrap());
        let client = Arc::new(Client::new(cluster, "t", Duration::ZERO));
        let cursor = Cursor { partition: 0, offset: 7, connection: None };
        let result = Err(TargetError::Unsupported("it was through".to_owned()));
        let early = Some(Fetched { cursor, from: 7, result });
        let mut subscriber = PartitionSubscriber { client, reads: FuturesUnordered::new(), early };
        let received = subscriber.receive(Duration::ZERO, &mut |_| {}).await;
        assert_eq!(received.unwrap_err().to_string(), "it was through");
        assert_eq!((subscriber.reads.len(), subscriber.early.is_none()), (1, true), "and the next one is on its way");
    }
}
