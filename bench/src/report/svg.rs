//! Plots of reports: as parts of a page, and as files that stand alone.

mod axis;
mod chart;
mod drawing;
mod faults;
mod header;
mod over_time;
mod rows;
mod shares;

pub use self::drawing::{Form, STYLE};

use self::{chart::Chart, rows::Rows};
use super::Report;

/// A plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    name: &'static str,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Lines(Box<Chart>),
    Rows(Box<Rows>),
}

impl Plot {
    fn lines(name: &'static str, chart: Chart) -> Option<Self> {
        (!chart.is_empty()).then(|| Self { name, shape: Shape::Lines(Box::new(chart)) })
    }

    fn rows(name: &'static str, rows: Rows) -> Option<Self> {
        (!rows.rows.is_empty()).then(|| Self { name, shape: Shape::Rows(Box::new(rows)) })
    }

    /// Its name, for a file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The plot as an element of a page that has [`STYLE`].
    #[must_use]
    pub fn element(&self, form: Form) -> String {
        match &self.shape {
            Shape::Lines(chart) => chart.draw(form, self.name),
            Shape::Rows(rows) => rows.draw(form, self.name),
        }
    }

    /// The plot as a document.
    #[must_use]
    pub fn document(&self) -> String {
        let element = self.element(Form::Wide);
        let size =
            element.split_once(r#"viewBox="0 0 "#).and_then(|(_, rest)| rest.split_once('"')).map(|(size, _)| size);
        let (width, height) = size.and_then(|size| size.split_once(' ')).unwrap_or(("960", "400"));
        // Within attributes the character is written otherwise, so the first one ends the opening tag.
        let (opening, rest) = element.split_once('>').unwrap_or((&element, ""));
        let root = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}""#);
        let opening = opening.replacen("<svg", &root, 1);
        format!("{opening}><style>{STYLE}</style>{rest}\n")
    }
}

/// The plots of a report that have something to show.
#[must_use]
pub fn plots(report: &Report) -> Vec<Plot> {
    let all = [
        Plot::lines("throughput", over_time::throughput(report)),
        Plot::lines("latency", over_time::latency(report)),
        Plot::lines("percentiles", shares::percentiles(report)),
        Plot::rows("faults", faults::each(report)),
        Plot::rows("fault-kinds", faults::kinds(report)),
        Plot::lines("ramp", shares::ramp(report)),
    ];
    all.into_iter().flatten().collect()
}

/// Plots of several reports together; none of fewer than two.
#[must_use]
pub fn compared(reports: &[Report]) -> Vec<Plot> {
    if reports.len() < 2 {
        return Vec::new();
    }
    let all = [
        Plot::rows("compared-rates", shares::rates(reports)),
        Plot::lines("compared-percentiles", shares::compared(reports)),
        Plot::lines("compared-end-to-end", shares::compared_end_to_end(reports)),
        Plot::lines("compared-throughput", over_time::compared(reports)),
    ];
    all.into_iter().flatten().collect()
}

/// The plots of a report as documents, each with a name for its file.
#[must_use]
pub fn svgs(report: &Report) -> Vec<(String, String)> {
    plots(report).iter().map(|plot| (plot.name.to_owned(), plot.document())).collect()
}

#[cfg(test)]
mod tests;
