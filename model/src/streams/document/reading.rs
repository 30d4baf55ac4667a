//! What sections have in common: lengths of time and words of a list.

use super::{
    DocumentError,
    duration::{format_duration, parse_duration},
    expression::choices,
    json::{At, Json},
    limits,
};

/// A length of time: a text, or a number of milliseconds.
pub(super) fn length(at: &At<'_>, least: i64) -> Result<i64, DocumentError> {
    let most = limits::LENGTH_MS;
    let ms = match at.json {
        Json::Number(number) => match number.as_i64() {
            Some(ms) => ms,
            None => return at.refuse("must be a whole number of milliseconds, or a text like 10m"),
        },
        _ => match parse_duration(at.string()?) {
            Ok(ms) => ms,
            Err(reason) => return at.refuse(reason),
        },
    };
    if (least..=most).contains(&ms) {
        return Ok(ms);
    }
    at.refuse(format!("must be {} to {}, is {}", format_duration(least), format_duration(most), format_duration(ms)))
}

/// A length of time, or `none`.
pub(super) fn length_or_none(at: &At<'_>) -> Result<Option<i64>, DocumentError> {
    match at.json {
        Json::String(text) if text == "none" => Ok(None),
        _ => length(at, 0).map(Some),
    }
}

/// One of several words.
pub(super) fn one_of<T: Copy, const N: usize>(
    at: &At<'_>,
    what: &str,
    known: [(&str, T); N],
) -> Result<T, DocumentError> {
    let given = at.string()?;
    match known.iter().find(|(name, _)| *name == given) {
        Some((_, value)) => Ok(*value),
        None => at.refuse(choices(what, given, known.map(|(name, _)| name))),
    }
}
