//! The bytes of states: varints, fixed numbers, and lengths that are never believed.

use std::borrow::Cow;

use super::value::{Decimal, Value};

/// The bytes are cut off, or not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

pub(crate) fn put_u64(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Small numbers of either sign are short.
pub(crate) fn put_i64(value: i64, out: &mut Vec<u8>) {
    put_u64((value << 1 ^ value >> 63).cast_unsigned(), out);
}

pub(crate) fn put_i128(value: i128, out: &mut Vec<u8>) {
    let mut zigzag = (value << 1 ^ value >> 127).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(zigzag.to_le_bytes()[0] | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag.to_le_bytes()[0]);
}

pub(crate) fn put_f64(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(crate) fn put_len(length: usize, out: &mut Vec<u8>) {
    put_u64(length as u64, out);
}

pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(value) => out.push(1 + u8::from(*value)),
        Value::Exact(exact) => {
            out.push(3);
            put_i128(exact.0, out);
        }
        Value::Float(float) => {
            out.push(4);
            put_f64(*float, out);
        }
        Value::Text(text) => {
            out.push(5);
            put_bytes(text.as_bytes(), out);
        }
        Value::Bytes(bytes) => {
            out.push(6);
            put_bytes(bytes, out);
        }
        // Only results have these, and states hold no results.
        Value::List(_) | Value::Map(_) => out.push(0),
    }
}

/// Reads what was put, in the same order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Damaged> {
        let (byte, rest) = self.0.split_first().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damaged> {
        u64::try_from(self.varint(64)?).map_err(|_| Damaged)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damaged> {
        u32::try_from(self.u64()?).map_err(|_| Damaged)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Damaged> {
        let zigzag = self.u64()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    pub(crate) fn i128(&mut self) -> Result<i128, Damaged> {
        let zigzag = self.varint(128)?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    fn varint(&mut self, bits: u32) -> Result<u128, Damaged> {
        let mut value = 0_u128;
        let mut shift = 0;
        loop {
            let byte = self.u8()?;
            let part = u128::from(byte & 0x7f);
            if shift >= bits || (part << shift) >> shift != part {
                return Err(Damaged);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Damaged> {
        let (bits, rest) = self.0.split_first_chunk::<8>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(f64::from_bits(u64::from_le_bytes(*bits)))
    }

    /// A number of things that take at least `bytes_min` bytes each.
    pub(crate) fn len(&mut self, bytes_min: usize) -> Result<usize, Damaged> {
        let length = usize::try_from(self.u64()?).map_err(|_| Damaged)?;
        if length.saturating_mul(bytes_min.max(1)) > self.0.len() {
            return Err(Damaged);
        }
        Ok(length)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.len(1)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn value(&mut self) -> Result<Value<'static>, Damaged> {
        Ok(match self.u8()? {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Exact(Decimal(self.i128()?)),
            4 => Value::float(self.f64()?),
            5 => Value::text(str::from_utf8(self.bytes()?).map_err(|_| Damaged)?.to_owned()),
            6 => Value::Bytes(Cow::Owned(self.bytes()?.to_vec())),
            _ => return Err(Damaged),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(a: u64, b: i64, c: i128, d: f64, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            put_u64(a, &mut out);
            put_i64(b, &mut out);
            put_i128(c, &mut out);
            put_f64(d, &mut out);
            put_bytes(&bytes, &mut out);
            let mut reader = Reader(&out);
            prop_assert_eq!(reader.u64(), Ok(a));
            prop_assert_eq!(reader.i64(), Ok(b));
            prop_assert_eq!(reader.i128(), Ok(c));
            prop_assert_eq!(reader.f64().map(f64::to_bits), Ok(d.to_bits()));
            prop_assert_eq!(reader.bytes(), Ok(bytes.as_slice()));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader(&bytes);
            while reader.value().is_ok() {}
            let _unimportant = (reader.u64(), reader.i128(), reader.bytes(), reader.f64());
        }
    }
}
