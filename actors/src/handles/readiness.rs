//! Whether the broker serves, and why not.

/// Where a broker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// The metadata log is being read.
    Starting,
    /// Logs of partitions are being opened and checked; those that are done serve already.
    Recovering {
        /// Partitions that are done.
        done: usize,
        /// Partitions on this broker.
        total: usize,
    },
    /// It serves.
    Ready,
    /// It refuses new work and flushes what it has.
    Draining,
    /// It is about to end; `BrokerHandle::fatal` says why.
    Failed,
}

impl BrokerState {
    /// One word, for JSON.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Recovering { .. } => "recovering",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed => "failed",
        }
    }
}

/// One thing that must be well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `broker`, `metadata`, `partitions`, `default_topic` or `disk`.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// Why it is not, or what there is to know.
    pub reason: String,
}

/// Whether the broker should get requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Where it is in its life.
    pub state: BrokerState,
    /// What was looked at. A failed check does not take a ready broker out of service: a damaged
    /// partition or a full disk leaves everything else of it to be used.
    pub checks: Vec<Check>,
}

impl Readiness {
    /// Whether the broker serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == BrokerState::Ready
    }
}
