//! RabbitMQ Streams: a stream for each partition, published to in frames of a batch each over the
//! stream protocol, on a connection to the stream's leader; confirms are counted by batch.
//!
//! The client's raw interface is used: its producer looks up and boxes every record once more.

use std::{collections::HashMap, time::Duration};

use futures_util::future::BoxFuture;
use rabbitmq_stream_client::{Client, ClientOptions, types::StreamMetadata};

use self::{reader::Reader, writer::Writer};
use super::{
    address::{Address, host_and_port},
    under_way::{self, Acknowledgement, Turns},
};
use crate::target::{Description, Message, Publisher, Subscriber, Target, TargetError, Topic};

mod confirms;
mod reader;
mod writer;

/// Until a stream that was made just now, or has lost its leader, is looked at again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(5);

/// Brokers with the stream plugin.
#[derive(Debug)]
pub struct RabbitMq {
    address: Address,
}

impl RabbitMq {
    /// Reads the address.
    ///
    /// # Errors
    /// It is none.
    pub fn new(address: &str) -> Result<Self, TargetError> {
        Ok(Self { address: Address::parse(address, &[])? })
    }

    async fn prepare(&self, topic: &Topic) -> Result<Description, TargetError> {
        let client = connect_any(&self.address).await.map_err(|reason| self.address.unreachable(reason))?;
        let version = client.server_properties().await.remove("version").unwrap_or_default();
        let mut replicas = 0;
        for partition in 0..topic.partitions.max(1) {
            let name = stream_name(topic, partition);
            let options = HashMap::from([
                ("initial-cluster-size".to_owned(), topic.replicas.to_string()),
                ("queue-leader-locator".to_owned(), "least-leaders".to_owned()),
            ]);
            let made = client.create_stream(&name, options).await;
            let made = made.map_err(|error| self.address.refused("make a stream", error))?;
            if !made.is_ok() && self.metadata(&client, &name).await.is_err() {
                return Err(self.address.refused("make a stream", format!("{:?}", made.code())));
            }
            let found = tokio::time::timeout(self.address.timeout(), async {
                loop {
                    match self.metadata(&client, &name).await {
                        Ok(found) if found.replicas.len() + 1 >= topic.replicas as usize => return found,
                        _ => tokio::time::sleep(PAUSE).await,
                    }
                }
            });
            let found = found.await.map_err(|_| {
                self.address.refused("make a stream", format!("{name} has no {} replicas", topic.replicas))
            })?;
            replicas = u32::try_from(found.replicas.len() + 1).unwrap_or(u32::MAX);
        }
        close(&client).await;
        let quorum = if replicas > 1 { format!("a quorum of {replicas} brokers") } else { "the broker".to_owned() };
        Ok(Description {
            name: "RabbitMQ Streams".to_owned(),
            version,
            client: "rabbitmq-stream-client, stream protocol, a frame for each batch, connected to the leader"
                .to_owned(),
            durability: format!("page cache of {quorum}: streams are not flushed before a confirm"),
            replicas,
            address: self.address.hosts.join(","),
        })
    }

    async fn metadata(&self, client: &Client, stream: &str) -> Result<StreamMetadata, TargetError> {
        leader_of(client, stream).await.map_err(|reason| self.address.refused("tell about a stream", reason))
    }
}

/// A stream with a leader.
async fn leader_of(client: &Client, stream: &str) -> Result<StreamMetadata, String> {
    let found = tokio::time::timeout(CONNECT, client.metadata(vec![stream.to_owned()])).await;
    let found = found.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?.remove(stream);
    found.ok_or_else(|| format!("{stream} has no leader"))
}

/// A connection to any of the hosts.
async fn connect_any(address: &Address) -> Result<Client, String> {
    let mut said = String::new();
    for host in &address.hosts {
        let Some((host, port)) = host_and_port(host) else { continue };
        match connect(address, host, port).await {
            Ok(client) => return Ok(client),
            Err(reason) => said = reason,
        }
    }
    Err(said)
}

async fn connect(address: &Address, host: &str, port: u16) -> Result<Client, String> {
    let mut options = ClientOptions::builder().host(host).port(port);
    if let Some((user, password)) = &address.user {
        options = options.user(user).password(password);
    }
    let connected = tokio::time::timeout(CONNECT, Client::connect(options.build())).await;
    connected.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// A connection to the stream's leader.
async fn connect_to_leader(address: &Address, stream: &str) -> Result<Client, String> {
    let any = connect_any(address).await?;
    let leader = leader_of(&any, stream).await;
    close(&any).await;
    let leader = leader?.leader;
    let port = u16::try_from(leader.port).map_err(|error| error.to_string())?;
    connect(address, &leader.host, port).await
}

/// Ends a connection; one that is broken has ended.
async fn close(client: &Client) {
    if let Ok(Err(error)) = tokio::time::timeout(CONNECT, client.close()).await {
        tracing::debug!(%error, "a connection was broken");
    }
}

fn stream_name(topic: &Topic, partition: u32) -> String {
    format!("{}-{partition}", topic.name)
}

impl Target for RabbitMq {
    fn prepare<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>> {
        Box::pin(self.prepare(topic))
    }

    fn publisher<'a>(&'a self, topic: &'a Topic, index: u32) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>> {
        Box::pin(async move {
            let mut writers = Vec::new();
            for partition in 0..topic.partitions.max(1) {
                // A partition that is not written to needs no connection.
                if topic.partition.is_none_or(|only| only == partition) {
                    let stream = stream_name(topic, partition);
                    let writer = Writer::open(self.address.clone(), stream, topic.record_bytes).await;
                    writers.push(writer.map_err(|reason| self.address.refused("publish", reason))?);
                }
            }
            let turns = Turns::new(u32::try_from(writers.len()).unwrap_or(u32::MAX), None, index);
            Ok(Box::new(Sender { writers, turns }) as Box<dyn Publisher>)
        })
    }

    fn subscriber<'a>(
        &'a self,
        topic: &'a Topic,
        index: u32,
        count: u32,
    ) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(async move {
            let partitions = under_way::shared(topic.partitions, index, count);
            let streams = partitions.into_iter().map(|partition| stream_name(topic, partition)).collect();
            let reader = Reader::open(self.address.clone(), streams, topic.group.clone(), false).await?;
            Ok(Box::new(reader) as Box<dyn Subscriber>)
        })
    }

    fn replay<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(async move {
            let streams = (0..topic.partitions.max(1)).map(|partition| stream_name(topic, partition)).collect();
            let reader = Reader::open(self.address.clone(), streams, None, true).await?;
            Ok(Box::new(reader) as Box<dyn Subscriber>)
        })
    }

    fn clean<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let client = connect_any(&self.address).await.map_err(|reason| self.address.unreachable(reason))?;
            for partition in 0..topic.partitions.max(1) {
                let removed = client.delete_stream(&stream_name(topic, partition)).await;
                removed.map_err(|error| self.address.refused("remove a stream", error))?;
            }
            close(&client).await;
            Ok(())
        })
    }
}

struct Sender {
    writers: Vec<Writer>,
    turns: Turns,
}

impl Publisher for Sender {
    fn send(&mut self, batch: &[Message], filling: &[u8]) -> Acknowledgement {
        self.writers[self.turns.next() as usize].send(batch, filling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_said_at_once() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = RabbitMq::new(&format!("rabbitmq-stream://guest:guest@127.0.0.1:{port}")).unwrap();
        let topic = Topic::plain();
        let said = Target::prepare(&target, &topic).await.unwrap_err().to_string();
        assert!(said.starts_with(&format!("127.0.0.1:{port} does not answer: ")), "{said}");
    }
}
