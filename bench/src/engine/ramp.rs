//! The search for the highest rate that keeps to an objective: doubled until it is missed, then
//! halved in between.

use std::sync::Arc;

use super::{Measured, Observer, Workload, run};
use crate::{
    report::{Ramp, RampStep},
    target::{Target, TargetError, Topic},
    threshold::Threshold,
};

/// A step whose rate falls short of what was asked by more than this has not kept to it.
const RATE_SHARE: f64 = 0.99;

/// How a search goes.
#[derive(Clone, Debug)]
pub struct Search {
    objective: Threshold,
    kept: Option<f64>,
    missed: Option<f64>,
    next: f64,
    precision: f64,
    steps_left: u32,
}

impl Search {
    /// A search that begins with a rate and ends when the highest rate that keeps to the objective and
    /// the lowest that does not lie as close together as `precision` says: 1.1 is ten per cent.
    #[must_use]
    pub fn new(objective: Threshold, first_rate: f64, precision: f64, steps: u32) -> Self {
        Self { objective, kept: None, missed: None, next: first_rate.max(1.0), precision, steps_left: steps }
    }

    /// The rate to be tried next; `None`: the search is over.
    #[must_use]
    pub fn next_rate(&self) -> Option<f64> {
        let close = matches!((self.kept, self.missed), (Some(kept), Some(missed)) if missed / kept <= self.precision);
        (self.steps_left > 0 && !close && self.next >= 1.0).then_some(self.next)
    }

    /// Whether a step kept to the objective decides where the search goes on.
    pub fn tried(&mut self, rate: f64, kept: bool) {
        self.steps_left -= 1;
        if kept {
            self.kept = Some(rate);
        } else {
            self.missed = Some(rate);
        }
        self.next = match (self.kept, self.missed) {
            (Some(kept), None) => kept * 2.0,
            (None, Some(missed)) => missed / 2.0,
            // Rates are compared by their ratio, so their middle is the geometric one.
            (Some(kept), Some(missed)) => (kept * missed).sqrt().round(),
            (None, None) => self.next,
        };
    }

    /// The highest rate that kept to it.
    #[must_use]
    pub const fn highest(&self) -> Option<f64> {
        self.kept
    }
}

/// Tries rates until the highest is known. Answers the search and the run at the highest rate, or the
/// last run if none kept to the objective.
///
/// # Errors
/// As [`run`].
pub async fn ramp(
    target: &Arc<dyn Target>,
    topic: &Topic,
    workload: &Workload,
    mut search: Search,
    observer: &dyn Observer,
) -> Result<(Ramp, Option<(f64, Measured)>), TargetError> {
    let mut steps = Vec::new();
    let mut best = None;
    while let Some(rate) = search.next_rate() {
        let step = Workload { rate: Some(rate), ..workload.clone() };
        let measured = run(target, topic, &step, observer).await?;
        let report = measured.report();
        let value = search.objective.value(&report).unwrap_or_default();
        let complete = report.totals.failed == 0 && report.totals.rate >= rate * RATE_SHARE;
        let kept = complete && search.objective.holds(&report) == Some(true);
        steps.push(RampStep { asked_rate: rate, rate: report.totals.rate, value, kept, response: report.response });
        search.tried(rate, kept);
        if kept || search.highest().is_none() {
            best = Some((rate, measured));
        }
    }
    let ramp = Ramp { objective: search.objective.to_string(), highest_rate: search.highest(), steps };
    Ok((ramp, best))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: f64, first: f64) -> (Option<f64>, u32) {
        let mut search = Search::new("p99<20ms".parse().unwrap(), first, 1.1, 40);
        let mut steps = 0;
        while let Some(rate) = search.next_rate() {
            search.tried(rate, rate <= limit);
            steps += 1;
        }
        (search.highest(), steps)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_from_above() {
        for (limit, first) in [(70_000.0, 1000.0), (300.0, 50_000.0), (1000.0, 1000.0), (999.0, 1000.0)] {
            let (highest, steps) = found(limit, first);
            let highest = highest.unwrap();
            assert!(highest <= limit && highest * 1.1 >= limit, "{highest} of {limit}");
            assert!(steps <= 14, "{steps} steps to {limit}");
        }
    }

    #[test]
    fn a_system_that_keeps_to_nothing_has_no_highest_rate() {
        assert_eq!(found(0.0, 1000.0), (None, 10));
    }
}
