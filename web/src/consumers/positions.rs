//! Where a consumer instance is, and where it is sent.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use pubg1_model::{Offset, TopicPartition};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Consumer, done,
    places::{self, Target},
};
use crate::{
    call::Call,
    dto::{
        ErrorBody,
        groups::{PartitionList, PositionEntry, PositionList, Time},
    },
    edge::ApiResult,
    error::ApiError,
    json_text, reply,
    state::AppState,
};

/// An offset to go to.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes what the seek's own reader takes")]
pub(crate) struct SeekOffset {
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    topic: String,
    partition: u32,
    offset: u64,
}

/// A time to go to.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes what the seek's own reader takes")]
pub(crate) struct SeekTime {
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    topic: String,
    partition: u32,
    timestamp: Time,
}

/// The body of `POST …/positions`: one list at least.
#[derive(Deserialize, ToSchema)]
#[schema(as = Seek)]
#[expect(dead_code, reason = "describes what the seek's own reader takes")]
pub(crate) struct SeekBody {
    #[schema(required = false, nullable = false)]
    offsets: Option<Vec<SeekOffset>>,
    /// The first record at or after the time is the next; without one, the end.
    #[schema(required = false, nullable = false)]
    timestamps: Option<Vec<SeekTime>>,
}

/// The offset that a target means at present.
pub(crate) async fn resolve(state: &AppState, place: &TopicPartition, target: &Target) -> Result<Offset, ApiError> {
    if let Target::Offset(offset) = target {
        return Ok(*offset);
    }
    let handle = state.partition(&place.topic, place.partition)?;
    let view = handle.leader_view().await?;
    Ok(match target {
        Target::Offset(offset) => *offset,
        Target::Beginning => view.log_start_offset,
        Target::End => view.high_watermark,
        Target::Timestamp(timestamp_ms) => {
            handle.find_timestamp(*timestamp_ms).await?.map_or(view.high_watermark, |(offset, _)| offset)
        }
    })
}

/// Sends the instance to where the targets are.
async fn send(call: &Call, consumer: &Consumer, targets: Vec<(TopicPartition, Target)>) -> Result<(), ApiError> {
    let mut offsets = Vec::with_capacity(targets.len());
    for (place, target) in targets {
        let offset = consumer.known(resolve(&call.state, &place, &target).await).await?;
        offsets.push((place, offset));
    }
    Ok(consumer.groups.seek(&consumer.group, &consumer.name, offsets).await?)
}

/// Sends a consumer instance to offsets or to times, in partitions that are its own.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/positions", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    request_body = SeekBody,
    responses(
        (status = 204, description = "The next poll reads from there"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn seek(mut call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let reply = consumer.known(done(&call)).await?;
    let read = call.body().await.and_then(|body| places::targets(&json_text::parse_object(&body)?));
    let targets = consumer.known(read).await?;
    send(&call, &consumer, targets).await?;
    Ok(reply)
}

async fn send_all(mut call: Call, target: Target) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let reply = consumer.known(done(&call)).await?;
    let read = call.body().await.and_then(|body| places::list(json_text::parse_object(&body)?));
    let targets = consumer.known(read).await?.into_iter().map(|place| (place, target.clone())).collect();
    send(&call, &consumer, targets).await?;
    Ok(reply)
}

/// Sends a consumer instance to the beginning of partitions.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/positions/beginning", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    request_body = PartitionList,
    responses(
        (status = 204, description = "The next poll reads from there"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn beginning(call: Call) -> ApiResult {
    send_all(call, Target::Beginning).await
}

/// Sends a consumer instance to the end of partitions.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/positions/end", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    request_body = PartitionList,
    responses(
        (status = 204, description = "The next poll reads from there"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn end(call: Call) -> ApiResult {
    send_all(call, Target::End).await
}

/// Tells where a consumer instance is.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/positions", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    responses(
        (status = 200, description = "The next record to be delivered in each of its partitions", content((PositionList = "application/vnd.kafka.v2+json"), (PositionList = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn read(call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let media_type = consumer.known(call.management_type()).await?;
    let instance = consumer.groups.instance(&consumer.group, &consumer.name).await?;
    let known: BTreeMap<TopicPartition, Offset> = instance.positions.into_iter().collect();
    let position = |place: TopicPartition| PositionEntry {
        offset: known.get(&place).map(|offset| offset.get()),
        topic: place.topic.into(),
        partition: place.partition.0,
    };
    let positions = instance.assignment.into_iter().map(position).collect();
    reply::json_as(StatusCode::OK, media_type, &PositionList { positions })
}
