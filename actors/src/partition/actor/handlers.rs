//! What the actor does for clients, and with what comes back from the threads that flush and open.

use actix::{Context, Handler};
use pubg1_metrics::ActorKind;
use tokio::time::Instant;

use super::{ANSWERS_PER_SETTLE, PartitionActor};
use crate::{
    errors::AppendError,
    partition::{
        Acks,
        messages::{Append, FlushCompleted, Opened},
        replica::AppendContext,
        role::Role,
        slot::LEASE_MS,
    },
};

impl PartitionActor {
    /// Why nothing is taken at present.
    pub(super) fn refusal(&self) -> Option<AppendError> {
        if self.closing.is_some() {
            return Some(AppendError::Draining);
        }
        let retry_after_ms = self.slot.node.retry_after_ms();
        match &self.role {
            Role::Replica(state) if state.leading_epoch().is_some() && state.is_idle() => None,
            Role::Replica(state) if state.replica().following().is_some() => {
                Some(AppendError::NotLeader { leader: self.known_leader(), retry_after_ms })
            }
            Role::Replica(_) | Role::Recovering => Some(AppendError::NotReady { retry_after_ms }),
            Role::Offline(reason) => Some(AppendError::Offline(reason.clone())),
            Role::Ended => Some(AppendError::Draining),
        }
    }

    /// Why an append is not taken: nothing is at present, it belongs to another epoch, or it would be answered before a
    /// quorum has it and nobody knows whether there still is one.
    fn refusal_of(&self, append: &Append) -> Option<AppendError> {
        let node = &self.slot.node;
        self.refusal().or_else(|| {
            let Role::Replica(state) = &self.role else { return None };
            let is_other = append.epoch.is_some_and(|epoch| state.leading_epoch() != Some(epoch));
            let is_cut_off = append.acks != Acks::All
                && state.silent_since_ms().is_some_and(|since| node.monotonic_ms().saturating_sub(since) > LEASE_MS);
            (is_other || is_cut_off).then(|| AppendError::NotReady { retry_after_ms: node.retry_after_ms() })
        })
    }

    pub(super) fn append(&mut self, append: Append, ctx: &mut Context<Self>) {
        let taken_at = Instant::now();
        if let Some(refusal) = self.refusal_of(&append) {
            if let Some(reply) = append.reply {
                reply.send(Err(refusal)).map_err(drop).unwrap_or_default();
            }
            return;
        }
        let Role::Replica(state) = &mut self.role else { return };
        let Err(append) = state.hold(append) else { return };
        let Some(epoch) = state.leading_epoch() else { return };
        let node = &self.slot.node;
        let context = AppendContext {
            now_ms: node.config.clock.now_ms(),
            retry_after_ms: node.retry_after_ms(),
            metrics: &node.metrics,
            topic: &self.slot.topic_metrics,
        };
        let done_at = state.append(append, epoch, taken_at, &context);
        let (unsent, failure) = (state.unsent(), state.take_flush_failure());
        node.metrics.actor(ActorKind::Partition).handled(done_at - taken_at);
        if let Some(failure) = failure {
            return self.on_flush_failure(&failure);
        }
        self.proceed(ctx);
        if unsent >= ANSWERS_PER_SETTLE {
            self.settle(ctx);
        }
    }

    fn on_flushed(&mut self, completed: FlushCompleted, ctx: &mut Context<Self>) {
        self.slot.node.metrics.storage().observe_flush(completed.took);
        let Role::Replica(state) = &mut self.role else { return };
        match completed.result {
            Ok(flushed) => {
                state.end_flush(completed.flush, flushed);
                self.proceed(ctx);
            }
            Err(error) => self.on_flush_failure(&error),
        }
    }
}

impl Handler<Append> for PartitionActor {
    type Result = ();

    fn handle(&mut self, append: Append, ctx: &mut Context<Self>) {
        self.append(append, ctx);
    }
}

impl Handler<Opened> for PartitionActor {
    type Result = ();

    fn handle(&mut self, opened: Opened, ctx: &mut Context<Self>) {
        self.on_opened(opened.result, ctx);
    }
}

impl Handler<FlushCompleted> for PartitionActor {
    type Result = ();

    fn handle(&mut self, completed: FlushCompleted, ctx: &mut Context<Self>) {
        self.on_flushed(completed, ctx);
        self.settle(ctx);
    }
}
