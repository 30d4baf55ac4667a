//! The end of a run: every partition is read as its leader serves it and as every replica holds it.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use pubg1_model::TopicName;
use serde_json::Value;
use tokio::time::Instant;

use super::{brokers::Brokers, history::Copy, payload::Payload, reader::copy};
use crate::{client::Client, error::CommandError};

/// Copies that are read at the same time.
const AT_ONCE: usize = 4;

/// What was found, and why replicas were not compared, if they were not.
pub struct Found {
    /// The leaders' copies and the replicas'.
    pub copies: Vec<Copy>,
    /// Why there are only the leaders'.
    pub not_compared: Option<String>,
}

/// Reads everything from the first offsets on; without a payload only batches, to compare replicas.
///
/// # Errors
/// Nobody says where the partitions end.
pub async fn read(
    brokers: &Brokers,
    topic: &TopicName,
    payload: Option<&Payload>,
    first_offsets: &[u64],
    deadline: Duration,
) -> Result<Found, CommandError> {
    let until = Instant::now() + deadline;
    let client = brokers.together()?;
    let count = u32::try_from(first_offsets.len()).unwrap_or(0);
    let ends = brokers.end_offsets(topic, count, deadline).await?;
    let not_compared = (!serves_replicas(&client).await)
        .then(|| "the brokers do not serve single replicas: only what the leaders hold was read".to_owned());
    let mut wanted: Vec<(u32, Option<u32>)> = (0..count).map(|partition| (partition, None)).collect();
    if not_compared.is_none() {
        let described = brokers.topic(topic).await;
        let described = described.ok_or_else(|| CommandError::Failed(format!("nobody describes topic {topic}")))?;
        for partition in &described.partitions {
            let replicas = partition.replicas.iter().map(|replica| Some(replica.broker.0));
            wanted.extend(replicas.map(|replica| (partition.partition.0, replica)));
        }
    }
    let reads = wanted.into_iter().enumerate().map(|(turn, (partition, replica))| {
        // Each has its own, so that one failure does not move the others.
        let client = client.beginning_with(turn);
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let start = first_offsets.get(index).copied().unwrap_or(0);
        let end = ends.get(index).copied().unwrap_or(0);
        async move { copy(&client, (topic, payload), (partition, replica), (start, end), until).await }
    });
    let copies = stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
    Ok(Found { copies, not_compared })
}

/// Whether reads of one replica's own log are part of the brokers' interface. A broker that does
/// not know the parameter would pass it over, and answer with the leader's log.
async fn serves_replicas(client: &Client) -> bool {
    let document: Value = client.get("/openapi.json").await.unwrap_or_default();
    let route = &document["paths"]["/topics/{topic}/partitions/{partition}/batches"]["get"]["parameters"];
    route.as_array().is_some_and(|parameters| parameters.iter().any(|parameter| parameter["name"] == "replica"))
}
