//! The map's promises.

use std::sync::Arc;

use super::*;
use crate::disk::SystemDisk;

fn writer(dir: &Path, capacity: usize) -> MapWriter {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    MapWriter::create(&disk, &dir.join("file"), capacity).unwrap()
}

#[test]
fn only_reserved_bytes_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path(), 10_000);
    assert_eq!(writer.capacity(), 12_288);
    let mut was_called = false;
    assert!(writer.append(1, |_| was_called = true).is_err(), "nothing is reserved yet");
    assert!(!was_called);
    writer.reserve(5000, 0).unwrap();
    writer.append(5000, |bytes| bytes.fill(7)).unwrap();
    assert!(writer.append(8192, |_| ()).is_err(), "beyond what was reserved");
    assert!(writer.reserve(8192, 0).is_err(), "beyond the capacity");
    assert_eq!(writer.mapped().bytes(), [7; 5000]);
}

#[test]
fn parts_of_any_size_are_seen_in_the_map_and_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path(), 1 << 20);
    assert!(writer.append_parts(b"head", &[1; 10_000]).is_err(), "nothing is reserved yet");
    assert!(writer.mapped().bytes().is_empty());
    let mut expected = Vec::new();
    for rest in [0, 10, WRITE_BYTES_MIN - 5, WRITE_BYTES_MIN - 4, 100_000, 3, 300_000] {
        let rest = vec![u8::try_from(rest % 251).unwrap(); rest];
        writer.reserve(4 + rest.len(), 0).unwrap();
        writer.append_parts(b"head", &rest).unwrap();
        expected.extend_from_slice(b"head");
        expected.extend_from_slice(&rest);
        assert!(writer.mapped().bytes() == expected, "after {} bytes", rest.len());
    }
    assert!(writer.append_parts(b"head", &vec![0; 1 << 20]).is_err(), "beyond what was reserved");
    writer.mapped().flush(0..usize::MAX).unwrap();
    assert!(std::fs::read(dir.path().join("file")).unwrap().starts_with(&expected));
}

#[test]
fn a_panic_while_writing_publishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path(), 4096);
    writer.reserve(10, 0).unwrap();
    writer.append(3, |bytes| bytes.copy_from_slice(b"abc")).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        writer.append(3, |bytes| {
            bytes[0] = b'x';
            panic!("half-way")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(writer.mapped().bytes(), b"abc");
    writer.append(3, |bytes| bytes.copy_from_slice(b"def")).unwrap();
    assert_eq!(writer.mapped().bytes(), b"abcdef");
}

#[test]
fn slices_outlive_the_writer_the_cut_and_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path(), 1 << 20);
    writer.reserve(6000, 1 << 20).unwrap();
    writer.append(6000, |bytes| bytes.fill(9)).unwrap();
    let slice = writer.mapped().slice(10..1 << 20);
    let sealed = writer.into_sealed();
    sealed.cut().unwrap();
    assert_eq!(std::fs::metadata(sealed.path()).unwrap().len(), 6000);
    std::fs::remove_file(sealed.path()).unwrap();
    drop(sealed);
    assert_eq!(slice, vec![9; 5990]);
    assert!(slice.slice(100..200).iter().all(|byte| *byte == 9));
}

#[test]
fn readers_see_whole_appends_while_they_happen() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path(), 1 << 20);
    let reader = Arc::clone(writer.mapped());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = 0;
            while seen < 1000 * 64 {
                let bytes = reader.bytes();
                assert_eq!(bytes.len() % 64, 0);
                assert!(bytes[seen..].iter().all(|byte| *byte == 0xa5));
                seen = bytes.len();
            }
        });
        for _ in 0..500 {
            writer.reserve(64, 4096).unwrap();
            writer.append(64, |bytes| bytes.fill(0xa5)).unwrap();
        }
        let large = [0xa5; 8000];
        for _ in 0..4 {
            writer.reserve(8000, 4096).unwrap();
            writer.append_parts(&large[..64], &large[64..]).unwrap();
        }
    });
}
