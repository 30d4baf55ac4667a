//! Commits: appended to the changelog, then their outputs published, one commit after the other.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use pubg1_model::{
    Offset, PartitionId, TopicName,
    compression::Compression,
    record_batch::{BatchBuilder, BatchError, NewRecord, ValidBatch},
    streams::task::{CommitToAppend, OutputBatch, OutputTarget, TaskKind},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    cell::{TaskCell, Wanted},
    drive::Halt,
    messages::{Committed, Made, MakeCommit, Published},
    restore::source,
};
use crate::{
    broker,
    errors::AppendError,
    handles::PartitionHandle,
    partition::{Acks, AppendRequest},
};

/// How often it is looked whether a commit is due, while there is something to commit, and while there is not.
const DUE_INTERVAL: Duration = Duration::from_millis(40);
const REST_INTERVAL: Duration = Duration::from_secs(1);
/// The bytes of one append to the changelog, at most, unless a single record is larger.
const APPEND_BYTES_MAX: usize = 8 << 20;
/// Partitions that are published to at once.
const PUBLISHED_AT_ONCE: usize = 8;
/// The pause before an output is published again.
const PUBLISH_PAUSE: Duration = Duration::from_millis(100);

/// Commits whenever it is time.
pub(super) async fn commit(cell: &Arc<TaskCell>) -> Result<Infallible, Halt> {
    loop {
        let now = *cell.wanted.borrow() == Wanted::Hold;
        let made = cell.ask(MakeCommit { epoch: cell.epoch, now }).await.ok_or(Halt::Gone)?;
        match made.map_err(|error| Halt::of(cell, &error))? {
            Made::Commit(commit) => store(cell, commit).await?,
            Made::Nothing { is_clean } => {
                let pause = if is_clean { REST_INTERVAL } else { DUE_INTERVAL };
                // Either is a reason to look.
                timeout(pause, cell.work.notified()).await.unwrap_or_default();
                if !is_clean {
                    // What is fed meanwhile goes with the same commit.
                    sleep(DUE_INTERVAL / 8).await;
                }
            }
        }
    }
}

async fn store(cell: &Arc<TaskCell>, commit: CommitToAppend) -> Result<(), Halt> {
    let CommitToAppend { number, records, outputs, is_snapshot, position, corrections: _ } = commit;
    let began = Instant::now();
    let first = append(cell, &records).await?;
    cell.series.committed(began.elapsed());
    cell.ask(Committed { number }).await.ok_or(Halt::Gone)?;
    publish(cell, outputs).await?;
    cell.ask(Published { number }).await.ok_or(Halt::Gone)?;
    if let Some(first) = first.filter(|_| is_snapshot) {
        clean(cell, first, position).await;
    }
    Ok(())
}

/// Deletes what lies before a snapshot, and the partial results that are in it: nobody reads them again. What does not
/// succeed the next snapshot takes along.
async fn clean(cell: &TaskCell, first: Offset, position: Offset) {
    let stream = &cell.plan.name;
    if let Err(error) = cell.slot.delete_records_before(first).await {
        tracing::debug!(%stream, %error, "what lies before a snapshot stays for now");
    }
    if let (TaskKind::Merge { .. }, Ok(partials)) = (cell.spec.kind, source(cell))
        && let Err(error) = partials.delete_records_before(position).await
    {
        tracing::debug!(%stream, %error, "partial results that were merged stay for now");
    }
}

/// Appends the records of a commit; the offset of the first. Only in this epoch: who leads in a later one has passed the
/// place where they would come to lie.
async fn append(cell: &TaskCell, records: &[Vec<u8>]) -> Result<Option<Offset>, Halt> {
    let invalid = |error: BatchError| Halt::failed(cell, format!("its state cannot be stored: {error}"));
    let (mut first, mut at) = (None, 0);
    let now_ms = cell.now_ms();
    while at < records.len() {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(record) = records.get(at)
            && (batches.is_empty() || bytes + record.len() <= APPEND_BYTES_MAX)
        {
            let mut batch = BatchBuilder::new(Compression::None);
            let record = NewRecord { timestamp_ms: now_ms, value: Some(record), ..NewRecord::default() };
            batch.push(&record).map_err(invalid)?;
            batches.push(batch.finish(None).map_err(invalid)?);
            bytes += records[at].len();
            at += 1;
        }
        let appended = cell.slot.append_internally(AppendRequest { batches, acks: Acks::All }, cell.epoch).await;
        let reply = appended.map_err(|error| {
            if matches!(error, AppendError::NotLeader { .. } | AppendError::NotReady { .. }) {
                cell.series.fenced.inc();
            }
            Halt::again(error)
        })?;
        first = first.or_else(|| reply.appended.first().map(|place| place.base_offset));
    }
    Ok(first)
}

/// Publishes outputs: those of a partition one after the other. It goes on until all are there.
pub(super) async fn publish(cell: &Arc<TaskCell>, outputs: Vec<OutputBatch>) -> Result<(), Halt> {
    let mut by_partition: BTreeMap<(OutputTarget, u32), Vec<OutputBatch>> = BTreeMap::new();
    for output in outputs {
        by_partition.entry((output.target, output.partition)).or_default().push(output);
    }
    let publishing = by_partition.into_iter().map(|((target, partition), batches)| async move {
        let handle = target_partition(cell, target, PartitionId(partition))?;
        for batch in &batches {
            publish_batch(cell, &handle, batch).await?;
        }
        Ok::<_, Halt>(())
    });
    stream::iter(publishing).buffer_unordered(PUBLISHED_AT_ONCE).try_collect().await
}

fn target_partition(cell: &TaskCell, target: OutputTarget, partition: PartitionId) -> Result<PartitionHandle, Halt> {
    let topic: Option<&TopicName> = match target {
        OutputTarget::Output => Some(&cell.plan.output.1),
        OutputTarget::Late => Some(&cell.plan.late.1),
        OutputTarget::Partials => cell.plan.partials.as_ref().map(|(_, topic)| topic),
    };
    let topic = topic.ok_or_else(|| Halt::failed(cell, "there is no topic for its partial results"))?;
    broker::lookup(&cell.services, topic, partition).map_err(Halt::again)
}

async fn publish_batch(cell: &TaskCell, handle: &PartitionHandle, output: &OutputBatch) -> Result<(), Halt> {
    let bytes: Bytes = output.bytes.clone();
    let batch = ValidBatch::new(bytes).map_err(|error| Halt::failed(cell, error))?;
    loop {
        let request = AppendRequest { batches: vec![batch.clone()], acks: Acks::All };
        let error = match Box::pin(handle.append(request)).await {
            // One that is there already is told as a duplicate.
            Ok(_) => return Ok(()),
            // It is there already, and too long ago to be recognised.
            Err(AppendError::OutOfOrderSequence { expected, .. }) if output.is_before(expected) => return Ok(()),
            Err(error) => error,
        };
        let is_gone = matches!(error, AppendError::Deleted);
        if !(error.is_retriable() || error.is_outcome_unknown() || is_gone) {
            let place = handle.topic_partition();
            return Err(Halt::failed(cell, format!("its results cannot be written to {place}: {error}")));
        }
        cell.waits(format!("{} takes nothing: {error}", handle.topic_partition()));
        sleep(error.retry_after_ms().map_or(PUBLISH_PAUSE, Duration::from_millis).min(5 * PUBLISH_PAUSE)).await;
    }
}
