//! One open connection to a peer: many requests in flight, each answered by its correlation id or failed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use pubg1_model::BrokerId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    sync::{Notify, TryAcquireError, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    RequestError,
    config::TransportConfig,
    connection::{Activity, ConnectionEnd, FrameReader, Outgoing, ReadError, Ticket, keep_alive, write_frames},
    counters::{self, Counters},
    frame::{Frame, FrameError, FrameKind},
    handshake::Agreed,
    message::{KIND_REFUSAL, RESERVED_KINDS_FROM, Request, Response, decode_control},
    window::{Permits, Window},
};

/// What to do when the window is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenFull {
    Wait,
    Fail,
}

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub(super) deadline: Instant,
    /// After the deadline, while answers keep arriving: how long nothing may come, and until when at most.
    pub(super) arriving: Option<(Duration, Instant)>,
}

impl From<Instant> for Until {
    fn from(deadline: Instant) -> Self {
        Self { deadline, arriving: None }
    }
}

/// The caller's end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    peer: BrokerId,
    pub(super) incarnation: u64,
    peer_frame_bytes_max: u32,
    window: Window,
    queue: mpsc::UnboundedSender<Outgoing<Arc<InFlight>>>,
    next_correlation_id: AtomicU64,
    pending: Mutex<Pending>,
    /// Counts the pieces in which large answers come.
    arrived: AtomicU64,
    /// Set off when the last answer is in after the peer said that it goes away.
    finished: Notify,
    counters: Arc<Counters>,
}

/// Ordered by id, so that a lost connection fails its requests in the order in which they were made: a simulation
/// with the same seed then runs the same.
#[derive(Debug, Default)]
struct Pending {
    answers: BTreeMap<u64, oneshot::Sender<Result<Response, RequestError>>>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    GoingAway,
    Lost,
}

/// A request between its caller and the writer. Its permits are free when neither refers to it any more, so that
/// requests given up while the connection is stuck still count.
#[derive(Debug)]
pub(super) struct InFlight {
    progress: AtomicU8,
    _permits: Permits,
}

const QUEUED: u8 = 0;
const WRITTEN: u8 = 1;
const GIVEN_UP: u8 = 2;

impl InFlight {
    /// Moves on from `QUEUED`, once; the one who does decides.
    fn leave_queue(&self, to: u8) -> bool {
        self.progress.compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn is_written(&self) -> bool {
        self.progress.load(Ordering::Acquire) == WRITTEN
    }
}

impl Ticket for Arc<InFlight> {
    fn begin_write(&self) -> bool {
        self.leave_queue(WRITTEN)
    }
}

/// Tidies up after a request, however its future ends.
struct Waiting<'a> {
    connection: &'a Connection,
    correlation_id: u64,
    in_flight: Arc<InFlight>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Unless something else is noted, the caller has dropped the future.
    GivenUp,
    TimedOut,
    /// Or failed with the connection, or needing no answer.
    Settled,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let connection = self.connection;
        counters::less(&connection.counters.requests_in_flight);
        match self.end {
            End::Settled => return,
            End::TimedOut => counters::one(&connection.counters.request_timeouts),
            End::GivenUp => counters::one(&connection.counters.requests_cancelled),
        }
        let was_pending = connection.pending().answers.remove(&self.correlation_id).is_some();
        connection.finish_if_idle();
        if was_pending && !self.in_flight.leave_queue(GIVEN_UP) {
            // It fails only when the connection is gone, and the request with it.
            connection.queue.send(Outgoing::bare(FrameKind::Cancel, self.correlation_id)).ok();
        }
    }
}

impl Connection {
    /// The connection and the queue that [`Self::run`] writes from.
    pub(super) fn new(
        agreed: &Agreed,
        counters: Arc<Counters>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Outgoing<Arc<InFlight>>>) {
        let (queue, queued) = mpsc::unbounded_channel();
        let connection = Self {
            peer: agreed.peer,
            incarnation: agreed.incarnation,
            peer_frame_bytes_max: agreed.peer_frame_bytes_max,
            window: Window::new(agreed.window_requests, agreed.window_bytes),
            queue,
            next_correlation_id: AtomicU64::new(1),
            pending: Mutex::default(),
            arrived: AtomicU64::new(0),
            finished: Notify::new(),
            counters,
        };
        (Arc::new(connection), queued)
    }

    pub(super) async fn request(
        &self,
        request: Request,
        until: Until,
        when_full: WhenFull,
    ) -> Result<Response, RequestError> {
        let (answer, mut answered) = oneshot::channel();
        let mut deadline = until.deadline;
        let mut waiting = self.submit(FrameKind::Request, request, deadline, when_full, Some(answer)).await?;
        let (peer, mut arrived) = (self.peer, self.arrived.load(Ordering::Relaxed));
        loop {
            if let Ok(result) = timeout_at(deadline, &mut answered).await {
                waiting.end = End::Settled;
                let sent = waiting.in_flight.is_written();
                return result.unwrap_or(Err(RequestError::Disconnected { peer, sent }));
            }
            let before = std::mem::replace(&mut arrived, self.arrived.load(Ordering::Relaxed));
            match until.arriving {
                Some((pause, at_most)) if arrived != before && deadline < at_most => {
                    deadline = (Instant::now() + pause).min(at_most);
                }
                _ => {
                    waiting.end = End::TimedOut;
                    return Err(RequestError::Timeout { peer, sent: waiting.in_flight.is_written() });
                }
            }
        }
    }

    pub(super) async fn send(&self, message: Request, deadline: Instant) -> Result<(), RequestError> {
        let mut waiting = self.submit(FrameKind::OneWay, message, deadline, WhenFull::Wait, None).await?;
        // Nobody waits for an answer: from here on the frame holds its permits until it is written.
        waiting.end = End::Settled;
        Ok(())
    }

    async fn submit(
        &self,
        kind: FrameKind,
        request: Request,
        deadline: Instant,
        when_full: WhenFull,
        answer: Option<oneshot::Sender<Result<Response, RequestError>>>,
    ) -> Result<Waiting<'_>, RequestError> {
        let Request { kind: body_kind, control, payload } = request;
        if body_kind >= RESERVED_KINDS_FROM {
            return Err(RequestError::ReservedKind { kind: body_kind });
        }
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let frame = Frame { kind, body_kind, correlation_id, control, payload };
        let frame_bytes = frame.frame_bytes();
        if frame_bytes > u64::from(self.peer_frame_bytes_max) {
            return Err(self.too_large(frame_bytes));
        }
        let permits = self.permits(frame_bytes, deadline, when_full).await?;
        let in_flight = Arc::new(InFlight { progress: AtomicU8::new(QUEUED), _permits: permits });
        let ticket = Some(Arc::clone(&in_flight));
        let outgoing = Outgoing::new(frame, self.peer_frame_bytes_max, ticket).map_err(|error| match error {
            FrameError::TooLarge { frame_bytes, .. } => self.too_large(frame_bytes),
            _ => self.too_large(frame_bytes),
        })?;
        if let Some(answer) = answer {
            let mut pending = self.pending();
            self.check_open(pending.state)?;
            pending.answers.insert(correlation_id, answer);
        } else {
            self.check_open(self.pending().state)?;
        }
        counters::one(&self.counters.requests_in_flight);
        let mut waiting = Waiting { connection: self, correlation_id, in_flight, end: End::GivenUp };
        if self.queue.send(outgoing).is_err() {
            waiting.end = End::Settled;
            return Err(RequestError::Disconnected { peer: self.peer, sent: false });
        }
        Ok(waiting)
    }

    async fn permits(&self, frame_bytes: u64, deadline: Instant, when_full: WhenFull) -> Result<Permits, RequestError> {
        let peer = self.peer;
        // Without a look at the clock when there is room.
        match self.window.try_acquire(frame_bytes) {
            Ok(permits) => return Ok(permits),
            Err(TryAcquireError::Closed) => return Err(self.closed_window()),
            Err(TryAcquireError::NoPermits) => {}
        }
        if when_full == WhenFull::Fail {
            counters::one(&self.counters.window_full);
            let Window { requests_max, bytes_max, .. } = self.window;
            return Err(RequestError::WindowFull { peer, requests_max, bytes_max });
        }
        match timeout_at(deadline, self.window.acquire(frame_bytes)).await {
            Ok(permits) => permits.map_err(|_| self.closed_window()),
            Err(_) => {
                counters::one(&self.counters.request_timeouts);
                Err(RequestError::Timeout { peer, sent: false })
            }
        }
    }

    fn closed_window(&self) -> RequestError {
        let peer = self.peer;
        match self.pending().state {
            State::GoingAway => RequestError::Draining { peer },
            _ => RequestError::Disconnected { peer, sent: false },
        }
    }

    fn check_open(&self, state: State) -> Result<(), RequestError> {
        let peer = self.peer;
        match state {
            State::Open => Ok(()),
            State::GoingAway => Err(RequestError::Draining { peer }),
            State::Lost => Err(RequestError::Disconnected { peer, sent: false }),
        }
    }

    fn too_large(&self, frame_bytes: u64) -> RequestError {
        RequestError::TooLarge { peer: self.peer, frame_bytes, frame_bytes_max: self.peer_frame_bytes_max }
    }

    /// Reads and writes until the connection ends, then fails what is still in flight. `going_away` is called when
    /// the peer says that it takes no new requests.
    pub(super) async fn run<S: AsyncRead + AsyncWrite>(
        &self,
        mut reader: FrameReader<'_, ReadHalf<S>>,
        mut writer: WriteHalf<S>,
        mut queued: mpsc::UnboundedReceiver<Outgoing<Arc<InFlight>>>,
        activity: &Activity,
        config: &TransportConfig,
        going_away: impl Fn() + Send,
    ) -> ConnectionEnd {
        // Also when this future is dropped in the middle.
        let _fail = FailWhenDropped(self);
        tokio::select! {
            biased;
            error = self.read(&mut reader, going_away) => error.into(),
            () = self.finished.notified() => ConnectionEnd::Closed,
            end = write_frames(&mut writer, &mut queued, activity, &self.counters, config) => end,
            end = keep_alive(&self.queue, activity, config) => end,
        }
    }

    async fn read<R: AsyncRead + Unpin>(&self, reader: &mut FrameReader<'_, R>, going_away: impl Fn()) -> ReadError {
        loop {
            let frame = match reader.next_counting(&self.arrived).await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            match frame.kind {
                FrameKind::Response => self.answer(frame),
                FrameKind::KeepAlive => {}
                FrameKind::GoAway => {
                    self.pending().state = State::GoingAway;
                    self.window.close();
                    going_away();
                    self.finish_if_idle();
                }
                other => return ReadError::Unexpected(other),
            }
        }
    }

    fn answer(&self, frame: Frame) {
        let Some(answer) = self.pending().answers.remove(&frame.correlation_id) else {
            counters::one(&self.counters.late_answers);
            return;
        };
        let peer = self.peer;
        let result = if frame.body_kind == KIND_REFUSAL {
            Err(match decode_control(KIND_REFUSAL, &frame.control) {
                Ok(refusal) => RequestError::RefusedByPeer { peer, refusal },
                // A refusal that only a later version knows.
                Err(_) => RequestError::Disconnected { peer, sent: true },
            })
        } else {
            Ok(Response { kind: frame.body_kind, control: frame.control, payload: frame.payload })
        };
        if answer.send(result).is_err() {
            counters::one(&self.counters.late_answers);
        }
        self.finish_if_idle();
    }

    fn finish_if_idle(&self) {
        let pending = self.pending();
        if pending.state == State::GoingAway && pending.answers.is_empty() {
            self.finished.notify_one();
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        // Nothing in the critical sections can leave the map half changed.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct FailWhenDropped<'a>(&'a Connection);

impl Drop for FailWhenDropped<'_> {
    fn drop(&mut self) {
        let answers = {
            let mut pending = self.0.pending();
            pending.state = State::Lost;
            std::mem::take(&mut pending.answers)
        };
        self.0.window.close();
        // Each caller reads from its own request whether it had been sent.
        drop(answers);
    }
}
