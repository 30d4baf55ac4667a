//! `pubg1 stream create|list|describe|pause|resume|delete|tail|windows`, and without a cluster `run|explain`: window
//! queries.

mod describe;
mod explain;
mod input;
mod manage;
mod outcome;
mod query;
mod rows;
mod run;
mod shown;
mod tail;
mod windows;

use clap::Subcommand;
use pubg1_model::StreamName;

use crate::{client::Client, error::CommandError, terminal::Terminal};

pub use manage::CreateArgs;
pub use query::QueryArgs;
pub use run::RunArgs;
pub use tail::TailArgs;
pub use windows::WindowsArgs;

const CREATE_HELP: &str = "\
The query reads a topic and writes its rows to another one, which is created if it is not there, as
is the topic of the records that are in no window. It runs on the brokers that lead the partitions
of its input, and goes on where it was when they change. `pubg1 stream explain` says first what a
query does; docs/STREAMS.md has the language.

With --replace a new generation is computed beside the present one, from its own start, and takes
its place when it has caught up.

Examples:
  pubg1 stream create --name busy --sql \"SELECT page, COUNT(*) AS n FROM TUMBLE(clicks, ts, '1m')
      GROUP BY page, window_start\"
  pubg1 stream create --query busy.sql --replace
  pubg1 stream describe busy
  pubg1 stream tail busy";

const DESCRIBE_HELP: &str = "\
Results are complete up to the watermark of the partition that is furthest behind: the one that
holds all back. What is in no window is counted by its reason, and is in the late topic.

Example:
  pubg1 stream describe busy -o json | jq '.partitions[] | select(.holds_back)'";

const RUN_HELP: &str = "\
The query runs here, without a broker, by the code that runs in one: the same records in the same
partitions give the same final rows. A record's partition follows from its key as in Kafka's clients;
records without a key go round. When the input ends, all windows are closed.

With -o json every row is one line as soon as its window closes, and the last line of standard
error counts what became of the records. A table is printed at the end.

Examples:
  pubg1 stream run --input demo/flights-2013-01.csv.gz --sql \"
      SELECT origin, window_start, COUNT(*) AS flights, AVG(dep_delay) AS delay
      FROM TUMBLE(flights, time, INTERVAL '1' DAY, timezone => 'America/New_York')
      GROUP BY origin, window_start\"
  tail -f access.ndjson | pubg1 stream run --input - --query busy.sql -o json
  pubg1 stream run --input events.ndjson --key-field user --partitions 4 --query sessions.json --late late.ndjson";

const EXPLAIN_HELP: &str = "\
Prints what the query does, then the document that it is compiled to: what a cluster would store.

Example:
  pubg1 stream explain --sql \"SELECT COUNT(*) AS n FROM SESSION(clicks, ts, INTERVAL '30' MINUTE) GROUP BY window_start\"";

/// `pubg1 stream`.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// What a cluster is asked.
    #[command(flatten)]
    Cluster(ClusterCommand),
    /// What needs none.
    #[command(flatten)]
    Local(LocalCommand),
}

/// `pubg1 stream`, as far as a cluster answers.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Declare a stream: a query that is answered as records come
    #[command(after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List all streams: state, what they read, where their rows go
    #[command(alias = "ls")]
    List,
    /// Show how a stream is: how far in each partition, which one holds it back, what was late
    #[command(after_help = DESCRIBE_HELP)]
    Describe {
        /// The stream
        name: StreamName,
    },
    /// Have a stream stand still; it keeps all that it knows
    Pause {
        /// The stream
        name: StreamName,
    },
    /// Have a paused stream go on where it stopped
    Resume {
        /// The stream
        name: StreamName,
    },
    /// Delete a stream and what it knows; its rows stay in their topic
    #[command(alias = "rm")]
    Delete {
        /// The stream
        name: StreamName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Follow the rows of a stream
    #[command(after_help = tail::HELP)]
    Tail(TailArgs),
    /// Show windows of a stream: those that are open, and those that are closed and kept
    #[command(after_help = windows::HELP)]
    Windows(WindowsArgs),
}

/// `pubg1 stream`, as far as it needs no cluster.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Run a query over a file, without a cluster
    #[command(after_help = RUN_HELP)]
    Run(Box<RunArgs>),
    /// Say what a query does, and print its document
    #[command(after_help = EXPLAIN_HELP)]
    Explain(QueryArgs),
}

/// Does what a cluster is asked.
///
/// # Errors
/// The query's, and the broker's refusals.
pub async fn run(client: &Client, terminal: Terminal, command: ClusterCommand) -> Result<(), CommandError> {
    match command {
        ClusterCommand::Create(args) => manage::create(client, terminal, &args).await,
        ClusterCommand::List => manage::list(client, terminal).await,
        ClusterCommand::Describe { name } => describe::run(client, terminal, &name).await,
        ClusterCommand::Pause { name } => manage::pause(client, terminal, &name).await,
        ClusterCommand::Resume { name } => manage::resume(client, terminal, &name).await,
        ClusterCommand::Delete { name, yes } => manage::delete(client, terminal, &name, yes).await,
        ClusterCommand::Tail(args) => tail::run(client, terminal, &args).await,
        ClusterCommand::Windows(args) => windows::run(client, terminal, &args).await,
    }
}

/// Does what needs no cluster.
///
/// # Errors
/// The query's, the input's, and those of standard output.
pub fn run_here(terminal: Terminal, command: LocalCommand) -> Result<(), CommandError> {
    match command {
        LocalCommand::Run(args) => run::run(terminal, &args),
        LocalCommand::Explain(args) => explain::run(terminal, &args),
    }
}
