//! Mending a damaged segment with the help of the other replicas.
//!
//! What is closed and committed is the same everywhere, so its damage costs this replica neither its place nor its vote:
//! the segment is copied from a peer, written anew and put in its place, while everything else goes on. Whoever reads
//! the damaged part meanwhile is told to try again. Other damage means that the log as a whole is copied again.

use std::{sync::Arc, time::Duration};

use actix::{AsyncContext, Context, Handler};
use pubg1_model::{BrokerId, Offset, record_batch::ValidBatch};
use pubg1_storage::{Compacted, Damage, Repair, RepairError, RepairJob};
use tokio::time::Instant;

use super::{PartitionActor, post};
use crate::{
    errors::FetchError,
    forward::{Place, ask_replica_batches},
    partition::{
        PartitionSlot,
        messages::{NotRepaired, SegmentRepaired},
        replica::Step,
        role::Role,
    },
    storage_errors,
};

/// How much is asked for at once.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// The pauses between attempts, while no peer can help: they double from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The pause before damage is looked at again: the log is worked on elsewhere, or what is committed is not known yet,
/// because this replica has just begun.
const RECHECK_PAUSE: Duration = Duration::from_millis(50);
/// A leader that has waited for so long is itself what holds the commitment up: nobody can copy the damage.
const COMMITMENT_PATIENCE: Duration = Duration::from_secs(10);

impl PartitionActor {
    /// The log holds something that was not written.
    pub(super) fn on_damage(&mut self, damage: Damage, ctx: &mut Context<Self>) {
        if self.is_mending() {
            // Found once more, or to be found by the look that follows the repair.
            return;
        }
        self.mending = Some(self.life);
        self.slot.node.metrics.storage().checksum_failures.inc();
        self.mend(Arc::new(damage), Instant::now(), ctx);
    }

    pub(super) fn is_mending(&self) -> bool {
        self.mending == Some(self.life)
    }

    fn mend(&mut self, damage: Arc<Damage>, found: Instant, ctx: &mut Context<Self>) {
        let Role::Replica(state) = &mut self.role else { return };
        if self.closing.is_some() {
            return;
        }
        let is_busy = self.is_compacting || self.verification.is_under_way || !state.is_idle();
        let (high_watermark, leads) = (state.high_watermark(), state.leading_epoch().is_some());
        let peers = self.slot.peers();
        let Some(log) = state.log().filter(|_| !is_busy) else { return self.mend_later(damage, found, ctx) };
        let begun = if peers.is_empty() { Repair::Impossible } else { log.begin_repair(damage.offset, high_watermark) };
        match begun {
            Repair::Begun(job) => {
                tracing::warn!(%damage, "a damaged segment is copied from another replica");
                self.is_compacting = true;
                let (life, address, slot) = (self.life, ctx.address(), Arc::clone(&self.slot));
                actix_rt::spawn(async move {
                    let result = repair(&slot, *job).await;
                    post(&address, SegmentRepaired { life, damage, result });
                });
            }
            Repair::NotCommitted if !leads || found.elapsed() < COMMITMENT_PATIENCE => {
                self.mend_later(damage, found, ctx);
            }
            Repair::NotCommitted | Repair::Impossible => self.copy_again(storage_errors::damaged(&damage), ctx),
        }
    }

    fn mend_later(&self, damage: Arc<Damage>, found: Instant, ctx: &mut Context<Self>) {
        let life = self.life;
        ctx.run_later(RECHECK_PAUSE, move |actor, ctx| {
            if actor.life == life {
                actor.mend(damage, found, ctx);
            }
        });
    }

    fn on_repaired(&mut self, repaired: SegmentRepaired, ctx: &mut Context<Self>) {
        let SegmentRepaired { life, damage, result } = repaired;
        self.is_compacting = false;
        if life != self.life {
            return;
        }
        self.mending = None;
        let Role::Replica(state) = &mut self.role else { return };
        match result {
            Ok(compacted) => {
                state.queue(Step::TakeCompaction(compacted));
                // It is looked at once more, and what comes after it.
                self.verification = super::housekeeping::Verification::default();
                tracing::info!(
                    topic = %self.slot.identity.topic, partition = %self.slot.identity.partition,
                    "a damaged segment was replaced by a whole one"
                );
            }
            Err(NotRepaired::Ended) => {}
            Err(NotRepaired::Misfit(RepairError::Storage(error))) => {
                self.on_housekeeping_error("a damaged segment was not written anew", error);
            }
            Err(NotRepaired::Misfit(error)) => {
                tracing::warn!(%error, "a damaged segment cannot be copied as it was: the log is copied as a whole");
                self.copy_again(storage_errors::damaged(&damage), ctx);
            }
        }
        self.proceed(ctx);
        self.verify(ctx);
    }
}

/// Copies the segment from whichever peer has it, for as long as it takes.
async fn repair(slot: &Arc<PartitionSlot>, mut job: RepairJob) -> Result<Compacted, NotRepaired> {
    let mut pause = PAUSES.0;
    let mut turn = 0;
    while let Some(from) = job.next() {
        let peers = slot.peers();
        let Some(peer) = peers.get(turn % peers.len().max(1)) else {
            job.discard();
            return Err(NotRepaired::Ended);
        };
        let batches = match read_from(slot, *peer, from).await {
            Ok(batches) => batches,
            Err(Away::Now) => {
                turn += 1;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
                continue;
            }
            // Deleted there, so it goes here, too.
            Err(Away::ForEver) => {
                job.discard();
                return ended_later().await;
            }
        };
        let pushed = slot.node.workers.run(move || job.push(&batches)).await;
        job = match pushed.ok_or(NotRepaired::Ended)? {
            Ok(job) => job,
            Err(error) => return not_written(error).await,
        };
    }
    match slot.node.workers.run(move || job.finish()).await.ok_or(NotRepaired::Ended)? {
        Ok(compacted) => Ok(compacted),
        Err(error) => not_written(error).await,
    }
}

/// The damage is found again at once; a disk that is full, or a log start that has not come, takes longer.
async fn ended_later<T>() -> Result<T, NotRepaired> {
    tokio::time::sleep(PAUSES.1).await;
    Err(NotRepaired::Ended)
}

async fn not_written<T>(error: RepairError) -> Result<T, NotRepaired> {
    if matches!(error, RepairError::Storage(_)) {
        tokio::time::sleep(PAUSES.1).await;
    }
    Err(NotRepaired::Misfit(error))
}

/// A peer does not have what is asked for.
enum Away {
    Now,
    ForEver,
}

/// Whole batches of a peer's log.
async fn read_from(slot: &PartitionSlot, peer: BrokerId, from: Offset) -> Result<Vec<ValidBatch>, Away> {
    let place = Place { topic_id: slot.identity.topic_id, partition: slot.identity.partition };
    let read = ask_replica_batches(&slot.node, peer, place, Some(from), READ_BYTES).await;
    let read = match read {
        Ok(read) if !read.runs.is_empty() => read,
        Ok(_) => return Err(Away::Now),
        Err(FetchError::OffsetOutOfRange { log_start_offset, .. }) if log_start_offset > from => {
            return Err(Away::ForEver);
        }
        Err(error) => {
            tracing::debug!(broker = %peer, offset = %from, %error, "a damaged segment cannot be copied from here");
            return Err(Away::Now);
        }
    };
    let split = read.runs.iter().map(ValidBatch::split_stored).collect::<Result<Vec<_>, _>>();
    split.map(|runs| runs.into_iter().flatten().collect()).map_err(|_| Away::Now)
}

impl Handler<SegmentRepaired> for PartitionActor {
    type Result = ();

    fn handle(&mut self, repaired: SegmentRepaired, ctx: &mut Context<Self>) {
        self.on_repaired(repaired, ctx);
    }
}
