//! Appends batches to a partition, and tells each record's offset.

use pubg1_actors::{Acks, AppendError, AppendReply, AppendRequest, Appended, PartitionHandle};
use pubg1_metrics::{Phase, RequestMetrics};
use pubg1_model::record_batch::ValidBatch;

/// Appends, and counts where the time went.
pub(crate) async fn append(
    metrics: &RequestMetrics,
    handle: &PartitionHandle,
    batches: Vec<ValidBatch>,
    acks: Acks,
) -> Result<AppendReply, AppendError> {
    let reply = handle.append(AppendRequest { batches, acks }).await?;
    metrics.observe_phase(Phase::Queue, reply.phases.queue);
    metrics.observe_phase(Phase::Append, reply.phases.append);
    if acks == Acks::All {
        metrics.observe_phase(Phase::Flush, reply.phases.flush);
    }
    Ok(reply)
}

/// The offsets of the records of `appended`, one after the other.
pub(crate) fn offsets(appended: &[Appended]) -> impl Iterator<Item = u64> + '_ {
    appended.iter().flat_map(|batch| batch.base_offset.get()..=batch.last_offset.get())
}

/// Whether everything had been appended by an earlier attempt.
pub(crate) fn all_duplicates(appended: &[Appended]) -> bool {
    !appended.is_empty() && appended.iter().all(|batch| batch.duplicate)
}

#[cfg(test)]
mod tests {
    use pubg1_model::Offset;

    use super::*;

    #[test]
    fn offsets_run_through_all_batches() {
        let batch = |base, last, duplicate| Appended {
            base_offset: Offset::new(base),
            last_offset: Offset::new(last),
            duplicate,
        };
        let appended = [batch(5, 6, true), batch(9, 9, true)];
        assert_eq!(offsets(&appended).collect::<Vec<_>>(), [5, 6, 9]);
        assert!(all_duplicates(&appended));
        assert!(!all_duplicates(&[]) && !all_duplicates(&[batch(0, 0, true), batch(1, 1, false)]));
    }
}
