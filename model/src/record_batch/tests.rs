//! The batch format: against another implementation's bytes, as a round trip, and against damage.

mod damage;
mod golden;

use proptest::prelude::*;

use super::*;
use crate::{ProducerId, compression::Compression};

/// A record that owns its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Owned {
    fn value(timestamp_ms: i64, value: &[u8]) -> Self {
        Self { timestamp_ms, key: None, value: Some(value.to_vec()), headers: Vec::new() }
    }
}

fn build(codec: Compression, records: &[Owned], producer: Option<ProducerIdentity>) -> Result<ValidBatch, BatchError> {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        builder.push(&NewRecord {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        })?;
    }
    assert_eq!(builder.len(), records.len());
    assert_eq!(builder.is_empty(), records.is_empty());
    builder.finish(producer)
}

fn read(batch: &Batch<'_>) -> Result<Vec<(u64, Owned)>, BatchError> {
    let decoded = batch.decode(1 << 20)?;
    let mut records = Vec::new();
    for record in decoded.records() {
        let record = record?;
        let mut headers = Vec::new();
        for header in record.headers() {
            let (name, value) = header?;
            headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        }
        let owned = Owned {
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers,
        };
        records.push((record.offset.get(), owned));
    }
    Ok(records)
}

/// Makes length and checksum right again.
fn reseal(bytes: &mut [u8]) {
    let length = i32::try_from(bytes.len() - LENGTH_PREFIX_BYTES).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn bytes_max(length: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..length))
}

prop_compose! {
    fn any_record()(
        timestamp_ms in -1_i64..4_000_000_000_000,
        key in bytes_max(20),
        value in bytes_max(300),
        headers in proptest::collection::vec(("\\PC{0,9}", bytes_max(9)), 0..4),
    ) -> Owned {
        Owned { timestamp_ms, key, value, headers }
    }
}

fn any_codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(Compression::ALL.to_vec())
}

#[test]
fn an_empty_batch_is_refused() {
    assert!(matches!(build(Compression::None, &[], None), Err(BatchError::Empty)));
    assert!(matches!(ValidBatch::split(&Bytes::new()), Err(BatchError::Empty)));
}

#[test]
fn timestamps_may_lie_years_apart_but_not_beyond_64_bits() {
    let years = 100 * 365 * 24 * 3600 * 1000;
    let records = [Owned::value(0, b"a"), Owned::value(years, b"b"), Owned::value(-years, b"c")];
    let batch = build(Compression::None, &records, None).unwrap();
    assert_eq!((batch.header().base_timestamp, batch.header().max_timestamp), (0, years));
    let read: Vec<_> = read(&batch.as_batch()).unwrap().into_iter().map(|(_, record)| record).collect();
    assert_eq!(read, records);

    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord { timestamp_ms: -2, ..NewRecord::default() }).unwrap();
    let too_far = builder.push(&NewRecord { timestamp_ms: i64::MAX, ..NewRecord::default() });
    assert!(matches!(too_far, Err(BatchError::Field { field: "timestamp", .. })));
    assert_eq!(builder.len(), 1, "a refused record leaves no trace");
    assert!(builder.finish(None).unwrap().check_records(0, false).is_ok());
}

#[test]
fn an_impossible_identity_is_refused() {
    for (epoch, sequence) in [(-1, 0), (0, -1)] {
        let identity = ProducerIdentity { id: ProducerId(1), epoch, sequence };
        let refused = build(Compression::None, &[Owned::value(0, b"a")], Some(identity));
        assert!(matches!(refused, Err(BatchError::Field { field: "base_sequence", .. })), "{identity:?}");
    }
}

#[test]
fn log_append_time_gives_every_record_the_largest_timestamp() {
    let batch = build(Compression::None, &[Owned::value(5, b"a"), Owned::value(9, b"b")], None).unwrap();
    let mut bytes = batch.bytes().to_vec();
    bytes[22] |= 0b1000;
    reseal(&mut bytes);
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(batch.header().attributes.timestamp_type(), TimestampType::LogAppendTime);
    let times: Vec<_> = read(&batch).unwrap().iter().map(|(_, record)| record.timestamp_ms).collect();
    assert_eq!(times, [9, 9]);
    let produced = ValidBatch::new(Bytes::from(bytes));
    assert!(matches!(produced, Err(BatchError::Field { field: "attributes", .. })), "only brokers write it");
}

#[test]
fn an_append_gives_all_records_its_time_and_changes_nothing_else() {
    for codec in [Compression::None, Compression::Lz4] {
        let records = [Owned::value(5, b"a"), Owned::value(9, b"b")];
        let batch = build(codec, &records, None).unwrap();
        let appended = batch.appended_at(77);
        let parsed = Batch::parse(appended.bytes()).unwrap();
        assert_eq!(parsed.header(), appended.header());
        let header = *parsed.header();
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.attributes.compression(), Some(codec));
        let read = |batch: &Batch<'_>| read(batch).unwrap();
        let (before, after) = (read(&batch.as_batch()), read(&parsed));
        assert_eq!(after.iter().map(|(_, record)| record.timestamp_ms).collect::<Vec<_>>(), [77, 77]);
        assert!(before.iter().zip(&after).all(|(before, after)| before.1.value == after.1.value));
    }
}

#[test]
fn assignment_moves_the_offsets_and_keeps_the_checksum() {
    let batch = build(Compression::Zstd, &[Owned::value(1, b"a"), Owned::value(2, b"b")], None).unwrap();
    let mut bytes = batch.bytes().to_vec();
    assign(&mut bytes, Offset::new(1_000_000_000_007), LeaderEpoch::new(12));
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(batch.header().leader_epoch(), Some(LeaderEpoch::new(12)));
    assert_eq!(batch.header().next_offset(), Some(Offset::new(1_000_000_000_009)));
    let offsets: Vec<_> = read(&batch).unwrap().into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [1_000_000_000_007, 1_000_000_000_008]);
}

#[test]
fn records_that_compaction_left_keep_their_offsets() {
    // Offsets 0 and 2 of three, as a cleaner writes it: the last offset stays, the count shrinks.
    let batch =
        build(Compression::None, &[Owned::value(1, b"aa"), Owned::value(1, b"bb"), Owned::value(1, b"cc")], None);
    let mut bytes = batch.unwrap().bytes().to_vec();
    let record_bytes = (bytes.len() - HEADER_BYTES) / 3;
    bytes.drain(HEADER_BYTES + record_bytes..HEADER_BYTES + 2 * record_bytes);
    bytes[57..61].copy_from_slice(&2_i32.to_be_bytes());
    reseal(&mut bytes);
    let batch = Batch::parse(&bytes).unwrap();
    let offsets: Vec<_> = read(&batch).unwrap().into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [0, 2]);

    // And none at all.
    bytes.truncate(HEADER_BYTES);
    bytes[57..61].copy_from_slice(&0_i32.to_be_bytes());
    reseal(&mut bytes);
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(batch.header().offsets_spanned(), 3);
    assert!(read(&batch).unwrap().is_empty());
}

proptest! {
    #[test]
    fn what_is_built_is_what_is_read(
        codec in any_codec(),
        records in proptest::collection::vec(any_record(), 1..20),
        producer in proptest::option::of((0..i64::MAX, 0..i16::MAX, 0..i32::MAX)),
    ) {
        let producer = producer.map(|(id, epoch, sequence)| ProducerIdentity { id: ProducerId(id), epoch, sequence });
        let batch = build(codec, &records, producer).unwrap();
        let again = ValidBatch::new(batch.bytes().clone()).unwrap();
        prop_assert_eq!(again.header(), batch.header());
        let header = batch.header();
        prop_assert_eq!(header.base_timestamp, records[0].timestamp_ms);
        prop_assert_eq!(Some(header.max_timestamp), records.iter().map(|record| record.timestamp_ms).max());
        prop_assert_eq!(header.attributes.compression(), Some(codec));
        prop_assert_eq!(header.is_idempotent(), producer.is_some());
        prop_assert!(batch.check_records(1 << 20, false).is_ok());
        let keyless = records.iter().any(|record| record.key.is_none());
        prop_assert_eq!(batch.check_records(1 << 20, true).is_err(), keyless);
        let expected: Vec<_> = (0..).zip(records).collect();
        prop_assert_eq!(read(&batch.as_batch()).unwrap(), expected);
    }

    #[test]
    fn the_size_is_known_before_the_end(records in proptest::collection::vec(any_record(), 1..20)) {
        let mut builder = BatchBuilder::with_capacity(Compression::None, 1 << 16);
        for record in &records {
            let record =
                NewRecord { timestamp_ms: record.timestamp_ms, value: record.value.as_deref(), ..NewRecord::default() };
            builder.push(&record).unwrap();
        }
        let announced = builder.encoded_bytes();
        prop_assert_eq!(builder.finish(None).unwrap().bytes().len(), announced);
    }

    #[test]
    fn a_body_is_split_into_its_batches_without_a_copy(
        parts in proptest::collection::vec((any_codec(), proptest::collection::vec(any_record(), 1..4)), 1..6),
    ) {
        let batches: Vec<_> = parts.iter().map(|(codec, records)| build(*codec, records, None).unwrap()).collect();
        let body: Vec<u8> = batches.iter().flat_map(|batch| batch.bytes().to_vec()).collect();
        let body = Bytes::from(body);
        let split = ValidBatch::split(&body).unwrap();
        prop_assert_eq!(split.len(), batches.len());
        let mut at = 0;
        for ((split, batch), walked) in split.iter().zip(&batches).zip(BatchIter::new(&body)) {
            prop_assert_eq!(split.bytes(), batch.bytes());
            prop_assert_eq!(walked.unwrap().bytes(), &batch.bytes()[..]);
            prop_assert_eq!(split.bytes().as_ptr(), body[at..].as_ptr());
            at += split.bytes().len();
        }
        prop_assert!(ValidBatch::split(&body.slice(..body.len() - 1)).is_err(), "all or nothing");
    }
}
