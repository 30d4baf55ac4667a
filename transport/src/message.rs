//! What the layers above send: a kind, a control part made by serde, a payload that serde never sees.

use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// Kinds from here on belong to the transport itself.
pub(crate) const RESERVED_KINDS_FROM: u16 = 0xff00;

/// The answer that refuses a request; its control part is a [`RequestRefusal`](crate::RequestRefusal).
pub(crate) const KIND_REFUSAL: u16 = 0xffff;

/// A control part that could not be made or understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The value cannot be encoded.
    #[error("control part not encoded: {0}")]
    Encode(postcard::Error),
    /// The bytes are not such a value.
    #[error("control part of kind {kind} not understood: {error}")]
    Decode {
        /// The body kind it came with.
        kind: u16,
        /// What the decoder says.
        error: postcard::Error,
    },
    /// More bytes than the value has: sender and receiver mean different things.
    #[error("control part of kind {kind} has {bytes} bytes too many")]
    Trailing {
        /// The body kind it came with.
        kind: u16,
        /// How many.
        bytes: usize,
    },
}

/// Opaque bytes, in one piece or several. What is received is always in one piece; what is sent may come from several
/// segments and is not joined for it.
#[derive(Clone, Debug)]
pub struct Payload(Parts);

#[derive(Clone, Debug)]
enum Parts {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Payload {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Parts::One(Bytes::new()))
    }

    /// How many bytes, over all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts().iter().map(Bytes::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts().iter().all(Bytes::is_empty)
    }

    /// The pieces, in order.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        match &self.0 {
            Parts::One(bytes) => std::slice::from_ref(bytes),
            Parts::Many(parts) => parts,
        }
    }

    /// All bytes in one piece. Copies only when there are several, so never what was received.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Parts::One(bytes) => bytes,
            Parts::Many(parts) => {
                let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
                parts.iter().for_each(|part| joined.extend_from_slice(part));
                joined.freeze()
            }
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(Parts::One(bytes))
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(mut parts: Vec<Bytes>) -> Self {
        Self(match parts.len() {
            0 | 1 => Parts::One(parts.pop().unwrap_or_default()),
            _ => Parts::Many(parts),
        })
    }
}

/// Payloads are equal when their bytes are, however they are cut.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |payload: &Self| payload.clone().into_bytes();
        self.len() == other.len() && bytes(self) == bytes(other)
    }
}

impl Eq for Payload {}

macro_rules! message_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            /// Which message this is. Kinds from 0xff00 on are the transport's own.
            pub kind: u16,
            /// The structured part; see [`Self::decode`].
            pub control: Bytes,
            /// The opaque part.
            pub payload: Payload,
        }

        impl $name {
            /// A message whose control part is `control`, without payload.
            ///
            /// # Errors
            /// [`ControlError::Encode`].
            pub fn encode<T: Serialize>(kind: u16, control: &T) -> Result<Self, ControlError> {
                Ok(Self { kind, control: encode_control(control)?, payload: Payload::empty() })
            }

            /// The same with a payload.
            #[must_use]
            pub fn with_payload(self, payload: impl Into<Payload>) -> Self {
                Self { payload: payload.into(), ..self }
            }

            /// The control part as a value. The whole part must be that value.
            ///
            /// # Errors
            /// [`ControlError::Decode`], [`ControlError::Trailing`].
            pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ControlError> {
                decode_control(self.kind, &self.control)
            }
        }
    };
}

message_type! {
    /// What one broker asks of another, or tells it.
    Request
}

message_type! {
    /// The answer to a [`Request`].
    Response
}

/// `value` as postcard's bytes.
///
/// # Errors
/// [`ControlError::Encode`].
pub fn encode_control<T: Serialize>(value: &T) -> Result<Bytes, ControlError> {
    postcard::to_stdvec(value).map(Bytes::from).map_err(ControlError::Encode)
}

/// The value whose postcard bytes `control` is, all of them. `kind` only names it in the error.
///
/// # Errors
/// [`ControlError::Decode`], [`ControlError::Trailing`].
pub fn decode_control<T: DeserializeOwned>(kind: u16, control: &[u8]) -> Result<T, ControlError> {
    let (value, rest) = postcard::take_from_bytes(control).map_err(|error| ControlError::Decode { kind, error })?;
    if rest.is_empty() { Ok(value) } else { Err(ControlError::Trailing { kind, bytes: rest.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_part_is_that_value_and_nothing_more() {
        let request = Request::encode(7, &(3_u32, "x")).unwrap();
        assert_eq!(request.decode::<(u32, String)>().unwrap(), (3, "x".to_owned()));
        assert_eq!(request.decode::<u8>(), Err(ControlError::Trailing { kind: 7, bytes: 2 }));
        assert!(matches!(request.decode::<(u32, String, u64)>(), Err(ControlError::Decode { kind: 7, .. })));
    }

    #[test]
    fn pieces_are_joined_only_when_there_are_several() {
        let piece = Bytes::from_static(b"abc");
        let one = Payload::from(vec![piece.clone()]);
        assert_eq!(one.clone().into_bytes().as_ptr(), piece.as_ptr());
        let two = Payload::from(vec![piece.slice(..1), piece.slice(1..)]);
        assert_eq!((two.len(), two.parts().len()), (3, 2));
        assert_eq!(two, one);
        assert_ne!(two, Payload::empty());
        assert_eq!(two.into_bytes(), piece);
    }
}
