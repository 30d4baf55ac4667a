//! Shapes and words of a drawing, written as SVG.

use crate::report::markup::escape;

/// Colours and fonts of all plots, light and dark.
pub const STYLE: &str = include_str!("plot.css");

/// For what width a plot is drawn: text keeps its size, so a plot cannot just be scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A page.
    Wide,
    /// A telephone.
    Narrow,
}

impl Form {
    pub(super) const fn width(self) -> f64 {
        match self {
            Self::Wide => 960.0,
            Self::Narrow => 360.0,
        }
    }

    pub(super) const fn plot_height(self) -> f64 {
        match self {
            Self::Wide => 240.0,
            Self::Narrow => 200.0,
        }
    }

    /// Values beside the horizontal axis.
    pub(super) const fn ticks(self) -> u32 {
        match self {
            Self::Wide => 10,
            Self::Narrow => 5,
        }
    }
}

/// Which end of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A point in the units of the drawing.
pub(super) type Point = (f64, f64);

/// A rectangle of the drawing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Frame {
    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// The horizontal place of a share of the width.
    pub(super) fn x(&self, share: f64) -> f64 {
        self.left + self.width * share
    }

    /// The vertical place of a share of the height, counted from below.
    pub(super) fn y(&self, share: f64) -> f64 {
        self.bottom() - self.height * share
    }
}

/// What has been drawn.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    body: String,
}

impl Drawing {
    pub(super) fn line(&mut self, class: &str, from: Point, to: Point) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.body.push_str(&format!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#));
    }

    /// A rectangle; `said` is shown to who points at it.
    pub(super) fn rect(&mut self, class: &str, frame: Frame, said: &str) {
        let Frame { left, top, width, height } = frame;
        let said = escape(said);
        self.body.push_str(&format!(
            r#"<rect class="{class}" x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"><title>{said}</title></rect>"#
        ));
    }

    pub(super) fn dot(&mut self, class: &str, at: Point, radius: f64, said: &str) {
        let (x, y) = at;
        let said = if said.is_empty() { String::new() } else { format!("<title>{}</title>", escape(said)) };
        self.body
            .push_str(&format!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}">{said}</circle>"#));
    }

    pub(super) fn text(&mut self, class: &str, at: Point, anchor: Anchor, text: &str) {
        let (x, y) = at;
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.body
            .push_str(&format!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }

    /// What another drawing has, on top of this one.
    pub(super) fn append(&mut self, other: Self) {
        self.body.push_str(&other.body);
    }

    /// A line through the points of each run.
    pub(super) fn path(&mut self, class: &str, runs: &[Vec<Point>]) {
        self.series(class, runs, "", &[]);
    }

    /// The same, and the values that it shows, for who points at it.
    pub(super) fn series(&mut self, class: &str, runs: &[Vec<Point>], name: &str, values: &[Point]) {
        let mut steps = String::new();
        for run in runs {
            for (index, (x, y)) in run.iter().enumerate() {
                steps.push_str(&format!("{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' }));
            }
        }
        let said = |(x, y): &Point| format!("{},{}", digits(*x), digits(*y));
        let known = values.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        let values = known.map(said).collect::<Vec<_>>().join(" ");
        let values = if values.is_empty() {
            String::new()
        } else {
            format!(r#" data-name="{}" data-values="{values}""#, escape(name))
        };
        if !steps.is_empty() {
            self.body.push_str(&format!(r#"<path class="{class}" d="{steps}"{values}/>"#));
        }
    }

    /// The drawing as an element of a page, with these attributes more. `name` is what tests and styles find it by.
    pub(super) fn finish(self, form: Form, height: f64, name: &str, title: &str, frame: Frame, more: &str) -> String {
        let width = form.width();
        let class = match form {
            Form::Wide => "wide",
            Form::Narrow => "narrow",
        };
        let (name, title) = (escape(name), escape(title));
        let Frame { left, top, width: frame_width, height: frame_height } = frame;
        format!(
            r#"<svg class="plot {class}" data-plot="{name}" data-frame="{left:.1} {top:.1} {frame_width:.1} {frame_height:.1}" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="{title}"{more}>{}</svg>"#,
            self.body
        )
    }
}

/// As many digits as a reader of one value wants: six that mean something.
fn digits(value: f64) -> String {
    let size = value.abs();
    let text = if size >= 1e5 {
        format!("{value:.0}")
    } else if size >= 1.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.7}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How wide a text is about, in the plots' font at its usual size. Rather too wide than too narrow.
pub(super) fn text_width(text: &str) -> f64 {
    let wide = |letter: char| if letter.is_ascii() { 6.7 } else { 9.0 };
    text.chars().map(wide).sum()
}

/// The text in lines of at most this width, broken between words.
pub(super) fn wrapped(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line) + text_width(word) + 6.7 <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// As much of the text as has room, with an ellipsis when that is not all of it.
pub(super) fn shortened(text: &str, width: f64) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        if text_width(&kept) + text_width("x…") > width {
            break;
        }
        kept.push(letter);
    }
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_their_room() {
        assert_eq!(wrapped("one two three", 60.0), ["one two", "three"]);
        assert_eq!(shortened("kill leader", 1000.0), "kill leader");
        let short = shortened("a very long label of a fault", 60.0);
        assert!(short.ends_with('…') && text_width(&short) <= 60.0, "{short}");
    }
}
