//! Several reports beside each other, with ratios to the first.

use std::collections::BTreeSet;

use super::{Column, Table, load};
use crate::report::{Report, words};

/// A name for each report that no other one has: the system's, and of the settings those that differ.
#[must_use]
pub fn labels(reports: &[Report]) -> Vec<String> {
    let named: Vec<String> = reports.iter().map(name).collect();
    let occurs = |label: &String, labels: &[String]| labels.iter().filter(|other| *other == label).count();
    let differing = differing(reports);
    let told: Vec<String> = reports
        .iter()
        .zip(&named)
        .map(|(report, label)| {
            let told = differing.iter().filter_map(|setting| Some(format!("{setting} {}", value(report, setting)?)));
            let told: Vec<String> = told.take(2).collect();
            if occurs(label, &named) < 2 || told.is_empty() {
                label.clone()
            } else {
                format!("{label}, {}", told.join(", "))
            }
        })
        .collect();
    let numbered = |(index, label): (usize, &String)| {
        if occurs(label, &told) < 2 { label.clone() } else { format!("{label} ({})", index + 1) }
    };
    told.iter().enumerate().map(numbered).collect()
}

fn name(report: &Report) -> String {
    let system = &report.system;
    match (system.name.is_empty(), system.version.is_empty()) {
        (true, _) => report.title.clone(),
        (false, true) => system.name.clone(),
        (false, false) => format!("{} {}", system.name, system.version),
    }
}

/// Names of settings that are not the same everywhere, in the order of the first report.
fn differing(reports: &[Report]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let names = reports.iter().flat_map(|report| report.settings.iter().map(|(name, _)| name));
    let once: Vec<&String> = names.filter(|name| seen.insert((*name).clone())).collect();
    let same = |name: &str| reports.windows(2).all(|pair| value(&pair[0], name) == value(&pair[1], name));
    once.into_iter().filter(|name| !same(name)).cloned().collect()
}

fn value<'a>(report: &'a Report, setting: &str) -> Option<&'a str> {
    report.settings.iter().find(|(name, _)| name == setting).map(|(_, value)| value.as_str())
}

/// The results beside each other, and what the runs do not have in common. Empty for fewer than two.
#[must_use]
pub fn compared(reports: &[Report]) -> Vec<Table> {
    if reports.len() < 2 {
        return Vec::new();
    }
    let mut tables = vec![results(reports), differences(reports)];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn beside(title: &'static str, reports: &[Report], number: bool) -> Table {
    let mut table = Table::new(title, &["what"]);
    table.columns.extend(labels(reports).into_iter().map(|name| Column { name, number }));
    table
}

type Number = (&'static str, fn(&Report) -> Option<f64>, fn(f64) -> String);

/// What is compared, how it is found and how it is said.
const NUMBERS: [Number; 19] = [
    ("rate acknowledged", |report| Some(report.totals.rate), words::rate),
    ("payload acknowledged per second", |report| Some(report.totals.bytes_per_second), words::bytes),
    ("publish mean", |report| of(report, report.response.mean_ms), words::time),
    ("publish p50", |report| of(report, report.response.p50_ms), words::time),
    ("publish p95", |report| of(report, report.response.p95_ms), words::time),
    ("publish p99", |report| of(report, report.response.p99_ms), words::time),
    ("publish p99.9", |report| of(report, report.response.p999_ms), words::time),
    ("publish max", |report| of(report, report.response.max_ms), words::time),
    ("end to end mean", |report| report.end_to_end.as_ref().map(|latency| latency.mean_ms), words::time),
    ("end to end p95", |report| report.end_to_end.as_ref().map(|latency| latency.p95_ms), words::time),
    ("end to end p99", |report| report.end_to_end.as_ref().map(|latency| latency.p99_ms), words::time),
    ("longest without an acknowledgement", |report| of(report, report.totals.longest_silence_ms), words::time),
    ("failed records", |report| Some(words::float(report.totals.failed)), words::whole),
    ("lost records", |report| report.drill.as_ref().map(|drill| words::float(drill.verdict.lost)), words::whole),
    ("longest unavailable", unavailable, words::time),
    (
        "highest rate within the objective",
        |report| report.ramp.as_ref().and_then(|ramp| ramp.highest_rate),
        words::rate,
    ),
    ("processor seconds per million records", processor, words::number),
    ("most memory of their own", anonymous, words::bytes),
    ("most memory with mapped files", memory, words::bytes),
];

fn of(report: &Report, ms: f64) -> Option<f64> {
    (report.response.count > 0).then_some(ms)
}

fn unavailable(report: &Report) -> Option<f64> {
    report.drill.as_ref()?.faults.iter().map(|fault| fault.unavailable_ms).reduce(f64::max)
}

fn processor(report: &Report) -> Option<f64> {
    let seconds: f64 = report.processes.iter().map(|process| process.cpu_s).sum();
    let million = words::float(report.totals.acknowledged) / 1e6;
    (all_are_known(report) && million > 0.0).then(|| seconds / million)
}

fn memory(report: &Report) -> Option<f64> {
    all_are_known(report).then(|| report.processes.iter().map(|process| words::float(process.memory_bytes)).sum())
}

fn anonymous(report: &Report) -> Option<f64> {
    // Reports that were kept from before do not know it.
    let known = all_are_known(report) && report.processes.iter().all(|process| process.anonymous_bytes > 0);
    known.then(|| report.processes.iter().map(|process| words::float(process.anonymous_bytes)).sum())
}

/// Of processes that ended meanwhile a sum would be too small.
fn all_are_known(report: &Report) -> bool {
    !report.processes.is_empty() && report.processes.iter().all(|process| !process.ended)
}

fn results(reports: &[Report]) -> Table {
    let mut table = beside("Side by side", reports, true).note("In brackets: how many times as much as the first one.");
    for (name, find, say) in NUMBERS {
        let found: Vec<Option<f64>> = reports.iter().map(find).collect();
        if found.iter().all(Option::is_none) {
            continue;
        }
        let first = found.first().copied().flatten();
        let cells = found.iter().enumerate().map(|(index, found)| {
            let Some(value) = found else { return words::NONE.to_owned() };
            match first.filter(|_| index > 0).and_then(|first| words::ratio(*value, first)) {
                Some(ratio) => format!("{} ({ratio})", say(*value)),
                None => say(*value),
            }
        });
        table.row([name.to_owned()].into_iter().chain(cells));
    }
    table
}

fn differences(reports: &[Report]) -> Table {
    let mut table = beside("What differs", reports, false);
    let mut say = |name: &str, values: Vec<String>| {
        if values.windows(2).any(|pair| pair[0] != pair[1]) {
            table.row([name.to_owned()].into_iter().chain(values));
        }
    };
    let all = |of: fn(&Report) -> String| reports.iter().map(of).collect::<Vec<_>>();
    say("load", all(|report| load(report.load).0.to_owned()));
    say("replicas", all(|report| report.system.replicas.to_string()));
    say("stored when acknowledged", all(|report| report.system.durability.clone()));
    say("client", all(|report| report.system.client.clone()));
    say("load generator", all(|report| format!("{} {}", report.environment.version, report.environment.profile)));
    say("processor", all(|report| format!("{} × {}", report.environment.cores, report.environment.processor)));
    for setting in differing(reports) {
        let values = reports.iter().map(|report| value(report, &setting).unwrap_or(words::NONE).to_owned());
        say(&setting, values.collect());
    }
    table
}
