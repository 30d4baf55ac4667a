//! An idempotent producer over HTTP: encodes record batches and keeps several requests per
//! partition under way, in order, without duplicates.
//!
//! Each partition has a lane: a batch being built here, and a task that sends what is sealed
//! ([`lane`]). The broker puts batches of one producer and partition in the order of their
//! sequence numbers and answers a repeated one with its first offsets, so a lane may send again
//! whatever it is not sure of.

mod lane;
pub mod progress;

use std::time::{Duration, Instant};

use pubg1_model::{
    BrokerId, LeaderEpoch, Offset, PartitionId, ProducerId, TopicName,
    compression::Compression,
    partitioner::partition_for_key,
    record_batch::{BatchBuilder, BatchError, NewRecord, ProducerIdentity, ValidBatch},
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
};

use crate::client::{Client, ClientError};
use lane::Lane;
pub use lane::LaneError;

/// Kafka's brokers, and ours, remember the last five batches of a producer: with more than that
/// under way a repeated one might not be recognised.
pub const IN_FLIGHT_MAX: usize = 5;
/// What a record adds to a batch beside its key and value, generously.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// Who has to have a batch before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Acks {
    /// Nobody.
    #[value(name = "0")]
    None,
    /// The leader has appended it.
    #[value(name = "1")]
    Leader,
    /// It is committed: on disk at a quorum.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// The value of the parameter `acks`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        }
    }
}

/// How a producer works.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// Who has to have a batch before it is acknowledged.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch is sent when it has this size before compression.
    pub batch_bytes: usize,
    /// A batch is sent when its first record has waited this long.
    pub linger: Duration,
    /// Batches per partition that are under way at once, at most [`IN_FLIGHT_MAX`].
    pub in_flight: usize,
    /// A batch that is not acknowledged after this time is given up.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            batch_bytes: 256 * 1024,
            linger: Duration::from_millis(10),
            in_flight: IN_FLIGHT_MAX,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// Why a producer stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The topic or the producer's identity could not be had.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A record cannot be encoded.
    #[error("a record cannot be encoded: {0}")]
    Encode(#[from] BatchError),
    /// A partition that the topic does not have.
    #[error("topic {topic} has partitions 0 to {last}, not {partition}")]
    NoSuchPartition {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: PartitionId,
        /// The last one there is.
        last: u32,
    },
    /// Batches of a partition could not be delivered.
    #[error(transparent)]
    Lane(#[from] LaneError),
}

/// A record to send.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingRecord<'a> {
    /// Chooses the partition, when none is given, and is stored.
    pub key: Option<&'a [u8]>,
    /// The payload.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// A batch that was acknowledged.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where it is.
    pub partition: PartitionId,
    /// The offset of its first record; `None` when nobody waited for it (`acks=0`).
    pub base_offset: Option<Offset>,
    /// What the sender called its records, in order.
    pub tags: Vec<u64>,
    /// Its size as it travelled.
    pub bytes: usize,
    /// From its first sending to its acknowledgement.
    pub latency: Duration,
    /// Whether the broker had it already when this acknowledgement was given.
    pub duplicate: bool,
    /// When the acknowledgement came.
    pub at: Instant,
    /// Which broker led the partition then, and in which epoch.
    pub leader: Option<(BrokerId, LeaderEpoch)>,
}

/// A batch on its way to a lane's task.
struct Sealed {
    batch: ValidBatch,
    tags: Vec<u64>,
}

struct Building {
    builder: BatchBuilder,
    tags: Vec<u64>,
    since: Instant,
}

struct LaneHandle {
    building: Option<Building>,
    next_sequence: i32,
    sender: mpsc::Sender<Sealed>,
    client: Client,
    /// Gone when its end was noticed and told.
    task: Option<JoinHandle<Result<(), LaneError>>>,
}

/// Sends records to one topic. Dropping it gives up what is not acknowledged; [`Producer::finish`]
/// waits for it.
pub struct Producer {
    topic: TopicName,
    options: ProducerOptions,
    id: ProducerId,
    epoch: i16,
    lanes: Vec<LaneHandle>,
}

impl Producer {
    /// Asks for the topic and for an identity, and starts a lane per partition. Acknowledged
    /// batches arrive at the receiver.
    ///
    /// # Errors
    /// [`ProducerError::Client`].
    pub async fn start(
        client: &Client,
        topic: TopicName,
        options: ProducerOptions,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Delivery>), ProducerError> {
        let partitions = client.topic(&topic).await?.partitions.len();
        let identity = client.create_producer().await?;
        let (deliver, deliveries) = mpsc::unbounded_channel();
        let lanes = (0..u32::try_from(partitions).unwrap_or(u32::MAX)).map(|partition| {
            // One sealed batch waits while the window is full; more would only cost memory.
            let (sender, sealed) = mpsc::channel(1);
            // Of several brokers each lane begins with another one, and leaves it by itself.
            let client = client.beginning_with(usize::try_from(partition).unwrap_or(0));
            let lane = Lane::new(client.clone(), topic.clone(), PartitionId(partition), options, deliver.clone());
            LaneHandle { building: None, next_sequence: 0, sender, client, task: Some(tokio::spawn(lane.run(sealed))) }
        });
        let producer = Self {
            lanes: lanes.collect(),
            topic,
            options,
            id: ProducerId(identity.producer_id),
            epoch: identity.producer_epoch,
        };
        Ok((producer, deliveries))
    }

    /// Goes on through other brokers, if there are several.
    pub fn change_brokers(&self) {
        self.lanes.iter().for_each(|lane| lane.client.change_broker());
    }

    /// How many partitions the topic has.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.lanes.len()).unwrap_or(u32::MAX)
    }

    /// Where a record belongs: by its key as Kafka's clients do it, else round robin by its
    /// position, so that the same input is spread the same way when it is sent again.
    #[must_use]
    pub fn partition_for(&self, key: Option<&[u8]>, position: u64) -> PartitionId {
        let partitions = self.partitions().max(1);
        key.map_or_else(
            || PartitionId(u32::try_from(position % u64::from(partitions)).unwrap_or(0)),
            |key| partition_for_key(key, partitions),
        )
    }

    /// Adds a record to the partition's batch; waits while the partition's window is full. The
    /// tag comes back with the acknowledgement.
    ///
    /// # Errors
    /// [`ProducerError::NoSuchPartition`], [`ProducerError::Encode`], [`ProducerError::Lane`].
    pub async fn send(
        &mut self,
        partition: PartitionId,
        record: &OutgoingRecord<'_>,
        tag: u64,
    ) -> Result<(), ProducerError> {
        let index = self.lane(partition)?;
        let size = RECORD_OVERHEAD_BYTES + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let full = |building: &Building, limit| building.builder.encoded_bytes() + size > limit;
        if self.lanes[index].building.as_ref().is_some_and(|building| full(building, self.options.batch_bytes)) {
            self.seal(index).await?;
        }
        let compression = self.options.compression;
        let building = self.lanes[index].building.get_or_insert_with(|| Building {
            builder: BatchBuilder::new(compression),
            tags: Vec::new(),
            since: Instant::now(),
        });
        building.builder.push(&NewRecord {
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: &[],
        })?;
        building.tags.push(tag);
        Ok(())
    }

    fn lane(&self, partition: PartitionId) -> Result<usize, ProducerError> {
        usize::try_from(partition.0).ok().filter(|index| *index < self.lanes.len()).ok_or_else(|| {
            let last = self.partitions().saturating_sub(1);
            ProducerError::NoSuchPartition { topic: self.topic.clone(), partition, last }
        })
    }

    /// When the next batch has waited long enough; `None` when nothing waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.building.as_ref()).map(|b| b.since + self.options.linger).min()
    }

    /// Sends every batch that has waited long enough, unless its partition's window is full: then
    /// it may as well grow.
    ///
    /// # Errors
    /// [`ProducerError::Encode`] and [`ProducerError::Lane`].
    pub async fn send_due(&mut self) -> Result<(), ProducerError> {
        let now = Instant::now();
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            let Some(building) = lane.building.as_mut().filter(|b| b.since + self.options.linger <= now) else {
                continue;
            };
            if lane.sender.capacity() > 0 || lane.sender.is_closed() {
                self.seal(index).await?;
            } else {
                building.since = now;
            }
        }
        Ok(())
    }

    async fn seal(&mut self, index: usize) -> Result<(), ProducerError> {
        let lane = &mut self.lanes[index];
        let Some(building) = lane.building.take() else { return Ok(()) };
        let identity = ProducerIdentity { id: self.id, epoch: self.epoch, sequence: lane.next_sequence };
        let records = i32::try_from(building.tags.len()).unwrap_or(i32::MAX);
        let batch = building.builder.finish(Some(identity))?;
        // Sequence numbers go on from 0 after the largest one (KIP-98).
        lane.next_sequence = lane.next_sequence.wrapping_add(records) & i32::MAX;
        let sealed = Sealed { batch, tags: building.tags };
        let sealed = match lane.sender.try_send(sealed) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(sealed) | TrySendError::Closed(sealed)) => sealed,
        };
        if lane.sender.send(sealed).await.is_ok() {
            return Ok(());
        }
        let ended = Self::outcome(lane.task.take()).await;
        Err(ended.err().unwrap_or_else(|| self.vanished(index)))
    }

    async fn outcome(task: Option<JoinHandle<Result<(), LaneError>>>) -> Result<(), ProducerError> {
        let Some(task) = task else { return Ok(()) };
        match task.await {
            Ok(outcome) => Ok(outcome?),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ok(()),
        }
    }

    fn vanished(&self, index: usize) -> ProducerError {
        let partition = PartitionId(u32::try_from(index).unwrap_or(u32::MAX));
        ProducerError::Lane(LaneError::Stopped { topic: self.topic.clone(), partition })
    }

    /// Sends what waits, and returns when everything is acknowledged.
    ///
    /// # Errors
    /// The first lane's error, after every lane has ended.
    pub async fn finish(mut self) -> Result<(), ProducerError> {
        let mut first = Ok(());
        for index in 0..self.lanes.len() {
            let sealed = self.seal(index).await;
            first = first.and(sealed);
        }
        for lane in self.lanes {
            drop(lane.sender);
            first = first.and(Self::outcome(lane.task).await);
        }
        first
    }
}
