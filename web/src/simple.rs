//! The simple surface: seven routes that need no library and no ceremony.
//!
//! Choices where several readings are possible:
//! - `/publish` stores the bytes of the JSON object as they were sent (white space around it
//!   removed), whatever the content type says. `key` becomes the record's key: a string as its
//!   text, anything else as compact JSON. `client_ts` becomes the record's timestamp when it is a
//!   number that can be one: seconds since 1970 below 10^11 (the year 5138), milliseconds from
//!   there on; anything else is only kept in the value.
//! - `/consume` begins at the start of the log when the offset has been deleted, as a Kafka
//!   consumer with `auto.offset.reset=earliest` does; past the end it answers an empty list and the
//!   same offset, so that a consumer can poll ahead.
//! - `/loglen` is the high watermark: what consumers can read.

use actix_web::http::header::HeaderValue;
use pubg1_actors::{Acks, FetchError, PartitionHandle};
use pubg1_model::{
    GroupId, Offset, PartitionId, TopicName, TopicPartition,
    record_batch::{NewRecord, ProducerIdentity},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::IntoParams;

use crate::{
    call::{Call, topic_name},
    dto::{CommittedOffset, Consumed, ErrorBody, LogLength, Ok as OkBody, Published, SimpleMetadata},
    edge::ApiResult,
    error::{ApiError, Cause},
    json_text::{self, Object},
    media_type::JSON,
    produce::{
        append::{all_duplicates, append},
        batching::BatchWriter,
        envelope::natural_key,
        now_ms,
        options::{PRODUCER_DUPLICATE, ProduceQuery, producer_identity},
    },
    records::{
        render::write_simple_value,
        undecodable,
        walk::{Item, Step, walk},
    },
    reply,
    state::refuse_internal,
    topics::readable_view,
};

/// The partition a request names; missing, not a number and not there are all the same mistake.
fn partition(call: &Call, topic: &TopicName, partition: Option<u64>) -> Result<PartitionHandle, ApiError> {
    let image = call.state.topic(topic)?;
    let count = image.partitions.len() as u64;
    let bad = |what: String| {
        ApiError::new(Cause::InvalidPartition, format!("{what}; {topic} has partitions 0 to {}", count - 1))
    };
    let partition = partition.ok_or_else(|| bad("partition is missing".to_owned()))?;
    let number = u32::try_from(partition).ok().filter(|_| partition < count);
    let number = number.ok_or_else(|| bad(format!("there is no partition {partition}")))?;
    call.state.partition(topic, PartitionId(number))
}

/// What routes about a partition ask for. Numbers are read as text first, for a better message.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PartitionQuery {
    /// The partition.
    #[param(required = true, value_type = u32)]
    partition: Option<String>,
    /// The topic; the default topic when absent.
    topic: Option<String>,
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, ApiError> {
    text.map(|text| {
        text.parse().map_err(|_| {
            let cause = if name == "partition" { Cause::InvalidPartition } else { Cause::Malformed };
            ApiError::new(cause, format!("{name}={text:?} is not a number from 0"))
        })
    })
    .transpose()
}

fn topic_or_default(call: &Call, name: Option<&str>) -> Result<TopicName, ApiError> {
    if let Some(name) = name {
        return topic_name(name);
    }
    let default = call.state.broker.config().default_topic.as_ref();
    let none = || ApiError::malformed("this broker has no default topic; name one with topic=");
    default.map(|topic| topic.name.clone()).ok_or_else(none)
}

/// The members of a published object that the broker reads; it keeps all of them.
#[derive(Deserialize)]
struct PublishedObject<'a> {
    #[serde(borrow)]
    partition: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    client_ts: Option<&'a RawValue>,
    #[serde(borrow)]
    topic: Option<std::borrow::Cow<'a, str>>,
}

/// The query of `POST /publish`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PublishQuery {
    /// The topic, if the object does not name one; the default topic when both are absent.
    topic: Option<String>,
    /// `all` (committed, the default), `1` (appended) or `0` (sent).
    #[param(pattern = "^(all|-1|0|1)$")]
    acks: Option<String>,
}

/// A published object, read but not taken apart.
struct Message<'a> {
    value: &'a [u8],
    fields: PublishedObject<'a>,
}

impl<'a> Message<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let fields = json_text::parse::<Object<PublishedObject<'a>>>(body)?.0;
        Ok(Self { value: body.trim_ascii(), fields })
    }

    fn partition(&self) -> Result<Option<u64>, ApiError> {
        let Some(raw) = self.fields.partition else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|_| {
            ApiError::new(Cause::InvalidPartition, format!("partition {} is not a number from 0", raw.get()))
        })
    }

    fn timestamp_ms(&self) -> Option<i64> {
        client_timestamp_ms(self.fields.client_ts?.get())
    }
}

/// A client's clock as milliseconds: see the head of this file.
fn client_timestamp_ms(text: &str) -> Option<i64> {
    const MILLISECONDS_FROM: f64 = 1e11;
    const MILLISECONDS_MAX: f64 = 1e14;
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    let ms = if number < MILLISECONDS_FROM { number * 1000.0 } else { number };
    #[allow(clippy::cast_possible_truncation, reason = "bounded by the check before it")]
    (ms < MILLISECONDS_MAX).then_some(ms.round() as i64)
}

/// Publishes one JSON object.
#[utoipa::path(
    post, path = "/publish", tag = "simple",
    params(PublishQuery),
    request_body(content = PublishBody, description = "Any JSON object that names a partition; all of it is the message"),
    responses(
        (status = 200, description = "The object is in the log", body = Published),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn publish(mut call: Call) -> ApiResult {
    let query: PublishQuery = if call.req.query_string().is_empty() { PublishQuery::default() } else { call.query()? };
    let acks = ProduceQuery { acks: query.acks }.acks()?;
    let identity = producer_identity(call.headers())?;
    let body = call.body().await?;
    let message = Message::parse(&body)?;
    let topic = topic_or_default(&call, message.fields.topic.as_deref().or(query.topic.as_deref()))?;
    refuse_internal(&topic)?;
    let handle = partition(&call, &topic, message.partition()?)?;
    append_message(&call, &handle, &topic, &message, identity, acks).await
}

async fn append_message(
    call: &Call,
    handle: &PartitionHandle,
    topic: &TopicName,
    message: &Message<'_>,
    identity: Option<ProducerIdentity>,
    acks: Acks,
) -> ApiResult {
    let key = message.fields.key.map(natural_key).transpose().map_err(ApiError::malformed)?;
    let mut writer = BatchWriter::new(call.state.topic(topic)?.config.max_message_bytes, identity);
    writer.push(&NewRecord {
        timestamp_ms: message.timestamp_ms().unwrap_or_else(now_ms),
        key: key.as_deref(),
        value: Some(message.value),
        headers: &[],
    })?;
    let appended = append(call.metrics(), handle, writer.finish()?, acks).await?;
    let mut reply = reply::json(&Published {
        status: "ok",
        offset: appended.appended.first().map(|batch| batch.base_offset.get()),
        leader: appended.leader.0,
        leader_epoch: appended.leader_epoch.get(),
    })?;
    if all_duplicates(&appended.appended) {
        reply.headers_mut().insert(PRODUCER_DUPLICATE, HeaderValue::from_static("true"));
    }
    Ok(reply)
}

/// What `POST /publish` takes, for the API's description.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an object whose other members are free")]
pub(crate) struct PublishBody {
    partition: u32,
    /// The record's key: a string as its text, anything else as JSON.
    key: Option<serde_json::Value>,
    value: Option<serde_json::Value>,
    /// Seconds or milliseconds since 1970.
    client_ts: Option<f64>,
    topic: Option<String>,
}

/// The query of `GET /consume`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConsumeQuery {
    /// The partition.
    #[param(required = true, value_type = u32)]
    partition: Option<String>,
    /// The topic; the default topic when absent.
    topic: Option<String>,
    /// Begin with this message.
    #[param(value_type = Option<u64>)]
    offset: Option<String>,
    /// Stop when about this much was read, but not before one message.
    #[param(value_type = Option<u64>)]
    max_bytes: Option<String>,
    /// Stop after this many messages.
    #[param(value_type = Option<u64>, minimum = 1)]
    max_messages: Option<String>,
}

/// Reads messages of a partition.
#[utoipa::path(
    get, path = "/consume", tag = "simple",
    params(ConsumeQuery),
    responses(
        (status = 200, description = "The messages from the offset on, and where to go on", body = Consumed),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn consume(call: Call) -> ApiResult {
    let query: ConsumeQuery = call.query()?;
    let limits = call.limits();
    let bounded = |name, text: Option<&str>, default: usize, max: usize| -> Result<usize, ApiError> {
        Ok(number(name, text)?.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX)).min(max))
    };
    let max_bytes = bounded("max_bytes", query.max_bytes.as_deref(), limits.read_bytes_default, limits.read_bytes_max)?;
    let max = limits.read_records_max;
    let max_messages = bounded("max_messages", query.max_messages.as_deref(), max, max)?.max(1);
    let from = Offset::new(number("offset", query.offset.as_deref())?.unwrap_or(0));
    let topic = topic_or_default(&call, query.topic.as_deref())?;
    let handle = partition(&call, &topic, number("partition", query.partition.as_deref())?)?;
    let (from, runs) = match handle.read(from, max_bytes) {
        Ok(fetched) => (from, fetched.runs),
        Err(FetchError::OffsetOutOfRange { log_start_offset, .. }) if from < log_start_offset => {
            (log_start_offset, handle.read(log_start_offset, max_bytes)?.runs)
        }
        Err(FetchError::OffsetOutOfRange { .. }) => (from, Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut body = b"{\"messages\":[".to_vec();
    let mut messages = 0_usize;
    let next = walk(&runs, from, limits.decompressed_bytes_max, |item| {
        if messages == max_messages || (messages > 0 && body.len() >= max_bytes) {
            return Ok(Step::StopBefore);
        }
        let value = match item {
            Item::Record(record) => record.value,
            Item::Undecodable { .. } if messages > 0 => return Ok(Step::StopBefore),
            Item::Undecodable { offset, next, error } => return Err(undecodable(offset, next, &error)),
        };
        if messages > 0 {
            body.push(b',');
        }
        messages += 1;
        write_simple_value(value, &mut body)?;
        Ok(Step::On)
    })?;
    body.extend_from_slice(format!("],\"next_offset\":{next}}}").as_bytes());
    Ok(actix_web::HttpResponse::Ok().insert_header((actix_web::http::header::CONTENT_TYPE, JSON)).body(body))
}

/// Tells how many messages of a partition can be read.
#[utoipa::path(
    get, path = "/loglen", tag = "simple",
    params(PartitionQuery),
    responses(
        (status = 200, description = "The offset after the last message", body = LogLength),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn log_length(call: Call) -> ApiResult {
    let query: PartitionQuery = call.query()?;
    let topic = topic_or_default(&call, query.topic.as_deref())?;
    let handle = partition(&call, &topic, number("partition", query.partition.as_deref())?)?;
    let view = readable_view(&handle).await?;
    reply::json(&LogLength { length: view.high_watermark.get() })
}

/// The query of `GET /offset`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OffsetQuery {
    /// The consumer group.
    #[param(required = true, pattern = "^[A-Za-z0-9._-]{1,200}$")]
    group_id: Option<String>,
    /// The partition.
    #[param(required = true, value_type = u32)]
    partition: Option<String>,
    /// The topic; the default topic when absent.
    topic: Option<String>,
}

fn group(name: Option<&str>) -> Result<GroupId, ApiError> {
    let name = name.ok_or_else(|| ApiError::malformed("group_id is missing"))?;
    name.parse().map_err(|error| ApiError::new(Cause::InvalidName, format!("group {name:?}: {error}")))
}

/// Tells what a group committed for a partition.
#[utoipa::path(
    get, path = "/offset", tag = "simple",
    params(OffsetQuery),
    responses(
        (status = 200, description = "The offset, 0 when nothing was committed", body = CommittedOffset),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn offset(call: Call) -> ApiResult {
    let query: OffsetQuery = call.query()?;
    let group = group(query.group_id.as_deref())?;
    let topic = topic_or_default(&call, query.topic.as_deref())?;
    let place = topic_partition(&call, topic, number("partition", query.partition.as_deref())?)?;
    let committed = call.state.broker.committed_offset(group, place).await?;
    reply::json(&CommittedOffset { offset: committed.map_or(0, |committed| committed.offset.get()) })
}

fn topic_partition(call: &Call, topic: TopicName, number: Option<u64>) -> Result<TopicPartition, ApiError> {
    partition(call, &topic, number)?;
    let partition = PartitionId(number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default());
    Ok(TopicPartition { topic, partition })
}

/// The body of `POST /commit_offset`.
#[derive(Deserialize, utoipa::ToSchema)]
pub(crate) struct CommitBody {
    #[schema(required = true, nullable = false, pattern = "^[A-Za-z0-9._-]{1,200}$")]
    group_id: Option<String>,
    #[schema(value_type = u32)]
    partition: Option<serde_json::Value>,
    /// The offset of the next message the group will read.
    offset: u64,
    topic: Option<String>,
    /// Free text that is kept beside the offset.
    metadata: Option<String>,
}

/// Commits a group's offset of a partition, durably.
#[utoipa::path(
    post, path = "/commit_offset", tag = "simple",
    request_body = CommitBody,
    responses(
        (status = 200, description = "Committed", body = OkBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn commit_offset(mut call: Call) -> ApiResult {
    let body: CommitBody = call.json().await?;
    let group = group(body.group_id.as_deref())?;
    let number = body.partition.map(|partition| {
        let bad = || ApiError::new(Cause::InvalidPartition, format!("partition {partition} is not a number from 0"));
        partition.as_u64().ok_or_else(bad)
    });
    let number = number.transpose()?;
    let topic = topic_or_default(&call, body.topic.as_deref())?;
    let place = topic_partition(&call, topic, number)?;
    let metadata = body.metadata.unwrap_or_default();
    call.state.broker.commit_offset(group, place, Offset::new(body.offset), metadata).await?;
    reply::json(&OkBody { status: "ok" })
}

/// The query of `GET /metadata`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MetadataQuery {
    /// The topic; the default topic when absent.
    topic: Option<String>,
}

/// Tells where the partitions of a topic are.
#[utoipa::path(
    get, path = "/metadata", tag = "simple",
    params(MetadataQuery),
    responses(
        (status = 200, description = "Replicas and leaders by partition, and all brokers", body = SimpleMetadata),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn metadata(call: Call) -> ApiResult {
    let query: MetadataQuery = call.query()?;
    let topic = topic_or_default(&call, query.topic.as_deref())?;
    let topic = call.state.topic(&topic)?;
    let image = call.state.broker.image();
    let url = |id| image.brokers.get(&id).map(|broker| broker.http_url.clone());
    let partitions = topic
        .numbered_partitions()
        .map(|(id, partition)| (id.0, partition.replicas.iter().copied().filter_map(url).collect()))
        .collect();
    let leaders = topic.numbered_partitions().map(|(id, partition)| (id.0, partition.leader.and_then(url))).collect();
    let members = image.brokers.values().map(|broker| broker.http_url.clone()).collect();
    reply::json(&SimpleMetadata { partitions, leaders, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_clocks_are_seconds_or_milliseconds() {
        for (text, expected) in [
            ("1767225600", Some(1_767_225_600_000)),
            ("1767225600.5", Some(1_767_225_600_500)),
            ("1767225600123", Some(1_767_225_600_123)),
            ("0", Some(0)),
            ("-5", None),
            ("1e300", None),
            ("\"yesterday\"", None),
            ("null", None),
        ] {
            assert_eq!(client_timestamp_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_message_is_kept_as_it_came() {
        let body = b" {\"partition\": 1,\n \"extra\": [1.0], \"key\": \"k\"} \n";
        let message = Message::parse(body).unwrap();
        assert_eq!(message.value, b"{\"partition\": 1,\n \"extra\": [1.0], \"key\": \"k\"}");
        assert_eq!(message.partition().unwrap(), Some(1));
        for (body, cause) in [
            (&b"[]"[..], Cause::Malformed),
            (b"{\"partition\":0} {}", Cause::Malformed),
            (b"{\"partition\":0,\"partition\":1}", Cause::Malformed),
            (b"{\"partition\":0,\"x\":\"\xff\"}", Cause::Malformed),
        ] {
            assert_eq!(Message::parse(body).err().unwrap().cause(), cause);
        }
        for partition in ["-1", "1.5", "\"0\"", "[]"] {
            let body = format!("{{\"partition\":{partition}}}");
            let message = Message::parse(body.as_bytes()).unwrap();
            assert_eq!(message.partition().unwrap_err().cause(), Cause::InvalidPartition, "{partition}");
        }
    }
}
