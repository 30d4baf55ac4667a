//! Retention, compaction, deletion, and looking for damage.

use std::{sync::Arc, time::Instant};

use actix::{AsyncContext, Context, Handler};
use pubg1_metrics::{ActorKind, DeleteReason};
use pubg1_model::{Offset, topic::CleanupPolicy};
use pubg1_storage::{Compacted, StorageError};

use super::{PartitionActor, post};
use crate::{
    errors::{AppendError, DeleteRecordsError},
    partition::{
        messages::{CompactionCompleted, DamageSuspected, DeleteRecords, Maintain, Verified},
        opening::row_of,
        replica::Step,
        role::Role,
    },
    storage_errors::storage_error,
};

/// The pause between two looks at all that is closed, in milliseconds: a day.
const VERIFICATION_PAUSE_MS: u64 = 24 * 60 * 60 * 1000;

/// How far the log was read to look for damage: all that is closed, one segment after the other, when it was opened, and
/// again every day, because disks rot under what nobody writes.
#[derive(Default)]
pub(super) struct Verification {
    /// A part is being read.
    pub(super) is_under_way: bool,
    /// Where the next part begins.
    next: Offset,
    /// When the end was reached, by the clock of [`monotonic_ms`](crate::node::NodeContext::monotonic_ms).
    ended_ms: Option<u64>,
}

impl PartitionActor {
    fn delete_records(&mut self, before: Offset) -> Result<Offset, DeleteRecordsError> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal.into());
        }
        let retry_after_ms = self.slot.node.retry_after_ms();
        let not_ready = AppendError::NotReady { retry_after_ms };
        let Role::Replica(state) = &mut self.role else { return Err(not_ready.into()) };
        let high_watermark = state.high_watermark();
        if before > high_watermark {
            return Err(DeleteRecordsError::OffsetOutOfRange { requested: before, high_watermark });
        }
        let Some(log) = state.log() else { return Err(not_ready.into()) };
        let size_before = log.size_bytes();
        let deleted = log.delete_records_before(before);
        let freed = size_before.saturating_sub(log.size_bytes());
        state.measure();
        self.slot.topic_metrics.deleted_bytes(DeleteReason::Request).inc_by(freed);
        deleted.map_err(|error| {
            let answer = storage_error(&error, retry_after_ms);
            self.on_housekeeping_error("records were not deleted", error);
            answer.into()
        })
    }

    /// Deletes what is too old or too much, and starts a compaction when one is due. A follower deletes what its
    /// leader has deleted, and compacts by itself.
    fn maintain(&mut self, ctx: &Context<Self>) {
        let node = Arc::clone(&self.slot.node);
        let Role::Replica(state) = &mut self.role else { return };
        if self.closing.is_some() || !state.is_idle() {
            return;
        }
        let row = row_of(state.replica(), node.storage);
        if node.states.load(self.slot.identity.key()).is_some_and(|known| known != row) {
            // The high watermark has moved since: a hint for the next life, for which nobody waits.
            node.states.store(self.slot.identity.key(), row, || ());
        }
        let (now_ms, high_watermark) = (node.config.clock.now_ms(), state.high_watermark());
        if state.leading_epoch().is_some()
            && let Some(log) = state.log()
        {
            match log.apply_retention(now_ms, high_watermark) {
                Ok(deleted) => {
                    self.slot.topic_metrics.deleted_bytes(DeleteReason::Retention).inc_by(deleted.bytes);
                    state.measure();
                }
                Err(error) => self.on_housekeeping_error("retention failed", error),
            }
        }
        self.compact(high_watermark, now_ms, ctx);
        self.verify(ctx);
    }

    fn compact(&mut self, high_watermark: Offset, now_ms: i64, ctx: &Context<Self>) {
        let Role::Replica(state) = &mut self.role else { return };
        // What is read to look for damage must not be replaced meanwhile.
        let is_busy = self.is_compacting || self.verification.is_under_way;
        if is_busy || state.config.cleanup_policy != CleanupPolicy::Compact {
            return;
        }
        // One at a time for a directory, also across a restart of this actor.
        let Ok(turn) = self.slot.locks.compaction.clone().try_lock_owned() else { return };
        let Some(job) = state.log().and_then(|log| log.begin_compaction(high_watermark, now_ms)) else { return };
        self.is_compacting = true;
        let (life, address) = (self.life, ctx.address());
        self.slot.node.cleaner.submit(move || {
            let result = job.run();
            drop(turn);
            post(&address, CompactionCompleted { life, result });
        });
    }

    /// Housekeeping that failed is tried again later; a failed flush is final.
    pub(super) fn on_housekeeping_error(&mut self, what: &str, error: StorageError) {
        match error {
            StorageError::Flush(error) => self.on_flush_failure(&error),
            error => tracing::warn!(dir = %self.slot.identity.dir.display(), %error, "{what}"),
        }
    }

    fn on_compacted(&mut self, completed: CompactionCompleted, ctx: &mut Context<Self>) {
        self.is_compacting = false;
        let life = self.life;
        let Role::Replica(state) = &mut self.role else { return };
        match completed.result {
            // The log may be worked on elsewhere: it is taken in when it is back.
            Ok(compacted) if completed.life == life => state.queue(Step::TakeCompaction(compacted)),
            Ok(_) => {}
            Err(StorageError::Damage(damage)) if completed.life == life => self.on_damage(damage, ctx),
            Err(error) => self.on_housekeeping_error("compaction failed", error),
        }
        self.proceed(ctx);
    }

    /// Puts compacted segments in the place of the old ones.
    pub(super) fn install(&mut self, compacted: Compacted) {
        let Role::Replica(state) = &mut self.role else { return };
        let Some(log) = state.log() else { return };
        let size_before = log.size_bytes();
        let installed = log.install_compaction(compacted);
        let freed = size_before.saturating_sub(log.size_bytes());
        state.measure();
        match installed {
            Ok(()) => self.slot.topic_metrics.deleted_bytes(DeleteReason::Compaction).inc_by(freed),
            Err(error) => self.on_housekeeping_error("compaction failed", error),
        }
    }

    /// Reads the next part of what is closed and computes its checksums, on the thread for slow work.
    pub(super) fn verify(&mut self, ctx: &Context<Self>) {
        if self.verification.is_under_way || self.is_compacting || self.is_mending() {
            return;
        }
        let Role::Replica(state) = &mut self.role else { return };
        let now_ms = self.slot.node.monotonic_ms();
        if self.verification.ended_ms.is_some_and(|ended_ms| now_ms.saturating_sub(ended_ms) < VERIFICATION_PAUSE_MS) {
            return;
        }
        let Some(log) = state.log() else { return };
        let Some(job) = log.begin_verification(self.verification.next) else {
            self.verification = Verification { ended_ms: Some(now_ms), ..Verification::default() };
            return;
        };
        self.verification = Verification { is_under_way: true, next: job.end(), ended_ms: None };
        self.run_verification(job, ctx);
    }

    fn run_verification(&self, job: pubg1_storage::VerificationJob, ctx: &Context<Self>) {
        let (life, address) = (self.life, ctx.address());
        self.slot.node.cleaner.submit(move || post(&address, Verified { life, result: job.run() }));
    }

    fn on_verified(&mut self, verified: Verified, ctx: &mut Context<Self>) {
        self.verification.is_under_way = false;
        if verified.life != self.life || !matches!(self.role, Role::Replica(_)) {
            return;
        }
        match verified.result {
            // Segment by segment, so that compactions come in between.
            Ok(()) => self.verify(ctx),
            Err(damage) => self.on_damage(damage, ctx),
        }
    }

    /// Somebody was sent something that is not what was written: the part of the log is read now.
    fn on_damage_suspected(&mut self, offset: Offset, ctx: &Context<Self>) {
        let Role::Replica(state) = &mut self.role else { return };
        if self.verification.is_under_way || self.is_compacting {
            return;
        }
        let Some(job) = state.log().and_then(|log| log.begin_verification_at(offset)) else { return };
        self.verification.is_under_way = true;
        self.run_verification(job, ctx);
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

impl Handler<CompactionCompleted> for PartitionActor {
    type Result = ();

    fn handle(&mut self, completed: CompactionCompleted, ctx: &mut Context<Self>) {
        self.on_compacted(completed, ctx);
    }
}

impl Handler<Verified> for PartitionActor {
    type Result = ();

    fn handle(&mut self, verified: Verified, ctx: &mut Context<Self>) {
        self.on_verified(verified, ctx);
    }
}

impl Handler<DamageSuspected> for PartitionActor {
    type Result = ();

    fn handle(&mut self, suspected: DamageSuspected, ctx: &mut Context<Self>) {
        self.on_damage_suspected(suspected.offset, ctx);
    }
}
