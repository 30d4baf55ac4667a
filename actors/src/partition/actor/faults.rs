//! Faults that tests ask for.

use std::{io, mem, path::Path, sync::Arc};

use actix::{AsyncContext, Context, Handler};
use pubg1_model::replication::Flush;
use pubg1_storage::{FlushError, PendingFlush};

use super::{PartitionActor, submit_flush};
use crate::partition::{Fault, PartitionSlot};

/// What is to go wrong.
#[derive(Default)]
pub(super) struct Faults {
    fail_flush: bool,
    hold_flushes: bool,
    held: Option<(Option<Flush>, PendingFlush)>,
}

impl Faults {
    /// Takes a flush away when it shall fail or wait.
    pub(super) fn intercept(
        &mut self,
        slot: &Arc<PartitionSlot>,
        meaning: Option<Flush>,
        flush: PendingFlush,
        ctx: &Context<PartitionActor>,
    ) -> Option<PendingFlush> {
        if self.hold_flushes {
            self.held = Some((meaning, flush));
            return None;
        }
        if mem::take(&mut self.fail_flush) {
            let error = FlushError {
                operation: "flush",
                path: Path::new("injected").into(),
                source: Arc::new(io::Error::other("injected fault")),
            };
            submit_flush(slot, ctx.address(), meaning, move || Err(error));
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
                if let Some((meaning, flush)) = self.faults.held.take() {
                    submit_flush(&self.slot, ctx.address(), meaning, move || flush.run());
                }
            }
        }
    }
}
