//! Axes: where on them a value lies, and which values are written beside them.

use super::drawing::{Anchor, Drawing, Form, Frame, text_width};
use crate::report::words;

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm.
    Log,
    /// Shares of a whole, each nine as wide as the one before: 0, 90 %, 99 %, 99.9 %.
    Nines,
}

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds since the run began.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Records per second.
    Rate,
    /// Shares of all records.
    Share,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) unit: Unit,
    /// At its beginning.
    pub(super) from: f64,
    /// At its end; of [`Scale::Nines`], how many nines.
    pub(super) to: f64,
    /// What stands beside it.
    pub(super) title: &'static str,
}

/// A larger ratio of the longest to the shortest time asks for a logarithmic axis.
const WIDE_RANGE: f64 = 20.0;
const STEPS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// Steps of a long time.
const TIME_STEPS: [f64; 12] =
    [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0];

impl Axis {
    /// Seconds of a run.
    pub(super) fn seconds(until: f64) -> Self {
        let to = if until.is_finite() && until > 0.0 { until } else { 1.0 };
        Self { scale: Scale::Linear, unit: Unit::Seconds, from: 0.0, to, title: "time since the run began" }
    }

    /// Rates from 0 to the largest.
    pub(super) fn rate(values: impl Iterator<Item = f64>, title: &'static str) -> Self {
        let largest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let to = if largest > 0.0 { largest * 1.06 } else { 1.0 };
        Self { scale: Scale::Linear, unit: Unit::Rate, from: 0.0, to, title }.rounded(6)
    }

    /// Times: from 0, or logarithmic when they are far apart.
    pub(super) fn times(values: impl Iterator<Item = f64>, unit: Unit, title: &'static str) -> Self {
        let values = values.filter(|value| value.is_finite() && *value > 0.0);
        let (least, most) =
            values.fold((f64::INFINITY, 0.0), |(least, most), value| (value.min(least), value.max(most)));
        if most <= 0.0 {
            return Self { scale: Scale::Linear, unit, from: 0.0, to: 1.0, title };
        }
        if most / least <= WIDE_RANGE {
            return Self { scale: Scale::Linear, unit, from: 0.0, to: most * 1.06, title }.rounded(6);
        }
        let (from, to) = (step_below(least), step_above(most));
        Self { scale: Scale::Log, unit, from, to, title }
    }

    /// Shares of so many records.
    pub(super) fn shares(records: u64) -> Self {
        let nines = words::float(records.max(1)).log10().clamp(2.0, 7.0) + 0.3;
        Self { scale: Scale::Nines, unit: Unit::Share, from: 0.0, to: nines, title: "share of the records" }
    }

    /// The same, up to the next value that is written.
    fn rounded(mut self, most: u32) -> Self {
        let step = nice_step((self.to - self.from) / f64::from(most));
        self.to = (self.to / step).ceil() * step;
        self
    }

    /// Where the value lies, from 0 at the beginning to 1 at the end. `None`: nowhere.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            _ if !value.is_finite() => return None,
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log if value <= 0.0 => return None,
            Scale::Log => (value / self.from).log10() / (self.to / self.from).log10(),
            Scale::Nines => -(1.0 - value).max(1e-12).log10() / self.to,
        };
        place.is_finite().then(|| place.clamp(0.0, 1.0))
    }

    /// How it is to be read, for a note.
    pub(super) const fn how(&self) -> &'static str {
        match self.scale {
            Scale::Log => "logarithmic axis",
            Scale::Linear | Scale::Nines => "the axis begins at 0",
        }
    }

    /// The values that are written beside it, at most about so many.
    pub(super) fn ticks(&self, most: u32) -> Vec<(f64, String)> {
        let values = match self.scale {
            Scale::Linear => self.even(most),
            Scale::Log => self.decades(most),
            Scale::Nines => return self.nines(most),
        };
        values.into_iter().map(|value| (value, self.say(value))).collect()
    }

    fn even(&self, most: u32) -> Vec<f64> {
        let raw = (self.to - self.from) / f64::from(most.max(1));
        let of_time = TIME_STEPS.iter().copied().find(|step| *step >= raw);
        let step = match self.unit {
            Unit::Seconds if raw > 10.0 => of_time.unwrap_or_else(|| (raw / 86_400.0).ceil() * 86_400.0),
            _ => nice_step(raw),
        };
        let first = (self.from / step).ceil() * step;
        let tolerance = step * 1e-6;
        (0..=200_u32).map(|index| first + step * f64::from(index)).take_while(|at| *at <= self.to + tolerance).collect()
    }

    fn decades(&self, most: u32) -> Vec<f64> {
        let first = self.from.log10().floor();
        let decades = self.to.log10() - self.from.log10();
        let of_each: &[f64] = if decades * 3.0 <= f64::from(most) { &STEPS[..3] } else { &STEPS[..1] };
        let every = (decades / f64::from(most.max(1))).ceil().max(1.0);
        let tolerance = 1.0 + 1e-9;
        (0..=40_u32)
            .map(|index| first + every * f64::from(index))
            .flat_map(|exponent| of_each.iter().map(move |step| step * 10f64.powf(exponent)))
            .filter(|value| *value * tolerance >= self.from && *value <= self.to * tolerance)
            .collect()
    }

    fn nines(&self, most: u32) -> Vec<(f64, String)> {
        let all = [(0.0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")];
        let more = [(0.9999, "99.99 %"), (0.999_99, "99.999 %"), (0.999_999, "99.9999 %"), (0.999_999_9, "99.99999 %")];
        let few = most < 7;
        let inside = all.iter().chain(&more).filter(|(share, _)| {
            let place = -f64::log10(1.0 - share);
            place <= self.to && !(few && *share == 0.5)
        });
        inside.chain(&[(1.0, "max")]).map(|(share, said)| (*share, (*said).to_owned())).collect()
    }

    fn say(&self, value: f64) -> String {
        match self.unit {
            Unit::Seconds if self.to > 180.0 => clock(value, self.to),
            Unit::Seconds => format!("{} s", short(value)),
            Unit::Milliseconds if value == 0.0 => "0".to_owned(),
            Unit::Milliseconds if value < 0.9995 => format!("{} µs", short(value * 1e3)),
            Unit::Milliseconds if value < 999.5 => format!("{} ms", short(value)),
            Unit::Milliseconds => format!("{} s", short(value / 1e3)),
            Unit::Rate if value >= 1e6 => format!("{} M/s", short(value / 1e6)),
            Unit::Rate if value >= 1e4 => format!("{} k/s", short(value / 1e3)),
            Unit::Rate => format!("{} /s", short(value)),
            Unit::Share => format!("{} %", short(value * 100.0)),
        }
    }
}

/// Minutes and seconds, or hours and minutes: `2:30`, `1:30 h`.
fn clock(seconds: f64, longest: f64) -> String {
    if longest >= 7200.0 {
        let minutes = (seconds / 60.0).round();
        return format!("{:.0}:{:02.0} h", (minutes / 60.0).floor(), minutes % 60.0);
    }
    let seconds = seconds.round();
    format!("{:.0}:{:02.0}", (seconds / 60.0).floor(), seconds % 60.0)
}

/// Without the digits that an addition left behind.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if let Ok(whole) = text.parse::<u64>() { words::count(whole) } else { text.to_owned() }
}

fn power(value: f64) -> f64 {
    10f64.powf(value.log10().floor())
}

/// 1, 2 or 5 times a power of ten that is not smaller.
fn nice_step(raw: f64) -> f64 {
    if !raw.is_finite() || raw <= 0.0 {
        return 1.0;
    }
    let unit = power(raw);
    STEPS.iter().map(|step| step * unit).find(|step| *step * (1.0 + 1e-9) >= raw).unwrap_or(10.0 * unit)
}

fn step_above(value: f64) -> f64 {
    nice_step(value)
}

fn step_below(value: f64) -> f64 {
    let unit = power(value);
    STEPS[..3].iter().rev().map(|step| step * unit).find(|step| *step <= value * (1.0 + 1e-9)).unwrap_or(unit)
}

impl Axis {
    /// Draws it along the bottom of a frame, with lines through the frame and its title below the middle.
    pub(super) fn draw_below(&self, drawing: &mut Drawing, form: Form, frame: Frame, middle: f64) {
        let mut free_from = 0.0;
        for (value, said) in self.ticks(form.ticks()) {
            let Some(x) = self.place(value).map(|share| frame.x(share)) else { continue };
            drawing.line("grid", (x, frame.top), (x, frame.bottom()));
            let half = text_width(&said) / 2.0;
            if x - half >= free_from {
                drawing.text("tick", (x, frame.bottom() + 17.0), Anchor::Middle, &said);
                free_from = x + half + 4.0;
            }
        }
        drawing.line("axis", (frame.left, frame.bottom()), (frame.right(), frame.bottom()));
        drawing.line("axis", (frame.left, frame.top), (frame.left, frame.bottom()));
        drawing.text("tick", (middle, frame.bottom() + 34.0), Anchor::Middle, self.title);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(axis: &Axis, most: u32) -> Vec<String> {
        axis.ticks(most).into_iter().map(|(_, said)| said).collect()
    }

    #[test]
    fn ticks_are_round_and_carry_their_unit() {
        assert_eq!(
            said(&Axis::seconds(40.0), 8),
            ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s", "35 s", "40 s"]
        );
        assert_eq!(said(&Axis::seconds(600.0), 5), ["0:00", "2:00", "4:00", "6:00", "8:00", "10:00"]);
        assert_eq!(said(&Axis::rate([97.0, 100.0].into_iter(), ""), 6).last().map(String::as_str), Some("120 /s"));
        assert_eq!(
            said(&Axis::rate([336_000.0].into_iter(), ""), 4),
            ["0 /s", "100 k/s", "200 k/s", "300 k/s", "400 k/s"]
        );
    }

    #[test]
    fn far_apart_times_are_shown_by_their_logarithm() {
        let wide = Axis::times([0.4, 2100.0].into_iter(), Unit::Milliseconds, "");
        assert_eq!((wide.scale, wide.from, wide.to), (Scale::Log, 0.2, 5000.0));
        assert_eq!(said(&wide, 6), ["1 ms", "10 ms", "100 ms", "1 s"]);
        let near = Axis::times([2.0, 9.0].into_iter(), Unit::Milliseconds, "");
        assert_eq!((near.scale, near.from, near.to), (Scale::Linear, 0.0, 10.0));
        let none = Axis::times(std::iter::empty(), Unit::Milliseconds, "");
        assert_eq!((none.from, none.to), (0.0, 1.0));
    }

    #[test]
    fn every_nine_is_as_wide_as_the_one_before() {
        let axis = Axis::shares(100_000);
        let places = [0.0, 0.9, 0.99, 0.999].map(|share| axis.place(share).expect("on the axis"));
        let widths: Vec<f64> = places.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(widths.iter().all(|width| (width - widths[0]).abs() < 1e-9), "{widths:?}");
        assert_eq!(axis.place(1.0), Some(1.0));
        assert_eq!(said(&axis, 9), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "max"]);
        assert_eq!(axis.place(f64::NAN), None);
    }
}
