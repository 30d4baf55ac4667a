//! How much of what was written last stays in the page cache.
//!
//! A log that is written once and read at its end would fill all memory with pages that nobody asks for again: they push
//! out what others need, each new one has to be found and, on a virtual machine, got from the host, and the kernel
//! writes them in bursts when too many are dirty. So the newest bytes of all logs together are kept, and of older ones
//! the memory is given back in the order in which they were written. Who reads them has them read from disk, ahead of
//! the reading; then they are the kernel's to keep or to drop, as any page.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use crate::mapped_file::MappedFile;

/// What is written is handed over in pieces of this.
pub(crate) const PIECE_BYTES: usize = 4 * 1024 * 1024;
/// How often the memory of a piece is given back. What is dirty at the first time is being written at the second, and
/// a busy disk needs longer.
const ROUNDS: usize = 4;

/// A part of a log's file that is written and changes no more.
#[derive(Clone, Debug)]
pub struct Written {
    /// Gone with the last who knows of the segment: then there is nothing to give back.
    file: Weak<MappedFile>,
    path: PathBuf,
    range: Range<usize>,
}

impl Written {
    pub(crate) fn new(file: &Arc<MappedFile>, path: &Path, range: Range<usize>) -> Self {
        Self { file: Arc::downgrade(file), path: path.to_owned(), range }
    }

    /// Its length.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        (self.range.end - self.range.start) as u64
    }

    pub(crate) fn release(&self) -> io::Result<()> {
        let Some(file) = self.file.upgrade() else { return Ok(()) };
        // Mapped files are not kept open. By now the name may be another file's, or nobody's: it is but a hint.
        match File::open(&self.path) {
            Ok(opened) => file.release(&opened, self.range.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The written parts of all logs of a broker, in the order in which they were written.
#[derive(Debug)]
pub struct PageCache {
    /// By how often their memory was given back, the oldest first.
    rounds: [Round; ROUNDS],
}

#[derive(Debug)]
struct Round {
    parts: VecDeque<Written>,
    bytes: u64,
    bytes_max: u64,
}

impl PageCache {
    /// Keeps the newest `bytes_kept`, and up to as much again of what is on its way to the disk.
    #[must_use]
    pub fn new(bytes_kept: u64) -> Self {
        let round = |bytes_max| Round { parts: VecDeque::new(), bytes: 0, bytes_max };
        Self { rounds: [bytes_kept, bytes_kept / 4, bytes_kept / 4, bytes_kept / 2].map(round) }
    }

    /// Takes in what was written, and gives back the memory of what is too much now. Blocks while a disk has more to
    /// write than it queues.
    ///
    /// # Errors
    /// What the system says of one of the parts; the others are done all the same.
    pub fn add(&mut self, written: impl IntoIterator<Item = Written>) -> io::Result<()> {
        let mut result = Ok(());
        let mut entering: VecDeque<Written> = written.into_iter().collect();
        for round in &mut self.rounds {
            round.bytes += entering.iter().map(Written::bytes).sum::<u64>();
            round.parts.append(&mut entering);
            while round.bytes > round.bytes_max
                && let Some(part) = round.parts.pop_front()
            {
                round.bytes -= part.bytes();
                if let Err(error) = part.release() {
                    result = Err(error);
                }
                entering.push_back(part);
            }
        }
        result
    }
}
