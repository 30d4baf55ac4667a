//! Lengths of time: `INTERVAL '1' HOUR`, `INTERVAL '90 minutes'`, `INTERVAL '1h 30m'`.

use pubg1_model::streams::document::{format_duration, parse_duration};
use sqlparser::ast::{DateTimeField, Expr, Interval, Value, ValueWithSpan};

use crate::place::{SqlError, start_of};

/// How long something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Always the same.
    Fixed(i64),
    /// A week of the calendar, from Monday.
    Week,
    /// A month of the calendar.
    Month,
}

const UNITS: [(&str, i64); 5] =
    [("millisecond", 1), ("second", 1_000), ("minute", 60_000), ("hour", 3_600_000), ("day", 86_400_000)];
const HINT: &str = "write INTERVAL '1' HOUR, or INTERVAL '1h 30m'";

impl Length {
    /// The text of a document.
    pub(crate) fn text(self) -> Option<String> {
        match self {
            Self::Fixed(ms) => Some(format_duration(ms)),
            Self::Week | Self::Month => None,
        }
    }
}

/// Reads an interval, or a text that is a length.
pub(crate) fn read(expr: &Expr) -> Result<Length, SqlError> {
    let refuse = |message: &str| Err(SqlError::new(start_of(expr), message.to_owned()).hint(HINT));
    match expr {
        Expr::Interval(Interval {
            value,
            leading_field,
            leading_precision: None,
            last_field: None,
            fractional_seconds_precision: None,
        }) => match (&**value, leading_field) {
            (Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }), None) => match of_text(text) {
                Some(length) => Ok(length),
                None => refuse(&format!("{text:?} is no length of time")),
            },
            (
                Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text) | Value::Number(text, _), .. }),
                Some(unit),
            ) => match of_unit(text, unit) {
                Some(length) => Ok(length),
                None => refuse(&format!("{text} {unit} is no length of time that is supported")),
            },
            _ => refuse("an interval is a constant"),
        },
        Expr::Interval(_) => refuse("this form of an interval is not supported"),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => match of_text(text) {
            Some(length) => Ok(length),
            None => refuse(&format!("{text:?} is no length of time")),
        },
        _ => refuse("here stands a length of time"),
    }
}

fn of_unit(number: &str, unit: &DateTimeField) -> Option<Length> {
    of_words(number.trim(), &unit.to_string().to_ascii_lowercase())
}

/// `1 hour`, `90 minutes`, or what documents write.
fn of_text(text: &str) -> Option<Length> {
    if let Ok(ms) = parse_duration(text) {
        return Some(Length::Fixed(ms));
    }
    let (number, unit) = text.trim().split_once(' ')?;
    of_words(number, &unit.trim().to_ascii_lowercase())
}

fn of_words(number: &str, unit: &str) -> Option<Length> {
    let number: i64 = number.parse().ok()?;
    let unit = unit.strip_suffix('s').unwrap_or(unit);
    match (number, unit) {
        (1, "week") => Some(Length::Week),
        (1, "month") => Some(Length::Month),
        _ => {
            let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*ms).map(Length::Fixed)
        }
    }
}
