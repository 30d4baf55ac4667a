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
    say(Tone::Plain, "acknowledged, with those of the warm-up", words::count(verdict.acknowledged));
    say(broken(verdict.lost), "lost", words::count(verdict.lost));
    say(broken(verdict.moved), "moved", words::count(verdict.moved));
    say(broken(verdict.duplicated), "duplicated", words::count(verdict.duplicated));
    say(Tone::Plain, "stored again by a repeated request", words::count(verdict.repeated));
    for promise in &verdict.broken {
        say(Tone::Bad, "promise broken", promise.clone());
    }
    for example in &verdict.examples {
        say(Tone::Bad, "for example", example.clone());
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
            phase(Some(fault.unavailable_ms).filter(|ms| !fault.load_ended || *ms > 0.0)),
            errors(&fault.errors),
        ]);
    }
    table
}

fn named(fault: &FaultOutcome) -> String {
    let name = described(fault);
    if fault.load_ended { format!("{name} (the load ended before it was over)") } else { name }
}

fn described(fault: &FaultOutcome) -> String {
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
        let times = [fault.p99_before_ms, fault.p99_during_ms, fault.p99_after_ms]
            .map(|ms| ms.map_or(words::NONE.to_owned(), words::number));
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
    let mut table = Table::new("Faults of a kind", &columns).note(
        "In milliseconds from when a fault was injected; in brackets, in how many of the faults there was such a time.",
    );
    // Of one fault, the median is what the table of faults says.
    let several = drill.kinds.iter().any(|kind| kind.count > 1);
    for kind in drill.kinds.iter().filter(|_| several) {
        let mut cells = vec![kind.kind.clone(), words::count(kind.count)];
        for (key, _) in PHASES {
            let both = kind.median_and_p99_ms.get(key);
            let said = |time: Option<f64>| time.map_or(words::NONE.to_owned(), words::number);
            let few = kind.seen.get(key).filter(|seen| **seen < kind.count);
            let few = few.map_or(String::new(), |seen| format!(" ({} of {})", words::count(*seen), kind.count));
            cells.extend([said(both.map(|both| both.0)) + &few, said(both.map(|both| both.1))]);
        }
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::FaultKind;

    #[test]
    fn a_time_that_not_every_fault_has_says_how_many_have_it() {
        let kind = FaultKind {
            kind: "kill leader".to_owned(),
            count: 50,
            seen: [("detected_ms", 50), ("elected_ms", 48)].map(|(name, seen)| (name.to_owned(), seen)).into(),
            median_and_p99_ms: ["detected_ms", "elected_ms"].map(|name| (name.to_owned(), (7.0, 9.0))).into(),
        };
        let table = kinds(&DrillOutcome { kinds: vec![kind], ..DrillOutcome::default() });
        let cells = &table.rows[0].cells;
        assert_eq!(cells[2], words::number(7.0), "all of them");
        assert_eq!(cells[4], format!("{} (48 of 50)", words::number(7.0)));
    }

    #[test]
    fn a_fault_without_load_is_marked_and_has_no_numbers() {
        let fault = FaultOutcome { kind: "stop leader".to_owned(), load_ended: true, ..FaultOutcome::default() };
        let drill = DrillOutcome { faults: vec![fault], ..DrillOutcome::default() };
        let cells = faults(&drill).rows[0].cells.clone();
        assert!(cells[1].contains("the load ended"), "{cells:?}");
        assert_eq!(cells[8], words::NONE, "0 would be good news");
        assert_eq!(latency_around(&drill).rows[0].cells[2..], [words::NONE, words::NONE, words::NONE]);
    }
}
