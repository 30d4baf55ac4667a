//! A file in memory with one writer and many readers: the only unsafe code of the project.
//!
//! Three rules make it sound, and each is kept in this file or named where it is kept:
//!
//! 1. **Published bytes never change.** The writer writes only behind the published end and then
//!    moves it with `Release`; readers look only below it, with `Acquire`. So no byte is written
//!    while a reference to it exists. Nobody else writes to the file: the directory is locked by
//!    one log, and recovery, which cuts and rewrites files, runs before they are mapped.
//! 2. **Touched bytes exist.** A map may be longer than its file (it spans the whole segment from
//!    the start), and touching what the file does not have kills the process. The writer touches
//!    only what [`MapWriter::reserve`] got blocks for, so a full disk is an error of `reserve`.
//! 3. **A mapped file never shrinks below its published end.** It is cut only to that end
//!    ([`SealedFile::cut`]); everything shorter is written as a new file and renamed over the name,
//!    which leaves the old one to those who still read it.
//!
//! What remains is the disk failing. Under a page that has to be read again the kernel can report
//! it only by SIGBUS, which ends the process; recovery reads with system calls and gets an error.
//! A page that could not be written counts as clean, and once its memory is given back it reads as
//! what the disk had before, until the next flush reports the failure and ends the process: so what
//! was given back before it was flushed is read with its checksums ([`MappedFile::is_unsure`]).
#![allow(unsafe_code, reason = "the one place where mapped memory becomes slices")]

use std::{
    fs::File,
    io::{self, IoSlice},
    num::NonZeroU64,
    ops::Range,
    path::{Path, PathBuf},
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use rustix::io::Errno;

use crate::{disk::Disk, error::is_disk_full};

/// Files grow by multiples of this.
const BLOCK_BYTES: usize = 4096;
/// From this size on a system call is cheaper than the page faults of writing through the map.
const WRITE_BYTES_MIN: usize = 4096;
/// What is asked for when the disk cannot give a whole step.
const SMALL_STEP_BYTES: usize = 64 * 1024;
/// Pages are brought into the cache in pieces of at least this, and at most [`PREPARED_BYTES`].
const ZEROS: &[u8; 64 * 1024] = &[0; 64 * 1024];
/// For large appends pages are brought into the cache in pieces of this.
const LARGE_PIECE_BYTES: usize = 256 * 1024;
/// Once so much waits for a flush, large appends have pages prepared as well: what the flush writes in vain is at most
/// one piece, a quarter of it.
const UNFLUSHED_BYTES_MIN: usize = 4 * LARGE_PIECE_BYTES;
/// How far ahead of the writing pages are brought into the cache.
const PREPARED_BYTES: usize = 1024 * 1024;

/// The readers' view of a mapped file.
#[derive(Debug)]
pub(crate) struct MappedFile {
    map: MmapRaw,
    /// Bytes that readers may look at. Never more than the map has, and it never moves back.
    published: AtomicUsize,
    /// How far a flush has come.
    flushed: AtomicUsize,
    /// What lies below is probably not in the page cache.
    released: AtomicUsize,
}

/// What a [`Bytes`] of a map holds on to.
struct Slice {
    file: Arc<MappedFile>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.file.bytes()[self.range.clone()]
    }
}

impl MappedFile {
    /// Maps a file that nobody writes to any more; all of it is published.
    pub(crate) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let file = File::open(path)?;
        let bytes = to_usize(file.metadata()?.len())?;
        // A map cannot be empty; of a longer one than the file nothing is touched.
        let map = MmapOptions::new().len(bytes.max(1)).map_raw_read_only(&file)?;
        Ok(Arc::new(Self::new(map, bytes, bytes)))
    }

    const fn new(map: MmapRaw, published: usize, released: usize) -> Self {
        let (flushed, released) = (AtomicUsize::new(published), AtomicUsize::new(released));
        Self { map, published: AtomicUsize::new(published), flushed, released }
    }

    /// How many bytes can be read.
    pub(crate) fn len(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// Everything that can be read at this moment.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `published` never exceeds the map, and everything below it is in the file and is
        // never written again while the map lives (rules 1 to 3 above), so these bytes are
        // initialised, readable and frozen for the life of `self`. `Acquire` pairs with the
        // writer's `Release`: whoever sees the end sees the bytes below it.
        unsafe { slice::from_raw_parts(self.map.as_ptr(), self.len()) }
    }

    /// A part of the file that keeps the map alive; cut to what is published.
    pub(crate) fn slice(self: &Arc<Self>, range: Range<usize>) -> Bytes {
        let end = range.end.min(self.len());
        let range = range.start.min(end)..end;
        if range.is_empty() { Bytes::new() } else { Bytes::from_owner(Slice { file: Arc::clone(self), range }) }
    }

    /// Brings the range to stable storage, waiting for it. What is not published is left out.
    pub(crate) fn flush(&self, range: Range<usize>) -> io::Result<()> {
        let end = range.end.min(self.len());
        if range.start >= end {
            return Ok(());
        }
        self.map.flush_range(range.start, end - range.start)?;
        self.flushed.fetch_max(end, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back the memory of those pages of the range that are on disk, and has the others written: a second call,
    /// some time later, gives back theirs. The bytes stay readable. `file` is the file that is mapped.
    pub(crate) fn release(&self, file: &File, range: Range<usize>) -> io::Result<()> {
        let end = range.end.min(self.len());
        let Some(bytes) = end.checked_sub(range.start).and_then(|bytes| NonZeroU64::new(bytes as u64)) else {
            return Ok(());
        };
        self.released.fetch_max(end, Ordering::Relaxed);
        // A page that is mapped would be kept.
        // SAFETY: the map is shared and backed by a file, so this takes away entries of the page table and no byte:
        // what was written through them counts as the file's, and who touches the range again, also through a slice
        // that exists, finds the same bytes in the page cache or on disk (the range is published: rule 1), unless the
        // disk fails, of which the module's head speaks.
        unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, end - range.start) }?;
        Ok(rustix::fs::fadvise(file, range.start as u64, Some(bytes), rustix::fs::Advice::DontNeed)?)
    }

    /// Has the range read from disk in one go, and waits for it, if it may not be in memory: touching it costs a read
    /// for every few pages otherwise, and whoever is handed the bytes may not be one who can wait.
    pub(crate) fn read_ahead(&self, range: Range<usize>) {
        let end = range.end.min(self.len());
        if range.start < end && range.start < self.released() {
            for advice in [Advice::WillNeed, Advice::PopulateRead] {
                // Only a hint, which older kernels do not know.
                self.map.advise_range(advice, range.start, end - range.start).unwrap_or_default();
            }
        }
    }

    /// Below it the memory was given back, as far as anybody has tried.
    pub(crate) fn released(&self) -> usize {
        self.released.load(Ordering::Relaxed)
    }

    /// Whether some of the range was given back before it was known to be on disk.
    pub(crate) fn is_unsure(&self, range: Range<usize>) -> bool {
        range.start < self.released() && range.end > self.flushed.load(Ordering::Relaxed)
    }
}

/// The one writer of a mapped file: it appends behind the published end.
#[derive(Debug)]
pub(crate) struct MapWriter {
    mapped: Arc<MappedFile>,
    file: File,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    capacity: usize,
    /// Bytes that certainly have blocks.
    allocated: usize,
    /// Bytes whose pages were brought into the cache.
    prepared: usize,
}

impl MapWriter {
    /// Creates the file, empty, mapped for `capacity` bytes.
    pub(crate) fn create(disk: &Arc<dyn Disk>, path: &Path, capacity: usize) -> io::Result<Self> {
        let file = disk.create(path)?;
        Self::map(disk, path, file, 0, capacity)
    }

    /// Opens a file whose first `valid` bytes are known to be good; appending goes on there. What
    /// the file has behind them must be zeros.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path, valid: usize, capacity: usize) -> io::Result<Self> {
        let file = crate::disk::open_rw(path)?;
        if to_usize(file.metadata()?.len())? < valid {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its valid part"));
        }
        Self::map(disk, path, file, valid, capacity)
    }

    fn map(disk: &Arc<dyn Disk>, path: &Path, file: File, valid: usize, capacity: usize) -> io::Result<Self> {
        let capacity = capacity.max(valid).max(1).next_multiple_of(BLOCK_BYTES);
        let map = MmapOptions::new().len(capacity).map_raw(&file)?;
        // What was written in an earlier life need not be in memory.
        let mapped = Arc::new(MappedFile::new(map, valid, valid));
        // Blocks from an earlier life of the file may be holes (a sparse copy), so they are asked
        // for again, from the block that the next byte falls into.
        let allocated = valid - valid % BLOCK_BYTES;
        let (path, disk) = (path.to_owned(), Arc::clone(disk));
        Ok(Self { mapped, file, path, disk, capacity, allocated, prepared: 0 })
    }

    /// The readers' view.
    pub(crate) const fn mapped(&self) -> &Arc<MappedFile> {
        &self.mapped
    }

    /// The file's name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are written.
    pub(crate) fn len(&self) -> usize {
        self.mapped.len()
    }

    /// The most bytes that the file can ever have.
    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes sure that `bytes` more can be written, asking for `step` at once where there is that
    /// much: blocks are cheaper in large pieces, and on a disk that fills up the last ones are
    /// taken in small ones.
    ///
    /// # Errors
    /// The system's, above all a full disk; then everything is as before.
    pub(crate) fn reserve(&mut self, bytes: usize, step: usize) -> io::Result<()> {
        let needed = self.len().saturating_add(bytes);
        if needed <= self.allocated {
            return Ok(());
        }
        if needed > self.capacity {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the segment is full"));
        }
        let mut result = Ok(());
        for target in [
            needed.max(self.allocated.saturating_add(step)).next_multiple_of(BLOCK_BYTES),
            needed.next_multiple_of(SMALL_STEP_BYTES),
            needed.next_multiple_of(BLOCK_BYTES),
        ] {
            let target = target.min(self.capacity);
            result = self.disk.allocate(&self.file, self.allocated as u64, (target - self.allocated) as u64);
            match &result {
                Ok(()) => {
                    self.allocated = target;
                    return Ok(());
                }
                Err(error) if is_disk_full(error) => {}
                Err(_) => break,
            }
        }
        result
    }

    /// Brings the pages of the next `bytes` bytes, and some more, into the cache by writing zeros
    /// to them, in large pieces. It only saves time, much of it: the kernel then has large pages
    /// ready, and a fault on one of them costs a fraction of a fault on each 4 KiB of a hole.
    /// Larger pieces are faster still, but a flush writes whole pieces, so they grow only with what
    /// is written at once.
    ///
    /// # Errors
    /// The system's; then everything is as before.
    pub(crate) fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        let piece = bytes.next_power_of_two().clamp(ZEROS.len(), PREPARED_BYTES);
        self.prepare_pieces(bytes, PREPARED_BYTES, piece)
    }

    /// Prepares the next `bytes` bytes where it pays: a system call that writes to pages which are there costs half of
    /// one that has to find them. Where every append is flushed, it would only write everything twice.
    fn prepare_large(&mut self, bytes: usize) -> io::Result<()> {
        let unflushed = self.len().saturating_sub(self.mapped.flushed.load(Ordering::Relaxed));
        if unflushed < UNFLUSHED_BYTES_MIN {
            return Ok(());
        }
        self.prepare_pieces(bytes, 0, LARGE_PIECE_BYTES)
    }

    fn prepare_pieces(&mut self, bytes: usize, ahead: usize, piece: usize) -> io::Result<()> {
        let needed = self.len().saturating_add(bytes);
        if needed <= self.prepared {
            return Ok(());
        }
        // Only behind what is published: the block that the end lies in is in use.
        let mut at = self.prepared.max(self.len().next_multiple_of(BLOCK_BYTES));
        let end = needed.max(at.saturating_add(ahead)).next_multiple_of(piece).min(self.allocated);
        while at < end {
            // Pieces end at multiples of their size, where large pages do.
            let next = (at + 1).next_multiple_of(piece).min(end);
            at += self.write_zeros(at, next - at)?;
        }
        self.prepared = at.max(self.prepared);
        Ok(())
    }

    fn write_zeros(&self, at: usize, bytes: usize) -> io::Result<usize> {
        let slices = bytes.div_ceil(ZEROS.len());
        let mut slices =
            [IoSlice::new(ZEROS); PREPARED_BYTES / ZEROS.len()].into_iter().take(slices).collect::<Vec<_>>();
        if let Some(last) = slices.last_mut() {
            *last = IoSlice::new(&ZEROS[..(bytes - 1) % ZEROS.len() + 1]);
        }
        match rustix::io::pwritev(&self.file, &slices, at as u64) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => Ok(written),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets `fill` write the next `bytes` bytes and publishes them. When `fill` panics nothing is
    /// published.
    ///
    /// # Errors
    /// When they were not reserved; then nothing is written.
    pub(crate) fn append(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let start = self.len();
        let end = self.reserved_end(start, bytes)?;
        // SAFETY: `start..end` lies in the map (`allocated` never exceeds `capacity`, which is the
        // map's length) and has blocks in the file, so it can be touched. It is behind the
        // published end, where no reader looks, and this is the only writer (`&mut self`, and the
        // type cannot be cloned), so the reference is exclusive. Bytes of a file are initialised.
        let target = unsafe { slice::from_raw_parts_mut(self.mapped.map.as_mut_ptr().add(start), bytes) };
        fill(target);
        self.mapped.published.store(end, Ordering::Release);
        Ok(())
    }

    /// Writes the next bytes, given in two parts, and publishes them. Large ones go through the
    /// page cache by a system call: touching new pages of a map costs a page fault each, several
    /// times the copy itself. The map shows what the call wrote, because both are the page cache.
    ///
    /// # Errors
    /// When they were not reserved, and what the system says; then nothing is published.
    pub(crate) fn append_parts(&mut self, head: &[u8], rest: &[u8]) -> io::Result<()> {
        let bytes = head.len() + rest.len();
        if bytes < WRITE_BYTES_MIN {
            self.prepare(bytes)?;
            return self.append(bytes, |target| {
                let (first, second) = target.split_at_mut(head.len());
                first.copy_from_slice(head);
                second.copy_from_slice(rest);
            });
        }
        let start = self.len();
        let end = self.reserved_end(start, bytes)?;
        self.prepare_large(bytes)?;
        write_parts(&self.file, start as u64, head, rest)?;
        self.mapped.published.store(end, Ordering::Release);
        Ok(())
    }

    fn reserved_end(&self, start: usize, bytes: usize) -> io::Result<usize> {
        start.checked_add(bytes).filter(|end| *end <= self.allocated).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the bytes to be written have no blocks reserved")
        })
    }

    /// Ends writing; the handle can cut the file.
    pub(crate) fn into_sealed(self) -> SealedFile {
        SealedFile { mapped: self.mapped, file: self.file, path: self.path }
    }
}

/// A file that is written to its end but may still have blocks behind it.
#[derive(Debug)]
pub(crate) struct SealedFile {
    mapped: Arc<MappedFile>,
    file: File,
    path: PathBuf,
}

impl SealedFile {
    /// The file's name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives back the blocks behind the written bytes.
    pub(crate) fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.mapped.len() as u64)
    }

    /// It was synced, all of it.
    pub(crate) fn note_flushed(&self) {
        self.mapped.flushed.fetch_max(self.mapped.len(), Ordering::Relaxed);
    }

    /// The file itself, for syncing and its times.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

/// Writes both parts one after the other at `start`, in one call where the system takes all of it.
fn write_parts(file: &File, start: u64, head: &[u8], rest: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let written = loop {
        match rustix::io::pwritev(file, &[IoSlice::new(head), IoSlice::new(rest)], start) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    if let Some(missing) = head.get(written..) {
        file.write_all_at(missing, start + written as u64)?;
    }
    let from = written.saturating_sub(head.len());
    file.write_all_at(&rest[from..], start + (head.len() + from) as u64)
}

fn to_usize(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large to map"))
}

#[cfg(test)]
mod tests;
