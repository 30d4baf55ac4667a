//! A task out of its changelog; and one of which nothing is there yet.

use std::{sync::Arc, time::Instant};

use pubg1_model::{
    Offset, PartitionId,
    cluster::{MetadataCommand, MetadataReply},
    compression::Compression,
    record_batch::{BatchBuilder, BatchError, BatchIter, NewRecord, ValidBatch},
    streams::{
        document::{Start, Stop},
        task::{OutputBatch, ReplayError, Task, TaskKind, TaskReplay},
    },
};

use super::{
    cell::TaskCell,
    commit::publish,
    drive::Halt,
    messages::{Begin, Published, Restored},
};
use crate::{
    broker,
    errors::{AppendError, FetchError},
    flusher::caught,
    handles::PartitionHandle,
    partition::{Acks, AppendRequest},
};

/// How much of a changelog is read at a time.
const READ_BYTES: usize = 1024 * 1024;
/// Decompressed bytes of a batch; these are written as they are.
const BATCH_BYTES_MAX: usize = 80 << 20;
/// The key of the record after which everything that was appended before is in the log, or never will be. Commits have
/// no key.
const BARRIER_KEY: &[u8] = b"barrier";

/// Why a changelog gives no task.
#[derive(Debug, thiserror::Error)]
enum NotRestored {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Gives the actor its task: as the changelog says, everything that it has committed published.
pub(super) async fn restore(cell: &Arc<TaskCell>) -> Result<(), Halt> {
    let began = Instant::now();
    barrier(cell).await.map_err(Halt::again)?;
    let to_read = Arc::clone(cell);
    // A changelog on which the engine panics stops this stream, and not the broker.
    let read = cell.services.node.workers.run(move || caught(|| replay(&to_read))).await;
    let read = read.ok_or_else(|| Halt::again("the broker is about to stop"))?.map_err(|panic| {
        tracing::error!(stream = %cell.plan.name, task = %cell.partition(), panic, "reading a changelog panicked");
        Halt::failed(cell, format!("reading its changelog panicked: {panic}"))
    })?;
    let (task, outputs) = read.map_err(|error| match error {
        NotRestored::Fetch(error) if error.is_retriable() => Halt::again(error),
        error => Halt::failed(cell, format!("its changelog cannot be read: {error}")),
    })?;
    let (number, has_begun) = (task.number(), task.has_begun());
    cell.ask(Restored { task: Box::new(task) }).await.ok_or(Halt::Gone)?;
    cell.series.restored(began.elapsed());
    if number > 0 {
        publish(cell, outputs).await?;
        cell.ask(Published { number }).await.ok_or(Halt::Gone)?;
    }
    if !has_begun {
        let begin = begin(cell).await?;
        cell.ask(begin).await.ok_or(Halt::Gone)?;
    }
    Ok(())
}

/// An append of an earlier life of the task in this epoch may still be under way: this one lies behind it.
async fn barrier(cell: &TaskCell) -> Result<(), AppendError> {
    let mut batch = BatchBuilder::new(Compression::None);
    let record = NewRecord { timestamp_ms: cell.now_ms(), key: Some(BARRIER_KEY), ..NewRecord::default() };
    let batch = batch.push(&record).and_then(|()| batch.finish(None));
    let batch: ValidBatch = batch.map_err(|error| AppendError::Invalid { reason: error.to_string() })?;
    let request = AppendRequest { batches: vec![batch], acks: Acks::All };
    cell.slot.append_internally(request, cell.epoch).await.map(drop)
}

/// Reads the changelog to its high watermark. Blocks.
fn replay(cell: &TaskCell) -> Result<(Task, Vec<OutputBatch>), NotRestored> {
    let mut replay = TaskReplay::new(cell.spec.clone()).map_err(ReplayError::from)?;
    let mut next: Offset = cell.slot.leader_view()?.log_start_offset;
    loop {
        let fetched = cell.slot.read_internally(next, READ_BYTES)?;
        if fetched.is_empty() || fetched.next_offset <= next {
            return Ok(replay.finish());
        }
        for batch in fetched.runs.iter().flat_map(|run| BatchIter::new(run)) {
            let decoded = batch?.decode(BATCH_BYTES_MAX)?;
            for record in decoded.records() {
                let record = record?;
                if let (None, Some(value)) = (record.key, record.value)
                    && record.offset >= next
                {
                    replay.apply(value, record.offset)?;
                }
            }
        }
        next = fetched.next_offset;
    }
}

/// The partition that the task reads.
pub(super) fn source(cell: &TaskCell) -> Result<PartitionHandle, Halt> {
    let (topic, place) = cell.source();
    broker::lookup(&cell.services, topic, place.partition).map_err(Halt::again)
}

/// Where the task begins, and as whom it publishes.
async fn begin(cell: &TaskCell) -> Result<Begin, Halt> {
    let command = MetadataCommand::ReserveProducerIds { count: 1 };
    let producer_id = match cell.services.metadata.propose_own(command).await {
        Ok(MetadataReply::ProducerIds { first, .. }) => first,
        Ok(MetadataReply::Done) => return Err(Halt::again("no producer id was given")),
        Err(error) => return Err(Halt::again(error)),
    };
    let (TaskKind::Whole { partition } | TaskKind::First { partition }) = cell.spec.kind else {
        return Ok(Begin { producer_id, start: Offset::ZERO, end: None });
    };
    let input = source(cell)?;
    let view = input.leader_view().await.map_err(Halt::again)?;
    let document = &cell.plan.document;
    let start = match &document.start {
        Start::Earliest => view.log_start_offset,
        Start::Latest => view.high_watermark,
        Start::Time(ms) => {
            let found = input.find_timestamp(*ms).await.map_err(Halt::again)?;
            found.map_or(view.high_watermark, |(offset, _)| offset)
        }
        Start::Offsets(offsets) => {
            let listed = offsets.iter().find(|(listed, _)| *listed == PartitionId(partition));
            listed.map_or(view.log_start_offset, |(_, offset)| Offset::new(*offset))
        }
    };
    let end = (document.stop == Stop::Latest).then_some(view.high_watermark);
    Ok(Begin { producer_id, start, end })
}
