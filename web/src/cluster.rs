//! Brokers and the cluster.

use actix_web::http::StatusCode;

use crate::{
    call::Call,
    dto::{BrokerEntry, Brokers, Cluster, ErrorBody},
    edge::ApiResult,
    reply,
};

/// The root: an empty object, by which clients of the v2 surface see that it is there.
#[utoipa::path(
    get, path = "/", tag = "cluster",
    responses(
        (status = 200, description = "An empty object", content((serde_json::Value = "application/vnd.kafka.v2+json"), (serde_json::Value = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn root(call: Call) -> ApiResult {
    reply::json_as(StatusCode::OK, call.management_type()?, &serde_json::json!({}))
}

/// Lists the brokers' numbers.
#[utoipa::path(
    get, path = "/brokers", tag = "cluster",
    responses(
        (status = 200, description = "The brokers", content((Brokers = "application/vnd.kafka.v2+json"), (Brokers = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn brokers(call: Call) -> ApiResult {
    let image = call.state.image()?;
    let body = Brokers { brokers: image.brokers.keys().map(|id| id.0).collect() };
    reply::json_as(StatusCode::OK, call.management_type()?, &body)
}

/// Describes the cluster.
#[utoipa::path(
    get, path = "/cluster", tag = "cluster",
    responses(
        (status = 200, description = "The cluster as this broker sees it", body = Cluster),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn describe(call: Call) -> ApiResult {
    let broker = &call.state.broker;
    let image = call.state.image()?;
    let topics = || image.topics.values().filter(|topic| !topic.name.is_internal());
    reply::json(&Cluster {
        cluster_id: image.cluster_id.clone(),
        broker_id: broker.broker_id().0,
        controller: broker.controller().0,
        version: image.version,
        uptime_ms: u64::try_from(broker.uptime().as_millis()).unwrap_or(u64::MAX),
        brokers: image
            .brokers
            .iter()
            .map(|(id, broker)| BrokerEntry { broker_id: id.0, http_url: broker.http_url.clone() })
            .collect(),
        topics: topics().count(),
        partitions: topics().map(|topic| topic.partitions.len()).sum(),
    })
}
