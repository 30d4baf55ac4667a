//! Brokers and actors die all the time while records are written: nothing that was acknowledged is lost or moved.

use std::{cell::RefCell, collections::hash_map::RandomState, hash::BuildHasher, rc::Rc, time::Duration};

use pubg1_model::{PartitionId, record_batch::BatchIter, topic::TopicConfig};

use super::cluster::{Cluster, TOPIC, request};
use crate::{
    Acks, BrokerHandle, NewTopic,
    fixture::{topic, until, within},
    testing::Fault,
};

const PARTITIONS: u32 = 3;

/// A number below `bound` that nothing depends on.
fn any(bound: u64) -> u64 {
    RandomState::new().hash_one(0_u8) % bound
}

/// Offset and value of every acknowledged record, by partition.
type Acknowledged = Rc<RefCell<Vec<(u32, u64, String)>>>;
type Brokers = Rc<RefCell<Vec<Option<BrokerHandle>>>>;

/// Writes to one partition through whichever of the brokers leads, until it is told to stop.
async fn write(brokers: Brokers, partition: u32, acknowledged: Acknowledged) {
    let mut pauses = tokio::time::interval(Duration::from_millis(2));
    for number in 0.. {
        let handles: Vec<BrokerHandle> = brokers.borrow().iter().flatten().cloned().collect();
        let slots = handles.iter().filter_map(|it| it.node().table.get(&topic(TOPIC), PartitionId(partition)));
        let leader = slots.into_iter().find(|slot| slot.leads());
        let value = format!("{partition} {number}");
        if let Some(leader) = leader {
            let append = leader.append(request(&[&value], Acks::All));
            // One whose broker dies is never answered.
            if let Ok(Ok(reply)) = tokio::time::timeout(Duration::from_secs(2), append).await {
                acknowledged.borrow_mut().push((partition, reply.appended[0].base_offset.get(), value));
                continue;
            }
        }
        pauses.tick().await;
    }
}

/// `PUBG1_CHAOS_FAULTS` makes it longer.
fn faults() -> usize {
    #[allow(clippy::disallowed_methods, reason = "a test that may be run for longer by hand")]
    let faults = std::env::var("PUBG1_CHAOS_FAULTS").ok().and_then(|faults| faults.parse().ok());
    faults.unwrap_or(20)
}

/// Waits until so many more records are acknowledged.
async fn after(more: u64, acknowledged: &Acknowledged) {
    let enough = acknowledged.borrow().len() + usize::try_from(more).unwrap();
    until(|| acknowledged.borrow().len() >= enough).await;
}

#[actix_rt::test]
async fn nothing_that_was_acknowledged_is_lost_while_brokers_and_actors_die() {
    let mut cluster = Cluster::start(4).await;
    let small = TopicConfig { segment_bytes: 16 * 1024, max_message_bytes: 8 * 1024, ..TopicConfig::default() };
    let new =
        NewTopic { name: topic(TOPIC), partitions: Some(PARTITIONS), replication_factor: Some(3), config: Some(small) };
    within(cluster.broker(0).create_topic(new)).await.unwrap();
    let acknowledged = Acknowledged::default();
    let brokers = Brokers::new(RefCell::new(cluster.handles()));
    let writers: Vec<_> = (0..PARTITIONS)
        .map(|partition| actix_rt::spawn(write(Rc::clone(&brokers), partition, Rc::clone(&acknowledged))))
        .collect();
    for _ in 0..faults() {
        after(any(60), &acknowledged).await;
        let victim = usize::try_from(any(4)).unwrap();
        if any(3) == 0 {
            for slot in cluster.broker(victim).node().table.of_topic(&topic(TOPIC)) {
                // One that does not run is dead already.
                drop(slot.post(Fault::Panic));
            }
        } else {
            brokers.borrow_mut()[victim] = None;
            cluster.kill(victim).await;
            // Three of four are left: every partition has a quorum.
            after(any(60), &acknowledged).await;
            cluster.revive(victim);
            *brokers.borrow_mut() = cluster.handles();
        }
    }
    writers.into_iter().for_each(|writer| writer.abort());
    for partition in 0..PARTITIONS {
        let records = cluster.converged_of(partition).await;
        let acknowledged = acknowledged.borrow();
        for (_, offset, value) in acknowledged.iter().filter(|(at, ..)| *at == partition) {
            let found = records.iter().find(|(at, _)| at == offset).map(|(_, value)| value);
            assert_eq!(found, Some(value), "partition {partition}, offset {offset}");
        }
    }
    drop(brokers);
    cluster.end().await;
}

impl Cluster {
    /// Handles of the brokers that run, by number.
    fn handles(&self) -> Vec<Option<BrokerHandle>> {
        (0..4).map(|at| self.running().contains(&at).then(|| self.broker(at).clone())).collect()
    }

    /// Waits until all replicas of a partition are the same; its records.
    async fn converged_of(&self, partition: u32) -> Vec<(u64, String)> {
        let replicas = || {
            let slots = self.running().into_iter();
            slots.filter_map(|it| self.broker(it).node().table.get(&topic(TOPIC), PartitionId(partition)))
        };
        until(|| {
            let slots: Vec<_> = replicas().collect();
            let views: Vec<_> = slots.iter().map(|slot| slot.view()).collect();
            let end = views.first().map(|view| view.log_end_offset);
            let same = views.iter().all(|view| Some(view.log_end_offset) == end && Some(view.high_watermark) == end);
            slots.iter().any(|slot| slot.readable().is_ok()) && same && views.len() == 3
        })
        .await;
        let contents: Vec<Vec<u8>> = replicas().map(|slot| super::cluster::contents(&slot)).collect();
        assert!(contents.windows(2).all(|pair| pair[0] == pair[1]), "replicas of partition {partition} differ");
        let mut records = Vec::new();
        for batch in BatchIter::new(&contents[0]) {
            let decoded = batch.unwrap().decode(1 << 20).unwrap();
            for record in decoded.records().map(Result::unwrap) {
                records.push((record.offset.get(), String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
            }
        }
        records
    }
}
