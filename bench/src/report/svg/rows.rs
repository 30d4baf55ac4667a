//! A chart of rows: dots and bars along one axis, a name beside each row.

use super::{
    axis::Axis,
    drawing::{Anchor, Drawing, Form, Frame, shortened, text_width},
    header::{Key, header},
};
use crate::report::words;

/// A point of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dot {
    pub(super) value: f64,
    /// How far below the row's middle: dots that would hide each other lie on lines of their own.
    pub(super) lane: f64,
    pub(super) class: String,
    pub(super) said: String,
}

/// A row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RowLine {
    pub(super) name: String,
    /// From the axis' beginning to here, in this colour, with these words behind it.
    pub(super) bar: Option<(f64, usize, String)>,
    /// A dashed line across the row.
    pub(super) goal: Option<f64>,
    /// Joined by a line, or each on one of its own.
    pub(super) dots: Vec<Dot>,
}

/// A chart of rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) axis: Axis,
    pub(super) rows: Vec<RowLine>,
    /// What the dots mean: their name and class.
    pub(super) keys: Vec<(String, String)>,
}

const BELOW: f64 = 40.0;

impl Rows {
    /// The chart as an SVG element, and how high it is.
    pub(super) fn draw(&self, form: Form, name: &str) -> (String, f64) {
        let mut above = Drawing::default();
        let keys: Vec<Key<'_>> = self.keys.iter().map(|(name, class)| Key::dot(name, class)).collect();
        let top = header(&mut above, form, &self.title, &self.note, &keys) + 8.0;
        let widest = self.rows.iter().map(|row| text_width(&row.name)).fold(0.0, f64::max);
        let staggered = self.rows.iter().any(|row| row.dots.iter().any(|dot| dot.lane.abs() > 0.0));
        // Names stand beside the rows where there is room, else above them.
        let (left, pitch, beside) = match form {
            Form::Wide => (widest.min(300.0) + 14.0, if staggered { 42.0 } else { 28.0 }, true),
            Form::Narrow => (14.0, if staggered { 58.0 } else { 44.0 }, false),
        };
        let right = form.width() - self.room_behind_bars();
        let height = words::float(self.rows.len() as u64) * pitch;
        let frame = Frame { left, top, width: right - left, height };
        let whole = frame.bottom() + BELOW;
        let mut drawing = Drawing::default();
        drawing.rect("ground", Frame { left: 0.0, top: 0.0, width: form.width(), height: whole }, &self.title);
        drawing.append(above);
        let middle = if form == Form::Wide { frame.x(0.5) } else { form.width() / 2.0 };
        self.axis.draw_below(&mut drawing, form, frame, middle);
        let mut y = frame.top;
        for row in &self.rows {
            let half = if staggered { 20.0 } else { 14.0 };
            let middle = if beside { y + pitch / 2.0 } else { y + pitch - half };
            if y > frame.top {
                drawing.line("grid", (2.0, y), (frame.right(), y));
            }
            if beside {
                let name = shortened(&row.name, left - 12.0);
                drawing.text("word", (left - 10.0, middle + 4.0), Anchor::End, &name);
            } else {
                let name = shortened(&row.name, right - left);
                drawing.text("word", (left + 2.0, y + 14.0), Anchor::Start, &name);
            }
            self.draw_row(&mut drawing, frame, middle, staggered, row);
            y += pitch;
        }
        let said = format!("{}: {}", self.title, self.note);
        (drawing.finish(form, whole, name, &said, frame, ""), whole)
    }

    fn room_behind_bars(&self) -> f64 {
        let said = self.rows.iter().filter_map(|row| row.bar.as_ref()).map(|(_, _, said)| text_width(said) + 12.0);
        said.fold(28.0, f64::max)
    }

    fn draw_row(&self, drawing: &mut Drawing, frame: Frame, middle: f64, staggered: bool, row: &RowLine) {
        let x = |value: f64| self.axis.place(value).map(|share| frame.x(share));
        if let Some((value, colour, said)) = &row.bar
            && let Some(end) = x(*value)
        {
            let bar = Frame { left: frame.left, top: middle - 8.0, width: (end - frame.left).max(1.0), height: 16.0 };
            drawing.rect(&format!("bar c{}", colour % super::chart::COLOURS), bar, said);
            drawing.text("word", (end + 6.0, middle + 4.0), Anchor::Start, said);
        }
        if let Some(goal) = row.goal.and_then(x) {
            drawing.line("edge", (goal, middle - 12.0), (goal, middle + 12.0));
        }
        let places: Vec<(f64, &Dot)> = row.dots.iter().filter_map(|dot| Some((x(dot.value)?, dot))).collect();
        if staggered {
            for (place, dot) in &places {
                let y = middle + dot.lane;
                drawing.line(&format!("stem {}", dot.class), (frame.left, y), (*place, y));
            }
        } else {
            let least = places.iter().map(|(place, _)| *place).fold(f64::INFINITY, f64::min);
            let most = places.iter().map(|(place, _)| *place).fold(0.0, f64::max);
            if least < most {
                drawing.line("spread", (least, middle), (most, middle));
            }
        }
        for (place, dot) in places {
            drawing.dot(&dot.class, (place, middle + dot.lane), 4.5, &dot.said);
        }
    }
}
