//! The 61-byte header.

use serde::{Deserialize, Serialize};

use super::{BatchError, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC};
use crate::{LeaderEpoch, Offset, compression::Compression};

/// Who wrote a batch's timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestampType {
    /// The producer, per record.
    #[default]
    CreateTime,
    /// The broker, one for the batch.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub u16);

impl Attributes {
    const CODEC: u16 = 0b111;
    const LOG_APPEND_TIME: u16 = 1 << 3;
    const TRANSACTIONAL: u16 = 1 << 4;
    const CONTROL: u16 = 1 << 5;

    /// The codec of the records; `None` for a number that no codec has.
    #[must_use]
    pub fn compression(self) -> Option<Compression> {
        Compression::from_wire(self.0 & Self::CODEC)
    }

    /// Attributes with this codec and nothing else.
    #[must_use]
    pub const fn with_compression(compression: Compression) -> Self {
        Self(compression.to_wire())
    }

    /// Who wrote the timestamps.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// The same, of a batch whose timestamps the broker wrote.
    #[must_use]
    pub const fn with_log_append_time(self) -> Self {
        Self(self.0 | Self::LOG_APPEND_TIME)
    }

    /// Part of a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Written by a broker, not for consumers.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }
}

/// The fields of a batch header, as they are on disk and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; 0 in what producers send.
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub partition_leader_epoch: i32,
    /// CRC-32C of the bytes from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record, relative to the base offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas count from, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// Largest timestamp in the batch, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// Id of an idempotent producer, or -1.
    pub producer_id: i64,
    /// Epoch of that producer, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads a header. Length and magic are checked; everything else is taken as it is.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::Length`] or [`BatchError::Magic`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { needed: HEADER_BYTES as u64, available: bytes.len() as u64 });
        };
        let batch_length = i32::from_be_bytes(array(bytes, 8));
        if usize::try_from(batch_length).map_or(true, |length| length < HEADER_BYTES - LENGTH_PREFIX_BYTES) {
            return Err(BatchError::Length(batch_length));
        }
        if bytes[16] != MAGIC {
            return Err(BatchError::Magic(bytes[16]));
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length,
            partition_leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: Attributes(u16::from_be_bytes(array(bytes, 21))),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        })
    }

    /// Writes the header, checksum field included as it stands.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[16] = MAGIC;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        // `parse` refuses negative lengths; a hand-made header with one counts as a bare header.
        usize::try_from(self.batch_length).map_or(HEADER_BYTES, |length| length + LENGTH_PREFIX_BYTES)
    }

    /// Offset of the first record; `None` when it is negative.
    #[must_use]
    pub fn first_offset(&self) -> Option<Offset> {
        Offset::from_wire(self.base_offset)
    }

    /// Offset of the last record; `None` when it is impossible.
    #[must_use]
    pub fn last_offset(&self) -> Option<Offset> {
        self.base_offset.checked_add(i64::from(self.last_offset_delta)).and_then(Offset::from_wire)
    }

    /// The offset after the last record; `None` when it is impossible.
    #[must_use]
    pub fn next_offset(&self) -> Option<Offset> {
        self.last_offset().map(|last| last.plus(1))
    }

    /// How many offsets the batch takes; 0 when the header is impossible.
    #[must_use]
    pub fn offsets_spanned(&self) -> u64 {
        u64::try_from(i64::from(self.last_offset_delta) + 1).unwrap_or(0)
    }

    /// The leader epoch; `None` when it is negative.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        LeaderEpoch::from_wire(self.partition_leader_epoch)
    }

    /// Whether an idempotent producer wrote the batch.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// The rules for what a producer may send: Kafka's checks on client batches, plus the one
    /// that an uncompressed batch cannot hold more records than bytes.
    ///
    /// # Errors
    /// [`BatchError::Field`] naming the field.
    pub fn check_produced(&self) -> Result<(), BatchError> {
        let refuse = |field, value, reason| Err(BatchError::Field { field, value, reason });
        if self.record_count <= 0 {
            return refuse("record_count", i64::from(self.record_count), "must be at least 1");
        }
        if i64::from(self.last_offset_delta) + 1 != i64::from(self.record_count) {
            return refuse("last_offset_delta", i64::from(self.last_offset_delta), "must be the record count less one");
        }
        if self.attributes.is_control() {
            return refuse("attributes", i64::from(self.attributes.0), "control batches are written by brokers only");
        }
        if self.attributes.is_transactional() {
            return refuse("attributes", i64::from(self.attributes.0), "transactions are not supported");
        }
        if self.attributes.timestamp_type() == TimestampType::LogAppendTime {
            return refuse("attributes", i64::from(self.attributes.0), "only brokers write log append time");
        }
        let Some(compression) = self.attributes.compression() else {
            return refuse("attributes", i64::from(self.attributes.0), "unknown compression codec");
        };
        let payload = self.total_bytes() - HEADER_BYTES;
        if compression == Compression::None && i64::from(self.record_count) > payload as i64 {
            return refuse("record_count", i64::from(self.record_count), "more records than bytes");
        }
        if self.producer_id >= 0 && (self.base_sequence < 0 || self.producer_epoch < 0) {
            return refuse(
                "base_sequence",
                i64::from(self.base_sequence),
                "an idempotent batch needs sequence and epoch",
            );
        }
        Ok(())
    }

    /// What holds for every batch of a log, a compacted one included.
    ///
    /// # Errors
    /// [`BatchError::Field`] naming the field.
    pub fn check_stored(&self) -> Result<(), BatchError> {
        let refuse = |field, value, reason| Err(BatchError::Field { field, value, reason });
        if self.first_offset().is_none() {
            return refuse("base_offset", self.base_offset, "must not be negative");
        }
        if self.leader_epoch().is_none() {
            return refuse("partition_leader_epoch", i64::from(self.partition_leader_epoch), "must not be negative");
        }
        if self.last_offset_delta < 0 || self.last_offset().is_none() {
            return refuse("last_offset_delta", i64::from(self.last_offset_delta), "leads to no offset");
        }
        if u64::try_from(self.record_count).map_or(true, |records| records > self.offsets_spanned()) {
            return refuse("record_count", i64::from(self.record_count), "must not exceed the offsets of the batch");
        }
        Ok(())
    }
}
