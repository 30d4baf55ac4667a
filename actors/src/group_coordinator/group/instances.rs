//! Consumer instances: created, described, removed.

use pubg1_model::{
    InstanceName,
    consumer_group::MemberId,
    consumer_instance::{ConsumerInstance, Edge, InstanceDefinition},
};

use super::{Env, Group, INSTANCES_MAX, Instance, Refused};
use crate::{
    errors::GroupRequestError,
    group_coordinator::call::{InstanceRequest, Reply},
    handles::InstanceDescription,
};

impl Group {
    pub(super) fn handle_instance(
        &mut self,
        name: &InstanceName,
        what: InstanceRequest,
        edge: Edge,
        in_vain: bool,
        env: Env<'_>,
    ) -> Result<Reply, Refused> {
        let answer = match what {
            InstanceRequest::BeginPoll(begin) => return self.begin_poll(name, begin, edge, in_vain, env),
            InstanceRequest::CommitPositions { .. } => return self.commit_positions(name, in_vain, env),
            InstanceRequest::Create { creation, definition } => self.create(name, creation, definition, env),
            InstanceRequest::Describe => self.describe_instance(name, env),
            InstanceRequest::Delete => self.remove_instance(name, env),
            InstanceRequest::Subscribe(subscription) => self.subscribe(name, subscription, env),
            InstanceRequest::Heartbeat => self.alive(name, env).map(|()| Reply::Done),
            InstanceRequest::Deliver { poll, ranges } => self.deliver(name, poll, ranges, env),
            InstanceRequest::Confirm { poll, received } => self.confirm(name, poll, received, env),
            InstanceRequest::Seek(offsets) => self.seek(name, &offsets, env),
            InstanceRequest::CommitOffsets(offsets) => self.commit_as_instance(name, offsets, env),
            InstanceRequest::CommitPoll(poll) => self.commit_poll(name, poll, env),
        };
        Ok(answer?)
    }

    /// A call of an instance has come: neither its session nor its life ends for now.
    pub(super) fn alive(&mut self, name: &InstanceName, env: Env<'_>) -> Result<(), GroupRequestError> {
        let instance = self.instance(name)?;
        instance.state.touch(env.now_ms);
        if let Some(member) = instance.state.member_id().map(MemberId::from) {
            self.protocol.touch(&member, env.now_ms);
        }
        Ok(())
    }

    fn create(
        &mut self,
        name: &InstanceName,
        creation: u64,
        definition: InstanceDefinition,
        env: Env<'_>,
    ) -> Result<Reply, GroupRequestError> {
        definition.validate()?;
        if let Some(instance) = self.instances.get(name) {
            // The answer to the first attempt got lost.
            if instance.state.creation() == creation {
                return Ok(Reply::Done);
            }
            return Err(GroupRequestError::InstanceExists { group: self.id.clone(), instance: name.clone() });
        }
        if self.instances.len() >= INSTANCES_MAX {
            let members_max = u32::try_from(INSTANCES_MAX).unwrap_or(u32::MAX);
            return Err(GroupRequestError::GroupFull { group: self.id.clone(), members_max });
        }
        let state = ConsumerInstance::new(definition, creation, env.wall_ms, env.now_ms);
        self.instances.insert(name.clone(), Instance::new(state));
        Ok(Reply::Done)
    }

    fn describe_instance(&mut self, name: &InstanceName, env: Env<'_>) -> Result<Reply, GroupRequestError> {
        self.alive(name, env)?;
        let generation = self.protocol.generation().get();
        let Instance { state, topics, .. } = self.instance(name)?;
        let description = InstanceDescription {
            name: name.clone(),
            definition: state.definition().clone(),
            subscription: state.subscription().clone(),
            topics: topics.iter().cloned().collect(),
            assignment: state.assignment().cloned().collect(),
            assignment_version: state.assignment_version(),
            member_id: state.member_id().map(str::to_owned),
            generation,
            positions: state.positions().map(|(partition, offset)| (partition.clone(), offset)).collect(),
        };
        Ok(Reply::Instance(Box::new(description)))
    }

    /// Removes an instance: what it commits by itself is committed, then it leaves, then it is forgotten.
    pub(super) fn remove_instance(&mut self, name: &InstanceName, env: Env<'_>) -> Result<Reply, GroupRequestError> {
        self.catch_up(name);
        let instance = self.instance(name)?;
        if instance.state.definition().auto_commit_interval_ms.is_some() {
            let positions = instance.state.unasked_positions();
            self.commit_by_itself(name, positions, env);
        }
        self.forget_instance(name, env);
        Ok(Reply::Done)
    }

    pub(super) fn forget_instance(&mut self, name: &InstanceName, env: Env<'_>) {
        self.leave(name, env);
        self.collect();
        if let Some(Instance { state, .. }) = self.instances.remove(name) {
            self.outbox.remove_instance(&self.id, name, state.into_removals());
        }
    }

    pub(super) fn remove_member(&mut self, member: &str, env: Env<'_>) -> Result<Reply, GroupRequestError> {
        let of_member = |(_, instance): &(&InstanceName, &Instance)| instance.state.member_id() == Some(member);
        if let Some((name, _)) = self.instances.iter().find(of_member) {
            let name = name.clone();
            return self.remove_instance(&name, env);
        }
        let leaving = pubg1_model::consumer_group::LeavingMember {
            member_id: Some(MemberId::from(member)),
            group_instance_id: None,
        };
        let left = self.protocol.leave(&[leaving], env.now_ms).into_iter().all(|left| left.is_ok());
        self.settle(None, env);
        if left {
            return Ok(Reply::Done);
        }
        Err(GroupRequestError::UnknownMember { group: self.id.clone(), member: member.to_owned() })
    }
}
