//! Consumer groups: who is in them, how far they are, and how they are moved; and the way to read
//! as a member of one with a single call.

pub(crate) mod commits;
pub(crate) mod describe;
mod events;
mod member;
pub(crate) mod offsets;
pub(crate) mod records;
pub(crate) mod seek;
mod token;

use actix_web::{
    HttpResponse,
    http::header::{HeaderName, HeaderValue},
};
use pubg1_actors::{GroupListing, GroupRequestError, GroupStatus};

use crate::{
    call::Call,
    dto::{
        ErrorBody,
        groups::{GroupEntry, GroupState},
    },
    edge::ApiResult,
    reply,
};

const COORDINATORS_MISSING: HeaderName = HeaderName::from_static("coordinators-missing");

impl From<GroupStatus> for GroupState {
    fn from(status: GroupStatus) -> Self {
        match status {
            GroupStatus::Empty => Self::Empty,
            GroupStatus::PreparingRebalance => Self::PreparingRebalance,
            GroupStatus::CompletingRebalance => Self::CompletingRebalance,
            GroupStatus::Stable => Self::Stable,
            GroupStatus::Dead => Self::Dead,
        }
    }
}

/// Lists the consumer groups of the cluster.
#[utoipa::path(
    get, path = "/groups", tag = "groups",
    responses(
        (status = 200, description = "The groups, by name",
            headers(("Coordinators-Missing" = i64, description = "How many partitions of the offsets topic could not be asked; the groups there are not in the list")),
            body = Vec<GroupEntry>),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn list(call: Call) -> ApiResult {
    call.state.image()?;
    let list = call.state.broker.groups().list().await;
    let entry = |group: GroupListing| GroupEntry {
        group: group.group.into(),
        state: group.status.into(),
        protocol_type: group.protocol_type,
        members: group.members,
        coordinator: group.coordinator.0,
    };
    let mut reply = reply::json(&list.groups.into_iter().map(entry).collect::<Vec<_>>())?;
    reply.headers_mut().insert(COORDINATORS_MISSING, HeaderValue::from(list.missing));
    Ok(reply)
}

/// Deletes a consumer group that has no members, with everything that it committed.
#[utoipa::path(
    delete, path = "/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "The consumer group")),
    responses(
        (status = 204, description = "Deleted"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn delete(call: Call) -> ApiResult {
    call.state.broker.groups().delete_group(&call.group()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a member out of its group: its partitions go to others at once.
#[utoipa::path(
    delete, path = "/groups/{group}/members/{member}", tag = "groups",
    params(("group" = String, Path, description = "The consumer group"),
        ("member" = String, Path, description = "The id of the member, or the name of the consumer instance behind it")),
    responses(
        (status = 204, description = "It is no member any more"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn remove_member(call: Call) -> ApiResult {
    let (group, groups) = (call.group()?, call.state.broker.groups());
    match groups.remove_member(&group, call.member()).await {
        Err(unknown @ (GroupRequestError::UnknownMember { .. } | GroupRequestError::UnknownGroup(_))) => {
            // An instance that is not a member at present can be named by nothing but its name.
            let Ok(instance) = call.member().parse() else { return Err(unknown.into()) };
            match groups.delete_instance(&group, &instance).await {
                Err(GroupRequestError::UnknownInstance { .. }) => return Err(unknown.into()),
                outcome => outcome?,
            }
        }
        outcome => outcome?,
    }
    Ok(HttpResponse::NoContent().finish())
}
