//! Asks another broker, and gives up on it when the image says that it leads no more.

use std::time::Duration;

use bytes::Bytes;
use pubg1_metrics::ActorKind;
use pubg1_model::{BrokerId, LeaderEpoch, Offset};
use pubg1_transport::Payload;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use super::{
    messages::{
        Append, DeleteRecords, FindTimestamp, Place, Read, ReadReply, ReplicaRead, ReplicaReadReply, View, ViewAnswer,
        WaitAbove, kind,
    },
    refusal::Refusal,
    route::Route,
};
use crate::{
    errors::{AppendError, DeleteRecordsError, FetchError},
    node::NodeContext,
    partition::{AppendReply, AppendRequest, Fetched, LeaderView, ReplicaBatches, ReplicaStatus},
    rpc::{PAYLOAD_BYTES_MAX, RpcError, Services},
};

/// How long a read may take, of which a client waits for the answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How much later than its own deadline an answer of the leader still counts: it says more than silence.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);
/// Answers of a leader whose epoch has ended may still be on their way.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

impl Route<'_> {
    /// Asks the leader of `epoch`. When that epoch has ended, the answer is waited for at most `grace` more.
    pub(crate) async fn ask_leader<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        (leader, epoch): (BrokerId, LeaderEpoch),
        kind: u16,
        control: &Q,
        payload: Payload,
        (timeout, grace): (Duration, Duration),
    ) -> Result<(A, Bytes), RpcError> {
        let mut images = self.metadata.images();
        let epoch_ended = async {
            let ended =
                |image: &std::sync::Arc<_>| self.in_image(image).is_none_or(|partition| partition.leader_epoch > epoch);
            // The image's sender lives as long as the metadata's handle.
            images.wait_for(ended).await.map(drop).unwrap_or_default();
            sleep(grace).await;
        };
        tokio::select! {
            biased;
            answer = self.node.rpc.call(leader, kind, control, payload, timeout) => answer,
            () = epoch_ended => Err(RpcError::OutcomeUnknown(format!("broker {leader} leads no more"))),
        }
        .inspect_err(|error| tracing::debug!(%leader, kind, %error, "a leader was asked in vain"))
    }

    /// Asks for something that changes nothing: any failure to reach the leader is as good as a refusal.
    async fn ask_to_read<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        leader: (BrokerId, LeaderEpoch),
        kind: u16,
        control: &Q,
        timeout: Duration,
    ) -> Result<(A, Bytes), FetchError> {
        let answer = self.ask_leader(leader, kind, control, Payload::empty(), (timeout, Duration::ZERO)).await;
        answer.map_err(|error| not_read(&error, leader.0, self.node.retry_after_ms()))
    }

    pub(crate) async fn append_there(
        &self,
        leader: (BrokerId, LeaderEpoch),
        request: &AppendRequest,
        deadline: Instant,
    ) -> Result<AppendReply, AppendError> {
        let node = self.node;
        let (bytes, bytes_max) = (request.bytes(), PAYLOAD_BYTES_MAX as u64);
        if bytes > bytes_max {
            return Err(AppendError::RequestTooLarge { bytes, bytes_max });
        }
        // Held until the answer is here: what is sent on takes memory here, too.
        let _permit = node.admit(ActorKind::Partition, bytes)?;
        let batches: Vec<Bytes> = request.batches.iter().map(|batch| batch.bytes().clone()).collect();
        let call = Append { place: self.place, acks: request.acks };
        let timeout = deadline.saturating_duration_since(Instant::now()) + ANSWER_MARGIN;
        let asked = self.ask_leader(leader, kind::APPEND, &call, Payload::from(batches), (timeout, LAST_ANSWERS));
        let retry_after_ms = node.retry_after_ms();
        match asked.await {
            Ok((answer, _)) => answer,
            Err(RpcError::NotSent(_)) => Err(AppendError::not_leader(Some(leader.0), retry_after_ms)),
            Err(RpcError::OutcomeUnknown(_) | RpcError::Misunderstood(_)) => {
                Err(AppendError::OutcomeUnknown { retry_after_ms })
            }
        }
    }

    pub(crate) async fn read_there(
        &self,
        leader: (BrokerId, LeaderEpoch),
        from: Offset,
        max_bytes: usize,
    ) -> Result<Fetched, FetchError> {
        let call = Read { place: self.place, from, max_bytes: max_bytes.min(PAYLOAD_BYTES_MAX) as u64 };
        let (answer, batches) = self.ask_to_read(leader, kind::READ, &call, READ_TIMEOUT).await?;
        let answer: Result<ReadReply, FetchError> = answer;
        answer.map(|reply| reply.with(batches))
    }

    /// The view at once.
    pub(crate) async fn view_there(&self, leader: (BrokerId, LeaderEpoch)) -> Result<LeaderView, FetchError> {
        let call = View { place: self.place, wait: None };
        let (answer, _) = self.ask_to_read::<_, ViewAnswer>(leader, kind::VIEW, &call, READ_TIMEOUT).await?;
        answer
    }

    /// The view when the record at `offset` can be read, or the time has come.
    pub(super) async fn view_above_there(
        &self,
        leader: (BrokerId, LeaderEpoch),
        offset: Offset,
        until: Instant,
    ) -> Result<LeaderView, FetchError> {
        let at_most = until.saturating_duration_since(Instant::now());
        let call = View { place: self.place, wait: Some(WaitAbove { offset, at_most }) };
        let timeout = at_most + READ_TIMEOUT;
        let (answer, _) = self.ask_to_read::<_, ViewAnswer>(leader, kind::VIEW, &call, timeout).await?;
        answer
    }

    pub(crate) async fn find_timestamp_there(
        &self,
        leader: (BrokerId, LeaderEpoch),
        timestamp_ms: i64,
    ) -> Result<Option<(Offset, i64)>, FetchError> {
        let call = FindTimestamp { place: self.place, timestamp_ms };
        let timeout = self.node.config.append_timeout();
        let (answer, _) = self.ask_to_read(leader, kind::FIND_TIMESTAMP, &call, timeout).await?;
        answer
    }

    pub(crate) async fn delete_records_there(
        &self,
        leader: (BrokerId, LeaderEpoch),
        before: Offset,
    ) -> Result<(Offset, LeaderEpoch), DeleteRecordsError> {
        let node = self.node;
        let call = DeleteRecords { place: self.place, before };
        let times = (node.config.append_timeout(), LAST_ANSWERS);
        let asked = self.ask_leader(leader, kind::DELETE_RECORDS, &call, Payload::empty(), times);
        let retry_after_ms = node.retry_after_ms();
        match asked.await {
            Ok((answer, _)) => answer,
            Err(RpcError::NotSent(_)) => Err(DeleteRecordsError::not_leader(Some(leader.0), retry_after_ms)),
            Err(RpcError::OutcomeUnknown(_) | RpcError::Misunderstood(_)) => {
                Err(AppendError::OutcomeUnknown { retry_after_ms }.into())
            }
        }
    }
}

fn not_read(error: &RpcError, broker: BrokerId, retry_after_ms: u64) -> FetchError {
    match error {
        RpcError::NotSent(_) | RpcError::OutcomeUnknown(_) => FetchError::not_leader(Some(broker), retry_after_ms),
        RpcError::Misunderstood(reason) => FetchError::Storage { reason: format!("broker {broker}: {reason}") },
    }
}

/// Asks a broker for the state of its replica; `None`: it keeps none.
pub(crate) async fn ask_replica_status(
    services: &Services,
    broker: BrokerId,
    place: Place,
    timeout: Duration,
) -> Result<Option<ReplicaStatus>, RpcError> {
    let call = services.node.rpc.call(broker, kind::REPLICA_STATUS, &place, Payload::empty(), timeout);
    call.await.map(|(status, _)| status)
}

/// Reads batches of a broker's replica.
pub(crate) async fn ask_replica_batches(
    node: &NodeContext,
    broker: BrokerId,
    place: Place,
    from: Option<Offset>,
    max_bytes: usize,
) -> Result<ReplicaBatches, FetchError> {
    let call = ReplicaRead { place, from, max_bytes: max_bytes.min(PAYLOAD_BYTES_MAX) as u64 };
    let asked = node.rpc.call(broker, kind::REPLICA_READ, &call, Payload::empty(), READ_TIMEOUT).await;
    let retry_after_ms = node.retry_after_ms();
    let (answer, batches) = asked.map_err(|error| match error {
        RpcError::NotSent(_) | RpcError::OutcomeUnknown(_) => FetchError::Unreachable { broker, retry_after_ms },
        RpcError::Misunderstood(reason) => FetchError::Storage { reason: format!("broker {broker}: {reason}") },
    })?;
    let answer: Result<ReplicaReadReply, FetchError> = answer;
    answer.map(|reply| reply.with(batches))
}

/// Asks a broker which replicas are in sync of partitions that it leads; none of those that it does not lead.
pub(crate) async fn ask_in_sync(
    services: &Services,
    broker: BrokerId,
    places: Vec<Place>,
    timeout: Duration,
) -> Result<Vec<Vec<BrokerId>>, RpcError> {
    let call = services.node.rpc.call(broker, kind::IN_SYNC, &places, Payload::empty(), timeout);
    call.await.map(|(in_sync, _)| in_sync)
}

/// Asks a broker for its views of partitions that it leads; nothing of those that it does not lead.
pub(crate) async fn ask_views(
    services: &Services,
    broker: BrokerId,
    places: &[Place],
    timeout: Duration,
) -> Result<Vec<Option<LeaderView>>, RpcError> {
    let call = services.node.rpc.call(broker, kind::VIEWS, &places, Payload::empty(), timeout);
    call.await.map(|(views, _)| views)
}
