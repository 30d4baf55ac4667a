//! What a thread has run, as a measurement for criterion.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};

/// The time that this thread has run, as Linux counts it.
pub(crate) struct ProcessorTime;

impl Measurement for ProcessorTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    }

    fn end(&self, start: u64) -> u64 {
        // A clock that is not there measures nothing; criterion does not like zeros.
        self.start().saturating_sub(start).max(1)
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a benchmark")]
    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        // Nanoseconds are what wall time is counted in, too.
        WallTime.formatter()
    }
}
