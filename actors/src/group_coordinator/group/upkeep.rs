//! What happens to a group without being asked: time passes, topics come and go, edges die; it is deleted, or restored.

use std::collections::{BTreeMap, BTreeSet};

use pubg1_model::{
    GroupId, InstanceName, TopicPartition,
    consumer_group::{
        ConsumerGroup, GroupMetadataValue, GroupOffsets, GroupState, GroupTimeouts, MemberId, Subscription as Wanted,
        TopicPattern,
    },
    consumer_instance::{ConsumerInstance, Edge, InstanceChange, StoredInstance, StoredPosition, Subscription},
};

use super::{
    Env, Group, Instance,
    members::{protocols, topics_of},
};
use crate::{
    errors::GroupRequestError,
    group_coordinator::{call::Reply, topics::TopicChanges},
};

/// What the log says of a group.
#[derive(Debug, Default)]
pub(in crate::group_coordinator) struct StoredGroup {
    pub(in crate::group_coordinator) group: Option<GroupMetadataValue>,
    pub(in crate::group_coordinator) offsets: GroupOffsets,
    pub(in crate::group_coordinator) instances: BTreeMap<InstanceName, StoredInstance>,
    pub(in crate::group_coordinator) positions: BTreeMap<InstanceName, BTreeMap<TopicPartition, StoredPosition>>,
}

impl Group {
    /// The group as the log has it. What does not fit together, because the last records of a request were not
    /// committed, is put in order.
    pub(in crate::group_coordinator) fn restore(id: GroupId, stored: StoredGroup, env: Env<'_>) -> Self {
        let StoredGroup { group, offsets, instances, mut positions } = stored;
        let is_ours =
            |member: &MemberId| instances.values().any(|stored| stored.member_id.as_deref() == Some(member.as_str()));
        let timeouts = GroupTimeouts::default();
        let is_stored = group.is_some();
        let protocol = match &group {
            Some(value) => ConsumerGroup::restore(timeouts, value, &is_ours, env.now_ms),
            None => ConsumerGroup::new(timeouts),
        };
        let mut restored = Self { offsets, is_stored, ..Self::with(id, protocol) };
        for (name, stored) in instances {
            let mut instance = Instance::new(ConsumerInstance::restore(stored, env.now_ms));
            for (partition, position) in positions.remove(&name).unwrap_or_default() {
                instance.state.restore_position(partition, position, env.now_ms);
            }
            let subscription = instance.state.subscription();
            if let Subscription::Pattern(text) = subscription {
                instance.pattern = TopicPattern::new(text).ok();
            }
            instance.topics = topics_of(subscription, instance.pattern.as_ref(), env);
            if instance.state.shares() {
                // Nothing of a former member's is kept.
                let member = instance.state.member_id().map(MemberId::from);
                if member.is_none_or(|member| !restored.protocol.has_member(&member)) {
                    instance.state.expel(env.numbers.draw());
                }
            }
            restored.instances.insert(name, instance);
        }
        for (name, positions) in positions {
            // Their instance is gone.
            for partition in positions.into_keys() {
                restored.outbox.instance(&restored.id, &name, InstanceChange::Position(partition, None));
            }
        }
        restored.take_over_assignments(env);
        restored.settle(None, env);
        restored.look_at_all_topics(env);
        restored.collect();
        restored
    }

    /// After a load: the image may have changed since the group last looked.
    fn look_at_all_topics(&mut self, env: Env<'_>) {
        let is_gone = |partition: &TopicPartition| !env.topics.has(partition);
        self.forget_partitions(is_gone, env);
        self.resubscribe_patterns(env);
        let members = self.instances.values().filter(|instance| instance.state.member_id().is_some());
        // Clients that are members look at the topics themselves.
        if self.protocol.state() != GroupState::Stable || members.count() != self.protocol.member_count() {
            return;
        }
        let (mut wanted, mut owned) = (BTreeSet::new(), BTreeSet::new());
        for instance in self.instances.values().filter(|instance| instance.state.member_id().is_some()) {
            wanted.extend(instance.topics.iter().filter(|topic| env.topics.has_topic(topic)).cloned());
            owned.extend(instance.state.assignment().cloned());
        }
        let count = |topic| env.topics.partitions().get(topic).copied().unwrap_or_default();
        let expected: usize = wanted.iter().map(|topic| usize::try_from(count(topic)).unwrap_or(usize::MAX)).sum();
        if owned.len() != expected || owned.iter().any(is_gone) {
            self.protocol.topics_changed(env.now_ms);
            self.settle(None, env);
        }
    }

    /// Topics have come, gone or grown.
    pub(in crate::group_coordinator) fn topics_changed(&mut self, changes: &TopicChanges, env: Env<'_>) {
        let is_gone = |partition: &TopicPartition| changes.gone.contains(&partition.topic);
        self.forget_partitions(is_gone, env);
        self.resubscribe_patterns(env);
        let reads_changed = self.protocol.describe().members.iter().any(|member| {
            let wanted = Wanted::decode(&member.subscription).unwrap_or_default();
            wanted.topics.iter().any(|topic| changes.changed.contains(topic))
        });
        if reads_changed {
            self.protocol.topics_changed(env.now_ms);
            self.settle(None, env);
        }
        self.collect();
    }

    fn forget_partitions(&mut self, is_gone: impl Fn(&TopicPartition) -> bool, env: Env<'_>) {
        let gone: Vec<_> = self.offsets.iter().map(|(partition, _)| partition.clone()).filter(&is_gone).collect();
        self.forget_offsets(gone);
        for instance in self.instances.values_mut() {
            instance.state.forget_partitions(&is_gone, env.numbers.draw());
        }
    }

    /// Members that subscribe by a pattern get what matches it now.
    fn resubscribe_patterns(&mut self, env: Env<'_>) {
        let names: Vec<InstanceName> = self.instances.keys().cloned().collect();
        for name in names {
            let Some(instance) = self.instances.get_mut(&name) else { continue };
            let Some(pattern) = &instance.pattern else { continue };
            let topics = env.topics.matching(pattern);
            let known = std::mem::replace(&mut instance.topics, topics);
            let member = instance.state.member_id().map(MemberId::from);
            if known != instance.topics
                && let Some(member) = member
            {
                let resubscribed = self.protocol.resubscribe(&member, protocols(instance), env.now_ms);
                resubscribed.unwrap_or_else(|error| {
                    tracing::warn!(group = %self.id, instance = %name, %error, "a subscription could not follow its pattern");
                });
                self.settle(None, env);
            }
        }
    }

    /// Time has passed. `is_gone`: whether a broker that polls for somebody does not live any more.
    pub(in crate::group_coordinator) fn tick(&mut self, is_gone: impl Fn(Edge) -> bool, env: Env<'_>) {
        if self.instances.is_empty() && self.protocol.is_idle() {
            return;
        }
        let now_ms = env.now_ms;
        let mut expired = Vec::new();
        for (name, instance) in &mut self.instances {
            if let Some(under_way) = instance.state.under_way(now_ms) {
                if is_gone(under_way.edge) {
                    instance.state.drop_poll(under_way.poll);
                    instance.tell_ended();
                } else if let Some(member) = instance.state.member_id().map(MemberId::from) {
                    // Somebody waits for records at this moment.
                    self.protocol.touch(&member, now_ms);
                }
            } else if instance.state.is_expired(now_ms) {
                expired.push(name.clone());
            } else if instance.state.has_run_out(now_ms) {
                // Whoever waits for the poll may begin another one.
                instance.tell_ended();
            }
        }
        for name in expired {
            tracing::info!(group = %self.id, instance = %name, "a consumer instance has expired");
            self.forget_instance(&name, env);
        }
        if self.protocol.next_wake_ms().is_some_and(|wake| wake <= now_ms) {
            self.protocol.tick(now_ms);
            self.settle(None, env);
        }
        self.collect();
    }

    /// Forgets offsets that were kept for long enough, and a group of which nothing else is left.
    pub(in crate::group_coordinator) fn expire_offsets(&mut self, retention_ms: u64, env: Env<'_>) {
        let expired = self.offsets.expired(&self.protocol, retention_ms, env.wall_ms);
        self.forget_offsets(expired);
        let since = self.protocol.empty_since_ms().unwrap_or(env.wall_ms);
        let is_over = u64::try_from(env.wall_ms.saturating_sub(since)).is_ok_and(|empty| empty >= retention_ms);
        if is_over && self.offsets.is_empty() && self.instances.is_empty() && self.protocol.delete().is_ok() {
            self.settle(None, env);
        }
        self.collect();
    }

    /// Deletes the group with everything that is known of it.
    pub(super) fn delete(&mut self, env: Env<'_>) -> Result<Reply, GroupRequestError> {
        if self.is_nothing() {
            return Err(GroupRequestError::UnknownGroup(self.id.clone()));
        }
        self.protocol.delete().map_err(|_| GroupRequestError::HasMembers(self.id.clone()))?;
        self.settle(None, env);
        let names: Vec<InstanceName> = self.instances.keys().cloned().collect();
        for name in names {
            self.forget_instance(&name, env);
        }
        let partitions: Vec<_> = self.offsets.iter().map(|(partition, _)| partition.clone()).collect();
        self.forget_offsets(partitions);
        if std::mem::take(&mut self.is_stored) {
            self.outbox.group(&self.id, None);
        }
        Ok(Reply::Done)
    }

    /// Whether it was deleted: another of its name would be another group.
    pub(in crate::group_coordinator) fn is_dead(&self) -> bool {
        self.protocol.state() == GroupState::Dead
    }
}
