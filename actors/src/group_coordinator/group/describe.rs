//! A group as others see it.

use std::collections::BTreeMap;

use pubg1_model::{
    InstanceName, Offset, TopicPartition,
    consumer_group::{Assignment, GroupState, MemberDescription, MemberId, Subscription},
};

use super::{Env, Group};
use crate::{
    errors::GroupRequestError,
    group_coordinator::call::Reply,
    handles::{GroupDescription, GroupListing, GroupMember, GroupPartition, GroupProgress},
};

impl Group {
    pub(super) fn describe(&self, env: Env<'_>) -> Result<Reply, GroupRequestError> {
        if self.is_nothing() {
            return Err(GroupRequestError::UnknownGroup(self.id.clone()));
        }
        let described = self.protocol.describe();
        let members: Vec<GroupMember> = described.members.into_iter().map(|member| self.member(member)).collect();
        let partitions = self.partitions(&members);
        Ok(Reply::Group(Box::new(GroupDescription {
            group: self.id.clone(),
            status: described.state,
            protocol_type: described.protocol_type,
            protocol: described.protocol,
            generation: described.generation.get(),
            leader: described.leader.map(String::from),
            coordinator: env.coordinator,
            members,
            partitions,
        })))
    }

    fn member(&self, member: MemberDescription) -> GroupMember {
        let assigned = self.protocol.assignment(&member.member_id).unwrap_or_default();
        // What a client that is no consumer says is its own affair.
        let topics = Subscription::decode(&member.subscription).unwrap_or_default().topics;
        let assignment = Assignment::decode(assigned).unwrap_or_default().partitions;
        GroupMember {
            instance: self.instance_of(&member.member_id).cloned(),
            member_id: String::from(member.member_id),
            group_instance_id: member.group_instance_id.map(String::from),
            client_id: member.client_id,
            client_host: member.client_host,
            topics: topics.into_iter().collect(),
            assignment: assignment.into_iter().collect(),
        }
    }

    fn instance_of(&self, member: &MemberId) -> Option<&InstanceName> {
        let is_it =
            |(_, instance): &(&InstanceName, &super::Instance)| instance.state.member_id() == Some(member.as_str());
        self.instances.iter().find(is_it).map(|(name, _)| name)
    }

    fn partitions(&self, members: &[GroupMember]) -> Vec<GroupPartition> {
        let mut known: BTreeMap<TopicPartition, GroupPartition> = BTreeMap::new();
        let unknown = |partition: &TopicPartition| GroupPartition {
            partition: partition.clone(),
            committed: None,
            owner: None,
            lag_samples: Vec::new(),
        };
        for (partition, value) in self.offsets.iter() {
            let committed = Some(value.into());
            known.insert(partition.clone(), GroupPartition { committed, ..unknown(partition) });
        }
        for member in members {
            for partition in &member.assignment {
                let known = known.entry(partition.clone()).or_insert_with(|| unknown(partition));
                known.owner = Some(member.member_id.clone());
            }
        }
        known.into_values().collect()
    }

    /// One line about it.
    pub(in crate::group_coordinator) fn listing(&self, env: Env<'_>) -> GroupListing {
        let described = self.protocol.describe();
        GroupListing {
            group: self.id.clone(),
            status: described.state,
            protocol_type: described.protocol_type,
            members: u32::try_from(described.members.len()).unwrap_or(u32::MAX),
            coordinator: env.coordinator,
        }
    }

    /// How far it is.
    pub(in crate::group_coordinator) fn progress(&self) -> GroupProgress {
        let members = u32::try_from(self.member_count()).unwrap_or(u32::MAX);
        GroupProgress { group: self.id.clone(), members, committed: self.read_positions().collect() }
    }

    /// Where the group has committed that it reads next.
    pub(in crate::group_coordinator) fn read_positions(&self) -> impl Iterator<Item = (TopicPartition, Offset)> {
        self.offsets.iter().map(|(partition, value)| (partition.clone(), value.offset))
    }

    /// Whether it has committed in a partition.
    pub(in crate::group_coordinator) fn reads(&self, partition: &TopicPartition) -> bool {
        self.offsets.get(partition).is_some()
    }

    pub(in crate::group_coordinator) fn state(&self) -> GroupState {
        self.protocol.state()
    }

    pub(in crate::group_coordinator) fn member_count(&self) -> usize {
        self.protocol.member_count()
    }
}
