//! The batch codec beside its limits: building beside a copy and a checksum of the same bytes,
//! validating beside the checksum alone.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pubg1_model::{
    compression::Compression,
    record_batch::{BatchBuilder, BatchError, HEADER_BYTES, NewRecord, ValidBatch},
};

const RECORDS: u64 = 1000;

fn build(codec: Compression, value: &[u8]) -> Result<ValidBatch, BatchError> {
    let mut builder = BatchBuilder::with_capacity(codec, HEADER_BYTES + 1000 * (value.len() + 24));
    for (index, timestamp_ms) in (0..RECORDS).zip(1_357_034_400_000..) {
        let key = index.to_be_bytes();
        builder.push(&NewRecord { timestamp_ms, key: Some(&key), value: Some(value), headers: &[] })?;
    }
    builder.finish(None)
}

fn batches(criterion: &mut Criterion) {
    for value_bytes in [100, 1024] {
        let value = vec![b'x'; value_bytes];
        let Ok(batch) = build(Compression::None, &value) else { return };
        let bytes: &Bytes = batch.bytes();
        let mut group = criterion.benchmark_group(format!("{RECORDS}x{value_bytes}B"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("limit: copy and crc32c", |bench| {
            bench.iter(|| {
                let copy = black_box(bytes).to_vec();
                crc32c::crc32c(black_box(&copy))
            });
        });
        group.bench_function("build", |bench| bench.iter(|| build(Compression::None, black_box(&value))));
        group.bench_function("limit: crc32c", |bench| bench.iter(|| crc32c::crc32c(black_box(bytes))));
        group.bench_function("validate", |bench| bench.iter(|| ValidBatch::split(black_box(bytes))));
        group.bench_function("check records", |bench| bench.iter(|| black_box(&batch).check_records(1 << 24, false)));
        group.finish();
    }
}

criterion_group!(benches, batches);
criterion_main!(benches);
