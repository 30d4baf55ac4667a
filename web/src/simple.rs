//! The simple surface: seven routes that need no library and no ceremony.
//!
//! Choices where several readings are possible:
//! - `/publish` stores the bytes of the JSON object as they were sent (white space around it
//!   removed), whatever the content type says. `key` becomes the record's key: a string as its
//!   text, anything else as compact JSON. `client_ts` becomes the record's timestamp when it
//!   is a time: seconds since 1970 from 10^9 to 10^10 (the years 2001 to 2286), or milliseconds
//!   from 10^12 to 10^13. Any other number, such as a counter, is only kept in the value: as a
//!   timestamp it would lead searches by time astray.
//! - `/consume` begins at the start of the log when the offset has been deleted, as a Kafka
//!   consumer with `auto.offset.reset=earliest` does; past the end it answers an empty list and the
//!   same offset, so that a consumer can poll ahead.
//! - `/loglen` is the high watermark: what consumers can read.

mod consume;
mod offsets;
mod publish;

use std::sync::Arc;

use pubg1_actors::PartitionHandle;
use pubg1_model::{PartitionId, TopicName, cluster::TopicImage};
use serde::Deserialize;
use utoipa::IntoParams;

pub(crate) use self::{
    consume::{__path_consume, __path_log_length, consume, log_length},
    offsets::{__path_commit_offset, __path_offset, commit_offset, offset},
    publish::{__path_publish, publish},
};
use crate::{
    call::{Call, topic_name},
    dto::{ErrorBody, SimpleMetadata},
    edge::ApiResult,
    error::{ApiError, Cause},
    reply,
};

/// The partition a request names; missing, not a number and not there are all the same mistake.
fn partition(call: &Call, topic: &TopicName, partition: Option<u64>) -> Result<Place, ApiError> {
    let image = call.state.topic(topic)?;
    let count = image.partitions.len() as u64;
    let bad = |what: String| {
        ApiError::new(Cause::InvalidPartition, format!("{what}; {topic} has partitions 0 to {}", count - 1))
    };
    let partition = partition.ok_or_else(|| bad("partition is missing".to_owned()))?;
    let number = u32::try_from(partition).ok().filter(|_| partition < count);
    let number = number.ok_or_else(|| bad(format!("there is no partition {partition}")))?;
    let handle = call.state.partition(topic, PartitionId(number))?;
    Ok(Place { topic: image, partition: PartitionId(number), handle })
}

/// A partition that a request named.
struct Place {
    topic: Arc<TopicImage>,
    partition: PartitionId,
    handle: PartitionHandle,
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, ApiError> {
    text.map(|text| {
        text.parse().map_err(|_| {
            let cause = if name == "partition" { Cause::InvalidPartition } else { Cause::Malformed };
            ApiError::new(cause, format!("{name}={text:?} is not a number from 0"))
        })
    })
    .transpose()
}

fn topic_or_default(call: &Call, name: Option<&str>) -> Result<TopicName, ApiError> {
    if let Some(name) = name {
        return topic_name(name);
    }
    let default = call.state.broker.config().default_topic.as_ref();
    let none = || ApiError::malformed("this broker has no default topic; name one with topic=");
    default.map(|topic| topic.name.clone()).ok_or_else(none)
}

/// The query of `GET /metadata`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MetadataQuery {
    /// The topic; the default topic when absent.
    topic: Option<String>,
}

/// Tells where the partitions of a topic are.
#[utoipa::path(
    get, path = "/metadata", tag = "simple",
    params(MetadataQuery),
    responses(
        (status = 200, description = "Replicas and leaders by partition, and all brokers", body = SimpleMetadata),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn metadata(call: Call) -> ApiResult {
    let query: MetadataQuery = call.query()?;
    let topic = topic_or_default(&call, query.topic.as_deref())?;
    let topic = call.state.topic(&topic)?;
    let image = call.state.image()?;
    let url = |id| image.brokers.get(&id).map(|broker| broker.http_url.clone());
    let partitions = topic
        .numbered_partitions()
        .map(|(id, partition)| (id.0, partition.replicas.iter().copied().filter_map(url).collect()))
        .collect();
    let leaders = topic.numbered_partitions().map(|(id, partition)| (id.0, partition.leader.and_then(url))).collect();
    let leader_epochs = topic.numbered_partitions().map(|(id, placed)| (id.0, placed.leader_epoch.get())).collect();
    let members = image.brokers.values().map(|broker| broker.http_url.clone()).collect();
    reply::json(&SimpleMetadata { partitions, leaders, leader_epochs, members })
}
