//! Damaged, lying and hostile bytes: noticed, never believed, never a panic.

use super::*;

fn small(codec: Compression) -> ValidBatch {
    let records = [
        Owned { timestamp_ms: 1000, key: Some(b"k1".to_vec()), value: Some(b"one".to_vec()), headers: Vec::new() },
        Owned {
            timestamp_ms: 1001,
            key: Some(b"k2".to_vec()),
            value: None,
            headers: vec![("h".to_owned(), Some(b"v".to_vec()))],
        },
    ];
    build(codec, &records, None).unwrap()
}

/// A batch with these bytes as its records, `count` of them if it is to be believed.
fn with_payload(payload: &[u8], count: i32) -> Vec<u8> {
    let mut bytes = small(Compression::None).bytes()[..HEADER_BYTES].to_vec();
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(payload);
    reseal(&mut bytes);
    bytes
}

/// Parses, decodes and walks over everything, with little memory to give.
fn exercise(bytes: &[u8]) {
    for batch in BatchIter::new(bytes).chain(BatchIter::unchecked(bytes)).flatten() {
        drop(read(&batch));
        let decoded = batch.decode(4096);
        assert!(decoded.as_ref().map_or(0, DecodedBatch::payload_bytes) <= bytes.len().max(4096));
    }
    if let Ok(batches) = ValidBatch::split(&Bytes::copy_from_slice(bytes)) {
        for batch in batches {
            batch.check_records(4096, true).ok();
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_lies_in_what_the_broker_overwrites() {
    for codec in Compression::ALL {
        let sound = small(codec);
        for at in 0..sound.bytes().len() {
            for bit in 0..8 {
                let mut bytes = sound.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let overwritten = at < 8 || (12..16).contains(&at);
                match Batch::parse(&bytes) {
                    Err(_) => assert!(!overwritten, "byte {at} is outside the checksum"),
                    Ok(batch) => {
                        assert!(overwritten, "{codec}: byte {at}, bit {bit} went unnoticed");
                        let header = BatchHeader {
                            base_offset: sound.header().base_offset,
                            partition_leader_epoch: sound.header().partition_leader_epoch,
                            ..*batch.header()
                        };
                        assert_eq!(header, *sound.header());
                    }
                }
                exercise(&bytes);
            }
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    let sound = small(Compression::None);
    for end in 0..sound.bytes().len() {
        assert!(matches!(Batch::parse(&sound.bytes()[..end]), Err(BatchError::Truncated { .. })), "cut at {end}");
    }
}

#[test]
fn zeros_are_no_batch_and_no_record() {
    for length in [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, 4096, 100_000] {
        assert!(Batch::parse(&vec![0; length]).is_err(), "{length}");
        assert!(Batch::parse_unchecked(&vec![0; length]).is_err(), "{length}");
    }
    let batch = ValidBatch::new(Bytes::from(with_payload(&[0; 64], 3))).unwrap();
    assert!(matches!(batch.check_records(0, false), Err(BatchError::Record { index: 0, .. })));
}

#[test]
fn other_format_versions_are_named() {
    let mut bytes = small(Compression::None).bytes().to_vec();
    bytes[16] = 1;
    assert!(matches!(Batch::parse(&bytes), Err(BatchError::Magic(1))));
}

#[test]
fn headers_that_no_correct_producer_writes_are_refused() {
    let cases: [(&str, usize, &[u8]); 6] = [
        ("record_count", 57, &0_i32.to_be_bytes()),
        ("record_count", 57, &i32::MIN.to_be_bytes()),
        ("last_offset_delta", 23, &7_i32.to_be_bytes()),
        ("attributes", 21, &0b10_0000_u16.to_be_bytes()),
        ("attributes", 21, &0b1_0000_u16.to_be_bytes()),
        ("attributes", 21, &5_u16.to_be_bytes()),
    ];
    for (expected, at, value) in cases {
        let mut bytes = small(Compression::None).bytes().to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        reseal(&mut bytes);
        let refused = ValidBatch::new(Bytes::from(bytes)).unwrap_err();
        assert!(matches!(refused, BatchError::Field { field, .. } if field == expected), "{refused}");
    }
    let many = with_payload(&[2, 0], i32::MAX);
    let refused = ValidBatch::new(Bytes::from(many)).unwrap_err();
    assert!(matches!(refused, BatchError::Field { field: "record_count", .. }), "more records than bytes: {refused}");
    let twice = [small(Compression::None).bytes().as_ref(), &[0]].concat();
    assert!(ValidBatch::new(Bytes::from(twice)).is_err(), "bytes follow the batch");
}

/// Checks one hand-written batch and returns what is wrong with it.
fn verdict(payload: &[u8], count: i32) -> String {
    let batch = ValidBatch::new(Bytes::from(with_payload(payload, count))).unwrap();
    batch.check_records(1 << 16, false).unwrap_err().to_string()
}

#[test]
fn lies_about_records_are_found() {
    // length, attributes, timestamp 0, offset, key, value, headers; lengths are zigzag: 1 is -1.
    const SOUND: [u8; 7] = [12, 0, 0, 0, 1, 1, 0];
    const SECOND: [u8; 7] = [12, 0, 0, 2, 1, 1, 0];
    let two = [SOUND, SECOND].concat();
    assert!(verdict(&two, 2).starts_with("max_timestamp = 1001"), "both records are of 1000");
    for (payload, count, reason) in [
        ([SOUND, SOUND].concat(), 2, "its offset is not between"),
        (SECOND.to_vec(), 1, "its offset is not between"),
        ([SECOND, SOUND].concat(), 2, "its offset is not the next one"),
        (two.clone(), 1, "bytes follow the last record"),
        (two, 3, "record 2 of the batch is malformed: its length is cut off"),
        (vec![14, 0, 0, 0, 1, 1, 0, 9], 1, "bytes follow its end"),
        (vec![12, 0, 0, 0, 1, 1, 0x7e], 1, "it has fewer bytes than its headers need"),
        (vec![12, 0, 0, 0, 1, 1, 1], 1, "its header count is negative"),
        (vec![12, 0, 0, 0, 3, 1, 0], 1, "a length is negative"),
        (vec![12, 0, 0, 0, 1, 0x7e, 0], 1, "its value is longer than the record"),
        (vec![0x7e, 0, 0, 0, 1, 1, 0], 1, "it is longer than its batch"),
        (vec![1, 0, 0, 0, 1, 1, 0], 1, "a length is negative"),
        (vec![16, 0, 0, 0, 1, 1, 2, 1, 1], 1, "a header has no name"),
        (vec![18, 0, 0, 0, 1, 1, 2, 2, 0xff, 1], 1, "a header's name is no UTF-8"),
        (vec![20, 0, 0, 0, 1, 1, 2, 2, b'h', 1, 0], 1, "bytes follow its end"),
    ] {
        let found = verdict(&payload, count);
        assert!(found.contains(reason), "{payload:?}: {found:?} instead of {reason:?}");
    }
}

#[test]
fn timestamps_and_offsets_that_overflow_are_errors() {
    let mut bytes = small(Compression::None).bytes().to_vec();
    bytes[27..35].copy_from_slice(&i64::MAX.to_be_bytes());
    reseal(&mut bytes);
    assert!(read(&Batch::parse(&bytes).unwrap()).unwrap_err().to_string().contains("timestamp is impossible"));
    for base_offset in [i64::MAX, -1] {
        let mut bytes = small(Compression::None).bytes().to_vec();
        bytes[0..8].copy_from_slice(&base_offset.to_be_bytes());
        let batch = Batch::parse(&bytes).unwrap();
        assert!(read(&batch).unwrap_err().to_string().contains("offset is impossible"));
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    for codec in Compression::ALL.into_iter().filter(|codec| *codec != Compression::None) {
        let records = [Owned::value(0, &vec![0; 16 << 20])];
        let bomb = build(codec, &records, None).unwrap();
        let stopped = bomb.check_records(1 << 20, false).unwrap_err();
        assert!(matches!(stopped, BatchError::Compression(CompressionError::TooLarge { .. })), "{codec}: {stopped}");
        assert!(bomb.check_records(17 << 20, false).is_ok(), "{codec}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn arbitrary_records_under_a_sound_header_are_no_reason_to_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        count in prop_oneof![0..20_i32, any::<i32>()],
        codec in any_codec(),
        log_append_time: bool,
    ) {
        let mut bytes = with_payload(&payload, count.max(-1000));
        bytes[22] = u8::try_from(codec.to_wire()).unwrap() | u8::from(log_append_time) << 3;
        reseal(&mut bytes);
        exercise(&bytes);
        // What walks is what the count says, at most.
        if let Ok(decoded) = Batch::parse(&bytes).unwrap().decode(4096) {
            prop_assert!(decoded.records().flatten().count() <= usize::try_from(count).unwrap_or(0));
        }
    }

    #[test]
    fn damage_in_compressed_records_is_no_reason_to_panic(
        codec in any_codec(),
        records in proptest::collection::vec(any_record(), 1..6),
        at: proptest::sample::Index,
        byte: u8,
    ) {
        let mut bytes = build(codec, &records, None).unwrap().bytes().to_vec();
        let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
        bytes[at] = byte;
        reseal(&mut bytes);
        exercise(&bytes);
    }
}
