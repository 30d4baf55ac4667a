//! The command line: what can be said, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::styling};

use crate::{
    commands::{
        bench::BenchArgs,
        broker::BrokerAdminCommand,
        cluster::{ClusterArgs, HELP as CLUSTER_HELP},
        consume::ConsumeArgs,
        demo::DemoArgs,
        group::GroupCommand,
        partition::PartitionCommand,
        produce::ProduceArgs,
        report::ReportArgs,
        stream::StreamCommand,
        topic::TopicCommand,
        verify::VerifyArgs,
    },
    error::CommandError,
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
  pubg1 cluster --brokers 4                    four of them, ports 8000 to 8003, and a live table
  pubg1 topic create flights --partitions 4
  echo hello | pubg1 produce flights
  pubg1 consume flights --until-end -f '%p %o %k %v\\n'
  pubg1 consume --group mail flights           a part of it; others in the group read the rest
  pubg1 stream create --query busy.sql         windows of time, counted as records come
  curl -s localhost:8000/topics                everything is plain HTTP; try /docs in a browser

Data goes to standard output, everything else to standard error.

Exit codes:
  0   done
  1   failed (no broker there, refused, records lost)
  2   the command line or the configuration is wrong
  10  asked, and the answer is: unhealthy, or not as fast as demanded";

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
    /// The broker to talk to; of several, URL,URL,…, another one when one does not answer
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
    /// Run a broker; drain or remove one
    #[command(after_help = BROKER_HELP)]
    Broker(Box<BrokerCommand>),
    /// Create, list, describe, alter, delete and trim topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Move a partition, choose its leader, see who leads it
    #[command(subcommand)]
    Partition(PartitionCommand),
    /// Send records from a file or standard input
    #[command(after_help = crate::commands::produce::HELP)]
    Produce(ProduceArgs),
    /// Read records
    #[command(after_help = crate::commands::consume::HELP)]
    Consume(ConsumeArgs),
    /// List, describe, move and delete consumer groups
    #[command(subcommand)]
    Group(GroupCommand),
    /// Window queries: declare, watch, read and delete streams; run one over a file
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Run a cluster of broker processes; ask about one, wait for it, rebalance it
    #[command(after_help = CLUSTER_HELP)]
    Cluster(ClusterArgs),
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
    /// Write while faults happen, and check every acknowledgement
    #[command(after_help = crate::commands::verify::HELP)]
    Verify(VerifyArgs),
    /// Put a load on this or another system, and report how long records take
    #[command(after_help = crate::commands::bench::HELP)]
    Bench(Box<BenchArgs>),
    /// Show saved reports of bench and drill: text, one page, plots; compare several
    #[command(after_help = crate::commands::report::HELP)]
    Report(ReportArgs),
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
SIGTERM or Ctrl-C: it hands its leaderships over, stops accepting, finishes what is under way,
flushes, and exits with 0; a second one ends it at once.

Brokers become a cluster by the same --voters on each of them; a broker that is not in the list
joins. One machine: `pubg1 cluster --brokers 4` does all of it.

Examples:
  pubg1 broker
  pubg1 broker --node-id 1 --http 127.0.0.1:8001 --data-dir data/broker-1 \\
      --voters 0@127.0.0.1:9000,1@127.0.0.1:9001,2@127.0.0.1:9002
  pubg1 broker drain 1 --wait
  pubg1 broker --data-dir /var/lib/pubg1 --http 127.0.0.1:8100 --flush interval=50
  pubg1 broker --http 127.0.0.1:0              a free port
  PUBG1_LOGGING_FORMAT=json pubg1 broker --config pubg1.toml";

/// `pubg1 broker`.
#[derive(Debug, Args)]
pub struct BrokerCommand {
    /// About another broker, instead of running one.
    #[command(subcommand)]
    pub command: Option<BrokerAdminCommand>,
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
    /// Address for other brokers; closed without voters [default: its entry in --voters, else 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub rpc: Option<String>,
    /// What other brokers are told to connect to [default: its entry in --voters, else --rpc]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise_rpc: Option<String>,
    /// The brokers that keep the metadata, the same list everywhere [default: this one alone]
    #[arg(long, value_name = "ID@HOST:PORT,…")]
    pub voters: Option<String>,
    /// The cluster that it belongs to [default: the one that its data directory names]
    #[arg(long, value_name = "ID")]
    pub cluster_id: Option<String>,
    /// Where it stands: replicas are spread over racks
    #[arg(long, value_name = "NAME")]
    pub rack: Option<String>,
    /// Replicas of a new topic that does not say [default: 3]
    #[arg(long, value_name = "N")]
    pub replication_factor: Option<String>,
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
    /// Which log lines: error, warn, info, debug, trace, or target=level,… [default: info,actix_server=warn,openraft=off]
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// Listen where other machines reach it, although nobody is authenticated
    #[arg(long)]
    pub allow_remote: bool,
    /// Any setting, by its key; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::config::assignment)]
    pub set: Vec<(&'static str, String)>,
}

impl BrokerCommand {
    /// What is asked about another broker. Settings say nothing then, and are refused.
    ///
    /// # Errors
    /// [`CommandError::Usage`].
    pub fn administration(&mut self) -> Result<Option<BrokerAdminCommand>, CommandError> {
        let given = self.exit_with_stdin || !self.settings.flags().is_empty();
        match self.command.take() {
            Some(_) if given => Err(CommandError::Usage("settings are for running a broker".to_owned())),
            command => Ok(command),
        }
    }
}

impl BrokerArgs {
    /// The settings that were given as flags.
    #[must_use]
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("node_id", &self.node_id),
            ("http", &self.http),
            ("rpc", &self.rpc),
            ("advertise_rpc", &self.advertise_rpc),
            ("voters", &self.voters),
            ("cluster_id", &self.cluster_id),
            ("rack", &self.rack),
            ("replication_factor", &self.replication_factor),
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
        flags.extend(self.set.iter().cloned());
        flags
    }
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

    #[test]
    fn running_something_and_asking_about_it_do_not_mix() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' ')).unwrap().command;
        for words in
            ["pubg1 broker -o json drain 3 --wait", "pubg1 broker drain 3 --broker a:1", "pubg1 broker remove 3"]
        {
            let Command::Broker(mut broker) = parse(words) else { panic!("{words}") };
            assert!(broker.administration().unwrap().is_some(), "{words}");
        }
        let Command::Broker(mut broker) = parse("pubg1 broker --flush quorum drain 3") else { panic!("no broker") };
        assert_eq!(broker.administration().unwrap_err().exit_code(), 2);
        for words in ["pubg1 cluster info", "pubg1 cluster -o json info", "pubg1 cluster --broker a:1 wait --brokers 3"]
        {
            let Command::Cluster(mut cluster) = parse(words) else { panic!("{words}") };
            assert!(cluster.question().unwrap().is_some(), "{words}");
        }
        let Command::Cluster(mut cluster) = parse("pubg1 cluster --brokers 3 info") else { panic!("no cluster") };
        assert_eq!(cluster.question().unwrap_err().exit_code(), 2);
        let Command::Cluster(mut cluster) = parse("pubg1 cluster --brokers 3 -- --rack a") else {
            panic!("no cluster")
        };
        assert!(cluster.question().unwrap().is_none());
        assert_eq!(cluster.start.arguments, ["--rack", "a"]);
    }
}
