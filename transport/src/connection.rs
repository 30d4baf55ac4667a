//! What both ends of a connection share: reading frames, writing them in gathered calls, and noticing silence.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{
        AcquireError,
        mpsc::{UnboundedReceiver, UnboundedSender},
    },
    time::timeout,
};

use crate::{
    config::TransportConfig,
    counters::{self, Counters},
    frame::{Frame, FrameDecoder, FrameError, FrameHeader, FrameKind},
    handshake::HANDSHAKE_BYTES_MAX,
    message::Payload,
    window::{Permits, Window},
};

/// Frames taken from the queue for one gathered write.
const GATHERED_FRAMES_MAX: usize = 128;

/// Pieces passed to the operating system in one write.
const GATHERED_SLICES_MAX: usize = 64;

/// Reads in a row before the writer of the same connection gets its turn.
const READS_BEFORE_YIELD: u32 = 16;

/// A piece up to this size is copied beside its header: that is cheaper than one more piece in the write.
const COPIED_BYTES_MAX: usize = 512;

/// Whether anything moved since the last look.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    received: AtomicBool,
    sent: AtomicBool,
}

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("closed by the other end{}", if *.inside_frame { " in the middle of a frame" } else { "" })]
    Closed { inside_frame: bool },
    #[error("a {0:?} frame has no place here")]
    Unexpected(FrameKind),
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionEnd {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("writing failed: {0}")]
    Write(io::Error),
    #[error("the other end takes no bytes")]
    Stalled,
    #[error("nothing comes from the other end")]
    Silent,
    #[error("closed by this end")]
    Closed,
}

impl ConnectionEnd {
    /// Counts what the end says about the other side.
    pub(crate) fn count(&self, counters: &Counters) {
        match self {
            Self::Read(ReadError::Frame(_) | ReadError::Unexpected(_) | ReadError::Closed { inside_frame: true }) => {
                counters::one(&counters.decode_errors);
            }
            Self::Silent => counters::one(&counters.connections_silent),
            _ => {}
        }
    }
}

/// Reads frames from a stream. Dropping any of its futures loses nothing.
pub(crate) struct FrameReader<'a, R> {
    stream: R,
    decoder: FrameDecoder,
    activity: &'a Activity,
    counters: &'a Counters,
    reads: u32,
}

impl<'a, R: AsyncRead + Unpin> FrameReader<'a, R> {
    /// A reader that takes handshake frames only, until told otherwise.
    pub(crate) fn new(stream: R, activity: &'a Activity, counters: &'a Counters) -> Self {
        Self { stream, decoder: FrameDecoder::new(HANDSHAKE_BYTES_MAX), activity, counters, reads: 0 }
    }

    /// Goes on with a stream where another reader of it ended.
    pub(crate) const fn resume(
        stream: R,
        decoder: FrameDecoder,
        activity: &'a Activity,
        counters: &'a Counters,
    ) -> Self {
        Self { stream, decoder, activity, counters, reads: 0 }
    }

    /// The stream, and what was read of it beyond the last frame.
    pub(crate) fn into_parts(self) -> (R, FrameDecoder) {
        (self.stream, self.decoder)
    }

    pub(crate) fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.decoder.set_frame_bytes_max(frame_bytes_max);
    }

    pub(crate) async fn next(&mut self) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                counters::one(&self.counters.frames_in);
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// As [`Self::next`]; counts the pieces in which the body of a response comes, while it is not whole.
    pub(crate) async fn next_counting(&mut self, arrived: &AtomicU64) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                counters::one(&self.counters.frames_in);
                return Ok(frame);
            }
            self.fill().await?;
            if self.decoder.next_header()?.is_some_and(|header| header.kind == FrameKind::Response) {
                arrived.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The next frame; a request or one-way only with permits for it, which are taken before its body is read. This
    /// is what makes a peer wait that sends more than it was told it may.
    pub(crate) async fn next_admitted(&mut self, window: &Window) -> Result<(Frame, Option<Permits>), ReadError> {
        let header = loop {
            match self.decoder.next_header()? {
                Some(header) => break header,
                None => self.fill().await?,
            }
        };
        let permits = match header.kind {
            FrameKind::Request | FrameKind::OneWay => Some(window.acquire(header.frame_bytes()).await?),
            _ => None,
        };
        Ok((self.next().await?, permits))
    }

    #[cfg(test)]
    pub(crate) const fn stream_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        self.reads = self.reads.wrapping_add(1);
        if self.reads.is_multiple_of(READS_BEFORE_YIELD) {
            // A peer that sends without pause must not keep this task from writing.
            tokio::task::yield_now().await;
        }
        let bytes = self.stream.read_buf(&mut self.decoder.read_space()).await?;
        if bytes == 0 {
            return Err(ReadError::Closed { inside_frame: self.decoder.is_inside_frame() });
        }
        self.activity.received.store(true, Ordering::Relaxed);
        counters::add(&self.counters.bytes_in, bytes);
        Ok(())
    }
}

impl From<AcquireError> for ReadError {
    fn from(_: AcquireError) -> Self {
        Self::Closed { inside_frame: false }
    }
}

/// What rides with a queued frame until it is written.
pub(crate) trait Ticket: Send + 'static {
    /// Asked just before the frame is written; `false` leaves it out.
    fn begin_write(&self) -> bool {
        true
    }
}

impl Ticket for Permits {}

/// A frame in the queue of the writer.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    header: FrameHeader,
    control: Bytes,
    payload: Payload,
    ticket: Option<T>,
}

impl<T> Outgoing<T> {
    /// # Errors
    /// [`FrameError::TooLarge`] for the other end.
    pub(crate) fn new(frame: Frame, frame_bytes_max: u32, ticket: Option<T>) -> Result<Self, FrameError> {
        let header = frame.header(frame_bytes_max)?;
        Ok(Self { header, control: frame.control, payload: frame.payload, ticket })
    }

    /// A frame without parts.
    pub(crate) const fn bare(kind: FrameKind, correlation_id: u64) -> Self {
        let header = FrameHeader {
            kind,
            body_kind: 0,
            correlation_id,
            control_bytes: 0,
            body_bytes: 0,
            // The CRC of no bytes.
            control_checksum: 0,
        };
        Self { header, control: Bytes::new(), payload: Payload::empty(), ticket: None }
    }
}

/// Frames laid out for gathered writes: headers and small pieces copied together, large pieces as they are.
#[derive(Debug, Default)]
struct Gathered {
    copied: BytesMut,
    pieces: VecDeque<Bytes>,
}

impl Gathered {
    fn push<T>(&mut self, outgoing: &Outgoing<T>) {
        self.copied.extend_from_slice(&outgoing.header.encode());
        self.push_piece(&outgoing.control);
        outgoing.payload.parts().iter().for_each(|part| self.push_piece(part));
    }

    fn push_piece(&mut self, piece: &Bytes) {
        if piece.len() <= COPIED_BYTES_MAX {
            self.copied.extend_from_slice(piece);
        } else {
            self.seal();
            self.pieces.push_back(piece.clone());
        }
    }

    fn seal(&mut self) {
        if !self.copied.is_empty() {
            self.pieces.push_back(self.copied.split().freeze());
        }
    }

    async fn write<W: AsyncWrite + Unpin>(&mut self, stream: &mut W) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); GATHERED_SLICES_MAX];
        let used = self.pieces.len().min(GATHERED_SLICES_MAX);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        let written = stream.write_vectored(&slices[..used]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut rest = written;
        while let Some(first) = self.pieces.front_mut().filter(|_| rest > 0) {
            let taken = rest.min(first.len());
            first.advance(taken);
            rest -= taken;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
        Ok(written)
    }
}

/// Writes what is queued, as much as there is in each call, until the connection fails.
pub(crate) async fn write_frames<W: AsyncWrite + Unpin, T: Ticket>(
    stream: &mut W,
    queue: &mut UnboundedReceiver<Outgoing<T>>,
    activity: &Activity,
    counters: &Counters,
    config: &TransportConfig,
) -> ConnectionEnd {
    let mut batch = Vec::with_capacity(GATHERED_FRAMES_MAX);
    let mut gathered = Gathered::default();
    loop {
        if queue.recv_many(&mut batch, GATHERED_FRAMES_MAX).await == 0 {
            return ConnectionEnd::Closed;
        }
        batch.retain(|outgoing| outgoing.ticket.as_ref().is_none_or(Ticket::begin_write));
        batch.iter().for_each(|outgoing| gathered.push(outgoing));
        gathered.seal();
        while !gathered.pieces.is_empty() {
            match timeout(config.write_stall_after, gathered.write(stream)).await {
                Ok(Ok(bytes)) => {
                    activity.sent.store(true, Ordering::Relaxed);
                    counters::add(&counters.bytes_out, bytes);
                }
                Ok(Err(error)) => return ConnectionEnd::Write(error),
                Err(_) => return ConnectionEnd::Stalled,
            }
        }
        if let Err(error) = stream.flush().await {
            return ConnectionEnd::Write(error);
        }
        counters::add(&counters.frames_out, batch.len());
        batch.clear();
    }
}

/// Says something when nothing else is said, and ends when nothing is heard.
///
/// It counts its own ticks without a byte instead of comparing times: after this process was paused, one tick has
/// passed, not all the time, so that a healthy peer is not taken for a silent one.
pub(crate) async fn keep_alive<T>(
    queue: &UnboundedSender<Outgoing<T>>,
    activity: &Activity,
    config: &TransportConfig,
) -> ConnectionEnd {
    // Two ticks an interval: what was sent just after one tick is followed by a keepalive within the interval.
    let tick = config.keepalive_interval / 2;
    let ticks_max = config.silence_after.as_nanos().div_ceil(tick.as_nanos().max(1));
    let mut silent_ticks = 0;
    loop {
        tokio::time::sleep(tick).await;
        silent_ticks = if activity.received.swap(false, Ordering::Relaxed) { 0 } else { silent_ticks + 1 };
        if silent_ticks >= ticks_max {
            return ConnectionEnd::Silent;
        }
        if !activity.sent.swap(false, Ordering::Relaxed) && queue.send(Outgoing::bare(FrameKind::KeepAlive, 0)).is_err()
        {
            return ConnectionEnd::Closed;
        }
    }
}
