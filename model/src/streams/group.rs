//! The bytes of a group: what groups are told apart and ordered by.
//!
//! The columns follow one another, each a byte for its kind and its value, in a form whose bytes
//! order as the values do. A column that is not the last ends with a zero; zeros inside are
//! followed by `0xFF`.

use std::borrow::Cow;

use super::value::{Decimal, Value};

const NULL: u8 = 0x01;
const FALSE: u8 = 0x02;
const TRUE: u8 = 0x03;
const EXACT: u8 = 0x10;
const FLOAT: u8 = 0x11;
const TEXT: u8 = 0x20;
const BYTES: u8 = 0x30;
/// The length byte of zero; positive numbers have more, negative ones less.
const ZERO: u8 = 0x80;

/// Appends a column.
pub(crate) fn push(value: &Value<'_>, last: bool, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Value::Exact(exact) => push_exact(*exact, out),
        Value::Float(float) => {
            out.push(FLOAT);
            let bits = (float + 0.0).to_bits();
            let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        Value::Text(text) => push_bytes(TEXT, text.as_bytes(), last, out),
        Value::Bytes(bytes) => push_bytes(BYTES, bytes, last, out),
        Value::List(_) | Value::Map(_) => {
            let mut json = String::new();
            value.write_json(&mut json);
            push_bytes(TEXT, json.as_bytes(), last, out);
        }
    }
}

/// Appends the record key as a column: a text if it is one.
pub(crate) fn push_key(key: Option<&[u8]>, last: bool, out: &mut Vec<u8>) {
    match key {
        None => out.push(NULL),
        Some(key) => push_bytes(if is_text(key) { TEXT } else { BYTES }, key, last, out),
    }
}

/// A record key as a value.
pub(crate) fn key_value(key: Option<&[u8]>) -> Value<'_> {
    match key {
        None => Value::Null,
        Some(key) => match str::from_utf8(key) {
            Ok(text) => Value::Text(Cow::Borrowed(text)),
            Err(_) => Value::Bytes(Cow::Borrowed(key)),
        },
    }
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || str::from_utf8(bytes).is_ok()
}

fn push_bytes(kind: u8, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
    out.push(kind);
    if last {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.push(0);
}

/// The sign and the length, then the digits; those of a negative number turned over.
fn push_exact(exact: Decimal, out: &mut Vec<u8>) {
    let digits = exact.0.unsigned_abs().to_be_bytes();
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
    let length = (digits.len() - zeros) as u8;
    out.push(EXACT);
    if exact.0 < 0 {
        out.push(ZERO - length);
        out.extend(digits[zeros..].iter().map(|digit| !digit));
    } else {
        out.push(ZERO + length);
        out.extend_from_slice(&digits[zeros..]);
    }
}

/// The values of a group's bytes; `None` if they are not what this module writes.
pub(crate) fn values(mut bytes: &[u8], columns: usize) -> Option<Vec<Value<'static>>> {
    let mut values = Vec::with_capacity(columns);
    for column in 0..columns {
        values.push(take(&mut bytes, column + 1 == columns)?);
    }
    bytes.is_empty().then_some(values)
}

fn take(bytes: &mut &[u8], last: bool) -> Option<Value<'static>> {
    let (kind, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match *kind {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        EXACT => {
            let (length, rest) = bytes.split_first()?;
            let negative = *length < ZERO;
            let (digits, rest) = rest.split_at_checked(usize::from(length.abs_diff(ZERO)))?;
            *bytes = rest;
            if digits.len() > 16 {
                return None;
            }
            let turn = if negative { 0xff } else { 0 };
            let magnitude = digits.iter().fold(0_u128, |number, digit| number << 8 | u128::from(digit ^ turn));
            let magnitude = i128::try_from(magnitude).ok()?;
            Value::Exact(Decimal(if negative { -magnitude } else { magnitude }))
        }
        FLOAT => {
            let (ordered, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            let ordered = u64::from_be_bytes(*ordered);
            let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
            Value::float(f64::from_bits(bits))
        }
        TEXT => Value::text(String::from_utf8(take_bytes(bytes, last)?).ok()?),
        BYTES => Value::Bytes(Cow::Owned(take_bytes(bytes, last)?)),
        _ => return None,
    })
}

fn take_bytes(bytes: &mut &[u8], last: bool) -> Option<Vec<u8>> {
    if last {
        return Some(std::mem::take(bytes).to_vec());
    }
    let mut taken = Vec::new();
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if *byte != 0 {
            taken.push(*byte);
        } else if let Some(rest) = rest.strip_prefix(&[0xff]) {
            taken.push(0);
            *bytes = rest;
        } else {
            return Some(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(values: &[Value<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, value) in values.iter().enumerate() {
            push(value, index + 1 == values.len(), &mut out);
        }
        out
    }

    fn any_value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-300_i64..300).prop_map(Value::int),
            (-(1_i128 << 92)..1 << 92).prop_map(|billionths| Value::Exact(Decimal(billionths))),
            any::<f64>().prop_map(Value::float),
            "[\0-\u{3}a-c]{0,4}".prop_map(Value::text),
        ]
    }

    proptest! {
        #[test]
        fn groups_come_back_and_order_like_their_values(
            a in prop::collection::vec(any_value(), 2),
            b in prop::collection::vec(any_value(), 2),
        ) {
            let (bytes_a, bytes_b) = (bytes_of(&a), bytes_of(&b));
            prop_assert_eq!(values(&bytes_a, 2), Some(a.clone()));
            // All exact numbers stand before all others.
            let mixed = a.iter().zip(&b).any(|pair| matches!(pair, (Value::Exact(_), Value::Float(_)) | (Value::Float(_), Value::Exact(_))));
            if !mixed {
                let order = a.iter().zip(&b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
                prop_assert_eq!(bytes_a.cmp(&bytes_b), order.unwrap_or(std::cmp::Ordering::Equal));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _unimportant = values(&bytes, 2);
        }
    }

    #[test]
    fn a_key_is_a_text_if_it_can_be() {
        for key in [None, Some(b"JFK".as_slice()), Some(b"\xff\0".as_slice())] {
            let mut out = Vec::new();
            push_key(key, true, &mut out);
            assert_eq!(values(&out, 1), Some(vec![key_value(key)]));
        }
    }
}
