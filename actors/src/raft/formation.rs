//! The first start of a store: does the broker found the group, or does it come to one that exists, perhaps as one
//! that has lost its disk?
//!
//! A voter whose disk was wiped has forgotten whom it voted for and what it acknowledged. Were it to vote at once,
//! it could help a second leader into a term, or elect one that lacks what it had acknowledged. So a broker with an
//! empty store asks the others first, until a *majority of the others* has answered. Any quorum that this broker was
//! part of in a former life had a member among those, and that one has voted at least as high and has seen a leader
//! if there was one. From the answers follows:
//!
//! - Nobody has seen a leader: the group is new. The broker founds it, with the voters that it was told; everyone
//!   writes the same first entry.
//! - Somebody has: the broker takes over the highest vote heard, so that it follows no leader older than one it may
//!   have voted for, and is on *probation*: it neither votes nor campaigns until its log contains its own new
//!   registration. By then it has everything that was acknowledged before.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, EntryPayload, Membership};
use pubg1_model::BrokerId;

use super::{
    log_store::{LogStore, put_entries, stored},
    store::{Store, StoreError, key, put},
    types::{Entry, LogId, StoredMembership, Vote, broker_id, node_id},
    wire::Standing,
};

/// What is to be done with an empty store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Found the group; the vote is the highest that was heard.
    Found(Option<Vote>),
    /// Come to a group that exists.
    Probation(Option<Vote>),
    /// Ask these, some of them again.
    Ask(Vec<BrokerId>),
    /// This broker was told of other voters than that one.
    Conflict(BrokerId),
}

/// Decides from the answers that there are so far. `voters` is what this broker was told.
pub(crate) fn decide(me: BrokerId, voters: &[BrokerId], answers: &BTreeMap<BrokerId, Standing>) -> Decision {
    let vote = answers.values().filter_map(|standing| standing.vote).fold(None, highest);
    // The members are those of the longest log, or who was told.
    let newest = answers.values().map(|standing| &standing.membership).max_by_key(|known| *known.log_id());
    let members: BTreeSet<BrokerId> = match newest.filter(|known| known.log_id().is_some()) {
        Some(known) => known.voter_ids().map(broker_id).collect(),
        None => voters.iter().copied().collect(),
    };
    let others: BTreeSet<BrokerId> = members.into_iter().filter(|broker| *broker != me).collect();
    let answered = others.iter().filter(|broker| answers.contains_key(broker)).count();
    let formed = answers.values().any(|standing| standing.formed);
    if answered * 2 > others.len() || others.is_empty() {
        if formed {
            return Decision::Probation(vote);
        }
        if voters.contains(&me) {
            let told: BTreeSet<_> = voters.iter().collect();
            let differs = |standing: &Standing| standing.voters.iter().collect::<BTreeSet<_>>() != told;
            return match answers.iter().find(|(_, standing)| differs(standing)) {
                Some((other, _)) => Decision::Conflict(*other),
                None => Decision::Found(vote),
            };
        }
    }
    Decision::Ask(voters.iter().copied().filter(|broker| *broker != me).chain(others).collect())
}

fn highest(best: Option<Vote>, vote: Vote) -> Option<Vote> {
    match best {
        Some(best) if best >= vote => Some(best),
        _ => Some(vote),
    }
}

/// What a store says about its former life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// Nothing was ever stored.
    None,
    /// It was on probation when it ended.
    Probation,
    /// It is a member, or was one.
    Member,
}

/// Reads what the store says about its former life.
pub(crate) fn past(store: &Store) -> Result<Past, StoreError> {
    if store.read::<bool>(key::PROBATION)? == Some(true) {
        return Ok(Past::Probation);
    }
    let log = LogStore::new(store.clone());
    let is_new = log.vote()?.is_none() && log.ends()?.last_log_id.is_none();
    Ok(if is_new { Past::None } else { Past::Member })
}

/// Founds the group: the first entry of the log and the vote, in one write. A lone voter has elected itself by that.
pub(crate) async fn found(
    store: &Store,
    me: BrokerId,
    voters: &[(BrokerId, String)],
    heard: Option<Vote>,
) -> Result<(), StoreError> {
    let nodes: BTreeMap<u64, BasicNode> =
        voters.iter().map(|(broker, address)| (node_id(*broker), BasicNode::new(address))).collect();
    let membership = Membership::new(vec![nodes.keys().copied().collect()], nodes);
    let entry = Entry { log_id: LogId::default(), payload: EntryPayload::Membership(membership) };
    let entries = [stored(&entry)?];
    let alone = voters.iter().all(|(broker, _)| *broker == me);
    let vote = if alone { Some(Vote::new_committed(1, node_id(me))) } else { heard.map(uncommitted) };
    let write = move |transaction: &redb::WriteTransaction| {
        put_entries(transaction, &entries)?;
        vote.map_or(Ok(()), |vote| put(transaction, key::VOTE, &vote))
    };
    store.write(write).await
}

/// Begins the probation.
pub(crate) async fn begin_probation(store: &Store, heard: Option<Vote>) -> Result<(), StoreError> {
    let write = move |transaction: &redb::WriteTransaction| {
        put(transaction, key::PROBATION, &true)?;
        heard.map(uncommitted).map_or(Ok(()), |vote| put(transaction, key::VOTE, &vote))
    };
    store.write(write).await
}

/// Ends the probation.
pub(crate) async fn end_probation(store: &Store) -> Result<(), StoreError> {
    store.write(|transaction| put(transaction, key::PROBATION, &false)).await
}

/// A vote that was heard is taken over as a promise, not as knowledge of a leader.
fn uncommitted(vote: Vote) -> Vote {
    Vote { committed: false, ..vote }
}

/// Whether the group has had a leader, as far as this log and vote tell.
pub(crate) fn is_formed(vote: Option<Vote>, last_index: Option<u64>) -> bool {
    vote.is_some_and(|vote| vote.committed) || last_index.is_some_and(|last| last > 0)
}

/// What can be answered from the store alone, while the group does not run here.
pub(crate) fn stored_standing(store: &Store) -> Result<Standing, StoreError> {
    let log = LogStore::new(store.clone());
    let (vote, last_log_id) = (log.vote()?, log.ends()?.last_log_id);
    let formed = is_formed(vote, last_log_id.map(|last| last.index)) || past(store)? == Past::Probation;
    Ok(Standing { formed, vote, membership: StoredMembership::default(), ..Standing::default() })
}

#[cfg(test)]
mod tests;
