//! The values of expressions, groups and results.
//!
//! A number is exact as long as it can be: whole numbers and decimals of up to nine places are
//! counted in billionths, so that sums of them do not depend on the order of the records. What does
//! not fit is a binary floating point number.

use std::{borrow::Cow, cmp::Ordering};

use super::number;

/// How many units of a [`Decimal`] make one.
pub const DECIMAL_ONE: i128 = 1_000_000_000;
/// How many decimal places a [`Decimal`] has.
pub const DECIMAL_PLACES: u32 = 9;
/// Exact numbers are smaller than this, in billionths: 2³⁴ of them can be added without overflow.
const DECIMAL_LIMIT: i128 = 1 << 93;

/// A number of billionths, exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(pub i128);

/// A value. `'a` is the record that it was read from; [`Value<'static>`] owns what it has.
#[derive(Clone, Debug, Default)]
pub enum Value<'a> {
    /// Absent, or JSON's `null`.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An exact number.
    Exact(Decimal),
    /// Any other number; never NaN.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes that are no text: a record key.
    Bytes(Cow<'a, [u8]>),
    /// Several values: what a histogram or a top-k results in.
    List(Vec<Value<'a>>),
    /// Named values.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl Decimal {
    /// A whole number; always exact.
    #[must_use]
    pub const fn from_int(value: i64) -> Self {
        Self(value as i128 * DECIMAL_ONE)
    }

    /// The nearest floating point number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the nearest one is what is asked for")]
    pub fn to_f64(self) -> f64 {
        if self.0 % DECIMAL_ONE == 0 {
            (self.0 / DECIMAL_ONE) as f64
        } else if self.0.unsigned_abs() < 1 << 53 {
            self.0 as f64 / DECIMAL_ONE as f64
        } else {
            // A division would round twice.
            let mut text = String::new();
            number::write_decimal(self, &mut text);
            text.parse().unwrap_or_default()
        }
    }

    /// The whole number, if it is one that an `i64` holds.
    #[must_use]
    pub fn to_int(self) -> Option<i64> {
        if self.0 % DECIMAL_ONE == 0 { i64::try_from(self.0 / DECIMAL_ONE).ok() } else { None }
    }

    /// Whether it is small enough to count as exact.
    #[must_use]
    pub const fn is_in_range(self) -> bool {
        self.0 < DECIMAL_LIMIT && self.0 > -DECIMAL_LIMIT
    }
}

impl<'a> Value<'a> {
    /// A whole number.
    #[must_use]
    pub const fn int(value: i64) -> Self {
        Self::Exact(Decimal::from_int(value))
    }

    /// A floating point number; not a number is no value.
    #[must_use]
    pub fn float(value: f64) -> Self {
        if value.is_nan() { Self::Null } else { Self::Float(value) }
    }

    /// A text.
    #[must_use]
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// Whether there is no value.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The number as a floating point number, if it is a number.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Exact(exact) => Some(exact.to_f64()),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one that an `i64` holds.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Exact(exact) => exact.to_int(),
            _ => None,
        }
    }

    /// The same value, owning what it has.
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Exact(value) => Value::Exact(value),
            Self::Float(value) => Value::Float(value),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Self::List(values) => Value::List(values.into_iter().map(Value::into_owned).collect()),
            Self::Map(values) => Value::Map(
                values.into_iter().map(|(name, value)| (Cow::Owned(name.into_owned()), value.into_owned())).collect(),
            ),
        }
    }

    /// The value as JSON. Bytes are their hexadecimal digits.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Exact(decimal) => number::write_decimal(*decimal, out),
            Self::Float(float) => number::write_float(*float, out),
            Self::Text(text) => write_json_text(text, out),
            Self::Bytes(bytes) => {
                out.push('"');
                push_hex(bytes, out);
                out.push('"');
            }
            Self::List(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    value.write_json(out);
                }
                out.push(']');
            }
            Self::Map(values) => {
                out.push('{');
                for (index, (name, value)) in values.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    write_json_text(name, out);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }

    /// The value as a text: a text is itself, all else is its JSON; none when there is no value.
    #[must_use]
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Bytes(bytes) => {
                let mut text = String::with_capacity(bytes.len() * 2);
                push_hex(bytes, &mut text);
                Some(Cow::Owned(text))
            }
            other => {
                let mut text = String::new();
                other.write_json(&mut text);
                Some(Cow::Owned(text))
            }
        }
    }

    /// How many bytes of memory it has besides itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(Cow::Owned(text)) => text.capacity(),
            Self::Bytes(Cow::Owned(bytes)) => bytes.capacity(),
            Self::List(values) => values.iter().map(|value| size_of::<Self>() + value.heap_bytes()).sum(),
            _ => 0,
        }
    }

    /// The place of the value's kind in the order of all values; numbers are of one kind.
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Exact(_) | Self::Float(_) => 2,
            Self::Text(_) => 3,
            Self::Bytes(_) => 4,
            Self::List(_) => 5,
            Self::Map(_) => 6,
        }
    }

    /// The order of all values: by kind, then by value. An exact number stands before the floating
    /// point number nearest to it, so that the order is total and results do not depend on the
    /// order in which values are compared.
    #[must_use]
    pub fn total_cmp(&self, other: &Value<'_>) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Self::Exact(a), Value::Exact(b)) => a.cmp(b),
            (Self::Float(a), Value::Float(b)) => float_cmp(*a, *b),
            (Self::Exact(a), Value::Float(b)) => float_cmp(a.to_f64(), *b).then(Ordering::Less),
            (Self::Float(a), Value::Exact(b)) => float_cmp(*a, b.to_f64()).then(Ordering::Greater),
            (Self::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Bytes(a), Value::Bytes(b)) => a.as_ref().cmp(b.as_ref()),
            (Self::List(a), Value::List(b)) => {
                let unequal = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
                unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Self::Map(a), Value::Map(b)) => {
                let pairs = a.iter().zip(b);
                let unequal = pairs.map(|(a, b)| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
                unequal.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            _ => self.kind().cmp(&other.kind()),
        }
    }
}

/// A text as JSON.
pub(crate) fn write_json_text(text: &str, out: &mut String) {
    if let Ok(json) = serde_json::to_string(text) {
        out.push_str(&json);
    }
}

fn push_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
}

/// Both zeros are the same number.
fn float_cmp(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

/// The equality of [`Value::total_cmp`]: the exact 1 is not the floating point 1.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.total_cmp(other).is_eq()
    }
}

impl Eq for Value<'_> {}
