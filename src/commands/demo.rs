//! `pubg1 demo`.

use clap::Args;

use crate::{
    demo::{self, Launch, Plan},
    error::CommandError,
    terminal::{Terminal, grouped},
};

/// What `--help` says at its end.
pub const HELP: &str = "\
Starts a broker process on a free port with a temporary data directory, loads the flights that left
New York in January 2013 (over and over), reads them back while they are written, kills the broker
with kill -9 in the middle and starts it again. Every acknowledged record must be found at the
offset that its acknowledgement named. Exit code 1 when one is lost, moved or doubled.

Examples:
  pubg1 demo
  pubg1 demo --records 1000000 --kills 5
  pubg1 demo --flush interval=50 -o json";

/// `pubg1 demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many records to send
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000_000)]
    pub records: u64,
    /// Partitions of the topic
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub partitions: u32,
    /// How often the broker is killed on the way
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub kills: u64,
    /// The broker's flush policy: quorum (on disk before it counts) or interval=MS
    #[arg(long, value_name = "POLICY", default_value = "quorum")]
    pub flush: String,
    /// Leave the data directory and the broker's log behind
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demo.
///
/// # Errors
/// [`CommandError::Failed`] when a record is lost, moved or doubled, or the broker fails.
pub async fn run(terminal: Terminal, args: DemoArgs) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::Failed(format!("cannot make a temporary directory: {error}"));
    let mut directory = tempfile::Builder::new().prefix("pubg1-demo-").tempdir().map_err(failed)?;
    directory.disable_cleanup(args.keep);
    let plan = Plan {
        records: args.records,
        partitions: args.partitions,
        kill_at: Plan::even_kills(args.records, args.kills),
        kill_while_starting: false,
        flush: args.flush,
        launch: Launch {
            program: vec![demo::this_program()?.into()],
            data_dir: directory.path().join("data"),
            log: directory.path().join("broker.log"),
            arguments: Vec::new(),
        },
    };
    // Dropping the run ends the broker: after Ctrl-C and SIGTERM too.
    let report = tokio::select! {
        report = demo::run(&plan, terminal) => report,
        () = interrupted() => Err(CommandError::Failed("interrupted".to_owned())),
    };
    if args.keep {
        terminal.note(&format!("the data are in {}", directory.path().display()));
    }
    let report = report?;
    terminal.print(&report, |report| report.table(terminal))?;
    if report.is_clean() {
        let text =
            format!("all {} acknowledged records are where they were acknowledged", grouped(report.acknowledged));
        terminal.note(&text);
        return Ok(());
    }
    Err(CommandError::Failed(format!(
        "{} of {} acknowledged records are lost, {} moved, {} duplicated",
        report.lost, report.acknowledged, report.moved, report.duplicated
    )))
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}
