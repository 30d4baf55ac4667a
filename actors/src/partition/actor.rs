//! The actor around a replica: it takes messages, starts slow work elsewhere and publishes.
//!
//! Everything that a wake of the actor brings is handled before anything is published or answered: the
//! view is replaced once, then the answers go out. [`Settle`] is polled by actix after the mailbox is
//! empty; a long mailbox is cut into pieces of [`ANSWERS_PER_SETTLE`].

mod ending;
#[cfg(any(test, feature = "testing"))]
mod faults;
mod handlers;
mod housekeeping;
mod repair;
mod replication;
mod steps;

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use actix::{Actor, ActorFuture, Addr, AsyncContext, Context, Handler, Message};
use pubg1_metrics::ActorKind;
use pubg1_model::{LeaderEpoch, replication::Flush};
use pubg1_storage::{FlushError, Flushed};
use tokio::{sync::oneshot, time::Instant};

use super::{
    PartitionSlot,
    lease::Silence,
    messages::{Fence, FlushCompleted, Opened},
    opening::{OpenedReplica, OpeningFailure, open_replica},
    replica::ReplicaState,
    role::{Role, RoleGauge},
};
use crate::{
    arbiters::Place,
    config::FlushPolicy,
    errors::{AppendError, OfflineReason},
    fatal::FatalError,
    node::Removal,
    storage_errors::OpenFailure,
    supervision::{DeathGuard, Supervised, supervise},
};

/// Answers that may pile up within one wake before they are sent.
const ANSWERS_PER_SETTLE: usize = 256;
/// The pauses between attempts to open a log: they double from the first to the second.
const REOPEN_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The actor of one partition.
pub(crate) struct PartitionActor {
    slot: Arc<PartitionSlot>,
    role: Role,
    gauge: RoleGauge,
    /// Counts the times that the log was opened: what was begun in a former life of the replica is dropped.
    life: u64,
    /// Counts what was stored beside the log.
    stores: u64,
    /// The epoch that this replica is named as the leader of and cannot lead.
    resigned: Option<LeaderEpoch>,
    /// A fence that came before the log was open.
    early_fence: Option<Fence>,
    reopen_pause: Duration,
    /// The log was found to be damaged and is to be set aside.
    is_damaged: bool,
    /// The life of the replica in which a damaged segment is being mended: one at a time.
    mending: Option<u64>,
    timers: Timers,
    is_compacting: bool,
    verification: housekeeping::Verification,
    /// Counts handovers, so that the end of one does not end the next.
    handovers: u64,
    silence: Silence,
    /// Set when the partition is to be closed.
    closing: Option<oneshot::Sender<bool>>,
    #[cfg(any(test, feature = "testing"))]
    faults: faults::Faults,
    // Last: when it is dropped, the log is closed.
    guard: DeathGuard,
}

/// Which timers run; each at most once.
#[derive(Default)]
struct Timers {
    flush: bool,
    expiry: bool,
    news: bool,
}

/// Starts the partition's actor at `place`, under supervision that runs on `control`.
pub(crate) fn start_partition(slot: &Arc<PartitionSlot>, place: Place, control: &Place) {
    let node = &slot.node;
    let supervised = Supervised {
        name: format!("partition {}", slot.identity.topic_partition()),
        policy: node.config.restart,
        restarts: node.metrics.actor(ActorKind::Partition).restarts.clone(),
        fatal: node.fatal.clone(),
    };
    let (to_start, dead) = (Arc::clone(slot), Arc::clone(slot));
    let start = move |guard| {
        let slot = Arc::clone(&to_start);
        let resigned = slot.published.borrow().view.resigned;
        let make = move |_: &mut Context<PartitionActor>| PartitionActor {
            gauge: RoleGauge::new(&slot.node.metrics, &slot.topic_metrics),
            resigned,
            slot,
            role: Role::Recovering,
            life: 0,
            stores: 0,
            early_fence: None,
            reopen_pause: REOPEN_PAUSE.0,
            is_damaged: false,
            mending: None,
            timers: Timers::default(),
            is_compacting: false,
            verification: housekeeping::Verification::default(),
            handovers: 0,
            silence: Silence::default(),
            closing: None,
            #[cfg(any(test, feature = "testing"))]
            faults: faults::Faults::default(),
            guard,
        };
        to_start.set_address(Some(place.start(make)));
    };
    let died = move || {
        dead.set_address(None);
        dead.take_tick();
        dead.publish_death();
    };
    // Stopped by the stop of the control arbiter at the latest.
    control.spawn(supervise(supervised, start, died));
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(Settle);
        self.open(ctx, Duration::ZERO);
    }
}

/// Polled after the mailbox at every wake of the actor; never done.
struct Settle;

impl ActorFuture<PartitionActor> for Settle {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut PartitionActor,
        ctx: &mut Context<PartitionActor>,
        _task: &mut task::Context<'_>,
    ) -> Poll<()> {
        actor.settle(ctx);
        Poll::Pending
    }
}

impl PartitionActor {
    /// The replica, when its log is open.
    fn replica(&mut self) -> Option<&mut ReplicaState> {
        if let Role::Replica(state) = &mut self.role { Some(state) } else { None }
    }

    /// Publishes what has happened, then answers, then starts what it makes necessary.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.slot.node.monotonic_ms();
        while let Role::Replica(state) = &mut self.role
            && state.settle()
        {
            if let Some(error) = self.slot.node.fatal.get() {
                state.fail_all(&AppendError::Failed(error));
                return;
            }
            self.publish();
            if let Role::Replica(state) = &mut self.role {
                state.send_answers();
                let reads = state.serve_parked(now_ms);
                self.read_elsewhere(reads, ctx);
            }
            self.flush_as_configured(ctx);
            self.tell_of_written();
            self.watch_for_expiry(ctx);
            self.watch_for_news(ctx);
            if self.replica().is_some_and(|state| !state.is_idle()) {
                // What was on disk already is taken in without a flush, and may be what a leader waited for.
                self.proceed(ctx);
            }
        }
        self.close_when_idle(ctx);
    }

    /// Replaces what is published by what is so now.
    fn publish(&mut self) {
        let leader = self.known_leader();
        let Role::Replica(state) = &mut self.role else { return };
        let view = state.view(self.resigned, leader);
        self.gauge.set_status(&view.status);
        self.gauge.set_replication(state.is_under_replicated(), &view.in_sync);
        let lease = state.new_lease();
        let has_resigned = self.slot.published.borrow().view.resigned != view.resigned && view.resigned.is_some();
        self.slot.published.send_modify(|published| {
            published.view = view;
            if published.reader.is_none() {
                published.reader = Some(state.reader());
            }
            if let Some(lease) = lease {
                published.lease = lease;
            }
        });
        if has_resigned {
            self.slot.node.resigned.send_modify(|count| *count += 1);
        }
    }

    /// What was written goes on to who decides how long it stays in memory.
    fn tell_of_written(&mut self) {
        if let Some(log) = self.replica().and_then(ReplicaState::log) {
            let written = log.take_written();
            self.slot.node.written_pages.note(written);
        }
    }

    fn flush_as_configured(&mut self, ctx: &mut Context<Self>) {
        match self.slot.node.config.flush {
            FlushPolicy::Quorum => self.flush(ctx),
            FlushPolicy::Interval { ms } => {
                let Some(state) = self.replica() else { return };
                if state.is_elected() {
                    // It may not lead before its tail is on disk.
                    self.flush(ctx);
                } else if !self.timers.flush
                    && let Role::Replica(state) = &self.role
                    && !state.is_flushing()
                    && state.is_dirty()
                {
                    self.timers.flush = true;
                    ctx.run_later(Duration::from_millis(ms), |actor, ctx| {
                        actor.timers.flush = false;
                        actor.flush(ctx);
                        actor.proceed(ctx);
                    });
                }
            }
        }
    }

    /// Starts a flush unless one is under way.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        let Role::Replica(state) = &mut self.role else { return };
        let Some((meaning, flush)) = state.begin_flush() else {
            if state.is_changed() {
                // Everything was found to be flushed: what waited for that goes on, in a turn of its own.
                ctx.run_later(Duration::ZERO, |actor, ctx| actor.proceed(ctx));
            }
            return;
        };
        #[cfg(any(test, feature = "testing"))]
        let Some(flush) = self.faults.intercept(&self.slot, meaning, flush, ctx) else { return };
        submit_flush(&self.slot, ctx.address(), meaning, move || flush.run());
    }

    /// While someone waits, looks now and then whether it has been too long.
    fn watch_for_expiry(&mut self, ctx: &mut Context<Self>) {
        let Role::Replica(state) = &self.role else { return };
        if self.timers.expiry || !state.anyone_waits() {
            return;
        }
        self.timers.expiry = true;
        let timeout = self.slot.node.config.append_timeout();
        ctx.run_later(timeout, move |actor, ctx| {
            actor.timers.expiry = false;
            if let Some(state) = actor.replica() {
                state.expire(Instant::now(), timeout);
            }
            actor.watch_for_expiry(ctx);
        });
    }

    /// Opens the log elsewhere; [`Opened`] comes back.
    fn open(&self, ctx: &Context<Self>, pause: Duration) {
        let (slot, address, is_damaged) = (Arc::clone(&self.slot), ctx.address(), self.is_damaged);
        actix_rt::spawn(async move {
            tokio::time::sleep(pause).await;
            let result = open_replica(slot, is_damaged).await;
            post(&address, Opened { result });
        });
    }

    fn on_opened(&mut self, result: Result<Box<OpenedReplica>, OpeningFailure>, ctx: &mut Context<Self>) {
        match result {
            Ok(opened) => {
                self.is_damaged = false;
                self.verification = housekeeping::Verification::default();
                self.life += 1;
                let size = self.slot.topic_metrics.log();
                let state = ReplicaState::new(*opened, &self.slot, size);
                tracing::debug!(
                    topic = %self.slot.identity.topic,
                    partition = %self.slot.identity.partition,
                    promised_epoch = %state.replica().promised_epoch(),
                    log_end_offset = %state.replica().log_end(),
                    "the replica is open"
                );
                self.set_role(Role::Replica(Box::new(state)));
                if let Some(Fence { epoch, reply }) = self.early_fence.take() {
                    self.fence(epoch, reply);
                }
                self.on_assignment(ctx);
                // What was not read by recovery may have changed while nobody looked.
                self.verify(ctx);
                self.proceed(ctx);
            }
            Err(OpeningFailure::NotKept) => self.remove(Removal::begin(&self.slot.node), ctx),
            Err(OpeningFailure::Open(OpenFailure::Damaged(reason))) => {
                self.slot.node.metrics.storage().checksum_failures.inc();
                self.go_offline(reason);
                self.close_when_idle(ctx);
            }
            Err(OpeningFailure::Open(OpenFailure::FlushFailed(error))) => {
                self.on_flush_failure(&error);
                self.close_when_idle(ctx);
            }
            Err(OpeningFailure::Unavailable(reason) | OpeningFailure::Open(OpenFailure::Unavailable(reason))) => {
                self.go_offline(OfflineReason::Unavailable { reason });
                self.open(ctx, self.reopen_pause);
                self.reopen_pause = (self.reopen_pause * 2).min(REOPEN_PAUSE.1);
                self.close_when_idle(ctx);
            }
        }
    }

    fn set_role(&mut self, role: Role) {
        self.gauge.set(&role);
        self.role = role;
    }
}

/// Runs a flush on a flusher; its result comes back as a message. A failure is reported from there: who
/// waits must not be answered, whether the actor lives or not.
fn submit_flush(
    slot: &Arc<PartitionSlot>,
    address: Addr<PartitionActor>,
    meaning: Option<Flush>,
    flush: impl FnOnce() -> Result<Flushed, FlushError> + Send + 'static,
) {
    let slot_of_job = Arc::clone(slot);
    slot.node.flushers.submit(move || {
        let slot = slot_of_job;
        let started = Instant::now();
        let result = flush();
        if let Err(error) = &result {
            report_flush_failure(&slot, error);
        }
        post(&address, FlushCompleted { flush: meaning, result, took: started.elapsed() });
    });
}

fn report_flush_failure(slot: &PartitionSlot, error: &FlushError) {
    // The files of a partition that is not kept here any more may go while they are being flushed.
    if slot.assignment().is_some() {
        let what = format!("partition {}", slot.identity.topic_partition());
        slot.node.fatal.report(FatalError::Flush { what, reason: error.to_string() });
    }
}

/// A completion: at most one of each kind is outstanding.
#[expect(clippy::disallowed_methods, reason = "bounded by construction: at most one piece of work of each kind")]
fn post<M>(address: &Addr<PartitionActor>, message: M)
where
    M: Message<Result = ()> + Send + 'static,
    PartitionActor: Handler<M>,
{
    address.do_send(message);
}
