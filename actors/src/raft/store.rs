//! What the metadata group keeps on disk: log, vote, snapshot, in one embedded database.
//!
//! Every write is one transaction that is synced before it is reported, and all of them run on one thread, in the
//! order in which they were asked for. Reads run where they are called: what they touch is small and cached.
//!
//! How far the log is committed is the exception: it may be forgotten, a leader tells it again. It is kept in memory
//! and stored along with the next write, so that it costs no sync of its own.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use openraft::{AnyError, StorageIOError};
use pubg1_metrics::Metrics;
use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedMutexGuard;

use super::types::{LogId, RaftStorageError};
use crate::{flusher::BlockingPool, reserved_file::ReservedFile};

/// Log entries as JSON, by index.
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Everything that there is one of, as JSON, by name.
pub(super) const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

/// The names in [`STATE`].
pub(super) mod key {
    /// The version of this format.
    pub(in crate::raft) const FORMAT: &str = "format";
    /// The vote.
    pub(in crate::raft) const VOTE: &str = "vote";
    /// How far the log is known to be committed.
    pub(in crate::raft) const COMMITTED: &str = "committed";
    /// Up to where the log was purged.
    pub(in crate::raft) const PURGED: &str = "purged";
    /// There while this store takes no part in votes.
    pub(in crate::raft) const PROBATION: &str = "probation";
    /// What the snapshot covers.
    pub(in crate::raft) const SNAPSHOT_META: &str = "snapshot_meta";
    /// The snapshot itself.
    pub(in crate::raft) const SNAPSHOT: &str = "snapshot";
}

const FORMAT_VERSION: u32 = 1;
const FILE_NAME: &str = "raft.redb";
/// The database is small and read at the start; what it caches beyond that would be memory for nothing.
const CACHE_BYTES: usize = 4 << 20;

/// Why something could not be stored or read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The disk has no space. What was asked for is not stored.
    #[error("the disk is full")]
    DiskFull,
    /// The operating system refused to write or sync: what is on disk is not known.
    #[error("{0}")]
    Io(String),
    /// What is on disk is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The thread that stores was stopped.
    #[error("the thread that stores the metadata was stopped")]
    Stopped,
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => Self::DiskFull,
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) | redb::Error::TableTypeMismatch { .. } => {
                Self::Damaged(error.to_string())
            }
            other => Self::Io(other.to_string()),
        }
    }
}

macro_rules! through_redb_error {
    ($($error:ty),+) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )+};
}

through_redb_error!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError
);

/// The open database. Clones share it; it is closed with the last one.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    database: Database,
    /// One thread, so that writes keep their order.
    writer: BlockingPool,
    metrics: Metrics,
    committed: Mutex<Option<LogId>>,
    /// The first failed write. The database takes none after it.
    failure: Mutex<Option<StoreError>>,
    #[cfg(test)]
    fault: Mutex<Option<StoreError>>,
    // After the database: its file is free only when that is closed.
    _lease: OwnedMutexGuard<()>,
}

impl Store {
    /// Opens or creates the database in `dir`. Blocks.
    pub(crate) fn open(
        dir: &Path,
        writer: BlockingPool,
        metrics: Metrics,
        lease: OwnedMutexGuard<()>,
    ) -> Result<Self, StoreError> {
        let file = ReservedFile::open(&dir.join(FILE_NAME))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file)?;
        let inner = Inner {
            database,
            writer,
            metrics,
            committed: Mutex::default(),
            failure: Mutex::default(),
            #[cfg(test)]
            fault: Mutex::default(),
            _lease: lease,
        };
        let store = Self(Arc::new(inner));
        if store.prepare()? {
            // A new file: its name must outlive a power cut, too.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| StoreError::Io(error.to_string()))?;
        }
        *store.committed() = store.read(key::COMMITTED)?;
        Ok(store)
    }

    /// Creates the tables, so that reads find them. Says whether they were missing.
    fn prepare(&self) -> Result<bool, StoreError> {
        let known = match self.0.database.begin_read()?.open_table(STATE) {
            Ok(state) => decode::<u32>(state.get(key::FORMAT)?.map(|value| value.value().to_vec()).as_deref())?,
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        match known {
            Some(FORMAT_VERSION) => Ok(false),
            Some(other) => Err(StoreError::Damaged(format!("format version {other}; this broker knows 1"))),
            None => {
                self.commit(|transaction| {
                    transaction.open_table(LOG)?;
                    put(transaction, key::FORMAT, &FORMAT_VERSION)
                })?;
                Ok(true)
            }
        }
    }

    /// One of the values in [`STATE`].
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let state = self.0.database.begin_read()?.open_table(STATE)?;
        match state.get(name)? {
            Some(value) => decode(Some(value.value())),
            None => Ok(None),
        }
    }

    /// The bytes of one of the values in [`STATE`].
    pub(super) fn read_bytes(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.0.database.begin_read()?.open_table(STATE)?;
        Ok(state.get(name)?.map(|value| value.value().to_vec()))
    }

    pub(super) fn log(&self) -> Result<redb::ReadOnlyTable<u64, &'static [u8]>, StoreError> {
        Ok(self.0.database.begin_read()?.open_table(LOG)?)
    }

    /// How far the log is known to be committed.
    pub(super) fn committed(&self) -> MutexGuard<'_, Option<LogId>> {
        self.0.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` as one transaction on the writer's thread; done when it is on disk.
    pub(super) async fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let store = self.clone();
        self.0.writer.run(move || store.commit(change)).await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Runs `read` on the writer's thread: for what is too large to be read where it is asked for.
    pub(super) async fn read_there<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        self.0.writer.run(move || read(&store)).await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Blocks.
    fn commit(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let started = Instant::now();
        let committed = *self.committed();
        let write = || {
            #[cfg(test)]
            if let Some(fault) = self.0.fault.lock().unwrap().take() {
                return Err(fault);
            }
            // Durable when `commit` returns: that is the default, and nothing else is used.
            let transaction = self.0.database.begin_write()?;
            change(&transaction)?;
            if let Some(committed) = committed {
                put(&transaction, key::COMMITTED, &committed)?;
            }
            transaction.commit()?;
            Ok(())
        };
        let result: Result<(), StoreError> = write();
        match &result {
            Ok(()) => self.0.metrics.storage().observe_flush(started.elapsed()),
            Err(error) => {
                let mut failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert_with(|| error.clone());
            }
        }
        result
    }

    /// Lets the next write fail.
    #[cfg(test)]
    pub(crate) fn fail_next_write(&self, error: StoreError) {
        *self.0.fault.lock().unwrap() = Some(error);
    }

    /// The first write that failed, if one did.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores what is only in memory so far: the end of an orderly life.
    pub(crate) async fn close(self) -> Result<(), StoreError> {
        self.write(|_| Ok(())).await
    }
}

/// Puts one of the values of [`STATE`].
pub(super) fn put<T: Serialize>(transaction: &WriteTransaction, name: &str, value: &T) -> Result<(), StoreError> {
    put_bytes(transaction, name, &encode(value)?)
}

/// Puts the bytes of one of the values of [`STATE`].
pub(super) fn put_bytes(transaction: &WriteTransaction, name: &str, value: &[u8]) -> Result<(), StoreError> {
    transaction.open_table(STATE)?.insert(name, value)?;
    Ok(())
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Damaged(format!("cannot be encoded: {error}")))
}

fn decode<T: DeserializeOwned>(value: Option<&[u8]>) -> Result<Option<T>, StoreError> {
    let parse = |bytes| serde_json::from_slice(bytes).map_err(|error| unreadable(&error));
    value.map(parse).transpose()
}

pub(super) fn unreadable(error: &serde_json::Error) -> StoreError {
    StoreError::Damaged(format!("not of this version: {error}"))
}

/// A failure as openraft is told.
pub(super) fn write_error(error: StoreError) -> RaftStorageError {
    StorageIOError::write(AnyError::new(&error)).into()
}

/// A failure as openraft is told.
pub(super) fn read_error(error: StoreError) -> RaftStorageError {
    StorageIOError::read(AnyError::new(&error)).into()
}
