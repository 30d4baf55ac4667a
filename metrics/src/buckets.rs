//! Histogram bounds.
//!
//! Doubling bounds keep the error of an interpolated quantile of exponential latencies near 4 % at p50 and 30 % at
//! p99, where the usual client default (5 ms to 10 s) is off by several hundred percent below 5 ms, which is where
//! a log lives.

/// Requests and their phases: 0.25 ms, 0.5 ms, …, 8.192 s.
pub(crate) const REQUEST_SECONDS: [f64; 16] = doubling(0.000_25);

/// Flushes and message handlers, which are shorter: 50 µs, 100 µs, …, 1.6384 s.
pub(crate) const SHORT_SECONDS: [f64; 16] = doubling(0.000_05);

/// Records in a batch: 1, 2, …, 32768.
pub(crate) const RECORDS: [f64; 16] = doubling(1.0);

const fn doubling(first: f64) -> [f64; 16] {
    let mut bounds = [first; 16];
    let mut i = 1;
    while i < bounds.len() {
        bounds[i] = bounds[i - 1] * 2.0;
        i += 1;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_between_the_stated_ends() {
        let ends = |bounds: [f64; 16]| (bounds[0], bounds[15]);
        assert_eq!(ends(REQUEST_SECONDS), (0.000_25, 8.192));
        assert_eq!(ends(RECORDS), (1.0, 32_768.0));
        let (first, last) = ends(SHORT_SECONDS);
        assert!((first - 0.000_05).abs() < 1e-12 && (last - 1.6384).abs() < 1e-9, "{first} {last}");
    }
}
