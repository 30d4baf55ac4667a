//! `<offset>.snapshot`: what is known about idempotent producers at an offset.
//!
//! Written when a segment is closed and at a clean stop, so that recovery need not read the whole
//! log to answer retries. A snapshot only saves time: one that cannot be written or read is passed
//! over. The bytes are the model's own, five batches per producer, and not Kafka's one.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use pubg1_model::{Offset, producer_state::ProducerStates};

use crate::{
    disk::{Disk, remove},
    error::StorageError,
    segment::{file_name, parse_file_name},
};

pub(crate) const SNAPSHOT: &str = "snapshot";
/// Ends the name of a file that is being written; recovery removes such files.
pub(crate) const TEMPORARY: &str = "tmp";
/// Snapshots that are kept: the newest may prove unreadable.
const KEPT: usize = 2;
/// Larger files are no snapshots of ours; 10,000 producers need about 2 MiB.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Writes a snapshot whole or not at all and removes the ones that it makes needless.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
    let path = dir.join(file_name(offset, SNAPSHOT));
    let temporary = dir.join(format!("{}.{TEMPORARY}", file_name(offset, SNAPSHOT)));
    let written = write_renamed(disk, &temporary, &path, bytes);
    if written.is_err() {
        remove(&temporary)?;
        return written;
    }
    let older: Vec<Offset> = list(dir)?.into_iter().filter(|at| *at <= offset).collect();
    for at in older.iter().rev().skip(KEPT) {
        remove(&dir.join(file_name(*at, SNAPSHOT)))?;
    }
    Ok(())
}

/// Writes `temporary`, syncs it and gives it its name; the caller syncs the directory.
pub(crate) fn write_renamed(disk: &dyn Disk, temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    remove(temporary)?;
    let mut file = disk.create(temporary).map_err(StorageError::io("create", temporary))?;
    file.write_all(bytes).map_err(StorageError::io("write", temporary))?;
    disk.sync(temporary, &mut || file.sync_all()).map_err(StorageError::io("sync", temporary))?;
    std::fs::rename(temporary, path).map_err(StorageError::io("rename", temporary))
}

/// The offsets of the snapshots in a directory, in order.
pub(crate) fn list(dir: &Path) -> Result<Vec<Offset>, StorageError> {
    let mut offsets = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(StorageError::io("list", dir))? {
        let name = entry.map_err(StorageError::io("list", dir))?.file_name();
        if let Some((offset, SNAPSHOT)) = name.to_str().and_then(parse_file_name) {
            offsets.push(offset);
        }
    }
    offsets.sort_unstable();
    Ok(offsets)
}

/// The newest readable snapshot between the two offsets, both included.
pub(crate) fn newest(dir: &Path, from: Offset, to: Offset) -> Result<Option<(Offset, ProducerStates)>, StorageError> {
    for offset in list(dir)?.into_iter().rev().filter(|offset| (from..=to).contains(offset)) {
        let path = dir.join(file_name(offset, SNAPSHOT));
        match read(&path).map_err(StorageError::io("read", &path))?.map(|bytes| ProducerStates::decode(&bytes)) {
            Some(Ok(states)) => return Ok(Some((offset, states))),
            Some(Err(error)) => tracing::warn!(file = %path.display(), %error, "an unreadable snapshot is passed over"),
            None => tracing::warn!(file = %path.display(), "a snapshot of impossible size is passed over"),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, BYTES_MAX), &mut bytes)?;
    Ok(Some(bytes))
}

/// Removes the snapshots above an offset: they speak of records that are gone.
pub(crate) fn remove_above(dir: &Path, offset: Offset) -> Result<(), StorageError> {
    for above in list(dir)?.into_iter().filter(|at| *at > offset) {
        remove(&dir.join(file_name(above, SNAPSHOT)))?;
    }
    Ok(())
}
