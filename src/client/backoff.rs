//! How long to wait before a request is sent again.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use super::ClientError;

const FIRST: Duration = Duration::from_millis(10);
/// A new leader is there within some tens of milliseconds: longer pauses would only add to the
/// time without one.
const MAX: Duration = Duration::from_millis(100);
/// Where more requests make it worse.
const MAX_UNDER_LOAD: Duration = Duration::from_secs(1);
const TOO_MANY_REQUESTS: u16 = 429;
const DISK_FULL: i64 = 50305;

/// Pauses that double, with a random part, so that clients do not come back in step.
#[derive(Clone, Copy, Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next pause after this error. What the broker asks for in whole seconds holds only where
    /// it is about load or space; a leader that is missing is back long before.
    pub fn pause(&mut self, error: &ClientError) -> Duration {
        let max = match error {
            ClientError::Refused { status, error_code, retry_after, .. }
                if *status == TOO_MANY_REQUESTS || *error_code == DISK_FULL =>
            {
                retry_after.unwrap_or(MAX_UNDER_LOAD)
            }
            ClientError::Refused { retry_after: Some(bound), .. } => MAX.min(*bound).max(FIRST),
            _ => MAX,
        };
        let pause = self.0.min(max);
        self.0 = self.0.saturating_mul(2).min(max);
        jittered(pause)
    }

    /// Whether no pause was made since it began.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.0 == FIRST
    }
}

/// Between half of it and all of it.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(Instant::now()) % 512;
    pause / 2 + pause / 2 * u32::try_from(random).unwrap_or(0) / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, error_code: i64, retry_after: Option<u64>) -> ClientError {
        let retry_after = retry_after.map(Duration::from_secs);
        let details = Box::default();
        ClientError::Refused { status, error_code, message: String::new(), retry_after, details }
    }

    fn longest(error: &ClientError) -> Duration {
        let mut backoff = Backoff::default();
        (0..20).map(|_| backoff.pause(error)).max().unwrap_or_default()
    }

    #[test]
    fn pauses_begin_short_and_stay_short_where_a_leader_is_missing() {
        let first = Backoff::default().pause(&refused(503, 50302, Some(1)));
        assert!(first >= FIRST / 2 && first <= FIRST, "{first:?}");
        let most = longest(&refused(503, 50302, Some(1)));
        assert!(most > MAX / 2 && most <= MAX, "{most:?}");
        assert!(longest(&refused(503, 50302, Some(0))) <= FIRST);
    }

    #[test]
    fn a_broker_that_has_too_much_to_do_gets_the_time_that_it_asks_for() {
        assert!(longest(&refused(429, 429, Some(2))) > Duration::from_secs(1));
        assert!(longest(&refused(429, 429, None)) > MAX);
        assert!(longest(&refused(503, DISK_FULL, Some(5))) > Duration::from_secs(2));
    }
}
