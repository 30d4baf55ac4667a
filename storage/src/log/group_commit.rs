//! The writer's side of a flush: what it covers and what its success means.

use std::sync::Arc;

use super::PartitionLog;
use crate::flush::{ActiveRange, Flushed, PendingFlush};

impl PartitionLog {
    /// Whether a flush has something to do: records, the closing of a segment, or names in the
    /// directory.
    #[must_use]
    pub fn needs_flush(&self) -> bool {
        self.flushed < self.log_end || !self.rolled.is_empty() || self.names_changed > self.names_synced
    }

    /// A flush of everything appended so far, across closed segments; `None` when all of it is on
    /// stable storage. Several may be under way, in any order, and one that is dropped costs
    /// nothing: each covers all that is not yet known to be flushed.
    pub fn begin_flush(&mut self) -> Option<PendingFlush> {
        if !self.needs_flush() {
            return None;
        }
        let names = (self.names_changed > self.names_synced).then_some(self.names_changed);
        let active = self.active.as_ref().map(|active| ActiveRange {
            base: active.segment().base,
            log: Arc::clone(&active.segment().log),
            path: active.segment().paths.log.clone(),
            range: self.active_flushed_bytes..active.bytes(),
        });
        Some(PendingFlush {
            shared: Arc::clone(&self.flush),
            generation: self.flush.generation(),
            rolled: self.rolled.clone(),
            active,
            names,
            log_end: self.log_end,
        })
    }

    /// Takes in the success of a flush: moves the flushed offset. One from before a truncation, or
    /// from another log, changes nothing.
    pub fn complete_flush(&mut self, flushed: Flushed) {
        if !Arc::ptr_eq(&self.flush, &flushed.shared)
            || flushed.generation != self.flush.generation()
            || self.flush.check().is_err()
        {
            return;
        }
        self.rolled.retain(|rolled| !flushed.rolled.contains(&rolled.segment.base));
        if let (Some(active), Some((base, end))) = (&self.active, flushed.active)
            && active.segment().base == base
        {
            self.active_flushed_bytes = self.active_flushed_bytes.max(end);
        }
        if let Some(names) = flushed.names {
            self.names_synced = self.names_synced.max(names);
        }
        self.flushed = self.flushed.max(flushed.log_end);
    }
}
