//! Until when a leader may take itself for the leader: as long as a quorum is in contact.
//!
//! A follower is in contact through the fetch session of its broker. A request of the session tells which answer the
//! follower had received when it sent it; so at the moment when that answer was sent, or later, the follower had not
//! turned away from this leader. That moment is the contact, not the arrival of the request, which may have been
//! under way for any time. Before a follower promises a newer epoch to anybody it withdraws from the session, and the
//! request that says so detaches it before it counts as contact.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use pubg1_model::{BrokerId, LeaderEpoch, replication::ReplicaSet};

/// When a follower's broker is known to have been in this session; in milliseconds of the leader's monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    /// One more than the milliseconds; 0: never.
    last: AtomicU64,
}

impl Contact {
    /// The follower's broker was in contact at `ms`. Older news changes nothing.
    pub(crate) fn note(&self, ms: u64) {
        // Release: whoever sees this contact sees what was detached before it.
        self.last.fetch_max(ms.saturating_add(1), Ordering::Release);
    }

    fn last_ms(&self) -> Option<u64> {
        self.last.load(Ordering::Acquire).checked_sub(1)
    }
}

/// One follower of one partition in a session.
#[derive(Debug)]
pub(crate) struct Attachment {
    contact: Arc<Contact>,
    is_detached: AtomicBool,
}

impl Attachment {
    pub(crate) fn new(contact: Arc<Contact>) -> Arc<Self> {
        Arc::new(Self { contact, is_detached: AtomicBool::new(false) })
    }

    /// From now on the session's contact says nothing about this follower. Call it before the contact is noted that
    /// comes with the news.
    pub(crate) fn detach(&self) {
        self.is_detached.store(true, Ordering::Release);
    }

    pub(crate) fn is_attached(&self) -> bool {
        !self.is_detached.load(Ordering::Acquire)
    }

    /// When this follower was last known to follow; `None` when it never was, or has turned away.
    pub(crate) fn last_ms(&self) -> Option<u64> {
        // In this order: a contact that came with the news of a detachment is seen together with it.
        let last = self.contact.last_ms();
        last.filter(|_| self.is_attached())
    }
}

/// What a leader's right to answer rests on. Published beside the view, so that a read needs no message.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    leader: BrokerId,
    set: ReplicaSet,
    followers: Vec<(BrokerId, Arc<Attachment>)>,
}

impl Lease {
    pub(crate) const fn new(leader: BrokerId, set: ReplicaSet, followers: Vec<(BrokerId, Arc<Attachment>)>) -> Self {
        Self { leader, set, followers }
    }

    /// When a quorum, the leader included, was last in contact: `u64::MAX` when the leader is one alone; `None` when it
    /// never was.
    pub(crate) fn contact_ms(&self) -> Option<u64> {
        self.set.quorum_reached(
            |broker| {
                if broker == self.leader { Some(u64::MAX) } else { self.follower_contact_ms(broker) }
            },
        )
    }

    /// Whether anybody but the leader counts.
    pub(crate) fn has_followers(&self) -> bool {
        self.set.members().any(|broker| broker != self.leader)
    }

    /// When this follower was last in contact.
    pub(crate) fn follower_contact_ms(&self, broker: BrokerId) -> Option<u64> {
        self.followers.iter().find(|(follower, _)| *follower == broker)?.1.last_ms()
    }

    /// Whether a quorum was in contact within `lease_ms`.
    pub(crate) fn holds(&self, now_ms: u64, lease_ms: u64) -> bool {
        self.contact_ms().is_some_and(|contact| now_ms.saturating_sub(contact) <= lease_ms)
    }
}

/// How far apart two looks are at least that find followers silent, in milliseconds: by then a thread that was held up
/// has answered what had come for it, and heard whoever still waited. Followers that had given up waiting may need longer
/// for another session; but where a leader is really alone, nobody else leads before it steps down.
const LOOKS_APART_MS: u64 = 100;

/// Whether the followers of a leadership are silent, by looking now and then.
///
/// A thread that was held up, and looks at the clock first, finds that nothing was heard for long, while what followers
/// sent lies unread. So one look says nothing.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The first look that found them silent, and in which epoch; nothing since one that did not.
    first: Option<(LeaderEpoch, u64)>,
}

impl Silence {
    /// Takes down what a look finds. Whether an earlier one of the same epoch has found the same, and none between them
    /// anything else.
    pub(super) fn lasts(&mut self, epoch: LeaderEpoch, is_silent: bool, now_ms: u64) -> bool {
        if !is_silent {
            self.first = None;
            return false;
        }
        let first = self.first.filter(|(of, _)| *of == epoch).map_or(now_ms, |(_, at)| at);
        self.first = Some((epoch, first));
        now_ms.saturating_sub(first) >= LOOKS_APART_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_that_one_look_finds_may_be_that_of_a_thread_that_was_held_up() {
        let (mut silence, epoch) = (Silence::default(), LeaderEpoch::new(3));
        assert!(!silence.lasts(epoch, true, 5_000) && !silence.lasts(epoch, true, 5_000 + LOOKS_APART_MS - 1));
        assert!(silence.lasts(epoch, true, 5_000 + LOOKS_APART_MS));
        assert!(!silence.lasts(epoch, false, 6_000), "something was heard");
        assert!(!silence.lasts(epoch, true, 7_000) && silence.lasts(epoch, true, 7_750));
        assert!(!silence.lasts(LeaderEpoch::new(4), true, 9_000), "a look at another leadership");
        assert!(silence.lasts(LeaderEpoch::new(4), true, 9_750));
    }

    fn follower(broker: u32) -> (Arc<Contact>, (BrokerId, Arc<Attachment>)) {
        let contact = Arc::new(Contact::default());
        (Arc::clone(&contact), (BrokerId(broker), Attachment::new(contact)))
    }

    fn lease(replicas: &[u32], followers: &[(BrokerId, Arc<Attachment>)]) -> Lease {
        let set = ReplicaSet::Stable(replicas.iter().copied().map(BrokerId).collect());
        Lease::new(BrokerId(0), set, followers.to_vec())
    }

    #[test]
    fn a_leader_alone_always_holds_its_lease_and_others_need_a_quorum() {
        assert!(lease(&[0], &[]).holds(u64::MAX, 0));
        let ((first, one), (second, two)) = (follower(1), follower(2));
        let lease = lease(&[0, 1, 2], &[one, two]);
        assert!(!lease.holds(0, 400), "nobody was ever heard from");
        first.note(100);
        assert!(lease.holds(500, 400) && !lease.holds(501, 400));
        second.note(300);
        first.note(50);
        assert_eq!(lease.contact_ms(), Some(300));
    }

    #[test]
    fn a_follower_that_turned_away_does_not_count_whatever_its_broker_says() {
        let (contact, one) = follower(1);
        let lease = lease(&[0, 1], std::slice::from_ref(&one));
        contact.note(0);
        assert!(lease.holds(100, 400));
        one.1.detach();
        contact.note(90);
        assert!(!lease.holds(100, 400));
        assert_eq!(lease.follower_contact_ms(BrokerId(1)), None);
    }
}
