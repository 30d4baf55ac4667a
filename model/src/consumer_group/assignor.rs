//! Who reads what: Kafka's assignors, for groups that the server leads.

mod cooperative_sticky;
mod range;
mod round_robin;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{AssigningMember, Assignment, Driver, Generation, GroupInstanceId, MemberId, Subscription};
use crate::{PartitionId, TopicName, TopicPartition};

/// The topics that exist, with their number of partitions.
pub type TopicPartitions = BTreeMap<TopicName, u32>;

/// Who reads what. Everybody is in it, also who gets nothing.
pub type Plan = BTreeMap<MemberId, BTreeSet<TopicPartition>>;

/// A way to give partitions to members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assignor {
    /// Neighbouring partitions of each topic; equal numbers of topics that are read together meet in one member.
    Range,
    /// One partition after the other, all topics together.
    #[serde(rename = "roundrobin")]
    RoundRobin,
    /// As few moves as an even assignment allows, and reading goes on where nothing moves.
    CooperativeSticky,
}

/// The text names no assignor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an assignor; there are `range`, `roundrobin` and `cooperative-sticky`")]
pub struct UnknownAssignor(pub String);

/// A member as an assignor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignorMember {
    /// Its id.
    pub member_id: MemberId,
    /// Its name, when it is static: it then decides the order among members.
    pub group_instance_id: Option<GroupInstanceId>,
    /// What it wants to read.
    pub topics: BTreeSet<TopicName>,
    /// What it reads at the moment.
    pub owned: BTreeSet<TopicPartition>,
    /// The generation in which it was given that, when it is known.
    pub owned_generation: Option<Generation>,
    /// Whether it stops reading a partition at the moment that it is given to another.
    pub moves_at_once: bool,
}

impl Assignor {
    /// Every assignor, the default first.
    pub const ALL: [Self; 3] = [Self::CooperativeSticky, Self::Range, Self::RoundRobin];

    /// The name in the protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Gives every partition of the topics that somebody wants to one member that wants it. Only
    /// [`Assignor::CooperativeSticky`] may leave one out, for one round: while a member that does not stop at once
    /// still reads it.
    #[must_use]
    pub fn assign(self, members: &[AssignorMember], topics: &TopicPartitions) -> Plan {
        let subscribers = Subscribers::new(members);
        match self {
            Self::Range => range::assign(&subscribers, topics),
            Self::RoundRobin => round_robin::assign(&subscribers, topics),
            Self::CooperativeSticky => cooperative_sticky::assign(&subscribers, topics),
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Assignor {
    type Err = UnknownAssignor;
    fn from_str(name: &str) -> Result<Self, UnknownAssignor> {
        Self::ALL.into_iter().find(|assignor| assignor.as_str() == name).ok_or_else(|| UnknownAssignor(name.to_owned()))
    }
}

/// Answers [`Effect::Assign`](super::Effect::Assign): reads what the members say, assigns, and writes what each gets,
/// for [`ConsumerGroup::assign`](super::ConsumerGroup::assign). Whose subscription cannot be read gets nothing.
///
/// # Errors
/// [`UnknownAssignor`]: a protocol that no server-driven member can have proposed.
pub fn assign_members(
    protocol: &str,
    members: &[AssigningMember],
    topics: &TopicPartitions,
) -> Result<Vec<(MemberId, Vec<u8>)>, UnknownAssignor> {
    let assignor: Assignor = protocol.parse()?;
    let members: Vec<_> = members.iter().map(read_member).collect();
    let plan = assignor.assign(&members, topics);
    // A partition number beyond the format cannot be: topics are not that large. Nobody else should suffer from it.
    let encode = |partitions| Assignment::of(partitions).encode().unwrap_or_default();
    Ok(plan.into_iter().map(|(id, partitions)| (id, encode(partitions))).collect())
}

/// What a member wants and has. Of a server-driven one the group knows what it has, of others they say it themselves.
fn read_member(member: &AssigningMember) -> AssignorMember {
    let subscription = Subscription::decode(&member.metadata).unwrap_or_default();
    let moves_at_once = member.driver == Driver::Server;
    let (owned, owned_generation) = if moves_at_once {
        // What the group gave last is newer than what anybody remembers.
        let given = Assignment::decode(&member.assignment).unwrap_or_default();
        (given.partitions, Some(Generation::new(u32::MAX)))
    } else {
        (subscription.owned, subscription.generation)
    };
    AssignorMember {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        topics: subscription.topics,
        owned,
        owned_generation,
        moves_at_once,
    }
}

/// The members in their order: static ones by name, then the others by id, so that a restart of a static member changes
/// nothing.
struct Subscribers<'a> {
    members: Vec<&'a AssignorMember>,
}

impl<'a> Subscribers<'a> {
    fn new(members: &'a [AssignorMember]) -> Self {
        let mut members: Vec<_> = members.iter().collect();
        members.sort_by_key(|member| {
            let name = member.group_instance_id.as_ref();
            (name.is_none(), name, &member.member_id)
        });
        Self { members }
    }

    fn members(&self) -> &[&'a AssignorMember] {
        &self.members
    }

    fn empty_plan(&self) -> Plan {
        self.members.iter().map(|member| (member.member_id.clone(), BTreeSet::new())).collect()
    }

    /// The topics that exist and that somebody wants, with their partitions and who wants them.
    fn by_topic<'t>(&self, topics: &'t TopicPartitions) -> Vec<(&'t TopicName, u32, Vec<&'a AssignorMember>)> {
        let wanting = |topic| self.members.iter().copied().filter(move |member| member.topics.contains(topic));
        let topics = topics.iter().map(|(topic, partitions)| (topic, *partitions, wanting(topic).collect::<Vec<_>>()));
        topics.filter(|(_, _, members)| !members.is_empty()).collect()
    }
}

fn give(plan: &mut Plan, member: &AssignorMember, topic: &TopicName, partition: u32) {
    if let Some(partitions) = plan.get_mut(&member.member_id) {
        partitions.insert(TopicPartition { topic: topic.clone(), partition: PartitionId(partition) });
    }
}

#[cfg(test)]
mod tests;
