//! What the partition's actor does with each message.

use std::time::Instant;

use actix::{AsyncContext, Context, Handler};
use pubg1_metrics::{ActorKind, DeleteReason};
use pubg1_model::{
    Offset,
    topic::{CleanupPolicy, TopicConfig},
};
use pubg1_storage::StorageError;

use super::{ANSWERS_PER_SETTLE, CompactionCompleted, FlushCompleted, PartitionActor, Recovered, post};
use crate::{
    errors::{AppendError, DeleteRecordsError},
    partition::{
        leader::AppendContext,
        messages::{Append, DeleteRecords, Drain, Maintain, Remove, SetConfig},
        role::Role,
    },
    storage_errors::storage_error,
};

impl PartitionActor {
    /// Why an append is not taken: nothing is at present, or it belongs to another epoch.
    fn refusal_of(&self, append: &Append) -> Option<AppendError> {
        self.refusal().or_else(|| match (&self.role, append.epoch) {
            (Role::Leader(leader), Some(epoch)) if leader.epoch != epoch => {
                Some(AppendError::NotReady { retry_after_ms: self.slot.node.retry_after_ms() })
            }
            _ => None,
        })
    }

    /// Why nothing is taken at present.
    fn refusal(&self) -> Option<AppendError> {
        if self.closing.is_some() {
            return Some(AppendError::Draining);
        }
        match &self.role {
            Role::Leader(_) => None,
            Role::Recovering => Some(AppendError::NotReady { retry_after_ms: self.slot.node.retry_after_ms() }),
            Role::Offline(reason) => Some(AppendError::Offline(reason.clone())),
            Role::Ended => Some(AppendError::Draining),
        }
    }

    fn append(&mut self, append: Append, ctx: &mut Context<Self>) {
        let taken_at = Instant::now();
        if let Some(refusal) = self.refusal_of(&append) {
            if let Some(reply) = append.reply {
                reply.send(Err(refusal)).map_err(drop).unwrap_or_default();
            }
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let node = &self.slot.node;
        let context = AppendContext {
            now_ms: node.config.clock.now_ms(),
            retry_after_ms: node.retry_after_ms(),
            metrics: &node.metrics,
            topic: &self.slot.topic_metrics,
        };
        let done_at = leader.append(append, taken_at, &context);
        let (unsent, failure) = (leader.unsent(), leader.take_flush_failure());
        node.metrics.actor(ActorKind::Partition).handled(done_at - taken_at);
        if let Some(failure) = failure {
            self.on_flush_failure(&failure);
        } else if unsent >= ANSWERS_PER_SETTLE {
            self.settle(ctx);
        }
    }

    fn delete_records(&mut self, before: Offset) -> Result<Offset, DeleteRecordsError> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal.into());
        }
        let retry_after_ms = self.slot.node.retry_after_ms();
        let Role::Leader(leader) = &mut self.role else {
            return Err(AppendError::NotReady { retry_after_ms }.into());
        };
        let high_watermark = leader.high_watermark();
        if before > high_watermark {
            return Err(DeleteRecordsError::OffsetOutOfRange { requested: before, high_watermark });
        }
        let size_before = leader.log.size_bytes();
        let deleted = leader.log.delete_records_before(before);
        leader.touch();
        leader.measure();
        let freed = size_before.saturating_sub(leader.log.size_bytes());
        self.slot.topic_metrics.deleted_bytes(DeleteReason::Request).inc_by(freed);
        deleted.map_err(|error| {
            let answer = storage_error(&error, retry_after_ms);
            self.on_storage_error("records were not deleted", error);
            answer.into()
        })
    }

    /// Deletes what is too old or too much, and starts a compaction when one is due.
    fn maintain(&mut self, ctx: &Context<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if self.closing.is_some() {
            return;
        }
        let (now_ms, high_watermark) = (self.slot.node.config.clock.now_ms(), leader.high_watermark());
        match leader.log.apply_retention(now_ms, high_watermark) {
            Ok(deleted) => {
                self.slot.topic_metrics.deleted_bytes(DeleteReason::Retention).inc_by(deleted.bytes);
                leader.touch();
                leader.measure();
            }
            Err(error) => self.on_storage_error("retention failed", error),
        }
        let Role::Leader(leader) = &mut self.role else { return };
        if self.compacting || leader.config.cleanup_policy != CleanupPolicy::Compact {
            return;
        }
        // One at a time for a directory, also across a restart of this actor.
        let Ok(turn) = self.slot.compaction.clone().try_lock_owned() else { return };
        let Some(job) = leader.log.begin_compaction(high_watermark, now_ms) else { return };
        self.compacting = true;
        let (epoch, address) = (leader.epoch, ctx.address());
        self.slot.node.cleaner.submit(move || {
            let result = job.run();
            drop(turn);
            post(&address, CompactionCompleted { epoch, result });
        });
    }

    /// Housekeeping that failed is tried again later; a failed flush is final.
    fn on_storage_error(&mut self, what: &str, error: StorageError) {
        match error {
            StorageError::Flush(error) => self.on_flush_failure(&error),
            error => tracing::warn!(dir = %self.slot.identity.dir.display(), %error, "{what}"),
        }
    }

    pub(super) fn set_config(&mut self, config: &TopicConfig) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.config == *config {
            return;
        }
        match leader.log.set_config(config) {
            Ok(()) => leader.config = config.clone(),
            Err(error) => {
                tracing::warn!(dir = %self.slot.identity.dir.display(), %error, "settings were not taken over");
            }
        }
    }

    fn on_compacted(&mut self, completed: CompactionCompleted) {
        self.compacting = false;
        let Role::Leader(leader) = &mut self.role else { return };
        if completed.epoch != leader.epoch {
            return;
        }
        let size_before = leader.log.size_bytes();
        match completed.result.and_then(|compacted| leader.log.install_compaction(compacted)) {
            Ok(()) => {
                leader.touch();
                leader.measure();
                let freed = size_before.saturating_sub(leader.log.size_bytes());
                self.slot.topic_metrics.deleted_bytes(DeleteReason::Compaction).inc_by(freed);
            }
            Err(error) => self.on_storage_error("compaction failed", error),
        }
    }

    fn on_flushed(&mut self, completed: FlushCompleted) {
        self.slot.node.metrics.storage().observe_flush(completed.took);
        let Role::Leader(leader) = &mut self.role else { return };
        if completed.epoch != leader.epoch {
            return;
        }
        match completed.result {
            Ok(flushed) => leader.complete_flush(flushed),
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

impl Handler<DeleteRecords> for PartitionActor {
    type Result = ();

    fn handle(&mut self, delete: DeleteRecords, ctx: &mut Context<Self>) {
        let started = Instant::now();
        let DeleteRecords { offset, reply, permit, in_mailbox } = delete;
        drop(in_mailbox);
        let result = self.delete_records(offset);
        // Published before it is answered, so that who asked sees it.
        self.settle(ctx);
        drop(permit);
        reply.send(result).map_err(drop).unwrap_or_default();
        self.slot.node.metrics.actor(ActorKind::Partition).handled(started.elapsed());
    }
}

impl Handler<Maintain> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Maintain, ctx: &mut Context<Self>) {
        self.maintain(ctx);
    }
}

impl Handler<SetConfig> for PartitionActor {
    type Result = ();

    fn handle(&mut self, SetConfig(config): SetConfig, _: &mut Context<Self>) {
        self.set_config(&config);
    }
}

impl Handler<Drain> for PartitionActor {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Context<Self>) {
        self.closing = Some(drain.closed);
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

impl Handler<Recovered> for PartitionActor {
    type Result = ();

    fn handle(&mut self, recovered: Recovered, ctx: &mut Context<Self>) {
        self.on_recovered(recovered.result, ctx);
    }
}

impl Handler<FlushCompleted> for PartitionActor {
    type Result = ();

    fn handle(&mut self, completed: FlushCompleted, ctx: &mut Context<Self>) {
        self.on_flushed(completed);
        self.settle(ctx);
    }
}

impl Handler<CompactionCompleted> for PartitionActor {
    type Result = ();

    fn handle(&mut self, completed: CompactionCompleted, _: &mut Context<Self>) {
        self.on_compacted(completed);
    }
}

#[cfg(any(test, feature = "testing"))]
pub(super) use faults::Faults;

/// Faults that tests ask for.
#[cfg(any(test, feature = "testing"))]
mod faults {
    use std::{io, mem, path::Path, sync::Arc};

    use actix::{AsyncContext, Context, Handler};
    use pubg1_model::LeaderEpoch;
    use pubg1_storage::{FlushError, PendingFlush};

    use crate::partition::{
        Fault, PartitionSlot,
        actor::{PartitionActor, submit_flush},
    };

    /// What is to go wrong.
    #[derive(Default)]
    pub(in crate::partition::actor) struct Faults {
        fail_flush: bool,
        hold_flushes: bool,
        held: Option<(LeaderEpoch, PendingFlush)>,
    }

    impl Faults {
        /// Takes a flush away when it shall fail or wait.
        pub(in crate::partition::actor) fn intercept(
            &mut self,
            slot: &Arc<PartitionSlot>,
            epoch: LeaderEpoch,
            flush: PendingFlush,
            ctx: &Context<PartitionActor>,
        ) -> Option<PendingFlush> {
            if self.hold_flushes {
                self.held = Some((epoch, flush));
                return None;
            }
            if mem::take(&mut self.fail_flush) {
                let error = FlushError {
                    operation: "flush",
                    path: Path::new("injected").into(),
                    source: Arc::new(io::Error::other("injected fault")),
                };
                submit_flush(slot, ctx.address(), epoch, move || Err(error));
                return None;
            }
            Some(flush)
        }
    }

    impl Handler<Fault> for PartitionActor {
        type Result = ();

        #[allow(clippy::panic, reason = "a fault that is injected on purpose")]
        fn handle(&mut self, fault: Fault, ctx: &mut Context<Self>) {
            match fault {
                Fault::Panic => panic!("a test asked for this panic"),
                Fault::FailFlush => self.faults.fail_flush = true,
                Fault::HoldFlushes => self.faults.hold_flushes = true,
                Fault::ResumeFlushes => {
                    self.faults.hold_flushes = false;
                    if let Some((epoch, flush)) = self.faults.held.take() {
                        submit_flush(&self.slot, ctx.address(), epoch, move || flush.run());
                    }
                }
            }
        }
    }
}
