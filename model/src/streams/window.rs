//! Which windows there are, and which panes they share.
//!
//! Overlapping windows are made of panes as long as the greatest common divisor of size and hop: a
//! record is counted once, in its pane, and a window is the sum of its panes. Where windows do not
//! overlap, a pane is a window.

use super::{
    plan::{Window, gcd},
    time::TimeZone,
};

#[derive(Clone, Debug)]
pub(crate) enum Windows {
    Fixed { size_ms: i64, hop_ms: i64, origin_ms: i64, pane_ms: i64 },
    Calendar { unit: super::plan::CalendarUnit, zone: Box<TimeZone> },
    Session,
}

/// A pane: its bounds, and the ends of the first and the last window that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PaneBounds {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) first_end: i64,
    pub(crate) last_end: i64,
}

impl Windows {
    pub(crate) fn new(window: &Window) -> Option<Self> {
        Some(match window {
            Window::Hopping { size_ms, hop_ms, origin_ms } => Self::Fixed {
                size_ms: *size_ms,
                hop_ms: *hop_ms,
                origin_ms: origin_ms.rem_euclid(*hop_ms),
                pane_ms: gcd(*size_ms, *hop_ms),
            },
            Window::Calendar { unit, timezone } => {
                Self::Calendar { unit: *unit, zone: Box::new(TimeZone::named(timezone)?) }
            }
            Window::Session { .. } => Self::Session,
        })
    }

    /// The pane that contains a time.
    pub(crate) fn pane(&self, at: i64) -> PaneBounds {
        match self {
            Self::Fixed { size_ms, hop_ms, origin_ms, pane_ms } => {
                let start = floor(at, *pane_ms, *origin_ms);
                // The last window that contains the pane starts at or before it, the first one ends
                // at or after the pane's end.
                let last_start = floor(start, *hop_ms, *origin_ms);
                let overlaps = (last_start + size_ms - (start + pane_ms)) / hop_ms;
                let last_end = last_start + size_ms;
                PaneBounds { start, end: start + pane_ms, first_end: last_end - overlaps * hop_ms, last_end }
            }
            Self::Calendar { unit, zone } => {
                let (start, end) = zone.window(*unit, at).unwrap_or((at, at + 1));
                PaneBounds { start, end, first_end: end, last_end: end }
            }
            Self::Session => PaneBounds { start: at, end: at, first_end: at, last_end: at },
        }
    }

    /// The start of the window that ends then.
    pub(crate) fn start_of(&self, end: i64) -> i64 {
        match self {
            Self::Fixed { size_ms, .. } => end.saturating_sub(*size_ms),
            Self::Calendar { .. } => self.pane(end - 1).start,
            Self::Session => end,
        }
    }

    /// The end of the window after the one that ends then.
    pub(crate) fn next_end(&self, end: i64) -> i64 {
        match self {
            Self::Fixed { hop_ms, .. } => end.saturating_add(*hop_ms),
            Self::Calendar { .. } => self.pane(end).end,
            Self::Session => end,
        }
    }

    /// The end of the first window that ends after `at`.
    pub(crate) fn first_end_after(&self, at: i64) -> i64 {
        match self {
            Self::Fixed { size_ms, hop_ms, origin_ms, .. } => floor(at, *hop_ms, *origin_ms + size_ms) + hop_ms,
            Self::Calendar { .. } => self.pane(at).end,
            Self::Session => at,
        }
    }

    /// How many windows end from `first` to `last`, both included.
    pub(crate) fn count(&self, first: i64, last: i64) -> u64 {
        match self {
            Self::Fixed { hop_ms, .. } if last >= first => u64::try_from((last - first) / hop_ms + 1).unwrap_or(0),
            Self::Calendar { .. } => u64::from(last >= first),
            _ => 0,
        }
    }
}

/// The largest `origin + k · unit` that is not above `at`.
const fn floor(at: i64, unit: i64, origin: i64) -> i64 {
    at - (at - origin).rem_euclid(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pane_is_in_the_windows_of_its_times(
            size_ms in 1_i64..40, hop in 1_i64..40, origin_ms in -50_i64..50, at in -500_i64..500,
        ) {
            let hop_ms = hop.min(size_ms);
            let windows = Windows::new(&Window::Hopping { size_ms, hop_ms, origin_ms }).unwrap();
            let pane = windows.pane(at);
            // The windows of the definition: [w, w + size) with w = origin + k · hop.
            let ends_with = |time: i64| -> Vec<i64> {
                let starts = (-700..700).filter(|w| (w - origin_ms).rem_euclid(hop_ms) == 0);
                starts.filter(|w| *w <= time && time < w + size_ms).map(|w| w + size_ms).collect()
            };
            let ends = ends_with(at);
            prop_assert!(pane.start <= at && at < pane.end);
            prop_assert_eq!(ends_with(pane.start), ends.clone());
            prop_assert_eq!(ends_with(pane.end - 1), ends.clone());
            prop_assert_eq!(pane.first_end, ends[0]);
            prop_assert_eq!(pane.last_end, ends[ends.len() - 1]);
            prop_assert_eq!(windows.count(pane.first_end, pane.last_end), ends.len() as u64);
            prop_assert_eq!(windows.next_end(pane.first_end), pane.first_end + hop_ms);
            let after = windows.first_end_after(at);
            prop_assert!(after > at && after - hop_ms <= at);
            prop_assert_eq!((after - size_ms - origin_ms).rem_euclid(hop_ms), 0);
        }
    }
}
