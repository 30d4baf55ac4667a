//! `POST /groups/{group}/commits`: as a one-call consumer, or without any member.

use actix_web::HttpResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use super::member;
use crate::{
    call::Call,
    consumers::{commit::next_offsets, offsets::CommitEntry, optional_object, places},
    dto::ErrorBody,
    edge::ApiResult,
};

/// The body of `POST /groups/{group}/commits`; with a token it may be left out.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes what the commit's own reader takes")]
pub(crate) struct CommitOffsets {
    /// The next records to be read: these very offsets are committed.
    #[schema(required = false, nullable = false)]
    offsets: Option<Vec<CommitEntry>>,
}

/// Commits offsets of a consumer group: as the member that the token names, everything that it had received with that
/// token or the offsets of the body; without a token the offsets of the body, if the group has no members.
#[utoipa::path(
    post, path = "/groups/{group}/commits", tag = "groups",
    params(("group" = String, Path, description = "The consumer group"),
        ("Consumer-Token" = Option<String>, Header, description = "The token of the answer that is committed")),
    request_body = Option<CommitOffsets>,
    responses(
        (status = 204, description = "Committed"),
        (status = "4XX", description = "Refused; nothing was committed", body = ErrorBody),
        (status = "5XX", description = "Not possible now; a commit may always be repeated", body = ErrorBody),
    )
)]
pub(crate) async fn commit(mut call: Call) -> ApiResult {
    let group = call.group()?;
    let token = member::token(&call, &group)?;
    let body = optional_object(&mut call).await?.unwrap_or_default();
    let offsets = next_offsets(&body)?;
    places::exist(&call.state, offsets.iter().flatten().map(|entry| &entry.partition))?;
    let groups = call.state.broker.groups();
    match (token, offsets) {
        (Some(token), offsets) => groups.commit_as(&group, &token.instance, token.poll, offsets).await?,
        (None, Some(offsets)) if !offsets.is_empty() => groups.commit_simply(&group, offsets).await?,
        (None, _) => {
            return Err(places::unprocessable("give the header Consumer-Token, or offsets in the body, or both"));
        }
    }
    Ok(HttpResponse::NoContent().finish())
}
