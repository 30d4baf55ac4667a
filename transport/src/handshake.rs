//! Who speaks: the first frame of each direction. Nothing else is read, and little memory is given, before it is done.
//!
//! The client says who it is and whom it expects; the server answers with a welcome or with the reason why not. Both
//! are written so that another version can read them: fields are only ever added at the end, and what stands behind
//! the known ones is ignored. A caller that does not begin with the magic bytes gets no answer at all.

use std::io;

use bytes::Bytes;
use pubg1_model::BrokerId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{
    config::TransportConfig,
    connection::{FrameReader, ReadError},
    frame::{Frame, FrameError, FrameKind},
    message::{Payload, encode_control},
};

/// The first bytes of the first control part.
const MAGIC: [u8; 8] = *b"PUBG1RPC";

/// Protocol versions that this code speaks, from and to.
pub const VERSIONS: (u16, u16) = (1, 1);

/// The largest handshake frame.
pub const HANDSHAKE_BYTES_MAX: u32 = 1024;

/// The longest cluster id, in bytes.
pub const CLUSTER_ID_BYTES_MAX: usize = 255;

const KIND_HELLO: u16 = 1;
const KIND_WELCOME: u16 = 2;
const KIND_REFUSAL: u16 = 3;

/// Who this end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Brokers of different clusters do not talk to each other.
    pub cluster_id: String,
    /// This broker.
    pub broker_id: BrokerId,
    /// New at each start of the broker; says nothing about which start was later.
    pub incarnation: u64,
}

/// As the first version had it. What was added stands behind it, in this order: the lane, a byte. It goes on there.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Hello {
    magic: [u8; 8],
    version_min: u16,
    version_max: u16,
    cluster_id: String,
    broker_id: BrokerId,
    incarnation: u64,
    expected_peer: BrokerId,
    frame_bytes_max: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Welcome {
    version: u16,
    broker_id: BrokerId,
    incarnation: u64,
    frame_bytes_max: u32,
    window_requests: u32,
    window_bytes: u32,
}

/// Why a server turns a client away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HandshakeRefusal {
    /// No protocol version in common.
    #[error("it speaks protocol versions {min} to {max}; upgrade the older broker")]
    UnknownVersion {
        /// The lowest that the server speaks.
        min: u16,
        /// The highest that the server speaks.
        max: u16,
    },
    /// Another cluster. Which, it does not tell a stranger.
    #[error("it belongs to another cluster; compare the cluster ids and the peers' addresses")]
    WrongCluster,
    /// Another broker than expected listens at this address.
    #[error("it is broker {actual}; compare the peers' addresses")]
    WrongPeer {
        /// The one that does.
        actual: BrokerId,
    },
    /// The server is shutting down.
    #[error("it is shutting down")]
    Draining,
}

/// A handshake that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The server turned the client away.
    #[error("refused by the peer: {0}")]
    Refused(HandshakeRefusal),
    /// The server claims to be somebody else although it was told whom this end expects.
    #[error("the peer is broker {0}, another one was expected")]
    WrongPeer(BrokerId),
    /// The server chose a version that this end did not offer.
    #[error("the peer chose protocol version {0}, which was not offered")]
    WrongVersion(u16),
    /// What came is no handshake of this protocol.
    #[error("the peer does not speak this protocol: {0}")]
    NotUnderstood(String),
    /// The connection ended or failed on the way.
    #[error("the connection ended during the handshake: {0}")]
    Io(io::ErrorKind),
    /// It took longer than `handshake_timeout`.
    #[error("no answer in time")]
    Timeout,
}

impl From<ReadError> for HandshakeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error.kind()),
            ReadError::Closed { .. } => Self::Io(io::ErrorKind::UnexpectedEof),
            ReadError::Frame(error) => error.into(),
            ReadError::Unexpected(kind) => Self::NotUnderstood(format!("a {kind:?} frame came first")),
        }
    }
}

impl From<FrameError> for HandshakeError {
    fn from(error: FrameError) -> Self {
        Self::NotUnderstood(error.to_string())
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// What both ends agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) peer: BrokerId,
    pub(crate) incarnation: u64,
    /// The largest frame that the other end takes.
    pub(crate) peer_frame_bytes_max: u32,
    pub(crate) window_requests: u32,
    pub(crate) window_bytes: u32,
    /// The client's [`TransportConfig::lane`].
    pub(crate) lane: u8,
}

/// The client's side.
pub(crate) async fn greet<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut FrameReader<'_, R>,
    writer: &mut W,
    identity: &Identity,
    expected_peer: BrokerId,
    config: &TransportConfig,
) -> Result<Agreed, HandshakeError> {
    let hello = Hello {
        magic: MAGIC,
        version_min: VERSIONS.0,
        version_max: VERSIONS.1,
        cluster_id: identity.cluster_id.clone(),
        broker_id: identity.broker_id,
        incarnation: identity.incarnation,
        expected_peer,
        frame_bytes_max: config.frame_bytes_max,
    };
    // The lane stands behind what a broker without lanes reads.
    write(writer, KIND_HELLO, &(hello, config.lane)).await?;
    let answer = read(reader).await?;
    match answer.body_kind {
        KIND_REFUSAL => return Err(HandshakeError::Refused(parse(&answer.control)?)),
        KIND_WELCOME => {}
        other => return Err(HandshakeError::NotUnderstood(format!("handshake of kind {other}"))),
    }
    let welcome: Welcome = parse(&answer.control)?;
    if !(VERSIONS.0..=VERSIONS.1).contains(&welcome.version) {
        return Err(HandshakeError::WrongVersion(welcome.version));
    }
    if welcome.broker_id != expected_peer {
        return Err(HandshakeError::WrongPeer(welcome.broker_id));
    }
    reader.set_frame_bytes_max(config.frame_bytes_max);
    Ok(Agreed {
        peer: welcome.broker_id,
        incarnation: welcome.incarnation,
        peer_frame_bytes_max: welcome.frame_bytes_max.max(HANDSHAKE_BYTES_MAX),
        window_requests: welcome.window_requests.clamp(1, config.window_requests),
        window_bytes: welcome.window_bytes.clamp(1, config.window_bytes),
        lane: config.lane,
    })
}

/// The server's side. A refusal has been written when it is returned.
pub(crate) async fn receive<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut FrameReader<'_, R>,
    writer: &mut W,
    identity: &Identity,
    draining: bool,
    config: &TransportConfig,
) -> Result<Agreed, HandshakeError> {
    let first = read(reader).await?;
    if first.body_kind != KIND_HELLO || !first.control.starts_with(&MAGIC) {
        return Err(HandshakeError::NotUnderstood("the first frame is no greeting".to_owned()));
    }
    // The versions stand at the same place in every version; the rest is only read when it is ours.
    let (_, version_min, version_max): ([u8; 8], u16, u16) = parse(&first.control)?;
    if version_max < VERSIONS.0 || version_min > VERSIONS.1 {
        return refuse(writer, HandshakeRefusal::UnknownVersion { min: VERSIONS.0, max: VERSIONS.1 }).await;
    }
    let (hello, added): (Hello, &[u8]) = parse_first(&first.control)?;
    // A broker without lanes tells none.
    let lane = added.first().copied().unwrap_or_default();
    if hello.cluster_id != identity.cluster_id {
        return refuse(writer, HandshakeRefusal::WrongCluster).await;
    }
    if hello.expected_peer != identity.broker_id {
        return refuse(writer, HandshakeRefusal::WrongPeer { actual: identity.broker_id }).await;
    }
    if draining {
        return refuse(writer, HandshakeRefusal::Draining).await;
    }
    let welcome = Welcome {
        version: version_max.min(VERSIONS.1),
        broker_id: identity.broker_id,
        incarnation: identity.incarnation,
        frame_bytes_max: config.frame_bytes_max,
        window_requests: config.window_requests,
        window_bytes: config.window_bytes,
    };
    write(writer, KIND_WELCOME, &welcome).await?;
    reader.set_frame_bytes_max(config.frame_bytes_max);
    Ok(Agreed {
        peer: hello.broker_id,
        incarnation: hello.incarnation,
        peer_frame_bytes_max: hello.frame_bytes_max.max(HANDSHAKE_BYTES_MAX),
        window_requests: config.window_requests,
        window_bytes: config.window_bytes,
        lane,
    })
}

async fn refuse<W: AsyncWrite + Unpin, T>(writer: &mut W, refusal: HandshakeRefusal) -> Result<T, HandshakeError> {
    write(writer, KIND_REFUSAL, &refusal).await?;
    // Ends the stream in order, so that the refusal is read before the connection is gone.
    writer.shutdown().await?;
    Err(HandshakeError::Refused(refusal))
}

async fn write<W: AsyncWrite + Unpin, T: Serialize>(
    writer: &mut W,
    body_kind: u16,
    control: &T,
) -> Result<(), HandshakeError> {
    let control = encode_control(control).map_err(|error| HandshakeError::NotUnderstood(error.to_string()))?;
    let frame = Frame { kind: FrameKind::Handshake, body_kind, correlation_id: 0, control, payload: Payload::empty() };
    let header = frame.header(HANDSHAKE_BYTES_MAX)?.encode();
    writer.write_all(&[&header[..], &frame.control].concat()).await?;
    writer.flush().await?;
    Ok(())
}

async fn read<R: AsyncRead + Unpin>(reader: &mut FrameReader<'_, R>) -> Result<Frame, HandshakeError> {
    let frame = reader.next().await?;
    if frame.kind == FrameKind::Handshake { Ok(frame) } else { Err(ReadError::Unexpected(frame.kind).into()) }
}

/// The value at the start of `control`; what follows belongs to a later version.
fn parse<T: serde::de::DeserializeOwned>(control: &Bytes) -> Result<T, HandshakeError> {
    parse_first(control).map(|(value, _)| value)
}

/// The same with what follows.
fn parse_first<T: serde::de::DeserializeOwned>(control: &Bytes) -> Result<(T, &[u8]), HandshakeError> {
    postcard::take_from_bytes(control).map_err(|error| HandshakeError::NotUnderstood(error.to_string()))
}

#[cfg(test)]
mod tests;
