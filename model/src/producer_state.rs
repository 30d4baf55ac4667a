//! What a partition remembers of its idempotent producers (KIP-98), so that a batch that is sent
//! again is answered with its first offsets instead of being appended twice.
//!
//! The rules are Kafka's. A producer numbers its records in a partition; each batch must begin with
//! the number after the last one, which wraps from 2³¹ − 1 to 0. A batch equal in first and last
//! number to one of the last five is a duplicate. A higher epoch of the producer begins anew at 0,
//! a lower one is refused. A producer that is not known (it is new, or was forgotten) may begin
//! anywhere.
//!
//! This is a replay of the log: appending, recovering and following a leader all call
//! [`ProducerStates::record`] for the same batches in the same order. Producer ids are chosen by
//! clients, so the number of producers is bounded; the one whose last batch is the oldest goes
//! first. None is forgotten because time has passed, as Kafka does: who sends a batch again after a day
//! (a task of a stream whose broker was down, say) would append it twice.

mod snapshot;

use std::collections::{BTreeMap, HashMap};

pub use snapshot::SnapshotError;

use crate::{Offset, ProducerId, record_batch::BatchHeader};

/// How many batches of a producer are remembered: as many as a producer may have in flight.
pub const BATCHES_REMEMBERED: usize = 5;
/// How many producers a partition remembers unless told otherwise; about 2 MiB when all are used.
pub const PRODUCERS_MAX_DEFAULT: usize = 10_000;

/// What a batch is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It carries no sequence: append it.
    NotIdempotent,
    /// It is the next one: append it.
    Next,
    /// It was appended before, here: answer this and append nothing.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// Offset of its last record.
        last_offset: Offset,
    },
}

/// Why a batch of an idempotent producer must not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Batches before this one are missing, or it is too old to tell whether it was appended.
    #[error("producer {producer_id} must go on with sequence {expected}, the batch begins with {received}")]
    OutOfOrder {
        /// The producer.
        producer_id: ProducerId,
        /// The number the next batch must begin with.
        expected: i32,
        /// The number it begins with.
        received: i32,
    },
    /// A newer instance of the producer has taken over.
    #[error("producer {producer_id} is at epoch {current}, the batch is of epoch {received}; get a new producer id")]
    StaleEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// Its newest epoch.
        current: i16,
        /// The epoch of the batch.
        received: i16,
    },
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    last_offset: Offset,
}

/// A producer: its epoch and its last batches of that epoch, oldest first, never none.
#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    batches: [Appended; BATCHES_REMEMBERED],
    used: usize,
}

/// The places that are not in use do not count.
impl PartialEq for Producer {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.batches() == other.batches()
    }
}

impl Eq for Producer {}

impl Producer {
    const fn new(epoch: i16) -> Self {
        const NONE: Appended =
            Appended { first_sequence: 0, last_sequence: 0, base_offset: Offset::ZERO, last_offset: Offset::ZERO };
        Self { epoch, batches: [NONE; BATCHES_REMEMBERED], used: 0 }
    }

    fn batches(&self) -> &[Appended] {
        &self.batches[..self.used]
    }

    fn last(&self) -> Option<&Appended> {
        self.batches().last()
    }

    fn push(&mut self, batch: Appended) {
        if self.used == BATCHES_REMEMBERED {
            self.batches.rotate_left(1);
            self.used -= 1;
        }
        self.batches[self.used] = batch;
        self.used += 1;
    }
}

/// The idempotent producers of one partition.
#[derive(Clone, Debug)]
pub struct ProducerStates {
    producers: HashMap<ProducerId, Producer>,
    /// Every producer by the offset of its last record: who is idle longest comes first.
    by_last_offset: BTreeMap<Offset, ProducerId>,
    producers_max: usize,
}

impl Default for ProducerStates {
    fn default() -> Self {
        Self::new(PRODUCERS_MAX_DEFAULT)
    }
}

/// Two states are equal when they answer equally; their bounds may differ.
impl PartialEq for ProducerStates {
    fn eq(&self, other: &Self) -> bool {
        self.producers == other.producers
    }
}

impl Eq for ProducerStates {}

/// The sequence number `steps` after `sequence`; it wraps from 2³¹ − 1 to 0.
fn sequence_after(sequence: i32, steps: i32) -> i32 {
    sequence.wrapping_add(steps) & i32::MAX
}

impl ProducerStates {
    /// No producers yet, and never more than `producers_max` (at least one).
    #[must_use]
    pub fn new(producers_max: usize) -> Self {
        Self { producers: HashMap::new(), by_last_offset: BTreeMap::new(), producers_max: producers_max.max(1) }
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// What to do with a batch that a producer sent.
    ///
    /// # Errors
    /// [`SequenceError`] when it must not be appended.
    pub fn check(&self, header: &BatchHeader) -> Result<SequenceCheck, SequenceError> {
        if !header.is_idempotent() {
            return Ok(SequenceCheck::NotIdempotent);
        }
        let producer_id = ProducerId(header.producer_id);
        let Some((producer, last)) = self.producers.get(&producer_id).and_then(|known| Some((known, known.last()?)))
        else {
            return Ok(SequenceCheck::Next);
        };
        let (current, received) = (producer.epoch, header.producer_epoch);
        if received < current {
            return Err(SequenceError::StaleEpoch { producer_id, current, received });
        }
        let (first, expected) = if received > current {
            (header.base_sequence, 0)
        } else {
            let last_sequence = sequence_after(header.base_sequence, header.last_offset_delta);
            let duplicate = producer
                .batches()
                .iter()
                .find(|batch| batch.first_sequence == header.base_sequence && batch.last_sequence == last_sequence);
            if let Some(batch) = duplicate {
                return Ok(SequenceCheck::Duplicate { base_offset: batch.base_offset, last_offset: batch.last_offset });
            }
            (header.base_sequence, sequence_after(last.last_sequence, 1))
        };
        if first == expected {
            Ok(SequenceCheck::Next)
        } else {
            Err(SequenceError::OutOfOrder { producer_id, expected, received: first })
        }
    }

    /// Remembers a batch that was appended, with its base offset assigned. Batches of producers
    /// without idempotence are passed over, and so are headers that no append can have written.
    ///
    /// It follows the log without judging it: after a gap or a step back, which only a forgotten
    /// producer can have made, the earlier batches are dropped.
    pub fn record(&mut self, header: &BatchHeader) {
        let (Some(base_offset), Some(last_offset)) = (header.first_offset(), header.last_offset()) else { return };
        if !header.is_idempotent() || header.base_sequence < 0 || header.last_offset_delta < 0 {
            return;
        }
        let producer_id = ProducerId(header.producer_id);
        let batch = Appended {
            first_sequence: header.base_sequence,
            last_sequence: sequence_after(header.base_sequence, header.last_offset_delta),
            base_offset,
            last_offset,
        };
        let producer = self.producers.entry(producer_id).or_insert_with(|| Producer::new(header.producer_epoch));
        if let Some(last) = producer.last().copied() {
            self.by_last_offset.remove(&last.last_offset);
            if producer.epoch != header.producer_epoch
                || sequence_after(last.last_sequence, 1) != batch.first_sequence
                || last.last_offset >= base_offset
            {
                producer.used = 0;
            }
        }
        producer.epoch = header.producer_epoch;
        producer.push(batch);
        // Two producers at one offset: the log was rewritten, the former owner of the offset is gone.
        if let Some(former) = self.by_last_offset.insert(last_offset, producer_id).filter(|id| *id != producer_id) {
            self.producers.remove(&former);
        }
        while self.producers.len() > self.producers_max {
            let Some((_, idlest)) = self.by_last_offset.pop_first() else { break };
            self.producers.remove(&idlest);
        }
    }

    /// Forgets every batch that ends at or after `offset`, as the log does when it is truncated.
    /// Returns how many producers were forgotten altogether: when it is not 0 and they had earlier
    /// batches in the log, only a replay of the log brings those back.
    pub fn truncate_to(&mut self, offset: Offset) -> usize {
        let mut forgotten = 0;
        for producer_id in self.by_last_offset.split_off(&offset).into_values() {
            let Some(producer) = self.producers.get_mut(&producer_id) else { continue };
            producer.used = producer.batches().iter().take_while(|batch| batch.last_offset < offset).count();
            if let Some(last) = producer.last() {
                self.by_last_offset.insert(last.last_offset, producer_id);
            } else {
                self.producers.remove(&producer_id);
                forgotten += 1;
            }
        }
        forgotten
    }
}

#[cfg(test)]
mod tests;
