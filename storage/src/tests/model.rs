//! Random operations on a log and on a list of batches: both always agree.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pubg1_model::{
    LeaderEpoch, Offset,
    compression::Compression,
    leader_epochs::EpochStart,
    record_batch::{ValidBatch, assign},
    topic::TopicConfig,
};
use tempfile::TempDir;

use super::fixtures::{batch_of, contents, flush, open, small_segments, temp_dir};
use crate::{Appended, PartitionLog, PendingFlush, ReadError};

#[derive(Clone, Debug)]
enum Step {
    Append {
        records: usize,
        value_bytes: usize,
        producer: Option<u8>,
        codec: u16,
    },
    /// A batch that comes from a leader, perhaps in a newer epoch.
    Replicate {
        records: usize,
        value_bytes: usize,
        producer: Option<u8>,
        new_epoch: bool,
    },
    Resend {
        producer: u8,
    },
    NewEpoch,
    /// Everything is dropped, and the log begins again so far behind its end.
    Restart {
        ahead: u64,
    },
    Flush,
    /// Begins a flush and completes it some steps later.
    BeginFlush,
    CompleteFlush,
    Age,
    Truncate {
        part: u8,
    },
    Retain {
        keep_bytes: u64,
    },
    DeleteRecords {
        part: u8,
    },
    Close,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (1..4_usize, 0..4000_usize, prop::option::of(0..3_u8), 0..5_u16)
            .prop_map(|(records, value_bytes, producer, codec)| Step::Append { records, value_bytes, producer, codec }),
        8 => (1..4_usize, 0..4000_usize, prop::option::of(0..3_u8), prop::bool::weighted(0.1)).prop_map(
            |(records, value_bytes, producer, new_epoch)| Step::Replicate { records, value_bytes, producer, new_epoch }
        ),
        4 => (0..3_u8).prop_map(|producer| Step::Resend { producer }),
        1 => Just(Step::NewEpoch),
        1 => (0..20_u64).prop_map(|ahead| Step::Restart { ahead }),
        3 => Just(Step::Flush),
        2 => Just(Step::BeginFlush),
        2 => Just(Step::CompleteFlush),
        1 => Just(Step::Age),
        2 => any::<u8>().prop_map(|part| Step::Truncate { part }),
        1 => (0..60_000_u64).prop_map(|keep_bytes| Step::Retain { keep_bytes }),
        1 => any::<u8>().prop_map(|part| Step::DeleteRecords { part }),
        1 => Just(Step::Close),
        2 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

struct Stored {
    base: Offset,
    last: Offset,
    bytes: Vec<u8>,
    producer: Option<(u8, i32)>,
    sent: ValidBatch,
}

struct Harness {
    dir: TempDir,
    config: TopicConfig,
    log: Option<PartitionLog>,
    pending: Option<PendingFlush>,
    now_ms: i64,
    epoch: LeaderEpoch,
    batches: Vec<Stored>,
    log_start: Offset,
    log_end: Offset,
    flushed: Offset,
    /// Times each producer got a new identity, for when the model no longer knows its sequence.
    identities: BTreeMap<u8, i64>,
}

impl Harness {
    fn new() -> Self {
        let dir = temp_dir();
        let config = small_segments();
        let log = Some(open(dir.path(), &config).0);
        Self {
            dir,
            config,
            log,
            pending: None,
            now_ms: 0,
            epoch: LeaderEpoch::new(1),
            batches: Vec::new(),
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            flushed: Offset::ZERO,
            identities: BTreeMap::new(),
        }
    }

    fn log(&mut self) -> &mut PartitionLog {
        self.log.as_mut().unwrap()
    }

    fn append(&mut self, records: usize, value_bytes: usize, producer: Option<u8>, codec: u16) {
        let (sent, producer) = self.make(records, value_bytes, producer, codec);
        let (epoch, now_ms, base) = (self.epoch, self.now_ms, self.log_end);
        let appended = self.log().append(&sent, epoch, now_ms).unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (base, false));
        self.note(appended, records, producer, sent);
    }

    fn replicate(&mut self, records: usize, value_bytes: usize, producer: Option<u8>) {
        let (sent, producer) = self.make(records, value_bytes, producer, 0);
        let (epoch, now_ms, base) = (self.epoch, self.now_ms, self.log_end);
        let mut bytes = sent.bytes().to_vec();
        assign(&mut bytes, base, epoch);
        let batches = ValidBatch::split_stored(&bytes.into()).unwrap();
        self.log().record_epochs([EpochStart { epoch, start_offset: base }]).unwrap();
        let appended = self.log().append_replicated(&batches[0], now_ms).unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (base, false));
        assert!(self.log().append_replicated(&batches[0], now_ms).is_err(), "it is there already");
        self.note(appended, records, producer, sent);
    }

    fn make(
        &mut self,
        records: usize,
        value_bytes: usize,
        producer: Option<u8>,
        codec: u16,
    ) -> (ValidBatch, Option<(u8, i32)>) {
        let identity = producer.map(|producer| {
            let last = self.batches.iter().rev().find(|stored| stored.producer.is_some_and(|(id, _)| id == producer));
            let sequence = if let Some(last) = last {
                last.producer.unwrap().1 + last.sent.header().record_count
            } else {
                *self.identities.entry(producer).or_default() += 1;
                0
            };
            (i64::from(producer) * 1000 + self.identities[&producer], sequence)
        });
        let codec = Compression::from_wire(codec).unwrap();
        let sent = batch_of(codec, records, value_bytes, self.now_ms, identity);
        (sent, producer.zip(identity.map(|(_, sequence)| sequence)))
    }

    fn note(&mut self, appended: Appended, records: usize, producer: Option<(u8, i32)>, sent: ValidBatch) {
        let (epoch, base) = (self.epoch, self.log_end);
        self.log_end = base.plus(records as u64);
        assert_eq!(appended.last_offset.plus(1), self.log_end);
        let mut bytes = sent.bytes().to_vec();
        assign(&mut bytes, base, epoch);
        self.batches.push(Stored { base, last: appended.last_offset, bytes, producer, sent });
    }

    fn resend(&mut self, producer: u8) {
        let last = self.batches.iter().rev().find(|stored| stored.producer.is_some_and(|(id, _)| id == producer));
        let Some((sent, base, last)) = last.map(|stored| (stored.sent.clone(), stored.base, stored.last)) else {
            return;
        };
        let (epoch, now_ms) = (self.epoch, self.now_ms);
        let answer = self.log().append(&sent, epoch, now_ms).unwrap();
        assert_eq!((answer.base_offset, answer.last_offset, answer.duplicate), (base, last, true));
    }

    fn offset(&self, part: u8) -> Offset {
        self.log_start.plus(self.log_end.since(self.log_start) * u64::from(part) / 255)
    }

    fn truncate(&mut self, part: u8) {
        let offset = self.offset(part);
        let end = self.log().truncate_to(offset).unwrap();
        let kept = self.batches.iter().take_while(|stored| stored.last < offset).count();
        let expected = self.batches.get(kept).map_or(self.log_end, |cut| cut.base.min(offset));
        let expected = if offset == self.log_start { offset } else { expected };
        assert_eq!(end, expected);
        self.batches.truncate(kept);
        self.log_end = expected;
        self.log_start = self.log_start.min(expected);
        self.flushed = self.flushed.min(expected);
    }

    fn retain(&mut self, keep_bytes: u64) {
        self.config.retention_bytes = Some(keep_bytes);
        let config = self.config.clone();
        let (now_ms, high_watermark) = (self.now_ms, self.flushed);
        self.log().set_config(&config).unwrap();
        let before = self.log().size_bytes();
        let deleted = self.log().apply_retention(now_ms, high_watermark).unwrap();
        let log = self.log();
        let after = log.size_bytes();
        assert_eq!(before - after, deleted.bytes);
        assert!(deleted.bytes == 0 || after >= keep_bytes);
        let log_start = log.log_start_offset();
        assert!(log_start <= high_watermark.max(self.log_start));
        self.delete_before(log_start);
    }

    fn delete_before(&mut self, log_start: Offset) {
        assert!(log_start >= self.log_start);
        self.log_start = log_start;
        self.flushed = self.flushed.max(log_start);
        self.batches.retain(|stored| stored.last >= log_start);
    }

    fn restart(&mut self, ahead: u64) {
        let at = self.log_end.plus(ahead);
        self.log().restart_at(at).unwrap();
        self.batches.clear();
        (self.log_start, self.log_end, self.flushed) = (at, at, at);
        assert!(self.log().leader_epochs().is_empty());
    }

    fn reopen(&mut self, clean: bool) {
        let log = self.log.take().unwrap();
        if clean {
            log.close().unwrap();
        } else {
            drop(log);
        }
        let (log, report) = open(self.dir.path(), &self.config);
        assert!(report.clean || !clean);
        assert_eq!(report.truncated_bytes, 0);
        assert_eq!((report.log_start, report.log_end), (self.log_start, self.log_end));
        self.log = Some(log);
        self.flushed = self.log_end;
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Append { records, value_bytes, producer, codec } => {
                self.append(records, value_bytes, producer, codec)
            }
            Step::Replicate { records, value_bytes, producer, new_epoch } => {
                if new_epoch {
                    self.epoch = self.epoch.next();
                }
                self.replicate(records, value_bytes, producer);
            }
            Step::Restart { ahead } => self.restart(ahead),
            Step::Resend { producer } => self.resend(producer),
            Step::NewEpoch => {
                self.epoch = self.epoch.next();
                let epoch = self.epoch;
                self.log().begin_epoch(epoch).unwrap();
                assert_eq!(self.log().leader_epochs().latest(), Some(epoch));
            }
            Step::Flush => {
                flush(self.log());
                self.flushed = self.log_end;
            }
            Step::BeginFlush => self.pending = self.log().begin_flush(),
            Step::CompleteFlush => {
                if let Some(pending) = self.pending.take() {
                    let flushed = pending.run().unwrap();
                    self.log().complete_flush(flushed);
                    let reported = self.log().flushed_offset();
                    assert!(reported >= self.flushed && reported <= self.log_end);
                    self.flushed = reported;
                }
            }
            Step::Age => {
                self.now_ms += i64::try_from(self.config.segment_ms).unwrap();
                let (now_ms, log_start) = (self.now_ms, self.log_start);
                let mut config = self.config.clone();
                config.retention_bytes = None;
                self.log().set_config(&config).unwrap();
                self.log().apply_retention(now_ms, log_start).unwrap();
            }
            Step::Truncate { part } => self.truncate(part),
            Step::Retain { keep_bytes } => self.retain(keep_bytes),
            Step::DeleteRecords { part } => {
                let offset = self.offset(part);
                let log_start = self.log().delete_records_before(offset).unwrap();
                assert_eq!(log_start, offset);
                self.delete_before(offset);
            }
            Step::Close => self.reopen(true),
            Step::Crash => self.reopen(false),
        }
    }

    fn check(&mut self) {
        let (log_start, log_end, flushed) = (self.log_start, self.log_end, self.flushed);
        let log = self.log();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (log_start, log_end));
        assert_eq!(log.flushed_offset(), flushed);
        let reader = log.reader();
        let expected: Vec<u8> = self.batches.iter().flat_map(|stored| stored.bytes.clone()).collect();
        assert!(contents(&reader) == expected, "the log holds other batches than the model");
        for stored in &self.batches {
            let slice = reader.read(stored.last.max(log_start), Offset::MAX, 1).unwrap();
            assert_eq!(slice.runs.len(), 1);
            assert!(slice.runs[0] == stored.bytes);
            assert_eq!(slice.next_offset, stored.last.plus(1));
            // Nothing of a batch that reaches the limit.
            assert!(reader.read(stored.base.max(log_start), stored.last, 1 << 20).unwrap().runs.is_empty());
        }
        assert!(matches!(reader.read(log_end.plus(1), Offset::MAX, 1), Err(ReadError::OffsetOutOfRange { .. })));
        if let Some(first) = self.batches.first().filter(|first| first.last >= log_start) {
            let timestamp_ms = first.sent.header().max_timestamp;
            let expected = reader.find_timestamp(timestamp_ms, Offset::MAX).unwrap().unwrap();
            assert!(expected.1 >= timestamp_ms && expected.0 <= first.last.max(log_start));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list_of_batches(steps in steps()) {
        let mut harness = Harness::new();
        for step in &steps {
            harness.apply(step);
            harness.check();
        }
        harness.reopen(true);
        harness.check();
    }
}
