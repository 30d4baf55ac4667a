//! The way to the coordinator of a group: the broker that leads the group's partition of the offsets topic. The
//! broker that receives a request of another one answers from its own coordinator and never sends it on.

use std::{cell::Cell, collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use pubg1_model::{BrokerId, GroupId, InstanceName, LeaderEpoch, PartitionId, consumer_instance::Edge};
use pubg1_transport::{ControlError, Payload, Peer, Request, Response};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{
    GroupCoordinatorHandle, OFFSETS_PARTITIONS,
    call::{Call, CallAnswer, Reply, Request as Asks},
    group::Refused,
    messages::{List, Listed, Progress},
    offsets_topic, partition_of, sample,
};
use crate::{
    errors::{AppendError, FetchError, GroupRequestError},
    forward::{Patience, Place, Refusal, Route},
    handles::{GroupList, GroupListing, GroupProgress},
    metadata::MetadataHandle,
    partition::PartitionSlot,
    rpc::{self, RpcError, Services, respond},
};

/// The kinds of these requests.
pub(super) mod kind {
    /// Something of a group.
    pub(in crate::group_coordinator) const CALL: u16 = 42;
    /// Wait for another assignment.
    pub(in crate::group_coordinator) const AWAIT_CHANGE: u16 = 43;
    /// Which groups there are.
    pub(in crate::group_coordinator) const LIST: u16 = 44;
    /// What there is behind offsets.
    pub(in crate::group_coordinator) const SAMPLE: u16 = 45;
    /// What groups have committed.
    pub(in crate::group_coordinator) const PROGRESS: u16 = 46;
}

/// How long a coordinator may take to say which groups it has.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// How much later than its own deadline an answer still counts.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);
/// Answers of a coordinator whose epoch has ended may still be on their way.
const LAST_ANSWERS: Duration = Duration::from_millis(250);
/// Without a free place among those who wait with another broker, this is how often a change is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Others change nothing of it: a version that no assignment has.
const LOST_VERSION: u64 = 0;

/// Wait until an assignment has another version; answered with a `Result<u64, GroupRequestError>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AwaitChange {
    group: GroupId,
    instance: InstanceName,
    version: u64,
    patience_ms: u64,
}

/// Something of each group, and in which partitions they are.
type ListAnswer<T> = (Vec<T>, Vec<PartitionId>);

impl GroupCoordinatorHandle {
    /// This broker, as one that polls for clients.
    fn edge(&self) -> Edge {
        let node = &self.0.node;
        Edge { broker: node.config.broker_id, incarnation: node.transport_incarnation() }
    }

    /// Has whichever broker coordinates the group do something. Every request may be made twice, so what is not known to
    /// be done is asked for again.
    pub(crate) async fn call(&self, group: GroupId, what: Asks) -> CallAnswer {
        let (node, metadata, topic) = (&self.0.node, &self.0.metadata, offsets_topic());
        let retry_after_ms = node.retry_after_ms();
        let Some(place) = place(metadata, partition_of(&group)) else {
            return Err(GroupRequestError::Loading { group, retry_after_ms });
        };
        let route = Route { node, metadata, topic: &topic, place };
        let call = Call { group, what };
        let may_be_done = Cell::new(false);
        let here = async |slot: &PartitionSlot| self.call_at_leader(slot, &call, self.edge()).await;
        let timeout = node.config.append_timeout() + Duration::from_millis(call.what.patience_ms()) + ANSWER_MARGIN;
        let there = async |leader: BrokerId, epoch: LeaderEpoch| {
            let times = (timeout, LAST_ANSWERS);
            match route.ask_leader((leader, epoch), kind::CALL, &call, Payload::empty(), times).await {
                Ok((answer, _)) => answer,
                Err(error) => {
                    may_be_done.set(may_be_done.get() || !matches!(error, RpcError::NotSent(_)));
                    Err(GroupRequestError::not_leader(Some(leader), retry_after_ms))
                }
            }
        };
        let again = |error: &GroupRequestError| {
            let is_unknown = matches!(error, GroupRequestError::Append(AppendError::OutcomeUnknown { .. }));
            may_be_done.set(may_be_done.get() || is_unknown);
            is_unknown
        };
        match Box::pin(route.run(Patience::new(metadata), here, there, again)).await {
            Err(error) if may_be_done.get() && call.what.is_done_by(&error) => Ok(Reply::Done),
            answer => answer,
        }
    }

    /// Asks the coordinator here, and waits for an earlier request of the same instance if it has to.
    async fn call_at_leader(&self, slot: &PartitionSlot, call: &Call, edge: Edge) -> CallAnswer {
        let deadline = Instant::now() + Duration::from_millis(call.what.patience_ms());
        loop {
            let in_vain = Instant::now() >= deadline;
            let answer = match self.call_here(call.clone(), edge, in_vain).await {
                Err(Refused::Later(mut ended)) if !in_vain => {
                    // One whose instance is gone looks once more, too.
                    drop(tokio::time::timeout_at(deadline, ended.changed()).await);
                    continue;
                }
                Err(Refused::Later(..)) => {
                    let retry_after_ms = self.0.node.retry_after_ms();
                    return Err(GroupRequestError::Loading { group: call.group.clone(), retry_after_ms });
                }
                Err(Refused::Error(error)) => Err(error),
                Ok(reply) => Ok(reply),
            };
            if answer.is_ok() && call.what.rests_on_memory() {
                // Looked at afterwards: the answer is not older than this.
                slot.leader_view().map_err(not_told)?;
            }
            return answer;
        }
    }

    /// Waits until an assignment has another version.
    pub(crate) async fn await_change(
        &self,
        group: GroupId,
        instance: InstanceName,
        version: u64,
        patience: Duration,
    ) -> Result<u64, GroupRequestError> {
        let (node, metadata, topic) = (&self.0.node, &self.0.metadata, offsets_topic());
        let retry_after_ms = node.retry_after_ms();
        let Some(place) = place(metadata, partition_of(&group)) else {
            return Err(GroupRequestError::Loading { group, retry_after_ms });
        };
        let route = Route { node, metadata, topic: &topic, place };
        let until = Instant::now() + patience;
        let left = || until.saturating_duration_since(Instant::now());
        let wait = |patience: Duration| AwaitChange {
            group: group.clone(),
            instance: instance.clone(),
            version,
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        let here = async |_: &PartitionSlot| self.await_change_here(wait(left())).await;
        let there = async |leader: BrokerId, epoch: LeaderEpoch| {
            // Whoever waits with another broker takes a place in its window, of which there are not many.
            let place = self.0.waiters.try_acquire().ok();
            if place.is_none() {
                tokio::time::sleep(left().min(LOOK_INTERVAL)).await;
            }
            let at_most = place.as_ref().map_or(Duration::ZERO, |_| left());
            let times = (at_most + ANSWER_MARGIN, Duration::ZERO);
            let wait = wait(at_most);
            match route.ask_leader((leader, epoch), kind::AWAIT_CHANGE, &wait, Payload::empty(), times).await {
                Ok((answer, _)) => answer,
                // It may have another coordinator by now, which knows of no poll.
                Err(_) => Ok(LOST_VERSION),
            }
        };
        Box::pin(route.run(Patience::new(metadata), here, there, |_| false)).await
    }

    async fn await_change_here(&self, wait: AwaitChange) -> Result<u64, GroupRequestError> {
        let AwaitChange { group, instance, version, patience_ms } = wait;
        let mut versions = self.watch_assignment(group, instance).await?;
        let changed = versions.wait_for(|now| *now != version);
        let waited = tokio::time::timeout(Duration::from_millis(patience_ms), changed).await;
        Ok(match waited {
            Ok(Ok(now)) => *now,
            // The instance is gone, or the coordinator has lost its partition.
            Ok(Err(_)) => LOST_VERSION,
            Err(_) => version,
        })
    }

    /// The groups of the cluster.
    pub(crate) async fn list(&self) -> GroupList {
        let (mut groups, missing) = self.gather(kind::LIST, || self.list_at_leader()).await;
        groups.sort_by(|a: &GroupListing, b| a.group.cmp(&b.group));
        GroupList { groups, missing }
    }

    /// What the groups of the cluster have committed.
    pub(crate) async fn progress(&self) -> Vec<GroupProgress> {
        let (mut groups, _) = self.gather(kind::PROGRESS, || self.progress_at_leader()).await;
        groups.sort_by(|a: &GroupProgress, b| a.group.cmp(&b.group));
        groups
    }

    /// Asks each coordinator once for something of each of its groups; also how many partitions nobody answered for.
    async fn gather<T: OfGroup + DeserializeOwned>(
        &self,
        kind: u16,
        here: impl AsyncFn() -> ListAnswer<T>,
    ) -> (Vec<T>, u32) {
        let (node, topic, here) = (&self.0.node, offsets_topic(), &here);
        let image = self.0.metadata.image();
        let leaders: BTreeSet<BrokerId> = image
            .topic(&topic)
            .into_iter()
            .flat_map(|topic| topic.partitions.iter().filter_map(|partition| partition.leader))
            .collect();
        let asked = leaders.into_iter().map(|leader| async move {
            if leader == node.config.broker_id {
                return here().await;
            }
            let asked = node.rpc.call(leader, kind, &(), Payload::empty(), LIST_TIMEOUT).await;
            asked.map(|(answer, _)| answer).unwrap_or_default()
        });
        let (mut groups, mut told) = (Vec::new(), BTreeSet::new());
        for (listed, partitions) in join_all(asked).await {
            // Two brokers may take themselves for the leader, of which one has lost that just now.
            let new: BTreeSet<PartitionId> = partitions.into_iter().filter(|it| !told.contains(it)).collect();
            groups.extend(listed.into_iter().filter(|listing: &T| new.contains(&partition_of(listing.group()))));
            told.extend(new);
        }
        let missing = OFFSETS_PARTITIONS - u32::try_from(told.len()).unwrap_or(OFFSETS_PARTITIONS);
        (groups, missing)
    }

    async fn list_at_leader(&self) -> ListAnswer<GroupListing> {
        self.readable(self.list_here(|reply, permit| List { reply, permit }).await)
    }

    async fn progress_at_leader(&self) -> ListAnswer<GroupProgress> {
        self.readable(self.list_here(|reply, permit| Progress { reply, permit }).await)
    }

    /// What the coordinator here knows, in partitions that may be read.
    fn readable<T: OfGroup>(&self, listed: Listed<T>) -> ListAnswer<T> {
        let Listed { mut groups, mut partitions } = listed;
        let may_be_read = |partition: &PartitionId| {
            let slot = self.0.node.table.get(&offsets_topic(), *partition);
            slot.is_some_and(|slot| slot.leader_view().is_ok())
        };
        partitions.retain(may_be_read);
        groups.retain(|listing| partitions.contains(&partition_of(listing.group())));
        (groups, partitions)
    }
}

/// What is told of one group.
trait OfGroup {
    fn group(&self) -> &GroupId;
}

impl OfGroup for GroupListing {
    fn group(&self) -> &GroupId {
        &self.group
    }
}

impl OfGroup for GroupProgress {
    fn group(&self) -> &GroupId {
        &self.group
    }
}

/// The partition of the offsets topic; `None` while there is no such topic.
fn place(metadata: &MetadataHandle, partition: PartitionId) -> Option<Place> {
    let topic_id = metadata.image().topic(&offsets_topic())?.id;
    Some(Place { topic_id, partition })
}

/// The partition does not answer for its coordinator: what was asked may be done nevertheless.
fn not_told(error: FetchError) -> GroupRequestError {
    GroupRequestError::Append(match error {
        FetchError::Offline(reason) => AppendError::Offline(reason),
        FetchError::Draining => AppendError::Draining,
        FetchError::NotLeader { retry_after_ms, .. } | FetchError::NotReady { retry_after_ms } => {
            AppendError::OutcomeUnknown { retry_after_ms }
        }
        _ => AppendError::Deleted,
    })
}

/// Answers a request for groups that came to another broker.
pub(crate) async fn answer(services: &Services, peer: Peer, request: Request) -> Response {
    let answered = match request.kind {
        kind::CALL => call(services, peer, &request).await,
        kind::AWAIT_CHANGE => await_change(services, &request).await,
        kind::LIST => Ok(respond(request.kind, &services.groups.list_at_leader().await)),
        kind::PROGRESS => Ok(respond(request.kind, &services.groups.progress_at_leader().await)),
        kind::SAMPLE => sampled(services, &request).await,
        _ => Ok(rpc::unknown()),
    };
    answered.unwrap_or_else(|error| rpc::not_understood(&error))
}

/// The partition of the group, if it is led here.
fn led_here(services: &Services, group: &GroupId) -> Result<Arc<PartitionSlot>, GroupRequestError> {
    let slot = services.node.table.get(&offsets_topic(), partition_of(group)).filter(|slot| slot.leads());
    slot.ok_or_else(|| GroupRequestError::not_leader(None, services.node.retry_after_ms()))
}

async fn call(services: &Services, peer: Peer, request: &Request) -> Result<Response, ControlError> {
    let call: Call = request.decode()?;
    let edge = Edge { broker: peer.broker_id, incarnation: peer.incarnation };
    let answer: CallAnswer = match led_here(services, &call.group) {
        Ok(slot) => services.groups.call_at_leader(&slot, &call, edge).await,
        Err(error) => Err(error),
    };
    Ok(respond(request.kind, &answer))
}

async fn await_change(services: &Services, request: &Request) -> Result<Response, ControlError> {
    let wait: AwaitChange = request.decode()?;
    let changed = match led_here(services, &wait.group) {
        Ok(_) => services.groups.await_change_here(wait).await,
        Err(error) => Err(error),
    };
    Ok(respond(request.kind, &changed))
}

async fn sampled(services: &Services, request: &Request) -> Result<Response, ControlError> {
    Ok(respond(request.kind, &sample::look(&services.node, request.decode()?).await))
}
