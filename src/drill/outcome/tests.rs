//! What a fault costs, computed from histories that are known to the last microsecond.

use super::*;
use crate::verify::history::{Copy, Ending, RecordId, Run, Setting};

const SECOND: Micros = 1_000_000;

/// The load of [`history`], with the report's zero here.
const fn since(zero_us: Micros) -> Schedule {
    Schedule { zero_us, end_us: 20 * SECOND, step_us: 10_000 }
}

/// A record each 10 ms in one partition, acknowledged after 1 ms; the leader dies at 5 s, and what is due then is
/// acknowledged by the next one from 5.3 s on.
fn history() -> History {
    let mut history = History {
        setting: Setting { first_offsets: vec![0], idempotent: true, committed: true, ..Setting::default() },
        ending: Ending { writing_until_us: 20 * SECOND, ..Ending::default() },
        ..History::default()
    };
    let mut last_us = 0;
    for number in 0..2_000_u64 {
        let due_us = number * 10_000;
        let (epoch, leader) = if due_us < 5 * SECOND { (1, 0) } else { (2, 1) };
        if due_us == 5 * SECOND {
            for (at_us, outcome) in [
                (due_us + 100, Outcome::Unknown { reason: "no answer from x: reset".to_owned() }),
                (due_us + 200, Outcome::Refused { code: 0 }),
                (due_us + 300, Outcome::Refused { code: 0 }),
            ] {
                history.writes.push(write(number, due_us, at_us, at_us, outcome));
            }
        }
        let ready_us = if (500..530).contains(&number) { 5 * SECOND + 300_000 } else { due_us };
        let end_us = ready_us.max(last_us) + 1_000;
        let outcome =
            Outcome::Acknowledged { offset: number, epoch: Some(epoch), leader: Some(leader), duplicate: false };
        history.writes.push(write(number, due_us, ready_us.max(last_us), end_us, outcome));
        last_us = end_us;
    }
    let first = RecordId { producer: 0, partition: 0, number: 0 };
    let runs = vec![Run { offset: 0, first, count: 2_000 }];
    history.copies.push(Copy { end: 2_000, runs, ..Copy::default() });
    history
}

fn write(number: u64, due_us: Micros, start_us: Micros, end_us: Micros, outcome: Outcome) -> Write {
    Write { producer: 0, partition: 0, number, count: 1, broker: 0, due_us: Some(due_us), start_us, end_us, outcome }
}

fn killed(at_us: Micros) -> Observed {
    Observed {
        kind: "kill leader".to_owned(),
        what: "killed broker 0".to_owned(),
        at_us,
        until_us: Some(at_us + 2 * SECOND),
        led: vec![Led { partition: 0, epoch: 1 }],
        deadly: true,
        detected_ms: Some(100.0),
        elected_ms: Some(200.0),
        full_replicas_ms: Some(2_500.0),
    }
}

#[test]
fn a_fault_costs_what_records_waited_from_when_they_were_due() {
    let found = outcome(&history(), &[killed(5 * SECOND)], "leader".to_owned(), since(SECOND));
    let [fault] = &found.faults[..] else { panic!("{found:?}") };
    assert_eq!((fault.at_s, fault.until_s), (4.0, Some(6.0)), "counted from the report's zero");
    assert_eq!(fault.first_write_ms, Some(301.0));
    // The record that was due at that moment waited for all of it; between two records nothing waits.
    assert_eq!(fault.unavailable_ms, 301.0);
    let errors: Vec<(&str, u64)> = fault.errors.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(errors, [("connection lost", 1), ("connection refused", 2)]);
    let is = |ms: Option<f64>, low: f64, high: f64| ms.is_some_and(|ms| (low..high).contains(&ms));
    assert!(is(fault.p99_before_ms, 0.9, 1.1) && is(fault.p99_after_ms, 0.9, 1.1), "{fault:?}");
    assert!(is(fault.p99_during_ms, 280.0, 302.0) && !fault.load_ended, "{fault:?}");
    assert_eq!((found.verdict.acknowledged, found.verdict.lost, found.verdict.broken.len()), (2_000, 0, 0));
    assert!(found.kinds.is_empty(), "one of a kind is no distribution");
    assert!(found.remarks.is_empty(), "{:?}", found.remarks);
}

#[test]
fn what_the_load_does_not_outlast_is_in_no_statistics() {
    let late = |at_us| Observed { elected_ms: Some(1.0), ..killed(at_us) };
    let faults = [killed(5 * SECOND), killed(17 * SECOND), late(19 * SECOND + 1), late(30 * SECOND)];
    let found = outcome(&history(), &faults, String::new(), since(0));
    let unseen: Vec<bool> = found.faults.iter().map(|fault| fault.load_ended).collect();
    assert_eq!(unseen, [false, false, true, true]);
    let last = &found.faults[3];
    assert_eq!((last.p99_before_ms, last.p99_during_ms, last.p99_after_ms), (None, None, None), "nothing was due");
    assert_eq!((found.kinds[0].count, found.kinds[0].median_and_p99_ms["elected_ms"]), (2, (200.0, 200.0)));
    assert!(found.remarks[0].contains("ended before 2 of 4 faults"), "{:?}", found.remarks);
}

#[test]
fn a_fault_after_which_nobody_was_elected_is_not_passed_over() {
    let leaderless = Observed { elected_ms: None, ..killed(12 * SECOND) };
    let found = outcome(&history(), &[killed(5 * SECOND), leaderless], String::new(), since(0));
    let kind = &found.kinds[0];
    assert_eq!((kind.count, kind.seen["elected_ms"], kind.seen["unavailable_ms"]), (2, 1, 2));
    assert!(found.remarks[0].contains("after 1 of 2 faults"), "{:?}", found.remarks);
}

#[test]
fn a_fault_that_is_never_taken_back_lasts_to_the_end() {
    let open = Observed { until_us: None, ..killed(5 * SECOND) };
    let found = outcome(&history(), &[open], String::new(), since(0));
    assert_eq!((found.faults[0].until_s, found.faults[0].unavailable_ms), (None, 301.0));
}

#[test]
fn what_is_never_acknowledged_is_unavailable_to_the_end() {
    let mut history = history();
    history
        .writes
        .retain(|write| write.due_us < Some(5 * SECOND) || !matches!(write.outcome, Outcome::Acknowledged { .. }));
    let found = outcome(&history, &[killed(5 * SECOND)], String::new(), since(0));
    assert_eq!(found.faults[0].unavailable_ms, 15_000.0);
    assert_eq!(found.faults[0].first_write_ms, None);
}

#[test]
fn a_fault_that_costs_nothing_says_so() {
    let harmless = Observed { led: Vec::new(), elected_ms: None, ..killed(10 * SECOND) };
    let found = outcome(&history(), &[harmless], String::new(), since(0));
    assert_eq!((found.faults[0].first_write_ms, found.faults[0].unavailable_ms), (None, 1.0));
    assert!(found.faults[0].errors.is_empty());
}

#[test]
fn faults_of_a_kind_have_a_median_and_a_p99() {
    let fault = |unavailable_ms: f64| FaultOutcome {
        kind: "kill leader".to_owned(),
        unavailable_ms,
        ..FaultOutcome::default()
    };
    let faults: Vec<FaultOutcome> = (1..=100).map(|ms| fault(f64::from(ms))).collect();
    let kinds = kinds(&faults);
    assert_eq!((kinds.len(), kinds[0].count), (1, 100));
    assert_eq!(kinds[0].median_and_p99_ms["unavailable_ms"], (50.0, 99.0));
    assert!(!kinds[0].median_and_p99_ms.contains_key("elected_ms"), "what never happened has no median");
    assert_eq!((nearest(&[1.0, 2.0], 99), nearest(&[7.0], 50), nearest(&[], 50)), (Some(&2.0), Some(&7.0), None));
}

#[test]
fn what_was_promised_and_broken_is_in_the_verdict() {
    let mut history = history();
    history.copies[0].runs[0].count = 1_999;
    history.copies[0].end = 1_999;
    history.ending.unhealthy = Some("a broker is away".to_owned());
    let Verdict { lost, broken, examples, .. } = outcome(&history, &[], String::new(), since(0)).verdict;
    assert_eq!((lost, broken), (1, vec!["not healthy again: 1 (a broker is away)".to_owned()]));
    assert!(examples.len() == 1 && examples[0].starts_with("lost: record 1999"), "{examples:?}");
}
