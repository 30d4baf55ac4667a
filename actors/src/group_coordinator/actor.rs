//! The actor that coordinates the groups whose partition of the offsets topic is led here.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use pubg1_metrics::{ActorKind, GroupPhase};
use pubg1_model::{LeaderEpoch, PartitionId, consumer_group::GroupState};
use tokio::{sync::oneshot, time::MissedTickBehavior};

use super::{
    GroupCoordinatorHandle, OFFSETS_PARTITIONS,
    follow::{Watcher, watch_partition},
    group::{Env, Group, Numbers, Refused},
    lag::{Lags, ReadPosition, SAMPLE_INTERVAL, Sampled},
    messages::{
        Appended, Asked, ImageChanged, LagSampled, List, Listed, Loaded, Lost, Progress, Quiesce, Tick, WatchAssignment,
    },
    offsets_topic,
    outbox::encode,
    sample::sample,
    shard::{Appending, ReadyShard, Shard},
    topics::Topics,
};
use crate::{
    admission::Permit,
    arbiters::Place,
    errors::{AppendError, GroupRequestError},
    node::NodeContext,
    partition::{Acks, AppendRequest},
    supervision::{DeathGuard, Supervised, supervise},
};

/// How often it is looked who was silent for too long.
const TICK_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is looked which offsets are old enough to be forgotten.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

pub(super) struct GroupCoordinatorActor {
    handle: GroupCoordinatorHandle,
    shards: Vec<Shard>,
    topics: Topics,
    /// Set when the coordinator shall say that nothing is under way.
    quiet: Option<oneshot::Sender<()>>,
    /// One task a partition, which loads it whenever it begins to lead, and its number.
    watchers: Vec<(u64, Watcher)>,
    /// The number of the next one.
    next_watcher: u64,
    /// Those that say that time passes, and that the image has changed.
    timers: Vec<Watcher>,
    /// What is being appended. With the actor they end, so that no append begins after it.
    appends: HashMap<(PartitionId, LeaderEpoch), Watcher>,
    /// The lag is being looked at.
    sampling: Option<Watcher>,
    next_sample: tokio::time::Instant,
    /// The last place that was looked at.
    last_sampled: Option<ReadPosition>,
    next_expiry: tokio::time::Instant,
    _guard: DeathGuard,
}

/// Starts the coordinator on `control`, under supervision.
pub(crate) fn start_group_coordinator(handle: &GroupCoordinatorHandle, control: &Place) {
    let node = Arc::clone(&handle.0.node);
    let supervised = Supervised {
        name: "group coordinator".to_owned(),
        policy: node.config.restart,
        restarts: node.metrics.actor(ActorKind::GroupCoordinator).restarts.clone(),
        fatal: node.fatal.clone(),
    };
    let (to_start, dead, place) = (handle.clone(), handle.clone(), control.clone());
    let start = move |guard| {
        let handle = to_start.clone();
        let make = move |_: &mut Context<GroupCoordinatorActor>| GroupCoordinatorActor {
            handle,
            shards: (0..OFFSETS_PARTITIONS).map(|_| Shard::Loading(None)).collect(),
            topics: Topics::default(),
            quiet: None,
            watchers: Vec::new(),
            next_watcher: 0,
            timers: Vec::new(),
            appends: HashMap::new(),
            sampling: None,
            next_sample: tokio::time::Instant::now() + SAMPLE_INTERVAL,
            last_sampled: None,
            next_expiry: tokio::time::Instant::now(),
            _guard: guard,
        };
        to_start.set_address(Some(place.start(make)));
    };
    let died = move || dead.set_address(None);
    // Stopped by the stop of the control arbiter at the latest.
    control.spawn(supervise(supervised, start, died));
}

impl Actor for GroupCoordinatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.topics.follow(self.handle.0.metadata.image());
        for partition in (0..OFFSETS_PARTITIONS).map(PartitionId) {
            let watcher = self.watcher(partition, ctx);
            self.watchers.push(watcher);
        }
        let address = ctx.address();
        let ticks = async move {
            let mut ticks = tokio::time::interval(TICK_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if address.send(Tick).await.is_err() {
                    return;
                }
            }
        };
        let (address, mut images) = (ctx.address(), self.handle.0.metadata.images());
        let images = async move {
            while images.changed().await.is_ok() {
                images.borrow_and_update();
                if address.send(ImageChanged).await.is_err() {
                    return;
                }
            }
        };
        self.timers = vec![Watcher(actix_rt::spawn(ticks)), Watcher(actix_rt::spawn(images))];
    }
}

/// What groups are told now.
fn env<'a>(handle: &'a GroupCoordinatorHandle, topics: &'a Topics, epoch: LeaderEpoch) -> Env<'a> {
    let node = &handle.0.node;
    Env {
        now_ms: node.monotonic_ms(),
        wall_ms: node.config.clock.now_ms(),
        retry_after_ms: node.retry_after_ms(),
        coordinator: node.config.broker_id,
        topics,
        numbers: Numbers { epoch, counter: &handle.0.numbers },
        metrics: node.metrics.groups(),
    }
}

impl GroupCoordinatorActor {
    fn node(&self) -> &Arc<NodeContext> {
        &self.handle.0.node
    }

    fn watcher(&mut self, partition: PartitionId, ctx: &Context<Self>) -> (u64, Watcher) {
        let number = self.next_watcher;
        self.next_watcher += 1;
        let watching = watch_partition(self.handle.clone(), partition, number, ctx.address());
        (number, Watcher(actix_rt::spawn(watching)))
    }

    fn shard(&mut self, partition: PartitionId) -> Option<&mut Shard> {
        usize::try_from(partition.0).ok().and_then(|at| self.shards.get_mut(at))
    }

    fn ready(&mut self, partition: PartitionId) -> Option<&mut ReadyShard> {
        match self.shard(partition) {
            Some(Shard::Ready(ready)) => Some(ready),
            _ => None,
        }
    }

    /// The partition when its groups are known, and what they are told.
    fn ready_with_env(&mut self, partition: PartitionId) -> Option<(&mut ReadyShard, Env<'_>)> {
        let Self { handle, shards, topics, .. } = self;
        match usize::try_from(partition.0).ok().and_then(|at| shards.get_mut(at)) {
            Some(Shard::Ready(ready)) => {
                let env = env(handle, topics, ready.epoch);
                Some((ready, env))
            }
            _ => None,
        }
    }

    /// Does something with every group, and appends what comes of it.
    fn for_each_group(&mut self, ctx: &Context<Self>, mut work: impl FnMut(&mut Group, Env<'_>)) {
        for partition in (0..OFFSETS_PARTITIONS).map(PartitionId) {
            if let Some((ready, env)) = self.ready_with_env(partition) {
                ready.for_each(|group| work(group, env));
                self.append_next(partition, ctx);
            }
        }
    }

    /// Groups hear of topics that have come, gone or grown before they are asked anything else.
    fn look_at_image(&mut self, ctx: &Context<Self>) {
        let image = self.handle.0.metadata.image();
        if let Some(changes) = self.topics.follow(image) {
            self.for_each_group(ctx, |group, env| group.topics_changed(&changes, env));
        }
    }

    /// Why a group of this partition is not served.
    fn not_ready(&mut self, partition: PartitionId, group: pubg1_model::GroupId) -> GroupRequestError {
        let retry_after_ms = self.node().retry_after_ms();
        match self.shard(partition) {
            Some(Shard::Loading(Some(reason))) => AppendError::Offline(Arc::clone(reason)).into(),
            _ => GroupRequestError::Loading { group, retry_after_ms },
        }
    }

    fn asked(&mut self, asked: Asked, ctx: &Context<Self>) {
        let Asked { partition, call, edge, in_vain, client, in_mailbox } = asked;
        drop(in_mailbox);
        if client.reply.is_closed() {
            // Nobody waits any more: a poll that was begun now would not be ended by anybody.
            return;
        }
        self.look_at_image(ctx);
        let Some((ready, env)) = self.ready_with_env(partition) else {
            let error = self.not_ready(partition, call.group);
            return client.answer(Err(Refused::Error(error)));
        };
        ready.handle(call, edge, in_vain, client, env);
        self.append_next(partition, ctx);
    }

    fn watch_assignment(&mut self, watch: WatchAssignment) {
        let WatchAssignment { partition, group, instance, reply, permit } = watch;
        let watched = match self.ready_with_env(partition) {
            Some((ready, env)) => match ready.groups.get_mut(&group) {
                Some(group) => group.watch_assignment(&instance, env),
                None => Err(GroupRequestError::UnknownInstance { group, instance }),
            },
            None => Err(self.not_ready(partition, group)),
        };
        drop(permit);
        reply.send(watched).map_err(drop).unwrap_or_default();
    }

    /// Tells something of each group here.
    fn list<T>(&mut self, reply: oneshot::Sender<Listed<T>>, permit: Permit, of: impl Fn(&Group, Env<'_>) -> T) {
        let mut listed = Listed::default();
        for partition in (0..OFFSETS_PARTITIONS).map(PartitionId) {
            if let Some((ready, env)) = self.ready_with_env(partition) {
                listed.partitions.push(partition);
                listed.groups.extend(ready.groups.values().map(|group| of(group, env)));
            }
        }
        drop(permit);
        reply.send(listed).map_err(drop).unwrap_or_default();
    }

    /// Appends what is queued, unless an append is under way.
    fn append_next(&mut self, partition: PartitionId, ctx: &Context<Self>) {
        let node = Arc::clone(self.node());
        let Some(ready) = self.ready(partition) else { return };
        let Some(appending) = ready.next_append() else { return };
        let (epoch, address) = (ready.epoch, ctx.address());
        self.handle.0.unsettled.begin(partition, epoch);
        let append = async move {
            let result = append(&node, partition, epoch, &appending).await;
            post(&address, Appended { partition, epoch, appending, result });
        };
        self.appends.insert((partition, epoch), Watcher(actix_rt::spawn(append)));
    }

    fn on_appended(&mut self, appended: Appended, ctx: &Context<Self>) {
        let Appended { partition, epoch, appending: Appending { up_to, waiting, .. }, result } = appended;
        self.appends.remove(&(partition, epoch));
        if result.as_ref().err().is_none_or(was_not_appended) {
            self.handle.0.unsettled.settle(partition, epoch);
        }
        waiting.into_iter().for_each(|waiting| waiting.answer(&result));
        match (self.ready(partition).filter(|ready| ready.epoch == epoch), &result) {
            (Some(ready), Ok(())) => {
                ready.committed(up_to);
                self.append_next(partition, ctx);
            }
            // Memory is ahead of the log.
            (Some(_), Err(error)) => {
                tracing::warn!(%partition, %error, "consumer groups were not stored; they are read again");
                self.give_up(Lost { partition, reason: None });
                let watcher = self.watcher(partition, ctx);
                if let Some(place) = usize::try_from(partition.0).ok().and_then(|at| self.watchers.get_mut(at)) {
                    *place = watcher;
                }
            }
            // Another epoch has begun: its load reads what was committed, memory is not touched here.
            (None, _) => {}
        }
        self.say_when_quiet();
    }

    fn give_up(&mut self, lost: Lost) {
        let retry_after_ms = self.node().retry_after_ms();
        let Some(shard) = self.shard(lost.partition) else { return };
        if let Shard::Ready(ready) = std::mem::replace(shard, Shard::Loading(lost.reason)) {
            ready.give_up(retry_after_ms);
        }
    }

    fn on_loaded(&mut self, loaded: Loaded, ctx: &Context<Self>) {
        let Loaded { partition, epoch, watcher, replayed } = loaded;
        // A watcher that was replaced may have read the partition before its last append was settled.
        let current = usize::try_from(partition.0).ok().and_then(|at| self.watchers.get(at));
        if current.is_none_or(|(number, _)| *number != watcher) {
            return;
        }
        // What is there is newer than what was read: it has what was asked and appended since.
        if self.ready(partition).is_some_and(|ready| ready.epoch >= epoch) {
            return;
        }
        self.look_at_image(ctx);
        let Self { handle, topics, .. } = self;
        let env = env(handle, topics, epoch);
        let groups = replayed.0.into_iter().map(|(id, stored)| Group::restore(id, stored, env));
        let ready = ReadyShard::new(epoch, groups);
        if let Some(shard) = self.shard(partition) {
            *shard = Shard::Ready(Box::new(ready));
        }
        self.append_next(partition, ctx);
    }

    fn tick(&mut self, ctx: &Context<Self>) {
        if self.quiet.is_some() {
            return;
        }
        let now = tokio::time::Instant::now();
        let handle = self.handle.clone();
        self.for_each_group(ctx, |group, env| group.tick(|edge| handle.is_gone(edge), env));
        if now >= self.next_expiry {
            let retention_ms = self.node().config.offsets_retention_ms;
            self.next_expiry = now + EXPIRY_INTERVAL.min(Duration::from_millis(retention_ms));
            self.for_each_group(ctx, |group, env| group.expire_offsets(retention_ms, env));
        }
        if now >= self.next_sample && self.sampling.is_none() {
            self.next_sample = now + SAMPLE_INTERVAL;
            self.begin_sample(ctx);
        }
    }

    /// Asks where the partitions end that groups read.
    fn begin_sample(&mut self, ctx: &Context<Self>) {
        let groups = self.shards.iter().filter_map(|shard| match shard {
            Shard::Ready(ready) => Some(ready.groups.values()),
            Shard::Loading(_) => None,
        });
        let wanted = Lags::wanted(groups.flatten(), self.last_sampled.as_ref());
        self.last_sampled = wanted.last().cloned();
        let (address, node, metadata) = (ctx.address(), Arc::clone(self.node()), self.handle.0.metadata.clone());
        let sampling = async move {
            let ends = sample(&node, &metadata, wanted).await;
            post(&address, LagSampled { ends });
        };
        self.sampling = Some(Watcher(actix_rt::spawn(sampling)));
    }

    fn on_sampled(&mut self, sampled: LagSampled) {
        self.sampling = None;
        let ends: HashMap<ReadPosition, Sampled> = sampled.ends.into_iter().collect();
        let (metrics, mut phases) = (self.node().metrics.clone(), [0; GroupPhase::ALL.len()]);
        for partition in (0..OFFSETS_PARTITIONS).map(PartitionId) {
            let Some((ready, env)) = self.ready_with_env(partition) else { continue };
            let ReadyShard { groups, lags, .. } = ready;
            for group in groups.values() {
                lags.note(group, &ends, (env.now_ms, env.wall_ms), metrics.groups());
                let phase = match group.state() {
                    GroupState::Empty => Some(GroupPhase::Empty),
                    GroupState::PreparingRebalance => Some(GroupPhase::PreparingRebalance),
                    GroupState::CompletingRebalance => Some(GroupPhase::CompletingRebalance),
                    GroupState::Stable => Some(GroupPhase::Stable),
                    GroupState::Dead => None,
                };
                for (at, known) in GroupPhase::ALL.iter().enumerate() {
                    phases[at] += usize::from(Some(*known) == phase);
                }
            }
        }
        for (phase, groups) in GroupPhase::ALL.iter().zip(phases) {
            metrics.groups().set_groups(*phase, groups);
        }
    }

    fn say_when_quiet(&mut self) {
        let is_quiet = |shard: &Shard| !matches!(shard, Shard::Ready(ready) if !ready.is_idle());
        if self.shards.iter().all(is_quiet)
            && let Some(quiet) = self.quiet.take()
        {
            quiet.send(()).unwrap_or_default();
        }
    }

    fn handled(&self, started: Instant) {
        self.node().metrics.actor(ActorKind::GroupCoordinator).handled(started.elapsed());
    }
}

/// Whether an append that ended so has left nothing in the log, now or later.
const fn was_not_appended(error: &AppendError) -> bool {
    matches!(
        error,
        AppendError::NotReady { .. }
            | AppendError::NotLeader { .. }
            | AppendError::Offline(_)
            | AppendError::Overloaded { .. }
            | AppendError::RequestTooLarge { .. }
            | AppendError::BatchTooLarge { .. }
            | AppendError::Invalid { .. }
            | AppendError::DiskFull { .. }
            | AppendError::Draining
            | AppendError::Deleted
    )
}

/// Only in the epoch in which the groups were read: the load of a later one may have passed the place where these
/// records would come to lie, and would not know them.
async fn append(
    node: &NodeContext,
    partition: PartitionId,
    epoch: LeaderEpoch,
    appending: &Appending,
) -> Result<(), AppendError> {
    let invalid = |error: pubg1_model::record_batch::BatchError| AppendError::Invalid { reason: error.to_string() };
    let batches = vec![encode(&appending.records, node.config.clock.now_ms()).map_err(invalid)?];
    let Some(slot) = node.table.get(&offsets_topic(), partition) else {
        return Err(AppendError::NotReady { retry_after_ms: node.retry_after_ms() });
    };
    let request = AppendRequest { batches, acks: Acks::All };
    slot.append_internally(request, epoch).await.map(drop)
}

/// A completion.
#[expect(
    clippy::disallowed_methods,
    reason = "bounded by construction: one append and one load a partition, one sample"
)]
pub(super) fn post<M>(address: &Addr<GroupCoordinatorActor>, message: M)
where
    M: Message<Result = ()> + Send + 'static,
    GroupCoordinatorActor: Handler<M>,
{
    address.do_send(message);
}

macro_rules! handlers {
    ($($message:ty => |$this:ident, $value:pat_param, $ctx:pat_param| $work:expr;)+) => {$(
        impl Handler<$message> for GroupCoordinatorActor {
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
    Asked => |this, asked, ctx| this.asked(asked, ctx);
    WatchAssignment => |this, watch, _| this.watch_assignment(watch);
    List => |this, List { reply, permit }, _| this.list(reply, permit, Group::listing);
    Progress => |this, Progress { reply, permit }, _| this.list(reply, permit, |group, _| group.progress());
    ImageChanged => |this, ImageChanged, ctx| this.look_at_image(ctx);
    Tick => |this, Tick, ctx| this.tick(ctx);
    Loaded => |this, loaded, ctx| this.on_loaded(loaded, ctx);
    Appended => |this, appended, ctx| this.on_appended(appended, ctx);
    LagSampled => |this, sampled, _| this.on_sampled(sampled);
    Lost => |this, lost, _| {
        this.give_up(lost);
        this.say_when_quiet();
    };
    Quiesce => |this, Quiesce { quiet }, _| {
        this.quiet = Some(quiet);
        this.say_when_quiet();
    };
}

#[cfg(any(test, feature = "testing"))]
impl Handler<super::messages::Panic> for GroupCoordinatorActor {
    type Result = ();

    #[allow(clippy::panic, reason = "a fault that is injected on purpose")]
    fn handle(&mut self, _: super::messages::Panic, _: &mut Context<Self>) {
        panic!("a test asked for this panic");
    }
}
