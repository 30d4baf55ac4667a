//! What must end the process: reported once, by whoever sees it first, and published.

use std::{fmt, sync::Arc};

use pubg1_model::BrokerId;
use tokio::sync::watch;

/// Why the broker cannot go on. The process should say it and end with a non-zero code: what is on
/// disk is then found again by the next start.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
pub enum FatalError {
    /// A flush failed. The kernel may have dropped the pages it could not write, and a second
    /// attempt would claim that they are there; only reading the files again tells what is.
    #[error("{what} could not be flushed to disk: {reason}; acknowledgements have stopped, check the disk and restart")]
    Flush {
        /// The partition, or the metadata log.
        what: String,
        /// The error of the operating system.
        reason: String,
    },
    /// An actor died again and again.
    #[error("{actor} was restarted {restarts} times within {window_ms} ms and died again")]
    RestartIntensity {
        /// The actor that died.
        actor: String,
        /// Restarts within the window.
        restarts: usize,
        /// The window.
        window_ms: u64,
    },
    /// The metadata log cannot be read or believed.
    #[error("the metadata log cannot be used: {reason}")]
    Metadata {
        /// What is wrong with it.
        reason: String,
    },
    /// Other brokers cannot reach this one.
    #[error("cannot listen for other brokers on {address}: {reason}; choose another address with --rpc")]
    Listen {
        /// The address.
        address: String,
        /// The error of the operating system.
        reason: String,
    },
    /// A thread of the broker ended by a panic.
    #[error("thread {thread} panicked")]
    Thread {
        /// The thread's name.
        thread: String,
    },
    /// This life of the broker is not the one that the cluster knows.
    #[error("broker {broker} must end: {reason}")]
    NotRegistered {
        /// The broker.
        broker: BrokerId,
        /// What the cluster knows instead.
        reason: String,
    },
}

/// The place where a [`FatalError`] is reported. The first report counts.
#[derive(Clone)]
pub(crate) struct Fatal(Arc<watch::Sender<Option<Arc<FatalError>>>>);

impl Fatal {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Reports `error`; acknowledgements stop before this returns.
    pub(crate) fn report(&self, error: FatalError) {
        self.0.send_if_modified(|slot| {
            let first = slot.is_none();
            if first {
                tracing::error!(%error, "the broker cannot go on");
                *slot = Some(Arc::new(error));
            }
            first
        });
    }

    /// What was reported, if anything.
    pub(crate) fn get(&self) -> Option<Arc<FatalError>> {
        self.0.borrow().clone()
    }

    /// Resolves when something is reported.
    pub(crate) async fn reported(&self) -> Arc<FatalError> {
        let mut reports = self.0.subscribe();
        loop {
            if let Some(error) = reports.borrow_and_update().clone() {
                return error;
            }
            if reports.changed().await.is_err() {
                // The sender lives in `self`: this cannot happen, and waiting on is the harmless answer.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fatal").field(&self.get()).finish()
    }
}
