//! Appends of clients to a leading replica, and who waits for them.

use std::time::Duration;

use pubg1_metrics::{Metrics, TopicMetrics};
use pubg1_model::{BrokerId, LeaderEpoch, record_batch::ValidBatch};
use pubg1_storage::{AppendError as LogAppendError, Appended, FlushError};
use tokio::time::Instant;

use super::ReplicaState;
use crate::{
    admission::Permit,
    errors::AppendError,
    partition::{
        Acks, AppendPhases, AppendReply,
        messages::{Append, AppendAnswer},
    },
    storage_errors::append_error,
};

/// An append that is in the log and not answered.
pub(super) struct Waiting {
    outcome: Result<Vec<Appended>, AppendError>,
    /// The epoch that it was appended in.
    epoch: LeaderEpoch,
    reply: AppendAnswer,
    queue: Duration,
    append: Duration,
    appended_at: Instant,
    // Released when the answer is sent.
    permit: Option<Permit>,
}

/// An answer that goes out when the view it speaks of is published.
pub(super) struct Answer {
    reply: AppendAnswer,
    result: Result<AppendReply, AppendError>,
    permit: Option<Permit>,
}

/// What an append needs to know of the world.
pub(in crate::partition) struct AppendContext<'a> {
    pub(in crate::partition) now_ms: i64,
    pub(in crate::partition) retry_after_ms: u64,
    pub(in crate::partition) metrics: &'a Metrics,
    pub(in crate::partition) topic: &'a TopicMetrics,
}

impl ReplicaState {
    /// Appends the batches of one request in the epoch that is led, and parks or prepares its answer. `taken_at` is
    /// when the message was taken up; returns when it was done.
    pub(in crate::partition) fn append(
        &mut self,
        append: Append,
        epoch: LeaderEpoch,
        taken_at: Instant,
        context: &AppendContext<'_>,
    ) -> Instant {
        let Append { batches, acks, reply, sent_at, permit, in_mailbox, .. } = append;
        drop(in_mailbox);
        if reply.as_ref().is_some_and(AppendAnswer::is_closed) {
            // Nobody waits for it any more, and nothing of it is written.
            return taken_at;
        }
        let mut appended = Vec::with_capacity(batches.len());
        let mut refused = None;
        for batch in &batches {
            match self.append_batch(batch, epoch, context) {
                Ok(place) => appended.push(place),
                Err(cause) => {
                    refused = Some(cause);
                    break;
                }
            }
        }
        self.is_changed = true;
        let appended_at = Instant::now();
        let Some(reply) = reply else { return appended_at };
        // A duplicate may lie behind what was appended after it.
        let completed_at = appended.iter().map(|place| place.last_offset.plus(1)).max();
        let outcome = match refused {
            None => Ok(appended),
            Some(cause) if appended.is_empty() => Err(cause),
            Some(cause) => {
                let cause = Box::new(cause);
                Err(AppendError::Partial { appended, leader: self.broker, leader_epoch: epoch, cause })
            }
        };
        let (queue, append) = (taken_at - sent_at, appended_at - taken_at);
        let waiting = Waiting { outcome, epoch, reply, queue, append, appended_at, permit };
        match completed_at {
            // A duplicate, too, is answered only when its original is committed.
            Some(completed_at) if acks == Acks::All => self.purgatory.park(completed_at, waiting),
            _ => self.answers.push(answer(waiting, self.broker, Duration::ZERO)),
        }
        appended_at
    }

    fn append_batch(
        &mut self,
        batch: &ValidBatch,
        epoch: LeaderEpoch,
        context: &AppendContext<'_>,
    ) -> Result<Appended, AppendError> {
        let retry_after_ms = context.retry_after_ms;
        let log = self.open.as_mut().map(|open| &mut open.log).ok_or(AppendError::NotReady { retry_after_ms })?;
        let place = log.append(batch, epoch, context.now_ms).map_err(|error| {
            match &error {
                LogAppendError::DiskFull { .. } => context.metrics.storage().disk_full_errors.inc(),
                LogAppendError::Flush(error) => self.flush_failure = Some(error.clone()),
                _ => {}
            }
            append_error(error, retry_after_ms)
        })?;
        if !place.duplicate {
            let records = batch.header().offsets_spanned();
            // It leads: the caller has seen to that, and nothing has been decided since.
            if let Ok((_, effects)) = self.replica.append(records) {
                self.note(effects);
            }
            let bytes = u64::try_from(batch.bytes().len()).unwrap_or(u64::MAX);
            self.size_bytes += bytes;
            context.topic.records_in.inc_by(records);
            context.topic.bytes_in.inc_by(bytes);
            context.metrics.storage().observe_batch(u32::try_from(records).unwrap_or(u32::MAX));
        }
        Ok(place)
    }

    /// The flush that failed inside an append since this was last asked.
    pub(in crate::partition) const fn take_flush_failure(&mut self) -> Option<FlushError> {
        self.flush_failure.take()
    }

    /// How many answers wait to be sent.
    pub(in crate::partition) fn unsent(&self) -> usize {
        self.answers.len()
    }

    /// Picks out who is answered by the high watermark.
    pub(super) fn complete_waiting(&mut self) {
        if self.purgatory.is_empty() {
            return;
        }
        let now = Instant::now();
        let Self { purgatory, answers, broker, high_watermark, .. } = self;
        purgatory.complete_up_to(*high_watermark, |waiting| {
            let flush = now - waiting.appended_at;
            answers.push(answer(waiting, *broker, flush));
        });
    }

    /// Sends what [`ReplicaState::settle`] picked out.
    pub(in crate::partition) fn send_answers(&mut self) {
        for Answer { reply, result, permit } in self.answers.drain(..) {
            drop(permit);
            // Whoever asked may have gone.
            reply.send(result).map_err(drop).unwrap_or_default();
        }
    }

    /// Answers everyone who waits with `error`.
    pub(in crate::partition) fn fail_all(&mut self, error: &AppendError) {
        let waiting = self.purgatory.drain().map(|waiting| (waiting.reply, waiting.permit));
        let unsent = self.answers.drain(..).map(|answer| (answer.reply, answer.permit));
        for (reply, permit) in waiting.chain(unsent) {
            drop(permit);
            reply.send(Err(error.clone())).map_err(drop).unwrap_or_default();
        }
    }

    /// Answers everyone whose records are not committed with `error`; what is committed was published.
    pub(in crate::partition) fn fail_waiting(&mut self, error: &AppendError) {
        for Waiting { reply, permit, .. } in self.purgatory.drain() {
            drop(permit);
            reply.send(Err(error.clone())).map_err(drop).unwrap_or_default();
        }
    }

    /// Gives up on who has waited for `timeout`. The records stay in the log.
    pub(in crate::partition) fn expire(&mut self, now: Instant, timeout: Duration) {
        let expired = |waiting: &Waiting| now.saturating_duration_since(waiting.appended_at) >= timeout;
        let waited_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.purgatory.expire(expired, |Waiting { reply, permit, .. }| {
            drop(permit);
            reply.send(Err(AppendError::TimedOut { waited_ms })).map_err(drop).unwrap_or_default();
        });
    }

    pub(in crate::partition) fn anyone_waits(&self) -> bool {
        !self.purgatory.is_empty()
    }
}

fn answer(waiting: Waiting, leader: BrokerId, flush: Duration) -> Answer {
    let Waiting { outcome, epoch: leader_epoch, reply, queue, append, permit, .. } = waiting;
    let phases = AppendPhases { queue, append, flush };
    let result = outcome.map(|appended| AppendReply { appended, leader, leader_epoch, phases });
    Answer { reply, result, permit }
}
