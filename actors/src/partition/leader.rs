//! A leading partition: what is appended, who waits, how far the high watermark is. No actor, no thread:
//! slow work is handed out as values and its results come back through methods.

use std::time::{Duration, Instant};

use pubg1_metrics::{LogMetrics, Metrics, TopicMetrics};
use pubg1_model::{BrokerId, LeaderEpoch, Offset, record_batch::ValidBatch, topic::TopicConfig};
use pubg1_storage::{AppendError as LogAppendError, Appended, FlushError, Flushed, PartitionLog, PendingFlush};
use tokio::sync::OwnedMutexGuard;

use super::{
    Acks, AppendPhases, AppendReply,
    messages::{Append, AppendAnswer},
    purgatory::Purgatory,
    recovery::RecoveredLog,
};
use crate::{admission::Permit, config::FlushPolicy, errors::AppendError, storage_errors::append_error};

/// An append that is in the log and not answered.
struct Waiting {
    outcome: Result<Vec<Appended>, AppendError>,
    reply: AppendAnswer,
    queue: Duration,
    append: Duration,
    appended_at: Instant,
    // Released when the answer is sent.
    permit: Option<Permit>,
}

/// An answer that goes out when the view it speaks of is published.
struct Answer {
    reply: AppendAnswer,
    result: Result<AppendReply, AppendError>,
    permit: Option<Permit>,
}

/// The offsets that a view tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) log_start_offset: Offset,
    pub(super) high_watermark: Offset,
    pub(super) log_end_offset: Offset,
    pub(super) flushed_offset: Offset,
    pub(super) size_bytes: u64,
}

/// The data of a leader.
pub(super) struct LeaderState {
    pub(super) log: PartitionLog,
    pub(super) epoch: LeaderEpoch,
    pub(super) config: TopicConfig,
    leader: BrokerId,
    policy: FlushPolicy,
    high_watermark: Offset,
    /// Followed by hand: asking the log counts its segments.
    size_bytes: u64,
    purgatory: Purgatory<Waiting>,
    answers: Vec<Answer>,
    flushing: bool,
    /// A flush that failed inside an append: the caller must act on it.
    flush_failure: Option<FlushError>,
    /// Something happened that the published view does not show.
    changed: bool,
    pub(super) size: LogMetrics,
    // After the log: the directory is free only when its files are closed.
    lease: OwnedMutexGuard<()>,
}

/// What an append needs to know of the world.
pub(super) struct AppendContext<'a> {
    pub(super) now_ms: i64,
    pub(super) retry_after_ms: u64,
    pub(super) metrics: &'a Metrics,
    pub(super) topic: &'a TopicMetrics,
}

impl LeaderState {
    pub(super) fn new(recovered: RecoveredLog, leader: BrokerId, policy: FlushPolicy, size: LogMetrics) -> Self {
        let RecoveredLog { log, epoch, config, lease } = recovered;
        let mut state = Self {
            log,
            epoch,
            config,
            leader,
            policy,
            high_watermark: Offset::ZERO,
            size_bytes: 0,
            purgatory: Purgatory::new(),
            answers: Vec::new(),
            flushing: false,
            flush_failure: None,
            changed: true,
            size,
            lease,
        };
        state.high_watermark = state.counted_offset();
        state.measure();
        state
    }

    /// What this replica counts towards the high watermark; alone it is the quorum.
    fn counted_offset(&self) -> Offset {
        match self.policy {
            FlushPolicy::Quorum => self.log.flushed_offset(),
            FlushPolicy::Interval { .. } => self.log.log_end_offset(),
        }
    }

    /// Appends the batches of one request, and parks or prepares its answer. `taken_at` is when the
    /// message was taken up; returns when it was done.
    pub(super) fn append(&mut self, append: Append, taken_at: Instant, context: &AppendContext<'_>) -> Instant {
        let Append { batches, acks, reply, sent_at, permit, in_mailbox, .. } = append;
        drop(in_mailbox);
        if reply.as_ref().is_some_and(AppendAnswer::is_closed) {
            // Nobody waits for it any more, and nothing of it is written.
            return taken_at;
        }
        let mut appended = Vec::with_capacity(batches.len());
        let mut refused = None;
        for batch in &batches {
            match self.log.append(batch, self.epoch, context.now_ms) {
                Ok(place) => {
                    if !place.duplicate {
                        self.size_bytes += count(&place, batch, context);
                    }
                    appended.push(place);
                }
                Err(error) => {
                    match &error {
                        LogAppendError::DiskFull { .. } => context.metrics.storage().disk_full_errors.inc(),
                        LogAppendError::Flush(error) => self.flush_failure = Some(error.clone()),
                        _ => {}
                    }
                    refused = Some(append_error(error, context.retry_after_ms));
                    break;
                }
            }
        }
        self.changed = true;
        let appended_at = Instant::now();
        let Some(reply) = reply else { return appended_at };
        // A duplicate may lie behind what was appended after it.
        let completed_at = appended.iter().map(|place| place.last_offset.plus(1)).max();
        let outcome = match refused {
            None => Ok(appended),
            Some(cause) if appended.is_empty() => Err(cause),
            Some(cause) => Err(AppendError::Partial { appended, cause: Box::new(cause) }),
        };
        let (queue, append) = (taken_at - sent_at, appended_at - taken_at);
        let waiting = Waiting { outcome, reply, queue, append, appended_at, permit };
        match completed_at {
            // A duplicate, too, is answered only when its original is committed.
            Some(completed_at) if acks == Acks::All => self.purgatory.park(completed_at, waiting),
            _ => self.answers.push(answer(waiting, self.leader, self.epoch, Duration::ZERO)),
        }
        appended_at
    }

    /// The flush that failed inside an append since this was last asked.
    pub(super) const fn take_flush_failure(&mut self) -> Option<FlushError> {
        self.flush_failure.take()
    }

    /// How many answers wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.answers.len()
    }

    /// Notes a change that the next [`LeaderState::settle`] shall publish.
    pub(super) const fn touch(&mut self) {
        self.changed = true;
    }

    /// Moves the high watermark and picks out who is answered by it. `None`: nothing has happened.
    /// Publish the offsets, then [`LeaderState::send_answers`].
    pub(super) fn settle(&mut self) -> Option<Offsets> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        self.high_watermark = self.high_watermark.max(self.counted_offset());
        if self.purgatory.is_empty() {
            return Some(self.offsets());
        }
        let now = Instant::now();
        let Self { purgatory, answers, leader, epoch, high_watermark, .. } = self;
        purgatory.complete_up_to(*high_watermark, |waiting| {
            let flush = now - waiting.appended_at;
            answers.push(answer(waiting, *leader, *epoch, flush));
        });
        Some(self.offsets())
    }

    pub(super) fn offsets(&self) -> Offsets {
        let log_end_offset = self.log.log_end_offset();
        Offsets {
            log_start_offset: self.log.log_start_offset(),
            high_watermark: self.high_watermark,
            log_end_offset,
            flushed_offset: self.log.flushed_offset(),
            size_bytes: self.size_bytes,
        }
    }

    /// Sends what [`LeaderState::settle`] picked out.
    pub(super) fn send_answers(&mut self) {
        for Answer { reply, result, permit } in self.answers.drain(..) {
            drop(permit);
            // Whoever asked may have gone.
            reply.send(result).map_err(drop).unwrap_or_default();
        }
    }

    /// Answers everyone who waits with `error`.
    pub(super) fn fail_all(&mut self, error: &AppendError) {
        let waiting = self.purgatory.drain().map(|waiting| (waiting.reply, waiting.permit));
        let unsent = self.answers.drain(..).map(|answer| (answer.reply, answer.permit));
        for (reply, permit) in waiting.chain(unsent) {
            drop(permit);
            reply.send(Err(error.clone())).map_err(drop).unwrap_or_default();
        }
    }

    /// Gives up on who has waited for `timeout`. The records stay in the log.
    pub(super) fn expire(&mut self, now: Instant, timeout: Duration) {
        let expired = |waiting: &Waiting| now.saturating_duration_since(waiting.appended_at) >= timeout;
        let waited_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.purgatory.expire(expired, |Waiting { reply, permit, .. }| {
            drop(permit);
            reply.send(Err(AppendError::TimedOut { waited_ms })).map_err(drop).unwrap_or_default();
        });
    }

    pub(super) fn anyone_waits(&self) -> bool {
        !self.purgatory.is_empty()
    }

    pub(super) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// Whether something of the log is not on disk: records, or that a segment was closed.
    pub(super) fn is_dirty(&self) -> bool {
        self.log.needs_flush()
    }

    /// A flush of everything appended so far, to be run elsewhere; `None` when one is under way or there
    /// is nothing to flush. The next one covers what is appended meanwhile.
    pub(super) fn begin_flush(&mut self) -> Option<PendingFlush> {
        if self.flushing {
            return None;
        }
        let flush = self.log.begin_flush();
        self.flushing = flush.is_some();
        flush
    }

    /// Takes the result of a flush.
    pub(super) fn complete_flush(&mut self, flushed: Flushed) {
        self.flushing = false;
        self.log.complete_flush(flushed);
        self.changed = true;
        self.measure();
    }

    /// States the log's size in the metrics.
    pub(super) fn measure(&mut self) {
        self.size_bytes = self.log.size_bytes();
        self.size.set(self.size_bytes, self.log.segment_count());
    }

    pub(super) const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The log and the lease on its directory, to be closed or removed.
    pub(super) fn into_log(self) -> (PartitionLog, OwnedMutexGuard<()>) {
        (self.log, self.lease)
    }
}

/// Counts an appended batch; returns its bytes.
fn count(place: &Appended, batch: &ValidBatch, context: &AppendContext<'_>) -> u64 {
    let bytes = u64::try_from(batch.bytes().len()).unwrap_or(u64::MAX);
    let records = place.last_offset.since(place.base_offset) + 1;
    context.topic.records_in.inc_by(records);
    context.topic.bytes_in.inc_by(bytes);
    context.metrics.storage().observe_batch(u32::try_from(records).unwrap_or(u32::MAX));
    bytes
}

fn answer(waiting: Waiting, leader: BrokerId, leader_epoch: LeaderEpoch, flush: Duration) -> Answer {
    let Waiting { outcome, reply, queue, append, permit, .. } = waiting;
    let phases = AppendPhases { queue, append, flush };
    let result = outcome.map(|appended| AppendReply { appended, leader, leader_epoch, phases });
    Answer { reply, result, permit }
}
