//! Who leads a partition, and where it is kept.

use actix_web::http::StatusCode;
use pubg1_model::{BrokerId, PartitionId, TopicName, cluster::PartitionImage};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    call::Call,
    cluster::numbers,
    dto::{ErrorBody, LeaderMoved, ReplicasMoved},
    edge::ApiResult,
    media_type::JSON,
    reply,
};

/// The body of `POST …/leader`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameLeader {
    /// The broker that shall lead: a replica that is in sync.
    #[schema(maximum = 4294967295u32)]
    leader: u32,
}

/// Moves the leadership of a partition to a replica that is in sync, and waits a moment until it leads.
#[utoipa::path(
    post, path = "/admin/topics/{topic}/partitions/{partition}/leader", tag = "admin",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition")),
    request_body = NameLeader,
    responses(
        (status = 200, description = "Who leads now", body = LeaderMoved),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn move_leader(mut call: Call) -> ApiResult {
    let (topic, partition) = (call.topic()?, call.partition()?);
    let body: NameLeader = call.json().await?;
    let placed = call.state.broker.move_leader(&topic, partition, BrokerId(body.leader)).await?;
    reply::json(&LeaderMoved {
        topic: topic.as_str().to_owned(),
        partition: partition.0,
        leader: placed.leader.map(|leader| leader.0),
        leader_epoch: placed.leader_epoch.get(),
    })
}

/// The body of `POST …/replicas`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameReplicas {
    /// The brokers that shall keep the partition, the preferred leader first.
    #[schema(min_items = 1)]
    replicas: Vec<u32>,
}

/// Begins to move a partition to other replicas. It goes on while clients write; the partition's replicas say when it
/// has ended.
#[utoipa::path(
    post, path = "/admin/topics/{topic}/partitions/{partition}/replicas", tag = "admin",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition")),
    request_body = NameReplicas,
    responses(
        (status = 202, description = "The move is under way", body = ReplicasMoved),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn move_replicas(mut call: Call) -> ApiResult {
    let (topic, partition) = (call.topic()?, call.partition()?);
    let body: NameReplicas = call.json().await?;
    let to = body.replicas.into_iter().map(BrokerId).collect();
    let placed = call.state.broker.move_replicas(&topic, partition, to).await?;
    reply::json_as(StatusCode::ACCEPTED, JSON, &moved(&topic, partition, &placed))
}

/// Takes the move of a partition back: it stays where it was.
#[utoipa::path(
    delete, path = "/admin/topics/{topic}/partitions/{partition}/replicas", tag = "admin",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition")),
    responses(
        (status = 200, description = "The partition stays with these replicas", body = ReplicasMoved),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn cancel_move(call: Call) -> ApiResult {
    let (topic, partition) = (call.topic()?, call.partition()?);
    let placed = call.state.broker.cancel_move(&topic, partition).await?;
    reply::json(&moved(&topic, partition, &placed))
}

fn moved(topic: &TopicName, partition: PartitionId, placed: &PartitionImage) -> ReplicasMoved {
    ReplicasMoved {
        topic: topic.as_str().to_owned(),
        partition: partition.0,
        replicas: numbers(&placed.replicas),
        moving_to: placed.moving_to.as_ref().map(numbers),
    }
}
