//! The checkpoint survives torn writes and rejects everything else.

use proptest::prelude::*;

use super::*;
use crate::disk::SystemDisk;

fn disk() -> Arc<dyn Disk> {
    Arc::new(SystemDisk)
}

fn contents(recovery_point: u64) -> Checkpoint {
    Checkpoint { recovery_point: Offset::new(recovery_point), ..Checkpoint::default() }
}

fn load(dir: &Path) -> Option<Checkpoint> {
    match CheckpointFile::load(&disk(), dir).unwrap() {
        Loaded::Found(file) => Some(*file.contents()),
        _ => None,
    }
}

#[test]
fn the_newest_contents_come_back() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(CheckpointFile::load(&disk(), dir.path()).unwrap(), Loaded::Missing));
    let mut file = CheckpointFile::create(&disk(), dir.path(), contents(1)).unwrap();
    assert_eq!(load(dir.path()), Some(contents(1)));
    for point in 2..7 {
        file.store(contents(point)).unwrap();
        assert_eq!(load(dir.path()), Some(contents(point)));
    }
    let clean = CleanStop { log_end: Offset::new(9), last_segment: Some((Offset::new(4), 1234)) };
    let stopped = Checkpoint { clean: Some(clean), ..contents(9) };
    file.store_synced(stopped).unwrap();
    assert_eq!(load(dir.path()), Some(stopped));
}

#[test]
fn a_torn_write_leaves_the_contents_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = CheckpointFile::create(&disk(), dir.path(), contents(1)).unwrap();
    file.store(contents(2)).unwrap();
    let path = dir.path().join(CHECKPOINT_FILE);
    let before = std::fs::read(&path).unwrap();
    file.store(contents(3)).unwrap();
    let after = std::fs::read(&path).unwrap();
    for torn in 0..after.len() {
        let mut bytes = before.clone();
        bytes[..torn].copy_from_slice(&after[..torn]);
        std::fs::write(&path, &bytes).unwrap();
        let found = load(dir.path()).unwrap();
        assert!(found == contents(2) || found == contents(3), "torn at {torn}: {found:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_checkpoint(bytes: Vec<u8>) {
        prop_assert!(Checkpoint::decode(&bytes).is_none());
    }

    #[test]
    fn one_wrong_bit_is_noticed(bit in 0..SLOT_BYTES * 8) {
        let mut slot = contents(77).encode(5);
        slot[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Checkpoint::decode(&slot).is_none());
    }
}
