//! `pubg1 topic create|list|describe|alter|delete|trim`.

mod describe;

use std::io::{IsTerminal, Write};

use clap::Subcommand;
use pubg1_model::{Offset, PartitionId, TopicName};
use serde_json::{Value, json};

use crate::{client::Client, error::CommandError, terminal::Terminal};

const CONFIG_HELP: &str = "\
Settings: cleanup_policy=delete|compact, timestamp_type=create_time|log_append_time, retention_ms,
retention_bytes, segment_bytes, segment_ms, max_message_bytes, delete_retention_ms, index_interval_bytes.
`none` takes a limit away.
Retention by time counts from when the broker appended, not from what the records say: old data stay as long as new.";

/// `pubg1 topic`.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    #[command(after_help = format!("{CONFIG_HELP}\n\nExample:\n  pubg1 topic create flights --partitions 4 --config retention_ms=86400000"))]
    Create {
        /// 1 to 200 letters, digits, dots, underscores and hyphens
        name: TopicName,
        /// How many partitions; the broker's default when absent
        #[arg(short, long)]
        partitions: Option<u32>,
        /// How many replicas of each; the broker's default when absent
        #[arg(short, long, value_name = "N")]
        replication_factor: Option<u32>,
        /// A setting; repeatable
        #[arg(short, long, value_name = "NAME=VALUE", value_parser = setting)]
        config: Vec<(String, Value)>,
        /// No error when it is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List all topics
    #[command(alias = "ls")]
    List {
        /// Also the broker's own, whose names begin with two underscores
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's settings and partitions: leader, replicas, offsets
    #[command(
        after_help = "Example:\n  pubg1 topic describe flights -o json | jq '.partitions[] | select(.leader == null)'"
    )]
    Describe {
        /// The topic
        name: TopicName,
    },
    /// Change settings of a topic
    #[command(after_help = format!("{CONFIG_HELP}\n\nExample:\n  pubg1 topic alter flights --config retention_bytes=1000000000"))]
    Alter {
        /// The topic
        name: TopicName,
        /// A setting; repeatable
        #[arg(short, long, value_name = "NAME=VALUE", value_parser = setting, required = true)]
        config: Vec<(String, Value)>,
    },
    /// Delete a topic and everything in it
    #[command(alias = "rm")]
    Delete {
        /// The topic
        name: TopicName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Delete the records of a partition before an offset
    #[command(after_help = "Example:\n  pubg1 topic trim flights --partition 0 --before 10000")]
    Trim {
        /// The topic
        name: TopicName,
        /// The partition
        #[arg(short, long)]
        partition: u32,
        /// The first offset to keep
        #[arg(long, value_name = "OFFSET")]
        before: u64,
    },
}

fn setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    let value = if value == "none" {
        Value::Null
    } else {
        value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from)
    };
    Ok((name.trim().replace(['.', '-'], "_"), value))
}

/// Does it.
///
/// # Errors
/// The broker's refusals.
pub async fn run(client: &Client, terminal: Terminal, command: TopicCommand) -> Result<(), CommandError> {
    match command {
        TopicCommand::Create { name, partitions, replication_factor, config, if_not_exists } => {
            let mut body = json!({ "topic_name": name });
            if let Some(partitions) = partitions {
                body["partitions_count"] = partitions.into();
            }
            if let Some(replication_factor) = replication_factor {
                body["replication_factor"] = replication_factor.into();
            }
            if !config.is_empty() {
                body["configs"] = Value::Object(config.into_iter().collect());
            }
            create(client, terminal, &name, &body, if_not_exists).await
        }
        TopicCommand::List { internal } => list(client, terminal, internal).await,
        TopicCommand::Describe { name } => describe::run(client, terminal, &name).await,
        TopicCommand::Alter { name, config } => {
            client.alter_topic(&name, &Value::Object(config.into_iter().collect())).await?;
            let topic = client.topic(&name).await?;
            terminal.print(&topic.configs, |_| format!("topic {name} is changed"))
        }
        TopicCommand::Delete { name, yes } => delete(client, terminal, &name, yes).await,
        TopicCommand::Trim { name, partition, before } => {
            let reply = client.trim(&name, PartitionId(partition), Offset::new(before)).await?;
            terminal.print(&reply, |reply| {
                format!("partition {partition} of {name} now begins at offset {}", reply["beginning_offset"])
            })
        }
    }
}

async fn create(
    client: &Client,
    terminal: Terminal,
    name: &TopicName,
    body: &Value,
    if_not_exists: bool,
) -> Result<(), CommandError> {
    let existed = match client.create_topic(body).await {
        Ok(()) => false,
        Err(error) if if_not_exists && error.status() == Some(409) => true,
        Err(error) => return Err(error.into()),
    };
    let topic = client.topic(name).await?;
    terminal.print(&topic, |topic| {
        let what = if existed { "exists already" } else { "is created" };
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        format!("topic {name} {what}, {} partitions, {replicas} replicas of each", topic.partitions.len())
    })
}

async fn list(client: &Client, terminal: Terminal, internal: bool) -> Result<(), CommandError> {
    let names = client.topics(internal).await?;
    let mut topics = Vec::new();
    for name in &names {
        match client.topic(name).await {
            Ok(topic) => topics.push(topic),
            // Deleted since the list was made.
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let document: Vec<Value> =
        topics.iter().map(|topic| json!({ "name": topic.name, "partitions": topic.partitions.len() })).collect();
    terminal.print(&document, |_| {
        let rows = topics.iter().map(|topic| vec![topic.name.to_string(), topic.partitions.len().to_string()]);
        terminal.table(&["topic", "partitions"], rows, &["partitions"])
    })
}

async fn delete(client: &Client, terminal: Terminal, name: &TopicName, yes: bool) -> Result<(), CommandError> {
    if !yes && std::io::stdin().is_terminal() && !confirmed(name)? {
        return Err(CommandError::Failed("nothing is deleted".to_owned()));
    }
    client.delete_topic(name).await?;
    terminal.print(&json!({ "deleted": name }), |_| format!("topic {name} is deleted"))
}

fn confirmed(name: &TopicName) -> Result<bool, CommandError> {
    let failed = |error: std::io::Error| CommandError::Failed(format!("cannot ask: {error}"));
    write!(std::io::stderr(), "Delete topic {name} and everything in it? Type its name: ").map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim() == name.as_str())
}
