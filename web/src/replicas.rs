//! The replicas of a partition, each asked for itself.

use pubg1_model::BrokerId;

use crate::{
    call::Call,
    cluster::numbers,
    dto::{ErrorBody, PartitionReplicas, ReplicaState},
    edge::ApiResult,
    reply,
    state::no_partition,
};

/// Asks every replica of a partition how it is.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}/replicas", tag = "topics",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition")),
    responses(
        (status = 200, description = "The replicas; one that does not answer has an error", body = PartitionReplicas),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn describe(call: Call) -> ApiResult {
    let (name, partition) = (call.topic()?, call.partition()?);
    let topic = call.state.topic(&name)?;
    let placed = topic.partition(partition).ok_or_else(|| no_partition(&name, partition))?;
    let statuses = call.state.broker.replica_statuses(&name, partition).await?;
    let by_leader = statuses.iter().find(|(broker, _)| Some(*broker) == placed.leader);
    let in_sync: Option<&[BrokerId]> =
        by_leader.and_then(|(_, status)| status.as_ref().ok()).map(|status| &*status.in_sync);
    let replicas = statuses.iter().map(|(broker, status)| {
        let told = status.as_ref().ok();
        ReplicaState {
            broker: broker.0,
            role: told.map(|status| status.role.clone()),
            in_sync: in_sync.filter(|in_sync| !in_sync.is_empty()).map(|in_sync| in_sync.contains(broker)),
            adopted_epoch: told.and_then(|status| status.adopted_epoch).map(|epoch| epoch.get()),
            log_start_offset: told.map(|status| status.log_start_offset.get()),
            high_watermark: told.map(|status| status.high_watermark.get()),
            log_end_offset: told.map(|status| status.log_end_offset.get()),
            flushed_offset: told.map(|status| status.flushed_offset.get()),
            error: status.as_ref().map_or_else(|error| Some(error.clone()), |status| status.error.clone()),
        }
    });
    reply::json(&PartitionReplicas {
        topic: name.as_str().to_owned(),
        partition: partition.0,
        leader: placed.leader.map(|leader| leader.0),
        leader_epoch: placed.leader_epoch.get(),
        moving_to: placed.moving_to.as_ref().map(numbers),
        replicas: replicas.collect(),
    })
}
