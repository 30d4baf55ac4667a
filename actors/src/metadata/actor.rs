//! The actor around the metadata group. It lives on an arbiter of its own, and so does openraft, which it starts.
//!
//! It is a thin one: openraft is the engine. The actor owns it, starts it again when the disk had no space, and ends
//! it in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, AsyncContext, Context, Handler};
use pubg1_metrics::ActorKind;
use tokio::task::JoinHandle;

use super::{
    MetadataHandle,
    follow::{follow, resign},
    group::{Access, Group, bring_up},
    messages::{Close, Opened, Propose, Stopped},
    propose,
};
use crate::{
    arbiters::Place,
    errors::MetadataUnavailable,
    fatal::FatalError,
    node::NodeContext,
    raft::store::StoreError,
    supervision::{DeathGuard, Supervised, supervise},
};

/// The pause between attempts to open the log.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Why the group cannot run here.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Not now; it may be tried again.
    Unavailable(String),
    /// Never without an operator.
    Unusable(String),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(reason) => Self::Unusable(reason),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The member that runs, ended when this is dropped, however that comes.
struct Running {
    group: Group,
    _follower: Task,
}

impl Drop for Running {
    fn drop(&mut self) {
        let raft = self.group.raft.clone();
        // Outside of a runtime its tasks have ended already.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move { raft.shutdown().await.unwrap_or_default() }));
        }
    }
}

enum State {
    /// The log is being opened, or the group asked how it stands.
    Opening { _task: Task },
    /// It takes commands.
    Open(Running),
    /// A failed write or a log that cannot be believed: nothing is taken any more.
    Failed,
}

pub(super) struct MetadataActor {
    handle: MetadataHandle,
    state: State,
    // Last: when it is dropped, openraft has been told to end.
    guard: DeathGuard,
}

/// Starts the actor at `place`, under supervision that runs on `control`.
pub(crate) fn start_metadata(handle: &MetadataHandle, place: Place, control: &Place) {
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
        let actor = move |_: &mut Context<MetadataActor>| MetadataActor { handle, state: State::Failed, guard };
        to_start.set_address(Some(place.start(actor)));
    };
    // Stopped by the stop of the control arbiter at the latest.
    control.spawn(supervise(supervised, start, move || dead.forget()));
}

/// However it ends, nothing outside keeps its store open.
impl Drop for MetadataActor {
    fn drop(&mut self) {
        self.handle.set_access(Access::Closed);
    }
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

    /// Brings the group up beside the actor; [`Opened`] comes back.
    fn open(&mut self, ctx: &Context<Self>, pause: Duration) {
        let (handle, address) = (self.handle.clone(), ctx.address());
        let task = actix_rt::spawn(async move {
            let result = bring_up(&handle, pause).await;
            post(&address, Opened { result });
        });
        self.state = State::Opening { _task: Task(task) };
    }

    fn on_opened(&mut self, opened: Opened, ctx: &Context<Self>) {
        match opened.result {
            Ok(group) => {
                let (handle, address) = (self.handle.clone(), ctx.address());
                let followed = group.clone();
                let task = actix_rt::spawn(async move {
                    let reason = follow(&handle, &followed).await;
                    post(&address, Stopped { reason });
                });
                self.handle.set_access(Access::Running(group.clone()));
                self.node().obstacle.send_replace(None);
                self.state = State::Open(Running { group, _follower: Task(task) });
            }
            Err(OpenError::Unavailable(reason)) => self.reopen(&reason, ctx),
            Err(OpenError::Unusable(reason)) => self.fail(FatalError::Metadata { reason }),
        }
    }

    fn reopen(&mut self, reason: &str, ctx: &Context<Self>) {
        tracing::warn!(reason, "the metadata log cannot be opened; it is tried again");
        self.node().obstacle.send_replace(Some(format!("the metadata log cannot be opened: {reason}")));
        self.handle.set_access(Access::Closed);
        self.open(ctx, REOPEN_PAUSE);
    }

    /// openraft has ended. A full disk may get space again; a failed write of any other kind is final; anything else
    /// is a death like any other.
    fn on_stopped(&mut self, stopped: &Stopped, ctx: &mut Context<Self>) {
        let State::Open(running) = &self.state else { return };
        match running.group.store.failure() {
            Some(StoreError::DiskFull) => self.reopen("the disk is full", ctx),
            Some(error) => {
                self.fail(FatalError::Flush { what: "the metadata log".to_owned(), reason: error.to_string() })
            }
            None => {
                tracing::error!(reason = stopped.reason, "the metadata group ended");
                actix::ActorContext::stop(ctx);
            }
        }
    }

    /// Nothing is acknowledged from here on.
    fn fail(&mut self, error: FatalError) {
        self.node().fatal.report(error);
        self.handle.set_access(Access::Closed);
        self.state = State::Failed;
    }

    /// Hands the command to the group. What comes of it needs nothing of the actor any more.
    fn propose(&self, propose: Propose) {
        let Propose { command, reply, permit, in_mailbox } = propose;
        drop(in_mailbox);
        let State::Open(Running { group, .. }) = &self.state else {
            let retry_after_ms = self.node().retry_after_ms();
            let refused = MetadataUnavailable::NotReady { retry_after_ms };
            // Whoever asked may have gone.
            return reply.send(Err(refused.into())).map_err(drop).unwrap_or_default();
        };
        let under_way = propose::UnderWay::begin(&self.handle);
        let (handle, raft) = (self.handle.clone(), group.raft.clone());
        drop(actix_rt::spawn(async move {
            let result = propose::propose(&handle, &raft, command).await;
            drop((permit, under_way));
            reply.send(result).map_err(drop).unwrap_or_default();
        }));
    }

    fn close(&mut self, close: Close, ctx: &mut Context<Self>) {
        let running = std::mem::replace(&mut self.state, State::Failed);
        self.handle.set_access(Access::Closed);
        self.guard.finish();
        if let State::Open(running) = running {
            let handle = self.handle.clone();
            drop(actix_rt::spawn(async move {
                end(&handle, &running.group).await;
                drop(running);
                close.closed.send(()).unwrap_or_default();
            }));
        }
        actix::ActorContext::stop(ctx);
    }
}

/// Ends the member in order. A leader tells the others, so that they need not find out.
async fn end(handle: &MetadataHandle, group: &Group) {
    let metrics = group.raft.metrics().borrow().clone();
    group.raft.shutdown().await.unwrap_or_default();
    if metrics.current_leader == Some(metrics.id) {
        resign(handle, &metrics).await;
    }
    if let Err(error) = group.store.clone().close().await {
        tracing::warn!(%error, "the metadata log was not closed");
    }
}

/// A completion: one is outstanding of each kind.
#[expect(clippy::disallowed_methods, reason = "bounded by construction: one opening and one end are outstanding")]
fn post<M>(address: &Addr<MetadataActor>, message: M)
where
    M: actix::Message<Result = ()> + Send + 'static,
    MetadataActor: Handler<M>,
{
    address.do_send(message);
}

impl Handler<Propose> for MetadataActor {
    type Result = ();

    fn handle(&mut self, propose: Propose, _: &mut Context<Self>) {
        let started = Instant::now();
        self.propose(propose);
        self.node().metrics.actor(ActorKind::Metadata).handled(started.elapsed());
    }
}

impl Handler<Opened> for MetadataActor {
    type Result = ();

    fn handle(&mut self, opened: Opened, ctx: &mut Context<Self>) {
        self.on_opened(opened, ctx);
    }
}

impl Handler<Stopped> for MetadataActor {
    type Result = ();

    fn handle(&mut self, stopped: Stopped, ctx: &mut Context<Self>) {
        self.on_stopped(&stopped, ctx);
    }
}

impl Handler<Close> for MetadataActor {
    type Result = ();

    fn handle(&mut self, close: Close, ctx: &mut Context<Self>) {
        self.close(close, ctx);
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
