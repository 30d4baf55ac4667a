//! The task behind a client: opens its connection, runs it, and opens it again, telling refused from silent.

use std::{io, sync::Arc, sync::atomic::Ordering};

use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    Link, PeerState, Shared,
    connection::{Connection, InFlight},
};
use crate::{
    HandshakeError, HandshakeRefusal, Identity, Network, RequestError, TransportConfig,
    backoff::SplitMix64,
    connection::{Activity, ConnectionEnd, FrameReader, Outgoing},
    counters,
    handshake::greet,
};

/// Keeps one client's connection.
pub(super) struct Dialer<N> {
    pub(super) network: N,
    pub(super) shared: Arc<Shared>,
    pub(super) identity: Identity,
    pub(super) config: TransportConfig,
    pub(super) random: SplitMix64,
}

/// A connection past its handshake.
struct Opened<'a, S> {
    connection: Arc<Connection>,
    reader: FrameReader<'a, ReadHalf<S>>,
    writer: WriteHalf<S>,
    queued: mpsc::UnboundedReceiver<Outgoing<Arc<InFlight>>>,
}

impl<N: Network> Dialer<N> {
    /// Runs until the client is closed or dropped.
    pub(super) async fn run(mut self, stopped: oneshot::Receiver<()>) {
        // However this task ends, nobody is left waiting for it.
        let shared = Arc::clone(&self.shared);
        let _closed = PublishClosed(Arc::clone(&shared));
        tokio::select! {
            biased;
            _ = stopped => {}
            () = shared.closed.notified() => {}
            () = self.keep_connected() => {}
        }
    }

    async fn keep_connected(&mut self) {
        self.shared.wanted.notified().await;
        let mut failures = 0;
        self.publish_connecting();
        loop {
            let activity = Activity::default();
            let shared = Arc::clone(&self.shared);
            let opened = Self::open(&self.network, &shared, &self.identity, &self.config, &activity).await;
            let steady = match opened {
                Ok(opened) => self.run_connection(opened, &activity).await,
                Err((link, state)) => {
                    self.shared.publish(Link::Down(link), state);
                    false
                }
            };
            // After a connection that held, the next attempt follows at once: whether it is refused tells a process
            // that is gone from one that is only cut off.
            failures = if steady { 0 } else { failures + 1 };
            if failures > 0 {
                let delay = self.config.backoff.delay(failures, &mut self.random);
                tokio::select! {
                    biased;
                    () = self.shared.wanted.notified() => {}
                    () = tokio::time::sleep(delay) => {}
                }
            }
        }
    }

    /// Whether the connection lived long enough to be trusted again at once.
    async fn run_connection(&self, opened: Opened<'_, N::Stream>, activity: &Activity) -> bool {
        let (shared, config) = (&self.shared, &self.config);
        let (peer, since) = (shared.peer, Instant::now());
        let Opened { connection, reader, writer, queued } = opened;
        shared.connected(Arc::clone(&connection));
        tracing::debug!(%peer, address = shared.address, incarnation = connection.incarnation, "connected");
        counters::one(&shared.counters.connections_open);
        let going_away = || {
            let state = PeerState::Draining { since: Instant::now() };
            shared.publish(Link::Down(RequestError::Draining { peer }), state);
        };
        let end = {
            let _open = OpenConnection(shared);
            connection.run(reader, writer, queued, activity, config, going_away).await
        };
        end.count(&shared.counters);
        let drained = matches!(*shared.state.borrow(), PeerState::Draining { .. });
        if !drained {
            tracing::warn!(%peer, address = shared.address, reason = %end, "connection lost");
        }
        if matches!(end, ConnectionEnd::Silent | ConnectionEnd::Stalled) {
            let state = PeerState::Unreachable { since: Instant::now() };
            shared.publish(Link::Down(RequestError::Unreachable { peer }), state);
        } else if !drained {
            self.publish_connecting();
        }
        !drained && since.elapsed() >= config.backoff.max
    }

    fn publish_connecting(&self) {
        self.shared.publish(Link::Connecting, PeerState::Connecting { since: Instant::now() });
    }

    async fn open<'a>(
        network: &N,
        shared: &'a Shared,
        identity: &Identity,
        config: &TransportConfig,
        activity: &'a Activity,
    ) -> Result<Opened<'a, N::Stream>, (RequestError, PeerState)> {
        let (peer, counters) = (shared.peer, &shared.counters);
        let since = Instant::now();
        let unreachable = || {
            counters::one(&counters.connects_failed);
            (RequestError::Unreachable { peer }, PeerState::Unreachable { since })
        };
        let stream = match timeout(config.connect_timeout, network.connect(&shared.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                counters::one(&counters.connects_refused);
                let incarnation = shared.last_incarnation();
                let state = PeerState::Refused { since, attempted: since, incarnation };
                return Err((RequestError::Refused { peer }, state));
            }
            Ok(Err(error)) => {
                tracing::debug!(%peer, address = shared.address, %error, "no connection");
                return Err(unreachable());
            }
            Err(_) => return Err(unreachable()),
        };
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(reader, activity, counters);
        let greeting = greet(&mut reader, &mut writer, identity, peer, config);
        let error = match timeout(config.handshake_timeout, greeting).await {
            Ok(Ok(agreed)) => {
                let (connection, queued) = Connection::new(&agreed, Arc::clone(counters));
                return Ok(Opened { connection, reader, writer, queued });
            }
            Ok(Err(error)) => error,
            Err(_) => HandshakeError::Timeout,
        };
        Err(match error {
            HandshakeError::Io(_) | HandshakeError::Timeout => unreachable(),
            HandshakeError::Refused(HandshakeRefusal::Draining) => {
                (RequestError::Draining { peer }, PeerState::Draining { since })
            }
            error => {
                counters::one(&counters.handshakes_refused);
                tracing::warn!(%peer, address = shared.address, %error, "handshake failed");
                (RequestError::Handshake { peer, error: error.clone() }, PeerState::Rejected { since, error })
            }
        })
    }
}

struct OpenConnection<'a>(&'a Shared);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.counters.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

struct PublishClosed(Arc<Shared>);

impl Drop for PublishClosed {
    fn drop(&mut self) {
        let error = RequestError::Closed { peer: self.0.peer };
        self.0.publish(Link::Down(error), PeerState::Closed);
    }
}
