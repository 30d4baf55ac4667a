//! What a partition knows besides its batches, from checkpoints or from the batches themselves:
//! leader epochs and producers.

use std::{path::Path, sync::Arc};

use pubg1_model::{Offset, leader_epochs::LeaderEpochs, producer_state::ProducerStates, record_batch::BatchHeader};

use super::Recovery;
use crate::{
    epoch_checkpoint,
    error::{Damage, StorageError},
    producer_snapshot,
    segment::Segment,
};

impl Recovery<'_> {
    /// The leader epochs, from the checkpoint, or from the batches where that is unreadable. An
    /// epoch that has begun at the log end and has no batches yet is kept.
    pub(super) fn load_epochs(&self, segments: &[Arc<Segment>], log_end: Offset) -> Result<LeaderEpochs, StorageError> {
        let stored = self.epochs.as_ref();
        let mut epochs = stored.cloned().unwrap_or_default();
        epochs.truncate_to(log_end.plus(1));
        epochs.start_from(self.checkpoint.log_start);
        if stored.is_none() && !segments.is_empty() {
            walk(segments, self.checkpoint.log_start, log_end, |header| {
                if let (Some(epoch), Some(first)) = (header.leader_epoch(), header.first_offset())
                    && epochs.latest().is_none_or(|latest| latest < epoch)
                {
                    epochs.assign(epoch, first.max(self.checkpoint.log_start));
                }
            })?;
        }
        let is_stored = stored.map_or(epochs.is_empty(), |stored| *stored == epochs);
        if !is_stored {
            epoch_checkpoint::store(&**self.disk, self.dir, &epochs)?;
        }
        Ok(epochs)
    }
}

/// Walks over the headers of the batches between two offsets.
fn walk(
    segments: &[Arc<Segment>],
    from: Offset,
    below: Offset,
    mut on_batch: impl FnMut(&BatchHeader),
) -> Result<(), Damage> {
    let first = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
    for segment in segments.get(first..).unwrap_or_default() {
        for batch in segment.batches_near(from) {
            let batch = batch?;
            if batch.first_offset >= below {
                return Ok(());
            }
            if batch.last_offset >= from {
                on_batch(&batch.header);
            }
        }
    }
    Ok(())
}

/// The producers at `log_end`: the newest snapshot, and what was appended after it.
pub(crate) fn replay(
    dir: &Path,
    segments: &[Arc<Segment>],
    log_start: Offset,
    log_end: Offset,
) -> Result<ProducerStates, StorageError> {
    let (from, mut producers) =
        producer_snapshot::newest(dir, log_start, log_end)?.unwrap_or((log_start, ProducerStates::default()));
    walk(segments, from, log_end, |header| producers.record(header))?;
    Ok(producers)
}
