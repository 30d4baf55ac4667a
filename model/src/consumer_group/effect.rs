//! What a group wants done: values, carried out by the coordinator in their order.

use serde::{Deserialize, Serialize};

use super::{Driver, Generation, GroupError, GroupInstanceId, MemberId};

/// Names a request that waits for its answer. The caller chooses it; each is answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a join.
    Joined {
        /// Whose.
        ticket: Ticket,
        /// The answer.
        answer: Result<JoinAnswer, GroupError>,
    },
    /// Answer a sync.
    Synced {
        /// Whose.
        ticket: Ticket,
        /// The answer.
        answer: Result<SyncAnswer, GroupError>,
    },
    /// A server-driven member leads: compute who gets what, see [`assign_members`](super::assign_members), and call
    /// [`ConsumerGroup::assign`](super::ConsumerGroup::assign) at once. Until then nobody hears of the generation.
    Assign {
        /// The generation that begins.
        generation: Generation,
        /// The protocol: the assignor's name.
        protocol: String,
        /// Everybody, with what is needed to decide.
        members: Vec<AssigningMember>,
    },
    /// The group is Stable in a new generation, or a static member has got a new id: the assignments of
    /// server-driven members may have changed, see [`ConsumerGroup::assignment`](super::ConsumerGroup::assignment).
    Assigned {
        /// The generation.
        generation: Generation,
    },
    /// The group's record has changed: append [`ConsumerGroup::record`](super::ConsumerGroup::record). Whatever is
    /// answered after this effect, and what the call that caused it returned, depends on it.
    Store,
    /// The group is Dead: append a tombstone for its record. As with `Store`, answers depend on it.
    Remove,
    /// A rebalance has begun; for metrics and the log.
    Rebalancing(RebalanceReason),
}

/// What a member that has joined is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    /// The generation that it is part of.
    pub generation: Generation,
    /// The kind of group.
    pub protocol_type: String,
    /// The protocol that everybody uses.
    pub protocol: String,
    /// Who assigns.
    pub leader: MemberId,
    /// The member's id, from now on.
    pub member_id: MemberId,
    /// The leader need not assign: the assignment stands (KIP-814).
    pub skip_assignment: bool,
    /// Everybody with their metadata under the protocol, for the leader; empty for others.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: MemberId,
    /// Its name, when it is static.
    pub group_instance_id: Option<GroupInstanceId>,
    /// What it says of itself under the protocol.
    pub metadata: Vec<u8>,
}

/// What a member that has synced is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncAnswer {
    /// The kind of group.
    pub protocol_type: String,
    /// The protocol that everybody uses.
    pub protocol: String,
    /// What the leader gave it, byte for byte.
    pub assignment: Vec<u8>,
}

/// A member as an assignment by the server needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssigningMember {
    /// Its id.
    pub member_id: MemberId,
    /// Its name, when it is static.
    pub group_instance_id: Option<GroupInstanceId>,
    /// Who speaks for it.
    pub driver: Driver,
    /// What it says of itself under the protocol.
    pub metadata: Vec<u8>,
    /// What it was given last; empty when it is new.
    pub assignment: Vec<u8>,
}

/// Why a rebalance has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RebalanceReason {
    /// A member has joined.
    MemberJoined,
    /// The leader has joined again: it wants to assign anew.
    LeaderRejoined,
    /// A member says something else of itself than before.
    SubscriptionChanged,
    /// A static member was replaced in a way that needs an assignment.
    StaticMemberReplaced,
    /// A member has left.
    MemberLeft,
    /// A member was silent for longer than its session timeout.
    MemberExpired,
    /// A member has joined and then did not ask for its assignment in time.
    SyncMissing,
    /// Topics have appeared, vanished or grown.
    TopicsChanged,
}

impl RebalanceReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::MemberJoined,
        Self::LeaderRejoined,
        Self::SubscriptionChanged,
        Self::StaticMemberReplaced,
        Self::MemberLeft,
        Self::MemberExpired,
        Self::SyncMissing,
        Self::TopicsChanged,
    ];

    /// The reason as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemberJoined => "member_joined",
            Self::LeaderRejoined => "leader_rejoined",
            Self::SubscriptionChanged => "subscription_changed",
            Self::StaticMemberReplaced => "static_member_replaced",
            Self::MemberLeft => "member_left",
            Self::MemberExpired => "member_expired",
            Self::SyncMissing => "sync_missing",
            Self::TopicsChanged => "topics_changed",
        }
    }
}
