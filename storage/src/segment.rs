//! A segment as its readers see it: a mapped log and its two indexes.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use pubg1_model::{
    Offset,
    record_batch::{Batch, BatchError, BatchHeader},
};

use crate::{
    error::{Damage, DamageReason, StorageError},
    indexer::relative,
    mapped_file::MappedFile,
    offset_index::{self, IndexEntry},
    time_index,
};

pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";

/// `00000000000000000042.log`: Kafka's names.
pub(crate) fn file_name(base: Offset, extension: &str) -> String {
    format!("{:020}.{extension}", base.get())
}

/// The offset and the extension of a file named like a segment's.
pub(crate) fn parse_file_name(name: &str) -> Option<(Offset, &str)> {
    let (digits, extension) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some((i64::try_from(value).ok().and_then(Offset::from_wire)?, extension))
}

/// The names of a segment's files.
#[derive(Clone, Debug)]
pub(crate) struct SegmentPaths {
    pub(crate) log: PathBuf,
    pub(crate) index: PathBuf,
    pub(crate) time_index: PathBuf,
}

impl SegmentPaths {
    pub(crate) fn new(dir: &Path, base: Offset) -> Self {
        let path = |extension| dir.join(file_name(base, extension));
        Self { log: path(LOG), index: path(INDEX), time_index: path(TIME_INDEX) }
    }

    /// Gives these files the names of others, the log in one step. An index of another log would
    /// only mislead, so the old ones go first: recovery and readers get on without them.
    pub(crate) fn rename_to(&self, names: &Self) -> Result<(), StorageError> {
        crate::disk::remove(&names.index)?;
        crate::disk::remove(&names.time_index)?;
        for (from, to) in [(&self.log, &names.log), (&self.index, &names.index), (&self.time_index, &names.time_index)]
        {
            std::fs::rename(from, to).map_err(StorageError::io("rename", from))?;
        }
        Ok(())
    }

    /// The log first: without it the others mean nothing.
    pub(crate) fn remove(&self) -> Result<(), StorageError> {
        crate::disk::remove(&self.log)?;
        crate::disk::remove(&self.index)?;
        crate::disk::remove(&self.time_index)
    }
}

/// A batch in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) position: usize,
    pub(crate) header: BatchHeader,
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
}

impl Located {
    pub(crate) fn end(&self) -> usize {
        self.position + self.header.total_bytes()
    }
}

/// The readers' view of a segment. It is immutable but for its published end, which grows while
/// the segment is active.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    pub(crate) paths: SegmentPaths,
    pub(crate) log: Arc<MappedFile>,
    pub(crate) index: Arc<MappedFile>,
    pub(crate) time_index: Arc<MappedFile>,
    largest_timestamp_ms: AtomicI64,
    last_append_ms: AtomicI64,
    /// Every checksum in it was computed since the log was opened: as it was written, or by a verification.
    is_verified: AtomicBool,
}

impl Segment {
    pub(crate) fn new(
        base: Offset,
        paths: SegmentPaths,
        [log, index, time_index]: [Arc<MappedFile>; 3],
        largest_timestamp_ms: i64,
        last_append_ms: i64,
    ) -> Self {
        Self {
            base,
            paths,
            log,
            index,
            time_index,
            largest_timestamp_ms: AtomicI64::new(largest_timestamp_ms),
            last_append_ms: AtomicI64::new(last_append_ms),
            is_verified: AtomicBool::new(false),
        }
    }

    /// Whether what it holds is known to be what was written. Until then readers compute the checksums.
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified.load(Ordering::Relaxed)
    }

    pub(crate) fn set_verified(&self) {
        self.is_verified.store(true, Ordering::Relaxed);
    }

    /// It is not what was written.
    pub(crate) fn set_suspect(&self) {
        self.is_verified.store(false, Ordering::Relaxed);
    }

    /// Computes the checksum of a batch.
    pub(crate) fn check(&self, batch: &Located) -> Result<(), Damage> {
        let bytes = self.log.bytes().get(batch.position..batch.end()).unwrap_or_default();
        match Batch::parse(bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(Damage {
                file: self.paths.log.clone(),
                position: batch.position as u64,
                offset: batch.first_offset,
                reason: error.into(),
            }),
        }
    }

    /// Maps the files of a closed segment. Its largest timestamp is what its time index says.
    pub(crate) fn open(dir: &Path, base: Offset, now_ms: i64) -> Result<Self, StorageError> {
        let paths = SegmentPaths::new(dir, base);
        let map = |path: &Path| MappedFile::open(path).map_err(StorageError::io("map", path));
        let maps = [map(&paths.log)?, map(&paths.index)?, map(&paths.time_index)?];
        let largest = time_index::last(maps[2].bytes()).map_or(-1, |entry| entry.timestamp_ms);
        let modified = modified_ms(&paths.log)?.min(now_ms);
        Ok(Self::new(base, paths, maps, largest, modified))
    }

    /// Bytes of the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.log.len() as u64
    }

    /// The largest timestamp of its records, in milliseconds since 1970; -1 when there is none.
    pub(crate) fn largest_timestamp_ms(&self) -> i64 {
        self.largest_timestamp_ms.load(Ordering::Acquire)
    }

    /// When it was last appended to, by the broker's clock.
    pub(crate) fn last_append_ms(&self) -> i64 {
        self.last_append_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn note_append(&self, largest_timestamp_ms: i64, now_ms: i64) {
        self.largest_timestamp_ms.store(largest_timestamp_ms, Ordering::Release);
        self.last_append_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The batch that begins at `position`; `None` at the end. Its checksum was checked when it
    /// came in, so only its structure is.
    pub(crate) fn batch_at(&self, position: usize) -> Result<Option<Located>, Damage> {
        let log = self.log.bytes();
        let Some(bytes) = log.get(position..).filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
        let damage = |reason: DamageReason| Damage {
            file: self.paths.log.clone(),
            position: position as u64,
            offset: self.base,
            reason,
        };
        let header = BatchHeader::parse(bytes).map_err(|error| damage(error.into()))?;
        let needed = header.total_bytes();
        if needed > bytes.len() {
            let (needed, available) = (needed as u64, bytes.len() as u64);
            return Err(damage(BatchError::Truncated { needed, available }.into()));
        }
        match (header.first_offset(), header.last_offset()) {
            (Some(first_offset), Some(last_offset)) if first_offset <= last_offset => {
                Ok(Some(Located { position, header, first_offset, last_offset }))
            }
            _ => {
                let last = header.base_offset.saturating_add(i64::from(header.last_offset_delta));
                Err(damage(DamageReason::Discontinuity { first: header.base_offset, last }))
            }
        }
    }

    /// The batch that an index entry points to, if the entry is true.
    pub(crate) fn verify(&self, entry: IndexEntry) -> Option<Located> {
        let batch = self.batch_at(usize::try_from(entry.position).ok()?).ok()??;
        (relative(self.base, batch.last_offset) == Some(entry.relative_offset)).then_some(batch)
    }

    /// Walks over the batches from `position`, which must be the beginning of one.
    pub(crate) fn batches(&self, position: usize) -> Batches<'_> {
        Batches { segment: self, position, failed: false }
    }

    /// Walks from a batch at or before the one that holds `offset`: as near as the index knows,
    /// from the beginning when the index is silent or wrong.
    pub(crate) fn batches_near(&self, offset: Offset) -> Batches<'_> {
        let index = self.index.bytes();
        let position = match offset_index::at_or_below_offset(index, offset.since(self.base)) {
            None => 0,
            Some(entry) => match self.verify(entry) {
                Some(batch) => batch.position,
                None => {
                    tracing::warn!(file = %self.paths.index.display(), "the offset index is wrong, the log is searched");
                    0
                }
            },
        };
        self.batches(position)
    }

    /// The first batch that ends at or after `offset`.
    pub(crate) fn locate(&self, offset: Offset) -> Result<Option<Located>, Damage> {
        for batch in self.batches_near(offset) {
            let batch = batch?;
            if batch.last_offset >= offset {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Walks from a batch before which no record is as late as `timestamp_ms`.
    pub(crate) fn batches_near_time(&self, timestamp_ms: i64) -> Result<Batches<'_>, Damage> {
        let Some(entry) = time_index::below(self.time_index.bytes(), timestamp_ms) else { return Ok(self.batches(0)) };
        let offset = self.base.plus(u64::from(entry.relative_offset));
        Ok(match self.locate(offset)? {
            Some(batch) if batch.last_offset == offset && batch.header.max_timestamp == entry.timestamp_ms => {
                self.batches(batch.position)
            }
            _ => {
                tracing::warn!(file = %self.paths.time_index.display(), "the time index is wrong, the log is searched");
                self.batches(0)
            }
        })
    }
}

/// When a file was last written, in milliseconds since 1970.
pub(crate) fn modified_ms(path: &Path) -> Result<i64, StorageError> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    Ok(millis(modified.map_err(StorageError::io("read the times of", path))?))
}

/// When a file was created, or last written where the file system does not tell.
pub(crate) fn created_ms(path: &Path) -> Result<i64, StorageError> {
    let metadata = std::fs::metadata(path).map_err(StorageError::io("read the times of", path))?;
    let time = metadata.created().or_else(|_| metadata.modified());
    Ok(millis(time.map_err(StorageError::io("read the times of", path))?))
}

fn millis(time: std::time::SystemTime) -> i64 {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time for a file's metadata; times before 1970 become 1970.
pub(crate) fn system_time(ms: i64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Walks over the batches of a segment. Ends after the first error.
#[derive(Debug)]
pub(crate) struct Batches<'a> {
    segment: &'a Segment,
    position: usize,
    failed: bool,
}

impl Iterator for Batches<'_> {
    type Item = Result<Located, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.segment.batch_at(self.position) {
            Ok(batch) => {
                let batch = batch?;
                self.position = batch.end();
                Some(Ok(batch))
            }
            Err(damage) => {
                self.failed = true;
                Some(Err(damage))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        assert_eq!(file_name(Offset::new(42), LOG), "00000000000000000042.log");
        assert_eq!(parse_file_name("00000000000000000042.timeindex"), Some((Offset::new(42), TIME_INDEX)));
        assert_eq!(parse_file_name("00000000000000000042.log.cleaned"), Some((Offset::new(42), "log.cleaned")));
        for name in ["42.log", "0000000000000000004x.log", "99999999999999999999.log", "18446744073709551615.log", "x"]
        {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
