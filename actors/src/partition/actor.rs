//! The actor around a partition: it takes messages, starts slow work elsewhere and publishes.
//!
//! Everything that a wake of the actor brings is handled before anything is published or answered: the
//! view is replaced once, then the answers go out. [`Settle`] is polled by actix after the mailbox is
//! empty; a long mailbox is cut into pieces of [`ANSWERS_PER_SETTLE`].

mod handlers;

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, ActorFuture, Addr, AsyncContext, Context, Handler, Message};
use actix_rt::ArbiterHandle;
use pubg1_metrics::ActorKind;
use pubg1_model::LeaderEpoch;
use pubg1_storage::{FlushError, Flushed};
use tokio::sync::oneshot;

use super::{
    PartitionSlot, PartitionStatus, PartitionView,
    leader::LeaderState,
    messages::{CompactionCompleted, FlushCompleted, Recovered},
    recovery::{RecoveredLog, RecoveryFailure, recover},
    role::{Role, RoleGauge},
};
use crate::{
    config::FlushPolicy,
    errors::{AppendError, OfflineReason},
    fatal::FatalError,
    metadata::MetadataHandle,
    node::Removal,
    storage_errors::{self, OpenFailure},
    supervision::{DeathGuard, Supervised, supervise},
};

/// Answers that may pile up within one wake before they are sent.
const ANSWERS_PER_SETTLE: usize = 256;
/// The pauses between attempts to open a log: they double from the first to the second.
const REOPEN_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The actor of one partition.
pub(crate) struct PartitionActor {
    slot: Arc<PartitionSlot>,
    metadata: MetadataHandle,
    role: Role,
    gauge: RoleGauge,
    /// An epoch that was begun for this partition and that nobody has led in.
    granted: Option<LeaderEpoch>,
    reopen_pause: Duration,
    flush_timer_armed: bool,
    expiry_timer_armed: bool,
    compacting: bool,
    /// Set when the partition is to be closed.
    closing: Option<oneshot::Sender<bool>>,
    #[cfg(any(test, feature = "testing"))]
    faults: handlers::Faults,
    // Last: when it is dropped, the log is closed.
    guard: DeathGuard,
}

/// Starts the partition's actor on `arbiter`, under supervision that runs on `control`. `granted` is an
/// epoch begun for its first life; each further one begins its own.
pub(crate) fn start_partition(
    slot: &Arc<PartitionSlot>,
    metadata: &MetadataHandle,
    mut granted: Option<LeaderEpoch>,
    arbiter: ArbiterHandle,
    control: &ArbiterHandle,
) {
    let node = &slot.node;
    let supervised = Supervised {
        name: format!("partition {}", slot.identity.topic_partition()),
        policy: node.config.restart,
        restarts: node.metrics.actor(ActorKind::Partition).restarts.clone(),
        fatal: node.fatal.clone(),
    };
    let (to_start, dead, metadata) = (Arc::clone(slot), Arc::clone(slot), metadata.clone());
    let start = move |guard| {
        let (slot, metadata, granted) = (Arc::clone(&to_start), metadata.clone(), granted.take());
        let make = move |_: &mut Context<PartitionActor>| PartitionActor {
            gauge: RoleGauge::new(&slot.node.metrics),
            slot,
            metadata,
            role: Role::Recovering,
            granted,
            reopen_pause: REOPEN_PAUSE.0,
            flush_timer_armed: false,
            expiry_timer_armed: false,
            compacting: false,
            closing: None,
            #[cfg(any(test, feature = "testing"))]
            faults: handlers::Faults::default(),
            guard,
        };
        to_start.set_address(Some(PartitionActor::start_in_arbiter(&arbiter, make)));
    };
    let died = move || {
        dead.set_address(None);
        dead.publish_status(PartitionStatus::Recovering);
    };
    // Stopped by the stop of the control arbiter at the latest.
    control.spawn(supervise(supervised, start, died));
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(Settle);
        self.recover(ctx, Duration::ZERO);
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
    /// Publishes what has happened, then answers, then starts the flush that it makes necessary.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(offsets) = leader.settle()
        {
            if let Some(error) = self.slot.node.fatal.get() {
                leader.fail_all(&AppendError::Failed(error));
                return;
            }
            self.slot.published.send_modify(|published| {
                let view = &mut published.view;
                view.log_start_offset = offsets.log_start_offset;
                view.high_watermark = offsets.high_watermark;
                view.log_end_offset = offsets.log_end_offset;
                view.flushed_offset = offsets.flushed_offset;
                view.size_bytes = offsets.size_bytes;
            });
            leader.send_answers();
            self.flush_as_configured(ctx);
            self.watch_for_expiry(ctx);
        }
        self.close_when_idle(ctx);
    }

    fn flush_as_configured(&mut self, ctx: &mut Context<Self>) {
        match self.slot.node.config.flush {
            FlushPolicy::Quorum => self.flush(ctx),
            FlushPolicy::Interval { ms } => {
                let Role::Leader(leader) = &self.role else { return };
                if !self.flush_timer_armed && !leader.is_flushing() && leader.is_dirty() {
                    self.flush_timer_armed = true;
                    ctx.run_later(Duration::from_millis(ms), |actor, ctx| {
                        actor.flush_timer_armed = false;
                        actor.flush(ctx);
                    });
                }
            }
        }
    }

    /// Starts a flush unless one is under way.
    fn flush(&mut self, ctx: &Context<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let epoch = leader.epoch;
        let Some(flush) = leader.begin_flush() else { return };
        #[cfg(any(test, feature = "testing"))]
        let Some(flush) = self.faults.intercept(&self.slot, epoch, flush, ctx) else { return };
        submit_flush(&self.slot, ctx.address(), epoch, move || flush.run());
    }

    /// While someone waits, looks now and then whether it has been too long.
    fn watch_for_expiry(&mut self, ctx: &mut Context<Self>) {
        let Role::Leader(leader) = &self.role else { return };
        if self.expiry_timer_armed || !leader.anyone_waits() {
            return;
        }
        self.expiry_timer_armed = true;
        let timeout = self.slot.node.config.append_timeout();
        ctx.run_later(timeout, move |actor, ctx| {
            actor.expiry_timer_armed = false;
            if let Role::Leader(leader) = &mut actor.role {
                leader.expire(Instant::now(), timeout);
            }
            actor.watch_for_expiry(ctx);
        });
    }

    /// Opens the log elsewhere; [`Recovered`] comes back.
    fn recover(&self, ctx: &Context<Self>, pause: Duration) {
        let (slot, metadata, granted, address) =
            (Arc::clone(&self.slot), self.metadata.clone(), self.granted, ctx.address());
        actix_rt::spawn(async move {
            tokio::time::sleep(pause).await;
            let result = recover(slot, metadata, granted).await;
            post(&address, Recovered { result });
        });
    }

    fn on_recovered(&mut self, result: Result<RecoveredLog, RecoveryFailure>, ctx: &mut Context<Self>) {
        match result {
            Ok(recovered) => {
                self.granted = None;
                self.reopen_pause = REOPEN_PAUSE.0;
                self.lead(recovered);
                self.catch_up_on_settings();
                self.settle(ctx);
            }
            Err(RecoveryFailure::Deleted) => self.remove(Removal::begin(&self.slot.node), ctx),
            Err(RecoveryFailure::Open(OpenFailure::Damaged(reason))) => {
                self.slot.node.metrics.storage().checksum_failures.inc();
                self.go_offline(reason);
                self.close_when_idle(ctx);
            }
            Err(RecoveryFailure::Open(OpenFailure::FlushFailed(error))) => {
                self.on_flush_failure(&error);
                self.close_when_idle(ctx);
            }
            Err(RecoveryFailure::Unavailable(reason) | RecoveryFailure::Open(OpenFailure::Unavailable(reason))) => {
                self.go_offline(OfflineReason::Unavailable { reason });
                self.recover(ctx, self.reopen_pause);
                self.reopen_pause = (self.reopen_pause * 2).min(REOPEN_PAUSE.1);
                self.close_when_idle(ctx);
            }
        }
    }

    fn lead(&mut self, recovered: RecoveredLog) {
        let node = &self.slot.node;
        let (epoch, size) = (recovered.epoch, self.slot.topic_metrics.log());
        let leader = LeaderState::new(recovered, node.config.broker_id, node.config.flush, size);
        let offsets = leader.offsets();
        let (reader, leader_id) = (leader.log.reader(), node.config.broker_id);
        self.set_role(Role::Leader(Box::new(leader)));
        self.slot.published.send_modify(|published| {
            published.reader = Some(reader);
            published.view = PartitionView {
                status: PartitionStatus::Leader,
                log_start_offset: offsets.log_start_offset,
                high_watermark: offsets.high_watermark,
                log_end_offset: offsets.log_end_offset,
                flushed_offset: offsets.flushed_offset,
                size_bytes: offsets.size_bytes,
                leader: leader_id,
                leader_epoch: epoch,
            };
        });
        tracing::debug!(
            topic = %self.slot.identity.topic,
            partition = %self.slot.identity.partition,
            leader_epoch = %epoch,
            log_end_offset = %offsets.log_end_offset,
            "the partition leads"
        );
    }

    /// The settings were read when the recovery began; a change that came while it went on was told to
    /// nobody.
    fn catch_up_on_settings(&mut self) {
        if let Some(topic) = self.metadata.image().topic_by_id(self.slot.identity.topic_id) {
            self.set_config(&topic.config);
        }
    }

    /// Serves nothing from here on, and says why.
    fn go_offline(&mut self, reason: OfflineReason) {
        let reason = Arc::new(reason);
        tracing::error!(
            topic = %self.slot.identity.topic,
            partition = %self.slot.identity.partition,
            %reason,
            "the partition is offline"
        );
        self.set_role(Role::Offline(Arc::clone(&reason)));
        self.slot.publish_status(PartitionStatus::Offline(reason));
    }

    /// A flush has failed, be it on a flusher or where the log itself has to sync: nothing is acknowledged
    /// from here on, in the whole broker.
    fn on_flush_failure(&mut self, error: &FlushError) {
        report_flush_failure(&self.slot, error);
        if let (Role::Leader(leader), Some(fatal)) = (&mut self.role, self.slot.node.fatal.get()) {
            leader.fail_all(&AppendError::Failed(fatal));
        }
        self.go_offline(OfflineReason::FlushFailed { reason: error.to_string() });
    }

    fn set_role(&mut self, role: Role) {
        self.gauge.set(&role);
        self.role = role;
    }

    /// Ends in order, without a log to close.
    fn end(&mut self, ctx: &mut Context<Self>, status: PartitionStatus) {
        self.set_role(Role::Ended);
        self.slot.end(status);
        self.guard.finish();
        ctx.stop();
    }

    /// Closes the log when that was asked for and everyone has been answered.
    fn close_when_idle(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_none() {
            return;
        }
        if let Role::Leader(leader) = &self.role
            && (leader.is_flushing() || leader.anyone_waits())
        {
            return;
        }
        if matches!(self.role, Role::Recovering) {
            return;
        }
        let Some(closed) = self.closing.take() else { return };
        let role = std::mem::replace(&mut self.role, Role::Ended);
        self.end(ctx, PartitionStatus::Closed);
        match role {
            Role::Leader(leader) => {
                let slot = Arc::clone(&self.slot);
                self.slot.node.workers.submit(move || {
                    let (log, lease) = leader.into_log();
                    let in_order = storage_errors::close(log, &slot.identity.topic_partition());
                    drop(lease);
                    closed.send(in_order).unwrap_or_default();
                });
            }
            // Nothing is open: nothing can be left half done.
            Role::Recovering | Role::Offline(_) | Role::Ended => closed.send(true).unwrap_or_default(),
        }
    }

    /// Ends because the topic is gone, and removes what is left of it.
    fn remove(&mut self, removal: Removal, ctx: &mut Context<Self>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.fail_all(&AppendError::Deleted);
        }
        if let Some(closed) = self.closing.take() {
            closed.send(true).unwrap_or_default();
        }
        let role = std::mem::replace(&mut self.role, Role::Ended);
        self.end(ctx, PartitionStatus::Deleted);
        let slot = Arc::clone(&self.slot);
        actix_rt::spawn(async move {
            let workers = slot.node.workers.clone();
            // Dropped where it may block, and before the lease is asked for.
            workers.run(move || drop(role)).await;
            let lease = Arc::clone(&slot.lease).lock_owned().await;
            workers.submit(move || {
                remove_dir(&slot);
                drop((lease, removal));
            });
        });
    }
}

fn remove_dir(slot: &PartitionSlot) {
    let dir = &slot.identity.dir;
    match std::fs::remove_dir_all(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "a deleted partition is left on disk until the next start");
        }
    }
}

/// Runs a flush on a flusher; its result comes back as a message. A failure is reported from there: who
/// waits must not be answered, whether the actor lives or not.
fn submit_flush(
    slot: &Arc<PartitionSlot>,
    address: Addr<PartitionActor>,
    epoch: LeaderEpoch,
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
        post(&address, FlushCompleted { epoch, result, took: started.elapsed() });
    });
}

fn report_flush_failure(slot: &PartitionSlot, error: &FlushError) {
    // The files of a deleted topic may go while they are being flushed.
    if slot.published.borrow().view.status != PartitionStatus::Deleted {
        let what = format!("partition {}", slot.identity.topic_partition());
        slot.node.fatal.report(FatalError::Flush { what, reason: error.to_string() });
    }
}

/// A completion: at most one of each kind is outstanding.
#[expect(clippy::disallowed_methods, reason = "bounded by construction: one flush, one opening, one compaction")]
fn post<M>(address: &Addr<PartitionActor>, message: M)
where
    M: Message<Result = ()> + Send + 'static,
    PartitionActor: Handler<M>,
{
    address.do_send(message);
}
