//! Plots of all records together: latency by share of the records, rates, latency by rate.

use super::{
    axis::{Axis, Unit},
    chart::{Chart, Series, Stroke},
    drawing::Point,
    rows::{RowLine, Rows},
};
use crate::{
    latency::Latency,
    report::{
        Load, Report,
        tables::{labels, load},
        words,
    },
};

const CURVE_NOTE: &str = "this share of the records took at most this long; every nine is as wide as the one before";

/// The whole curve of each latency of a report.
pub(super) fn percentiles(report: &Report) -> Chart {
    let lines = [
        ("response: due to acknowledged", 0, Stroke::Solid, Some(&report.response)),
        ("service: sent to acknowledged", 5, Stroke::Dashed, Some(&report.service)),
        ("end to end: due to consumed", 1, Stroke::Solid, report.end_to_end.as_ref()),
    ];
    let lines: Vec<(String, usize, Stroke, &Latency)> = lines
        .into_iter()
        .filter_map(|(name, colour, stroke, latency)| Some((name.to_owned(), colour, stroke, latency?)))
        .collect();
    curves("Latency by share of the records", load(report.load).0, lines)
}

/// Publish latencies of several reports.
pub(super) fn compared(reports: &[Report]) -> Chart {
    let lines = |(colour, (report, name))| (name, colour, Stroke::Solid, response(report));
    let lines = reports.iter().zip(labels(reports)).enumerate().map(lines).collect();
    let closed = reports.iter().any(|report| report.load == Load::ClosedLoop);
    let how = if closed { "with a closed loop among them: not comparable" } else { "all open loop" };
    curves("Publish latency, side by side", how, lines)
}

const fn response(report: &Report) -> &Latency {
    &report.response
}

/// End-to-end latencies of several reports.
pub(super) fn compared_end_to_end(reports: &[Report]) -> Chart {
    let named = reports.iter().zip(labels(reports)).enumerate();
    let lines = named
        .filter_map(|(colour, (report, name))| Some((name, colour, Stroke::Solid, report.end_to_end.as_ref()?)))
        .collect();
    curves("End-to-end latency, side by side", "from when a record was due to when it was consumed", lines)
}

fn curves(title: &str, how: &str, lines: Vec<(String, usize, Stroke, &Latency)>) -> Chart {
    let records = lines.iter().map(|(_, _, _, latency)| latency.count).max().unwrap_or(0);
    let series: Vec<Series> = lines
        .into_iter()
        .map(|(name, colour, stroke, latency)| Series { name, colour, stroke, points: curve(latency) })
        .collect();
    let values = series.iter().flat_map(|series| series.points.iter().map(|(_, ms)| *ms));
    let y = Axis::times(values, Unit::Milliseconds, "latency");
    let note = format!("{CURVE_NOTE}; {how}; {}", y.how());
    Chart { title: title.to_owned(), note, x: Axis::shares(records), y, bands: Vec::new(), series }
}

/// From the shortest to the longest time; empty without records.
fn curve(latency: &Latency) -> Vec<Point> {
    if latency.count == 0 {
        return Vec::new();
    }
    let inner = if latency.curve.is_empty() {
        vec![
            (0.5, latency.p50_ms),
            (0.9, latency.p90_ms),
            (0.95, latency.p95_ms),
            (0.99, latency.p99_ms),
            (0.999, latency.p999_ms),
            (0.9999, latency.p9999_ms),
            (1.0, latency.max_ms),
        ]
    } else {
        latency.curve.clone()
    };
    [(0.0, latency.min_ms)].into_iter().chain(inner).collect()
}

/// What each of several reports sustained, beside what was asked.
pub(super) fn rates(reports: &[Report]) -> Rows {
    let rows = reports.iter().zip(labels(reports)).enumerate().map(|(colour, (report, name))| RowLine {
        name,
        bar: Some((report.totals.rate, colour, words::rate(report.totals.rate))),
        goal: report.totals.asked_rate,
        dots: Vec::new(),
    });
    let rows: Vec<RowLine> = rows.collect();
    let values = reports.iter().flat_map(|report| [Some(report.totals.rate), report.totals.asked_rate]).flatten();
    Rows {
        title: "Rates, side by side".to_owned(),
        note: "acknowledged records per second; the dashed line is what was asked for".to_owned(),
        axis: Axis::rate(values, "records per second"),
        rows,
        keys: Vec::new(),
    }
}

/// Latency by the rate that was asked for, of a search for the highest.
pub(super) fn ramp(report: &Report) -> Chart {
    let mut steps: Vec<_> = report.ramp.iter().flat_map(|ramp| &ramp.steps).collect();
    steps.sort_by(|one, other| one.asked_rate.total_cmp(&other.asked_rate));
    let line = |name: &str, colour, of: fn(&Latency) -> f64| Series {
        name: name.to_owned(),
        colour,
        stroke: Stroke::Solid,
        points: steps.iter().map(|step| (step.asked_rate, of(&step.response))).collect(),
    };
    let series = vec![
        line("p50", 0, |latency| latency.p50_ms),
        line("p99", 1, |latency| latency.p99_ms),
        line("p99.9", 3, |latency| latency.p999_ms),
    ];
    let values = series.iter().flat_map(|series| series.points.iter().map(|(_, ms)| *ms));
    let y = Axis::times(values, Unit::Milliseconds, "latency");
    let objective = report.ramp.as_ref().map_or("", |ramp| ramp.objective.as_str());
    Chart {
        title: "Latency by rate".to_owned(),
        note: format!("response times of each rate that was tried, objective {objective}; {}", y.how()),
        x: Axis::rate(steps.iter().map(|step| step.asked_rate), "rate asked for"),
        y,
        bands: Vec::new(),
        series,
    }
}
