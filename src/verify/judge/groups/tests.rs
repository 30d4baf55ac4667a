//! A group without fault, and what becomes of the verdict when one thing in its history is changed.

use super::*;
use crate::verify::{
    history::{
        Copy, Fault, Outcome, RecordId, Run, Setting, Write,
        groups::{GroupEnd, Look, Membership},
    },
    judge::judge,
};

const BATCH: u64 = 10;
const ROUNDS: u64 = 3;
const END: u64 = BATCH * ROUNDS;
const ROUND_US: u64 = 100;
const SESSION_US: u64 = 2_000_000;

fn run(partition: u32, offset: u64, count: u64) -> (u32, Run) {
    (partition, Run { offset, first: RecordId { producer: 0, partition, number: offset }, count })
}

const fn life(member: u32) -> Life {
    Life { group: 0, member, life: 0 }
}

fn commit(member: u32, start_us: u64, offsets: &[(u32, u64)]) -> Commit {
    Commit {
        who: life(member),
        broker: 0,
        start_us,
        end_us: start_us + 10,
        offsets: offsets.to_vec(),
        named: true,
        frozen_us: 0,
        outcome: CommitOutcome::Acknowledged,
    }
}

/// Two members read a partition each, ten records a round; in the last round the second has left and the first reads
/// both. The first names what it commits, the second does not. After each round somebody looks on.
fn history() -> History {
    let setting =
        Setting { first_offsets: vec![0, 0], committed: true, groups: 1, session_us: SESSION_US, ..Setting::default() };
    let mut history = History { setting, ..History::default() };
    for partition in 0..2 {
        let (_, all) = run(partition, 0, END);
        let outcome = Outcome::Acknowledged { offset: 0, epoch: None, leader: None, duplicate: false };
        history.writes.push(Write {
            producer: 0,
            partition,
            number: 0,
            count: END,
            broker: 0,
            due_us: None,
            start_us: 0,
            end_us: 0,
            outcome,
        });
        history.copies.push(Copy { partition, replica: None, start: 0, end: END, runs: vec![all], ..Copy::default() });
    }
    for round in 0..ROUNDS {
        let (at, from, to) = (round * ROUND_US, round * BATCH, (round + 1) * BATCH);
        let alone = round + 1 == ROUNDS;
        let generation = if alone { 2 } else { 1 };
        let mut poll = |member: u32, partitions: &[u32]| {
            history.groups.polls.push(Poll {
                who: life(member),
                start_us: at,
                end_us: at + 20,
                generation: Some(generation),
                runs: partitions.iter().map(|partition| run(*partition, from, BATCH)).collect(),
                ..Poll::default()
            });
        };
        if alone {
            poll(0, &[0, 1]);
            history.groups.commits.push(commit(0, at + 30, &[(0, to), (1, to)]));
        } else {
            poll(0, &[0]);
            poll(1, &[1]);
            history.groups.commits.push(commit(0, at + 30, &[(0, to)]));
            history.groups.commits.push(Commit { named: false, ..commit(1, at + 30, &[(1, to)]) });
        }
        history.groups.looks.push(Look {
            start_us: at + 50,
            end_us: at + 60,
            membership: Some(Membership {
                generation,
                stable: true,
                members: if alone { 1 } else { 2 },
                owners: vec![(0, 0), (1, if alone { 0 } else { 1 })],
            }),
            committed: vec![(0, Some(to)), (1, Some(to))],
            ..Look::default()
        });
    }
    let committed = vec![(0, Some(END)), (1, Some(END))];
    history.groups.ends.push(GroupEnd { committed, ends: vec![(0, END), (1, END)], ..GroupEnd::default() });
    history.ending.writing_until_us = ROUNDS * ROUND_US;
    history
}

fn verdict(change: impl FnOnce(&mut History)) -> Verdict {
    let mut history = history();
    change(&mut history);
    judge(&history)
}

/// The change breaks these promises so many times, and no other.
#[track_caller]
fn exactly(violations: &[(Kind, u64)], change: impl FnOnce(&mut History)) -> GroupCounts {
    let verdict = verdict(change);
    assert_eq!(verdict.violations, violations.iter().copied().collect(), "{:#?}", verdict.examples);
    verdict.groups.unwrap()
}

#[test]
fn nothing_is_held_against_a_group_without_fault() {
    let counts = exactly(&[], |_| {});
    assert_eq!((counts.polls, counts.delivered, counts.delivered_again), (5, 2 * END, 0));
    assert_eq!((counts.commits, counts.generations, counts.fewest_members), (5, 2, Some(1)));
    let mut without = history();
    without.setting.groups = 0;
    assert_eq!(judge(&without).groups, None);
}

#[test]
fn a_committed_offset_that_falls_is_noticed() {
    exactly(&[(Kind::OffsetRegressed, 1)], |history| history.groups.looks[2].committed[0].1 = Some(29));
    exactly(&[(Kind::OffsetRegressed, 1)], |history| history.groups.looks[2].committed[1].1 = None);
    // Two looks that contradict each other are enough.
    exactly(&[(Kind::OffsetRegressed, 1)], |history| {
        history.groups.commits.clear();
        history.groups.looks[2].committed[0].1 = Some(10);
    });
}

#[test]
fn a_commit_without_offsets_counts_where_the_generation_stayed() {
    // The second member's first commit, with nobody who looked on: the same generation at the next delivery.
    exactly(&[(Kind::OffsetRegressed, 1)], |history| {
        history.groups.looks.remove(0);
        history.groups.looks[0].committed[1].1 = Some(9);
    });
    exactly(&[], |history| {
        history.groups.looks.remove(0);
        history.groups.looks[0].committed[1].1 = Some(9);
        history.groups.polls.iter_mut().filter(|poll| poll.who.member == 1).for_each(|poll| poll.generation = None);
    });
}

#[test]
fn generations_that_nobody_is_told_are_noticed() {
    let untold = |history: &mut History| history.groups.polls.iter_mut().for_each(|poll| poll.generation = None);
    // Two members with one partition would go by unseen.
    exactly(&[(Kind::GenerationUntold, 1)], untold);
    exactly(&[(Kind::GenerationUntold, 1)], |history| {
        untold(history);
        history.groups.looks.clear();
    });
    // An answer without records is as good as another one.
    exactly(&[], |history| {
        untold(history);
        let empty = Poll { who: life(0), end_us: 1, generation: Some(1), ..Poll::default() };
        history.groups.polls.insert(0, empty);
    });
}

#[test]
fn a_token_that_is_shown_again_commits_what_came_with_it() {
    exactly(&[(Kind::OffsetRegressed, 1)], |history| {
        history.groups.commits.retain(|commit| commit.named);
        history.groups.looks.remove(0);
        history.groups.looks[0].committed[1].1 = Some(9);
        history.groups.polls.iter_mut().filter(|poll| poll.who.member == 1).for_each(|poll| poll.commits = true);
    });
}

#[test]
fn a_late_commit_without_an_answer_explains_an_offset_that_fell() {
    let counts = exactly(&[], |history| {
        let outcome = CommitOutcome::Unknown { reason: "no answer".to_owned() };
        history.groups.commits.push(Commit { outcome, ..commit(0, 25, &[(0, 5)]) });
        history.groups.looks[2].committed[0].1 = Some(5);
    });
    assert_eq!((counts.late_commits, counts.commits_unknown), (1, 1));
}

#[test]
fn a_record_that_nobody_was_given_is_noticed() {
    exactly(&[(Kind::Skipped, 1)], |history| history.groups.polls[2].runs[0].1.count = BATCH - 1);
    // The last one.
    exactly(&[(Kind::Skipped, 1)], |history| history.groups.polls[4].runs[1].1.count = BATCH - 1);
    // What was not committed need not have been delivered, but the group is not at the end then.
    exactly(&[(Kind::NotDrained, 1)], |history| {
        history.groups.polls[4].runs[1].1.count = BATCH - 1;
        history.groups.commits.truncate(4);
        history.groups.looks.truncate(2);
        history.groups.ends[0].committed[1].1 = Some(END - 1);
    });
    // An answer that did not come delivers nothing.
    let counts = exactly(&[(Kind::Skipped, 2 * BATCH)], |history| {
        history.groups.polls[4].failed = true;
        history.groups.polls[4].runs.clear();
    });
    assert_eq!((counts.polls, counts.polls_failed), (4, 1));
}

#[test]
fn a_member_waits_from_what_failed_first_to_the_answer() {
    let poll = |start_us, failed| Poll { start_us, end_us: start_us + 10, failed, ..Poll::default() };
    let polls = [poll(0, false), poll(100, true), poll(2_000, true), poll(5_000, false), poll(90_000, false)];
    let story = |polls: &[Poll]| longest_wait_us(&Story { steps: polls.iter().map(Step::Poll).collect() });
    assert_eq!(story(&polls), 4_910);
    assert_eq!(story(&polls[3..]), 0, "who waits for records is not kept waiting");
}

#[test]
fn what_was_committed_comes_never_again() {
    let counts = exactly(&[(Kind::Redelivered, BATCH)], |history| {
        history.groups.polls[4].runs[0] = run(0, BATCH, 2 * BATCH);
    });
    assert_eq!(counts.delivered_again, BATCH);
    // What was not committed may come again.
    let counts = exactly(&[], |history| {
        history.groups.polls[4].runs[0] = run(0, BATCH, 2 * BATCH);
        history.groups.commits.remove(2);
        history.groups.looks[1].committed[0].1 = Some(BATCH);
    });
    assert_eq!(counts.delivered_again, BATCH);
}

#[test]
fn a_member_is_given_what_follows_or_what_was_committed() {
    let ahead = |history: &mut History| history.groups.polls[2].runs[0] = run(0, BATCH + 3, BATCH - 3);
    exactly(&[(Kind::Misplaced, 1), (Kind::Skipped, 3)], ahead);
    // After an answer that got lost the broker may think that it was received.
    let counts = exactly(&[(Kind::Skipped, 3)], |history| {
        ahead(history);
        history.groups.polls.push(Poll { who: life(0), start_us: 70, end_us: 90, failed: true, ..Poll::default() });
    });
    assert_eq!(counts.unsure_receipts, 1);
    // A member that says so is given it then.
    exactly(&[], |history| {
        ahead(history);
        history.groups.polls.push(Poll { who: life(0), start_us: 70, end_us: 90, failed: true, ..Poll::default() });
        let again = run(0, BATCH, BATCH);
        history.groups.commits.remove(2);
        history.groups.looks[1].committed[0].1 = Some(BATCH);
        let poll = Poll { runs: vec![again], start_us: 122, end_us: 124, ..history.groups.polls[2].clone() };
        history.groups.polls.push(poll);
    });
}

#[test]
fn what_is_delivered_is_what_the_log_holds() {
    exactly(&[(Kind::ReadContradicted, BATCH)], |history| history.groups.polls[0].runs[0].1.first.number = 100);
    exactly(&[(Kind::ReadGap, 1), (Kind::Skipped, 1)], |history| {
        history.groups.polls[0].runs = vec![run(0, 0, 4), run(0, 5, 5)];
    });
}

#[test]
fn a_partition_has_one_owner_in_a_generation() {
    exactly(&[(Kind::TwoOwners, 1)], |history| history.groups.polls[3].runs.push(run(0, BATCH, BATCH)));
    let told = |history: &mut History| history.groups.looks[1].membership.as_mut().unwrap().owners.push((0, 1));
    exactly(&[(Kind::TwoOwners, 1)], told);
    exactly(&[], |history| {
        told(history);
        history.groups.looks[1].membership.as_mut().unwrap().stable = false;
    });
}

#[test]
fn generations_only_grow() {
    exactly(&[(Kind::GenerationFell, 1)], |history| {
        let membership = history.groups.looks[2].membership.as_mut().unwrap();
        membership.generation = 1;
        membership.owners.clear();
    });
}

#[test]
fn a_commit_of_what_was_lost_is_stale() {
    let late = Commit { frozen_us: 150, ..commit(1, 260, &[(1, 2 * BATCH)]) };
    exactly(&[(Kind::StaleCommit, 1)], |history| history.groups.commits.push(late.clone()));
    let counts = exactly(&[], |history| {
        let outcome = CommitOutcome::Refused { code: 40_904 };
        history.groups.commits.push(Commit { outcome, ..late.clone() });
    });
    assert_eq!((counts.frozen_refused, counts.frozen_accepted), (1, 0));
    // Before the other one was given anything nobody can say.
    exactly(&[], |history| history.groups.commits.push(Commit { start_us: 205, end_us: 250, ..late.clone() }));
}

#[test]
fn silence_that_is_longer_than_the_session_costs_the_membership() {
    let (at, frozen_us) = (30_000_000, SESSION_US + FROZEN_ENOUGH_US);
    let late = Commit { named: false, frozen_us, ..commit(0, at, &[(0, END)]) };
    exactly(&[(Kind::StaleCommit, 1)], |history| history.groups.commits.push(late.clone()));
    // Unless something was done to the brokers: then sessions begin anew.
    let counts = exactly(&[], |history| {
        history.groups.commits.push(late.clone());
        history.faults.push(Fault { at_us: at - frozen_us, ..Fault::default() });
    });
    assert_eq!(counts.frozen_accepted, 1);
}

const FROZEN_ENOUGH_US: u64 = 1_000_001;

#[test]
fn a_group_has_to_come_to_the_end() {
    exactly(&[(Kind::NotDrained, 1)], |history| history.groups.ends[0].committed[1].1 = Some(END - 5));
    exactly(&[(Kind::NotDrained, 1)], |history| history.groups.ends[0].committed[1].1 = None);
    exactly(&[(Kind::NotDrained, 1)], |history| history.groups.ends[0].problem = Some("nobody answers".to_owned()));
}
