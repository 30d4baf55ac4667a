//! Why a group refuses.

use serde::{Deserialize, Serialize};

use super::{Generation, MemberId};

/// Why a request of a member, or about a group, is refused. Nothing was changed by it, except where noted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GroupError {
    /// The member never joined, left, or was expelled because its session ended. It has to join anew.
    #[error("the group has no such member: it left, or was silent for longer than its session timeout")]
    UnknownMember,
    /// The request is of another generation: the group has rebalanced since.
    #[error("the request is of another generation than the group, which is in generation {current}")]
    IllegalGeneration {
        /// The group's.
        current: Generation,
    },
    /// The group is rebalancing: the member has to join again. It counts as alive.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// Another process has taken over this static member's instance id.
    #[error("another process has joined with this group instance id")]
    FencedInstance,
    /// The join has to be repeated with this member id (KIP-394), which is reserved for a session timeout.
    #[error("join again with the member id {0}")]
    MemberIdRequired(MemberId),
    /// The protocol type or the protocols of the request do not fit the group's.
    #[error("the member and the group have no protocol in common")]
    InconsistentProtocol,
    /// The session timeout is out of bounds.
    #[error("a session timeout is between {min_ms} and {max_ms} ms")]
    InvalidSessionTimeout {
        /// The shortest that is allowed.
        min_ms: u32,
        /// The longest that is allowed.
        max_ms: u32,
    },
    /// It is allowed only while the group has no members.
    #[error("the group has members")]
    NotEmpty,
    /// The group has as many members as are allowed.
    #[error("the group is full: it has at most {max} members")]
    GroupFull {
        /// The limit.
        max: usize,
    },
    /// What the members say and are given does not fit into one record.
    #[error("the group's members and assignments have {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// How many there would be.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The group does not exist, or does no longer.
    #[error("the group does not exist")]
    UnknownGroup,
}
