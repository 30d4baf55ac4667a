//! Writes a segment anew, batch by batch, once there is something to change.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

use pubg1_model::{Offset, record_batch::BatchHeader};

use crate::{
    error::StorageError,
    flush::FlushShared,
    indexer::BuiltIndexes,
    producer_snapshot::TEMPORARY,
    segment::{Located, Segment, SegmentPaths, system_time},
};

/// New files for a segment, complete and synced, under temporary names.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub(crate) base: Offset,
    pub(crate) temporary: SegmentPaths,
    bytes: u64,
}

impl Replacement {
    /// Bytes of the new log.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Removes what was written.
    pub(crate) fn discard(&self) -> Result<(), StorageError> {
        self.temporary.remove()
    }
}

/// Recovery removes what ends like this. The number keeps a job that outlives its log from touching
/// the files of another.
fn temporary(paths: &SegmentPaths) -> SegmentPaths {
    let number = RandomState::new().hash_one(());
    let name = |path: &PathBuf| {
        let mut name = path.clone().into_os_string();
        name.push(format!(".{number:016x}.{TEMPORARY}"));
        PathBuf::from(name)
    };
    SegmentPaths { log: name(&paths.log), index: name(&paths.index), time_index: name(&paths.time_index) }
}

/// Follows a segment from its beginning; as long as nothing changes nothing is written.
#[derive(Debug)]
pub(crate) struct Rewriter {
    shared: Arc<FlushShared>,
    segment: Arc<Segment>,
    temporary: SegmentPaths,
    output: Option<BufWriter<File>>,
    built: BuiltIndexes,
    position: u64,
}

impl Rewriter {
    pub(crate) fn new(shared: &Arc<FlushShared>, segment: &Arc<Segment>, interval_bytes: u64) -> Self {
        let built = BuiltIndexes::new(segment.base, interval_bytes);
        let (shared, segment, temporary) = (Arc::clone(shared), Arc::clone(segment), temporary(&segment.paths));
        Self { shared, segment, temporary, output: None, built, position: 0 }
    }

    /// The batch stays as it is.
    pub(super) fn keep(&mut self, batch: &Located) -> Result<(), StorageError> {
        let segment = Arc::clone(&self.segment);
        self.push(&batch.header, &segment.log.bytes()[batch.position..batch.end()])
    }

    /// A batch from elsewhere is next; nothing of the segment stays.
    pub(crate) fn add(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), StorageError> {
        self.start(0)?;
        self.push(header, bytes)
    }

    /// Removes what was written.
    pub(crate) fn discard(self) -> Result<(), StorageError> {
        self.temporary.remove()
    }

    /// Other bytes take the batch's place.
    pub(super) fn replace(&mut self, batch: &Located, bytes: &[u8]) -> Result<(), StorageError> {
        self.start(batch.position)?;
        let header = BatchHeader::parse(bytes)
            .map_err(|error| StorageError::io("write", &self.temporary.log)(std::io::Error::other(error)))?;
        self.push(&header, bytes)
    }

    /// The batch is left out.
    pub(super) fn drop_batch(&mut self, batch: &Located) -> Result<(), StorageError> {
        self.start(batch.position)
    }

    fn push(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), StorageError> {
        self.built.push(header, self.position);
        self.position += bytes.len() as u64;
        let Some(output) = &mut self.output else { return Ok(()) };
        let written = output.write_all(bytes).map_err(StorageError::io("write", &self.temporary.log));
        self.or_discard(written)
    }

    /// Begins to write: what comes before `position` is copied.
    fn start(&mut self, position: usize) -> Result<(), StorageError> {
        if self.output.is_some() {
            return Ok(());
        }
        self.temporary.remove()?;
        let path = &self.temporary.log;
        let file = self.shared.disk.create(path).map_err(StorageError::io("create", path))?;
        let mut output = BufWriter::with_capacity(crate::scan::BUFFER_BYTES, file);
        let copied = output.write_all(&self.segment.log.bytes()[..position]).map_err(StorageError::io("write", path));
        self.output = Some(output);
        self.or_discard(copied)
    }

    fn or_discard(&self, result: Result<(), StorageError>) -> Result<(), StorageError> {
        if result.is_err() {
            self.temporary.remove()?;
        }
        result
    }

    /// Syncs what was written; `None` when nothing changed. The file's modification time becomes
    /// the time of the segment's first compaction.
    pub(crate) fn finish(mut self, cleaned_ms: i64) -> Result<Option<Replacement>, StorageError> {
        let Some(output) = self.output.take() else { return Ok(None) };
        let stored = self.store(output, cleaned_ms);
        self.or_discard(stored)?;
        Ok(Some(Replacement { base: self.segment.base, temporary: self.temporary, bytes: self.position }))
    }

    fn store(&mut self, output: BufWriter<File>, cleaned_ms: i64) -> Result<(), StorageError> {
        let path = &self.temporary.log;
        let disk = &*self.shared.disk;
        let file = output.into_inner().map_err(|error| StorageError::io("write", path)(error.into_error()))?;
        let mut sync = || {
            file.set_modified(system_time(cleaned_ms))?;
            file.sync_all()
        };
        disk.sync(path, &mut sync).map_err(StorageError::io("sync", path))?;
        self.built.finish();
        crate::recovery::write_indexes(disk, &self.temporary, &self.built)
    }
}
