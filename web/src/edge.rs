//! Where every request enters and every reply leaves: checks of the head, request ids, security
//! headers, compression, metrics. One function instead of a stack of middleware, because each
//! layer of those costs an allocation per request.

use std::{future::Future, sync::Arc, time::Instant};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    body::{BodySize, BoxBody, MessageBody},
    http::{
        ConnectionType,
        header::{self, HeaderName, HeaderValue},
    },
    web,
};
use pubg1_metrics::Api;
use uuid::Uuid;

use crate::{
    call::Call,
    consumers::receipt::Receipt,
    encoding::Coding,
    error::{ApiError, Cause},
    media_type::{self, OCTETS},
    routes::{Route, path_of},
    state::AppState,
};

/// What a handler answers.
pub(crate) type ApiResult = Result<HttpResponse, ApiError>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A request id is copied into logs and replies, so it is kept short.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Bodies above this are compressed on the thread pool, so that a worker is not blocked.
const COMPRESS_INLINE_BYTES_MAX: usize = 128 << 10;

/// Serves one request with `handler`.
pub(crate) async fn serve<F, Fut>(
    state: Arc<AppState>,
    api: Api,
    route: Option<&'static Route>,
    req: HttpRequest,
    payload: web::Payload,
    handler: F,
) -> HttpResponse
where
    F: FnOnce(Call) -> Fut,
    Fut: Future<Output = ApiResult>,
{
    let started = Instant::now();
    // The route of produce serves two parts of the API, told apart by the content type.
    let api = if api == Api::Produce && media_type::is_lines(&req) { Api::ProduceNdjson } else { api };
    let metrics = state.metrics.clone();
    let metrics = metrics.requests(api);
    let _in_flight = metrics.begin();
    let result = match check_head(&req, &state) {
        Ok(()) => {
            handler(Call { state: Arc::clone(&state), req: req.clone(), payload: payload.into_inner(), api, route })
                .await
        }
        Err(error) => Err(error),
    };
    let mut reply = match result {
        Ok(reply) => Receipt::attach(compress(reply, &req, &state).await),
        Err(error) => refuse(&req, &error),
    };
    let headers = reply.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(id) = request_id(&req) {
        headers.insert(REQUEST_ID, id.clone());
    }
    if state.is_parting() {
        reply.head_mut().set_connection_type(ConnectionType::Close);
    }
    metrics.observe(reply.status().as_u16(), started.elapsed());
    reply
}

/// The client's request id, when it is short and visible.
fn request_id(req: &HttpRequest) -> Option<&HeaderValue> {
    let id = req.headers().get(REQUEST_ID)?;
    let visible = id.to_str().is_ok_and(|text| !text.is_empty() && text.len() <= REQUEST_ID_BYTES_MAX);
    visible.then_some(id)
}

/// Turns an error into a reply. A defect is logged, with an id by which the log entry is found.
fn refuse(req: &HttpRequest, error: &ApiError) -> HttpResponse {
    let mut reply = error.error_response();
    if matches!(error.cause(), Cause::Internal | Cause::Storage) {
        let given = request_id(req).and_then(|id| id.to_str().ok().map(str::to_owned));
        let id = given.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
        tracing::error!(request_id = %id, method = %req.method(), path = req.path(), %error, "request failed");
        if let Ok(id) = HeaderValue::from_str(&id) {
            reply.headers_mut().insert(REQUEST_ID, id);
        }
    }
    reply
}

/// The limits on target and headers, and control characters: what is refused before anything else.
fn check_head(req: &HttpRequest, state: &AppState) -> Result<(), ApiError> {
    let limits = &state.limits;
    let target = req.uri().path_and_query().map_or("", |target| target.as_str());
    if target.len() > limits.target_bytes_max {
        let message =
            format!("the request target has {} bytes, at most {} are read", target.len(), limits.target_bytes_max);
        return Err(ApiError::new(Cause::TargetTooLong, message));
    }
    let header_bytes: usize = req.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if header_bytes > limits.header_bytes_max {
        let message = format!("the headers have {header_bytes} bytes, at most {} are read", limits.header_bytes_max);
        return Err(ApiError::new(Cause::HeadersTooLarge, message));
    }
    if hides_control_character(path_of(req)) || hides_control_character(req.uri().path()) {
        return Err(ApiError::new(Cause::InvalidName, "the path contains a control character"));
    }
    Ok(())
}

/// Whether the text has a control character, as it is or percent-encoded.
fn hides_control_character(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().any(u8::is_ascii_control)
        || bytes.windows(3).any(|w| {
            w[0] == b'%'
                && (matches!(w[1], b'0' | b'1') && w[2].is_ascii_hexdigit() || (w[1] == b'7' && w[2] | 32 == b'f'))
        })
}

/// Compresses a reply that is whole, large enough and not compressed, if the client likes that.
async fn compress(reply: HttpResponse, req: &HttpRequest, state: &AppState) -> HttpResponse {
    let BodySize::Sized(size) = reply.body().size() else { return reply };
    let worth_it = size >= state.limits.compress_bytes_min as u64
        && !reply.headers().contains_key(header::CONTENT_ENCODING)
        && reply.headers().get(header::CONTENT_TYPE).is_none_or(|value| value != OCTETS);
    if !worth_it {
        return reply;
    }
    let coding = Coding::of_reply(req.headers());
    let (mut head, body) = reply.into_parts();
    head.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = coding else { return head.set_body(body) };
    let body = match body.try_into_bytes() {
        Ok(body) => body,
        Err(body) => return head.set_body(body),
    };
    let encoded = if body.len() <= COMPRESS_INLINE_BYTES_MAX {
        coding.encode(&body)
    } else {
        let body = body.clone();
        web::block(move || coding.encode(&body)).await.unwrap_or_else(|busy| Err(std::io::Error::other(busy)))
    };
    match encoded {
        Ok(encoded) => {
            head.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            head.set_body(BoxBody::new(encoded))
        }
        // An uncompressed reply is as good an answer.
        Err(error) => {
            tracing::warn!(%error, "a reply could not be compressed");
            head.set_body(BoxBody::new(body))
        }
    }
}
