//! Kafka's record batch, version 2: the unit of append, checksum, storage and replication.
//!
//! A batch is a header of 61 bytes and its records, the records compressed as a whole or not at
//! all; all integers are big-endian. The CRC-32C covers everything from the attributes on, so base
//! offset and leader epoch are set by the broker without touching it. The format is described in
//! Kafka's documentation ("Record Batch") and in KIP-98.
//!
//! | bytes | field | bytes | field |
//! |---|---|---|---|
//! | 0..8 | base offset | 27..35 | base timestamp (ms) |
//! | 8..12 | length of what follows | 35..43 | max timestamp (ms) |
//! | 12..16 | partition leader epoch | 43..51 | producer id |
//! | 16 | magic = 2 | 51..53 | producer epoch |
//! | 17..21 | CRC-32C of 21.. | 53..57 | base sequence |
//! | 21..23 | attributes | 57..61 | record count |
//! | 23..27 | last offset delta | 61.. | records |
//!
//! [`BatchHeader`] reads the header of anything, [`Batch`] is a borrowed batch whose length and
//! checksum hold, [`ValidBatch`] is an owned one that also obeys the rules for what producers may
//! send. Only a [`ValidBatch`] can be appended by a leader, and only validation makes one.

mod builder;
mod header;
mod records;
mod retain;
mod varint;

pub use builder::{BatchBuilder, NewRecord, ProducerIdentity};
pub use header::{Attributes, BatchHeader, TimestampType};
pub use records::{DecodedBatch, HeaderIter, RecordIter, RecordView};
pub use retain::Retained;

use bytes::Bytes;

use crate::{LeaderEpoch, Offset, compression::CompressionError};

/// The size of a batch header.
pub const HEADER_BYTES: usize = 61;
/// The bytes before the length field's count begins: base offset and the length itself.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the bytes under the checksum begin.
pub(crate) const CRC_FROM: usize = 21;
/// The only format version that is stored.
pub const MAGIC: u8 = 2;

/// What is wrong with bytes that should be a record batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch needs {needed} bytes, {available} are there")]
    Truncated {
        /// Bytes the batch says it has, or the size of a header.
        needed: u64,
        /// Bytes that are there.
        available: u64,
    },
    /// The length field is negative or smaller than a header.
    #[error("the batch length {0} is not possible")]
    Length(i32),
    /// Not version 2.
    #[error("record format version {0} is not supported, only version 2 is")]
    Magic(u8),
    /// The checksum does not match.
    #[error("the checksum is {computed:#010x}, the batch says {stored:#010x}")]
    Checksum {
        /// The checksum the header holds.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A header field that no correct producer writes.
    #[error("{field} = {value}: {reason}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: i64,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The records cannot be read as the header describes them.
    #[error("record {index} of the batch is malformed: {reason}")]
    Record {
        /// Position of the record in its batch, from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// The records cannot be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// There is no batch at all.
    #[error("there is no record batch")]
    Empty,
}

/// A borrowed batch whose structure and checksum hold. It may come from a producer or from disk.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the batch that `bytes` begin with, and checks its checksum. What follows it is ignored.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] when the bytes end first; the other structural errors when this is no batch.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let batch = Self::parse_unchecked(bytes)?;
        let computed = crc32c::crc32c(&batch.bytes[CRC_FROM..]);
        if computed != batch.header.crc {
            return Err(BatchError::Checksum { stored: batch.header.crc, computed });
        }
        Ok(batch)
    }

    /// Like [`Batch::parse`] but trusts the checksum: for bytes that were checked when they were
    /// appended or recovered.
    ///
    /// # Errors
    /// The structural errors only.
    pub fn parse_unchecked(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let total = header.total_bytes();
        let Some(bytes) = bytes.get(..total) else {
            return Err(BatchError::Truncated { needed: total as u64, available: bytes.len() as u64 });
        };
        Ok(Self { header, bytes })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, header included.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, decompressed if need be into at most `output_bytes_max` bytes. Records that
    /// are not compressed are borrowed, not copied.
    ///
    /// # Errors
    /// [`BatchError::Compression`] for bytes that do not decompress or exceed the limit. Single
    /// records are checked as they are read.
    pub fn decode(&self, output_bytes_max: usize) -> Result<DecodedBatch<'a>, BatchError> {
        DecodedBatch::new(self, output_bytes_max)
    }
}

/// Walks over batches that lie back to back. Ends after the first error.
#[derive(Clone, Debug)]
pub struct BatchIter<'a> {
    rest: &'a [u8],
    check: bool,
}

impl<'a> BatchIter<'a> {
    /// Walks over `bytes`, checking every checksum.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, check: true }
    }

    /// Walks over `bytes` that were checked before.
    #[must_use]
    pub const fn unchecked(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, check: false }
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = if self.check { Batch::parse(self.rest) } else { Batch::parse_unchecked(self.rest) };
        self.rest = match &batch {
            Ok(batch) => &self.rest[batch.bytes.len()..],
            Err(_) => &[],
        };
        Some(batch)
    }
}

/// An owned batch that may be appended, from a producer or from another replica: complete, checksum
/// right, header within the rules. Its records are not looked at (that is
/// [`ValidBatch::check_records`]).
#[derive(Clone, Debug)]
pub struct ValidBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl ValidBatch {
    /// Validates the one batch that `bytes` hold; bytes after it are an error.
    ///
    /// # Errors
    /// Everything [`Batch::parse`] says, and [`BatchError::Field`] for a header that no correct
    /// producer sends.
    pub fn new(bytes: Bytes) -> Result<Self, BatchError> {
        let header = *Batch::parse(&bytes)?.header();
        header.check_produced()?;
        if header.total_bytes() != bytes.len() {
            return Err(BatchError::Field {
                field: "batch_length",
                value: i64::from(header.batch_length),
                reason: "bytes follow the batch",
            });
        }
        Ok(Self { header, bytes })
    }

    /// Splits a body of one or more batches, sharing its memory, and validates each.
    ///
    /// # Errors
    /// [`BatchError::Empty`] for an empty body, else the first error: nothing is accepted then.
    pub fn split(body: &Bytes) -> Result<Vec<Self>, BatchError> {
        let mut batches = Vec::new();
        let mut at = 0;
        while at < body.len() {
            let header = *Batch::parse(&body[at..])?.header();
            header.check_produced()?;
            let end = at + header.total_bytes();
            batches.push(Self { header, bytes: body.slice(at..end) });
            at = end;
        }
        if batches.is_empty() { Err(BatchError::Empty) } else { Ok(batches) }
    }

    /// Splits a run of batches from another replica's log, sharing its memory. Checksums and structure are checked;
    /// the rules for what a producer may send are not: compaction leaves fewer records than offsets.
    ///
    /// # Errors
    /// The first batch that is none, or whose offsets are impossible: nothing is accepted then.
    pub fn split_stored(run: &Bytes) -> Result<Vec<Self>, BatchError> {
        let mut batches = Vec::new();
        let mut at = 0;
        while at < run.len() {
            let header = *Batch::parse(&run[at..])?.header();
            header.check_stored()?;
            let end = at + header.total_bytes();
            batches.push(Self { header, bytes: run.slice(at..end) });
            at = end;
        }
        Ok(batches)
    }

    /// The same batch with the time of its append as that of all its records (`LogAppendTime`). Its bytes are copied:
    /// the checksum covers what changes.
    #[must_use]
    pub fn appended_at(&self, now_ms: i64) -> Self {
        let mut header = self.header;
        header.attributes = header.attributes.with_log_append_time();
        header.max_timestamp = now_ms;
        let mut bytes = self.bytes.to_vec();
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        header.crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
        Self { header, bytes: Bytes::from(bytes) }
    }

    /// Walks over every record and checks that offsets run 0, 1, 2… and that the header's largest
    /// timestamp is true, so that a lying producer cannot harm consumers. `keys_required` is for
    /// compacted topics.
    ///
    /// # Errors
    /// The first record that breaks a rule.
    pub fn check_records(&self, output_bytes_max: usize, keys_required: bool) -> Result<(), BatchError> {
        records::check(&self.as_batch(), output_bytes_max, keys_required)
    }

    /// The header as the producer sent it: base offset and leader epoch are not yet assigned.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch as the producer sent it.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch, borrowed.
    #[must_use]
    pub fn as_batch(&self) -> Batch<'_> {
        Batch { header: self.header, bytes: &self.bytes }
    }
}

/// Writes the assigned base offset and leader epoch into a batch; both lie outside the checksum.
///
/// # Panics
/// When `batch` is shorter than a header, which no [`ValidBatch`] is.
pub fn assign(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    batch[0..8].copy_from_slice(&base_offset.to_wire().to_be_bytes());
    batch[12..16].copy_from_slice(&epoch.to_wire().to_be_bytes());
}

#[cfg(test)]
mod tests;
