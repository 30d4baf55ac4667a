//! Several members of a group in one process, joined by a transport in memory that can be cut.

use crate::fixture::pass;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pubg1_model::{
    BrokerId,
    cluster::{Incarnation, MetadataCommand},
    replication::StorageId,
};
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;

use super::super::{MetadataHandle, ProposeError, start_metadata};
use crate::{
    BrokerConfig,
    arbiters::Arbiters,
    fixture::within,
    flusher::BlockingThreads,
    raft::{CallError, GroupConfig, LogLimits, RaftTransport},
};

/// The network: who runs, and who hears whom.
#[derive(Default)]
pub(super) struct Mesh {
    running: watch::Sender<BTreeMap<BrokerId, MetadataHandle>>,
    known: Mutex<BTreeSet<BrokerId>>,
    cut: Mutex<BTreeSet<BrokerId>>,
    /// Addresses as members have heard of them.
    pub(super) addresses: Mutex<BTreeMap<BrokerId, String>>,
    /// Requests by kind.
    pub(super) calls: Mutex<BTreeMap<u16, usize>>,
}

impl Mesh {
    /// Requests to and from this broker are lost from now on; nobody refuses them.
    pub(super) fn cut(&self, broker: BrokerId) {
        self.cut.lock().unwrap().insert(broker);
    }

    pub(super) fn heal(&self, broker: BrokerId) {
        self.cut.lock().unwrap().remove(&broker);
    }

    fn is_cut(&self, from: BrokerId, to: BrokerId) -> bool {
        let cut = self.cut.lock().unwrap();
        cut.contains(&from) || cut.contains(&to)
    }
}

/// The mesh as one broker uses it.
struct Link {
    from: BrokerId,
    mesh: Arc<Mesh>,
}

impl RaftTransport for Link {
    fn call(
        &self,
        to: BrokerId,
        kind: u16,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        *self.mesh.calls.lock().unwrap().entry(kind).or_default() += 1;
        let (from, mesh) = (self.from, Arc::clone(&self.mesh));
        let unknown = || CallError::OutcomeUnknown("timeout".to_owned());
        let call = async move {
            let target = mesh.running.borrow().get(&to).cloned();
            let target = target.ok_or_else(|| CallError::NotSent("refused".to_owned()))?;
            if mesh.is_cut(from, to) {
                std::future::pending::<()>().await;
            }
            let answer = target.answer(kind, body).await;
            if mesh.is_cut(from, to) {
                std::future::pending::<()>().await;
            }
            Ok(answer)
        };
        Box::pin(async move { tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| Err(unknown())) })
    }

    fn learn(&self, broker: BrokerId, address: &str) {
        self.mesh.addresses.lock().unwrap().insert(broker, address.to_owned());
    }

    fn gone(&self, broker: BrokerId, _: tokio::time::Instant) -> BoxFuture<'static, ()> {
        let (mesh, mut running) = (Arc::clone(&self.mesh), self.mesh.running.subscribe());
        Box::pin(async move {
            let known = mesh.known.lock().unwrap().contains(&broker);
            if !known {
                std::future::pending::<()>().await;
            }
            running.wait_for(|running| !running.contains_key(&broker)).await.unwrap();
        })
    }
}

/// What a member leaves behind when it ends.
pub(super) struct Home {
    pub(super) broker: BrokerId,
    dir: TempDir,
    pub(super) storage: StorageId,
    pub(super) address: String,
}

impl Home {
    pub(super) fn new(broker: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { broker: BrokerId(broker), dir, storage: random_storage(), address: address(broker) }
    }

    /// The disk is replaced by an empty one.
    pub(super) fn wipe(&mut self) {
        *self = Self::new(self.broker.0);
    }
}

fn random_storage() -> StorageId {
    StorageId::from_bytes(*Uuid::new_v4().as_bytes())
}

pub(super) fn voters(brokers: &[u32]) -> Vec<(BrokerId, String)> {
    brokers.iter().map(|broker| (BrokerId(*broker), address(*broker))).collect()
}

pub(super) fn address(broker: u32) -> String {
    format!("127.0.0.1:{}", 9000 + broker)
}

/// A running member, without the rest of a broker.
pub(super) struct Member {
    pub(super) metadata: MetadataHandle,
    pub(super) storage: StorageId,
    mesh: Arc<Mesh>,
    arbiters: Arbiters,
    threads: Vec<BlockingThreads>,
}

impl Member {
    pub(super) fn start(mesh: &Arc<Mesh>, home: &Home, told: &[u32]) -> Self {
        Self::start_with(mesh, home, told, LogLimits::default())
    }

    pub(super) fn start_with(mesh: &Arc<Mesh>, home: &Home, told: &[u32], limits: LogLimits) -> Self {
        let config = BrokerConfig::new(home.broker, home.dir.path(), "http://127.0.0.1:8000");
        std::fs::create_dir_all(home.dir.path().join("metadata")).unwrap();
        let (node, threads) = crate::fixture::bare_node(config);
        let arbiters = Arbiters::start(1, 1).unwrap().unwrap();
        let group = GroupConfig {
            broker: home.broker,
            rpc_address: home.address.clone(),
            storage: home.storage,
            voters: voters(told),
            transport: Arc::new(Link { from: home.broker, mesh: Arc::clone(mesh) }),
            limits,
        };
        let metadata = MetadataHandle::new(node, group);
        let handles = arbiters.handles();
        start_metadata(&metadata, handles.metadata.clone(), &handles.control);
        mesh.known.lock().unwrap().insert(home.broker);
        mesh.running.send_modify(|running| drop(running.insert(home.broker, metadata.clone())));
        Self { metadata, storage: home.storage, mesh: Arc::clone(mesh), arbiters, threads }
    }

    pub(super) fn broker(&self) -> BrokerId {
        self.metadata.0.group.broker
    }

    /// Registers the broker as it lives now.
    pub(super) async fn register(&self) {
        let broker = self.broker();
        let register = MetadataCommand::RegisterBroker {
            broker,
            http_url: "http://127.0.0.1:8000".to_owned(),
            rpc_address: address(broker.0),
            incarnation: Incarnation::from_bytes(*Uuid::new_v4().as_bytes()),
            storage: self.storage,
            rack: None,
            replaces: self.metadata.image().brokers.get(&broker).map(|known| known.incarnation),
        };
        within(self.metadata.propose(register)).await.unwrap();
    }

    /// Waits until it has caught up, then does what a broker does at its start.
    pub(super) async fn arrive(&self) {
        within(self.metadata.opened()).await;
        let format = MetadataCommand::FormatCluster { cluster_id: "c".to_owned() };
        match within(self.metadata.propose(format)).await {
            Ok(_) | Err(ProposeError::Refused(_)) => self.register().await,
            Err(error) => panic!("{error}"),
        }
    }

    /// Ends it where it is, as a kill does: its port refuses from then on.
    pub(super) fn kill(self) {
        self.mesh.running.send_modify(|running| drop(running.remove(&self.metadata.0.group.broker)));
        let Self { metadata, arbiters, threads, .. } = self;
        arbiters.finish();
        threads.into_iter().for_each(BlockingThreads::finish);
        // What others were asking it at this moment ends on their threads. Then its files are closed here.
        let patience = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&metadata.0) > 1 && Instant::now() < patience {
            std::thread::yield_now();
        }
        drop(metadata);
    }

    pub(super) async fn close(self) {
        self.metadata.close().await;
        self.kill();
    }
}

/// Waits until one of them leads and they all say so.
pub(super) async fn led(members: &[&Member]) -> BrokerId {
    within(async {
        loop {
            let leaders: BTreeSet<_> = members.iter().map(|member| *member.metadata.0.controller.borrow()).collect();
            if let [Some(leader)] = leaders.into_iter().collect::<Vec<_>>()[..] {
                return leader.broker;
            }
            pass(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Waits until a member's image fulfils a condition.
pub(super) async fn sees(member: &Member, condition: impl Fn(&pubg1_model::cluster::ClusterImage) -> bool) {
    within(member.metadata.images().wait_for(|image| condition(image))).await.unwrap();
}
