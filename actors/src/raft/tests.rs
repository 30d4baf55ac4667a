//! The store against openraft's own suite, and what it must keep over a restart.

use std::sync::Arc;

use openraft::{
    LogId, RaftLogReader, StorageError, Vote,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
    testing::{StoreBuilder, Suite, blank_ent, log_id},
};
use pubg1_metrics::Metrics;
use pubg1_model::cluster::MetadataCommand;
use tempfile::TempDir;

use super::{
    log_store::LogStore,
    state_machine::StateMachine,
    store::{Store, StoreError},
    types::{Entry, TypeConfig},
};
use crate::{
    fatal::Fatal,
    flusher::{BlockingPool, BlockingThreads},
};

/// A store in a directory of its own. The threads end with it.
struct Disk {
    dir: TempDir,
    writer: BlockingPool,
    _threads: BlockingThreads,
}

impl Disk {
    fn new() -> Self {
        let (writer, threads) = BlockingPool::start("test", 1, &Fatal::new()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), writer, _threads: threads }
    }

    fn open(&self) -> Result<Store, StoreError> {
        let lease = Arc::new(tokio::sync::Mutex::new(())).try_lock_owned().unwrap();
        Store::open(self.dir.path(), self.writer.clone(), Metrics::new().unwrap(), lease)
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Disk> for Builder {
    async fn build(&self) -> Result<(Disk, LogStore, StateMachine), StorageError<u64>> {
        let disk = Disk::new();
        let store = disk.open().unwrap();
        let machine = StateMachine::open(store.clone(), Arc::new(drop)).unwrap();
        Ok((disk, LogStore::new(store), machine))
    }
}

#[test]
fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).unwrap();
}

fn format(index: u64) -> Entry {
    let command = MetadataCommand::FormatCluster { cluster_id: "c".repeat(usize::try_from(index).unwrap()) };
    Entry { log_id: log_id(1, 0, index), payload: openraft::EntryPayload::Normal(command) }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let disk = Disk::new();
    let vote = Vote::new(7, 2);
    {
        let store = disk.open().unwrap();
        let (mut log, mut machine) =
            (LogStore::new(store.clone()), StateMachine::open(store.clone(), Arc::new(drop)).unwrap());
        log.save_vote(&vote).await.unwrap();
        log.blocking_append([blank_ent::<TypeConfig>(1, 0, 0), format(1), format(2), format(3)]).await.unwrap();
        log.save_committed(Some(log_id(1, 0, 1))).await.unwrap();
        // The commit is stored with the next write, or at the end.
        log.truncate(log_id(1, 0, 3)).await.unwrap();
        machine.apply([blank_ent::<TypeConfig>(1, 0, 0), format(1)]).await.unwrap();
        let mut builder = machine.get_snapshot_builder().await;
        openraft::RaftSnapshotBuilder::build_snapshot(&mut builder).await.unwrap();
        log.purge(log_id(1, 0, 0)).await.unwrap();
        log.save_committed(Some(log_id(1, 0, 2))).await.unwrap();
    }
    let store = disk.open().unwrap();
    let mut log = LogStore::new(store.clone());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 0, 1)));
    let ends = log.get_log_state().await.unwrap();
    assert_eq!((ends.last_purged_log_id, ends.last_log_id), (Some(log_id(1, 0, 0)), Some(log_id(1, 0, 2))));
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), [format(1), format(2)]);

    let (published, images) = std::sync::mpsc::channel();
    let published = std::sync::Mutex::new(published);
    let publish = Arc::new(move |image| published.lock().unwrap().send(image).unwrap());
    let mut machine = StateMachine::open(store.clone(), publish).unwrap();
    assert_eq!(images.recv().unwrap().cluster_id, "c");
    assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 0, 1)));
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_orderly_end_keeps_how_far_the_log_is_committed() {
    let disk = Disk::new();
    let committed: Option<LogId<u64>> = Some(log_id(3, 1, 9));
    let store = disk.open().unwrap();
    LogStore::new(store.clone()).save_committed(committed).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(LogStore::new(disk.open().unwrap()).read_committed().await.unwrap(), committed);
}

#[tokio::test]
async fn what_a_follower_is_sent_at_once_is_limited() {
    let disk = Disk::new();
    let mut log = LogStore::new(disk.open().unwrap());
    let large = |index| {
        let command = MetadataCommand::FormatCluster { cluster_id: "c".repeat(3 << 20) };
        Entry { log_id: log_id(1, 0, index), payload: openraft::EntryPayload::Normal(command) }
    };
    log.blocking_append((0..4).map(large)).await.unwrap();
    for start in 0..4 {
        assert_eq!(log.limited_get_log_entries(start, 4).await.unwrap().len(), 1);
    }
    assert_eq!(log.try_get_log_entries(0..4).await.unwrap().len(), 4);
}

#[test]
fn a_file_that_is_no_store_is_damage() {
    let disk = Disk::new();
    std::fs::write(disk.dir.path().join("raft.redb"), "x".repeat(10_000)).unwrap();
    let error = disk.open().err().unwrap();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn whatever_was_reported_is_on_disk() {
    let disk = Disk::new();
    let mut log = LogStore::new(disk.open().unwrap());
    for index in 0..30 {
        log.blocking_append([format(index)]).await.unwrap();
        log.save_vote(&Vote::new(index, 1)).await.unwrap();
        // The file as a kill would leave it: the store that writes it is never closed.
        let copy = Disk::new();
        std::fs::copy(disk.dir.path().join("raft.redb"), copy.dir.path().join("raft.redb")).unwrap();
        let mut copied = LogStore::new(copy.open().unwrap());
        assert_eq!(copied.read_vote().await.unwrap(), Some(Vote::new(index, 1)));
        assert_eq!(copied.get_log_state().await.unwrap().last_log_id, Some(log_id(1, 0, index)));
        assert_eq!(copied.try_get_log_entries(..).await.unwrap().len(), usize::try_from(index).unwrap() + 1);
    }
}
