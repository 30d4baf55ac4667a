//! Reads partitions through restarts of their broker, without gap and without repetition: the
//! place in each partition is kept here, never on the way.

pub mod group;
pub mod printer;
pub mod template;

use std::time::Duration;

use bytes::Bytes;
use pubg1_model::{
    Offset, PartitionId, TopicName,
    record_batch::{BatchError, BatchIter, RecordView},
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::client::{Client, ClientError, backoff::Backoff};

/// How long a broker may hold a request for records that are not there yet.
const WAIT: Duration = Duration::from_secs(5);
const FETCH_BYTES: usize = 2 * 1024 * 1024;
/// A batch that unpacks to more is refused: no producer of ours makes one.
const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;
/// HTTP status of an offset that is not in the log.
const OUT_OF_RANGE: u16 = 416;
const NOT_FOUND: u16 = 404;

/// What a reading task reports.
#[derive(Debug)]
pub enum Event {
    /// Batches of a partition.
    Batches(FetchedRun),
    /// Everything up to the wanted end was sent.
    Ended(PartitionId),
    /// The partition has no more records for now.
    Waiting(PartitionId),
    /// The broker does not answer or is not able to; it is asked again.
    Disturbed(PartitionId, String),
    /// The records up to this offset were deleted before they were read.
    Skipped {
        /// The partition.
        partition: PartitionId,
        /// Where reading was.
        from: Offset,
        /// Where it goes on.
        to: Offset,
    },
    /// Reading this partition is over.
    Failed(PartitionId, ClientError),
}

/// Batches as they came, and the part of them that is wanted.
#[derive(Debug)]
pub struct FetchedRun {
    /// Where they are from.
    pub partition: PartitionId,
    /// Records below are not wanted.
    pub from: Offset,
    /// Records from here on are not wanted.
    pub until: Offset,
    bytes: Bytes,
}

impl FetchedRun {
    /// Calls `each` with every wanted record until it says stop (`false`).
    ///
    /// # Errors
    /// [`BatchError`] for bytes that are no batches.
    pub fn each(&self, each: &mut dyn FnMut(&RecordView<'_>) -> bool) -> Result<(), BatchError> {
        for batch in BatchIter::new(&self.bytes) {
            let decoded = batch?.decode(BATCH_BYTES_MAX)?;
            for record in decoded.records() {
                let record = record?;
                if record.offset >= self.until {
                    return Ok(());
                }
                if record.offset >= self.from && !each(&record) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// What is read of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The partition.
    pub partition: PartitionId,
    /// The first offset.
    pub from: Offset,
    /// The offset to stop before; `None` to follow.
    pub until: Option<Offset>,
}

/// Starts a task per partition. They end when the receiver is gone.
#[must_use]
pub fn start(client: &Client, topic: &TopicName, spans: &[Span]) -> (JoinSet<()>, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(spans.len().max(1) * 2);
    let mut tasks = JoinSet::new();
    for span in spans {
        let reader = Reader {
            // Of several brokers each task chooses one for itself.
            client: client.beginning_with(usize::try_from(span.partition.0).unwrap_or(0)),
            topic: topic.clone(),
            span: *span,
            events: sender.clone(),
            waiting: false,
        };
        tasks.spawn(reader.run());
    }
    (tasks, receiver)
}

struct Reader {
    client: Client,
    topic: TopicName,
    span: Span,
    events: mpsc::Sender<Event>,
    waiting: bool,
}

/// The receiver of events is gone.
struct Gone;

impl Reader {
    async fn run(mut self) {
        // Whether nobody listens or all is read, the task has nothing left to do.
        let _ended = self.read().await;
    }

    async fn send(&self, event: Event) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }

    async fn read(&mut self) -> Result<(), Gone> {
        let mut backoff = Backoff::default();
        let partition = self.span.partition;
        loop {
            if self.span.until.is_some_and(|until| self.span.from >= until) {
                return self.send(Event::Ended(partition)).await;
            }
            match self.fetch().await? {
                Ok(()) => backoff = Backoff::default(),
                Err(error) if error.status() == Some(OUT_OF_RANGE) => self.skip(error).await?,
                Err(error) if error.is_retriable() => {
                    if backoff.is_fresh() {
                        self.send(Event::Disturbed(partition, error.to_string())).await?;
                    }
                    tokio::time::sleep(backoff.pause(&error)).await;
                }
                Err(error) => return self.send(Event::Failed(partition, error)).await,
            }
        }
    }

    async fn fetch(&mut self) -> Result<Result<(), ClientError>, Gone> {
        let Span { partition, from, until } = self.span;
        // Only where the end is known to be is there something to wait for.
        let wait = if self.waiting { WAIT } else { Duration::ZERO };
        let fetched = match self.client.fetch(&self.topic, partition, from, FETCH_BYTES, wait).await {
            Ok(fetched) => fetched,
            Err(error) => return Ok(Err(error)),
        };
        let next = fetched.next_offset.max(from);
        let empty = fetched.bytes.is_empty();
        self.span.from = next;
        if !empty {
            let run = FetchedRun { partition, from, until: until.unwrap_or(Offset::MAX), bytes: fetched.bytes };
            self.send(Event::Batches(run)).await?;
        }
        let wanted = until.is_none_or(|until| next < until);
        let at_end = wanted && (empty || next >= fetched.high_watermark);
        if at_end && !self.waiting {
            self.send(Event::Waiting(partition)).await?;
        }
        self.waiting = at_end;
        Ok(Ok(()))
    }

    /// Retention was faster than we were, or we are ahead of a log that lost its end.
    async fn skip(&mut self, error: ClientError) -> Result<(), Gone> {
        let Span { partition, from, .. } = self.span;
        match self.client.offsets(&self.topic, partition).await {
            Ok(offsets) if offsets.beginning_offset > from => {
                self.span.from = offsets.beginning_offset;
                self.send(Event::Skipped { partition, from, to: offsets.beginning_offset }).await
            }
            Ok(_) => {
                self.send(Event::Failed(partition, error)).await?;
                Err(Gone)
            }
            Err(error) if error.is_retriable() && error.status() != Some(NOT_FOUND) => Ok(()),
            Err(error) => {
                self.send(Event::Failed(partition, error)).await?;
                Err(Gone)
            }
        }
    }
}
