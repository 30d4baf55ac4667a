//! The actor that follows the cluster image: which streams there are, and which of their tasks run here.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use actix::{Actor, AsyncContext, Context, Handler};
use pubg1_metrics::{ActorKind, StreamCondition, StreamStateSeries};
use pubg1_model::{
    PartitionId, StreamId, StreamName, TopicId, TopicName,
    cluster::{ClusterImage, PauseReason, StreamImage, StreamState},
    streams::document::StreamDocument,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{
    StreamTasks,
    cell::{StreamPlan, Wanted},
    messages::{ImageChanged, Quiesce, Tick, UpkeepDone},
    upkeep::upkeep,
    watch::{Watched, Watcher, watch_task},
};
use crate::{
    arbiters::{ArbiterHandles, Place},
    rpc::Services,
    supervision::{DeathGuard, Supervised, supervise},
};

/// How often streams as a whole are looked after.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(500);

/// A generation of a stream, and its tasks whose changelog is kept here.
struct Generation {
    plan: Arc<StreamPlan>,
    wanted: watch::Sender<Wanted>,
    tasks: BTreeMap<PartitionId, Watcher>,
}

pub(super) struct StreamsActor {
    services: Arc<Services>,
    tasks: StreamTasks,
    arbiters: ArbiterHandles,
    generations: BTreeMap<(StreamId, u32), Generation>,
    /// The streams whose state is told by this broker.
    states: BTreeMap<StreamName, StreamStateSeries>,
    /// The version of the image that was looked at.
    version: u64,
    timers: Vec<Watcher>,
    upkeep: Option<Watcher>,
    /// Nothing is started any more.
    is_quiet: bool,
    _guard: DeathGuard,
}

/// Starts the actor on the control arbiter, under supervision.
pub(crate) fn start_streams(services: &Arc<Services>, arbiters: &ArbiterHandles) {
    let node = &services.node;
    let supervised = Supervised {
        name: "streams".to_owned(),
        policy: node.config.restart,
        restarts: node.metrics.actor(ActorKind::Streams).restarts.clone(),
        fatal: node.fatal.clone(),
    };
    let (services, to_start, arbiters) = (Arc::clone(services), services.streams.clone(), arbiters.clone());
    let (dead, control): (_, Place) = (to_start.clone(), arbiters.control.clone());
    let place = control.clone();
    let start = move |guard| {
        let (services, tasks, arbiters) = (Arc::clone(&services), to_start.clone(), arbiters.clone());
        let make = move |_: &mut Context<StreamsActor>| StreamsActor {
            services,
            tasks,
            arbiters,
            generations: BTreeMap::new(),
            states: BTreeMap::new(),
            version: 0,
            timers: Vec::new(),
            upkeep: None,
            is_quiet: false,
            _guard: guard,
        };
        to_start.set_address(Some(place.start(make)));
    };
    let died = move || dead.set_address(None);
    // Stopped by the stop of the control arbiter at the latest.
    control.spawn(supervise(supervised, start, died));
}

impl Actor for StreamsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (address, mut images) = (ctx.address(), self.services.metadata.images());
        let follow = async move {
            loop {
                images.borrow_and_update();
                if address.send(ImageChanged).await.is_err() || images.changed().await.is_err() {
                    return;
                }
            }
        };
        let address = ctx.address();
        let ticks = async move {
            let mut ticks = interval(UPKEEP_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if address.send(Tick).await.is_err() {
                    return;
                }
            }
        };
        self.timers = vec![Watcher(actix_rt::spawn(follow)), Watcher(actix_rt::spawn(ticks))];
    }
}

/// What the tasks of a generation shall do; `None`: there shall be none.
const fn wanted_of(state: &StreamState) -> Option<Wanted> {
    match state {
        StreamState::Running => Some(Wanted::Run),
        StreamState::Paused { reason: PauseReason::Asked } | StreamState::Finished => Some(Wanted::Hold),
        // What it holds may be what it was paused for.
        StreamState::Paused { .. } => None,
    }
}

const fn condition_of(state: &StreamState) -> StreamCondition {
    match state {
        StreamState::Running => StreamCondition::Running,
        StreamState::Finished => StreamCondition::Finished,
        StreamState::Paused { reason } => match reason {
            PauseReason::Asked => StreamCondition::Paused,
            PauseReason::Memory { .. } => StreamCondition::Memory,
            PauseReason::Gap { .. } => StreamCondition::Gap,
            PauseReason::Failed { .. } => StreamCondition::Failed,
        },
    }
}

/// What tasks need to know of a generation; `None`: the document is not understood by this broker.
pub(super) fn plan_of(image: &ClusterImage, stream: &StreamImage) -> Option<StreamPlan> {
    let document = StreamDocument::parse(stream.document.as_bytes());
    let document = document.inspect_err(|error| {
        tracing::error!(stream = %stream.name, %error, "the declaration of a stream is not understood");
    });
    let named = |id: TopicId| -> Option<(TopicId, TopicName)> { Some((id, image.topic_by_id(id)?.name.clone())) };
    let counted = |id: TopicId| -> Option<(TopicId, TopicName, u32)> {
        let topic = image.topic_by_id(id)?;
        Some((id, topic.name.clone(), u32::try_from(topic.partitions.len()).ok()?))
    };
    Some(StreamPlan {
        id: stream.id,
        name: stream.name.clone(),
        generation: stream.generation,
        document: document.ok()?,
        inputs: stream.partitions,
        shards: stream.shards,
        input: named(stream.input_topic)?,
        changelog: named(stream.changelog)?,
        partials: match stream.partials {
            Some(partials) => Some(named(partials)?),
            None => None,
        },
        output: counted(stream.output)?,
        late: counted(stream.late)?,
    })
}

impl StreamsActor {
    fn look_at_image(&mut self) {
        let image = self.services.metadata.image();
        if self.is_quiet || image.version == self.version {
            return;
        }
        self.version = image.version;
        self.tell_states(&image);
        let is_wanted = |id: StreamId, generation: u32| {
            let known = image.stream_by_id(id)?.generations().find(|known| known.generation == generation)?;
            wanted_of(&known.state)
        };
        self.generations.retain(|(id, generation), _| is_wanted(*id, *generation).is_some());
        for stream in image.streams.values() {
            for generation in stream.generations() {
                if let Some(wanted) = wanted_of(&generation.state) {
                    self.follow(&image, generation, wanted);
                }
            }
        }
    }

    /// Tells in which state the streams are. One broker does for each, also where no task runs.
    fn tell_states(&mut self, image: &ClusterImage) {
        let me = self.services.node.config.broker_id;
        let is_told_here = |stream: &StreamImage| {
            let first = image.partition_by_id(stream.changelog, PartitionId(0));
            first.is_some_and(|first| first.leader == Some(me))
        };
        self.states.retain(|name, _| image.stream(name).is_some_and(|stream| is_told_here(stream)));
        for stream in image.streams.values().filter(|stream| is_told_here(stream)) {
            let metrics = self.services.node.metrics.streams();
            let new = || metrics.stream(stream.name.as_str());
            let conditions: Vec<_> = stream.generations().map(|known| condition_of(&known.state)).collect();
            self.states.entry(stream.name.clone()).or_insert_with(new).set(&conditions);
        }
    }

    /// Starts and ends what follows the tasks of a generation.
    fn follow(&mut self, image: &ClusterImage, stream: &StreamImage, wanted: Wanted) {
        let me = self.services.node.config.broker_id;
        let Some(changelog) = image.topic_by_id(stream.changelog) else { return };
        let kept = || changelog.numbered_partitions().filter(|(_, placed)| placed.is_kept_by(me));
        let key = (stream.id, stream.generation);
        let generation = match self.generations.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                if kept().next().is_none() {
                    return;
                }
                let Some(plan) = plan_of(image, stream) else { return };
                let (wanted, tasks) = (watch::Sender::new(wanted), BTreeMap::new());
                place.insert(Generation { plan: Arc::new(plan), wanted, tasks })
            }
        };
        generation.wanted.send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
        generation.tasks.retain(|partition, _| kept().any(|(kept, _)| kept == *partition));
        for (partition, _) in kept() {
            generation.tasks.entry(partition).or_insert_with(|| {
                let watched = Watched {
                    services: Arc::clone(&self.services),
                    tasks: self.tasks.clone(),
                    plan: Arc::clone(&generation.plan),
                    partition,
                    wanted: generation.wanted.subscribe(),
                    place: self.arbiters.stream(stream.changelog, partition).clone(),
                    life: self.tasks.life((stream.changelog, partition)),
                };
                Watcher(actix_rt::spawn(watch_task(watched)))
            });
        }
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        if self.is_quiet || self.upkeep.is_some() {
            return;
        }
        let plans = self.generations.values().map(|generation| Arc::clone(&generation.plan)).collect();
        let (services, address) = (Arc::clone(&self.services), ctx.address());
        self.upkeep = Some(Watcher(actix_rt::spawn(async move {
            upkeep(&services, plans).await;
            // The actor is gone otherwise, and this with it.
            address.send(UpkeepDone).await.unwrap_or_default();
        })));
    }

    fn quiesce(&mut self, quiesce: Quiesce) {
        self.is_quiet = true;
        self.upkeep = None;
        self.generations.clear();
        self.states.clear();
        let lives = self.tasks.lives();
        actix_rt::spawn(async move {
            for life in lives {
                drop(life.lock().await);
            }
            quiesce.quiet.send(()).unwrap_or_default();
        });
    }

    fn handled(&self, started: Instant) {
        self.services.node.metrics.actor(ActorKind::Streams).handled(started.elapsed());
    }
}

impl StreamTasks {
    /// What each life of the task of a changelog's partition holds.
    fn life(&self, key: crate::replica_states::PartitionKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut lives = self.0.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|known, life| *known == key || life.strong_count() > 0);
        let known = lives.entry(key).or_default();
        let life = known.upgrade().unwrap_or_default();
        *known = Arc::downgrade(&life);
        life
    }

    fn lives(&self) -> Vec<Arc<tokio::sync::Mutex<()>>> {
        let lives = self.0.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.values().filter_map(std::sync::Weak::upgrade).collect()
    }
}

macro_rules! handlers {
    ($($message:ty => |$this:ident, $value:pat_param, $ctx:pat_param| $work:expr;)+) => {$(
        impl Handler<$message> for StreamsActor {
            type Result = ();

            fn handle(&mut self, message: $message, ctx: &mut Context<Self>) {
                let (started, $this, $value, $ctx) = (Instant::now(), &mut *self, message, &*ctx);
                $work;
                self.handled(started);
            }
        }
    )+};
}

handlers! {
    ImageChanged => |this, ImageChanged, _| this.look_at_image();
    Tick => |this, Tick, ctx| this.tick(ctx);
    UpkeepDone => |this, UpkeepDone, _| this.upkeep = None;
    Quiesce => |this, quiesce, _| this.quiesce(quiesce);
}

#[cfg(any(test, feature = "testing"))]
impl Handler<super::messages::Panic> for StreamsActor {
    type Result = ();

    #[allow(clippy::panic, reason = "a fault that is injected on purpose")]
    fn handle(&mut self, _: super::messages::Panic, _: &mut Context<Self>) {
        panic!("a test asked for this panic");
    }
}
