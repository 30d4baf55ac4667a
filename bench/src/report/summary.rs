//! What a report comes down to: whether all is well, and the few numbers to look at first.

use super::{Report, tables::Tone, words};
use crate::latency::Latency;

/// A report in a sentence and some numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whether it is good news.
    pub tone: Tone,
    /// The sentence.
    pub headline: String,
    /// What makes it bad news, or has to be known before the numbers are believed.
    pub remarks: Vec<String>,
    /// The numbers.
    pub tiles: Vec<Tile>,
}

/// A number to look at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// What it is.
    pub name: &'static str,
    /// The number.
    pub value: String,
    /// What stands beside it.
    pub beside: String,
    /// Whether it is good news.
    pub tone: Tone,
}

/// Of the asked rate, a smaller share counts as not sustained.
const SUSTAINED: f64 = 0.99;

/// Sums a report up.
#[must_use]
pub fn summary(report: &Report) -> Summary {
    let broken = broken(report);
    let failed: Vec<_> = report.thresholds.iter().filter(|threshold| threshold.failed).collect();
    let warnings = warnings(report);
    let (tone, headline) = if !broken.is_empty() {
        (Tone::Bad, format!("Promises were broken: {}", broken.join(", ")))
    } else if !failed.is_empty() {
        (Tone::Bad, format!("{} of {} thresholds failed", failed.len(), report.thresholds.len()))
    } else {
        let tone = if warnings.is_empty() { Tone::Good } else { Tone::Warning };
        (tone, fine(report))
    };
    let mut remarks: Vec<String> = failed
        .iter()
        .map(|threshold| format!("threshold {} failed: measured {}", threshold.text, threshold.measured))
        .collect();
    remarks.extend(report.drill.iter().flat_map(|drill| drill.verdict.broken.clone()));
    remarks.extend(warnings);
    Summary { tone, headline, remarks, tiles: tiles(report) }
}

fn broken(report: &Report) -> Vec<String> {
    let Some(drill) = &report.drill else { return Vec::new() };
    let verdict = &drill.verdict;
    let counts = [(verdict.lost, "lost"), (verdict.moved, "moved"), (verdict.duplicated, "duplicated")];
    let counts = counts.iter().filter(|(number, _)| *number > 0);
    let mut broken: Vec<String> = counts.map(|(number, what)| format!("{} {what}", words::count(*number))).collect();
    if !verdict.broken.is_empty() {
        broken.push(format!("{} more of other kinds", verdict.broken.len()));
    }
    broken
}

fn fine(report: &Report) -> String {
    if let Some(drill) = &report.drill {
        let acknowledged = words::count(drill.verdict.acknowledged);
        let faults = match drill.faults.len() {
            1 => "1 fault".to_owned(),
            faults => format!("{faults} faults"),
        };
        return format!("Nothing lost: all {acknowledged} acknowledged records are where they belong, after {faults}");
    }
    let totals = &report.totals;
    let (acknowledged, due) = (words::count(totals.acknowledged), words::count(totals.due));
    format!("{acknowledged} of {due} records were acknowledged, {}", words::rate(totals.rate))
}

fn warnings(report: &Report) -> Vec<String> {
    let totals = &report.totals;
    let mut warnings = Vec::new();
    if let Some(asked) = totals.asked_rate.filter(|asked| totals.rate < asked * SUSTAINED) {
        let (rate, asked) = (words::rate(totals.rate), words::rate(asked));
        warnings.push(format!("the rate was not sustained: {rate} of {asked}"));
    }
    if totals.failed > 0 {
        warnings.push(format!("{} records failed", words::count(totals.failed)));
    }
    if report.environment.profile == "debug" {
        warnings.push("measured with a debug build: the numbers are no measure of speed".to_owned());
    }
    warnings
}

fn tiles(report: &Report) -> Vec<Tile> {
    let totals = &report.totals;
    let tile = |name, value, beside, tone| Tile { name, value, beside, tone };
    let mut tiles = Vec::new();
    if let Some(drill) = &report.drill {
        let lost = drill.verdict.lost;
        let tone = if lost == 0 { Tone::Good } else { Tone::Bad };
        let beside = format!("of {} acknowledged", words::count(drill.verdict.acknowledged));
        tiles.push(tile("lost", words::count(lost), beside, tone));
        if let Some(longest) = drill.faults.iter().map(|fault| fault.unavailable_ms).reduce(f64::max) {
            let beside = "the longest that a client saw".to_owned();
            tiles.push(tile("unavailable", words::time(longest), beside, Tone::Plain));
        }
    }
    let asked =
        totals.asked_rate.map_or("as many as possible".to_owned(), |asked| format!("of {} asked", words::rate(asked)));
    tiles.push(tile("acknowledged", words::rate(totals.rate), asked, Tone::Plain));
    let beside = |latency: &Latency| {
        format!(
            "p95 {}, p99 {}, mean {}",
            words::time(latency.p95_ms),
            words::time(latency.p99_ms),
            words::time(latency.mean_ms)
        )
    };
    if report.response.count > 0 {
        let latency = &report.response;
        tiles.push(tile("publish, median", words::time(latency.p50_ms), beside(latency), Tone::Plain));
    }
    if let Some(latency) = report.end_to_end.as_ref().filter(|latency| latency.count > 0) {
        tiles.push(tile("end to end, median", words::time(latency.p50_ms), beside(latency), Tone::Plain));
    }
    let errors: u64 = report.errors.values().sum();
    let tone = if totals.failed == 0 { Tone::Plain } else { Tone::Warning };
    let failed = format!("{} failed attempts", words::count(errors));
    tiles.push(tile("records failed", words::count(totals.failed), failed, tone));
    if let Some(ramp) = &report.ramp {
        let highest = ramp.highest_rate.map_or("none".to_owned(), words::rate);
        tiles.push(tile("highest rate", highest, format!("within {}", ramp.objective), Tone::Plain));
    }
    if !report.thresholds.is_empty() {
        let failed = report.thresholds.iter().filter(|threshold| threshold.failed).count();
        let tone = if failed == 0 { Tone::Good } else { Tone::Bad };
        let kept = format!("{} of {}", report.thresholds.len() - failed, report.thresholds.len());
        let texts: Vec<&str> = report.thresholds.iter().map(|threshold| threshold.text.as_str()).collect();
        tiles.push(tile("thresholds kept", kept, format!("fails if {}", texts.join(", ")), tone));
    }
    tiles
}
