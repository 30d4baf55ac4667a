//! A group as others see it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Driver, Generation, GroupInstanceId, MemberId};

/// Where a group is in the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GroupState {
    /// It has no members.
    #[default]
    Empty,
    /// It waits for its members to join.
    PreparingRebalance,
    /// All have joined; it waits for the leader's assignment.
    CompletingRebalance,
    /// Everybody has, or may fetch, an assignment.
    Stable,
    /// It was deleted.
    Dead,
}

impl GroupState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Empty, Self::PreparingRebalance, Self::CompletingRebalance, Self::Stable, Self::Dead];

    /// The state's name in Kafka's tools.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDescription {
    /// Where it is in the protocol.
    pub state: GroupState,
    /// The kind of group; empty when it never had a member.
    pub protocol_type: String,
    /// The protocol in use; `None` while there is none.
    pub protocol: Option<String>,
    /// The generation.
    pub generation: Generation,
    /// Who assigns.
    pub leader: Option<MemberId>,
    /// The members, by id.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: MemberId,
    /// Its name, when it is static.
    pub group_instance_id: Option<GroupInstanceId>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// Who speaks for it.
    pub driver: Driver,
    /// How long it may be silent.
    pub session_timeout_ms: u32,
    /// How long it may take to join again.
    pub rebalance_timeout_ms: u32,
    /// What it says of itself under the group's protocol, or under its first when there is none: for consumers an
    /// encoded [`Subscription`](super::Subscription).
    pub subscription: Vec<u8>,
    /// What it was given: for consumers an encoded [`Assignment`](super::Assignment). Empty while the group waits for
    /// its leader.
    pub assignment: Vec<u8>,
}
