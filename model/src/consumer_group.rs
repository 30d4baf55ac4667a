//! Consumer groups: Kafka's classic group protocol as a pure state machine.
//!
//! Members share the partitions of the topics that they read. When one comes, goes or wants something else the group
//! **rebalances**: it waits for its members to join again (PreparingRebalance), begins a new **generation**, waits for
//! the assignment of one of them, the leader (CompletingRebalance), and is Stable. A request of an older generation is
//! refused, so that a member which slept through a rebalance changes nothing.
//!
//! Besides clients that speak the protocol there are **server-driven** members, consumers over HTTP: the coordinator
//! speaks for them, so they join and sync at once, and one of them leads if there is any. A group of such members alone
//! goes from one Stable generation to the next within one call.
//!
//! Time is a parameter, monotonic milliseconds. Whoever waits is named by a [`Ticket`] that the caller chose; answers
//! and what has to be stored come out of [`ConsumerGroup::drain_effects`], in order, after every call. Metadata and
//! assignments are opaque here; [`Subscription`] and [`Assignment`] read them for consumers, and [`Assignor`] decides
//! for groups that the server leads.

mod assignor;
mod description;
mod effect;
mod error;
mod join;
mod member;
mod membership;
mod metadata;
mod offsets;
mod protocol;
mod rebalance;
mod record;
mod request;
mod sync;
mod timers;
mod topic_pattern;
mod wire;

use std::collections::BTreeMap;

pub use assignor::{Assignor, AssignorMember, Plan, TopicPartitions, UnknownAssignor, assign_members};
pub use description::{GroupDescription, GroupState, MemberDescription};
pub use effect::{AssigningMember, Effect, JoinAnswer, JoinedMember, RebalanceReason, SyncAnswer, Ticket};
pub use error::GroupError;
pub use member::{Driver, Generation, GroupInstanceId, MemberId};
pub use metadata::{GroupMetadataKey, GroupMetadataMember, GroupMetadataValue};
pub use offsets::{GroupOffsets, OFFSETS_RETENTION_MS_DEFAULT};
pub use protocol::{Assignment, CONSUMER_PROTOCOL_TYPE, Subscription};
pub use request::{GroupTimeouts, JoinRequest, LeavingMember, SyncRequest};
pub use topic_pattern::{InvalidTopicPattern, PATTERN_BYTES_MAX, TopicPattern};
pub use wire::WireError;

use member::Member;

/// A group: its state and its members.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    timeouts: GroupTimeouts,
    state: GroupState,
    /// When the state began, as the group's record says; `None` until there is a record of it.
    state_since_wall_ms: Option<i64>,
    protocol_type: String,
    protocol: Option<String>,
    generation: Generation,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    static_members: BTreeMap<GroupInstanceId, MemberId>,
    /// Ids that members were told to come again with, and when that is too late.
    reserved: BTreeMap<MemberId, u64>,
    /// Whether what the members have been given is of this generation.
    is_assigned: bool,
    /// PreparingRebalance: until when more members of a new group are waited for.
    initial_deadline_ms: Option<u64>,
    /// PreparingRebalance: when who has not joined is given up.
    join_deadline_ms: Option<u64>,
    /// CompletingRebalance and Stable: when who has joined and not synced is given up.
    sync_deadline_ms: Option<u64>,
    effects: Vec<Effect>,
}

impl ConsumerGroup {
    /// A group without members, in generation 0.
    #[must_use]
    pub const fn new(timeouts: GroupTimeouts) -> Self {
        Self {
            timeouts,
            state: GroupState::Empty,
            state_since_wall_ms: None,
            protocol_type: String::new(),
            protocol: None,
            generation: Generation::ZERO,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            reserved: BTreeMap::new(),
            is_assigned: false,
            initial_deadline_ms: None,
            join_deadline_ms: None,
            sync_deadline_ms: None,
            effects: Vec::new(),
        }
    }

    /// The group is deleted: Dead from now on.
    ///
    /// # Errors
    /// [`GroupError::NotEmpty`] while it has members, [`GroupError::UnknownGroup`] when it is Dead.
    pub fn delete(&mut self) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::UnknownGroup);
        }
        if !self.members.is_empty() {
            return Err(GroupError::NotEmpty);
        }
        self.reserved.clear();
        (self.initial_deadline_ms, self.join_deadline_ms, self.sync_deadline_ms) = (None, None, None);
        self.set_state(GroupState::Dead);
        self.effects.push(Effect::Remove);
        Ok(())
    }

    /// What has to be done since the last call, in order.
    #[must_use]
    pub fn drain_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The group and its members.
    #[must_use]
    pub fn describe(&self) -> GroupDescription {
        let members = self.members.iter().map(|(id, member)| self.describe_member(id, member)).collect();
        GroupDescription {
            state: self.state,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            generation: self.generation,
            leader: self.leader.clone(),
            members,
        }
    }

    fn describe_member(&self, id: &MemberId, member: &Member) -> MemberDescription {
        let first = member.protocols.first().map_or("", |(name, _)| name);
        MemberDescription {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            driver: member.driver,
            session_timeout_ms: member.session_timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref().unwrap_or(first)).to_vec(),
            assignment: self.shown_assignment(member).to_vec(),
        }
    }

    /// What a member has in this generation.
    fn shown_assignment<'a>(&self, member: &'a Member) -> &'a [u8] {
        if self.is_assigned { &member.assignment } else { &[] }
    }

    /// Where the group is in the protocol.
    #[must_use]
    pub const fn state(&self) -> GroupState {
        self.state
    }

    /// The generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Who assigns.
    #[must_use]
    pub const fn leader(&self) -> Option<&MemberId> {
        self.leader.as_ref()
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether this is a member.
    #[must_use]
    pub fn has_member(&self, member: &MemberId) -> bool {
        self.members.contains_key(member)
    }

    /// The id that a static member has at the moment.
    #[must_use]
    pub fn static_member(&self, instance: &GroupInstanceId) -> Option<&MemberId> {
        self.static_members.get(instance)
    }

    /// What a member was given last, valid until the next generation is Stable: also while the group rebalances.
    /// `None`: no member.
    #[must_use]
    pub fn assignment(&self, member: &MemberId) -> Option<&[u8]> {
        self.members.get(member).map(|member| member.assignment.as_slice())
    }

    /// Whether nothing at all holds the group in memory but its offsets: no members, and no ids reserved for some.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.reserved.is_empty()
    }

    /// Since when the group has no members, in milliseconds since 1970, as its record says. `None` while it has some, and
    /// when it never had any.
    #[must_use]
    pub const fn empty_since_ms(&self) -> Option<i64> {
        match self.state {
            GroupState::Empty => self.state_since_wall_ms,
            _ => None,
        }
    }

    fn set_state(&mut self, state: GroupState) {
        self.state = state;
        self.state_since_wall_ms = None;
    }

    /// How long the slowest member may take.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| u64::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
