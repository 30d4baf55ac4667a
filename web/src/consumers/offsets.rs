//! Offsets of a consumer instance: committed, and told.

use actix_web::http::StatusCode;
use pubg1_actors::{CommittedOffset, GroupsHandle};
use pubg1_model::{GroupId, TopicPartition};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Consumer,
    commit::{self, Commit},
    done, optional_object, places,
};
use crate::{
    call::Call,
    dto::{
        ErrorBody,
        groups::{OffsetEntry, OffsetList},
    },
    edge::ApiResult,
    error::ApiError,
    reply,
};

/// An offset to be committed.
#[derive(Deserialize, ToSchema)]
#[schema(as = OffsetToCommit)]
#[expect(dead_code, reason = "describes what the commit's own reader takes")]
pub(crate) struct CommitEntry {
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    topic: String,
    partition: u32,
    offset: u64,
    /// Comes back with the offset.
    metadata: Option<String>,
}

/// The body of a commit; without one everything that was delivered is committed.
#[derive(Deserialize, ToSchema)]
#[schema(as = Commit)]
#[expect(dead_code, reason = "describes what the commit's own reader takes")]
pub(crate) struct CommitBody {
    /// The last records that were processed: the offset after each is committed.
    #[schema(required = false, nullable = false)]
    offsets: Option<Vec<CommitEntry>>,
    /// The next records to be read: these very offsets are committed.
    #[schema(required = false, nullable = false)]
    partitions: Option<Vec<CommitEntry>>,
}

/// Commits offsets of a consumer instance, durably.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/offsets", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    request_body = Option<CommitBody>,
    responses(
        (status = 204, description = "Committed"),
        (status = "4XX", description = "Refused; nothing was committed", body = ErrorBody),
        (status = "5XX", description = "Not possible now; a commit may always be repeated", body = ErrorBody),
    )
)]
pub(crate) async fn commit(mut call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let reply = consumer.known(done(&call)).await?;
    let read = optional_object(&mut call).await.and_then(|body| commit::of_instance(body.as_ref()));
    let Consumer { groups, group, name } = &consumer;
    match consumer.known(read).await? {
        Commit::Delivered => groups.commit_positions(group, name).await?,
        Commit::Offsets(offsets) if offsets.is_empty() => groups.heartbeat(group, name).await?,
        Commit::Offsets(offsets) => {
            consumer.known(places::exist(&call.state, offsets.iter().map(|entry| &entry.partition))).await?;
            groups.commit_offsets(group, name, offsets).await?;
        }
    }
    Ok(reply)
}

/// Tells what the group of a consumer instance has committed: in the partitions of the body, or in those of the
/// instance.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/offsets", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    responses(
        (status = 200, description = "The offset of the next record to be read in each partition, -1 where nothing was committed", content((OffsetList = "application/vnd.kafka.v2+json"), (OffsetList = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn committed(mut call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let media_type = consumer.known(call.management_type()).await?;
    let read = optional_object(&mut call).await.and_then(|body| match body {
        Some(body) if body.contains_key("partitions") => places::list(body).map(Some),
        _ => Ok(None),
    });
    let asked = consumer.known(read).await?;
    // Whether the instance exists is asked in any case.
    let instance = consumer.groups.instance(&consumer.group, &consumer.name).await?;
    let asked = match asked {
        Some(places) => {
            places::exist(&call.state, &places)?;
            places
        }
        None => instance.assignment,
    };
    let offsets = entries(&consumer.groups, &consumer.group, asked).await?;
    reply::json_as(StatusCode::OK, media_type, &OffsetList { offsets })
}

/// What a group has committed in these partitions.
async fn entries(
    groups: &GroupsHandle,
    group: &GroupId,
    places: Vec<TopicPartition>,
) -> Result<Vec<OffsetEntry>, ApiError> {
    let mut committed = groups.committed(group, Some(places.clone())).await?;
    Ok(places.into_iter().map(|place| entry(committed.remove(&place), place)).collect())
}

/// An offset as it is shown; -1 where there is none.
pub(crate) fn entry(committed: Option<CommittedOffset>, place: TopicPartition) -> OffsetEntry {
    let (offset, metadata) = committed.map_or((-1, String::new()), |found| (found.offset.to_wire(), found.metadata));
    OffsetEntry { topic: place.topic.into(), partition: place.partition.0, offset, metadata }
}
