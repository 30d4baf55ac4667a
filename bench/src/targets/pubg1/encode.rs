//! Messages as record batches.

use bytes::Bytes;
use pubg1_model::{
    compression::Compression,
    record_batch::{BatchBuilder, HEADER_BYTES, NewRecord},
};

use crate::target::{Message, SendError};

/// Room for what stands around a payload in its batch.
const RECORD_OVERHEAD: usize = 40;

/// Encodes batches of payloads of one size.
pub(crate) struct Encoder {
    payload: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(record_bytes: usize) -> Self {
        Self { payload: vec![0; record_bytes] }
    }

    /// The messages as one batch.
    pub(crate) fn encode(&mut self, batch: &[Message], filling: &[u8]) -> Result<Bytes, SendError> {
        self.encode_these(batch.iter(), batch.len(), filling)
    }

    /// Those of the messages that `batch` yields, which are about so many.
    pub(crate) fn encode_these<'a>(
        &mut self,
        batch: impl Iterator<Item = &'a Message>,
        count: usize,
        filling: &[u8],
    ) -> Result<Bytes, SendError> {
        let refuse = |error: pubg1_model::record_batch::BatchError| SendError {
            kind: "not encoded".to_owned(),
            reason: error.to_string(),
        };
        let bytes = HEADER_BYTES + count * (self.payload.len() + RECORD_OVERHEAD);
        let mut builder = BatchBuilder::with_capacity(Compression::None, bytes);
        for message in batch {
            message.write(filling, &mut self.payload);
            let key = message.key.map(u32::to_be_bytes);
            let key = key.as_ref().map(<[u8; 4]>::as_slice);
            builder
                .push(&NewRecord { timestamp_ms: message.timestamp_ms, key, value: Some(&self.payload), headers: &[] })
                .map_err(refuse)?;
        }
        Ok(builder.finish(None).map_err(refuse)?.bytes().clone())
    }
}
