//! Kafka and whatever speaks its protocol, by librdkafka: its queue gathers records into requests.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};

use self::{reader::Reader, writer::Writer};
use super::{address::Address, under_way};
use crate::target::{Acks, Description, Publisher, Subscriber, Target, TargetError, Topic};

mod reader;
mod writer;

/// Where the address may say how long librdkafka gathers records.
const LINGER: &str = "linger_ms";
/// If it does not: enough for a batch to be complete, little beside a request.
const LINGER_MS: &str = "1";
/// How long brokers may take to answer about themselves.
const ANSWER: Duration = Duration::from_secs(5);

/// Brokers that speak Kafka's protocol.
#[derive(Debug)]
pub struct Kafka {
    address: Address,
}

impl Kafka {
    /// Reads the address.
    ///
    /// # Errors
    /// It is none.
    pub fn new(address: &str) -> Result<Self, TargetError> {
        Ok(Self { address: Address::parse(address, &[LINGER])? })
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address.hosts.join(","));
        config.set("client.id", "pubg1-bench").set("socket.nagle.disable", "true");
        // It would write to the standard error output that nobody is there; the caller is told.
        config.set("log_level", "0");
        config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "100");
        config
    }

    fn linger(&self) -> &str {
        self.address.option(LINGER).unwrap_or(LINGER_MS)
    }

    /// The replicas of the topic's first partition; `None`: there is no such topic. Waits for answers.
    async fn replicas(&self, topic: &Topic) -> Result<Option<u32>, TargetError> {
        let (config, name) = (self.config(), topic.name.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = config.create().map_err(|error| error.to_string())?;
            let found = client.fetch_metadata(Some(&name), ANSWER).map_err(|error| error.to_string())?;
            let partition = found.topics().iter().find(|found| found.name() == name && found.error().is_none());
            let partition = partition.and_then(|found| found.partitions().first());
            Ok::<_, String>(partition.map(|partition| partition.replicas().len()))
        });
        let found = asked.await.map_err(|error| self.address.unreachable(error))?;
        let found = found.map_err(|reason| self.address.unreachable(reason))?;
        Ok(found.map(|replicas| u32::try_from(replicas).unwrap_or(u32::MAX)))
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, TargetError> {
        self.config().create().map_err(|error| self.address.refused("be administered", error))
    }

    async fn make(&self, topic: &Topic) -> Result<u32, TargetError> {
        let count = |count: u32| i32::try_from(count.max(1)).unwrap_or(i32::MAX);
        let new = NewTopic::new(&topic.name, count(topic.partitions), TopicReplication::Fixed(count(topic.replicas)));
        let refused = |reason: String| self.address.refused("make a topic", reason);
        let made = self.admin()?.create_topics(&[new], &AdminOptions::new().operation_timeout(Some(ANSWER))).await;
        for outcome in made.map_err(|error| refused(error.to_string()))? {
            outcome.map_err(|(name, code)| refused(format!("{name}: {code}")))?;
        }
        let seen = tokio::time::timeout(self.address.timeout(), async {
            loop {
                match self.replicas(topic).await {
                    Ok(None) => tokio::time::sleep(Duration::from_millis(50)).await,
                    found => return found,
                }
            }
        });
        Ok(seen.await.map_err(|error| refused(error.to_string()))??.unwrap_or_default())
    }

    /// What the brokers say about flushing and in-sync replicas.
    async fn flushing(&self, topic: &Topic) -> String {
        const UNKNOWN: &str = "page cache, unless the broker flushes by a setting that it does not tell";
        let Ok(admin) = self.admin() else { return UNKNOWN.to_owned() };
        let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
        let asked = admin.describe_configs(&[ResourceSpecifier::Topic(&topic.name)], &options).await;
        let Some(Ok(found)) = asked.ok().and_then(|all| all.into_iter().next()) else { return UNKNOWN.to_owned() };
        let value = |name: &str| {
            let entry = found.entries.iter().find(|entry| entry.name == name);
            entry.and_then(|entry| entry.value.clone()).unwrap_or_else(|| "not told".to_owned())
        };
        let flush = match value("flush.messages").as_str() {
            "1" => "flushed before the acknowledgement (flush.messages 1)".to_owned(),
            "9223372036854775807" => "page cache (flush.messages unset)".to_owned(),
            other => format!("flush.messages {other}"),
        };
        format!("{flush}, min.insync.replicas {}", value("min.insync.replicas"))
    }
}

impl Target for Kafka {
    fn prepare<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Description, TargetError>> {
        Box::pin(async move {
            let replicas = match self.replicas(topic).await? {
                Some(replicas) => replicas,
                None => self.make(topic).await?,
            };
            let acks = if topic.acks == Acks::All { "acks=all" } else { "acks=1" };
            let (_, library) = rdkafka::util::get_rdkafka_version();
            Ok(Description {
                name: "Kafka protocol".to_owned(),
                version: "not told by the protocol".to_owned(),
                client: format!("librdkafka {library}, linger.ms {}, {acks}, no compression", self.linger()),
                durability: format!("{acks}: {}", self.flushing(topic).await),
                replicas,
                address: self.address.hosts.join(","),
            })
        })
    }

    fn publisher<'a>(&'a self, topic: &'a Topic, index: u32) -> BoxFuture<'a, Result<Box<dyn Publisher>, TargetError>> {
        Box::pin(async move {
            let mut config = self.config();
            config.set("acks", if topic.acks == Acks::All { "all" } else { "1" });
            config.set("linger.ms", self.linger()).set("compression.type", "none");
            config.set("batch.num.messages", "10000").set("queue.buffering.max.messages", "2000000");
            config.set("message.timeout.ms", self.address.timeout().as_millis().to_string());
            let writer = Writer::open(&config, topic, index);
            Ok(Box::new(writer.map_err(|error| self.address.refused("publish", error))?) as Box<dyn Publisher>)
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
            let reader = Reader::open(&self.address, self.config(), topic, partitions, false).await?;
            Ok(Box::new(reader) as Box<dyn Subscriber>)
        })
    }

    fn replay<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Subscriber>, TargetError>> {
        Box::pin(async move {
            let alone = Topic { group: None, ..topic.clone() };
            let partitions = (0..topic.partitions.max(1)).collect();
            let reader = Reader::open(&self.address, self.config(), &alone, partitions, true).await?;
            Ok(Box::new(reader) as Box<dyn Subscriber>)
        })
    }

    fn clean<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let options = AdminOptions::new().operation_timeout(Some(ANSWER));
            let removed = self.admin()?.delete_topics(&[&topic.name], &options).await;
            let refused = |reason: String| self.address.refused("remove the topic", reason);
            for outcome in removed.map_err(|error| refused(error.to_string()))? {
                outcome.map_err(|(name, code)| refused(format!("{name}: {code}")))?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
