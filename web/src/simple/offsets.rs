//! `GET /offset` and `POST /commit_offset`: what a consumer group has read.

use pubg1_model::{GroupId, Offset, TopicName, TopicPartition};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{number, partition, topic_or_default};
use crate::{
    call::Call,
    dto::{CommittedOffset, ErrorBody, Ok as OkBody},
    edge::ApiResult,
    error::{ApiError, Cause},
    reply,
};

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
    let partition = partition(call, &topic, number)?.partition;
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
    if body.offset > Offset::MAX.get() {
        return Err(ApiError::malformed(format!("offset {} is above the largest, {}", body.offset, Offset::MAX)));
    }
    let topic = topic_or_default(&call, body.topic.as_deref())?;
    let place = topic_partition(&call, topic, number)?;
    let metadata = body.metadata.unwrap_or_default();
    call.state.broker.commit_offset(group, place, Offset::new(body.offset), metadata).await?;
    reply::json(&OkBody { status: "ok" })
}
