//! Brokers taken out of service and removed, and partitions spread over those that are there.

use actix_web::HttpResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    call::Call,
    cluster::numbers,
    dto::{BrokerLife, ErrorBody, MoveEntry, Moves},
    edge::ApiResult,
    reply,
};

/// The body of `POST /admin/brokers/{broker}/drain`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drain {
    /// `false` puts the broker back into service.
    drain: bool,
}

/// Takes a broker out of service, or back: while it drains, others lead what it led, and it gets nothing new.
#[utoipa::path(
    post, path = "/admin/brokers/{broker}/drain", tag = "admin",
    params(("broker" = u32, Path, description = "The broker's number")),
    request_body = Drain,
    responses(
        (status = 200, description = "Whether it drains", body = BrokerLife),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn drain(mut call: Call) -> ApiResult {
    let broker = call.broker()?;
    let Drain { drain } = call.json().await?;
    call.state.broker.set_draining(broker, drain).await?;
    reply::json(&BrokerLife { broker_id: broker.0, draining: drain })
}

/// Removes a broker from the cluster for good. It must not keep any partition; stop its process first.
#[utoipa::path(
    delete, path = "/admin/brokers/{broker}", tag = "admin",
    params(("broker" = u32, Path, description = "The broker's number")),
    responses(
        (status = 204, description = "Removed"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn remove(call: Call) -> ApiResult {
    call.state.broker.remove_broker(call.broker()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The body of `POST /admin/rebalance`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rebalance {
    /// Only say what would be moved.
    #[serde(default)]
    dry_run: bool,
}

/// Evens out what brokers keep and lead: plans moves and begins them.
#[utoipa::path(
    post, path = "/admin/rebalance", tag = "admin",
    request_body = Rebalance,
    responses(
        (status = 200, description = "What is being moved, or would be; nothing when all is even", body = Moves),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn rebalance(mut call: Call) -> ApiResult {
    let Rebalance { dry_run } = call.json().await?;
    let moves = call.state.broker.rebalance(dry_run).await?;
    let moves = moves.into_iter().map(|planned| MoveEntry {
        topic: planned.topic.as_str().to_owned(),
        partition: planned.partition.0,
        from: numbers(&planned.from),
        to: numbers(&planned.to),
    });
    reply::json(&Moves { moves: moves.collect() })
}
