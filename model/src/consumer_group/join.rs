//! Members come: new ones, known ones again, and static ones in another process.

use super::{
    Assignment, CONSUMER_PROTOCOL_TYPE, ConsumerGroup, Driver, GroupError, GroupInstanceId, GroupState, JoinRequest,
    MemberId, RebalanceReason, Subscription,
    effect::{Effect, JoinAnswer, Ticket},
    member::{Member, bytes_of},
};

/// The longest text that a record can hold.
const TEXT_BYTES_MAX: usize = i16::MAX as usize;

impl ConsumerGroup {
    /// A member joins or joins again; answered by [`Effect::Joined`]. `fresh_id` is its id when it has none yet.
    pub fn join(&mut self, request: JoinRequest, fresh_id: MemberId, ticket: Ticket, now_ms: u64) {
        match self.try_join(request, fresh_id, ticket, now_ms) {
            Ok(None) => {}
            Ok(Some(answer)) => self.effects.push(Effect::Joined { ticket, answer: Ok(answer) }),
            Err(error) => self.effects.push(Effect::Joined { ticket, answer: Err(error) }),
        }
    }

    /// The answer, or none: the member waits then, or was answered already.
    fn try_join(
        &mut self,
        request: JoinRequest,
        fresh_id: MemberId,
        ticket: Ticket,
        now_ms: u64,
    ) -> Result<Option<JoinAnswer>, GroupError> {
        self.check_bounds(&request, &fresh_id)?;
        let Some(id) = request.member_id.clone() else {
            let instance = request.group_instance_id.as_ref();
            if let Some(old) = instance.and_then(|instance| self.static_members.get(instance)).cloned() {
                self.check_protocols(&request.protocol_type, &request.protocols, Some(&old))?;
                return Ok(self.replace_static(&old, fresh_id, request, ticket, now_ms));
            }
            self.check_protocols(&request.protocol_type, &request.protocols, None)?;
            self.check_room()?;
            let is_dynamic = request.driver == Driver::Client && instance.is_none();
            if request.require_known_member_id && is_dynamic {
                let timeout = request.session_timeout_ms.min(self.timeouts.reserved_id_ms);
                self.reserved.insert(fresh_id.clone(), now_ms.saturating_add(u64::from(timeout)));
                return Err(GroupError::MemberIdRequired(fresh_id));
            }
            self.add_member(fresh_id, request, ticket, now_ms);
            return Ok(None);
        };
        if request.group_instance_id.is_none() && self.reserved.contains_key(&id) {
            self.check_protocols(&request.protocol_type, &request.protocols, None)?;
            self.reserved.remove(&id);
            self.add_member(id, request, ticket, now_ms);
            return Ok(None);
        }
        self.check_member(&id, request.group_instance_id.as_ref())?;
        self.check_protocols(&request.protocol_type, &request.protocols, Some(&id))?;
        Ok(self.join_again(&id, request, ticket, now_ms))
    }

    /// What can be said of a request without looking at the others.
    fn check_bounds(&self, request: &JoinRequest, fresh_id: &MemberId) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::UnknownGroup);
        }
        let (min_ms, max_ms) = (self.timeouts.session_min_ms, self.timeouts.session_max_ms);
        if !(min_ms..=max_ms).contains(&request.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout { min_ms, max_ms });
        }
        let instance = request.group_instance_id.as_ref().map_or("", GroupInstanceId::as_str);
        let names = request.protocols.iter().map(|(name, _)| name.as_str());
        let texts = [&request.client_id, &request.client_host, &request.protocol_type, instance, fresh_id.as_str()];
        match texts.into_iter().chain(names).map(str::len).max() {
            Some(bytes) if bytes > TEXT_BYTES_MAX => Err(GroupError::TooLarge { bytes, max: TEXT_BYTES_MAX }),
            _ => Ok(()),
        }
    }

    /// Whether the members, `replaced` left aside, can use one of these protocols, and their metadata has room.
    fn check_protocols(
        &self,
        protocol_type: &str,
        protocols: &[(String, Vec<u8>)],
        replaced: Option<&MemberId>,
    ) -> Result<(), GroupError> {
        if protocol_type.is_empty() || protocols.is_empty() {
            return Err(GroupError::InconsistentProtocol);
        }
        let others = || self.members.iter().filter(|(id, _)| Some(*id) != replaced).map(|(_, member)| member);
        let fits = |name: &str| others().all(|member| member.supports(name));
        let is_first = others().next().is_none();
        if !is_first && (protocol_type != self.protocol_type || !protocols.iter().any(|(name, _)| fits(name))) {
            return Err(GroupError::InconsistentProtocol);
        }
        let bytes = others().map(Member::metadata_bytes).sum::<usize>() + bytes_of(protocols);
        let max = self.timeouts.metadata_bytes_max;
        if bytes > max { Err(GroupError::TooLarge { bytes, max }) } else { Ok(()) }
    }

    fn check_room(&self) -> Result<(), GroupError> {
        let max = self.timeouts.members_max;
        if self.members.len() + self.reserved.len() >= max { Err(GroupError::GroupFull { max }) } else { Ok(()) }
    }

    /// A new member: everybody has to share anew.
    fn add_member(&mut self, id: MemberId, request: JoinRequest, ticket: Ticket, now_ms: u64) {
        self.adopt_type_if(self.members.is_empty(), &request.protocol_type);
        if let Some(instance) = &request.group_instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        let patience = match request.driver {
            Driver::Client => self.timeouts.new_member_join_ms,
            Driver::Server => request.session_timeout_ms,
        };
        let mut member = self.member_of(request);
        member.session_deadline_ms = now_ms.saturating_add(u64::from(patience));
        member.join = Some(ticket);
        self.members.insert(id, member);
        if self.state == GroupState::PreparingRebalance {
            self.extend_initial_delay(now_ms);
            self.try_complete_join(now_ms);
        } else {
            self.prepare_rebalance(RebalanceReason::MemberJoined, now_ms);
        }
    }

    /// Who is alone decides what kind of group it is.
    fn adopt_type_if(&mut self, is_alone: bool, protocol_type: &str) {
        if is_alone {
            protocol_type.clone_into(&mut self.protocol_type);
        }
    }

    fn member_of(&self, request: JoinRequest) -> Member {
        Member {
            group_instance_id: request.group_instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            driver: request.driver,
            session_timeout_ms: request.session_timeout_ms,
            // Too short a wait, and nobody could ever join again.
            rebalance_timeout_ms: request
                .rebalance_timeout_ms
                .clamp(self.timeouts.session_min_ms, i32::MAX.cast_unsigned()),
            protocols: request.protocols,
            assignment: Vec::new(),
            session_deadline_ms: 0,
            is_new: true,
            join: None,
            sync: None,
            sync_due: false,
        }
    }

    /// A member that the group knows.
    fn join_again(&mut self, id: &MemberId, request: JoinRequest, ticket: Ticket, now_ms: u64) -> Option<JoinAnswer> {
        let is_leader = self.leader.as_ref() == Some(id);
        let member = self.members.get_mut(id)?;
        let is_changed = !member.repeats(&request.protocols) || self.protocol_type != request.protocol_type;
        let reason = match self.state {
            GroupState::Stable if is_leader && request.driver == Driver::Client => RebalanceReason::LeaderRejoined,
            GroupState::Stable | GroupState::CompletingRebalance if is_changed => RebalanceReason::SubscriptionChanged,
            // It has missed the answer to its join, or asks to be sure.
            GroupState::Stable => {
                self.touch(id, now_ms);
                return Some(self.join_answer(id));
            }
            GroupState::CompletingRebalance if member.join.is_none() => {
                self.touch(id, now_ms);
                return Some(self.join_answer(id));
            }
            _ => RebalanceReason::MemberJoined,
        };
        self.update_member(id, request, ticket, now_ms);
        if self.state == GroupState::PreparingRebalance {
            self.try_complete_join(now_ms);
        } else {
            self.prepare_rebalance(reason, now_ms);
        }
        None
    }

    /// A member says anew who it is, and waits for the others.
    fn update_member(&mut self, id: &MemberId, request: JoinRequest, ticket: Ticket, now_ms: u64) {
        self.adopt_type_if(self.members.len() == 1, &request.protocol_type);
        let said = self.member_of(request);
        let Some(member) = self.members.get_mut(id) else { return };
        let older = member.join.replace(ticket);
        *member = Member {
            // A member id that has a name keeps it, whether or not the request repeats it.
            group_instance_id: member.group_instance_id.take(),
            assignment: std::mem::take(&mut member.assignment),
            session_deadline_ms: member.session_deadline_ms,
            is_new: member.is_new,
            join: member.join,
            sync: member.sync,
            ..said
        };
        member.refresh(now_ms);
        if let Some(older) = older {
            // It has asked again, so nobody listens there any more.
            self.effects.push(Effect::Joined { ticket: older, answer: Err(GroupError::RebalanceInProgress) });
        }
    }

    /// A static member comes without its id, that is, in another process: it takes the place of the former one. If the
    /// group is Stable and it wants the same, nothing else changes (KIP-345).
    fn replace_static(
        &mut self,
        old: &MemberId,
        fresh_id: MemberId,
        request: JoinRequest,
        ticket: Ticket,
        now_ms: u64,
    ) -> Option<JoinAnswer> {
        let former = self.members.remove(old)?;
        if let Some(ticket) = former.join {
            self.effects.push(Effect::Joined { ticket, answer: Err(GroupError::FencedInstance) });
        }
        if let Some(ticket) = former.sync {
            self.effects.push(Effect::Synced { ticket, answer: Err(GroupError::FencedInstance) });
        }
        let was_leader = self.leader.as_ref() == Some(old);
        if was_leader {
            self.leader = Some(fresh_id.clone());
        }
        if let Some(instance) = &former.group_instance_id {
            self.static_members.insert(instance.clone(), fresh_id.clone());
        }
        let may_lead = request.supports_skipping_assignment || request.driver == Driver::Server;
        let same = self.wants_the_same(&former, &request);
        self.adopt_type_if(self.members.is_empty(), &request.protocol_type);
        let mut member = Member { assignment: former.assignment, is_new: false, ..self.member_of(request) };
        member.refresh(now_ms);
        self.members.insert(fresh_id.clone(), member);
        if self.state == GroupState::Stable && same && Some(self.select_protocol()) == self.protocol {
            self.effects.push(Effect::Store);
            self.effects.push(Effect::Assigned { generation: self.generation });
            let mut answer = self.join_answer(&fresh_id);
            if was_leader && may_lead {
                answer.skip_assignment = true;
            } else if was_leader {
                // It must not assign, and does not understand to be told so: let it think that it follows.
                answer.leader = old.clone();
                answer.members.clear();
            }
            return Some(answer);
        }
        if let Some(member) = self.members.get_mut(&fresh_id) {
            member.join = Some(ticket);
        }
        if self.state == GroupState::PreparingRebalance {
            self.try_complete_join(now_ms);
        } else {
            self.prepare_rebalance(RebalanceReason::StaticMemberReplaced, now_ms);
        }
        None
    }

    /// Whether what a member says now would lead to the same assignment. Of a consumer only its topics count: a process
    /// that has just started owns nothing, which does not matter as it gets its former partitions back. But if the former
    /// one had yet to give some up, nobody would any more ask for the round in which others get them.
    fn wants_the_same(&self, former: &Member, request: &JoinRequest) -> bool {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let Some((_, now)) = request.protocols.iter().find(|(name, _)| name == protocol) else { return false };
        if self.protocol_type != request.protocol_type {
            return false;
        }
        let before = former.metadata(protocol);
        let given = Assignment::decode(&former.assignment).unwrap_or_default();
        match (Subscription::decode(before), Subscription::decode(now)) {
            (Ok(before), Ok(now)) if self.protocol_type == CONSUMER_PROTOCOL_TYPE => {
                before.topics == now.topics && before.owned.is_subset(&given.partitions)
            }
            _ => before == now,
        }
    }

    /// The subscription of a server-driven member has changed. Begins a rebalance if it really has; refreshes the session.
    ///
    /// # Errors
    /// It is no member, or proposes nothing that the others can use.
    pub fn resubscribe(
        &mut self,
        member: &MemberId,
        protocols: Vec<(String, Vec<u8>)>,
        now_ms: u64,
    ) -> Result<(), GroupError> {
        self.check_member(member, None)?;
        if !self.is_server_driven(member) {
            return Err(GroupError::UnknownMember);
        }
        self.check_protocols(&self.protocol_type, &protocols, Some(member))?;
        self.touch(member, now_ms);
        let Some(known) = self.members.get_mut(member) else { return Err(GroupError::UnknownMember) };
        let is_changed = !known.repeats(&protocols);
        if is_changed {
            known.protocols = protocols;
            if self.state != GroupState::PreparingRebalance {
                self.prepare_rebalance(RebalanceReason::SubscriptionChanged, now_ms);
            }
        }
        Ok(())
    }
}
