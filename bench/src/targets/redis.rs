//! Redis Streams: a stream for each partition, published to in pipelines of `XADD`; `WAIT` behind
//! each pipeline where replicas were asked for.
//!
//! A `WAIT` is no more than a wait: a write that came too late for it stays, and a server that takes
//! over from another may not have it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, InfoDict, RedisError, aio::MultiplexedConnection};

use self::{reader::Reader, writer::Connection};
use super::{
    address::Address,
    under_way::{self, Acknowledgement, Turns},
};
use crate::target::{Acks, Description, Message, Publisher, Subscriber, Target, TargetError, Topic};

mod reader;
mod writer;

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections of a publisher: a `WAIT` holds up whatever comes behind it on its connection.
const CONNECTIONS: usize = 4;

/// A primary, whatever replicas it has.
#[derive(Debug)]
pub struct Redis {
    address: Address,
}

impl Redis {
    /// Reads the address.
    ///
    /// # Errors
    /// It is none.
    pub fn new(address: &str) -> Result<Self, TargetError> {
        Ok(Self { address: Address::parse(address, &[])? })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, TargetError> {
        connect(&self.address).await.map_err(|error| self.address.unreachable(error))
    }

    async fn prepare(&self, topic: &Topic) -> Result<Description, TargetError> {
        let mut connection = self.connect().await?;
        let refused = |error: RedisError| self.address.refused("tell about itself", error);
        let info: InfoDict = redis::cmd("INFO").query_async(&mut connection).await.map_err(refused)?;
        let version: String = info.get("redis_version").unwrap_or_default();
        let replicas = 1 + info.get::<u32>("connected_slaves").unwrap_or_default();
        if replicas < topic.replicas {
            let reason = format!("it has {replicas} with its own");
            return Err(self.address.refused(&format!("keep {} replicas", topic.replicas), reason));
        }
        let waits = waits_for(topic);
        let acknowledged = match waits {
            0 => "the primary".to_owned(),
            1 => "the primary and, as WAIT says, one replica".to_owned(),
            more => format!("the primary and, as WAIT says, {more} replicas"),
        };
        Ok(Description {
            name: "Redis Streams".to_owned(),
            version,
            client: format!("redis, pipelines of XADD on {CONNECTIONS} connections of each publisher"),
            durability: format!("in memory of {acknowledged}; {}", flushing(&mut connection).await),
            replicas,
            address: self.address.hosts.join(","),
        })
    }
}

/// Replicas that an acknowledgement waits for: with the primary, a quorum.
fn waits_for(topic: &Topic) -> u32 {
    if topic.acks == Acks::All { topic.replicas / 2 } else { 0 }
}

/// When the append-only file is written and flushed.
async fn flushing(connection: &mut MultiplexedConnection) -> String {
    if setting(connection, "appendonly").await.as_deref() != Some("yes") {
        return "nothing is on disk when it is acknowledged (appendonly no)".to_owned();
    }
    match setting(connection, "appendfsync").await.as_deref() {
        Some("always") => "append-only file flushed before the acknowledgement (appendfsync always)".to_owned(),
        Some("no") => "append-only file in the page cache (appendfsync no)".to_owned(),
        Some(other) => format!("append-only file in the page cache, flushed later (appendfsync {other})"),
        None => "append-only file".to_owned(),
    }
}

async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Option<String> {
    let answer = redis::cmd("CONFIG").arg("GET").arg(name).query_async::<Vec<String>>(connection).await;
    answer.ok()?.into_iter().nth(1)
}

/// A connection to the first of the hosts.
async fn connect(address: &Address) -> Result<MultiplexedConnection, RedisError> {
    let host = address.hosts.first().map(String::as_str).unwrap_or_default();
    let user = address.user.as_ref().map(|(name, password)| format!("{name}:{password}@")).unwrap_or_default();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(address.timeout()));
    let client = Client::open(format!("redis://{user}{host}"))?;
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn stream_name(topic: &Topic, partition: u32) -> String {
    format!("{}-{partition}", topic.name)
}

fn stream_names(topic: &Topic) -> Vec<String> {
    (0..topic.partitions.max(1)).map(|partition| stream_name(topic, partition)).collect()
}

/// The last identifier of a stream; one that is not there yet has none.
async fn last_of(connection: &mut MultiplexedConnection, stream: &str) -> Result<String, RedisError> {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let found: redis::Value = command.query_async(connection).await?;
    let redis::Value::Array(entries) = found else { return Ok("0-0".to_owned()) };
    match entries.into_iter().next() {
        Some(redis::Value::Array(entry)) if !entry.is_empty() => Ok(String::from_redis_value_ref(&entry[0])?),
        _ => Ok("0-0".to_owned()),
    }
}

impl Target for Redis {
    fn prepare<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>> {
        Box::pin(self.prepare(topic))
    }

    fn publisher<'a>(&'a self, topic: &'a Topic, index: u32) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>> {
        Box::pin(async move {
            let mut connections = Vec::with_capacity(CONNECTIONS);
            for _ in 0..CONNECTIONS {
                connections.push(Connection::new(self.address.clone(), self.connect().await?, waits_for(topic)));
            }
            let publisher = Sender {
                connections,
                next: 0,
                streams: stream_names(topic),
                turns: Turns::new(topic.partitions, topic.partition, index),
                record_bytes: topic.record_bytes,
            };
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
            let mut connection = self.connect().await?;
            let mut from = Vec::new();
            for partition in under_way::shared(topic.partitions, index, count) {
                let stream = stream_name(topic, partition);
                let last = last_of(&mut connection, &stream).await;
                from.push((stream, last.map_err(|error| self.address.refused("subscribe", error))?));
            }
            let group = topic.group.as_ref().map(|group| (group.clone(), format!("{group}-{index}")));
            let reader = Reader::open(self.address.clone(), connection, from, group).await;
            let reader = reader.map_err(|error| self.address.refused("subscribe", error))?;
            Ok(Box::new(reader) as Box<dyn Subscriber>)
        })
    }

    fn replay<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(async move {
            let from = stream_names(topic).into_iter().map(|stream| (stream, "0-0".to_owned())).collect();
            let reader = Reader::open(self.address.clone(), self.connect().await?, from, None).await;
            let reader = reader.map_err(|error| self.address.refused("subscribe", error))?;
            Ok(Box::new(reader) as Box<dyn Subscriber>)
        })
    }

    fn clean<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let mut connection = self.connect().await?;
            let removed = redis::cmd("UNLINK").arg(stream_names(topic)).exec_async(&mut connection).await;
            removed.map_err(|error| self.address.refused("remove the streams", error))
        })
    }
}

struct Sender {
    connections: Vec<Connection>,
    next: usize,
    streams: Vec<String>,
    turns: Turns,
    record_bytes: usize,
}

impl Publisher for Sender {
    fn send(&mut self, batch: &[Message], filling: &[u8]) -> Acknowledgement {
        let stream = &self.streams[self.turns.next() as usize];
        self.next = (self.next + 1) % self.connections.len();
        let mut payload = vec![0; self.record_bytes];
        let mut pipeline = redis::Pipeline::with_capacity(batch.len() + 1);
        for message in batch {
            message.write(filling, &mut payload);
            let added = pipeline.cmd("XADD").arg(stream).arg("*").arg("v").arg(&payload);
            if let Some(key) = message.key {
                added.arg("k").arg(key);
            }
            added.ignore();
        }
        self.connections[self.next].send(pipeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        Topic { replicas: 3, ..Topic::plain() }
    }

    #[tokio::test]
    async fn nobody_there_is_said_at_once() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = Redis::new(&format!("redis://127.0.0.1:{port}")).unwrap();
        let said = Target::prepare(&target, &topic()).await.unwrap_err().to_string();
        assert!(said.starts_with(&format!("127.0.0.1:{port} does not answer: ")), "{said}");
    }

    #[test]
    fn a_quorum_is_the_primary_and_half_of_all() {
        assert_eq!(waits_for(&topic()), 1);
        assert_eq!(waits_for(&Topic { replicas: 5, ..topic() }), 2);
        assert_eq!(waits_for(&Topic { replicas: 1, ..topic() }), 0);
        assert_eq!(waits_for(&Topic { acks: Acks::Leader, ..topic() }), 0);
    }
}
