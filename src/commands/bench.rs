//! `pubg1 bench`.

mod command_line;
mod live;
mod output;

use std::{future::Future, sync::Arc, time::Duration};

use pubg1_bench::{
    engine::{self, Search},
    report::{Environment, Report},
    target::{Description, Target, TargetError, Topic},
    targets::{self, Options, pubg1::Surface},
    threshold::Threshold,
};

use super::demo::interrupted;
use crate::{
    cluster_process::{ClusterDirectory, ClusterLaunch, ClusterProcess},
    demo,
    error::CommandError,
    terminal::Terminal,
};
pub(super) use command_line::quoted;
pub use command_line::{BenchArgs, HELP};
use command_line::{Plan, Rate};
use live::Live;

/// A topic that gives nothing more for so long was read to its end.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(2);
/// Where a search begins that was given no rate.
const RAMP_FIRST_RATE: f64 = 1000.0;
/// How close the highest rate is searched for.
const RAMP_PRECISION: f64 = 1.1;
const RAMP_STEPS_MAX: u32 = 30;

/// Puts a load on a system and reports.
///
/// # Errors
/// [`CommandError::Unhealthy`] when a threshold was met, and whatever keeps the run from taking place.
pub async fn run(broker: &str, terminal: Terminal, args: BenchArgs) -> Result<(), CommandError> {
    let plan = Plan::of(&args, broker)?;
    let report = match args.cluster {
        Some(brokers) => on_own_cluster(&args, plan, brokers, terminal).await?,
        None => measure(&args, &plan, terminal).await?,
    };
    output::write(&report, &args, terminal)?;
    let failed: Vec<String> = report
        .thresholds
        .iter()
        .filter(|threshold| threshold.failed)
        .map(|threshold| format!("{}: {}", threshold.text, threshold.measured))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(CommandError::Unhealthy(failed.join("; "))) }
}

async fn on_own_cluster(
    args: &BenchArgs,
    mut plan: Plan,
    brokers: u32,
    terminal: Terminal,
) -> Result<Report, CommandError> {
    let directory = ClusterDirectory::of(args.data_dir.as_deref(), "pubg1-bench-")?;
    let launch = ClusterLaunch {
        program: vec![demo::this_program()?.into()],
        directory: directory.path().to_owned(),
        brokers,
        arguments: vec!["--flush".to_owned(), args.flush().to_owned()],
    };
    let cluster = unless_interrupted(launch.start()).await?;
    plan.target = cluster.urls().join(",");
    plan.workload.processes.extend(processes(&cluster));
    let report = measure(args, &plan, terminal).await;
    if let Err(error) = cluster.end().await {
        // What was measured is worth more than how a broker ended; it may have been killed on purpose.
        terminal.note(&error.to_string());
    }
    report
}

/// Does it unless Ctrl-C or SIGTERM comes first. What is dropped then ends its threads and processes.
async fn unless_interrupted<T>(doing: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    tokio::select! {
        done = doing => done,
        () = interrupted() => Err(CommandError::Failed("interrupted".to_owned())),
    }
}

/// The brokers' processes by their names.
fn processes(cluster: &ClusterProcess) -> Vec<(String, u32)> {
    cluster.nodes().iter().filter_map(|node| Some((format!("broker {}", node.id), node.pid()?))).collect()
}

/// Opens the target, runs, and fills the report.
async fn measure(args: &BenchArgs, plan: &Plan, terminal: Terminal) -> Result<Report, CommandError> {
    let target: Arc<dyn Target> = Arc::from(open(&plan.target, &plan.options)?);
    let description = target.prepare(&plan.topic).await.map_err(failed)?;
    let measured = unless_interrupted(drive(args, plan, &target, terminal)).await;
    // What was made for the run goes, whatever became of it.
    let cleaned = if args.topic.is_none() { target.clean(&plan.topic).await } else { Ok(()) };
    let mut report = measured?;
    if let Err(error) = cleaned {
        terminal.note(&format!("topic {} could not be removed: {error}", plan.topic.name));
    }
    describe(&mut report, args, plan, description);
    report.thresholds = args.fail_if.iter().map(|threshold| threshold.judge(&report)).collect();
    Ok(report)
}

fn open(url: &str, options: &Options) -> Result<Box<dyn Target>, CommandError> {
    targets::open(url, options).map_err(|error| match error {
        TargetError::Unsupported(reason) => CommandError::Usage(reason),
        error => failed(error),
    })
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: TargetError) -> CommandError {
    CommandError::Failed(error.to_string())
}

/// The load itself: one run, or as many as a search takes.
async fn drive(
    args: &BenchArgs,
    plan: &Plan,
    target: &Arc<dyn Target>,
    terminal: Terminal,
) -> Result<Report, CommandError> {
    let (topic, workload) = (&plan.topic, &plan.workload);
    let live = Live::new(terminal, workload);
    let mut report = match &args.ramp {
        Some(objective) => {
            let first = workload.rate.unwrap_or(RAMP_FIRST_RATE);
            let search = Search::new(objective.clone(), first, RAMP_PRECISION, RAMP_STEPS_MAX);
            let (ramp, best) = engine::ramp(target, topic, workload, search, &live).await.map_err(failed)?;
            let mut report = best.map(|(_, measured)| measured.report()).unwrap_or_default();
            report.ramp = Some(ramp);
            report
        }
        None => engine::run(target, topic, workload, &live).await.map_err(failed)?.report(),
    };
    live.finish();
    if args.catch_up {
        let everything = u64::MAX;
        match engine::catch_up(target, topic, everything, CATCH_UP_PATIENCE).await {
            Ok(caught_up) => report.catch_up = Some(caught_up),
            // The run itself was measured.
            Err(error) => terminal.note(&format!("it could not be read again: {error}")),
        }
    }
    Ok(report)
}

fn describe(report: &mut Report, args: &BenchArgs, plan: &Plan, description: Description) {
    report.title = format!("bench of {}", description.name);
    report.command = args.command();
    report.environment = Environment::here();
    report.settings = plan.settings(args, &description);
    report.system = description;
}

/// A topic for this run alone.
fn fresh_topic() -> String {
    format!("bench-{:016x}", crate::verify::brokers::Dice::any_seed())
}

impl Plan {
    /// What the arguments mean.
    fn of(args: &BenchArgs, broker: &str) -> Result<Self, CommandError> {
        let partitions = args.partitions.unwrap_or_else(|| args.partition.map_or(1, |partition| partition + 1));
        if let Some(partition) = args.partition.filter(|partition| *partition >= partitions) {
            return Err(CommandError::Usage(format!("there is no partition {partition} of {partitions}")));
        }
        let greedy = matches!(args.rate, Rate::Max);
        if greedy && args.closed_loop {
            return Err(CommandError::Usage(
                "--rate max is a closed loop of its own; --closed-loop needs a rate".to_owned(),
            ));
        }
        if args.catch_up && args.target.as_deref().is_some_and(|target| target.starts_with("sink")) {
            return Err(CommandError::Usage("the sink keeps nothing that could be read again".to_owned()));
        }
        let foreign = |target: &str| !target.starts_with("http://");
        if args.surface != Surface::Batches && args.target.as_deref().is_some_and(foreign) {
            return Err(CommandError::Usage("--surface is PubG1's; other systems have one route".to_owned()));
        }
        if args.ramp.as_ref().is_some_and(|objective| !objective.is_objective()) {
            return Err(CommandError::Usage("--ramp keeps to a time that shall be short, as 'p99<20ms'".to_owned()));
        }
        let mut demands = args.fail_if.iter().chain(&args.ramp);
        if args.consumers == 0 && demands.any(Threshold::needs_consumers) {
            return Err(CommandError::Usage("without consumers nobody knows of e2e and lost".to_owned()));
        }
        let topic = Topic {
            name: args.topic.clone().unwrap_or_else(fresh_topic),
            partitions,
            partition: args.partition,
            replicas: args.replicas,
            record_bytes: args.record_bytes,
            acks: args.acks.0,
            group: args.group.clone(),
        };
        Ok(Self {
            target: args.target.clone().unwrap_or_else(|| with_scheme(broker)),
            options: Options {
                surface: args.surface,
                in_flight: args.in_flight,
                delivery_timeout: args.delivery_timeout,
            },
            workload: args.workload(),
            topic,
        })
    }
}

/// `--broker` may leave the scheme out, for each of its brokers.
fn with_scheme(brokers: &str) -> String {
    let url = |broker: &str| match broker.trim() {
        url if url.contains("://") => url.to_owned(),
        host => format!("http://{host}"),
    };
    brokers.split(',').map(url).collect::<Vec<_>>().join(",")
}
