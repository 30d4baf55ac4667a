//! Frames from anybody: no panic, no memory above the limit, and the same frames however the stream is cut.
//!
//! Run with `cargo +nightly fuzz run frame fuzz/corpus/frame fuzz/seeds/frame`. The first two bytes of the input say
//! how the stream is cut. The rest is tried as it is, and once more with every checksum made right, since no fuzzer
//! guesses a CRC.

#![no_main]

use bytes::BufMut;
use libfuzzer_sys::fuzz_target;
use pubg1_transport::frame::{Frame, FrameDecoder, FrameError, FrameHeader, HEADER_BYTES};

const FRAME_BYTES_MAX: u32 = 100_000;

/// A block for small frames, and what one frame may take.
const CAPACITY_BYTES_MAX: usize = (64 << 10) + FRAME_BYTES_MAX as usize;

fuzz_target!(|input: &[u8]| {
    let Some((cut, stream)) = input.split_first_chunk::<2>() else { return };
    let piece = usize::from(u16::from_be_bytes(*cut)) + 1;
    exercise(stream, piece);
    exercise(&sealed(stream), piece);
});

fn exercise(stream: &[u8], piece: usize) {
    let (whole, whole_end) = decode(stream, usize::MAX);
    let (cut, cut_end) = decode(stream, piece);
    assert_eq!(whole, cut, "the cut of the stream changes its frames");
    assert_eq!(whole_end, cut_end);
    for frame in whole {
        let header = frame.header(FRAME_BYTES_MAX).expect("it was received");
        assert_eq!(FrameHeader::decode(&header.encode(), FRAME_BYTES_MAX), Ok(header));
    }
}

fn decode(mut stream: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let mut space = decoder.read_space();
        let take = stream.len().min(piece).min(space.remaining_mut());
        assert!(take > 0, "no room for the next byte");
        space.put_slice(&stream[..take]);
        stream = &stream[take..];
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(decoder.capacity_bytes() <= CAPACITY_BYTES_MAX, "{} bytes held", decoder.capacity_bytes());
    }
    (frames, None)
}

/// The stream with the checksums of all its headers and control parts made right, as far as the lengths lead.
fn sealed(stream: &[u8]) -> Vec<u8> {
    let mut bytes = stream.to_vec();
    let mut at = 0;
    while let Some(frame) = bytes.get_mut(at..).filter(|frame| frame.len() >= HEADER_BYTES) {
        let number = |from: usize| u32::from_be_bytes([frame[from], frame[from + 1], frame[from + 2], frame[from + 3]]);
        let (length, control_bytes) = (number(0) as usize, number(16) as usize);
        let control = frame.get(HEADER_BYTES..HEADER_BYTES.saturating_add(control_bytes)).unwrap_or_default();
        let checksum = crc32c::crc32c(control);
        frame[20..24].copy_from_slice(&checksum.to_be_bytes());
        let checksum = crc32c::crc32c(&frame[..24]);
        frame[24..28].copy_from_slice(&checksum.to_be_bytes());
        at = at.saturating_add(length.max(HEADER_BYTES - 4) + 4);
    }
    bytes
}
