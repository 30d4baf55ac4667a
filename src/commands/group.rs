//! `pubg1 group list|describe|seek|delete`.

mod describe;

use std::{
    io::{IsTerminal, Write},
    time::SystemTime,
};

use clap::{Args, Subcommand};
use pubg1_model::{GroupId, PartitionId, TopicName};
use serde_json::{Value, json};

use crate::{
    client::{
        Client,
        group_reply::{PlaceReply, SeekReply},
    },
    error::CommandError,
    input::timestamp,
    terminal::{Terminal, grouped},
};

/// `pubg1 group`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List all groups: state, members, coordinator
    #[command(alias = "ls")]
    List,
    /// Show a group's members and how far it is in each partition
    #[command(
        after_help = "Lag is what is there and not committed: in records, and in seconds since the oldest of them was \
                      written.\n\nExample:\n  pubg1 group describe mail -o json | jq '.partitions[] | select(.lag > 1000)'"
    )]
    Describe {
        /// The group
        name: GroupId,
    },
    /// Set what a group without members reads next
    #[command(after_help = "\
Examples:
  pubg1 group seek mail --topic flights --to earliest --dry-run    only says what would be set
  pubg1 group seek mail --topic flights --partition 0 --to 1000
  pubg1 group seek mail --topic flights --since 10m")]
    Seek(SeekArgs),
    /// Delete a group without members, or what it committed in a topic
    #[command(alias = "rm")]
    Delete {
        /// The group
        name: GroupId,
        /// Only what it committed in this topic
        #[arg(long, value_name = "NAME")]
        topic: Option<TopicName>,
        /// Only what it committed in this partition of the topic; repeatable
        #[arg(short, long, value_name = "N", requires = "topic")]
        partition: Vec<u32>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `pubg1 group seek`.
#[derive(Clone, Debug, Args)]
pub struct SeekArgs {
    /// The group
    pub name: GroupId,
    /// The topic
    #[arg(long, value_name = "NAME")]
    pub topic: TopicName,
    /// Only this partition; repeatable
    #[arg(short, long, value_name = "N")]
    pub partition: Vec<u32>,
    /// An offset, `earliest` or `latest`
    #[arg(long, value_name = "OFFSET", required_unless_present = "since")]
    pub to: Option<Destination>,
    /// The first record since this time: 10m (ago), seconds or milliseconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "to")]
    pub since: Option<String>,
    /// Only say what would be set
    #[arg(long)]
    pub dry_run: bool,
}

/// Where a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The first record that is there.
    Beginning,
    /// The next record that is written.
    End,
    /// This offset.
    Offset(u64),
}

impl std::str::FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" | "beginning" => Ok(Self::Beginning),
            "latest" | "end" => Ok(Self::End),
            _ => text.parse().map(Self::Offset).map_err(|_| "must be an offset, `earliest` or `latest`".to_owned()),
        }
    }
}

/// Does it.
///
/// # Errors
/// The broker's refusals.
pub async fn run(client: &Client, terminal: Terminal, command: GroupCommand) -> Result<(), CommandError> {
    match command {
        GroupCommand::List => list(client, terminal).await,
        GroupCommand::Describe { name } => describe::run(client, terminal, &name).await,
        GroupCommand::Seek(args) => seek(client, terminal, &args).await,
        GroupCommand::Delete { name, topic, partition, yes } => {
            delete(client, terminal, &name, topic.as_ref().map(|topic| (topic, &partition[..])), yes).await
        }
    }
}

async fn list(client: &Client, terminal: Terminal) -> Result<(), CommandError> {
    let (groups, missing) = client.groups().await?;
    terminal.print(&groups, |groups| {
        let rows = groups.iter().map(|group| {
            vec![
                group.group.clone(),
                group.state.clone(),
                group.members.to_string(),
                group.coordinator.map_or_else(|| "none".to_owned(), |broker| broker.to_string()),
            ]
        });
        terminal.table(&["group", "state", "members", "coordinator"], rows, &["members"])
    })?;
    if missing > 0 {
        terminal
            .note(&format!("{missing} partitions of the groups' topic have no coordinator: their groups are missing"));
    }
    Ok(())
}

async fn seek(client: &Client, terminal: Terminal, args: &SeekArgs) -> Result<(), CommandError> {
    let reply = client.seek_group(&args.name, &seek_body(args, SystemTime::now())?).await?;
    terminal.print(&reply, |reply| sought(terminal, args, reply))
}

fn seek_body(args: &SeekArgs, now: SystemTime) -> Result<Value, CommandError> {
    let to = match (&args.since, args.to) {
        (Some(since), _) => {
            let since = timestamp::of_since(since, now);
            json!({ "timestamp": since.map_err(|reason| CommandError::Usage(format!("--since {reason}")))? })
        }
        (None, Some(Destination::Beginning)) => json!("beginning"),
        (None, Some(Destination::Offset(offset))) => json!({ "offset": offset }),
        (None, Some(Destination::End) | None) => json!("end"),
    };
    let mut body = json!({ "topic": args.topic, "to": to, "dry_run": args.dry_run });
    if !args.partition.is_empty() {
        body["partitions"] = json!(args.partition);
    }
    Ok(body)
}

fn sought(terminal: Terminal, args: &SeekArgs, reply: &SeekReply) -> String {
    let rows = reply.offsets.iter().map(|sought| {
        vec![
            format!("{}/{}", sought.topic, sought.partition),
            sought.committed.map_or_else(|| "none".to_owned(), grouped),
            grouped(sought.offset),
            sought.lag.map_or_else(|| "-".to_owned(), grouped),
        ]
    });
    let table =
        terminal.table(&["partition", "committed", "goes to", "lag then"], rows, &["committed", "goes to", "lag then"]);
    let what = if args.dry_run { "would read on there; nothing was changed" } else { "reads on there" };
    format!("{table}\n\ngroup {} {what}", args.name)
}

async fn delete(
    client: &Client,
    terminal: Terminal,
    name: &GroupId,
    only: Option<(&TopicName, &[u32])>,
    yes: bool,
) -> Result<(), CommandError> {
    if !yes && std::io::stdin().is_terminal() && !confirmed(name, only.map(|(topic, _)| topic))? {
        return Err(CommandError::Failed("nothing is deleted".to_owned()));
    }
    let Some((topic, partitions)) = only else {
        client.delete_group(name).await?;
        return terminal.print(&json!({ "deleted": name }), |_| format!("group {name} is deleted"));
    };
    let committed = client.group(name).await?.partitions.into_iter();
    let wanted = |partition: &PartitionId| partitions.is_empty() || partitions.contains(&partition.0);
    let places: Vec<PlaceReply> = committed
        .filter(|entry| entry.topic == *topic && entry.committed.is_some() && wanted(&entry.partition))
        .map(|entry| PlaceReply { topic: entry.topic, partition: entry.partition })
        .collect();
    if places.is_empty() {
        return Err(CommandError::Failed(format!("group {name} has committed nothing there")));
    }
    client.delete_group_offsets(name, &places).await?;
    let partitions: Vec<PartitionId> = places.iter().map(|place| place.partition).collect();
    let document = json!({ "group": name, "topic": topic, "partitions": partitions });
    terminal.print(&document, |_| format!("what group {name} committed in {topic} is deleted"))
}

fn confirmed(name: &GroupId, topic: Option<&TopicName>) -> Result<bool, CommandError> {
    let failed = |error: std::io::Error| CommandError::Failed(format!("cannot ask: {error}"));
    let what = topic.map_or_else(|| "everything that it committed".to_owned(), |topic| format!("its place in {topic}"));
    write!(std::io::stderr(), "Delete {what} of group {name}? Type the group's name: ").map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim() == name.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use clap::Parser;

    use super::*;
    use crate::terminal::OutputFormat;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SeekArgs,
    }

    fn args(words: &str) -> SeekArgs {
        Line::try_parse_from(["seek", "mail", "--topic", "t"].into_iter().chain(words.split(' '))).unwrap().args
    }

    #[test]
    fn a_seek_names_offsets_ends_or_a_time() {
        let body = |words: &str| seek_body(&args(words), UNIX_EPOCH + Duration::from_secs(1_800_000_000)).unwrap();
        assert_eq!(
            body("--to 7 -p 1 -p 2"),
            json!({ "topic": "t", "partitions": [1, 2], "to": { "offset": 7 }, "dry_run": false })
        );
        assert_eq!(body("--to earliest --dry-run"), json!({ "topic": "t", "to": "beginning", "dry_run": true }));
        assert_eq!(body("--to latest")["to"], "end");
        assert_eq!(body("--since 10m")["to"], json!({ "timestamp": 1_799_999_400_000_i64 }));
        assert!(seek_body(&args("--since never"), SystemTime::now()).is_err());
        assert!(Line::try_parse_from(["seek", "mail", "--topic", "t"]).is_err());
        assert!("somewhere".parse::<Destination>().is_err());
    }

    #[test]
    fn a_seek_shows_what_was_and_what_is() {
        let reply: SeekReply = serde_json::from_value(json!({ "offsets": [
            { "topic": "t", "partition": 0, "committed": 1200, "offset": 7, "lag": 2000 },
            { "topic": "t", "partition": 1, "committed": null, "offset": 0 },
        ] }))
        .unwrap();
        let terminal = Terminal { format: OutputFormat::Table, color: false };
        let text = sought(terminal, &args("--to 7"), &reply);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words,
            "partition committed goes to lag then t/0 1,200 7 2,000 t/1 none 0 - group mail reads on there"
        );
        assert!(sought(terminal, &args("--to 7 --dry-run"), &reply).contains("nothing was changed"));
    }
}
