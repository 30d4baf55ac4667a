//! Polls: begun, delivered, confirmed; and seeks.

use pubg1_model::{
    InstanceName, Offset, TopicPartition,
    consumer_instance::{Edge, NewPoll, NotAssigned, PollId, Range, Subscription},
};

use super::{Env, Group, Refused};
use crate::{
    errors::GroupRequestError,
    group_coordinator::call::{BeginPoll, Reply},
    handles::{Delivered, DeliveredRange, PollGrant},
};

impl Group {
    /// Begins a poll. One that was waited for `in_vain` is given up: what it has delivered is given again, and what it
    /// has not delivered it may not give.
    pub(super) fn begin_poll(
        &mut self,
        name: &InstanceName,
        begin: BeginPoll,
        edge: Edge,
        in_vain: bool,
        env: Env<'_>,
    ) -> Result<Reply, Refused> {
        self.alive(name, env)?;
        self.rejoin(name, env)?;
        let (offsets, now_ms, poll) = (&self.offsets, env.now_ms, PollId(env.numbers.draw()));
        let generation = self.protocol.generation().get();
        let Some(instance) = self.instances.get_mut(name) else {
            return Err(GroupRequestError::UnknownInstance { group: self.id.clone(), instance: name.clone() }.into());
        };
        if *instance.state.subscription() == Subscription::None {
            return Err(GroupRequestError::NotSubscribed(name.clone()).into());
        }
        let BeginPoll { attempt, acknowledged, held_for_ms, .. } = begin;
        let new = NewPoll { poll, attempt, edge, acknowledged, held_for_ms };
        let committed = |partition: &TopicPartition| offsets.get(partition).map(|value| value.offset);
        let mut begun = instance.state.begin_poll(new, committed, now_ms);
        if let Err(under_way) = begun
            && in_vain
        {
            instance.state.drop_poll(under_way.poll);
            instance.tell_ended();
            begun = instance.state.begin_poll(new, committed, now_ms);
        }
        let begun = begun.map_err(|_| instance.later(name, env))?;
        let grant = PollGrant {
            poll: begun.poll,
            partitions: begun.partitions,
            assignment_version: instance.state.assignment_version(),
            definition: instance.state.definition().clone(),
            generation: instance.state.member_id().map(|_| generation),
        };
        let positions = instance.state.take_auto_commit(now_ms);
        self.commit_by_itself(name, positions, env);
        Ok(Reply::Grant(Box::new(grant)))
    }

    pub(super) fn deliver(
        &mut self,
        name: &InstanceName,
        poll: PollId,
        ranges: Vec<DeliveredRange>,
        env: Env<'_>,
    ) -> Result<Reply, GroupRequestError> {
        self.alive(name, env)?;
        let generation = self.protocol.generation().get();
        let instance = self.instance(name)?;
        let range = |DeliveredRange { partition, from, next }| Range { partition, from, next };
        let ranges: Vec<Range> = ranges.into_iter().map(range).collect();
        let refused = instance.state.deliver(poll, &ranges, env.now_ms);
        let refused = refused.map_err(|_| GroupRequestError::PollGone(poll))?;
        let generation = instance.state.member_id().map(|_| generation);
        if !instance.state.is_polling(env.now_ms) {
            instance.tell_ended();
        }
        Ok(Reply::Delivered(Delivered { refused, generation }))
    }

    pub(super) fn confirm(
        &mut self,
        name: &InstanceName,
        poll: PollId,
        received: bool,
        env: Env<'_>,
    ) -> Result<Reply, GroupRequestError> {
        self.alive(name, env)?;
        let instance = self.instance(name)?;
        let confirmed = instance.state.confirm(poll, received, env.now_ms);
        instance.tell_ended();
        confirmed.map(|()| Reply::Done).map_err(|_| GroupRequestError::PollGone(poll))
    }

    pub(super) fn seek(
        &mut self,
        name: &InstanceName,
        offsets: &[(TopicPartition, Offset)],
        env: Env<'_>,
    ) -> Result<Reply, GroupRequestError> {
        self.alive(name, env)?;
        let sought = self.instance(name)?.state.seek(offsets);
        sought.map(|()| Reply::Done).map_err(|NotAssigned(partition)| GroupRequestError::NotAssigned(partition))
    }
}
