//! Brokers and the cluster.

use std::time::Duration;

use actix_web::http::StatusCode;
use pubg1_actors::ClusterStatus;
use pubg1_model::{BrokerId, cluster::ClusterImage};

use crate::{
    call::Call,
    dto::{BrokerEntry, Brokers, Cluster, ClusterHealth, ErrorBody, HealthStatus, MetadataGroupEntry},
    edge::ApiResult,
    reply,
};

/// How long the controller is looked for when only part of an answer needs it.
const GLANCE: Duration = Duration::ZERO;
/// How long it is looked for before it is said to be missing. An election of one takes about a second.
const SEARCH: Duration = Duration::from_secs(2);
/// Problems that are named one by one.
const NAMED_PROBLEMS: usize = 20;

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
    let body = Brokers { brokers: numbers(image.brokers.keys()) };
    reply::json_as(StatusCode::OK, call.management_type()?, &body)
}

/// The brokers' plain numbers.
pub(crate) fn numbers<'b>(brokers: impl IntoIterator<Item = &'b BrokerId>) -> Vec<u32> {
    brokers.into_iter().map(|broker| broker.0).collect()
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
    let alive = broker.cluster_status(GLANCE).await.ok().map(|status| status.alive);
    let topics = || image.topics.values().filter(|topic| !topic.name.is_internal());
    let entry = |(id, registered): (&BrokerId, &pubg1_model::cluster::BrokerRegistration)| BrokerEntry {
        broker_id: id.0,
        http_url: registered.http_url.clone(),
        rpc_address: registered.rpc_address.clone(),
        rack: registered.rack.clone(),
        incarnation: registered.incarnation.to_string(),
        draining: registered.draining,
        alive: alive.as_ref().map(|alive| alive.contains(id)),
    };
    let group = broker.metadata_group();
    reply::json(&Cluster {
        cluster_id: image.cluster_id.clone(),
        broker_id: broker.broker_id().0,
        controller: group.controller.map(|controller| controller.0),
        version: image.version,
        uptime_ms: u64::try_from(broker.uptime().as_millis()).unwrap_or(u64::MAX),
        flush: broker.config().flush.to_string(),
        metadata: MetadataGroupEntry {
            term: group.term,
            last_applied: group.last_applied,
            voters: numbers(&group.voters),
        },
        brokers: image.brokers.iter().map(entry).collect(),
        topics: topics().count(),
        partitions: topics().map(|topic| topic.partitions.len()).sum(),
    })
}

/// Says how the cluster is: which brokers live, which partitions nobody leads, what is not in sync.
#[utoipa::path(
    get, path = "/cluster/health", tag = "cluster",
    responses(
        (status = 200, description = "How the cluster is, whether well or not", body = ClusterHealth),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "This broker cannot say", body = ErrorBody),
    )
)]
pub(crate) async fn health(call: Call) -> ApiResult {
    let image = call.state.image()?;
    let status = call.state.broker.cluster_status(SEARCH).await.ok();
    // The image may have moved on while the controller was looked for.
    let image = call.state.image().unwrap_or(image);
    reply::json(&assess(&image, status.as_ref()))
}

fn assess(image: &ClusterImage, status: Option<&ClusterStatus>) -> ClusterHealth {
    let mut health = ClusterHealth {
        status: HealthStatus::Ok,
        controller: status.map(|status| status.controller.0),
        brokers: image.brokers.len(),
        // The one that answers does live.
        brokers_alive: status.map_or(1, |status| status.alive.len()),
        partitions: image.partition_count(),
        offline_partitions: 0,
        under_replicated_partitions: status.map_or(0, |status| status.under_replicated),
        problems: Vec::new(),
    };
    let Some(status) = status else {
        health.status = HealthStatus::Unavailable;
        health.offline_partitions =
            image.topics.values().flat_map(|topic| &topic.partitions).filter(|placed| placed.leader.is_none()).count();
        health.problems.push("no controller answers: too few of the brokers that choose it are there".to_owned());
        return health;
    };
    let silent = image.brokers.keys().filter(|broker| !status.alive.contains(broker));
    health.problems.extend(silent.map(|broker| format!("broker {broker} is not heard from")));
    if status.under_replicated > 0 {
        let count = status.under_replicated;
        let partitions = if count == 1 { "partition has" } else { "partitions have" };
        health.problems.push(format!("{count} {partitions} a replica that is not in sync"));
    }
    if !health.problems.is_empty() {
        health.status = HealthStatus::Degraded;
    }
    health.offline_partitions = status.offline.len();
    if !status.offline.is_empty() {
        health.status = HealthStatus::Unavailable;
    }
    let offline = |offline: &pubg1_actors::OfflinePartition| {
        format!("{}-{} has no leader: {}", offline.topic, offline.partition, offline.reason)
    };
    health.problems.extend(status.offline.iter().map(offline));
    let more = health.problems.len().saturating_sub(NAMED_PROBLEMS);
    if more > 0 {
        health.problems.truncate(NAMED_PROBLEMS);
        health.problems.push(format!("and {more} more"));
    }
    health
}

#[cfg(test)]
mod tests {
    use pubg1_actors::OfflinePartition;
    use pubg1_model::PartitionId;

    use super::*;

    fn status(alive: &[u32], offline: usize, under_replicated: u64) -> ClusterStatus {
        let partition = |number: usize| OfflinePartition {
            topic: "t".parse().unwrap(),
            partition: PartitionId(u32::try_from(number).unwrap()),
            reason: "brokers 1, 2 are away".to_owned(),
        };
        let offline = (0..offline).map(partition).collect();
        let alive = alive.iter().copied().map(BrokerId).collect();
        ClusterStatus { controller: BrokerId(0), alive, offline, under_replicated }
    }

    #[test]
    fn health_is_the_worst_of_what_is_found() {
        let image = ClusterImage::default();
        let well = assess(&image, Some(&status(&[0], 0, 0)));
        assert_eq!((well.status, well.problems.len(), well.brokers_alive), (HealthStatus::Ok, 0, 1));
        let thin = assess(&image, Some(&status(&[0], 0, 3)));
        assert_eq!((thin.status, thin.under_replicated_partitions), (HealthStatus::Degraded, 3));
        let broken = assess(&image, Some(&status(&[0], 30, 3)));
        assert_eq!((broken.status, broken.offline_partitions), (HealthStatus::Unavailable, 30));
        assert_eq!(broken.problems.len(), NAMED_PROBLEMS + 1);
        assert_eq!(broken.problems[1], "t-0 has no leader: brokers 1, 2 are away");
        let headless = assess(&image, None);
        assert_eq!((headless.status, headless.brokers_alive), (HealthStatus::Unavailable, 1));
    }
}
