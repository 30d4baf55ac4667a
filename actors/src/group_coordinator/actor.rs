//! The actor that coordinates the groups whose partition of the offsets topic is led here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use actix_rt::task::JoinHandle;
use pubg1_metrics::ActorKind;
use pubg1_model::{LeaderEpoch, Offset, PartitionId, TopicName};
use tokio::sync::oneshot;

use super::{
    GroupCoordinatorHandle, OFFSETS_PARTITIONS,
    messages::{Commit, CommitsAppended, Fetch, ForgetTopic, Loaded, Lost, Quiesce},
    offsets::GroupOffsets,
    offsets_topic,
    shard::{Client, PendingCommit, ReadyShard, Shard, encode},
};
use crate::{
    arbiters::Place,
    errors::{AppendError, CommitOffsetError, CommittedOffsetError, FetchError},
    node::NodeContext,
    partition::{Acks, AppendRequest, PartitionSlot, PartitionStatus},
    supervision::{DeathGuard, Supervised, supervise},
};

/// How much is read at a time when a partition is replayed.
const REPLAY_READ_BYTES: usize = 1024 * 1024;
/// The pause before a partition that could not be read is read again.
const LOAD_RETRY_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct GroupCoordinatorActor {
    handle: GroupCoordinatorHandle,
    shards: Vec<Shard>,
    /// Set when the coordinator shall say that nothing is under way.
    quiet: Option<oneshot::Sender<()>>,
    /// One task a partition, which loads it whenever it begins to lead.
    watchers: Vec<Watcher>,
    _guard: DeathGuard,
}

/// A task that ends with the actor.
struct Watcher(JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
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
            quiet: None,
            watchers: Vec::new(),
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
        for partition in (0..OFFSETS_PARTITIONS).map(PartitionId) {
            let (node, address) = (Arc::clone(&self.handle.0.node), ctx.address());
            self.watchers.push(Watcher(actix_rt::spawn(watch_partition(node, partition, address))));
        }
    }
}

/// Follows the replica of a partition on this broker, for as long as there is one, and the next one after it.
async fn watch_partition(node: Arc<NodeContext>, partition: PartitionId, address: Addr<GroupCoordinatorActor>) {
    let topic = offsets_topic();
    loop {
        let slot = node.table.placed(&topic, partition).await;
        tokio::select! {
            () = follow(&node, &slot, &address) => return,
            () = node.table.replaced(&slot) => post(&address, Lost { partition, reason: None }),
        }
    }
}

/// Loads the partition each time that the replica here begins to lead, and says when it no longer does.
async fn follow(node: &NodeContext, slot: &Arc<PartitionSlot>, address: &Addr<GroupCoordinatorActor>) {
    let partition = slot.identity.partition;
    let mut views = slot.published.subscribe();
    loop {
        let leads = views.wait_for(|published| published.view.status == PartitionStatus::Leader);
        let Ok(epoch) = leads.await.map(|published| published.view.leader_epoch) else { return };
        let goes_on = |status: &PartitionStatus, now: LeaderEpoch| *status == PartitionStatus::Leader && now == epoch;
        loop {
            let to_load = Arc::clone(slot);
            match node.workers.run(move || load(&to_load)).await {
                Some(Ok(offsets)) => {
                    post(address, Loaded { partition, epoch, offsets });
                    break;
                }
                Some(Err(error)) => tracing::warn!(%partition, %error, "committed offsets cannot be read"),
                None => return,
            }
            // It has stopped leading, which `Lost` says below; or it may be asked again soon.
            let ended = views.wait_for(|published| !goes_on(&published.view.status, published.view.leader_epoch));
            if tokio::time::timeout(LOAD_RETRY_PAUSE, ended).await.is_ok() {
                break;
            }
        }
        let ended = views.wait_for(|published| !goes_on(&published.view.status, published.view.leader_epoch));
        let Ok(reason) = ended.await.map(|published| match &published.view.status {
            PartitionStatus::Offline(reason) => Some(Arc::clone(reason)),
            _ => None,
        }) else {
            return;
        };
        post(address, Lost { partition, reason });
    }
}

/// Reads a partition to its high watermark. Blocks.
fn load(slot: &PartitionSlot) -> Result<GroupOffsets, FetchError> {
    let mut offsets = GroupOffsets::default();
    let mut next: Offset = slot.leader_view()?.log_start_offset;
    loop {
        let fetched = slot.read_internally(next, REPLAY_READ_BYTES)?;
        if fetched.is_empty() || fetched.next_offset <= next {
            return Ok(offsets);
        }
        for run in &fetched.runs {
            offsets.replay(run).map_err(|error| FetchError::Storage { reason: error.to_string() })?;
        }
        next = fetched.next_offset;
    }
}

impl GroupCoordinatorActor {
    fn node(&self) -> &Arc<NodeContext> {
        &self.handle.0.node
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

    fn commit(&mut self, commit: Commit, ctx: &Context<Self>) {
        let Commit { partition, key, value, encoded_key, encoded_value, reply, permit, in_mailbox } = commit;
        drop(in_mailbox);
        let retry_after_ms = self.node().retry_after_ms();
        let client = Some(Client { reply, permit });
        let Some(ready) = self.ready(partition) else {
            PendingCommit::answer(client, Err(CommitOffsetError::Loading { group: key.group, retry_after_ms }));
            return;
        };
        let (value, encoded_value) = (Some(value), Some(encoded_value));
        ready.queued.push(PendingCommit { key, value, encoded_key, encoded_value, client });
        self.append_next(partition, ctx);
    }

    /// Appends what is queued, unless an append is under way.
    fn append_next(&mut self, partition: PartitionId, ctx: &Context<Self>) {
        let node = Arc::clone(self.node());
        let Some(ready) = self.ready(partition) else { return };
        let commits = ready.next_commits();
        if commits.is_empty() {
            return;
        }
        let (epoch, address) = (ready.epoch, ctx.address());
        actix_rt::spawn(async move {
            let result = append(&node, partition, epoch, &commits).await;
            post(&address, CommitsAppended { partition, epoch, commits, result });
        });
    }

    fn on_appended(&mut self, appended: CommitsAppended, ctx: &Context<Self>) {
        let CommitsAppended { partition, epoch, commits, result } = appended;
        match self.ready(partition).filter(|ready| ready.epoch == epoch) {
            Some(ready) => {
                ready.complete(commits, &result);
                self.append_next(partition, ctx);
            }
            // Another epoch has begun: its load reads what was committed, memory is not touched here.
            None => {
                for PendingCommit { client, .. } in commits {
                    PendingCommit::answer(client, result.clone().map_err(CommitOffsetError::from));
                }
            }
        }
        self.say_when_quiet();
    }

    fn on_lost(&mut self, lost: Lost) {
        let retry_after_ms = self.node().retry_after_ms();
        let Some(shard) = self.shard(lost.partition) else { return };
        if let Shard::Ready(ready) = std::mem::replace(shard, Shard::Loading(lost.reason)) {
            for PendingCommit { key, client, .. } in ready.queued {
                PendingCommit::answer(client, Err(CommitOffsetError::Loading { group: key.group, retry_after_ms }));
            }
        }
        self.say_when_quiet();
    }

    fn fetch(&mut self, fetch: Fetch) {
        let Fetch { partition, group, only, reply, permit, in_mailbox } = fetch;
        drop(in_mailbox);
        let retry_after_ms = self.node().retry_after_ms();
        let answer = match self.shard(partition) {
            Some(Shard::Ready(ready)) => Ok(ready.offsets.of_group(&group, only.as_ref())),
            Some(Shard::Loading(Some(reason))) => {
                Err(CommittedOffsetError::Offline { reason: Arc::clone(reason), group })
            }
            Some(Shard::Loading(None)) | None => Err(CommittedOffsetError::Loading { group, retry_after_ms }),
        };
        drop(permit);
        reply.send(answer).map_err(drop).unwrap_or_default();
    }

    fn forget_topic(&mut self, forget: &ForgetTopic, ctx: &Context<Self>) {
        // One that is loading forgets it when it is loaded.
        for partition in (0..OFFSETS_PARTITIONS).map(PartitionId) {
            self.forget(partition, |topic| *topic == forget.topic, ctx);
        }
    }

    /// Removes what groups have committed in some topics from a partition that is loaded.
    fn forget(&mut self, partition: PartitionId, is_gone: impl Fn(&TopicName) -> bool, ctx: &Context<Self>) {
        let Some(ready) = self.ready(partition) else { return };
        for key in ready.offsets.keys_of_topics(is_gone) {
            // It was encoded when it was committed.
            let Ok(encoded_key) = key.encode() else { continue };
            ready.queued.push(PendingCommit { key, value: None, encoded_key, encoded_value: None, client: None });
        }
        self.append_next(partition, ctx);
    }

    fn on_loaded(&mut self, loaded: Loaded, ctx: &Context<Self>) {
        let Loaded { partition, epoch, offsets } = loaded;
        let Some(shard) = self.shard(partition) else { return };
        *shard = Shard::Ready(ReadyShard::new(epoch, offsets));
        // Of a topic that was deleted while nobody could remove its offsets, or just before a crash. Only of
        // topics that exist are offsets taken, and the image was read before anything was loaded.
        let image = self.handle.0.metadata.image();
        self.forget(partition, |topic| image.topic(topic).is_none(), ctx);
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

/// Only in the epoch in which the offsets were read: the load of a later one may have passed the place where
/// these commits would come to lie, and would not know them.
async fn append(
    node: &NodeContext,
    partition: PartitionId,
    epoch: LeaderEpoch,
    commits: &[PendingCommit],
) -> Result<(), AppendError> {
    let invalid = |error: pubg1_model::record_batch::BatchError| AppendError::Invalid { reason: error.to_string() };
    let batches = vec![encode(commits, node.config.clock.now_ms()).map_err(invalid)?];
    let Some(slot) = node.table.get(&offsets_topic(), partition) else {
        return Err(AppendError::NotReady { retry_after_ms: node.retry_after_ms() });
    };
    let request = AppendRequest { batches, acks: Acks::All };
    slot.append_internally(request, epoch).await.map(drop)
}

/// A completion.
#[expect(clippy::disallowed_methods, reason = "bounded by construction: one append and one load a partition")]
fn post<M>(address: &Addr<GroupCoordinatorActor>, message: M)
where
    M: Message<Result = ()> + Send + 'static,
    GroupCoordinatorActor: Handler<M>,
{
    address.do_send(message);
}

impl Handler<Commit> for GroupCoordinatorActor {
    type Result = ();

    fn handle(&mut self, commit: Commit, ctx: &mut Context<Self>) {
        let started = Instant::now();
        self.commit(commit, ctx);
        self.handled(started);
    }
}

impl Handler<Fetch> for GroupCoordinatorActor {
    type Result = ();

    fn handle(&mut self, fetch: Fetch, _: &mut Context<Self>) {
        let started = Instant::now();
        self.fetch(fetch);
        self.handled(started);
    }
}

impl Handler<CommitsAppended> for GroupCoordinatorActor {
    type Result = ();

    fn handle(&mut self, appended: CommitsAppended, ctx: &mut Context<Self>) {
        self.on_appended(appended, ctx);
    }
}

impl Handler<Loaded> for GroupCoordinatorActor {
    type Result = ();

    fn handle(&mut self, loaded: Loaded, ctx: &mut Context<Self>) {
        self.on_loaded(loaded, ctx);
    }
}

impl Handler<Lost> for GroupCoordinatorActor {
    type Result = ();

    fn handle(&mut self, lost: Lost, _: &mut Context<Self>) {
        self.on_lost(lost);
    }
}

impl Handler<ForgetTopic> for GroupCoordinatorActor {
    type Result = ();

    fn handle(&mut self, forget: ForgetTopic, ctx: &mut Context<Self>) {
        self.forget_topic(&forget, ctx);
    }
}

impl Handler<Quiesce> for GroupCoordinatorActor {
    type Result = ();

    fn handle(&mut self, quiesce: Quiesce, _: &mut Context<Self>) {
        self.quiet = Some(quiesce.quiet);
        self.say_when_quiet();
    }
}

#[cfg(any(test, feature = "testing"))]
impl Handler<super::messages::Panic> for GroupCoordinatorActor {
    type Result = ();

    #[allow(clippy::panic, reason = "a fault that is injected on purpose")]
    fn handle(&mut self, _: super::messages::Panic, _: &mut Context<Self>) {
        panic!("a test asked for this panic");
    }
}
