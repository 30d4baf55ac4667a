//! The newest offset of each key, in bounded memory.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use pubg1_model::Offset;

/// Keys are kept as 128 bits of two keyed hashes: a collision, which would lose a record, is as
/// good as impossible, and nobody outside can construct one.
#[derive(Debug)]
pub(super) struct KeyOffsets {
    offsets: HashMap<u128, Offset>,
    hashers: [RandomState; 2],
    keys_max: usize,
}

impl KeyOffsets {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { offsets: HashMap::new(), hashers: [RandomState::new(), RandomState::new()], keys_max }
    }

    pub(super) fn is_full(&self) -> bool {
        self.offsets.len() >= self.keys_max
    }

    pub(super) fn insert(&mut self, key: &[u8], offset: Offset) {
        self.offsets.insert(self.digest(key), offset);
    }

    pub(super) fn newest(&self, key: &[u8]) -> Option<Offset> {
        self.offsets.get(&self.digest(key)).copied()
    }

    fn digest(&self, key: &[u8]) -> u128 {
        let [high, low] = [&self.hashers[0], &self.hashers[1]].map(|hasher| u128::from(hasher.hash_one(key)));
        high << 64 | low
    }
}
