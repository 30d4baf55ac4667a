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
/// After this long, what holds the damage counts as not committed.
const COMMITMENT_PATIENCE: Duration = Duration::from_secs(10);

impl PartitionActor {
    /// The log holds something that was not written.
    pub(super) fn on_damage(&mut self, damage: Damage, ctx: &mut Context<Self>) {
        self.slot.node.metrics.storage().checksum_failures.inc();
        self.mend(Arc::new(damage), Instant::now(), ctx);
    }

    fn mend(&mut self, damage: Arc<Damage>, found: Instant, ctx: &mut Context<Self>) {
        let Role::Replica(state) = &mut self.role else { return };
        if self.closing.is_some() {
            return;
        }
        let (is_busy, high_watermark) = (self.is_compacting || !state.is_idle(), state.high_watermark());
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
            Repair::NotCommitted if found.elapsed() < COMMITMENT_PATIENCE => self.mend_later(damage, found, ctx),
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
        let Some(batches) = read_from(slot, *peer, from).await else {
            turn += 1;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
            continue;
        };
        let pushed = slot.node.workers.run(move || job.push(&batches)).await;
        job = pushed.ok_or(NotRepaired::Ended)?.map_err(NotRepaired::Misfit)?;
    }
    let finished = slot.node.workers.run(move || job.finish()).await;
    finished.ok_or(NotRepaired::Ended)?.map_err(NotRepaired::Misfit)
}

/// Whole batches of a peer's log; `None` when it does not have them now.
async fn read_from(slot: &PartitionSlot, peer: BrokerId, from: Offset) -> Option<Vec<ValidBatch>> {
    let place = Place { topic_id: slot.identity.topic_id, partition: slot.identity.partition };
    let read = ask_replica_batches(&slot.node, peer, place, Some(from), READ_BYTES).await;
    let read = match read {
        Ok(read) if !read.runs.is_empty() => read,
        Ok(_) => return None,
        Err(error) => {
            tracing::debug!(broker = %peer, offset = %from, %error, "a damaged segment cannot be copied from here");
            return None;
        }
    };
    let split = read.runs.iter().map(ValidBatch::split_stored).collect::<Result<Vec<_>, _>>();
    split.ok().map(|runs| runs.into_iter().flatten().collect())
}

impl Handler<SegmentRepaired> for PartitionActor {
    type Result = ();

    fn handle(&mut self, repaired: SegmentRepaired, ctx: &mut Context<Self>) {
        self.on_repaired(repaired, ctx);
    }
}
