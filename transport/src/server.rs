//! The answering end: accepts connections, lets a handler answer their requests, and drains in order.

mod connection;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use pubg1_model::BrokerId;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{Counters, Identity, Listener, Request, Response, TransportConfig, counters};

/// The wait after an `accept` that failed, most likely for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The broker.
    pub broker_id: BrokerId,
    /// Which start of it: two processes may claim the same broker id, and whoever handles a request decides which of
    /// them counts.
    pub incarnation: u64,
    /// Where the connection comes from.
    pub address: SocketAddr,
}

/// Answers requests.
///
/// Requests of one connection are handled side by side, up to its window; no order between them is promised. A
/// handler's future is dropped when the peer gives the request up or the connection ends, so its effects must be
/// whole at every `await`.
pub trait Handler: Send + Sync + 'static {
    /// The answer to `request`. A panic is answered with a refusal and harms nobody else.
    fn handle(&self, peer: Peer, request: Request) -> impl Future<Output = Response> + Send;

    /// Where a connection of `peer` is served, by its [`TransportConfig::lane`]: the tokio runtime whose thread reads its
    /// requests and runs [`Self::handle`] for them. By default, and for `None`, the one that the server was started on.
    fn home(&self, _peer: Peer, _lane: u8) -> Option<Handle> {
        None
    }

    /// Takes a message that wants no answer. By default the same as a request, its answer dropped.
    fn handle_one_way(&self, peer: Peer, message: Request) -> impl Future<Output = ()> + Send {
        async move { drop(self.handle(peer, message).await) }
    }
}

impl<H: Handler> Handler for Arc<H> {
    fn handle(&self, peer: Peer, request: Request) -> impl Future<Output = Response> + Send {
        H::handle(self, peer, request)
    }

    fn handle_one_way(&self, peer: Peer, message: Request) -> impl Future<Output = ()> + Send {
        H::handle_one_way(self, peer, message)
    }

    fn home(&self, peer: Peer, lane: u8) -> Option<Handle> {
        H::home(self, peer, lane)
    }
}

/// What a drain left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the deadline and were cut: 0 after an orderly end.
    pub connections_cut: usize,
}

/// A running server. Dropping it closes every connection at once; [`Self::drain`] does so in order.
pub struct Server {
    local_address: SocketAddr,
    phase: watch::Sender<Phase>,
    slots: Arc<Semaphore>,
    connections_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Stopped,
}

/// What all connections of a server have in common.
struct Shared<H> {
    handler: H,
    identity: Identity,
    config: TransportConfig,
    counters: Arc<Counters>,
    phase: watch::Receiver<Phase>,
    /// Live connections by broker and incarnation.
    incarnations: Mutex<BTreeMap<(BrokerId, u64), usize>>,
}

impl Server {
    /// Serves the connections that `listener` gets, on the tokio runtime this is called on, but for those that
    /// [`Handler::home`] wants elsewhere.
    ///
    /// # Errors
    /// When the listener has no local address.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start<L: Listener, H: Handler>(
        listener: L,
        handler: H,
        identity: Identity,
        config: TransportConfig,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let local_address = listener.local_address()?;
        let (phase, watched) = watch::channel(Phase::Serving);
        let connections_max = config.connections_max;
        let slots = Arc::new(Semaphore::new(connections_max as usize));
        let shared =
            Arc::new(Shared { handler, identity, config, counters, phase: watched, incarnations: Mutex::default() });
        tokio::spawn(accept(listener, shared, Arc::clone(&slots)));
        Ok(Self { local_address, phase, slots, connections_max })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Connections open now, those in their handshake included.
    #[must_use]
    pub fn connections(&self) -> usize {
        (self.connections_max as usize).saturating_sub(self.slots.available_permits())
    }

    /// Takes no new connection and no new request, waits until what was begun is answered, at most until `deadline`,
    /// and closes.
    pub async fn drain(self, deadline: Instant) -> Drained {
        self.phase.send_replace(Phase::Draining);
        let all_closed = self.slots.acquire_many(self.connections_max);
        let connections_cut = match timeout_at(deadline, all_closed).await {
            Ok(_) => 0,
            Err(_) => self.connections(),
        };
        Drained { connections_cut }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Stopped);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local_address", &self.local_address)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

async fn accept<L: Listener, H: Handler>(listener: L, shared: Arc<Shared<H>>, slots: Arc<Semaphore>) {
    let mut phase = shared.phase.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            counters::one(&shared.counters.connections_rejected);
            tracing::warn!(%from, connections_max = shared.config.connections_max, "too many connections");
            continue;
        };
        tokio::spawn(serve::<L, H>(stream, from, Arc::clone(&shared), slot));
    }
}

async fn serve<L: Listener, H: Handler>(
    stream: L::Stream,
    from: SocketAddr,
    shared: Arc<Shared<H>>,
    slot: OwnedSemaphorePermit,
) {
    counters::one(&shared.counters.connections_open);
    let counted = CountedConnection { shared: Arc::clone(&shared), _slot: slot };
    let Some(Some(greeted)) = shared.until_stopped(connection::greet(stream, from, &shared)).await else { return };
    let Some(home) = shared.handler.home(greeted.peer, greeted.lane()) else {
        shared.until_stopped(connection::run(greeted, Arc::clone(&shared))).await;
        return drop(counted);
    };
    // It comes for the connection when it has time; until then the connection is not its own, and can be given up.
    let (arrive, arrived) = oneshot::channel::<oneshot::Sender<_>>();
    let there = Arc::clone(&shared);
    home.spawn(async move {
        let (give, given) = oneshot::channel();
        if arrive.send(give).is_err() {
            return;
        }
        let Ok((greeted, counted)): Result<(connection::Greeted<_>, CountedConnection<H>), _> = given.await else {
            return;
        };
        match greeted.settle::<L>() {
            Ok(greeted) => drop(there.until_stopped(connection::run(greeted, Arc::clone(&there))).await),
            Err(error) => tracing::warn!(%from, %error, "a connection could not be moved to another thread"),
        }
        drop(counted);
    });
    match shared.until_stopped(timeout(shared.config.handshake_timeout, arrived)).await {
        // If it ends before it has taken it, both are dropped there.
        Some(Ok(Ok(give))) => drop(give.send((greeted, counted))),
        Some(Ok(Err(_))) => {
            tracing::debug!(%from, "a connection was closed, as the thread that serves its kind has ended");
        }
        Some(Err(_)) => tracing::warn!(%from, "a connection was closed, as the thread that serves its kind is held up"),
        None => {}
    }
}

struct CountedConnection<H> {
    shared: Arc<Shared<H>>,
    _slot: OwnedSemaphorePermit,
}

impl<H> Drop for CountedConnection<H> {
    fn drop(&mut self) {
        self.shared.counters.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<H> Shared<H> {
    /// What a task of a connection comes to; nothing when the server is stopped before.
    async fn until_stopped<T>(&self, task: impl Future<Output = T>) -> Option<T> {
        let mut phase = self.phase.clone();
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => None,
            done = task => Some(done),
        }
    }

    /// Notes a connection of that broker's incarnation, until the returned guard is dropped.
    fn enter(self: &Arc<Self>, peer: Peer) -> Present<H> {
        let mut incarnations = self.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
        let Peer { broker_id, incarnation, address } = peer;
        let range = (broker_id, 0)..=(broker_id, u64::MAX);
        if let Some(((_, other), _)) = incarnations.range(range).find(|((_, known), _)| *known != incarnation) {
            counters::one(&self.counters.incarnation_conflicts);
            tracing::warn!(%broker_id, incarnation, other, %address, "two incarnations of one broker are connected");
        }
        *incarnations.entry((broker_id, incarnation)).or_default() += 1;
        drop(incarnations);
        Present { shared: Arc::clone(self), key: (broker_id, incarnation) }
    }
}

struct Present<H> {
    shared: Arc<Shared<H>>,
    key: (BrokerId, u64),
}

impl<H> Drop for Present<H> {
    fn drop(&mut self) {
        let mut incarnations = self.shared.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = incarnations.get_mut(&self.key) {
            *connections -= 1;
            if *connections == 0 {
                incarnations.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
