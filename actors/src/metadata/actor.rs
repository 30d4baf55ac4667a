//! The actor around the metadata log. It lives on an arbiter of its own.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use actix::{Actor, Addr, AsyncContext, Context, Handler};
use actix_rt::ArbiterHandle;
use pubg1_metrics::ActorKind;
use pubg1_model::{
    Offset, TopicId,
    cluster::{ClusterImage, MetadataCommand, MetadataReply},
};
use pubg1_storage::{AppendError as LogAppendError, FlushError};
use tokio::sync::oneshot;

use super::{
    MetadataHandle, ProposeError,
    log::{self, MetadataLog, OpenError},
    messages::{Close, FlushCompleted, Opened, Propose},
};
use crate::{
    admission::Permit,
    errors::MetadataUnavailable,
    fatal::FatalError,
    node::NodeContext,
    storage_errors,
    supervision::{DeathGuard, Supervised, supervise},
};

/// The pause between attempts to open the log.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A command that is in the log and waits for the disk.
struct Pending {
    completed_at: Offset,
    image: Arc<ClusterImage>,
    deletes: Option<TopicId>,
    answer: MetadataReply,
    reply: oneshot::Sender<Result<MetadataReply, ProposeError>>,
    permit: Permit,
}

enum State {
    /// The log is being opened elsewhere.
    Opening,
    /// It takes commands.
    Open(Box<MetadataLog>),
    /// A failed flush or a log that cannot be believed: nothing is taken any more.
    Failed,
}

pub(super) struct MetadataActor {
    handle: MetadataHandle,
    state: State,
    pending: VecDeque<Pending>,
    flushing: bool,
    closing: Option<oneshot::Sender<()>>,
    // Last: when it is dropped, the log is closed.
    guard: DeathGuard,
}

/// Starts the actor on `arbiter`, under supervision that runs on `control`.
pub(crate) fn start_metadata(handle: &MetadataHandle, arbiter: ArbiterHandle, control: &ArbiterHandle) {
    let node = Arc::clone(&handle.0.node);
    let supervised = Supervised {
        name: "metadata".to_owned(),
        policy: node.config.restart,
        restarts: node.metrics.actor(ActorKind::Metadata).restarts.clone(),
        fatal: node.fatal.clone(),
    };
    let (to_start, dead) = (handle.clone(), handle.clone());
    let start = move |guard| {
        let handle = to_start.clone();
        let actor = move |_: &mut Context<MetadataActor>| MetadataActor {
            handle,
            state: State::Opening,
            pending: VecDeque::new(),
            flushing: false,
            closing: None,
            guard,
        };
        to_start.set_address(Some(MetadataActor::start_in_arbiter(&arbiter, actor)));
    };
    let died = move || dead.set_address(None);
    // Stopped by the stop of the control arbiter at the latest.
    control.spawn(supervise(supervised, start, died));
}

impl Actor for MetadataActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.open(ctx, Duration::ZERO);
    }
}

impl MetadataActor {
    fn node(&self) -> &NodeContext {
        &self.handle.0.node
    }

    /// Opens the log on a thread for blocking work; [`Opened`] comes back.
    fn open(&self, ctx: &Context<Self>, pause: Duration) {
        let (handle, address) = (self.handle.clone(), ctx.address());
        actix_rt::spawn(async move {
            tokio::time::sleep(pause).await;
            let node = &handle.0.node;
            let lease = Arc::clone(&handle.0.lease).lock_owned().await;
            let (dir, now_ms) = (node.config.data_dir.join("metadata"), node.config.clock.now_ms());
            let opened = node.workers.run(move || MetadataLog::open(&dir, now_ms, lease)).await;
            let result = opened.unwrap_or_else(|| Err(OpenError::Unavailable("the thread was stopped".to_owned())));
            post(&address, Opened { result });
        });
    }

    /// Starts a flush unless one is under way; it covers everything appended so far.
    fn flush(&mut self, ctx: &Context<Self>) {
        let State::Open(open) = &mut self.state else { return };
        if self.flushing || self.pending.is_empty() {
            return;
        }
        let Some(flush) = open.log.begin_flush() else { return };
        self.flushing = true;
        let (address, node) = (ctx.address(), Arc::clone(&self.handle.0.node));
        let flushers = node.flushers.clone();
        flushers.submit(move || {
            let started = Instant::now();
            let result = flush.run();
            if let Err(error) = &result {
                node.fatal.report(flush_failure(error));
            }
            post(&address, FlushCompleted { result, took: started.elapsed() });
        });
    }

    fn propose(&mut self, propose: Propose, ctx: &Context<Self>) {
        let Propose { command, reply, permit, in_mailbox } = propose;
        drop(in_mailbox);
        match self.append(&command) {
            Ok((completed_at, image, answer)) => {
                let deletes = match command {
                    MetadataCommand::DeleteTopic { id } => Some(id),
                    _ => None,
                };
                self.pending.push_back(Pending { completed_at, image, deletes, answer, reply, permit });
                self.flush(ctx);
            }
            // Whoever asked may have gone.
            Err(error) => reply.send(Err(error)).map_err(drop).unwrap_or_default(),
        }
    }

    /// Checks and appends a command. The image of the log moves on with it; nothing is published yet.
    fn append(
        &mut self,
        command: &MetadataCommand,
    ) -> Result<(Offset, Arc<ClusterImage>, MetadataReply), ProposeError> {
        let (retry_after_ms, now_ms) = (self.node().retry_after_ms(), self.node().config.clock.now_ms());
        if self.closing.is_some() {
            return Err(MetadataUnavailable::Draining.into());
        }
        let node = Arc::clone(&self.handle.0.node);
        let State::Open(open) = &mut self.state else {
            return Err(MetadataUnavailable::NotReady { retry_after_ms }.into());
        };
        let mut image = open.image.clone();
        let answer = image.apply(command).map_err(ProposeError::Refused)?;
        let storage = |reason| MetadataUnavailable::Storage { reason, retry_after_ms };
        let batch = log::encode(command, now_ms).map_err(|error| storage(error.to_string()))?;
        let appended = open.log.append(&batch, open.epoch, now_ms).map_err(|error| match error {
            LogAppendError::DiskFull { .. } => MetadataUnavailable::DiskFull { retry_after_ms },
            LogAppendError::Flush(error) => {
                // The log itself had to sync: it is as final as any other flush.
                node.fatal.report(flush_failure(&error));
                storage(error.to_string())
            }
            other => storage(other.to_string()),
        })?;
        open.image = image;
        Ok((log::completed_at(appended.last_offset), Arc::new(open.image.clone()), answer))
    }

    /// Publishes and answers what the flush has covered, then flushes what came meanwhile.
    fn on_flushed(&mut self, completed: FlushCompleted, ctx: &mut Context<Self>) {
        self.flushing = false;
        self.node().metrics.storage().observe_flush(completed.took);
        let State::Open(open) = &mut self.state else { return };
        match completed.result {
            Ok(flushed) => {
                open.log.complete_flush(flushed);
                let flushed_offset = open.log.flushed_offset();
                self.commit_up_to(flushed_offset);
                self.flush(ctx);
                self.close_when_idle(ctx);
            }
            Err(error) => self.fail(flush_failure(&error)),
        }
    }

    fn commit_up_to(&mut self, flushed_offset: Offset) {
        let due = self.pending.partition_point(|pending| pending.completed_at <= flushed_offset);
        if let Some(newest) = due.checked_sub(1).and_then(|at| self.pending.get(at)) {
            publish(&self.handle, &newest.image, self.pending.iter().take(due).filter_map(|pending| pending.deletes));
        }
        for Pending { reply, answer, permit, .. } in self.pending.drain(..due) {
            drop(permit);
            reply.send(Ok(answer)).map_err(drop).unwrap_or_default();
        }
    }

    fn on_opened(&mut self, opened: Opened, ctx: &mut Context<Self>) {
        match opened.result {
            Ok((log, deleted)) => {
                publish(&self.handle, &Arc::new(log.image.clone()), deleted);
                self.state = State::Open(Box::new(log));
                self.node().obstacle.send_replace(None);
                self.handle.0.opened.send_replace(true);
                self.close_when_idle(ctx);
            }
            Err(OpenError::Unavailable(reason)) => {
                tracing::warn!(reason, "the metadata log cannot be opened; it is tried again");
                self.node().obstacle.send_replace(Some(format!("the metadata log cannot be opened: {reason}")));
                self.open(ctx, REOPEN_PAUSE);
            }
            Err(OpenError::Unusable(reason)) => self.fail(FatalError::Metadata { reason }),
        }
    }

    /// Nothing is acknowledged from here on; who waits is told that the outcome is unknown.
    fn fail(&mut self, error: FatalError) {
        self.node().fatal.report(error);
        self.state = State::Failed;
        self.pending.clear();
        self.closing = None;
    }

    /// Closes the log when that was asked for and nothing waits.
    fn close_when_idle(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_none() || self.flushing || !self.pending.is_empty() {
            return;
        }
        let Some(closed) = self.closing.take() else { return };
        if let State::Open(open) = mem::replace(&mut self.state, State::Failed) {
            self.node().workers.submit(move || {
                storage_errors::close(open.log, &"metadata");
                closed.send(()).unwrap_or_default();
            });
        }
        self.guard.finish();
        actix::ActorContext::stop(ctx);
    }
}

fn flush_failure(error: &FlushError) -> FatalError {
    FatalError::Flush { what: "the metadata log".to_owned(), reason: error.to_string() }
}

fn publish(handle: &MetadataHandle, image: &Arc<ClusterImage>, deleted: impl IntoIterator<Item = TopicId>) {
    let mut known: std::sync::MutexGuard<'_, HashSet<TopicId>> =
        handle.0.deleted.lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(deleted);
    drop(known);
    let metrics = handle.0.node.metrics.node();
    metrics.topics.set(i64::try_from(image.topics.len()).unwrap_or(i64::MAX));
    metrics.metadata_version.set(i64::try_from(image.version).unwrap_or(i64::MAX));
    handle.0.image.send_replace(Arc::clone(image));
}

/// A completion: one is outstanding of each kind.
#[expect(clippy::disallowed_methods, reason = "bounded by construction: one flush and one opening are outstanding")]
fn post<M>(address: &Addr<MetadataActor>, message: M)
where
    M: actix::Message<Result = ()> + Send + 'static,
    MetadataActor: Handler<M>,
{
    address.do_send(message);
}

impl Handler<Propose> for MetadataActor {
    type Result = ();

    fn handle(&mut self, propose: Propose, ctx: &mut Context<Self>) {
        let started = Instant::now();
        self.propose(propose, ctx);
        self.node().metrics.actor(ActorKind::Metadata).handled(started.elapsed());
    }
}

impl Handler<FlushCompleted> for MetadataActor {
    type Result = ();

    fn handle(&mut self, completed: FlushCompleted, ctx: &mut Context<Self>) {
        self.on_flushed(completed, ctx);
    }
}

impl Handler<Opened> for MetadataActor {
    type Result = ();

    fn handle(&mut self, opened: Opened, ctx: &mut Context<Self>) {
        self.on_opened(opened, ctx);
    }
}

impl Handler<Close> for MetadataActor {
    type Result = ();

    fn handle(&mut self, close: Close, ctx: &mut Context<Self>) {
        if !matches!(self.state, State::Failed) {
            self.closing = Some(close.closed);
            self.close_when_idle(ctx);
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Handler<super::messages::Panic> for MetadataActor {
    type Result = ();

    #[allow(clippy::panic, reason = "a fault that is injected on purpose")]
    fn handle(&mut self, _: super::messages::Panic, _: &mut Context<Self>) {
        panic!("a test asked for this panic");
    }
}
