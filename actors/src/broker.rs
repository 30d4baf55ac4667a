//! A broker as a whole: started in order, its partitions placed, drained in order.
//!
//! Start: configuration, lock on the data directory, threads, metadata log; then, behind the handle, the
//! broker registers, begins a new epoch for every partition it leads, opens their logs, and makes sure
//! that the topics exist which must. Drain is the same list backwards.

mod drain;
mod placement;
mod readiness;
mod topics;

use std::{sync::Arc, time::Duration, time::Instant};

use actix_rt::System;
use pubg1_metrics::Metrics;
use pubg1_model::cluster::{Incarnation, MetadataCommand};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    admission::Admission,
    arbiters::Arbiters,
    config::BrokerConfig,
    data_dir::DataDir,
    errors::StartError,
    fatal::{Fatal, FatalError},
    flusher::{BlockingPool, BlockingThreads},
    group_coordinator::{GroupCoordinatorHandle, start_group_coordinator},
    handles::BrokerHandle,
    metadata::{MetadataHandle, ProposeError, start_metadata},
    node::{NodeContext, Phase},
    partition::Maintain,
};
use placement::Placement;

pub(crate) use drain::{begin_drain, drain};
pub(crate) use readiness::readiness;
pub(crate) use topics::{create_topic, lookup};

/// The pause between attempts to do something that the disk refuses at present.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What a running broker consists of besides its actors.
pub(crate) struct Running {
    arbiters: Arbiters,
    /// Flushers, workers, cleaner: in the order in which they end.
    threads: [BlockingThreads; 3],
    data_dir: DataDir,
}

impl Running {
    /// Stops every thread and joins it, then gives the data directory back. Blocks.
    fn finish(self, node: &NodeContext) {
        self.arbiters.finish();
        self.threads.into_iter().for_each(BlockingThreads::finish);
        for slot in node.table.snapshot().values().flat_map(|slots| slots.iter()) {
            slot.publish_status(crate::partition::PartitionStatus::Closed);
        }
        // The table and the actors no longer hold each other.
        node.table.clear();
        node.enter(Phase::Drained);
        drop(self.data_dir);
    }

    /// Stops everything where it is, on a thread of its own: the caller may be one of those stopped.
    pub(crate) fn stop(self, node: &Arc<NodeContext>) -> tokio::sync::oneshot::Receiver<()> {
        let (stopped, done) = tokio::sync::oneshot::channel();
        let node = Arc::clone(node);
        let finish = move || {
            self.finish(&node);
            stopped.send(()).unwrap_or_default();
        };
        if let Err(error) = std::thread::Builder::new().name("pubg1-stop".to_owned()).spawn(finish) {
            tracing::error!(%error, "the broker's threads could not be joined");
        }
        done
    }
}

/// Starts a broker. See [`crate::Broker::start`].
pub(crate) fn start(mut config: BrokerConfig, metrics: Metrics) -> Result<BrokerHandle, StartError> {
    config.validate()?;
    System::try_current().ok_or(StartError::NoSystem)?;
    let data_dir = DataDir::open(&config.data_dir, config.broker_id, config.cluster_id.as_deref())?;
    config.data_dir = data_dir.root().to_owned();

    let fatal = Fatal::new();
    let threads = StartError::Threads;
    let pool = |name, count| BlockingPool::start(name, count, &fatal).map_err(threads);
    let (flushers, flusher_threads) = pool("pubg1-flush", config.flusher_threads)?;
    let (workers, worker_threads) = pool("pubg1-work", config.worker_threads)?;
    let (cleaner, cleaner_thread) = pool("pubg1-clean", 1)?;
    let arbiters = Arbiters::start(config.partition_arbiters).ok_or(StartError::NoSystem)?.map_err(threads)?;
    let handles = arbiters.handles();

    let node = Arc::new(NodeContext {
        admission: Admission::new(config.admission),
        config,
        metrics,
        fatal,
        flushers,
        workers,
        cleaner,
        phase: watch::Sender::new(Phase::Starting),
        obstacle: watch::Sender::new(None),
        table: Default::default(),
        removals: Arc::default(),
        started_at: Instant::now(),
    });
    let metadata = MetadataHandle::new(Arc::clone(&node));
    let groups = GroupCoordinatorHandle::new(Arc::clone(&node), metadata.clone());
    start_metadata(&metadata, handles.metadata.clone(), &handles.control);
    let placement = Placement::new(Arc::clone(&node), metadata.clone(), groups.clone(), handles.clone());
    let cluster_id = data_dir.identity().cluster_id.clone();
    handles.control.spawn(run(placement, cluster_id, data_dir.partitions()));

    let threads = [flusher_threads, worker_threads, cleaner_thread];
    let running = Running { arbiters, threads, data_dir };
    Ok(BrokerHandle::new(node, metadata, groups, running))
}

/// The life of a broker on its control arbiter: bring up, then follow the cluster image until the drain.
async fn run(mut placement: Placement, cluster_id: String, partitions_dir: std::path::PathBuf) {
    let (node, metadata) = (Arc::clone(&placement.node), placement.metadata.clone());
    metadata.opened().await;
    if !register(&node, &metadata, &cluster_id).await {
        return;
    }
    placement::remove_leftovers(&node, &metadata, partitions_dir);
    node.enter(Phase::Recovering);
    start_group_coordinator(&placement.groups, &placement.arbiters.control);
    actix_rt::spawn(maintain(Arc::clone(&node)));
    // Marked as seen before anything is placed, so that no image is missed.
    let mut images = metadata.images();
    images.borrow_and_update();
    placement.reconcile().await;
    actix_rt::spawn(topics::complete_start(Arc::clone(&node), metadata));
    loop {
        tokio::select! {
            biased;
            () = node.draining() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
        placement.reconcile().await;
    }
}

/// Gives the cluster its identity when it has none, and says who and where this broker is. `false`: the
/// broker cannot go on.
async fn register(node: &Arc<NodeContext>, metadata: &MetadataHandle, cluster_id: &str) -> bool {
    if !metadata.image().is_formatted() {
        let format = || MetadataCommand::FormatCluster { cluster_id: cluster_id.to_owned() };
        if !propose_until_done(node, metadata, format).await {
            return false;
        }
    }
    let image = metadata.image();
    if image.cluster_id != cluster_id {
        let reason = format!("it belongs to cluster {}, the data directory to {cluster_id}", image.cluster_id);
        node.fatal.report(FatalError::Metadata { reason });
        return false;
    }
    let broker = node.config.broker_id;
    let incarnation = Incarnation::from_bytes(*Uuid::new_v4().as_bytes());
    let register = || MetadataCommand::RegisterBroker {
        broker,
        http_url: node.config.advertised_http.clone(),
        incarnation,
        replaces: metadata.image().brokers.get(&broker).map(|known| known.incarnation),
    };
    propose_until_done(node, metadata, register).await
}

/// Proposes a command again and again until it is stored; says meanwhile what is in the way. `false`: it is
/// refused, or the broker drains.
async fn propose_until_done(
    node: &Arc<NodeContext>,
    metadata: &MetadataHandle,
    command: impl Fn() -> MetadataCommand,
) -> bool {
    loop {
        match metadata.propose(command()).await {
            Ok(_) => {
                node.obstacle.send_replace(None);
                return true;
            }
            Err(ProposeError::Refused(error)) => {
                node.fatal.report(FatalError::Metadata { reason: error.to_string() });
                return false;
            }
            Err(ProposeError::Unavailable(error)) => {
                if node.is_draining() {
                    return false;
                }
                tracing::warn!(%error, "the start waits for the metadata log");
                node.obstacle.send_replace(Some(error.to_string()));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
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
        for slot in node.table.snapshot().values().flat_map(|slots| slots.iter()) {
            // One that does not run has nothing to look after.
            slot.post(Maintain).map_err(drop).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
