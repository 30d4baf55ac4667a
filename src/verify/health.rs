//! Waiting until a cluster is well: every broker ready, every partition led, every replica in sync.

use std::time::Duration;

use pubg1_model::TopicName;
use tokio::time::Instant;

use super::brokers::Brokers;
use crate::client::{Client, ClientError, reply::HealthReply};

const POLL: Duration = Duration::from_millis(10);
/// A broker that is paused takes connections and answers nothing.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits; what is wrong when time is over is the error.
///
/// # Errors
/// What is wrong.
pub async fn wait_healthy(brokers: &Brokers, topic: &TopicName, deadline: Duration) -> Result<(), String> {
    let until = Instant::now() + deadline;
    loop {
        let problem = match problem(brokers, topic).await {
            None => return Ok(()),
            Some(problem) => problem,
        };
        if Instant::now() > until {
            return Err(problem);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn problem(brokers: &Brokers, topic: &TopicName) -> Option<String> {
    for client in brokers.clients() {
        let name = client.base();
        match tokio::time::timeout(ASK_TIMEOUT, problem_at(client, topic)).await {
            Ok(None) => {}
            Ok(Some(problem)) => return Some(format!("{name}: {problem}")),
            Err(_) => return Some(format!("{name} does not answer")),
        }
    }
    None
}

async fn problem_at(client: &Client, topic: &TopicName) -> Option<String> {
    match client.ready().await {
        Ok(ready) if ready.ready => {}
        Ok(ready) => return Some(format!("it is not ready: {}", ready.body)),
        Err(error) => return Some(error.to_string()),
    }
    match client.get::<HealthReply>("/cluster/health").await {
        Ok(health) if health.status == "ok" => {}
        Ok(health) => return Some(format!("the cluster is {}: {}", health.status, health.problems.join("; "))),
        // A broker that does not know the route is judged by its topic alone.
        Err(ClientError::Refused { status: 404, .. }) => {}
        Err(error) => return Some(error.to_string()),
    }
    match client.topic(topic).await {
        Err(error) => Some(error.to_string()),
        Ok(topic) => topic.partitions.iter().find_map(|partition| {
            let number = partition.partition;
            if partition.leader < 0 {
                return Some(format!("nobody leads partition {number}"));
            }
            let behind = partition.replicas.iter().find(|replica| !replica.in_sync)?;
            Some(format!("broker {} is behind in partition {number}", behind.broker))
        }),
    }
}
