//! The command line: what can be said, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::styling};

use crate::{
    commands::{consume::ConsumeArgs, demo::DemoArgs, produce::ProduceArgs, topic::TopicCommand},
    terminal::OutputFormat,
};

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default().bold())
    .placeholder(styling::AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  pubg1 demo                                   real data, a kill -9 in the middle, nothing lost
  pubg1 broker                                 a broker on port 8000, data in ./data
  pubg1 topic create flights --partitions 4
  echo hello | pubg1 produce flights
  pubg1 consume flights --until-end -f '%p %o %k %v\\n'
  curl -s localhost:8000/topics                everything is plain HTTP; try /docs in a browser

Data goes to standard output, everything else to standard error.

Exit codes:
  0   done
  1   failed (no broker there, refused, records lost)
  2   the command line or the configuration is wrong
  10  asked, and the answer is: unhealthy";

/// PubG1, a distributed, replicated, partitioned log.
#[derive(Debug, Parser)]
#[command(name = "pubg1", version, about = "A distributed, replicated, partitioned log", after_help = EXAMPLES,
    styles = STYLES, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalArgs {
    /// The broker to talk to
    #[arg(long, global = true, value_name = "URL", env = "PUBG1_BROKER", default_value = "http://127.0.0.1:8000")]
    pub broker: String,
    /// How answers are printed
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: OutputFormat,
    /// No colour (also: the variable NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker
    #[command(after_help = BROKER_HELP)]
    Broker(BrokerCommand),
    /// Create, list, describe, alter, delete and trim topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Send records from a file or standard input
    #[command(after_help = crate::commands::produce::HELP)]
    Produce(ProduceArgs),
    /// Read records
    #[command(after_help = crate::commands::consume::HELP)]
    Consume(ConsumeArgs),
    /// Ask about the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show or check a broker's configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the OpenAPI document of the HTTP interface
    Openapi,
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  pubg1 completions bash > ~/.local/share/bash-completion/completions/pubg1")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Load real data, kill the broker in the middle, and count what is lost
    #[command(after_help = crate::commands::demo::HELP)]
    Demo(DemoArgs),
}

const BROKER_HELP: &str = "\
Without any option this is a working single node: data in ./data, port 8000 of this machine.

Every setting has one name: `log.flush` in the file (TOML), PUBG1_LOG_FLUSH in the environment.
Flags lie over the environment, the environment over the file, the file over the defaults.
`pubg1 config show --origin` prints all of them and where each value comes from.

There is no authentication yet. The broker therefore refuses to listen where other machines reach
it, unless --allow-remote says that everybody there may read, write and delete everything.

Once it listens it prints one line to standard output, `http=http://127.0.0.1:8000`, and writes the
same URL to DATA/http.addr and its process id to DATA/broker.pid. The log goes to standard error.
SIGTERM or Ctrl-C: it stops accepting, finishes what is under way, flushes, and exits with 0; a
second one ends it at once.

Examples:
  pubg1 broker
  pubg1 broker --data-dir /var/lib/pubg1 --http 127.0.0.1:8100 --flush interval=50
  pubg1 broker --http 127.0.0.1:0              a free port
  PUBG1_LOGGING_FORMAT=json pubg1 broker --config pubg1.toml";

/// `pubg1 broker`.
#[derive(Clone, Debug, Args)]
pub struct BrokerCommand {
    /// The settings.
    #[command(flatten)]
    pub settings: BrokerArgs,
    /// End in order when standard input ends, for programs that start a broker
    #[arg(long)]
    pub exit_with_stdin: bool,
}

/// Settings of a broker that have a flag. The flags take text: the configuration checks it, so
/// that a bad value is refused alike wherever it stands.
#[derive(Clone, Debug, Default, Args)]
pub struct BrokerArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "PUBG1_CONFIG")]
    pub config: Option<PathBuf>,
    /// Number of this broker in its cluster [default: 0]
    #[arg(long, value_name = "N")]
    pub node_id: Option<String>,
    /// Address for clients; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<String>,
    /// Address for other brokers; a lone broker opens no port there [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub rpc: Option<String>,
    /// Directory that holds everything [default: data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// What clients are told to connect to [default: derived from --http]
    #[arg(long, value_name = "URL")]
    pub advertise_http: Option<String>,
    /// When a record counts as stored: quorum (on disk), or interval=MS [default: quorum]
    #[arg(long, value_name = "POLICY")]
    pub flush: Option<String>,
    /// Threads that serve HTTP [default: the cores, 2 to 8]
    #[arg(long, value_name = "N")]
    pub http_workers: Option<String>,
    /// Log lines as text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Which log lines: error, warn, info, debug, trace, or target=level,… [default: info,actix_server=warn]
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// Listen where other machines reach it, although nobody is authenticated
    #[arg(long)]
    pub allow_remote: bool,
}

impl BrokerArgs {
    /// The settings that were given as flags.
    #[must_use]
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("node_id", &self.node_id),
            ("http", &self.http),
            ("rpc", &self.rpc),
            ("data_dir", &self.data_dir),
            ("advertise_http", &self.advertise_http),
            ("log.flush", &self.flush),
            ("http_workers", &self.http_workers),
            ("logging.format", &self.log_format),
            ("logging.filter", &self.log_filter),
        ];
        let mut flags: Vec<_> = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
        if self.allow_remote {
            flags.push(("allow_remote", true.to_string()));
        }
        flags
    }
}

/// `pubg1 cluster`.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// The cluster and whether the broker is ready (exit code 10 when it is not)
    #[command(after_help = "Example:\n  pubg1 cluster info -o json | jq .ready")]
    Info,
}

/// `pubg1 config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, as a file that `--config` reads
    #[command(
        after_help = "Examples:\n  pubg1 config show > pubg1.toml\n  pubg1 config show --origin --config pubg1.toml --flush interval=50"
    )]
    Show {
        /// Also print where each value comes from
        #[arg(long)]
        origin: bool,
        /// The settings.
        #[command(flatten)]
        settings: BrokerArgs,
    },
    /// Say whether a broker would accept this configuration (exit code 2 when not)
    #[command(after_help = "Example:\n  pubg1 config check --config pubg1.toml")]
    Check {
        /// The settings.
        #[command(flatten)]
        settings: BrokerArgs,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_table_of_settings_exists() {
        let command = Cli::command();
        let broker = command.find_subcommand("broker").unwrap();
        for setting in &SETTINGS {
            if let Some(flag) = setting.flag {
                assert!(broker.get_arguments().any(|a| a.get_long() == flag.strip_prefix("--")), "{flag}");
            }
        }
    }
}
