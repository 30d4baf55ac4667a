//! From a history and what was seen of each fault to what it cost. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pubg1_bench::report::{DrillOutcome, FaultKind, FaultOutcome, Verdict};

use crate::verify::{
    availability::{Ack, failover_us, ms, quantiles},
    history::{History, Led, Micros, Outcome, Write},
    judge::{Kind, judge},
};

/// Writes so long before and after a fault are compared with those of its time.
const WINDOW_US: Micros = 5_000_000;
/// A fault is over a little later than its plan says: the load may end so long before.
const LATE_US: Micros = 1_000_000;

/// When records are due, by the run's recorder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// The first that counts: where the report's clock begins.
    pub(super) zero_us: Micros,
    /// None is due from here on.
    pub(super) end_us: Micros,
    /// Those of a partition follow one another in so long.
    pub(super) step_us: Micros,
}

/// A fault as it was carried out. Times are those of the run's recorder.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// Of which kind.
    pub(super) kind: String,
    /// What was done, to whom.
    pub(super) what: String,
    /// When.
    pub(super) at_us: Micros,
    /// When it was taken back, if it was.
    pub(super) until_us: Option<Micros>,
    /// What lost its leader by it.
    pub(super) led: Vec<Led>,
    /// Whether brokers ended by it: what they led needs others.
    pub(super) deadly: bool,
    /// When somebody knew, when all had leaders, and when all replicas were in sync, in milliseconds since.
    pub(super) detected_ms: Option<f64>,
    pub(super) elected_ms: Option<f64>,
    pub(super) full_replicas_ms: Option<f64>,
}

/// A request that was acknowledged.
#[derive(Clone, Copy)]
struct Delivery {
    partition: u32,
    /// When the first of its records was due.
    due_us: Micros,
    ack_us: Micros,
    count: u64,
    epoch: Option<u32>,
}

/// What the drill found.
pub(super) fn outcome(history: &History, observed: &[Observed], plan: String, schedule: Schedule) -> DrillOutcome {
    let mut deliveries: Vec<Delivery> = history.writes.iter().filter_map(delivery).collect();
    deliveries.sort_by_key(|delivery| delivery.ack_us);
    let next = observed.iter().skip(1).map(|fault| fault.at_us).chain([Micros::MAX]);
    let before = [0].into_iter().chain(observed.iter().map(|fault| fault.until_us.unwrap_or(fault.at_us)));
    let faults: Vec<FaultOutcome> = observed
        .iter()
        .zip(before.zip(next))
        .map(|(fault, bounds)| cost(history, &deliveries, fault, bounds, schedule))
        .collect();
    let remarks = remarks(observed, &faults);
    DrillOutcome { plan, kinds: kinds(&faults), faults, verdict: verdict(history), remarks }
}

/// What makes the numbers say less than they seem to.
fn remarks(observed: &[Observed], faults: &[FaultOutcome]) -> Vec<String> {
    let all = match faults.len() {
        1 => "1 fault".to_owned(),
        all => format!("{all} faults"),
    };
    let unseen = faults.iter().filter(|fault| fault.load_ended).count();
    let unseen = (unseen > 0).then(|| {
        format!("the load ended before {unseen} of {all} were over: no statistics count them; --duration makes it last")
    });
    let unled = |fault: &&Observed| fault.deadly && !fault.led.is_empty() && fault.elected_ms.is_none();
    let unled = observed.iter().filter(unled).count();
    let unled = (unled > 0).then(|| format!("after {unled} of {all} not every lost leader was seen to be replaced"));
    unseen.into_iter().chain(unled).collect()
}

fn delivery(write: &Write) -> Option<Delivery> {
    let Outcome::Acknowledged { epoch, .. } = write.outcome else { return None };
    let due_us = write.due_us.unwrap_or(write.start_us);
    Some(Delivery { partition: write.partition, due_us, ack_us: write.end_us, count: write.count, epoch })
}

fn cost(
    history: &History,
    deliveries: &[Delivery],
    fault: &Observed,
    (before_us, next_us): (Micros, Micros),
    schedule: Schedule,
) -> FaultOutcome {
    let over_us = fault.until_us.unwrap_or(history.ending.writing_until_us).max(fault.at_us);
    let until_us = over_us.saturating_add(WINDOW_US).min(next_us);
    let p99 = |from: Micros, to: Micros| {
        let mut waits = deliveries.iter().flat_map(|delivery| {
            let dues = (0..delivery.count).map(move |index| delivery.due_us + index * schedule.step_us);
            dues.filter(|due_us| (from..to).contains(due_us)).map(|due_us| (delivery.ack_us.saturating_sub(due_us), 1))
        });
        let first = waits.next()?;
        Some(quantiles(std::iter::once(first).chain(waits)).p99_ms)
    };
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    for write in history.writes.iter().filter(|write| (fault.at_us..until_us).contains(&write.end_us)) {
        if let Some(kind) = error_kind(&write.outcome) {
            *errors.entry(kind).or_default() += 1;
        }
    }
    let since = |us: Micros| (ms(us) - ms(schedule.zero_us)) / 1_000.0;
    FaultOutcome {
        kind: fault.kind.clone(),
        what: fault.what.clone(),
        at_s: since(fault.at_us),
        until_s: fault.until_us.map(since),
        detected_ms: fault.detected_ms,
        elected_ms: fault.elected_ms,
        first_write_ms: fault.elected_ms.and_then(|_| first_write_ms(deliveries, fault, next_us)),
        full_replicas_ms: fault.full_replicas_ms,
        unavailable_ms: ms(unavailable_us(history, deliveries, fault.at_us, until_us)),
        errors,
        p99_before_ms: p99(fault.at_us.saturating_sub(WINDOW_US).max(before_us), fault.at_us),
        p99_during_ms: p99(fault.at_us, over_us),
        p99_after_ms: p99(over_us, until_us),
        load_ended: fault.at_us >= schedule.end_us || over_us > schedule.end_us.saturating_add(LATE_US),
    }
}

/// Until every partition that lost its leader had an acknowledgement by a newer one.
fn first_write_ms(deliveries: &[Delivery], fault: &Observed, next_us: Micros) -> Option<f64> {
    let each = fault.led.iter().map(|led| {
        let own = deliveries.iter().filter(|delivery| delivery.partition == led.partition);
        let acks: Vec<Ack> =
            own.map(|delivery| Ack { at_us: delivery.ack_us, epoch: delivery.epoch, leader: None }).collect();
        failover_us(fault.at_us, led.epoch, next_us, &acks)
    });
    each.collect::<Option<Vec<Micros>>>()?.into_iter().max().map(ms)
}

/// The longest time in which a partition acknowledged nothing although something was due, as far as it lies behind
/// the fault and began before `until_us`.
fn unavailable_us(history: &History, deliveries: &[Delivery], at_us: Micros, until_us: Micros) -> Micros {
    let partitions: BTreeSet<u32> = history.writes.iter().map(|write| write.partition).collect();
    let mut longest = 0;
    for partition in partitions {
        let own: Vec<&Delivery> = deliveries.iter().filter(|delivery| delivery.partition == partition).collect();
        // Requests of a partition follow one another: the one that is acknowledged next is the oldest that waits.
        let mut last_us = 0;
        for delivery in &own {
            let from_us = delivery.due_us.max(last_us).max(at_us);
            if from_us < until_us {
                longest = longest.max(delivery.ack_us.saturating_sub(from_us));
            }
            last_us = delivery.ack_us;
        }
        // What was never acknowledged waits until the end.
        let waiting = history.writes.iter().filter(|write| write.partition == partition && write.start_us >= last_us);
        if let Some(due_us) = waiting.map(|write| write.due_us.unwrap_or(write.start_us)).min() {
            let from_us = due_us.max(last_us).max(at_us);
            if from_us < until_us {
                longest = longest.max(history.ending.writing_until_us.saturating_sub(from_us));
            }
        }
    }
    longest
}

/// A short name of what an attempt failed with; `None`: it did not.
pub(super) fn error_kind(outcome: &Outcome) -> Option<String> {
    let name = match outcome {
        Outcome::Acknowledged { .. } => return None,
        Outcome::Refused { code: 0 } => "connection refused",
        Outcome::Refused { code: 50302 } => "no leader",
        Outcome::Refused { code: 50303 } => "recovering",
        Outcome::Refused { code: 50304 } => "draining",
        Outcome::Refused { code: 50305 } => "disk full",
        Outcome::Refused { code } => return Some(format!("refused ({code})")),
        Outcome::Unknown { reason } if reason.contains("50306") => "outcome unknown",
        Outcome::Unknown { reason } if reason == "no answer in time" => "no answer in time",
        Outcome::Unknown { reason } if reason.starts_with("no answer from") => "connection lost",
        Outcome::Unknown { .. } => "other",
    };
    Some(name.to_owned())
}

/// One of the times of a fault.
type Time = fn(&FaultOutcome) -> Option<f64>;

/// Half and 99 of 100 of every time, of kinds that happened more than once while there was load.
fn kinds(faults: &[FaultOutcome]) -> Vec<FaultKind> {
    let mut names: Vec<&str> = Vec::new();
    for fault in faults {
        if !names.contains(&fault.kind.as_str()) {
            names.push(&fault.kind);
        }
    }
    let kind = |name: &str| {
        let own: Vec<&FaultOutcome> = faults.iter().filter(|fault| fault.kind == name && !fault.load_ended).collect();
        let times: [(&str, Time); 8] = [
            ("detected_ms", |fault| fault.detected_ms),
            ("elected_ms", |fault| fault.elected_ms),
            ("first_write_ms", |fault| fault.first_write_ms),
            ("full_replicas_ms", |fault| fault.full_replicas_ms),
            ("unavailable_ms", |fault| Some(fault.unavailable_ms)),
            ("p99_before_ms", |fault| fault.p99_before_ms),
            ("p99_during_ms", |fault| fault.p99_during_ms),
            ("p99_after_ms", |fault| fault.p99_after_ms),
        ];
        let mut found = FaultKind { kind: name.to_owned(), count: own.len() as u64, ..FaultKind::default() };
        for (name, time) in times {
            let mut all: Vec<f64> = own.iter().filter_map(|fault| time(fault)).collect();
            all.sort_by(f64::total_cmp);
            found.seen.insert(name.to_owned(), all.len() as u64);
            if let (Some(median), Some(p99)) = (nearest(&all, 50), nearest(&all, 99)) {
                found.median_and_p99_ms.insert(name.to_owned(), (*median, *p99));
            }
        }
        found
    };
    names.into_iter().map(kind).filter(|kind| kind.count > 1).collect()
}

/// The smallest value that this share of all does not exceed.
fn nearest(sorted: &[f64], percent: usize) -> Option<&f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?)
}

fn verdict(history: &History) -> Verdict {
    let found = judge(history);
    let elsewhere = [Kind::Lost, Kind::Moved, Kind::Duplicated];
    let others = found.violations.iter().filter(|(kind, count)| **count > 0 && !elsewhere.contains(kind));
    let told = |kind: Kind| found.examples.iter().filter(move |finding| finding.kind == kind);
    let broken = others.map(|(kind, count)| {
        let examples: Vec<&str> = told(*kind).map(|finding| finding.what.as_str()).collect();
        format!("{kind}: {count} ({})", examples.join("; "))
    });
    let examples = elsewhere.into_iter().flat_map(told).map(|finding| format!("{}: {}", finding.kind, finding.what));
    Verdict {
        acknowledged: found.acknowledged,
        lost: found.count(Kind::Lost),
        moved: found.count(Kind::Moved),
        duplicated: found.count(Kind::Duplicated),
        repeated: found.repeated,
        broken: broken.collect(),
        examples: examples.collect(),
    }
}

#[cfg(test)]
mod tests;
