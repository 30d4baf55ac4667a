//! Records as server-sent events that go on as records come, and that can be resumed.
//!
//! | event | data | when |
//! |---|---|---|
//! | `record` | the record | for each record |
//! | `control` | `{"next_offset","high_watermark","up_to_date"}` | at the start and whenever the end of the log is reached |
//! | `error` | `{"error_code","message",…}` | for a batch that cannot be decoded, and as the last event when the stream cannot go on |
//!
//! `id:` is the last offset that was seen, -1 before the first record. A client that comes back
//! with `Last-Event-ID` goes on with the record after it, which takes precedence over the query.

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderName},
};
use bytes::Bytes;
use futures_util::stream;
use pubg1_actors::{FetchError, PartitionHandle};
use pubg1_model::{Offset, PartitionId, TopicName};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    fetch::{resolve, waiting_permit},
    query::{ReadQuery, Start},
    render::Renderer,
    undecodable,
    walk::{Item, Step, walk},
};
use crate::{
    call::Call,
    edge::ApiResult,
    error::{ApiError, Cause},
    limits::{Limits, Permit},
    media_type::{EVENTS, Embedded},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A client that lost its connection comes back after this time.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// One open event stream.
struct Events {
    topic: TopicName,
    partition: PartitionId,
    format: Embedded,
    handle: PartitionHandle,
    limits: Limits,
    max_bytes: usize,
    position: Offset,
    /// As it was when the log was last looked at.
    high_watermark: Offset,
    ends: Instant,
    phase: Phase,
    _permit: Permit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Behind,
    UpToDate,
    Ended,
}

/// Answers with an event stream.
pub(crate) async fn stream(
    call: Call,
    topic: TopicName,
    partition: PartitionId,
    handle: PartitionHandle,
    format: Embedded,
    start: Start,
    query: &ReadQuery,
) -> ApiResult {
    let position = match last_event_id(&call)? {
        Some(position) => position,
        None => resolve(&handle, start).await?,
    };
    // An offset outside the log is refused now, while there still is a status to say so.
    let high_watermark = check_position(&handle, position).await?;
    let events = Events {
        topic,
        partition,
        format,
        handle,
        max_bytes: query.max_bytes(call.limits()),
        position,
        high_watermark,
        ends: Instant::now() + call.limits().event_stream_age_max,
        phase: Phase::Start,
        _permit: waiting_permit(&call)?,
        limits: call.limits().clone(),
    };
    let body = stream::unfold(events, |mut events| async move {
        let chunk = events.next().await?;
        Some((Ok::<_, ApiError>(chunk), events))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, EVENTS))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

/// The high watermark; an error for an offset outside the log.
async fn check_position(handle: &PartitionHandle, position: Offset) -> Result<Offset, ApiError> {
    let view = handle.leader_view().await?;
    if (view.log_start_offset..=view.log_end_offset).contains(&position) {
        return Ok(view.high_watermark);
    }
    let (log_start_offset, high_watermark) = (view.log_start_offset, view.high_watermark);
    Err(FetchError::OffsetOutOfRange { requested: position, log_start_offset, high_watermark }.into())
}

/// Where a client that comes back goes on.
fn last_event_id(call: &Call) -> Result<Option<Offset>, ApiError> {
    let Some(text) = call.header(&LAST_EVENT_ID) else { return Ok(None) };
    let next = text.trim().parse::<i64>().ok().and_then(|seen| seen.checked_add(1)).and_then(Offset::from_wire);
    next.map(Some).ok_or_else(|| ApiError::malformed(format!("Last-Event-ID {text:?} is not an offset")))
}

impl Events {
    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Ended => None,
            Phase::Start => {
                self.phase = Phase::Behind;
                let mut output = RETRY.to_vec();
                self.control(&mut output);
                Some(output.into())
            }
            Phase::Behind | Phase::UpToDate => Some(self.step().await.unwrap_or_else(|error| self.end(&error))),
        }
    }

    async fn step(&mut self) -> Result<Bytes, ApiError> {
        if Instant::now() >= self.ends {
            // No error: a client that comes back goes on where it was.
            self.phase = Phase::Ended;
            return Ok(Bytes::from_static(b": come back\n\n"));
        }
        let fetched = self.handle.read(self.position, self.max_bytes).await?;
        self.high_watermark = fetched.high_watermark;
        if !fetched.runs.is_empty() {
            self.phase = Phase::Behind;
            return self.records(&fetched.runs).map(Bytes::from);
        }
        if self.phase == Phase::Behind {
            self.phase = Phase::UpToDate;
            let mut output = Vec::new();
            self.control(&mut output);
            return Ok(output.into());
        }
        let until = (Instant::now() + self.limits.event_ping).min(self.ends);
        self.handle.wait_above(self.position, until).await?;
        let fetched = self.handle.read(self.position, self.max_bytes).await?;
        self.high_watermark = fetched.high_watermark;
        if fetched.runs.is_empty() {
            return Ok(Bytes::from_static(b": ping\n\n"));
        }
        self.phase = Phase::Behind;
        self.records(&fetched.runs).map(Bytes::from)
    }

    fn records(&mut self, runs: &[Bytes]) -> Result<Vec<u8>, ApiError> {
        let renderer = Renderer::line(&self.topic, self.partition, self.format);
        let (mut output, mut sent) = (Vec::new(), 0_usize);
        let max_bytes = self.max_bytes;
        self.position = walk(runs, self.position, self.limits.decompressed_bytes_max, |item| {
            if sent > 0 && output.len() >= max_bytes {
                return Ok(Step::StopBefore);
            }
            sent += 1;
            match item {
                Item::Record(record) => {
                    frame_head(&mut output, "record", record.offset.to_wire());
                    renderer.write(&record, &mut output)?;
                    output.extend_from_slice(b"\n\n");
                }
                Item::Undecodable { offset, next, error } => {
                    error_event(&mut output, &undecodable(offset, next, &error), next.to_wire() - 1);
                }
            }
            Ok(Step::On)
        })?;
        Ok(output)
    }

    /// Says where the stream is.
    fn control(&self, output: &mut Vec<u8>) {
        frame_head(output, "control", self.position.to_wire() - 1);
        let data = serde_json::json!({
            "next_offset": self.position.get(),
            "high_watermark": self.high_watermark.get(),
            "up_to_date": self.position >= self.high_watermark,
        });
        output.extend_from_slice(data.to_string().as_bytes());
        output.extend_from_slice(b"\n\n");
    }

    /// The last event of a stream that cannot go on.
    fn end(&mut self, error: &ApiError) -> Bytes {
        self.phase = Phase::Ended;
        if error.cause() == Cause::Storage {
            tracing::error!(topic = %self.topic, partition = %self.partition, %error, "an event stream ended");
        }
        let mut output = Vec::new();
        error_event(&mut output, error, self.position.to_wire() - 1);
        output.into()
    }
}

fn frame_head(output: &mut Vec<u8>, event: &str, id: i64) {
    use std::io::Write as _;
    // Writing to a vector cannot fail.
    write!(output, "id: {id}\nevent: {event}\ndata: ").unwrap_or_default();
}

fn error_event(output: &mut Vec<u8>, error: &ApiError, id: i64) {
    frame_head(output, "error", id);
    output.extend_from_slice(Value::Object(error.to_json()).to_string().as_bytes());
    output.extend_from_slice(b"\n\n");
}
