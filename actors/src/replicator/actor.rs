//! The actor that asks one other broker for what is wanted of it.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use pubg1_metrics::ActorKind;
use pubg1_model::record_batch::ValidBatch;
use pubg1_transport::Payload;

use super::{
    pace::Pace,
    wire::{DamageReport, Outcome, Poll, PollAnswer, SentOutcome, Wish, kind},
    wishes::{NextRequest, Source},
};
use crate::{
    arbiters::Place,
    node::NodeContext,
    partition::{Answered, PullAnswered},
    rpc::RpcError,
    supervision::{DeathGuard, Supervised, supervise},
};

/// How long a leader may wait for something to tell. Shorter than its lease, which rests on these requests.
const WAIT: Duration = Duration::from_millis(150);
/// How much longer an answer may take, and how long nothing of one that arrives may come.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// How long one that arrives may take: a batch may be large, and the link slow.
const ARRIVING_MAX: Duration = Duration::from_secs(120);
/// Requests that may be outstanding: one that waits, and some that bring acknowledgements.
const OUTSTANDING_MAX: usize = 4;
/// The pauses before a new session after one that failed: they double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// There is something to send.
pub(super) struct Wanted;

/// A request has been answered, or not.
struct Polled {
    session: u64,
    number: u64,
    /// Bytes that it allowed for, how long the leader might wait, and how long it took.
    asked: (u64, Duration, Duration),
    result: Result<(PollAnswer, Bytes), RpcError>,
}

impl Message for Wanted {
    type Result = ();
}

impl Message for Polled {
    type Result = ();
}

/// A session as the follower sees it.
struct Session {
    id: u64,
    next: u64,
    heard: Option<u64>,
    outstanding: usize,
}

impl Session {
    fn new() -> Self {
        // It only has to differ from those before it, of this life and of former ones.
        Self { id: RandomState::new().hash_one(0_u8), next: 0, heard: None, outstanding: 0 }
    }
}

/// The actor of one source.
pub(crate) struct ReplicatorActor {
    node: Arc<NodeContext>,
    source: Arc<Source>,
    session: Session,
    pace: Pace,
    pause: Duration,
    is_pausing: bool,
    guard: DeathGuard,
}

/// Starts the replicator of `source` at `place`, under supervision that runs on `control`.
pub(super) fn start_replicator(node: &Arc<NodeContext>, source: &Arc<Source>, place: Place, control: &Place) {
    let supervised = Supervised {
        name: format!("replicator of broker {}", source.broker),
        policy: node.config.restart,
        restarts: node.metrics.actor(ActorKind::Replicator).restarts.clone(),
        fatal: node.fatal.clone(),
    };
    let (dead, to_start, node) = (Arc::clone(source), Arc::clone(source), Arc::clone(node));
    let start = move |guard| {
        let (node, source) = (Arc::clone(&node), Arc::clone(&to_start));
        let make = move |_: &mut Context<ReplicatorActor>| ReplicatorActor {
            node,
            source,
            session: Session::new(),
            pace: Pace::new(),
            pause: PAUSE.0,
            is_pausing: false,
            guard,
        };
        to_start.set_address(Some(place.start(make)));
    };
    let died = move || dead.set_address(None);
    // Stopped by the stop of the control arbiter at the latest.
    control.spawn(supervise(supervised, start, died));
}

impl Actor for ReplicatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.source.begin_session();
        self.pump(ctx);
    }
}

impl ReplicatorActor {
    /// Sends what there is to send, and something in any case if no request is outstanding while anything is followed.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.source.is_over() {
            self.source.set_address(None);
            self.guard.finish();
            return ctx.stop();
        }
        // What is wanted during a pause is sent after it.
        let has_unsent = self.source.has_unsent();
        if self.is_pausing || self.session.outstanding >= OUTSTANDING_MAX {
            return;
        }
        if has_unsent || (self.session.outstanding == 0 && self.source.is_followed()) {
            self.send(ctx);
        }
    }

    fn send(&mut self, ctx: &Context<Self>) {
        let NextRequest { forgotten, wishes } = self.source.take_request();
        let session = &mut self.session;
        // The first is answered at once: a leader holds its lease from the second on.
        let wait = if session.next == 0 { Duration::ZERO } else { WAIT };
        let poll = Poll {
            // Nothing is followed before it is registered.
            registration: self.node.registration.get().copied().unwrap_or_default(),
            session: session.id,
            number: session.next,
            heard: session.heard,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(0),
            max_bytes: self.pace.bytes_max(),
            forgotten,
            wishes,
        };
        session.next += 1;
        session.outstanding += 1;
        let (rpc, broker, address) = (self.node.rpc.clone(), self.source.broker, ctx.address());
        actix_rt::spawn(async move {
            let asked_at = tokio::time::Instant::now();
            let patience = (wait + PATIENCE, PATIENCE, ARRIVING_MAX);
            let result = rpc.call_while_arriving(broker, kind::POLL, &poll, patience).await;
            let asked = (poll.max_bytes, wait, asked_at.elapsed());
            #[expect(clippy::disallowed_methods, reason = "bounded by the requests that may be outstanding")]
            address.do_send(Polled { session: poll.session, number: poll.number, asked, result });
        });
    }

    fn on_polled(&mut self, polled: Polled, ctx: &mut Context<Self>) {
        let Polled { session, number, asked: (asked, wait, took), result } = polled;
        match &result {
            Ok((_, payload)) => self.pace.answered(payload.len(), asked, (wait, took)),
            Err(RpcError::OutcomeUnknown(_)) if took >= wait + PATIENCE => self.pace.timed_out(asked),
            Err(_) => {}
        }
        if session != self.session.id {
            return;
        }
        self.session.outstanding -= 1;
        match result {
            Ok((PollAnswer::Answers(outcomes), payload)) => {
                self.pause = PAUSE.0;
                self.session.heard = self.session.heard.max(Some(number));
                let has_told = !outcomes.is_empty();
                if !self.hand_out(outcomes, &payload) {
                    self.begin_again(ctx, "an answer has less bytes than it says");
                } else if has_told && !self.source.has_unsent() {
                    pump_after_partitions(ctx.address());
                } else {
                    self.pump(ctx);
                }
            }
            Ok((PollAnswer::UnknownSession, _)) => self.begin_again(ctx, "the session is not known"),
            Err(error) => self.begin_again(ctx, &error.to_string()),
        }
    }

    /// Begins a new session after a pause. What the former one had under way is asked for again.
    fn begin_again(&mut self, ctx: &mut Context<Self>, reason: &str) {
        tracing::debug!(source = %self.source.broker, reason, "a fetch session is over");
        self.session = Session::new();
        self.source.begin_session();
        if self.is_pausing {
            return;
        }
        self.is_pausing = true;
        ctx.run_later(self.pause, |actor, ctx| {
            actor.is_pausing = false;
            // What was sent to a session that failed meanwhile is asked for again, too.
            actor.pump(ctx);
        });
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    /// Gives every answer to its partition. `false`: the payload is too short.
    fn hand_out(&self, outcomes: Vec<SentOutcome>, payload: &Bytes) -> bool {
        let mut at = 0_usize;
        for SentOutcome { key, token, outcome, bytes } in outcomes {
            let end = usize::try_from(bytes).ok().and_then(|bytes| at.checked_add(bytes));
            let Some(end) = end.filter(|end| *end <= payload.len()) else { return false };
            let run = payload.slice(at..end);
            at = end;
            let Some((wish, slot)) = self.source.take_answered(key, token) else { continue };
            let answered = match outcome {
                Outcome::Refused(refusal) => Answered::Refused(refusal),
                Outcome::EpochEnd(answer) => Answered::EpochEnd(answer),
                Outcome::Fetched { answer, log_start } => match ValidBatch::split_stored(&run) {
                    Ok(batches) => Answered::Fetched { answer, log_start, batches },
                    Err(error) => {
                        let reason = error.to_string();
                        tracing::warn!(
                            source = %self.source.broker, partition = %slot.identity.topic_partition(), reason,
                            "a leader sent what is no record batch"
                        );
                        if let Wish::Fetch(fetch) = wish {
                            self.report_damage(DamageReport { key, offset: fetch.fetch_offset });
                        }
                        Answered::Corrupt { reason }
                    }
                },
            };
            // One that does not run asks again when it does.
            slot.post(PullAnswered { token, answered }).map_err(drop).unwrap_or_default();
        }
        true
    }

    /// Tells the leader, which then looks at its own log.
    fn report_damage(&self, report: DamageReport) {
        let (rpc, broker) = (self.node.rpc.clone(), self.source.broker);
        actix_rt::spawn(async move {
            let told = rpc.call::<_, ()>(broker, kind::DAMAGE, &report, Payload::empty(), PATIENCE).await;
            if let Err(error) = told {
                tracing::debug!(%broker, %error, "the leader was not told of its damage");
            }
        });
    }
}

/// Lets the partitions of this thread take what was answered first. What they have by then, and want next, goes in one
/// request; one that is sent before says nothing, and its answer, which the next one calls for, nothing either. Who
/// waits for a disk, or runs on another thread, says it later, and is not waited for: the leader's lease rests on
/// requests that come.
fn pump_after_partitions(address: Addr<ReplicatorActor>) {
    actix_rt::spawn(async move {
        tokio::task::yield_now().await;
        #[expect(clippy::disallowed_methods, reason = "one for each answer, of which few are outstanding")]
        address.do_send(Wanted);
    });
}

impl Handler<Wanted> for ReplicatorActor {
    type Result = ();

    fn handle(&mut self, _: Wanted, ctx: &mut Context<Self>) {
        self.pump(ctx);
    }
}

impl Handler<Polled> for ReplicatorActor {
    type Result = ();

    fn handle(&mut self, polled: Polled, ctx: &mut Context<Self>) {
        let started = Instant::now();
        self.on_polled(polled, ctx);
        self.node.metrics.actor(ActorKind::Replicator).handled(started.elapsed());
    }
}
