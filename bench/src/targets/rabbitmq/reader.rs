//! Reads streams chunk by chunk, with credit for several chunks ahead.

use std::{collections::HashMap, time::Duration};

use futures_util::future::BoxFuture;
use rabbitmq_stream_client::{
    Client,
    types::{MessageResult, OffsetSpecification, ResponseKind},
};
use tokio::sync::mpsc;

use super::{PAUSE, close, connect_to_leader};
use crate::{
    target::{Subscriber, TargetError},
    targets::address::Address,
};

/// The number of the only subscription on a connection.
const SUBSCRIPTION: u8 = 1;
/// Chunks that a broker may send ahead.
const CREDIT: u16 = 32;

/// What a connection brings.
enum Event {
    /// A chunk: the offset of its first record, and the payloads.
    Chunk { first: u64, payloads: Vec<Vec<u8>> },
    /// The connection has ended, or the stream has moved.
    Ended,
}

/// Which connection an event is of: the place of its source, and its number there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Origin {
    place: usize,
    connection: u64,
}

/// Reads one or several streams.
pub(super) struct Reader {
    address: Address,
    group: Option<String>,
    sources: Vec<Source>,
    sender: mpsc::UnboundedSender<(Origin, Event)>,
    events: mpsc::UnboundedReceiver<(Origin, Event)>,
}

struct Source {
    stream: String,
    from: OffsetSpecification,
    /// The first offset that was not read; `None`: nothing was.
    next: Option<u64>,
    /// Where the present connection began: a chunk is sent whole, although its head may be known.
    resumed: u64,
    /// How many connections there were.
    connection: u64,
    client: Option<Client>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        for client in self.sources.iter_mut().filter_map(|source| source.client.take()) {
            runtime.spawn(async move { close(&client).await });
        }
    }
}

impl Reader {
    /// Subscribes to all of these streams.
    pub(super) async fn open(
        address: Address,
        streams: Vec<String>,
        group: Option<String>,
        from_the_beginning: bool,
    ) -> Result<Self, TargetError> {
        let (sender, events) = mpsc::unbounded_channel();
        let mut reader = Self { address, group, sources: Vec::with_capacity(streams.len()), sender, events };
        for (place, stream) in streams.into_iter().enumerate() {
            let from = if from_the_beginning { OffsetSpecification::First } else { OffsetSpecification::Next };
            reader.sources.push(Source { stream, from, next: None, resumed: 0, connection: 0, client: None });
            let opened = reader.connect(place).await;
            opened.map_err(|reason| reader.address.refused("subscribe", reason))?;
        }
        Ok(reader)
    }

    async fn connect(&mut self, place: usize) -> Result<(), String> {
        let source = &mut self.sources[place];
        let client = connect_to_leader(&self.address, &source.stream).await?;
        source.connection += 1;
        source.resumed = source.next.unwrap_or_default();
        let (sender, origin) = (self.sender.clone(), Origin { place, connection: source.connection });
        client
            .set_handler(move |item: MessageResult| async move {
                if let Some(event) = event(item) {
                    // The receiver lives as long as the reader; behind it nobody listens.
                    sender.send((origin, event)).ok();
                }
                Ok(())
            })
            .await;
        let from = match (source.next, &self.group) {
            (Some(next), _) => OffsetSpecification::Offset(next),
            (None, Some(group)) => match client.query_offset(group.clone(), &source.stream).await {
                Ok(stored) => OffsetSpecification::Offset(stored + 1),
                // Nothing was stored in this name.
                Err(_) => source.from.clone(),
            },
            (None, None) => source.from.clone(),
        };
        let answer = client.subscribe(SUBSCRIPTION, &source.stream, from, CREDIT, HashMap::new()).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.is_ok() {
            close(&client).await;
            return Err(format!("{:?}", answer.code()));
        }
        source.client = Some(client);
        Ok(())
    }

    /// Takes one event in.
    async fn take(&mut self, origin: Origin, event: Event, each: &mut (dyn FnMut(&[u8]) + Send)) {
        let source = &mut self.sources[origin.place];
        if source.connection != origin.connection {
            return;
        }
        let Event::Chunk { first, payloads } = event else {
            if let Some(client) = source.client.take() {
                tokio::spawn(async move { close(&client).await });
            }
            return;
        };
        let known = usize::try_from(source.resumed.saturating_sub(first)).unwrap_or(usize::MAX);
        payloads.iter().skip(known).for_each(|payload| each(payload));
        source.next = source.next.max(Some(first + payloads.len() as u64));
        let Some(client) = &source.client else { return };
        if let (Some(group), Some(next)) = (&self.group, source.next)
            && client.store_offset(group, &source.stream, next.saturating_sub(1)).await.is_err()
        {
            tracing::debug!(stream = source.stream, "the offset was not stored");
        }
        if client.credit(SUBSCRIPTION, 1).await.is_err() {
            // Its end is an event of its own.
            tracing::debug!(stream = source.stream, "no credit was given");
        }
    }

    /// The next event, with all streams connected.
    async fn next(&mut self) -> Option<(Origin, Event)> {
        while let Some(place) = self.sources.iter().position(|source| source.client.is_none()) {
            if self.connect(place).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.events.recv().await
    }
}

fn event(item: MessageResult) -> Option<Event> {
    let Some(Ok(response)) = item else { return Some(Event::Ended) };
    match response.kind() {
        ResponseKind::Deliver(chunk) => {
            let payloads = chunk.messages.iter().filter_map(|message| message.data().map(<[u8]>::to_vec));
            Some(Event::Chunk { first: chunk.chunk_first_offset, payloads: payloads.collect() })
        }
        ResponseKind::MetadataUpdate(_) => Some(Event::Ended),
        _ => None,
    }
}

impl Subscriber for Reader {
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let mut next = tokio::time::timeout(wait, self.next()).await.ok().flatten();
            while let Some((origin, event)) = next {
                self.take(origin, event, each).await;
                next = self.events.try_recv().ok();
            }
            Ok(())
        })
    }
}
