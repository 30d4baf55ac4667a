//! Numbers as people read them: grouped, with as many digits as mean something, beside their unit.

/// What stands for a number that there is none of.
pub const NONE: &str = "–";

/// `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// With three significant digits, and all of those before the point: `0.231`, `4.21`, `42.1`, `4,213`.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        NONE.to_owned()
    } else if value == 0.0 {
        "0".to_owned()
    } else if size >= 99.95 {
        whole(value)
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if size >= 0.9995 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// Without a fraction: `4,213`.
#[must_use]
pub fn whole(value: f64) -> String {
    if value.is_finite() { grouped(&format!("{value:.0}")) } else { NONE.to_owned() }
}

/// Milliseconds in the unit that suits them: `231 µs`, `4.21 ms`, `12.3 s`.
#[must_use]
pub fn time(ms: f64) -> String {
    if !ms.is_finite() {
        NONE.to_owned()
    } else if ms == 0.0 {
        "0 ms".to_owned()
    } else if ms.abs() < 1.0 {
        format!("{} µs", number(ms * 1e3))
    } else if ms.abs() < 1e3 {
        format!("{} ms", number(ms))
    } else {
        format!("{} s", number(ms / 1e3))
    }
}

/// Seconds: `40.0 s`.
#[must_use]
pub fn seconds(value: f64) -> String {
    if value.is_finite() { format!("{} s", number(value)) } else { NONE.to_owned() }
}

/// Records per second: `99.9 /s`, `336,000 /s`.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second.is_finite() { format!("{} /s", number(per_second)) } else { NONE.to_owned() }
}

/// Bytes in thousands of thousands: `1.25 GB`, `812 kB`.
#[must_use]
pub fn bytes(value: f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let unit = units.iter().find(|(size, _)| value.abs() >= *size);
    match unit {
        _ if !value.is_finite() => NONE.to_owned(),
        Some((size, name)) => format!("{} {name}", number(value / size)),
        None => format!("{} B", whole(value)),
    }
}

/// How many times as much as the first: `1.42 ×`. `None` when there is nothing to compare.
#[must_use]
pub fn ratio(value: f64, first: f64) -> Option<String> {
    let ratio = value / first;
    (value > 0.0 && first > 0.0 && ratio.is_finite()).then(|| format!("{} ×", number(ratio)))
}

/// A whole number of `u64` as a float: for rates and places on an axis.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts of records are exact in a double up to 2^53")]
pub fn float(number: u64) -> f64 {
    number as f64
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_mean_something() {
        let said = [0.0, 0.2314, 4.2149, 42.149, 421.49, 1_234_567.8, -1234.0, f64::NAN, f64::INFINITY].map(number);
        assert_eq!(said, ["0", "0.231", "4.21", "42.1", "421", "1,234,568", "-1,234", NONE, NONE]);
        assert_eq!([99.98, 9.999, 0.9999, 99.94].map(number), ["100", "10.0", "1.00", "99.9"]);
        assert_eq!([0, 999, 1000, 12_345_678].map(count), ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn units_suit_the_number() {
        assert_eq!([0.0, 0.0421, 4.2, 999.0, 12_340.0].map(time), ["0 ms", "42.1 µs", "4.20 ms", "999 ms", "12.3 s"]);
        assert_eq!([12.0, 8_120.0, 1.25e6, 1.25e9].map(bytes), ["12 B", "8.12 kB", "1.25 MB", "1.25 GB"]);
        assert_eq!([f64::NAN, f64::INFINITY].map(bytes), [NONE, NONE]);
        assert_eq!((ratio(3.0, 2.0).as_deref(), ratio(3.0, 0.0), ratio(0.0, 1.0)), (Some("1.50 ×"), None, None));
    }
}
