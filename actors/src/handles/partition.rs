//! What can be asked of a partition, on any broker.

use std::{cell::Cell, fmt, sync::Arc};

use pubg1_metrics::ActorKind;
use pubg1_model::{BrokerId, LeaderEpoch, Offset, TopicName, TopicPartition};
use tokio::time::Instant;

use crate::{
    errors::{AppendError, DeleteRecordsError, FetchError},
    forward::{self, Leader, Patience, Place, Route},
    partition::{AppendReply, AppendRequest, Fetched, LeaderView, PartitionSlot},
    rpc::Services,
};

/// Batches of an idempotent producer that a leader recognises when they come again.
const RECOGNISED_BATCHES: usize = pubg1_model::producer_state::BATCHES_REMEMBERED;

/// A partition, whichever broker leads it. Cheap to clone; it stays valid while leaders come and go, and says so when
/// the topic is deleted.
///
/// While the partition has no leader, every operation waits a moment for one.
#[derive(Clone)]
pub struct PartitionHandle {
    services: Arc<Services>,
    topic: TopicName,
    place: Place,
    /// The replica here, when there was one: the short way as long as it leads.
    own: Option<Arc<PartitionSlot>>,
    /// Whether this broker is the only one that keeps the partition: then there is nobody to go to instead.
    alone: bool,
}

/// Records were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedRecords {
    /// The first record that is left.
    pub log_start_offset: Offset,
    /// Who did it.
    pub leader: BrokerId,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
}

impl PartitionHandle {
    pub(crate) fn new(services: Arc<Services>, topic: TopicName, place: Place, alone: bool) -> Self {
        let own = Route { node: &services.node, metadata: &services.metadata, topic: &topic, place }.own();
        Self { services, topic, place, own, alone }
    }

    #[cfg(any(test, feature = "testing"))]
    #[expect(clippy::expect_used, reason = "a test asks for a replica that is here")]
    pub(crate) fn slot(&self) -> Arc<PartitionSlot> {
        self.own.clone().or_else(|| self.route().own()).expect("a replica on this broker")
    }

    /// The replica here, as it was last published.
    #[cfg(test)]
    pub(crate) fn view(&self) -> crate::partition::PartitionView {
        self.slot().view()
    }

    /// Which partition it is.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.place.partition }
    }

    fn route(&self) -> Route<'_> {
        let Services { node, metadata, .. } = &*self.services;
        Route { node, metadata, topic: &self.topic, place: self.place }
    }

    /// The replica here while it leads.
    fn leads_here(&self) -> Option<&Arc<PartitionSlot>> {
        self.own.as_ref().filter(|slot| slot.leads())
    }

    /// The broker that leads it, when that is another one, as far as is known here.
    #[must_use]
    pub fn led_elsewhere(&self) -> Option<BrokerId> {
        match self.route().leader() {
            Leader::There(leader, _) => Some(leader),
            Leader::Here(_) | Leader::Absent(_) => None,
        }
    }

    fn patience(&self) -> Patience {
        Patience::new(&self.services.metadata)
    }

    /// Appends batches and waits for the acknowledgement that was asked for. Batches of one request lie
    /// one after the other in the log. Dropping the future gives up waiting, not the append.
    ///
    /// # Errors
    /// [`AppendError`]; of an idempotent batch that is in the log already the original offsets are told,
    /// which is no error.
    pub async fn append(&self, request: AppendRequest) -> Result<AppendReply, AppendError> {
        let Some(slot) = self.leads_here() else { return Box::pin(self.append_to_leader(request, None)).await };
        if self.alone {
            return slot.append(request).await;
        }
        match slot.append(request.clone()).await {
            Err(error) if may_send_again(&request, &error) => {
                Box::pin(self.append_to_leader(request, Some(error))).await
            }
            outcome => outcome,
        }
    }

    /// `before`: how it ended when it was tried before.
    async fn append_to_leader(
        &self,
        request: AppendRequest,
        before: Option<AppendError>,
    ) -> Result<AppendReply, AppendError> {
        // Once something may have been written, no later refusal says that nothing was.
        let unknown = Cell::new(before.filter(AppendError::is_outcome_unknown));
        let outcome = self.append_in_turn(&request, &unknown).await;
        match unknown.into_inner() {
            Some(unknown) => outcome.map_err(|_| unknown),
            None => outcome,
        }
    }

    async fn append_in_turn(
        &self,
        request: &AppendRequest,
        unknown: &Cell<Option<AppendError>>,
    ) -> Result<AppendReply, AppendError> {
        // Asked once before: who waits for a leader holds no permit.
        drop(self.services.node.admit(ActorKind::Partition, request.bytes())?);
        let route = self.route();
        let deadline = Instant::now() + self.services.node.config.append_timeout();
        let here = async |slot: &PartitionSlot| slot.append(request.clone()).await;
        let there = async |leader, epoch| route.append_there((leader, epoch), request, deadline).await;
        let again = |error: &AppendError| {
            if error.is_outcome_unknown() {
                unknown.set(Some(error.clone()));
            }
            may_send_again(request, error)
        };
        let outcome = route.run(self.patience(), here, there, again).await;
        match outcome {
            Err(AppendError::NotLeader { leader: None, .. }) => match self.why_no_leader().await {
                Some(reason) => Err(AppendError::Offline(reason)),
                None => outcome,
            },
            outcome => outcome,
        }
    }

    /// Reads committed batches from `from` on, about `max_bytes` of them but at least one. When the leader is here no
    /// message is sent and nothing is copied: the bytes are slices of mapped files. Touching old ones may wait for
    /// the disk, so the caller should be on a thread that may.
    ///
    /// # Errors
    /// [`FetchError`]; an offset between the high watermark and the log end is no error but empty.
    pub async fn read(&self, from: Offset, max_bytes: usize) -> Result<Fetched, FetchError> {
        if let Some(slot) = self.leads_here() {
            match slot.read(from, max_bytes) {
                Err(error) if self.may_read_elsewhere(&error) => {}
                outcome => return outcome,
            }
        }
        let route = self.route();
        let here = async |slot: &PartitionSlot| slot.read(from, max_bytes);
        let there = async |leader, epoch| route.read_there((leader, epoch), from, max_bytes).await;
        self.read_at_leader(here, there, self.patience()).await
    }

    /// The partition as its leader sees it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn leader_view(&self) -> Result<LeaderView, FetchError> {
        if let Some(slot) = self.leads_here() {
            match slot.leader_view() {
                Err(error) if self.may_read_elsewhere(&error) => {}
                outcome => return outcome,
            }
        }
        let route = self.route();
        let here = async |slot: &PartitionSlot| slot.leader_view();
        let there = async |leader, epoch| route.view_there((leader, epoch)).await;
        self.read_at_leader(here, there, self.patience()).await
    }

    /// The same, without patience: an error when whoever leads does not answer at once.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn leader_view_at_once(&self) -> Result<LeaderView, FetchError> {
        let route = self.route();
        let retry_after_ms = self.services.node.retry_after_ms();
        match route.leader() {
            Leader::Here(slot) => slot.leader_view(),
            Leader::There(leader, epoch) => route.view_there((leader, epoch)).await,
            Leader::Absent(absent) => Err(forward::Refusal::absent(absent, retry_after_ms)),
        }
    }

    /// Waits until the high watermark is above `offset`, that is: until the record at `offset` can be
    /// read. Returns the view at the deadline when that comes first. Leaders may change meanwhile.
    ///
    /// # Errors
    /// [`FetchError`] as soon as the partition has no leader for long, or the broker drains.
    pub async fn wait_above(&self, offset: Offset, deadline: Instant) -> Result<LeaderView, FetchError> {
        if let Some(slot) = self.leads_here() {
            match slot.wait_above(offset, deadline).await {
                Err(error) if self.may_read_elsewhere(&error) => {}
                outcome => return outcome,
            }
        }
        let route = self.route();
        loop {
            let asked_at = Instant::now();
            let here = async |slot: &PartitionSlot| slot.wait_above(offset, deadline).await;
            let there = async |leader, epoch| route.wait_there((leader, epoch), offset, deadline).await;
            match self.read_at_leader(here, there, self.patience()).await {
                // A leader was lost, or found late, in the course of a long wait: that was not the time to give up.
                Err(error)
                    if self.may_read_elsewhere(&error)
                        && asked_at.elapsed() > 2 * forward::PATIENCE
                        && Instant::now() < deadline => {}
                outcome => return outcome,
            }
        }
    }

    /// The first committed record whose timestamp is at least `timestamp_ms`: its offset and timestamp.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn find_timestamp(&self, timestamp_ms: i64) -> Result<Option<(Offset, i64)>, FetchError> {
        let route = self.route();
        let here = async |slot: &PartitionSlot| slot.find_timestamp(timestamp_ms).await;
        let there = async |leader, epoch| route.find_timestamp_there((leader, epoch), timestamp_ms).await;
        self.read_at_leader(here, there, self.patience()).await
    }

    /// Deletes every record below `offset`, at most up to the high watermark.
    ///
    /// # Errors
    /// [`DeleteRecordsError`].
    pub async fn delete_records_before(&self, offset: Offset) -> Result<DeletedRecords, DeleteRecordsError> {
        let route = self.route();
        let this = self.services.node.config.broker_id;
        let by =
            |leader| move |(log_start_offset, leader_epoch)| DeletedRecords { log_start_offset, leader, leader_epoch };
        let here = async |slot: &PartitionSlot| slot.delete_records_before(offset).await.map(by(this));
        let there = async |leader, epoch| route.delete_records_there((leader, epoch), offset).await.map(by(leader));
        // As for appends: once something may have been deleted, no later refusal says that nothing was.
        let unknown = Cell::new(None);
        let again = |error: &DeleteRecordsError| {
            let is_unknown = matches!(error, DeleteRecordsError::Append(error) if error.is_outcome_unknown());
            if is_unknown {
                unknown.set(Some(error.clone()));
            }
            // Deleting again what is deleted changes nothing.
            is_unknown
        };
        let outcome = route.run(self.patience(), here, there, again).await;
        match unknown.into_inner() {
            Some(unknown) => {
                outcome.map_err(|error| if forward::Refusal::is_not_leading(&error) { unknown } else { error })
            }
            None => outcome,
        }
    }

    fn may_read_elsewhere(&self, error: &FetchError) -> bool {
        !self.alone && forward::Refusal::is_not_leading(error)
    }

    async fn read_at_leader<T>(
        &self,
        here: impl AsyncFn(&PartitionSlot) -> Result<T, FetchError>,
        there: impl AsyncFn(BrokerId, LeaderEpoch) -> Result<T, FetchError>,
        patience: Patience,
    ) -> Result<T, FetchError> {
        match Box::pin(self.route().run(patience, here, there, |_| false)).await {
            Err(FetchError::NotLeader { leader: None, retry_after_ms }) => Err(match self.why_no_leader().await {
                Some(reason) => FetchError::Offline(reason),
                None => FetchError::NotLeader { leader: None, retry_after_ms },
            }),
            outcome => outcome,
        }
    }

    /// Why nobody leads it, if the controller knows.
    async fn why_no_leader(&self) -> Option<Arc<crate::errors::OfflineReason>> {
        crate::broker::why_no_leader(&self.services, &self.topic, self.place.partition).await
    }
}

/// Whether a request can be sent to the next leader after this error, because nothing was done, or because what was
/// done will be recognised.
pub(crate) fn may_send_again(request: &AppendRequest, error: &AppendError) -> bool {
    match error {
        AppendError::OutcomeUnknown { .. } => {
            request.batches.len() <= RECOGNISED_BATCHES
                && request.batches.iter().all(|batch| batch.header().producer_id >= 0)
        }
        error => forward::Refusal::is_not_leading(error),
    }
}

impl fmt::Debug for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionHandle")
            .field("partition", &self.topic_partition())
            .field("leads_here", &self.leads_here().is_some())
            .finish_non_exhaustive()
    }
}
