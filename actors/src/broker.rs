//! A broker as a whole: started in order, its partitions placed, drained in order.
//!
//! Start: configuration, lock on the data directory, threads, metadata log; then, behind the handle, the
//! broker registers, begins a new epoch for every partition it leads, opens their logs, and makes sure
//! that the topics exist which must. Drain is the same list backwards.

mod cluster_status;
mod drain;
mod operations;
mod placement;
mod readiness;
mod registration;
mod topics;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use actix_rt::System;
use pubg1_metrics::Metrics;
use pubg1_model::{cluster::Incarnation, replication::StorageId};
use pubg1_transport::{Network, TokioNetwork};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::{
    admission::Admission,
    arbiters::{ArbiterHandles, Arbiters},
    config::BrokerConfig,
    controller::{self, ControllerHandle, start_controller},
    data_dir::DataDir,
    errors::StartError,
    fatal::Fatal,
    flusher::{BlockingPool, BlockingThreads},
    forward::Tails,
    group_coordinator::{GroupCoordinatorHandle, start_group_coordinator},
    handles::BrokerHandle,
    metadata::{MetadataHandle, start_metadata},
    node::{NodeContext, Phase},
    page_cache::WrittenPages,
    partition::{Maintain, counting},
    raft::{GroupConfig, LogLimits},
    replica_states::{ReplicaStates, boot_id},
    replicator::{Sessions, Sources},
    rpc::{self, Rpc, Services},
    streams::{StreamTasks, start_streams},
};
use placement::Placement;

pub(crate) use cluster_status::{
    KnownReasons, cluster_status, in_sync, leader_views, replica_batches, replica_statuses, why_no_leader,
};
pub(crate) use drain::{begin_drain, drain};
pub(crate) use operations::{cancel_move, move_leader, move_replicas, rebalance, remove_broker, set_draining};
pub(crate) use readiness::readiness;
pub(crate) use topics::{create_topic, find, lookup};

/// The pause between attempts to do something that the disk refuses at present.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often leaders look whether their followers are still there.
const FOLLOWERS_INTERVAL: Duration = Duration::from_millis(250);

/// What a running broker consists of besides its actors.
pub(crate) struct Running {
    threads: Option<Threads>,
    data_dir: DataDir,
}

/// The threads of a broker. One in a simulation has none.
struct Threads {
    arbiters: Arbiters,
    /// Flushers, workers, cleaner, metadata, states, written pages: in the order in which they end.
    blocking: [BlockingThreads; 6],
}

/// The pools for blocking work.
struct Pools {
    flushers: BlockingPool,
    workers: BlockingPool,
    cleaner: BlockingPool,
    metadata: BlockingPool,
    states: BlockingPool,
    written_pages: BlockingPool,
}

/// What a broker runs on: its threads, or those of whoever simulates it.
struct Ground {
    places: ArbiterHandles,
    pools: Pools,
    threads: Option<Threads>,
    /// The kernel's id of this boot of the machine, if it is known.
    boot_id: Option<String>,
}

impl Ground {
    fn threads(config: &BrokerConfig, fatal: &Fatal) -> Result<Self, StartError> {
        let threads = StartError::Threads;
        let pool = |name, count| BlockingPool::start(name, count, fatal).map_err(threads);
        let (flushers, flusher_threads) = pool("pubg1-flush", config.flusher_threads)?;
        let (workers, worker_threads) =
            BlockingPool::start_keeping_one("pubg1-work", config.worker_threads, fatal).map_err(threads)?;
        let (cleaner, cleaner_thread) = pool("pubg1-clean", 1)?;
        let (metadata, metadata_thread) = pool("pubg1-meta", 1)?;
        let (states, state_thread) = pool("pubg1-state", 1)?;
        let (written_pages, page_thread) = pool("pubg1-pages", 1)?;
        let arbiters = Arbiters::start(config.partition_arbiters, config.streams_threads)
            .ok_or(StartError::NoSystem)?
            .map_err(threads)?;
        Ok(Self {
            places: arbiters.handles(),
            pools: Pools { flushers, workers, cleaner, metadata, states, written_pages },
            threads: Some(Threads {
                arbiters,
                blocking: [flusher_threads, worker_threads, cleaner_thread, metadata_thread, state_thread, page_thread],
            }),
            boot_id: boot_id(),
        })
    }

    #[cfg(any(test, feature = "testing"))]
    fn simulated(boot_id: String, fatal: &Fatal) -> Self {
        let pool = || BlockingPool::simulated(fatal);
        let pools = Pools {
            flushers: pool(),
            workers: pool(),
            cleaner: pool(),
            metadata: pool(),
            states: pool(),
            written_pages: pool(),
        };
        Self { places: ArbiterHandles::here(), pools, threads: None, boot_id: Some(boot_id) }
    }
}

impl Running {
    /// Stops every thread and joins it, then gives the data directory back. Blocks. `in_order`: every log was closed.
    fn finish(self, node: &NodeContext, in_order: bool) {
        let (arbiters, blocking) = self.threads.map(|threads| (threads.arbiters, threads.blocking)).unzip();
        if let Some(arbiters) = arbiters {
            arbiters.finish();
        }
        node.sources.end();
        node.sessions.end();
        node.written_pages.end();
        blocking.into_iter().flatten().for_each(BlockingThreads::finish);
        node.states.close(in_order);
        for slot in node.table.slots() {
            slot.publish_status(crate::partition::PartitionStatus::Closed);
        }
        // The table and the actors no longer hold each other.
        node.table.clear();
        node.enter(Phase::Drained);
        drop(self.data_dir);
    }

    /// Stops everything where it is, on a thread of its own: the caller may be one of those stopped.
    pub(crate) fn stop(self, node: &Arc<NodeContext>, in_order: bool) -> tokio::sync::oneshot::Receiver<()> {
        let (stopped, done) = tokio::sync::oneshot::channel();
        #[cfg(any(test, feature = "testing"))]
        if self.threads.is_none() {
            for pool in [&node.flushers, &node.workers, &node.cleaner, &node.metadata, node.states.writer()] {
                pool.abandon();
            }
            self.finish(node, in_order);
            stopped.send(()).unwrap_or_default();
            return done;
        }
        let node = Arc::clone(node);
        let finish = move || {
            self.finish(&node, in_order);
            stopped.send(()).unwrap_or_default();
        };
        if let Err(error) = std::thread::Builder::new().name("pubg1-stop".to_owned()).spawn(finish) {
            tracing::error!(%error, "the broker's threads could not be joined");
        }
        done
    }
}

/// Starts a broker. See [`crate::Broker::start`].
pub(crate) fn start(config: BrokerConfig, metrics: Metrics) -> Result<BrokerHandle, StartError> {
    config.validate()?;
    System::try_current().ok_or(StartError::NoSystem)?;
    start_on(Ground::threads, config, metrics, TokioNetwork)
}

/// Starts a broker of a simulation. See [`crate::testing::start_simulated`].
#[cfg(any(test, feature = "testing"))]
pub(crate) fn start_simulated(
    config: BrokerConfig,
    metrics: Metrics,
    network: impl Network,
    boot_id: String,
) -> Result<BrokerHandle, StartError> {
    config.validate()?;
    start_on(|_, fatal| Ok(Ground::simulated(boot_id, fatal)), config, metrics, network)
}

fn start_on(
    ground: impl FnOnce(&BrokerConfig, &Fatal) -> Result<Ground, StartError>,
    mut config: BrokerConfig,
    metrics: Metrics,
    network: impl Network,
) -> Result<BrokerHandle, StartError> {
    let cluster_id = config.cluster_id.clone().or_else(|| config.founders_cluster_id());
    let data_dir = DataDir::open(&config.data_dir, config.broker_id, cluster_id.as_deref())?;
    config.data_dir = data_dir.root().to_owned();

    let fatal = Fatal::new();
    let Ground { places: handles, pools, threads, boot_id } = ground(&config, &fatal)?;
    let Pools { flushers, workers, cleaner, metadata, states, written_pages } = pools;
    let written_pages = WrittenPages::new(config.page_cache_bytes, written_pages);
    let states = ReplicaStates::open(data_dir.root(), counting(config.flush), boot_id, states, &fatal)
        .map_err(|error| StartError::ReplicaStates { path: data_dir.root().to_owned(), reason: error.to_string() })?;

    let identity = data_dir.identity();
    let node = Arc::new(NodeContext {
        cluster_id: identity.cluster_id.clone(),
        incarnation: Incarnation::from_bytes(*Uuid::new_v4().as_bytes()),
        storage: StorageId::from_bytes(*identity.storage_id.as_bytes()),
        registration: OnceLock::new(),
        rpc: Rpc::new(config.broker_id, config.founders()),
        clock_origin: tokio::time::Instant::now(),
        admission: Admission::new(config.admission),
        openings: Arc::new(Semaphore::new(config.worker_threads.div_ceil(2))),
        config,
        metrics,
        fatal,
        flushers,
        workers,
        cleaner,
        metadata,
        written_pages,
        states,
        sources: Sources::default(),
        sessions: Sessions::default(),
        tails: Tails::default(),
        phase: watch::Sender::new(Phase::Starting),
        obstacle: watch::Sender::new(None),
        table: Default::default(),
        removals: Arc::default(),
        resigned: watch::Sender::new(0),
        reasons: KnownReasons::default(),
        started_at: Instant::now(),
    });
    let metadata = MetadataHandle::new(Arc::clone(&node), group(&node));
    let groups = GroupCoordinatorHandle::new(Arc::clone(&node), metadata.clone());
    start_metadata(&metadata, handles.metadata.clone(), &handles.control);
    let controller = ControllerHandle::new(Arc::clone(&node), metadata.clone());
    let services = Services {
        node: Arc::clone(&node),
        metadata: metadata.clone(),
        groups: groups.clone(),
        controller: controller.clone(),
        streams: StreamTasks::new(Arc::clone(&node)),
    };
    rpc::start(services.clone(), network, &handles.transport, handles.partitions().to_vec());
    let placement = Placement::new(Arc::clone(&node), metadata.clone(), groups.clone(), handles.clone());
    handles.control.spawn(run(placement, services.clone(), data_dir.partitions()));

    node.sources.start(&node, handles.partitions().to_vec(), handles.control.clone());
    let running = Running { threads, data_dir };
    Ok(BrokerHandle::new(services, running))
}

/// The metadata group that this broker founds or joins.
fn group(node: &NodeContext) -> GroupConfig {
    GroupConfig {
        broker: node.config.broker_id,
        rpc_address: node.config.rpc_advertised.clone(),
        storage: node.storage,
        voters: node.config.founders(),
        transport: Arc::new(node.rpc.clone()),
        limits: LogLimits::default(),
    }
}

/// The life of a broker on its control arbiter: bring up, then follow the cluster image. During a drain nothing comes or
/// goes any more, but who leads is still told: others may need the replicas here until they are closed.
async fn run(mut placement: Placement, services: Services, partitions_dir: std::path::PathBuf) {
    let (node, metadata) = (Arc::clone(&placement.node), placement.metadata.clone());
    let arbiters = placement.arbiters.clone();
    start_controller(&services.controller, arbiters.metadata.clone(), &arbiters.control);
    metadata.opened().await;
    if !registration::register(&node, &metadata).await {
        return;
    }
    actix_rt::spawn(registration::watch_registration(Arc::clone(&node), metadata.clone()));
    actix_rt::spawn(controller::beat(Arc::clone(&node), metadata.clone()));
    placement::remove_leftovers(&node, &metadata, partitions_dir).await;
    node.enter(Phase::Recovering);
    start_group_coordinator(&placement.groups, &placement.arbiters.control);
    start_streams(&Arc::new(services), &placement.arbiters);
    actix_rt::spawn(maintain(Arc::clone(&node)));
    actix_rt::spawn(watch_followers(Arc::clone(&node)));
    // Marked as seen before anything is placed, so that no image is missed.
    let mut images = metadata.images();
    images.borrow_and_update();
    placement.reconcile();
    actix_rt::spawn(topics::complete_start(Arc::clone(&node), metadata));
    loop {
        tokio::select! {
            biased;
            () = node.drained() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
        if node.is_draining() {
            placement.tell();
        } else {
            placement.reconcile();
        }
    }
}

/// Lets leaders look after their followers, for as long as the broker runs: those of a drain are still needed.
async fn watch_followers(node: Arc<NodeContext>) {
    let mut ticks = tokio::time::interval(FOLLOWERS_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for slot in node.table.slots().iter().filter(|slot| slot.has_followers()) {
            slot.tick();
        }
    }
}

/// Looks after retention, compaction and the disk, until the drain.
async fn maintain(node: Arc<NodeContext>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(node.config.retention_check_interval_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = node.draining() => return,
            _ = ticks.tick() => {}
        }
        readiness::measure_disk(&node);
        for slot in node.table.slots() {
            // One that does not run has nothing to look after.
            slot.post(Maintain).map_err(drop).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
