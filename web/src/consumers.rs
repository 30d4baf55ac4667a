//! Consumer instances, as REST Proxy v2 has them: created, subscribed, polled, committed, deleted.
//!
//! An instance belongs to the log of its group and not to this process, so any broker serves any
//! instance. Choices where servers of the dialect differ:
//! - A poll answers as soon as anything is there, delivers one record at least, and moves no
//!   position past a record that was not sent. What was not sent completely is sent again.
//! - `offsets` of a commit name the last record that was processed, and its successor is committed;
//!   `partitions` name the next record to be read. Without a body everything that was delivered is
//!   committed.
//! - `auto.offset.reset` is `earliest` unless it is said otherwise, `auto.commit.enable` is `true`.
//! - An instance that does not exist is told before anything else is judged.

mod base_uri;
pub(crate) mod commit;
mod fetch;
pub(crate) mod offsets;
mod options;
pub(crate) mod places;
pub(crate) mod poll;
pub(crate) mod positions;
pub(crate) mod receipt;
pub(crate) mod records;
mod render;
pub(crate) mod subscription;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use pubg1_actors::{GroupRequestError, GroupsHandle};
use pubg1_model::{GroupId, InstanceName, consumer_instance::InstanceDefinition};
use serde_json::{Map, Value};

use crate::{
    call::Call,
    dto::{
        ErrorBody,
        groups::{CreatedConsumer, NewConsumer},
    },
    edge::ApiResult,
    error::ApiError,
    json_text, reply,
};

/// How much of what a client calls itself is kept.
const CLIENT_ID_BYTES_MAX: usize = 100;

/// The consumer instance that a request is about.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) groups: GroupsHandle,
    pub(crate) group: GroupId,
    pub(crate) name: InstanceName,
}

impl Consumer {
    /// The one that the path names.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        Ok(Self { groups: call.state.broker.groups(), group: call.group()?, name: call.instance()? })
    }

    /// What was read of a request. When that is an error, an instance that does not exist takes precedence.
    pub(crate) async fn known<T>(&self, read: Result<T, ApiError>) -> Result<T, ApiError> {
        let Err(error) = read else { return read };
        match self.groups.instance(&self.group, &self.name).await {
            Err(unknown @ GroupRequestError::UnknownInstance { .. }) => Err(unknown.into()),
            _ => Err(error),
        }
    }
}

/// The whole body as a JSON object; an empty one when there is no body.
pub(crate) async fn optional_object(call: &mut Call) -> Result<Option<Map<String, Value>>, ApiError> {
    let body = call.body().await?;
    if body.iter().all(u8::is_ascii_whitespace) { Ok(None) } else { json_text::parse_object(&body).map(Some) }
}

/// Tells the coordinator who the client is.
pub(crate) fn introduce(call: &Call, definition: &mut InstanceDefinition) {
    let agent = call.header(&header::USER_AGENT).unwrap_or_default();
    definition.client_id = agent.chars().take(CLIENT_ID_BYTES_MAX).collect();
    definition.client_host = call.req.peer_addr().map_or_else(String::new, |address| address.ip().to_string());
}

/// 204, if the client can live with what replies there are.
fn done(call: &Call) -> ApiResult {
    call.management_type()?;
    Ok(HttpResponse::NoContent().finish())
}

/// Creates a consumer instance.
#[utoipa::path(
    post, path = "/consumers/{group}", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group")),
    request_body = Option<NewConsumer>,
    responses(
        (status = 200, description = "The instance", content((CreatedConsumer = "application/vnd.kafka.v2+json"), (CreatedConsumer = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn create(mut call: Call) -> ApiResult {
    let group = call.group()?;
    let media_type = call.management_type()?;
    let mut new = options::read(optional_object(&mut call).await?.unwrap_or_default())?;
    introduce(&call, &mut new.definition);
    let name = call.state.broker.groups().create_instance(&group, new).await?;
    let base_uri = base_uri::of(&call, &group, &name);
    reply::json_as(StatusCode::OK, media_type, &CreatedConsumer { instance_id: name.into(), base_uri })
}

/// Deletes a consumer instance: it leaves its group at once.
#[utoipa::path(
    delete, path = "/consumers/{group}/instances/{instance}", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    responses(
        (status = 204, description = "Deleted"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn delete(call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let reply = consumer.known(done(&call)).await?;
    consumer.groups.delete_instance(&consumer.group, &consumer.name).await?;
    Ok(reply)
}

/// Says that a consumer lives, when it takes long between two polls.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/heartbeat", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    responses(
        (status = 204, description = "Noted"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn heartbeat(call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let reply = consumer.known(done(&call)).await?;
    consumer.groups.heartbeat(&consumer.group, &consumer.name).await?;
    Ok(reply)
}
