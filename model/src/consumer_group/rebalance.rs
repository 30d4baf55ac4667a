//! From one generation to the next: wait for everybody, choose protocol and leader, answer the joins.

use super::{
    AssigningMember, ConsumerGroup, Driver, GroupState, MemberId, RebalanceReason,
    effect::{Effect, JoinAnswer, JoinedMember},
    error::GroupError,
};

impl ConsumerGroup {
    /// The topics behind the subscriptions have changed. Begins a rebalance if the server leads the group and it is
    /// Stable (a client that leads watches topics itself, and a rebalance under way will see the new ones); whether it did.
    pub fn topics_changed(&mut self, now_ms: u64) -> bool {
        let is_ours = self.leader.as_ref().is_some_and(|leader| self.is_server_driven(leader));
        if !is_ours || self.state != GroupState::Stable {
            return false;
        }
        self.prepare_rebalance(RebalanceReason::TopicsChanged, now_ms);
        true
    }

    /// Begins a rebalance, in any state but PreparingRebalance, and ends its first part at once if nobody is missing.
    pub(super) fn prepare_rebalance(&mut self, reason: RebalanceReason, now_ms: u64) {
        self.answer_syncs(Some(&GroupError::RebalanceInProgress), now_ms);
        let was_empty = self.state == GroupState::Empty;
        self.set_state(GroupState::PreparingRebalance);
        self.sync_deadline_ms = None;
        self.members.values_mut().for_each(|member| member.sync_due = false);
        self.join_deadline_ms = Some(now_ms.saturating_add(self.rebalance_timeout_ms()));
        if was_empty && self.members.values().any(|member| member.driver == Driver::Client) {
            self.wait_for_more_members(now_ms);
        }
        self.effects.push(Effect::Rebalancing(reason));
        self.try_complete_join(now_ms);
    }

    /// The group is new: more members may follow soon, and each alone would cost a rebalance.
    fn wait_for_more_members(&mut self, now_ms: u64) {
        let delay = u64::from(self.timeouts.initial_rebalance_delay_ms);
        if delay > 0 {
            let end = now_ms.saturating_add(delay);
            self.initial_deadline_ms = Some(self.join_deadline_ms.map_or(end, |deadline| end.min(deadline)));
        }
    }

    /// A member has come while the group waits for its first members: it waits on.
    pub(super) fn extend_initial_delay(&mut self, now_ms: u64) {
        if self.initial_deadline_ms.is_some() {
            self.wait_for_more_members(now_ms);
        }
    }

    /// Ends the wait for members if all have joined.
    pub(super) fn try_complete_join(&mut self, now_ms: u64) {
        let is_complete = self.state == GroupState::PreparingRebalance
            && self.initial_deadline_ms.is_none()
            && self.reserved.is_empty()
            && self.members.values().all(super::Member::has_joined);
        if is_complete {
            self.complete_join(now_ms);
        }
    }

    /// Ends the wait for members: who is not there is given up, and the next generation begins.
    pub(super) fn complete_join(&mut self, now_ms: u64) {
        // Static members are given up by their session only: they may be restarting.
        self.members.retain(|_, member| member.has_joined() || member.group_instance_id.is_some());
        self.initial_deadline_ms = None;
        if !self.members.is_empty() && !self.members.values().any(super::Member::has_joined) {
            self.join_deadline_ms = Some(now_ms.saturating_add(self.rebalance_timeout_ms()));
            return;
        }
        self.join_deadline_ms = None;
        self.generation = self.generation.next();
        self.is_assigned = false;
        self.leader = self.elect_leader();
        let Some(leader) = &self.leader else {
            self.protocol = None;
            self.set_state(GroupState::Empty);
            self.effects.push(Effect::Store);
            return;
        };
        let is_ours = self.is_server_driven(leader);
        let protocol = self.select_protocol();
        self.protocol = Some(protocol.clone());
        self.set_state(GroupState::CompletingRebalance);
        self.sync_deadline_ms = Some(now_ms.saturating_add(self.rebalance_timeout_ms()));
        if is_ours {
            // Nobody hears of the generation before it is assigned: one record is enough for both.
            let members = self.members_to_assign(&protocol);
            self.effects.push(Effect::Assign { generation: self.generation, protocol, members });
        } else {
            self.effects.push(Effect::Store);
            self.answer_joins(now_ms);
        }
    }

    /// A server-driven member if there is one, as nobody has to wait for it; else the former leader if it has joined,
    /// else whoever has.
    fn elect_leader(&self) -> Option<MemberId> {
        let former = self.leader.as_ref().and_then(|leader| self.members.get_key_value(leader));
        let candidates = former.into_iter().chain(&self.members);
        let mut joined = candidates.filter(|(_, member)| member.has_joined());
        let first = joined.next()?;
        let ours = std::iter::once(first).chain(joined).find(|(_, member)| member.driver == Driver::Server);
        Some(ours.unwrap_or(first).0.clone())
    }

    /// Of the protocols that everybody can use, the one that most members want most; the first of the leader's among
    /// equals.
    pub(super) fn select_protocol(&self) -> String {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let Some(leader) = leader.or_else(|| self.members.values().next()) else { return String::new() };
        let usable: Vec<&str> = leader
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let vote = |member: &super::Member| {
            member.protocols.iter().find_map(|(name, _)| usable.iter().position(|usable| usable == name))
        };
        let mut votes = vec![0_usize; usable.len()];
        for choice in self.members.values().filter_map(vote) {
            votes[choice] += 1;
        }
        let mut best = 0;
        for (index, count) in votes.iter().enumerate() {
            if *count > votes[best] {
                best = index;
            }
        }
        usable.get(best).copied().unwrap_or_default().to_owned()
    }

    pub(super) fn members_to_assign(&self, protocol: &str) -> Vec<AssigningMember> {
        let describe = |(id, member): (&MemberId, &super::Member)| AssigningMember {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            driver: member.driver,
            metadata: member.metadata(protocol).to_vec(),
            assignment: member.assignment.clone(),
        };
        self.members.iter().map(describe).collect()
    }

    /// Tells everybody who waits of the generation.
    pub(super) fn answer_joins(&mut self, now_ms: u64) {
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.join.take() {
                member.refresh(now_ms);
                member.sync_due = member.driver == Driver::Client;
                member.is_new = false;
                waiting.push((id.clone(), ticket));
            }
        }
        for (id, ticket) in waiting {
            let answer = Ok(self.join_answer(&id));
            self.effects.push(Effect::Joined { ticket, answer });
        }
    }

    /// What a member is told of the generation.
    pub(super) fn join_answer(&self, id: &MemberId) -> JoinAnswer {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if self.leader.as_ref() == Some(id) { self.joined_members(&protocol) } else { Vec::new() };
        JoinAnswer {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol,
            leader: self.leader.clone().unwrap_or_else(|| MemberId::from("")),
            member_id: id.clone(),
            skip_assignment: false,
            members,
        }
    }

    fn joined_members(&self, protocol: &str) -> Vec<JoinedMember> {
        let describe = |(id, member): (&MemberId, &super::Member)| JoinedMember {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(protocol).to_vec(),
        };
        self.members.iter().map(describe).collect()
    }
}
