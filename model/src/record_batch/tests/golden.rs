//! Batches written by kafka-python 3.0.12 with the same three records in each codec: the reader
//! must understand them, and the builder must write the same bytes where no codec is free to choose.

use super::*;

const GOLDEN: [(Compression, &str); 5] = [
    (
        Compression::None,
        "0000000000000000000000da000000000204458ea30000000000020000013bf58da9000000013cc38c09000000000218711a\
         0000030000004d00000003600000000c5541313534353a7b226f726967696e223a22455752222c2264657374223a22494148\
         227d0402680231026e01de01008080f3df190201c80178787878787878787878787878787878787878787878787878787878\
         7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878\
         78787878787878787878787878787878787878787878000c000104000100",
    ),
    (
        Compression::Gzip,
        "00000000000000000000008c00000000020e24f3f30001000000020000013bf58da9000000013cc38c09000000000218711a\
         0000030000004d000000031f8b0800038a036b02ff4b606060e0097534343531b5aa56ca2fca4ccfcc53b252720d0f52d251\
         4a492d2e01723c1d3d946a599832980c99f218ef313234347cbe2fc9c47882b1820e808187819185819101007453bbcea900\
         0000",
    ),
    (
        Compression::Snappy,
        "00000000000000000000009700000000027c5200130002000000020000013bf58da9000000013cc38c09000000000218711a\
         0000030000004d0000000382534e4150505900000000010000000100000052a901f03e600000000c5541313534353a7b226f\
         726967696e223a22455752222c2264657374223a22494148227d0402680231026e01de01008080f3df190201c8017878fe02\
         008602001c000c000104000100",
    ),
    (
        Compression::Lz4,
        "000000000000000000000094000000000241b1d5e60003000000020000013bf58da9000000013cc38c09000000000218711a\
         0000030000004d0000000304224d186840a900000000000000ab4c000000ff2f600000000c5541313534353a7b226f726967\
         696e223a22455752222c2264657374223a22494148227d0402680231026e01de01008080f3df190201c8017801005080000c\
         00010400010000000000",
    ),
    (
        Compression::Zstd,
        "0000000000000000000000880000000002406b4a0d0004000000020000013bf58da9000000013cc38c09000000000218711a\
         0000030000004d0000000328b52ffd20a97502006404600000000c5541313534353a7b226f726967696e223a22455752222c\
         2264657374223a22494148227d0402680231026e01de01008080f3df190201c80178000c00010400010001000e520005",
    ),
];

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn records() -> [Owned; 3] {
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let day_ms = 86_400_000;
    [
        Owned {
            timestamp_ms: 1_357_034_400_000,
            key: Some(b"UA1545".to_vec()),
            value: Some(br#"{"origin":"EWR","dest":"IAH"}"#.to_vec()),
            headers: vec![header("h", Some(b"1")), header("n", None)],
        },
        // Forty days later: the delta does not fit 32 bits.
        Owned::value(1_357_034_400_000 + 40 * day_ms, &[b'x'; 100]),
        Owned { timestamp_ms: 1_357_034_399_999, key: Some(Vec::new()), value: None, headers: Vec::new() },
    ]
}

const PRODUCER: ProducerIdentity = ProducerIdentity { id: ProducerId(9_000_000_000), epoch: 3, sequence: 77 };

#[test]
fn batches_of_another_implementation_are_read() {
    for (codec, hex) in GOLDEN {
        let batch = ValidBatch::new(Bytes::from(unhex(hex))).unwrap();
        let header = batch.header();
        assert_eq!(header.attributes.compression(), Some(codec));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9_000_000_000, 3, 77));
        batch.check_records(1 << 16, false).unwrap();
        let expected: Vec<_> = (0..).zip(records()).collect();
        assert_eq!(read(&batch.as_batch()).unwrap(), expected, "{codec}");
    }
}

#[test]
fn the_builder_writes_the_same_bytes() {
    let ours = build(Compression::None, &records(), Some(PRODUCER)).unwrap();
    let mut ours = ours.bytes().to_vec();
    // Theirs leaves epoch 0 in the field that the broker overwrites, ours -1 as Java does.
    assert_eq!(ours[12..16], [0xff; 4]);
    ours[12..16].fill(0);
    assert_eq!(ours, unhex(GOLDEN[0].1));
}
