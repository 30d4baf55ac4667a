//! What can be asked about consumer groups, on any broker.

mod types;

use std::{collections::BTreeMap, time::Duration};

use pubg1_model::{
    GroupId, InstanceName, Offset, TopicPartition,
    consumer_instance::{PollId, Subscription},
};
use uuid::Uuid;

use crate::{
    errors::GroupRequestError,
    group_coordinator::{BeginPoll, GroupCoordinatorHandle, GroupReply, GroupRequest, InstanceRequest},
};

pub use types::{
    CommittedOffset, Delivered, DeliveredRange, GroupDescription, GroupList, GroupListing, GroupMember, GroupPartition,
    GroupProgress, GroupStatus, InstanceDescription, LagSample, NewInstance, OffsetToCommit, POLL_HELD_MAX, PollGrant,
    PollRequest,
};

/// How long a commit waits to hear whether the last delivery was received.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// The consumer groups of the cluster. Cheap to clone. Every method works on any broker: it asks the coordinator, and
/// waits a moment for one where there is none.
///
/// A poll goes `begin_poll`, `deliver`, `confirm`; see [`pubg1_model::consumer_instance`]. Where a method answers
/// [`GroupRequestError::PollGone`] the coordinator has changed, or has taken the poll for dead: nothing of it may be
/// given to the client, and the edge begins a new one.
#[derive(Clone)]
pub struct GroupsHandle {
    coordinator: GroupCoordinatorHandle,
}

impl GroupsHandle {
    pub(crate) const fn new(coordinator: GroupCoordinatorHandle) -> Self {
        Self { coordinator }
    }

    async fn call(&self, group: &GroupId, what: GroupRequest) -> Result<GroupReply, GroupRequestError> {
        self.coordinator.call(group.clone(), what).await
    }

    async fn instance_call(
        &self,
        group: &GroupId,
        name: &InstanceName,
        what: InstanceRequest,
    ) -> Result<GroupReply, GroupRequestError> {
        self.call(group, GroupRequest::Instance(name.clone(), what)).await
    }

    /// A partition that does not exist is a mistake of the client. The coordinator's image may be older than this one's.
    fn check<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<(), GroupRequestError> {
        Ok(partitions.into_iter().try_for_each(|partition| self.coordinator.check_partition(partition))?)
    }

    /// Creates an instance and says how it is called.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn create_instance(&self, group: &GroupId, new: NewInstance) -> Result<InstanceName, GroupRequestError> {
        let NewInstance { name, definition } = new;
        definition.validate()?;
        let fresh = || format!("consumer-{}", Uuid::new_v4().simple()).parse();
        let name = name.map_or_else(fresh, Ok).map_err(|error| GroupRequestError::Invalid(error.to_string()))?;
        let what = InstanceRequest::Create { creation: Uuid::new_v4().as_u64_pair().0, definition };
        self.instance_call(group, &name, what).await?;
        Ok(name)
    }

    /// An instance. It counts as a call of it.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn instance(
        &self,
        group: &GroupId,
        name: &InstanceName,
    ) -> Result<InstanceDescription, GroupRequestError> {
        match self.instance_call(group, name, InstanceRequest::Describe).await? {
            GroupReply::Instance(description) => Ok(*description),
            other => Err(misunderstood(&other)),
        }
    }

    /// Removes an instance: commits what is to be committed by itself, and leaves the group.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn delete_instance(&self, group: &GroupId, name: &InstanceName) -> Result<(), GroupRequestError> {
        self.instance_call(group, name, InstanceRequest::Delete).await.map(drop)
    }

    /// Makes an instance read topics, or partitions by hand, in place of what it read before.
    /// [`Subscription::None`] takes it out of the group.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::MixedSubscription`] between topics and partitions by hand.
    pub async fn subscribe(
        &self,
        group: &GroupId,
        name: &InstanceName,
        subscription: Subscription,
    ) -> Result<(), GroupRequestError> {
        subscription.validate()?;
        if let Subscription::Manual(partitions) = &subscription {
            self.check(partitions)?;
        }
        self.instance_call(group, name, InstanceRequest::Subscribe(subscription)).await.map(drop)
    }

    /// Ends a subscription, or an assignment by hand.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn unsubscribe(&self, group: &GroupId, name: &InstanceName) -> Result<(), GroupRequestError> {
        self.subscribe(group, name, Subscription::None).await
    }

    /// Gives partitions to an instance by hand.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn assign(
        &self,
        group: &GroupId,
        name: &InstanceName,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), GroupRequestError> {
        self.subscribe(group, name, Subscription::Manual(partitions)).await
    }

    /// Says that the client lives.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn heartbeat(&self, group: &GroupId, name: &InstanceName) -> Result<(), GroupRequestError> {
        self.instance_call(group, name, InstanceRequest::Heartbeat).await.map(drop)
    }

    /// Begins a poll, after the one before it has ended. One that does not end while this has the patience to wait is
    /// superseded: what it has not delivered it may not give any more, and what it has delivered is given again.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::Busy`] when as many wait already as may.
    pub async fn begin_poll(
        &self,
        group: &GroupId,
        name: &InstanceName,
        request: PollRequest,
    ) -> Result<PollGrant, GroupRequestError> {
        let PollRequest { acknowledged, patience, held_for } = request;
        let (patience_ms, held_for_ms) = (millis(patience), millis(held_for));
        let attempt = Uuid::new_v4().as_u64_pair().0;
        let begin = BeginPoll { attempt, acknowledged, patience_ms, held_for_ms };
        match self.instance_call(group, name, InstanceRequest::BeginPoll(begin)).await? {
            GroupReply::Grant(grant) => Ok(*grant),
            other => Err(misunderstood(&other)),
        }
    }

    /// Stores what a poll is about to give to the client, and where its resets have led to. Only after this may the
    /// client get a byte. A poll that has found nothing needs no delivery, unless it has resolved a reset.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::PollGone`].
    pub async fn deliver(
        &self,
        group: &GroupId,
        name: &InstanceName,
        poll: PollId,
        ranges: Vec<DeliveredRange>,
    ) -> Result<Delivered, GroupRequestError> {
        match self.instance_call(group, name, InstanceRequest::Deliver { poll, ranges }).await? {
            GroupReply::Delivered(delivered) => Ok(delivered),
            other => Err(misunderstood(&other)),
        }
    }

    /// Ends a poll: the client has the answer, or (`received: false`) may not have all of it. For an instance that
    /// confirms by token it only ends the poll, which its delivery has done already.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::PollGone`] when it had ended otherwise, which is no harm.
    pub async fn confirm(
        &self,
        group: &GroupId,
        name: &InstanceName,
        poll: PollId,
        received: bool,
    ) -> Result<(), GroupRequestError> {
        self.instance_call(group, name, InstanceRequest::Confirm { poll, received }).await.map(drop)
    }

    /// Waits until the assignment has another version than this, or `patience` is over; tells the version. An edge that
    /// waits for records waits for this besides. It may come back early.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn await_change(
        &self,
        group: &GroupId,
        name: &InstanceName,
        version: u64,
        patience: Duration,
    ) -> Result<u64, GroupRequestError> {
        self.coordinator.await_change(group.clone(), name.clone(), version, patience).await
    }

    /// Moves an instance in partitions that are its own. A poll under way is refused those partitions.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::NotAssigned`].
    pub async fn seek(
        &self,
        group: &GroupId,
        name: &InstanceName,
        offsets: Vec<(TopicPartition, Offset)>,
    ) -> Result<(), GroupRequestError> {
        self.instance_call(group, name, InstanceRequest::Seek(offsets)).await.map(drop)
    }

    /// Commits everything that an instance was given and is known to have. Where the last delivery may still be
    /// confirmed it waits for that.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::DeliveryUnknown`] when it cannot be known, and
    /// [`GroupRequestError::Expelled`].
    pub async fn commit_positions(&self, group: &GroupId, name: &InstanceName) -> Result<(), GroupRequestError> {
        let what = InstanceRequest::CommitPositions { patience_ms: millis(COMMIT_PATIENCE) };
        self.instance_call(group, name, what).await.map(drop)
    }

    /// Commits offsets as an instance: all of them or none.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::Expelled`], [`GroupRequestError::NotOwner`].
    pub async fn commit_offsets(
        &self,
        group: &GroupId,
        name: &InstanceName,
        offsets: Vec<OffsetToCommit>,
    ) -> Result<(), GroupRequestError> {
        self.check(offsets.iter().map(|offset| &offset.partition))?;
        self.instance_call(group, name, InstanceRequest::CommitOffsets(offsets)).await.map(drop)
    }

    /// Commits as a member that confirms by token: what the poll has delivered, or these offsets. [`PollId::NONE`] stands
    /// for a client that has received nothing yet.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn commit_as(
        &self,
        group: &GroupId,
        name: &InstanceName,
        poll: PollId,
        offsets: Option<Vec<OffsetToCommit>>,
    ) -> Result<(), GroupRequestError> {
        self.check(offsets.iter().flatten().map(|offset| &offset.partition))?;
        let what = offsets.map_or(InstanceRequest::CommitPoll(poll), InstanceRequest::CommitOffsets);
        self.instance_call(group, name, what).await.map(drop)
    }

    /// Commits offsets without a member, which only a group without members takes.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::HasMembers`].
    pub async fn commit_simply(&self, group: &GroupId, offsets: Vec<OffsetToCommit>) -> Result<(), GroupRequestError> {
        self.check(offsets.iter().map(|offset| &offset.partition))?;
        self.call(group, GroupRequest::CommitSimply(offsets)).await.map(drop)
    }

    /// What a group has committed, in these partitions or everywhere.
    ///
    /// # Errors
    /// [`GroupRequestError`].
    pub async fn committed(
        &self,
        group: &GroupId,
        only: Option<Vec<TopicPartition>>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, GroupRequestError> {
        match self.call(group, GroupRequest::Committed(only)).await? {
            GroupReply::Committed(committed) => Ok(committed.into_iter().collect()),
            other => Err(misunderstood(&other)),
        }
    }

    /// The groups of the cluster, as far as their coordinators can be asked.
    pub async fn list(&self) -> GroupList {
        self.coordinator.list().await
    }

    /// What the groups of the cluster have committed, as far as their coordinators can be asked: one question for each
    /// broker.
    pub async fn progress(&self) -> Vec<GroupProgress> {
        self.coordinator.progress().await
    }

    /// A group.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::UnknownGroup`].
    pub async fn describe(&self, group: &GroupId) -> Result<GroupDescription, GroupRequestError> {
        match self.call(group, GroupRequest::Describe).await? {
            GroupReply::Group(description) => Ok(*description),
            other => Err(misunderstood(&other)),
        }
    }

    /// Deletes a group that has no members, with its offsets and its instances.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::HasMembers`].
    pub async fn delete_group(&self, group: &GroupId) -> Result<(), GroupRequestError> {
        self.call(group, GroupRequest::DeleteGroup).await.map(drop)
    }

    /// Deletes what a group has committed in partitions that no member reads.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::HasMembers`].
    pub async fn delete_offsets(
        &self,
        group: &GroupId,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), GroupRequestError> {
        self.call(group, GroupRequest::DeleteOffsets(partitions)).await.map(drop)
    }

    /// Moves a group that has no members: commits these offsets for it.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::HasMembers`].
    pub async fn seek_group(
        &self,
        group: &GroupId,
        offsets: Vec<(TopicPartition, Offset)>,
    ) -> Result<(), GroupRequestError> {
        let to_commit = |(partition, offset)| OffsetToCommit::at(partition, offset);
        self.commit_simply(group, offsets.into_iter().map(to_commit).collect()).await
    }

    /// Takes a member out of its group: the instance behind it is removed.
    ///
    /// # Errors
    /// [`GroupRequestError`]; [`GroupRequestError::UnknownMember`].
    pub async fn remove_member(&self, group: &GroupId, member_id: &str) -> Result<(), GroupRequestError> {
        self.call(group, GroupRequest::RemoveMember(member_id.to_owned())).await.map(drop)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A coordinator of another version has answered something else than was asked.
fn misunderstood(reply: &GroupReply) -> GroupRequestError {
    tracing::error!(?reply, "the coordinator has answered something else than was asked");
    GroupRequestError::Invalid("the coordinator has answered something else than was asked".to_owned())
}

impl std::fmt::Debug for GroupsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupsHandle").finish_non_exhaustive()
    }
}
