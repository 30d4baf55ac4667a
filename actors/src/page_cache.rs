//! The thread that keeps what was written last in the page cache, and no more of it: a disk that is busy may hold it up.

use std::sync::{Arc, Mutex, PoisonError};

use pubg1_storage::{PageCache, Written};

use crate::flusher::BlockingPool;

/// Where partitions tell what they have written.
pub(crate) struct WrittenPages {
    /// `None`: the kernel decides what stays.
    cache: Option<Arc<Mutex<PageCache>>>,
    /// One thread: what was written first goes first.
    thread: BlockingPool,
}

impl WrittenPages {
    pub(crate) fn new(bytes_kept: Option<u64>, thread: BlockingPool) -> Self {
        Self { cache: bytes_kept.map(|bytes| Arc::new(Mutex::new(PageCache::new(bytes)))), thread }
    }

    /// Lets the rest be: the process ends, and its memory with it.
    pub(crate) fn end(&self) {
        self.thread.abandon();
    }

    /// Takes note of what was written, and lets older pages go on a thread of its own.
    pub(crate) fn note(&self, written: impl ExactSizeIterator<Item = Written> + Send + 'static) {
        let Some(cache) = self.cache.as_ref().filter(|_| written.len() > 0) else { return };
        let cache = Arc::clone(cache);
        self.thread.submit(move || {
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = cache.add(written) {
                // Nothing is lost by it: the kernel takes the memory back when it needs it.
                tracing::debug!(%error, "pages were not given back");
            }
        });
    }
}
