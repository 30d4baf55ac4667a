//! Membership: instances that subscribe are members, for which the coordinator speaks.

use std::collections::BTreeSet;

use pubg1_model::{
    InstanceName, TopicName,
    consumer_group::{
        Assignment, CONSUMER_PROTOCOL_TYPE, Driver, Effect, GroupError, GroupInstanceId, JoinRequest, LeavingMember,
        MemberId, Subscription as MemberSubscription, Ticket, TopicPattern, assign_members,
    },
    consumer_instance::{InstanceDefinition, Subscription},
};
use uuid::Uuid;

use super::{Env, Group, Instance};
use crate::{errors::GroupRequestError, group_coordinator::call::Reply};

/// How long a member may take to join again: it does so at once.
const REBALANCE_TIMEOUT_MS: u32 = 60_000;

/// The answer to a join, by whom it was asked for.
type Joined = Option<Result<(), GroupError>>;

impl Group {
    /// Does what the protocol wants done. The answer to the join of `ticket`, if it came.
    pub(super) fn settle(&mut self, ticket: Option<Ticket>, env: Env<'_>) -> Joined {
        let (mut joined, mut is_changed, mut is_removed, mut any) = (None, false, false, false);
        loop {
            let effects = self.protocol.drain_effects();
            if effects.is_empty() {
                break;
            }
            any = true;
            for effect in effects {
                match effect {
                    Effect::Joined { ticket: asked, answer } if Some(asked) == ticket => {
                        joined = Some(answer.map(drop))
                    }
                    // Only the coordinator itself joins, and it looks at the assignments.
                    Effect::Joined { .. } | Effect::Synced { .. } | Effect::Assigned { .. } => {}
                    Effect::Assign { generation, protocol, members } => {
                        let assigned = assign_members(&protocol, &members, env.topics.partitions());
                        let assigned = assigned.unwrap_or_else(|error| {
                            tracing::error!(group = %self.id, %error, "a group cannot be assigned");
                            Vec::new()
                        });
                        self.protocol.assign(generation, assigned, env.now_ms);
                    }
                    Effect::Store => (is_changed, is_removed) = (true, false),
                    Effect::Remove => (is_changed, is_removed) = (false, true),
                    Effect::Rebalancing(reason) => {
                        tracing::debug!(group = %self.id, reason = reason.as_str(), "a group rebalances");
                        env.metrics.rebalanced(reason.as_str());
                    }
                }
            }
        }
        if any {
            self.take_over_assignments(env);
            // An instance's member is known before the member is: one that was not stored joins again.
            self.collect();
        }
        if is_changed {
            let record = self.protocol.record(env.wall_ms);
            self.outbox.group(&self.id, Some(&record));
            self.is_stored = true;
        }
        if is_removed && std::mem::take(&mut self.is_stored) {
            self.outbox.group(&self.id, None);
        }
        joined
    }

    /// Gives every instance what its member was assigned. Who is no member any more was expelled.
    pub(super) fn take_over_assignments(&mut self, env: Env<'_>) {
        for (name, instance) in &mut self.instances {
            let Some(member) = instance.state.member_id().map(MemberId::from) else { continue };
            let Some(assigned) = self.protocol.assignment(&member) else {
                tracing::info!(group = %self.id, instance = %name, "a member was expelled");
                instance.state.expel(env.numbers.draw());
                continue;
            };
            match Assignment::decode(assigned) {
                Ok(Assignment { partitions, .. }) => instance.state.set_assignment(partitions, env.numbers.draw()),
                Err(error) => {
                    tracing::warn!(group = %self.id, instance = %name, %error, "an assignment cannot be read");
                    instance.state.set_assignment(BTreeSet::new(), env.numbers.draw());
                }
            }
        }
    }

    /// Says what an instance reads, and makes it a member or takes it out.
    pub(super) fn subscribe(
        &mut self,
        name: &InstanceName,
        subscription: Subscription,
        env: Env<'_>,
    ) -> Result<Reply, GroupRequestError> {
        self.alive(name, env)?;
        subscription.validate()?;
        let pattern = match &subscription {
            Subscription::Pattern(text) => {
                Some(TopicPattern::new(text).map_err(|error| GroupRequestError::Invalid(error.to_string()))?)
            }
            _ => None,
        };
        if let Subscription::Manual(partitions) = &subscription
            && let Some(unknown) = partitions.iter().find(|partition| !env.topics.has(partition))
        {
            return Err(super::commits::not_known_here(unknown, env));
        }
        let instance = self.instance(name)?;
        let by_hand = |subscription: &Subscription| matches!(subscription, Subscription::Manual(_));
        let (before, wanted) = (instance.state.subscription(), &subscription);
        if *before != Subscription::None && *wanted != Subscription::None && by_hand(before) != by_hand(wanted) {
            return Err(GroupRequestError::MixedSubscription(name.clone()));
        }
        let before = (instance.topics.clone(), instance.pattern.clone());
        let topics = topics_of(&subscription, pattern.as_ref(), env);
        (instance.topics, instance.pattern) = (topics, pattern);
        let member = match &subscription {
            Subscription::None | Subscription::Manual(_) => {
                self.leave(name, env);
                None
            }
            Subscription::Topics(_) | Subscription::Pattern(_) => match self.join_or_resubscribe(name, env) {
                Ok(member) => Some(member),
                Err(error) => {
                    let instance = self.instance(name)?;
                    (instance.topics, instance.pattern) = before;
                    return Err(error);
                }
            },
        };
        let version = env.numbers.draw();
        self.instance(name)?.state.subscribe(subscription, member.map(String::from), version);
        self.settle(None, env);
        self.take_over_assignments(env);
        Ok(Reply::Done)
    }

    /// Makes an instance a member, or tells the group what its member reads now.
    fn join_or_resubscribe(&mut self, name: &InstanceName, env: Env<'_>) -> Result<MemberId, GroupRequestError> {
        let instance = self.instance(name)?;
        let member = instance.state.member_id().map(MemberId::from);
        let protocols = protocols(instance);
        match member.filter(|member| self.protocol.has_member(member)) {
            Some(member) => match self.protocol.resubscribe(&member, protocols, env.now_ms) {
                Ok(()) => Ok(member),
                Err(error) => Err(self.refused(name, &error, env)),
            },
            None => self.join(name, protocols, env),
        }
    }

    fn join(
        &mut self,
        name: &InstanceName,
        protocols: Vec<(String, Vec<u8>)>,
        env: Env<'_>,
    ) -> Result<MemberId, GroupRequestError> {
        let definition = self.instance(name)?.state.definition();
        let fresh = MemberId::from(format!("{name}-{}", Uuid::new_v4().simple()));
        let request = JoinRequest {
            member_id: None,
            group_instance_id: static_id(definition),
            client_id: definition.client_id.clone(),
            client_host: definition.client_host.clone(),
            driver: Driver::Server,
            session_timeout_ms: u32::try_from(definition.session_timeout_ms).unwrap_or(u32::MAX),
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
            protocols,
            require_known_member_id: false,
            supports_skipping_assignment: false,
        };
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0.wrapping_add(1));
        // Known as its member before the group tells what the member is assigned.
        self.instance(name)?.state.set_member(Some(String::from(fresh.clone())));
        self.protocol.join(request, fresh.clone(), ticket, env.now_ms);
        let refused = match self.settle(Some(ticket), env) {
            Some(Err(error)) => Some(error),
            _ if self.protocol.has_member(&fresh) => None,
            _ => Some(GroupError::UnknownMember),
        };
        match refused {
            None => Ok(fresh),
            Some(error) => {
                let error = self.refused(name, &error, env);
                self.instance(name)?.state.set_member(None);
                Err(error)
            }
        }
    }

    /// One that was expelled joins again, unless another has taken its static identity over.
    pub(super) fn rejoin(&mut self, name: &InstanceName, env: Env<'_>) -> Result<(), GroupRequestError> {
        let instance = self.instance(name)?;
        if !instance.state.shares() || instance.state.member_id().is_some() {
            return Ok(());
        }
        let (identity, protocols) = (static_id(instance.state.definition()), protocols(instance));
        if let Some(identity) = identity
            && self.protocol.static_member(&identity).is_some()
        {
            return Err(GroupRequestError::Fenced {
                instance: name.clone(),
                group_instance_id: identity.as_str().to_owned(),
            });
        }
        self.join(name, protocols, env)?;
        Ok(())
    }

    /// Takes an instance's member out of the group, if it is one.
    pub(super) fn leave(&mut self, name: &InstanceName, env: Env<'_>) {
        let Some(instance) = self.instances.get_mut(name) else { return };
        let Some(member) = instance.state.member_id().map(MemberId::from) else { return };
        instance.state.expel(env.numbers.draw());
        let leaving = LeavingMember { member_id: Some(member), group_instance_id: None };
        // Who is no member any more need not leave.
        self.protocol.leave(&[leaving], env.now_ms).into_iter().for_each(|left| left.unwrap_or_default());
        self.settle(None, env);
    }

    /// What a refusal of the protocol means for an instance.
    pub(super) fn refused(&self, name: &InstanceName, error: &GroupError, env: Env<'_>) -> GroupRequestError {
        let (group, retry_after_ms) = (self.id.clone(), env.retry_after_ms);
        match error {
            GroupError::UnknownMember | GroupError::IllegalGeneration { .. } | GroupError::MemberIdRequired(_) => {
                GroupRequestError::Expelled(name.clone())
            }
            GroupError::RebalanceInProgress => GroupRequestError::Rebalancing { group, retry_after_ms },
            GroupError::FencedInstance => {
                let definition = self.instances.get(name).map(|instance| instance.state.definition());
                let identity = definition.and_then(|definition| definition.group_instance_id.clone());
                let group_instance_id = identity.unwrap_or_default();
                GroupRequestError::Fenced { instance: name.clone(), group_instance_id }
            }
            GroupError::InconsistentProtocol => GroupRequestError::InconsistentProtocol(group),
            GroupError::NotEmpty => GroupRequestError::HasMembers(group),
            GroupError::GroupFull { max } => {
                GroupRequestError::GroupFull { group, members_max: u32::try_from(*max).unwrap_or(u32::MAX) }
            }
            GroupError::UnknownGroup => GroupRequestError::UnknownGroup(group),
            GroupError::InvalidSessionTimeout { .. } | GroupError::TooLarge { .. } => {
                GroupRequestError::Invalid(error.to_string())
            }
        }
    }
}

/// The identity of a static member.
pub(super) fn static_id(definition: &InstanceDefinition) -> Option<GroupInstanceId> {
    definition.group_instance_id.as_deref().map(GroupInstanceId::from)
}

/// The topics that a subscription means at present.
pub(super) fn topics_of(
    subscription: &Subscription,
    pattern: Option<&TopicPattern>,
    env: Env<'_>,
) -> BTreeSet<TopicName> {
    match (subscription, pattern) {
        (Subscription::Topics(topics), _) => topics.iter().cloned().collect(),
        (Subscription::Pattern(_), Some(pattern)) => env.topics.matching(pattern),
        (Subscription::Manual(partitions), _) => partitions.iter().map(|partition| partition.topic.clone()).collect(),
        _ => BTreeSet::new(),
    }
}

/// What a member says of itself under each of its assignors.
pub(super) fn protocols(instance: &Instance) -> Vec<(String, Vec<u8>)> {
    let wanted = MemberSubscription::to_topics(instance.topics.iter().cloned());
    // Without owned partitions there is no number that could be too large.
    let metadata = wanted.encode().unwrap_or_default();
    instance.state.definition().assignors.iter().map(|assignor| (assignor.clone(), metadata.clone())).collect()
}
