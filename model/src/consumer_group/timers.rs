//! What lasts too long: silent members, ids nobody came back with, rebalances.

use super::{ConsumerGroup, GroupState, MemberId, RebalanceReason};

impl ConsumerGroup {
    /// Ends what has lasted too long. Call it when [`ConsumerGroup::next_wake_ms`] has come.
    pub fn tick(&mut self, now_ms: u64) {
        self.reserved.retain(|_, deadline| *deadline > now_ms);
        let is_over = |member: &super::Member| !member.is_kept_waiting() && member.session_deadline_ms <= now_ms;
        if self.remove_members(is_over) {
            self.after_removal(RebalanceReason::MemberExpired, now_ms);
        }
        if self.initial_deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
            self.initial_deadline_ms = None;
        }
        self.try_complete_join(now_ms);
        if self.join_deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
            self.complete_join(now_ms);
        }
        if self.sync_deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
            self.sync_deadline_ms = None;
            let any = self.remove_members(|member| member.sync_due);
            if any || self.state == GroupState::CompletingRebalance {
                self.after_removal(RebalanceReason::SyncMissing, now_ms);
            }
        }
    }

    /// When [`ConsumerGroup::tick`] has something to do; `None`: never, as things are. The cost is linear in the members.
    #[must_use]
    pub fn next_wake_ms(&self) -> Option<u64> {
        let sessions = self.members.values().filter(|member| !member.is_kept_waiting());
        sessions
            .map(|member| member.session_deadline_ms)
            .chain(self.reserved.values().copied())
            .chain(self.initial_deadline_ms)
            .chain(self.join_deadline_ms)
            .chain(self.sync_deadline_ms)
            .min()
    }

    /// Takes out those whom the rule names; whether there were any.
    fn remove_members(&mut self, rule: impl Fn(&super::Member) -> bool) -> bool {
        let gone = self.members.iter().filter(|(_, member)| rule(member));
        let gone: Vec<MemberId> = gone.map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove_member(id));
        !gone.is_empty()
    }
}
