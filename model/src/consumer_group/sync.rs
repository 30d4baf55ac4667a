//! The second half of a rebalance: the leader assigns, everybody gets its share.

use std::collections::BTreeMap;

use super::{
    ConsumerGroup, Driver, Generation, GroupError, GroupState, MemberId, SyncRequest,
    effect::{Effect, SyncAnswer, Ticket},
};

impl ConsumerGroup {
    /// A member asks for its assignment; answered by [`Effect::Synced`] once the leader has given them.
    pub fn sync(&mut self, request: SyncRequest, ticket: Ticket, now_ms: u64) {
        match self.try_sync(request, ticket, now_ms) {
            Ok(None) => {}
            Ok(Some(answer)) => self.effects.push(Effect::Synced { ticket, answer: Ok(answer) }),
            Err(error) => self.effects.push(Effect::Synced { ticket, answer: Err(error) }),
        }
    }

    /// The answer, or none: the member waits then, or was answered already.
    fn try_sync(
        &mut self,
        request: SyncRequest,
        ticket: Ticket,
        now_ms: u64,
    ) -> Result<Option<SyncAnswer>, GroupError> {
        let SyncRequest { member_id, group_instance_id, generation, protocol_type, protocol, assignments } = request;
        self.check_member(&member_id, group_instance_id.as_ref())?;
        self.check_generation(generation)?;
        let differs = protocol_type.is_some_and(|theirs| theirs != self.protocol_type)
            || protocol.is_some_and(|theirs| Some(theirs) != self.protocol);
        if differs {
            return Err(GroupError::InconsistentProtocol);
        }
        self.touch(&member_id, now_ms);
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance => {
                let is_leader = self.leader.as_ref() == Some(&member_id);
                if is_leader {
                    self.check_size(&assignments)?;
                }
                self.wait_for_assignment(&member_id, ticket);
                if is_leader {
                    self.install(assignments, now_ms);
                }
                Ok(None)
            }
            GroupState::Stable => {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.sync_due = false;
                }
                self.forget_sync_deadline();
                Ok(Some(self.sync_answer(&member_id)))
            }
        }
    }

    fn check_size(&self, assignments: &[(MemberId, Vec<u8>)]) -> Result<(), GroupError> {
        let bytes = assignments.iter().map(|(_, assignment)| assignment.len()).sum();
        let max = self.timeouts.metadata_bytes_max;
        if bytes > max { Err(GroupError::TooLarge { bytes, max }) } else { Ok(()) }
    }

    fn wait_for_assignment(&mut self, id: &MemberId, ticket: Ticket) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.sync_due = false;
        if let Some(older) = member.sync.replace(ticket) {
            // It has asked again, so nobody listens there any more.
            self.effects.push(Effect::Synced { ticket: older, answer: Err(GroupError::RebalanceInProgress) });
        }
    }

    /// The assignments of a generation that the server leads, answering [`Effect::Assign`]. Who is not named gets
    /// nothing. Ignored when the generation is over.
    pub fn assign(&mut self, generation: Generation, assignments: Vec<(MemberId, Vec<u8>)>, now_ms: u64) {
        let is_ours = self.leader.as_ref().is_some_and(|leader| self.is_server_driven(leader));
        if is_ours && self.state == GroupState::CompletingRebalance && generation == self.generation {
            self.install(assignments, now_ms);
        }
    }

    /// Everybody gets what the leader has decided: the group is Stable.
    fn install(&mut self, assignments: Vec<(MemberId, Vec<u8>)>, now_ms: u64) {
        let mut assignments: BTreeMap<_, _> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.is_assigned = true;
        self.set_state(GroupState::Stable);
        self.effects.push(Effect::Store);
        self.answer_joins(now_ms);
        self.answer_syncs(None, now_ms);
        self.effects.push(Effect::Assigned { generation: self.generation });
        self.forget_sync_deadline();
    }

    /// Answers who waits for the assignment, with it or with an error.
    pub(super) fn answer_syncs(&mut self, error: Option<&GroupError>, now_ms: u64) {
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.sync.take() {
                member.refresh(now_ms);
                waiting.push((id.clone(), ticket));
            }
        }
        for (id, ticket) in waiting {
            let answer = error.map_or_else(|| Ok(self.sync_answer(&id)), |error| Err(error.clone()));
            self.effects.push(Effect::Synced { ticket, answer });
        }
    }

    fn sync_answer(&self, id: &MemberId) -> SyncAnswer {
        SyncAnswer {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self.assignment(id).unwrap_or_default().to_vec(),
        }
    }

    /// The deadline is for those who have not synced yet.
    fn forget_sync_deadline(&mut self) {
        if !self.members.values().any(|member| member.sync_due && member.driver == Driver::Client) {
            self.sync_deadline_ms = None;
        }
    }
}
