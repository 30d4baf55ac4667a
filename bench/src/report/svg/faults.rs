//! What followed each fault, and when: a row for each, a dot for each phase.

use super::{
    axis::{Axis, Unit},
    rows::{Dot, RowLine, Rows},
};
use crate::report::{FaultOutcome, Report, tables::drilled::PHASES, words};

/// More faults than this are only shown by their kinds.
const FAULTS_MAX: usize = 24;
/// Colours of the phases, in the order of [`PHASES`].
const CLASSES: [&str; 5] = ["c5", "c0", "c2", "c3", "c4 hollow"];

/// How far the phases lie below the middle of their row.
const LANES: [f64; 5] = [-12.0, -6.0, 0.0, 6.0, 12.0];

/// Each fault.
pub(super) fn each(report: &Report) -> Rows {
    let faults = report.drill.as_ref().map_or(&[][..], |drill| &drill.faults);
    let shown = if faults.len() > FAULTS_MAX { &[][..] } else { faults };
    let rows: Vec<RowLine> = shown
        .iter()
        .enumerate()
        .map(|(index, fault)| RowLine {
            name: format!("{} {}", index + 1, if fault.what.is_empty() { &fault.kind } else { &fault.what }),
            dots: dots(fault),
            ..RowLine::default()
        })
        .collect();
    let values = rows.iter().flat_map(|row| row.dots.iter().map(|dot| dot.value));
    let axis = Axis::times(values, Unit::Milliseconds, "since the fault was injected");
    let keys = PHASES.iter().zip(CLASSES).map(|((_, name), class)| ((*name).to_owned(), class.to_owned()));
    Rows {
        title: "Phases of each fault".to_owned(),
        note: format!(
            "when a fault was detected, and so on; unavailable: how long, for the client that saw the \
             longest; {}",
            axis.how()
        ),
        axis,
        rows,
        keys: keys.collect(),
    }
}

fn dots(fault: &FaultOutcome) -> Vec<Dot> {
    let times = [
        fault.detected_ms,
        fault.elected_ms,
        fault.first_write_ms,
        fault.full_replicas_ms,
        Some(fault.unavailable_ms).filter(|ms| *ms > 0.0),
    ];
    let mut dots = Vec::new();
    for (((value, (_, name)), class), lane) in times.into_iter().zip(PHASES).zip(CLASSES).zip(LANES) {
        dots.extend(value.map(|value| Dot {
            value,
            lane,
            class: class.to_owned(),
            said: format!("{name}: {}", words::time(value)),
        }));
    }
    dots
}

/// Faults of each kind together, where there are several.
pub(super) fn kinds(report: &Report) -> Rows {
    let kinds = report.drill.iter().flat_map(|drill| &drill.kinds).filter(|kind| kind.count > 1);
    let rows: Vec<RowLine> = kinds
        .flat_map(|kind| {
            PHASES.iter().zip(CLASSES).filter_map(|((key, name), class)| {
                let (median, p99) = *kind.median_and_p99_ms.get(*key)?;
                let colour = class.split(' ').next().unwrap_or(class);
                let dot = |value, class: &str, which: &str| Dot {
                    value,
                    lane: 0.0,
                    class: class.to_owned(),
                    said: format!("{name}, {which}: {}", words::time(value)),
                };
                Some(RowLine {
                    name: format!("{} ({}×): {name}", kind.kind, kind.count),
                    dots: vec![dot(p99, &format!("{colour} hollow"), "p99"), dot(median, colour, "median")],
                    ..RowLine::default()
                })
            })
        })
        .collect();
    let values = rows.iter().flat_map(|row| row.dots.iter().map(|dot| dot.value));
    let axis = Axis::times(values, Unit::Milliseconds, "since the fault was injected");
    Rows {
        title: "Phases by kind of fault".to_owned(),
        note: format!("over all faults of a kind; {}", axis.how()),
        axis,
        rows,
        keys: vec![("median".to_owned(), "c7".to_owned()), ("p99".to_owned(), "c7 hollow".to_owned())],
    }
}
