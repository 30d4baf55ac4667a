//! Replies in JSON.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use serde::Serialize;

use crate::{
    edge::ApiResult,
    error::{ApiError, Cause},
    media_type::JSON,
};

/// 200 with `body`.
pub(crate) fn json<T: Serialize>(body: &T) -> ApiResult {
    json_as(StatusCode::OK, JSON, body)
}

/// `body` with this status and media type.
pub(crate) fn json_as<T: Serialize>(status: StatusCode, media_type: &'static str, body: &T) -> ApiResult {
    let mut bytes = Vec::with_capacity(128);
    serde_json::to_writer(&mut bytes, body)
        .map_err(|error| ApiError::new(Cause::Internal, format!("a reply could not be written: {error}")))?;
    Ok(HttpResponse::build(status).insert_header((header::CONTENT_TYPE, media_type)).body(bytes))
}
