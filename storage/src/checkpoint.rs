//! `partition-checkpoint`: what a partition must remember besides its batches.
//!
//! A file of two slots of 128 bytes at 0 and 512, written in turn and in place, so that storing
//! needs no space (retention has to work on a full disk) and a torn write leaves the other slot.
//! The valid slot with the larger sequence number counts. All integers are big-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | CRC-32C of 4..128 |
//! | 4..8 | `PBC1` |
//! | 8..16 | sequence number of the write |
//! | 16..24 | recovery point: everything below it is on stable storage |
//! | 24..32 | log start offset |
//! | 32..40 | gaps end: batches that begin at or below it may leave gaps before them |
//! | 40..48 | cleaned end: below it the log is compacted |
//! | 48..56 | 1 after a clean stop, else 0 |
//! | 56..64 | after a clean stop: log end offset |
//! | 64..72 | after a clean stop: base offset of the last segment, or -1 |
//! | 72..80 | after a clean stop: bytes of its log |
//! | 80..128 | zeros |

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pubg1_model::Offset;

use crate::{
    disk::{Disk, open_rw, remove, sync_dir},
    error::StorageError,
};

/// The file's name.
pub(crate) const CHECKPOINT_FILE: &str = "partition-checkpoint";

const SLOT_BYTES: usize = 128;
const SLOT_DISTANCE: u64 = 512;
const MAGIC: [u8; 4] = *b"PBC1";

/// What a clean stop leaves behind; opening believes it only if the files agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CleanStop {
    pub(crate) log_end: Offset,
    /// Base offset and size of the last segment.
    pub(crate) last_segment: Option<(Offset, u64)>,
}

/// The contents of the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) recovery_point: Offset,
    pub(crate) log_start: Offset,
    pub(crate) gaps_end: Offset,
    pub(crate) cleaned_end: Offset,
    pub(crate) clean: Option<CleanStop>,
}

impl Checkpoint {
    fn encode(&self, sequence: u64) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[4..8].copy_from_slice(&MAGIC);
        let clean = self.clean.unwrap_or(CleanStop { log_end: Offset::ZERO, last_segment: None });
        let (base, bytes) = clean.last_segment.map_or((-1, 0), |(base, bytes)| (base.to_wire(), bytes));
        let fields = [
            sequence.to_be_bytes(),
            self.recovery_point.to_wire().to_be_bytes(),
            self.log_start.to_wire().to_be_bytes(),
            self.gaps_end.to_wire().to_be_bytes(),
            self.cleaned_end.to_wire().to_be_bytes(),
            u64::from(self.clean.is_some()).to_be_bytes(),
            clean.log_end.to_wire().to_be_bytes(),
            base.to_be_bytes(),
            bytes.to_be_bytes(),
        ];
        for (field, target) in fields.iter().zip(slot[8..].chunks_exact_mut(8)) {
            target.copy_from_slice(field);
        }
        let crc = crc32c::crc32c(&slot[4..]);
        slot[0..4].copy_from_slice(&crc.to_be_bytes());
        slot
    }

    fn decode(slot: &[u8]) -> Option<(u64, Self)> {
        let slot: &[u8; SLOT_BYTES] = slot.first_chunk()?;
        let (crc, rest) = slot.split_first_chunk::<4>()?;
        if u32::from_be_bytes(*crc) != crc32c::crc32c(rest) || rest[..4] != MAGIC {
            return None;
        }
        let mut fields = rest[4..].chunks_exact(8).filter_map(|bytes| bytes.first_chunk().copied());
        let sequence = u64::from_be_bytes(fields.next()?);
        let mut offset = || Offset::from_wire(i64::from_be_bytes(fields.next()?));
        let (recovery_point, log_start, gaps_end, cleaned_end) = (offset()?, offset()?, offset()?, offset()?);
        let is_clean = u64::from_be_bytes(fields.next()?) == 1;
        let log_end = Offset::from_wire(i64::from_be_bytes(fields.next()?))?;
        let base = Offset::from_wire(i64::from_be_bytes(fields.next()?));
        let bytes = u64::from_be_bytes(fields.next()?);
        let clean = is_clean.then_some(CleanStop { log_end, last_segment: base.map(|base| (base, bytes)) });
        Some((sequence, Self { recovery_point, log_start, gaps_end, cleaned_end, clean }))
    }
}

/// What is on disk when a log is opened.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// There is no file: nothing was ever appended, or someone removed it.
    Missing,
    /// There is one that nobody wrote like this.
    Unreadable,
    /// The newest valid contents.
    Found(CheckpointFile),
}

/// The open checkpoint and its current contents.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    file: File,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    sequence: u64,
    contents: Checkpoint,
}

impl CheckpointFile {
    /// Reads the checkpoint of a directory.
    pub(crate) fn load(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Loaded, StorageError> {
        let path = dir.join(CHECKPOINT_FILE);
        let file = match open_rw(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Missing),
            other => other.map_err(StorageError::io("open", &path))?,
        };
        let mut newest: Option<(u64, Checkpoint)> = None;
        for at in [0, SLOT_DISTANCE] {
            let mut slot = [0; SLOT_BYTES];
            match file.read_exact_at(&mut slot, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                other => other.map_err(StorageError::io("read", &path))?,
            }
            if let Some(found) = Checkpoint::decode(&slot)
                && newest.is_none_or(|(sequence, _)| sequence < found.0)
            {
                newest = Some(found);
            }
        }
        let disk = Arc::clone(disk);
        Ok(newest.map_or(Loaded::Unreadable, |(sequence, contents)| {
            Loaded::Found(Self { file, path, disk, sequence, contents })
        }))
    }

    /// Writes a checkpoint where none is, or over an unreadable one, durably.
    pub(crate) fn create(disk: &Arc<dyn Disk>, dir: &Path, contents: Checkpoint) -> Result<Self, StorageError> {
        let path = dir.join(CHECKPOINT_FILE);
        remove(&path)?;
        let file = disk.create(&path).map_err(StorageError::io("create", &path))?;
        let mut new = Self { file, path, disk: Arc::clone(disk), sequence: 0, contents };
        let written = new
            .store_synced(contents)
            .and_then(|()| sync_dir(&**disk, dir).map_err(StorageError::io("sync directory", dir)));
        if let Err(error) = written {
            remove(&new.path)?;
            return Err(error);
        }
        Ok(new)
    }

    /// The contents as they were last stored.
    pub(crate) const fn contents(&self) -> &Checkpoint {
        &self.contents
    }

    /// Writes one slot without waiting for the disk: enough for a larger recovery point, which is
    /// a lower bound whenever it arrives.
    pub(crate) fn store(&mut self, contents: Checkpoint) -> Result<(), StorageError> {
        self.write_slot(contents).map_err(StorageError::io("write", &self.path))
    }

    /// Writes both slots, one safely after the other: whatever happens later, no older contents
    /// come back.
    pub(crate) fn store_synced(&mut self, contents: Checkpoint) -> Result<(), StorageError> {
        for _ in 0..2 {
            self.write_slot(contents).map_err(StorageError::io("write", &self.path))?;
            self.sync().map_err(StorageError::io("sync", &self.path))?;
        }
        Ok(())
    }

    /// Brings what was stored to stable storage.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.sync(&self.path, &mut || self.file.sync_data())
    }

    /// The file's name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write_slot(&mut self, contents: Checkpoint) -> io::Result<()> {
        let sequence = self.sequence.wrapping_add(1);
        self.file.write_all_at(&contents.encode(sequence), (sequence % 2) * SLOT_DISTANCE)?;
        self.sequence = sequence;
        self.contents = contents;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
