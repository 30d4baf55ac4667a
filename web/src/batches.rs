//! The fast path: record batches v2 as they are, both ways.
//!
//! A body is checked (header and CRC-32C of each batch) and stored without being decoded; a read
//! hands out slices of the mapped log.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    http::header::{self, HeaderName, HeaderValue},
};
use bytes::Bytes;
use pubg1_actors::AppendReply;
use pubg1_model::{
    BrokerId, Offset,
    record_batch::{BatchHeader, ProducerIdentity, ValidBatch},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    call::Call,
    dto::{AppendedBatch, AppendedBatches, ErrorBody},
    edge::ApiResult,
    error::{ApiError, Cause},
    media_type::OCTETS,
    produce::{
        append::{all_duplicates, append},
        batching::needs_keys,
        options::{PRODUCER_DUPLICATE, ProduceQuery, producer_identity},
    },
    records::{fetch, position_headers, query::parse_wait, replica_headers, state_leadership},
    reply,
};

/// Appends record batches to a partition, all of the body or, on an error, as much as it says.
#[utoipa::path(
    post,
    path = "/topics/{topic}/partitions/{partition}/batches",
    tag = "records",
    params(
        ("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition"),
        ("acks" = Option<String>, Query, description = "all (committed, the default), 1 (appended) or 0 (sent)", pattern = "^(all|-1|0|1)$"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "Kafka record batches, version 2, back to back"),
    responses(
        (status = 200, description = "Each batch's offsets",
            headers(("Leader" = i64), ("Leader-Epoch" = i64)), body = AppendedBatches),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn produce(mut call: Call) -> ApiResult {
    let (topic, partition) = (call.topic()?, call.partition()?);
    let acks = call.query::<ProduceQuery>()?.acks()?;
    let identity = producer_identity(call.headers())?;
    let topic = call.state.writable_topic(&topic)?;
    let handle = call.state.partition(&topic.name, partition)?;
    let body = call.body().await?;
    let batches = ValidBatch::split(&body)?;
    if let Some(identity) = identity {
        check_identity(identity, batches.first().map(ValidBatch::header))?;
    }
    let keys_required = needs_keys(&topic.config);
    if keys_required || call.limits().check_records {
        for batch in &batches {
            batch.check_records(call.limits().decompressed_bytes_max, keys_required)?;
        }
    }
    let appended = append(call.metrics(), &handle, batches, acks).await?;
    answer(partition.0, &appended)
}

fn answer(partition: u32, appended: &AppendReply) -> ApiResult {
    let body = AppendedBatches {
        offsets: appended
            .appended
            .iter()
            .map(|batch| AppendedBatch {
                partition,
                base_offset: Some(batch.base_offset.get()),
                last_offset: Some(batch.last_offset.get()),
                duplicate: batch.duplicate,
            })
            .collect(),
        leader: appended.leader.0,
        leader_epoch: appended.leader_epoch.get(),
    };
    let mut reply = reply::json(&body)?;
    state_leadership(&mut reply, appended.leader, appended.leader_epoch);
    if all_duplicates(&appended.appended) {
        reply.headers_mut().insert(PRODUCER_DUPLICATE, HeaderValue::from_static("true"));
    }
    Ok(reply)
}

/// The batches carry the producer's identity themselves; headers that say otherwise are a mistake.
fn check_identity(identity: ProducerIdentity, first: Option<&BatchHeader>) -> Result<(), ApiError> {
    let same = first.is_some_and(|first| {
        first.producer_id == identity.id.0
            && first.producer_epoch == identity.epoch
            && first.base_sequence == identity.sequence
    });
    if same {
        return Ok(());
    }
    let message = "Producer-Id, Producer-Epoch and Producer-Seq differ from the first batch, which carries them itself";
    Err(ApiError::new(Cause::Unprocessable, message))
}

/// The query of `GET …/batches`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FetchQuery {
    /// Begin with the batch that holds this record; without it, where the partition begins.
    offset: Option<u64>,
    /// Stop when about this much was read, but not before one batch. At most 16 MiB.
    max_bytes: Option<usize>,
    /// When there is nothing yet, wait this long: `5s`, `500ms`, or a number of seconds. At most 60 s.
    #[param(pattern = "^[0-9]{1,9}(ms|s)?$")]
    wait: Option<String>,
    /// Read the log of this broker as it has it, whether it leads or not, below the high watermark that it knows; for
    /// comparing replicas. It does not wait.
    replica: Option<u32>,
}

/// Reads record batches of a partition as they are stored.
#[utoipa::path(
    get,
    path = "/topics/{topic}/partitions/{partition}/batches",
    tag = "records",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition"), FetchQuery),
    responses(
        (status = 200, description = "Whole batches; the first may begin below the offset that was asked for",
            headers(("Next-Offset" = i64), ("High-Watermark" = i64), ("Log-Start-Offset" = i64), ("Leader" = i64), ("Leader-Epoch" = i64)),
            body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn read(call: Call) -> ApiResult {
    let (topic, partition) = (call.topic()?, call.partition()?);
    let query: FetchQuery = call.query()?;
    let wait = query.wait.as_deref().map(parse_wait).transpose()?.unwrap_or_default().min(call.limits().wait_max);
    let max_bytes = query.max_bytes.unwrap_or(call.limits().read_bytes_default).min(call.limits().read_bytes_max);
    let handle = call.state.partition(&topic, partition)?;
    if let Some(replica) = query.replica {
        let from = query.offset.map(Offset::new);
        let replica = BrokerId(replica);
        if !call.state.image()?.brokers.contains_key(&replica) {
            return Err(ApiError::new(Cause::NoBroker, format!("there is no broker {replica}")));
        }
        let read = call.state.broker.replica_batches(&topic, partition, replica, from, max_bytes).await?;
        return Ok(body(read.runs.clone(), replica_headers(replica, &read)));
    }
    let from = match query.offset {
        Some(offset) => Offset::new(offset),
        None => handle.leader_view().await?.log_start_offset,
    };
    let fetched = fetch::fetch(&call, &handle, from, max_bytes, wait).await?;
    let headers = position_headers(&fetched, fetched.next_offset);
    Ok(body(fetched.runs, headers))
}

fn body(runs: Vec<Bytes>, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> HttpResponse {
    let mut reply = HttpResponse::Ok();
    reply.insert_header((header::CONTENT_TYPE, OCTETS));
    for header in headers {
        reply.insert_header(header);
    }
    reply.body(Runs::new(runs))
}

/// A body of slices that are sent one after the other, without being joined.
struct Runs {
    runs: VecDeque<Bytes>,
    bytes: u64,
}

impl Runs {
    fn new(runs: Vec<Bytes>) -> Self {
        let bytes = runs.iter().map(|run| run.len() as u64).sum();
        Self { runs: runs.into(), bytes }
    }
}

impl MessageBody for Runs {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes)
    }

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.runs.pop_front().map(Ok))
    }
}
