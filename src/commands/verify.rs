//! `pubg1 verify`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use pubg1_model::TopicName;

use super::demo::interrupted;
use crate::{
    client::Client,
    cluster_process::{ClusterDirectory, ClusterLaunch},
    demo,
    error::CommandError,
    terminal::{Terminal, grouped},
    verify::{
        self, Faults, Plan,
        brokers::{Brokers, Dice},
        faults::{FaultPlan, InvalidPlan},
        groups::GroupPlan,
        history::History,
        report::Report,
        writer::Surface,
    },
};

/// What `--help` says at its end.
pub const HELP: &str = "\
Producers write numbered records through changing brokers and keep every acknowledgement; readers
look on. Make faults happen meanwhile: kill, pause, cut off, restart. In the end, when the cluster
is healthy again, every partition is read from its leader and from every replica. Exit code 1 when
a record is lost, moved, doubled, out of order or was never sent, when replicas differ, when an
answer contradicts an earlier one, or when a deposed leader acknowledged.

Without --idempotent a request is repeated until it is acknowledged, so a record may be stored more
than once: that is counted, and only held against the cluster where no repetition explains it.

With --groups, consumer groups read the topic meanwhile: members poll and commit in several ways
through changing brokers, leave and join again, and freeze for longer than their session. Then an
offset that falls after it was acknowledged, a record that nobody in the group was given, one that
comes again after its commit, two owners of a partition in one generation, and a commit of who had
lost the partition count as well; in the end every group must have read and committed everything.

With --cluster it starts brokers of its own in a temporary directory, and --faults says what is
done to them: steps separated by semicolons, after `repeat N:` if they shall be done N times.
  kill TARGET     kill -9               restart        starts what does not run, until ready
  pause TARGET T  SIGSTOP for T         healthy        waits until the cluster says so
  stop TARGET     SIGTERM               rolling        stops and starts one after the other
  wipe TARGET     kill, remove its data wait T         does nothing for T
  flip TARGET     kill, flip one bit of a sealed segment
  freeze member   one is silent for longer than its session, then commits
  run COMMAND     runs a command of the shell, such as scripts/power-cut
TARGET is leader, data-leader (of those that are not the controller), follower, controller,
coordinator (of one of the groups), broker N, two (a leader and a follower), all, or any; leader
and follower may name a partition.

Examples:
  pubg1 verify --duration 30s
  pubg1 verify --brokers http://127.0.0.1:8000,http://127.0.0.1:8001 --idempotent
  pubg1 verify --cluster 4 --faults 'repeat 20: kill any; wait 1s; restart; healthy'
  pubg1 verify --cluster 4 --faults 'pause leader 3s; healthy' --history run.jsonl
  pubg1 verify --cluster 4 --groups 3 --members 3 \\
      --faults 'repeat 20: kill coordinator; wait 1s; restart; healthy'
  pubg1 verify --check run.jsonl";

/// `pubg1 verify`.
#[derive(Clone, Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct VerifyArgs {
    /// The only brokers to talk to, separated by commas [default: all of the cluster of --broker]
    #[arg(long, value_name = "URL,…", conflicts_with = "cluster")]
    pub brokers: Option<String>,
    /// Start a cluster of so many brokers for the run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cluster: Option<u32>,
    /// What is done to the cluster that was started
    #[arg(long, value_name = "PLAN", requires = "cluster")]
    pub faults: Option<String>,
    /// Flush policy of the cluster that is started: quorum or interval=MS
    #[arg(long, value_name = "POLICY", default_value = "quorum")]
    pub flush: String,
    /// Directory of the cluster that is started; it stays [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR", requires = "cluster")]
    pub data_dir: Option<PathBuf>,
    /// The topic; it is created when it is missing
    #[arg(long, value_name = "NAME", default_value = "verify")]
    pub topic: String,
    /// Its partitions, if it is created
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub partitions: u32,
    /// Its replicas, if it is created; at most the number of brokers
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub replication_factor: u32,
    /// Its segments' size, if it is created; small ones are sealed soon
    #[arg(long, value_name = "BYTES")]
    pub segment_bytes: Option<u64>,
    /// Producers; each keeps one request under way for each partition
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub producers: u32,
    /// Producers have an identity: a repeated request must be stored once
    #[arg(long)]
    pub idempotent: bool,
    /// What an acknowledgement waits for: all or 1
    #[arg(long, value_name = "ACKS", default_value = "all", value_parser = ["all", "1"])]
    pub acks: String,
    /// Records per request
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub batch: u64,
    /// Size of a record's value
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub value_bytes: usize,
    /// The route that producers use
    #[arg(long, value_enum, default_value = "batches")]
    pub surface: Surface,
    /// Readers that look on
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub readers: u32,
    /// Consumer groups that read and commit
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub groups: u32,
    /// Members of each group
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub members: u32,
    /// How long a group's member may be silent
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub session: Duration,
    /// Members stay: they neither leave nor freeze by themselves
    #[arg(long)]
    pub steady: bool,
    /// Records per second, all producers together; 0: as fast as they are acknowledged
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rate: u64,
    /// End when so many records are acknowledged
    #[arg(short = 'n', long, value_name = "N")]
    pub records: Option<u64>,
    /// End after this time [default: 10s, if there is neither --records nor --faults]
    #[arg(short, long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// An attempt that takes longer has an unknown outcome
    #[arg(long, value_name = "TIME", default_value = "1500ms", value_parser = humantime::parse_duration)]
    pub attempt_timeout: Duration,
    /// How long the cluster may take to be healthy in the end
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub settle: Duration,
    /// The choices of chance; the same seed makes the same ones
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Keep everything that happened in this file, a JSON document a line
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Judge a stored history; nothing is run
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub check: Option<PathBuf>,
}

/// Runs and judges, or judges what was run before.
///
/// # Errors
/// [`CommandError::Failed`] when a promise was broken, and whatever keeps the run from taking place.
pub async fn run(broker: &str, terminal: Terminal, args: VerifyArgs) -> Result<(), CommandError> {
    if let Some(path) = &args.check {
        let file_error = |source| CommandError::File { action: "read", path: path.clone(), source };
        let history = History::load(path).map_err(file_error)?;
        return finish(terminal, &Report::of(&history, Vec::new()));
    }
    let plan = plan(&args)?;
    let faults = args.faults.as_deref().map(str::parse::<FaultPlan>).transpose();
    let faults = faults.map_err(|error: InvalidPlan| CommandError::Usage(error.to_string()))?;
    terminal.note(&format!("seed {}", plan.seed));
    let running = async {
        match args.cluster {
            Some(brokers) => on_own_cluster(&args, brokers, &plan, faults, terminal).await,
            None => {
                let brokers = match &args.brokers {
                    Some(urls) => Brokers::at(&urls.split(',').map(str::to_owned).collect::<Vec<_>>())?,
                    None => Brokers::discover(&Client::new(broker)?).await?,
                };
                verify::run(&plan, &brokers, None, terminal).await
            }
        }
    };
    // Dropping the run ends its brokers: after Ctrl-C and SIGTERM too.
    let report = tokio::select! {
        report = running => report?,
        () = interrupted() => return Err(CommandError::Failed("interrupted".to_owned())),
    };
    finish(terminal, &report)
}

fn finish(terminal: Terminal, report: &Report) -> Result<(), CommandError> {
    terminal.print(report, |report| report.table(terminal))?;
    if let Some(note) = &report.not_compared {
        terminal.note(note);
    }
    if report.is_clean() {
        let acknowledged = grouped(report.verdict.acknowledged);
        terminal.note(&format!("all {acknowledged} acknowledged records are where they were acknowledged"));
        if let Some(groups) = &report.verdict.groups {
            let (count, delivered) = (grouped(groups.groups), grouped(groups.delivered));
            terminal.note(&format!("{count} groups were given {delivered} records, and skipped none"));
        }
        return Ok(());
    }
    Err(CommandError::Failed(report.accusation()))
}

async fn on_own_cluster(
    args: &VerifyArgs,
    brokers: u32,
    plan: &Plan,
    faults: Option<FaultPlan>,
    terminal: Terminal,
) -> Result<Report, CommandError> {
    let directory = ClusterDirectory::of(args.data_dir.as_deref(), "pubg1-verify-")?;
    let launch = ClusterLaunch {
        program: vec![demo::this_program()?.into()],
        directory: directory.path().to_owned(),
        brokers,
        arguments: vec!["--flush".to_owned(), args.flush.clone()],
    };
    let mut cluster = launch.start().await?;
    let talked_to = Brokers::at(&cluster.urls())?;
    let faults = faults.map(|plan| Faults { cluster: &mut cluster, plan });
    let report = verify::run(plan, &talked_to, faults, terminal).await?;
    cluster.end().await?;
    Ok(report)
}

fn plan(args: &VerifyArgs) -> Result<Plan, CommandError> {
    let topic: TopicName =
        args.topic.parse().map_err(|error: pubg1_model::InvalidName| CommandError::Usage(error.to_string()))?;
    let open_ended = args.records.is_none() && args.duration.is_none() && args.faults.is_none();
    Ok(Plan {
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        segment_bytes: args.segment_bytes,
        producers: args.producers,
        idempotent: args.idempotent,
        acks: if args.acks == "1" { "1" } else { "all" },
        batch: args.batch,
        value_bytes: args.value_bytes,
        surface: args.surface,
        readers: args.readers,
        groups: (args.groups > 0).then_some(GroupPlan {
            groups: args.groups,
            members: args.members,
            session: args.session,
            restless: !args.steady,
        }),
        rate: args.rate,
        records: args.records,
        duration: args.duration.or(open_ended.then_some(Duration::from_secs(10))),
        attempt_timeout: args.attempt_timeout,
        settle: args.settle,
        history: args.history.clone(),
        seed: args.seed.unwrap_or_else(Dice::any_seed),
        ..Plan::on(topic)
    })
}
