//! How the run felt to its clients: gaps between acknowledgements, latencies, and what each fault
//! cost. Pure.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    clock::micros,
    history::{Fault, History, Micros, Outcome, Write},
};

/// Shorter gaps are the rhythm of the load.
const GAP_US_MIN: Micros = 20_000;
/// Longer latencies count as this one.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Who acknowledges so long after a fault was not ended by it.
const LED_ON_US: Micros = 50_000;
/// Writes so long before and after a fault are compared.
const WINDOW_US: Micros = 5_000_000;

/// A time without acknowledgements in one partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// The partition.
    pub partition: u32,
    /// The last acknowledgement before it.
    pub from_us: Micros,
    /// The first one behind it, or the end of the run.
    pub to_us: Micros,
    /// Its length.
    pub ms: f64,
    /// The epoch before it, and the one behind it.
    pub epochs: (Option<u32>, Option<u32>),
    /// Leaders before and behind it.
    pub leaders: (Option<u32>, Option<u32>),
}

/// Milliseconds at some places of a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many there are.
    pub count: u64,
    /// Half of them are at most this.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// All of them.
    pub max_ms: f64,
}

impl Quantiles {
    /// Of these times.
    pub fn of(times: impl Iterator<Item = Duration>) -> Self {
        quantiles(times.map(|time| (micros(time), 1)))
    }
}

/// What a fault cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultCost {
    /// When.
    pub at_ms: f64,
    /// What was done.
    pub what: String,
    /// Whether the controller was hit.
    pub controller: bool,
    /// How many partitions lost their leader.
    pub partitions_led: usize,
    /// Until the last of them had an acknowledgement by a newer leader; `None` when one never had.
    pub failover_ms: Option<f64>,
    /// The longest time without acknowledgement in any partition that reaches over the fault or
    /// begins in the window behind it.
    pub unavailable_ms: f64,
    /// Attempts that failed in the window behind it.
    pub failed_attempts: u64,
    /// From first attempt to acknowledgement, 99 of 100 writes, in the window before.
    pub p99_before_ms: f64,
    /// The same in the window behind it.
    pub p99_after_ms: f64,
}

/// How the run felt.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Availability {
    /// The longest gap of each partition.
    pub longest_gap_ms: BTreeMap<u32, f64>,
    /// All gaps that the load does not explain, the longest first.
    pub gaps: Vec<Gap>,
    /// The gaps in which a partition changed its leader, whatever the reason was.
    pub leader_changes: Quantiles,
    /// From a record's first attempt, or from when a schedule wanted it sent, to its acknowledgement.
    pub latency: Quantiles,
    /// The attempts that were acknowledged.
    pub attempt_latency: Quantiles,
    /// Attempts whose answer said that nothing was written.
    pub refused_attempts: u64,
    /// Attempts of which nobody knows what became of them.
    pub unknown_attempts: u64,
    /// Acknowledged records per second.
    pub records_per_second: f64,
    /// What was done to the cluster and what it cost.
    pub faults: Vec<FaultCost>,
    /// Failover times over all faults that took a leader.
    pub failover: Quantiles,
    /// Unavailable times over all faults that took a leader which was not the controller.
    pub unavailable: Quantiles,
    /// The same where it was the controller, too.
    pub unavailable_controller: Quantiles,
}

/// A batch of records from its first attempt to its acknowledgement.
struct Delivered<'a> {
    begun_us: Micros,
    write: &'a Write,
}

/// An acknowledgement, for the gaps.
#[derive(Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) at_us: Micros,
    pub(crate) epoch: Option<u32>,
    pub(crate) leader: Option<u32>,
}

/// Measures a run.
#[must_use]
pub fn measure(history: &History) -> Availability {
    let mut first_attempt: BTreeMap<(u32, u32, u64), Micros> = BTreeMap::new();
    let mut delivered = Vec::new();
    let mut acks: BTreeMap<u32, Vec<Ack>> = BTreeMap::new();
    let mut measured = Availability::default();
    for write in &history.writes {
        let begun_us = write.due_us.unwrap_or(write.start_us);
        let begun_us = *first_attempt.entry((write.producer, write.partition, write.number)).or_insert(begun_us);
        match &write.outcome {
            Outcome::Acknowledged { epoch, leader, .. } => {
                delivered.push(Delivered { begun_us, write });
                let ack = Ack { at_us: write.end_us, epoch: *epoch, leader: *leader };
                acks.entry(write.partition).or_default().push(ack);
            }
            Outcome::Refused { .. } => measured.refused_attempts += 1,
            Outcome::Unknown { .. } => measured.unknown_attempts += 1,
        }
    }
    measured.latency =
        quantiles(delivered.iter().map(|one| (one.write.end_us.saturating_sub(one.begun_us), one.write.count)));
    measured.attempt_latency =
        quantiles(delivered.iter().map(|one| (one.write.end_us.saturating_sub(one.write.start_us), one.write.count)));
    measured.records_per_second = rate(&delivered);
    let mut changes = Vec::new();
    for (partition, acks) in &mut acks {
        acks.sort_by_key(|ack| ack.at_us);
        let gaps = gaps(*partition, acks, history.ending.writing_until_us);
        let longest = gaps.iter().map(|gap| gap.ms).fold(0.0, f64::max);
        measured.longest_gap_ms.insert(*partition, longest);
        let changed = |gap: &&Gap| matches!(gap.epochs, (Some(before), Some(after)) if before != after);
        changes.extend(gaps.iter().filter(changed).map(|gap| (gap.to_us.saturating_sub(gap.from_us), 1)));
        measured.gaps.extend(gaps.into_iter().filter(|gap| gap.to_us.saturating_sub(gap.from_us) >= GAP_US_MIN));
    }
    measured.leader_changes = quantiles(changes.into_iter());
    measured.gaps.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let next_fault = history.faults.iter().skip(1).map(|fault| fault.at_us).chain([Micros::MAX]);
    measured.faults = history
        .faults
        .iter()
        .zip(next_fault)
        .map(|(fault, next_us)| cost(history, fault, next_us, &acks, &delivered, &measured.gaps))
        .collect();
    let took_leader = || measured.faults.iter().filter(|fault| fault.partitions_led > 0);
    measured.failover = quantiles(took_leader().filter_map(|fault| fault.failover_ms).map(|ms| (to_us(ms), 1)));
    let unavailable = |controller| {
        quantiles(
            took_leader().filter(|fault| fault.controller == controller).map(|fault| (to_us(fault.unavailable_ms), 1)),
        )
    };
    (measured.unavailable, measured.unavailable_controller) = (unavailable(false), unavailable(true));
    measured
}

fn gaps(partition: u32, acks: &[Ack], until_us: Micros) -> Vec<Gap> {
    let none = Ack { at_us: until_us, epoch: None, leader: None };
    let end = acks.last().filter(|last| last.at_us < until_us).map(|last| (*last, none));
    let pairs = acks.windows(2).map(|pair| (pair[0], pair[1])).chain(end);
    pairs
        .map(|(before, after)| Gap {
            partition,
            from_us: before.at_us,
            to_us: after.at_us,
            ms: ms(after.at_us.saturating_sub(before.at_us)),
            epochs: (before.epoch, after.epoch),
            leaders: (before.leader, after.leader),
        })
        .collect()
}

fn cost(
    history: &History,
    fault: &Fault,
    next_us: Micros,
    acks: &BTreeMap<u32, Vec<Ack>>,
    delivered: &[Delivered<'_>],
    gaps: &[Gap],
) -> FaultCost {
    let until_us = next_us.min(fault.at_us.saturating_add(WINDOW_US));
    let in_window = |at_us: Micros| (fault.at_us..until_us).contains(&at_us);
    let failovers: Vec<Option<Micros>> = fault
        .led
        .iter()
        .map(|led| {
            let acks = acks.get(&led.partition).map(Vec::as_slice).unwrap_or_default();
            failover_us(fault.at_us, led.epoch, next_us, acks)
        })
        .collect();
    let slowest = failovers.iter().copied().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
    // Of the gaps that the fault can have caused the part behind it. One that reaches over the next
    // fault and began behind this one is the next one's.
    let reaching = gaps.iter().filter(|gap| {
        let over_this = gap.from_us <= fault.at_us;
        gap.to_us > fault.at_us && gap.from_us < until_us && (over_this || gap.to_us <= next_us)
    });
    let unavailable =
        reaching.map(|gap| ms(gap.to_us.saturating_sub(gap.from_us.max(fault.at_us)))).fold(0.0, f64::max);
    let before = fault.at_us.saturating_sub(WINDOW_US)..fault.at_us;
    let latencies = |range: &dyn Fn(Micros) -> bool| {
        let some = delivered.iter().filter(|one| range(one.begun_us));
        quantiles(some.map(|one| (one.write.end_us.saturating_sub(one.begun_us), one.write.count))).p99_ms
    };
    let failed = |write: &&Write| in_window(write.start_us) && !matches!(write.outcome, Outcome::Acknowledged { .. });
    FaultCost {
        at_ms: ms(fault.at_us),
        what: fault.what.clone(),
        controller: fault.controller,
        partitions_led: fault.led.len(),
        failover_ms: slowest.map(ms),
        unavailable_ms: unavailable,
        failed_attempts: history.writes.iter().filter(failed).count() as u64,
        p99_before_ms: latencies(&|at_us| before.contains(&at_us)),
        p99_after_ms: latencies(&in_window),
    }
}

/// Until the first acknowledgement by a newer leader. A broker that was only paused may lead on:
/// then what a later fault brought about is not this one's.
pub(crate) fn failover_us(at_us: Micros, epoch: u32, next_us: Micros, acks: &[Ack]) -> Option<Micros> {
    let later = || acks.iter().filter(|ack| ack.at_us >= at_us);
    let newer = later().find(|ack| ack.epoch.is_some_and(|newer| newer > epoch))?.at_us;
    let led_on = later().any(|ack| ack.epoch == Some(epoch) && ack.at_us >= at_us.saturating_add(LED_ON_US));
    (newer < next_us || !led_on).then(|| newer - at_us)
}

pub(crate) fn quantiles(values_us: impl Iterator<Item = (u64, u64)>) -> Quantiles {
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, 3) else {
        return Quantiles::default();
    };
    values_us.for_each(|(value, count)| histogram.saturating_record_n(value, count));
    if histogram.is_empty() {
        return Quantiles::default();
    }
    Quantiles {
        count: histogram.len(),
        p50_ms: ms(histogram.value_at_quantile(0.5)),
        p99_ms: ms(histogram.value_at_quantile(0.99)),
        max_ms: ms(histogram.max()),
    }
}

fn rate(delivered: &[Delivered<'_>]) -> f64 {
    let records: u64 = delivered.iter().map(|one| one.write.count).sum();
    let from = delivered.iter().map(|one| one.begun_us).min().unwrap_or(0);
    let to = delivered.iter().map(|one| one.write.end_us).max().unwrap_or(0);
    if to > from { as_f64(records) * 1e6 / as_f64(to - from) } else { 0.0 }
}

#[allow(clippy::cast_precision_loss, reason = "numbers for people")]
const fn as_f64(number: u64) -> f64 {
    number as f64
}

/// Microseconds as milliseconds.
#[must_use]
pub fn ms(us: Micros) -> f64 {
    as_f64(us) / 1_000.0
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times of this run")]
fn to_us(ms: f64) -> u64 {
    (ms * 1_000.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::history::Led;

    fn write(number: u64, start_us: Micros, end_us: Micros, outcome: Outcome) -> Write {
        Write { producer: 0, partition: 0, number, count: 10, broker: 0, due_us: None, start_us, end_us, outcome }
    }

    fn acknowledged(epoch: u32, leader: u32) -> Outcome {
        Outcome::Acknowledged { offset: 0, epoch: Some(epoch), leader: Some(leader), duplicate: false }
    }

    /// A write each 10 ms; the leader dies at 95 ms, another one acknowledges at 195 ms.
    fn history() -> History {
        let mut history = History::default();
        for turn in 0..20 {
            let start_us = if turn < 9 { turn * 10_000 } else { turn * 10_000 + 100_000 };
            let (epoch, leader) = if turn < 9 { (1, 0) } else { (2, 1) };
            if turn == 9 {
                history.writes.push(write(turn, 90_000, 96_000, Outcome::Unknown { reason: "reset".to_owned() }));
                history.writes.push(write(turn, 97_000, 99_000, Outcome::Refused { code: 50302 }));
            }
            history.writes.push(write(turn, start_us, start_us + 5_000, acknowledged(epoch, leader)));
        }
        history.faults.push(Fault {
            at_us: 95_000,
            what: "kill -9".to_owned(),
            led: vec![Led { partition: 0, epoch: 1 }],
            ..Fault::default()
        });
        history.ending.writing_until_us = 295_000;
        history
    }

    #[test]
    fn a_fault_costs_what_clients_waited_for() {
        let measured = measure(&history());
        let fault = &measured.faults[0];
        assert_eq!((fault.failover_ms, fault.unavailable_ms, fault.failed_attempts), (Some(100.0), 100.0, 1));
        // The write that was under way began before the fault.
        assert!((104.9..105.1).contains(&fault.p99_before_ms), "{fault:?}");
        assert!((4.9..5.1).contains(&fault.p99_after_ms), "{fault:?}");
        assert_eq!((measured.refused_attempts, measured.unknown_attempts), (1, 1));
        assert_eq!(measured.failover.count, 1);
        assert_eq!(measured.unavailable_controller.count, 0);
        let [gap] = &measured.gaps[..] else { panic!("{:?}", measured.gaps) };
        assert_eq!(
            (gap.from_us, gap.to_us, gap.epochs, gap.leaders),
            (85_000, 195_000, (Some(1), Some(2)), (Some(0), Some(1)))
        );
        assert_eq!((measured.longest_gap_ms[&0], measured.leader_changes.count), (110.0, 1));
        assert!((677.0..679.0).contains(&measured.records_per_second), "{}", measured.records_per_second);
    }

    #[test]
    fn a_partition_that_never_comes_back_is_unavailable_to_the_end() {
        let mut history = history();
        history.writes.truncate(11);
        let measured = measure(&history);
        assert_eq!(measured.faults[0].failover_ms, None);
        assert_eq!(measured.faults[0].unavailable_ms, 200.0);
        assert_eq!(measured.longest_gap_ms[&0], 210.0);
    }
}
