//! The segment that is appended to.

use std::{path::Path, sync::Arc};

use pubg1_model::{
    Offset,
    record_batch::{BatchHeader, HEADER_BYTES, ValidBatch},
};

use crate::{
    disk::Disk,
    error::StorageError,
    indexer::Indexer,
    mapped_file::{MapWriter, SealedFile},
    offset_index,
    page_cache::{PIECE_BYTES, Written},
    segment::{Segment, SegmentPaths},
    time_index,
};

const LOG_STEP_BYTES_MIN: usize = 1024 * 1024;
const LOG_STEP_BYTES_MAX: usize = 16 * 1024 * 1024;
const INDEX_STEP_BYTES_MIN: usize = 4096;
const INDEX_STEP_BYTES_MAX: usize = 256 * 1024;

/// How large the files of a segment can become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) log_bytes: usize,
    pub(crate) interval_bytes: u64,
}

impl Capacity {
    /// An entry needs more than an interval of log.
    fn entries(&self) -> usize {
        let interval = usize::try_from(self.interval_bytes).unwrap_or(usize::MAX).max(1);
        self.log_bytes / interval + 2
    }
}

/// The one writer of a segment's files.
#[derive(Debug)]
pub(crate) struct ActiveSegment {
    segment: Arc<Segment>,
    log: MapWriter,
    index: MapWriter,
    time_index: MapWriter,
    indexer: Indexer,
    first_append_ms: i64,
    /// Bytes of the log that were [taken](Self::take_written).
    taken: usize,
}

/// The files of a segment that was closed and is not yet flushed.
#[derive(Debug)]
pub(crate) struct SealedFiles {
    pub(crate) log: SealedFile,
    pub(crate) index: SealedFile,
    pub(crate) time_index: SealedFile,
}

impl ActiveSegment {
    /// Creates the files, the log last. After an error none of them is left.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        base: Offset,
        capacity: Capacity,
        now_ms: i64,
    ) -> Result<Self, StorageError> {
        let paths = SegmentPaths::new(dir, base);
        // What an earlier failure could not remove, or a deleted segment left behind.
        paths.remove()?;
        let create = |path: &Path, bytes: usize, step: usize| {
            let mut writer = MapWriter::create(disk, path, bytes)?;
            writer.reserve(1, step)?;
            std::io::Result::Ok(writer)
        };
        let open = || -> std::io::Result<[MapWriter; 3]> {
            let index = create(&paths.index, capacity.entries() * offset_index::ENTRY_BYTES, INDEX_STEP_BYTES_MIN)?;
            let time = create(&paths.time_index, capacity.entries() * time_index::ENTRY_BYTES, INDEX_STEP_BYTES_MIN)?;
            Ok([create(&paths.log, capacity.log_bytes, LOG_STEP_BYTES_MIN)?, index, time])
        };
        match open() {
            Ok(writers) => {
                let created = Self::new(base, paths, writers, Indexer::new(base), [now_ms; 2]);
                // What it will hold is checked as it comes.
                created.segment.set_verified();
                Ok(created)
            }
            Err(error) => {
                let error = StorageError::io("create", &paths.log)(error);
                paths.remove()?;
                Err(error)
            }
        }
    }

    /// Goes on with a segment of which `valid_bytes` of log are good and whose indexes are true.
    /// `times` are those of the first and the last append.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        base: Offset,
        valid_bytes: usize,
        capacity: Capacity,
        times: [i64; 2],
    ) -> Result<Self, StorageError> {
        let paths = SegmentPaths::new(dir, base);
        let file_bytes = |path: &Path| {
            let bytes = std::fs::metadata(path).map_err(StorageError::io("read the size of", path))?.len();
            usize::try_from(bytes).map_err(|_| StorageError::io("map", path)(std::io::ErrorKind::FileTooLarge.into()))
        };
        let open = |path: &Path, valid: usize, bytes: usize| {
            MapWriter::open(disk, path, valid, bytes.max(valid + INDEX_STEP_BYTES_MIN))
                .map_err(StorageError::io("map", path))
        };
        let entries = capacity.entries();
        let writers = [
            open(&paths.log, valid_bytes, capacity.log_bytes)?,
            open(&paths.index, file_bytes(&paths.index)?, entries * offset_index::ENTRY_BYTES)?,
            open(&paths.time_index, file_bytes(&paths.time_index)?, entries * time_index::ENTRY_BYTES)?,
        ];
        let [_, index, time_index] = &writers;
        let indexer = Indexer::resume(base, valid_bytes as u64, index.mapped().bytes(), time_index.mapped().bytes());
        Ok(Self::new(base, paths, writers, indexer, times))
    }

    fn new(
        base: Offset,
        paths: SegmentPaths,
        [log, index, time_index]: [MapWriter; 3],
        indexer: Indexer,
        [first_append_ms, last_append_ms]: [i64; 2],
    ) -> Self {
        let maps = [&log, &index, &time_index].map(|writer| Arc::clone(writer.mapped()));
        let segment = Segment::new(base, paths, maps, indexer.largest_timestamp_ms(), last_append_ms);
        // What was there before is nobody's newest.
        let taken = log.len() - log.len() % PIECE_BYTES;
        Self { segment: Arc::new(segment), log, index, time_index, indexer, first_append_ms, taken }
    }

    /// The indexer of a segment that recovery has just read, which knows more than the indexes do.
    pub(crate) fn with_indexer(mut self, indexer: Indexer) -> Self {
        self.indexer = indexer;
        self.segment.note_append(indexer.largest_timestamp_ms(), self.segment.last_append_ms());
        self
    }

    pub(crate) const fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn bytes(&self) -> usize {
        self.log.len()
    }

    /// When its first batch came, by the broker's clock.
    pub(crate) const fn first_append_ms(&self) -> i64 {
        self.first_append_ms
    }

    /// Whether `bytes` more fit, for a topic that closes segments at `segment_bytes`.
    pub(crate) fn has_room_for(&self, bytes: usize, last_offset: Offset, segment_bytes: u64) -> bool {
        let end = self.bytes().saturating_add(bytes);
        end <= self.log.capacity()
            && end as u64 <= segment_bytes
            && crate::indexer::relative(self.segment.base, last_offset).is_some()
    }

    /// Writes a batch with its base offset and epoch: all of it or, after an error, nothing.
    ///
    /// `header` is the batch's with both assigned.
    pub(crate) fn append(
        &mut self,
        batch: &ValidBatch,
        header: &BatchHeader,
        interval_bytes: u64,
        now_ms: i64,
    ) -> Result<(), StorageError> {
        let bytes = batch.bytes();
        let position = self.log.len();
        // Fewer entries than the topic asks for are better than no append.
        let has_index_room = self.index.len() + offset_index::ENTRY_BYTES <= self.index.capacity()
            && self.time_index.len() + 2 * time_index::ENTRY_BYTES <= self.time_index.capacity();
        let interval_bytes = if has_index_room { interval_bytes } else { u64::MAX };
        let mut indexer = self.indexer;
        let (index_entry, time_entry) = indexer
            .push(header, position as u64, interval_bytes)
            .ok_or_else(|| StorageError::io("append to", self.log.path())(std::io::ErrorKind::FileTooLarge.into()))?;
        // One time entry more is kept ready for closing the segment.
        reserve(&mut self.index, offset_index::ENTRY_BYTES * usize::from(index_entry.is_some()), false)?;
        reserve(&mut self.time_index, time_index::ENTRY_BYTES * (1 + usize::from(time_entry.is_some())), false)?;
        reserve(&mut self.log, bytes.len(), true)?;

        let records = bytes.get(HEADER_BYTES..).unwrap_or_default();
        self.log.append_parts(&header.encode(), records).map_err(StorageError::io("append to", self.log.path()))?;
        append_entry(&mut self.index, index_entry.map(|entry| entry.encode()))?;
        append_entry(&mut self.time_index, time_entry.map(|entry| entry.encode()))?;
        self.indexer = indexer;
        self.segment.note_append(indexer.largest_timestamp_ms(), now_ms);
        Ok(())
    }

    /// Completes the time index; the segment is closed next. Can be tried again after an error.
    pub(crate) fn finish(&mut self) -> Result<(), StorageError> {
        let mut indexer = self.indexer;
        if let Some(entry) = indexer.finish() {
            reserve(&mut self.time_index, time_index::ENTRY_BYTES, false)?;
            append_entry(&mut self.time_index, Some(entry.encode()))?;
        }
        self.indexer = indexer;
        Ok(())
    }

    /// From which offset on its memory was not given back; `None` where the index does not tell.
    pub(crate) fn kept_from(&self) -> Option<Offset> {
        let base = self.segment.base;
        match self.log.mapped().released() {
            0 => Some(base),
            released => {
                let entry = offset_index::at_or_above_position(self.index.mapped().bytes(), released as u64)?;
                Some(base.plus(u64::from(entry.relative_offset)))
            }
        }
    }

    /// The log's bytes that were written since this was last asked, in whole pieces, or all of them when it is `whole`.
    pub(crate) fn take_written(&mut self, whole: bool) -> Option<Written> {
        let end = if whole { self.bytes() } else { self.bytes() - self.bytes() % PIECE_BYTES };
        let range = self.taken..end;
        self.taken = end.max(self.taken);
        (!range.is_empty()).then(|| Written::new(self.log.mapped(), self.log.path(), range))
    }

    /// Gives up writing.
    pub(crate) fn into_sealed(self) -> (Arc<Segment>, SealedFiles) {
        let files = SealedFiles {
            log: self.log.into_sealed(),
            index: self.index.into_sealed(),
            time_index: self.time_index.into_sealed(),
        };
        (self.segment, files)
    }
}

impl SealedFiles {
    /// The files, the log last.
    pub(crate) const fn all(&self) -> [&SealedFile; 3] {
        [&self.index, &self.time_index, &self.log]
    }
}

fn reserve(writer: &mut MapWriter, bytes: usize, is_log: bool) -> Result<(), StorageError> {
    let (min, max) =
        if is_log { (LOG_STEP_BYTES_MIN, LOG_STEP_BYTES_MAX) } else { (INDEX_STEP_BYTES_MIN, INDEX_STEP_BYTES_MAX) };
    // Doubling: a step is as large as what is there.
    let step = writer.len().clamp(min, max);
    writer.reserve(bytes, step).map_err(StorageError::io("grow", writer.path()))
}

fn append_entry<const N: usize>(writer: &mut MapWriter, entry: Option<[u8; N]>) -> Result<(), StorageError> {
    let Some(entry) = entry else { return Ok(()) };
    writer.append(N, |target| target.copy_from_slice(&entry)).map_err(StorageError::io("append to", writer.path()))
}
