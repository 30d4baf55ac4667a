//! Request bodies: read whole up to a limit, or piece by piece, decompressed when need be.

use std::ops::Deref;

use actix_web::{
    dev::Payload,
    error::PayloadError,
    http::header::{self, HeaderMap},
};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};

use crate::{
    encoding::{Coding, Inflater},
    error::{ApiError, Cause},
    limits::{Budget, Limits, Permit},
};

/// A whole request body, and its share of the memory that all bodies may take.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Bytes,
    _permit: Option<Permit>,
}

impl Deref for Body {
    type Target = Bytes;
    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// The length that the head declares; `None` for a chunked body.
pub(crate) fn declared_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The next piece of the body, or `None` at its end. A body that stalls is an error.
pub(crate) async fn next_chunk(payload: &mut Payload, limits: &Limits) -> Result<Option<Bytes>, ApiError> {
    // What is there already needs no timer.
    let chunk = match payload.next().now_or_never() {
        Some(chunk) => chunk,
        None => tokio::time::timeout(limits.body_stall_timeout, payload.next()).await.map_err(|_| {
            let message = format!("no byte of the body arrived for {} ms", limits.body_stall_timeout.as_millis());
            ApiError::new(Cause::BodyTimeout, message)
        })?,
    };
    chunk.transpose().map_err(|error: PayloadError| ApiError::malformed(format!("the body cannot be read: {error}")))
}

fn too_large(limits: &Limits) -> ApiError {
    let message = format!("the body is larger than {} bytes; send less at once", limits.body_bytes_max);
    ApiError::new(Cause::TooLarge, message)
}

/// Reads the whole body into one piece of memory. Nothing is copied when it arrived in one piece.
pub(crate) async fn read(
    payload: &mut Payload,
    headers: &HeaderMap,
    limits: &Limits,
    budget: &Budget,
) -> Result<Body, ApiError> {
    let declared = declared_bytes(headers);
    if declared.is_some_and(|declared| declared > limits.body_bytes_max) {
        return Err(too_large(limits));
    }
    if let Some(coding) = Coding::of_request(headers)? {
        return inflate(payload, Inflater::new(coding, limits.decompressed_bytes_max)?, limits, budget).await;
    }
    let mut permit = declared.map(|declared| budget.take(declared, "bytes of requests in flight")).transpose()?;
    let Some(first) = next_chunk(payload, limits).await? else {
        return Ok(Body { bytes: Bytes::new(), _permit: permit });
    };
    if declared == Some(first.len()) {
        return Ok(Body { bytes: first, _permit: permit });
    }
    let mut body = BytesMut::with_capacity(declared.unwrap_or(first.len() * 2));
    let mut chunk = first;
    loop {
        if body.len() + chunk.len() > limits.body_bytes_max {
            return Err(too_large(limits));
        }
        if declared.is_none() {
            grow(&mut permit, budget, chunk.len())?;
        }
        body.extend_from_slice(&chunk);
        match next_chunk(payload, limits).await? {
            Some(next) => chunk = next,
            None => return Ok(Body { bytes: body.freeze(), _permit: permit }),
        }
    }
}

fn grow(permit: &mut Option<Permit>, budget: &Budget, amount: usize) -> Result<(), ApiError> {
    let what = "bytes of requests in flight";
    match permit {
        Some(permit) => permit.grow(amount, what),
        None => budget.take(amount, what).map(|taken| *permit = Some(taken)),
    }
}

async fn inflate(
    payload: &mut Payload,
    mut inflater: Inflater,
    limits: &Limits,
    budget: &Budget,
) -> Result<Body, ApiError> {
    let mut permit = None;
    let (mut body, mut received) = (Vec::new(), 0_usize);
    while let Some(chunk) = next_chunk(payload, limits).await? {
        received += chunk.len();
        if received > limits.body_bytes_max {
            return Err(too_large(limits));
        }
        inflater.push(&chunk)?;
        let output = inflater.take();
        grow(&mut permit, budget, output.len())?;
        body.extend_from_slice(&output);
    }
    let output = inflater.finish()?;
    grow(&mut permit, budget, output.len())?;
    body.extend_from_slice(&output);
    Ok(Body { bytes: body.into(), _permit: permit })
}
