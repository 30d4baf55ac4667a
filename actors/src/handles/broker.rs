//! What can be asked of a broker.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pubg1_metrics::Metrics;
use pubg1_model::{
    BrokerId, GroupId, Offset, PartitionId, ProducerId, TopicId, TopicName, TopicPartition,
    cluster::{ClusterImage, MetadataCommand, MetadataError, MetadataReply, TopicImage},
    offset_commit::OffsetCommitValue,
    topic::TopicConfig,
};

use super::{GroupsHandle, OffsetToCommit, PartitionHandle, Readiness, StreamsHandle};
use crate::{
    broker::{self, Running},
    config::BrokerConfig,
    controller,
    errors::{
        AlterTopicError, CommitOffsetError, CommittedOffsetError, CreateTopicError, DeleteTopicError, LookupError,
        ProducerIdError, StartError,
    },
    fatal::FatalError,
    metadata::ProposeError,
    node::Phase,
    rpc::Services,
};

/// Producer ids are taken from the metadata log in blocks of this many.
const PRODUCER_ID_BLOCK: u32 = 1000;

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; `None` for the broker's default.
    pub partitions: Option<u32>,
    /// How many replicas of each; `None` for as many as is usual, or as there are brokers.
    pub replication_factor: Option<u32>,
    /// Its settings; `None` for the broker's default.
    pub config: Option<TopicConfig>,
}

/// How a drain went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// What had not finished when the deadline came, each with its name. Its acknowledged records are as
    /// safe as after a `kill -9`.
    pub unfinished: Vec<String>,
}

impl DrainReport {
    /// Whether everything was flushed and closed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unfinished.is_empty()
    }
}

/// The entry point.
#[derive(Debug)]
pub struct Broker;

impl Broker {
    /// Starts a broker: checks the configuration, locks the data directory, starts the threads. Returns at
    /// once; the logs are recovered behind it, and [`BrokerHandle::readiness`] says how far that is.
    ///
    /// Must be called inside an actix `System`, and the system must live as long as the broker.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: BrokerConfig, metrics: Metrics) -> Result<BrokerHandle, StartError> {
        broker::start(config, metrics)
    }
}

/// A running broker. Cheap to clone. When the last handle is dropped without [`BrokerHandle::drain`] its
/// threads stop where they are, as after a `kill -9`.
#[derive(Clone)]
pub struct BrokerHandle(Arc<Inner>);

struct Inner {
    services: Arc<Services>,
    /// Producer ids that are reserved and not handed out.
    producer_ids: tokio::sync::Mutex<Range<i64>>,
    /// The threads; gone after a drain.
    running: Mutex<Option<Running>>,
}

impl BrokerHandle {
    pub(crate) fn new(services: Services, running: Running) -> Self {
        let services = Arc::new(services);
        let producer_ids = tokio::sync::Mutex::new(0..0);
        Self(Arc::new(Inner { services, producer_ids, running: Mutex::new(Some(running)) }))
    }

    pub(crate) fn services(&self) -> &Services {
        &self.0.services
    }

    /// This broker's number.
    #[must_use]
    pub fn broker_id(&self) -> BrokerId {
        self.0.services.node.config.broker_id
    }

    /// Where its data is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.0.services.node.config.data_dir
    }

    /// How long it runs.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.services.node.started_at.elapsed()
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.services.node.metrics
    }

    /// What it was told at its start.
    #[must_use]
    pub fn config(&self) -> &BrokerConfig {
        &self.0.services.node.config
    }

    /// How the broker stands, and what it looked at. No message is sent.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        broker::readiness(&self.0.services.node, &self.image())
    }

    /// What the cluster agrees on, as last published; empty until the metadata log is read.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.0.services.metadata.image()
    }

    /// A partition.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn partition(&self, topic: &TopicName, partition: PartitionId) -> Result<PartitionHandle, LookupError> {
        broker::lookup(&self.0.services, topic, partition)
    }

    /// Creates a topic and waits until its partitions serve, or cannot.
    ///
    /// # Errors
    /// [`CreateTopicError`].
    pub async fn create_topic(&self, topic: NewTopic) -> Result<Arc<TopicImage>, CreateTopicError> {
        if topic.name.is_internal() {
            return Err(CreateTopicError::Internal(topic.name));
        }
        broker::create_topic(&self.0.services, topic).await
    }

    /// Replaces the settings of a topic.
    ///
    /// # Errors
    /// [`AlterTopicError`].
    pub async fn alter_topic(&self, topic: &TopicName, config: TopicConfig) -> Result<(), AlterTopicError> {
        if topic.is_internal() {
            return Err(AlterTopicError::Internal(topic.clone()));
        }
        let unknown = || AlterTopicError::UnknownTopic(topic.clone());
        let id = self.topic_id(topic).ok_or_else(unknown)?;
        match self.0.services.metadata.propose(MetadataCommand::AlterTopic { id, config }).await {
            Ok(_) => Ok(()),
            Err(ProposeError::Refused(MetadataError::UnknownTopic(_))) => Err(unknown()),
            Err(ProposeError::Refused(error)) => Err(AlterTopicError::Refused(error)),
            Err(ProposeError::Unavailable(error)) => Err(error.into()),
        }
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// [`DeleteTopicError`].
    pub async fn delete_topic(&self, topic: &TopicName) -> Result<(), DeleteTopicError> {
        if topic.is_internal() {
            return Err(DeleteTopicError::Internal(topic.clone()));
        }
        let unknown = || DeleteTopicError::UnknownTopic(topic.clone());
        let id = self.topic_id(topic).ok_or_else(unknown)?;
        match self.0.services.metadata.propose(MetadataCommand::DeleteTopic { id }).await {
            Ok(_) => Ok(()),
            Err(ProposeError::Refused(MetadataError::TopicInUse { topic, stream })) => {
                Err(DeleteTopicError::InUse { topic, stream })
            }
            Err(ProposeError::Refused(_)) => Err(unknown()),
            Err(ProposeError::Unavailable(error)) => Err(error.into()),
        }
    }

    fn topic_id(&self, topic: &TopicName) -> Option<TopicId> {
        self.image().topic(topic).map(|image| image.id)
    }

    /// Hands out a producer id that nobody had before and nobody gets again.
    ///
    /// # Errors
    /// [`ProducerIdError`].
    pub async fn allocate_producer_id(&self) -> Result<ProducerId, ProducerIdError> {
        let mut ids = self.0.producer_ids.lock().await;
        if let Some(id) = ids.next() {
            return Ok(ProducerId(id));
        }
        let command = MetadataCommand::ReserveProducerIds { count: PRODUCER_ID_BLOCK };
        match self.0.services.metadata.propose(command).await {
            Ok(MetadataReply::ProducerIds { first, count }) => {
                *ids = first.0 + 1..first.0 + i64::from(count);
                Ok(first)
            }
            Ok(MetadataReply::Done) => Err(ProducerIdError::Refused(MetadataError::ProducerIds(PRODUCER_ID_BLOCK))),
            Err(ProposeError::Refused(error)) => Err(ProducerIdError::Refused(error)),
            Err(ProposeError::Unavailable(error)) => Err(error.into()),
        }
    }

    /// Stores the offset that a group reads next in a partition. Answered once it is committed, with the
    /// durability of `acks=all`. `metadata` comes back with the offset.
    ///
    /// # Errors
    /// [`CommitOffsetError`].
    pub async fn commit_offset(
        &self,
        group: GroupId,
        topic_partition: TopicPartition,
        offset: Offset,
        metadata: String,
    ) -> Result<(), CommitOffsetError> {
        let offset = OffsetToCommit { partition: topic_partition, offset, leader_epoch: None, metadata };
        Ok(self.groups().commit_simply(&group, vec![offset]).await?)
    }

    /// The offset that a group has committed in a partition; `None` when it has none.
    ///
    /// # Errors
    /// [`CommittedOffsetError`].
    pub async fn committed_offset(
        &self,
        group: GroupId,
        topic_partition: TopicPartition,
    ) -> Result<Option<OffsetCommitValue>, CommittedOffsetError> {
        let committed = self.committed(group, Some(vec![topic_partition])).await?;
        Ok(committed.into_values().next())
    }

    /// Every offset that a group has committed; empty for a group that is not known.
    ///
    /// # Errors
    /// [`CommittedOffsetError`].
    pub async fn committed_offsets(
        &self,
        group: GroupId,
    ) -> Result<BTreeMap<TopicPartition, OffsetCommitValue>, CommittedOffsetError> {
        self.committed(group, None).await
    }

    async fn committed(
        &self,
        group: GroupId,
        only: Option<Vec<TopicPartition>>,
    ) -> Result<BTreeMap<TopicPartition, OffsetCommitValue>, CommittedOffsetError> {
        let committed = self.groups().committed(&group, only).await;
        let retry_after_ms = self.0.services.node.retry_after_ms();
        let committed = committed.map_err(|error| CommittedOffsetError::of(group, error, retry_after_ms))?;
        Ok(committed.into_iter().map(|(partition, committed)| (partition, committed.into())).collect())
    }

    /// The consumer groups of the cluster.
    #[must_use]
    pub fn groups(&self) -> GroupsHandle {
        GroupsHandle::new(self.0.services.groups.clone())
    }

    /// The streams of the cluster.
    #[must_use]
    pub fn streams(&self) -> StreamsHandle {
        StreamsHandle::new(Arc::clone(&self.0.services))
    }

    /// Gives every leadership to another broker, as far as there are replicas to take it. Returns when this broker
    /// leads nothing that others could, or after this time; it serves all the while.
    pub async fn resign_leaderships(&self, deadline: Duration) {
        let deadline = tokio::time::Instant::now() + deadline;
        controller::resign_leaderships(&self.0.services.node, &self.0.services.metadata, deadline).await;
    }

    /// Refuses new work from now on and lets long polls go. The first half of [`BrokerHandle::drain`], for
    /// callers that stop their own server in between.
    pub fn begin_drain(&self) {
        broker::begin_drain(&self.0.services.node);
    }

    /// Shuts down in order: refuses new work, answers what waits, flushes and closes every log, ends the
    /// threads. What has not finished after `deadline` is left and named in the report.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        self.begin_drain();
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            return broker::drain(
                &self.0.services.node,
                &self.0.services.metadata,
                &self.0.services.groups,
                &self.0.services.streams,
                running,
                deadline,
            )
            .await;
        }
        // Somebody else drains already: wait for that.
        let mut phases = self.0.services.node.phase.subscribe();
        let drained = phases.wait_for(|phase| *phase == Phase::Drained);
        match tokio::time::timeout(deadline, drained).await {
            Ok(_) => DrainReport::default(),
            Err(_) => DrainReport { unfinished: vec!["the drain that was begun before".to_owned()] },
        }
    }

    /// Resolves with the reason when the process must end: a failed flush, too many restarts.
    pub async fn fatal(&self) -> Arc<FatalError> {
        self.0.services.node.fatal.reported().await
    }

    /// Stops all threads where they are and waits for them, as `kill -9` would, without closing a log.
    #[cfg(any(test, feature = "testing"))]
    pub async fn abort(&self) {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.stop(&self.0.services.node, false).await.unwrap_or_default();
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn panic_metadata(&self) {
        self.0.services.metadata.inject_panic();
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn panic_group_coordinator(&self) {
        self.0.services.groups.inject_panic();
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn panic_streams(&self) {
        self.0.services.streams.inject_panic();
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn panic_stream_tasks(&self) {
        self.0.services.streams.panic_tasks();
    }

    #[cfg(test)]
    pub(crate) fn node(&self) -> &Arc<crate::node::NodeContext> {
        &self.0.services.node
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            // Nobody waits for it.
            drop(running.stop(&self.services.node, false));
        }
    }
}

impl fmt::Debug for BrokerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("BrokerHandle");
        out.field("broker_id", &self.broker_id()).field("readiness", &self.readiness()).finish()
    }
}
