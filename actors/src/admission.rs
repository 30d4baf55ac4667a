//! Admission: byte and count permits taken before a message is sent.
//!
//! actix queues without bound whatever capacity a mailbox has, so the limit is here: a permit rides
//! inside the message, and its drop, when the reply is sent or the message dies, gives it back.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How much may be under way at once in the whole broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Bytes of batches that were taken and not answered.
    pub bytes_max: u64,
    /// Requests that were taken and not answered.
    pub requests_max: u64,
    /// What a refused client is told to wait, in milliseconds.
    pub retry_after_ms: u64,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self { bytes_max: 256 * 1024 * 1024, requests_max: 16 * 1024, retry_after_ms: 200 }
    }
}

/// Which budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Budget {
    /// Bytes that wait to be appended.
    Bytes,
    /// Requests that wait to be answered.
    Requests,
}

/// Why no permit was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not now.
    Exhausted(Budget),
    /// Never: the request alone is larger than the budget.
    TooLarge { bytes_max: u64 },
}

/// The budgets of a broker.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Self { limits, bytes: AtomicU64::new(0), requests: AtomicU64::new(0) })
    }

    pub(crate) fn limits(&self) -> &AdmissionLimits {
        &self.limits
    }

    /// Takes one request with `bytes`, or says at once why not. It never waits.
    pub(crate) fn try_acquire(self: &Arc<Self>, bytes: u64) -> Result<Permit, Refusal> {
        if bytes > self.limits.bytes_max {
            return Err(Refusal::TooLarge { bytes_max: self.limits.bytes_max });
        }
        take(&self.requests, 1, self.limits.requests_max).map_err(|()| Refusal::Exhausted(Budget::Requests))?;
        if take(&self.bytes, bytes, self.limits.bytes_max).is_err() {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Exhausted(Budget::Bytes));
        }
        Ok(Permit { admission: Arc::clone(self), bytes })
    }

    #[cfg(test)]
    pub(crate) fn in_use(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }
}

fn take(counter: &AtomicU64, amount: u64, limit: u64) -> Result<(), ()> {
    // The counters guard amounts, not memory contents: no ordering is needed.
    let fits = |used: u64| used.checked_add(amount).filter(|&total| total <= limit);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map(|_| ()).map_err(|_| ())
}

/// The right to be under way. Dropping it gives the budget back.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.admission.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(bytes_max: u64, requests_max: u64) -> Arc<Admission> {
        Admission::new(AdmissionLimits { bytes_max, requests_max, retry_after_ms: 1 })
    }

    #[test]
    fn a_permit_returns_its_budget_when_dropped() {
        let admission = admission(100, 2);
        let first = admission.try_acquire(60).unwrap();
        assert_eq!(admission.try_acquire(41).unwrap_err(), Refusal::Exhausted(Budget::Bytes));
        let second = admission.try_acquire(40).unwrap();
        assert_eq!(admission.try_acquire(0).unwrap_err(), Refusal::Exhausted(Budget::Requests));
        assert_eq!(admission.in_use(), (100, 2));
        drop(first);
        assert_eq!(admission.in_use(), (40, 1));
        drop(second);
        assert_eq!(admission.in_use(), (0, 0));
    }

    #[test]
    fn a_request_larger_than_the_budget_is_told_so() {
        let admission = admission(100, 2);
        assert_eq!(admission.try_acquire(101).unwrap_err(), Refusal::TooLarge { bytes_max: 100 });
        assert_eq!(admission.in_use(), (0, 0));
    }

    #[test]
    fn threads_never_take_more_than_there_is() {
        let admission = admission(1000, 10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Ok(_permit) = admission.try_acquire(150) {
                            let (bytes, requests) = admission.in_use();
                            assert!(bytes <= 1000 && requests <= 10);
                        }
                    }
                });
            }
        });
        assert_eq!(admission.in_use(), (0, 0));
    }
}
