//! `pubg1 cluster observe`: runs a command that disturbs a cluster, and tells what the cluster does
//! about it, in milliseconds.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use clap::Args;
use pubg1_model::BrokerId;
use serde_json::{Value, json};

use super::wait::POLL_FAST;
use crate::{
    client::Client,
    error::CommandError,
    terminal::{Terminal, print_text},
    view::{
        View,
        changes::{Seen, or_none},
    },
};

/// What `--help` says at its end.
pub const HELP: &str = "\
It looks first, runs the command, and then asks again and again; each change is a line. It ends when
all partitions that were led before are led again; with --without, also by another broker than that
one, which then neither decides about the cluster nor counts as alive. Exit code 10 when that does
not happen in time. Give brokers that survive with --broker.

Examples:
  pubg1 cluster observe --without 2 -- kill -9 4711
  pubg1 cluster observe --broker a:8000,b:8000 --without 2 -- ssh c systemctl stop pubg1";

/// `pubg1 cluster observe`.
#[derive(Clone, Debug, Args)]
pub struct ObserveArgs {
    /// Expect that the cluster does without this broker
    #[arg(long, value_name = "N")]
    pub without: Option<u32>,
    /// How long to observe
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Observe for the whole of that time, whether or not the cluster settles
    #[arg(long)]
    pub whole: bool,
    /// The command that is run after the first look
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Observes.
///
/// # Errors
/// The command's failure, and [`CommandError::Unhealthy`] when the cluster does not settle.
pub async fn run(client: &Client, terminal: Terminal, args: &ObserveArgs) -> Result<(), CommandError> {
    let before = View::look(client).await?;
    let without = args.without.map(BrokerId);
    let (mut seen, _) = Seen::default().changes(&before);
    let mut changes: Vec<Value> = Vec::new();
    let begun = Instant::now();
    let command = args.command.clone();
    // It is not waited for: what it does may show before it ends.
    let running = tokio::spawn(async move { disturb(&command).await });
    let mut last = "no broker answers".to_owned();
    let mut unanswered = false;
    let mut latest = before.clone();
    while begun.elapsed() < args.timeout {
        let looked = View::look(client).await;
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut tell = |text: String| {
            let printed = if terminal.json() { Ok(()) } else { print_text(&format!("{ms:>6} ms  {text}")) };
            changes.push(json!({ "ms": ms, "change": text }));
            printed
        };
        match looked {
            Ok(view) => {
                let (next, told) = seen.changes(&view);
                seen = next;
                unanswered = false;
                told.into_iter().try_for_each(&mut tell)?;
                match unsettled(&before, &view, without) {
                    Some(reason) => last = reason,
                    None if args.whole => {}
                    None if running.is_finished() => {
                        finish(running).await?;
                        return report(terminal, &view, Some(ms), &changes);
                    }
                    None => "the command still runs".clone_into(&mut last),
                }
                latest = view;
            }
            Err(error) if error.is_retriable() => {
                last = error.to_string();
                if !std::mem::replace(&mut unanswered, true) {
                    tell(last.clone())?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(POLL_FAST).await;
    }
    if running.is_finished() {
        finish(running).await?;
    }
    if args.whole {
        return report(terminal, &latest, None, &changes);
    }
    Err(CommandError::Unhealthy(format!("after {}: {last}", humantime::format_duration(args.timeout))))
}

async fn disturb(command: &[String]) -> Result<(), CommandError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut running = tokio::process::Command::new(program);
    let status = running.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status().await;
    let status = status.map_err(|error| CommandError::Failed(format!("cannot run {program}: {error}")))?;
    if status.success() { Ok(()) } else { Err(CommandError::Failed(format!("{}: {status}", command.join(" ")))) }
}

async fn finish(running: tokio::task::JoinHandle<Result<(), CommandError>>) -> Result<(), CommandError> {
    running.await.unwrap_or_else(|error| Err(CommandError::Failed(error.to_string())))
}

/// What is still to happen; `None` when the cluster has settled.
fn unsettled(before: &View, now: &View, without: Option<BrokerId>) -> Option<String> {
    if without.is_some() && now.cluster.controller == without {
        return Some(format!("broker {} is the controller", or_none(without)));
    }
    if now.cluster.controller.is_none() {
        return Some("there is no controller".to_owned());
    }
    let counted = |broker: &&crate::client::reply::BrokerReply| Some(broker.broker_id) == without;
    if now.cluster.brokers.iter().find(counted).is_some_and(|broker| broker.alive == Some(true)) {
        return Some(format!("broker {} counts as alive", or_none(without)));
    }
    let was_led = |name: &crate::view::PartitionName| {
        before.partitions().any(|(other, partition)| other == *name && partition.leader().is_some())
    };
    now.partitions().find_map(|(name, partition)| match partition.leader() {
        None if was_led(&name) => Some(format!("nobody leads {name}")),
        Some(leader) if Some(leader) == without => Some(format!("broker {leader} leads {name}")),
        _ => None,
    })
}

fn report(terminal: Terminal, view: &View, ms: Option<u64>, changes: &[Value]) -> Result<(), CommandError> {
    if !terminal.json() {
        return ms
            .map_or(Ok(()), |ms| print_text(&format!("{ms:>6} ms  settled: every partition that was led is led")));
    }
    let leaders = view.partitions().filter(|(name, _)| !name.topic.is_internal()).map(|(name, partition)| {
        json!({
            "topic": name.topic, "partition": name.partition,
            "leader": partition.leader(), "leader_epoch": partition.leader_epoch,
        })
    });
    let document = json!({
        "settled_ms": ms,
        "controller": view.cluster.controller,
        "changes": changes,
        "leaders": leaders.collect::<Vec<_>>(),
    });
    terminal.print(&document, |_| String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::a_view;

    #[test]
    fn a_cluster_has_settled_when_others_do_what_the_broker_did() {
        let before = a_view();
        let mut now = before.clone();
        let reason = |now: &View, without: u32| unsettled(&before, now, Some(BrokerId(without))).unwrap_or_default();
        assert_eq!(reason(&now, 1), "broker 1 is the controller");
        assert_eq!(reason(&now, 0), "broker 0 counts as alive");
        now.cluster.brokers[0].alive = Some(false);
        assert_eq!(reason(&now, 0), "broker 0 leads flights/0");
        now.topics[0].partitions[0].leader = -1;
        assert_eq!(reason(&now, 0), "nobody leads flights/0");
        now.topics[0].partitions[0].leader = 1;
        // flights/1 was led by nobody before either.
        assert_eq!(unsettled(&before, &now, Some(BrokerId(0))), None);
        assert_eq!(unsettled(&before, &now, None), None);
        now.cluster.controller = None;
        assert_eq!(reason(&now, 0), "there is no controller");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told() {
        assert!(disturb(&[]).await.is_ok());
        assert!(disturb(&["true".to_owned()]).await.is_ok());
        let error = disturb(&["false".to_owned()]).await.unwrap_err();
        assert!(error.to_string().starts_with("false: exit status: 1"), "{error}");
        assert!(disturb(&["/no/such/program".to_owned()]).await.is_err());
    }
}
