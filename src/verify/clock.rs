//! The one clock of a run, and where what happens is put down.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::history::{Entry, Micros};

/// Cheap to clone; all clones tell the same time.
#[derive(Clone, Debug)]
pub struct Recorder {
    begun: Instant,
    entries: mpsc::UnboundedSender<Entry>,
}

impl Recorder {
    /// Begins now.
    #[must_use]
    pub fn start() -> (Self, mpsc::UnboundedReceiver<Entry>) {
        // Bounded by what the brokers answer: the receiver only moves entries to memory.
        let (entries, receiver) = mpsc::unbounded_channel();
        (Self { begun: Instant::now(), entries }, receiver)
    }

    /// Microseconds since the run began.
    #[must_use]
    pub fn now_us(&self) -> Micros {
        micros(self.begun.elapsed())
    }

    /// The same for a moment that was noted elsewhere.
    #[must_use]
    pub fn us_at(&self, moment: Instant) -> Micros {
        micros(moment.saturating_duration_since(self.begun))
    }

    /// Puts down what happened.
    pub fn record(&self, entry: Entry) {
        // Nobody reads on when the run was given up.
        let _given_up = self.entries.send(entry);
    }
}

/// A duration as the history counts it.
#[must_use]
pub fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
