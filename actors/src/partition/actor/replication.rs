//! What the actor hears from the metadata log, the controller, followers and its leader.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler};
use pubg1_model::{
    BrokerId, LeaderEpoch,
    replication::{NotElectable, message::FenceAnswer},
};
use pubg1_storage::ReadError;
use tokio::sync::oneshot;

use super::{PartitionActor, post};
use crate::{
    flusher::Urgency,
    partition::{
        Assignment,
        messages::{AssignmentChanged, Fence, FetchRequested, PullAnswered, ReadCompleted, Tick, Transfer},
        replica::{Asked, Served, Step, Taken},
        role::Role,
    },
    replicator::{Outcome, Refusal, Wish},
};

/// How long news of the high watermark waits for records to go along with.
const NEWS_PAUSE: Duration = Duration::from_millis(50);
/// How long appends are held while a leadership is handed over.
const HANDOVER_MAX: Duration = Duration::from_secs(1);

impl PartitionActor {
    /// Who leads, as far as this replica knows: told by the metadata log, in the epoch that it takes part in.
    pub(super) fn known_leader(&self) -> Option<BrokerId> {
        let Role::Replica(state) = &self.role else { return None };
        let assignment = self.slot.assignment()?;
        (assignment.image.leader_epoch == state.replica().promised_epoch()).then_some(assignment.image.leader)?
    }

    /// Does what the metadata log says.
    pub(super) fn on_assignment(&mut self, ctx: &mut Context<Self>) {
        let Some(assignment) = self.slot.assignment() else { return };
        let Role::Replica(state) = &mut self.role else { return };
        state.set_config(&assignment.config);
        if self.closing.is_none() {
            self.take_part(&assignment);
        }
        self.proceed(ctx);
    }

    fn take_part(&mut self, assignment: &Assignment) {
        let (node, image) = (&self.slot.node, &assignment.image);
        let (now_ms, epoch) = (node.monotonic_ms(), image.leader_epoch);
        let Role::Replica(state) = &mut self.role else { return };
        if epoch < state.replica().promised_epoch() {
            // What is promised already will be heard of.
            return;
        }
        match image.leader {
            None => state.decide(|replica| ((), replica.observe_epoch(epoch))),
            Some(leader) if leader == node.config.broker_id => self.lead(assignment, now_ms),
            // It was compared with the promise above, so the epoch is not over.
            Some(leader) => state.decide(|replica| ((), replica.follow(epoch, leader).unwrap_or_default())),
        }
        if self
            .resigned
            .is_some_and(|resigned| resigned < epoch || image.leader != Some(self.slot.node.config.broker_id))
        {
            self.resigned = None;
            self.touch();
        }
    }

    /// The metadata log names this broker as the leader.
    fn lead(&mut self, assignment: &Assignment, now_ms: u64) {
        let image = &assignment.image;
        let (epoch, set) = (image.leader_epoch, image.replica_set());
        let Role::Replica(state) = &mut self.role else { return };
        state.set_moving_since(image.moving_since);
        let leading = state.replica().leading().map(pubg1_model::replication::LeaderProgress::epoch);
        let chosen = state.is_elected() && state.replica().promised_epoch() == epoch;
        if leading == Some(epoch) || chosen {
            state.decide(|replica| ((), replica.on_replica_set(set, now_ms)));
            state.on_followers_changed();
            state.update_in_sync(now_ms);
            return;
        }
        let incarnation = image.leader_incarnation;
        let elected = state.decide(|replica| {
            let Some(incarnation) = incarnation else { return (Err(NotElectable::NotFit { epoch }), Vec::new()) };
            match replica.elect(epoch, incarnation, set, now_ms) {
                Ok(effects) => (Ok(()), effects),
                Err(error) => (Err(error), Vec::new()),
            }
        });
        if let Err(error) = elected {
            if self.resigned != Some(epoch) {
                tracing::info!(partition = %self.slot.identity.topic_partition(), reason = %error,
                    "the leadership is not taken up");
            }
            self.resign(epoch);
        }
    }

    /// Says that this replica does not lead in `epoch`, whatever the metadata log says.
    pub(super) fn resign(&mut self, epoch: LeaderEpoch) {
        self.resigned = Some(epoch);
        self.touch();
    }

    fn touch(&mut self) {
        if let Role::Replica(state) = &mut self.role {
            state.touch();
        }
    }

    /// Steps down from a leadership that it cannot keep, and asks for a new epoch.
    pub(super) fn step_down(&mut self, reason: &str) {
        let Role::Replica(state) = &mut self.role else { return };
        let Some(epoch) = state.replica().leading().map(pubg1_model::replication::LeaderProgress::epoch) else {
            return;
        };
        tracing::warn!(
            partition = %self.slot.identity.topic_partition(), leader_epoch = %epoch, reason, "the leader steps down"
        );
        state.decide(|replica| ((), replica.step_down()));
        self.resign(epoch);
    }

    /// Promises an epoch; the answer goes out when the promise is on disk.
    pub(super) fn fence(&mut self, epoch: LeaderEpoch, reply: oneshot::Sender<FenceAnswer>) {
        let Role::Replica(state) = &mut self.role else { return };
        let answer = state.decide(|replica| match replica.fence(epoch) {
            Ok((effects, answer)) => (Some(answer), effects),
            Err(_) => (None, Vec::new()),
        });
        if let Some(answer) = answer {
            if state.replica().leading().is_none() {
                // Before the answer, which may leave while the mailbox is full and nothing is published: whoever gets it
                // takes this replica for one that answers no reads.
                self.slot.end_leadership();
            }
            // Whoever asked may have gone.
            state.queue(Step::Answer(Box::new(move || reply.send(answer).map(drop).unwrap_or_default())));
        }
    }

    fn on_fetch_requested(&mut self, requested: FetchRequested, ctx: &mut Context<Self>) {
        let FetchRequested { from, wish, attachment, sink } = requested;
        let now_ms = self.slot.node.monotonic_ms();
        let asked = match (wish, attachment) {
            (Wish::EpochEnd(query), _) => Asked::EpochEnd(query),
            (Wish::Fetch(fetch), Some(attachment)) => Asked::Fetch { fetch, attachment },
            (Wish::Fetch(_), None) => return sink.answer(Outcome::Refused(Refusal::Unavailable), Vec::new()),
        };
        let Role::Replica(state) = &mut self.role else {
            let refusal = if matches!(self.role, Role::Recovering) { Refusal::Unavailable } else { Refusal::NotLeader };
            return sink.answer(Outcome::Refused(refusal), Vec::new());
        };
        let read = state.on_asked(from, asked, sink, now_ms);
        self.read_elsewhere(read, ctx);
        self.proceed(ctx);
        self.watch_for_news(ctx);
    }

    /// Reads for followers on threads that may wait for the disk; [`ReadCompleted`] comes back.
    pub(super) fn read_elsewhere(&self, reads: impl IntoIterator<Item = Served>, ctx: &Context<Self>) {
        for read in reads {
            let address = ctx.address();
            self.slot.node.workers.submit_as(Urgency::Replication, move || {
                let result = read.read_into_memory();
                let Served { from, epoch, offset, .. } = read;
                post(&address, ReadCompleted { from, epoch, offset, result });
            });
        }
    }

    fn on_read(&mut self, completed: ReadCompleted, ctx: &mut Context<Self>) {
        let ReadCompleted { from, epoch, offset, result } = completed;
        let now_ms = self.slot.node.monotonic_ms();
        let Role::Replica(state) = &mut self.role else { return };
        match result {
            Ok(slice) if state.leading_epoch() == Some(epoch) => state.on_read(from, offset, &slice, now_ms),
            Ok(_) | Err(ReadError::OffsetOutOfRange { .. }) => state.on_read_failed(from),
            Err(ReadError::Damage(damage)) => {
                state.on_read_failed(from);
                self.on_damage(damage, ctx);
            }
        }
        self.proceed(ctx);
    }

    /// While a parked follower does not know the high watermark, tells it before long.
    pub(super) fn watch_for_news(&mut self, ctx: &mut Context<Self>) {
        let Role::Replica(state) = &self.role else { return };
        if self.timers.news || !state.has_news() {
            return;
        }
        self.timers.news = true;
        ctx.run_later(NEWS_PAUSE, |actor, ctx| {
            actor.timers.news = false;
            let now_ms = actor.slot.node.monotonic_ms();
            if let Role::Replica(state) = &mut actor.role {
                state.tell_news(now_ms);
            }
            actor.proceed(ctx);
            actor.watch_for_news(ctx);
        });
    }

    fn on_pull_answered(&mut self, answered: PullAnswered, ctx: &mut Context<Self>) {
        let Role::Replica(state) = &mut self.role else { return };
        if let Taken::AskLater = state.on_answer(answered.token, answered.answered) {
            let (pause, life) = (state.pause_pull(), self.life);
            ctx.run_later(pause, move |actor, ctx| {
                if let Role::Replica(state) = &mut actor.role
                    && actor.life == life
                {
                    state.resume_pull();
                    actor.proceed(ctx);
                }
            });
        }
        self.proceed(ctx);
    }

    fn transfer(&mut self, transfer: Transfer, ctx: &mut Context<Self>) {
        let Transfer { epoch, to, reply } = transfer;
        let Role::Replica(state) = &mut self.role else { return };
        if state.leading_epoch() != Some(epoch) || self.closing.is_some() {
            return;
        }
        state.begin_handover(to, reply);
        state.advance_handover();
        self.handovers += 1;
        let handover = self.handovers;
        ctx.run_later(HANDOVER_MAX, move |actor, ctx| {
            if actor.handovers == handover {
                actor.resume_appends(ctx);
            }
        });
    }

    /// A handover has not come to its end in time: what was held is appended here.
    fn resume_appends(&mut self, ctx: &mut Context<Self>) {
        let Role::Replica(state) = &mut self.role else { return };
        for append in state.end_handover() {
            self.append(append, ctx);
        }
    }

    /// Looks whether the followers are still there.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.slot.take_tick();
        let (now_ms, silence_max) = (self.slot.node.monotonic_ms(), self.slot.node.config.session_timeout_ms);
        let Role::Replica(state) = &mut self.role else { return };
        let is_silent = state.silent_since_ms().is_some_and(|since| now_ms.saturating_sub(since) > silence_max);
        let epoch = state.replica().promised_epoch();
        if self.silence.lasts(epoch, is_silent, now_ms) {
            self.step_down("no quorum of its followers is in contact");
            return self.proceed(ctx);
        }
        state.update_in_sync(now_ms);
        self.gauge.set_lag(state.lag());
    }
}

impl Handler<AssignmentChanged> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: AssignmentChanged, ctx: &mut Context<Self>) {
        self.on_assignment(ctx);
    }
}

impl Handler<Fence> for PartitionActor {
    type Result = ();

    fn handle(&mut self, fence: Fence, ctx: &mut Context<Self>) {
        if matches!(self.role, Role::Recovering) && self.closing.is_none() {
            // The one that is waited for is the newest.
            self.early_fence = Some(fence);
            return;
        }
        self.fence(fence.epoch, fence.reply);
        self.proceed(ctx);
    }
}

impl Handler<FetchRequested> for PartitionActor {
    type Result = ();

    fn handle(&mut self, requested: FetchRequested, ctx: &mut Context<Self>) {
        self.on_fetch_requested(requested, ctx);
    }
}

impl Handler<ReadCompleted> for PartitionActor {
    type Result = ();

    fn handle(&mut self, completed: ReadCompleted, ctx: &mut Context<Self>) {
        self.on_read(completed, ctx);
    }
}

impl Handler<PullAnswered> for PartitionActor {
    type Result = ();

    fn handle(&mut self, answered: PullAnswered, ctx: &mut Context<Self>) {
        self.on_pull_answered(answered, ctx);
    }
}

impl Handler<Transfer> for PartitionActor {
    type Result = ();

    fn handle(&mut self, transfer: Transfer, ctx: &mut Context<Self>) {
        self.transfer(transfer, ctx);
    }
}

impl Handler<Tick> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.tick(ctx);
    }
}
