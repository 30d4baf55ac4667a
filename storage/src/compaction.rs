//! Compaction by key: of every key only the newest record stays, and a record without a value
//! removes its key.
//!
//! A job works on closed, flushed segments below the high watermark, on a thread of its own and
//! from the maps, while the log goes on. It remembers the newest offset of each key in the part
//! that was not compacted before, and writes every segment up to there anew without the records
//! that a newer one supersedes. Offsets never change. Each new file takes the place of one old one
//! by a rename, when the log installs the result; a crash at any point leaves whole segments.
//!
//! A tombstone stays for `delete_retention_ms` after its segment was first compacted (the file's
//! modification time remembers when), so that a consumer that is not far behind sees it.
//! Records without a key, which only a topic that was not always compacted has, stay.

mod key_offsets;
mod rewrite;

use std::{collections::HashMap, sync::Arc};

use pubg1_model::{
    Offset,
    record_batch::{Batch, RecordView, Retained},
};

pub(crate) use self::rewrite::Rewriter;
use self::{key_offsets::KeyOffsets, rewrite::Replacement};
use crate::{
    disk::open_rw,
    error::{Damage, StorageError},
    flush::FlushShared,
    segment::{Located, Segment, system_time},
};

/// Decompressed records of one batch are never more than this; a batch that claims more stays.
const DECODED_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Keys that one job remembers, about 50 MiB of them. More keys take more jobs.
pub(crate) const KEYS_MAX: usize = 1_000_000;

/// A compaction that is ready to run; see [`begin_compaction`](crate::PartitionLog::begin_compaction).
#[derive(Debug)]
pub struct CompactionJob {
    pub(crate) shared: Arc<FlushShared>,
    pub(crate) generation: u64,
    /// Closed, flushed segments below the high watermark, each with the offset after it.
    pub(crate) segments: Vec<(Arc<Segment>, Offset)>,
    pub(crate) cleaned_end: Offset,
    pub(crate) now_ms: i64,
    pub(crate) delete_retention_ms: u64,
    pub(crate) interval_bytes: u64,
    pub(crate) keys_max: usize,
}

/// What a compaction has written, to be installed by
/// [`install_compaction`](crate::PartitionLog::install_compaction).
#[derive(Debug)]
pub struct Compacted {
    pub(crate) shared: Arc<FlushShared>,
    pub(crate) generation: u64,
    pub(crate) replacements: Vec<Replacement>,
    /// Below it the log will be compacted.
    pub(crate) cleaned_end: Offset,
    /// Below it batches may be missing.
    pub(crate) gaps_end: Offset,
    /// When the first tombstone that stayed may be removed.
    pub(crate) tombstones_due_ms: Option<i64>,
    records_removed: u64,
    bytes_removed: u64,
}

impl Compacted {
    /// A segment that was written anew from a copy: nothing is missing from it.
    pub(crate) fn repaired(
        shared: Arc<FlushShared>,
        generation: u64,
        replacement: Option<Replacement>,
        gaps_end: Offset,
        tombstones_due_ms: Option<i64>,
    ) -> Self {
        Self {
            shared,
            generation,
            replacements: replacement.into_iter().collect(),
            cleaned_end: Offset::ZERO,
            gaps_end,
            tombstones_due_ms,
            records_removed: 0,
            bytes_removed: 0,
        }
    }

    /// Records that will be gone.
    #[must_use]
    pub const fn records_removed(&self) -> u64 {
        self.records_removed
    }

    /// Bytes that will be given back.
    #[must_use]
    pub const fn bytes_removed(&self) -> u64 {
        self.bytes_removed
    }
}

impl CompactionJob {
    /// Reads and writes; blocks for as long as that takes.
    ///
    /// # Errors
    /// [`StorageError`]; the log is as it was, and what was written is removed.
    pub fn run(self) -> Result<Compacted, StorageError> {
        let mut keys = KeyOffsets::new(self.keys_max);
        let cleaned_end = self.collect_keys(&mut keys)?;
        let mut compacted = Compacted {
            shared: Arc::clone(&self.shared),
            generation: self.generation,
            replacements: Vec::new(),
            cleaned_end,
            gaps_end: self.cleaned_end,
            tombstones_due_ms: None,
            records_removed: 0,
            bytes_removed: 0,
        };
        for (segment, end) in self.segments.iter().filter(|(segment, _)| segment.base < cleaned_end) {
            compacted.gaps_end = compacted.gaps_end.max(*end);
            if let Err(error) = self.clean(segment, *end, &keys, &mut compacted) {
                for replacement in &compacted.replacements {
                    replacement.discard()?;
                }
                return Err(error);
            }
        }
        Ok(compacted)
    }

    /// Remembers the newest offset of each key that the dirty part has, as far as there is room.
    /// Returns where it stopped: at least one batch further than before.
    fn collect_keys(&self, keys: &mut KeyOffsets) -> Result<Offset, Damage> {
        let mut end = self.cleaned_end;
        for (segment, segment_end) in self.segments.iter().filter(|(_, end)| *end > self.cleaned_end) {
            for batch in segment.batches_near(self.cleaned_end) {
                let batch = batch?;
                if batch.last_offset < self.cleaned_end {
                    continue;
                }
                segment.check(&batch)?;
                if keys.is_full() {
                    return Ok(end);
                }
                for_each_record(segment, &batch, |record| {
                    if let Some(key) = record.key {
                        keys.insert(key, record.offset);
                    }
                });
                end = batch.last_offset.plus(1);
            }
            end = *segment_end;
        }
        Ok(end)
    }

    /// Writes a segment without what is superseded, if anything is.
    fn clean(
        &self,
        segment: &Arc<Segment>,
        end: Offset,
        keys: &KeyOffsets,
        compacted: &mut Compacted,
    ) -> Result<(), StorageError> {
        let was_clean = end <= self.cleaned_end;
        // The time of its first compaction; a segment that was clean before has it already.
        let cleaned_ms = if was_clean { segment.last_append_ms() } else { self.now_ms };
        let due_ms = cleaned_ms.saturating_add(i64::try_from(self.delete_retention_ms).unwrap_or(i64::MAX));
        let drops_tombstones = was_clean && due_ms <= self.now_ms;
        let (mut removed, mut has_tombstones) = (0, false);
        let mut keep = |record: &RecordView<'_>| {
            let is_newest = record.key.is_none_or(|key| keys.newest(key).is_none_or(|newest| newest <= record.offset));
            let is_tombstone = record.key.is_some() && record.value.is_none();
            let keep = is_newest && !(is_tombstone && drops_tombstones);
            removed += u64::from(!keep);
            has_tombstones |= keep && is_tombstone;
            keep
        };
        let needed = needed_headers(segment)?;
        let mut rewriter = Rewriter::new(&self.shared, segment, self.interval_bytes);
        for batch in segment.batches(0) {
            let batch = batch?;
            // What is written anew gets a new checksum: it must not be one of damage.
            segment.check(&batch)?;
            let bytes = &segment.log.bytes()[batch.position..batch.end()];
            let is_needed = needed.contains(&batch.position);
            // What cannot be read is not judged.
            let retained = match Batch::parse_unchecked(bytes) {
                Ok(parsed) if !batch.header.attributes.is_control() => {
                    parsed.retain(DECODED_BYTES_MAX, &mut keep).unwrap_or(Retained::Whole)
                }
                _ => Retained::Whole,
            };
            match retained {
                Retained::Whole if batch.header.record_count > 0 || is_needed => rewriter.keep(&batch)?,
                Retained::Rest(rest) if rest.len() > pubg1_model::record_batch::HEADER_BYTES || is_needed => {
                    rewriter.replace(&batch, &rest)?;
                }
                Retained::Whole | Retained::Rest(_) => rewriter.drop_batch(&batch)?,
            }
        }
        match rewriter.finish(cleaned_ms)? {
            Some(replacement) => {
                compacted.bytes_removed += segment.bytes().saturating_sub(replacement.bytes());
                compacted.records_removed += removed;
                compacted.replacements.push(replacement);
            }
            None if has_tombstones && !was_clean => self.note_cleaned(segment, cleaned_ms)?,
            None => {}
        }
        if has_tombstones {
            compacted.tombstones_due_ms = Some(compacted.tombstones_due_ms.map_or(due_ms, |first| first.min(due_ms)));
        }
        Ok(())
    }

    /// Remembers when a segment was first compacted, though nothing in it changed.
    fn note_cleaned(&self, segment: &Segment, cleaned_ms: i64) -> Result<(), StorageError> {
        let path = &segment.paths.log;
        let file = open_rw(path).map_err(StorageError::io("open", path))?;
        let mut sync = || {
            file.set_modified(system_time(cleaned_ms))?;
            file.sync_all()
        };
        self.shared.disk.sync(path, &mut sync).map_err(StorageError::io("sync", path))?;
        segment.note_append(segment.largest_timestamp_ms(), cleaned_ms);
        Ok(())
    }
}

/// Positions of batches whose header is needed even without records: the segment's last, which
/// says where it ends, and each idempotent producer's last, which says how far it has come.
fn needed_headers(segment: &Segment) -> Result<std::collections::HashSet<usize>, Damage> {
    let mut producers = HashMap::new();
    let mut last = None;
    for batch in segment.batches(0) {
        let batch = batch?;
        last = Some(batch.position);
        if batch.header.is_idempotent() {
            producers.insert(batch.header.producer_id, batch.position);
        }
    }
    Ok(producers.into_values().chain(last).collect())
}

/// Shows every record of a batch that can be read.
fn for_each_record(segment: &Segment, batch: &Located, mut on_record: impl FnMut(&RecordView<'_>)) {
    let bytes = &segment.log.bytes()[batch.position..batch.end()];
    let Ok(parsed) = Batch::parse_unchecked(bytes) else { return };
    match parsed.decode(DECODED_BYTES_MAX) {
        Ok(decoded) => decoded.records().map_while(Result::ok).for_each(|record| on_record(&record)),
        Err(error) => tracing::warn!(
            file = %segment.paths.log.display(), offset = %batch.first_offset, %error,
            "a batch that cannot be read is not compacted"
        ),
    }
}
