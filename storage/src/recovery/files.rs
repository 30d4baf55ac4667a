//! The files of segments while a log is opened: listing, reading, cutting, syncing.

use std::{
    fs::File,
    io::{self, BufReader, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

use pubg1_model::Offset;

use crate::{
    disk::{Disk, open_rw, remove},
    error::StorageError,
    indexer::BuiltIndexes,
    producer_snapshot::TEMPORARY,
    scan::{BUFFER_BYTES, Scan, ScanRules, bytes_before_zeros, scan},
    segment::{INDEX, LOG, SegmentPaths, TIME_INDEX, parse_file_name, system_time},
};

/// The base offsets of the segments in a directory, in order. Files that were being written when
/// the last process ended, and indexes without a log, are removed.
pub(super) fn list_segments(dir: &Path) -> Result<Vec<Offset>, StorageError> {
    let (mut bases, mut indexes) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(dir).map_err(StorageError::io("list", dir))? {
        let name = entry.map_err(StorageError::io("list", dir))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(&format!(".{TEMPORARY}")) {
            remove(&dir.join(name))?;
            continue;
        }
        match parse_file_name(name) {
            Some((base, LOG)) => bases.push(base),
            Some((base, INDEX | TIME_INDEX)) => indexes.push((base, dir.join(name))),
            _ => {}
        }
    }
    bases.sort_unstable();
    for (base, path) in indexes {
        if bases.binary_search(&base).is_err() {
            remove(&path)?;
        }
    }
    Ok(bases)
}

/// Size of a segment's log file.
pub(super) fn log_bytes(dir: &Path, base: Offset) -> Result<u64, StorageError> {
    let path = SegmentPaths::new(dir, base).log;
    Ok(std::fs::metadata(&path).map_err(StorageError::io("read the size of", &path))?.len())
}

/// Bytes of a segment's log before the zeros that were allocated ahead.
pub(super) fn used_bytes(dir: &Path, base: Offset) -> Result<u64, StorageError> {
    let path = SegmentPaths::new(dir, base).log;
    let mut file = File::open(&path).map_err(StorageError::io("open", &path))?;
    bytes_before_zeros(&mut file).map_err(StorageError::io("read", &path))
}

pub(super) fn set_modified(file: &File, ms: i64) -> io::Result<()> {
    file.set_modified(system_time(ms))
}

/// Writes both indexes of a segment in the place of what is there, durably but for their names.
pub(crate) fn write_indexes(disk: &dyn Disk, paths: &SegmentPaths, built: &BuiltIndexes) -> Result<(), StorageError> {
    for (path, bytes) in [(&paths.index, &built.index), (&paths.time_index, &built.time_index)] {
        // A new file: a reader of an earlier life of this log may have the old one mapped.
        remove(path)?;
        let file = disk.create(path).map_err(StorageError::io("create", path))?;
        file.write_all_at(bytes, 0).map_err(StorageError::io("write", path))?;
        disk.sync(path, &mut || file.sync_all()).map_err(StorageError::io("sync", path))?;
    }
    Ok(())
}

/// A segment that was read from beginning to end, or to its first bad batch.
pub(super) struct ScannedSegment {
    pub(super) base: Offset,
    pub(super) scan: Scan,
    pub(super) built: BuiltIndexes,
    paths: SegmentPaths,
    /// Where the first batch lies that is not known to be on stable storage.
    unflushed_from: Option<u64>,
}

impl ScannedSegment {
    /// Reads a segment. What ends above `flushed` is noted, to be written again: the kernel may
    /// show what the disk never got. `None`: nobody knows what was flushed.
    pub(super) fn read(
        dir: &Path,
        rules: ScanRules<'_>,
        flushed: Option<Offset>,
        interval_bytes: u64,
    ) -> Result<Self, StorageError> {
        let base = rules.base;
        let paths = SegmentPaths::new(dir, base);
        let file = File::open(&paths.log).map_err(StorageError::io("open", &paths.log))?;
        let length = file.metadata().map_err(StorageError::io("read the size of", &paths.log))?.len();
        let mut built = BuiltIndexes::new(base, interval_bytes);
        let mut unflushed_from = None;
        let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
        let scan = scan(&mut input, length, rules, |header, position| {
            built.push(header, position);
            if flushed.zip(header.last_offset()).is_some_and(|(flushed, last)| last >= flushed) {
                unflushed_from.get_or_insert(position);
            }
        })
        .map_err(StorageError::io("read", &paths.log))?;
        Ok(Self { base, scan, built, paths, unflushed_from })
    }

    /// Bytes behind the good batches that are not zeros.
    pub(super) fn torn_bytes(&self) -> Result<u64, StorageError> {
        let mut file = File::open(&self.paths.log).map_err(StorageError::io("open", &self.paths.log))?;
        file.seek(SeekFrom::Start(self.scan.valid_bytes)).map_err(StorageError::io("read", &self.paths.log))?;
        bytes_before_zeros(&mut file).map_err(StorageError::io("read", &self.paths.log))
    }

    /// Brings the good part to stable storage, with new indexes; cuts what lies behind it.
    pub(super) fn store(&self, disk: &dyn Disk, cut: bool) -> Result<(), StorageError> {
        let path = &self.paths.log;
        let modified_ms = crate::segment::modified_ms(path)?;
        let file = open_rw(path).map_err(StorageError::io("open", path))?;
        if cut {
            file.set_len(self.scan.valid_bytes).map_err(StorageError::io("cut", path))?;
        }
        if let Some(from) = self.unflushed_from {
            rewrite(&file, from, self.scan.valid_bytes).map_err(StorageError::io("write", path))?;
        }
        let mut sync = || {
            set_modified(&file, modified_ms)?;
            file.sync_all()
        };
        disk.sync(path, &mut sync).map_err(StorageError::io("sync", path))?;
        write_indexes(disk, &self.paths, &self.built)
    }
}

/// Writes what the file holds in place, so that the kernel takes it for new.
fn rewrite(file: &File, from: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = from;
    while at < end {
        let bytes = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact_at(&mut buffer[..bytes], at)?;
        file.write_all_at(&buffer[..bytes], at)?;
        at += bytes as u64;
    }
    Ok(())
}
