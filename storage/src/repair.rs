//! Writing a damaged segment anew, from batches that another replica has.
//!
//! Below the high watermark all replicas have the same records, so a closed segment there is as good as its copy. The log
//! goes on meanwhile; the result takes the segment's place like that of a compaction, and a crash at any point leaves
//! one of the two.

use std::sync::Arc;

use pubg1_model::{Offset, record_batch::ValidBatch};

use crate::{
    compaction::{Compacted, Rewriter},
    error::StorageError,
    flush::FlushShared,
    segment::Segment,
};

/// A damaged segment that is written anew; see [`begin_repair`](crate::PartitionLog::begin_repair).
#[derive(Debug)]
pub struct RepairJob {
    pub(crate) segment: Arc<Segment>,
    pub(crate) end: Offset,
    /// Where the next batch belongs.
    pub(crate) next: Offset,
    pub(crate) has_gaps: bool,
    pub(crate) shared: Arc<FlushShared>,
    pub(crate) tombstones_due_ms: Option<i64>,
    pub(crate) allows_gaps: bool,
    pub(crate) generation: u64,
    pub(crate) rewriter: Rewriter,
}

/// Whether a damaged place can be mended by itself.
#[derive(Debug)]
pub enum Repair {
    /// The segment that holds it is to be written anew.
    Begun(Box<RepairJob>),
    /// Not all of the segment is known to be committed: others may have it otherwise.
    NotCommitted,
    /// The segment is not closed and flushed, or its beginning was deleted.
    Impossible,
}

/// Why a batch, or its absence, does not mend a segment.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It is not the one that belongs there.
    #[error(
        "a batch with offsets {first} to {last} was given where offset {expected} of a segment up to {end} belongs"
    )]
    Misfit {
        /// The batch's first offset.
        first: i64,
        /// Its last.
        last: i64,
        /// Where the copy goes on.
        expected: Offset,
        /// Where the segment ends.
        end: Offset,
    },
    /// The batches end before the segment does.
    #[error("the copy ends at offset {next}, the segment at {end}")]
    TooShort {
        /// Where the copy ends.
        next: Offset,
        /// Where the segment ends.
        end: Offset,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl RepairJob {
    /// The offset of the next batch that is needed; `None` when the segment is complete.
    #[must_use]
    pub fn next(&self) -> Option<Offset> {
        (self.next < self.end).then_some(self.next)
    }

    /// Takes batches over, as far as they lie in the segment. Blocks on the disk.
    ///
    /// # Errors
    /// [`RepairError`]; what was written is removed, the log is as it was.
    pub fn push(mut self, batches: &[ValidBatch]) -> Result<Self, RepairError> {
        for batch in batches {
            if self.next >= self.end {
                break;
            }
            let header = batch.header();
            let (first, last) = (header.first_offset(), header.last_offset());
            let (Some(first), Some(last)) = (first, last) else { return Err(self.misfit(batch)) };
            let follows = if self.allows_gaps { first >= self.next } else { first == self.next };
            if !follows || last < first || last >= self.end {
                return Err(self.misfit(batch));
            }
            self.has_gaps |= first > self.next;
            self.next = last.plus(1);
            self.rewriter.add(header, batch.bytes())?;
        }
        Ok(self)
    }

    fn misfit(self, batch: &ValidBatch) -> RepairError {
        let header = batch.header();
        let last = header.base_offset.saturating_add(i64::from(header.last_offset_delta));
        let (expected, end) = (self.next, self.end);
        self.discard();
        RepairError::Misfit { first: header.base_offset, last, expected, end }
    }

    /// Gives up: what was written is removed.
    pub fn discard(self) {
        if let Err(error) = self.rewriter.discard() {
            // Recovery removes what is left.
            tracing::warn!(%error, "an unfinished repair was not removed");
        }
    }

    /// Syncs the new segment. [`install_compaction`](crate::PartitionLog::install_compaction) puts it in its place.
    ///
    /// # Errors
    /// [`RepairError::TooShort`] when batches are missing, and the disk's.
    pub fn finish(self) -> Result<Compacted, RepairError> {
        if self.next != self.end {
            let (next, end) = (self.next, self.end);
            self.discard();
            return Err(RepairError::TooShort { next, end });
        }
        let gaps_end = if self.has_gaps { self.end } else { Offset::ZERO };
        let cleaned_ms = self.segment.last_append_ms();
        let replacement = self.rewriter.finish(cleaned_ms)?;
        Ok(Compacted::repaired(self.shared, self.generation, replacement, gaps_end, self.tombstones_due_ms))
    }
}
