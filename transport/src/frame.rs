//! The unit on the wire: a fixed header with its own checksum, a control part, an opaque payload.
//!
//! The byte table stands in `docs/WIRE.md`, the reasons for two checksums and none over the payload in
//! `docs/adr/0005-frames.md`. All numbers are big-endian.

mod buffers;
mod decoder;

use bytes::Bytes;

pub use decoder::FrameDecoder;

use crate::message::Payload;

/// Bytes before the control part.
pub const HEADER_BYTES: usize = 28;

/// Bytes of the length field itself, which its value does not count.
const LENGTH_FIELD_BYTES: usize = 4;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Asks for exactly one answer.
    Request = 1,
    /// Answers the request of the same correlation id.
    Response = 2,
    /// Wants no answer.
    OneWay = 3,
    /// The first frame of each direction.
    Handshake = 4,
    /// The sender finishes what it has begun and takes no new requests on this connection.
    GoAway = 5,
    /// The sender no longer waits for the answer of that correlation id.
    Cancel = 6,
    /// The sender is alive and had nothing else to say.
    KeepAlive = 7,
}

impl FrameKind {
    /// The kind with this number on the wire.
    #[must_use]
    pub const fn from_wire(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::OneWay,
            4 => Self::Handshake,
            5 => Self::GoAway,
            6 => Self::Cancel,
            7 => Self::KeepAlive,
            _ => return None,
        })
    }

    /// The number of this kind on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::OneWay => 3,
            Self::Handshake => 4,
            Self::GoAway => 5,
            Self::Cancel => 6,
            Self::KeepAlive => 7,
        }
    }
}

/// Bytes that are not a frame. The connection they came from cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header's bytes are not those that were sent, or no frame starts here.
    #[error("no frame starts here: header checksum {computed:#010x} where {stored:#010x} is stored")]
    HeaderChecksum {
        /// As computed over the received bytes.
        computed: u32,
        /// As found in the header.
        stored: u32,
    },
    /// The control part's bytes are not those that were sent.
    #[error("a damaged control part: checksum {computed:#010x} where {stored:#010x} is stored")]
    ControlChecksum {
        /// As computed over the received bytes.
        computed: u32,
        /// As found in the header.
        stored: u32,
    },
    /// More than this end takes. Nothing was allocated for it.
    #[error("a frame of {frame_bytes} bytes, this end takes at most {frame_bytes_max}; see `frame_bytes_max`")]
    TooLarge {
        /// Its whole size.
        frame_bytes: u64,
        /// The limit.
        frame_bytes_max: u32,
    },
    /// The length leaves no room for the header it stands in.
    #[error("a frame that claims {length} bytes after its length, fewer than its header has")]
    TooShort {
        /// The length field's value.
        length: u32,
    },
    /// The control part would end behind the frame.
    #[error("a control part of {control_bytes} bytes in a body of {body_bytes}")]
    ControlOutside {
        /// The control part's size as claimed.
        control_bytes: u32,
        /// Everything after the header.
        body_bytes: u32,
    },
    /// A kind that this version does not know.
    #[error("frame kind {0} is unknown to this version")]
    UnknownKind(u8),
    /// Flags are reserved and must be zero.
    #[error("frame flags {0:#04x} are unknown to this version")]
    UnknownFlags(u8),
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is for.
    pub kind: FrameKind,
    /// What its control part is: chosen by the layer above.
    pub body_kind: u16,
    /// Ties an answer to its request. Chosen by the side that asks, unique on its connection.
    pub correlation_id: u64,
    /// Size of the control part.
    pub control_bytes: u32,
    /// Size of control part and payload together.
    pub body_bytes: u32,
    /// CRC-32C of the control part.
    pub control_checksum: u32,
}

impl FrameHeader {
    /// The size of the whole frame.
    #[must_use]
    pub const fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.body_bytes as u64
    }

    /// The header as it goes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        const FIXED_AFTER_LENGTH: u32 = 24;
        let length = FIXED_AFTER_LENGTH.saturating_add(self.body_bytes);
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&length.to_be_bytes());
        header[4] = self.kind.to_wire();
        header[6..8].copy_from_slice(&self.body_kind.to_be_bytes());
        header[8..16].copy_from_slice(&self.correlation_id.to_be_bytes());
        header[16..20].copy_from_slice(&self.control_bytes.to_be_bytes());
        header[20..24].copy_from_slice(&self.control_checksum.to_be_bytes());
        let checksum = crc32c::crc32c(&header[..24]);
        header[24..28].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    /// Reads a header and checks everything that can be checked before its body is there.
    ///
    /// # Errors
    /// Whatever makes the header unusable; see [`FrameError`].
    pub fn decode(header: &[u8; HEADER_BYTES], frame_bytes_max: u32) -> Result<Self, FrameError> {
        let u32_at = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (stored, computed) = (u32_at(24), crc32c::crc32c(&header[..24]));
        if stored != computed {
            return Err(FrameError::HeaderChecksum { computed, stored });
        }
        let kind = FrameKind::from_wire(header[4]).ok_or(FrameError::UnknownKind(header[4]))?;
        if header[5] != 0 {
            return Err(FrameError::UnknownFlags(header[5]));
        }
        let length = u32_at(0);
        let frame_bytes = u64::from(length) + LENGTH_FIELD_BYTES as u64;
        if frame_bytes > u64::from(frame_bytes_max) {
            return Err(FrameError::TooLarge { frame_bytes, frame_bytes_max });
        }
        let fixed_bytes = HEADER_BYTES - LENGTH_FIELD_BYTES;
        let body_bytes = u32::try_from(fixed_bytes).ok().and_then(|fixed| length.checked_sub(fixed));
        let body_bytes = body_bytes.ok_or(FrameError::TooShort { length })?;
        let control_bytes = u32_at(16);
        if control_bytes > body_bytes {
            return Err(FrameError::ControlOutside { control_bytes, body_bytes });
        }
        let mut correlation_id = [0; 8];
        correlation_id.copy_from_slice(&header[8..16]);
        Ok(Self {
            kind,
            body_kind: u16::from_be_bytes([header[6], header[7]]),
            correlation_id: u64::from_be_bytes(correlation_id),
            control_bytes,
            body_bytes,
            control_checksum: u32_at(20),
        })
    }
}

/// A frame with its two parts. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the frame is for.
    pub kind: FrameKind,
    /// What its control part is.
    pub body_kind: u16,
    /// Ties an answer to its request.
    pub correlation_id: u64,
    /// Small, structured, covered by a checksum.
    pub control: Bytes,
    /// Opaque; whoever needs a checksum puts it inside, as record batches do.
    pub payload: Payload,
}

impl Frame {
    /// A frame without parts.
    #[must_use]
    pub const fn bare(kind: FrameKind, correlation_id: u64) -> Self {
        Self { kind, body_kind: 0, correlation_id, control: Bytes::new(), payload: Payload::empty() }
    }

    /// The size on the wire.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.control.len() as u64 + self.payload.len() as u64
    }

    /// The header for these parts.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] when the frame is larger than `frame_bytes_max`.
    pub fn header(&self, frame_bytes_max: u32) -> Result<FrameHeader, FrameError> {
        let frame_bytes = self.frame_bytes();
        let too_large = FrameError::TooLarge { frame_bytes, frame_bytes_max };
        if frame_bytes > u64::from(frame_bytes_max) {
            return Err(too_large);
        }
        let (Ok(control_bytes), Ok(body_bytes)) =
            (u32::try_from(self.control.len()), u32::try_from(self.control.len() + self.payload.len()))
        else {
            return Err(too_large);
        };
        Ok(FrameHeader {
            kind: self.kind,
            body_kind: self.body_kind,
            correlation_id: self.correlation_id,
            control_bytes,
            body_bytes,
            control_checksum: crc32c::crc32c(&self.control),
        })
    }
}

#[cfg(test)]
mod tests;
