//! `pubg1 cluster info|health|wait|controller|observe|rebalance`; without one of these, see
//! [`crate::launcher`].

pub mod info;
pub mod observe;
pub mod wait;

use std::time::Duration;

use clap::{Args, Subcommand};
use pubg1_model::TopicName;

use crate::{client::Client, error::CommandError, launcher::StartArgs, terminal::Terminal, view::broker_list};

/// What `--help` says at its end.
pub const HELP: &str = "\
Without a command it starts brokers as processes of this machine: broker I has http on BASE-PORT+I,
rpc on BASE-PORT+1000+I, its data in DIR/broker-I, and its log in DIR/broker-I/broker.log. It shows
who leads what until Ctrl-C or SIGTERM, and ends the brokers in order then. They end with it even
when it is killed. A broker that dies is shown as dead and stays so, unless --restart-after says
otherwise.

DIR/cluster.json has the process ids, addresses and command lines, for programs; the scripts
(kill-leader, pause-broker, cut-link and others) find the cluster by it. Started again on the same
DIR, the cluster goes on; with more --brokers, the new ones join it.

Examples:
  pubg1 cluster --brokers 4 --base-port 8000 --data-dir data
  pubg1 cluster --brokers 3 --flush interval=50 --set topic.partitions=12 --restart-after 5s
  pubg1 cluster -o json | jq .controller               one line for each change
  pubg1 cluster wait --brokers 4 --topic flights && echo ready
  pubg1 cluster health || echo \"exit code $?\"          10 when something is wrong";

/// `pubg1 cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// About a cluster that runs.
    #[command(subcommand)]
    pub command: Option<ClusterCommand>,
    /// How one is started.
    #[command(flatten)]
    pub start: StartArgs,
}

impl ClusterArgs {
    /// What is asked of a cluster that runs. How one is started says nothing then, and is refused.
    ///
    /// # Errors
    /// [`CommandError::Usage`].
    pub fn question(&mut self) -> Result<Option<ClusterCommand>, CommandError> {
        let unchanged = StartArgs::unchanged().as_ref() == Some(&self.start);
        match self.command.take() {
            Some(_) if !unchanged => Err(CommandError::Usage("that is for starting a cluster".to_owned())),
            command => Ok(command),
        }
    }
}

/// What can be asked of a cluster that runs.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// The cluster, its brokers, and whether the one that answers is ready (exit code 10 when not)
    #[command(after_help = "Example:\n  pubg1 cluster info -o json | jq .cluster.controller")]
    Info,
    /// Whether all is well (exit code 10 when not)
    #[command(after_help = "Example:\n  pubg1 cluster health || echo \"exit code $?\"")]
    Health,
    /// Wait until all brokers are alive and all partitions are led and in sync (exit code 10 when they are not)
    #[command(after_help = "Example:\n  pubg1 cluster wait --brokers 4 --topic flights --timeout 1m")]
    Wait(WaitArgs),
    /// The broker that decides about the cluster
    #[command(after_help = "Example:\n  pubg1 cluster controller --other-than 2   # waits for the next one")]
    Controller {
        /// Wait until it is another broker than this one
        #[arg(long, value_name = "N")]
        other_than: Option<u32>,
        /// Count the milliseconds from this time on: milliseconds since 1970 [default: now]
        #[arg(long, value_name = "MS")]
        since_ms: Option<u64>,
        /// How long to wait
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Run a command that disturbs the cluster, and tell what the cluster does about it
    #[command(after_help = observe::HELP)]
    Observe(observe::ObserveArgs),
    /// Spread replicas and leaderships evenly over the brokers
    #[command(after_help = "Example:\n  pubg1 cluster rebalance --dry-run")]
    Rebalance {
        /// Only say what would move
        #[arg(long)]
        dry_run: bool,
    },
}

/// `pubg1 cluster wait`.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// That so many brokers are alive; all that are registered when absent
    #[arg(long, value_name = "N")]
    pub brokers: Option<u64>,
    /// That this topic is there; repeatable
    #[arg(long, value_name = "NAME")]
    pub topic: Vec<TopicName>,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// Does it.
///
/// # Errors
/// The broker's refusals, and [`CommandError::Unhealthy`] when the answer is no.
pub async fn run(client: &Client, terminal: Terminal, command: ClusterCommand) -> Result<(), CommandError> {
    match command {
        ClusterCommand::Info => info::info(client, terminal).await,
        ClusterCommand::Health => info::health(client, terminal).await,
        ClusterCommand::Wait(args) => wait::until_well(client, terminal, &args).await,
        ClusterCommand::Controller { other_than, since_ms, timeout } => {
            wait::controller(client, terminal, other_than, since_ms, timeout).await
        }
        ClusterCommand::Observe(args) => observe::run(client, terminal, &args).await,
        ClusterCommand::Rebalance { dry_run } => rebalance(client, terminal, dry_run).await,
    }
}

async fn rebalance(client: &Client, terminal: Terminal, dry_run: bool) -> Result<(), CommandError> {
    let plan = client.rebalance(dry_run).await?;
    terminal.print(&plan, |plan| {
        if plan.moves.is_empty() {
            return "everything is spread evenly: nothing moves".to_owned();
        }
        let rows = plan.moves.iter().map(|step| {
            vec![format!("{}/{}", step.topic, step.partition), broker_list(&step.from), broker_list(&step.to)]
        });
        let table = terminal.table(&["partition", "from", "to"], rows, &[]);
        let what = if dry_run { "would move; nothing was changed" } else { "begin to move" };
        format!("{table}\n\n{} partitions {what}", plan.moves.len())
    })
}
