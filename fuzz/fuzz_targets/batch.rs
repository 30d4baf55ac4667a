//! Record batches from anybody: parse, split, decode with little memory, check every record.
//!
//! Run with `cargo +nightly fuzz run batch fuzz/corpus/batch fuzz/seeds/batch`. The input is tried
//! as it is, and once more with version, length and checksum made right, since no fuzzer guesses a
//! CRC.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pubg1_model::record_batch::{Batch, BatchBuilder, BatchIter, HEADER_BYTES, MAGIC, NewRecord, ValidBatch};

/// What the records may decompress to.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    exercise(input);
    if input.len() >= HEADER_BYTES {
        exercise(&sealed(input));
    }
});

/// The input as one batch whose frame is right.
fn sealed(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let length = i32::try_from(bytes.len() - 12).expect("fuzz inputs are small");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = MAGIC;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn exercise(bytes: &[u8]) {
    for batch in BatchIter::new(bytes).flatten() {
        walk(&batch);
    }
    for batch in BatchIter::unchecked(bytes).flatten() {
        walk(&batch);
    }
    let Ok(batches) = ValidBatch::split(&Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(batches.iter().map(|batch| batch.bytes().len()).sum::<usize>(), bytes.len());
    for batch in batches {
        batch.check_records(OUTPUT_BYTES_MAX, true).ok();
        if batch.check_records(OUTPUT_BYTES_MAX, false).is_ok() {
            accepted(&batch);
        }
    }
}

/// Reads whatever can be read.
fn walk(batch: &Batch<'_>) {
    let Ok(decoded) = batch.decode(OUTPUT_BYTES_MAX) else { return };
    assert!(decoded.payload_bytes() <= OUTPUT_BYTES_MAX.max(batch.bytes().len()));
    let mut previous = None;
    for record in decoded.records().flatten() {
        assert!(previous < Some(record.offset), "offsets grow");
        previous = Some(record.offset);
        let headers = record.headers().flatten().count();
        assert!(headers <= record.header_count() as usize);
    }
}

/// What passed the deep check can be read whole, and written again with the same content.
fn accepted(batch: &ValidBatch) {
    let codec = batch.header().attributes.compression().expect("checked");
    let decoded = batch.as_batch().decode(OUTPUT_BYTES_MAX).expect("checked");
    let mut builder = BatchBuilder::new(codec);
    for record in decoded.records() {
        let record = record.expect("checked");
        let headers: Vec<_> = record.headers().map(|header| header.expect("checked")).collect();
        let (timestamp_ms, key, value) = (record.timestamp_ms, record.key, record.value);
        if builder.push(&NewRecord { timestamp_ms, key, value, headers: &headers }).is_err() {
            // The first record need not carry the base timestamp, so a delta can outgrow 64 bits.
            return;
        }
    }
    let again = builder.finish(None).expect("what was read can be written");
    assert_eq!(again.header().record_count, batch.header().record_count);
    assert_eq!(again.header().max_timestamp, batch.header().max_timestamp);
    again.check_records(OUTPUT_BYTES_MAX, false).ok();
}
