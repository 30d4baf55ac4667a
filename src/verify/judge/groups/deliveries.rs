//! What members were given: everything up to the final offsets, in its place, and nothing again that was committed.

use std::collections::{BTreeMap, HashMap};

use super::{Case, GroupCounts, Place, Step};
use crate::verify::{
    history::{Micros, Run, groups::Poll},
    judge::{
        Kind, Verdict,
        log::FinalLog,
        name,
        realtime::{Known, with_known_before},
    },
};

/// Offsets from one up to another.
type Interval = (u64, u64);

/// When records were asked for, and what came.
type Delivery<'a> = (Micros, (&'a Poll, &'a Run));

pub(super) fn judge(case: &Case<'_>, log: &FinalLog, counts: &mut GroupCounts, verdict: &mut Verdict) {
    let mut delivered: HashMap<Place, Vec<Interval>> = HashMap::new();
    for poll in case.history.groups.polls.iter().filter(|poll| !poll.failed) {
        contents(poll, log, verdict);
        for (partition, run) in &poll.runs {
            let interval = (run.offset, run.offset + run.count);
            delivered.entry((poll.who.group, *partition)).or_default().push(interval);
        }
    }
    for intervals in delivered.values_mut() {
        let all: u64 = intervals.iter().map(|(from, to)| to - from).sum();
        *intervals = merged(std::mem::take(intervals));
        let distinct: u64 = intervals.iter().map(|(from, to)| to - from).sum();
        counts.delivered += distinct;
        counts.delivered_again += all - distinct;
    }
    skipped(case, &delivered, verdict);
    redelivered(case, counts, verdict);
    places(case, counts, verdict);
}

fn merged(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut merged: Vec<Interval> = Vec::new();
    for (from, to) in intervals {
        match merged.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// What was delivered is what the log holds, each partition without gaps.
fn contents(poll: &Poll, log: &FinalLog, verdict: &mut Verdict) {
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for (partition, run) in &poll.runs {
        if let Some(expected) = next.insert(*partition, run.offset + run.count)
            && expected != run.offset
        {
            verdict.accuse(Kind::ReadGap, || {
                format!("{}, partition {partition}: offset {} where {expected} is next", who(poll), run.offset)
            });
        }
        for (offset, id) in run.records() {
            let there = log.at((*partition, offset));
            if there != Some(id) && log.knows(*partition) {
                verdict.accuse(Kind::ReadContradicted, || {
                    let there = there.map_or("nothing".to_owned(), name);
                    format!(
                        "{}, partition {partition}, offset {offset}: {} was read and {there} is there",
                        who(poll),
                        name(id)
                    )
                });
            }
        }
    }
}

fn who(poll: &Poll) -> String {
    let life = poll.who;
    format!("member {} of group {} in life {} at {} us", life.member, life.group, life.life, poll.end_us)
}

/// Everything below the final offset was delivered to somebody.
fn skipped(case: &Case<'_>, delivered: &HashMap<Place, Vec<Interval>>, verdict: &mut Verdict) {
    for end in &case.history.groups.ends {
        for (partition, committed) in &end.committed {
            let Some(committed) = *committed else { continue };
            let mut next = case.first_offset(*partition);
            let intervals = delivered.get(&(end.group, *partition)).map(Vec::as_slice).unwrap_or_default();
            let behind = [(committed, committed)];
            for (from, to) in intervals.iter().chain(&behind) {
                for offset in next..(*from).min(committed) {
                    verdict.accuse(Kind::Skipped, || {
                        format!("group {}, partition {partition}: nobody was given offset {offset}", end.group)
                    });
                }
                next = next.max(*to);
            }
        }
    }
}

/// Nothing is delivered that had been committed before it was asked for.
fn redelivered(case: &Case<'_>, counts: &mut GroupCounts, verdict: &mut Verdict) {
    let mut answers: BTreeMap<Place, Vec<Delivery<'_>>> = BTreeMap::new();
    for poll in case.history.groups.polls.iter().filter(|poll| !poll.failed) {
        for (partition, run) in &poll.runs {
            answers.entry((poll.who.group, *partition)).or_default().push((poll.start_us, (poll, run)));
        }
    }
    for ((group, partition), answers) in answers {
        let Some(commits) = case.commits.get(&(group, partition)) else { continue };
        let known = commits.certain.iter().map(|(since_us, what)| Known { since_us: *since_us, what: *what }).collect();
        with_known_before(known, answers, |most, (poll, run)| {
            if run.offset >= most {
                return;
            }
            if commits.unknown.contains(&run.offset) {
                counts.late_commits += 1;
                return;
            }
            for offset in run.offset..most.min(run.offset + run.count) {
                verdict.accuse(Kind::Redelivered, || {
                    format!("{}, partition {partition}: offset {offset} again, {most} were committed before", who(poll))
                });
            }
        });
    }
}

/// Where a member is in a partition.
#[derive(Clone, Copy)]
struct Position {
    /// Behind what it was given last.
    next: u64,
    /// Where that began.
    start: u64,
    /// Where it was before an answer got lost that counts as received.
    unsure: Option<u64>,
}

/// Whoever is given records goes on where it was, gets the last ones again, or begins where the group has committed.
fn places(case: &Case<'_>, counts: &mut GroupCounts, verdict: &mut Verdict) {
    for (life, story) in &case.stories {
        let mut positions: HashMap<u32, Position> = HashMap::new();
        let mut failed = false;
        for step in &story.steps {
            let Step::Poll(poll) = step else { continue };
            if poll.failed {
                failed = true;
                continue;
            }
            let after_failure = std::mem::take(&mut failed);
            for (partition, start, next) in spans(poll) {
                let before = positions.get(&partition).copied();
                let mut unsure = None;
                let own = before.is_some_and(|at| [Some(at.next), Some(at.start), at.unsure].contains(&Some(start)));
                let committed = start == case.first_offset(partition)
                    || case
                        .commits
                        .get(&(life.group, partition))
                        .is_some_and(|commits| commits.possible.contains(&start));
                if !own && !committed {
                    match before {
                        Some(at) if after_failure && start > at.next => {
                            counts.unsure_receipts += 1;
                            unsure = Some(at.next);
                        }
                        _ => verdict.accuse(Kind::Misplaced, || {
                            let at = before.map_or("nowhere".to_owned(), |at| format!("at {}", at.next));
                            format!("{}, partition {partition}: it was {at} and was given {start}", who(poll))
                        }),
                    }
                }
                positions.insert(partition, Position { next, start, unsure });
            }
        }
    }
}

/// Each partition of an answer: where its records begin, and where they end.
fn spans(poll: &Poll) -> impl Iterator<Item = (u32, u64, u64)> {
    let mut spans: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (partition, run) in &poll.runs {
        let end = run.offset + run.count;
        let span = spans.entry(*partition).or_insert((run.offset, end));
        span.1 = span.1.max(end);
    }
    spans.into_iter().map(|(partition, (start, next))| (partition, start, next))
}
