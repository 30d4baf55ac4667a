//! The log and the vote, as openraft wants them stored: durable before they are reported.

use std::{fmt::Debug, ops::RangeBounds};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{LogFlushed, RaftLogStorage},
};
use redb::{ReadableTable, WriteTransaction};

use super::{
    store::{LOG, Store, StoreError, encode, key, put, read_error, unreadable, write_error},
    types::{Entry, LogId, RaftStorageError, TypeConfig, Vote},
};

/// The most that is read for one message to a follower: it must fit into a frame.
const READ_BYTES_MAX: usize = 4 << 20;

/// The log of the group. Clones read the same log.
#[derive(Clone)]
pub(crate) struct LogStore(pub(super) Store);

impl LogStore {
    pub(crate) const fn new(store: Store) -> Self {
        Self(store)
    }

    /// The entries in `range`, up to the first that makes them more than `bytes_max`; at least one when there is one.
    fn entries(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> Result<Vec<Entry>, StoreError> {
        let log = self.0.log()?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in log.range(range)? {
            let (_, json) = entry?;
            bytes += json.value().len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(parse(json.value())?);
        }
        Ok(entries)
    }

    fn last_log_id(&self) -> Result<Option<LogId>, StoreError> {
        match self.0.log()?.last()? {
            Some((_, json)) => Ok(Some(parse(json.value())?.log_id)),
            None => Ok(None),
        }
    }

    /// The log's ends: what was purged last and what is there last.
    pub(super) fn ends(&self) -> Result<LogState<TypeConfig>, StoreError> {
        let last_purged_log_id = self.0.read(key::PURGED)?;
        let last_log_id = self.last_log_id()?.or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    pub(super) fn vote(&self) -> Result<Option<Vote>, StoreError> {
        self.0.read(key::VOTE)
    }
}

fn parse(json: &[u8]) -> Result<Entry, StoreError> {
    serde_json::from_slice(json).map_err(|error| unreadable(&error))
}

/// Puts entries into the log.
pub(super) fn put_entries(transaction: &WriteTransaction, entries: &[(u64, Vec<u8>)]) -> Result<(), StoreError> {
    let mut log = transaction.open_table(LOG)?;
    for (index, json) in entries {
        log.insert(index, json.as_slice())?;
    }
    Ok(())
}

/// An entry as it is stored.
pub(super) fn stored(entry: &Entry) -> Result<(u64, Vec<u8>), StoreError> {
    Ok((entry.log_id.index, encode(entry)?))
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, RaftStorageError> {
        self.entries(range, usize::MAX).map_err(read_error)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, RaftStorageError> {
        self.entries(start..end, READ_BYTES_MAX).map_err(read_error)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, RaftStorageError> {
        self.ends().map_err(read_error)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), RaftStorageError> {
        let vote = *vote;
        self.0.write(move |transaction| put(transaction, key::VOTE, &vote)).await.map_err(write_error)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, RaftStorageError> {
        self.vote().map_err(read_error)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), RaftStorageError> {
        *self.0.committed() = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, RaftStorageError> {
        Ok(*self.0.committed())
    }

    /// Returns when the entries are on disk: openraft waits for that in any case before it goes on.
    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), RaftStorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Result<Vec<_>, StoreError> = entries.into_iter().map(|entry| stored(&entry)).collect();
        let entries = entries.map_err(write_error)?;
        let written = self.0.write(move |transaction| put_entries(transaction, &entries)).await;
        callback.log_io_completed(written.clone().map_err(std::io::Error::other));
        written.map_err(write_error)
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), RaftStorageError> {
        let remove = move |transaction: &WriteTransaction| {
            transaction.open_table(LOG)?.retain_in(log_id.index.., |_, _| false)?;
            Ok(())
        };
        self.0.write(remove).await.map_err(write_error)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), RaftStorageError> {
        let remove = move |transaction: &WriteTransaction| {
            transaction.open_table(LOG)?.retain_in(..=log_id.index, |_, _| false)?;
            put(transaction, key::PURGED, &log_id)
        };
        self.0.write(remove).await.map_err(write_error)
    }
}
