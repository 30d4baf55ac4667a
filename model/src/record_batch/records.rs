//! Reads the records of a batch, borrowing every key, value and header.
//!
//! Nothing is believed: each length and count is held against the bytes that are there, and no
//! memory is reserved by what they say.

use std::borrow::Cow;

use super::{Batch, BatchError, BatchHeader, HEADER_BYTES, TimestampType, varint};
use crate::{Offset, compression::Compression};

/// A batch whose records can be read: borrowed when they were not compressed, else decompressed.
#[derive(Clone, Debug)]
pub struct DecodedBatch<'a> {
    header: BatchHeader,
    payload: Cow<'a, [u8]>,
}

impl<'a> DecodedBatch<'a> {
    pub(super) fn new(batch: &Batch<'a>, output_bytes_max: usize) -> Result<Self, BatchError> {
        let header = *batch.header();
        let refuse = |field, value, reason| Err(BatchError::Field { field, value, reason });
        if header.record_count < 0 {
            return refuse("record_count", i64::from(header.record_count), "must not be negative");
        }
        let Some(compression) = header.attributes.compression() else {
            return refuse("attributes", i64::from(header.attributes.0), "unknown compression codec");
        };
        let stored = &batch.bytes()[HEADER_BYTES..];
        let payload = match compression {
            Compression::None => Cow::Borrowed(stored),
            codec => Cow::Owned(codec.decompress(stored, output_bytes_max)?),
        };
        Ok(Self { header, payload })
    }

    /// The header of the batch.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of the records, decompressed.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    /// The records in order. Ends after the first error.
    #[must_use]
    pub fn records(&self) -> RecordIter<'_> {
        RecordIter { header: &self.header, rest: &self.payload, index: 0, next_delta_min: 0, failed: false }
    }
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Its position in the partition; in a batch that is not yet appended, its position in the batch.
    pub offset: Offset,
    /// Its time in milliseconds since 1970: the batch's largest when the broker wrote the timestamps.
    pub timestamp_ms: i64,
    /// What it is about.
    pub key: Option<&'a [u8]>,
    /// What it says.
    pub value: Option<&'a [u8]>,
    header_count: u32,
    header_bytes: &'a [u8],
    index: u32,
}

impl<'a> RecordView<'a> {
    /// How many headers the record says it has.
    #[must_use]
    pub const fn header_count(&self) -> u32 {
        self.header_count
    }

    /// The headers in order. Ends after the first error.
    #[must_use]
    pub const fn headers(&self) -> HeaderIter<'a> {
        HeaderIter { rest: self.header_bytes, left: self.header_count, index: self.index }
    }
}

/// Walks over the records of a batch.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    header: &'a BatchHeader,
    /// Bytes of the records that are left.
    pub(super) rest: &'a [u8],
    index: u32,
    /// Offsets grow within a batch; compaction may leave gaps.
    next_delta_min: i32,
    failed: bool,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || i64::from(self.index) >= i64::from(self.header.record_count) {
            return None;
        }
        let record = self.read().map_err(|reason| {
            self.failed = true;
            BatchError::Record { index: self.index, reason }
        });
        self.index += 1;
        Some(record)
    }
}

impl<'a> RecordIter<'a> {
    fn read(&mut self) -> Result<RecordView<'a>, &'static str> {
        let length = varint::read_int(&mut self.rest).ok_or("its length is cut off or too large")?;
        let mut body = take(&mut self.rest, length, "it is longer than its batch")?;
        // The attributes of a record have no meaning yet; Kafka ignores them, too.
        body = body.split_first().ok_or("it is empty")?.1;
        let timestamp_delta = varint::read_long(&mut body).ok_or("its timestamp is cut off or too large")?;
        let offset_delta = varint::read_int(&mut body).ok_or("its offset is cut off or too large")?;
        if offset_delta < self.next_delta_min || offset_delta > self.header.last_offset_delta {
            return Err("its offset is not between the one before and the batch's last");
        }
        let offset = self.header.base_offset.checked_add(i64::from(offset_delta)).and_then(Offset::from_wire);
        let timestamp_ms = match self.header.attributes.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.checked_add(timestamp_delta),
            TimestampType::LogAppendTime => Some(self.header.max_timestamp),
        };
        let key = read_bytes(&mut body, "its key is longer than the record")?;
        let value = read_bytes(&mut body, "its value is longer than the record")?;
        let header_count = varint::read_int(&mut body).ok_or("its header count is cut off or too large")?;
        let header_count = u32::try_from(header_count).map_err(|_| "its header count is negative")?;
        // A header takes two bytes at least.
        if u64::from(header_count) * 2 > body.len() as u64 {
            return Err("it has fewer bytes than its headers need");
        }
        if header_count == 0 && !body.is_empty() {
            return Err("bytes follow its end");
        }
        self.next_delta_min = offset_delta.saturating_add(1);
        Ok(RecordView {
            offset: offset.ok_or("its offset is impossible")?,
            timestamp_ms: timestamp_ms.ok_or("its timestamp is impossible")?,
            key,
            value,
            header_count,
            header_bytes: body,
            index: self.index,
        })
    }
}

/// Walks over the headers of a record.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    rest: &'a [u8],
    left: u32,
    index: u32,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Result<(&'a str, Option<&'a [u8]>), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let header = self.read().map_err(|reason| {
            self.left = 0;
            BatchError::Record { index: self.index, reason }
        });
        Some(header)
    }
}

impl<'a> HeaderIter<'a> {
    fn read(&mut self) -> Result<(&'a str, Option<&'a [u8]>), &'static str> {
        let name = read_bytes(&mut self.rest, "a header's name is longer than the record")?;
        let name =
            std::str::from_utf8(name.ok_or("a header has no name")?).map_err(|_| "a header's name is no UTF-8")?;
        let value = read_bytes(&mut self.rest, "a header's value is longer than the record")?;
        if self.left == 0 && !self.rest.is_empty() {
            return Err("bytes follow its end");
        }
        Ok((name, value))
    }
}

fn take<'a>(input: &mut &'a [u8], length: i32, reason: &'static str) -> Result<&'a [u8], &'static str> {
    let length = usize::try_from(length).map_err(|_| "a length is negative")?;
    let (taken, rest) = input.split_at_checked(length).ok_or(reason)?;
    *input = rest;
    Ok(taken)
}

fn read_bytes<'a>(input: &mut &'a [u8], reason: &'static str) -> Result<Option<&'a [u8]>, &'static str> {
    match varint::read_int(input).ok_or("a length is cut off or too large")? {
        -1 => Ok(None),
        length => take(input, length, reason).map(Some),
    }
}

/// The deep check of a produced batch; see [`super::ValidBatch::check_records`].
pub(super) fn check(batch: &Batch<'_>, output_bytes_max: usize, keys_required: bool) -> Result<(), BatchError> {
    let decoded = batch.decode(output_bytes_max)?;
    let header = decoded.header();
    let mut records = decoded.records();
    let mut seen = 0_i32;
    let mut max_timestamp = i64::MIN;
    while let Some(record) = records.next() {
        let record = record?;
        let refuse = |reason| Err(BatchError::Record { index: record.index, reason });
        // Deltas grow from 0 and may not skip, so the next smallest possible one counts them.
        seen += 1;
        if records.next_delta_min != seen {
            return refuse("its offset is not the next one");
        }
        if keys_required && record.key.is_none() {
            return refuse("a compacted topic needs a key");
        }
        for header in record.headers() {
            header?;
        }
        max_timestamp = max_timestamp.max(record.timestamp_ms);
    }
    if !records.rest.is_empty() {
        return Err(BatchError::Field {
            field: "record_count",
            value: i64::from(header.record_count),
            reason: "bytes follow the last record",
        });
    }
    if seen > 0 && max_timestamp != header.max_timestamp {
        return Err(BatchError::Field {
            field: "max_timestamp",
            value: header.max_timestamp,
            reason: "must be the largest timestamp of the records",
        });
    }
    Ok(())
}
