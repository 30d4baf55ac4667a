//! What a run measured, before it is summed up in a report.

use std::collections::BTreeMap;

use super::{Workload, clock::Clock, recorder::Part};
use crate::{
    latency::Times,
    report::{Interval, Load, ProcessCost, Report, Totals},
};

/// Seconds of which the times are kept apart; of older ones only their summary is.
pub const SECONDS_KEPT: usize = 300;

/// One second of a run.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// What a report says of it.
    pub interval: Interval,
    /// From due to acknowledged, of what was due in it.
    pub response: Times,
    /// From due to received, of the same.
    pub end_to_end: Times,
    /// Records that failed in it and failures that clients overcame in it, by kind.
    pub errors: BTreeMap<String, u64>,
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its clock: to compare with what happened elsewhere.
    pub clock: Clock,
    /// Whether records kept to a schedule.
    pub load: Load,
    /// How many, how fast.
    pub totals: Totals,
    /// Errors by their kind.
    pub errors: BTreeMap<String, u64>,
    /// From due to acknowledged.
    pub response: Times,
    /// From sent to acknowledged.
    pub service: Times,
    /// From due to received; `None` without consumers.
    pub end_to_end: Option<Times>,
    /// The run, second by second. Beyond [`SECONDS_KEPT`] the times of the oldest are empty.
    pub seconds: BTreeMap<u64, Second>,
    /// What the system's processes used.
    pub processes: Vec<ProcessCost>,
}

impl Measured {
    pub(super) fn new(clock: Clock, workload: &Workload) -> Self {
        let closed = workload.closed_loop || workload.rate.is_none();
        Self {
            clock,
            load: if closed { Load::ClosedLoop } else { Load::OpenLoop },
            totals: Totals { asked_rate: workload.rate, ..Totals::default() },
            errors: BTreeMap::new(),
            response: Times::default(),
            service: Times::default(),
            end_to_end: (workload.consumers > 0).then(Times::default),
            seconds: BTreeMap::new(),
            processes: Vec::new(),
        }
    }

    /// Adds what a thread saw of a second.
    pub(super) fn add(&mut self, number: u64, part: Part) {
        let second = self.seconds.entry(number).or_default();
        if let Some(times) = &part.response {
            self.response.add(times);
            second.response.add(times);
        }
        if let Some(times) = &part.service {
            self.service.add(times);
        }
        if let (Some(all), Some(times)) = (&mut self.end_to_end, &part.end_to_end) {
            all.add(times);
            second.end_to_end.add(times);
        }
        let failed: u64 = part.failed.values().sum();
        second.interval.acknowledged += part.acknowledged;
        second.interval.failed += failed;
        second.interval.consumed += part.consumed;
        self.totals.due += part.sent;
        self.totals.sent += part.sent;
        self.totals.acknowledged += part.acknowledged;
        self.totals.failed += failed;
        self.totals.consumed += part.consumed;
        for (kind, count) in part.failed.into_iter().chain(part.overcome) {
            *second.errors.entry(kind.clone()).or_default() += count;
            *self.errors.entry(kind).or_default() += count;
        }
        if part.last_acknowledged_ns > 0 {
            let zero = self.clock.warm_up_ns();
            let seconds = std::time::Duration::from_nanos(part.last_acknowledged_ns.saturating_sub(zero));
            self.totals.seconds = self.totals.seconds.max(seconds.as_secs_f64());
        }
        let silence_ms = std::time::Duration::from_nanos(part.longest_silence_ns).as_secs_f64() * 1e3;
        self.totals.longest_silence_ms = self.totals.longest_silence_ms.max(silence_ms);
        second.sum_up(number);
        if self.seconds.len() > SECONDS_KEPT
            && let Some((_, oldest)) = self.seconds.iter_mut().rev().nth(SECONDS_KEPT)
        {
            (oldest.response, oldest.end_to_end) = (Times::nothing(), Times::nothing());
        }
    }

    /// The rates, once all parts are there.
    #[allow(clippy::cast_precision_loss, reason = "fewer than 2^53 records")]
    pub(super) fn finish(&mut self, record_bytes: usize) {
        if self.totals.seconds > 0.0 {
            self.totals.rate = self.totals.acknowledged as f64 / self.totals.seconds;
            self.totals.bytes_per_second = self.totals.rate * record_bytes as f64;
        }
    }

    /// The times from due to acknowledged of all that was due in these seconds.
    #[must_use]
    pub fn response_between(&self, from: u64, until: u64) -> Times {
        let mut times = Times::default();
        for second in self.seconds.range(from..until.max(from)).map(|(_, second)| second) {
            times.add(&second.response);
        }
        times
    }

    /// The report as far as the run fills it: who ran it against what, and why, is for others to say.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            started_at: crate::wall_clock::rfc3339(self.clock.zero_unix()),
            load: self.load,
            totals: self.totals,
            errors: self.errors.clone(),
            response: self.response.summary(),
            service: self.service.summary(),
            end_to_end: self.end_to_end.as_ref().map(Times::summary),
            intervals: self.seconds.values().map(|second| second.interval).collect(),
            processes: self.processes.clone(),
            ..Report::default()
        }
    }
}

impl Second {
    #[allow(clippy::cast_precision_loss, reason = "seconds of a run")]
    fn sum_up(&mut self, number: u64) {
        let (response, interval) = (&self.response, &mut self.interval);
        interval.at_s = number as f64;
        interval.response_mean_ms = response.mean_ms();
        interval.response_p50_ms = response.quantile_ms(0.5);
        interval.response_p95_ms = response.quantile_ms(0.95);
        interval.response_p99_ms = response.quantile_ms(0.99);
        interval.response_max_ms = response.quantile_ms(1.0);
        interval.end_to_end_mean_ms = self.end_to_end.mean_ms();
        interval.end_to_end_p95_ms = self.end_to_end.quantile_ms(0.95);
    }
}
