//! The snapshot of a partition's producers, so that recovery need not replay the whole log.
//!
//! Big-endian: version `u16` = 1, CRC-32C `u32` of all that follows, count `u32`, then for each
//! producer its id `i64`, epoch `i16`, `i64::MIN` (reserved, not read), number of
//! batches `u8` (1 to 5), and for each batch first sequence `i32`, last sequence `i32`, base offset
//! `i64`, last offset `i64`. Producers are ordered by their last offset, so equal states have equal
//! bytes. Kafka's own snapshot keeps one batch a producer; this one keeps all five, so a restart
//! forgets nothing.

use super::{Appended, BATCHES_REMEMBERED, Producer, ProducerStates};
use crate::{Offset, ProducerId};

const VERSION: u16 = 1;
/// Version and checksum.
const PREFIX_BYTES: usize = 6;
/// In place of a time that earlier versions wrote, and forgot the producer by.
const RESERVED: i64 = i64::MIN;

/// Why bytes are no snapshot of producers. The log can be replayed instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes end too early.
    #[error("the producer snapshot is cut off")]
    Truncated,
    /// Written by another version of the program.
    #[error("producer snapshot version {0} is not supported, only version {VERSION} is")]
    Version(u16),
    /// The checksum does not match.
    #[error("the producer snapshot's checksum is {computed:#010x}, it says {stored:#010x}")]
    Checksum {
        /// The checksum in the snapshot.
        stored: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// The checksum is right and the content is not.
    #[error("producer {index} of the snapshot is malformed: {reason}")]
    Malformed {
        /// The position in the snapshot, from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
}

impl ProducerStates {
    /// The snapshot: the same bytes for the same state.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; PREFIX_BYTES];
        let producers = || self.by_last_offset.values().filter_map(|id| Some((id, self.producers.get(id)?)));
        let count = u32::try_from(producers().count()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for (id, producer) in producers() {
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(&RESERVED.to_be_bytes());
            out.push(u8::try_from(producer.used).unwrap_or(u8::MAX));
            for batch in producer.batches() {
                out.extend_from_slice(&batch.first_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.base_offset.to_wire().to_be_bytes());
                out.extend_from_slice(&batch.last_offset.to_wire().to_be_bytes());
            }
        }
        let crc = crc32c::crc32c(&out[PREFIX_BYTES..]);
        out[0..2].copy_from_slice(&VERSION.to_be_bytes());
        out[2..PREFIX_BYTES].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a snapshot, with [`super::PRODUCERS_MAX_DEFAULT`] as the bound.
    ///
    /// # Errors
    /// [`SnapshotError`]; the snapshot is then of no use and the log must be replayed.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        Self::decode_bounded(bytes, super::PRODUCERS_MAX_DEFAULT)
    }

    /// Reads a snapshot and keeps at most `producers_max` producers, those that appended last.
    ///
    /// # Errors
    /// [`SnapshotError`]; the snapshot is then of no use and the log must be replayed.
    pub fn decode_bounded(bytes: &[u8], producers_max: usize) -> Result<Self, SnapshotError> {
        let mut input = bytes;
        let version = u16::from_be_bytes(take(&mut input)?);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let stored = u32::from_be_bytes(take(&mut input)?);
        let computed = crc32c::crc32c(input);
        if stored != computed {
            return Err(SnapshotError::Checksum { stored, computed });
        }
        let count = u32::from_be_bytes(take(&mut input)?);
        let mut states = Self::new(producers_max);
        let mut previous = None;
        for index in 0..count {
            let malformed = |reason| SnapshotError::Malformed { index, reason };
            let (id, producer) = read_producer(&mut input, index)?;
            let last = producer.last().ok_or(malformed("it has no batch"))?.last_offset;
            if previous.is_some_and(|previous| previous >= last) {
                return Err(malformed("its last offset is not above the one before"));
            }
            previous = Some(last);
            if states.producers.insert(id, producer).is_some() {
                return Err(malformed("its id occurs twice"));
            }
            states.by_last_offset.insert(last, id);
            if states.producers.len() > states.producers_max
                && let Some((_, idlest)) = states.by_last_offset.pop_first()
            {
                states.producers.remove(&idlest);
            }
        }
        if !input.is_empty() {
            return Err(SnapshotError::Malformed { index: count, reason: "bytes follow the last producer" });
        }
        Ok(states)
    }
}

fn read_producer(input: &mut &[u8], index: u32) -> Result<(ProducerId, Producer), SnapshotError> {
    let malformed = |reason| SnapshotError::Malformed { index, reason };
    let id = i64::from_be_bytes(take(input)?);
    if id < 0 {
        return Err(malformed("its id is negative"));
    }
    let mut producer = Producer::new(i16::from_be_bytes(take(input)?));
    let _reserved: [u8; 8] = take(input)?;
    let [batches] = take(input)?;
    if usize::from(batches) > BATCHES_REMEMBERED {
        return Err(malformed("it has too many batches"));
    }
    for _ in 0..batches {
        let first_sequence = i32::from_be_bytes(take(input)?);
        let last_sequence = i32::from_be_bytes(take(input)?);
        let base_offset = Offset::from_wire(i64::from_be_bytes(take(input)?));
        let last_offset = Offset::from_wire(i64::from_be_bytes(take(input)?));
        let (Some(base_offset), Some(last_offset)) = (base_offset, last_offset) else {
            return Err(malformed("an offset is negative"));
        };
        if first_sequence < 0 || last_sequence < 0 {
            return Err(malformed("a sequence is negative"));
        }
        if base_offset > last_offset || producer.last().is_some_and(|before| before.last_offset >= base_offset) {
            return Err(malformed("its offsets do not grow"));
        }
        producer.push(Appended { first_sequence, last_sequence, base_offset, last_offset });
    }
    Ok((ProducerId(id), producer))
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], SnapshotError> {
    let (taken, rest) = input.split_first_chunk::<N>().ok_or(SnapshotError::Truncated)?;
    *input = rest;
    Ok(*taken)
}
