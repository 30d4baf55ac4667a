//! What members ask, and the bounds of it.

use super::{Driver, Generation, GroupInstanceId, MemberId};

/// The bounds of a group and of its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTimeouts {
    /// The shortest session timeout.
    pub session_min_ms: u32,
    /// The longest session timeout.
    pub session_max_ms: u32,
    /// How long the first rebalance of a group waits for more members; it begins anew with each that comes, up to
    /// their rebalance timeout. Not for groups that have server-driven members only.
    pub initial_rebalance_delay_ms: u32,
    /// How long a new member may wait for its first join: one that gave up is unknown to everybody but the group.
    pub new_member_join_ms: u32,
    /// How long an id is reserved at most for a member that was told to come again with it (KIP-394). Rebalances wait
    /// for it, so it is short.
    pub reserved_id_ms: u32,
    /// The most members, reserved ids included.
    pub members_max: usize,
    /// The most bytes that the metadata of all members may have, and those of all assignments.
    pub metadata_bytes_max: usize,
}

impl Default for GroupTimeouts {
    fn default() -> Self {
        Self {
            session_min_ms: 1_000,
            session_max_ms: 1_800_000,
            initial_rebalance_delay_ms: 0,
            new_member_join_ms: 300_000,
            reserved_id_ms: 5_000,
            members_max: 1_000,
            metadata_bytes_max: 384 * 1024,
        }
    }
}

/// A member joins, or joins again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// Its id; `None` for a member that is new or does not know it any more.
    pub member_id: Option<MemberId>,
    /// The name that it keeps through restarts, when it is a static member.
    pub group_instance_id: Option<GroupInstanceId>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// Who speaks for it.
    pub driver: Driver,
    /// How long it may be silent.
    pub session_timeout_ms: u32,
    /// How long it may take to join again in a rebalance.
    pub rebalance_timeout_ms: u32,
    /// The kind of group; `consumer` for consumers, see [`CONSUMER_PROTOCOL_TYPE`](super::CONSUMER_PROTOCOL_TYPE).
    pub protocol_type: String,
    /// The protocols (assignors) that it can use, most wanted first, with its metadata for each: for consumers an
    /// encoded [`Subscription`](super::Subscription).
    pub protocols: Vec<(String, Vec<u8>)>,
    /// Whether a dynamic member without an id is to come again with one (KIP-394).
    pub require_known_member_id: bool,
    /// Whether it understands to lead without assigning (KIP-814).
    pub supports_skipping_assignment: bool,
}

/// A member asks for its assignment; the leader brings those of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRequest {
    /// The member.
    pub member_id: MemberId,
    /// Its name, when it is a static member.
    pub group_instance_id: Option<GroupInstanceId>,
    /// The generation that it has joined.
    pub generation: Generation,
    /// The protocol type that it believes in; it is checked when it is given.
    pub protocol_type: Option<String>,
    /// The protocol that it believes in; it is checked when it is given.
    pub protocol: Option<String>,
    /// What everybody gets; empty, except from the leader.
    pub assignments: Vec<(MemberId, Vec<u8>)>,
}

/// A member that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; `None` when a static member is named by its instance id alone.
    pub member_id: Option<MemberId>,
    /// Its name, when it is a static member.
    pub group_instance_id: Option<GroupInstanceId>,
}
