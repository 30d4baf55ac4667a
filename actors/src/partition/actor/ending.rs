//! How a replica ends: offline, closed, removed, or opened once more.

use std::{path::Path, sync::Arc, time::Duration};

use actix::{ActorContext, Context, Handler};
use pubg1_storage::{FlushError, StorageError};

use super::{PartitionActor, report_flush_failure};
use crate::{
    errors::{AppendError, OfflineReason},
    node::Removal,
    partition::{
        PartitionSlot, PartitionStatus,
        messages::{Drain, Remove},
        opening::{remove_aside, remove_if_there},
        replica::ReplicaState,
        role::Role,
    },
    storage_errors::{self, OpenFailure},
};

impl PartitionActor {
    /// Serves nothing from here on, and says why.
    pub(super) fn go_offline(&mut self, reason: OfflineReason) {
        let reason = Arc::new(reason);
        tracing::error!(
            topic = %self.slot.identity.topic,
            partition = %self.slot.identity.partition,
            %reason,
            "the partition is offline"
        );
        let former = std::mem::replace(&mut self.role, Role::Offline(Arc::clone(&reason)));
        self.gauge.set(&self.role);
        self.let_go(former);
        let leads_by_name = self.slot.assignment().is_some_and(|assignment| {
            assignment.image.leader == Some(self.slot.node.config.broker_id)
                && assignment.image.leader_incarnation == Some(self.slot.node.incarnation)
        });
        let resigned = self.slot.assignment().filter(|_| leads_by_name).map(|it| it.image.leader_epoch);
        self.resigned = resigned;
        self.slot.publish_status_with(PartitionStatus::Offline(reason), |view| view.resigned = resigned);
        if resigned.is_some() {
            self.slot.node.resigned.send_modify(|count| *count += 1);
        }
    }

    /// Answers who waits for a replica that is over, and closes its files where that may block.
    fn let_go(&self, role: Role) {
        let Role::Replica(mut state) = role else { return };
        self.end_answers(&mut state);
        self.slot.node.workers.submit(move || drop(state));
    }

    fn end_answers(&self, state: &mut ReplicaState) {
        let retry_after_ms = self.slot.node.retry_after_ms();
        let unknown = || AppendError::OutcomeUnknown { retry_after_ms };
        state.fail_all(&self.slot.node.fatal.get().map_or_else(unknown, AppendError::Failed));
        state.refuse_held(&AppendError::NotReady { retry_after_ms });
        // At once: from here on nothing is promised to the leader any more.
        state.stop_pulling();
    }

    /// A flush has failed, be it on a flusher or where the log itself has to sync: nothing is acknowledged
    /// from here on, in the whole broker.
    pub(super) fn on_flush_failure(&mut self, error: &FlushError) {
        report_flush_failure(&self.slot, error);
        self.go_offline(OfflineReason::FlushFailed { reason: error.to_string() });
    }

    /// The log could not do what the protocol has decided. What it is now is found out by opening it again, which is
    /// no more than a restart of this replica.
    pub(super) fn on_broken_log(&mut self, error: StorageError, ctx: &mut Context<Self>) {
        match OpenFailure::from(error) {
            OpenFailure::FlushFailed(error) => self.on_flush_failure(&error),
            OpenFailure::Damaged(reason) => self.copy_again(reason, ctx),
            OpenFailure::Unavailable(reason) => {
                self.go_offline(OfflineReason::Unavailable { reason });
                self.open(ctx, self.reopen_pause);
                self.reopen_pause = (self.reopen_pause * 2).min(super::REOPEN_PAUSE.1);
            }
        }
        self.close_when_idle(ctx);
    }

    /// Sets the log aside and copies it again from the others; a leader gives its leadership up for that, because they
    /// have what is damaged here. When nobody else has it the partition is offline, and nothing is touched.
    pub(super) fn copy_again(&mut self, reason: OfflineReason, ctx: &mut Context<Self>) {
        let is_alone = self.slot.peers().is_empty();
        self.go_offline(reason);
        if !is_alone {
            self.is_damaged = true;
            self.open(ctx, Duration::ZERO);
        }
    }

    /// Ends in order, without a log to close.
    fn end(&mut self, ctx: &mut Context<Self>, status: PartitionStatus) {
        self.set_role(Role::Ended);
        self.slot.end(status);
        self.guard.finish();
        ctx.stop();
    }

    /// Closes the log when that was asked for and everyone has been answered.
    pub(super) fn close_when_idle(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_none() || matches!(self.role, Role::Recovering) {
            return;
        }
        if let Role::Replica(state) = &self.role
            && (state.is_flushing() || state.anyone_waits() || !state.is_idle())
        {
            return;
        }
        let Some(closed) = self.closing.take() else { return };
        let role = std::mem::replace(&mut self.role, Role::Ended);
        self.end(ctx, PartitionStatus::Closed);
        let Role::Replica(mut state) = role else {
            return closed.send(self.is_nothing_unflushed(&role)).unwrap_or_default();
        };
        self.end_answers(&mut state);
        let slot = Arc::clone(&self.slot);
        self.slot.node.workers.submit(move || {
            let in_order = match state.into_log() {
                Some(open) => {
                    let in_order = storage_errors::close(open.log, &slot.identity.topic_partition());
                    drop(open.lock);
                    in_order
                }
                None => false,
            };
            closed.send(in_order).unwrap_or_default();
        });
    }

    /// Nothing is open, so nothing can be left half done. But a log that could not be opened may have records that
    /// counted before they were flushed, and this life has not flushed them.
    fn is_nothing_unflushed(&self, role: &Role) -> bool {
        let node = &self.slot.node;
        let may_count = matches!(role, Role::Offline(_)) && node.states.counts_unflushed();
        !may_count || node.states.load(self.slot.identity.key()).is_none_or(|row| row.adopted_epoch.is_none())
    }

    /// Ends because the partition is no longer kept here, and removes what is left of it.
    pub(super) fn remove(&mut self, removal: Removal, ctx: &mut Context<Self>) {
        let is_moved = self.slot.is_moved();
        if let Role::Replica(state) = &mut self.role {
            let retry_after_ms = self.slot.node.retry_after_ms();
            // What others keep may have been committed there.
            let (waiting, held) = match is_moved {
                true => (
                    AppendError::OutcomeUnknown { retry_after_ms },
                    AppendError::NotLeader { leader: None, retry_after_ms },
                ),
                false => (AppendError::Deleted, AppendError::Deleted),
            };
            state.fail_all(&waiting);
            state.refuse_held(&held);
            state.stop_pulling();
        }
        if let Some(closed) = self.closing.take() {
            closed.send(true).unwrap_or_default();
        }
        let role = std::mem::replace(&mut self.role, Role::Ended);
        self.end(ctx, if is_moved { PartitionStatus::Closed } else { PartitionStatus::Deleted });
        let slot = Arc::clone(&self.slot);
        actix_rt::spawn(async move {
            let workers = slot.node.workers.clone();
            // Dropped where it may block, and before the lock is asked for.
            workers.run(move || drop(role)).await;
            let lock = Arc::clone(&slot.locks.log).lock_owned().await;
            workers.submit(move || {
                remove_files(&slot);
                drop((lock, removal));
            });
        });
    }
}

/// The directory first: a row without one is a replica that has forgotten, the reverse would be a new one.
fn remove_files(slot: &Arc<PartitionSlot>) {
    let dir: &Path = &slot.identity.dir;
    if slot.node.table.find(slot.identity.key()).is_some_and(|current| !Arc::ptr_eq(&current, slot)) {
        // The partition has come back meanwhile, and goes on with what is there.
        return;
    }
    remove_aside(dir);
    match remove_if_there(dir) {
        Ok(()) => slot.node.states.remove(slot.identity.key()),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "a partition that is not kept here is left until the next start");
        }
    }
}

impl Handler<Drain> for PartitionActor {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Context<Self>) {
        self.closing = Some(drain.closed);
        if let Role::Replica(state) = &mut self.role {
            state.stop_pulling();
        }
        // What waits is answered by the flush that is under way or begun here, what is done now.
        self.flush(ctx);
        self.settle(ctx);
    }
}

impl Handler<Remove> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Remove(removal): Remove, ctx: &mut Context<Self>) {
        self.remove(removal, ctx);
    }
}
