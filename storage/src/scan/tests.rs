//! What a scan accepts, and where it stops.

use proptest::prelude::*;
use pubg1_model::{
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord, assign},
};

use super::*;

/// Batches of so many records each, from `base` on, each with its epoch.
fn log(base: u64, batches: &[(usize, u32)]) -> Vec<u8> {
    let mut next = Offset::new(base);
    let mut bytes = Vec::new();
    for (records, epoch) in batches {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..*records {
            builder.push(&NewRecord { timestamp_ms: 1, key: None, value: Some(b"value"), headers: &[] }).unwrap();
        }
        let mut batch = builder.finish(None).unwrap().bytes().to_vec();
        assign(&mut batch, next, LeaderEpoch::new(*epoch));
        next = next.plus(*records as u64);
        bytes.extend(batch);
    }
    bytes
}

fn rules(base: u64) -> ScanRules<'static> {
    let base = Offset::new(base);
    ScanRules { base, expected: base, gaps_end: Offset::ZERO, epoch: -1, epochs: None }
}

fn run(bytes: &[u8], rules: ScanRules<'_>) -> Scan {
    // A small buffer, so that batches span several.
    let mut input = io::BufReader::with_capacity(64, bytes);
    scan(&mut input, bytes.len() as u64, rules, |_, _| ()).unwrap()
}

#[test]
fn good_batches_are_counted() {
    let bytes = log(100, &[(1, 0), (20, 2), (3, 2)]);
    let mut seen = Vec::new();
    let mut input = bytes.as_slice();
    let found = scan(&mut input, bytes.len() as u64, rules(100), |header, position| {
        seen.push((header.base_offset, position));
    });
    let found = found.unwrap();
    assert_eq!((found.next_offset, found.epoch), (Offset::new(124), 2));
    assert_eq!(found.valid_bytes, bytes.len() as u64);
    assert!(found.stop.is_none());
    assert_eq!(seen.iter().map(|(base, _)| *base).collect::<Vec<_>>(), [100, 101, 121]);
}

#[test]
fn batches_that_do_not_belong_here_end_it() {
    let two = log(0, &[(2, 1), (2, 1)]);
    let half = two.len() / 2;
    let stop = |bytes: &[u8], rules: ScanRules<'_>| run(bytes, rules).stop;
    let repeated = [&two[..half], &two[..half]].concat();
    assert!(matches!(stop(&repeated, rules(0)), Some(DamageReason::Discontinuity { first: 0, last: 1 })));
    assert!(matches!(stop(&two[half..], rules(0)), Some(DamageReason::Discontinuity { first: 2, last: 3 })));
    // Where the log was compacted a gap is allowed, but no step back.
    let gaps = ScanRules { gaps_end: Offset::new(2), ..rules(0) };
    assert!(stop(&two[half..], gaps).is_none());
    assert!(stop(&repeated, gaps).is_some());
    let back = log(0, &[(2, 3), (2, 2)]);
    assert!(matches!(stop(&back, rules(0)), Some(DamageReason::Epoch { expected: 3, epoch: 2 })));
    let mut epochs = LeaderEpochs::default();
    epochs.assign(LeaderEpoch::new(1), Offset::ZERO);
    epochs.assign(LeaderEpoch::new(4), Offset::new(2));
    let known = ScanRules { epochs: Some(&epochs), ..rules(0) };
    assert!(matches!(stop(&two, known), Some(DamageReason::Epoch { expected: 4, epoch: 1 })));
}

#[test]
fn zeros_and_lengths_beyond_the_file_end_it() {
    let one = log(0, &[(1, 0)]);
    for zeros in [1, 60, 61, 5000] {
        let found = run(&[&one[..], &vec![0; zeros]].concat(), rules(0));
        assert_eq!((found.valid_bytes, found.next_offset), (one.len() as u64, Offset::new(1)));
        assert!(matches!(found.stop, Some(DamageReason::Batch(_))));
    }
    let mut long = one.clone();
    long[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let found = run(&long, rules(0));
    assert!(matches!(found.stop, Some(DamageReason::Batch(BatchError::Truncated { needed, .. })) if needed > 1 << 30));
}

#[test]
fn used_bytes_end_with_the_last_that_is_not_zero() {
    let mut bytes = vec![0; BUFFER_BYTES * 2 + 10];
    assert_eq!(bytes_before_zeros(&mut bytes.as_slice()).unwrap(), 0);
    bytes[BUFFER_BYTES + 5] = 1;
    assert_eq!(bytes_before_zeros(&mut bytes.as_slice()).unwrap(), BUFFER_BYTES as u64 + 6);
}

proptest! {
    #[test]
    fn one_wrong_byte_is_found(at in 0..300_usize, value: u8) {
        let bytes = log(7, &[(2, 1), (1, 1), (3, 1)]);
        let at = at % bytes.len();
        prop_assume!(bytes[at] != value);
        let mut harmed = bytes.clone();
        harmed[at] = value;
        let mut epochs = LeaderEpochs::default();
        epochs.assign(LeaderEpoch::new(1), Offset::new(7));
        let found = run(&harmed, ScanRules { epochs: Some(&epochs), ..rules(7) });
        prop_assert!(found.stop.is_some());
        prop_assert!(found.valid_bytes <= at as u64);
        prop_assert!(bytes.starts_with(&harmed[..usize::try_from(found.valid_bytes).unwrap()]));
    }
}
