//! Opening a log after any kind of stop.
//!
//! After a clean stop the files are believed when their sizes and the ends of their indexes agree
//! with the mark. Otherwise everything from the segment that holds the recovery point on is read
//! and checked. What is bad at or above the recovery point was never on stable storage: it is a
//! torn end, and cut. What is bad below it was: it is damage, reported and left alone.
//!
//! What is kept is written again from the recovery point on and synced before it counts as
//! flushed: after a failed flush the kernel's cache may show pages that the disk never got and
//! that it no longer knows to be missing.

mod files;
mod indexes;
mod replay;

use std::{path::Path, sync::Arc};

use pubg1_model::{Offset, leader_epochs::LeaderEpochs, producer_state::ProducerStates, topic::TopicConfig};

use self::files::{ScannedSegment, list_segments, log_bytes};
pub(crate) use self::{files::write_indexes, replay::replay};
use crate::{
    active_segment::{ActiveSegment, Capacity},
    checkpoint::{Checkpoint, CheckpointFile, CleanStop, Loaded},
    disk::{Disk, sync_dir},
    epoch_checkpoint,
    error::{Damage, DamageReason, StorageError},
    producer_snapshot,
    scan::ScanRules,
    segment::{Segment, SegmentPaths, created_ms, modified_ms},
};

/// What opening a log found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log was closed properly the last time, or is new: nothing had to be read.
    pub clean: bool,
    /// Bytes whose checksums were computed.
    pub scanned_bytes: u64,
    /// Bytes of a torn end that were cut.
    pub truncated_bytes: u64,
    /// Segments whose indexes were written anew: those that were read, and those whose indexes
    /// were missing or wrong.
    pub rebuilt_indexes: usize,
    /// Segments that the log has.
    pub segments: usize,
    /// The first readable offset.
    pub log_start: Offset,
    /// The offset of the next record.
    pub log_end: Offset,
}

/// An opened log.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) sealed: Vec<Arc<Segment>>,
    pub(crate) active: Option<ActiveSegment>,
    pub(crate) checkpoint_file: Option<CheckpointFile>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: ProducerStates,
    pub(crate) report: RecoveryReport,
}

/// Opens the log in a directory that the caller has locked.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<Recovered, StorageError> {
    let mut bases = list_segments(dir)?;
    let (mut checkpoint_file, is_known) = match CheckpointFile::load(disk, dir)? {
        Loaded::Found(file) => (Some(file), true),
        Loaded::Missing => (None, bases.is_empty()),
        Loaded::Unreadable => {
            tracing::warn!(dir = %dir.display(), "the partition checkpoint is unreadable, the whole log is read");
            (None, false)
        }
    };
    let is_new = checkpoint_file.is_none() && bases.is_empty() && is_known;
    let mut checkpoint = checkpoint_file.as_ref().map_or_else(Checkpoint::default, |file| *file.contents());
    if !is_known {
        checkpoint.log_start = bases.first().copied().unwrap_or_default();
    }
    // A deletion that a crash interrupted is completed.
    while bases.get(1).is_some_and(|next| *next <= checkpoint.log_start) {
        SegmentPaths::new(dir, bases.remove(0)).remove()?;
    }
    let mut recovery = Recovery {
        disk,
        dir,
        config,
        now_ms,
        checkpoint,
        is_known,
        epochs: epoch_checkpoint::load(dir)?,
        sealed: Vec::new(),
        active: None,
        scanned_bytes: 0,
        truncated_bytes: 0,
        rebuilt_indexes: 0,
    };
    let clean_end = match checkpoint.clean {
        Some(clean) => recovery.open_clean(&bases, clean)?,
        None => is_new.then_some(Offset::ZERO),
    };
    let log_end = match clean_end {
        Some(log_end) => log_end,
        None => recovery.open_unclean(&bases)?,
    };
    let segments = recovery.segments();
    let epochs = recovery.load_epochs(&segments, log_end)?;
    producer_snapshot::remove_above(dir, log_end)?;
    let log_start = recovery.checkpoint.log_start;
    let producers = replay(dir, &segments, log_start, log_end)?;
    if clean_end.is_none() {
        sync_dir(&**disk, dir).map_err(StorageError::io("sync directory", dir))?;
        recovery.checkpoint.recovery_point = log_end;
        recovery.checkpoint.clean = None;
        match &mut checkpoint_file {
            Some(file) => file.store_synced(recovery.checkpoint)?,
            None => checkpoint_file = Some(CheckpointFile::create(disk, dir, recovery.checkpoint)?),
        }
    }
    let report = RecoveryReport {
        clean: clean_end.is_some(),
        scanned_bytes: recovery.scanned_bytes,
        truncated_bytes: recovery.truncated_bytes,
        rebuilt_indexes: recovery.rebuilt_indexes,
        segments: segments.len(),
        log_start,
        log_end,
    };
    let Recovery { sealed, active, checkpoint, .. } = recovery;
    Ok(Recovered { sealed, active, checkpoint_file, checkpoint, epochs, producers, report })
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    config: &'a TopicConfig,
    now_ms: i64,
    checkpoint: Checkpoint,
    /// Whether the checkpoint was read, so that the recovery point is a fact.
    is_known: bool,
    /// The stored leader epochs, if they could be read.
    epochs: Option<LeaderEpochs>,
    sealed: Vec<Arc<Segment>>,
    active: Option<ActiveSegment>,
    scanned_bytes: u64,
    truncated_bytes: u64,
    rebuilt_indexes: usize,
}

impl Recovery<'_> {
    fn segments(&self) -> Vec<Arc<Segment>> {
        self.sealed.iter().chain(self.active.as_ref().map(ActiveSegment::segment)).cloned().collect()
    }

    /// Believes the mark of a clean stop if the files look like it; `None` if not.
    fn open_clean(&mut self, bases: &[Offset], clean: CleanStop) -> Result<Option<Offset>, StorageError> {
        let last = match bases.last() {
            None => None,
            Some(base) => Some((*base, log_bytes(self.dir, *base)?)),
        };
        let is_plausible =
            clean.log_end == self.checkpoint.recovery_point && clean.log_end >= self.checkpoint.log_start;
        if !is_plausible
            || last != clean.last_segment
            || bases.first().is_some_and(|base| *base > self.checkpoint.log_start)
        {
            tracing::warn!(dir = %self.dir.display(), "the files are not those of the clean stop, the log is read");
            return Ok(None);
        }
        let mut epoch = -1;
        for (at, base) in bases.iter().enumerate() {
            let end = bases.get(at + 1).copied().unwrap_or(clean.log_end);
            epoch = self.open_flushed(*base, end, epoch)?;
        }
        if let Some(segment) = self.sealed.pop() {
            let bytes = usize::try_from(segment.bytes()).unwrap_or(usize::MAX);
            self.active = Some(self.open_active(segment.base, bytes)?);
        }
        Ok(Some(clean.log_end))
    }

    /// Opens a segment that was closed and flushed. Returns its last leader epoch.
    fn open_flushed(&mut self, base: Offset, end: Offset, epoch: i32) -> Result<i32, StorageError> {
        let is_deep = self.checkpoint.clean.is_none();
        if let Ok(segment) = Segment::open(self.dir, base, self.now_ms)
            && let Some(epoch) = self.check_indexes(&segment, end, is_deep)
        {
            self.sealed.push(Arc::new(segment));
            return Ok(epoch);
        }
        let mut scanned = self.scan(base, base, epoch)?;
        let next_offset = scanned.scan.next_offset;
        if next_offset != end {
            let reason = scanned.scan.stop.take().unwrap_or(DamageReason::Missing { flushed: end });
            return Err(self.damage(base, scanned.scan.valid_bytes, next_offset, reason).into());
        }
        self.keep_sealed(&mut scanned)?;
        Ok(scanned.scan.epoch)
    }

    /// Reads the log from the segment with the recovery point on. Returns the log end.
    fn open_unclean(&mut self, bases: &[Offset]) -> Result<Offset, StorageError> {
        let mut epoch = -1;
        let mut expected = bases.first().copied().unwrap_or(self.checkpoint.log_start);
        if expected > self.checkpoint.log_start {
            let log_start = self.checkpoint.log_start;
            self.judge(expected, 0, log_start, DamageReason::Missing { flushed: expected }, true)?;
            self.drop_from(bases)?;
            return self.reset(log_start);
        }
        for (at, base) in bases.iter().copied().enumerate() {
            let next = bases.get(at + 1).copied();
            if expected != base {
                self.judge(base, 0, expected, DamageReason::Missing { flushed: base }, true)?;
                self.drop_from(&bases[at..])?;
                break;
            }
            if let Some(next) = next.filter(|next| self.is_known && *next <= self.checkpoint.recovery_point) {
                epoch = self.open_flushed(base, next, epoch)?;
                expected = next;
                continue;
            }
            let mut scanned = self.scan(base, base, epoch)?;
            let end = scanned.scan.next_offset;
            epoch = scanned.scan.epoch;
            if next == Some(end) {
                self.keep_sealed(&mut scanned)?;
                expected = end;
                continue;
            }
            // The end may be torn; what was flushed may not be missing from it.
            let recovery_point = self.checkpoint.recovery_point;
            let is_short = next.is_some() || end < recovery_point;
            let missing = is_short.then_some(DamageReason::Missing { flushed: recovery_point });
            if let Some(reason) = scanned.scan.stop.take().or(missing) {
                self.judge(base, scanned.scan.valid_bytes, end, reason, next.is_some())?;
            }
            self.keep_last(&mut scanned)?;
            self.drop_from(&bases[at + 1..])?;
            expected = end;
            break;
        }
        if expected < self.checkpoint.recovery_point {
            let reason = DamageReason::Missing { flushed: self.checkpoint.recovery_point };
            let (base, bytes) = self.segments().last().map_or((expected, 0), |last| (last.base, last.bytes()));
            return Err(self.damage(base, bytes, expected, reason).into());
        }
        self.reset(expected)
    }

    /// Ends reading at `log_end`; when even the log start lies above it nothing is left to keep.
    fn reset(&mut self, log_end: Offset) -> Result<Offset, StorageError> {
        let log_end = if log_end < self.checkpoint.log_start {
            self.active = None;
            for segment in self.sealed.drain(..) {
                segment.paths.remove()?;
            }
            self.drop_from(&list_segments(self.dir)?)?;
            self.checkpoint.log_start
        } else {
            log_end
        };
        self.checkpoint.gaps_end = self.checkpoint.gaps_end.min(log_end);
        self.checkpoint.cleaned_end = self.checkpoint.cleaned_end.min(log_end);
        Ok(log_end)
    }

    /// Tells a torn end, which may be cut, from damage, which may not.
    fn judge(
        &self,
        base: Offset,
        position: u64,
        offset: Offset,
        reason: DamageReason,
        is_followed: bool,
    ) -> Result<(), StorageError> {
        // A whole batch in another's place is no torn end: without the checkpoint it may as well lie
        // behind a gap that compaction left.
        let may_be_torn = !is_followed && !matches!(reason, DamageReason::Discontinuity { .. });
        if self.is_known && offset >= self.checkpoint.recovery_point || !self.is_known && may_be_torn {
            return Ok(());
        }
        let reason = if self.is_known { reason } else { DamageReason::Undecidable };
        Err(self.damage(base, position, offset, reason).into())
    }

    fn damage(&self, base: Offset, position: u64, offset: Offset, reason: DamageReason) -> Damage {
        Damage { file: SegmentPaths::new(self.dir, base).log, position, offset, reason }
    }

    fn scan(&mut self, base: Offset, expected: Offset, epoch: i32) -> Result<ScannedSegment, StorageError> {
        let scanned = {
            let epochs = self.epochs.as_ref();
            let rules = ScanRules { base, expected, gaps_end: self.checkpoint.gaps_end, epoch, epochs };
            let flushed = self.is_known.then_some(self.checkpoint.recovery_point);
            ScannedSegment::read(self.dir, rules, flushed, self.config.index_interval_bytes)?
        };
        self.scanned_bytes += scanned.scan.valid_bytes;
        Ok(scanned)
    }

    /// Makes a segment that others follow durable: cut to its batches, with complete indexes.
    fn keep_sealed(&mut self, scanned: &mut ScannedSegment) -> Result<(), StorageError> {
        scanned.built.finish();
        scanned.store(&**self.disk, true)?;
        self.rebuilt_indexes += 1;
        self.sealed.push(Arc::new(Segment::open(self.dir, scanned.base, self.now_ms)?));
        Ok(())
    }

    /// Makes the last segment durable, cuts what is torn and opens it for appending. Zeros behind
    /// it are space that was allocated ahead; they stay, so that a full disk can be written on.
    fn keep_last(&mut self, scanned: &mut ScannedSegment) -> Result<(), StorageError> {
        let torn_bytes = scanned.torn_bytes()?;
        self.truncated_bytes += torn_bytes;
        if scanned.scan.valid_bytes == 0 {
            return SegmentPaths::new(self.dir, scanned.base).remove();
        }
        scanned.store(&**self.disk, torn_bytes > 0)?;
        self.rebuilt_indexes += 1;
        let bytes = usize::try_from(scanned.scan.valid_bytes).unwrap_or(usize::MAX);
        self.active = Some(self.open_active(scanned.base, bytes)?.with_indexer(scanned.built.indexer));
        Ok(())
    }

    fn open_active(&self, base: Offset, bytes: usize) -> Result<ActiveSegment, StorageError> {
        let paths = SegmentPaths::new(self.dir, base);
        let times = [created_ms(&paths.log)?, modified_ms(&paths.log)?].map(|time| time.min(self.now_ms));
        let segment_bytes = usize::try_from(self.config.segment_bytes).unwrap_or(usize::MAX);
        let capacity = Capacity { log_bytes: segment_bytes, interval_bytes: self.config.index_interval_bytes };
        ActiveSegment::open(self.disk, self.dir, base, bytes, capacity, times)
    }

    /// Removes segments that lie behind the end of the log.
    fn drop_from(&mut self, bases: &[Offset]) -> Result<(), StorageError> {
        for base in bases.iter().rev() {
            self.truncated_bytes += files::used_bytes(self.dir, *base)?;
            SegmentPaths::new(self.dir, *base).remove()?;
        }
        Ok(())
    }
}
