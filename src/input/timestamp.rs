//! Times as people and machines write them: seconds or milliseconds since 1970, or RFC 3339.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Numbers below this are seconds, the others milliseconds. As seconds it is the year 5138, as
/// milliseconds March 1973.
const SECONDS_BELOW: f64 = 1e11;

/// Milliseconds since 1970 from a number or a text; `None` for `null` and empty text.
///
/// # Errors
/// Why it is no time.
pub fn of_json(value: &Value) -> Result<Option<i64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => number.as_f64().and_then(of_number).map(Some).ok_or_else(|| "is no time".to_owned()),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) => of_text(text.trim()).map(Some),
        _ => Err("a time is a number or a text".to_owned()),
    }
}

/// Milliseconds since 1970 from a number or an RFC 3339 time, with `Z` or another offset.
///
/// # Errors
/// Why it is no time.
pub fn of_text(text: &str) -> Result<i64, String> {
    if let Some(ms) = text.parse().ok().and_then(of_number) {
        return Ok(ms);
    }
    let refuse = || format!("{text:?} is no time: seconds, milliseconds, or RFC 3339 like 2013-01-01T10:17:00Z");
    let (local, offset_minutes) = split_offset(text).ok_or_else(refuse)?;
    let time = humantime::parse_rfc3339_weak(local).map_err(|_| refuse())?;
    Ok(ms_since_epoch(time) - offset_minutes * 60_000)
}

/// A moment in the past: `10m` ago, or a time as [`of_text`] reads it.
///
/// # Errors
/// Why it is neither.
pub fn of_since(text: &str, now: SystemTime) -> Result<i64, String> {
    if text.chars().any(|c| c.is_ascii_alphabetic() && !matches!(c, 'T' | 'Z')) {
        let ago = humantime::parse_duration(text).map_err(|error| format!("{text:?}: {error}"))?;
        let past = now.checked_sub(ago).ok_or_else(|| format!("{text:?} is too long ago"))?;
        return Ok(ms_since_epoch(past));
    }
    of_text(text)
}

/// Milliseconds since 1970; negative before.
#[must_use]
pub fn ms_since_epoch(time: SystemTime) -> i64 {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|error| -ms(error.duration()), ms)
}

/// This moment, in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    ms_since_epoch(SystemTime::now())
}

fn of_number(number: f64) -> Option<i64> {
    let ms = if number.abs() < SECONDS_BELOW { number * 1000.0 } else { number };
    if !ms.is_finite() || ms.abs() >= 9e15 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "below 2^53, so that it fits and is exact")]
    let whole = ms.round() as i64;
    Some(whole)
}

/// The time without its offset, and the offset in minutes; no offset is UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return Some((local, 0));
    }
    // The signs within a date stand before its 10th byte.
    let Some(at) = text.get(10..).and_then(|rest| rest.rfind(['+', '-'])).map(|at| at + 10) else {
        return Some((text, 0));
    };
    let (local, offset) = text.split_at(at);
    let (hours, minutes) = offset[1..].split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..24).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    Some((local, sign * (hours * 60 + minutes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_milliseconds_and_rfc_3339_mean_the_same_moment() {
        let expected = Ok(1_357_035_420_000);
        for text in [
            "1357035420",
            "1357035420000",
            "2013-01-01T10:17:00Z",
            "2013-01-01T10:17:00.000Z",
            "2013-01-01 10:17:00",
            "2013-01-01T05:17:00-05:00",
            "2013-01-01T15:47:00+05:30",
        ] {
            assert_eq!(of_text(text), expected, "{text}");
        }
        assert_eq!(of_text("1357035420.5"), Ok(1_357_035_420_500));
        assert_eq!(of_json(&serde_json::json!(1_357_035_420)), Ok(Some(1_357_035_420_000)));
        assert_eq!(of_json(&Value::Null), Ok(None));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["yesterday", "2013-13-01T00:00:00Z", "2013-01-01T00:00:00+0530", "NaN", "1e300", "2013-01-01T1\u{e9}"]
        {
            assert!(of_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn since_counts_back_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        assert_eq!(of_since("10m", now), Ok(9_400_000));
        assert_eq!(of_since("1h 30m", now), Ok(4_600_000));
        assert_eq!(of_since("1970-01-01T00:00:01Z", now), Ok(1_000));
        assert!(of_since("10 parsecs", now).is_err());
    }
}
