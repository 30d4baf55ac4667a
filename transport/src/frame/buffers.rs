//! Receive buffers for large bodies, used again once everybody has dropped the slices made of them.
//!
//! A fresh allocation of a quarter of a mebibyte costs 64 page faults, more than copying the bytes from the socket.

use std::collections::VecDeque;

use bytes::BytesMut;

/// So many buffers at most are kept.
const BUFFERS_MAX: usize = 16;

/// So many bytes at most are kept by one connection, in use or not.
const BYTES_MAX: usize = 8 << 20;

/// A buffer of more than so many times the wanted size is not taken: a small slice would pin it.
const OVERSIZE_MAX: usize = 4;

/// Buffers given back, oldest first, some of them still referred to by slices.
#[derive(Debug, Default)]
pub(super) struct ReceiveBuffers {
    kept: VecDeque<Kept>,
    kept_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    buffer: BytesMut,
    capacity: usize,
}

/// A buffer with its true capacity, which `BytesMut` forgets while slices of it live.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    pub(super) bytes: BytesMut,
    capacity: usize,
}

impl ReceiveBuffers {
    /// An empty buffer with room for `bytes`.
    pub(super) fn take(&mut self, bytes: usize) -> ReceiveBuffer {
        let fits = bytes..=bytes.saturating_mul(OVERSIZE_MAX);
        let free = self.kept.iter_mut().position(|kept| {
            // Succeeds only when no slice refers to the buffer any more.
            fits.contains(&kept.capacity) && kept.buffer.try_reclaim(bytes)
        });
        if let Some(Kept { buffer, capacity }) = free.and_then(|at| self.kept.remove(at)) {
            self.kept_bytes -= capacity;
            return ReceiveBuffer { bytes: buffer, capacity };
        }
        let buffer = BytesMut::with_capacity(bytes);
        let capacity = buffer.capacity();
        ReceiveBuffer { bytes: buffer, capacity }
    }

    /// Gives the buffer back; slices of it may still be in use.
    pub(super) fn give_back(&mut self, mut buffer: ReceiveBuffer) {
        buffer.bytes.clear();
        self.kept_bytes += buffer.capacity;
        self.kept.push_back(Kept { buffer: buffer.bytes, capacity: buffer.capacity });
        while self.kept.len() > BUFFERS_MAX || self.kept_bytes > BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.capacity;
        }
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.kept_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_only_when_its_slices_are_gone() {
        let mut buffers = ReceiveBuffers::default();
        let mut first = buffers.take(100_000);
        first.bytes.resize(100_000, 7);
        let slice = first.bytes.split().freeze();
        let address = slice.as_ptr();
        buffers.give_back(first);

        let second = buffers.take(100_000);
        assert_ne!(second.bytes.as_ptr(), address);
        assert_eq!(slice[99_999], 7);
        drop(slice);
        let third = buffers.take(90_000);
        assert_eq!(third.bytes.as_ptr(), address);
        assert!(third.bytes.is_empty() && third.bytes.capacity() >= 90_000);
    }

    #[test]
    fn a_much_larger_buffer_is_left_alone_and_the_total_is_bounded() {
        let mut buffers = ReceiveBuffers::default();
        let large = buffers.take(1 << 20);
        buffers.give_back(large);
        let small = buffers.take(20_000);
        assert!(small.bytes.capacity() < 1 << 20);
        for _ in 0..100 {
            let fresh = ReceiveBuffer { bytes: BytesMut::with_capacity(1 << 20), capacity: 1 << 20 };
            buffers.give_back(fresh);
        }
        assert_eq!(buffers.capacity_bytes(), BYTES_MAX);
    }
}
