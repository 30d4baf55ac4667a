//! Every codec: round trips, the framings of other clients, limits, hostile bytes.

use proptest::prelude::*;

use super::*;

/// Between text, which compresses, and noise, which does not; sometimes longer than a block.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..2000);
    (noise, 1_usize..80).prop_map(|(noise, times)| noise.repeat(times))
}

fn any_codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(Compression::ALL.to_vec())
}

#[test]
fn numbers_and_names_are_kafkas() {
    for (number, name) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let codec = Compression::from_wire(number).unwrap();
        assert_eq!((codec.to_wire(), codec.to_string().as_str()), (number, name));
        assert_eq!(name.parse(), Ok(codec));
        assert_eq!(serde_json::to_value(codec).unwrap(), name);
    }
    assert_eq!(Compression::from_wire(5), None);
    assert_eq!("brotli".parse::<Compression>(), Err(UnknownCompression("brotli".to_owned())));
}

#[test]
fn snappy_is_framed_as_java_frames_it() {
    let input = vec![b'a'; XERIAL_BLOCK_BYTES + 1];
    let framed = Compression::Snappy.compress(&input).unwrap();
    assert!(framed.starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
    let first = usize::try_from(u32::from_be_bytes(framed[16..20].try_into().unwrap())).unwrap();
    let second = u32::from_be_bytes(framed[20 + first..24 + first].try_into().unwrap());
    assert_eq!(second, 3, "a length, a tag and the one byte that did not fit the first block");
}

#[test]
fn snappy_is_read_bare_and_in_concatenated_streams() {
    let bare = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
    assert_eq!(Compression::Snappy.decompress(&bare, 100).unwrap(), b"hello hello hello");
    let stream = Compression::Snappy.compress(b"hello ").unwrap();
    let two = [stream.as_slice(), &stream].concat();
    assert_eq!(Compression::Snappy.decompress(&two, 100).unwrap(), b"hello hello ");
}

#[test]
fn members_and_frames_may_lie_back_to_back() {
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let frame = codec.compress(b"hello ").unwrap();
        let two = [frame.as_slice(), &frame].concat();
        assert_eq!(codec.decompress(&two, 100).unwrap(), b"hello hello ", "{codec}");
    }
}

#[test]
fn lz4_blocks_are_independent_and_small_because_javas_reader_demands_it() {
    let frame = Compression::Lz4.compress(b"hello").unwrap();
    assert_eq!(frame[..4], [0x04, 0x22, 0x4d, 0x18]);
    assert_eq!(frame[4] & 0b0010_0000, 0b0010_0000, "block independence");
    assert_eq!(frame[5] & 0b0111_0000, 0b0100_0000, "64 KiB blocks");
}

#[test]
fn the_limit_is_exact() {
    let input = vec![7; 70_000];
    for codec in Compression::ALL {
        let packed = codec.compress(&input).unwrap();
        assert_eq!(codec.decompress(&packed, input.len()).unwrap(), input, "{codec}");
        let refused = codec.decompress(&packed, input.len() - 1);
        assert!(matches!(refused, Err(CompressionError::TooLarge { output_bytes_max: 69_999, .. })), "{codec}");
        assert!(codec.decompress(&packed, 0).is_err(), "{codec}");
    }
}

#[test]
fn output_memory_stays_within_the_limit() {
    for codec in Compression::ALL {
        let packed = codec.compress(&vec![0; 1_000_000]).unwrap();
        let output = codec.decompress(&packed, 1_000_001).unwrap();
        assert!(output.capacity() <= 1_000_001, "{codec}: {}", output.capacity());
    }
}

#[test]
fn stated_lengths_are_not_believed() {
    // Bare snappy that claims 64 MiB in nine bytes.
    let lie = [0x80, 0x80, 0x80, 0x20, 0, 0, 0, 0, 0];
    let refused = Compression::Snappy.decompress(&lie, 1 << 30).unwrap_err();
    assert!(refused.to_string().contains("cannot hold"), "refused before memory is taken: {refused}");
    // A xerial block that is longer than the data, and one of negative length.
    for length in [100_i32, -1] {
        let mut lie = Compression::Snappy.compress(b"hello").unwrap();
        lie[16..20].copy_from_slice(&length.to_be_bytes());
        assert!(
            matches!(Compression::Snappy.decompress(&lie, 100), Err(CompressionError::Malformed { .. })),
            "{length}"
        );
    }
    // A zstd frame that wants a window of 2 GiB.
    let lie = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert!(matches!(Compression::Zstd.decompress(&lie, 1 << 20), Err(CompressionError::Malformed { .. })));
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(codec in any_codec(), input in any_input()) {
        let packed = codec.compress(&input).unwrap();
        prop_assert_eq!(codec.decompress(&packed, input.len()).unwrap(), input);
    }

    #[test]
    fn damage_is_no_reason_to_panic_or_to_exceed_the_limit(
        codec in any_codec(),
        input in proptest::collection::vec(any::<u8>(), 0..300),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut: proptest::sample::Index,
    ) {
        let mut packed = codec.compress(&input).unwrap();
        packed.push(0);
        for (at, byte) in flips {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        packed.truncate(cut.index(packed.len() + 1));
        if let Ok(output) = codec.decompress(&packed, 1000) {
            prop_assert!(output.capacity() <= 1000);
        }
        codec.decompress(&input, 1000).ok();
    }
}
