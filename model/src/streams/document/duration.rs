//! Lengths of time as documents write them: `90s`, `1h 30m`, or a number of milliseconds.

/// The units, the longest first.
const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Milliseconds of a text like `10m`, `1h 30m` or `-5h`.
///
/// # Errors
/// Why it is none.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let refuse = || format!("{text:?} is no length of time: write 500ms, 10s, 5m, 1h, 7d, or several as in 1h 30m");
    let trimmed = text.trim();
    let (negative, mut rest) = trimmed.strip_prefix('-').map_or((false, trimmed), |rest| (true, rest));
    if rest.is_empty() {
        return Err(refuse());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(refuse)?;
        rest = rest[letters..].trim_start();
        let part = number.checked_mul(*unit).ok_or_else(refuse)?;
        total = total.checked_add(part).ok_or_else(refuse)?;
    }
    Ok(if negative { -total } else { total })
}

/// The canonical text: a whole number of the longest unit that fits.
#[must_use]
pub fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let (name, unit) = UNITS.iter().find(|(_, unit)| ms % unit == 0).copied().unwrap_or(("ms", 1));
    format!("{}{name}", ms / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written_in_one_way() {
        for (text, ms, canonical) in [
            ("0s", 0, "0s"),
            ("1h 30m", 5_400_000, "90m"),
            ("1h30m", 5_400_000, "90m"),
            ("24h", 86_400_000, "1d"),
            ("1500 ms", 1_500, "1500ms"),
            ("-5h", -18_000_000, "-5h"),
            ("60s", 60_000, "1m"),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
            assert_eq!(format_duration(ms), canonical);
            assert_eq!(parse_duration(canonical), Ok(ms));
        }
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in ["", "-", "h", "10", "10 parsecs", "1.5h", "9223372036854775807d", "1h-", "--1h", "1y"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
