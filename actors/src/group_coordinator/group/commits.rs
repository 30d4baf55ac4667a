//! Committed offsets.

use pubg1_model::{
    InstanceName, Offset, TopicPartition,
    consumer_group::{GroupError, MemberId},
    consumer_instance::{DeliveryUnknown, PollId, Subscription},
    offset_commit::{METADATA_BYTES_MAX, OffsetCommitValue},
};

use super::{Env, Group, Refused, members::static_id};
use crate::{
    errors::{GroupRequestError, LookupError},
    group_coordinator::call::Reply,
    handles::{CommittedOffset, OffsetToCommit},
};

/// Who commits knows a partition that is not known here: one of the two images is older. What a coordinator does not
/// know it would take for deleted.
pub(super) fn not_known_here(partition: &TopicPartition, env: Env<'_>) -> GroupRequestError {
    tracing::debug!(%partition, "a partition is not known here yet, or no longer");
    LookupError::NotReady { retry_after_ms: env.retry_after_ms }.into()
}

impl From<&OffsetCommitValue> for CommittedOffset {
    fn from(value: &OffsetCommitValue) -> Self {
        let OffsetCommitValue { offset, leader_epoch, metadata, commit_timestamp_ms } = value.clone();
        Self { offset, leader_epoch, metadata, commit_timestamp_ms }
    }
}

impl Group {
    /// What was committed.
    pub(super) fn committed(&self, only: Option<Vec<TopicPartition>>) -> Reply {
        Reply::Committed(match only {
            None => self.offsets.iter().map(|(partition, value)| (partition.clone(), value.into())).collect(),
            Some(partitions) => {
                let known = |partition: TopicPartition| {
                    let value = self.offsets.get(&partition)?.into();
                    Some((partition, value))
                };
                partitions.into_iter().filter_map(known).collect()
            }
        })
    }

    /// Checks what can be wrong with offsets whoever commits them.
    fn check_offsets(offsets: &[OffsetToCommit], env: Env<'_>) -> Result<(), GroupRequestError> {
        if offsets.iter().any(|offset| offset.metadata.len() > METADATA_BYTES_MAX) {
            let reason = format!("the metadata of an offset has at most {METADATA_BYTES_MAX} bytes");
            return Err(GroupRequestError::Invalid(reason));
        }
        let unknown = offsets.iter().find(|offset| !env.topics.has(&offset.partition));
        unknown.map_or(Ok(()), |offset| Err(not_known_here(&offset.partition, env)))
    }

    pub(super) fn commit_simply(
        &mut self,
        offsets: Vec<OffsetToCommit>,
        env: Env<'_>,
    ) -> Result<Reply, GroupRequestError> {
        Self::check_offsets(&offsets, env)?;
        let checked = self.protocol.check_commit(None, None, None, env.now_ms);
        checked.map_err(|_| GroupRequestError::HasMembers(self.id.clone()))?;
        self.store_offsets(offsets, env);
        Ok(Reply::Done)
    }

    pub(super) fn commit_as_instance(
        &mut self,
        name: &InstanceName,
        offsets: Vec<OffsetToCommit>,
        env: Env<'_>,
    ) -> Result<Reply, GroupRequestError> {
        self.alive(name, env)?;
        Self::check_offsets(&offsets, env)?;
        self.check_member(name, env)?;
        for OffsetToCommit { partition, .. } in &offsets {
            if self.instances.iter().any(|(other, instance)| {
                other != name && instance.state.member_id().is_some() && instance.state.owns(partition)
            }) {
                return Err(GroupRequestError::NotOwner(partition.clone()));
            }
        }
        if let Some(stale) = self.stale_commit(name, &offsets) {
            return Err(GroupRequestError::NotOwner(stale));
        }
        self.store_offsets(offsets, env);
        Ok(Reply::Done)
    }

    /// A partition that the instance shares, was given nothing of since it got it, and would take back: the number is of
    /// an earlier generation, and who read there meanwhile has come further.
    fn stale_commit(&self, name: &InstanceName, offsets: &[OffsetToCommit]) -> Option<TopicPartition> {
        let state = &self.instances.get(name)?.state;
        let is_stale = |commit: &&OffsetToCommit| {
            let committed = self.offsets.get(&commit.partition).map(|value| value.offset);
            state.shares() && !state.was_given(&commit.partition) && committed > Some(commit.offset)
        };
        offsets.iter().find(is_stale).map(|commit| commit.partition.clone())
    }

    /// Whether an instance may commit: as a member, or in a group that has none.
    fn check_member(&mut self, name: &InstanceName, env: Env<'_>) -> Result<(), GroupRequestError> {
        let instance = self.instance(name)?;
        let (shares, definition) = (instance.state.shares(), instance.state.definition());
        let identity = static_id(definition);
        let checked = match (shares, instance.state.member_id().map(MemberId::from)) {
            (true, Some(member)) => self.protocol.check_commit(Some(&member), identity.as_ref(), None, env.now_ms),
            (true, None) => Err(GroupError::UnknownMember),
            (false, _) => self.protocol.check_commit(None, None, None, env.now_ms),
        };
        checked.map_err(|error| self.refused(name, &error, env))
    }

    /// Commits what an instance has. Where that is not known yet it has to wait, unless that was `in_vain`.
    pub(super) fn commit_positions(
        &mut self,
        name: &InstanceName,
        in_vain: bool,
        env: Env<'_>,
    ) -> Result<Reply, Refused> {
        self.alive(name, env)?;
        self.check_member(name, env)?;
        self.catch_up(name);
        let instance = self.instance(name)?;
        if *instance.state.subscription() == Subscription::None {
            return Err(GroupRequestError::NotSubscribed(name.clone()).into());
        }
        match instance.state.positions_to_commit(env.now_ms) {
            Ok(positions) => {
                self.store_positions(positions, env);
                Ok(Reply::Done)
            }
            Err(DeliveryUnknown::UntilConfirmed(_)) if !in_vain => Err(instance.later(name, env)),
            Err(_) => Err(GroupRequestError::DeliveryUnknown(name.clone()).into()),
        }
    }

    /// Commits what a poll has delivered, which the client says it has.
    pub(super) fn commit_poll(
        &mut self,
        name: &InstanceName,
        poll: PollId,
        env: Env<'_>,
    ) -> Result<Reply, GroupRequestError> {
        self.alive(name, env)?;
        self.check_member(name, env)?;
        if poll == PollId::NONE {
            // It was given nothing, so there is nothing to commit: not even where a reset has led to.
            return Ok(Reply::Done);
        }
        let instance = self.instance(name)?;
        instance.state.acknowledge(poll, env.now_ms).map_err(|_| GroupRequestError::PollGone(poll))?;
        self.catch_up(name);
        let positions = self.instance(name)?.state.confirmed_positions();
        self.store_positions(positions, env);
        Ok(Reply::Done)
    }

    /// No position of an instance is behind what was committed, unless it was moved there.
    pub(super) fn catch_up(&mut self, name: &InstanceName) {
        let offsets = &self.offsets;
        if let Some(instance) = self.instances.get_mut(name) {
            instance.state.catch_up(|partition| offsets.get(partition).map(|value| value.offset));
        }
    }

    /// Commits without being asked. Who may not commit does not: it will read again from what was committed.
    pub(super) fn commit_by_itself(
        &mut self,
        name: &InstanceName,
        positions: Vec<(TopicPartition, Offset)>,
        env: Env<'_>,
    ) {
        if !positions.is_empty() && self.check_member(name, env).is_ok() {
            self.store_positions(positions, env);
        }
    }

    fn store_positions(&mut self, positions: Vec<(TopicPartition, Offset)>, env: Env<'_>) {
        let is_new = |(partition, offset): &(TopicPartition, Offset)| {
            self.offsets.get(partition).is_none_or(|committed| committed.offset != *offset)
        };
        let positions: Vec<_> = positions.into_iter().filter(is_new).collect();
        let to_commit =
            |(partition, offset)| OffsetToCommit { partition, offset, leader_epoch: None, metadata: String::new() };
        self.store_offsets(positions.into_iter().map(to_commit).collect(), env);
    }

    fn store_offsets(&mut self, offsets: Vec<OffsetToCommit>, env: Env<'_>) {
        env.metrics.commits.inc_by(u64::try_from(offsets.len()).unwrap_or(u64::MAX));
        for OffsetToCommit { partition, offset, leader_epoch, metadata } in offsets {
            let value = OffsetCommitValue { offset, leader_epoch, metadata, commit_timestamp_ms: env.wall_ms };
            self.outbox.offset(&self.id, partition.clone(), Some(&value));
            self.offsets.commit(partition, value);
        }
    }

    pub(super) fn delete_offsets(&mut self, partitions: Vec<TopicPartition>) -> Result<Reply, GroupRequestError> {
        let is_read = |partition: &TopicPartition| {
            self.instances
                .values()
                .any(|instance| instance.state.member_id().is_some() && instance.topics.contains(&partition.topic))
        };
        if partitions.iter().any(is_read) {
            return Err(GroupRequestError::HasMembers(self.id.clone()));
        }
        self.forget_offsets(partitions);
        Ok(Reply::Done)
    }

    pub(super) fn forget_offsets(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for partition in partitions {
            if self.offsets.remove(&partition) {
                self.outbox.offset(&self.id, partition, None);
            }
        }
    }
}
