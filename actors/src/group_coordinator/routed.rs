//! The way to the coordinator of a group: the broker that leads the group's partition of the offsets topic. The
//! broker that receives a request of another one answers from its own coordinator and never sends it on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, GroupId, LeaderEpoch, Offset, PartitionId, TopicPartition,
    offset_commit::{OffsetCommitKey, OffsetCommitValue},
};
use pubg1_transport::{ControlError, Payload, Peer, Request, Response};
use serde::{Deserialize, Serialize};

use super::{GroupCoordinatorHandle, offsets_topic, partition_of};
use crate::{
    errors::{AppendError, CommitOffsetError, CommittedOffsetError, FetchError, LookupError, OfflineReason},
    forward::{Patience, Place, Refusal, Route, kind},
    metadata::MetadataHandle,
    partition::PartitionSlot,
    rpc::{self, Services, respond},
};

/// How long a coordinator may take to tell what a group has committed.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers of a coordinator whose epoch has ended may still be on their way.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// What a group has committed.
type Committed = BTreeMap<TopicPartition, OffsetCommitValue>;

/// Store an offset; answered with a `Result<(), CommitOffsetError>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CommitOffset {
    group: GroupId,
    topic_partition: TopicPartition,
    value: WireValue,
}

/// Tell what a group has committed, in one partition or everywhere; answered with a [`CommittedAnswer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CommittedOffsets {
    group: GroupId,
    only: Option<TopicPartition>,
}

/// The answer to [`CommittedOffsets`].
type CommittedAnswer = Result<Vec<(TopicPartition, WireValue)>, CommittedOffsetError>;

/// A committed offset on its way between brokers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WireValue {
    offset: Offset,
    leader_epoch: Option<LeaderEpoch>,
    metadata: String,
    commit_timestamp_ms: i64,
}

impl From<OffsetCommitValue> for WireValue {
    fn from(value: OffsetCommitValue) -> Self {
        let OffsetCommitValue { offset, leader_epoch, metadata, commit_timestamp_ms } = value;
        Self { offset, leader_epoch, metadata, commit_timestamp_ms }
    }
}

impl From<WireValue> for OffsetCommitValue {
    fn from(value: WireValue) -> Self {
        let WireValue { offset, leader_epoch, metadata, commit_timestamp_ms } = value;
        Self { offset, leader_epoch, metadata, commit_timestamp_ms }
    }
}

impl CommitOffset {
    fn into_parts(self) -> (OffsetCommitKey, OffsetCommitValue) {
        let key = OffsetCommitKey { group: self.group, topic_partition: self.topic_partition };
        (key, self.value.into())
    }
}

impl GroupCoordinatorHandle {
    /// Stores an offset, with whichever broker coordinates the group. To do so twice does no harm.
    pub(crate) async fn commit(
        &self,
        group: GroupId,
        topic_partition: TopicPartition,
        offset: Offset,
        metadata: String,
    ) -> Result<(), CommitOffsetError> {
        let commit_timestamp_ms = self.0.node.config.clock.now_ms();
        let value = WireValue { offset, leader_epoch: None, metadata, commit_timestamp_ms };
        let commit = CommitOffset { group: group.clone(), topic_partition, value };
        // What is wrong with it is wrong everywhere.
        let (key, value) = commit.clone().into_parts();
        drop((key.encode()?, value.encode()?));

        let (node, metadata, topic) = (&self.0.node, &self.0.metadata, offsets_topic());
        let retry_after_ms = node.retry_after_ms();
        let Some(place) = place(metadata, partition_of(&group)) else {
            return Err(CommitOffsetError::Loading { group, retry_after_ms });
        };
        let route = Route { node, metadata, topic: &topic, place };
        let here = async |_: &PartitionSlot| {
            let (key, value) = commit.clone().into_parts();
            self.commit_here(key, value).await
        };
        let times = (node.config.append_timeout(), LAST_ANSWERS);
        let there = async |leader: BrokerId, epoch: LeaderEpoch| {
            let asked = route.ask_leader((leader, epoch), kind::COMMIT_OFFSET, &commit, Payload::empty(), times).await;
            asked
                .map_or_else(|_| Err(CommitOffsetError::not_leader(Some(leader), retry_after_ms)), |(answer, _)| answer)
        };
        let again =
            |error: &CommitOffsetError| matches!(error, CommitOffsetError::Append(AppendError::OutcomeUnknown { .. }));
        Box::pin(route.run(Patience::new(metadata), here, there, again)).await
    }

    /// What a group has committed: in one partition, or everywhere.
    pub(crate) async fn committed(
        &self,
        group: GroupId,
        only: Option<TopicPartition>,
    ) -> Result<Committed, CommittedOffsetError> {
        let (node, metadata, topic) = (&self.0.node, &self.0.metadata, offsets_topic());
        let retry_after_ms = node.retry_after_ms();
        let Some(place) = place(metadata, partition_of(&group)) else {
            return Err(CommittedOffsetError::Loading { group, retry_after_ms });
        };
        let route = Route { node, metadata, topic: &topic, place };
        let question = CommittedOffsets { group: group.clone(), only };
        let here = async |slot: &PartitionSlot| Ok(self.committed_at_leader(slot, question.clone()).await?);
        let times = (READ_TIMEOUT, Duration::ZERO);
        let there = async |leader: BrokerId, epoch: LeaderEpoch| {
            let asked: Result<(CommittedAnswer, _), _> =
                route.ask_leader((leader, epoch), kind::COMMITTED_OFFSETS, &question, Payload::empty(), times).await;
            match asked {
                Ok((answer, _)) => Ok(answer?.into_iter().map(|(place, value)| (place, value.into())).collect()),
                Err(_) => Err(NotTold::not_leader(Some(leader), retry_after_ms)),
            }
        };
        let told = Box::pin(route.run(Patience::new(metadata), here, there, |_| false)).await;
        told.map_err(|error| error.into_error(group, retry_after_ms))
    }

    /// The coordinator's memory is what is committed, for as long as its partition may be read.
    async fn committed_at_leader(
        &self,
        slot: &PartitionSlot,
        question: CommittedOffsets,
    ) -> Result<Committed, CommittedOffsetError> {
        let CommittedOffsets { group, only } = question;
        let told = self.committed_here(group.clone(), only).await?;
        let retry_after_ms = self.0.node.retry_after_ms();
        // Looked at afterwards: the answer is not older than this.
        slot.leader_view().map_err(|error| NotTold::Partition(error).into_error(group, retry_after_ms))?;
        Ok(told)
    }
}

/// The partition of the offsets topic; `None` while there is no such topic.
fn place(metadata: &MetadataHandle, partition: PartitionId) -> Option<Place> {
    let topic_id = metadata.image().topic(&offsets_topic())?.id;
    Some(Place { topic_id, partition })
}

/// Why it is not told what a group has committed: by the coordinator, or by the partition.
enum NotTold {
    Coordinator(CommittedOffsetError),
    Partition(FetchError),
}

impl NotTold {
    fn into_error(self, group: GroupId, retry_after_ms: u64) -> CommittedOffsetError {
        match self {
            Self::Coordinator(error) => error,
            Self::Partition(FetchError::Offline(reason)) => CommittedOffsetError::Offline { group, reason },
            Self::Partition(FetchError::Draining) => CommittedOffsetError::Draining,
            Self::Partition(FetchError::NotLeader { .. }) => CommittedOffsetError::NotLeader { group, retry_after_ms },
            Self::Partition(_) => CommittedOffsetError::Loading { group, retry_after_ms },
        }
    }
}

impl From<CommittedOffsetError> for NotTold {
    fn from(error: CommittedOffsetError) -> Self {
        Self::Coordinator(error)
    }
}

impl Refusal for NotTold {
    fn not_leader(leader: Option<BrokerId>, retry_after_ms: u64) -> Self {
        Self::Partition(FetchError::not_leader(leader, retry_after_ms))
    }
    fn not_ready(retry_after_ms: u64) -> Self {
        Self::Partition(FetchError::not_ready(retry_after_ms))
    }
    fn offline(reason: Arc<OfflineReason>) -> Self {
        Self::Partition(FetchError::offline(reason))
    }
    fn draining() -> Self {
        Self::Partition(FetchError::draining())
    }
    fn deleted() -> Self {
        Self::Partition(FetchError::deleted())
    }
    fn is_not_leading(&self) -> bool {
        match self {
            Self::Coordinator(CommittedOffsetError::Loading { .. } | CommittedOffsetError::NotLeader { .. }) => true,
            Self::Coordinator(_) => false,
            Self::Partition(error) => error.is_not_leading(),
        }
    }
    fn is_draining(&self) -> bool {
        match self {
            Self::Coordinator(error) => *error == CommittedOffsetError::Draining,
            Self::Partition(error) => error.is_draining(),
        }
    }
}

/// Answers a request for a group that came to another broker.
pub(crate) async fn answer(services: &Services, _: Peer, request: Request) -> Response {
    let answered = match request.kind {
        kind::COMMIT_OFFSET => commit(services, &request).await,
        kind::COMMITTED_OFFSETS => committed(services, &request).await,
        _ => Ok(rpc::unknown()),
    };
    answered.unwrap_or_else(|error| rpc::not_understood(&error))
}

/// The partition of the group, if it is led here.
fn led_here(services: &Services, group: &GroupId) -> Option<Arc<PartitionSlot>> {
    services.node.table.get(&offsets_topic(), partition_of(group)).filter(|slot| slot.leads())
}

async fn commit(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let commit: CommitOffset = request.decode()?;
    let retry_after_ms = services.node.retry_after_ms();
    let TopicPartition { topic, partition } = &commit.topic_partition;
    let committed = if led_here(services, &commit.group).is_none() {
        Err(AppendError::NotLeader { leader: None, retry_after_ms }.into())
    } else if services.metadata.image().partition(topic, *partition).is_none() {
        // Created, or deleted, just now: one of the two images is older. What a coordinator does not know it would
        // take for deleted.
        Err(LookupError::NotReady { retry_after_ms }.into())
    } else {
        let (key, value) = commit.into_parts();
        services.groups.commit_here(key, value).await
    };
    Ok(respond(request.kind, &committed))
}

async fn committed(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let question: CommittedOffsets = request.decode()?;
    let retry_after_ms = services.node.retry_after_ms();
    let told = match led_here(services, &question.group) {
        Some(slot) => services.groups.committed_at_leader(&slot, question).await,
        None => Err(CommittedOffsetError::NotLeader { group: question.group, retry_after_ms }),
    };
    let told: CommittedAnswer = told.map(|told| told.into_iter().map(|(place, value)| (place, value.into())).collect());
    Ok(respond(request.kind, &told))
}

#[cfg(test)]
mod tests {
    use pubg1_model::TopicName;

    use super::*;
    use crate::fixture::*;

    #[actix_rt::test]
    async fn another_broker_commits_and_reads_with_the_coordinator_here() {
        let fixture = Fixture::new();
        let broker = fixture.start().await;
        let group: GroupId = "g".parse().unwrap();
        let at = |topic: TopicName| TopicPartition { topic, partition: PartitionId(1) };
        // The coordinator has loaded once it has taken something.
        within(broker.commit_offset(group.clone(), at(topic("pubg1")), offset(1), "m".to_owned())).await.unwrap();

        let (services, topic_of_offsets) = (broker.services(), offsets_topic());
        let place = place(&services.metadata, partition_of(&group)).unwrap();
        let Services { node, metadata, .. } = services;
        let route = Route { node, metadata, topic: &topic_of_offsets, place };
        let epoch = route.in_image(&services.metadata.image()).unwrap().leader_epoch;
        let this = (broker.broker_id(), epoch);
        let times = (Duration::from_secs(60), LAST_ANSWERS);
        let commit = async |name: &str, to: u64| {
            let (offset, metadata) = (offset(to), "n".to_owned());
            let value = WireValue { offset, leader_epoch: None, metadata, commit_timestamp_ms: 5 };
            let commit = CommitOffset { group: group.clone(), topic_partition: at(topic(name)), value };
            let asked = route.ask_leader(this, kind::COMMIT_OFFSET, &commit, Payload::empty(), times);
            let (answer, _): (Result<(), CommitOffsetError>, _) = within(asked).await.unwrap();
            answer
        };
        assert_eq!(commit("pubg1", 7).await, Ok(()));
        let unknown = commit("none", 7).await.unwrap_err();
        assert!(unknown.is_retriable() && Refusal::is_not_leading(&unknown), "{unknown}: its image may be older");

        let question = CommittedOffsets { group: group.clone(), only: Some(at(topic("pubg1"))) };
        let asked = route.ask_leader(this, kind::COMMITTED_OFFSETS, &question, Payload::empty(), times);
        let (answer, _): (CommittedAnswer, _) = within(asked).await.unwrap();
        let [(place, value)] = &answer.unwrap()[..] else { panic!("one offset was committed") };
        assert_eq!((place, value.offset, &*value.metadata), (&at(topic("pubg1")), offset(7), "n"));
        assert_eq!(
            within(broker.committed_offset(group, at(topic("pubg1")))).await.unwrap().unwrap().offset,
            offset(7)
        );
        broker.drain(Duration::from_secs(60)).await;
    }
}
