//! What a run says in the end: one document, from which every form of the report is made.

pub mod html;
mod markup;
#[cfg(test)]
#[path = "../examples/sample-reports/samples.rs"]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "times and counts are made up, and small"
)]
mod samples;
pub mod summary;
pub mod svg;
pub mod tables;
pub mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{latency::Latency, target::Description};

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it is: `bench of PubG1`, `drill classic`.
    pub title: String,
    /// When it began, as RFC 3339 writes it.
    pub started_at: String,
    /// The command line that does it again.
    pub command: String,
    /// Where it ran.
    pub environment: Environment,
    /// The system under load.
    pub system: Description,
    /// Every setting, by name.
    pub settings: Vec<(String, String)>,
    /// Whether records kept to a schedule.
    pub load: Load,
    /// How many, how fast.
    pub totals: Totals,
    /// Records that failed, by why.
    pub errors: BTreeMap<String, u64>,
    /// Attempts that failed and were repeated, by why.
    #[serde(default)]
    pub retries: BTreeMap<String, u64>,
    /// From when a record was due to its acknowledgement.
    pub response: Latency,
    /// From when it was sent to its acknowledgement.
    pub service: Latency,
    /// From when it was due to when a consumer had it; `None` without consumers.
    pub end_to_end: Option<Latency>,
    /// The run, second by second.
    pub intervals: Vec<Interval>,
    /// What was done to the system meanwhile.
    pub marks: Vec<Mark>,
    /// Reading everything again from the start.
    pub catch_up: Option<CatchUp>,
    /// What the system's processes used, where they are known.
    pub processes: Vec<ProcessCost>,
    /// The search for the highest rate within an objective.
    pub ramp: Option<Ramp>,
    /// What was demanded of the numbers, and whether they kept to it.
    pub thresholds: Vec<ThresholdOutcome>,
    /// Faults and the checker's verdict; `None`: not a drill.
    pub drill: Option<DrillOutcome>,
}

/// Where a run took place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The load generator's version.
    pub version: String,
    /// `release` or `debug`.
    pub profile: String,
    /// System and kernel.
    pub system: String,
    /// The processor's name.
    pub processor: String,
    /// Processors that may be used.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// When records are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// On a schedule that does not wait for the system.
    #[default]
    OpenLoop,
    /// The next when an earlier one is acknowledged: waiting of the system's own making is not seen.
    ClosedLoop,
}

/// The run in sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Records per second that were asked for; `None`: as many as possible.
    pub asked_rate: Option<f64>,
    /// Acknowledged records per second, from the first that was due to the last acknowledgement.
    pub rate: f64,
    /// How long that was.
    pub seconds: f64,
    /// Records that were due.
    pub due: u64,
    /// Sent.
    pub sent: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Neither acknowledged nor under way in the end.
    pub failed: u64,
    /// Received by consumers.
    pub consumed: u64,
    /// Bytes of acknowledged payloads per second.
    pub bytes_per_second: f64,
    /// The longest time in which a publisher that kept sending was acknowledged nothing.
    #[serde(default)]
    pub longest_silence_ms: f64,
}

/// A second of the run; records count in the second in which they were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its beginning.
    pub at_s: f64,
    /// Acknowledgements that came in this second.
    pub acknowledged: u64,
    /// Failures of this second.
    pub failed: u64,
    /// Records that consumers were given in this second.
    pub consumed: u64,
    /// Publish latency of what was due in this second: the mean.
    pub response_mean_ms: f64,
    /// Its median.
    pub response_p50_ms: f64,
    /// 95 of 100.
    pub response_p95_ms: f64,
    /// 99 of 100.
    pub response_p99_ms: f64,
    /// The longest.
    pub response_max_ms: f64,
    /// End-to-end latency of what was due in this second: the mean.
    pub end_to_end_mean_ms: f64,
    /// 95 of 100.
    pub end_to_end_p95_ms: f64,
}

/// Something that was done to the system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When, in seconds since the run began.
    pub at_s: f64,
    /// Until when, if it lasted.
    pub until_s: Option<f64>,
    /// What.
    pub what: String,
}

/// Reading everything from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatchUp {
    /// Records that were read.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What a process used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessCost {
    /// Which: `broker 0`.
    pub name: String,
    /// Processor time during the run, in seconds; of all processes that were in its place one after the other, each as
    /// far as it was looked at.
    pub cpu_s: f64,
    /// The most memory that was resident since it began, pages of mapped files among it, which the system takes back
    /// when it needs them.
    pub memory_bytes: u64,
    /// The most that was its own, without mapped files, whenever it was looked at during the run.
    #[serde(default)]
    pub anonymous_bytes: u64,
    /// It ended before the run did: what it used is not known to its end, and no sum contains it.
    #[serde(default)]
    pub ended: bool,
}

/// The search for the highest rate within an objective.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// What had to be kept: `p99<20ms`.
    pub objective: String,
    /// The highest rate that kept to it.
    pub highest_rate: Option<f64>,
    /// All that were tried, in the order of trying.
    pub steps: Vec<RampStep>,
}

/// One rate that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RampStep {
    /// Records per second that were asked for.
    pub asked_rate: f64,
    /// That were acknowledged.
    pub rate: f64,
    /// The value that the objective speaks of; `None`: nothing of it was measured.
    pub value: Option<f64>,
    /// Whether it was kept.
    pub kept: bool,
    /// From due to acknowledged.
    pub response: Latency,
}

/// A demand and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThresholdOutcome {
    /// As it was written: `p99>20ms`.
    pub text: String,
    /// What was measured, with its unit.
    pub measured: String,
    /// Whether the run fails because of it.
    pub failed: bool,
}

/// What a drill found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DrillOutcome {
    /// The plan's name or its text.
    pub plan: String,
    /// Each fault, in order.
    pub faults: Vec<FaultOutcome>,
    /// Over all faults of one kind, when there are several.
    pub kinds: Vec<FaultKind>,
    /// The checker's verdict.
    pub verdict: Verdict,
    /// What has to be known before the numbers are believed, in words.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// A fault and what it cost. Times are milliseconds from when it was injected; `None`: it did not happen,
/// or had no need to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultOutcome {
    /// Of which kind: `kill leader`.
    pub kind: String,
    /// What was done, to whom.
    pub what: String,
    /// When it was injected, in seconds since the run began.
    pub at_s: f64,
    /// When it was taken back.
    pub until_s: Option<f64>,
    /// A broker that is left knows of it.
    pub detected_ms: Option<f64>,
    /// Every partition that lost its leader has one.
    pub elected_ms: Option<f64>,
    /// Every such partition has acknowledged a write since.
    pub first_write_ms: Option<f64>,
    /// All replicas are in sync again.
    pub full_replicas_ms: Option<f64>,
    /// The longest time in which a client saw a partition acknowledge nothing.
    pub unavailable_ms: f64,
    /// Attempts that failed, by kind.
    pub errors: BTreeMap<String, u64>,
    /// 99 of 100 writes that were due in the seconds before; `None`: none was.
    pub p99_before_ms: Option<f64>,
    /// While the fault lasted.
    pub p99_during_ms: Option<f64>,
    /// In the seconds behind it.
    pub p99_after_ms: Option<f64>,
    /// The load ended before the fault was over: not all of what it cost was seen, and no statistics count it.
    #[serde(default)]
    pub load_ended: bool,
}

/// All faults of a kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultKind {
    /// Which.
    pub kind: String,
    /// How many, without those that the load did not outlast.
    pub count: u64,
    /// How many of these have the time of this name: where nobody was elected, there is no time of an election.
    #[serde(default)]
    pub seen: BTreeMap<String, u64>,
    /// Half of them and 99 of 100, by the name of the time: `detected_ms`, `unavailable_ms`, ….
    pub median_and_p99_ms: BTreeMap<String, (f64, f64)>,
}

/// What became of the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Of these, not found.
    pub lost: u64,
    /// Found at another offset than was said.
    pub moved: u64,
    /// Stored more than once, although no repeated request explains it.
    pub duplicated: u64,
    /// Stored more than once by a request that was repeated without an identity.
    pub repeated: u64,
    /// Anything else that was promised and broken, each kind in words.
    pub broken: Vec<String>,
    /// Some of what is lost, moved or duplicated, in words.
    #[serde(default)]
    pub examples: Vec<String>,
}
