//! NATS JetStream: a file-backed stream for each partition, published to without waiting for single
//! acknowledgements, on a connection to the stream's leader.
//!
//! The address may say where a server's monitoring is (`?monitor=host:port`), which alone tells how
//! often the stream is synchronised to the disk.

use std::time::Duration;

use async_nats::{
    Client, ConnectOptions, Subject,
    jetstream::{
        self, Context,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::{Config, StorageType},
    },
};
use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{
    address::{Address, send_error},
    under_way::{self, Acknowledgement, Turns},
};
use crate::target::{Description, Message, Publisher, SendError, Subscriber, Target, TargetError, Topic};

mod reader;

/// Where [`Address`] may say that the server's monitoring is.
const MONITOR: &str = "monitor";
/// Records that a client holds on their way to the socket.
const CLIENT_CAPACITY: usize = 1 << 16;
/// Acknowledgements that a client waits for at most; the run's window is smaller.
const UNDER_WAY_MAX: usize = 1 << 20;
/// The longest pause between two attempts to connect again.
const RECONNECT_MS_MAX: u64 = 100;

/// Servers with JetStream.
#[derive(Debug)]
pub struct Nats {
    address: Address,
}

impl Nats {
    /// Reads the address.
    ///
    /// # Errors
    /// It is none.
    pub fn new(address: &str) -> Result<Self, TargetError> {
        Ok(Self { address: Address::parse(address, &[MONITOR])? })
    }

    /// A connection to the first of these hosts that answers.
    async fn connect(&self, hosts: &[String]) -> Result<Client, TargetError> {
        let mut options = ConnectOptions::new()
            .client_capacity(CLIENT_CAPACITY)
            .subscription_capacity(CLIENT_CAPACITY)
            .request_timeout(Some(self.address.timeout()))
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(
                    u64::try_from(attempts).unwrap_or(u64::MAX).saturating_mul(10).min(RECONNECT_MS_MAX),
                )
            })
            .retain_servers_order();
        if let Some((user, password)) = self.address.user.clone() {
            options = options.user_and_password(user, password);
        }
        let hosts: Vec<String> = hosts.iter().map(|host| format!("nats://{host}")).collect();
        options.connect(hosts).await.map_err(|error| self.address.unreachable(error))
    }

    fn context(&self, client: Client) -> Context {
        let builder = jetstream::ContextBuilder::new();
        builder.timeout(self.address.timeout()).max_ack_inflight(UNDER_WAY_MAX).build(client)
    }

    /// The hosts, that of the stream's leader first.
    async fn leader_first(&self, context: &Context, stream: &str) -> Result<Vec<String>, TargetError> {
        let refused = |error| self.address.refused("tell about the stream", error);
        let stream = context.get_stream(stream).await.map_err(refused)?;
        let leader = stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone());
        let mut hosts = self.address.hosts.clone();
        if let Some(leader) = leader {
            for (place, host) in self.address.hosts.iter().enumerate() {
                let Ok(client) = self.connect(std::slice::from_ref(host)).await else { continue };
                if client.server_info().server_name == leader {
                    hosts.swap(0, place);
                    break;
                }
            }
        }
        Ok(hosts)
    }

    async fn prepare(&self, topic: &Topic) -> Result<Description, TargetError> {
        let client = self.connect(&self.address.hosts).await?;
        let version = client.server_info().version;
        let context = self.context(client);
        let mut replicas = 0;
        for partition in 0..topic.partitions.max(1) {
            let name = stream_name(topic, partition);
            let config = Config {
                subjects: vec![name.clone(), format!("{name}.*")],
                name,
                storage: StorageType::File,
                num_replicas: topic.replicas as usize,
                ..Config::default()
            };
            let made = context.get_or_create_stream(config).await;
            let made = made.map_err(|error| self.address.refused("make a stream", error))?;
            replicas = u32::try_from(made.cached_info().config.num_replicas).unwrap_or(u32::MAX);
        }
        let quorum = if replicas > 1 { format!("a quorum of {replicas} servers") } else { "the server".to_owned() };
        Ok(Description {
            name: "NATS JetStream".to_owned(),
            version,
            client: "async-nats, JetStream publishes under way together, connected to the stream's leader".to_owned(),
            durability: format!("written to files by {quorum}; {}", self.flushing().await),
            replicas,
            address: self.address.text.clone(),
        })
    }

    /// When files are synchronised to the disk, as the server's monitoring says.
    async fn flushing(&self) -> String {
        let Some(monitor) = self.address.option(MONITOR) else {
            return "how often they are flushed a server does not tell its clients (sync_interval, 2m by default)"
                .to_owned();
        };
        match varz(monitor).await {
            Ok(Varz { jetstream: JetStream { config } }) if config.sync_always => {
                "flushed before the acknowledgement (sync_interval: always)".to_owned()
            }
            Ok(Varz { jetstream: JetStream { config } }) => {
                let seconds = Duration::from_nanos(config.sync_interval).as_secs();
                format!("page cache, flushed every {seconds} s (sync_interval)")
            }
            Err(error) => format!("its monitoring at {monitor} does not say when they are flushed: {error}"),
        }
    }
}

/// The stream of a partition; a stream's name has no dots.
fn stream_name(topic: &Topic, partition: u32) -> String {
    format!("{}-{partition}", topic.name.replace('.', "_"))
}

#[derive(serde::Deserialize)]
struct Varz {
    jetstream: JetStream,
}

#[derive(serde::Deserialize)]
struct JetStream {
    config: JetStreamConfig,
}

#[derive(serde::Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_interval: u64,
    #[serde(default)]
    sync_always: bool,
}

async fn varz(monitor: &str) -> Result<Varz, reqwest::Error> {
    reqwest::get(format!("http://{monitor}/varz")).await?.error_for_status()?.json().await
}

impl Target for Nats {
    fn prepare<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>> {
        Box::pin(self.prepare(topic))
    }

    fn publisher<'a>(&'a self, topic: &'a Topic, index: u32) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>> {
        Box::pin(async move {
            let context = self.context(self.connect(&self.address.hosts).await?);
            let hosts = self.leader_first(&context, &stream_name(topic, index % topic.partitions.max(1))).await?;
            let context = self.context(self.connect(&hosts).await?);
            let subjects = (0..topic.partitions.max(1)).map(|partition| Subject::from(stream_name(topic, partition)));
            let turns = Turns::new(topic.partitions, topic.partition, index);
            let publisher = Sender { context, subjects: subjects.collect(), turns, record_bytes: topic.record_bytes };
            Ok(Box::new(publisher) as Box<dyn Publisher>)
        })
    }

    fn subscriber<'a>(
        &'a self,
        topic: &'a Topic,
        index: u32,
        count: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(async move {
            let context = self.context(self.connect(&self.address.hosts).await?);
            let streams = under_way::shared(topic.partitions, index, count);
            let streams = streams.into_iter().map(|partition| stream_name(topic, partition)).collect();
            reader::subscribe(context, self.address.clone(), streams, topic.group.clone(), reader::From::Now).await
        })
    }

    fn replay<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(async move {
            let context = self.context(self.connect(&self.address.hosts).await?);
            let streams = (0..topic.partitions.max(1)).map(|partition| stream_name(topic, partition)).collect();
            reader::subscribe(context, self.address.clone(), streams, None, reader::From::Beginning).await
        })
    }

    fn clean<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let context = self.context(self.connect(&self.address.hosts).await?);
            for partition in 0..topic.partitions.max(1) {
                let removed = context.delete_stream(stream_name(topic, partition)).await;
                removed.map_err(|error| self.address.refused("remove a stream", error))?;
            }
            Ok(())
        })
    }
}

struct Sender {
    context: Context,
    subjects: Vec<Subject>,
    turns: Turns,
    record_bytes: usize,
}

impl Publisher for Sender {
    fn send(&mut self, batch: &[Message], filling: &[u8]) -> Acknowledgement {
        let context = self.context.clone();
        let subject = self.subjects[self.turns.next() as usize].clone();
        let keys: Vec<Option<u32>> = batch.iter().map(|message| message.key).collect();
        let payloads = under_way::payloads(batch, filling, self.record_bytes);
        under_way::start(publish(context, subject, keys, payloads))
    }
}

/// Sends all, then waits for all.
async fn publish(
    context: Context,
    subject: Subject,
    keys: Vec<Option<u32>>,
    payloads: impl Iterator<Item = Bytes>,
) -> Result<(), SendError> {
    let mut acknowledgements = Vec::with_capacity(keys.len());
    for (key, payload) in keys.into_iter().zip(payloads) {
        let subject = key.map_or_else(|| subject.clone(), |key| Subject::from(format!("{subject}.k{key}")));
        let message = PublishMessage::build().payload(payload);
        acknowledgements.push(context.send_publish(subject, message).await.map_err(error_of)?);
    }
    for acknowledgement in acknowledgements {
        acknowledgement.await.map_err(error_of)?;
    }
    Ok(())
}

fn error_of(error: PublishError) -> SendError {
    let kind = match error.kind() {
        PublishErrorKind::TimedOut => "timed out",
        PublishErrorKind::StreamNotFound => "no leader",
        PublishErrorKind::BrokenPipe => "connection",
        _ => "refused",
    };
    send_error(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_said_at_once() {
        // Bound and closed again: nobody listens.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = Nats::new(&format!("nats://127.0.0.1:{port}")).unwrap();
        let topic = Topic::plain();
        let said = target.prepare(&topic).await.unwrap_err().to_string();
        assert!(said.starts_with(&format!("127.0.0.1:{port} does not answer: ")), "{said}");
    }
}
