//! `cooperative-sticky`: an even assignment that moves little, in two rounds where a reader has to stop first.

use std::collections::{BTreeMap, BTreeSet};

use super::{AssignorMember, Plan, Subscribers, TopicPartitions};
use crate::{PartitionId, TopicName, TopicPartition};

/// What members say that they read at the moment. A claim of an older generation than another one's is void.
struct Claims<'a> {
    of: BTreeMap<&'a TopicPartition, Vec<usize>>,
}

impl<'a> Claims<'a> {
    fn new(members: &'a [&'a AssignorMember]) -> Self {
        let mut of: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            for partition in &member.owned {
                of.entry(partition).or_default().push(index);
            }
        }
        for claimants in of.values_mut() {
            let newest = claimants.iter().map(|index| members[*index].owned_generation).max().flatten();
            claimants.retain(|index| members[*index].owned_generation == newest);
        }
        Self { of }
    }

    fn of(&self, partition: &TopicPartition) -> &[usize] {
        self.of.get(partition).map_or(&[], Vec::as_slice)
    }
}

/// Whom each partition is meant for, by index of the member.
struct Balance<'a> {
    members: &'a [&'a AssignorMember],
    /// Who wants each topic.
    wanting: BTreeMap<&'a TopicName, Vec<usize>>,
    /// What each has, by topic.
    held: Vec<BTreeMap<&'a TopicName, BTreeSet<u32>>>,
    load: Vec<usize>,
}

impl<'a> Balance<'a> {
    fn new(members: &'a [&'a AssignorMember]) -> Self {
        let mut wanting: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            member.topics.iter().for_each(|topic| wanting.entry(topic).or_default().push(index));
        }
        Self { members, wanting, held: vec![BTreeMap::new(); members.len()], load: vec![0; members.len()] }
    }

    fn give(&mut self, member: usize, topic: &'a TopicName, partition: u32) {
        self.held[member].entry(topic).or_default().insert(partition);
        self.load[member] += 1;
    }

    /// Who wants the topic and has least.
    fn least_loaded(&self, topic: &TopicName) -> Option<usize> {
        self.wanting.get(topic)?.iter().copied().min_by_key(|index| self.load[*index])
    }

    /// Moves partitions to members that have at least two fewer, always from who has most, until there are none such.
    /// Each move makes the loads more equal, so it ends.
    fn even_out(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            let mut candidates: BTreeSet<usize> = (0..self.members.len()).collect();
            while let Some(from) = candidates.iter().copied().max_by_key(|index| self.load[*index]) {
                if self.relieve(from) {
                    moved = true;
                } else {
                    candidates.remove(&from);
                }
            }
        }
    }

    /// Takes one partition from a member if another has at least two fewer; whether it did.
    fn relieve(&mut self, from: usize) -> bool {
        let Some((topic, to)) = self.best_move(from) else { return false };
        if self.load[to] + 2 > self.load[from] {
            return false;
        }
        let Some(partition) = self.choose(from, topic) else { return false };
        if let Some(partitions) = self.held[from].get_mut(topic) {
            partitions.remove(&partition);
        }
        self.load[from] -= 1;
        self.give(to, topic, partition);
        true
    }

    /// Of which topic a member's partition should go, and to whom: to the one that has least; of the topic of which it has
    /// most, among equals.
    fn best_move(&self, from: usize) -> Option<(&'a TopicName, usize)> {
        let least = self.load.iter().copied().min()?;
        let mut topics: Vec<_> = self.held[from].iter().filter(|(_, partitions)| !partitions.is_empty()).collect();
        topics.sort_by_key(|(_, partitions)| std::cmp::Reverse(partitions.len()));
        let mut best: Option<(&TopicName, usize)> = None;
        for (topic, _) in topics {
            let Some(to) = self.least_loaded(topic) else { continue };
            if best.is_none_or(|(_, other)| self.load[to] < self.load[other]) {
                best = Some((topic, to));
            }
            if self.load[to] == least {
                break;
            }
        }
        best
    }

    /// Which of a topic's partitions goes: one that the member does not read yet, else the last.
    fn choose(&self, from: usize, topic: &TopicName) -> Option<u32> {
        let is_new = |partition: &u32| {
            let partition = TopicPartition { topic: topic.clone(), partition: PartitionId(*partition) };
            !self.members[from].owned.contains(&partition)
        };
        let partitions = || self.held[from].get(topic).into_iter().flatten().copied();
        partitions().find(is_new).or_else(|| partitions().next_back())
    }
}

pub(super) fn assign(subscribers: &Subscribers<'_>, topics: &TopicPartitions) -> Plan {
    let members = subscribers.members();
    let claims = Claims::new(members);
    let wanted = subscribers.by_topic(topics);
    let mut balance = Balance::new(members);
    let mut free = Vec::new();
    for (topic, partitions, wanting) in &wanted {
        for partition in 0..*partitions {
            let named = TopicPartition { topic: (*topic).clone(), partition: PartitionId(partition) };
            match claims.of(&named) {
                [owner] if members[*owner].topics.contains(*topic) => balance.give(*owner, topic, partition),
                _ => free.push((wanting.len(), *topic, partition)),
            }
        }
    }
    // Those that few can read go first, while everybody is still an equal choice.
    free.sort_unstable();
    for (_, topic, partition) in free {
        if let Some(member) = balance.least_loaded(topic) {
            balance.give(member, topic, partition);
        }
    }
    balance.even_out();
    withhold(&balance, &claims, subscribers.empty_plan())
}

/// The plan without what somebody else still reads. It gets its new reader in the next round, which its former one
/// asks for when it has stopped.
fn withhold(balance: &Balance<'_>, claims: &Claims<'_>, mut plan: Plan) -> Plan {
    for (index, (member, topics)) in balance.members.iter().zip(&balance.held).enumerate() {
        let Some(given) = plan.get_mut(&member.member_id) else { continue };
        for (topic, partitions) in topics {
            let named =
                |partition: &u32| TopicPartition { topic: (*topic).clone(), partition: PartitionId(*partition) };
            let is_read_by_others = |partition: &TopicPartition| {
                let mut others = claims.of(partition).iter().filter(|claimant| **claimant != index);
                others.any(|claimant| !balance.members[*claimant].moves_at_once)
            };
            given.extend(partitions.iter().map(named).filter(|partition| !is_read_by_others(partition)));
        }
    }
    plan
}
