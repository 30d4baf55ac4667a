//! Whether the broker lives and serves, and its metrics. Nothing here sends a message: these
//! routes answer while logs are recovered, and while actors are busy.

use actix_web::{HttpResponse, http::header};
use pubg1_actors::{BrokerState, Readiness};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    call::Call,
    dto::{ErrorBody, Ok as OkBody},
    edge::ApiResult,
    error::{ApiError, Cause},
    reply,
};

/// The reply of the health routes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
    port: u16,
    broker_id: u32,
    /// `starting`, `recovering`, `ready`, `draining` or `failed`.
    state: &'static str,
    uptime_ms: u64,
}

macro_rules! health_route {
    ($name:ident, $path:literal) => {
        /// Says that the process answers, and how it stands.
        #[utoipa::path(get, path = $path, tag = "operations", responses(
                    (status = 200, description = "The process answers", body = Health),
                    (status = "5XX", description = "The broker has failed and is about to end", body = ErrorBody)))]
        pub(crate) async fn $name(call: Call) -> ApiResult {
            health(&call)
        }
    };
}

health_route!(health_simple, "/health");
health_route!(health_strimzi, "/healthy");
health_route!(health_karapace, "/_health");

fn health(call: &Call) -> ApiResult {
    let broker = &call.state.broker;
    let readiness = broker.readiness();
    if readiness.state == BrokerState::Failed {
        return Err(not_ready(&readiness));
    }
    reply::json(&Health {
        status: "ok",
        port: call.state.port,
        broker_id: broker.broker_id().0,
        state: readiness.state.as_str(),
        uptime_ms: u64::try_from(broker.uptime().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Says that the process answers.
#[utoipa::path(get, path = "/livez", tag = "operations",
    responses((status = 200, description = "The process answers", body = OkBody)))]
pub(crate) async fn live(_call: Call) -> ApiResult {
    reply::json(&OkBody { status: "ok" })
}

/// The reply of the readiness routes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready`; anything else is a 503 with the same members.
    status: &'static str,
    checks: Vec<CheckEntry>,
}

/// One thing that was looked at.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckEntry {
    name: &'static str,
    ok: bool,
    reason: String,
}

macro_rules! ready_route {
    ($name:ident, $path:literal) => {
        /// Says whether the broker serves, with a reason for each check.
        #[utoipa::path(get, path = $path, tag = "operations", responses(
            (status = 200, description = "It serves", body = Ready),
            (status = "5XX", description = "It does not serve: `status` and `checks` say why", body = ErrorBody)))]
        pub(crate) async fn $name(call: Call) -> ApiResult {
            ready(&call)
        }
    };
}

ready_route!(ready_z, "/readyz");
ready_route!(ready_strimzi, "/ready");
ready_route!(ready_redpanda, "/status/ready");

fn ready(call: &Call) -> ApiResult {
    let readiness = call.state.broker.readiness();
    if !readiness.is_ready() {
        return Err(not_ready(&readiness));
    }
    let checks = readiness.checks.into_iter();
    let checks = checks.map(|check| CheckEntry { name: check.name, ok: check.ok, reason: check.reason }).collect();
    reply::json(&Ready { status: "ready", checks })
}

fn not_ready(readiness: &Readiness) -> ApiError {
    let (cause, message) = match readiness.state {
        BrokerState::Recovering { done, total } => {
            (Cause::Recovering, format!("the broker is recovering: {done} of {total} partitions are done"))
        }
        BrokerState::Starting => (Cause::Recovering, "the broker is starting".to_owned()),
        BrokerState::Draining => (Cause::Draining, "the broker is shutting down".to_owned()),
        BrokerState::Ready | BrokerState::Failed => (Cause::Unavailable, "the broker has failed".to_owned()),
    };
    let checks: Vec<_> = readiness
        .checks
        .iter()
        .map(|check| json!({"name": check.name, "ok": check.ok, "reason": check.reason}))
        .collect();
    ApiError::new(cause, message).with("status", readiness.state.as_str()).with("checks", checks)
}

/// The metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(call: Call) -> ApiResult {
    let text = call.state.metrics.encode();
    let text =
        text.map_err(|error| ApiError::new(Cause::Internal, format!("the metrics cannot be written: {error}")))?;
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, pubg1_metrics::CONTENT_TYPE)).body(text))
}
