//! The one clock of a run.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Times since a run began. Its numbers begin when the warm-up is over.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    origin_unix_ns: u64,
    warm_up_ns: u64,
}

impl Clock {
    /// A run that begins after `delay`.
    #[must_use]
    pub fn starting_in(delay: Duration, warm_up: Duration) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + delay;
        Self { origin: Instant::now() + delay, origin_unix_ns: nanoseconds(unix), warm_up_ns: nanoseconds(warm_up) }
    }

    /// Nanoseconds since the run began; 0 before that.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        nanoseconds(self.origin.elapsed())
    }

    /// When the warm-up is over.
    #[must_use]
    pub const fn warm_up_ns(&self) -> u64 {
        self.warm_up_ns
    }

    /// The moment from which reports count their seconds: the end of the warm-up.
    #[must_use]
    pub fn zero(&self) -> Instant {
        self.origin + Duration::from_nanos(self.warm_up_ns)
    }

    /// The same moment in wall-clock time.
    #[must_use]
    pub fn zero_unix(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.origin_unix_ns.saturating_add(self.warm_up_ns))
    }

    /// This moment of the run as an instant.
    #[must_use]
    pub fn at(&self, ns: u64) -> Instant {
        self.origin + Duration::from_nanos(ns)
    }

    /// This moment of the run in milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(&self, ns: u64) -> i64 {
        i64::try_from(self.origin_unix_ns.saturating_add(ns) / 1_000_000).unwrap_or(i64::MAX)
    }

    /// The second of the measured time that this moment lies in; `None` during the warm-up.
    #[must_use]
    pub const fn second(&self, ns: u64) -> Option<u64> {
        match ns.checked_sub(self.warm_up_ns) {
            Some(measured) => Some(measured / SECOND_NS),
            None => None,
        }
    }
}

/// A time span in nanoseconds, of which a u64 holds 584 years.
#[must_use]
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
