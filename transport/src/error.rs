//! Why a request has no answer.

use pubg1_model::BrokerId;
use serde::{Deserialize, Serialize};

use crate::handshake::{HandshakeError, HandshakeRefusal};

/// Why the other end's transport did not let a handler answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RequestRefusal {
    /// It is shutting down and did not begin with the request.
    #[error("it is shutting down and did not begin with the request")]
    Draining,
    /// Its handler panicked; what the request did is unknown.
    #[error("its handler failed; what the request did is unknown")]
    HandlerFailed,
    /// The answer is larger than this end takes; what the request did is done.
    #[error("the answer has {response_bytes} bytes, this end takes {frame_bytes_max}; ask for less")]
    ResponseTooLarge {
        /// The answer's frame.
        response_bytes: u64,
        /// What this end takes.
        frame_bytes_max: u32,
    },
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// As many requests are in flight as may be, and the caller would not wait.
    #[error("broker {peer}: {requests_max} requests or {bytes_max} bytes are in flight already; retry later")]
    WindowFull {
        /// The peer.
        peer: BrokerId,
        /// The window's size.
        requests_max: u32,
        /// The window's size in bytes.
        bytes_max: u32,
    },
    /// The deadline passed. An answer that comes later is dropped.
    #[error("broker {peer} did not answer in time{}", if *.sent { "" } else { "; the request was not sent" })]
    Timeout {
        /// The peer.
        peer: BrokerId,
        /// Whether the request may have reached the peer.
        sent: bool,
    },
    /// The peer's machine says that no process listens there: the broker is gone.
    #[error("broker {peer} is not running: its machine refuses connections")]
    Refused {
        /// The peer.
        peer: BrokerId,
    },
    /// The peer does not answer at all: paused, cut off, or its machine is down.
    #[error("broker {peer} cannot be reached")]
    Unreachable {
        /// The peer.
        peer: BrokerId,
    },
    /// The peer, or this end, found in the handshake that they do not belong together.
    #[error("broker {peer}: handshake failed: {error}")]
    Handshake {
        /// The peer.
        peer: BrokerId,
        /// Why.
        error: HandshakeError,
    },
    /// The connection ended before the answer came.
    #[error("broker {peer}: connection lost{}", if *.sent { "; what the request did is unknown" } else { "" })]
    Disconnected {
        /// The peer.
        peer: BrokerId,
        /// Whether the request may have reached the peer.
        sent: bool,
    },
    /// The peer is shutting down; the request was not sent.
    #[error("broker {peer} is shutting down")]
    Draining {
        /// The peer.
        peer: BrokerId,
    },
    /// The peer's transport answered instead of its handler.
    #[error("broker {peer} refuses: {refusal}")]
    RefusedByPeer {
        /// The peer.
        peer: BrokerId,
        /// Why.
        refusal: RequestRefusal,
    },
    /// Larger than the peer takes.
    #[error("a request of {frame_bytes} bytes, broker {peer} takes at most {frame_bytes_max}; send less at once")]
    TooLarge {
        /// The peer.
        peer: BrokerId,
        /// The request's frame.
        frame_bytes: u64,
        /// What the peer takes.
        frame_bytes_max: u32,
    },
    /// The kind is one of the transport's own.
    #[error("request kind {kind:#06x} is reserved")]
    ReservedKind {
        /// The kind.
        kind: u16,
    },
    /// The client was closed, or the runtime it lives on has ended.
    #[error("the connection to broker {peer} was closed by this end")]
    Closed {
        /// The peer.
        peer: BrokerId,
    },
}

impl RequestError {
    /// Whether the peer may have acted on the request. Where this is `false` it can be repeated without asking.
    #[must_use]
    pub const fn may_have_been_handled(&self) -> bool {
        match self {
            Self::Timeout { sent, .. } | Self::Disconnected { sent, .. } => *sent,
            Self::RefusedByPeer { refusal, .. } => !matches!(refusal, RequestRefusal::Draining),
            _ => false,
        }
    }

    /// Whether the peer said, before the request was sent, that it will never take one from this end.
    #[must_use]
    pub const fn is_misconfiguration(&self) -> bool {
        match self {
            Self::Handshake { error: HandshakeError::Refused(refusal), .. } => {
                !matches!(refusal, HandshakeRefusal::Draining)
            }
            Self::Handshake { .. } | Self::TooLarge { .. } | Self::ReservedKind { .. } => true,
            _ => false,
        }
    }
}
