//! `pubg1 broker drain|remove`.

use std::time::Duration;

use clap::Subcommand;
use pubg1_model::BrokerId;
use serde_json::json;

use super::cluster::wait::until;
use crate::{client::Client, error::CommandError, terminal::Terminal, view::View};

const POLL: Duration = Duration::from_millis(50);

/// `pubg1 broker drain|remove`.
#[derive(Debug, Subcommand)]
pub enum BrokerAdminCommand {
    /// Make a broker give its leaderships away, before it is stopped
    #[command(
        after_help = "A broker that is told to end by SIGTERM does this by itself. A drained one leads nothing until\nit is restarted, or --undo.\n\nExample:\n  pubg1 broker drain 1 --wait"
    )]
    Drain {
        /// The broker's number
        #[arg(value_name = "N")]
        id: u32,
        /// Wait until it leads nothing
        #[arg(long, conflicts_with = "undo")]
        wait: bool,
        /// Let it lead again
        #[arg(long)]
        undo: bool,
        /// How long to wait
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Take a broker out of the cluster for good; it must hold no replicas any more
    #[command(after_help = "Example:\n  pubg1 cluster rebalance --dry-run && pubg1 broker remove 3")]
    Remove {
        /// The broker's number
        #[arg(value_name = "N")]
        id: u32,
    },
}

/// Does it.
///
/// # Errors
/// The broker's refusals, and [`CommandError::Unhealthy`] when time is up.
pub async fn run(client: &Client, terminal: Terminal, command: BrokerAdminCommand) -> Result<(), CommandError> {
    match command {
        BrokerAdminCommand::Drain { id: broker, wait, undo, timeout } => {
            client.drain(BrokerId(broker), !undo).await?;
            if wait {
                leads_nothing(client, BrokerId(broker), timeout).await?;
            }
            let document = json!({ "broker": broker, "draining": !undo, "drained": wait });
            terminal.print(&document, |_| match (undo, wait) {
                (true, _) => format!("broker {broker} may lead again"),
                (false, true) => format!("broker {broker} leads nothing any more"),
                (false, false) => format!("broker {broker} gives its leaderships away"),
            })
        }
        BrokerAdminCommand::Remove { id: broker } => {
            client.remove_broker(BrokerId(broker)).await?;
            terminal.print(&json!({ "removed": broker }), |_| format!("broker {broker} is removed"))
        }
    }
}

async fn leads_nothing(client: &Client, broker: BrokerId, timeout: Duration) -> Result<(), CommandError> {
    until(timeout, POLL, || async {
        let leads = View::look(client).await?.loads().get(&broker).copied().unwrap_or_default().leads;
        Ok(if leads == 0 { Ok(()) } else { Err(format!("broker {broker} still leads {leads} partitions")) })
    })
    .await
}
