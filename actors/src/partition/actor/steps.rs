//! Carrying out what the protocol asks for, one step after the other; slow ones elsewhere, and what comes next waits.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler};
use pubg1_model::{leader_epochs::EpochStart, record_batch::ValidBatch, replication::Effect};
use pubg1_storage::{AppendError as LogAppendError, PartitionLog, StorageError};

use super::{PartitionActor, REOPEN_PAUSE, post};
use crate::{
    errors::AppendError,
    flusher::Urgency,
    partition::{
        messages::{LogReturned, StateStored},
        opening::{remove_aside, row_with},
        replica::Step,
        role::Role,
    },
};

impl PartitionActor {
    /// Carries out what is queued, as far as nothing has to be waited for; then does what only an idle replica does.
    pub(super) fn proceed(&mut self, ctx: &mut Context<Self>) {
        loop {
            while let Role::Replica(state) = &mut self.role
                && let Some(step) = state.next_step()
            {
                if let Err(error) = self.carry_out(step, ctx) {
                    return self.on_broken_log(error, ctx);
                }
            }
            if !self.work_when_idle(ctx) {
                return;
            }
        }
    }

    /// What is done only while nothing is queued. Whether that has queued something.
    fn work_when_idle(&mut self, ctx: &mut Context<Self>) -> bool {
        let now_ms = self.slot.node.monotonic_ms();
        let Role::Replica(state) = &mut self.role else { return false };
        if !state.is_idle() {
            return false;
        }
        state.take_over_settings();
        let mut reads = Vec::new();
        for (from, asked, sink) in state.take_early() {
            reads.extend(state.on_asked(from, asked, sink, now_ms));
        }
        if self.closing.is_none() {
            state.pull();
        }
        let has_more = !state.is_idle();
        self.read_elsewhere(reads, ctx);
        has_more
    }

    fn carry_out(&mut self, step: Step, ctx: &mut Context<Self>) -> Result<(), StorageError> {
        let node = Arc::clone(&self.slot.node);
        let Role::Replica(state) = &mut self.role else { return Ok(()) };
        match step {
            Step::Effect(Effect::Store(durable)) => {
                state.begin_step();
                self.stores += 1;
                let (serial, address) = (self.stores, ctx.address());
                let row = row_with(durable, state.replica(), node.storage);
                let was_whole =
                    node.states.load(self.slot.identity.key()).is_some_and(|row| row.adopted_epoch.is_some());
                node.states.store(self.slot.identity.key(), row, move || post(&address, StateStored { serial }));
                if row.adopted_epoch.is_some() && !was_whole {
                    let slot = Arc::clone(&self.slot);
                    node.workers.submit(move || remove_aside(&slot.identity.dir));
                }
            }
            Step::Effect(Effect::RecordEpochStart { epoch, start_offset }) => {
                let mut starts = vec![EpochStart { epoch, start_offset }];
                while let Some(next) = state.next_effect_if(|effect| match effect {
                    Effect::RecordEpochStart { epoch, start_offset } => {
                        Some(EpochStart { epoch: *epoch, start_offset: *start_offset })
                    }
                    _ => None,
                }) {
                    starts.push(next);
                }
                self.lend_log(ctx, move |log| log.record_epochs(starts));
            }
            Step::Effect(Effect::FailWaiting) => {
                let retry_after_ms = node.retry_after_ms();
                state.fail_waiting(&AppendError::OutcomeUnknown { retry_after_ms });
                state.refuse_held(&AppendError::NotLeader { leader: None, retry_after_ms });
            }
            Step::Effect(Effect::Truncate { to }) => {
                state.void_flush();
                self.lend_log(ctx, move |log| match log.truncate_to(to)? {
                    end if end == to => Ok(()),
                    end => Err(StorageError::AboveLogEnd { offset: to, log_end: end }),
                });
            }
            Step::Effect(Effect::RestartLog { at }) => {
                state.void_flush();
                self.lend_log(ctx, move |log| log.restart_at(at));
            }
            // It is begun as soon as nothing is queued, and covers what is there by then.
            Step::Effect(Effect::Flush(_)) => state.touch(),
            Step::Effect(Effect::Lead { epoch }) => {
                state.begin_to_lead(node.monotonic_ms());
                state.update_in_sync(node.monotonic_ms());
                (self.resigned, self.reopen_pause) = (None, REOPEN_PAUSE.0);
                tracing::debug!(
                    topic = %self.slot.identity.topic,
                    partition = %self.slot.identity.partition,
                    leader_epoch = %epoch,
                    "the replica leads"
                );
            }
            Step::Effect(Effect::AdvanceHighWatermark { to }) => state.advance_high_watermark(to),
            Step::Append(batches) => self.append_replicated(&batches)?,
            Step::DeleteBefore(offset) => {
                if let Some(log) = state.log() {
                    log.delete_records_before(offset)?;
                }
                state.measure();
            }
            Step::TakeFlush(flush, flushed) => state.take_flush(flush, flushed),
            Step::TakeCompaction(compacted) => self.install(compacted),
            Step::Answer(answer) => answer(),
        }
        Ok(())
    }

    /// Appends what the leader sent and the protocol has accepted.
    fn append_replicated(&mut self, batches: &[ValidBatch]) -> Result<(), StorageError> {
        let now_ms = self.slot.node.config.clock.now_ms();
        let Role::Replica(state) = &mut self.role else { return Ok(()) };
        let mut bytes = 0;
        if let Some(log) = state.log() {
            allow_gaps(log, batches)?;
            for batch in batches {
                log.append_replicated(batch, now_ms).map_err(|error| match error {
                    LogAppendError::Flush(error) => StorageError::Flush(error),
                    LogAppendError::Storage(error) => error,
                    other => StorageError::Io {
                        operation: "copy to",
                        path: self.slot.identity.dir.clone(),
                        source: std::io::Error::other(other),
                    },
                })?;
                bytes += u64::try_from(batch.bytes().len()).unwrap_or(u64::MAX);
            }
        }
        state.add_size(bytes);
        self.reopen_pause = REOPEN_PAUSE.0;
        self.slot.node.metrics.replication().bytes_in.inc_by(bytes);
        Ok(())
    }

    /// Has work done on the log by a thread that may block; nothing else is done until it is back.
    fn lend_log(
        &mut self,
        ctx: &Context<Self>,
        work: impl FnOnce(&mut PartitionLog) -> Result<(), StorageError> + Send + 'static,
    ) {
        let Role::Replica(state) = &mut self.role else { return };
        let Some(mut open) = state.lend_log() else { return };
        state.begin_step();
        let address = ctx.address();
        self.slot.node.workers.submit_as(Urgency::Election, move || {
            let result = work(&mut open.log);
            post(&address, LogReturned { open, result });
        });
    }
}

/// Where batches do not follow each other the leader has compacted.
fn allow_gaps(log: &mut PartitionLog, batches: &[ValidBatch]) -> Result<(), StorageError> {
    let mut next = log.log_end_offset();
    let mut last_after_gap = None;
    for header in batches.iter().map(ValidBatch::header) {
        let (Some(first), Some(end)) = (header.first_offset(), header.next_offset()) else { continue };
        if first > next {
            last_after_gap = Some(first);
        }
        next = end;
    }
    last_after_gap.map_or(Ok(()), |offset| log.allow_gaps_to(offset))
}

impl Handler<StateStored> for PartitionActor {
    type Result = ();

    fn handle(&mut self, stored: StateStored, ctx: &mut Context<Self>) {
        if let Role::Replica(state) = &mut self.role
            && stored.serial == self.stores
        {
            state.end_step();
            state.touch();
            self.proceed(ctx);
        }
    }
}

impl Handler<LogReturned> for PartitionActor {
    type Result = ();

    fn handle(&mut self, returned: LogReturned, ctx: &mut Context<Self>) {
        let LogReturned { open, result } = returned;
        let Role::Replica(state) = &mut self.role else {
            // The replica has ended meanwhile. A log is not closed on this thread.
            return self.slot.node.workers.submit(move || drop(open));
        };
        state.return_log(open);
        state.end_step();
        match result {
            Ok(()) => self.proceed(ctx),
            Err(error) => self.on_broken_log(error, ctx),
        }
    }
}
