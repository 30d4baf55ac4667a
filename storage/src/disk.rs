//! The few system calls whose failure a log must survive, behind a trait so that tests can make
//! them fail, and the directory operations around them.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use rustix::{
    fs::{FallocateFlags, FlockOperation},
    io::Errno,
};

use crate::error::StorageError;

/// The disk as a log sees it. [`SystemDisk`] is the real one.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates a file that does not exist, for reading and writing.
    ///
    /// # Errors
    /// What the system says; a full disk is [`io::ErrorKind::StorageFull`].
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// Gives `bytes` from `offset` on blocks of their own, so that writing them later cannot fail
    /// for want of space. Bytes that were never written read as zeros.
    ///
    /// # Errors
    /// What the system says; a full disk is [`io::ErrorKind::StorageFull`].
    fn allocate(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        allocate(file, offset, bytes)
    }

    /// Runs `sync`, which brings the file or directory `path` to stable storage.
    ///
    /// # Errors
    /// What the system says. The error is final: a second call may succeed without the data.
    fn sync(&self, path: &Path, sync: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        let _ = path;
        sync()
    }
}

/// The operating system's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {}

fn allocate(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return write_zeros(file, offset, bytes),
            result => return result.map_err(io::Error::from),
        }
    }
}

/// For file systems without `fallocate`. Blocks that exist keep their bytes: only what lies beyond
/// the end of the file is written.
fn write_zeros(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let zeros = [0; 16 * 1024];
    let end = offset + bytes;
    let mut at = file.metadata()?.len().max(offset);
    while at < end {
        let chunk = usize::try_from(end - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(&zeros[..chunk], at)?;
        at += chunk as u64;
    }
    Ok(())
}

/// Makes the names in a directory durable: files that were created, renamed or removed.
pub(crate) fn sync_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let handle = File::open(dir)?;
    disk.sync(dir, &mut || handle.sync_all())
}

/// Creates `dir` and its parents where they are missing, durably.
pub(crate) fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let mut missing = Vec::new();
    let mut at = Some(dir);
    while let Some(path) = at.filter(|path| !path.as_os_str().is_empty()) {
        if path.try_exists().map_err(StorageError::io("look for", path))? {
            break;
        }
        missing.push(path);
        at = path.parent();
    }
    for path in missing.into_iter().rev() {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StorageError::io("create directory", path)(error));
            }
            _ => {}
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_dir(disk, parent).map_err(StorageError::io("sync directory", parent))?;
    }
    Ok(())
}

/// Takes the directory for one log; it is given back when the handle is dropped.
pub(crate) fn lock_dir(dir: &Path) -> Result<File, StorageError> {
    let handle = File::open(dir).map_err(StorageError::io("open directory", dir))?;
    match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(handle),
        Err(Errno::WOULDBLOCK) => Err(StorageError::Locked { path: dir.to_owned() }),
        Err(error) => Err(StorageError::io("lock directory", dir)(error.into())),
    }
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), StorageError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Opens a file that exists, for reading and writing.
pub(crate) fn open_rw(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}
