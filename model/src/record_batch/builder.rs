//! Makes a record batch out of records.

use bytes::Bytes;

use super::{Attributes, BatchError, BatchHeader, CRC_FROM, HEADER_BYTES, LENGTH_PREFIX_BYTES, ValidBatch, varint};
use crate::{ProducerId, compression::Compression};

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What it is about; decides its partition and, in compacted topics, what replaces it.
    pub key: Option<&'a [u8]>,
    /// What it says; `None` is a tombstone in compacted topics.
    pub value: Option<&'a [u8]>,
    /// Names and values beside it, in order; names may repeat.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Who produces a batch, for idempotence (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch, not negative.
    pub epoch: i16,
    /// The sequence number of the batch's first record in its partition, not negative.
    pub sequence: i32,
}

/// Encodes records into one batch, straight into its final buffer when they are not compressed.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    /// Room for the header, then the records.
    buffer: Vec<u8>,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self::with_capacity(compression, HEADER_BYTES)
    }

    /// An empty batch with room for `bytes`, header included.
    #[must_use]
    pub fn with_capacity(compression: Compression, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes.max(HEADER_BYTES));
        buffer.resize(HEADER_BYTES, 0);
        Self { compression, buffer, record_count: 0, base_timestamp: 0, max_timestamp: 0 }
    }

    /// Adds a record. After an error the batch is as it was.
    ///
    /// # Errors
    /// [`BatchError::Field`] when the batch would outgrow what its format can express.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(), BatchError> {
        let base = if self.record_count == 0 { record.timestamp_ms } else { self.base_timestamp };
        let Some(timestamp_delta) = record.timestamp_ms.checked_sub(base) else {
            return Err(BatchError::Field {
                field: "timestamp",
                value: record.timestamp_ms,
                reason: "too far from the batch's first record",
            });
        };
        let offset_delta = i64::from(self.record_count);
        let body_bytes = body_bytes(record, timestamp_delta, offset_delta);
        let total = self.buffer.len() - LENGTH_PREFIX_BYTES + body_bytes + varint::VARLONG_BYTES_MAX;
        // Keeps the length field, every length inside and the record count in 31 bits.
        if i32::try_from(total).is_err() {
            return Err(BatchError::Field {
                field: "batch_length",
                value: i64::try_from(total).unwrap_or(i64::MAX),
                reason: "a batch has less than 2 GiB",
            });
        }
        let out = &mut self.buffer;
        out.reserve(body_bytes + varint::VARLONG_BYTES_MAX);
        write_len(out, body_bytes);
        out.push(0);
        varint::write(out, timestamp_delta);
        varint::write(out, offset_delta);
        write_bytes(out, record.key);
        write_bytes(out, record.value);
        write_len(out, record.headers.len());
        for (name, value) in record.headers {
            write_bytes(out, Some(name.as_bytes()));
            write_bytes(out, *value);
        }
        self.max_timestamp =
            if self.record_count == 0 { record.timestamp_ms } else { self.max_timestamp.max(record.timestamp_ms) };
        self.base_timestamp = base;
        self.record_count += 1;
        Ok(())
    }

    /// How many records were added.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.record_count).unwrap_or(0)
    }

    /// Whether no record was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch as it stands, header included, before compression.
    #[must_use]
    pub const fn encoded_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Compresses if asked to, writes the header and its checksum.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without records, [`BatchError::Compression`], or [`BatchError::Field`]
    /// for an impossible identity.
    pub fn finish(self, producer: Option<ProducerIdentity>) -> Result<ValidBatch, BatchError> {
        if self.record_count == 0 {
            return Err(BatchError::Empty);
        }
        let mut bytes = match self.compression {
            Compression::None => self.buffer,
            codec => {
                let mut bytes = Vec::with_capacity(HEADER_BYTES + self.buffer.len() / 2);
                bytes.resize(HEADER_BYTES, 0);
                codec.compress_into(&self.buffer[HEADER_BYTES..], &mut bytes)?;
                bytes
            }
        };
        let length = bytes.len() - LENGTH_PREFIX_BYTES;
        let Ok(batch_length) = i32::try_from(length) else {
            return Err(BatchError::Field {
                field: "batch_length",
                value: i64::try_from(length).unwrap_or(i64::MAX),
                reason: "a batch has less than 2 GiB",
            });
        };
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length,
            partition_leader_epoch: -1,
            crc: 0,
            attributes: Attributes::with_compression(self.compression),
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: producer.map_or(-1, |producer| producer.id.0),
            producer_epoch: producer.map_or(-1, |producer| producer.epoch),
            base_sequence: producer.map_or(-1, |producer| producer.sequence),
            record_count: self.record_count,
        };
        header.check_produced()?;
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        header.crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
        Ok(ValidBatch { header, bytes: Bytes::from(bytes) })
    }
}

/// Bytes of a record after its length field.
fn body_bytes(record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: i64) -> usize {
    let headers = record.headers.iter().map(|(name, value)| sized(Some(name.as_bytes())) + sized(*value));
    1 + varint::size(timestamp_delta)
        + varint::size(offset_delta)
        + sized(record.key)
        + sized(record.value)
        + varint::size(to_i64(record.headers.len()))
        + headers.sum::<usize>()
}

fn sized(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varint::size(-1), |bytes| varint::size(to_i64(bytes.len())) + bytes.len())
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::write(out, -1),
        Some(bytes) => {
            write_len(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

fn write_len(out: &mut Vec<u8>, length: usize) {
    varint::write(out, to_i64(length));
}

/// No slice is longer than `isize::MAX`, so this never saturates.
fn to_i64(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
