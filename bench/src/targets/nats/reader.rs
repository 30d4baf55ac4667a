//! Reads streams by pull consumers: ephemeral ones, or one of the group's name that all share.

use std::time::Duration;

use async_nats::jetstream::{
    self, Context,
    consumer::{AckPolicy, DeliverPolicy, pull},
};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, select_all},
};

use super::super::address::Address;
use crate::target::{Subscriber, TargetError};

/// Records that a pull asks for.
const PULL: usize = 5_000;
/// Until a consumer whose server is gone is looked for again.
const PAUSE: Duration = Duration::from_millis(50);

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    /// At the first record.
    Beginning,
    /// At the next to come.
    Now,
}

/// A subscriber to all of these streams.
pub(super) async fn subscribe(
    context: Context,
    address: Address,
    streams: Vec<String>,
    group: Option<String>,
    from: From,
) -> Result<Box<dyn Subscriber>, TargetError> {
    let mut sources = Vec::with_capacity(streams.len());
    for name in streams {
        let policy = match from {
            From::Beginning => DeliverPolicy::All,
            From::Now => DeliverPolicy::New,
        };
        let mut source = Source { name, group: group.clone(), policy, messages: None };
        source.open(&context).await.map_err(|reason| address.refused("make a consumer", reason))?;
        sources.push(source);
    }
    Ok(Box::new(Reader { context, sources }))
}

struct Reader {
    context: Context,
    sources: Vec<Source>,
}

/// One stream.
struct Source {
    name: String,
    group: Option<String>,
    /// Where a new consumer begins.
    policy: DeliverPolicy,
    messages: Option<pull::Stream>,
}

impl Source {
    async fn open(&mut self, context: &Context) -> Result<(), String> {
        let stream = context.get_stream_no_info(&self.name).await.map_err(|error| error.to_string())?;
        let consumer = match &self.group {
            Some(group) => {
                let config = pull::Config {
                    durable_name: Some(group.clone()),
                    deliver_policy: self.policy,
                    ack_policy: AckPolicy::All,
                    max_ack_pending: -1,
                    ..pull::Config::default()
                };
                stream.get_or_create_consumer(group, config).await.map_err(|error| error.to_string())?
            }
            None => {
                let config = pull::Config {
                    deliver_policy: self.policy,
                    ack_policy: AckPolicy::None,
                    ..pull::Config::default()
                };
                stream.create_consumer(config).await.map_err(|error| error.to_string())?
            }
        };
        let messages = consumer.stream().max_messages_per_batch(PULL).messages().await;
        self.messages = Some(messages.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Waits for a record and gives it and all that are there already. `false`: the consumer is gone.
    async fn next(&mut self) -> Option<Vec<jetstream::Message>> {
        let messages = self.messages.as_mut()?;
        let first = messages.next().await?.ok()?;
        let mut all = vec![first];
        while all.len() < PULL
            && let Some(Some(Ok(message))) = messages.next().now_or_never()
        {
            all.push(message);
        }
        Some(all)
    }

    /// Takes a batch: where to go on behind it, and that it was read.
    async fn take(&mut self, batch: &[jetstream::Message]) {
        let Some(last) = batch.last() else { return };
        if let Ok(info) = last.info() {
            self.policy = DeliverPolicy::ByStartSequence { start_sequence: info.stream_sequence + 1 };
        }
        if self.group.is_some() && last.ack().await.is_err() {
            // Read again after a restart of the group: a measurement does not mind.
            self.messages = None;
        }
    }
}

impl Subscriber for Reader {
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let received = tokio::time::timeout(wait, receive_any(&self.context, &mut self.sources)).await;
            if let Ok((place, batch)) = received {
                for message in &batch {
                    each(&message.payload);
                }
                self.sources[place].take(&batch).await;
            }
            Ok(())
        })
    }
}

/// From whichever stream has something first.
async fn receive_any(context: &Context, sources: &mut [Source]) -> (usize, Vec<jetstream::Message>) {
    if sources.is_empty() {
        return std::future::pending().await;
    }
    let each = sources.iter_mut().map(|source| {
        Box::pin(async move {
            loop {
                if source.messages.is_none() && source.open(context).await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                match source.next().await {
                    Some(batch) => return batch,
                    None => source.messages = None,
                }
            }
        })
    });
    let (batch, place, _) = select_all(each).await;
    (place, batch)
}
