//! The file of an embedded database that never has to ask the disk for what it had before.
//!
//! A broker must be able to promise, vote and register while its disk is full: that is how it leads, deletes, and so
//! gets space again. The database shrinks and grows its file as it goes, and the place that it gave back would be filled
//! with records at once. So this file keeps what it has: the database sees the length that it asked for, the file stays
//! as long as it ever was, all of it on the disk, and a little beyond it for growing.
//!
//! Opened again, the file may be longer than what the database last used: it takes what is there as free.

use std::{
    fs::File,
    io,
    ops::Bound,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// What the file has on the disk beyond its length.
const BEYOND_BYTES: u64 = 256 << 10;
const ZEROS: [u8; 4096] = [0; 4096];

/// The file of a database.
#[derive(Debug)]
pub(crate) struct ReservedFile {
    backend: FileBackend,
    /// The same file.
    file: File,
    lengths: Mutex<Lengths>,
}

#[derive(Clone, Copy, Debug)]
struct Lengths {
    /// What the database asked for.
    used: u64,
    /// What the file has.
    kept: u64,
}

impl ReservedFile {
    /// Opens or creates the file and takes the place on the disk that it lacks. Blocks.
    ///
    /// # Errors
    /// The file cannot be opened. That there is no place is none: the database may get by with what is there.
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        let backend = FileBackend::new(file.try_clone()?)?;
        let reserved = Self { backend, file, lengths: Mutex::new(Lengths { used: length, kept: length }) };
        if let Err(error) = reserved.allocate(FallocateFlags::KEEP_SIZE, length + BEYOND_BYTES) {
            tracing::warn!(file = %path.display(), %error, "no space is kept for what the broker must be able to store");
        }
        Ok(reserved)
    }

    fn lengths(&self) -> MutexGuard<'_, Lengths> {
        // Numbers are replaced whole, so those of a poisoned lock are right.
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, flags: FallocateFlags, bytes: u64) -> io::Result<()> {
        match fallocate(&self.file, flags, 0, bytes) {
            // Not every file system can; there it is as with any other file.
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Makes the file so long, all of it on the disk.
    fn lengthen(&self, to: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::KEEP_SIZE, to)?;
        self.backend.set_len(to)?;
        // What comes after is for later; a full disk is not an error yet.
        let _later = self.allocate(FallocateFlags::KEEP_SIZE, to.saturating_add(BEYOND_BYTES));
        Ok(())
    }

    /// What the database gave back and takes again reads as zeros.
    fn clear(&self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let length = usize::try_from(to - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.file.write_all_at(&ZEROS[..length], at)?;
            at += u64::try_from(length).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}

impl StorageBackend for ReservedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lengths().used)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut lengths = self.lengths();
        self.clear(lengths.used, len.min(lengths.kept))?;
        if len > lengths.kept {
            self.lengthen(len)?;
            lengths.kept = len;
        }
        lengths.used = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

    use super::*;

    const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

    fn open(path: &Path) -> Database {
        Database::builder().create_with_backend(ReservedFile::open(path).unwrap()).unwrap()
    }

    fn fill(database: &Database, rows: std::ops::Range<u64>) {
        let transaction = database.begin_write().unwrap();
        for row in rows {
            transaction.open_table(ROWS).unwrap().insert(row, [7; 1000].as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn empty(database: &Database) {
        let transaction = database.begin_write().unwrap();
        transaction.open_table(ROWS).unwrap().retain(|row, _| row == 0).unwrap();
        transaction.commit().unwrap();
    }

    fn rows(database: &Database) -> u64 {
        let table = database.begin_read().unwrap().open_table(ROWS).unwrap();
        table.iter().unwrap().map(|row| row.unwrap().1.value().len() as u64 / 1000).sum()
    }

    /// Length and space on the disk.
    fn place(path: &Path) -> (u64, u64) {
        let metadata = std::fs::metadata(path).unwrap();
        (metadata.len(), metadata.blocks() * 512)
    }

    #[test]
    fn what_the_database_gives_back_stays_with_the_file_and_holds_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.redb");
        let database = open(&path);
        let mut most = 0;
        for round in 0..10 {
            fill(&database, 0..2_000);
            let (length, on_disk) = place(&path);
            assert!(on_disk >= length, "round {round}: {on_disk} of {length} bytes are on the disk");
            most = most.max(length);
            // Several commits: each gives back a part of what is free at the end.
            (0..20).for_each(|_| empty(&database));
            assert_eq!(place(&path).0, most);
        }
        assert_eq!(rows(&database), 1);
        drop(database);
        let database = open(&path);
        assert_eq!((rows(&database), place(&path).0), (1, most));
        fill(&database, 0..2_000);
        assert_eq!((rows(&database), place(&path).0), (2_000, most));
    }

    #[test]
    fn a_copy_taken_at_any_moment_opens_with_what_was_committed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, copy) = (directory.path().join("rows.redb"), directory.path().join("copy.redb"));
        let database = open(&path);
        for round in 0..12 {
            fill(&database, 0..1 + 400 * (round % 3));
            // As a kill would leave it: without a clean end, longer than what is used.
            std::fs::copy(&path, &copy).unwrap();
            assert_eq!(rows(&open(&copy)), rows(&database), "round {round}");
            assert_eq!(rows(&open(&copy)), rows(&database), "round {round}, opened twice");
            (0..=round).for_each(|_| empty(&database));
            std::fs::copy(&path, &copy).unwrap();
            assert_eq!(rows(&open(&copy)), 1, "round {round}");
        }
    }

    #[test]
    fn what_was_given_back_reads_as_zeros_when_it_is_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = ReservedFile::open(&directory.path().join("file")).unwrap();
        file.set_len(10_000).unwrap();
        file.write(0, &[1; 10_000]).unwrap();
        file.set_len(100).unwrap();
        assert_eq!(StorageBackend::len(&file).unwrap(), 100);
        file.set_len(20_000).unwrap();
        let mut bytes = vec![9; 20_000];
        file.read(0, &mut bytes).unwrap();
        assert!(bytes[..100].iter().all(|byte| *byte == 1) && bytes[100..].iter().all(|byte| *byte == 0));
    }
}
