//! One copy of a partition: the protocol's replica, its log, and who waits for it. No actor and no thread: what is to
//! be done comes out as [`Step`]s, in the order in which they must be done, and slow work is handed out as values.
//!
//! The protocol decides at once and says what has to be done before anybody may hear of it. So every decision goes
//! through [`ReplicaState::note`], which queues its effects, and answers that rest on them are queued behind them.

mod appending;
mod following;
mod held;
mod serving;

use std::{collections::VecDeque, sync::Arc};

use pubg1_metrics::LogMetrics;
use pubg1_model::{
    BrokerId, LeaderEpoch, Offset,
    record_batch::ValidBatch,
    replication::{Effect, Flush, Phase, Replica, ReplicaSet, Role as ReplicaRole},
    topic::TopicConfig,
};
use pubg1_storage::{Compacted, FlushError, Flushed, LogReader, PartitionLog, PendingFlush};

use super::{
    PartitionSlot, PartitionStatus, PartitionView,
    opening::{OpenLog, OpenedReplica},
    purgatory::Purgatory,
};

pub(super) use appending::AppendContext;
use appending::{Answer, Waiting};
use following::Pull;
pub(super) use following::Taken;
use held::Handover;
use serving::Followers;
pub(super) use serving::{Asked, Served};

/// One thing to do.
pub(super) enum Step {
    /// The protocol asks for it.
    Effect(Effect),
    /// Append batches of the leader's log, which the protocol has accepted.
    Append(Vec<ValidBatch>),
    /// Delete what the leader has deleted.
    DeleteBefore(Offset),
    /// Take in a flush that has ended.
    TakeFlush(Option<Flush>, Flushed),
    /// Take in a compaction that has ended.
    TakeCompaction(Compacted),
    /// Answer somebody.
    Answer(Box<dyn FnOnce() + Send>),
}

/// A replica and everything that belongs to it.
pub(super) struct ReplicaState {
    replica: Replica,
    /// `None` while the log is worked on elsewhere.
    open: Option<OpenLog>,
    reader: LogReader,
    pub(super) config: TopicConfig,
    /// Settings that the log does not follow yet.
    new_config: Option<TopicConfig>,
    steps: VecDeque<Step>,
    /// The step that was taken last is being done elsewhere.
    is_step_under_way: bool,
    broker: BrokerId,
    leading_since_ms: u64,
    /// Below it everything is committed, and that was carried out.
    high_watermark: Offset,
    log_start: Offset,
    /// Followed by hand: asking the log counts its segments.
    size_bytes: u64,
    size: LogMetrics,
    purgatory: Purgatory<Waiting>,
    answers: Vec<Answer>,
    handover: Option<Handover>,
    followers: Followers,
    moving_since: u64,
    pull: Pull,
    is_flushing: bool,
    /// The log was cut since the flush that is under way began: it says nothing any more.
    is_flush_void: bool,
    /// A flush that failed inside an append: the caller must act on it.
    flush_failure: Option<FlushError>,
    /// Something happened that the published view does not show.
    is_changed: bool,
}

impl ReplicaState {
    pub(super) fn new(opened: OpenedReplica, slot: &Arc<PartitionSlot>, size: LogMetrics) -> Self {
        let OpenedReplica { replica, open, config } = opened;
        let mut state = Self {
            reader: open.log.reader(),
            config,
            new_config: None,
            steps: VecDeque::new(),
            is_step_under_way: false,
            broker: slot.node.config.broker_id,
            leading_since_ms: 0,
            high_watermark: replica.high_watermark(),
            log_start: open.log.log_start_offset(),
            size_bytes: 0,
            size,
            purgatory: Purgatory::new(),
            answers: Vec::new(),
            handover: None,
            followers: Followers::default(),
            moving_since: 0,
            pull: Pull::new(Arc::clone(slot)),
            is_flushing: false,
            is_flush_void: false,
            flush_failure: None,
            is_changed: true,
            replica,
            open: Some(open),
        };
        state.measure();
        state
    }

    pub(super) const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Lets the protocol decide something and queues what follows from it. A role that is over ends at once, whatever
    /// waits in the queue: nothing is asked of a former leader any more.
    pub(super) fn decide<T>(&mut self, event: impl FnOnce(&mut Replica) -> (T, Vec<Effect>)) -> T {
        let (answer, effects) = event(&mut self.replica);
        self.note(effects);
        answer
    }

    fn note(&mut self, effects: Vec<Effect>) {
        self.steps.extend(effects.into_iter().map(Step::Effect));
        self.pull.turn_to(self.replica.following());
        if self.replica.leading().is_none() {
            self.leading_since_ms = 0;
            self.followers.dismiss();
        }
        self.is_changed = true;
    }

    /// Queues something behind everything that is queued.
    pub(super) fn queue(&mut self, step: Step) {
        self.steps.push_back(step);
    }

    /// The next thing to do; `None` while one is being done, or nothing is left.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        if self.is_step_under_way { None } else { self.steps.pop_front() }
    }

    /// The effect that comes next, if it is of the kind that `take` accepts: effects of one kind are done together.
    pub(super) fn next_effect_if<T>(&mut self, take: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        let Some(Step::Effect(effect)) = self.steps.front() else { return None };
        let taken = take(effect);
        if taken.is_some() {
            self.steps.pop_front();
        }
        taken
    }

    pub(super) const fn begin_step(&mut self) {
        self.is_step_under_way = true;
    }

    pub(super) const fn end_step(&mut self) {
        self.is_step_under_way = false;
    }

    /// Whether nothing waits to be done: only then is anything asked or answered.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_step_under_way && self.steps.is_empty()
    }

    /// The log, unless it is worked on elsewhere.
    pub(super) fn log(&mut self) -> Option<&mut PartitionLog> {
        self.open.as_mut().map(|open| &mut open.log)
    }

    /// Takes the log away, to be worked on elsewhere.
    pub(super) const fn lend_log(&mut self) -> Option<OpenLog> {
        self.open.take()
    }

    /// Takes the log back.
    pub(super) fn return_log(&mut self, open: OpenLog) {
        self.open = Some(open);
        self.measure();
    }

    /// Notes a change that the next [`ReplicaState::settle`] shall publish.
    pub(super) const fn touch(&mut self) {
        self.is_changed = true;
    }

    /// Whether something has happened that is not published.
    pub(super) const fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Whether it leads as far as others may know: what that rests on is done.
    pub(super) fn leading_epoch(&self) -> Option<LeaderEpoch> {
        self.replica.leading().filter(|_| self.leading_since_ms > 0).map(|progress| progress.epoch())
    }

    /// Carries out the beginning of a leadership.
    pub(super) fn begin_to_lead(&mut self, now_ms: u64) {
        self.leading_since_ms = now_ms.max(1);
        self.followers.begin(now_ms);
        self.is_changed = true;
    }

    /// Carries out that everything below `to` is committed.
    pub(super) fn advance_high_watermark(&mut self, to: Offset) {
        self.high_watermark = self.high_watermark.max(to);
        self.is_changed = true;
    }

    /// Picks out who is answered by what has happened. `false`: nothing has. Publish the view, then
    /// [`ReplicaState::send_answers`].
    pub(super) fn settle(&mut self) -> bool {
        if !std::mem::take(&mut self.is_changed) {
            return false;
        }
        if self.replica.leading().is_none() && self.is_idle() {
            // A follower's follows from what it was told; a cut takes it back where it was a guess.
            self.high_watermark = self.replica.high_watermark();
        }
        self.complete_waiting();
        true
    }

    /// The view of this replica.
    pub(super) fn view(&self, resigned: Option<LeaderEpoch>, leader: Option<BrokerId>) -> PartitionView {
        let replica = &self.replica;
        let status = match (self.leading_epoch(), replica.leading(), replica.following()) {
            (Some(_), Some(progress), _) if self.high_watermark >= progress.start_offset() => PartitionStatus::Leader,
            (None, _, Some(_)) => PartitionStatus::Follower,
            _ => PartitionStatus::Electing,
        };
        let leader =
            if self.leading_epoch().is_some() { Some(self.broker) } else { leader.filter(|it| *it != self.broker) };
        PartitionView {
            status,
            log_start_offset: self.log_start,
            high_watermark: self.high_watermark,
            log_end_offset: replica.log_end(),
            flushed_offset: replica.flushed(),
            size_bytes: self.size_bytes,
            leader,
            leader_epoch: replica.promised_epoch(),
            adopted_epoch: replica.adopted_epoch(),
            in_sync: self.followers.in_sync(),
            move_complete: self.completed_move(),
            resigned,
        }
    }

    fn completed_move(&self) -> Option<u64> {
        self.leading_epoch().filter(|_| self.replica.is_move_complete())?;
        let is_joint = matches!(self.replica.leading()?.replica_set(), ReplicaSet::Joint { .. });
        is_joint.then_some(self.moving_since)
    }

    /// The metadata version that the move began with which is part of the replica set that this replica leads.
    pub(super) fn set_moving_since(&mut self, moving_since: u64) {
        self.is_changed |= self.moving_since != moving_since;
        self.moving_since = moving_since;
    }

    pub(super) fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    pub(super) const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub(super) const fn is_flushing(&self) -> bool {
        self.is_flushing
    }

    /// Whether something of the log is not on disk: records, or that a segment was closed.
    pub(super) fn is_dirty(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.log.needs_flush())
    }

    /// A flush of everything appended so far, to be run elsewhere; `None` when one is under way, there is nothing to
    /// flush, or the log may still be cut. The next one covers what is appended meanwhile.
    pub(super) fn begin_flush(&mut self) -> Option<(Option<Flush>, PendingFlush)> {
        if self.is_flushing || !self.is_idle() {
            return None;
        }
        let flush = self.replica.begin_flush();
        if flush.is_none() && !self.is_settled() {
            return None;
        }
        let log = self.open.as_mut().map(|open| &mut open.log)?;
        let pending = log.begin_flush();
        match (flush, pending) {
            (flush, Some(pending)) => {
                self.is_flushing = true;
                Some((flush, pending))
            }
            // It was flushed by a flush that was begun in a former epoch.
            (Some(flush), None) => {
                let effects = self.replica.on_flushed(flush);
                self.note(effects);
                None
            }
            (None, None) => None,
        }
    }

    /// Whether the log cannot be cut any more in this epoch.
    fn is_settled(&self) -> bool {
        match self.replica.role() {
            ReplicaRole::Waiting => false,
            ReplicaRole::Elected { .. } | ReplicaRole::Leader(_) => true,
            ReplicaRole::Follower(following) => matches!(following.phase(), Phase::Copying { .. }),
        }
    }

    /// A flush has ended; what it means is taken in behind what is queued.
    pub(super) fn end_flush(&mut self, flush: Option<Flush>, flushed: Flushed) {
        self.is_flushing = false;
        let is_void = std::mem::take(&mut self.is_flush_void);
        self.queue(Step::TakeFlush(flush.filter(|_| !is_void), flushed));
    }

    /// The log is cut: what a flush that is under way covers may not be what is there when it ends.
    pub(super) const fn void_flush(&mut self) {
        self.is_flush_void = self.is_flushing;
    }

    /// Takes in a flush that has ended.
    pub(super) fn take_flush(&mut self, flush: Option<Flush>, flushed: Flushed) {
        if let Some(log) = self.log() {
            log.complete_flush(flushed);
        }
        if let Some(flush) = flush {
            let effects = self.replica.on_flushed(flush);
            self.note(effects);
        }
        self.is_changed = true;
        self.measure();
    }

    /// States the log's size in the metrics.
    pub(super) fn measure(&mut self) {
        let Some(open) = &self.open else { return };
        self.size_bytes = open.log.size_bytes();
        self.log_start = open.log.log_start_offset();
        self.size.set(self.size_bytes, open.log.segment_count());
        self.is_changed = true;
    }

    /// Counts bytes that were copied from the leader.
    pub(super) const fn add_size(&mut self, bytes: u64) {
        self.size_bytes += bytes;
        self.is_changed = true;
    }

    /// Whether it was chosen as leader and has to flush before it leads.
    pub(super) const fn is_elected(&self) -> bool {
        matches!(self.replica.role(), ReplicaRole::Elected { .. })
    }

    /// Lets the log follow the settings of the topic, once they have changed and it is here.
    pub(super) fn take_over_settings(&mut self) {
        let Some(open) = &mut self.open else { return };
        let Some(config) = self.new_config.take() else { return };
        match open.log.set_config(&config) {
            Ok(()) => self.config = config,
            Err(error) => tracing::warn!(dir = %open.log.dir().display(), %error, "settings were not taken over"),
        }
    }

    /// Notes settings of the topic for [`ReplicaState::take_over_settings`].
    pub(super) fn set_config(&mut self, config: &TopicConfig) {
        let changed = self.config != *config;
        self.new_config = changed.then(|| config.clone());
    }

    /// The log, to be closed or removed; `None` while it is worked on elsewhere. Everything else of the replica ends.
    pub(super) fn into_log(self) -> Option<OpenLog> {
        self.open
    }
}
