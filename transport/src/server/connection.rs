//! One accepted connection: handshake, then a task for each request within the window, until either end is done.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::AbortHandle,
    time::timeout,
};

use super::{Handler, Peer, Phase, Shared};
use crate::{
    HandshakeError, Listener, Request, RequestRefusal, Response,
    connection::{Activity, ConnectionEnd, FrameReader, Outgoing, ReadError, keep_alive, write_frames},
    counters,
    frame::{Frame, FrameDecoder, FrameError, FrameKind},
    handshake::{Agreed, receive},
    message::{KIND_REFUSAL, Payload, RESERVED_KINDS_FROM, encode_control},
    window::{Permits, Window},
};

/// A connection past its handshake.
struct Served<H> {
    shared: Arc<Shared<H>>,
    peer: Peer,
    peer_frame_bytes_max: u32,
    queue: mpsc::UnboundedSender<Outgoing<Permits>>,
    /// By correlation id; nothing where the task is not known yet. Ordered, so that a simulation with the same seed
    /// ends them in the same order.
    handlers: Mutex<BTreeMap<u64, Option<AbortHandle>>>,
}

/// A connection whose two ends know each other.
pub(super) struct Greeted<S> {
    stream: S,
    /// What was read beyond the greeting.
    decoder: FrameDecoder,
    pub(super) peer: Peer,
    agreed: Agreed,
}

impl<S> Greeted<S> {
    /// Which of its peer's connections this is.
    pub(super) const fn lane(&self) -> u8 {
        self.agreed.lane
    }

    /// Moves it to the runtime that this is called on.
    pub(super) fn settle<L: Listener<Stream = S>>(self) -> io::Result<Self> {
        Ok(Self { stream: L::settle(self.stream)?, ..self })
    }
}

/// The handshake. Nothing when it failed, and then the connection is closed.
pub(super) async fn greet<S, H: Handler>(stream: S, from: SocketAddr, shared: &Shared<H>) -> Option<Greeted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity::default();
    let (config, counters) = (&shared.config, &*shared.counters);
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(reader, &activity, counters);
    let draining = *shared.phase.borrow() != Phase::Serving;
    let greeting = receive(&mut reader, &mut writer, &shared.identity, draining, config);
    let error = match timeout(config.handshake_timeout, greeting).await.unwrap_or(Err(HandshakeError::Timeout)) {
        Ok(agreed) => {
            let (reader, decoder) = reader.into_parts();
            let peer = Peer { broker_id: agreed.peer, incarnation: agreed.incarnation, address: from };
            return Some(Greeted { stream: reader.unsplit(writer), decoder, peer, agreed });
        }
        Err(error) => error,
    };
    counters::one(&counters.handshakes_refused);
    if matches!(error, HandshakeError::NotUnderstood(_)) {
        counters::one(&counters.decode_errors);
    }
    match error {
        HandshakeError::Refused(refusal) => tracing::warn!(%from, %refusal, "a broker was refused"),
        // Anybody can make these as often as they like; the counters tell.
        error => tracing::debug!(%from, %error, "handshake failed"),
    }
    None
}

/// Serves it until either end is done.
pub(super) async fn run<S, H: Handler>(greeted: Greeted<S>, shared: Arc<Shared<H>>)
where
    S: AsyncRead + AsyncWrite,
{
    let Greeted { stream, decoder, peer, agreed } = greeted;
    let activity = Activity::default();
    let (config, counters) = (&shared.config, &*shared.counters);
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = FrameReader::resume(reader, decoder, &activity, counters);
    let _present = shared.enter(peer);
    let peer_frame_bytes_max = agreed.peer_frame_bytes_max;
    let (queue, mut queued) = mpsc::unbounded_channel();
    let served =
        Arc::new(Served { shared: Arc::clone(&shared), peer, peer_frame_bytes_max, queue, handlers: Mutex::default() });
    let _abort = AbortWhenDropped(Arc::clone(&served));
    let end = tokio::select! {
        biased;
        end = served.read(&mut reader, agreed.window_requests, agreed.window_bytes) => end.into(),
        end = served.announce_drain() => end,
        end = write_frames(&mut writer, &mut queued, &activity, counters, config) => end,
        end = keep_alive(&served.queue, &activity, config) => end,
    };
    end.count(counters);
    match end {
        ConnectionEnd::Read(ReadError::Closed { inside_frame: false }) => {
            tracing::debug!(broker_id = %peer.broker_id, from = %peer.address, "connection closed");
        }
        end => {
            tracing::warn!(broker_id = %peer.broker_id, from = %peer.address, reason = %end, "connection ended");
        }
    }
}

impl<H: Handler> Served<H> {
    async fn read<R: AsyncRead + Unpin>(
        self: &Arc<Self>,
        reader: &mut FrameReader<'_, R>,
        window_requests: u32,
        window_bytes: u32,
    ) -> ReadError {
        let window = Window::new(window_requests, window_bytes);
        loop {
            let (frame, permits) = match reader.next_admitted(&window).await {
                Ok(admitted) => admitted,
                Err(error) => return error,
            };
            match (frame.kind, permits) {
                (FrameKind::Request | FrameKind::OneWay, Some(permits)) if frame.body_kind < RESERVED_KINDS_FROM => {
                    if let Err(error) = self.begin(frame, permits) {
                        return error;
                    }
                }
                (FrameKind::Cancel, _) => self.cancel(frame.correlation_id),
                (FrameKind::KeepAlive, _) => {}
                (other, _) => return ReadError::Unexpected(other),
            }
        }
    }

    /// Tells the peer once that this end goes away; then it is up to the peer to finish and close.
    async fn announce_drain(&self) -> ConnectionEnd {
        let mut phase = self.shared.phase.clone();
        let draining = phase.wait_for(|phase| *phase != Phase::Serving).await.is_ok();
        if !draining || self.queue.send(Outgoing::bare(FrameKind::GoAway, 0)).is_err() {
            return ConnectionEnd::Closed;
        }
        std::future::pending().await
    }

    fn begin(self: &Arc<Self>, frame: Frame, permits: Permits) -> Result<(), ReadError> {
        let Frame { kind, body_kind, correlation_id, control, payload } = frame;
        match self.handlers().entry(correlation_id) {
            Entry::Vacant(entry) => entry.insert(None),
            Entry::Occupied(_) => return Err(ReadError::Unexpected(kind)),
        };
        counters::one(&self.shared.counters.requests_in_service);
        let served = Arc::clone(self);
        let wants_answer = kind == FrameKind::Request;
        let reply = Reply { served, correlation_id, permits: Some(permits), wants_answer };
        if *self.shared.phase.borrow() != Phase::Serving {
            reply.refuse(RequestRefusal::Draining);
            return Ok(());
        }
        let request = Request { kind: body_kind, control, payload };
        let task = tokio::spawn(async move {
            let Served { shared, peer, .. } = &*reply.served;
            if wants_answer {
                let response = shared.handler.handle(*peer, request).await;
                reply.send(response);
            } else {
                shared.handler.handle_one_way(*peer, request).await;
            }
        });
        // Not there any more when the handler is done already.
        if let Some(handler) = self.handlers().get_mut(&correlation_id) {
            *handler = Some(task.abort_handle());
        }
        Ok(())
    }

    fn cancel(&self, correlation_id: u64) {
        let handler = self.handlers().remove(&correlation_id);
        if let Some(Some(handler)) = handler {
            handler.abort();
        }
    }
}

impl<H> Served<H> {
    fn handlers(&self) -> MutexGuard<'_, BTreeMap<u64, Option<AbortHandle>>> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, frame: Frame, permits: Option<Permits>) -> Result<(), FrameError> {
        // It fails only when the connection has ended; then nobody waits for the answer.
        self.queue.send(Outgoing::new(frame, self.peer_frame_bytes_max, permits)?).ok();
        Ok(())
    }
}

/// A request's way back. Its permits go with the answer and are free once that is written.
struct Reply<H> {
    served: Arc<Served<H>>,
    correlation_id: u64,
    permits: Option<Permits>,
    wants_answer: bool,
}

impl<H> Reply<H> {
    fn send(mut self, response: Response) {
        let Response { kind, control, payload } = response;
        if kind >= RESERVED_KINDS_FROM {
            tracing::error!(kind, "a handler answered with a kind of the transport's own");
            return self.refuse(RequestRefusal::HandlerFailed);
        }
        self.wants_answer = false;
        let frame = self.frame(kind, control, payload);
        let permits = self.permits.take();
        let size = frame.frame_bytes();
        if size > u64::from(self.served.peer_frame_bytes_max) {
            let frame_bytes_max = self.served.peer_frame_bytes_max;
            self.permits = permits;
            self.refuse(RequestRefusal::ResponseTooLarge { response_bytes: size, frame_bytes_max });
        } else if let Err(error) = self.served.enqueue(frame, permits) {
            tracing::error!(%error, "an answer was not sent");
        }
    }

    fn refuse(mut self, refusal: RequestRefusal) {
        self.enqueue_refusal(refusal);
    }

    fn enqueue_refusal(&mut self, refusal: RequestRefusal) {
        self.wants_answer = false;
        let permits = self.permits.take();
        let sent = encode_control(&refusal).map_err(|error| error.to_string()).and_then(|control| {
            let frame = self.frame(KIND_REFUSAL, control, Payload::empty());
            self.served.enqueue(frame, permits).map_err(|error| error.to_string())
        });
        if let Err(error) = sent {
            tracing::error!(error, "a refusal was not sent");
        }
    }

    const fn frame(&self, body_kind: u16, control: bytes::Bytes, payload: Payload) -> Frame {
        Frame { kind: FrameKind::Response, body_kind, correlation_id: self.correlation_id, control, payload }
    }
}

impl<H> Drop for Reply<H> {
    fn drop(&mut self) {
        self.served.handlers().remove(&self.correlation_id);
        let counters = &self.served.shared.counters;
        counters::less(&counters.requests_in_service);
        if std::thread::panicking() {
            counters::one(&counters.handler_panics);
            if self.wants_answer {
                self.enqueue_refusal(RequestRefusal::HandlerFailed);
            }
        }
    }
}

/// Ends the handlers with the connection: nobody is left to hear them.
struct AbortWhenDropped<H>(Arc<Served<H>>);

impl<H> Drop for AbortWhenDropped<H> {
    fn drop(&mut self) {
        let handlers = std::mem::take(&mut *self.0.handlers());
        handlers.into_values().flatten().for_each(|handler| handler.abort());
    }
}
