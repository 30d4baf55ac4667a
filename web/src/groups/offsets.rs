//! What a consumer group has committed.

use actix_web::HttpResponse;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    call::{Call, topic_name},
    consumers::{offsets::entry, places},
    dto::{
        ErrorBody,
        groups::{OffsetList, PartitionList},
    },
    edge::ApiResult,
    reply,
};

/// Tells everything that a consumer group has committed.
#[utoipa::path(
    get, path = "/groups/{group}/offsets", tag = "groups",
    params(("group" = String, Path, description = "The consumer group")),
    responses(
        (status = 200, description = "The offset of the next record to be read in each partition", body = OffsetList),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn read(call: Call) -> ApiResult {
    let committed = call.state.broker.groups().committed(&call.group()?, None).await?;
    let offsets = committed.into_iter().map(|(place, committed)| entry(Some(committed), place)).collect();
    reply::json(&OffsetList { offsets })
}

/// The body of `DELETE /groups/{group}/offsets`: one of both.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what the handler reads by itself")]
pub(crate) enum ForgetOffsets {
    /// These partitions.
    Partitions(PartitionList),
    /// All partitions of a topic.
    Topic(TopicOnly),
}

/// A topic.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes what the handler reads by itself")]
pub(crate) struct TopicOnly {
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    topic: String,
}

/// Forgets what a consumer group has committed in partitions that no member reads.
#[utoipa::path(
    delete, path = "/groups/{group}/offsets", tag = "groups",
    params(("group" = String, Path, description = "The consumer group")),
    request_body = ForgetOffsets,
    responses(
        (status = 204, description = "Forgotten"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn delete(mut call: Call) -> ApiResult {
    let group = call.group()?;
    let body: Map<String, Value> = call.json().await?;
    let groups = call.state.broker.groups();
    let partitions = match body.get("topic") {
        Some(topic) if !body.contains_key("partitions") => {
            let topic = topic_name(topic.as_str().ok_or_else(|| places::unprocessable("topic must be text"))?)?;
            groups.committed(&group, None).await?.into_keys().filter(|place| place.topic == topic).collect()
        }
        _ => places::list(body)?,
    };
    groups.delete_offsets(&group, partitions).await?;
    Ok(HttpResponse::NoContent().finish())
}
