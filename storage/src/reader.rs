//! Reading a log without its writer: by offset, whole batches, no copy; and by time.

use std::sync::Arc;

use bytes::Bytes;
use pubg1_model::{Offset, record_batch::Batch};

use crate::{
    error::{Damage, ReadError},
    offset_index,
    segment::{Located, Segment},
    shared::{SegmentList, SharedLog},
};

/// Decompressed records of one batch are never more than this while a timestamp is searched for.
const DECODED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most that is read from disk ahead of one answer.
const READ_AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads a log while it is written, cut and cleaned. Cheap to clone; holds no lock while it reads
/// and keeps nothing from being deleted: what it handed out stays readable all the same.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<SharedLog>,
}

/// Whole batches as they lie in the log.
#[derive(Clone, Debug, Default)]
pub struct LogSlice {
    /// Batches back to back, one run for each segment that was touched; slices of the mapped files.
    pub runs: Vec<Bytes>,
    /// Bytes of all runs.
    pub bytes: usize,
    /// Where the next read goes on; the offset asked for when nothing was there.
    pub next_offset: Offset,
}

/// What a segment gave.
enum Run {
    /// Nothing at or after the offset: the next segment goes on.
    Exhausted,
    /// The limit in bytes or offsets was reached before the first batch.
    Limited,
    /// Batches from `start` to `end`.
    Found { start: usize, end: usize, next_offset: Offset, is_last: bool },
}

impl LogReader {
    pub(crate) const fn new(shared: Arc<SharedLog>) -> Self {
        Self { shared }
    }

    /// The first readable offset.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.shared.log_start()
    }

    /// The offset after the last record.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.shared.log_end()
    }

    /// Whole batches, beginning with the one that contains `from`, or the first after it where
    /// compaction left a gap. No record at or above `below` is returned. At most `max_bytes`, but
    /// always one batch if there is one. Empty when nothing is readable yet.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] below the log start or above the log end,
    /// [`ReadError::Damage`] when the stored bytes are not batches, or not what was written. Checksums are computed as
    /// long as the segment was not read as a whole since the log was opened ([`crate::VerificationJob`]).
    pub fn read(&self, from: Offset, below: Offset, max_bytes: usize) -> Result<LogSlice, ReadError> {
        // The end first: a list taken after it holds every batch below it, unless the log was
        // truncated in between, and then the batches are just not there.
        let (log_end, segments, log_start) = (self.shared.log_end(), self.shared.segments(), self.shared.log_start());
        if from < log_start || from > log_end {
            return Err(ReadError::OffsetOutOfRange { offset: from, log_start, log_end });
        }
        let below = below.min(log_end);
        let mut slice = LogSlice { next_offset: from, ..LogSlice::default() };
        for segment in &segments[first_segment(&segments, from)..] {
            if slice.next_offset >= below || segment.base >= below {
                break;
            }
            match run(segment, slice.next_offset, below, max_bytes.saturating_sub(slice.bytes), slice.bytes == 0)? {
                Run::Exhausted => {}
                Run::Limited => break,
                Run::Found { start, end, next_offset, is_last } => {
                    let (good, damage) = if segment.is_verified() && !segment.log.is_unsure(start..end) {
                        ((end, next_offset), None)
                    } else {
                        good_part(segment, start, end, slice.next_offset)
                    };
                    if let Some(damage) = damage.filter(|_| good.0 == start && slice.bytes == 0) {
                        return Err(damage.into());
                    }
                    slice.runs.push(segment.log.slice(start..good.0));
                    slice.bytes += good.0 - start;
                    slice.next_offset = good.1;
                    if is_last || good.0 < end {
                        break;
                    }
                }
            }
        }
        Ok(slice)
    }

    /// The first record below `below` whose timestamp is at least `timestamp_ms`: its offset and
    /// its timestamp. `None` when all are earlier. Records of a batch are decompressed to find it;
    /// a batch that cannot be decompressed counts as one record with the batch's timestamp.
    ///
    /// # Errors
    /// [`ReadError::Damage`] when the stored bytes are not batches.
    pub fn find_timestamp(&self, timestamp_ms: i64, below: Offset) -> Result<Option<(Offset, i64)>, ReadError> {
        let (log_end, segments, log_start) = (self.shared.log_end(), self.shared.segments(), self.shared.log_start());
        let below = below.min(log_end);
        for segment in &segments[first_segment(&segments, log_start)..] {
            if segment.base >= below {
                break;
            }
            // Timestamps below 0 are not indexed.
            if segment.largest_timestamp_ms() < timestamp_ms && timestamp_ms >= 0 {
                continue;
            }
            for batch in segment.batches_near_time(timestamp_ms)? {
                let batch = batch?;
                if batch.first_offset >= below {
                    break;
                }
                if batch.header.max_timestamp >= timestamp_ms
                    && let Some(found) = record_at(segment, &batch, timestamp_ms, log_start)
                {
                    return Ok(Some(found).filter(|(offset, _)| *offset < below));
                }
            }
        }
        Ok(None)
    }
}

/// The segment that `offset` falls into: the last one that does not begin above it.
fn first_segment(segments: &SegmentList, offset: Offset) -> usize {
    segments.partition_point(|segment| segment.base <= offset).saturating_sub(1)
}

fn run(segment: &Segment, from: Offset, below: Offset, max_bytes: usize, is_first: bool) -> Result<Run, Damage> {
    let Some(first) = segment.locate(from)? else { return Ok(Run::Exhausted) };
    let ahead = first.position.saturating_add(max_bytes.min(READ_AHEAD_BYTES_MAX));
    segment.log.read_ahead(first.position..first.end().max(ahead));
    let too_large = first.header.total_bytes() > max_bytes;
    if first.last_offset >= below || (too_large && !is_first) {
        return Ok(Run::Limited);
    }
    let (start, mut end, mut next_offset) = (first.position, first.end(), first.last_offset.plus(1));
    if too_large {
        return Ok(Run::Found { start, end, next_offset, is_last: true });
    }
    if let Some(jump) = jump(segment, start.saturating_add(max_bytes), below).filter(|jump| jump.position > end) {
        (end, next_offset) = (jump.position, jump.first_offset);
    }
    for batch in segment.batches(end) {
        let batch = batch?;
        if batch.last_offset >= below || batch.end() - start > max_bytes {
            return Ok(Run::Found { start, end, next_offset, is_last: true });
        }
        (end, next_offset) = (batch.end(), batch.last_offset.plus(1));
    }
    Ok(Run::Found { start, end, next_offset, is_last: false })
}

/// Nobody is given what is not what was written: of a part that nobody has looked at yet, what comes before the first
/// damage, as its end and the offset after it.
fn good_part(segment: &Segment, start: usize, end: usize, from: Offset) -> ((usize, Offset), Option<Damage>) {
    let mut good = (start, from);
    for batch in segment.batches(start) {
        let checked = batch.and_then(|batch| segment.check(&batch).map(|()| batch));
        match checked {
            Ok(batch) if batch.position < end => good = (batch.end(), batch.last_offset.plus(1)),
            Ok(_) => break,
            Err(damage) => return (good, Some(damage)),
        }
        if good.0 >= end {
            break;
        }
    }
    (good, None)
}

/// The last indexed batch that begins at or before `position_max` and ends below `below`: what
/// lies before it need not be walked over.
fn jump(segment: &Segment, position_max: usize, below: Offset) -> Option<Located> {
    let index = segment.index.bytes();
    let by_position = offset_index::at_or_below_position(index, position_max as u64)?;
    let by_offset = offset_index::at_or_below_offset(index, below.since(segment.base).checked_sub(1)?)?;
    let entry = if by_position.position < by_offset.position { by_position } else { by_offset };
    segment.verify(entry)
}

/// The first record of a batch at or after a time, and not deleted.
fn record_at(segment: &Segment, batch: &Located, timestamp_ms: i64, log_start: Offset) -> Option<(Offset, i64)> {
    let bytes = segment.log.bytes().get(batch.position..batch.end())?;
    let decoded = Batch::parse_unchecked(bytes).and_then(|batch| batch.decode(DECODED_BYTES_MAX));
    let whole = (batch.first_offset.max(log_start), batch.header.max_timestamp);
    let Ok(decoded) = decoded else { return Some(whole).filter(|(offset, _)| *offset <= batch.last_offset) };
    for record in decoded.records() {
        match record {
            Ok(record) if record.offset < log_start || record.timestamp_ms < timestamp_ms => {}
            Ok(record) => return Some((record.offset, record.timestamp_ms)),
            Err(_) => return Some(whole).filter(|(offset, _)| *offset <= batch.last_offset),
        }
    }
    None
}
