//! Tables of a drill: the verdict, each fault, and faults of a kind together.

use std::collections::BTreeMap;

use super::{Table, Tone};
use crate::report::{DrillOutcome, FaultOutcome, words};

/// The times that a fault is measured by, by the names that [`FaultKind`](crate::report::FaultKind) gives them, and
/// how they are called in a table.
pub const PHASES: [(&str, &str); 5] = [
    ("detected_ms", "detected"),
    ("elected_ms", "elected"),
    ("first_write_ms", "first write"),
    ("full_replicas_ms", "full replicas"),
    ("unavailable_ms", "unavailable"),
];

/// Those of a drill; some may be empty.
pub(super) fn all(drill: &DrillOutcome) -> Vec<Table> {
    vec![verdict(drill), faults(drill), latency_around(drill), kinds(drill)]
}

fn verdict(drill: &DrillOutcome) -> Table {
    let verdict = &drill.verdict;
    let mut table = Table::new("The checker's verdict", &["records", "#result"]);
    let broken = |number: u64| if number == 0 { Tone::Good } else { Tone::Bad };
    let mut say = |tone, what: &str, result: String| table.toned(tone, [what.to_owned(), result]);
    say(Tone::Plain, "plan", drill.plan.clone());
    say(Tone::Plain, "acknowledged", words::count(verdict.acknowledged));
    say(broken(verdict.lost), "lost", words::count(verdict.lost));
    say(broken(verdict.moved), "moved", words::count(verdict.moved));
    say(broken(verdict.duplicated), "duplicated", words::count(verdict.duplicated));
    say(Tone::Plain, "stored again by a repeated request", words::count(verdict.repeated));
    for promise in &verdict.broken {
        say(Tone::Bad, "promise broken", promise.clone());
    }
    table
}

fn faults(drill: &DrillOutcome) -> Table {
    let columns = [
        "#no",
        "fault",
        "#at",
        "#taken back",
        "#detected",
        "#elected",
        "#first write",
        "#full replicas",
        "#unavailable",
        "errors",
    ];
    let mut table = Table::new("Faults", &columns)
        .note("Phases in milliseconds from when the fault was injected; unavailable: the longest that a client saw.");
    for (index, fault) in drill.faults.iter().enumerate() {
        let phase = |ms: Option<f64>| ms.map_or(words::NONE.to_owned(), words::number);
        table.row([
            (index + 1).to_string(),
            named(fault),
            words::seconds(fault.at_s),
            fault.until_s.map_or(words::NONE.to_owned(), words::seconds),
            phase(fault.detected_ms),
            phase(fault.elected_ms),
            phase(fault.first_write_ms),
            phase(fault.full_replicas_ms),
            words::number(fault.unavailable_ms),
            errors(&fault.errors),
        ]);
    }
    table
}

fn named(fault: &FaultOutcome) -> String {
    if fault.what.is_empty() || fault.what == fault.kind {
        fault.kind.clone()
    } else if fault.what.contains(&fault.kind) {
        fault.what.clone()
    } else {
        format!("{}: {}", fault.kind, fault.what)
    }
}

fn errors(errors: &BTreeMap<String, u64>) -> String {
    let said = errors.iter().map(|(kind, number)| format!("{} {kind}", words::count(*number)));
    let said = said.collect::<Vec<_>>().join(", ");
    if said.is_empty() { "none".to_owned() } else { said }
}

fn latency_around(drill: &DrillOutcome) -> Table {
    let mut table = Table::new("Publish p99 around each fault", &["#no", "fault", "#before", "#during", "#after"])
        .note("In milliseconds, of the records that were due then.");
    for (index, fault) in drill.faults.iter().enumerate() {
        let times = [fault.p99_before_ms, fault.p99_during_ms, fault.p99_after_ms].map(words::number);
        table.row([(index + 1).to_string(), named(fault)].into_iter().chain(times));
    }
    table
}

fn kinds(drill: &DrillOutcome) -> Table {
    let columns: Vec<String> = ["kind".to_owned(), "#faults".to_owned()]
        .into_iter()
        .chain(PHASES.iter().flat_map(|(_, name)| [format!("#{name} p50"), "#p99".to_owned()]))
        .collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new("Faults of a kind", &columns).note("In milliseconds from when a fault was injected.");
    // Of one fault, the median is what the table of faults says.
    let several = drill.kinds.iter().any(|kind| kind.count > 1);
    for kind in drill.kinds.iter().filter(|_| several) {
        let mut cells = vec![kind.kind.clone(), words::count(kind.count)];
        for (key, _) in PHASES {
            let both = kind.median_and_p99_ms.get(key);
            let said = |time: Option<f64>| time.map_or(words::NONE.to_owned(), words::number);
            cells.extend([said(both.map(|both| both.0)), said(both.map(|both| both.1))]);
        }
        table.row(cells);
    }
    table
}
