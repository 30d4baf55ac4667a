//! What a fault costs, computed from histories that are known to the last microsecond.

use super::*;
use crate::verify::history::{Copy, Ending, RecordId, Run, Setting};

const SECOND: Micros = 1_000_000;

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
        until_us: at_us + 2 * SECOND,
        led: vec![Led { partition: 0, epoch: 1 }],
        detected_ms: Some(100.0),
        elected_ms: Some(200.0),
        full_replicas_ms: Some(2_500.0),
    }
}

#[test]
fn a_fault_costs_what_records_waited_from_when_they_were_due() {
    let found = outcome(&history(), &[killed(5 * SECOND)], "leader".to_owned(), (SECOND, 10_000));
    let [fault] = &found.faults[..] else { panic!("{found:?}") };
    assert_eq!((fault.at_s, fault.until_s), (4.0, Some(6.0)), "counted from the report's zero");
    assert_eq!(fault.first_write_ms, Some(301.0));
    // The record that was due at that moment waited for all of it; between two records nothing waits.
    assert_eq!(fault.unavailable_ms, 301.0);
    let errors: Vec<(&str, u64)> = fault.errors.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(errors, [("connection lost", 1), ("connection refused", 2)]);
    assert!((0.9..1.1).contains(&fault.p99_before_ms) && (0.9..1.1).contains(&fault.p99_after_ms), "{fault:?}");
    assert!((290.0..302.0).contains(&fault.p99_during_ms), "{fault:?}");
    assert_eq!((found.verdict.acknowledged, found.verdict.lost, found.verdict.broken.len()), (2_000, 0, 0));
    assert!(found.kinds.is_empty(), "one of a kind is no distribution");
}

#[test]
fn what_is_never_acknowledged_is_unavailable_to_the_end() {
    let mut history = history();
    history
        .writes
        .retain(|write| write.due_us < Some(5 * SECOND) || !matches!(write.outcome, Outcome::Acknowledged { .. }));
    let found = outcome(&history, &[killed(5 * SECOND)], String::new(), (0, 10_000));
    assert_eq!(found.faults[0].unavailable_ms, 15_000.0);
    assert_eq!(found.faults[0].first_write_ms, None);
}

#[test]
fn a_fault_that_costs_nothing_says_so() {
    let harmless = Observed { led: Vec::new(), elected_ms: None, ..killed(10 * SECOND) };
    let found = outcome(&history(), &[harmless], String::new(), (0, 10_000));
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
    let found = outcome(&history, &[], String::new(), (0, 10_000));
    assert_eq!(found.verdict.lost, 1);
    assert!(found.verdict.broken[0].starts_with("lost: record 1999"), "{:?}", found.verdict.broken);
}
