//! A following replica: what it asks its leader for, and what it does with the answers.

use std::{sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    record_batch::ValidBatch,
    replication::{
        Effect, Following,
        message::{EpochSpan, FetchAnswer},
    },
};

use super::{ReplicaState, Step};
use crate::{
    partition::{PartitionSlot, messages::Answered},
    replicator::{Refusal, Wish},
};

/// The pauses before something is asked again that could not be answered: they double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What is asked of the leader. The wish lies with the broker's [`Sources`](crate::replicator::Sources) until
/// it is answered or withdrawn.
pub(super) struct Pull {
    slot: Arc<PartitionSlot>,
    from: Option<(BrokerId, LeaderEpoch)>,
    /// The wish that is not answered yet.
    asked: Option<u64>,
    /// Something went wrong: not asked again before the pause is over.
    is_paused: bool,
    /// How often that was so, one time after the other.
    failures: u32,
}

impl Pull {
    pub(super) const fn new(slot: Arc<PartitionSlot>) -> Self {
        Self { slot, from: None, asked: None, is_paused: false, failures: 0 }
    }

    /// Withdraws from a leader that is followed no more, at once: what counts as contact to it must end before a newer
    /// epoch is promised to anybody.
    pub(super) fn turn_to(&mut self, following: Option<&Following>) {
        let from = following.map(|following| (following.leader(), following.epoch()));
        if self.from == from {
            return;
        }
        if let Some((leader, _)) = self.from {
            self.slot.node.sources.withdraw(leader, self.slot.identity.key());
        }
        (self.from, self.asked, self.failures) = (from, None, 0);
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.turn_to(None);
    }
}

/// What came of an answer.
pub(in crate::partition) enum Taken {
    /// It was taken over, and what follows from it is queued.
    Over,
    /// Nothing could be done with it: ask again after a pause.
    AskLater,
}

impl ReplicaState {
    /// Asks the leader for what comes next, unless that is being waited for.
    pub(in crate::partition) fn pull(&mut self) {
        if self.pull.asked.is_some() || self.pull.is_paused || !self.is_idle() {
            return;
        }
        let Some((leader, _)) = self.pull.from else { return };
        let end = self.replica.epoch_end_query().map(Wish::EpochEnd);
        let Some(wish) = end.or_else(|| self.replica.next_fetch().map(Wish::Fetch)) else { return };
        self.pull.asked = Some(self.pull.slot.node.sources.want(leader, wish, &self.pull.slot));
    }

    /// Asks nothing until [`ReplicaState::resume_pull`]; says how long that shall be. A leader that cannot answer for
    /// long must not be asked by all of its followers all the time.
    pub(in crate::partition) fn pause_pull(&mut self) -> Duration {
        self.pull.is_paused = true;
        self.pull.failures = self.pull.failures.saturating_add(1);
        PAUSE.0.saturating_mul(1 << self.pull.failures.min(10) >> 1).min(PAUSE.1)
    }

    pub(in crate::partition) const fn resume_pull(&mut self) {
        self.pull.is_paused = false;
    }

    /// Asks nothing more of anybody: the replica is about to be closed.
    pub(in crate::partition) fn stop_pulling(&mut self) {
        self.pull.turn_to(None);
    }

    /// Takes the answer to the wish `token` in; one to a former wish is dropped.
    pub(in crate::partition) fn on_answer(&mut self, token: u64, answered: Answered) -> Taken {
        if self.pull.asked != Some(token) {
            return Taken::Over;
        }
        self.pull.asked = None;
        if matches!(answered, Answered::Fetched { .. } | Answered::EpochEnd(_)) {
            self.pull.failures = 0;
        }
        match answered {
            Answered::Fetched { answer, log_start, batches } => self.on_fetched(&answer, log_start, batches),
            Answered::EpochEnd(answer) => match self.replica.on_epoch_end(&answer) {
                Ok(effects) => {
                    self.note(effects);
                    Taken::Over
                }
                Err(error) => self.ask_later(&error.to_string()),
            },
            Answered::Refused(refusal) => self.on_refused(&refusal),
            Answered::Corrupt { reason } => self.ask_later(&reason),
        }
    }

    fn ask_later(&self, reason: &str) -> Taken {
        let identity = &self.pull.slot.identity;
        tracing::debug!(partition = %identity.topic_partition(), reason, "an answer of the leader was of no use");
        Taken::AskLater
    }

    fn on_fetched(&mut self, answer: &FetchAnswer, log_start: Offset, batches: Vec<ValidBatch>) -> Taken {
        if let Err(reason) = check_spans(&answer.spans, &batches) {
            return self.ask_later(reason);
        }
        let effects = match self.replica.on_fetch_answer(answer) {
            Ok(effects) => effects,
            Err(error) => return self.ask_later(&error.to_string()),
        };
        // Epochs are recorded before the first batch of each: a crash must not leave one that none belongs to.
        let (epochs, rest): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::RecordEpochStart { .. }));
        self.note(epochs);
        if !batches.is_empty() {
            self.queue(Step::Append(batches));
        }
        self.note(rest);
        // What is deleted there is deleted here, as far as it is known here to be committed.
        let before = log_start.min(self.replica.high_watermark());
        if before > self.log_start {
            self.queue(Step::DeleteBefore(before));
        }
        Taken::Over
    }

    fn on_refused(&mut self, refusal: &Refusal) -> Taken {
        match refusal {
            Refusal::BeyondLogEnd => {
                self.replica.diverge_again();
                self.note(Vec::new());
                Taken::Over
            }
            Refusal::BelowLogStart { epoch, log_start } => match self.replica.on_below_log_start(*epoch, *log_start) {
                Ok(effect) => {
                    self.note(vec![effect]);
                    Taken::Over
                }
                Err(error) => self.ask_later(&error.to_string()),
            },
            other => self.ask_later(&other.to_string()),
        }
    }
}

/// Whether the batches are those that the leader says they are.
fn check_spans(spans: &[EpochSpan], batches: &[ValidBatch]) -> Result<(), &'static str> {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        return if batches.is_empty() { Ok(()) } else { Err("batches came that belong to no epoch") };
    };
    let (Some(first_batch), Some(last_batch)) = (batches.first(), batches.last()) else {
        return Err("the batches are missing");
    };
    // The first may begin before what was asked for, where the log starts within it.
    if first_batch.header().last_offset().is_none_or(|offset| offset < first.start_offset) {
        return Err("the first batch is not the one that was asked for");
    }
    if last_batch.header().next_offset() != Some(last.end_offset) {
        return Err("the last batch is not where the leader says");
    }
    let mut spans = spans.iter().peekable();
    for batch in batches {
        let header = batch.header();
        while spans.peek().is_some_and(|span| header.last_offset().is_none_or(|offset| offset >= span.end_offset)) {
            spans.next();
        }
        if spans.peek().is_none_or(|span| header.leader_epoch() != Some(span.epoch)) {
            return Err("a batch is of another epoch than the leader says");
        }
    }
    Ok(())
}
