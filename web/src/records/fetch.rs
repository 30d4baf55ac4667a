//! Finds where a read begins, and reads from there, waiting if asked to.

use std::time::Duration;

use pubg1_actors::{Fetched, PartitionHandle};
use pubg1_metrics::{Phase, ThrottleReason};
use pubg1_model::Offset;
use tokio::time::Instant;

use super::query::Start;
use crate::{call::Call, error::ApiError, limits::Permit};

/// The offset a read begins with.
pub(crate) async fn resolve(handle: &PartitionHandle, start: Start) -> Result<Offset, ApiError> {
    if let Start::Offset(offset) = start {
        return Ok(Offset::new(offset));
    }
    let view = handle.leader_view().await?;
    Ok(match start {
        Start::Beginning => view.log_start_offset,
        Start::Offset(offset) => Offset::new(offset),
        Start::Tail(records) => {
            let from = Offset::new(view.high_watermark.get().saturating_sub(records));
            from.max(view.log_start_offset)
        }
        Start::Timestamp(timestamp_ms) => {
            handle.find_timestamp(timestamp_ms).await?.map_or(view.high_watermark, |(offset, _)| offset)
        }
    })
}

/// The right to wait for records.
pub(crate) fn waiting_permit(call: &Call) -> Result<Permit, ApiError> {
    call.state.waiting.take(1, "reads that wait").inspect_err(|_| call.state.metrics.throttled(ThrottleReason::Waits))
}

/// Reads from `from` on. When there is nothing yet it waits up to `wait` for the first record.
pub(crate) async fn fetch(
    call: &Call,
    handle: &PartitionHandle,
    from: Offset,
    max_bytes: usize,
    wait: Duration,
) -> Result<Fetched, ApiError> {
    let fetched = handle.read(from, max_bytes).await?;
    if !fetched.runs.is_empty() || wait.is_zero() {
        return Ok(fetched);
    }
    let _permit = waiting_permit(call)?;
    call.timed(Phase::Wait, handle.wait_above(from, Instant::now() + wait)).await?;
    Ok(handle.read(from, max_bytes).await?)
}
