//! What all workers share: built once, before the server starts.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use bytes::Bytes;

use pubg1_actors::{BrokerHandle, PartitionHandle};
use pubg1_metrics::Metrics;
use pubg1_model::{
    PartitionId, TopicName,
    cluster::{ClusterImage, TopicImage},
};

use crate::{
    error::{ApiError, Cause},
    kafka_metrics,
    limits::{Budget, Limits},
    streams::events::unknown::UnknownTopics,
};

/// The state behind every handler. Nothing in it is global: two brokers can live in one process.
#[derive(Debug)]
pub struct AppState {
    pub(crate) broker: BrokerHandle,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Limits,
    /// The port that clients reach, as `/health` tells it.
    pub(crate) port: u16,
    /// Bytes of request bodies that may be held at once.
    pub(crate) bodies: Budget,
    /// Reads that may wait at once.
    pub(crate) waiting: Budget,
    /// Where records without key and partition of the next request go.
    turn: AtomicU32,
    /// Every reply is the last one of its connection.
    parting: AtomicBool,
    /// Topics that ids of streams' events have named and that are not known here.
    pub(crate) unknown_topics: UnknownTopics,
    /// What `/metrics/kafka` tells to all who ask at the same time.
    pub(crate) kafka_metrics: kafka_metrics::Told,
    /// The API's description, written when it is first asked for.
    pub(crate) openapi: OnceLock<Bytes>,
}

impl AppState {
    /// The state of a server that answers for `broker` on `port`.
    #[must_use]
    pub fn new(broker: BrokerHandle, limits: Limits, port: u16) -> Arc<Self> {
        let metrics = broker.metrics().clone();
        Arc::new(Self {
            broker,
            metrics,
            port,
            bodies: Budget::new(limits.bodies_bytes_max),
            waiting: Budget::new(limits.waiting_reads_max),
            turn: AtomicU32::new(0),
            parting: AtomicBool::new(false),
            unknown_topics: UnknownTopics::default(),
            kafka_metrics: kafka_metrics::Told::default(),
            openapi: OnceLock::new(),
            limits,
        })
    }

    /// From now on every reply says that it is the last one of its connection. A server that is about to end lets its
    /// clients go this way: a connection that is closed under a request leaves the client in doubt about it.
    pub fn part_from_clients(&self) {
        self.parting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_parting(&self) -> bool {
        self.parting.load(Ordering::Relaxed)
    }

    /// What the cluster agrees on; an error while the broker does not know it yet.
    pub(crate) fn image(&self) -> Result<Arc<ClusterImage>, ApiError> {
        let image = self.broker.image();
        if image.is_formatted() {
            return Ok(image);
        }
        Err(ApiError::new(Cause::Recovering, "the broker is starting; try again"))
    }

    /// The topic as the cluster knows it.
    pub(crate) fn topic(&self, name: &TopicName) -> Result<Arc<TopicImage>, ApiError> {
        if let Some(topic) = self.broker.image().topic(name) {
            return Ok(Arc::clone(topic));
        }
        // The lookup tells a topic that does not exist from one that is not known yet.
        self.partition(name, PartitionId(0))?;
        Err(ApiError::new(Cause::Recovering, format!("topic {name} is being set up; try again")))
    }

    /// A topic that clients may write to.
    pub(crate) fn writable_topic(&self, name: &TopicName) -> Result<Arc<TopicImage>, ApiError> {
        refuse_internal(name)?;
        self.topic(name)
    }

    /// The handle of a partition.
    pub(crate) fn partition(&self, topic: &TopicName, partition: PartitionId) -> Result<PartitionHandle, ApiError> {
        Ok(self.broker.partition(topic, partition)?)
    }

    /// The partition for records that name neither key nor partition: another one each request.
    pub(crate) fn next_partition(&self, partitions: u32) -> PartitionId {
        PartitionId(self.turn.fetch_add(1, Ordering::Relaxed) % partitions.max(1))
    }
}

/// Refuses what would change a topic of the broker itself.
pub(crate) fn refuse_internal(name: &TopicName) -> Result<(), ApiError> {
    if !name.is_internal() {
        return Ok(());
    }
    let message = format!("{name} belongs to the broker; choose a name that does not begin with two underscores");
    Err(ApiError::new(Cause::InternalTopic, message))
}

pub(crate) fn no_partition(topic: &TopicName, partition: impl std::fmt::Display) -> ApiError {
    ApiError::new(Cause::NoPartition, format!("the topic {topic} has no partition {partition}"))
}
