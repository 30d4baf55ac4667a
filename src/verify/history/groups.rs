//! What the members of consumer groups saw, as lines of a history.

use serde::{Deserialize, Serialize};

use super::{Micros, Run};

/// One life of a member. In JSON a list: `[group, member, life]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32)", into = "(u32, u32, u32)")]
pub struct Life {
    /// The group.
    pub group: u32,
    /// The member in it.
    pub member: u32,
    /// How often it had joined before.
    pub life: u32,
}

impl From<(u32, u32, u32)> for Life {
    fn from((group, member, life): (u32, u32, u32)) -> Self {
        Self { group, member, life }
    }
}

impl From<Life> for (u32, u32, u32) {
    fn from(life: Life) -> Self {
        (life.group, life.member, life.life)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A member asked for records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// Who.
    pub who: Life,
    /// Which broker was asked.
    pub broker: u32,
    /// When the request was made.
    pub start_us: Micros,
    /// When the answer was complete, or was given up.
    pub end_us: Micros,
    /// Whether there was no whole answer: what it would have contained was not delivered.
    #[serde(default, skip_serializing_if = "is_false")]
    pub failed: bool,
    /// The generation that the answer names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Whether the request committed what the answer before had brought.
    #[serde(default, skip_serializing_if = "is_false")]
    pub commits: bool,
    /// Whether the broker commits by itself what this member got.
    #[serde(default, skip_serializing_if = "is_false")]
    pub auto: bool,
    /// What was delivered: partitions and records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<(u32, Run)>,
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitOutcome {
    /// It is stored.
    Acknowledged,
    /// Nothing was changed, says the answer, or the request cannot have reached anybody.
    Refused {
        /// The error's number; 0 when nobody was there.
        code: i64,
    },
    /// Nobody can say.
    Unknown {
        /// What is known about it.
        reason: String,
    },
}

/// A member committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Who.
    pub who: Life,
    /// Which broker was asked.
    pub broker: u32,
    /// When the request was made.
    pub start_us: Micros,
    /// When its outcome was known.
    pub end_us: Micros,
    /// Partitions and the next offsets: what the request named, or else what the member had got.
    pub offsets: Vec<(u32, u64)>,
    /// Whether the request named them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub named: bool,
    /// How long the member had been silent on purpose.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub frozen_us: Micros,
    /// How it ended.
    pub outcome: CommitOutcome,
}

/// Somebody asked how a group is, or a member what was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The group.
    pub group: u32,
    /// Which broker was asked.
    pub broker: u32,
    /// When the request was made.
    pub start_us: Micros,
    /// When the answer was complete.
    pub end_us: Micros,
    /// The generation and how many members there are, if the answer tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Membership>,
    /// What is committed in these partitions; `None`: nothing.
    pub committed: Vec<(u32, Option<u64>)>,
}

/// Who is in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The generation.
    pub generation: u32,
    /// Whether partitions are shared out: not between two generations.
    pub stable: bool,
    /// How many members there are.
    pub members: u32,
    /// Partitions and their owners; members have numbers of this run.
    pub owners: Vec<(u32, u32)>,
}

/// A group when the run is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEnd {
    /// The group.
    pub group: u32,
    /// What is committed.
    pub committed: Vec<(u32, Option<u64>)>,
    /// Where partitions end.
    pub ends: Vec<(u32, u64)>,
    /// Why the group could not go on to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// All that groups did in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupHistory {
    /// Every request for records, in the order in which they ended.
    pub polls: Vec<Poll>,
    /// Every commit, in the order in which they ended.
    pub commits: Vec<Commit>,
    /// Every answer about a group.
    pub looks: Vec<Look>,
    /// How it ended.
    pub ends: Vec<GroupEnd>,
}
