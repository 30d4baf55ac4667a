//! How much is asked of a leader at once: as much as comes in a short time, whatever the link between the two is.
//!
//! A leader knows that it is followed by the answers that were received; an answer that takes long makes it give up its
//! lease. And what is behind a large answer waits for it.

use std::time::Duration;

/// Bytes of batches in one answer, at least and at most; one batch may be larger.
const BYTES: (u64, u64) = (64 << 10, 4 << 20);
/// An answer that took less, and was as large as it may be, allows for a larger one.
const SHORT: Duration = Duration::from_millis(150);
/// An answer that took more, besides what the leader may wait, asks for smaller ones.
const LONG: Duration = Duration::from_millis(200);

/// The pace of one source.
#[derive(Debug)]
pub(super) struct Pace {
    bytes: u64,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { bytes: BYTES.1 }
    }

    /// Bytes of batches in the next answer.
    pub(super) const fn bytes_max(&self) -> u64 {
        self.bytes
    }

    /// An answer with `payload` bytes to a request that allowed for `asked`, and for `wait`, has come after `took`.
    pub(super) fn answered(&mut self, payload: usize, asked: u64, (wait, took): (Duration, Duration)) {
        let is_full = u64::try_from(payload).unwrap_or(u64::MAX) >= asked / 2;
        if is_full && took > wait + LONG {
            self.shrink(asked);
        } else if is_full && took < SHORT && asked >= self.bytes {
            self.bytes = (self.bytes * 2).min(BYTES.1);
        }
    }

    /// No answer came to a request that allowed for `asked`.
    pub(super) fn timed_out(&mut self, asked: u64) {
        self.shrink(asked);
    }

    /// Requests that were under way at the same time count once.
    fn shrink(&mut self, asked: u64) {
        self.bytes = self.bytes.min((asked / 2).max(BYTES.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(150);

    fn after(pace: &mut Pace, payload: usize, took_ms: u64) -> u64 {
        pace.answered(payload, pace.bytes_max(), (WAIT, Duration::from_millis(took_ms)));
        pace.bytes_max()
    }

    #[test]
    fn it_falls_to_what_the_link_carries_and_rises_again() {
        let mut pace = Pace::new();
        assert_eq!(pace.bytes_max(), BYTES.1);
        assert_eq!(after(&mut pace, 4 << 20, 10), BYTES.1, "it is the most");
        assert_eq!(after(&mut pace, 4 << 20, 400), 2 << 20);
        assert_eq!(after(&mut pace, 100, 400), 2 << 20, "it was not its size that took long");
        assert_eq!(after(&mut pace, 2 << 20, 300), 2 << 20, "the leader may have waited");
        assert_eq!(after(&mut pace, 2 << 20, 100), 4 << 20);
        assert_eq!(after(&mut pace, 100, 10), 4 << 20);
        for _ in 0..4 {
            pace.timed_out(4 << 20);
        }
        assert_eq!(pace.bytes_max(), 2 << 20, "they were asked together");
        for _ in 0..10 {
            let asked = pace.bytes_max();
            pace.timed_out(asked);
        }
        assert_eq!(pace.bytes_max(), BYTES.0, "never less than this");
        assert_eq!(after(&mut pace, 64 << 20, 10_000), BYTES.0, "a batch comes whole");
    }
}
