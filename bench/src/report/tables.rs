//! What a report says, as tables: the terminal and the page show the same ones.

mod compared;
pub mod drilled;

pub use self::compared::{compared, labels};

use std::collections::{BTreeMap, BTreeSet};

use super::{Interval, Load, Mark, Report, words};
use crate::latency::Latency;

/// Marks and faults that are no further apart are one.
const SAME_S: f64 = 0.05;

/// Rows under columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it is about.
    pub title: &'static str,
    /// What one has to know to read it.
    pub note: Option<&'static str>,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, each with a cell for every column.
    pub rows: Vec<Row>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// Whether it holds numbers.
    pub number: bool,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// One for every column.
    pub cells: Vec<String>,
    /// Whether it is good news.
    pub tone: Tone,
}

/// What a reader should feel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Look at it.
    Warning,
    /// A promise was broken, or a demand not met.
    Bad,
}

impl Table {
    /// A table whose columns are written `name`, or `#name` when they hold numbers.
    #[must_use]
    pub fn new(title: &'static str, columns: &[&str]) -> Self {
        let column = |name: &&str| match name.strip_prefix('#') {
            Some(name) => Column { name: name.to_owned(), number: true },
            None => Column { name: (*name).to_owned(), number: false },
        };
        Self { title, note: None, columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// The same with a note.
    #[must_use]
    pub fn note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.toned(Tone::Plain, cells);
    }

    /// Adds a row that is good or bad news.
    pub fn toned(&mut self, tone: Tone, cells: impl IntoIterator<Item = String>) {
        self.rows.push(Row { cells: cells.into_iter().collect(), tone });
    }
}

/// All tables of a report that have something to say, in the order of reading: results first, then
/// what they were measured with.
#[must_use]
pub fn tables(report: &Report) -> Vec<Table> {
    let mut tables = vec![totals(report), latencies(report)];
    tables.extend([errors(report), thresholds(report)]);
    tables.extend(report.drill.as_ref().map(drilled::all).unwrap_or_default());
    tables.extend([marks(report), ramp(report), catch_up(report), processes(report)]);
    tables.extend([system(report), settings(report), environment(report)]);
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// How the load came, in a word and in a sentence.
#[must_use]
pub const fn load(load: Load) -> (&'static str, &'static str) {
    match load {
        Load::OpenLoop => (
            "open loop",
            "records were due on a schedule that does not wait for the system; \
             response time counts from when a record was due",
        ),
        Load::ClosedLoop => (
            "closed loop",
            "a record was due only when an earlier one was acknowledged, so time that the system stood still is \
             missing from these latencies; not to be compared with an open loop",
        ),
    }
}

fn totals(report: &Report) -> Table {
    let totals = &report.totals;
    let mut table = Table::new("Totals", &["what", "#result"]);
    let mut say = |what: &str, result: String| table.row([what.to_owned(), result]);
    say("load", load(report.load).0.to_owned());
    say("rate asked for", totals.asked_rate.map_or("as much as possible".to_owned(), words::rate));
    say("rate acknowledged", words::rate(totals.rate));
    say("payload acknowledged", format!("{}/s", words::bytes(totals.bytes_per_second)));
    say("time until the last acknowledgement", words::seconds(totals.seconds));
    say("records due", words::count(totals.due));
    say("sent", words::count(totals.sent));
    say("acknowledged", words::count(totals.acknowledged));
    say("failed", words::count(totals.failed));
    say("longest time without an acknowledgement", words::time(totals.longest_silence_ms));
    say("consumed", words::count(totals.consumed));
    table
}

const LATENCY_COLUMNS: [&str; 10] =
    ["#records", "#mean", "#min", "#p50", "#p90", "#p95", "#p99", "#p99.9", "#p99.99", "#max"];

fn latency_cells(latency: &Latency) -> Vec<String> {
    let times = [
        latency.mean_ms,
        latency.min_ms,
        latency.p50_ms,
        latency.p90_ms,
        latency.p95_ms,
        latency.p99_ms,
        latency.p999_ms,
        latency.p9999_ms,
        latency.max_ms,
    ];
    let of_none = latency.count == 0;
    let said = times.map(|ms| if of_none { words::NONE.to_owned() } else { words::number(ms) });
    [words::count(latency.count)].into_iter().chain(said).collect()
}

fn latencies(report: &Report) -> Table {
    let columns: Vec<&str> = ["latency, ms"].into_iter().chain(LATENCY_COLUMNS).collect();
    let mut table = Table::new("Latency", &columns)
        .note("In milliseconds. Quantiles are of all records together, from merged histograms, never averaged.");
    let kinds = [
        ("response: due to acknowledged", Some(&report.response)),
        ("service: sent to acknowledged", Some(&report.service)),
        ("end to end: due to consumed", report.end_to_end.as_ref()),
    ];
    for (name, latency) in kinds {
        table.rows.extend(latency.map(|latency| Row {
            cells: [name.to_owned()].into_iter().chain(latency_cells(latency)).collect(),
            tone: Tone::Plain,
        }));
    }
    table
}

fn errors(report: &Report) -> Table {
    let mut table = Table::new("Errors", &["kind", "#records failed", "#attempts repeated"])
        .note("Percentiles are of acknowledged records: what failed is in none of them.");
    let kinds: BTreeSet<&String> = report.errors.keys().chain(report.retries.keys()).collect();
    for kind in kinds {
        let count =
            |of: &BTreeMap<String, u64>| of.get(kind).map_or(words::NONE.to_owned(), |count| words::count(*count));
        table.row([kind.clone(), count(&report.errors), count(&report.retries)]);
    }
    table
}

fn thresholds(report: &Report) -> Table {
    let mut table = Table::new("Thresholds", &["fails if", "measured", "outcome"]);
    for threshold in &report.thresholds {
        let (tone, outcome) = if threshold.failed { (Tone::Bad, "failed") } else { (Tone::Good, "kept") };
        table.toned(tone, [threshold.text.clone(), threshold.measured.clone(), outcome.to_owned()]);
    }
    table
}

/// What was done, as far as it is not among the faults.
fn marks(report: &Report) -> Table {
    let mut table = Table::new("What was done meanwhile", &["#no", "#at", "#until", "what"]);
    for (number, mark) in other_marks(report) {
        let until = mark.until_s.map_or(words::NONE.to_owned(), words::seconds);
        table.row([number.to_string(), words::seconds(mark.at_s), until, mark.what.clone()]);
    }
    table
}

/// Marks that are not faults of a drill, which has told of them, and their numbers, which go on from those of
/// the faults.
pub(super) fn other_marks(report: &Report) -> Vec<(usize, &Mark)> {
    let faults = report.drill.as_ref().map_or(&[][..], |drill| &drill.faults);
    let same = |mark: &&Mark| faults.iter().any(|fault| (fault.at_s - mark.at_s).abs() < SAME_S);
    report
        .marks
        .iter()
        .filter(|mark| !same(mark))
        .enumerate()
        .map(|(index, mark)| (faults.len() + index + 1, mark))
        .collect()
}

fn ramp(report: &Report) -> Table {
    let columns: Vec<&str> = ["#asked", "#acknowledged", "objective", "#measured", "outcome"]
        .into_iter()
        .chain(LATENCY_COLUMNS.into_iter().skip(1))
        .collect();
    let mut table = Table::new("Search for the highest rate", &columns)
        .note("Latencies are response times in milliseconds; the steps in the order of trying.");
    let Some(ramp) = &report.ramp else { return table };
    for step in &ramp.steps {
        let (tone, outcome) = if step.kept { (Tone::Good, "kept") } else { (Tone::Bad, "not kept") };
        let head = [
            words::rate(step.asked_rate),
            words::rate(step.rate),
            ramp.objective.clone(),
            step.value.map_or(words::NONE.to_owned(), words::number),
            outcome.to_owned(),
        ];
        table.toned(tone, head.into_iter().chain(latency_cells(&step.response).into_iter().skip(1)));
    }
    if table.rows.is_empty() || ramp.highest_rate.is_some() {
        let highest = ramp.highest_rate.map_or("none".to_owned(), words::rate);
        let mut cells = vec![highest, words::NONE.to_owned(), ramp.objective.clone(), words::NONE.to_owned()];
        cells.push("highest rate that keeps to it".to_owned());
        cells.resize(table.columns.len(), words::NONE.to_owned());
        table.row(cells);
    }
    table
}

fn catch_up(report: &Report) -> Table {
    let mut table = Table::new("Reading everything again", &["#records", "#bytes", "#time", "#rate", "#throughput"]);
    if let Some(read) = &report.catch_up {
        table.row([
            words::count(read.records),
            words::bytes(words::float(read.bytes)),
            words::seconds(read.seconds),
            words::rate(words::float(read.records) / read.seconds),
            format!("{}/s", words::bytes(words::float(read.bytes) / read.seconds)),
        ]);
    }
    table
}

fn processes(report: &Report) -> Table {
    let columns = ["process", "#processor time", "#per million records", "#most of its own", "#most with mapped files"];
    let mut table = Table::new("What the processes used", &columns);
    let million = words::float(report.totals.acknowledged) / 1e6;
    for process in &report.processes {
        if process.ended {
            let unknown = || words::NONE.to_owned();
            let name = format!("{} (ended meanwhile)", process.name);
            table.row([name, unknown(), unknown(), unknown(), unknown()]);
            continue;
        }
        table.row([
            process.name.clone(),
            words::seconds(process.cpu_s),
            words::seconds(process.cpu_s / million),
            // Reports that were kept from before do not know it.
            match process.anonymous_bytes {
                0 => words::NONE.to_owned(),
                bytes => words::bytes(words::float(bytes)),
            },
            words::bytes(words::float(process.memory_bytes)),
        ]);
    }
    table
}

fn system(report: &Report) -> Table {
    let system = &report.system;
    let mut table = Table::new("System under load", &["what", "value"]);
    let rows = [
        ("system", &system.name),
        ("version", &system.version),
        ("address", &system.address),
        ("replicas", &system.replicas.to_string()),
        ("stored when acknowledged", &system.durability),
        ("client", &system.client),
    ];
    table.rows.extend(rows.map(|(name, value)| plain(name, value)));
    table
}

fn settings(report: &Report) -> Table {
    let mut table = Table::new("Settings", &["setting", "value"]);
    table.rows.extend(report.settings.iter().map(|(name, value)| plain(name, value)));
    table
}

fn environment(report: &Report) -> Table {
    let place = &report.environment;
    let mut table = Table::new("Environment", &["what", "value"]);
    let rows = [
        ("started at", report.started_at.clone()),
        ("load generator", format!("pubg1 {}, {} build", place.version, place.profile)),
        ("operating system", place.system.clone()),
        ("processor", place.processor.clone()),
        ("processors", place.cores.to_string()),
        ("memory", words::bytes(words::float(place.memory_bytes))),
    ];
    table.rows.extend(rows.iter().map(|(name, value)| plain(name, value)));
    table
}

fn plain(name: &str, value: &str) -> Row {
    Row { cells: vec![name.to_owned(), value.to_owned()], tone: Tone::Plain }
}

/// The run, second by second.
#[must_use]
pub fn intervals(report: &Report) -> Table {
    let columns = [
        "#second",
        "#acknowledged",
        "#failed",
        "#consumed",
        "#publish mean",
        "#p50",
        "#p95",
        "#p99",
        "#max",
        "#end to end mean",
        "#p95",
    ];
    let mut table = Table::new("Second by second", &columns)
        .note("Latencies in milliseconds, of the records that were due in the second.");
    for interval in &report.intervals {
        table.row(interval_cells(interval));
    }
    table
}

fn interval_cells(interval: &Interval) -> Vec<String> {
    let mut cells = vec![words::number(interval.at_s)];
    cells.extend([interval.acknowledged, interval.failed, interval.consumed].map(words::count));
    cells.extend(
        [
            interval.response_mean_ms,
            interval.response_p50_ms,
            interval.response_p95_ms,
            interval.response_p99_ms,
            interval.response_max_ms,
            interval.end_to_end_mean_ms,
            interval.end_to_end_p95_ms,
        ]
        .map(words::number),
    );
    cells
}
