//! Bodies that bring no checksum of their own, with one behind them.
//!
//! The transport leaves payloads unchecked. Record batches have a CRC; votes, entries and snapshots of the metadata do
//! not, and a digit that changed on the way would be stored and replicated.

use bytes::Bytes;
use pubg1_transport::Payload;

/// The CRC-32C, big-endian.
const SUM_BYTES: usize = 4;

/// A body and its checksum.
pub(super) fn seal(body: Bytes) -> Payload {
    let sum = crc32c::crc32c(&body).to_be_bytes();
    Payload::from(vec![body, Bytes::copy_from_slice(&sum)])
}

/// The body again, if it is what was sent.
pub(super) fn open(mut sealed: Bytes) -> Option<Bytes> {
    let sum = sealed.split_off(sealed.len().checked_sub(SUM_BYTES)?);
    (crc32c::crc32c(&sealed).to_be_bytes() == *sum).then_some(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let body = Bytes::from_static(b"{\"term\":3,\"voted_for\":1}");
        let sealed = seal(body.clone()).into_bytes();
        assert_eq!(open(sealed.clone()), Some(body));
        assert_eq!(open(seal(Bytes::new()).into_bytes()), Some(Bytes::new()));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(damaged.into()), None, "bit {bit}");
        }
        for bytes in 0..sealed.len() {
            assert_eq!(open(sealed.slice(..bytes)), None, "cut to {bytes}");
        }
    }
}
