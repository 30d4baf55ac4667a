//! The bound on what is in flight: permits for requests and for their bytes, taken before anything is queued.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Permits for one direction of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    pub(crate) requests_max: u32,
    pub(crate) bytes_max: u32,
}

/// What one request holds of the window; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permits {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Window {
    pub(crate) fn new(requests_max: u32, bytes_max: u32) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests_max as usize)),
            bytes: Arc::new(Semaphore::new(bytes_max as usize)),
            requests_max,
            bytes_max,
        }
    }

    /// Waits for room. A request larger than the window waits until it is alone.
    pub(crate) async fn acquire(&self, frame_bytes: u64) -> Result<Permits, AcquireError> {
        let request = Arc::clone(&self.requests).acquire_owned().await?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.capped(frame_bytes)).await?;
        Ok(Permits { _request: request, _bytes: bytes })
    }

    pub(crate) fn try_acquire(&self, frame_bytes: u64) -> Result<Permits, TryAcquireError> {
        let request = Arc::clone(&self.requests).try_acquire_owned()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.capped(frame_bytes))?;
        Ok(Permits { _request: request, _bytes: bytes })
    }

    /// Nobody gets a permit any more; those who wait are told.
    pub(crate) fn close(&self) {
        self.requests.close();
        self.bytes.close();
    }

    fn capped(&self, frame_bytes: u64) -> u32 {
        u32::try_from(frame_bytes).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_bytes_are_both_bounded() {
        let window = Window::new(2, 1000);
        let first = window.try_acquire(900).unwrap();
        assert!(window.try_acquire(200).is_err(), "bytes");
        let second = window.try_acquire(100).unwrap();
        assert!(window.try_acquire(0).is_err(), "requests");
        drop((first, second));
        let whole = window.try_acquire(1 << 40).unwrap();
        assert!(window.try_acquire(1).is_err(), "the large one is alone");
        drop(whole);
        assert!(window.try_acquire(1).is_ok());
        window.close();
        assert!(matches!(window.try_acquire(1), Err(TryAcquireError::Closed)));
    }
}
