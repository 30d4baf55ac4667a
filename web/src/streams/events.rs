//! The rows of a stream as server-sent events: all partitions of its output topic, from now on or from the beginning.
//!
//! | event | data | when |
//! |---|---|---|
//! | `record` | the record; its value is the row | for each row |
//! | `control` | `{"topic","next_offsets","up_to_date"}` | at the start, and whenever all that there was has been sent |
//! | `error` | `{"error_code","message",…}` | for rows that are lost to readers, and as the last event when the stream cannot go on |
//!
//! `id:` says where the client is in every partition, so that one that comes back with `Last-Event-ID` goes on with
//! the next row of each: none is lost, none comes again. When a stream has got another output topic, events begin
//! with the first row there; an id of a topic that is unknown here is first answered with 503.

mod position;
pub(crate) mod unknown;

use std::{collections::VecDeque, sync::Arc};

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderName},
};
use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    stream::{self, FuturesUnordered},
};
use pubg1_actors::{FetchError, Fetched, PartitionHandle, StreamError};
use pubg1_model::{Offset, PartitionId, StreamName, TopicId, TopicName};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep_until, timeout};
use utoipa::{IntoParams, ToSchema};

use self::position::Position;
use crate::{
    call::Call,
    dto::ErrorBody,
    edge::ApiResult,
    error::{ApiError, Cause},
    limits::Permit,
    media_type::{EVENTS, Embedded},
    records::{
        fetch::waiting_permit,
        render::Renderer,
        undecodable,
        walk::{Item, Step, walk},
    },
    state::AppState,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A client that lost its connection comes back after this time.
const RETRY: &[u8] = b"retry: 1000\n\n";
/// A partition that cannot be read is tried again after this time.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked whether the stream is there and its rows still go to the same topic, while nothing comes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The query of `GET …/events`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Where a client begins that does not come back; `latest` when absent.
    #[param(inline)]
    from: Option<Begin>,
}

/// Where events begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Begin {
    /// With the first row that is there.
    Earliest,
    /// With the next row.
    #[default]
    Latest,
}

/// Follows the rows of a stream.
#[utoipa::path(
    get, path = "/streams/{stream}/events", tag = "streams",
    params(("stream" = String, Path, description = "The stream"), EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The last id that was seen: takes precedence over the query",
            pattern = "^[0-9a-f]{32}:[0-9]{1,18}(,[0-9]{1,18})*$")),
    responses(
        (status = 200, description = "The rows, as they come", content((String = "text/event-stream"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn read(call: Call) -> ApiResult {
    let name = call.stream()?;
    let from = call.query::<EventsQuery>()?.from.unwrap_or_default();
    let seen = call.header(&LAST_EVENT_ID).map(str::parse).transpose()?;
    let topic = output_of(&call.state, &name)?;
    let tail = Tail::begin(&call, name, topic, seen, from).await?;
    let body = stream::unfold(tail, |mut tail| async move {
        let chunk = tail.next().await?;
        Some((Ok::<_, ApiError>(chunk), tail))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, EVENTS))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

/// The topic of a stream's rows, as it is now.
fn output_of(state: &AppState, name: &StreamName) -> Result<TopicName, ApiError> {
    let image = state.image()?;
    let stream = image.stream(name).ok_or_else(|| StreamError::UnknownStream(name.clone()))?;
    let topic = image.topic_by_id(stream.output).map(|topic| topic.name.clone());
    topic.ok_or_else(|| ApiError::new(Cause::NoTopic, format!("the output of stream {name} is gone")))
}

/// A partition of the output topic.
struct Partition {
    number: PartitionId,
    handle: PartitionHandle,
    next: Offset,
    /// It could not be read: not before this time again.
    retry_at: Option<Instant>,
}

impl Partition {
    /// Waits until there may be something to read; says whether that is so before the deadline.
    async fn wait(&self, deadline: Instant) -> bool {
        let retry_at = match self.retry_at {
            Some(retry_at) => retry_at,
            None => match self.handle.wait_above(self.next, deadline).await {
                Ok(view) => return view.high_watermark > self.next,
                Err(_) => Instant::now() + PAUSE,
            },
        };
        sleep_until(retry_at.min(deadline)).await;
        retry_at < deadline
    }
}

/// One open event stream.
struct Tail {
    state: Arc<AppState>,
    stream: StreamName,
    topic: TopicName,
    topic_id: TopicId,
    partitions: Vec<Partition>,
    /// Those that may have something to read, in turn.
    ready: VecDeque<usize>,
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

impl Tail {
    async fn begin(
        call: &Call,
        stream: StreamName,
        topic: TopicName,
        seen: Option<Position>,
        from: Begin,
    ) -> Result<Self, ApiError> {
        let permit = waiting_permit(call)?;
        let image = call.state.topic(&topic)?;
        let count = image.partitions.len();
        let mut partitions = Vec::with_capacity(count);
        for number in (0..).take(count).map(PartitionId) {
            let handle = call.state.partition(&topic, number)?;
            partitions.push(Partition { number, handle, next: Offset::ZERO, retry_at: None });
        }
        match seen {
            Some(seen) if seen.topic == image.id => {
                seen.apply(&mut partitions)?;
                check(&partitions).await?;
            }
            Some(seen) => {
                check_is_gone(&call.state, &stream, seen.topic)?;
                start(&mut partitions, Begin::Earliest).await?;
            }
            None => start(&mut partitions, from).await?,
        }
        Ok(Self {
            state: Arc::clone(&call.state),
            stream,
            topic,
            topic_id: image.id,
            ready: (0..count).collect(),
            partitions,
            ends: Instant::now() + call.limits().event_stream_age_max,
            phase: Phase::Start,
            _permit: permit,
        })
    }

    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Ended => None,
            Phase::Start => {
                self.phase = Phase::Behind;
                let mut output = RETRY.to_vec();
                self.control(false, &mut output);
                Some(output.into())
            }
            Phase::Behind | Phase::UpToDate => Some(self.step().await.unwrap_or_else(|error| self.end(&error))),
        }
    }

    async fn step(&mut self) -> Result<Bytes, ApiError> {
        if Instant::now() >= self.ends || output_of(&self.state, &self.stream)? != self.topic {
            return Ok(self.part());
        }
        while let Some(index) = self.ready.pop_front() {
            let Some(output) = self.advance(index).await? else { continue };
            self.phase = if self.phase == Phase::Ended { Phase::Ended } else { Phase::Behind };
            return Ok(output);
        }
        // Of a partition that cannot be read it is not known what there is.
        let all_were_read = self.partitions.iter().all(|partition| partition.retry_at.is_none());
        if self.phase == Phase::Behind && all_were_read {
            self.phase = Phase::UpToDate;
            let mut output = Vec::new();
            self.control(true, &mut output);
            return Ok(output.into());
        }
        self.wait().await;
        Ok(if self.ready.is_empty() { Bytes::from_static(b": ping\n\n") } else { Bytes::from_static(b":\n\n") })
    }

    /// Reads a partition once. What it has to say, if anything; then it is read again when the others were.
    async fn advance(&mut self, index: usize) -> Result<Option<Bytes>, ApiError> {
        let Some(partition) = self.partitions.get_mut(index) else { return Ok(None) };
        partition.retry_at = None;
        let fetched: Fetched = match partition.handle.read(partition.next, self.state.limits.read_bytes_default).await {
            Ok(fetched) => fetched,
            Err(error @ FetchError::OffsetOutOfRange { log_start_offset, .. }) if log_start_offset > partition.next => {
                partition.next = log_start_offset;
                self.ready.push_back(index);
                let number = self.partitions.get(index).map_or(0, |partition| partition.number.0);
                let mut output = Vec::new();
                self.error(&ApiError::from(error).with("partition", number), &mut output);
                return Ok(Some(output.into()));
            }
            Err(error) => {
                let error = ApiError::from(error);
                if error.cause() == Cause::Draining {
                    return Ok(Some(self.part()));
                }
                if error.cause().row().retry_after_s.is_none() {
                    return Err(error);
                }
                tracing::debug!(stream = %self.stream, partition = %partition.number, %error, "an event stream waits");
                partition.retry_at = Some(Instant::now() + PAUSE);
                return Ok(None);
            }
        };
        if fetched.runs.is_empty() {
            return Ok(None);
        }
        self.ready.push_back(index);
        self.records(index, &fetched.runs).map(|output| Some(output.into()))
    }

    fn records(&mut self, index: usize, runs: &[Bytes]) -> Result<Vec<u8>, ApiError> {
        let max_bytes = self.state.limits.read_bytes_default;
        let ids = position::Around::new(self.topic_id, &self.partitions, index);
        let Some(partition) = self.partitions.get_mut(index) else { return Ok(Vec::new()) };
        let renderer = Renderer::line(&self.topic, partition.number, Embedded::Json);
        let (mut output, mut sent) = (Vec::new(), 0_usize);
        partition.next = walk(runs, partition.next, self.state.limits.decompressed_bytes_max, |item| {
            if sent > 0 && output.len() >= max_bytes {
                return Ok(Step::StopBefore);
            }
            sent += 1;
            match item {
                Item::Record(record) => {
                    ids.write(record.offset.plus(1), &mut output);
                    output.extend_from_slice(b"event: record\ndata: ");
                    renderer.write(&record, &mut output)?;
                }
                Item::Undecodable { offset, next, error } => {
                    ids.write(next, &mut output);
                    let error = undecodable(offset, next, &error).with("partition", partition.number.0);
                    write_error(&error, &mut output);
                }
            }
            output.extend_from_slice(b"\n\n");
            Ok(Step::On)
        })?;
        Ok(output)
    }

    /// Waits until one of the partitions may have something to read, or it is time to say that the stream lives.
    async fn wait(&mut self) {
        let until = (Instant::now() + self.state.limits.event_ping).min(self.ends);
        let waits = self.partitions.iter().enumerate();
        let mut waits: FuturesUnordered<_> =
            waits.map(|(index, partition)| partition.wait(until).map(move |woken| woken.then_some(index))).collect();
        loop {
            match timeout(LOOK_INTERVAL, waits.next()).await {
                Ok(Some(Some(index))) => {
                    self.ready.push_back(index);
                    break;
                }
                Ok(Some(None)) => {}
                Ok(None) => return sleep_until(until).await,
                Err(_) if output_of(&self.state, &self.stream).is_ok_and(|output| output == self.topic) => {}
                // The next step says what has become of the stream.
                Err(_) => return,
            }
        }
        // Whoever else has something by now.
        while let Some(Some(woken)) = waits.next().now_or_never() {
            self.ready.extend(woken);
        }
    }

    /// Ends the stream without an error: a client that comes back goes on where it was.
    fn part(&mut self) -> Bytes {
        self.phase = Phase::Ended;
        Bytes::from_static(b": come back\n\n")
    }

    fn id(&self, output: &mut Vec<u8>) {
        let next = self.partitions.first().map_or(Offset::ZERO, |partition| partition.next);
        position::Around::new(self.topic_id, &self.partitions, 0).write(next, output);
    }

    /// Says where the stream is.
    fn control(&self, up_to_date: bool, output: &mut Vec<u8>) {
        self.id(output);
        let offsets: Vec<u64> = self.partitions.iter().map(|partition| partition.next.get()).collect();
        let data = json!({"topic": self.topic.as_str(), "next_offsets": offsets, "up_to_date": up_to_date});
        output.extend_from_slice(format!("event: control\ndata: {data}\n\n").as_bytes());
    }

    fn error(&self, error: &ApiError, output: &mut Vec<u8>) {
        self.id(output);
        write_error(error, output);
        output.extend_from_slice(b"\n\n");
    }

    /// The last event of a stream that cannot go on.
    fn end(&mut self, error: &ApiError) -> Bytes {
        self.phase = Phase::Ended;
        if error.cause() == Cause::Storage {
            tracing::error!(stream = %self.stream, topic = %self.topic, %error, "an event stream ended");
        }
        let mut output = Vec::new();
        self.error(error, &mut output);
        output.into()
    }
}

fn write_error(error: &ApiError, output: &mut Vec<u8>) {
    let data = Value::Object(error.to_json());
    output.extend_from_slice(format!("event: error\ndata: {data}").as_bytes());
}

/// Refuses a position beyond the end of a log now, while there still is a status to say so. A partition that cannot be
/// asked does not keep the others waiting: its first read tells.
async fn check(partitions: &[Partition]) -> Result<(), ApiError> {
    let ask = |partition: &Partition| {
        let (number, next, handle) = (partition.number.0, partition.next, partition.handle.clone());
        async move { (number, next, handle.leader_view_at_once().await) }
    };
    let mut views: FuturesUnordered<_> = partitions.iter().map(ask).collect();
    while let Some((number, requested, view)) = views.next().await {
        let Ok(view) = view else { continue };
        if requested > view.log_end_offset {
            let (log_start_offset, high_watermark) = (view.log_start_offset, view.high_watermark);
            let error = FetchError::OffsetOutOfRange { requested, log_start_offset, high_watermark };
            return Err(ApiError::from(error).with("partition", number));
        }
    }
    Ok(())
}

/// Whether the topic of an id is really none of the stream's any more. This broker may also not know yet what the one
/// knew that gave the id: to begin anew would then repeat rows.
fn check_is_gone(state: &AppState, name: &StreamName, topic: TopicId) -> Result<(), ApiError> {
    let image = state.image()?;
    let next = image.stream(name).and_then(|stream| stream.next.as_ref());
    let is_to_come = next.is_some_and(|next| next.output == topic);
    let is_known = image.topic_by_id(topic).is_some();
    if is_to_come || !is_known && !state.unknown_topics.was_long_ago(topic, Instant::now()) {
        let message = "Last-Event-ID names rows that this broker does not know of yet, or that are deleted; try again";
        return Err(ApiError::new(Cause::Recovering, message));
    }
    Ok(())
}

/// Puts every partition where its first, or its next, record is.
async fn start(partitions: &mut [Partition], from: Begin) -> Result<(), ApiError> {
    let mut views: FuturesUnordered<_> =
        partitions.iter_mut().map(|partition| async { (partition.handle.leader_view().await, partition) }).collect();
    while let Some((view, partition)) = views.next().await {
        let view = view?;
        partition.next = if from == Begin::Latest { view.high_watermark } else { view.log_start_offset };
    }
    Ok(())
}
