//! Streams: window queries that are declared once and answered as records come.

mod declaration;
pub(crate) mod events;
pub(crate) mod windows;

use actix_web::{HttpResponse, http::StatusCode};
use pubg1_actors::CreateStreamOptions;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    call::Call,
    dto::{
        ErrorBody,
        streams::{NewStream, StreamDetail, StreamEntry, StreamExplained, document},
    },
    edge::ApiResult,
    error::{ApiError, Cause},
    media_type::JSON,
    reply,
};

/// The query of the routes that take a declaration.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct NameQuery {
    /// What the stream of a `SELECT` is called. What has a name itself must have this one.
    #[param(pattern = "^[A-Za-z0-9._-]{1,160}$")]
    name: Option<String>,
}

/// The query of a declaration.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CreateQuery {
    /// What the stream of a `SELECT` is called. What has a name itself must have this one.
    #[param(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    name: Option<String>,
    /// Whether it may write to topics in which there are records already.
    #[serde(default)]
    #[param(default = false)]
    append: bool,
}

/// A name that no stream can have: `/streams/explain` is a route.
const RESERVED: &str = "explain";

/// Declares a stream, creates the topics that it writes to, and starts it. Topics that are there are used when they are
/// empty, or with `append=true`.
///
/// The body is a JSON document, `{"sql": …}`, or SQL as `application/sql`.
#[utoipa::path(
    post, path = "/streams", tag = "streams",
    params(CreateQuery),
    request_body(content((NewStream = "application/json"), (String = "application/sql"))),
    responses(
        (status = 201, description = "The stream", body = StreamDetail),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn create(mut call: Call) -> ApiResult {
    let query: CreateQuery = call.query()?;
    let document = declaration::read(&mut call, query.name.as_deref(), None).await?;
    if document.name.as_str() == RESERVED {
        let message = format!("$.name: {RESERVED} is the name of a route; take another one");
        return Err(ApiError::new(Cause::InvalidStream, message).with("path", "$.name"));
    }
    let options = CreateStreamOptions { append: query.append };
    let stream = call.state.broker.streams().create(document, options).await?;
    reply::json_as(StatusCode::CREATED, JSON, &StreamDetail::from(stream))
}

/// Says what a declaration means, and what it is compiled to. Nothing is declared.
#[utoipa::path(
    post, path = "/streams/explain", tag = "streams",
    params(NameQuery),
    request_body(content((NewStream = "application/json"), (String = "application/sql"))),
    responses(
        (status = 200, description = "What it does", body = StreamExplained),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn explain(mut call: Call) -> ApiResult {
    let query: NameQuery = call.query()?;
    let declared = declaration::read(&mut call, query.name.as_deref(), Some("query")).await?;
    let lines = declared.explain().into_iter().map(|(word, text)| [word.to_owned(), text]);
    reply::json(&StreamExplained {
        fingerprint: declared.fingerprint().to_string(),
        document: document(&declared.canonical()),
        explanation: lines.collect(),
    })
}

/// Lists the streams of the cluster.
#[utoipa::path(
    get, path = "/streams", tag = "streams",
    responses(
        (status = 200, description = "The streams, by name", body = Vec<StreamEntry>),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn list(call: Call) -> ApiResult {
    let streams = call.state.broker.streams().list()?;
    reply::json(&streams.into_iter().map(StreamEntry::from).collect::<Vec<_>>())
}

/// Tells how a stream is: its state, how far it is in each partition, which of them holds its time back, and what
/// became of the records.
#[utoipa::path(
    get, path = "/streams/{stream}", tag = "streams",
    params(("stream" = String, Path, description = "The stream")),
    responses(
        (status = 200, description = "The stream", body = StreamDetail),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn describe(call: Call) -> ApiResult {
    let stream = call.state.broker.streams().describe(&call.stream()?).await?;
    reply::json(&StreamDetail::from(stream))
}

/// Replaces the declaration of a stream. The next generation is computed beside the present one, from its own start,
/// and takes its place when it has caught up. The same declaration changes nothing.
#[utoipa::path(
    put, path = "/streams/{stream}", tag = "streams",
    params(("stream" = String, Path, description = "The stream")),
    request_body(content((NewStream = "application/json"), (String = "application/sql"))),
    responses(
        (status = 200, description = "The stream, which is as it was declared", body = StreamDetail),
        (status = 202, description = "The stream; its next generation is on the way", body = StreamDetail),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn replace(mut call: Call) -> ApiResult {
    let name = call.stream()?;
    let document = declaration::read(&mut call, Some(name.as_str()), None).await?;
    let stream = call.state.broker.streams().replace(&name, document).await?;
    let status = if stream.next.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    reply::json_as(status, JSON, &StreamDetail::from(stream))
}

/// Has a stream stand still. It keeps all that it knows.
#[utoipa::path(
    post, path = "/streams/{stream}/pause", tag = "streams",
    params(("stream" = String, Path, description = "The stream")),
    responses(
        (status = 200, description = "The stream", body = StreamDetail),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn pause(call: Call) -> ApiResult {
    let stream = call.state.broker.streams().pause(&call.stream()?).await?;
    reply::json(&StreamDetail::from(stream))
}

/// Has a stream that is paused, whyever it is, go on where it stopped.
#[utoipa::path(
    post, path = "/streams/{stream}/resume", tag = "streams",
    params(("stream" = String, Path, description = "The stream")),
    responses(
        (status = 200, description = "The stream", body = StreamDetail),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn resume(call: Call) -> ApiResult {
    let stream = call.state.broker.streams().resume(&call.stream()?).await?;
    reply::json(&StreamDetail::from(stream))
}

/// Deletes a stream and what it knows. The topics that it has written to stay.
#[utoipa::path(
    delete, path = "/streams/{stream}", tag = "streams",
    params(("stream" = String, Path, description = "The stream")),
    responses(
        (status = 204, description = "Deleted"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn delete(call: Call) -> ApiResult {
    call.state.broker.streams().delete(&call.stream()?).await?;
    Ok(HttpResponse::NoContent().finish())
}
