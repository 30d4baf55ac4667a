//! `pubg1 partition show|move|lead|cancel-move`.

use std::time::Duration;

use clap::Subcommand;
use pubg1_model::BrokerId;
use serde_json::json;

use super::cluster::wait::{POLL_FAST, now_ms, until};
use crate::{
    client::{
        Client,
        reply::{PartitionReply, ReplicasReply},
    },
    error::CommandError,
    terminal::Terminal,
    view::{PartitionName, broker_list},
};

const POLL: Duration = Duration::from_millis(100);

/// `pubg1 partition`.
#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// Who leads it and where its replicas are; optionally wait for the next leader
    #[command(after_help = "Example:\n  pubg1 partition show flights/0 --after-epoch 4   # waits for epoch 5")]
    Show {
        /// TOPIC/PARTITION
        name: PartitionName,
        /// Wait until it is led in a later epoch than this
        #[arg(long, value_name = "EPOCH")]
        after_epoch: Option<u32>,
        /// Count the milliseconds from this time on: milliseconds since 1970 [default: now]
        #[arg(long, value_name = "MS")]
        since_ms: Option<u64>,
        /// How long to wait
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Put its replicas on these brokers, while it is used
    #[command(
        after_help = "The first one is the preferred leader.\n\nExample:\n  pubg1 partition move flights/0 --replicas 1,2,3 --wait"
    )]
    Move {
        /// TOPIC/PARTITION
        name: PartitionName,
        /// The brokers, the preferred leader first
        #[arg(long, value_name = "N,…", value_delimiter = ',', required = true)]
        replicas: Vec<u32>,
        /// Wait until they have everything
        #[arg(long)]
        wait: bool,
        /// How long to wait
        #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Hand its leadership to a replica that is in sync
    #[command(after_help = "Example:\n  pubg1 partition lead flights/0 --to 2")]
    Lead {
        /// TOPIC/PARTITION
        name: PartitionName,
        /// The broker
        #[arg(long, value_name = "N")]
        to: u32,
        /// How long it may take
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Give up a move that is under way
    CancelMove {
        /// TOPIC/PARTITION
        name: PartitionName,
    },
}

/// Does it.
///
/// # Errors
/// The broker's refusals, and [`CommandError::Unhealthy`] when time is up.
pub async fn run(client: &Client, terminal: Terminal, command: PartitionCommand) -> Result<(), CommandError> {
    match command {
        PartitionCommand::Show { name, after_epoch, since_ms, timeout } => {
            let since_ms = since_ms.unwrap_or_else(now_ms);
            let partition = led(client, &name, after_epoch, None, timeout).await?;
            show(terminal, &name, &partition, now_ms().saturating_sub(since_ms))
        }
        PartitionCommand::Move { name, replicas, wait, timeout } => {
            let to: Vec<BrokerId> = replicas.into_iter().map(BrokerId).collect();
            client.move_partition(&name.topic, name.partition, &to).await?;
            if wait {
                moved(client, &name, &to, timeout).await?;
            }
            let document = json!({ "topic": name.topic, "partition": name.partition, "replicas": to, "done": wait });
            let what = if wait { "is on" } else { "moves to" };
            terminal.print(&document, |_| format!("{name} {what} brokers {}", broker_list(&to)))
        }
        PartitionCommand::Lead { name, to, timeout } => {
            let begun = now_ms();
            client.lead(&name.topic, name.partition, BrokerId(to)).await?;
            let partition = led(client, &name, None, Some(BrokerId(to)), timeout).await?;
            show(terminal, &name, &partition, now_ms().saturating_sub(begun))
        }
        PartitionCommand::CancelMove { name } => {
            client.cancel_move(&name.topic, name.partition).await?;
            let document = json!({ "topic": name.topic, "partition": name.partition, "cancelled": true });
            terminal.print(&document, |_| format!("{name} stays where it is"))
        }
    }
}

/// The partition when it is as it is wanted; at once when nothing is wanted.
async fn led(
    client: &Client,
    name: &PartitionName,
    after_epoch: Option<u32>,
    by: Option<BrokerId>,
    timeout: Duration,
) -> Result<PartitionReply, CommandError> {
    let path = format!("/topics/{}/partitions/{}", name.topic, name.partition);
    until(timeout, POLL_FAST, || async {
        let partition: PartitionReply = client.get(&path).await?;
        let epoch = partition.leader_epoch;
        let later = after_epoch.is_none_or(|after| epoch > after && partition.leader().is_some());
        let right = by.is_none_or(|by| partition.leader() == Some(by));
        let who =
            partition.leader().map_or_else(|| "nobody leads it".to_owned(), |leader| format!("{leader} leads it"));
        Ok(if later && right { Ok(partition) } else { Err(format!("{name}: {who} in epoch {epoch}")) })
    })
    .await
}

fn show(terminal: Terminal, name: &PartitionName, partition: &PartitionReply, ms: u64) -> Result<(), CommandError> {
    let leader = partition.leader();
    let in_sync = |wanted: bool| -> Vec<BrokerId> {
        partition.replicas.iter().filter(|replica| replica.in_sync || !wanted).map(|replica| replica.broker).collect()
    };
    let document = json!({
        "topic": name.topic,
        "partition": name.partition,
        "leader": leader,
        "leader_epoch": partition.leader_epoch,
        "replicas": in_sync(false),
        "in_sync": in_sync(true),
        "elapsed_ms": ms,
    });
    terminal.print(&document, |_| {
        let leader = leader.map_or_else(|| "nobody leads".to_owned(), |leader| format!("broker {leader} leads"));
        format!(
            "{name}: {leader} in epoch {}; replicas {}, in sync {}",
            partition.leader_epoch,
            broker_list(&in_sync(false)),
            broker_list(&in_sync(true))
        )
    })
}

/// Waits until the replicas are these.
async fn moved(client: &Client, name: &PartitionName, to: &[BrokerId], timeout: Duration) -> Result<(), CommandError> {
    until(timeout, POLL, || async {
        let state = client.replicas(&name.topic, name.partition).await?;
        Ok(if is_moved(&state, to) { Ok(()) } else { Err(format!("{name} still moves")) })
    })
    .await
}

fn is_moved(state: &ReplicasReply, to: &[BrokerId]) -> bool {
    let mut there: Vec<BrokerId> = state.replicas.iter().map(|replica| replica.broker).collect();
    let mut wanted = to.to_vec();
    there.sort_unstable();
    wanted.sort_unstable();
    state.moving_to.is_none() && there == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_over_when_the_replicas_are_there_and_the_old_ones_gone() {
        let state = |moving: serde_json::Value, brokers: &[u32]| -> ReplicasReply {
            let replicas: Vec<_> = brokers.iter().map(|broker| json!({ "broker": broker, "error": null })).collect();
            serde_json::from_value(json!({
                "topic": "t", "partition": 0, "leader": -1, "leader_epoch": 2, "moving_to": moving, "replicas": replicas,
            }))
            .unwrap()
        };
        let to = [BrokerId(2), BrokerId(1)];
        assert!(!is_moved(&state(json!([2, 1]), &[0, 1, 2]), &to));
        assert!(!is_moved(&state(json!(null), &[0, 1]), &to));
        assert!(is_moved(&state(json!(null), &[1, 2]), &to));
        assert_eq!(state(json!(null), &[]).leader, None);
    }
}
