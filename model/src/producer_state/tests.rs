//! Producer states against a naive model that keeps the whole log, and rule by rule.

use proptest::prelude::*;

use super::*;
use crate::record_batch::Attributes;

fn header(producer: i64, epoch: i16, first: i32, records: i32, base_offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset,
        batch_length: 100,
        partition_leader_epoch: 0,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: records - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: producer,
        producer_epoch: epoch,
        base_sequence: first,
        record_count: records,
    }
}

fn duplicate(base_offset: u64, last_offset: u64) -> Result<SequenceCheck, SequenceError> {
    Ok(SequenceCheck::Duplicate { base_offset: Offset::new(base_offset), last_offset: Offset::new(last_offset) })
}

fn out_of_order(producer: i64, expected: i32, received: i32) -> Result<SequenceCheck, SequenceError> {
    Err(SequenceError::OutOfOrder { producer_id: ProducerId(producer), expected, received })
}

const NEXT: Result<SequenceCheck, SequenceError> = Ok(SequenceCheck::Next);

/// Ten records of producer 1 in epoch 3, two a batch, at offsets 100 to 109.
fn five_batches() -> ProducerStates {
    let mut states = ProducerStates::default();
    for batch in 0..5 {
        states.record(&header(1, 3, batch * 2, 2, 100 + i64::from(batch) * 2));
    }
    states
}

#[test]
fn batches_without_a_producer_are_let_through() {
    let mut states = ProducerStates::default();
    let plain = header(-1, -1, -1, 5, 0);
    assert_eq!(states.check(&plain), Ok(SequenceCheck::NotIdempotent));
    states.record(&plain);
    assert!(states.is_empty());
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    assert_eq!(ProducerStates::default().check(&header(1, 3, 77, 1, 0)), NEXT);
}

#[test]
fn the_last_five_batches_are_answered_with_their_offsets() {
    let mut states = five_batches();
    for batch in 0..5_u64 {
        let first = i32::try_from(batch * 2).unwrap();
        assert_eq!(states.check(&header(1, 3, first, 2, 0)), duplicate(100 + batch * 2, 101 + batch * 2));
    }
    assert_eq!(states.check(&header(1, 3, 10, 2, 0)), NEXT);
    states.record(&header(1, 3, 10, 2, 110));
    assert_eq!(states.check(&header(1, 3, 0, 2, 0)), out_of_order(1, 12, 0), "the sixth last is forgotten");
    assert_eq!(states.check(&header(1, 3, 2, 2, 0)), duplicate(102, 103));
}

#[test]
fn gaps_and_batches_cut_differently_are_out_of_order() {
    let states = five_batches();
    assert_eq!(states.check(&header(1, 3, 11, 2, 0)), out_of_order(1, 10, 11));
    assert_eq!(states.check(&header(1, 3, 2, 1, 0)), out_of_order(1, 10, 2));
    assert_eq!(states.check(&header(1, 3, 3, 1, 0)), out_of_order(1, 10, 3));
}

#[test]
fn a_new_epoch_begins_at_zero_and_ends_the_old_one() {
    let mut states = five_batches();
    assert_eq!(states.check(&header(1, 4, 10, 1, 0)), out_of_order(1, 0, 10));
    assert_eq!(states.check(&header(1, 4, 0, 1, 0)), NEXT);
    states.record(&header(1, 4, 0, 1, 110));
    let stale = Err(SequenceError::StaleEpoch { producer_id: ProducerId(1), current: 4, received: 3 });
    assert_eq!(states.check(&header(1, 3, 10, 2, 0)), stale);
    assert_eq!(states.check(&header(1, 3, 8, 2, 0)), stale, "a duplicate of the old epoch is stale as well");
    assert_eq!(states.check(&header(1, 4, 1, 1, 0)), NEXT);
}

#[test]
fn sequences_wrap_to_zero() {
    let mut states = ProducerStates::default();
    states.record(&header(1, 0, i32::MAX - 1, 1, 0));
    assert_eq!(states.check(&header(1, 0, i32::MAX, 3, 0)), NEXT);
    states.record(&header(1, 0, i32::MAX, 3, 1));
    assert_eq!(states.check(&header(1, 0, i32::MAX, 3, 0)), duplicate(1, 3));
    assert_eq!(states.check(&header(1, 0, 2, 1, 0)), NEXT);
    assert_eq!(states.check(&header(1, 0, 1, 1, 0)), out_of_order(1, 2, 1));
    let mut states = ProducerStates::default();
    states.record(&header(1, 0, i32::MAX, 1, 0));
    assert_eq!(states.check(&header(1, 0, 0, 1, 0)), NEXT);
}

#[test]
fn a_new_epoch_forgets_the_old_batches_even_where_numbers_wrap() {
    let mut states = ProducerStates::default();
    states.record(&header(1, 0, i32::MAX, 1, 0));
    states.record(&header(1, 1, 0, 1, 1));
    assert_eq!(states.check(&header(1, 1, i32::MAX, 1, 0)), out_of_order(1, 1, i32::MAX));
}

#[test]
fn the_producer_whose_last_batch_is_oldest_goes_first() {
    let mut states = ProducerStates::new(2);
    states.record(&header(1, 0, 0, 1, 0));
    states.record(&header(2, 0, 0, 1, 1));
    states.record(&header(1, 0, 1, 1, 2));
    states.record(&header(3, 0, 0, 1, 3));
    assert_eq!(states.len(), 2);
    assert_eq!(states.check(&header(2, 0, 77, 1, 0)), NEXT, "forgotten");
    assert_eq!(states.check(&header(1, 0, 1, 1, 0)), duplicate(2, 2));
}

#[test]
fn truncation_takes_batches_back() {
    let mut states = five_batches();
    states.record(&header(2, 0, 0, 1, 110));
    assert_eq!(states.truncate_to(Offset::new(106)), 1, "producer 2 had nothing below");
    assert_eq!(states.check(&header(1, 3, 6, 2, 0)), NEXT);
    assert_eq!(states.check(&header(1, 3, 4, 2, 0)), duplicate(104, 105));
    states.truncate_to(Offset::new(105));
    assert_eq!(states.check(&header(1, 3, 4, 2, 0)), NEXT, "a batch that is cut is gone");
    assert_eq!(states.truncate_to(Offset::ZERO), 1);
    assert!(states.is_empty());
}

#[test]
fn the_snapshot_has_the_documented_layout() {
    let mut states = ProducerStates::default();
    states.record(&header(1, 2, 3, 4, 5));
    let bytes = states.encode();
    let producer = b"\0\0\0\0\0\0\0\x01\0\x02\x80\0\0\0\0\0\0\0\x01";
    let batch = b"\0\0\0\x03\0\0\0\x06\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x08";
    let body = [b"\0\0\0\x01".as_slice(), producer, batch].concat();
    assert_eq!(bytes, [b"\0\x01".as_slice(), &crc32c::crc32c(&body).to_be_bytes(), &body].concat());
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let bytes = five_batches().encode();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(ProducerStates::decode(&damaged).is_err(), "byte {at}, bit {bit}");
        }
        assert!(ProducerStates::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(matches!(ProducerStates::decode(&[0; 64]), Err(SnapshotError::Version(0))));
}

/// A snapshot with a right checksum over anything.
fn sealed(body: &[u8]) -> Vec<u8> {
    [b"\0\x01".as_slice(), &crc32c::crc32c(body).to_be_bytes(), body].concat()
}

#[test]
fn a_snapshot_that_lies_under_its_checksum_is_refused() {
    let sound = five_batches().encode()[6..].to_vec();
    assert_eq!(ProducerStates::decode(&sealed(&sound)), Ok(five_batches()));
    let lies: [(&str, usize, &[u8]); 7] = [
        ("more producers than bytes", 0, &[0xff; 4]),
        ("fewer producers than bytes", 0, &[0; 4]),
        ("a negative id", 4, &[0xff; 8]),
        ("six batches", 22, &[6]),
        ("no batch", 22, &[0]),
        ("a negative sequence", 23, &[0xff; 4]),
        ("a last offset below the base", 31, &[0x7f; 8]),
    ];
    for (lie, at, bytes) in lies {
        let mut body = sound.clone();
        body[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(ProducerStates::decode(&sealed(&body)).is_err(), "{lie}");
    }
    let twice = [&[0, 0, 0, 2], &sound[4..], &sound[4..]].concat();
    assert!(matches!(ProducerStates::decode(&sealed(&twice)), Err(SnapshotError::Malformed { index: 1, .. })));
}

#[test]
fn a_snapshot_is_cut_to_the_bound_of_the_reader() {
    let mut states = ProducerStates::default();
    for producer in 0..10 {
        states.record(&header(producer, 0, 0, 1, producer));
    }
    let decoded = ProducerStates::decode_bounded(&states.encode(), 3).unwrap();
    assert_eq!(decoded.len(), 3);
    assert_eq!(decoded.check(&header(9, 0, 0, 1, 0)), duplicate(9, 9));
}

/// What producers try.
#[derive(Clone, Debug)]
enum Try {
    /// The next batch, of so many records.
    Next { producer: i64, records: i32 },
    /// The batch so many back, again.
    Again { producer: i64, back: usize },
    /// Some batch of some epoch.
    Any { producer: i64, epoch: i16, first: i32, records: i32 },
    /// The log loses its end.
    Truncate { keep: proptest::sample::Index },
    /// Restart: through the snapshot.
    Restart,
}

fn any_try() -> impl Strategy<Value = Try> {
    let producer = || 0_i64..4;
    prop_oneof![
        6 => (producer(), 1..4).prop_map(|(producer, records)| Try::Next { producer, records }),
        3 => (producer(), 1_usize..8).prop_map(|(producer, back)| Try::Again { producer, back }),
        3 => (producer(), 0_i16..3, 0..8, 1..4)
            .prop_map(|(producer, epoch, first, records)| Try::Any { producer, epoch, first, records }),
        1 => any::<proptest::sample::Index>().prop_map(|keep| Try::Truncate { keep }),
        1 => Just(Try::Restart),
    ]
}

/// The naive model: the log itself, searched anew for every question.
#[derive(Default)]
struct Naive {
    log: Vec<BatchHeader>,
}

impl Naive {
    fn of(&self, producer: i64) -> Vec<&BatchHeader> {
        let newest = self.log.iter().rev().find(|batch| batch.producer_id == producer);
        let epoch = newest.map(|batch| batch.producer_epoch);
        let of_epoch = |batch: &&BatchHeader| batch.producer_id == producer && Some(batch.producer_epoch) == epoch;
        self.log.iter().filter(of_epoch).collect()
    }

    fn next_sequence(batch: &BatchHeader) -> i32 {
        i32::try_from((i64::from(batch.base_sequence) + i64::from(batch.record_count)) % (1 << 31)).unwrap()
    }

    fn check(&self, sent: &BatchHeader) -> Result<SequenceCheck, SequenceError> {
        let batches = self.of(sent.producer_id);
        let Some(last) = batches.last() else { return NEXT };
        let producer_id = ProducerId(sent.producer_id);
        let (current, received) = (last.producer_epoch, sent.producer_epoch);
        if received < current {
            return Err(SequenceError::StaleEpoch { producer_id, current, received });
        }
        let same = |batch: &&&BatchHeader| {
            received == current && (batch.base_sequence, batch.record_count) == (sent.base_sequence, sent.record_count)
        };
        if let Some(first) = batches.iter().rev().take(5).find(same) {
            return duplicate(first.first_offset().unwrap().get(), first.last_offset().unwrap().get());
        }
        let expected = if received == current { Self::next_sequence(last) } else { 0 };
        if expected == sent.base_sequence { NEXT } else { out_of_order(producer_id.0, expected, sent.base_sequence) }
    }

    fn log_end(&self) -> i64 {
        self.log.last().map_or(0, |batch| batch.base_offset + i64::from(batch.record_count))
    }
}

fn replay(log: &[BatchHeader]) -> ProducerStates {
    let mut states = ProducerStates::default();
    log.iter().for_each(|batch| states.record(batch));
    states
}

proptest! {
    #[test]
    fn answers_are_those_of_a_search_through_the_log(tries in proptest::collection::vec(any_try(), 1..80), start: bool) {
        let mut naive = Naive::default();
        let mut states = ProducerStates::default();
        if start {
            // Near the end of the numbers, so that they wrap.
            naive.log.push(header(0, 0, i32::MAX - 3, 1, 0));
            states = replay(&naive.log);
        }
        for attempt in tries {
            let sent = match attempt {
                Try::Next { producer, records } => {
                    let last = naive.of(producer).last().map(|last| (last.producer_epoch, Naive::next_sequence(last)));
                    let (epoch, first) = last.unwrap_or((0, 0));
                    header(producer, epoch, first, records, 0)
                }
                Try::Again { producer, back } => {
                    let batches = naive.of(producer);
                    let Some(batch) = batches.len().checked_sub(back).map(|at| *batches[at]) else { continue };
                    batch
                }
                Try::Any { producer, epoch, first, records } => header(producer, epoch, first, records, 0),
                Try::Truncate { keep } => {
                    naive.log.truncate(keep.index(naive.log.len() + 1));
                    let end = Offset::from_wire(naive.log_end()).unwrap();
                    // What is left of a truncated state is true, if less than a replay brings.
                    states.truncate_to(end);
                    for batch in &naive.log {
                        if let Ok(SequenceCheck::Duplicate { base_offset, .. }) = states.check(batch) {
                            prop_assert!(naive.log.iter().any(|kept| kept.first_offset() == Some(base_offset)));
                        }
                    }
                    states = replay(&naive.log);
                    continue;
                }
                Try::Restart => {
                    let restarted = ProducerStates::decode(&states.encode()).unwrap();
                    prop_assert_eq!(&restarted, &states);
                    prop_assert_eq!(restarted.encode(), states.encode());
                    states = restarted;
                    continue;
                }
            };
            let verdict = states.check(&sent);
            prop_assert_eq!(&verdict, &naive.check(&sent));
            if verdict == NEXT {
                let appended = BatchHeader { base_offset: naive.log_end(), ..sent };
                states.record(&appended);
                naive.log.push(appended);
            }
        }
        prop_assert_eq!(&replay(&naive.log), &states);
        prop_assert_eq!(states.by_last_offset.len(), states.len());
    }

    #[test]
    fn any_log_is_followed_within_the_bound(
        batches in proptest::collection::vec((-1_i64..9, -1_i16..3, -1..6, 0..4, -1_i64..60), 0..60),
    ) {
        let mut states = ProducerStates::new(4);
        for (producer, epoch, first, records, base_offset) in batches {
            states.record(&header(producer, epoch, first, records, base_offset));
            prop_assert!(states.len() <= 4);
            prop_assert_eq!(states.by_last_offset.len(), states.len());
            prop_assert_eq!(ProducerStates::decode_bounded(&states.encode(), 4), Ok(states.clone()));
        }
    }

    #[test]
    fn arbitrary_snapshots_are_no_reason_to_panic(bytes: Vec<u8>, mut count in 0_u8..3) {
        ProducerStates::decode(&bytes).ok();
        count = count.min(2);
        let body = [&[0, 0, 0, count], bytes.as_slice()].concat();
        ProducerStates::decode(&sealed(&body)).ok();
    }
}
