//! What the writer of a log publishes for its readers.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use pubg1_model::Offset;

use crate::segment::Segment;

/// The segments at one moment, by base offset.
pub(crate) type SegmentList = Arc<[Arc<Segment>]>;

/// Offsets and segments of a log. Readers take the list and let go of the lock at once.
#[derive(Debug)]
pub(crate) struct SharedLog {
    segments: RwLock<SegmentList>,
    log_start: AtomicU64,
    log_end: AtomicU64,
}

impl SharedLog {
    pub(crate) fn new(segments: SegmentList, log_start: Offset, log_end: Offset) -> Self {
        Self {
            segments: RwLock::new(segments),
            log_start: AtomicU64::new(log_start.get()),
            log_end: AtomicU64::new(log_end.get()),
        }
    }

    pub(crate) fn segments(&self) -> SegmentList {
        Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_segments(&self, segments: SegmentList) {
        *self.segments.write().unwrap_or_else(PoisonError::into_inner) = segments;
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset::new(self.log_start.load(Ordering::Acquire))
    }

    pub(crate) fn set_log_start(&self, offset: Offset) {
        self.log_start.store(offset.get(), Ordering::Release);
    }

    pub(crate) fn log_end(&self) -> Offset {
        Offset::new(self.log_end.load(Ordering::Acquire))
    }

    /// `Release`: whoever sees the new end finds its batches.
    pub(crate) fn set_log_end(&self, offset: Offset) {
        self.log_end.store(offset.get(), Ordering::Release);
    }
}
