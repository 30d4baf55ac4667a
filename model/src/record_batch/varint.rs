//! The variable-length integers of records: zigzag, then seven bits a byte, lowest first, as in
//! Protocol Buffers' `sint32` and `sint64`.

/// The most bytes a 64-bit number takes.
pub(super) const VARLONG_BYTES_MAX: usize = 10;
/// The most bytes a 32-bit number takes.
const VARINT_BYTES_MAX: usize = 5;

const fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// How many bytes `value` takes. A 32-bit number takes the same as the 64-bit one.
pub(super) const fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`.
pub(super) fn write(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    let mut bytes = [0; VARLONG_BYTES_MAX];
    let mut used = 0;
    for byte in &mut bytes {
        used += 1;
        let low = (rest & 0x7f).to_le_bytes()[0];
        rest >>= 7;
        if rest == 0 {
            *byte = low;
            break;
        }
        *byte = low | 0x80;
    }
    out.extend_from_slice(&bytes[..used]);
}

/// Takes a 64-bit number from the front of `input`; `None` when it is cut off or has more than 64 bits.
pub(super) fn read_long(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (index, &byte) in input.iter().take(VARLONG_BYTES_MAX).enumerate() {
        let low = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if index == VARLONG_BYTES_MAX - 1 && low > 1 {
            return None;
        }
        value |= low << (7 * index);
        if byte & 0x80 == 0 {
            *input = &input[index + 1..];
            return Some(unzigzag(value));
        }
    }
    None
}

/// Takes a 32-bit number from the front of `input`; `None` when it is cut off or does not fit.
pub(super) fn read_int(input: &mut &[u8]) -> Option<i32> {
    let mut rest = *input;
    let value = i32::try_from(read_long(&mut rest)?).ok()?;
    if input.len() - rest.len() > VARINT_BYTES_MAX {
        return None;
    }
    *input = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn small_numbers_take_one_byte_and_the_largest_ten() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (63, vec![0x7e]),
            (-64, vec![0x7f]),
            (64, vec![0x80, 0x01]),
            (300, vec![0xd8, 0x04]),
        ] {
            assert_eq!(written(value), bytes, "{value}");
        }
        assert_eq!(written(i64::MAX).len(), 10);
        assert_eq!(written(i64::MIN), [[0xff; 9].as_slice(), &[0x01]].concat());
    }

    #[test]
    fn numbers_that_are_cut_off_or_too_large_are_refused_and_nothing_is_taken() {
        for bytes in [vec![], vec![0x80], vec![0xff; 9], vec![0xff; 11], [[0xff; 9].as_slice(), &[0x02]].concat()] {
            let mut input = bytes.as_slice();
            assert_eq!(read_long(&mut input), None, "{bytes:?}");
            assert_eq!(input.len(), bytes.len());
        }
        for value in [i64::from(i32::MAX) + 1, i64::from(i32::MIN) - 1] {
            let bytes = written(value);
            assert_eq!(read_int(&mut bytes.as_slice()), None, "{value}");
        }
        let padded = [0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(read_int(&mut padded.as_slice()), None, "six bytes are too many for 32 bits");
    }

    proptest! {
        #[test]
        fn a_number_comes_back_and_takes_as_many_bytes_as_announced(value: i64, narrow: i32, tail: Vec<u8>) {
            let mut bytes = written(value);
            prop_assert_eq!(bytes.len(), size(value));
            bytes.extend_from_slice(&tail);
            let mut input = bytes.as_slice();
            prop_assert_eq!(read_long(&mut input), Some(value));
            prop_assert_eq!(input, tail.as_slice());

            let bytes = written(i64::from(narrow));
            prop_assert_eq!(read_int(&mut bytes.as_slice()), Some(narrow));
        }
    }
}
