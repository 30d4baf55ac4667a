//! The log of one partition: its only writer.

mod append;
mod cleaning;
mod group_commit;
mod replicated;
mod retention;
mod truncation;

use std::{fs::File, path::Path, sync::Arc};

use pubg1_model::{
    LeaderEpoch, Offset, leader_epochs::LeaderEpochs, producer_state::ProducerStates, topic::TopicConfig,
};

use crate::{
    active_segment::{ActiveSegment, Capacity},
    checkpoint::CleanStop,
    disk::{Disk, SystemDisk, create_dir, lock_dir, sync_dir},
    epoch_checkpoint,
    error::{FlushError, StorageError},
    flush::{CheckpointState, FlushShared, Rolled},
    page_cache::Written,
    producer_snapshot,
    reader::LogReader,
    recovery::{self, RecoveryReport},
    segment::{Segment, system_time},
    shared::SharedLog,
};

pub use append::Appended;
pub use retention::Deleted;

/// The log of one partition, in one directory, of which it is the only writer.
///
/// `log_start_offset ≤ log_end_offset` and `flushed_offset ≤ log_end_offset` always hold, and no
/// offset is given twice: not after a truncation that was agreed on (its records never counted),
/// and not after a crash (what was lost was not flushed).
///
/// Dropping it without [`PartitionLog::close`] is safe and like a crash of the process: the next
/// [`PartitionLog::open`] reads the end of the log again.
#[derive(Debug)]
pub struct PartitionLog {
    dir: Arc<Path>,
    disk: Arc<dyn Disk>,
    /// Keeps other logs off the directory.
    _lock: File,
    config: TopicConfig,
    shared: Arc<SharedLog>,
    flush: Arc<FlushShared>,
    sealed: Vec<Arc<Segment>>,
    active: Option<ActiveSegment>,
    /// Bytes of the active segment's log that are on stable storage.
    active_flushed_bytes: usize,
    /// Closed segments that are not flushed yet.
    rolled: Vec<Arc<Rolled>>,
    /// Parts of closed segments that nobody has been told of.
    written: Vec<Written>,
    log_start: Offset,
    log_end: Offset,
    flushed: Offset,
    epochs: LeaderEpochs,
    producers: ProducerStates,
    /// Whether the mark of the last clean stop is gone from the disk.
    is_marked_open: bool,
    /// Counts files created; compared with what was synced.
    names_changed: u64,
    names_synced: u64,
    /// When the next tombstones may be removed, as far as this process knows.
    tombstones_due_ms: Option<i64>,
}

impl PartitionLog {
    /// Opens the log in `dir`, creating the directory if need be, and brings it to a state in
    /// which everything it holds is whole and on stable storage.
    ///
    /// # Errors
    /// [`StorageError::Damage`] when flushed records are not what was written: the log is left as
    /// it is. [`StorageError::Locked`], [`StorageError::Config`] or [`StorageError::Io`].
    pub fn open(dir: &Path, config: &TopicConfig, now_ms: i64) -> Result<(Self, RecoveryReport), StorageError> {
        Self::open_on(Arc::new(SystemDisk), dir, config, now_ms)
    }

    /// [`PartitionLog::open`] on a disk that may fail as a test wants it to.
    ///
    /// # Errors
    /// As for [`PartitionLog::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<(Self, RecoveryReport), StorageError> {
        config.validate()?;
        create_dir(&*disk, dir)?;
        let lock = lock_dir(dir)?;
        let recovered = recovery::recover(&disk, dir, config, now_ms)?;
        let dir: Arc<Path> = dir.into();
        let checkpoint = CheckpointState { file: recovered.checkpoint_file, contents: recovered.checkpoint };
        let report = recovered.report;
        let mut log = Self {
            shared: Arc::new(SharedLog::new(Arc::new([]), report.log_start, report.log_end)),
            flush: Arc::new(FlushShared::new(Arc::clone(&disk), Arc::clone(&dir), checkpoint)),
            dir,
            disk,
            _lock: lock,
            config: config.clone(),
            sealed: recovered.sealed,
            active_flushed_bytes: recovered.active.as_ref().map_or(0, ActiveSegment::bytes),
            active: recovered.active,
            rolled: Vec::new(),
            written: Vec::new(),
            log_start: report.log_start,
            log_end: report.log_end,
            flushed: report.log_end,
            epochs: recovered.epochs,
            producers: recovered.producers,
            is_marked_open: !report.clean,
            names_changed: 0,
            names_synced: 0,
            tombstones_due_ms: None,
        };
        log.publish_segments();
        Ok((log, report))
    }

    /// The first readable offset.
    #[must_use]
    pub const fn log_start_offset(&self) -> Offset {
        self.log_start
    }

    /// The offset of the next record.
    #[must_use]
    pub const fn log_end_offset(&self) -> Offset {
        self.log_end
    }

    /// Everything below this offset is on stable storage.
    #[must_use]
    pub const fn flushed_offset(&self) -> Offset {
        self.flushed
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes()).sum()
    }

    /// How many segments there are; 0 until the first append.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments().count()
    }

    /// The leader epochs of the log.
    #[must_use]
    pub const fn leader_epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// How many idempotent producers are remembered.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A reader that lives independently of the writer.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// The reason why the log accepts nothing any more, after a failed flush.
    ///
    /// # Errors
    /// That reason.
    pub fn check_flushes(&self) -> Result<(), FlushError> {
        self.flush.check()
    }

    /// Changes the topic's settings; they count from the next append, retention or compaction on.
    ///
    /// # Errors
    /// [`StorageError::Config`]; then the old settings stay.
    pub fn set_config(&mut self, config: &TopicConfig) -> Result<(), StorageError> {
        config.validate()?;
        self.config = config.clone();
        Ok(())
    }

    /// Notes, durably, that the leader of `epoch` appends from the log end on. An epoch that is
    /// already the newest stays as it is.
    ///
    /// # Errors
    /// [`StorageError::StaleEpoch`] for an older epoch, [`StorageError::Io`].
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) -> Result<(), StorageError> {
        self.flush.check()?;
        if let Some(current) = self.epochs.latest().filter(|current| *current > epoch) {
            return Err(StorageError::StaleEpoch { current, received: epoch });
        }
        let mut epochs = self.epochs.clone();
        if epochs.assign(epoch, self.log_end) {
            epoch_checkpoint::store(&*self.disk, &self.dir, &epochs)?;
            self.epochs = epochs;
        }
        Ok(())
    }

    /// Flushes everything, gives back the space that was allocated ahead and leaves a mark, so
    /// that the next [`PartitionLog::open`] need not read the log.
    ///
    /// # Errors
    /// [`StorageError::Flush`] when the end of the log may not be on disk, [`StorageError::Io`].
    pub fn close(mut self) -> Result<(), StorageError> {
        self.flush.check()?;
        if let Some(pending) = self.begin_flush() {
            let flushed = pending.run()?;
            self.complete_flush(flushed);
        }
        if !self.is_marked_open {
            return Ok(());
        }
        if let Some(active) = &mut self.active {
            active.finish()?;
        }
        let last_segment = match self.active.take().map(ActiveSegment::into_sealed) {
            None => self.sealed.last().map(|segment| (segment.base, segment.bytes())),
            Some((segment, files)) => {
                for file in files.all() {
                    let mut sync = || {
                        file.cut()?;
                        file.file().set_modified(system_time(segment.last_append_ms()))?;
                        file.file().sync_all()
                    };
                    self.disk.sync(file.path(), &mut sync).map_err(|e| self.flush.fail("flush", file.path(), e))?;
                }
                Some((segment.base, segment.bytes()))
            }
        };
        if let Err(error) = producer_snapshot::write(&*self.disk, &self.dir, self.log_end, &self.producers.encode()) {
            tracing::warn!(%error, "no producer snapshot was written; the next start will read more");
        }
        sync_dir(&*self.disk, &self.dir).map_err(|error| self.flush.fail("flush", &self.dir, error))?;
        let clean = CleanStop { log_end: self.log_end, last_segment };
        self.flush.update_synced(|checkpoint| {
            checkpoint.recovery_point = self.log_end;
            checkpoint.clean = Some(clean);
        })
    }

    fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.sealed.iter().chain(self.active.as_ref().map(ActiveSegment::segment))
    }

    fn publish_segments(&mut self) {
        self.shared.set_segments(self.segments().cloned().collect());
    }

    fn capacity(&self, batch_bytes: usize) -> Capacity {
        let segment_bytes = usize::try_from(self.config.segment_bytes).unwrap_or(usize::MAX);
        Capacity { log_bytes: segment_bytes.max(batch_bytes), interval_bytes: self.config.index_interval_bytes }
    }

    /// Removes the mark of the last clean stop, before anything changes that it speaks of.
    fn mark_open(&mut self) -> Result<(), StorageError> {
        if !self.is_marked_open {
            self.flush.update_synced(|checkpoint| checkpoint.clean = None)?;
            self.is_marked_open = true;
        }
        Ok(())
    }
}

/// Waits for a flush that is running and makes those that come too late do nothing: by then another
/// log may be open on the directory.
impl Drop for PartitionLog {
    fn drop(&mut self) {
        let _paused = self.flush.pause();
        self.flush.next_generation();
    }
}
