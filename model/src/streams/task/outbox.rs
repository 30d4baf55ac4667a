//! What a task gives out: record batches that are ready to be appended, and appended again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::TaskError;
use crate::{
    ProducerId,
    compression::Compression,
    record_batch::{BatchBuilder, BatchHeader, NewRecord, ProducerIdentity},
};

/// A batch is closed before it has more bytes than these; a record of its own may have more.
#[cfg(not(test))]
const BATCH_BYTES_MAX: usize = 512 << 10;
/// So that tests have several.
#[cfg(test)]
const BATCH_BYTES_MAX: usize = 400;
/// What a record takes beside key, value and headers, at most.
const RECORD_BYTES: usize = 64;

/// Where outputs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputTarget {
    /// The topic of the rows.
    Output,
    /// The topic of the records that are in no window.
    Late,
    /// The topic by which the first stage hands on to the second.
    Partials,
}

impl OutputTarget {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Output => 0,
            Self::Late => 1,
            Self::Partials => 2,
        }
    }

    pub(super) const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Output),
            1 => Some(Self::Late),
            2 => Some(Self::Partials),
            _ => None,
        }
    }
}

/// A batch to be published. Its bytes never change: whoever publishes it again sends the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputBatch {
    /// The topic.
    pub target: OutputTarget,
    /// The partition of it.
    pub partition: u32,
    /// A record batch with producer id, producer epoch 0 and sequence.
    pub bytes: Bytes,
}

impl OutputBatch {
    /// Whether a partition that goes on with sequence `expected` of this producer has the batch already: it is refused
    /// as out of order then, when it is too old to be known as a duplicate. Sequences wrap, so what is less than half of
    /// them away counts as before.
    #[must_use]
    pub fn is_before(&self, expected: i32) -> bool {
        let Ok(header) = BatchHeader::parse(&self.bytes) else { return false };
        let after = sequence_after(header.base_sequence, header.record_count);
        let distance = expected.wrapping_sub(after) & i32::MAX;
        distance < 1 << 30
    }
}

/// The sequence number `steps` after `sequence`; it wraps from 2³¹ − 1 to 0.
const fn sequence_after(sequence: i32, steps: i32) -> i32 {
    sequence.wrapping_add(steps) & i32::MAX
}

/// The outputs of the next commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    /// The next sequence of each partition.
    sequences: BTreeMap<(OutputTarget, u32), i32>,
    /// Batches that are full, and the one that is being filled.
    batches: BTreeMap<(OutputTarget, u32), Vec<BatchBuilder>>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn restored(sequences: BTreeMap<(OutputTarget, u32), i32>) -> Self {
        Self { sequences, ..Self::default() }
    }

    pub(super) const fn sequences(&self) -> &BTreeMap<(OutputTarget, u32), i32> {
        &self.sequences
    }

    /// How many bytes wait for the next commit.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a record to the batches of a partition that takes batches of up to `bytes_max` bytes.
    ///
    /// # Errors
    /// [`TaskError::TooLarge`] for a record that is more by itself: the outbox is as it was.
    pub(super) fn push(
        &mut self,
        place: (OutputTarget, u32),
        bytes_max: usize,
        record: &NewRecord<'_>,
    ) -> Result<(), TaskError> {
        let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers + RECORD_BYTES;
        if let Some(last) = self.batches.get_mut(&place).and_then(|batches| batches.last_mut())
            && last.encoded_bytes() + bytes <= BATCH_BYTES_MAX.min(bytes_max)
        {
            let before = last.encoded_bytes();
            // Times that are too far apart for one batch are the only thing that another one helps against.
            if last.push(record).is_ok() {
                self.bytes += last.encoded_bytes() - before;
                return Ok(());
            }
        }
        // A batch's header is about as much again as was added above: what is over here is not copied for nothing.
        if bytes > bytes_max {
            return Err(TaskError::TooLarge { bytes, bytes_max });
        }
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(record)?;
        let bytes = batch.encoded_bytes();
        if bytes > bytes_max {
            return Err(TaskError::TooLarge { bytes, bytes_max });
        }
        self.bytes += bytes;
        self.batches.entry(place).or_default().push(batch);
        Ok(())
    }

    /// The batches, in order of topic and partition, and of each partition in the order in which they were filled.
    pub(super) fn take(&mut self, id: ProducerId) -> Result<Vec<OutputBatch>, TaskError> {
        self.bytes = 0;
        let mut outputs = Vec::new();
        for (place, batches) in std::mem::take(&mut self.batches) {
            let next = self.sequences.entry(place).or_default();
            for batch in batches {
                let sequence = *next;
                let batch = batch.finish(Some(ProducerIdentity { id, epoch: 0, sequence }))?;
                *next = sequence_after(sequence, batch.header().record_count);
                let (target, partition) = place;
                outputs.push(OutputBatch { target, partition, bytes: batch.bytes().clone() });
            }
        }
        Ok(outputs)
    }
}
