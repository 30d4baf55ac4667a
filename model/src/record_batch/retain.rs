//! Removing records from a batch, as compaction does.

use super::{Batch, BatchError, CRC_FROM, HEADER_BYTES, LENGTH_PREFIX_BYTES, RecordView, TimestampType};
use crate::compression::Compression;

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// Every record: the batch stays as it is.
    Whole,
    /// Some records, or none: a batch that takes the same offsets and carries the same producer
    /// and epoch, with the others removed.
    Rest(Vec<u8>),
}

/// No timestamp, as Kafka writes it.
const NO_TIMESTAMP: i64 = -1;

impl Batch<'_> {
    /// Keeps the records that `keep` wants. Base offset, last offset, leader epoch, producer and
    /// codec stay; count, largest timestamp, length and checksum follow what is left. A batch
    /// without records is a bare header.
    ///
    /// # Errors
    /// What [`Batch::decode`] and its records say, or that compressing failed.
    pub fn retain(
        &self,
        output_bytes_max: usize,
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
    ) -> Result<Retained, BatchError> {
        let decoded = self.decode(output_bytes_max)?;
        let mut header = *self.header();
        let (mut kept, mut count, mut removed) = (Vec::new(), 0_i32, false);
        let mut max_timestamp = NO_TIMESTAMP;
        let mut records = decoded.records();
        loop {
            let before = records.rest;
            let Some(record) = records.next() else { break };
            let record = record?;
            if keep(&record) {
                kept.extend_from_slice(&before[..before.len() - records.rest.len()]);
                count += 1;
                max_timestamp = max_timestamp.max(record.timestamp_ms);
            } else {
                removed = true;
            }
        }
        if !removed {
            return Ok(Retained::Whole);
        }
        let mut bytes = vec![0; HEADER_BYTES];
        let codec = if count == 0 { Some(Compression::None) } else { header.attributes.compression() };
        match codec {
            None | Some(Compression::None) => bytes.extend_from_slice(&kept),
            Some(codec) => codec.compress_into(&kept, &mut bytes)?,
        }
        let length = bytes.len() - LENGTH_PREFIX_BYTES;
        header.batch_length = i32::try_from(length).map_err(|_| BatchError::Field {
            field: "batch_length",
            value: i64::try_from(length).unwrap_or(i64::MAX),
            reason: "a batch has less than 2 GiB",
        })?;
        header.record_count = count;
        // Under log-append time the largest timestamp is that of every record, so it stays.
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            header.max_timestamp = max_timestamp;
        }
        if count == 0 {
            header.attributes.0 &= !0b111;
        }
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(Retained::Rest(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        LeaderEpoch, Offset, ProducerId,
        record_batch::{BatchBuilder, NewRecord, ProducerIdentity, assign},
    };

    fn batch(codec: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for at in 0..10_i64 {
            let key = [b'k', u8::try_from(at).unwrap()];
            let headers: &[(&str, Option<&[u8]>)] = &[("h", Some(b"v"))];
            let record = NewRecord { timestamp_ms: 1000 + at, key: Some(&key), value: Some(b"value"), headers };
            builder.push(&record).unwrap();
        }
        let producer = ProducerIdentity { id: ProducerId(7), epoch: 1, sequence: 40 };
        let mut bytes = builder.finish(Some(producer)).unwrap().bytes().to_vec();
        assign(&mut bytes, Offset::new(100), LeaderEpoch::new(3));
        bytes
    }

    #[test]
    fn what_is_kept_keeps_its_place_and_what_the_header_says_is_true() {
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let bytes = batch(codec);
            let original = Batch::parse(&bytes).unwrap();
            let keep = |record: &RecordView<'_>| record.offset.get().is_multiple_of(3);
            let Retained::Rest(rest) = original.retain(1 << 20, keep).unwrap() else { panic!("records were removed") };
            let rest = Batch::parse(&rest).unwrap();
            let offsets: Vec<u64> =
                rest.decode(1 << 20).unwrap().records().map(|record| record.unwrap().offset.get()).collect();
            assert_eq!(offsets, [102, 105, 108]);
            let (before, after) = (original.header(), rest.header());
            assert_eq!((after.base_offset, after.last_offset_delta), (100, 9));
            assert_eq!((after.record_count, after.max_timestamp), (3, 1008));
            assert_eq!(after.attributes, before.attributes);
            assert_eq!((after.producer_id, after.base_sequence, after.partition_leader_epoch), (7, 40, 3));
        }
    }

    #[test]
    fn nothing_removed_and_everything_removed() {
        let bytes = batch(Compression::Zstd);
        let original = Batch::parse(&bytes).unwrap();
        assert_eq!(original.retain(1 << 20, |_| true).unwrap(), Retained::Whole);
        let Retained::Rest(rest) = original.retain(1 << 20, |_| false).unwrap() else { panic!("records were removed") };
        let rest = Batch::parse(&rest).unwrap();
        assert_eq!(rest.bytes().len(), HEADER_BYTES);
        assert_eq!((rest.header().record_count, rest.header().max_timestamp), (0, -1));
        assert_eq!(rest.header().next_offset(), Some(Offset::new(110)));
        assert_eq!(rest.decode(1 << 20).unwrap().records().count(), 0);
        assert_eq!(rest.retain(1 << 20, |_| false).unwrap(), Retained::Whole);
    }
}
