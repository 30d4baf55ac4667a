//! Reads the partitions of one poll, all at once: what is there first is taken, with whatever else is there by then.
//!
//! The order of the sources is the order in which they are served when there is more than may be sent; the caller turns
//! it with each poll, so that no partition starves another.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use pubg1_actors::{FetchError, PartitionHandle};
use pubg1_model::{
    Offset, TopicPartition,
    consumer_instance::{OffsetReset, PollStart},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    error::{ApiError, Cause},
    state::AppState,
};

/// Once one partition has something, the others have this long to have something, too.
const GRACE: Duration = Duration::from_millis(20);
/// While nobody has anything, a partition that does not answer keeps the others waiting for this long at most.
const ROUND_MAX: Duration = Duration::from_millis(300);
/// A partition that cannot be read is tried again after this time.
const RETRY: Duration = Duration::from_millis(200);
/// A partition is not asked for less, so that many partitions are not read for a few records each.
const SHARE_MIN: usize = 4 << 10;
/// How often a read begins anew when the log's beginning moves under it.
const RESETS_MAX: usize = 3;

/// A partition that a poll reads.
pub(super) struct Source {
    pub(super) place: TopicPartition,
    handle: Option<PartitionHandle>,
    start: PollStart,
    policy: OffsetReset,
    /// Where reading began, once that is known.
    pub(super) from: Option<Offset>,
    /// It began elsewhere than the grant said, or the grant did not say where.
    pub(super) was_reset: bool,
    /// Where reading goes on.
    next: Offset,
    pub(super) runs: Vec<Bytes>,
    bytes: usize,
    /// There may be more to read.
    hungry: bool,
    pub(super) failure: Option<ApiError>,
}

impl Source {
    pub(super) fn new(state: &AppState, place: TopicPartition, start: PollStart, policy: OffsetReset) -> Self {
        let (handle, failure) = match state.partition(&place.topic, place.partition) {
            Ok(handle) => (Some(handle), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            place,
            handle,
            start,
            policy,
            from: None,
            was_reset: false,
            next: Offset::ZERO,
            runs: Vec::new(),
            bytes: 0,
            hungry: true,
            failure,
        }
    }

    /// Reads about `share` bytes more; says whether anything came.
    async fn advance(&mut self, share: usize) -> bool {
        let Some(handle) = self.handle.clone() else {
            self.hungry = false;
            return false;
        };
        match self.read(&handle, share).await {
            Ok(has_come) => {
                self.failure = None;
                has_come
            }
            Err(error) => {
                self.failure = Some(error);
                self.hungry = false;
                false
            }
        }
    }

    async fn read(&mut self, handle: &PartitionHandle, share: usize) -> Result<bool, ApiError> {
        let mut resets = 0;
        loop {
            let (from, was_reset) = match (self.from, self.start) {
                (Some(_), _) => (self.next, self.was_reset),
                (None, PollStart::At(offset)) if resets == 0 => (offset, false),
                (None, PollStart::At(_)) => (self.reset(handle, self.policy).await?, true),
                (None, PollStart::Reset(policy)) => (self.reset(handle, policy).await?, true),
            };
            match handle.read(from, share).await {
                Ok(fetched) => {
                    self.from.get_or_insert(from);
                    self.was_reset = was_reset;
                    self.next = fetched.next_offset.max(from);
                    let has_come = !fetched.is_empty();
                    self.hungry = has_come && self.next < fetched.high_watermark;
                    self.bytes += fetched.runs.iter().map(Bytes::len).sum::<usize>();
                    self.runs.extend(fetched.runs);
                    return Ok(has_come);
                }
                Err(error @ FetchError::OffsetOutOfRange { .. }) => {
                    if self.policy == OffsetReset::None {
                        return Err(self.no_position(&error.to_string()));
                    }
                    // What was read before is as good as ever; the next poll meets the gap.
                    if self.from.is_some() || resets == RESETS_MAX {
                        self.hungry = false;
                        return Ok(false);
                    }
                    resets += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn reset(&self, handle: &PartitionHandle, policy: OffsetReset) -> Result<Offset, ApiError> {
        let view = match policy {
            OffsetReset::None => return Err(self.no_position("nothing was committed")),
            OffsetReset::Earliest | OffsetReset::Latest => handle.leader_view().await?,
        };
        Ok(if policy == OffsetReset::Latest { view.high_watermark } else { view.log_start_offset })
    }

    fn no_position(&self, why: &str) -> ApiError {
        let message = format!("{}: {why}, and auto.offset.reset is none; seek first", self.place);
        ApiError::new(Cause::NoPosition, message)
            .with("topic", self.place.topic.as_str())
            .with("partition", self.place.partition.0)
    }

    /// Waits until there may be something new; says whether that is so before the deadline.
    async fn wait(&self, deadline: Instant) -> bool {
        if let (Some(handle), None, Some(_)) = (&self.handle, &self.failure, self.from) {
            match handle.wait_above(self.next, deadline).await {
                Ok(view) if view.high_watermark > self.next => return true,
                Ok(_) => return false,
                Err(_) => {}
            }
        }
        let retry_at = Instant::now() + RETRY;
        sleep_until(retry_at.min(deadline)).await;
        retry_at < deadline
    }
}

/// How much was read of all sources.
pub(super) fn bytes(sources: &[Source]) -> usize {
    sources.iter().map(|source| source.bytes).sum()
}

/// Whether this broker is about to go away.
pub(super) fn is_draining(sources: &[Source]) -> bool {
    let draining = |source: &Source| source.failure.as_ref().is_some_and(|error| error.cause() == Cause::Draining);
    sources.iter().any(draining)
}

/// Reads about `max_bytes` of all sources together, more only where a single batch is larger.
pub(super) async fn gather(sources: &mut [Source], max_bytes: usize) {
    loop {
        let taken = bytes(sources);
        let left = max_bytes.saturating_sub(taken);
        let hungry = sources.iter().filter(|source| source.hungry).count();
        if hungry == 0 || (left == 0 && taken > 0) {
            return;
        }
        let asked = hungry.min((left / SHARE_MIN).max(1));
        let share = (left / asked).max(1);
        round(sources.iter_mut().filter(|source| source.hungry).take(asked), share).await;
    }
}

/// Asks these sources once. Those that do not answer in time after the first one are left out.
async fn round<'s>(asked: impl Iterator<Item = &'s mut Source>, share: usize) {
    let mut reads: FuturesUnordered<_> = asked
        .map(|source| {
            // Whoever is left out is not asked again at once.
            source.hungry = false;
            source.advance(share)
        })
        .collect();
    let mut ends = Instant::now() + ROUND_MAX;
    while let Ok(Some(has_come)) = timeout_at(ends, reads.next()).await {
        if has_come {
            ends = ends.min(Instant::now() + GRACE);
        }
    }
}

/// Waits until there may be something new in one of the sources, which are asked again then, or until the deadline.
pub(super) async fn wait(sources: &mut [Source], deadline: Instant) {
    {
        let mut waits: FuturesUnordered<_> = sources.iter().map(|source| source.wait(deadline)).collect();
        loop {
            match waits.next().await {
                Some(true) => break,
                Some(false) => {}
                None => {
                    sleep_until(deadline).await;
                    break;
                }
            }
        }
    }
    for source in sources {
        source.hungry = true;
    }
}
