//! Who looks on while a run goes on.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Clock, Measured, Shared, Workload};
use crate::report::Interval;

/// Looks on.
pub trait Observer: Send + Sync {
    /// The clock runs; records are due from its beginning on.
    fn begun(&self, clock: &Clock) {
        let _unused = clock;
    }

    /// A second has passed since the warm-up was over.
    fn progress(&self, progress: &Progress) {
        let _unused = progress;
    }
}

/// Nobody looks on.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the warm-up was over.
    pub at: Duration,
    /// How long the run lasts.
    pub of: Duration,
    /// Records acknowledged so far.
    pub acknowledged: u64,
    /// Received by consumers so far.
    pub consumed: u64,
    /// Records that failed so far.
    pub failed: u64,
    /// The last second that has passed and of which the times are there.
    pub last: Interval,
}

impl Progress {
    pub(super) fn of(measured: &Measured, shared: &Shared, workload: &Workload) -> Self {
        let at = measured.clock.zero().elapsed();
        let whole = at.as_secs();
        let last = measured.seconds.range(..whole).next_back().map(|(_, second)| second.interval);
        Self {
            at,
            of: workload.duration,
            acknowledged: shared.acknowledged.load(Ordering::Relaxed),
            consumed: shared.consumed.load(Ordering::Relaxed),
            failed: measured.totals.failed,
            last: last.unwrap_or_default(),
        }
    }
}
