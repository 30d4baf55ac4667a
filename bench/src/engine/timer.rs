//! Waiting until a moment, to within microseconds: the runtime's own timer counts milliseconds.

use std::{io, os::fd::OwnedFd, time::Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the system, waited for together with the sockets of its thread.
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// A timer that is not set.
    pub(super) fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[allow(
            deprecated,
            reason = "the new way is unsafe; a descriptor that is owned and never replaced stays what it is"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Self(fd))
    }

    /// Waits until this moment.
    pub(super) async fn until(&self, at: Instant) -> io::Result<()> {
        let rest = at.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        let tv_sec = i64::try_from(rest.as_secs()).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec, tv_nsec: rest.subsec_nanos().into() };
        let never_again = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            self.0.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: never_again, it_value: value },
        )?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut expirations)?)) {
                // An earlier setting may have expired before it was replaced; then the moment is not there yet.
                Ok(Ok(_)) if Instant::now() >= at => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_wait_is_never_too_short_and_may_be_given_up() {
        let timer = Timer::new().unwrap();
        for wait in [Duration::ZERO, Duration::from_micros(30), Duration::from_millis(3)] {
            let at = Instant::now() + wait;
            timer.until(at).await.unwrap();
            assert!(Instant::now() >= at);
        }
        let given_up = tokio::time::timeout(Duration::ZERO, timer.until(Instant::now() + Duration::from_secs(60)));
        assert!(given_up.await.is_err());
        let at = Instant::now() + Duration::from_micros(500);
        timer.until(at).await.unwrap();
        assert!(Instant::now() >= at && at.elapsed() < Duration::from_secs(30));
    }
}
