//! What can be asked of a partition.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use pubg1_metrics::{ActorKind, RejectReason};
use pubg1_model::{LeaderEpoch, Offset, TopicPartition};
use tokio::sync::oneshot;

use crate::{
    admission::Permit,
    errors::{AppendError, DeleteRecordsError, FetchError},
    partition::{
        Acks, Append, AppendPhases, AppendReply, AppendRequest, DeleteRecords, Fetched, PartitionSlot, PartitionStatus,
        PartitionView,
    },
    storage_errors::read_error,
};

/// A partition of this broker. Cheap to clone; it stays valid while the actor behind it is restarted,
/// and says so when the topic is deleted.
#[derive(Clone)]
pub struct PartitionHandle {
    slot: Arc<PartitionSlot>,
}

impl PartitionHandle {
    pub(crate) const fn new(slot: Arc<PartitionSlot>) -> Self {
        Self { slot }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn slot(&self) -> &Arc<PartitionSlot> {
        &self.slot
    }

    /// Which partition it is.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        self.slot.identity.topic_partition()
    }

    /// The partition as it is now. No message is sent.
    #[must_use]
    pub fn view(&self) -> PartitionView {
        self.slot.view()
    }

    /// Appends batches and waits for the acknowledgement that was asked for. Batches of one request lie
    /// one after the other in the log. Dropping the future gives up waiting, not the append.
    ///
    /// # Errors
    /// [`AppendError`]; of an idempotent batch that is in the log already the original offsets are told,
    /// which is no error.
    pub async fn append(&self, request: AppendRequest) -> Result<AppendReply, AppendError> {
        let bytes = request.batches.iter().map(|batch| batch.bytes().len()).sum::<usize>();
        let permit = self.slot.node.admit(ActorKind::Partition, u64::try_from(bytes).unwrap_or(u64::MAX))?;
        self.append_with(request, Some(permit), None).await
    }

    /// Appends for the broker itself: without a permit, because the caller has at most one such request
    /// outstanding, and also while the broker drains, as long as the partition is open. Refused unless the
    /// partition leads in `epoch`: what the caller knows of the log was read in that one.
    pub(crate) async fn append_internally(
        &self,
        request: AppendRequest,
        epoch: LeaderEpoch,
    ) -> Result<AppendReply, AppendError> {
        self.append_with(request, None, Some(epoch)).await
    }

    async fn append_with(
        &self,
        request: AppendRequest,
        permit: Option<Permit>,
        epoch: Option<LeaderEpoch>,
    ) -> Result<AppendReply, AppendError> {
        let AppendRequest { batches, acks } = request;
        let metrics = self.slot.node.metrics.actor(ActorKind::Partition);
        let (reply, answer) = oneshot::channel();
        let reply = (acks != Acks::None).then_some(reply);
        let (sent_at, in_mailbox) = (Instant::now(), metrics.sent());
        let append = Append { batches, acks, epoch, reply, sent_at, permit, in_mailbox };
        self.slot.post(append).map_err(|_| self.not_running())?;
        if acks == Acks::None {
            let PartitionView { leader, leader_epoch, .. } = self.view();
            return Ok(AppendReply { appended: Vec::new(), leader, leader_epoch, phases: AppendPhases::default() });
        }
        // A dropped reply means that the actor died with the request in its hands.
        answer.await.unwrap_or_else(|_| Err(self.slot.interrupted()))
    }

    /// Why there is no actor: what was published when it went.
    fn not_running(&self) -> AppendError {
        self.slot.node.metrics.actor(ActorKind::Partition).rejected(RejectReason::Unavailable).inc();
        match self.slot.view().status {
            PartitionStatus::Offline(reason) => AppendError::Offline(reason),
            PartitionStatus::Closed => AppendError::Draining,
            PartitionStatus::Deleted => AppendError::Deleted,
            PartitionStatus::Recovering | PartitionStatus::Leader => {
                AppendError::NotReady { retry_after_ms: self.slot.node.retry_after_ms() }
            }
        }
    }

    /// Reads committed batches from `from` on, about `max_bytes` of them but at least one. No message is
    /// sent and nothing is copied: the bytes are slices of mapped files. Touching old ones may wait for
    /// the disk, so the caller should be on a thread that may.
    ///
    /// # Errors
    /// [`FetchError`]; an offset between the high watermark and the log end is no error but empty.
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Fetched, FetchError> {
        let fetched = self.read_internally(from, max_bytes)?;
        let bytes: usize = fetched.runs.iter().map(bytes::Bytes::len).sum();
        self.slot.topic_metrics.bytes_out.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.slot.topic_metrics.records_out.inc_by(fetched.next_offset.since(from));
        Ok(fetched)
    }

    /// Like [`PartitionHandle::read`], without counting it as consumed.
    pub(crate) fn read_internally(&self, from: Offset, max_bytes: usize) -> Result<Fetched, FetchError> {
        let (view, reader) = self.slot.readable()?;
        let mut fetched = Fetched {
            runs: Vec::new(),
            next_offset: from,
            log_start_offset: view.log_start_offset,
            high_watermark: view.high_watermark,
            leader_epoch: view.leader_epoch,
        };
        if from < view.log_start_offset || from > view.log_end_offset {
            return Err(FetchError::OffsetOutOfRange {
                requested: from,
                log_start_offset: view.log_start_offset,
                high_watermark: view.high_watermark,
            });
        }
        if from < view.high_watermark {
            let read = reader.read(from, view.high_watermark, max_bytes);
            let slice = read.map_err(|error| read_error(error, from, &view))?;
            fetched.runs = slice.runs;
            fetched.next_offset = slice.next_offset;
        }
        Ok(fetched)
    }

    /// Waits until the high watermark is above `offset`, that is: until the record at `offset` can be
    /// read. Returns the view at the deadline when that comes first.
    ///
    /// # Errors
    /// [`FetchError`] as soon as the partition no longer leads or the broker drains.
    pub async fn wait_above(&self, offset: Offset, deadline: Instant) -> Result<PartitionView, FetchError> {
        let mut views = self.slot.published.subscribe();
        let reached = async {
            loop {
                {
                    let published = views.borrow_and_update();
                    self.slot.check_readable(&published.view)?;
                    if published.view.high_watermark > offset {
                        return Ok(published.view.clone());
                    }
                }
                // The sender lives in the slot, which `self` holds.
                views.changed().await.map_err(|_| FetchError::Draining)?;
            }
        };
        match tokio::time::timeout_at(deadline.into(), reached).await {
            Ok(reached) => reached,
            Err(_) => Ok(self.view()),
        }
    }

    /// The first committed record whose timestamp is at least `timestamp_ms`: its offset and timestamp.
    /// Runs on a thread for blocking work.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn find_timestamp(&self, timestamp_ms: i64) -> Result<Option<(Offset, i64)>, FetchError> {
        let (view, reader) = self.slot.readable()?;
        let retry_after_ms = self.slot.node.retry_after_ms();
        // Bounds how many searches are queued.
        let permit = self.slot.node.admit(ActorKind::Partition, 0).map_err(|refusal| match refusal {
            AppendError::Draining => FetchError::Draining,
            AppendError::Failed(error) => FetchError::Storage { reason: error.to_string() },
            _ => FetchError::Overloaded { retry_after_ms },
        })?;
        let below = view.high_watermark;
        let search = move || {
            let found = reader.find_timestamp(timestamp_ms, below);
            // With the job: a search stays queued when the one who asked goes away.
            drop(permit);
            found
        };
        let found = self.slot.node.workers.run(search).await;
        found.ok_or(FetchError::Draining)?.map_err(|error| read_error(error, view.log_start_offset, &view))
    }

    /// Deletes every record below `offset`, at most up to the high watermark; answers the new first
    /// offset.
    ///
    /// # Errors
    /// [`DeleteRecordsError`].
    pub async fn delete_records_before(&self, offset: Offset) -> Result<Offset, DeleteRecordsError> {
        let permit = self.slot.node.admit(ActorKind::Partition, 0)?;
        let (reply, answer) = oneshot::channel();
        let in_mailbox = self.slot.node.metrics.actor(ActorKind::Partition).sent();
        self.slot.post(DeleteRecords { offset, reply, permit, in_mailbox }).map_err(|_| self.not_running())?;
        answer.await.unwrap_or_else(|_| Err(self.slot.interrupted().into()))
    }

    /// Resolves when the partition is no longer being recovered; an error when it does not lead then, or
    /// when `patience` ends before.
    pub(crate) async fn settled(&self, patience: Duration) -> Result<(), FetchError> {
        let mut views = self.slot.published.subscribe();
        let settled = views.wait_for(|published| published.view.status != PartitionStatus::Recovering);
        match tokio::time::timeout(patience, settled).await {
            Ok(Ok(published)) => self.slot.check_readable(&published.view),
            Ok(Err(_)) | Err(_) => Err(FetchError::NotReady { retry_after_ms: self.slot.node.retry_after_ms() }),
        }
    }
}

impl fmt::Debug for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionHandle")
            .field("partition", &self.topic_partition())
            .field("view", &self.view())
            .finish()
    }
}
