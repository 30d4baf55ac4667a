//! `GET /consume` and `GET /loglen`.

use actix_web::{HttpResponse, http::header};
use pubg1_actors::FetchError;
use pubg1_model::Offset;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{number, partition, topic_or_default};
use crate::{
    call::Call,
    dto::{Consumed, ErrorBody, LogLength},
    edge::ApiResult,
    error::ApiError,
    media_type::JSON,
    records::{
        render::write_simple_value,
        undecodable,
        walk::{Item, Step, walk},
    },
    reply,
};

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
    let max_messages = bounded("max_messages", query.max_messages.as_deref(), max, max)?;
    if max_messages == 0 {
        return Err(ApiError::malformed("max_messages must be at least 1"));
    }
    let from = Offset::new(number("offset", query.offset.as_deref())?.unwrap_or(0));
    let topic = topic_or_default(&call, query.topic.as_deref())?;
    let handle = partition(&call, &topic, number("partition", query.partition.as_deref())?)?.handle;
    let (from, runs) = match handle.read(from, max_bytes).await {
        Ok(fetched) => (from, fetched.runs),
        Err(FetchError::OffsetOutOfRange { log_start_offset, .. }) if from < log_start_offset => {
            (log_start_offset, handle.read(log_start_offset, max_bytes).await?.runs)
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
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, JSON)).body(body))
}

/// The query of `GET /loglen`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PartitionQuery {
    /// The partition.
    #[param(required = true, value_type = u32)]
    partition: Option<String>,
    /// The topic; the default topic when absent.
    topic: Option<String>,
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
    let handle = partition(&call, &topic, number("partition", query.partition.as_deref())?)?.handle;
    let view = handle.leader_view().await?;
    reply::json(&LogLength { length: view.high_watermark.get() })
}
