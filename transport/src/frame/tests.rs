//! The frame codec: its bytes on the wire, any split of a stream, any bytes at all.

use bytes::{BufMut, Bytes};
use proptest::{collection::vec, prelude::*};

use super::*;

const FRAME_BYTES_MAX: u32 = 200_000;

fn encode(frame: &Frame) -> Vec<u8> {
    let mut bytes = frame.header(FRAME_BYTES_MAX).unwrap().encode().to_vec();
    bytes.extend_from_slice(&frame.control);
    frame.payload.parts().iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// Feeds `stream` in pieces of the given sizes, over and over, and collects the frames.
fn decode(stream: &[u8], pieces: &[usize], decoder: &mut FrameDecoder) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    let mut pieces = pieces.iter().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let mut space = decoder.read_space();
        let room = space.remaining_mut();
        assert!(room > 0, "no room for the next byte");
        let take = rest.len().min(room).min(*pieces.next().unwrap());
        space.put_slice(&rest[..take]);
        rest = &rest[take..];
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let kind = (1_u8..=7).prop_map(|kind| FrameKind::from_wire(kind).unwrap());
    let sizes = prop_oneof![8 => 0_usize..300, 2 => 10_000_usize..40_000, 1 => 60_000_usize..150_000];
    (kind, any::<u16>(), any::<u64>(), vec(any::<u8>(), 0..200), sizes, any::<u8>()).prop_map(
        |(kind, body_kind, correlation_id, control, payload_bytes, fill)| Frame {
            kind,
            body_kind,
            correlation_id,
            control: control.into(),
            payload: Bytes::from(
                (0..=u8::MAX).map(|i| fill.wrapping_add(i)).cycle().take(payload_bytes).collect::<Vec<_>>(),
            )
            .into(),
        },
    )
}

#[test]
fn a_frame_has_these_bytes() {
    let frame = Frame {
        kind: FrameKind::Request,
        body_kind: 0x0102,
        correlation_id: 0x0304_0506_0708_090a,
        control: Bytes::from_static(b"ctl"),
        payload: vec![Bytes::from_static(b"pay"), Bytes::from_static(b"load")].into(),
    };
    let header: [u8; HEADER_BYTES] = [
        0, 0, 0, 34, // everything after these four bytes
        1, 0, // request, no flags
        1, 2, // body kind
        3, 4, 5, 6, 7, 8, 9, 10, // correlation id
        0, 0, 0, 3, // bytes of control
        0x71, 0x3d, 0xf1, 0x2d, // CRC-32C of control
        0x2e, 0x8b, 0x7f, 0x9d, // CRC-32C of the 24 bytes before
    ];
    assert_eq!(encode(&frame), [&header[..], b"ctlpayload"].concat());
}

#[test]
fn every_kind_has_its_number() {
    for wire in 0..=u8::MAX {
        assert_eq!(FrameKind::from_wire(wire).map(FrameKind::to_wire), (1..=7).contains(&wire).then_some(wire));
    }
}

#[test]
fn a_header_that_cannot_be_is_refused() {
    let good = Frame::bare(FrameKind::Request, 1).header(FRAME_BYTES_MAX).unwrap();
    let refusal = |change: &dyn Fn(&mut [u8; HEADER_BYTES])| {
        let mut header = good.encode();
        change(&mut header);
        let checksum = crc32c::crc32c(&header[..24]);
        header[24..].copy_from_slice(&checksum.to_be_bytes());
        FrameHeader::decode(&header, FRAME_BYTES_MAX).unwrap_err()
    };
    assert_eq!(refusal(&|h| h[4] = 8), FrameError::UnknownKind(8));
    assert_eq!(refusal(&|h| h[5] = 1), FrameError::UnknownFlags(1));
    assert_eq!(refusal(&|h| h[3] = 23), FrameError::TooShort { length: 23 });
    assert_eq!(refusal(&|h| h[19] = 1), FrameError::ControlOutside { control_bytes: 1, body_bytes: 0 });
    assert_eq!(
        refusal(&|h| h[0..4].copy_from_slice(&u32::MAX.to_be_bytes())),
        FrameError::TooLarge { frame_bytes: u64::from(u32::MAX) + 4, frame_bytes_max: FRAME_BYTES_MAX }
    );
    let mut flipped = good.encode();
    flipped[9] ^= 1;
    assert!(matches!(FrameHeader::decode(&flipped, FRAME_BYTES_MAX), Err(FrameError::HeaderChecksum { .. })));
}

#[test]
fn a_frame_too_large_is_refused_before_anything_is_allocated_for_it() {
    let header = FrameHeader {
        kind: FrameKind::Request,
        body_kind: 0,
        correlation_id: 1,
        control_bytes: 0,
        body_bytes: 1 << 30,
        control_checksum: 0,
    };
    let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
    decoder.read_space().put_slice(&header.encode());
    let before = decoder.capacity_bytes();
    assert!(matches!(decoder.next_frame(), Err(FrameError::TooLarge { frame_bytes: 1_073_741_852, .. })));
    assert_eq!(decoder.capacity_bytes(), before);
}

#[test]
fn a_damaged_control_part_is_found() {
    let frame = Frame { control: Bytes::from_static(b"epoch 7"), ..Frame::bare(FrameKind::Request, 1) };
    let mut bytes = encode(&frame);
    bytes[HEADER_BYTES + 6] ^= 1;
    let error = decode(&bytes, &[usize::MAX], &mut FrameDecoder::new(FRAME_BYTES_MAX)).unwrap_err();
    assert!(matches!(error, FrameError::ControlChecksum { .. }));
}

#[test]
fn a_large_body_is_received_into_one_buffer_that_becomes_the_payload() {
    let payload = Bytes::from(vec![7; 150_000]);
    let frame = Frame { payload: payload.into(), ..Frame::bare(FrameKind::Response, 1) };
    let stream = encode(&frame).repeat(20);
    let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
    let mut addresses = std::collections::BTreeSet::new();
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let mut space = decoder.read_space();
        let take = rest.len().min(space.remaining_mut());
        space.put_slice(&rest[..take]);
        rest = &rest[take..];
        while let Some(frame) = decoder.next_frame().unwrap() {
            addresses.insert(frame.payload.parts()[0].as_ptr());
        }
    }
    // The first is preceded by what a full read took in; every other frame was dropped before the next came.
    assert!(addresses.len() <= 2, "{} buffers for 20 frames, one after the other", addresses.len());
    assert!(!decoder.is_inside_frame());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_split_of_the_stream_yields_the_same_frames(
        frames in vec(any_frame(), 1..6),
        pieces in prop_oneof![vec(1_usize..100, 1..8), vec(1_usize..70_000, 1..8)],
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(encode).collect();
        let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        prop_assert_eq!(decode(&stream, &pieces, &mut decoder), Ok(frames));
        prop_assert!(!decoder.is_inside_frame());
    }

    #[test]
    fn frames_handed_out_keep_their_bytes_while_more_arrive(frames in vec(any_frame(), 2..12)) {
        let stream: Vec<u8> = frames.iter().flat_map(encode).collect();
        let decoded = decode(&stream, &[usize::MAX], &mut FrameDecoder::new(FRAME_BYTES_MAX)).unwrap();
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_allocate_above_the_limit(bytes in vec(any::<u8>(), 0..3000)) {
        let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        prop_assert!(decode(&bytes, &[100], &mut decoder).is_err() || bytes.len() < HEADER_BYTES);
        prop_assert!(decoder.capacity_bytes() <= (64 << 10) + FRAME_BYTES_MAX as usize);
    }

    #[test]
    fn a_flipped_bit_in_header_or_control_is_always_found(frame in any_frame(), at in any::<prop::sample::Index>()) {
        let mut bytes = encode(&frame);
        let bit = at.index((HEADER_BYTES + frame.control.len()) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode(&bytes, &[usize::MAX], &mut FrameDecoder::new(FRAME_BYTES_MAX)).is_err());
    }

    #[test]
    fn a_header_survives_the_wire(frame in any_frame()) {
        let header = frame.header(FRAME_BYTES_MAX).unwrap();
        prop_assert_eq!(FrameHeader::decode(&header.encode(), FRAME_BYTES_MAX), Ok(header));
    }
}
