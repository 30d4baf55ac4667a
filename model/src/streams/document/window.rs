//! The section `window`: into which windows a record falls.

use super::{
    DocumentError,
    duration::format_duration,
    expression::choices,
    json::{At, Json},
    limits,
    reading::{length, one_of},
};
use crate::streams::{
    plan::{CalendarUnit, Window, gcd},
    time::TimeZone,
};

pub(super) const UNITS: [(&str, CalendarUnit); 3] =
    [("day", CalendarUnit::Day), ("week", CalendarUnit::Week), ("month", CalendarUnit::Month)];
pub(super) fn read_window(at: &At<'_>) -> Result<Window, DocumentError> {
    let mut members = at.members()?;
    let kind = members.required("kind")?;
    let origin = |at: Option<At<'_>>| at.map_or(Ok(0), |at| length(&at, -limits::LENGTH_MS));
    let window = match kind.string()? {
        "tumbling" => {
            let size_ms = length(&members.required("size")?, 1)?;
            Window::Hopping { size_ms, hop_ms: size_ms, origin_ms: origin(members.optional("origin"))? }
        }
        "hopping" => {
            let size_ms = length(&members.required("size")?, 1)?;
            let hop = members.required("hop")?;
            let hop_ms = length(&hop, 1)?;
            check_hop(&hop, size_ms, hop_ms)?;
            Window::Hopping { size_ms, hop_ms, origin_ms: origin(members.optional("origin"))? }
        }
        "calendar" => {
            let unit = one_of(&members.required("unit")?, "unit of the calendar", UNITS)?;
            let timezone = match members.optional("timezone") {
                None => "UTC".to_owned(),
                Some(at) => match TimeZone::named(at.string()?) {
                    Some(_) => at.string()?.to_owned(),
                    None => return at.refuse(format!("{:?} is not in the time zone database", at.string()?)),
                },
            };
            Window::Calendar { unit, timezone }
        }
        "session" => Window::Session { gap_ms: length(&members.required("gap")?, 0)? },
        other => {
            return kind.refuse(choices("kind of window", other, ["tumbling", "hopping", "calendar", "session"]));
        }
    };
    members.finish()?;
    Ok(window)
}

fn check_hop(at: &At<'_>, size_ms: i64, hop_ms: i64) -> Result<(), DocumentError> {
    if hop_ms > size_ms {
        return at.refuse("must not be more than the size: records between two windows would be in none");
    }
    let overlapping = size_ms / hop_ms + i64::from(size_ms % hop_ms != 0);
    if overlapping > limits::WINDOWS_OF_A_RECORD {
        let most = limits::WINDOWS_OF_A_RECORD;
        return at.refuse(format!("puts a record into {overlapping} windows, at most {most}: hop further"));
    }
    let measure = gcd(size_ms, hop_ms);
    let panes = size_ms / measure;
    if panes > limits::PANES {
        let measure = format_duration(measure);
        return at.refuse(format!("cuts a window into {panes} panes of {measure}, at most {}", limits::PANES));
    }
    Ok(())
}

pub(super) fn write_window(window: &Window) -> Json {
    let text = |text: &str| Json::String(text.to_owned());
    let length = |ms: i64| Json::String(format_duration(ms));
    match window {
        Window::Hopping { size_ms, hop_ms, origin_ms } if size_ms == hop_ms => Json::object([
            ("kind", text("tumbling")),
            ("size", length(*size_ms)),
            ("origin", length(origin_ms.rem_euclid(*hop_ms))),
        ]),
        Window::Hopping { size_ms, hop_ms, origin_ms } => Json::object([
            ("kind", text("hopping")),
            ("size", length(*size_ms)),
            ("hop", length(*hop_ms)),
            ("origin", length(origin_ms.rem_euclid(*hop_ms))),
        ]),
        Window::Calendar { unit, timezone } => Json::object([
            ("kind", text("calendar")),
            ("unit", text(UNITS.iter().find(|(_, known)| known == unit).map_or("", |(name, _)| name))),
            ("timezone", text(timezone)),
        ]),
        Window::Session { gap_ms } => Json::object([("kind", text("session")), ("gap", length(*gap_ms))]),
    }
}
