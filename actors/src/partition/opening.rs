//! From files to a replica: its log opened and flushed, and what it may still claim of its former lives.
//!
//! A replica that has lost something that it counted must say so, or a committed record could be missing from the
//! next leader. It is one that has forgotten when its row or its log is gone, when its log is damaged, and when log
//! ends count and the machine went down. That it has is stored before the log is touched: a crash in between must not
//! leave an empty log behind a row that remembers.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    leader_epochs::LeaderEpochs,
    replication::{Counting, Identity, Recovered, Replica, StorageId, message::DurableState},
    topic::TopicConfig,
};
use pubg1_storage::{PartitionLog, RecoveryReport, StorageError};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{Assignment, PartitionSlot};
use crate::{
    config::FlushPolicy,
    replica_states::ReplicaRow,
    storage_errors::{OpenFailure, flush_now},
};

/// Ends the name of a directory that was set aside because it is damaged. It goes when the replica is whole again.
const ASIDE: &str = "damaged";

/// An open log, and the lock that keeps others off its directory.
pub(super) struct OpenLog {
    pub(super) log: PartitionLog,
    // After the log: the directory is free only when its files are closed.
    pub(super) lock: OwnedMutexGuard<()>,
}

/// A replica that plays no part yet; what it keeps is on disk.
pub(super) struct OpenedReplica {
    pub(super) replica: Replica,
    pub(super) open: OpenLog,
    pub(super) config: TopicConfig,
}

/// Why a replica is not opened.
#[derive(Debug)]
pub(super) enum OpeningFailure {
    /// It is no longer kept here.
    NotKept,
    /// Not now: it is tried again.
    Unavailable(String),
    /// The log cannot be opened.
    Open(OpenFailure),
}

impl From<StorageError> for OpeningFailure {
    fn from(error: StorageError) -> Self {
        Self::Open(OpenFailure::from(error))
    }
}

/// What counts, by the flush policy.
pub(crate) const fn counting(policy: FlushPolicy) -> Counting {
    match policy {
        FlushPolicy::Quorum => Counting::Flushed,
        FlushPolicy::Interval { .. } => Counting::LogEnd,
    }
}

/// Opens the replica of `slot`. `is_damaged`: its log was found to be damaged, and is set aside when others have it.
pub(super) async fn open_replica(
    slot: Arc<PartitionSlot>,
    is_damaged: bool,
) -> Result<Box<OpenedReplica>, OpeningFailure> {
    let lock = Arc::clone(&slot.locks.log).lock_owned().await;
    let assignment = slot.assignment().ok_or(OpeningFailure::NotKept)?;
    let registration = slot.node.registration.get().copied();
    let registration =
        registration.ok_or_else(|| OpeningFailure::Unavailable("the broker is not registered yet".to_owned()))?;
    let (workers, openings) = (slot.node.workers.clone(), Arc::clone(&slot.node.openings));
    // What is open already is not to wait for all that is to be opened.
    let _turn = openings.acquire().await;
    let opened =
        workers.run(move || Opening { slot: &slot, assignment: &assignment, registration }.run(is_damaged, lock));
    let ended = || OpeningFailure::Unavailable("the thread that opened the log ended".to_owned());
    opened.await.unwrap_or_else(|| Err(ended()))
}

struct Opening<'a> {
    slot: &'a PartitionSlot,
    assignment: &'a Assignment,
    registration: u64,
}

/// What a replica knows of itself when its log is open.
struct Known {
    /// What was stored beside the log; `None`: nothing.
    row: Option<ReplicaRow>,
    /// It may have lost something that counted, and `row` says so already.
    has_forgotten: bool,
}

impl Opening<'_> {
    /// Blocks.
    fn run(&self, is_damaged: bool, lock: OwnedMutexGuard<()>) -> Result<Box<OpenedReplica>, OpeningFailure> {
        let Self { slot, assignment, .. } = self;
        let mut known = self.load(is_damaged)?;
        let now_ms = slot.node.config.clock.now_ms();
        let open = || PartitionLog::open(&slot.identity.dir, &assignment.config, now_ms);
        let (mut log, report) = match open() {
            Err(StorageError::Damage(damage)) if !self.is_alone() => {
                slot.node.metrics.storage().checksum_failures.inc();
                tracing::error!(partition = %slot.identity.topic_partition(), %damage,
                    "the log is damaged; it is copied again from the other replicas");
                let former = known.row;
                known = self.forget(former)?;
                self.set_aside(former)?;
                open()?
            }
            opened => opened?,
        };
        told(slot, &report);
        // What survived in the page cache is made durable before it counts.
        flush_now(&mut log)?;
        let replica = self.replica(known, &log)?;
        let open = OpenLog { log, lock };
        Ok(Box::new(OpenedReplica { replica, open, config: assignment.config.clone() }))
    }

    fn me(&self) -> BrokerId {
        self.slot.node.config.broker_id
    }

    /// Whether nobody else keeps the partition: what is here is all there is.
    fn is_alone(&self) -> bool {
        self.assignment.image.members().all(|broker| broker == self.me())
    }

    /// Reads the row, and finds out what can be found out before the log is opened.
    fn load(&self, is_damaged: bool) -> Result<Known, OpeningFailure> {
        let (node, dir) = (&self.slot.node, &self.slot.identity.dir);
        let row = node.states.load(self.slot.identity.key()).filter(|row| row.disk == node.storage);
        let is_there = dir.try_exists().map_err(|error| unavailable(dir, &error))?;
        let Some(known) = row else { return Ok(Known { row: None, has_forgotten: false }) };
        if !is_there {
            tracing::error!(dir = %dir.display(), "the log is gone; the replica starts over");
            return self.forget(row);
        }
        if is_damaged && !self.is_alone() {
            let known = self.forget(row)?;
            self.set_aside(row)?;
            return Ok(known);
        }
        if known.is_suspect && !self.is_alone() {
            return self.forget(row);
        }
        Ok(Known { row, has_forgotten: known.adopted_epoch.is_none() })
    }

    /// Stores that this replica has forgotten, under the name of a new disk.
    fn forget(&self, row: Option<ReplicaRow>) -> Result<Known, OpeningFailure> {
        let promised = row.map_or(LeaderEpoch::ZERO, |row| row.promised_epoch);
        let row = ReplicaRow {
            promised_epoch: promised.max(self.assignment.image.leader_epoch),
            adopted_epoch: None,
            storage: StorageId::from_bytes(*Uuid::new_v4().as_bytes()),
            disk: self.slot.node.storage,
            high_watermark: Offset::ZERO,
            is_suspect: false,
        };
        self.store(row)?;
        Ok(Known { row: Some(row), has_forgotten: true })
    }

    fn store(&self, row: ReplicaRow) -> Result<(), OpeningFailure> {
        let is_stored = self.slot.node.states.store_and_wait(self.slot.identity.key(), row);
        let failed = || OpeningFailure::Unavailable("the state of the replica was not stored".to_owned());
        is_stored.then_some(()).ok_or_else(failed)
    }

    /// Moves the directory out of the way; `former` is the row that it had. What is kept already of a replica that has not
    /// been whole since stays: what came after it is part of a copy. Blocks.
    fn set_aside(&self, former: Option<ReplicaRow>) -> Result<(), OpeningFailure> {
        let dir = &self.slot.identity.dir;
        let aside = aside(dir);
        let has_forgotten = former.is_none_or(|row| row.adopted_epoch.is_none());
        let is_kept = has_forgotten && aside.try_exists().map_err(|error| unavailable(dir, &error))?;
        let moved = match is_kept {
            true => remove_if_there(dir),
            false => remove_if_there(&aside).and_then(|()| std::fs::rename(dir, &aside)),
        };
        moved.map_err(|error| unavailable(dir, &error))?;
        tracing::warn!(aside = %aside.display(), "kept until the replica is whole again");
        Ok(())
    }

    /// The replica as it comes out of its log and its row, with its row stored.
    fn replica(&self, mut known: Known, log: &PartitionLog) -> Result<Replica, OpeningFailure> {
        let (node, image) = (&self.slot.node, &self.assignment.image);
        let counting = counting(node.config.flush);
        let identity = |storage| Identity {
            broker: self.me(),
            incarnation: node.incarnation,
            registration: self.registration,
            storage,
        };
        if let Some(row) = known.row.filter(|row| !self.is_alone() && log.log_end_offset() < row.high_watermark) {
            let (log_end, high_watermark) = (log.log_end_offset(), row.high_watermark);
            tracing::error!(dir = %log.dir().display(), %log_end, %high_watermark, "committed records are gone");
            known = self.forget(known.row)?;
        }
        let found = |durable, high_watermark| Recovered {
            durable,
            epochs: log.leader_epochs().clone(),
            log_end: log.log_end_offset(),
            flushed: log.flushed_offset(),
            high_watermark,
        };
        let is_empty = log.log_end_offset() == Offset::ZERO && *log.leader_epochs() == LeaderEpochs::default();
        let replica = match known.row {
            None if !image.led && is_empty => Replica::founded(identity(node.storage), counting, image.leader_epoch),
            None => {
                let nothing = DurableState { promised_epoch: LeaderEpoch::ZERO, adopted_epoch: None };
                let storage = StorageId::from_bytes(*Uuid::new_v4().as_bytes());
                Replica::forgotten(identity(storage), counting, found(nothing, Offset::ZERO), image.leader_epoch)
            }
            Some(row) if known.has_forgotten => {
                let found = found(row.durable(), row.high_watermark);
                Replica::forgotten(identity(row.storage), counting, found, image.leader_epoch)
            }
            Some(row) => Replica::recovered(identity(row.storage), counting, found(row.durable(), row.high_watermark)),
        };
        let row = row_of(&replica, node.storage);
        if known.row != Some(row) {
            self.store(row)?;
        }
        Ok(replica)
    }
}

/// The row of a replica.
pub(super) fn row_of(replica: &Replica, disk: StorageId) -> ReplicaRow {
    row_with(replica.durable(), replica, disk)
}

/// The row of a replica that keeps `durable`.
pub(super) fn row_with(durable: DurableState, replica: &Replica, disk: StorageId) -> ReplicaRow {
    ReplicaRow {
        promised_epoch: durable.promised_epoch,
        adopted_epoch: durable.adopted_epoch,
        storage: replica.identity().storage,
        disk,
        high_watermark: replica.high_watermark(),
        is_suspect: false,
    }
}

/// Where a damaged directory is kept.
fn aside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ASIDE);
    dir.with_file_name(name)
}

/// The directory that a name belongs to, if it is that of one that was set aside.
pub(crate) fn name_of_aside(name: &str) -> Option<&str> {
    name.strip_suffix(ASIDE)?.strip_suffix('.')
}

/// Removes what was kept of a damaged replica. Blocks.
pub(super) fn remove_aside(dir: &Path) {
    let aside = aside(dir);
    if let Err(error) = remove_if_there(&aside) {
        tracing::warn!(dir = %aside.display(), %error, "a damaged replica is left on disk");
    }
}

pub(super) fn remove_if_there(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn unavailable(path: &Path, error: &io::Error) -> OpeningFailure {
    OpeningFailure::Unavailable(format!("{}: {error}", path.display()))
}

fn told(slot: &PartitionSlot, report: &RecoveryReport) {
    slot.node.metrics.storage().recovery_truncated_bytes.inc_by(report.truncated_bytes);
    if report.truncated_bytes > 0 {
        tracing::warn!(
            topic = %slot.identity.topic,
            partition = %slot.identity.partition,
            truncated_bytes = report.truncated_bytes,
            log_end_offset = %report.log_end,
            "a torn end of the log was cut"
        );
    }
}
