//! Plots over the time of a run, all with the same horizontal axis and the same marks of faults.

use super::{
    axis::{Axis, Unit},
    chart::{Band, Chart, Series, Stroke},
    drawing::Point,
};
use crate::report::{
    Interval, Report,
    tables::{labels, load, other_marks},
    words,
};

/// How many records were asked for, acknowledged and consumed, second by second.
pub(super) fn throughput(report: &Report) -> Chart {
    let rates = |of: fn(&Interval) -> u64| -> Vec<Point> {
        spans(report).map(|(middle, length, interval)| (middle, words::float(of(interval)) / length)).collect()
    };
    let until = until(report);
    let mut series = Vec::new();
    let mut add = |name: &str, colour, stroke, points: Vec<Point>| {
        series.push(Series { name: name.to_owned(), colour, stroke, points });
    };
    if report.totals.consumed > 0 {
        add("consumed", 2, Stroke::Broad, rates(|interval| interval.consumed));
    }
    if let Some(asked) = report.totals.asked_rate.filter(|_| !report.intervals.is_empty()) {
        add("asked for", 7, Stroke::Dashed, vec![(0.0, asked), (until, asked)]);
    }
    add("acknowledged", 0, Stroke::Solid, rates(|interval| interval.acknowledged));
    if report.intervals.iter().any(|interval| interval.failed > 0) {
        add("failed", 4, Stroke::Solid, rates(|interval| interval.failed));
    }
    let values = series.iter().flat_map(|series| series.points.iter().map(|(_, rate)| *rate));
    Chart {
        title: "Throughput over time".to_owned(),
        note: format!("records per second; {}", load(report.load).0),
        x: Axis::seconds(until),
        y: Axis::rate(values, "records per second"),
        bands: bands(report),
        series,
    }
}

/// Mean and 95 of 100 of both latencies, second by second.
pub(super) fn latency(report: &Report) -> Chart {
    let times = |of: fn(&Interval) -> f64| -> Vec<Point> {
        // No time at all: no record was due.
        let some = |ms: f64| if ms > 0.0 { ms } else { f64::NAN };
        spans(report).map(|(middle, _, interval)| (middle, some(of(interval)))).collect()
    };
    let series = [
        ("publish, mean", 0, Stroke::Dashed, times(|interval| interval.response_mean_ms)),
        ("publish, p95", 0, Stroke::Solid, times(|interval| interval.response_p95_ms)),
        ("end to end, mean", 1, Stroke::Dashed, times(|interval| interval.end_to_end_mean_ms)),
        ("end to end, p95", 1, Stroke::Solid, times(|interval| interval.end_to_end_p95_ms)),
    ];
    let series: Vec<Series> = series
        .into_iter()
        .map(|(name, colour, stroke, points)| Series { name: name.to_owned(), colour, stroke, points })
        .collect();
    let values = series.iter().flat_map(|series| series.points.iter().map(|(_, ms)| *ms));
    let y = Axis::times(values, Unit::Milliseconds, "latency");
    Chart {
        title: "Latency over time".to_owned(),
        note: format!("of the records that were due in each second; {}; {}", load(report.load).0, y.how()),
        x: Axis::seconds(until(report)),
        y,
        bands: bands(report),
        series,
    }
}

/// What was acknowledged of several reports.
pub(super) fn compared(reports: &[Report]) -> Chart {
    let series: Vec<Series> = reports
        .iter()
        .zip(labels(reports))
        .enumerate()
        .map(|(colour, (report, name))| {
            let rate = |interval: &Interval, length: f64| words::float(interval.acknowledged) / length;
            let points = spans(report).map(|(middle, length, interval)| (middle, rate(interval, length))).collect();
            Series { name, colour, stroke: Stroke::Solid, points }
        })
        .collect();
    let values = series.iter().flat_map(|series| series.points.iter().map(|(_, rate)| *rate));
    Chart {
        title: "Throughput over time, side by side".to_owned(),
        note: "acknowledged records per second".to_owned(),
        x: Axis::seconds(reports.iter().map(until).fold(0.0, f64::max)),
        y: Axis::rate(values, "records per second"),
        bands: Vec::new(),
        series,
    }
}

/// Of a second that the run did not last to its end, a smaller part is left out: its rate would say nothing.
const SMALLEST_REST: f64 = 0.5;

/// The middle and the length of each interval, in seconds.
fn spans(report: &Report) -> impl Iterator<Item = (f64, f64, &Interval)> {
    let intervals = &report.intervals;
    let end = report.totals.seconds;
    intervals.iter().enumerate().filter_map(move |(index, interval)| {
        let at = interval.at_s;
        let next = intervals.get(index + 1).map(|next| next.at_s - at);
        let before = index.checked_sub(1).and_then(|before| Some(at - intervals.get(before)?.at_s));
        let usual = next.or(before).filter(|length| length.is_finite() && *length > 0.0).unwrap_or(1.0);
        let length = if next.is_none() && end > at { usual.min(end - at) } else { usual };
        (index == 0 || length >= usual * SMALLEST_REST).then_some((at + length / 2.0, length, interval))
    })
}

/// When the last thing of the run happened.
fn until(report: &Report) -> f64 {
    let intervals = spans(report).map(|(middle, length, _)| middle + length / 2.0);
    let bands = bands(report).into_iter().map(|band| band.until.unwrap_or(band.at));
    intervals.chain(bands).filter(|second| second.is_finite()).fold(0.0, f64::max)
}

/// From when until when something was done to the system, numbered as the tables number it.
fn bands(report: &Report) -> Vec<Band> {
    let faults = report.drill.iter().flat_map(|drill| &drill.faults).enumerate().map(|(index, fault)| Band {
        at: fault.at_s,
        until: fault.until_s,
        number: index + 1,
        label: fault.kind.clone(),
    });
    let marks = other_marks(report).into_iter().map(|(number, mark)| Band {
        at: mark.at_s,
        until: mark.until_s,
        number,
        label: mark.what.clone(),
    });
    let mut bands: Vec<Band> = faults.chain(marks).filter(|band| band.at.is_finite()).collect();
    bands.sort_by(|one, other| one.at.total_cmp(&other.at));
    bands
}
