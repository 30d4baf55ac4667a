//! Topics and partitions, as the v2 surface describes them.

use actix_web::http::StatusCode;
use pubg1_model::{
    BrokerId, PartitionId,
    cluster::{PartitionImage, TopicImage},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    call::Call,
    dto::{ErrorBody, PartitionEntry, PartitionOffsets, ReplicaEntry, TopicEntry},
    edge::ApiResult,
    reply,
    state::no_partition,
};

/// The query of `GET /topics`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Also list the broker's own topics.
    #[serde(default)]
    #[param(required = false)]
    internal: bool,
}

/// Lists the topics.
#[utoipa::path(
    get, path = "/topics", tag = "topics",
    params(ListQuery),
    responses(
        (status = 200, description = "The names of the topics", content((Vec<String> = "application/vnd.kafka.v2+json"), (Vec<String> = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn list(call: Call) -> ApiResult {
    let query: ListQuery = call.query()?;
    let image = call.state.image()?;
    let names: Vec<&str> =
        image.topics.keys().filter(|name| query.internal || !name.is_internal()).map(|name| name.as_str()).collect();
    reply::json_as(StatusCode::OK, call.management_type()?, &names)
}

/// Describes a topic.
#[utoipa::path(
    get, path = "/topics/{topic}", tag = "topics",
    params(("topic" = String, Path, description = "The topic")),
    responses(
        (status = 200, description = "The topic", content((TopicEntry = "application/vnd.kafka.v2+json"), (TopicEntry = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn describe(call: Call) -> ApiResult {
    let media_type = call.management_type()?;
    let topic = call.state.topic(&call.topic()?)?;
    let in_sync = call.state.broker.in_sync(&topic).await;
    reply::json_as(StatusCode::OK, media_type, &entry(&topic, &in_sync))
}

/// A topic as it is shown, with the replicas that are in sync of each partition.
pub(crate) fn entry(topic: &TopicImage, in_sync: &[Vec<BrokerId>]) -> TopicEntry {
    TopicEntry {
        name: topic.name.as_str().to_owned(),
        configs: topic.config.clone(),
        partitions: partition_entries(topic, in_sync),
    }
}

fn partition_entries(topic: &TopicImage, in_sync: &[Vec<BrokerId>]) -> Vec<PartitionEntry> {
    let entry = |((id, partition), in_sync): ((PartitionId, &PartitionImage), &Vec<BrokerId>)| {
        partition_entry(id, partition, in_sync)
    };
    topic.numbered_partitions().zip(in_sync).map(entry).collect()
}

fn partition_entry(id: PartitionId, partition: &PartitionImage, in_sync: &[BrokerId]) -> PartitionEntry {
    let replica = |broker: &BrokerId| ReplicaEntry {
        broker: broker.0,
        leader: partition.leader == Some(*broker),
        in_sync: in_sync.contains(broker),
    };
    PartitionEntry {
        partition: id.0,
        leader: partition.leader.map_or(-1, |leader| i64::from(leader.0)),
        leader_epoch: partition.leader_epoch.get(),
        replicas: partition.replicas.iter().map(replica).collect(),
    }
}

/// Describes the partitions of a topic.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions", tag = "topics",
    params(("topic" = String, Path, description = "The topic")),
    responses(
        (status = 200, description = "The partitions", content((Vec<PartitionEntry> = "application/vnd.kafka.v2+json"), (Vec<PartitionEntry> = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn partitions(call: Call) -> ApiResult {
    let media_type = call.management_type()?;
    let topic = call.state.topic(&call.topic()?)?;
    let in_sync = call.state.broker.in_sync(&topic).await;
    reply::json_as(StatusCode::OK, media_type, &partition_entries(&topic, &in_sync))
}

/// Describes a partition.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}", tag = "topics",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition")),
    responses(
        (status = 200, description = "The partition", content((PartitionEntry = "application/vnd.kafka.v2+json"), (PartitionEntry = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn partition(call: Call) -> ApiResult {
    let media_type = call.management_type()?;
    let topic = call.state.topic(&call.topic()?)?;
    let id = call.partition()?;
    let partition = topic.partition(id).ok_or_else(|| no_partition(&topic.name, id))?;
    let view = call.state.partition(&topic.name, id)?.leader_view_at_once().await;
    let in_sync = view.map_or_else(|_| Vec::new(), |view| view.in_sync.to_vec());
    reply::json_as(StatusCode::OK, media_type, &partition_entry(id, partition, &in_sync))
}

/// Tells where a partition begins and ends.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}/offsets", tag = "topics",
    params(("topic" = String, Path, description = "The topic"), ("partition" = u32, Path, description = "The partition")),
    responses(
        (status = 200, description = "The first offset, and the high watermark", content((PartitionOffsets = "application/vnd.kafka.v2+json"), (PartitionOffsets = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn offsets(call: Call) -> ApiResult {
    let media_type = call.management_type()?;
    let handle = call.state.partition(&call.topic()?, call.partition()?)?;
    let view = handle.leader_view().await?;
    let body =
        PartitionOffsets { beginning_offset: view.log_start_offset.get(), end_offset: view.high_watermark.get() };
    reply::json_as(StatusCode::OK, media_type, &body)
}
