//! The functions of expressions.

use std::borrow::Cow;

use super::{Node, Scope, compare};
use crate::streams::{
    number,
    plan::Function,
    time,
    value::{DECIMAL_ONE, DECIMAL_PLACES, Decimal, Value},
};

/// The longest text that functions make of shorter ones.
const TEXT_BYTES_MAX: usize = 1 << 20;

pub(super) fn call<'a>(function: Function, arguments: &'a [Node], scope: &'a impl Scope) -> Value<'a> {
    let value = |index: usize| arguments.get(index).map_or(Value::Null, |node| node.eval(scope));
    match function {
        Function::Coalesce => {
            arguments.iter().map(|node| node.eval(scope)).find(|value| !value.is_null()).unwrap_or_default()
        }
        Function::NullIf => {
            let first = value(0);
            if compare(&first, &value(1)).is_some_and(std::cmp::Ordering::is_eq) { Value::Null } else { first }
        }
        Function::Greatest | Function::Least => {
            let values = arguments.iter().map(|node| node.eval(scope)).filter(|value| !value.is_null());
            let extreme = if function == Function::Greatest {
                values.max_by(|a, b| a.total_cmp(b))
            } else {
                values.min_by(|a, b| a.total_cmp(b))
            };
            extreme.unwrap_or_default()
        }
        Function::Concat => {
            let mut all = String::new();
            for value in arguments.iter().map(|node| node.eval(scope)) {
                all.push_str(&value.to_text().unwrap_or_default());
                if all.len() > TEXT_BYTES_MAX {
                    return Value::Null;
                }
            }
            Value::text(all)
        }
        Function::Abs | Function::Floor | Function::Ceil | Function::Round => {
            let places = if arguments.len() > 1 { value(1).as_int() } else { Some(0) };
            places.map_or(Value::Null, |places| rounded(function, &value(0), places))
        }
        Function::ToText => match value(0) {
            text @ Value::Text(_) => text,
            other => other.to_text().map_or(Value::Null, |text| Value::text(text.into_owned())),
        },
        Function::ToNumber => match value(0) {
            Value::Text(text) => number::parse(text.trim().as_bytes()).unwrap_or_default(),
            Value::Bool(value) => Value::int(i64::from(value)),
            number @ (Value::Exact(_) | Value::Float(_)) => number,
            _ => Value::Null,
        },
        Function::ToTime => match value(0) {
            Value::Text(text) => time::parse(&text).map_or(Value::Null, Value::int),
            number @ Value::Exact(_) => number,
            _ => Value::Null,
        },
        Function::FormatTime => value(0).as_int().and_then(time::format).map_or(Value::Null, Value::text),
        Function::DateTrunc(part) => int(value(0).as_int().and_then(|at| time::truncate(at, part))),
        Function::DatePart(part) => int(value(0).as_int().and_then(|at| time::part(at, part))),
        _ => match value(0) {
            Value::Text(text) => of_text(function, text, arguments.len(), &value),
            _ => Value::Null,
        },
    }
}

fn int(value: Option<i64>) -> Value<'static> {
    value.map_or(Value::Null, Value::int)
}

/// The functions whose first argument, of `count`, is a text.
fn of_text<'a>(function: Function, text: Cow<'a, str>, count: usize, value: &impl Fn(usize) -> Value<'a>) -> Value<'a> {
    let test = |test: fn(&str, &str) -> bool| value(1).as_text().map_or(Value::Null, |by| Value::Bool(test(&text, by)));
    match function {
        Function::Lower => Value::text(text.to_lowercase()),
        Function::Upper => Value::text(text.to_uppercase()),
        Function::Trim => Value::text(text.trim().to_owned()),
        Function::Length => int(i64::try_from(text.chars().count()).ok()),
        Function::StartsWith => test(|text, by| text.starts_with(by)),
        Function::EndsWith => test(|text, by| text.ends_with(by)),
        Function::Contains => test(|text, by| text.contains(by)),
        Function::Substring => {
            let from = value(1).as_int();
            let length = if count > 2 { value(2).as_int() } else { Some(i64::MAX) };
            let (Some(from), Some(length)) = (from, length) else { return Value::Null };
            // Characters before the first count, as in SQL.
            let end = from.saturating_add(length.max(0));
            let skip = usize::try_from(from.max(1) - 1).unwrap_or(usize::MAX);
            let take = usize::try_from(end.saturating_sub(from.max(1))).unwrap_or(0);
            Value::text(text.chars().skip(skip).take(take).collect::<String>())
        }
        Function::Replace => {
            let (what, by) = (value(1), value(2));
            let (Some(what), Some(by)) = (what.as_text(), by.as_text()) else { return Value::Null };
            if what.is_empty() {
                return Value::Text(text);
            }
            let growth = text.matches(what).count().saturating_mul(by.len());
            if growth > TEXT_BYTES_MAX { Value::Null } else { Value::text(text.replace(what, by)) }
        }
        Function::SplitPart => {
            let (separator, n) = (value(1), value(2).as_int());
            let (Some(separator), Some(n)) = (separator.as_text(), n) else { return Value::Null };
            let Some(index) = n.checked_sub(1).and_then(|index| usize::try_from(index).ok()) else {
                return Value::Null;
            };
            let part = if separator.is_empty() {
                (index == 0).then_some(text.as_ref())
            } else {
                text.split(separator).nth(index)
            };
            Value::text(part.unwrap_or_default().to_owned())
        }
        _ => Value::Null,
    }
}

/// Absolute values and roundings. Floating point numbers are rounded to whole numbers only, or to
/// as many places as an exact number has.
fn rounded(function: Function, number: &Value<'_>, places: i64) -> Value<'static> {
    match number {
        Value::Exact(Decimal(exact)) => {
            let places = places.clamp(-18, i64::from(DECIMAL_PLACES));
            let zeros = u32::try_from(i64::from(DECIMAL_PLACES) - places).unwrap_or(DECIMAL_PLACES);
            let unit = 10_i128.pow(zeros);
            let value = match function {
                Function::Abs => exact.abs(),
                Function::Floor => exact.div_euclid(DECIMAL_ONE) * DECIMAL_ONE,
                Function::Ceil => -((-exact).div_euclid(DECIMAL_ONE) * DECIMAL_ONE),
                _ => (exact.abs() + unit / 2) / unit * unit * exact.signum(),
            };
            Value::Exact(Decimal(value))
        }
        Value::Float(float) => Value::float(match function {
            Function::Abs => float.abs(),
            Function::Floor => float.floor(),
            Function::Ceil => float.ceil(),
            _ if places == 0 => float.round(),
            _ => {
                let scale = (0..places.unsigned_abs().min(300)).fold(1.0, |scale: f64, _| scale * 10.0);
                let scaled = if places > 0 { float * scale } else { float / scale };
                if !scaled.is_finite() {
                    return Value::Float(*float);
                }
                if places > 0 { scaled.round() / scale } else { scaled.round() * scale }
            }
        }),
        _ => Value::Null,
    }
}
