//! Numbers from text and to text.

use super::value::{DECIMAL_ONE, DECIMAL_PLACES, Decimal, Value};

/// The most digits that are certain to fit the exact arithmetic of [`parse`].
const DIGITS_MAX: usize = 28;

/// The number of a JSON text: exact if it is a whole number of billionths that is in range, else
/// floating point; `None` if it is no number.
pub(crate) fn parse(text: &[u8]) -> Option<Value<'static>> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // Most numbers are whole and small.
    if digits.len() <= 18 && !digits.is_empty() {
        let mut whole = 0_i64;
        if digits.iter().all(|digit| {
            whole = whole * 10 + i64::from(digit.wrapping_sub(b'0'));
            digit.is_ascii_digit()
        }) {
            return Some(Value::int(if negative { -whole } else { whole }));
        }
    }
    match exact(digits)? {
        Some(exact) => Some(Value::Exact(Decimal(if negative { -exact } else { exact }))),
        None => str::from_utf8(text).ok()?.parse().ok().map(Value::float),
    }
}

/// The billionths of an unsigned number; `Some(None)` when it cannot be exact, `None` when it is no
/// number.
fn exact(text: &[u8]) -> Option<Option<i128>> {
    let split = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
    let (mantissa, exponent) = (&text[..split], text.get(split + 1..));
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let (whole, fraction) = (&mantissa[..point], mantissa.get(point + 1..));
    let all_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if !all_digits(whole) || fraction.is_some_and(|fraction| !all_digits(fraction)) {
        return None;
    }
    let exponent = match exponent {
        None => 0,
        Some(exponent) => {
            let (negative, digits) = match exponent {
                [b'-', digits @ ..] => (true, digits),
                [b'+', digits @ ..] | digits => (false, digits),
            };
            if !all_digits(digits) {
                return None;
            }
            let magnitude = str::from_utf8(digits).ok()?.parse::<i32>().unwrap_or(i32::MAX);
            if negative { -magnitude } else { magnitude }
        }
    };
    let fraction = fraction.unwrap_or_default();
    let digits = || whole.iter().chain(fraction).skip_while(|digit| **digit == b'0');
    let significant = digits().count();
    if significant == 0 {
        return Some(Some(0));
    }
    if significant > DIGITS_MAX {
        return Some(None);
    }
    let mantissa = digits().fold(0_i128, |number, digit| number * 10 + i128::from(digit - b'0'));
    let places = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let shift = DECIMAL_PLACES.cast_signed().saturating_add(exponent).saturating_sub(places);
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let scaled = match (power, shift >= 0) {
        (Some(power), true) => mantissa.checked_mul(power),
        (Some(power), false) if mantissa % power == 0 => Some(mantissa / power),
        _ => None,
    };
    Some(scaled.filter(|scaled| Decimal(*scaled).is_in_range()))
}

/// Writes an exact number, without digits that mean nothing.
pub(crate) fn write_decimal(decimal: Decimal, out: &mut String) {
    use std::fmt::Write as _;
    let magnitude = decimal.0.unsigned_abs();
    let one = DECIMAL_ONE.unsigned_abs();
    let sign = if decimal.0 < 0 { "-" } else { "" };
    let (whole, fraction) = (magnitude / one, magnitude % one);
    // Writing to a string does not fail.
    let _infallible = write!(out, "{sign}{whole}");
    if fraction > 0 {
        let digits = format!("{fraction:09}");
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
}

/// A floating point number as JSON, the shortest that reads back; `null` when it is infinite.
pub(crate) fn write_float(float: f64, out: &mut String) {
    if let Ok(text) = serde_json::to_string(&float) {
        out.push_str(&text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact_text(text: &str) -> String {
        let mut out = String::new();
        match parse(text.as_bytes()) {
            Some(Value::Exact(decimal)) => write_decimal(decimal, &mut out),
            Some(Value::Float(float)) => write_float(float, &mut out),
            other => out = format!("{other:?}"),
        }
        out
    }

    #[test]
    fn decimals_are_exact_to_nine_places() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("12", "12"),
            ("-12.50", "-12.5"),
            ("0.000000001", "0.000000001"),
            ("0.0000000010", "0.000000001"),
            ("1e3", "1000"),
            ("1.5E+2", "150"),
            ("2.5e-1", "0.25"),
            ("9223372036854775807", "9223372036854775807"),
            ("0e999999999999", "0"),
            ("0.0000000001", "1e-10"),
            ("1e30", "1e+30"),
            ("1e400", "null"),
        ] {
            assert_eq!(exact_text(text), expected, "{text}");
        }
        for text in ["", "-", "1.", ".5", "1e", "1e+", "+1", "1-2", "--1", "1.2.3", "0x1"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn numbers_read_back(whole: i64, billionths in 0_i64..1_000_000_000) {
            let text = format!("{whole}.{billionths:09}");
            let mut out = String::new();
            let Some(Value::Exact(decimal)) = parse(text.as_bytes()) else { return Err(TestCaseError::fail(text)) };
            write_decimal(decimal, &mut out);
            prop_assert_eq!(parse(out.as_bytes()), Some(Value::Exact(decimal)));
            let sign = if text.starts_with('-') { -1 } else { 1 };
            prop_assert_eq!(decimal.0, i128::from(whole) * DECIMAL_ONE + sign * i128::from(billionths));
        }

        #[test]
        fn floats_are_those_of_the_standard_library(float: f64) {
            prop_assume!(float.is_finite());
            let value = parse(serde_json::to_string(&float).unwrap().as_bytes()).unwrap();
            prop_assert_eq!(value.as_f64(), Some(float));
        }
    }
}
