//! What the replica on this broker does for clients while it leads. Who asks through a
//! [`PartitionHandle`](crate::PartitionHandle) comes here when the leader is here, directly or from another broker.

use pubg1_metrics::{ActorKind, RejectReason};
use pubg1_model::{BrokerId, LeaderEpoch, Offset};
use pubg1_storage::ReadError;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Acks, Append, AppendPhases, AppendReply, AppendRequest, DamageSuspected, DeleteRecords, Fetched, LeaderView,
    PartitionSlot, PartitionStatus, PartitionView, ReplicaBatches,
};
use crate::{
    admission::Permit,
    errors::{AppendError, DeleteRecordsError, FetchError},
    storage_errors::read_error,
};

impl PartitionSlot {
    fn broker(&self) -> BrokerId {
        self.node.config.broker_id
    }

    /// Whether the replica here leads, as it has published. It copies nothing.
    pub(crate) fn leads(&self) -> bool {
        self.published.borrow().view.status == PartitionStatus::Leader
    }

    /// Appends batches and waits for the acknowledgement that was asked for.
    pub(crate) async fn append(&self, request: AppendRequest) -> Result<AppendReply, AppendError> {
        let permit = self.node.admit(ActorKind::Partition, request.bytes())?;
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
        let metrics = self.node.metrics.actor(ActorKind::Partition);
        let (reply, answer) = oneshot::channel();
        let reply = (acks != Acks::None).then_some(reply);
        let (sent_at, in_mailbox) = (Instant::now(), metrics.sent());
        let append = Append { batches, acks, epoch, reply, sent_at, permit, in_mailbox };
        self.post(append).map_err(|_| self.not_running())?;
        if acks == Acks::None {
            let leader_epoch = self.published.borrow().view.leader_epoch;
            let phases = AppendPhases::default();
            return Ok(AppendReply { appended: Vec::new(), leader: self.broker(), leader_epoch, phases });
        }
        // A dropped reply means that the actor died with the request in its hands.
        let answered = answer.await.unwrap_or_else(|_| Err(self.interrupted()));
        answered.map_err(|error| self.judgement(error))
    }

    /// What a producer is told of its sequence is final, and read from this log: one that has slept while another led
    /// would find gaps where there are none. So it counts while a quorum is in contact, as a read does.
    fn judgement(&self, error: AppendError) -> AppendError {
        let is_final = matches!(error, AppendError::OutOfOrderSequence { .. } | AppendError::StaleProducerEpoch { .. });
        if is_final && self.readable().is_err() {
            return AppendError::NotReady { retry_after_ms: self.node.retry_after_ms() };
        }
        error
    }

    /// Why there is no actor: what was published when it went.
    fn not_running(&self) -> AppendError {
        self.node.metrics.actor(ActorKind::Partition).rejected(RejectReason::Unavailable).inc();
        match self.view().status {
            PartitionStatus::Offline(reason) => AppendError::Offline(reason),
            PartitionStatus::Closed if self.is_moved() => {
                AppendError::NotLeader { leader: None, retry_after_ms: self.node.retry_after_ms() }
            }
            PartitionStatus::Closed => AppendError::Draining,
            PartitionStatus::Deleted => AppendError::Deleted,
            PartitionStatus::Recovering
            | PartitionStatus::Leader
            | PartitionStatus::Follower
            | PartitionStatus::Electing => AppendError::NotReady { retry_after_ms: self.node.retry_after_ms() },
        }
    }

    /// Reads committed batches from `from` on, about `max_bytes` of them but at least one. No message is
    /// sent and nothing is copied: the bytes are slices of mapped files. Touching old ones may wait for
    /// the disk, so the caller should be on a thread that may.
    pub(crate) fn read(&self, from: Offset, max_bytes: usize) -> Result<Fetched, FetchError> {
        let fetched = self.read_internally(from, max_bytes)?;
        let bytes: usize = fetched.runs.iter().map(bytes::Bytes::len).sum();
        self.topic_metrics.bytes_out.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.topic_metrics.records_out.inc_by(fetched.next_offset.since(from));
        Ok(fetched)
    }

    /// Like [`PartitionSlot::read`], without counting it as consumed.
    pub(crate) fn read_internally(&self, from: Offset, max_bytes: usize) -> Result<Fetched, FetchError> {
        let (view, reader) = self.readable()?;
        let mut fetched = Fetched {
            runs: Vec::new(),
            next_offset: from,
            log_start_offset: view.log_start_offset,
            high_watermark: view.high_watermark,
            leader: self.broker(),
            leader_epoch: view.leader_epoch,
        };
        check_range(from, view.log_end_offset, &view)?;
        if from < view.high_watermark {
            let read = reader.read(from, view.high_watermark, max_bytes);
            let slice = read.map_err(|error| self.refused_read(error, from, &view))?;
            fetched.runs = slice.runs;
            fetched.next_offset = slice.next_offset;
        }
        Ok(fetched)
    }

    /// What a read that storage refused is to the client. Damage is the partition's business, too: it looks at what
    /// was read, and has it repaired.
    fn refused_read(&self, error: ReadError, from: Offset, view: &PartitionView) -> FetchError {
        if let ReadError::Damage(damage) = &error {
            // One that does not run looks at its log when it is opened.
            self.post(DamageSuspected { offset: damage.offset }).map_err(drop).unwrap_or_default();
            if !self.peers().is_empty() {
                // They have it whole: it is copied from there, or one of them leads before long.
                tracing::warn!(%damage, "a read found damage");
                return FetchError::NotReady { retry_after_ms: self.node.retry_after_ms() };
            }
        }
        read_error(error, from, view)
    }

    /// Reads batches of the log as this replica has it, whether it leads or not, below the high watermark that
    /// it knows.
    pub(crate) fn read_replica(&self, from: Option<Offset>, max_bytes: usize) -> Result<ReplicaBatches, FetchError> {
        let (view, reader) = {
            let published = self.published.borrow();
            (published.view.clone(), published.reader.clone())
        };
        let Some(reader) = reader else {
            self.check_readable(&view)?;
            return Err(FetchError::NotReady { retry_after_ms: self.node.retry_after_ms() });
        };
        let from = from.unwrap_or(view.log_start_offset);
        check_range(from, view.high_watermark, &view)?;
        let mut read = ReplicaBatches {
            runs: Vec::new(),
            next_offset: from,
            log_start_offset: view.log_start_offset,
            high_watermark: view.high_watermark,
            leader_epoch: view.leader_epoch,
        };
        if from < view.high_watermark {
            let slice = reader.read(from, view.high_watermark, max_bytes);
            let slice = slice.map_err(|error| self.refused_read(error, from, &view))?;
            read.runs = slice.runs;
            read.next_offset = slice.next_offset;
        }
        Ok(read)
    }

    /// The partition as it is now; an error unless its offsets may be told.
    pub(crate) fn leader_view(&self) -> Result<LeaderView, FetchError> {
        let (view, _) = self.readable()?;
        Ok(LeaderView::new(&view, self.broker()))
    }

    /// Waits until the high watermark is above `offset`, that is: until the record at `offset` can be
    /// read. The view at the deadline when that comes first. An error as soon as the partition no longer leads or
    /// the broker drains.
    pub(crate) async fn wait_above(&self, offset: Offset, deadline: Instant) -> Result<LeaderView, FetchError> {
        let mut views = self.published.subscribe();
        let reached = async {
            loop {
                {
                    let published = views.borrow_and_update();
                    self.check_readable(&published.view)?;
                    if published.view.high_watermark > offset {
                        break;
                    }
                }
                // The sender lives in the slot itself.
                views.changed().await.map_err(|_| FetchError::Draining)?;
            }
            Ok(())
        };
        // Whether it was reached is seen in the view, too.
        tokio::time::timeout_at(deadline, reached).await.unwrap_or(Ok(()))?;
        self.leader_view()
    }

    /// The first committed record whose timestamp is at least `timestamp_ms`: its offset and timestamp.
    /// Runs on a thread for blocking work.
    pub(crate) async fn find_timestamp(&self, timestamp_ms: i64) -> Result<Option<(Offset, i64)>, FetchError> {
        let (view, reader) = self.readable()?;
        // Bounds how many searches are queued.
        let permit = self.admit_read()?;
        let below = view.high_watermark;
        let search = move || {
            let found = reader.find_timestamp(timestamp_ms, below);
            // With the job: a search stays queued when the one who asked goes away.
            drop(permit);
            found
        };
        let found = self.node.workers.run(search).await;
        found.ok_or(FetchError::Draining)?.map_err(|error| read_error(error, view.log_start_offset, &view))
    }

    /// A permit for a read that is queued.
    pub(crate) fn admit_read(&self) -> Result<Permit, FetchError> {
        self.node.admit(ActorKind::Partition, 0).map_err(|refusal| match refusal {
            AppendError::Draining => FetchError::Draining,
            AppendError::Failed(error) => FetchError::Storage { reason: error.to_string() },
            _ => FetchError::Overloaded { retry_after_ms: self.node.retry_after_ms() },
        })
    }

    /// Deletes every record below `offset`, at most up to the high watermark; the new first offset, and the epoch
    /// in which it was done.
    pub(crate) async fn delete_records_before(
        &self,
        offset: Offset,
    ) -> Result<(Offset, LeaderEpoch), DeleteRecordsError> {
        let permit = self.node.admit(ActorKind::Partition, 0)?;
        let (reply, answer) = oneshot::channel();
        let in_mailbox = self.node.metrics.actor(ActorKind::Partition).sent();
        let epoch = self.published.borrow().view.leader_epoch;
        self.post(DeleteRecords { offset, reply, permit, in_mailbox }).map_err(|_| self.not_running())?;
        let first = answer.await.unwrap_or_else(|_| Err(self.interrupted().into()))?;
        Ok((first, epoch))
    }

    /// Resolves when the log is open, or cannot be opened; when `alone`, only once it leads, for nobody else will.
    pub(crate) async fn settled(&self, alone: bool) {
        let mut views = self.published.subscribe();
        let settled = views.wait_for(|published| match published.view.status {
            PartitionStatus::Recovering => false,
            PartitionStatus::Electing | PartitionStatus::Follower => !alone,
            _ => true,
        });
        // The sender lives in the slot itself, so the wait cannot fail.
        settled.await.map(drop).unwrap_or_default();
    }
}

fn check_range(from: Offset, end: Offset, view: &PartitionView) -> Result<(), FetchError> {
    if (view.log_start_offset..=end).contains(&from) {
        return Ok(());
    }
    Err(FetchError::OffsetOutOfRange {
        requested: from,
        log_start_offset: view.log_start_offset,
        high_watermark: view.high_watermark,
    })
}
