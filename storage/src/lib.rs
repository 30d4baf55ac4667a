//! The log on disk: segments of record batches, mapped into memory.
//!
//! One [`PartitionLog`] owns one directory and is its only writer; any number of [`LogReader`]s
//! take slices of the mapped segments without asking it. It is synchronous and has no clock: the
//! time is a parameter. `docs/FORMAT.md` describes every file.
//!
//! Reading order: `mapped_file` is the ground and the only unsafe code; `segment` and
//! `active_segment` are a mapped log with its indexes, read and written; [`PartitionLog`] is the
//! writer, [`LogReader`] the reader, [`PendingFlush`] the group commit between them and the disk;
//! `recovery` opens a log after any kind of stop; `compaction` cleans it; [`PageCache`] bounds the
//! memory of what was written.

mod active_segment;
mod checkpoint;
mod compaction;
mod disk;
mod epoch_checkpoint;
mod error;
mod flush;
mod indexer;
mod log;
mod mapped_file;
mod offset_index;
mod page_cache;
mod producer_snapshot;
mod reader;
mod recovery;
mod repair;
mod scan;
mod segment;
mod shared;
mod time_index;
mod verification;

#[cfg(test)]
mod tests;

pub use compaction::{Compacted, CompactionJob};
pub use disk::{Disk, SystemDisk};
pub use error::{AppendError, Damage, DamageReason, FlushError, ReadError, StorageError};
pub use flush::{Flushed, PendingFlush};
pub use log::{Appended, Deleted, PartitionLog};
pub use page_cache::{PageCache, Written};
pub use reader::{LogReader, LogSlice};
pub use recovery::RecoveryReport;
pub use repair::{Repair, RepairError, RepairJob};
pub use verification::VerificationJob;
