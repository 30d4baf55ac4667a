//! The bytes of a whole state: entries, in pieces of a size that can be stored.
//!
//! A piece is a version and entries; an entry is its kind, whose it is, and its bytes. Changes are
//! entries of the same kinds: applying them in order to a snapshot gives the state they were taken
//! from.

use super::{
    codec::{Damaged, Reader, put_bytes, put_len},
    engine::RestoreError,
};

/// The version of the bytes.
const VERSION: u8 = 1;

/// The bytes of a state, cut between entries.
pub(crate) struct Pieces {
    done: Vec<Vec<u8>>,
    piece: Vec<u8>,
    piece_bytes: usize,
}

impl Pieces {
    pub(crate) const fn new(piece_bytes: usize) -> Self {
        Self { done: Vec::new(), piece: Vec::new(), piece_bytes }
    }

    pub(crate) fn put(&mut self, kind: u8, index: usize, bytes: &[u8]) {
        if self.piece.len() >= self.piece_bytes {
            self.done.push(std::mem::take(&mut self.piece));
        }
        if self.piece.is_empty() {
            self.piece.push(VERSION);
        }
        self.piece.push(kind);
        put_len(index, &mut self.piece);
        put_bytes(bytes, &mut self.piece);
    }

    pub(crate) fn finish(mut self) -> Vec<Vec<u8>> {
        self.done.push(self.piece);
        self.done
    }
}

/// The entries of a piece.
pub(crate) struct Entries<'a>(Reader<'a>);

impl<'a> Entries<'a> {
    pub(crate) fn of(piece: &'a [u8]) -> Result<Self, RestoreError> {
        match piece.split_first() {
            Some((&VERSION, entries)) => Ok(Self(Reader(entries))),
            Some(_) => Err(RestoreError("it is of another version of the program")),
            None => Err(RestoreError("a piece is empty")),
        }
    }

    /// The next entry: its kind, whose it is, and its bytes.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, usize, Reader<'a>)>, Damaged> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let kind = self.0.u8()?;
        let index = usize::try_from(self.0.u64()?).map_err(|_| Damaged)?;
        Ok(Some((kind, index, Reader(self.0.bytes()?))))
    }
}

pub(crate) const fn damaged(_: Damaged) -> RestoreError {
    RestoreError("the bytes are damaged")
}
