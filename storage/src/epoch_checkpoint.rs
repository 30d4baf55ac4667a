//! `leader-epoch-checkpoint`: Kafka's text file of epochs and their start offsets.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use pubg1_model::leader_epochs::LeaderEpochs;

use crate::{
    disk::{Disk, open_rw, remove, sync_dir},
    error::StorageError,
    producer_snapshot::{TEMPORARY, write_renamed},
};

/// The file's name.
pub(crate) const EPOCH_FILE: &str = "leader-epoch-checkpoint";
/// Larger files are none of ours.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads the checkpoint; `None` when it is missing or unreadable, so that the epochs have to be
/// read from the batches.
pub(crate) fn load(dir: &Path) -> Result<Option<LeaderEpochs>, StorageError> {
    let path = dir.join(EPOCH_FILE);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(StorageError::io("open", &path))?,
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, BYTES_MAX), &mut bytes).map_err(StorageError::io("read", &path))?;
    match LeaderEpochs::decode(&bytes) {
        Ok(epochs) => Ok(Some(epochs)),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the leader epochs are read from the log instead");
            Ok(None)
        }
    }
}

/// Writes the checkpoint durably. On a full disk it is written in place: a broker must be able to
/// lead, and so to delete, when there is no space; a write that is torn then is found out by
/// [`load`].
pub(crate) fn store(disk: &dyn Disk, dir: &Path, epochs: &LeaderEpochs) -> Result<(), StorageError> {
    let path = dir.join(EPOCH_FILE);
    let temporary = dir.join(format!("{EPOCH_FILE}.{TEMPORARY}"));
    let text = epochs.encode();
    match write_renamed(disk, &temporary, &path, text.as_bytes()) {
        Ok(()) => sync_dir(disk, dir).map_err(StorageError::io("sync directory", dir)),
        Err(error) => {
            remove(&temporary)?;
            if !error.is_disk_full() {
                return Err(error);
            }
            write_in_place(disk, &path, text.as_bytes()).or(Err(error))
        }
    }
}

fn write_in_place(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = open_rw(path)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    disk.sync(path, &mut || file.sync_all())
}
