//! Clusters for tests.

use std::{net::TcpListener, sync::Arc, time::Duration};

use pubg1_metrics::Metrics;
use pubg1_model::{BrokerId, PartitionId, cluster::PartitionImage, record_batch::BatchIter, topic::TopicConfig};

use crate::{
    Acks, AppendError, AppendRequest, Broker, BrokerConfig, BrokerHandle, NewTopic, PartitionView, RestartPolicy,
    fixture::{batch, ready, topic, until, within},
    partition::PartitionSlot,
};

/// The topic of these tests.
pub(crate) const TOPIC: &str = "t";

/// A request for one batch.
pub(crate) fn request(values: &[&str], acks: Acks) -> AppendRequest {
    AppendRequest { batches: vec![batch(values)], acks }
}

/// Every committed record of a replica that leads: its offset and value.
pub(crate) fn records(slot: &PartitionSlot) -> Vec<(u64, String)> {
    let (mut out, mut next) = (Vec::new(), slot.view().log_start_offset);
    loop {
        let fetched = slot.read(next, 1 << 20).unwrap();
        if fetched.is_empty() {
            return out;
        }
        for batch in fetched.runs.iter().flat_map(|run| BatchIter::new(run)) {
            let decoded = batch.unwrap().decode(1 << 20).unwrap();
            let records = decoded.records().map(Result::unwrap).filter(|record| record.offset >= next);
            out.extend(records.map(|it| (it.offset.get(), String::from_utf8(it.value.unwrap().to_vec()).unwrap())));
        }
        next = fetched.next_offset;
    }
}

/// Brokers with their directories; each may be down.
pub(crate) struct Cluster {
    homes: Vec<tempfile::TempDir>,
    addresses: Vec<String>,
    brokers: Vec<Option<BrokerHandle>>,
    change: fn(&mut BrokerConfig),
}

impl Cluster {
    pub(crate) async fn start(brokers: usize) -> Self {
        Self::start_with(brokers, |_| ()).await
    }

    pub(crate) async fn start_with(brokers: usize, change: fn(&mut BrokerConfig)) -> Self {
        // All at once, so that they differ; free again when they are needed.
        let ports: Vec<TcpListener> = (0..brokers).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let homes = (0..brokers).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut cluster = Self { homes, addresses, brokers: vec![None; brokers], change };
        for broker in 0..brokers {
            cluster.brokers[broker] = Some(cluster.launch(broker));
        }
        for broker in cluster.brokers.iter().flatten() {
            ready(broker).await;
        }
        cluster
    }

    fn launch(&self, broker: usize) -> BrokerHandle {
        Broker::start(self.config(broker), Metrics::new().unwrap()).unwrap()
    }

    fn config(&self, broker: usize) -> BrokerConfig {
        let id = |at: usize| BrokerId(u32::try_from(at).unwrap());
        let mut config = BrokerConfig::new(id(broker), self.homes[broker].path(), "http://127.0.0.1:8000");
        config.voters = self.addresses.iter().enumerate().map(|(at, address)| (id(at), address.clone())).collect();
        config.rpc_listen = Some(self.addresses[broker].clone());
        config.rpc_advertised.clone_from(&self.addresses[broker]);
        config.default_topic = None;
        config.restart = RestartPolicy {
            restarts_max: 50,
            window: Duration::from_secs(600),
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(2),
        };
        (self.change)(&mut config);
        config
    }

    /// Starts a second process under the number of a broker that runs, with an empty disk, elsewhere.
    pub(super) fn twin(&self, broker: usize, home: &std::path::Path) -> BrokerHandle {
        let mut config = self.config(broker);
        config.cluster_id = config.founders_cluster_id();
        config.data_dir = home.to_owned();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        config.rpc_listen = Some(address.clone());
        config.rpc_advertised = address;
        Broker::start(config, Metrics::new().unwrap()).unwrap()
    }

    pub(crate) fn broker(&self, broker: usize) -> &BrokerHandle {
        self.brokers[broker].as_ref().expect("it runs")
    }

    /// Where a broker keeps its data.
    pub(crate) fn home(&self, broker: usize) -> &std::path::Path {
        self.homes[broker].path()
    }

    /// The brokers that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.brokers.len()).filter(|at| self.brokers[*at].is_some()).collect()
    }

    /// Ends a broker where it is.
    pub(crate) async fn kill(&mut self, broker: usize) {
        self.brokers[broker].take().expect("it runs").abort().await;
    }

    pub(crate) async fn restart(&mut self, broker: usize) {
        self.brokers[broker] = Some(self.launch(broker));
        ready(self.broker(broker)).await;
    }

    /// Starts a broker that may wait for the others before it is ready.
    pub(crate) fn revive(&mut self, broker: usize) {
        self.brokers[broker] = Some(self.launch(broker));
    }

    /// Ends all of them, in order or as they are.
    pub(crate) async fn end(mut self) {
        for broker in self.running() {
            self.kill(broker).await;
        }
    }

    /// Creates the topic, each partition on `replicas` brokers, and waits until its first partition is led.
    pub(crate) async fn create_topic(&self, replicas: u32, config: TopicConfig) {
        let new = NewTopic {
            name: topic(TOPIC),
            partitions: Some(1),
            replication_factor: Some(replicas),
            config: Some(config),
        };
        within(self.broker(0).create_topic(new)).await.unwrap();
        self.leader().await;
    }

    /// Partition 0 in the image of a broker that runs.
    pub(crate) fn image(&self) -> PartitionImage {
        let image = self.broker(self.running()[0]).image();
        image.partition(&topic(TOPIC), PartitionId(0)).expect("the topic exists").clone()
    }

    /// The replica of partition 0 on a broker, once it is there.
    pub(crate) async fn slot(&self, broker: usize) -> Arc<PartitionSlot> {
        within(self.broker(broker).node().table.placed(&topic(TOPIC), PartitionId(0))).await
    }

    pub(crate) async fn view(&self, broker: usize) -> PartitionView {
        self.slot(broker).await.view()
    }

    /// Waits until the replica on `broker` fulfils a condition.
    pub(crate) async fn seen(&self, broker: usize, condition: impl Fn(&PartitionView) -> bool) -> PartitionView {
        let slot = self.slot(broker).await;
        let mut views = slot.published.subscribe();
        within(views.wait_for(|published| condition(&published.view))).await.unwrap().view.clone()
    }

    /// The broker that leads partition 0 and can be read from, once there is one.
    pub(crate) async fn leader(&self) -> usize {
        let leads = |broker: &usize| {
            let slot = self.broker(*broker).node().table.get(&topic(TOPIC), PartitionId(0));
            slot.is_some_and(|slot| slot.readable().is_ok())
        };
        until(|| self.running().iter().any(leads)).await;
        self.running().into_iter().find(leads).unwrap_or_default()
    }

    /// The brokers that keep partition 0 and do not lead it now.
    pub(crate) async fn followers(&self) -> Vec<usize> {
        let leader = self.leader().await;
        let replicas = self.image().replicas;
        replicas.iter().map(|broker| broker.0 as usize).filter(|broker| *broker != leader).collect()
    }

    /// Appends through whoever leads until it is acknowledged; the offset.
    pub(crate) async fn append(&self, value: &str) -> u64 {
        within(async {
            loop {
                let leader = self.slot(self.leader().await).await;
                match leader.append(request(&[value], Acks::All)).await {
                    Ok(reply) => return reply.appended[0].base_offset.get(),
                    Err(error) => assert!(error.is_retriable() || matches!(error, AppendError::Draining), "{error}"),
                }
            }
        })
        .await
    }

    /// Waits until every replica that runs holds the same log as the leader, and knows it to be committed.
    pub(crate) async fn converged(&self) -> Vec<u8> {
        let leader = self.leader().await;
        let log_end = self.view(leader).await.log_end_offset;
        let mut contents: Option<Vec<u8>> = None;
        for broker in self.image().replicas {
            let broker = broker.0 as usize;
            if self.brokers[broker].is_none() {
                continue;
            }
            self.seen(broker, |view| view.log_end_offset >= log_end && view.high_watermark >= log_end).await;
            let found = self.contents(broker).await;
            match &contents {
                None => contents = Some(found),
                Some(expected) => assert!(found == *expected, "the replica on broker {broker} differs"),
            }
        }
        contents.unwrap()
    }

    /// The bytes of a replica's own log.
    pub(crate) async fn contents(&self, broker: usize) -> Vec<u8> {
        contents(&*self.slot(broker).await)
    }
}

/// The bytes of a replica's own log.
pub(crate) fn contents(slot: &PartitionSlot) -> Vec<u8> {
    let reader = slot.published.borrow().reader.clone().expect("its log is open");
    let (mut bytes, mut next) = (Vec::new(), reader.log_start_offset());
    loop {
        let slice = reader.read(next, reader.log_end_offset(), 1 << 20).unwrap();
        if slice.runs.is_empty() {
            return bytes;
        }
        slice.runs.iter().for_each(|run| bytes.extend_from_slice(run));
        next = slice.next_offset;
    }
}
