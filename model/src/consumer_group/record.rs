//! What of a group survives its coordinator.
//!
//! The record is Kafka's and has no field for the state. Members with assignments mean a Stable group. Members that have
//! no assignment, not even an empty one with its header, are those of a generation that its leader has not assigned yet: it was
//! told of, so the group waits for it again. Members that had joined for a generation that never began are not in
//! the record; they are told that they are unknown, and join again.

use std::collections::BTreeMap;

use super::{
    ConsumerGroup, Driver, GroupMetadataMember, GroupMetadataValue, GroupState, GroupTimeouts, MemberId,
    effect::Effect, member::Member,
};

impl ConsumerGroup {
    /// The group's record, for [`Effect::Store`]. `wall_ms` (since 1970) is kept as the time of the state, if the state is
    /// new since the last record.
    pub fn record(&mut self, wall_ms: i64) -> GroupMetadataValue {
        let since = *self.state_since_wall_ms.get_or_insert(wall_ms);
        let protocol = self.protocol.clone();
        let known = self.members.iter().filter(|(_, member)| !member.is_new);
        let describe = |(id, member): (&MemberId, &Member)| GroupMetadataMember {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol.as_deref().unwrap_or_default()).to_vec(),
            assignment: self.shown_assignment(member).to_vec(),
        };
        let members = known.map(describe).collect();
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol,
            leader: self.leader.clone(),
            current_state_timestamp_ms: Some(since),
            members,
        }
    }

    /// The group that [`ConsumerGroup::record`] wrote. Sessions begin anew, so that nobody is expelled because the
    /// coordinator has moved. May leave effects. A group that was waiting for members to join is as it was before that;
    /// one that was waiting for its leader goes on waiting.
    #[must_use]
    pub fn restore(
        timeouts: GroupTimeouts,
        value: &GroupMetadataValue,
        is_server_driven: &dyn Fn(&MemberId) -> bool,
        now_ms: u64,
    ) -> Self {
        let protocol = value.protocol.clone().unwrap_or_default();
        let is_assigned = value.members.iter().any(|member| !member.assignment.is_empty());
        let restore = |stored: &GroupMetadataMember| {
            let driver = if is_server_driven(&stored.member_id) { Driver::Server } else { Driver::Client };
            let (min_ms, max_ms) = (timeouts.session_min_ms, timeouts.session_max_ms);
            let mut member = Member {
                group_instance_id: stored.group_instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                driver,
                session_timeout_ms: stored.session_timeout_ms.max(min_ms).min(max_ms),
                rebalance_timeout_ms: stored.rebalance_timeout_ms.max(min_ms),
                protocols: vec![(protocol.clone(), stored.subscription.clone())],
                assignment: stored.assignment.clone(),
                session_deadline_ms: 0,
                is_new: false,
                join: None,
                sync: None,
                sync_due: driver == Driver::Client && !is_assigned,
            };
            member.refresh(now_ms);
            (stored.member_id.clone(), member)
        };
        let members: BTreeMap<_, _> = value.members.iter().map(restore).collect();
        let name = |(id, member): (&MemberId, &Member)| Some((member.group_instance_id.clone()?, id.clone()));
        let mut group = Self {
            state_since_wall_ms: value.current_state_timestamp_ms,
            protocol_type: value.protocol_type.clone(),
            protocol: value.protocol.clone(),
            generation: value.generation,
            leader: value.leader.clone().filter(|leader| members.contains_key(leader)),
            static_members: members.iter().filter_map(name).collect(),
            is_assigned,
            members,
            ..Self::new(timeouts)
        };
        group.state = match (group.members.is_empty(), is_assigned) {
            (true, _) => GroupState::Empty,
            (false, true) => GroupState::Stable,
            (false, false) => GroupState::CompletingRebalance,
        };
        if group.state == GroupState::CompletingRebalance {
            group.sync_deadline_ms = Some(now_ms.saturating_add(group.rebalance_timeout_ms()));
            if group.leader.as_ref().is_some_and(|leader| group.is_server_driven(leader)) {
                let members = group.members_to_assign(&protocol);
                group.effects.push(Effect::Assign { generation: group.generation, protocol, members });
            }
        }
        group
    }
}
