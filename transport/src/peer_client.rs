//! One peer as its callers see it: requests with a deadline, a connection that is kept open, and the peer's state.

mod connection;
mod dial;

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pubg1_model::BrokerId;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{
    Counters, HandshakeError, Identity, Network, Request, RequestError, Response, TransportConfig, backoff::SplitMix64,
    counters,
};
use connection::{Connection, Until, WhenFull};
use dial::Dialer;

/// What is known of a peer, for failure detection. Each state but the first says since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Nobody has asked for it yet, so no connection was tried.
    Idle,
    /// The first attempt, or the one right after a connection was lost, is under way.
    Connecting {
        /// Since when.
        since: Instant,
    },
    /// Connected, and heard of within `silence_after`.
    Connected {
        /// Since when.
        since: Instant,
        /// Which start of the broker it is.
        incarnation: u64,
    },
    /// Its machine answers that nobody listens: the process is gone. Attempts go on, and each that is refused again
    /// is published.
    Refused {
        /// Since when.
        since: Instant,
        /// When the last attempt began: a start of the broker that is known to listen since before is over.
        attempted: Instant,
        /// Which start of the broker was connected last, if any was: that one is over.
        incarnation: Option<u64>,
    },
    /// It does not answer: paused, cut off, or its machine is down. Attempts go on.
    Unreachable {
        /// Since when.
        since: Instant,
    },
    /// It, or this end, says in the handshake that they do not belong together. Attempts go on.
    Rejected {
        /// Since when.
        since: Instant,
        /// Why.
        error: HandshakeError,
    },
    /// It shuts down in order: it finishes what it has begun and takes no more.
    Draining {
        /// Since when.
        since: Instant,
    },
    /// This end closed the client, or its runtime ended.
    Closed,
}

/// A peer and the one connection to it. Clones share both; the last one dropped closes the connection.
///
/// The connection is opened at the first request, or by [`Self::connect`], and from then on opened again whenever it
/// is lost. While the last attempt has failed, requests fail at once with what it found.
#[derive(Clone)]
pub struct PeerClient {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Dropped with the last client, which ends the dialer's task.
    _stop: oneshot::Sender<()>,
}

/// What the client and the task that keeps its connection have in common.
struct Shared {
    peer: BrokerId,
    address: String,
    link: Mutex<Link>,
    /// Set off when `link` has changed. It wakes in the order of waiting, which a `watch` does not.
    link_changed: Notify,
    state: watch::Sender<PeerState>,
    wanted: Notify,
    closed: Notify,
    counters: Arc<Counters>,
    connects: AtomicU64,
    /// The peer's incarnation when it was last connected.
    last_incarnation: Mutex<Option<u64>>,
}

/// Where a request goes.
enum Link {
    Idle,
    Connecting,
    Up(Arc<Connection>),
    Down(RequestError),
}

impl PeerClient {
    /// A client of the broker `peer` at `address`. No connection is opened yet.
    ///
    /// The connection lives on the tokio runtime this is called on; requests may come from any. `seed` makes the
    /// jitter of reconnects: [`crate::random_seed`], or a fixed one in a simulation.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new<N: Network>(
        network: N,
        peer: BrokerId,
        address: impl Into<String>,
        identity: Identity,
        config: TransportConfig,
        counters: Arc<Counters>,
        seed: u64,
    ) -> Self {
        let shared = Arc::new(Shared {
            peer,
            address: address.into(),
            link: Mutex::new(Link::Idle),
            link_changed: Notify::new(),
            state: watch::Sender::new(PeerState::Idle),
            wanted: Notify::new(),
            closed: Notify::new(),
            counters,
            connects: AtomicU64::new(0),
            last_incarnation: Mutex::new(None),
        });
        let (stop, stopped) = oneshot::channel();
        let random = SplitMix64::new(seed);
        let dialer = Dialer { network, shared: Arc::clone(&shared), identity, config, random };
        tokio::spawn(dialer.run(stopped));
        Self { inner: Arc::new(Inner { shared, _stop: stop }) }
    }

    /// The peer.
    #[must_use]
    pub fn peer(&self) -> BrokerId {
        self.inner.shared.peer
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.shared.address
    }

    /// The peer's state, now and as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<PeerState> {
        self.inner.shared.state.subscribe()
    }

    /// Opens the connection without a request, for those who only watch the state. While the client waits before its
    /// next attempt, this makes it try at once: for those who have heard that the peer is back.
    pub fn connect(&self) {
        self.inner.shared.wanted.notify_one();
    }

    /// Closes the connection: what is in flight fails, and so does every later request.
    pub fn close(&self) {
        self.inner.shared.closed.notify_one();
    }

    /// Asks the peer. Waits for a connection and for room in the window; all of it ends at `deadline`.
    ///
    /// Dropping the future gives the request up: the peer is told to stop working on it.
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::may_have_been_handled`] says whether the peer may have acted on it.
    pub async fn request(&self, request: Request, deadline: Instant) -> Result<Response, RequestError> {
        let connection = self.connection(deadline).await?;
        connection.request(request, deadline.into(), WhenFull::Wait).await
    }

    /// As [`Self::request`], but does not give up at the deadline while large answers arrive: this one, or one that it
    /// waits behind. It goes on as long as something of them comes within each `pause`, until `at_most`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_while_arriving(
        &self,
        request: Request,
        deadline: Instant,
        pause: Duration,
        at_most: Instant,
    ) -> Result<Response, RequestError> {
        let connection = self.connection(deadline).await?;
        let until = Until { deadline, arriving: Some((pause, at_most)) };
        connection.request(request, until, WhenFull::Wait).await
    }

    /// As [`Self::request`], but fails with [`RequestError::WindowFull`] instead of waiting for room.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn try_request(&self, request: Request, deadline: Instant) -> Result<Response, RequestError> {
        let connection = self.connection(deadline).await?;
        connection.request(request, deadline.into(), WhenFull::Fail).await
    }

    /// Tells the peer something and wants no answer. Done when it is queued for the connection, which may still be
    /// lost before the peer reads it.
    ///
    /// # Errors
    /// As [`Self::request`], as far as it was not queued.
    pub async fn send(&self, message: Request, deadline: Instant) -> Result<(), RequestError> {
        let connection = self.connection(deadline).await?;
        connection.send(message, deadline).await
    }

    async fn connection(&self, deadline: Instant) -> Result<Arc<Connection>, RequestError> {
        let shared = &self.inner.shared;
        if let Some(settled) = shared.settled() {
            return settled;
        }
        shared.wanted.notify_one();
        let settling = async {
            loop {
                let mut changed = pin!(shared.link_changed.notified());
                changed.as_mut().enable();
                if let Some(settled) = shared.settled() {
                    return settled;
                }
                changed.await;
            }
        };
        timeout_at(deadline, settling).await.unwrap_or_else(|_| {
            counters::one(&shared.counters.request_timeouts);
            Err(RequestError::Timeout { peer: shared.peer, sent: false })
        })
    }
}

impl fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { peer, address, state, .. } = &*self.inner.shared;
        let (peer, state) = (&peer.0, &*state.borrow());
        f.debug_struct("PeerClient").field("peer", peer).field("address", address).field("state", state).finish()
    }
}

impl Shared {
    /// The connection, or why there is none; nothing while that is being found out.
    fn settled(&self) -> Option<Result<Arc<Connection>, RequestError>> {
        match &*self.link.lock().unwrap_or_else(PoisonError::into_inner) {
            Link::Up(connection) => Some(Ok(Arc::clone(connection))),
            Link::Down(error) => Some(Err(error.clone())),
            Link::Idle | Link::Connecting => None,
        }
    }

    /// Publishes a state, for watchers and for requests. An attempt that finds what was known already changes
    /// nothing, so that `since` stays; but that it was refused once more is told.
    fn publish(&self, link: Link, state: PeerState) {
        // The old link, and the connection in it, is dropped after the lock is free.
        let old = std::mem::replace(&mut *self.link.lock().unwrap_or_else(PoisonError::into_inner), link);
        drop(old);
        self.link_changed.notify_waiters();
        self.state.send_if_modified(|current| {
            let same_kind = std::mem::discriminant(current) == std::mem::discriminant(&state);
            let same = match (&*current, &state) {
                (PeerState::Rejected { error: before, .. }, PeerState::Rejected { error: now, .. }) => before == now,
                (PeerState::Connected { .. } | PeerState::Refused { .. }, _) => false,
                _ => same_kind,
            };
            if !same {
                let refused_since = match &*current {
                    PeerState::Refused { since, .. } => Some(*since),
                    _ => None,
                };
                *current = state;
                if let (PeerState::Refused { since, .. }, Some(first)) = (current, refused_since) {
                    *since = first;
                }
            }
            !same
        });
    }

    fn last_incarnation(&self) -> Option<u64> {
        *self.last_incarnation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self, connection: Arc<Connection>) {
        counters::one(&self.counters.connects);
        if self.connects.fetch_add(1, Ordering::Relaxed) > 0 {
            counters::one(&self.counters.reconnects);
        }
        let incarnation = connection.incarnation;
        *self.last_incarnation.lock().unwrap_or_else(PoisonError::into_inner) = Some(incarnation);
        self.publish(Link::Up(connection), PeerState::Connected { since: Instant::now(), incarnation });
    }
}

#[cfg(test)]
mod tests;
