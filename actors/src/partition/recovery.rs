//! From files to a log that may lead: a new epoch, the open log, everything found in it flushed.

use std::sync::Arc;

use pubg1_model::{LeaderEpoch, topic::TopicConfig};
use pubg1_storage::{PartitionLog, RecoveryReport};
use tokio::sync::OwnedMutexGuard;

use super::PartitionSlot;
use crate::{
    metadata::{MetadataHandle, ProposeError},
    storage_errors::{OpenFailure, flush_now},
};

/// An open log, flushed to its end, in the epoch in which it shall be led.
pub(super) struct RecoveredLog {
    pub(super) log: PartitionLog,
    pub(super) epoch: LeaderEpoch,
    pub(super) config: TopicConfig,
    // After the log: the directory is free only when its files are closed.
    pub(super) lease: OwnedMutexGuard<()>,
}

/// Why a log cannot lead.
#[derive(Debug)]
pub(super) enum RecoveryFailure {
    /// The topic is gone.
    Deleted,
    /// Not now: it is tried again.
    Unavailable(String),
    /// The log cannot be opened.
    Open(OpenFailure),
}

/// Opens the log in an epoch that nobody has led in: a leadership is never resumed, because a tail that
/// was acknowledged by others may be missing here. `granted` is such an epoch when there is one already.
pub(super) async fn recover(
    slot: Arc<PartitionSlot>,
    metadata: MetadataHandle,
    granted: Option<LeaderEpoch>,
) -> Result<RecoveredLog, RecoveryFailure> {
    let lease = Arc::clone(&slot.lease).lock_owned().await;
    let epoch = match granted {
        Some(epoch) => epoch,
        None => new_epoch(&slot, &metadata).await?,
    };
    let image = metadata.image();
    let topic = image.topic_by_id(slot.identity.topic_id).ok_or(RecoveryFailure::Deleted)?;
    let config = topic.config.clone();
    let workers = slot.node.workers.clone();
    let opened = workers.run(move || open(&slot, config, epoch, lease)).await;
    opened.unwrap_or_else(|| Err(RecoveryFailure::Unavailable("the thread that opened the log ended".to_owned())))
}

async fn new_epoch(slot: &PartitionSlot, metadata: &MetadataHandle) -> Result<LeaderEpoch, RecoveryFailure> {
    let (topic, partition) = (slot.identity.topic_id, slot.identity.partition);
    match metadata.begin_epoch(topic, partition, slot.node.config.broker_id).await {
        Ok(Some(epoch)) => Ok(epoch),
        Ok(None) => Err(RecoveryFailure::Deleted),
        Err(ProposeError::Refused(error)) => Err(RecoveryFailure::Unavailable(format!("no new epoch: {error}"))),
        Err(ProposeError::Unavailable(error)) => Err(RecoveryFailure::Unavailable(format!("no new epoch: {error}"))),
    }
}

/// Blocks.
fn open(
    slot: &PartitionSlot,
    config: TopicConfig,
    epoch: LeaderEpoch,
    lease: OwnedMutexGuard<()>,
) -> Result<RecoveredLog, RecoveryFailure> {
    let failed = |error| RecoveryFailure::Open(OpenFailure::from(error));
    let now_ms = slot.node.config.clock.now_ms();
    let (mut log, report) = PartitionLog::open(&slot.identity.dir, &config, now_ms).map_err(failed)?;
    told(slot, &report);
    // What survived in the page cache is made durable before it is served as committed.
    flush_now(&mut log).map_err(failed)?;
    log.begin_epoch(epoch).map_err(failed)?;
    Ok(RecoveredLog { log, epoch, config, lease })
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
