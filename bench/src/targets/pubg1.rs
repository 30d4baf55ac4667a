//! PubG1 itself, over HTTP: records go straight to the broker that leads their partition.

mod cluster;
mod delivery;
pub(crate) mod encode;
mod group;
mod http;
mod publisher;
mod subscriber;

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::Options;
use crate::target::{Acks, Description, Publisher, Subscriber, Target, TargetError, Topic};
use cluster::{Cluster, ask_one};
use delivery::Client;
use group::GroupSubscriber;
use http::Request;
use publisher::HttpPublisher;
use subscriber::{PartitionSubscriber, Start};

/// How long a new topic may take until every partition has a leader that every broker knows.
const READY_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// The topic exists.
const CONFLICT: &str = "HTTP 409";

/// The routes by which records are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Record batches as they are stored.
    Batches,
    /// REST v2, values in base64.
    V2,
    /// `POST /publish`: a JSON object, a record a request.
    Simple,
}

impl fmt::Display for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batches => "batches",
            Self::V2 => "v2",
            Self::Simple => "simple",
        })
    }
}

impl FromStr for Surface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batches" => Ok(Self::Batches),
            "v2" => Ok(Self::V2),
            "simple" => Ok(Self::Simple),
            other => Err(format!("{other:?} is no surface; there are batches, v2 and simple")),
        }
    }
}

/// A cluster of PubG1.
pub struct PubG1 {
    cluster: Arc<Cluster>,
    options: Options,
}

impl PubG1 {
    /// The cluster that the brokers at these addresses belong to: `http://host:port,…`.
    ///
    /// # Errors
    /// [`TargetError::Unsupported`] for something else.
    pub fn new(urls: &str, options: &Options) -> Result<Self, TargetError> {
        Ok(Self { cluster: Arc::new(Cluster::new(urls)?), options: options.clone() })
    }

    async fn create(&self, topic: &Topic) -> Result<(), TargetError> {
        let brokers = self.cluster.find_brokers(ASK_TIMEOUT).await?;
        let body = json!({
            "topic_name": topic.name,
            "partitions_count": topic.partitions,
            "replication_factor": topic.replicas.min(brokers),
            "configs": { "retention_ms": null },
        });
        let request = Request::post("/admin/topics", "application/json", Bytes::from(body.to_string()));
        match self.cluster.change(&request).await {
            Err(TargetError::Refused { reason, .. }) if reason.contains(CONFLICT) => {}
            created => drop(created?),
        }
        let name = &topic.name;
        let waiting = async {
            loop {
                self.cluster.learn(name).await?;
                if self.is_led_everywhere(name).await {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(READY_DEADLINE, waiting).await.unwrap_or_else(|_| {
            let reason = format!("not every partition of {name} has a leader");
            Err(TargetError::Unreachable { address: self.cluster.address(), reason })
        })
    }

    /// Whether every broker that answers knows a leader of every partition.
    async fn is_led_everywhere(&self, topic: &str) -> bool {
        let request = Request::get(&format!("/topics/{topic}"));
        for host in self.cluster.hosts() {
            let Ok(answer) = ask_one(&host, &request, ASK_TIMEOUT).await else { continue };
            let reply: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let led = |partition: &Value| partition["leader"].as_i64().is_some_and(|leader| leader >= 0);
            if !reply["partitions"].as_array().is_some_and(|partitions| partitions.iter().all(led)) {
                return false;
            }
        }
        (0..self.cluster.partitions()).all(|partition| self.cluster.leader(partition).is_some())
    }

    async fn version(&self) -> Option<String> {
        let answer = self.cluster.ask(&Request::get("/openapi.json"), ASK_TIMEOUT).await.ok()?;
        let document: Value = serde_json::from_slice(&answer.body).ok()?;
        document["info"]["version"].as_str().map(str::to_owned)
    }

    fn client(&self, topic: &Topic) -> Arc<Client> {
        Arc::new(Client::new(Arc::clone(&self.cluster), &topic.name, self.options.delivery_timeout))
    }

    async fn durability(&self, topic: &Topic) -> String {
        let acknowledged = match topic.acks {
            Acks::All => "a quorum of the replicas has it",
            Acks::Leader => "the leader has it",
        };
        let mut told = Vec::new();
        for host in self.cluster.hosts() {
            let answer = ask_one(&host, &Request::get("/cluster"), ASK_TIMEOUT).await;
            let reply: Option<Value> = answer.ok().and_then(|answer| serde_json::from_slice(&answer.body).ok());
            told.push(reply.and_then(|reply| reply["flush"].as_str().map(str::to_owned)));
        }
        format!("{acknowledged}; {}", flushing(&told))
    }
}

/// When records are on disk, as each of the brokers says; `None` of one that does not say.
fn flushing(told: &[Option<String>]) -> String {
    let policies: BTreeSet<&str> = told.iter().map(|policy| policy.as_deref().unwrap_or("not told")).collect();
    let all: Vec<&str> = policies.into_iter().collect();
    match all[..] {
        [] | ["not told"] => "the brokers do not say how they flush".to_owned(),
        ["quorum"] => "flushed before it counts (log.flush = quorum, as every broker says)".to_owned(),
        [policy] => match policy.strip_prefix("interval=") {
            Some(ms) => format!("page cache, flushed every {ms} ms (log.flush = {policy}, as every broker says)"),
            None => format!("log.flush = {policy}, as every broker says"),
        },
        _ => format!("log.flush is not the same at all brokers: {}", all.join(", ")),
    }
}

impl Target for PubG1 {
    fn prepare<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>> {
        Box::pin(async move {
            if let Some(partition) = topic.partition.filter(|partition| *partition >= topic.partitions) {
                let reason = format!("there is no partition {partition} of {}", topic.partitions);
                return Err(TargetError::Unsupported(reason));
            }
            self.create(topic).await?;
            let batching = match self.options.surface {
                Surface::Batches => "record batches v2 to the partition's leader",
                Surface::V2 => "REST v2, binary, to the partition's leader",
                Surface::Simple => "POST /publish, a record a request, to the partition's leader",
            };
            Ok(Description {
                name: "PubG1".to_owned(),
                version: self.version().await.unwrap_or_else(|| "unknown".to_owned()),
                client: format!("HTTP/1.1: {batching}, a connection for each request under way"),
                durability: self.durability(topic).await,
                replicas: self.cluster.replicas(),
                address: self.cluster.address(),
            })
        })
    }

    fn publisher<'a>(&'a self, topic: &'a Topic, index: u32) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>> {
        Box::pin(async move {
            let client = self.client(topic);
            let publisher = HttpPublisher::new(client, topic, self.options.surface, index);
            publisher.connect(self.options.in_flight).await?;
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
            if let Some(group) = &topic.group {
                let joined = GroupSubscriber::join(Arc::clone(&self.cluster), group, &topic.name).await?;
                return Ok(Box::new(joined) as Box<dyn Subscriber>);
            }
            let written = topic.partition.map_or(0..self.cluster.partitions(), |only| only..only + 1);
            let mine = written.filter(|partition| partition % count.max(1) == index || topic.partition.is_some());
            // Of one partition there is one consumer.
            let mine: Vec<u32> = if topic.partition.is_some() && index > 0 { Vec::new() } else { mine.collect() };
            let subscriber = PartitionSubscriber::new(self.client(topic), &mine, Start::End).await?;
            Ok(Box::new(subscriber) as Box<dyn Subscriber>)
        })
    }

    fn replay<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(async move {
            let all: Vec<u32> = (0..self.cluster.partitions()).collect();
            let subscriber = PartitionSubscriber::new(self.client(topic), &all, Start::Beginning).await?;
            Ok(Box::new(subscriber) as Box<dyn Subscriber>)
        })
    }

    fn clean<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            self.cluster.change(&Request::delete(&format!("/admin/topics/{}", topic.name))).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_say_how_they_flush_and_nobody_says_it_for_them() {
        let said = |told: &[Option<&str>]| flushing(&told.iter().map(|it| it.map(str::to_owned)).collect::<Vec<_>>());
        assert!(said(&[Some("quorum"); 3]).starts_with("flushed before it counts"));
        let interval = said(&[Some("interval=60000"); 3]);
        assert!(interval.starts_with("page cache, flushed every 60000 ms (log.flush = interval=60000,"), "{interval}");
        assert!(said(&[Some("quorum"), Some("interval=5"), None]).ends_with("interval=5, not told, quorum"));
        assert_eq!(said(&[None, None]), said(&[]));
    }
}
