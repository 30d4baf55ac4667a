//! What may not happen to consumer groups: offsets that fall, records that nobody got or that come again after their
//! commit, partitions with two owners, commits of members that had lost what they commit.
//!
//! Only what is certain counts. Of a commit that names no offsets it is certain what it stored where the generation
//! did not change until the member was given something again.

mod claims;
mod deliveries;
mod offsets;
mod ownership;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::{History, Kind, Verdict, log::FinalLog};
use crate::verify::history::{
    Micros,
    groups::{Commit, CommitOutcome, Life, Poll},
};

/// A group's number and a partition's.
type Place = (u32, u32);

/// How much groups did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupCounts {
    /// How many groups there were.
    pub groups: u64,
    /// Requests for records that were answered.
    pub polls: u64,
    /// Requests for records without a whole answer.
    pub polls_failed: u64,
    /// Records that were delivered, each counted once for every group.
    pub delivered: u64,
    /// How often records were delivered that their group had been given before.
    pub delivered_again: u64,
    /// Commits that were acknowledged.
    pub commits: u64,
    /// Commits that were refused.
    pub commits_refused: u64,
    /// Commits whose outcome nobody knows.
    pub commits_unknown: u64,
    /// Commits of members that had been silent for longer than their session, and were refused.
    pub frozen_refused: u64,
    /// The same, accepted: nobody had taken their partitions.
    pub frozen_accepted: u64,
    /// Offsets that fell because a commit without an answer came late.
    pub late_commits: u64,
    /// Answers that were lost on their way, and counted as received by the broker.
    pub unsure_receipts: u64,
    /// The longest that a member was refused records or got no answer, in milliseconds.
    pub longest_wait_ms: u64,
    /// Generations that were seen.
    pub generations: u64,
    /// The fewest members that any group had, between having all and the end.
    pub fewest_members: Option<u64>,
}

/// What one life of a member did, in order.
#[derive(Default)]
struct Story<'a> {
    steps: Vec<Step<'a>>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Poll(&'a Poll),
    Commit(&'a Commit),
}

impl Step<'_> {
    const fn start_us(&self) -> Micros {
        match self {
            Self::Poll(poll) => poll.start_us,
            Self::Commit(commit) => commit.start_us,
        }
    }
}

/// What is known about a group's commits in one partition.
#[derive(Default)]
struct Commits {
    /// Since when at least what is committed.
    certain: Vec<(Micros, u64)>,
    /// What commits of unknown outcome may store at any later time.
    unknown: HashSet<u64>,
    /// Everything that may have been committed at some time.
    possible: HashSet<u64>,
}

/// A history, sorted for the judge.
struct Case<'a> {
    history: &'a History,
    stories: BTreeMap<Life, Story<'a>>,
    commits: HashMap<Place, Commits>,
}

impl<'a> Case<'a> {
    fn of(history: &'a History) -> Self {
        let mut stories: BTreeMap<Life, Story<'a>> = BTreeMap::new();
        for poll in &history.groups.polls {
            stories.entry(poll.who).or_default().steps.push(Step::Poll(poll));
        }
        for commit in &history.groups.commits {
            stories.entry(commit.who).or_default().steps.push(Step::Commit(commit));
        }
        for story in stories.values_mut() {
            story.steps.sort_by_key(Step::start_us);
        }
        let commits = claims::commits(history, &stories);
        Self { history, stories, commits }
    }

    fn first_offset(&self, partition: u32) -> u64 {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        self.history.setting.first_offsets.get(index).copied().unwrap_or(0)
    }
}

/// Judges what groups did; without groups there is nothing to say.
pub(super) fn judge(history: &History, log: &FinalLog, verdict: &mut Verdict) {
    if history.setting.groups == 0 {
        return;
    }
    let case = Case::of(history);
    let mut counts = counts(history);
    counts.longest_wait_ms = case.stories.values().map(longest_wait_us).max().unwrap_or(0) / 1_000;
    offsets::judge(&case, &mut counts, verdict);
    deliveries::judge(&case, log, &mut counts, verdict);
    ownership::judge(&case, verdict);
    for end in &history.groups.ends {
        if let Some(problem) = &end.problem {
            verdict.accuse(Kind::NotDrained, || format!("group {}: {problem}", end.group));
        }
        let committed: BTreeMap<u32, Option<u64>> = end.committed.iter().copied().collect();
        for (partition, end_offset) in &end.ends {
            let committed = committed.get(partition).copied().flatten();
            if *end_offset > case.first_offset(*partition) && committed != Some(*end_offset) {
                verdict.accuse(Kind::NotDrained, || {
                    let committed = committed.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string());
                    format!("group {}, partition {partition}: {committed} is committed of {end_offset}", end.group)
                });
            }
        }
    }
    verdict.groups = Some(counts);
}

fn counts(history: &History) -> GroupCounts {
    let groups = &history.groups;
    let count = |wanted: fn(&Commit) -> bool| groups.commits.iter().filter(|commit| wanted(commit)).count() as u64;
    let failed = groups.polls.iter().filter(|poll| poll.failed).count() as u64;
    let polled = groups.polls.iter().filter_map(|poll| Some((poll.who.group, poll.generation?)));
    let looked = groups.looks.iter().filter_map(|look| Some((look.group, look.membership.as_ref()?.generation)));
    let generations: BTreeSet<(u32, u32)> = polled.chain(looked).collect();
    GroupCounts {
        groups: u64::from(history.setting.groups),
        polls: groups.polls.len() as u64 - failed,
        polls_failed: failed,
        commits: count(|commit| commit.outcome == CommitOutcome::Acknowledged),
        commits_refused: count(|commit| matches!(commit.outcome, CommitOutcome::Refused { .. })),
        commits_unknown: count(|commit| matches!(commit.outcome, CommitOutcome::Unknown { .. })),
        frozen_refused: count(|c| c.frozen_us > 0 && matches!(c.outcome, CommitOutcome::Refused { code } if code > 0)),
        frozen_accepted: count(|c| c.frozen_us > 0 && c.outcome == CommitOutcome::Acknowledged),
        generations: generations.len() as u64,
        fewest_members: fewest_members(history),
        ..GroupCounts::default()
    }
}

/// From the first request for records that failed to the next that did not.
fn longest_wait_us(story: &Story<'_>) -> Micros {
    let (mut since_us, mut longest_us) = (None, 0);
    for step in &story.steps {
        let Step::Poll(poll) = step else { continue };
        let begun_us = *since_us.get_or_insert(poll.start_us);
        if !poll.failed {
            // One that waited for records did not fail.
            longest_us = longest_us.max(if begun_us < poll.start_us { poll.end_us - begun_us } else { 0 });
            since_us = None;
        }
    }
    longest_us
}

/// From when a group has all of its members, the least it is seen with while records are written.
fn fewest_members(history: &History) -> Option<u64> {
    let mut most: BTreeMap<u32, u32> = BTreeMap::new();
    let seen = || history.groups.looks.iter().filter_map(|look| Some((look, look.membership.as_ref()?)));
    for (look, membership) in seen() {
        let most = most.entry(look.group).or_default();
        *most = membership.members.max(*most);
    }
    let mut full: BTreeSet<u32> = BTreeSet::new();
    let mut fewest: Option<u32> = None;
    for (look, membership) in seen().filter(|(look, _)| look.end_us <= history.ending.writing_until_us) {
        if Some(&membership.members) == most.get(&look.group) {
            full.insert(look.group);
        }
        if full.contains(&look.group) {
            fewest = Some(fewest.map_or(membership.members, |fewest| fewest.min(membership.members)));
        }
    }
    fewest.map(u64::from)
}

#[cfg(test)]
mod tests;
