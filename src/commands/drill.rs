//! `pubg1 drill`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand};
use pubg1_bench::{report::Report, threshold::Threshold};

use super::{
    bench::quoted,
    block_on,
    demo::interrupted,
    report::{files, text},
};
use crate::{
    cluster_process::{ClusterDirectory, ClusterLaunch},
    demo::this_program,
    drill::{
        self, Drill,
        fit::{self, Shape},
        needs,
        network::Network,
        plan::{DrillPlan, Need},
        plans::{NamedPlan, PLANS},
    },
    error::CommandError,
    terminal::{Terminal, grouped, print_text},
    verify::brokers::Dice,
};

/// What `--help` says at its end.
pub const HELP: &str = "\
A drill starts a cluster of its own, sends records on a schedule that does not wait for it, breaks
something at given times, and says for each fault, in milliseconds from when it was injected:
  detected       a broker that is left knows: the victim counts as dead, or has lost a leadership
  elected        every partition that lost its leader has another one
  first write    every such partition has acknowledged a record since
  full replicas  all brokers are back and all replicas in sync; with the time until the fault was
                 taken back
  unavailable    the longest time in which records of a partition waited and none was acknowledged
Response times count from when a record was due, through every attempt. In the end the checker of
`pubg1 verify` reads every replica: acknowledged, lost, moved, duplicated. Exit code 1 when a promise
was broken, 10 when a --fail-if is true.

--plan is a name (`pubg1 drill plans` lists them) or a file with a fault on each line:
  rate 100                          records per second
  duration 40s
  at 5s: kill leader 0 for 5s       killed, and started again after 5 s
  at 15s: pause follower for 3s     # a comment
Faults, each with a target and `for TIME`; ROOT: it takes root and some programs.
  kill       kill -9                       cut        no other broker hears it, nor it them (ROOT)
  stop       SIGTERM: it hands over        one-way    it hears the others, none hears it (ROOT)
  pause      SIGSTOP                       bridge     one other hears it, the rest do not (ROOT)
  slow-disk  its disk stands still for 100 ms, goes for 25 ms, and so on (ROOT)
  fill-disk  its disk is full (ROOT)
  power-cut  what was not synced is gone, and it is killed (ROOT)
  rolling    stops and starts one broker after the other; without target and time
A target is leader, follower (both may name a partition), data-leader, controller, broker N, or all.

Examples:
  pubg1 drill                                    the leader dies at 5 s, a follower at 15 s
  pubg1 drill --plan pause --rate 1000
  pubg1 drill --plan leader --repeat 50          median and p99 of every time
  sudo pubg1 drill --plan cut --html cut.html
  pubg1 drill --fail-if 'p99>500ms' --fail-if 'lost>0' --save drill.json
  pubg1 drill plans classic > mine.plan          a file to begin with
  pubg1 drill --plan mine.plan";

/// `pubg1 drill`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DrillArgs {
    /// Something else than a drill.
    #[command(subcommand)]
    pub command: Option<DrillCommand>,
    /// What is run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What else there is.
#[derive(Clone, Debug, Subcommand)]
pub enum DrillCommand {
    /// List the plans that have names and what each needs; print one as a file
    #[command(after_help = "Example:\n  pubg1 drill plans classic > mine.plan")]
    Plans {
        /// The plan to print
        name: Option<String>,
    },
}

/// How a drill is run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A plan's name, or the file that holds one
    #[arg(short, long, value_name = "NAME|FILE", default_value = "classic")]
    pub plan: String,
    /// Carry the plan's faults out so often, one turn after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub repeat: u32,
    /// Records per second [default: the plan's]
    #[arg(short, long, value_name = "N")]
    pub rate: Option<f64>,
    /// How long the load lasts; longer than the faults [default: the plan's]
    #[arg(short, long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Size of a record's value [default: the plan's]
    #[arg(long, value_name = "N")]
    pub value_bytes: Option<usize>,
    /// Brokers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub brokers: u32,
    /// Partitions; each has a producer with one request under way
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub partitions: u32,
    /// Replicas of each; at most the number of brokers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub replicas: u32,
    /// The brokers' flush policy: quorum or interval=MS
    #[arg(long, value_name = "POLICY", default_value = "quorum")]
    pub flush: String,
    /// Directory of the brokers' data and logs; it stays, but for the data of a plan with faults of disks [default: a
    /// temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Producers have no identity: a repeated request may be stored twice
    #[arg(long)]
    pub without_identity: bool,
    /// How long load is sent before anything counts
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// An attempt that takes longer is given up and repeated
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub attempt_timeout: Duration,
    /// How long the cluster may take to be well after a fault
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub settle: Duration,
    /// The choices of chance; the same seed makes the same ones
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Exit with 10 if this is true of the report: 'p99>20ms', 'e2e.p95>100ms', 'lost>0'; repeatable
    #[arg(long, value_name = "COMPARISON")]
    pub fail_if: Vec<Threshold>,
    /// Keep the report in this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Write a page with plots to this file, and the plots beside it
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Keep everything that happened in this file, for `pubg1 verify --check`
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
}

/// Runs a drill, or says which there are. Not asynchronous: a drill that cuts links moves into a network of its own
/// before it has threads.
///
/// # Errors
/// [`CommandError::Failed`] when a promise was broken, [`CommandError::Unhealthy`] when a threshold was met, and
/// whatever keeps the drill from taking place.
pub fn run(terminal: Terminal, args: &DrillArgs) -> Result<(), CommandError> {
    match &args.command {
        Some(DrillCommand::Plans { name: Some(name) }) => print_plan(name),
        Some(DrillCommand::Plans { name: None }) => list_plans(terminal),
        None => carry_out(terminal, &args.run),
    }
}

fn print_plan(name: &str) -> Result<(), CommandError> {
    let plan = NamedPlan::find(name).ok_or_else(|| unknown(name))?;
    print_text(&format!("# {}: {}\n# needs: {}\n{}", plan.name, plan.about, plan.needs(), plan.text))
}

fn list_plans(terminal: Terminal) -> Result<(), CommandError> {
    let plans: Vec<_> = PLANS
        .iter()
        .map(|plan| serde_json::json!({ "name": plan.name, "about": plan.about, "needs": plan.needs(), "plan": plan.text }))
        .collect();
    terminal.print(&plans, |_| {
        let rows = PLANS.iter().map(|plan| vec![plan.name.to_owned(), plan.about.to_owned(), plan.needs()]);
        terminal.table(&["plan", "what happens", "it needs"], rows, &[])
    })
}

fn unknown(name: &str) -> CommandError {
    let names: Vec<&str> = PLANS.iter().map(|plan| plan.name).collect();
    CommandError::Usage(format!("there is neither a plan nor a file {name:?}; the plans are {}", names.join(", ")))
}

/// The plan that the command line asks for, with what it sets otherwise, once.
fn plan(args: &RunArgs) -> Result<DrillPlan, CommandError> {
    let usage = |error: &dyn std::fmt::Display| CommandError::Usage(format!("{}: {error}", args.plan));
    let mut plan = match NamedPlan::find(&args.plan) {
        Some(named) => named.plan().map_err(|error| usage(&error))?,
        None => {
            let path = Path::new(&args.plan);
            if !path.try_exists().unwrap_or(false) {
                return Err(unknown(&args.plan));
            }
            let file_error = |source| CommandError::File { action: "read", path: path.to_owned(), source };
            std::fs::read_to_string(path).map_err(file_error)?.parse().map_err(|error| usage(&error))?
        }
    };
    if let Some(rate) = args.rate {
        if !rate.is_finite() || rate <= 0.0 {
            return Err(CommandError::Usage(format!("--rate {rate}: a drill needs a number of records per second")));
        }
        plan.rate = rate;
    }
    if let Some(duration) = args.duration {
        if plan.events.iter().any(|event| event.end_at_least() > duration) {
            return Err(CommandError::Usage("--duration: the load ends before the last fault".to_owned()));
        }
        plan.duration = duration;
    }
    plan.bytes = args.value_bytes.unwrap_or(plan.bytes);
    Ok(plan)
}

fn carry_out(terminal: Terminal, args: &RunArgs) -> Result<(), CommandError> {
    let plan = plan(args)?;
    fit::check(&plan, Shape { brokers: args.brokers, partitions: args.partitions, replicas: args.replicas })?;
    needs::check(&plan)?;
    if args.data_dir.is_some() && plan.needs(Need::Disks) {
        terminal.note("the brokers' logs stay; their data are on filesystems that the plan needs, and go with them");
    }
    let directory = ClusterDirectory::of(args.data_dir.as_deref(), "pubg1-drill-")?;
    let network = match plan.needs(Need::Network) {
        true => Some(Arc::new(Network::make(args.brokers)?)),
        false => None,
    };
    let drill = drill_of(args, plan, directory.path().to_owned(), network.is_some())?;
    terminal.note(&format!("seed {}", drill.seed));
    let mut finished = None;
    let running = async {
        // Dropping the drill ends its brokers: after Ctrl-C and SIGTERM too.
        tokio::select! {
            report = drill::run(&drill, network.clone(), terminal) => finished = Some(report?),
            () = interrupted() => return Err(CommandError::Failed("interrupted".to_owned())),
        }
        Ok(())
    };
    block_on(running)?;
    match finished {
        Some(report) => finish(terminal, args, report),
        None => Err(CommandError::Failed("there is no report".to_owned())),
    }
}

fn drill_of(args: &RunArgs, plan: DrillPlan, directory: PathBuf, remote: bool) -> Result<Drill, CommandError> {
    let mut arguments = vec!["--flush".to_owned(), args.flush.clone()];
    // Nobody else is in the namespaces.
    arguments.extend(remote.then(|| "--allow-remote".to_owned()));
    Ok(Drill {
        name: args.plan.clone(),
        plan: plan.repeated(args.repeat),
        launch: ClusterLaunch { program: vec![this_program()?.into()], directory, brokers: args.brokers, arguments },
        partitions: args.partitions,
        replicas: args.replicas.min(args.brokers),
        warm_up: args.warm_up,
        idempotent: !args.without_identity,
        attempt_timeout: args.attempt_timeout,
        settle: args.settle,
        history: args.history.clone(),
        seed: args.seed.unwrap_or_else(Dice::any_seed),
    })
}

fn finish(terminal: Terminal, args: &RunArgs, mut report: Report) -> Result<(), CommandError> {
    let words = std::env::args().skip(1).map(|word| quoted(&word));
    report.command = ["pubg1".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
    report.settings.push(("flush".to_owned(), args.flush.clone()));
    report.settings.push(("repeat".to_owned(), args.repeat.to_string()));
    report.thresholds = args.fail_if.iter().map(|threshold| threshold.judge(&report)).collect();
    if let Some(path) = &args.save {
        let text = serde_json::to_string_pretty(&report).map_err(|error| CommandError::Failed(error.to_string()))?;
        let file_error = |source| CommandError::File { action: "write", path: path.clone(), source };
        std::fs::write(path, text + "\n").map_err(file_error)?;
    }
    let reports = std::slice::from_ref(&report);
    if let Some(page) = &args.html {
        files::write_files(reports, page)?;
        terminal.note(&format!("the page is {}", page.display()));
    }
    terminal.print(&report, |report| text::text(report, terminal))?;
    let verdict = report.drill.as_ref().map(|drill| drill.verdict.clone()).unwrap_or_default();
    if verdict.lost + verdict.moved + verdict.duplicated > 0 || !verdict.broken.is_empty() {
        return Err(CommandError::Failed(format!(
            "of {} acknowledged records {} are lost, {} moved, {} duplicated; {}",
            grouped(verdict.acknowledged),
            grouped(verdict.lost),
            grouped(verdict.moved),
            grouped(verdict.duplicated),
            verdict.broken.join("; ")
        )));
    }
    let met: Vec<String> = report
        .thresholds
        .iter()
        .filter(|threshold| threshold.failed)
        .map(|threshold| format!("{}: it is {}", threshold.text, threshold.measured))
        .collect();
    if met.is_empty() { Ok(()) } else { Err(CommandError::Unhealthy(met.join("; "))) }
}
