//! Times as people write them: ISO 8601 with a zone, or milliseconds since 1970.

use serde_json::Value;

use crate::error::{ApiError, Cause};

/// Reads a time of a JSON body: a number of milliseconds, or text as `2026-11-26T06:24:00.5+01:00`.
pub(crate) fn timestamp_ms(value: &Value) -> Result<i64, ApiError> {
    let read = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => parse(text).or_else(|| text.parse().ok()),
        _ => None,
    };
    read.ok_or_else(|| {
        let message = format!("timestamp {value}: write milliseconds since 1970, or 2026-11-26T06:24:00Z");
        ApiError::new(Cause::Unprocessable, message)
    })
}

fn digits(text: &str, length: usize) -> Option<i64> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Milliseconds since 1970; `None` for what is no such time.
fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let valid = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day) && parts.next().is_none();
    let (clock, zone) = split_zone(time)?;
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |second| digits(second, 2))?;
    if !valid || hour > 23 || minute > 59 || second > 59 || parts.next().is_some() {
        return None;
    }
    let fraction = digits(fraction, fraction.len()).filter(|_| (1..=9).contains(&fraction.len())).map(|_| fraction)?;
    let milliseconds = digits(&format!("{fraction:0<3}")[..3], 3)?;
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute - zone) * 60 + second;
    Some(seconds * 1000 + milliseconds)
}

/// The time of day, and how many minutes its zone is ahead.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let (sign, zone) = zone.split_at(1);
    let (hours, minutes) = zone.split_once(':').or_else(|| zone.split_at_checked(2))?;
    let minutes = if minutes.is_empty() { 0 } else { digits(minutes, 2)? };
    let ahead = digits(hours, 2).filter(|hours| *hours <= 18)? * 60 + minutes;
    Some((clock, if sign == "-" { -ahead } else { ahead }))
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = |year: i64| year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = before(year - 1) - before(1969);
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_with_their_zones() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-11-26T06:24:00Z", 1_795_674_240_000),
            ("2026-11-26T07:24:00.5+01:00", 1_795_674_240_500),
            ("2026-11-26t01:24:00.123456789-0500", 1_795_674_240_123),
            ("2026-11-26 06:24Z", 1_795_674_240_000),
            ("1969-12-31T23:59:59Z", -1000),
            ("1795674240123", 1_795_674_240_123),
        ] {
            assert_eq!(timestamp_ms(&json!(text)).unwrap(), expected, "{text}");
        }
        assert_eq!(timestamp_ms(&json!(7)).unwrap(), 7);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for value in [
            json!("2026-11-26"),
            json!("2026-11-26T06:24:00"),
            json!("2026-13-26T06:24:00Z"),
            json!("2025-02-29T06:24:00Z"),
            json!("2026-11-26T24:00:00Z"),
            json!("2026-11-26T06:24:00.Z"),
            json!("26-11-26T06:24:00Z"),
            json!("yesterday"),
            json!(1.5),
            json!(null),
        ] {
            assert_eq!(timestamp_ms(&value).unwrap_err().cause(), Cause::Unprocessable, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9TZ:.+-]{0,30}") {
            assert!(parse(&text).is_none_or(|ms| ms.abs() < i64::MAX));
        }
    }
}
