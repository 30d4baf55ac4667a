//! What stands above a plot: its title, what it shows, and which colour means what.

use super::drawing::{Anchor, Drawing, Form, text_width, wrapped};

/// An entry of the legend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    name: &'a str,
    class: String,
    dot: bool,
}

impl<'a> Key<'a> {
    /// Of a line.
    pub(super) fn line(name: &'a str, colour: usize, stroke: &str) -> Self {
        Self { name, class: format!("{stroke} c{}", colour % super::chart::COLOURS), dot: false }
    }

    /// Of a dot.
    pub(super) fn dot(name: &'a str, class: &str) -> Self {
        Self { name, class: class.to_owned(), dot: true }
    }
}

const LINE: f64 = 16.0;
/// The title's font is this much larger than the usual one.
const TITLE_SCALE: f64 = 1.3;

/// Draws it, and says where it ends.
pub(super) fn header(drawing: &mut Drawing, form: Form, title: &str, note: &str, keys: &[Key<'_>]) -> f64 {
    let width = form.width() - 8.0;
    let mut y = 18.0;
    for line in wrapped(title, width / TITLE_SCALE) {
        drawing.text("title", (2.0, y), Anchor::Start, &line);
        y += LINE + 2.0;
    }
    for line in wrapped(note, width) {
        drawing.text("note", (2.0, y), Anchor::Start, &line);
        y += LINE;
    }
    y += 6.0;
    let mut x = 2.0;
    for key in keys {
        let sample = if key.dot { 14.0 } else { 30.0 };
        let room = sample + text_width(key.name);
        if x > 2.0 && x + room > width {
            x = 2.0;
            y += LINE + 2.0;
        }
        if key.dot {
            drawing.dot(&key.class, (x + 5.0, y - 4.0), 4.5, "");
        } else {
            drawing.path(&key.class, &[vec![(x, y - 4.0), (x + 24.0, y - 4.0)]]);
        }
        drawing.text("word", (x + sample, y), Anchor::Start, key.name);
        x += room + 18.0;
    }
    if keys.is_empty() { y - LINE } else { y + 4.0 }
}
