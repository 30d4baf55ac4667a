//! Calendars: times as text, their parts, and the days, weeks and months of time zones.

use jiff::{Timestamp, ToSpan, civil, tz};

use super::{
    plan::{CalendarUnit, TimeFormat, TimePart},
    value::{DECIMAL_ONE, Value},
};

/// The first and last time that windows are made for: far enough from the ends of the number range
/// that lengths can be added to it, and within the calendar (years −9998 to 9998).
pub const TIME_MAX_MS: i64 = 253_000_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// A time zone of the database that is compiled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeZone(tz::TimeZone);

impl TimeZone {
    pub(crate) fn named(name: &str) -> Option<Self> {
        tz::TimeZone::get(name).ok().map(Self)
    }

    /// The start and the end of the day, week or month that contains a time.
    pub(crate) fn window(&self, unit: CalendarUnit, at_ms: i64) -> Option<(i64, i64)> {
        let date = self.0.to_datetime(Timestamp::from_millisecond(at_ms).ok()?).date();
        let (first, next) = match unit {
            CalendarUnit::Day => (date, date.checked_add(1.day()).ok()?),
            CalendarUnit::Week => {
                let back = i64::from(date.weekday().to_monday_zero_offset());
                let monday = date.checked_sub(back.days()).ok()?;
                (monday, monday.checked_add(1.week()).ok()?)
            }
            CalendarUnit::Month => (date.first_of_month(), date.first_of_month().checked_add(1.month()).ok()?),
        };
        Some((self.start_of(first)?, self.start_of(next)?))
    }

    /// When a day begins. Where the clocks are put forward at midnight it begins after the gap.
    fn start_of(&self, date: civil::Date) -> Option<i64> {
        let midnight = self.0.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).compatible().ok()?;
        Some(midnight.as_millisecond())
    }
}

/// The time that a field holds.
pub(crate) fn read(value: &Value<'_>, format: TimeFormat) -> Option<i64> {
    let millis = |per_unit: i128| match value {
        // Billionths of the unit to milliseconds, rounded down.
        Value::Exact(exact) => i64::try_from((exact.0 * per_unit).div_euclid(DECIMAL_ONE * 1_000_000)).ok(),
        _ => None,
    };
    match format {
        TimeFormat::Auto => match value {
            Value::Text(text) => parse(text),
            _ => millis(1_000_000),
        },
        TimeFormat::Seconds => millis(1_000_000_000),
        TimeFormat::Millis => millis(1_000_000),
        TimeFormat::Micros => millis(1000),
        TimeFormat::Nanos => millis(1),
        TimeFormat::Rfc3339 => parse(value.as_text()?),
    }
}

/// Milliseconds since 1970 of a text such as `2013-01-01T05:17:00.250+01:00`. A space may stand for
/// `T`; time, seconds, fraction and zone may be absent (without a zone it is UTC).
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (year, rest) = digits(bytes, 4)?;
    let (month, rest) = digits(rest.strip_prefix(b"-")?, 2)?;
    let (day, rest) = digits(rest.strip_prefix(b"-")?, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY_MS;
    let [b'T' | b't' | b' ', rest @ ..] = rest else {
        return rest.is_empty().then_some(midnight);
    };
    let (hour, rest) = digits(rest, 2)?;
    let (minute, mut rest) = digits(rest.strip_prefix(b":")?, 2)?;
    let mut time = hour * 3_600_000 + minute * 60_000;
    let mut second = 0;
    if let Some(after) = rest.strip_prefix(b":") {
        (second, rest) = digits(after, 2)?;
        time += second * 1000;
        if let Some(fraction) = rest.strip_prefix(b".") {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 {
                return None;
            }
            let millis = fraction[..length].iter().chain(b"000").take(3);
            time += millis.fold(0, |millis, digit| millis * 10 + i64::from(digit - b'0'));
            rest = &fraction[length..];
        }
    }
    // A leap second counts as the first second of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let (hours, rest) = digits(zone, 2)?;
            let (minutes, rest) = digits(rest.strip_prefix(b":").unwrap_or(rest), 2)?;
            if !rest.is_empty() || hours > 23 || minutes > 59 {
                return None;
            }
            let zone = hours * 3_600_000 + minutes * 60_000;
            if *sign == b'-' { -zone } else { zone }
        }
        _ => return None,
    };
    Some(midnight + time - zone)
}

/// A time as RFC 3339, in UTC, to the millisecond.
pub(crate) fn format(at_ms: i64) -> Option<String> {
    if at_ms.unsigned_abs() > TIME_MAX_MS.unsigned_abs() {
        return None;
    }
    let (year, month, day) = civil_from_days(at_ms.div_euclid(DAY_MS));
    let time = at_ms.rem_euclid(DAY_MS);
    let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
    let (second, millis) = (time / 1000 % 60, time % 1000);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"))
}

/// The beginning of the part of the calendar that contains a time.
pub(crate) fn truncate(at_ms: i64, part: TimePart) -> Option<i64> {
    if at_ms.unsigned_abs() > TIME_MAX_MS.unsigned_abs() {
        return None;
    }
    let floor = |unit: i64| at_ms.div_euclid(unit) * unit;
    let day = at_ms.div_euclid(DAY_MS);
    let (year, month, _) = civil_from_days(day);
    Some(match part {
        TimePart::Second => floor(1000),
        TimePart::Minute => floor(60_000),
        TimePart::Hour => floor(3_600_000),
        TimePart::Day | TimePart::DayOfWeek => floor(DAY_MS),
        TimePart::Week => (day - weekday(day)) * DAY_MS,
        TimePart::Month => days_from_civil(year, month, 1) * DAY_MS,
        TimePart::Year => days_from_civil(year, 1, 1) * DAY_MS,
    })
}

/// The number of the part of the calendar that contains a time.
pub(crate) fn part(at_ms: i64, part: TimePart) -> Option<i64> {
    if at_ms.unsigned_abs() > TIME_MAX_MS.unsigned_abs() {
        return None;
    }
    let day = at_ms.div_euclid(DAY_MS);
    let (year, month, day_of_month) = civil_from_days(day);
    let time = at_ms.rem_euclid(DAY_MS);
    Some(match part {
        TimePart::Second => time / 1000 % 60,
        TimePart::Minute => time / 60_000 % 60,
        TimePart::Hour => time / 3_600_000,
        TimePart::Day => day_of_month,
        TimePart::DayOfWeek => weekday(day) + 1,
        // The week belongs to the year of its Thursday.
        TimePart::Week => {
            let thursday = day - weekday(day) + 3;
            let (year, _, _) = civil_from_days(thursday);
            (thursday - days_from_civil(year, 1, 1)) / 7 + 1
        }
        TimePart::Month => month,
        TimePart::Year => year,
    })
}

/// A number of exactly so many digits, and what follows it.
fn digits(bytes: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(count)?;
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((number.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')), rest))
}

/// Monday is 0. 1970 began on a Thursday.
const fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date. Years are counted from March, so that the leap day is their last.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}

/// The date of days since 1970.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let days = days + 719_468;
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let day = days.rem_euclid(DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1000)),
            ("1970-01-01 01:00", Some(3_600_000)),
            ("2013-01-01T05:17:00.25+01:00", Some(1_357_013_820_250)),
            ("2013-01-01T05:17:00.2509-0130", Some(1_357_022_820_250)),
            ("2000-02-29", Some(951_782_400_000)),
            ("1900-02-29", None),
            ("2013-01-01T24:00", None),
            ("2013-01-01T05:17:00.Z", None),
            ("2013-01-01T05:17x", None),
            ("2013-1-01", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn fields_are_times_in_their_units() {
        let number = |text: &str| super::super::number::parse(text.as_bytes()).unwrap();
        assert_eq!(read(&number("1.5"), TimeFormat::Seconds), Some(1500));
        assert_eq!(read(&number("-0.0001"), TimeFormat::Seconds), Some(-1));
        assert_eq!(read(&number("1500"), TimeFormat::Auto), Some(1500));
        assert_eq!(read(&number("1999"), TimeFormat::Micros), Some(1));
        assert_eq!(read(&number("1357013820250000000"), TimeFormat::Nanos), Some(1_357_013_820_250));
        assert_eq!(read(&Value::text("1970-01-02"), TimeFormat::Auto), Some(DAY_MS));
        assert_eq!(read(&Value::text("1970-01-02"), TimeFormat::Millis), None);
        assert_eq!(read(&number("1e300"), TimeFormat::Millis), None);
    }

    #[test]
    fn days_are_as_long_as_the_clocks_make_them() {
        let zone = TimeZone::named("America/New_York").unwrap();
        let at = parse("2013-03-10T12:00:00-04:00").unwrap();
        let (start, end) = zone.window(CalendarUnit::Day, at).unwrap();
        assert_eq!((end - start) / 3_600_000, 23);
        assert_eq!(start, parse("2013-03-10T05:00:00Z").unwrap());
        let (start, end) = zone.window(CalendarUnit::Day, parse("2013-11-03T12:00:00Z").unwrap()).unwrap();
        assert_eq!((end - start) / 3_600_000, 25);
        // There the clocks were put forward at midnight: the day began at one o'clock.
        let zone = TimeZone::named("America/Sao_Paulo").unwrap();
        let (start, end) = zone.window(CalendarUnit::Day, parse("2018-11-04T12:00:00Z").unwrap()).unwrap();
        assert_eq!((start, end - start), (parse("2018-11-04T03:00:00Z").unwrap(), 23 * 3_600_000));
        assert_eq!(TimeZone::named("Mars/Olympus"), None);
    }

    proptest! {
        #[test]
        fn texts_are_those_of_jiff(at in -TIME_MAX_MS..TIME_MAX_MS) {
            let timestamp = Timestamp::from_millisecond(at).unwrap();
            let date = tz::TimeZone::UTC.to_datetime(timestamp).date();
            prop_assert_eq!(part(at, TimePart::Year), Some(i64::from(date.year())));
            prop_assert_eq!(part(at, TimePart::Month), Some(i64::from(date.month())));
            prop_assert_eq!(part(at, TimePart::Day), Some(i64::from(date.day())));
            prop_assert_eq!(part(at, TimePart::DayOfWeek), Some(i64::from(date.weekday().to_monday_one_offset())));
            prop_assert_eq!(part(at, TimePart::Week), Some(i64::from(date.iso_week_date().week())));
            if date.year() >= 0 {
                let text = format(at).unwrap();
                prop_assert_eq!(text.parse::<Timestamp>().unwrap(), timestamp);
                prop_assert_eq!(parse(&text), Some(at));
            }
        }

        #[test]
        fn a_time_is_in_its_window(at in -TIME_MAX_MS..TIME_MAX_MS, zone in 0_usize..4) {
            let zone = TimeZone::named(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Sao_Paulo"][zone]).unwrap();
            for unit in [CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month] {
                let (start, end) = zone.window(unit, at).unwrap();
                prop_assert!(start <= at && at < end);
                prop_assert_eq!(zone.window(unit, end - 1), Some((start, end)));
                prop_assert_eq!(zone.window(unit, end).map(|next| next.0), Some(end));
            }
        }

        #[test]
        fn truncation_stays_in_the_part(at in -TIME_MAX_MS..TIME_MAX_MS) {
            for unit in [TimePart::Second, TimePart::Minute, TimePart::Hour, TimePart::Day, TimePart::Week, TimePart::Month, TimePart::Year] {
                let start = truncate(at, unit).unwrap();
                prop_assert!(start <= at);
                prop_assert_eq!(truncate(start, unit), Some(start));
                prop_assert_eq!(part(start, unit), part(at, unit));
            }
        }
    }
}
