//! Reads a segment from disk as if it were hostile: every checksum, every offset, every epoch.
//!
//! Lengths are believed only as far as the file reaches, and nothing is allocated by them: the
//! checksum runs over a fixed buffer. System calls and not the map are used, because a sector that
//! cannot be read is an error here and the end of the process there.

use std::io::{self, BufRead, Read};

use pubg1_model::{
    LeaderEpoch, Offset,
    leader_epochs::LeaderEpochs,
    record_batch::{BatchError, BatchHeader, HEADER_BYTES},
};

use crate::{error::DamageReason, indexer::relative};

/// Where the bytes under a batch's checksum begin.
const CRC_FROM: usize = 21;
/// Fits the caches that checksums run from, and is large for a system call.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// What the batches of a segment are held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanRules<'a> {
    /// Base offset of the segment.
    pub(crate) base: Offset,
    /// Offset the first batch must begin with.
    pub(crate) expected: Offset,
    /// A batch that begins at or below this offset may leave a gap before it.
    pub(crate) gaps_end: Offset,
    /// The leader epoch before the segment; -1 when there was none.
    pub(crate) epoch: i32,
    /// The leader epochs, which are stored before the first batch of each: a batch's epoch is not
    /// under its checksum, so this is what tells a wrong one. `None` when they are unreadable.
    pub(crate) epochs: Option<&'a LeaderEpochs>,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Bytes of good batches from the beginning.
    pub(crate) valid_bytes: u64,
    /// The offset after the last good batch.
    pub(crate) next_offset: Offset,
    /// The leader epoch of the last good batch, or the one before the segment.
    pub(crate) epoch: i32,
    /// Why the scan ended before the file did.
    pub(crate) stop: Option<DamageReason>,
}

/// Reads `length` bytes of batches and shows each good one, with its position, to `on_batch`.
///
/// # Errors
/// Only those of reading.
pub(crate) fn scan(
    input: &mut impl BufRead,
    length: u64,
    rules: ScanRules<'_>,
    mut on_batch: impl FnMut(&BatchHeader, u64),
) -> io::Result<Scan> {
    let mut scan = Scan { valid_bytes: 0, next_offset: rules.expected, epoch: rules.epoch, stop: None };
    while scan.valid_bytes < length {
        match read_batch(input, length - scan.valid_bytes, &rules, &scan)? {
            Ok((header, next_offset)) => {
                on_batch(&header, scan.valid_bytes);
                scan.valid_bytes += header.total_bytes() as u64;
                scan.next_offset = next_offset;
                scan.epoch = header.partition_leader_epoch;
            }
            Err(reason) => {
                scan.stop = Some(reason);
                break;
            }
        }
    }
    Ok(scan)
}

fn read_batch(
    input: &mut impl BufRead,
    available: u64,
    rules: &ScanRules<'_>,
    scan: &Scan,
) -> io::Result<Result<(BatchHeader, Offset), DamageReason>> {
    if available < HEADER_BYTES as u64 {
        return Ok(Err(BatchError::Truncated { needed: HEADER_BYTES as u64, available }.into()));
    }
    let mut bytes = [0; HEADER_BYTES];
    input.read_exact(&mut bytes)?;
    let header = match BatchHeader::parse(&bytes) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error.into())),
    };
    let needed = header.total_bytes() as u64;
    if needed > available {
        return Ok(Err(BatchError::Truncated { needed, available }.into()));
    }
    let computed = checksum(input, crc32c::crc32c(&bytes[CRC_FROM..]), needed - HEADER_BYTES as u64)?;
    if computed != header.crc {
        return Ok(Err(BatchError::Checksum { stored: header.crc, computed }.into()));
    }
    Ok(check_place(&header, rules, scan).map(|next_offset| (header, next_offset)))
}

fn checksum(input: &mut impl BufRead, mut crc: u32, mut left: u64) -> io::Result<u32> {
    while left > 0 {
        let buffer = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        crc = crc32c::crc32c_append(crc, &buffer[..taken]);
        input.consume(taken);
        left -= taken as u64;
    }
    Ok(crc)
}

/// Whether the batch belongs exactly here; the offset after it if so.
fn check_place(header: &BatchHeader, rules: &ScanRules<'_>, scan: &Scan) -> Result<Offset, DamageReason> {
    let last = header.base_offset.saturating_add(i64::from(header.last_offset_delta));
    let misplaced = DamageReason::Discontinuity { first: header.base_offset, last };
    let (Some(first), Some(last)) = (header.first_offset(), header.last_offset()) else { return Err(misplaced) };
    let is_next = first == scan.next_offset || (first > scan.next_offset && first <= rules.gaps_end);
    if !is_next || last < first || relative(rules.base, last).is_none() || last == Offset::MAX {
        return Err(misplaced);
    }
    let records = u64::try_from(header.record_count).unwrap_or(u64::MAX);
    if records > header.offsets_spanned() {
        return Err(BatchError::Field {
            field: "record_count",
            value: i64::from(header.record_count),
            reason: "must not exceed the offsets of the batch",
        }
        .into());
    }
    let epoch = header.partition_leader_epoch;
    let assigned = rules.epochs.and_then(|epochs| epochs.epoch_at(first)).map(LeaderEpoch::to_wire);
    if epoch < scan.epoch.max(0) || assigned.is_some_and(|assigned| assigned != epoch) {
        return Err(DamageReason::Epoch { expected: assigned.unwrap_or(scan.epoch), epoch });
    }
    Ok(last.plus(1))
}

/// How many of the next bytes lie before the last one that is not zero.
///
/// # Errors
/// Only those of reading.
pub(crate) fn bytes_before_zeros(input: &mut impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut read, mut used) = (0_u64, 0_u64);
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(used),
            Ok(count) => {
                if let Some(last) = buffer[..count].iter().rposition(|byte| *byte != 0) {
                    used = read + last as u64 + 1;
                }
                read += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
