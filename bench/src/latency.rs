//! Times are kept in histograms, merged and never averaged: three significant digits between a
//! microsecond and ten minutes.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer times count as this one.
const LONGEST_NS: u64 = 600_000_000_000;
/// Shorter ones as this one.
const SHORTEST_NS: u64 = 1_000;

/// The times of many records.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        // The bounds are constants that the histogram accepts; the largest fallback accepts any.
        Self(Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, 3).unwrap_or_else(|_| unreachable_histogram()))
    }
}

/// Never called: the bounds of [`Times`] are valid ones.
fn unreachable_histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "three digits are within what the library accepts")]
    Histogram::new(3).expect("three significant digits are accepted")
}

impl Times {
    /// Of nothing, with room for nothing; it grows when something comes.
    #[must_use]
    pub(crate) fn nothing() -> Self {
        Self(unreachable_histogram())
    }

    /// One record took so long.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// So many records took so long each.
    pub fn record_many(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    /// Adds all of another's.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing is out of range.
        let _always_fits = self.0.add(&other.0);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of the records does not exceed, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        ms(self.0.value_at_quantile(quantile))
    }

    /// The arithmetic mean in milliseconds; 0 of none.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.mean() / 1e6 }
    }

    /// What a report says of them.
    #[must_use]
    pub fn summary(&self) -> Latency {
        let curve = self.0.iter_quantiles(5).map(|step| (step.quantile_iterated_to(), ms(step.value_iterated_to())));
        Latency {
            count: self.count(),
            mean_ms: self.mean_ms(),
            min_ms: ms(self.0.min()),
            p50_ms: self.quantile_ms(0.5),
            p90_ms: self.quantile_ms(0.9),
            p95_ms: self.quantile_ms(0.95),
            p99_ms: self.quantile_ms(0.99),
            p999_ms: self.quantile_ms(0.999),
            p9999_ms: self.quantile_ms(0.9999),
            max_ms: ms(self.0.max()),
            curve: curve.collect(),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "ten minutes of nanoseconds are exact in a double")]
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// How long records took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// Half of them took at most this.
    pub p50_ms: f64,
    /// 90 of 100.
    pub p90_ms: f64,
    /// 95 of 100.
    pub p95_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1000.
    pub p999_ms: f64,
    /// 9999 of 10,000.
    pub p9999_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Shares of the records, and the time that each share does not exceed: denser towards the end.
    pub curve: Vec<(f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_merged_and_not_averaged() {
        let (mut fast, mut slow) = (Times::default(), Times::default());
        fast.record_many(1_000_000, 990);
        slow.record_many(1_000_000_000, 10);
        fast.add(&slow);
        let latency = fast.summary();
        assert_eq!((latency.count, latency.p50_ms.round(), latency.p99_ms.round()), (1000, 1.0, 1.0));
        assert!((latency.max_ms - 1000.0).abs() < 1.0 && (latency.p999_ms - 1000.0).abs() < 1.0, "{latency:?}");
        assert_eq!(latency.curve.last().map(|(share, _)| *share), Some(1.0));
    }

    #[test]
    fn what_is_out_of_bounds_counts_as_the_bound() {
        let mut times = Times::default();
        times.record(u64::MAX);
        times.record(0);
        assert_eq!(times.count(), 2);
        assert!((times.summary().max_ms - 600_000.0).abs() < 600.0);
    }
}
