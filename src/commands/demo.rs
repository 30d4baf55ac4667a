//! `pubg1 demo`.

use std::path::Path;

use clap::Args;

use crate::{
    cluster_process::ClusterLaunch,
    demo::{self, Launch, Plan, cluster::ClusterPlan, windows::WindowCheck},
    error::CommandError,
    terminal::{Terminal, grouped},
};

/// What `--help` says at its end.
pub const HELP: &str = "\
Starts four broker processes on free ports with a temporary data directory, loads the flights that
left New York in January 2013 (over and over) through changing brokers, and reads them back while
they are written. Meanwhile a window query (flights and delays by origin and scheduled hour, for which
many come out of order and some too late) runs in the cluster, as a stream. On the way it kills the leader of a partition with kill -9, starts it again, kills
a follower, and starts that one again. Every acknowledged record must be found at the offset that
its acknowledgement named, every replica must hold the same bytes, and the query's rows must be those
of a plain computation over the same records, each once. Exit code 1 when a record is lost, moved or
doubled, replicas differ, or a row is not right.

With --brokers 1 a lone broker is killed and started again, and there is no window query.

Examples:
  pubg1 demo
  pubg1 demo --records 1000000 --kills 5
  pubg1 demo --brokers 1
  pubg1 demo --flush interval=50 -o json";

/// Records that a run sends unless it is told how many: as many as pass in half a minute or less.
const RECORDS: u64 = 400_000;
/// The same for a lone broker, which copies nothing.
const RECORDS_ALONE: u64 = 1_000_000;

/// `pubg1 demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many brokers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub brokers: u32,
    /// How many records to send [default: 400000, with one broker 1000000]
    #[arg(short = 'n', long, value_name = "N")]
    pub records: Option<u64>,
    /// Partitions of the topic
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub partitions: u32,
    /// How often a leader and a follower, or the lone broker, are killed on the way
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub kills: u64,
    /// The brokers' flush policy: quorum (on disk before it counts) or interval=MS
    #[arg(long, value_name = "POLICY", default_value = "quorum")]
    pub flush: String,
    /// Leave the data and the brokers' logs behind
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
    let running = async {
        match args.brokers {
            1 => demo::run(&alone(&args, directory.path())?, terminal).await,
            _ => demo::cluster::run(&together(&args, directory.path())?, terminal).await,
        }
    };
    // Dropping the run ends the brokers: after Ctrl-C and SIGTERM too.
    let report = tokio::select! {
        report = running => report,
        () = interrupted() => Err(CommandError::Failed("interrupted".to_owned())),
    };
    if args.keep {
        terminal.note(&format!("the data are in {}", directory.path().display()));
    }
    let report = report?;
    terminal.print(&report, |report| report.table(terminal))?;
    if report.is_clean() {
        let rows = report
            .windows
            .as_ref()
            .map(|windows| format!("; all {} rows of the window query are right", grouped(windows.expected)));
        let records = grouped(report.acknowledged);
        let rows = rows.unwrap_or_default();
        terminal.note(&format!("all {records} acknowledged records are where they were acknowledged{rows}"));
        return Ok(());
    }
    let replicas = report.cluster.as_ref().map(|failures| failures.replica_problems.join("; ")).unwrap_or_default();
    let replicas = if replicas.is_empty() { replicas } else { format!("; {replicas}") };
    let wrong = report.windows.as_ref().filter(|windows| !windows.is_clean());
    let rows = wrong.map(|windows| {
        let WindowCheck { expected, equal, surplus, late_wrong, example, .. } = windows;
        let example = example.as_deref().unwrap_or_default();
        format!(
            "; {equal} of {expected} rows of the window query are right, {surplus} are too many, {late_wrong} records \
             are wrongly late or in time: {example}"
        )
    });
    let rows = rows.unwrap_or_default();
    Err(CommandError::Failed(format!(
        "{} of {} acknowledged records are lost, {} moved, {} duplicated{replicas}{rows}",
        report.lost, report.acknowledged, report.moved, report.duplicated
    )))
}

fn alone(args: &DemoArgs, directory: &Path) -> Result<Plan, CommandError> {
    let records = args.records.unwrap_or(RECORDS_ALONE);
    Ok(Plan {
        records,
        partitions: args.partitions,
        kill_at: Plan::even_kills(records, args.kills),
        kill_while_starting: false,
        flush: args.flush.clone(),
        launch: Launch {
            program: vec![demo::this_program()?.into()],
            data_dir: directory.join("data"),
            log: directory.join("broker.log"),
            arguments: Vec::new(),
        },
    })
}

fn together(args: &DemoArgs, directory: &Path) -> Result<ClusterPlan, CommandError> {
    Ok(ClusterPlan {
        records: args.records.unwrap_or(RECORDS),
        partitions: args.partitions,
        kills: args.kills,
        flush: args.flush.clone(),
        launch: ClusterLaunch {
            program: vec![demo::this_program()?.into()],
            directory: directory.to_owned(),
            brokers: args.brokers,
            arguments: Vec::new(),
        },
    })
}

pub(super) async fn interrupted() {
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
