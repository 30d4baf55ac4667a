//! One owner of a partition in a generation, generations that are told and only grow, and no commit of who had lost the
//! partition.

use std::collections::{BTreeMap, HashMap};

use super::{Case, Place, Step};
use crate::verify::{
    history::{
        Micros,
        groups::{Commit, CommitOutcome},
    },
    judge::{
        Kind, Verdict,
        realtime::{Known, with_known_before},
    },
};

/// Who was silent for so much longer than its session must have been given up, if nobody was killed meanwhile.
const FROZEN_US_MIN: Micros = 1_000_000;
/// What a fault may have delayed.
const AFTERMATH_US: Micros = 10_000_000;

pub(super) fn judge(case: &Case<'_>, verdict: &mut Verdict) {
    untold(case, verdict);
    owners(case, verdict);
    generations(case, verdict);
    stale_commits(case, verdict);
}

/// Without generations there is nothing to be wrong with them.
fn untold(case: &Case<'_>, verdict: &mut Verdict) {
    let polls = &case.history.groups.polls;
    let given = polls.iter().filter(|poll| !poll.runs.is_empty()).count();
    if given > 0 && polls.iter().all(|poll| poll.generation.is_none()) {
        verdict.accuse(Kind::GenerationUntold, || format!("none of {given} answers with records named a generation"));
    }
}

fn owners(case: &Case<'_>, verdict: &mut Verdict) {
    let mut given: HashMap<(u32, u32, u32), (u32, u32)> = HashMap::new();
    for poll in &case.history.groups.polls {
        let Some(generation) = poll.generation else { continue };
        let member = (poll.who.member, poll.who.life);
        for (partition, _) in &poll.runs {
            let first = *given.entry((poll.who.group, generation, *partition)).or_insert(member);
            if first != member {
                verdict.accuse(Kind::TwoOwners, || {
                    format!(
                        "group {}, generation {generation}, partition {partition}: members {} and {} were both given records",
                        poll.who.group, first.0, member.0
                    )
                });
            }
        }
    }
    let mut told: HashMap<(u32, u32, u32), u32> = HashMap::new();
    for look in &case.history.groups.looks {
        let Some(membership) = look.membership.as_ref().filter(|membership| membership.stable) else { continue };
        for (partition, owner) in &membership.owners {
            let first = *told.entry((look.group, membership.generation, *partition)).or_insert(*owner);
            if first != *owner {
                verdict.accuse(Kind::TwoOwners, || {
                    format!(
                        "group {}, generation {}, partition {partition}: two owners were named",
                        look.group, membership.generation
                    )
                });
            }
        }
    }
}

fn generations(case: &Case<'_>, verdict: &mut Verdict) {
    let polls =
        case.history.groups.polls.iter().filter_map(|poll| {
            poll.generation.map(|generation| (poll.who.group, poll.start_us, poll.end_us, generation))
        });
    let looks = case.history.groups.looks.iter().filter_map(|look| {
        look.membership.as_ref().map(|membership| (look.group, look.start_us, look.end_us, membership.generation))
    });
    let mut known: BTreeMap<u32, Vec<Known<u32>>> = BTreeMap::new();
    let mut answers: BTreeMap<u32, Vec<(Micros, u32)>> = BTreeMap::new();
    for (group, start_us, end_us, generation) in polls.chain(looks) {
        known.entry(group).or_default().push(Known { since_us: end_us, what: generation });
        answers.entry(group).or_default().push((start_us, generation));
    }
    for (group, answers) in answers {
        let known = known.remove(&group).unwrap_or_default();
        with_known_before(known, answers, |newest, generation| {
            if *generation < newest {
                verdict
                    .accuse(Kind::GenerationFell, || format!("group {group}: generation {generation} after {newest}"));
            }
        });
    }
}

/// When a member was given records of a partition.
struct Given {
    start_us: Micros,
    end_us: Micros,
    member: (u32, u32),
}

fn stale_commits(case: &Case<'_>, verdict: &mut Verdict) {
    let mut given: HashMap<Place, Vec<Given>> = HashMap::new();
    for poll in case.history.groups.polls.iter().filter(|poll| !poll.failed) {
        for (partition, _) in &poll.runs {
            let member = (poll.who.member, poll.who.life);
            let entry = Given { start_us: poll.start_us, end_us: poll.end_us, member };
            given.entry((poll.who.group, *partition)).or_default().push(entry);
        }
    }
    for given in given.values_mut() {
        given.sort_by_key(|given| given.start_us);
    }
    for story in case.stories.values() {
        // When the last answer was complete; not known after a request that may have changed what the member has.
        let mut answered_us = None;
        for step in &story.steps {
            match step {
                Step::Poll(poll) => answered_us = (!poll.failed).then_some(poll.end_us),
                Step::Commit(commit) if commit.outcome == CommitOutcome::Acknowledged => {
                    if let Some(answered_us) = answered_us {
                        lost_before(commit, answered_us, &given, verdict);
                    }
                    frozen(case, commit, verdict);
                }
                Step::Commit(_) => {}
            }
        }
    }
}

/// Somebody else was given records of a partition between the member's last answer and its commit.
fn lost_before(commit: &Commit, answered_us: Micros, given: &HashMap<Place, Vec<Given>>, verdict: &mut Verdict) {
    if !commit.named {
        return;
    }
    for (partition, offset) in &commit.offsets {
        let given = given.get(&(commit.who.group, *partition)).map(Vec::as_slice).unwrap_or_default();
        let first = given.partition_point(|given| given.start_us <= answered_us);
        let meanwhile = given[first..].iter().take_while(|given| given.start_us < commit.start_us);
        let member = (commit.who.member, commit.who.life);
        if let Some(other) =
            meanwhile.filter(|given| given.end_us < commit.start_us).find(|given| given.member != member)
        {
            verdict.accuse(Kind::StaleCommit, || {
                format!(
                    "group {}, partition {partition}: member {} committed {offset} at {} us; member {} had it since {} us",
                    commit.who.group, commit.who.member, commit.end_us, other.member.0, other.end_us
                )
            });
        }
    }
}

/// A member that was silent for longer than its session, while no broker was disturbed.
fn frozen(case: &Case<'_>, commit: &Commit, verdict: &mut Verdict) {
    let history = case.history;
    if commit.frozen_us < history.setting.session_us + FROZEN_US_MIN {
        return;
    }
    let disturbed_from = commit.start_us.saturating_sub(commit.frozen_us + AFTERMATH_US);
    if history.faults.iter().any(|fault| (disturbed_from..commit.end_us).contains(&fault.at_us)) {
        return;
    }
    verdict.accuse(Kind::StaleCommit, || {
        format!(
            "group {}: member {} committed at {} us after {} us of silence",
            commit.who.group, commit.who.member, commit.end_us, commit.frozen_us
        )
    });
}
