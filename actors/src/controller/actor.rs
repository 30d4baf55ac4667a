//! The actor around the controller's rules. It lives on the metadata arbiter.

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler, SpawnHandle};
use pubg1_metrics::ActorKind;
use pubg1_model::{
    BrokerId,
    controller::{Action, Controller, ControllerConfig},
};

use super::{
    ControllerHandle, carry_out,
    failovers::Failovers,
    messages::{
        BrokerGone, ClusterStatus, FenceAnswered, HeartbeatReceived, ImagePublished, LeaderNamed, LeadershipChanged,
        OfflinePartition, Proposed, StatusAsked, TransferAnswered, Wake,
    },
    peers,
};
use crate::{
    arbiters::Place,
    node::NodeContext,
    supervision::{DeathGuard, Supervised, supervise},
};

/// The pause before the actor is told again what it was not told.
const AGAIN: Duration = Duration::from_millis(10);

/// The controller while this broker is it.
struct Active {
    term: u64,
    controller: Controller,
    failovers: Failovers,
}

pub(super) struct ControllerActor {
    handle: ControllerHandle,
    active: Option<Active>,
    wake: Option<SpawnHandle>,
    /// The version of the image and the living brokers that the metrics tell of.
    counted: (u64, Vec<BrokerId>),
    _guard: DeathGuard,
}

/// Starts the actor at `place`, under supervision that runs on `control`, and what feeds it.
pub(crate) fn start_controller(handle: &ControllerHandle, place: Place, control: &Place) {
    let node = &handle.0.node;
    let supervised = Supervised {
        name: "controller".to_owned(),
        policy: node.config.restart,
        restarts: node.metrics.actor(ActorKind::Controller).restarts.clone(),
        fatal: node.fatal.clone(),
    };
    let (to_start, dead) = (handle.clone(), handle.clone());
    let start = move |guard| {
        let handle = to_start.clone();
        let actor = move |_: &mut Context<ControllerActor>| ControllerActor {
            handle,
            active: None,
            wake: None,
            counted: (0, Vec::new()),
            _guard: guard,
        };
        to_start.set_address(Some(place.start(actor)));
    };
    let died = move || dead.set_address(None);
    // Stopped by the stop of the control arbiter at the latest.
    control.spawn(supervise(supervised, start, died));
}

impl Actor for ControllerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(actix::fut::wrap_future(follow_metadata(self.handle.clone())));
        ctx.spawn(actix::fut::wrap_future(peers::watch_peers(self.handle.clone())));
    }
}

/// Tells the actor who leads the metadata group and what the image is, as both change.
async fn follow_metadata(handle: ControllerHandle) {
    let (mut leaders, mut images) = (handle.0.metadata.controller(), handle.0.metadata.images());
    let me = handle.0.node.config.broker_id;
    loop {
        let term = leaders.borrow_and_update().as_ref().filter(|lead| lead.broker == me).map(|lead| lead.term);
        let image = Arc::clone(&images.borrow_and_update());
        let told = handle.post(LeadershipChanged { term }) && handle.post(ImagePublished(image));
        let changed = tokio::select! {
            changed = leaders.changed() => changed,
            changed = images.changed() => changed,
            // An actor that has just been started may run before its address is known.
            () = tokio::time::sleep(AGAIN), if !told => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}

impl ControllerActor {
    fn node(&self) -> &Arc<NodeContext> {
        &self.handle.0.node
    }

    fn now_ms(&self) -> u64 {
        self.node().monotonic_ms()
    }

    /// The rules, when the controller of `term` is still the one there is.
    fn of_term(&mut self, term: u64) -> Option<&mut Controller> {
        self.active.as_mut().filter(|active| active.term == term).map(|active| &mut active.controller)
    }

    /// Carries out what there is to do now, and looks again when the rules say so.
    fn drive(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        self.count(now_ms);
        let Some(active) = &mut self.active else { return };
        let actions = active.controller.poll(now_ms);
        let next_wake_ms = active.controller.next_wake_ms(now_ms);
        let term = active.term;
        for action in actions {
            if let Action::Propose(command) = &action {
                active.failovers.on_proposal(command, now_ms);
            }
            carry_out::start(&self.handle, term, action);
        }
        let pause = Duration::from_millis(next_wake_ms.saturating_sub(now_ms).max(1));
        self.wake = Some(ctx.run_later(pause, |actor, ctx| actor.drive(ctx)));
    }

    /// Puts what the controller sees into the metrics. Partitions are gone through only after something has changed.
    fn count(&mut self, now_ms: u64) {
        let image = self.handle.0.metadata.image();
        let alive: Vec<BrokerId> = self.active.as_ref().map_or_else(Vec::new, |active| {
            image.brokers.keys().copied().filter(|broker| active.controller.alive(*broker, now_ms)).collect()
        });
        let seen = (image.version, alive);
        if seen == self.counted {
            return;
        }
        let (_, alive) = &seen;
        let is_led = |leader: Option<BrokerId>| leader.is_some_and(|leader| alive.contains(&leader));
        let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
        let leaderless = partitions.filter(|placed| self.active.is_some() && !is_led(placed.leader)).count();
        let metrics = self.node().metrics.replication();
        metrics.alive_brokers.set(i64::try_from(alive.len()).unwrap_or(i64::MAX));
        metrics.set_leaderless(leaderless);
        self.counted = seen;
    }

    fn status(&self) -> Option<ClusterStatus> {
        let Active { controller, .. } = self.active.as_ref()?;
        let (image, now_ms) = (self.handle.0.metadata.image(), self.now_ms());
        let mut status = ClusterStatus {
            controller: self.node().config.broker_id,
            alive: image.brokers.keys().copied().filter(|broker| controller.alive(*broker, now_ms)).collect(),
            offline: Vec::new(),
            under_replicated: 0,
        };
        for topic in image.topics.values() {
            for (partition, placed) in topic.numbered_partitions() {
                if placed.leader.is_none_or(|leader| !controller.alive(leader, now_ms)) {
                    let reason = controller.offline_reason(topic.id, partition);
                    let reason = reason.unwrap_or_else(|| "an election is under way".to_owned());
                    status.offline.push(OfflinePartition { topic: topic.name.clone(), partition, reason });
                }
                let in_sync = controller.in_sync(topic.id, partition);
                let lives =
                    |broker| controller.alive(broker, now_ms) && in_sync.is_some_and(|all| all.contains(&broker));
                status.under_replicated += u64::from(!placed.replicas.iter().all(|broker| lives(*broker)));
            }
        }
        Some(status)
    }
}

impl Handler<LeadershipChanged> for ControllerActor {
    type Result = ();

    fn handle(&mut self, LeadershipChanged { term }: LeadershipChanged, ctx: &mut Context<Self>) {
        if self.active.as_ref().map(|active| active.term) == term {
            return;
        }
        let (node, now_ms) = (self.node(), self.now_ms());
        let config = ControllerConfig { session_timeout_ms: node.config.session_timeout_ms, ..Default::default() };
        let me = node.config.broker_id;
        self.active = term.map(|term| {
            tracing::info!(term, "this broker is the controller");
            Active { term, controller: Controller::new(config, me, now_ms), failovers: Failovers::default() }
        });
        self.node().metrics.replication().controller.set(i64::from(self.active.is_some()));
        let image = self.handle.0.metadata.image();
        if let Some(active) = &mut self.active {
            active.controller.on_image(image, now_ms);
        }
        peers::tell_what_is_known(&self.handle);
        self.drive(ctx);
    }
}

impl Handler<ImagePublished> for ControllerActor {
    type Result = ();

    fn handle(&mut self, ImagePublished(image): ImagePublished, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let node = Arc::clone(self.node());
        if let Some(active) = &mut self.active {
            for waited in active.failovers.on_image(&image, now_ms) {
                node.metrics.replication().observe_failover(waited);
            }
            active.controller.on_image(image, now_ms);
            self.drive(ctx);
        }
    }
}

impl Handler<HeartbeatReceived> for ControllerActor {
    type Result = ();

    fn handle(&mut self, HeartbeatReceived { heartbeat, reply }: HeartbeatReceived, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        // It reaches this broker, so this one reaches it, too, as soon as it tries.
        self.node().rpc.wake(heartbeat.broker);
        let answer = self.active.as_mut().map(|active| active.controller.on_heartbeat(&heartbeat, now_ms));
        // Whoever asked may have gone.
        reply.send(answer).map_err(drop).unwrap_or_default();
        self.drive(ctx);
    }
}

impl Handler<BrokerGone> for ControllerActor {
    type Result = ();

    fn handle(&mut self, gone: BrokerGone, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        if let Some(active) = &mut self.active {
            active.controller.on_gone(gone.broker, Some(gone.incarnation), now_ms);
            self.drive(ctx);
        }
    }
}

impl Handler<FenceAnswered> for ControllerActor {
    type Result = ();

    fn handle(&mut self, fenced: FenceAnswered, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        if let Some(controller) = self.of_term(fenced.term) {
            controller.on_fence_answers(fenced.broker, fenced.answers, now_ms);
            self.drive(ctx);
        }
    }
}

impl Handler<TransferAnswered> for ControllerActor {
    type Result = ();

    fn handle(&mut self, transferred: TransferAnswered, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        if let Some(controller) = self.of_term(transferred.term) {
            for ready in &transferred.ready {
                controller.on_transfer_ready(ready, now_ms);
            }
            self.drive(ctx);
        }
    }
}

impl Handler<Proposed> for ControllerActor {
    type Result = ();

    fn handle(&mut self, proposed: Proposed, ctx: &mut Context<Self>) {
        let (now_ms, image) = (self.now_ms(), self.handle.0.metadata.image());
        if let Some(controller) = self.of_term(proposed.term) {
            // The image that the proposal led to was published before its answer.
            controller.on_image(image, now_ms);
            controller.on_proposed(proposed.applied, now_ms);
            self.drive(ctx);
        }
    }
}

impl Handler<Wake> for ControllerActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.drive(ctx);
    }
}

impl Handler<StatusAsked> for ControllerActor {
    type Result = ();

    fn handle(&mut self, asked: StatusAsked, _: &mut Context<Self>) {
        asked.reply.send(self.status()).map_err(drop).unwrap_or_default();
    }
}

impl Handler<LeaderNamed> for ControllerActor {
    type Result = ();

    fn handle(&mut self, LeaderNamed { request, reply }: LeaderNamed, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let answer = self
            .active
            .as_mut()
            .map(|active| active.controller.request_leader(request.topic_id, request.partition, request.to, now_ms));
        reply.send(answer).map_err(drop).unwrap_or_default();
        self.drive(ctx);
    }
}
