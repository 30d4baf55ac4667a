//! The state of replicas over several lives of a broker.

use std::{path::PathBuf, sync::mpsc};

use tempfile::TempDir;

use super::*;
use crate::flusher::BlockingThreads;

fn key(topic: u8, partition: u32) -> PartitionKey {
    (TopicId::from_bytes([topic; 16]), PartitionId(partition))
}

fn row(promised: u32) -> ReplicaRow {
    ReplicaRow {
        promised_epoch: LeaderEpoch::new(promised),
        adopted_epoch: Some(LeaderEpoch::ZERO),
        storage: StorageId::from_bytes([1; 16]),
        disk: StorageId::from_bytes([2; 16]),
        high_watermark: Offset::new(9),
        is_suspect: false,
    }
}

struct Life {
    states: ReplicaStates,
    thread: BlockingThreads,
}

impl Life {
    fn begin(dir: &TempDir, counting: Counting, boot: &str) -> Self {
        let fatal = Fatal::new();
        let (writer, thread) = BlockingPool::start("test-state", 1, &fatal).unwrap();
        let states = ReplicaStates::open(dir.path(), counting, Some(boot.to_owned()), writer, &fatal).unwrap();
        Self { states, thread }
    }

    fn store(&self, key: PartitionKey, row: ReplicaRow) {
        let (done, stored) = mpsc::channel();
        self.states.store(key, row, move || done.send(()).unwrap());
        stored.recv().unwrap();
    }

    fn end(self, in_order: bool) {
        self.thread.finish();
        self.states.close(in_order);
    }
}

#[test]
fn rows_are_found_again_until_they_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let life = Life::begin(&dir, Counting::Flushed, "a");
    life.store(key(1, 0), row(3));
    life.store(key(1, 1), row(4));
    life.store(key(1, 0), row(5));
    assert_eq!(life.states.load(key(1, 0)), Some(row(5)));
    life.end(false);
    let life = Life::begin(&dir, Counting::Flushed, "b");
    assert_eq!([key(1, 0), key(1, 1), key(2, 0)].map(|key| life.states.load(key)), [Some(row(5)), Some(row(4)), None]);
    life.states.remove(key(1, 0));
    life.end(false);
    let life = Life::begin(&dir, Counting::Flushed, "b");
    assert_eq!([key(1, 0), key(1, 1)].map(|key| life.states.load(key)), [None, Some(row(4))]);
    life.end(true);
}

#[test]
fn what_waits_is_stored_in_order_and_told_each() {
    let dir = tempfile::tempdir().unwrap();
    let life = Life::begin(&dir, Counting::Flushed, "a");
    let (done, stored) = mpsc::channel();
    for number in 0..500 {
        let done = done.clone();
        life.states.store(key(1, number % 7), row(number), move || done.send(number).unwrap());
    }
    assert_eq!(stored.iter().take(500).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
    life.end(false);
    let life = Life::begin(&dir, Counting::Flushed, "a");
    for partition in 0..7 {
        let last = (0..500).rev().find(|number| number % 7 == partition).unwrap();
        assert_eq!(life.states.load(key(1, partition)), Some(row(last)));
    }
    life.end(true);
}

#[test]
fn a_machine_that_went_down_makes_rows_suspect_when_log_ends_count() {
    for (counting, boot, in_order, suspect) in [
        (Counting::LogEnd, "b", false, true),
        (Counting::LogEnd, "b", true, false),
        (Counting::LogEnd, "a", false, false),
        (Counting::Flushed, "b", false, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let life = Life::begin(&dir, counting, "a");
        life.store(key(1, 0), row(3));
        life.end(in_order);
        // What counts in the next life does not matter, and a crash in it takes nothing back.
        for _ in 0..2 {
            let life = Life::begin(&dir, Counting::Flushed, boot);
            assert_eq!(life.states.load(key(1, 0)).unwrap().is_suspect, suspect, "{counting:?} {boot} {in_order}");
            life.end(false);
        }
    }
}

#[test]
fn what_a_former_life_left_unflushed_is_suspect_until_every_log_is_flushed() {
    for is_settled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let life = Life::begin(&dir, Counting::LogEnd, "a");
        life.store(key(1, 0), row(3));
        life.end(false);
        // Killed. The next lives flush before they count, but do not come to it, on the same boot of the machine.
        for _ in 0..2 {
            let life = Life::begin(&dir, Counting::Flushed, "a");
            assert!(life.states.counts_unflushed());
            life.end(false);
        }
        let life = Life::begin(&dir, Counting::Flushed, "a");
        if is_settled {
            life.states.settle();
            // After it in the queue.
            life.store(key(1, 1), row(3));
            assert!(!life.states.counts_unflushed());
        }
        life.end(false);
        let life = Life::begin(&dir, Counting::Flushed, "b");
        assert_eq!(life.states.load(key(1, 0)).unwrap().is_suspect, !is_settled);
        life.end(true);
    }
}

#[test]
fn an_unreadable_row_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join(FILE);
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(REPLICAS).unwrap().insert(&encode_key(key(1, 0)), b"?".as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let life = Life::begin(&dir, Counting::Flushed, "a");
    assert_eq!(life.states.load(key(1, 0)), None);
    life.end(true);
}

#[test]
fn what_is_stored_again_and_again_has_its_space() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let life = Life::begin(&dir, Counting::Flushed, "a");
    let space = || {
        let file = std::fs::metadata(dir.path().join(FILE)).unwrap();
        (file.len(), file.blocks() * 512 >= file.len())
    };
    assert!(space().1, "no holes: a full disk must not keep a replica from promising");
    life.store(key(1, 0), row(1));
    let (before, _) = space();
    for number in 0..100 {
        life.store(key(1, 0), row(number));
    }
    assert_eq!(space().0, before, "old pages are used again");
    life.end(true);
}
