//! What replicas keep on disk beside their logs: promises, adopted epochs, and which disk they are.
//!
//! One embedded database a broker, `replicas.redb`, with a row for each replica. All rows are in memory, too; a
//! store goes to the one thread that writes, and everything that waits there becomes one transaction, so that a
//! fence of hundreds of partitions costs one sync. A store that fails ends the broker, like a failed flush: what
//! would rest on it must not be answered.
//!
//! The database also remembers how the last life of the broker ended. When records count before they are flushed,
//! a machine that has gone down without a clean stop may have lost some: every row is then marked, in one
//! transaction, and the replicas come back as ones that have forgotten.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pubg1_model::{
    LeaderEpoch, Offset, PartitionId, TopicId,
    replication::{Counting, StorageId, message::DurableState},
};
use redb::{Database, Durability, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    fatal::{Fatal, FatalError},
    flusher::BlockingPool,
    reserved_file::ReservedFile,
};

/// The file's name in the data directory.
const FILE: &str = "replicas.redb";
/// The rows of thousands of replicas fit.
const CACHE_BYTES: usize = 1024 * 1024;

const REPLICAS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("replicas");
const LIFE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("life");
const LAST: &str = "last";

/// Which partition a row belongs to.
pub(crate) type PartitionKey = (TopicId, PartitionId);

/// The row of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplicaRow {
    pub(crate) promised_epoch: LeaderEpoch,
    pub(crate) adopted_epoch: Option<LeaderEpoch>,
    /// The disk that the replica presents itself as.
    pub(crate) storage: StorageId,
    /// The disk that the row was written on.
    pub(crate) disk: StorageId,
    /// What was last noted: a hint.
    pub(crate) high_watermark: Offset,
    /// The machine went down since; records that counted may be missing from the end of the log.
    pub(crate) is_suspect: bool,
}

impl ReplicaRow {
    pub(crate) const fn durable(&self) -> DurableState {
        DurableState { promised_epoch: self.promised_epoch, adopted_epoch: self.adopted_epoch }
    }
}

/// A life of the broker, as the next one finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    /// The kernel's id of this boot of the machine; `None` where it does not tell.
    boot_id: Option<String>,
    counting: Counting,
    /// It has ended in order.
    is_over: bool,
}

impl Life {
    /// Whether what counted in this life may be missing from the logs after it.
    fn may_have_lost(&self, boot_id: Option<&str>) -> bool {
        let same_boot = self.boot_id.is_some() && self.boot_id.as_deref() == boot_id;
        self.has_unflushed() && !same_boot
    }

    /// Whether records that count may be in the page cache alone.
    fn has_unflushed(&self) -> bool {
        self.counting == Counting::LogEnd && !self.is_over
    }
}

type Done = Box<dyn FnOnce() + Send>;

enum Change {
    Store(PartitionKey, ReplicaRow, Done),
    Remove(PartitionKey),
}

#[derive(Default)]
struct Queue {
    changes: Vec<Change>,
    /// A job that will write them is queued or running.
    is_scheduled: bool,
    /// Nothing is written any more.
    is_closed: bool,
}

/// The rows of this broker's replicas. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReplicaStates(Arc<Inner>);

struct Inner {
    /// Taken when the broker has ended: the next one opens it while handles of this one live.
    database: Mutex<Option<Database>>,
    rows: Mutex<HashMap<PartitionKey, ReplicaRow>>,
    queue: Mutex<Queue>,
    writer: BlockingPool,
    fatal: Fatal,
    life: Life,
    /// The life before counted records before they were flushed, and its logs have not all been flushed by this one: on
    /// disk this life counts them, too.
    inherits_unflushed: AtomicBool,
}

impl ReplicaStates {
    /// Opens the database in `dir` and reads it. Blocks. `writer` is the one thread that writes.
    pub(crate) fn open(
        dir: &Path,
        counting: Counting,
        boot_id: Option<String>,
        writer: BlockingPool,
        fatal: &Fatal,
    ) -> Result<Self, redb::Error> {
        let path = dir.join(FILE);
        let file = ReservedFile::open(&path)?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file)?;
        let life = Life { boot_id, counting, is_over: false };
        let (rows, inherits_unflushed) = begin_life(&database, &life)?;
        let inherits_unflushed = AtomicBool::new(inherits_unflushed);
        let (database, rows, queue) = (Mutex::new(Some(database)), Mutex::new(rows), Mutex::default());
        Ok(Self(Arc::new(Inner { database, rows, queue, writer, fatal: fatal.clone(), life, inherits_unflushed })))
    }

    /// The row of a replica, as it was last handed in.
    pub(crate) fn load(&self, key: PartitionKey) -> Option<ReplicaRow> {
        lock(&self.0.rows).get(&key).copied()
    }

    /// Stores a row and calls `done` when it is on disk, on the thread that writes. `done` is dropped when it
    /// cannot be stored; the broker ends then.
    pub(crate) fn store(&self, key: PartitionKey, row: ReplicaRow, done: impl FnOnce() + Send + 'static) {
        lock(&self.0.rows).insert(key, row);
        self.queue(Change::Store(key, row, Box::new(done)));
    }

    /// Stores a row and waits until it is on disk; `false`: it is not. Blocks.
    pub(crate) fn store_and_wait(&self, key: PartitionKey, row: ReplicaRow) -> bool {
        let (done, stored) = std::sync::mpsc::channel();
        // Whoever waits may have gone.
        self.store(key, row, move || done.send(()).unwrap_or_default());
        self.0.writer.help();
        stored.recv().is_ok()
    }

    /// Removes the row of a replica that is no longer kept here.
    pub(crate) fn remove(&self, key: PartitionKey) {
        lock(&self.0.rows).remove(&key);
        self.queue(Change::Remove(key));
    }

    fn queue(&self, change: Change) {
        let mut queue = lock(&self.0.queue);
        if queue.is_closed {
            return;
        }
        queue.changes.push(change);
        if !queue.is_scheduled {
            queue.is_scheduled = true;
            drop(queue);
            let states = self.clone();
            self.0.writer.submit(move || states.write_queued());
        }
    }

    /// Writes until nothing is queued: what comes in during one transaction is the next.
    fn write_queued(&self) {
        loop {
            let changes = {
                let mut queue = lock(&self.0.queue);
                if queue.changes.is_empty() {
                    queue.is_scheduled = false;
                    return;
                }
                std::mem::take(&mut queue.changes)
            };
            match self.write(&changes) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.fail(&error),
            }
            for change in changes {
                if let Change::Store(_, _, done) = change {
                    done();
                }
            }
        }
    }

    /// `false`: the database is closed.
    fn write(&self, changes: &[Change]) -> Result<bool, redb::Error> {
        let database = lock(&self.0.database);
        let Some(database) = &*database else { return Ok(false) };
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(REPLICAS)?;
            for change in changes {
                match change {
                    Change::Store(key, row, _) => drop(table.insert(&encode_key(*key), encode(row).as_slice())?),
                    Change::Remove(key) => drop(table.remove(&encode_key(*key))?),
                }
            }
        }
        transaction.commit()?;
        Ok(true)
    }

    /// Whether records that count may not be flushed: those of this life, or of one before.
    pub(crate) fn counts_unflushed(&self) -> bool {
        self.0.life.counting == Counting::LogEnd || self.0.inherits_unflushed.load(Ordering::Acquire)
    }

    /// Every log has been opened and flushed: what the life before left unflushed is on disk now.
    pub(crate) fn settle(&self) {
        if self.0.inherits_unflushed.swap(false, Ordering::AcqRel) {
            let states = self.clone();
            self.0.writer.submit(move || {
                let database = lock(&states.0.database);
                if let Some(Err(error)) = database.as_ref().map(|database| write_life(database, &states.0.life)) {
                    tracing::warn!(%error, "that every log is flushed is not noted; after a power cut replicas start over");
                }
            });
        }
    }

    /// The thread that writes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn writer(&self) -> &BlockingPool {
        &self.0.writer
    }

    fn fail(&self, error: &redb::Error) {
        // Reported before anything that waits could be answered.
        self.0.fatal.report(FatalError::Flush { what: "the state of replicas".to_owned(), reason: error.to_string() });
        let mut queue = lock(&self.0.queue);
        queue.is_closed = true;
        queue.changes.clear();
    }

    /// Closes the database; `in_order` notes that this life has ended with every log flushed and closed. Blocks; call it
    /// when the thread that writes has ended.
    pub(crate) fn close(&self, in_order: bool) {
        lock(&self.0.queue).is_closed = true;
        let Some(database) = lock(&self.0.database).take() else { return };
        let over = Life { is_over: true, ..self.0.life.clone() };
        if in_order && let Err(error) = write_life(&database, &over) {
            tracing::warn!(%error, "the end of this life is not noted; the next start takes it for a crash");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole values are put in and taken out, so a poisoned one is still a whole one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads every row; marks them all when what they stand for may be lost. One transaction: a crash in between leaves
/// the former life to be judged again. The second value: whether the former life left records unflushed that count and
/// are still there; the new one is stored as one that does the same, until they are on disk.
fn begin_life(database: &Database, life: &Life) -> Result<(HashMap<PartitionKey, ReplicaRow>, bool), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut rows = HashMap::new();
    let inherits_unflushed;
    {
        let mut lives = transaction.open_table(LIFE)?;
        let former: Option<Life> = lives.get(LAST)?.and_then(|stored| decode(stored.value()));
        let mut table = transaction.open_table(REPLICAS)?;
        for entry in table.iter()? {
            let (key, value) = entry?;
            // A row that cannot be read is none: the replica has forgotten.
            if let Some(row) = decode::<ReplicaRow>(value.value()) {
                rows.insert(decode_key(key.value()), row);
            }
        }
        let has_lost = former.as_ref().is_some_and(|former| former.may_have_lost(life.boot_id.as_deref()));
        inherits_unflushed = !has_lost && former.as_ref().is_some_and(Life::has_unflushed);
        if has_lost && !rows.is_empty() {
            tracing::warn!(
                replicas = rows.len(),
                "the machine went down before everything was flushed: replicas that others keep, too, start over"
            );
            for (key, row) in &mut rows {
                row.is_suspect = true;
                table.insert(&encode_key(*key), encode(row).as_slice())?;
            }
        }
        let counting = if inherits_unflushed { Counting::LogEnd } else { life.counting };
        lives.insert(LAST, encode(&Life { counting, ..life.clone() }).as_slice())?;
    }
    transaction.commit()?;
    Ok((rows, inherits_unflushed))
}

fn write_life(database: &Database, life: &Life) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.open_table(LIFE)?.insert(LAST, encode(life).as_slice())?;
    transaction.commit()?;
    Ok(())
}

fn encode_key((topic, partition): PartitionKey) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(topic.as_bytes());
    key[16..].copy_from_slice(&partition.0.to_be_bytes());
    key
}

fn decode_key(key: &[u8; 20]) -> PartitionKey {
    let (mut topic, mut partition) = ([0; 16], [0; 4]);
    topic.copy_from_slice(&key[..16]);
    partition.copy_from_slice(&key[16..]);
    (TopicId::from_bytes(topic), PartitionId(u32::from_be_bytes(partition)))
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Plain structures of numbers and texts always can be.
    serde_json::to_vec(value).unwrap_or_default()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// The kernel's id of this boot of the machine.
pub(crate) fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests;
