//! What `pubg1 bench` can be told, and how it says it again.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use pubg1_bench::{
    engine::Workload,
    target::{Acks, Description, Topic},
    targets::{Options, pubg1::Surface},
    threshold::Threshold,
};

/// What `--help` says at its end.
pub const HELP: &str = "\
Every record has a moment at which it is due, on a schedule that waits for nobody. Its response
time counts from that moment to the acknowledgement, so a system that pauses is charged for every
record that should have been sent meanwhile; its service time counts from when it was really sent.
With --closed-loop the next record waits for the one before, which hides pauses, and --rate max
sends as fast as the window lets through: both are labelled in every report.

Consumers read meanwhile. End-to-end time is from when a record was due to when a consumer had it.
What the warm-up measures is thrown away. Histograms are merged, never averaged.

Without --topic a topic is made for the run and deleted at its end. --cluster starts brokers of its
own in a temporary directory, whose processor time and memory are reported as well.

--fail-if takes METRIC OP VALUE and may be repeated; exit code 10 when one of them is true:
  p50 p90 p95 p99 p99.9 p99.99 max mean     response time; also service.p99, e2e.p99
  rate errors lost                          records a second, failures, acknowledged but not received

The variables DURATION_SEC, TARGET_RPS, PARTITION and GROUP_ID set --duration, --rate, --partition
and --group.

Examples:
  pubg1 bench                                         1,000 records a second for 10 s
  DURATION_SEC=40 TARGET_RPS=100 PARTITION=0 GROUP_ID=bench pubg1 bench
  pubg1 bench --cluster 4 --rate 10000 --duration 30s --fail-if 'p99>20ms' --fail-if 'errors>0'
  pubg1 bench --cluster 3 --rate max --record-bytes 100 --batch 2000 --catch-up
  pubg1 bench --cluster 3 --ramp 'p99<20ms' --duration 5s
  pubg1 bench --surface simple --rate 500 --save simple.json --html simple.html
  pubg1 bench --target nats://127.0.0.1:4222 --rate 1000 --pids nats=4711
  pubg1 bench --target sink: --rate max               what the load generator itself can do

Exit codes: 0 done, 1 failed, 2 usage, 10 a threshold was met.";

/// `pubg1 bench`.
#[derive(Clone, Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct BenchArgs {
    /// The system: http://, kafka://, nats://, rabbitmq-stream://, redis:// or sink: [default: --broker]
    #[arg(long, value_name = "URL", conflicts_with = "cluster", help_heading = "System")]
    pub target: Option<String>,
    /// Start a cluster of so many brokers for the run
    #[arg(long, value_name = "N", help_heading = "System", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cluster: Option<u32>,
    /// Flush policy of the cluster that is started: quorum or interval=MS
    #[arg(long, value_name = "POLICY", default_value = "quorum", help_heading = "System")]
    pub flush: String,
    /// Directory of the cluster that is started; it stays [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR", requires = "cluster", help_heading = "System")]
    pub data_dir: Option<PathBuf>,
    /// PubG1's route for producers: batches, v2 or simple (a record a request)
    #[arg(long, value_name = "ROUTE", default_value = "batches", help_heading = "System")]
    pub surface: Surface,
    /// Processes whose processor time and memory are measured
    #[arg(long, value_name = "NAME=PID,…", value_delimiter = ',', value_parser = process, help_heading = "System")]
    pub pids: Vec<(String, u32)>,

    /// Records per second, all producers together; max: as fast as they are acknowledged
    #[arg(short, long, value_name = "N|max", env = "TARGET_RPS", default_value = "1000", help_heading = "Load")]
    pub rate: Rate,
    /// How long it is measured; a plain number is seconds
    #[arg(short, long, value_name = "TIME", env = "DURATION_SEC", default_value = "10s", value_parser = duration, help_heading = "Load")]
    pub duration: Duration,
    /// How long before that, without measuring
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration, help_heading = "Load")]
    pub warm_up: Duration,
    /// Size of a record's payload
    #[arg(short = 's', long, value_name = "N", default_value_t = 100, value_parser = size, help_heading = "Load")]
    pub record_bytes: usize,
    /// Different keys; 0: records have none
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Load")]
    pub keys: u32,
    /// The next record waits for the acknowledgement of the one before: hides what a pause costs
    #[arg(long, help_heading = "Load")]
    pub closed_loop: bool,
    /// Search the highest rate that keeps to this, from --rate on; each step lasts --duration
    #[arg(long, value_name = "OBJECTIVE", help_heading = "Load")]
    pub ramp: Option<Threshold>,

    /// Producers; each has a thread and connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Clients")]
    pub producers: u32,
    /// Consumers; they share the partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000), help_heading = "Clients")]
    pub consumers: u32,
    /// Records per request at the most
    #[arg(short, long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Clients")]
    pub batch: u32,
    /// Bytes of payloads per request at the most
    #[arg(long, value_name = "N", default_value_t = 768 * 1024, help_heading = "Clients")]
    pub batch_bytes: usize,
    /// How long a request that is not full waits for more records
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration, help_heading = "Clients")]
    pub linger: Duration,
    /// Requests of a producer that may be under way
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Clients")]
    pub in_flight: u32,
    /// What an acknowledgement waits for: all (a quorum of the replicas) or 1 (the leader)
    #[arg(long, value_name = "ACKS", default_value = "all", help_heading = "Clients")]
    pub acks: AcksArg,
    /// How long a request is repeated before its records have failed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration, help_heading = "Clients")]
    pub delivery_timeout: Duration,

    /// The topic; it is created when it is missing, and stays [default: one for this run]
    #[arg(long, value_name = "NAME", help_heading = "Topic")]
    pub topic: Option<String>,
    /// Its partitions, if it is created [default: 1, or as many as --partition needs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Topic")]
    pub partitions: Option<u32>,
    /// The only partition that is written to
    #[arg(long, value_name = "N", env = "PARTITION", help_heading = "Topic")]
    pub partition: Option<u32>,
    /// Its replicas, if it is created; at most as many as there are brokers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16), help_heading = "Topic")]
    pub replicas: u32,
    /// Consumers read as this group, and commit
    #[arg(long, value_name = "NAME", env = "GROUP_ID", help_heading = "Topic")]
    pub group: Option<String>,

    /// Read everything again from the start in the end
    #[arg(long, help_heading = "Report")]
    pub catch_up: bool,
    /// The run fails when this is true, as 'p99>20ms'; repeatable
    #[arg(long, value_name = "EXPR", help_heading = "Report")]
    pub fail_if: Vec<Threshold>,
    /// Write a page that holds everything, and its plots as SVG beside it
    #[arg(long, value_name = "FILE.html", help_heading = "Report")]
    pub html: Option<PathBuf>,
    /// Keep the report in this file, as JSON
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub save: Option<PathBuf>,
}

/// What is done to which system.
pub(super) struct Plan {
    /// Its address.
    pub(super) target: String,
    pub(super) options: Options,
    pub(super) topic: Topic,
    pub(super) workload: Workload,
}

/// Records per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many.
    PerSecond(f64),
    /// As many as possible.
    Max,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::Max),
            Ok(0.0) => Ok(Self::Max),
            Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(Self::PerSecond(rate)),
            _ => Err("a rate is a number of records per second up to 100,000,000, or max".to_owned()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => rate.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcksArg(pub Acks);

impl FromStr for AcksArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(Acks::All)),
            "1" => Ok(Self(Acks::Leader)),
            _ => Err("there are all and 1".to_owned()),
        }
    }
}

impl fmt::Display for AcksArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Acks::All => "all",
            Acks::Leader => "1",
        })
    }
}

/// A time with its unit; without one it is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let least = pubg1_bench::target::STAMP_BYTES;
    let bytes = text.parse::<usize>().map_err(|error| error.to_string())?;
    if (least..=16 << 20).contains(&bytes) { Ok(bytes) } else { Err(format!("a payload has {least} bytes to 16 MiB")) }
}

fn process(text: &str) -> Result<(String, u32), String> {
    let named = text.split_once('=').and_then(|(name, pid)| Some((name.to_owned(), pid.parse().ok()?)));
    named.ok_or_else(|| "it is NAME=PID".to_owned())
}

impl BenchArgs {
    /// The load that is asked for.
    pub(super) fn workload(&self) -> Workload {
        Workload {
            rate: match self.rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::Max => None,
            },
            duration: self.duration,
            warm_up: self.warm_up,
            closed_loop: self.closed_loop,
            publishers: self.producers,
            consumers: self.consumers,
            batch_records: if self.surface == Surface::Simple { 1 } else { self.batch },
            batch_bytes: self.batch_bytes,
            in_flight: self.in_flight,
            linger: self.linger,
            keys: self.keys,
            answer_limit: self.delivery_timeout,
            processes: self.pids.clone(),
            ..Workload::default()
        }
    }

    /// Every option by its name, as it would be written.
    fn options(&self) -> Vec<(&'static str, String)> {
        let time = |time: Duration| humantime::format_duration(time).to_string();
        let or_none = |option: Option<String>| option.unwrap_or_default();
        vec![
            ("target", or_none(self.target.clone())),
            ("cluster", or_none(self.cluster.map(|brokers| brokers.to_string()))),
            ("flush", self.flush.clone()),
            ("data-dir", or_none(self.data_dir.as_ref().map(|path| path.display().to_string()))),
            ("surface", self.surface.to_string()),
            ("rate", self.rate.to_string()),
            ("duration", time(self.duration)),
            ("warm-up", time(self.warm_up)),
            ("record-bytes", self.record_bytes.to_string()),
            ("keys", self.keys.to_string()),
            ("ramp", or_none(self.ramp.as_ref().map(ToString::to_string))),
            ("producers", self.producers.to_string()),
            ("consumers", self.consumers.to_string()),
            ("batch", self.batch.to_string()),
            ("batch-bytes", self.batch_bytes.to_string()),
            ("linger", time(self.linger)),
            ("in-flight", self.in_flight.to_string()),
            ("acks", self.acks.to_string()),
            ("delivery-timeout", time(self.delivery_timeout)),
            ("topic", or_none(self.topic.clone())),
            ("partitions", or_none(self.partitions.map(|partitions| partitions.to_string()))),
            ("partition", or_none(self.partition.map(|partition| partition.to_string()))),
            ("replicas", self.replicas.to_string()),
            ("group", or_none(self.group.clone())),
        ]
    }

    /// The command line that does the same again.
    pub(super) fn command(&self) -> String {
        let defaults = Self::defaults().map(|defaults| defaults.options()).unwrap_or_default();
        let mut command = "pubg1 bench".to_owned();
        for (option, default) in self.options().into_iter().zip(defaults) {
            if option != default {
                command.push_str(&format!(" --{} {}", option.0, quoted(&option.1)));
            }
        }
        for (switch, given) in [("closed-loop", self.closed_loop), ("catch-up", self.catch_up)] {
            if given {
                command.push_str(&format!(" --{switch}"));
            }
        }
        for threshold in &self.fail_if {
            command.push_str(&format!(" --fail-if {}", quoted(&threshold.to_string())));
        }
        command
    }

    /// The arguments of a command line that says nothing, whatever the environment says.
    fn defaults() -> Option<Self> {
        use clap::FromArgMatches;
        let command = Self::augment_args(clap::Command::new("bench")).mut_args(|arg| arg.env(None::<&str>));
        let matches = command.try_get_matches_from(["bench"]).ok()?;
        Self::from_arg_matches(&matches).ok()
    }
}

impl Plan {
    /// Every setting that the numbers depend on.
    pub(super) fn settings(&self, args: &BenchArgs, description: &Description) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> =
            args.options().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut set = |name: &str, value: String| {
            if let Some(setting) = settings.iter_mut().find(|(known, _)| known == name) {
                setting.1 = value;
            }
        };
        set("target", self.target.clone());
        set("topic", self.topic.name.clone());
        set("partitions", self.topic.partitions.to_string());
        set("replicas", description.replicas.to_string());
        set("batch", self.workload.batch_records.to_string());
        if args.cluster.is_none() {
            set("flush", String::new());
        }
        settings.push(("closed-loop".to_owned(), args.closed_loop.to_string()));
        settings.push(("catch-up".to_owned(), args.catch_up.to_string()));
        let none_for_empty = |(name, value): (String, String)| {
            let value = if value.is_empty() { "none".to_owned() } else { value };
            (name, value)
        };
        settings.into_iter().map(none_for_empty).collect()
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.,:/=@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(words: &[&str]) -> Result<BenchArgs, clap::Error> {
        Line::try_parse_from([&["bench"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn a_report_says_the_command_line_that_does_the_same_again() {
        let words = ["--rate", "max", "--duration", "1m 30s", "--closed-loop", "--fail-if", "p99>20ms", "--acks", "1"];
        let args = parse(&words).unwrap();
        assert_eq!(
            args.command(),
            "pubg1 bench --rate max --duration '1m 30s' --acks 1 --closed-loop --fail-if 'p99>20ms'"
        );
        assert_eq!(parse(&[]).unwrap().command(), "pubg1 bench");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_number_is_a_time_in_seconds_and_nonsense_is_refused() {
        assert_eq!(parse(&["--duration", "40"]).unwrap().duration, Duration::from_secs(40));
        assert_eq!(parse(&["--rate", "0"]).unwrap().rate, Rate::Max);
        for words in [
            &["--rate", "-1"][..],
            &["--rate", "fast"],
            &["--duration", "-1"],
            &["--record-bytes", "7"],
            &["--acks", "0"],
            &["--surface", "smtp"],
            &["--fail-if", "p98>1ms"],
            &["--ramp", "p99"],
            &["--pids", "nats"],
            &["--cluster", "3", "--target", "sink:"],
            &["--cluster", "0"],
            &["--producers", "0"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
