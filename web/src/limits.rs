//! What one request, and all requests together, may take of the broker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::error::{ApiError, Cause};

/// The limits of the client API. Every one is checked before the memory or the time is spent.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Worker threads of the HTTP server.
    pub workers: usize,
    /// Open connections per worker; further ones wait in the listener's queue.
    pub connections_per_worker_max: usize,
    /// The largest request body as it travels; more is 413.
    pub body_bytes_max: usize,
    /// Bodies held at the same time, in bytes; more is 429.
    pub bodies_bytes_max: usize,
    /// The largest output of one decompression, of a request or of stored batches in a read.
    pub decompressed_bytes_max: usize,
    /// The longest request target, path and query; more is 414.
    pub target_bytes_max: usize,
    /// Names and values of all request headers; more is 431.
    pub header_bytes_max: usize,
    /// The longest line of NDJSON; a longer one is answered with an error and passed over.
    pub line_bytes_max: usize,
    /// Lines of NDJSON that are appended together at most.
    pub group_lines_max: usize,
    /// Bytes of NDJSON that are appended together, give or take a line.
    pub group_bytes_max: usize,
    /// A request whose head has not arrived after this time is closed.
    pub head_timeout: Duration,
    /// A body of which nothing arrives for this long is 408.
    pub body_stall_timeout: Duration,
    /// A stream of NDJSON on which nothing arrives for this long ends.
    pub line_stall_timeout: Duration,
    /// An idle connection is kept this long.
    pub keep_alive: Duration,
    /// The longest `wait` of a read; longer ones are cut to it.
    pub wait_max: Duration,
    /// Reads that wait for records, and open event streams, at the same time; more is 429.
    pub waiting_reads_max: usize,
    /// `max_bytes` of a read that does not say.
    pub read_bytes_default: usize,
    /// The largest `max_bytes`; larger ones are cut to it.
    pub read_bytes_max: usize,
    /// The largest `max_records` of a list; larger ones are cut to it.
    pub read_records_max: usize,
    /// An event stream sends a comment when it had nothing to say for this long.
    pub event_ping: Duration,
    /// An event stream ends after this time, so that balancers can move it; the client resumes.
    pub event_stream_age_max: Duration,
    /// Replies smaller than this are not compressed.
    pub compress_bytes_min: usize,
    /// Look at every record of a raw batch before it is appended, not only at header and checksum.
    pub check_records: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 2,
            connections_per_worker_max: 10_000,
            body_bytes_max: 16 << 20,
            bodies_bytes_max: 256 << 20,
            decompressed_bytes_max: 64 << 20,
            target_bytes_max: 8 << 10,
            header_bytes_max: 32 << 10,
            line_bytes_max: 1 << 20,
            group_lines_max: 10_000,
            group_bytes_max: 1 << 20,
            head_timeout: Duration::from_secs(5),
            body_stall_timeout: Duration::from_secs(10),
            line_stall_timeout: Duration::from_secs(5 * 60),
            keep_alive: Duration::from_secs(75),
            wait_max: Duration::from_secs(60),
            waiting_reads_max: 5_000,
            read_bytes_default: 1 << 20,
            read_bytes_max: 16 << 20,
            read_records_max: 100_000,
            event_ping: Duration::from_secs(15),
            event_stream_age_max: Duration::from_secs(30 * 60),
            compress_bytes_min: 1024,
            check_records: false,
        }
    }
}

/// A counted resource. Taking never waits: what is not there is refused.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub(crate) fn new(available: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(available)))
    }

    /// Takes `amount`, or says that the broker is busy with `what`.
    pub(crate) fn take(&self, amount: usize, what: &str) -> Result<Permit, ApiError> {
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(amount)) {
            Ok(_) => Ok(Permit { budget: self.clone(), amount }),
            Err(_) => Err(ApiError::new(Cause::Overloaded, format!("the broker is busy: too many {what}; try again"))),
        }
    }
}

/// What was taken of a [`Budget`]; it goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Budget,
    amount: usize,
}

impl Permit {
    /// Takes more, or fails and keeps what it has.
    pub(crate) fn grow(&mut self, amount: usize, what: &str) -> Result<(), ApiError> {
        let mut more = self.budget.take(amount, what)?;
        self.amount += std::mem::take(&mut more.amount);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.amount, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refuses_what_is_not_there_and_gets_back_what_was_taken() {
        let budget = Budget::new(10);
        let mut first = budget.take(6, "bytes").unwrap();
        assert_eq!(budget.take(5, "bytes").unwrap_err().cause(), Cause::Overloaded);
        first.grow(4, "bytes").unwrap();
        assert!(first.grow(1, "bytes").is_err());
        drop(first);
        assert!(budget.take(10, "bytes").is_ok());
    }
}
