//! `POST /topics/{topic}` and `POST /topics/{topic}/partitions/{partition}`: the v2 envelope.
//!
//! All records of one partition travel in one batch (in several only where the topic's
//! `max_message_bytes` demands it). Records may fail one by one: the reply has an entry for each,
//! and is 200 when at least one was written, 422 when none was. What concerns the request as a
//! whole (an unknown topic or partition, a full disk, a gap in the sequence) is its status.

pub(crate) mod append;
pub(crate) mod batching;
pub(crate) mod envelope;
pub(crate) mod options;
pub(crate) mod partitioning;

mod request;

use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::{StatusCode, header::HeaderValue};
use pubg1_model::{PartitionId, TopicName, record_batch::NewRecord};

use self::{
    batching::BatchWriter,
    envelope::IncomingRecord,
    options::{PRODUCER_DUPLICATE, ProduceQuery, producer_identity},
    request::{Fate, Request},
};
use crate::{
    call::Call,
    dto::{ErrorBody, ProduceEnvelope, Produced},
    edge::ApiResult,
    error::ApiError,
    media_type::{ProduceBody, produce_body},
    ndjson, reply,
};

/// Milliseconds since 1970, for records that carry no time.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Produces records to a topic; each goes to the partition it names, or that its key hashes to.
#[utoipa::path(
    post,
    path = "/topics/{topic}",
    tag = "records",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("acks" = Option<String>, Query, description = "all (committed, the default), 1 (appended) or 0 (sent)", pattern = "^(all|-1|0|1)$"),
        ("Producer-Id" = Option<i64>, Header, description = "With Producer-Epoch and Producer-Seq: an idempotent producer"),
        ("Producer-Epoch" = Option<i16>, Header, description = "See Producer-Id"),
        ("Producer-Seq" = Option<i32>, Header, description = "The sequence of the request's first record in its partition, from 0"),
    ),
    request_body(content(
        (ProduceEnvelope = "application/vnd.kafka.json.v2+json"),
        (ProduceEnvelope = "application/vnd.kafka.binary.v2+json"),
        (ProduceEnvelope = "application/vnd.kafka.text.v2+json"),
        (ProduceEnvelope = "application/json"),
        (String = "application/x-ndjson"),
    )),
    responses(
        (status = 200, description = "Each record's offset, or why it failed; for NDJSON one line a record, as it is written",
            content((Produced = "application/vnd.kafka.v2+json"), (Produced = "application/json"), (String = "application/x-ndjson"))),
        (status = 422, description = "No record was written", content((Produced = "application/vnd.kafka.v2+json"), (ErrorBody = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn to_topic(call: Call) -> ApiResult {
    let topic = call.topic()?;
    produce(call, &topic, None).await
}

/// Produces records to one partition.
#[utoipa::path(
    post,
    path = "/topics/{topic}/partitions/{partition}",
    tag = "records",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("partition" = u32, Path, description = "The partition"),
        ("acks" = Option<String>, Query, description = "all (committed, the default), 1 (appended) or 0 (sent)", pattern = "^(all|-1|0|1)$"),
        ("Producer-Id" = Option<i64>, Header, description = "With Producer-Epoch and Producer-Seq: an idempotent producer"),
        ("Producer-Epoch" = Option<i16>, Header, description = "See Producer-Id"),
        ("Producer-Seq" = Option<i32>, Header, description = "The sequence of the request's first record, from 0"),
    ),
    request_body(content(
        (ProduceEnvelope = "application/vnd.kafka.json.v2+json"),
        (ProduceEnvelope = "application/vnd.kafka.binary.v2+json"),
        (ProduceEnvelope = "application/vnd.kafka.text.v2+json"),
        (ProduceEnvelope = "application/json"),
        (String = "application/x-ndjson"),
    )),
    responses(
        (status = 200, description = "Each record's offset, or why it failed; for NDJSON one line a record, as it is written",
            content((Produced = "application/vnd.kafka.v2+json"), (Produced = "application/json"), (String = "application/x-ndjson"))),
        (status = 422, description = "No record was written", content((Produced = "application/vnd.kafka.v2+json"), (ErrorBody = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn to_partition(call: Call) -> ApiResult {
    let (topic, partition) = (call.topic()?, call.partition()?);
    produce(call, &topic, Some(partition)).await
}

async fn produce(mut call: Call, topic: &TopicName, path: Option<PartitionId>) -> ApiResult {
    let topic = call.state.writable_topic(topic)?;
    let format = match produce_body(call.header(&actix_web::http::header::CONTENT_TYPE))? {
        ProduceBody::Envelope(format) => format,
        ProduceBody::Lines => return ndjson::produce(call, topic, path),
    };
    let media_type = call.management_type()?;
    let acks = call.query::<ProduceQuery>()?.acks()?;
    let identity = producer_identity(call.headers())?;
    let body = call.body().await?;
    let records = envelope::parse(&body, format)?;
    let mut request = Request::plan(&call, &topic, path, identity, &records)?;
    request.append(&call, &topic.name, acks).await?;
    let all_failed = request.fates.iter().all(|fate| matches!(fate, Fate::Refused(_)));
    let duplicate =
        !all_failed && request.fates.iter().all(|fate| matches!(fate, Fate::Written { duplicate: true, .. }));
    let body = Produced {
        offsets: request.fates.into_iter().map(Fate::entry).collect(),
        key_schema_id: None,
        value_schema_id: None,
    };
    let status = if all_failed { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let mut reply = reply::json_as(status, media_type, &body)?;
    if duplicate {
        reply.headers_mut().insert(PRODUCER_DUPLICATE, HeaderValue::from_static("true"));
    }
    Ok(reply)
}

/// Adds a record to its partition's batch.
pub(crate) fn push(writer: &mut BatchWriter, record: &IncomingRecord<'_>, now_ms: i64) -> Result<(), ApiError> {
    let new = |headers| NewRecord {
        timestamp_ms: record.timestamp_ms.unwrap_or(now_ms),
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
    };
    if record.headers.is_empty() {
        return writer.push(&new(&[]));
    }
    let headers: Vec<(&str, Option<&[u8]>)> =
        record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
    writer.push(&new(&headers))
}
