//! Group commit: one flush makes everything durable that was appended before it began.
//!
//! The order matters: segments that were closed, then the active one, then the names in the
//! directory, and only then the recovery point. A failed flush is final. After one the kernel may
//! have dropped what it could not write and report success the next time, so the log is poisoned
//! before anyone else can flush it.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pubg1_model::Offset;

use crate::{
    active_segment::SealedFiles,
    checkpoint::{Checkpoint, CheckpointFile},
    disk::{Disk, sync_dir},
    error::{FlushError, StorageError, is_disk_full},
    mapped_file::MappedFile,
    producer_snapshot,
    segment::{Segment, system_time},
};

/// What the log and its flushes share.
#[derive(Debug)]
pub(crate) struct FlushShared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: Arc<Path>,
    checkpoint: Mutex<CheckpointState>,
    /// Held while a flush runs: two at once could hide each other's errors.
    running: Mutex<()>,
    /// Counts truncations: a flush of what was cut off means nothing.
    generation: AtomicU64,
    failed: OnceLock<FlushError>,
}

/// The checkpoint, or what it will hold once there is something to remember.
#[derive(Debug)]
pub(crate) struct CheckpointState {
    pub(crate) file: Option<CheckpointFile>,
    pub(crate) contents: Checkpoint,
}

impl FlushShared {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: Arc<Path>, checkpoint: CheckpointState) -> Self {
        Self {
            disk,
            dir,
            checkpoint: Mutex::new(checkpoint),
            running: Mutex::new(()),
            generation: AtomicU64::new(0),
            failed: OnceLock::new(),
        }
    }

    /// The reason why nothing is accepted any more, if there is one.
    pub(crate) fn check(&self) -> Result<(), FlushError> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Poisons the log; the first reason stays.
    pub(crate) fn fail(&self, operation: &'static str, path: &Path, source: io::Error) -> FlushError {
        let error = FlushError { operation, path: path.into(), source: Arc::new(source) };
        self.failed.get_or_init(|| error).clone()
    }

    /// [`FlushShared::fail`] for an error that has its path already.
    pub(crate) fn fail_with(&self, error: StorageError) -> FlushError {
        match error {
            StorageError::Flush(error) => error,
            StorageError::Io { operation, path, source } => self.fail(operation, &path, source),
            other => self.fail("change", &self.dir, io::Error::other(other)),
        }
    }

    fn sync(&self, path: &Path, mut sync: impl FnMut() -> io::Result<()>) -> Result<(), FlushError> {
        self.disk.sync(path, &mut sync).map_err(|error| self.fail("flush", path, error))
    }

    /// Keeps flushes from running until the guard is dropped.
    pub(crate) fn pause(&self) -> MutexGuard<'_, ()> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes every flush begun before meaningless. Call it while flushes are paused.
    pub(crate) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.state().contents
    }

    fn state(&self) -> MutexGuard<'_, CheckpointState> {
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the checkpoint durably, creating it if need be.
    pub(crate) fn update_synced(&self, change: impl FnOnce(&mut Checkpoint)) -> Result<(), StorageError> {
        self.check()?;
        let mut state = self.state();
        let mut contents = state.contents;
        change(&mut contents);
        if let Some(file) = &mut state.file {
            // Writing in place needs no space: what fails here is the disk itself.
            if let Err(error) = file.store_synced(contents) {
                return Err(self.fail_with(error).into());
            }
        } else {
            state.file = Some(CheckpointFile::create(&self.disk, &self.dir, contents)?);
        }
        state.contents = contents;
        Ok(())
    }

    /// Notes what is on stable storage. It is a lower bound whenever it arrives on disk, so nobody
    /// waits for it, except now and then (`sync`).
    fn advance_recovery_point(&self, offset: Offset, sync: bool) -> Result<(), FlushError> {
        let mut state = self.state();
        let mut contents = state.contents;
        contents.recovery_point = contents.recovery_point.max(offset);
        let Some(file) = &mut state.file else { return Ok(()) };
        if contents != *file.contents()
            && let Err(error) = file.store(contents)
        {
            tracing::warn!(%error, "the recovery point lags behind; recovery will read more");
            return Ok(());
        }
        if sync {
            file.sync().map_err(|error| self.fail("flush", file.path(), error))?;
        }
        state.contents = contents;
        Ok(())
    }
}

/// A segment that was closed and whose closing is not yet on stable storage.
#[derive(Debug)]
pub(crate) struct Rolled {
    pub(crate) segment: Arc<Segment>,
    pub(crate) files: SealedFiles,
    /// The producers at the end of the segment, encoded.
    pub(crate) snapshot: (Offset, Vec<u8>),
}

/// The part of the active segment that a flush covers.
#[derive(Clone, Debug)]
pub(crate) struct ActiveRange {
    pub(crate) base: Offset,
    pub(crate) log: Arc<MappedFile>,
    pub(crate) path: PathBuf,
    pub(crate) range: Range<usize>,
}

/// A flush of everything that was appended before [`begin_flush`](crate::PartitionLog::begin_flush).
/// It blocks on the disk, so it runs on a thread of its own; dropping it unrun loses nothing.
#[derive(Debug)]
pub struct PendingFlush {
    pub(crate) shared: Arc<FlushShared>,
    pub(crate) generation: u64,
    pub(crate) rolled: Vec<Arc<Rolled>>,
    pub(crate) active: Option<ActiveRange>,
    /// Number of the newest change of names in the directory, if one is not yet synced.
    pub(crate) names: Option<u64>,
    pub(crate) log_end: Offset,
}

/// A flush that is done; hand it to [`complete_flush`](crate::PartitionLog::complete_flush).
#[derive(Debug)]
pub struct Flushed {
    pub(crate) shared: Arc<FlushShared>,
    pub(crate) generation: u64,
    pub(crate) rolled: Vec<Offset>,
    pub(crate) active: Option<(Offset, usize)>,
    pub(crate) names: Option<u64>,
    pub(crate) log_end: Offset,
}

impl Flushed {
    /// Everything below this offset was on stable storage when the flush ended.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.log_end
    }
}

impl PendingFlush {
    /// Writes and waits.
    ///
    /// # Errors
    /// [`FlushError`] is final: the log refuses appends and flushes from then on, and the process
    /// should end.
    pub fn run(self) -> Result<Flushed, FlushError> {
        let shared = &*self.shared;
        let running = shared.pause();
        shared.check()?;
        if self.generation == shared.generation() {
            for rolled in &self.rolled {
                self.flush_rolled(rolled)?;
            }
            if let Some(active) = &self.active {
                shared.sync(&active.path, || active.log.flush(active.range.clone()))?;
            }
            if self.names.is_some() || !self.rolled.is_empty() {
                sync_dir(&*shared.disk, &shared.dir).map_err(|error| shared.fail("flush", &shared.dir, error))?;
            }
            shared.advance_recovery_point(self.log_end, !self.rolled.is_empty())?;
        }
        drop(running);
        Ok(Flushed {
            generation: self.generation,
            rolled: self.rolled.iter().map(|rolled| rolled.segment.base).collect(),
            active: self.active.map(|active| (active.base, active.range.end)),
            names: self.names,
            log_end: self.log_end,
            shared: self.shared,
        })
    }

    /// Cuts the files of a closed segment to their length and syncs them whole.
    fn flush_rolled(&self, rolled: &Rolled) -> Result<(), FlushError> {
        let shared = &*self.shared;
        let modified = system_time(rolled.segment.last_append_ms());
        for file in rolled.files.all() {
            shared.sync(file.path(), || {
                file.cut()?;
                file.file().set_modified(modified)?;
                file.file().sync_all()
            })?;
            file.note_flushed();
        }
        let (offset, bytes) = &rolled.snapshot;
        match producer_snapshot::write(&*shared.disk, &shared.dir, *offset, bytes) {
            Ok(()) => Ok(()),
            // A full disk holds what matters; a disk that fails does not.
            Err(StorageError::Io { operation, path, source }) if !is_disk_full(&source) => {
                Err(shared.fail(operation, &path, source))
            }
            Err(error) => {
                tracing::warn!(%error, "no producer snapshot was written; recovery will read more");
                Ok(())
            }
        }
    }
}
