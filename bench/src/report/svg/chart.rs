//! A chart of lines over two axes, with bands where something was done to the system.

use super::{
    axis::{Axis, Scale, Unit},
    drawing::{Anchor, Drawing, Form, Frame, Point, shortened, text_width},
    header::{Key, header},
};

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stroke {
    Solid,
    Dashed,
    /// Wide and pale, to be seen beneath another one.
    Broad,
}

impl Stroke {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Solid => "solid",
            Self::Dashed => "dashed",
            Self::Broad => "broad",
        }
    }
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) stroke: Stroke,
    /// In the order of x; where y is no number the line is broken.
    pub(super) points: Vec<Point>,
}

/// From when until when something was done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Band {
    pub(super) at: f64,
    pub(super) until: Option<f64>,
    /// Its number in the tables.
    pub(super) number: usize,
    pub(super) label: String,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) bands: Vec<Band>,
    /// Those without a value are left out.
    pub(super) series: Vec<Series>,
}

/// Colours that there are.
pub(super) const COLOURS: usize = 8;
/// More points of a line than this show nothing more.
const POINTS_MAX: usize = 600;
/// So many points are few enough to be seen one by one.
const DOTS_MAX: usize = 60;
/// Room for what is written beside the vertical axis: the same for most plots, so that their times are in line.
const NARROWEST: f64 = 54.0;
const LANE: f64 = 15.0;
const BELOW: f64 = 40.0;

impl Chart {
    /// Whether it has anything to show.
    pub(super) fn is_empty(&self) -> bool {
        !self.series.iter().any(Series::has_values)
    }

    /// The chart as an SVG element, and how high it is.
    pub(super) fn draw(&self, form: Form, name: &str) -> (String, f64) {
        let mut drawing = Drawing::default();
        let rows = self.y.ticks(if self.y.scale == Scale::Log { 11 } else { 6 });
        let widest = rows.iter().map(|(_, said)| text_width(said)).fold(NARROWEST, f64::max);
        let left = widest + 12.0;
        let shown: Vec<&Series> = self.series.iter().filter(|series| series.has_values()).collect();
        let keys = shown.iter().map(|series| Key::line(&series.name, series.colour, series.stroke.class()));
        let top = header(&mut drawing, form, &self.title, &self.note, &keys.collect::<Vec<_>>());
        let labels = self.labels(form, left);
        let lanes = labels.iter().map(|label| label.lane + 1).max().unwrap_or(0);
        let top = top + LANE * f64::from(lanes) + if lanes > 0 { 6.0 } else { 8.0 };
        let right = self.right(form);
        let frame = Frame { left, top, width: right - left, height: form.plot_height() };
        let height = frame.bottom() + BELOW;
        // Behind everything.
        let ground = Frame { left: 0.0, top: 0.0, width: form.width(), height };
        let mut behind = Drawing::default();
        behind.rect("ground", ground, &self.title);
        behind.append(drawing);
        let mut drawing = behind;
        self.draw_axes(&mut drawing, form, frame, &rows);
        self.draw_bands(&mut drawing, frame, &labels);
        for series in &shown {
            self.draw_series(&mut drawing, form, frame, series);
        }
        let said = format!("{}: {}", self.title, self.note);
        (drawing.finish(form, height, name, &said, frame, &self.hover()), height)
    }

    fn right(&self, form: Form) -> f64 {
        let last = self.x.ticks(form.ticks()).last().map_or(0.0, |(_, said)| text_width(said));
        form.width() - (last / 2.0 + 4.0).max(16.0)
    }

    /// What a reader of values under the cursor needs to know of the axes.
    fn hover(&self) -> String {
        let scale = match self.x.scale {
            Scale::Linear => "linear",
            Scale::Log => "log",
            Scale::Nines => "nines",
        };
        let unit = |unit: Unit| match unit {
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
            Unit::Rate => "rate",
            Unit::Share => "share",
        };
        let (x, y) = (unit(self.x.unit), unit(self.y.unit));
        format!(
            r#" data-scale="{scale}" data-from="{}" data-to="{}" data-x="{x}" data-y="{y}""#,
            self.x.from, self.x.to
        )
    }

    fn draw_axes(&self, drawing: &mut Drawing, form: Form, frame: Frame, rows: &[(f64, String)]) {
        for (value, said) in rows {
            let Some(y) = self.y.place(*value).map(|share| frame.y(share)) else { continue };
            drawing.line("grid", (frame.left, y), (frame.right(), y));
            drawing.text("tick", (frame.left - 8.0, y + 4.0), Anchor::End, said);
        }
        self.x.draw_below(drawing, form, frame, frame.x(0.5));
    }

    fn draw_series(&self, drawing: &mut Drawing, form: Form, frame: Frame, series: &Series) {
        let points = thinned(&series.points);
        let mut runs: Vec<Vec<Point>> = vec![Vec::new()];
        for (x, y) in &points {
            match (self.x.place(*x), self.y.place(*y).filter(|_| y.is_finite())) {
                (Some(x), Some(y)) => {
                    if let Some(run) = runs.last_mut() {
                        run.push((frame.x(x), frame.y(y)));
                    }
                }
                _ => runs.push(Vec::new()),
            }
        }
        let class = format!("{} c{}", series.stroke.class(), series.colour % COLOURS);
        // The narrow form of a plot stands beside a wide one, which has the values.
        let values = if form == Form::Wide { points.as_slice() } else { &[] };
        drawing.series(&class, &runs, &series.name, values);
        let few = series.stroke == Stroke::Solid && self.x.scale == Scale::Linear && points.len() <= DOTS_MAX;
        for run in runs.iter().filter(|run| few || run.len() == 1) {
            for at in run {
                drawing.dot(&format!("c{}", series.colour % COLOURS), *at, if run.len() == 1 { 3.0 } else { 1.4 }, "");
            }
        }
    }

    fn draw_bands(&self, drawing: &mut Drawing, frame: Frame, labels: &[Label]) {
        for band in &self.bands {
            let Some(from) = self.x.place(band.at).map(|share| frame.x(share)) else { continue };
            if let Some(to) = band.until.and_then(|until| self.x.place(until)).map(|share| frame.x(share)) {
                let band_frame =
                    Frame { left: from, top: frame.top, width: (to - from).max(1.0), height: frame.height };
                drawing.rect("band", band_frame, &band.label);
            }
            drawing.line("edge", (from, frame.top), (from, frame.bottom()));
        }
        let baseline = |label: &Label| frame.top - 6.0 - LANE * f64::from(label.lane);
        for label in labels {
            let x = frame.x(label.share);
            drawing.line("edge", (x, baseline(label) + 3.0), (x, frame.top));
        }
        // Over the lines of labels that lie higher.
        for label in labels {
            drawing.text("mark", (label.left, baseline(label)), Anchor::Start, &label.text);
        }
    }

    /// Words for the bands, where none lies over another one.
    fn labels(&self, form: Form, left: f64) -> Vec<Label> {
        let (lanes, longest): (usize, f64) = match form {
            Form::Wide => (3, 220.0),
            Form::Narrow => (3, 130.0),
        };
        let right = self.right(form);
        let mut free_from = vec![0.0_f64; lanes];
        let mut labels = Vec::new();
        for band in &self.bands {
            let Some(share) = self.x.place(band.at) else { continue };
            let at = left + (right - left) * share;
            let number = band.number.to_string();
            let texts = [shortened(&format!("{number} {}", band.label), longest), number];
            let fits = texts.iter().find_map(|text| {
                let width = text_width(text);
                let from = at.min(right - width).max(0.0);
                let lane = free_from.iter().position(|free| *free <= from)?;
                Some((text, lane, from, width))
            });
            if let Some((text, lane, from, width)) = fits {
                free_from[lane] = from + width + 8.0;
                let lane = u32::try_from(lane).unwrap_or(0);
                labels.push(Label { text: text.clone(), lane, left: from, share });
            }
        }
        labels
    }
}

struct Label {
    text: String,
    /// How far above the plot.
    lane: u32,
    left: f64,
    share: f64,
}

impl Series {
    fn has_values(&self) -> bool {
        self.points.iter().any(|(x, y)| x.is_finite() && y.is_finite())
    }
}

/// At most so many points as can be told apart: of those that fall together, the lowest and the highest.
fn thinned(points: &[Point]) -> Vec<Point> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let together = points.len().div_ceil(POINTS_MAX / 2);
    let mut kept = Vec::with_capacity(POINTS_MAX);
    for chunk in points.chunks(together) {
        let known = || chunk.iter().filter(|(_, y)| y.is_finite());
        let lowest = known().min_by(|one, other| one.1.total_cmp(&other.1));
        let highest = known().max_by(|one, other| one.1.total_cmp(&other.1));
        match (lowest, highest) {
            (Some(low), Some(high)) if low.0 < high.0 => kept.extend([*low, *high]),
            (Some(low), Some(high)) if low.0 > high.0 => kept.extend([*high, *low]),
            (Some(only), _) => kept.push(*only),
            _ => kept.extend(chunk.first().map(|(x, _)| (*x, f64::NAN))),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_keeps_its_peaks() {
        let mut points: Vec<Point> = (0..100_000_u32).map(|second| (f64::from(second), 1.0)).collect();
        points[54_321].1 = 900.0;
        points[77_777].1 = 0.1;
        let kept = thinned(&points);
        assert!(kept.len() <= POINTS_MAX, "{}", kept.len());
        assert!(kept.contains(&(54_321.0, 900.0)) && kept.contains(&(77_777.0, 0.1)));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn labels_of_bands_never_lie_over_each_other() {
        let band = |at: u32| Band { at: f64::from(at), until: None, number: 1, label: "kill leader".to_owned() };
        let chart = Chart {
            title: String::new(),
            note: String::new(),
            x: Axis::seconds(100.0),
            y: Axis::rate([1.0].into_iter(), ""),
            bands: (0..100).map(band).collect(),
            series: Vec::new(),
        };
        let labels = chart.labels(Form::Wide, 60.0);
        assert!(labels.len() > 3);
        for (index, one) in labels.iter().enumerate() {
            for other in labels[index + 1..].iter().filter(|other| other.lane == one.lane) {
                assert!(
                    one.left + text_width(&one.text) <= other.left || other.left + text_width(&other.text) <= one.left
                );
            }
            assert!(one.left + text_width(&one.text) <= Form::Wide.width());
        }
    }
}
