//! Members that are there: signs of life, commits, and leaving.

use super::{
    ConsumerGroup, Driver, Generation, GroupError, GroupInstanceId, GroupState, LeavingMember, MemberId,
    RebalanceReason, effect::Effect,
};

impl ConsumerGroup {
    /// A member is alive.
    ///
    /// # Errors
    /// It is no member, is of another generation, or has to join again ([`GroupError::RebalanceInProgress`]; it counts
    /// as alive then).
    pub fn heartbeat(
        &mut self,
        member: &MemberId,
        instance: Option<&GroupInstanceId>,
        generation: Generation,
        now_ms: u64,
    ) -> Result<(), GroupError> {
        self.check_member(member, instance)?;
        self.check_generation(generation)?;
        self.touch(member, now_ms);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            // Who has its join answered may beat before it syncs.
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
        }
    }

    /// A server-driven member is alive: some call came for it. Whether it is a member.
    pub fn touch(&mut self, member: &MemberId, now_ms: u64) -> bool {
        let Some(member) = self.members.get_mut(member) else { return false };
        member.refresh(now_ms);
        true
    }

    /// Members leave; an answer for each, in order.
    pub fn leave(&mut self, leaving: &[LeavingMember], now_ms: u64) -> Vec<Result<(), GroupError>> {
        let before = self.member_count();
        let answers: Vec<_> = leaving.iter().map(|member| self.leave_one(member)).collect();
        if self.member_count() < before {
            self.after_removal(RebalanceReason::MemberLeft, now_ms);
        } else {
            // Perhaps an id was given back that a rebalance waits for.
            self.try_complete_join(now_ms);
        }
        answers
    }

    fn leave_one(&mut self, leaving: &LeavingMember) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::UnknownGroup);
        }
        let id = match (&leaving.member_id, &leaving.group_instance_id) {
            (Some(id), _) => id.clone(),
            (None, Some(instance)) => self.static_members.get(instance).ok_or(GroupError::UnknownMember)?.clone(),
            (None, None) => return Err(GroupError::UnknownMember),
        };
        if leaving.group_instance_id.is_none() && self.reserved.remove(&id).is_some() {
            return Ok(());
        }
        self.check_member(&id, leaving.group_instance_id.as_ref())?;
        self.remove_member(&id);
        Ok(())
    }

    /// Whether offsets may be committed; refreshes the session. Without member and generation only while the group has
    /// no members ([`GroupError::NotEmpty`]). A server-driven member need not name its generation: the caller knows what
    /// it owns.
    ///
    /// # Errors
    /// Why not; nothing may be committed then.
    pub fn check_commit(
        &mut self,
        member: Option<&MemberId>,
        instance: Option<&GroupInstanceId>,
        generation: Option<Generation>,
        now_ms: u64,
    ) -> Result<(), GroupError> {
        let Some(member) = member else {
            return match (self.state, generation, instance) {
                (GroupState::Dead, ..) => Err(GroupError::UnknownGroup),
                (_, None, None) if self.members.is_empty() => Ok(()),
                (_, None, None) => Err(GroupError::NotEmpty),
                _ => Err(GroupError::UnknownMember),
            };
        };
        self.check_member(member, instance)?;
        match generation {
            Some(generation) => self.check_generation(generation)?,
            None if self.is_server_driven(member) => {}
            None => return Err(GroupError::IllegalGeneration { current: self.generation }),
        }
        self.touch(member, now_ms);
        match self.state {
            // While members join again they commit what they have read so far: nobody else has it yet.
            GroupState::Stable | GroupState::PreparingRebalance => Ok(()),
            GroupState::CompletingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
        }
    }

    pub(super) fn check_member(&self, member: &MemberId, instance: Option<&GroupInstanceId>) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::UnknownGroup);
        }
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                Some(current) if current == member => {}
                Some(_) => return Err(GroupError::FencedInstance),
                None => return Err(GroupError::UnknownMember),
            }
        }
        if self.has_member(member) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    pub(super) fn check_generation(&self, generation: Generation) -> Result<(), GroupError> {
        if generation == self.generation {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration { current: self.generation })
        }
    }

    pub(super) fn is_server_driven(&self, member: &MemberId) -> bool {
        self.members.get(member).is_some_and(|member| member.driver == Driver::Server)
    }

    /// Takes a member out and answers what it waits for. [`ConsumerGroup::after_removal`] has to follow.
    pub(super) fn remove_member(&mut self, id: &MemberId) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(instance) = &member.group_instance_id {
            self.static_members.remove(instance);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = None;
        }
        let gone = GroupError::UnknownMember;
        if let Some(ticket) = member.join {
            self.effects.push(Effect::Joined { ticket, answer: Err(gone.clone()) });
        }
        if let Some(ticket) = member.sync {
            self.effects.push(Effect::Synced { ticket, answer: Err(gone) });
        }
    }

    /// Members are gone: the others share what they had, or need not wait for them any more.
    pub(super) fn after_removal(&mut self, reason: RebalanceReason, now_ms: u64) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(reason, now_ms),
            GroupState::PreparingRebalance => self.try_complete_join(now_ms),
            GroupState::Empty | GroupState::Dead => {}
        }
    }
}
