//! A history without fault, and what becomes of the verdict when one thing in it is changed.

use super::*;
use crate::verify::history::{Copy, Ending, FOREIGN, Read, Run, Setting, Write};

const PRODUCERS: u32 = 2;
const PARTITIONS: u32 = 2;
const BATCHES: u64 = 6;
const BATCH: u64 = 3;

fn id(producer: u32, partition: u32, number: u64) -> RecordId {
    RecordId { producer, partition, number }
}

fn acknowledged(offset: u64, epoch: u32, leader: u32) -> Outcome {
    Outcome::Acknowledged { offset, epoch: Some(epoch), leader: Some(leader), duplicate: false }
}

/// Two producers take turns, a request each 100 us that takes 50; halfway broker 1 leads in epoch 2. A reader follows
/// each request. Three replicas hold the same.
fn history() -> History {
    let setting = Setting {
        first_offsets: vec![0; PARTITIONS as usize],
        brokers: vec!["http://127.0.0.1:1".to_owned()],
        idempotent: true,
        committed: true,
        ..Setting::default()
    };
    let mut history = History { setting, ..History::default() };
    for partition in 0..PARTITIONS {
        let (mut runs, mut batches) = (Vec::new(), Vec::new());
        for batch in 0..BATCHES {
            for producer in 0..PRODUCERS {
                let turn = batch * u64::from(PRODUCERS) + u64::from(producer);
                let (offset, start_us) = (turn * BATCH, turn * 100);
                let (epoch, leader) = if batch < BATCHES / 2 { (1, 0) } else { (2, 1) };
                history.writes.push(Write {
                    producer,
                    partition,
                    number: batch * BATCH,
                    count: BATCH,
                    broker: 0,
                    due_us: None,
                    start_us,
                    end_us: start_us + 50,
                    outcome: acknowledged(offset, epoch, leader),
                });
                let run = Run { offset, first: id(producer, partition, batch * BATCH), count: BATCH };
                history.reads.push(Read {
                    partition,
                    broker: 0,
                    start_us: start_us + 60,
                    end_us: start_us + 90,
                    from: offset,
                    high_watermark: offset + BATCH,
                    runs: vec![run],
                });
                runs.push(run);
                batches.push((offset, i64::from(epoch), 1000 + turn));
            }
        }
        let end = BATCHES * u64::from(PRODUCERS) * BATCH;
        let copy = Copy { partition, replica: None, start: 0, end, runs, batches, error: None };
        history.copies.extend((0..3).map(|replica| Copy { replica: Some(replica), ..copy.clone() }));
        history.copies.push(copy);
    }
    history.ending = Ending { writing_until_us: 2_000, ..Ending::default() };
    history
}

/// The verdict on the history with one thing changed.
fn verdict(change: impl FnOnce(&mut History)) -> Verdict {
    let mut history = history();
    change(&mut history);
    judge(&history)
}

/// The change breaks this promise so many times, and no other.
#[track_caller]
fn only(kind: Kind, count: u64, change: impl FnOnce(&mut History)) {
    let verdict = verdict(change);
    assert_eq!(verdict.violations, BTreeMap::from([(kind, count)]), "{:#?}", verdict.examples);
    assert!(!verdict.examples.is_empty() && verdict.examples.iter().all(|finding| finding.kind == kind));
}

/// Changes what every replica and every reader has of a partition.
fn in_log(history: &mut History, partition: u32, change: impl Fn(&mut Vec<Run>)) {
    history.copies.iter_mut().filter(|copy| copy.partition == partition).for_each(|copy| {
        change(&mut copy.runs);
        copy.end = copy.runs.iter().map(|run| run.offset + run.count).max().unwrap_or(0);
    });
}

fn drop_last(runs: &mut Vec<Run>) {
    runs.truncate(runs.len() - 1);
}

/// Without readers, so that only the log speaks.
fn unread(history: &mut History) {
    history.reads.clear();
}

#[test]
fn nothing_is_held_against_a_history_without_fault() {
    let verdict = verdict(|_| {});
    assert!(verdict.is_clean(), "{verdict:#?}");
    let records = BATCHES * BATCH * u64::from(PRODUCERS) * u64::from(PARTITIONS);
    assert_eq!((verdict.sent, verdict.acknowledged, verdict.found, verdict.unknown), (records, records, records, 0));
    assert_eq!((verdict.reads, verdict.copies_compared), (24, 6));
}

#[test]
fn a_record_that_is_gone_is_lost() {
    only(Kind::Lost, 3, |history| {
        unread(history);
        in_log(history, 1, drop_last);
    });
}

#[test]
fn a_record_in_another_place_is_moved() {
    let swap = |runs: &mut Vec<Run>| {
        let (first, second) = (runs[0].first, runs[1].first);
        (runs[0].first, runs[1].first) = (second, first);
    };
    only(Kind::Moved, 6, |history| {
        unread(history);
        in_log(history, 0, swap);
    });
    assert_eq!(verdict(|history| in_log(history, 0, swap)).count(Kind::ReadContradicted), 6);
    // In another partition it is moved, too.
    let moved = verdict(|history| {
        unread(history);
        in_log(history, 0, |runs| runs[0].first.partition = 1);
        in_log(history, 1, |runs| runs[0].first.partition = 0);
    });
    assert_eq!((moved.count(Kind::Moved), moved.count(Kind::Lost)), (6, 0));
}

#[test]
fn what_is_stored_twice_is_a_duplicate_unless_a_repeated_request_explains_it() {
    let again = |runs: &mut Vec<Run>| {
        let last = runs[runs.len() - 1];
        runs.push(Run { offset: last.offset + last.count, ..last });
    };
    only(Kind::Duplicated, 3, |history| in_log(history, 0, again));
    let repeat = |history: &mut History, idempotent| {
        in_log(history, 0, again);
        history.setting.idempotent = idempotent;
        let mut attempt = history.writes.iter().rfind(|write| write.partition == 0).unwrap().clone();
        attempt.outcome = Outcome::Unknown { reason: "no answer".to_owned() };
        history.writes.push(attempt);
    };
    only(Kind::Duplicated, 3, |history| repeat(history, true));
    let allowed = verdict(|history| repeat(history, false));
    assert!(allowed.is_clean(), "{allowed:#?}");
    assert_eq!(allowed.repeated, 3);
    // One repetition explains one copy, and a refusal explains none.
    only(Kind::Duplicated, 3, |history| {
        repeat(history, false);
        in_log(history, 0, again);
    });
    only(Kind::Duplicated, 3, |history| {
        repeat(history, false);
        history.writes.last_mut().unwrap().outcome = Outcome::Refused { code: 50302 };
    });
}

#[test]
fn a_producers_records_in_another_order_are_reordered() {
    // Acknowledged so: the places are those of the acknowledgements, and fall.
    only(Kind::Reordered, 3, |history| {
        unread(history);
        history.setting.idempotent = false;
        let mut own = history.writes.iter_mut().filter(|write| write.partition == 0 && write.producer == 0);
        let (first, second) = (own.next().unwrap(), own.next().unwrap());
        std::mem::swap(&mut first.outcome, &mut second.outcome);
        in_log(history, 0, |runs| {
            let (first, second) = (runs[0].first, runs[2].first);
            (runs[0].first, runs[2].first) = (second, first);
        });
    });
    // Never acknowledged, and stored behind what was written later; another producer's are in its place.
    only(Kind::Reordered, 3, |history| {
        unread(history);
        let unknown = Outcome::Unknown { reason: "no answer".to_owned() };
        let own = history.writes.iter_mut().filter(|write| write.partition == 0 && write.producer == 0);
        own.take(1).for_each(|write| write.outcome = unknown.clone());
        let other = Write { producer: 7, outcome: unknown, ..history.writes[0].clone() };
        history.writes.push(other);
        in_log(history, 0, |runs| {
            let offset = BATCHES * u64::from(PRODUCERS) * BATCH;
            runs.push(Run { offset, ..runs[0] });
            runs[0].first.producer = 7;
        });
    });
}

#[test]
fn what_nobody_sent_is_noticed() {
    let phantom = |first| {
        move |history: &mut History| {
            in_log(history, 1, |runs| {
                runs.push(Run { offset: BATCHES * u64::from(PRODUCERS) * BATCH, first, count: 1 })
            });
        }
    };
    only(Kind::NeverSent, 1, phantom(id(0, 1, BATCHES * BATCH)));
    only(Kind::NeverSent, 1, phantom(id(9, 1, 0)));
    only(Kind::NeverSent, 1, phantom(id(FOREIGN, 1, 4711)));
    let refused = |outcome| {
        move |history: &mut History| {
            phantom(id(0, 1, BATCHES * BATCH))(history);
            let mut write = history.writes.iter().rfind(|write| write.producer == 0).unwrap().clone();
            (write.partition, write.number, write.count, write.outcome) = (1, BATCHES * BATCH, 1, outcome);
            history.writes.push(write);
        }
    };
    only(Kind::RefusedYetStored, 1, refused(Outcome::Refused { code: 50302 }));
    let unknown = verdict(refused(Outcome::Unknown { reason: "no answer".to_owned() }));
    assert!(unknown.is_clean(), "{unknown:#?}");
    assert_eq!(unknown.unknown, 1);
}

#[test]
fn a_gap_that_an_idempotent_producer_did_not_make_is_noticed() {
    let refused = |idempotent| {
        move |history: &mut History| {
            let mut write = history.writes[0].clone();
            write.outcome = Outcome::Refused { code: 40905 };
            history.writes.insert(0, write);
            history.setting.idempotent = idempotent;
        }
    };
    only(Kind::SequenceRefused, 1, refused(true));
    assert!(verdict(refused(false)).is_clean());
}

#[test]
fn replicas_that_differ_or_cannot_be_read_are_noticed() {
    let copy = |history: &mut History, change: &dyn Fn(&mut Copy)| {
        change(history.copies.iter_mut().find(|copy| copy.replica == Some(2)).unwrap());
    };
    only(Kind::ReplicasDiffer, 1, |history| copy(history, &|copy| copy.batches[3].2 += 1));
    only(Kind::ReplicasDiffer, 1, |history| copy(history, &|copy| copy.batches[11].1 = 3));
    only(Kind::ReplicasDiffer, 1, |history| copy(history, &|copy| copy.batches.retain(|(base, ..)| *base != 12)));
    only(Kind::ReplicasDiffer, 1, |history| copy(history, &|copy| copy.batches.insert(1, (1, 1, 9))));
    only(Kind::ReplicaUnread, 1, |history| copy(history, &|copy| copy.error = Some("503".to_owned())));
    only(Kind::TwoLeaders, 1, |history| {
        history.copies.iter_mut().filter(|copy| copy.partition == 0).take(3).for_each(|copy| copy.replica = Some(0));
        history.copies.retain(|copy| copy.partition == 1 || copy.replica.is_none());
        history.copies.iter_mut().find(|copy| copy.partition == 0).unwrap().batches[3].1 = 0;
    });
    // What was not read is neither lost nor contradicted.
    only(Kind::ReplicaUnread, 1, |history| history.copies.retain(|copy| copy.partition == 0));
    // A replica that is shorter says so itself; what it has is compared.
    only(Kind::ReplicaUnread, 1, |history| {
        copy(history, &|copy| {
            copy.batches.truncate(5);
            copy.end = 15;
            copy.error = Some("it ends there".to_owned());
        });
    });
}

#[test]
fn readers_may_not_see_what_is_not_there_nor_jump() {
    only(Kind::ReadContradicted, 3, |history| history.reads[0].runs[0].first.number = BATCH);
    only(Kind::ReadGap, 1, |history| {
        history.reads[0].runs[0].count = 2;
        let first = history.reads[0].runs[0].first;
        history.reads[0].high_watermark = 6;
        history.reads[0].runs.push(Run { offset: 3, first: id(1, first.partition, 0), count: 1 });
        // All later answers know at least as much.
    });
    only(Kind::ReadGap, 1, |history| history.reads[0].from = 1);
    let uncommitted = verdict(|history| history.reads[0].high_watermark = 2);
    assert_eq!(uncommitted.count(Kind::ReadGap), 1);
    // Read before it was gone: the log has it no more.
    let gone = verdict(|history| in_log(history, 0, drop_last));
    assert_eq!((gone.count(Kind::Lost), gone.count(Kind::ReadContradicted)), (3, 3));
}

#[test]
fn an_answer_that_knows_less_than_an_earlier_one_is_stale() {
    let empty = |start_us, high_watermark| Read {
        partition: 0,
        broker: 0,
        start_us,
        end_us: start_us + 5,
        from: 3,
        high_watermark,
        runs: Vec::new(),
    };
    // The first acknowledgement came at 50 and says that 3 records are committed.
    only(Kind::StaleRead, 1, |history| history.reads.push(empty(51, 2)));
    assert!(verdict(|history| history.reads.push(empty(50, 2))).is_clean(), "at the same time nothing is certain");
    assert!(verdict(|history| history.reads.push(empty(51, 3))).is_clean());
    // An earlier read counts as well: without a quorum's acknowledgement it is the only one that does.
    let reads_only = |high_watermark| {
        move |history: &mut History| {
            history.setting.committed = false;
            history.reads.push(empty(91, high_watermark));
        }
    };
    only(Kind::StaleRead, 1, reads_only(2));
    assert!(verdict(reads_only(3)).is_clean());
}

#[test]
fn a_deposed_leader_that_acknowledges_is_noticed() {
    // Epoch 2 began with the write that ended at 650.
    let late = |start_us, epoch, leader| {
        move |history: &mut History| {
            let last = history.writes.iter_mut().rfind(|write| write.partition == 0).unwrap();
            let Outcome::Acknowledged { offset, .. } = last.outcome else { panic!("acknowledged") };
            last.start_us = start_us;
            last.outcome = acknowledged(offset, epoch, leader);
        }
    };
    only(Kind::EpochRegression, 1, late(651, 1, 0));
    assert!(verdict(late(650, 1, 0)).is_clean(), "it may have been acknowledged before");
    only(Kind::TwoLeaders, 1, late(1_100, 2, 0));
    assert!(verdict(late(1_100, 3, 0)).is_clean());
}

#[test]
fn a_leaders_acknowledgement_alone_promises_nothing() {
    let verdict = verdict(|history| {
        unread(history);
        history.setting.committed = false;
        in_log(history, 1, drop_last);
    });
    assert!(verdict.is_clean(), "{verdict:#?}");
    assert_eq!(verdict.lost_without_promise, 3);
}

#[test]
fn a_cluster_that_does_not_recover_is_a_finding() {
    only(Kind::Unhealthy, 1, |history| history.ending.unhealthy = Some("partition 0 has no leader".to_owned()));
}
