//! Lines of an idempotent producer that are in the log already: acknowledged only when they are committed.

use std::time::Duration;

use pubg1_actors::{Acks, AppendError, LeaderView};
use pubg1_model::{Offset, PartitionId, TopicName, record_batch::ValidBatch};
use tokio::time::Instant;

use super::group::{Outcome, write};
use crate::{error::ApiError, state::AppState};

/// Leaderships that may end while it is found out what is committed.
const ATTEMPTS: usize = 3;

/// How many records from the first one on are in the log already; `None` when that is not why the
/// append failed.
fn already_appended(outcome: &Outcome) -> Option<usize> {
    const SEQUENCES: i64 = 1 << 31;
    let Some(AppendError::OutOfOrderSequence { expected, received, .. }) = &outcome.error else { return None };
    if !outcome.appended.is_empty() {
        return None;
    }
    // Sequences wrap: the nearer way round tells what is earlier.
    let ahead = (i64::from(*expected) - i64::from(*received)).rem_euclid(SEQUENCES);
    (1..SEQUENCES / 2).contains(&ahead).then(|| usize::try_from(ahead).unwrap_or(usize::MAX))
}

/// What became of batches, of which some may have been appended before.
pub(super) enum Sent {
    Written(Outcome),
    /// The log has this many records of theirs, committed in this leadership; nothing was written now.
    Known(usize, LeaderView),
}

/// Appends batches that may be in the log already, in other batches than now. A sequence that is ahead says how much
/// of them one leader *has*; it counts when that leader, in the same epoch, has committed what it has.
pub(super) async fn send(
    state: &AppState,
    topic: &TopicName,
    partition: PartitionId,
    batches: &[ValidBatch],
    acks: Acks,
) -> Result<Sent, ApiError> {
    let outcome = write(state, topic, partition, batches.to_vec(), acks).await?;
    if already_appended(&outcome).is_none() {
        return Ok(Sent::Written(outcome));
    }
    let handle = state.partition(topic, partition)?;
    let patience = Duration::from_millis(state.broker.config().append_timeout_ms);
    for _ in 0..ATTEMPTS {
        let before = handle.leader_view().await?;
        let outcome = write(state, topic, partition, batches.to_vec(), acks).await?;
        let Some(known) = already_appended(&outcome) else { return Ok(Sent::Written(outcome)) };
        let has = handle.leader_view().await?;
        let last = Offset::new(has.log_end_offset.get().saturating_sub(1));
        let committed = match acks {
            Acks::All => handle.wait_above(last, Instant::now() + patience).await?,
            Acks::Leader | Acks::None => has.clone(),
        };
        let one_epoch = [has.leader_epoch, committed.leader_epoch].iter().all(|epoch| *epoch == before.leader_epoch);
        if one_epoch && (acks != Acks::All || committed.high_watermark >= has.log_end_offset) {
            return Ok(Sent::Known(known, committed));
        }
    }
    Err(AppendError::OutcomeUnknown { retry_after_ms: 1000 }.into())
}
