//! `pubg1 stream run|explain`: window queries.

mod explain;
mod input;
mod outcome;
mod query;
mod rows;
mod run;

use clap::Subcommand;

use crate::{error::CommandError, terminal::Terminal};

pub use query::QueryArgs;
pub use run::RunArgs;

const RUN_HELP: &str = "\
The query runs here, without a broker, by the code that runs in one: the same records in the same
partitions give the same rows. A record's partition follows from its key as in Kafka's clients;
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
    /// Run a query over a file, without a cluster
    #[command(after_help = RUN_HELP)]
    Run(Box<RunArgs>),
    /// Say what a query does, and print its document
    #[command(after_help = EXPLAIN_HELP)]
    Explain(QueryArgs),
}

/// Does what the command line says.
///
/// # Errors
/// The query's, the input's, and those of standard output.
pub fn run(terminal: Terminal, command: StreamCommand) -> Result<(), CommandError> {
    match command {
        StreamCommand::Run(args) => run::run(terminal, &args),
        StreamCommand::Explain(args) => explain::run(terminal, &args),
    }
}
