//! Three brokers in one process, over real sockets: a client may ask any of them.

use std::{cell::Cell, net::TcpListener, sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, PartitionId, ProducerId, TopicPartition,
    cluster::{ClusterImage, PartitionImage},
    topic::TopicConfig,
};
use tempfile::TempDir;

use crate::{
    Acks, AppendError, AppendReply, AppendRequest, Broker, BrokerConfig, BrokerHandle, DefaultTopic, FetchError,
    NewTopic, PartitionHandle,
    fixture::*,
    forward::{Absent, Leader, Patience, Place, Route},
    partition::PartitionSlot,
    testing::{Fault, inject},
};

/// Three brokers that found a cluster.
struct Three {
    brokers: Vec<BrokerHandle>,
    voters: Vec<(BrokerId, String)>,
    dirs: Vec<TempDir>,
}

impl Three {
    async fn start() -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let voters: Vec<(BrokerId, String)> = (0..3).map(|id| (BrokerId(id), free())).collect();
        let dirs = voters.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let mut three = Self { brokers: Vec::new(), voters, dirs };
        three.brokers = (0..3).map(|id| three.life(id)).collect();
        for broker in &three.brokers {
            ready(broker).await;
        }
        three
    }

    /// Another life of a broker, on what it had.
    fn life(&self, broker: usize) -> BrokerHandle {
        let (id, address) = &self.voters[broker];
        let mut config = BrokerConfig::new(*id, self.dirs[broker].path(), format!("http://127.0.0.1:800{id}"));
        config.rpc_listen = Some(address.clone());
        config.rpc_advertised = address.clone();
        config.voters = self.voters.clone();
        config.default_topic = Some(DefaultTopic { name: topic("pubg1"), partitions: 1 });
        config.topic_defaults.segment_bytes = 1 << 20;
        config.partition_arbiters = 1;
        Broker::start(config, pubg1_metrics::Metrics::new().unwrap()).unwrap()
    }

    fn at(&self, broker: BrokerId, name: &str) -> PartitionHandle {
        self.brokers[usize::try_from(broker.0).unwrap()].partition(&topic(name), PartitionId(0)).unwrap()
    }

    /// A topic of one partition with three replicas, and who leads it.
    async fn create(&self, name: &str) -> BrokerId {
        self.create_with(name, None).await
    }

    async fn create_with(&self, name: &str, config: Option<TopicConfig>) -> BrokerId {
        let new = NewTopic { name: topic(name), partitions: None, replication_factor: None, config };
        let image = within(self.brokers[0].create_topic(new)).await.unwrap();
        assert_eq!(image.partitions[0].replicas.len(), 3);
        let leader = image.partitions[0].leader.unwrap();
        for broker in &self.brokers {
            let mut images = broker.services().metadata.images();
            within(images.wait_for(|image| image.topic_by_id(image.topics[&topic(name)].id).is_some())).await.unwrap();
        }
        leader
    }

    /// Moves a leadership, if that broker does not have it.
    async fn led_by(&self, name: &str, partition: PartitionId, to: BrokerId) -> PartitionImage {
        loop {
            match self.brokers[0].move_leader(&topic(name), partition, to).await {
                // It has to be in sync first, which a new partition's replicas are in a moment.
                Err(error) => drop(error),
                Ok(placed) if placed.leader == Some(to) => return placed,
                Ok(_) => {}
            }
            tokio::task::yield_now().await;
        }
    }

    fn others(&self, than: BrokerId) -> Vec<BrokerId> {
        self.brokers.iter().map(BrokerHandle::broker_id).filter(|broker| *broker != than).collect()
    }

    async fn stop(self) {
        for broker in &self.brokers {
            broker.abort().await;
        }
    }
}

/// Appends as a client does that tries again when it is told to.
async fn append_patiently(partition: &PartitionHandle, value: &str) -> AppendReply {
    loop {
        match append(partition, batch(&[value])).await {
            Err(error) if error.is_retriable() => tokio::task::yield_now().await,
            outcome => return outcome.unwrap(),
        }
    }
}

#[actix_rt::test]
async fn any_broker_serves_any_client_and_a_leader_that_dies_is_followed_by_the_next() {
    let three = Three::start().await;
    let leader = three.create("t").await;
    for (number, broker) in (0..3).map(BrokerId).enumerate() {
        let partition = three.at(broker, "t");
        let reply = append(&partition, batch(&["x"])).await.unwrap();
        assert_eq!((reply.appended[0].base_offset, reply.leader), (offset(number as u64), leader));
        let fetched = within(partition.read(offset(0), 1 << 20)).await.unwrap();
        assert_eq!((fetched.next_offset, fetched.leader), (offset(number as u64 + 1), leader));
        assert_eq!(partition.led_elsewhere(), (broker != leader).then_some(leader));
    }
    let others = three.others(leader);
    let away = three.at(others[0], "t");
    let sent = within(away.append(AppendRequest { batches: vec![batch(&["y"])], acks: Acks::None })).await.unwrap();
    assert_eq!((sent.appended.len(), sent.leader), (0, leader));
    let soon = || tokio::time::Instant::now() + Duration::from_secs(60);
    assert_eq!(within(away.wait_above(offset(3), soon())).await.unwrap().high_watermark, offset(4));
    assert_eq!(within(away.find_timestamp(1000)).await.unwrap(), Some((offset(0), 1000)));
    let deleted = within(away.delete_records_before(offset(1))).await.unwrap();
    assert_eq!((deleted.log_start_offset, deleted.leader), (offset(1), leader));
    assert!(matches!(within(away.read(offset(0), 1)).await, Err(FetchError::OffsetOutOfRange { .. })));
    let statuses = within(three.brokers[0].replica_statuses(&topic("t"), PartitionId(0))).await.unwrap();
    let roles: Vec<_> = statuses.iter().map(|(id, status)| (*id, status.as_ref().unwrap().role.clone())).collect();
    assert!(roles.iter().all(|(id, role)| role == if *id == leader { "leader" } else { "follower" }), "{roles:?}");

    // A long poll on another broker and the death of the leader under it.
    let before = within(away.leader_view()).await.unwrap().leader_epoch;
    let polled = away.wait_above(offset(4), soon());
    let failover = async {
        three.brokers[usize::try_from(leader.0).unwrap()].abort().await;
        append_patiently(&three.at(others[1], "t"), "z").await
    };
    let (polled, reply) = tokio::join!(within(polled), within(failover));
    assert!(reply.leader != leader && reply.leader_epoch > before, "{reply:?}");
    assert_eq!(polled.unwrap().leader, reply.leader);
    for broker in others {
        let fetched = within(three.at(broker, "t").read(offset(4), 1 << 20)).await.unwrap();
        assert_eq!((fetched.leader, fetched.leader_epoch), (reply.leader, reply.leader_epoch));
        assert!(fetched.next_offset > reply.appended[0].base_offset);
    }
    three.stop().await;
}

#[actix_rt::test]
async fn an_idempotent_append_survives_its_leader_and_is_there_once() {
    let three = Three::start().await;
    three.create("t").await;
    for sequence in 0..6 {
        let partition = three.at(BrokerId(u32::try_from(sequence % 3).unwrap()), "t");
        let leader = within(partition.leader_view()).await.unwrap().leader;
        let leading = three.at(leader, "t");
        let end = leading.slot().view().log_end_offset;
        let death = async {
            seen(&leading, |view| view.log_end_offset > end).await;
            inject(&leading, Fault::Panic).unwrap();
        };
        let value = sequence.to_string();
        let appended = append(&partition, idempotent(&[&value], ProducerId(7), sequence));
        let (reply, ()) = tokio::join!(appended, death);
        reply.unwrap();
    }
    let last = append_patiently(&three.at(BrokerId(0), "t"), "last").await;
    let found = values(&three.at(last.leader, "t"));
    assert_eq!(found, ["0", "1", "2", "3", "4", "5", "last"]);
    three.stop().await;
}

#[actix_rt::test]
async fn offsets_of_groups_go_to_their_coordinator_from_everywhere() {
    let three = Three::start().await;
    let place = TopicPartition { topic: topic("pubg1"), partition: PartitionId(0) };
    for number in 0..6_u32 {
        let (group, broker) = (format!("group-{number}"), &three.brokers[usize::try_from(number % 3).unwrap()]);
        let commit = || broker.commit_offset(group.parse().unwrap(), place.clone(), offset(9), String::new());
        let committed = async {
            while let Err(error) = commit().await {
                assert!(error.is_retriable(), "{error}");
            }
        };
        within(committed).await;
        for broker in &three.brokers {
            let committed = within(broker.committed_offset(group.parse().unwrap(), place.clone())).await.unwrap();
            assert_eq!(committed.unwrap().offset, offset(9), "{group}");
        }
    }
    three.stop().await;
}

#[actix_rt::test]
async fn a_partition_without_a_quorum_says_why_and_a_leadership_moves_when_told() {
    let three = Three::start().await;
    let leader = three.create("t").await;
    let to = three.others(leader)[0];
    let placed = within(three.led_by("t", PartitionId(0), to)).await;
    let reply = append_patiently(&three.at(leader, "t"), "x").await;
    assert_eq!((reply.leader, reply.leader_epoch), (to, placed.leader_epoch));

    // Two of three are gone: neither metadata nor the partition has a quorum.
    let last = three.others(leader).into_iter().find(|broker| *broker != to).unwrap();
    for broker in [to, leader] {
        three.brokers[usize::try_from(broker.0).unwrap()].abort().await;
    }
    let error = append(&three.at(last, "t"), batch(&["y"])).await.unwrap_err();
    assert!(
        matches!(error, AppendError::NotLeader { .. } | AppendError::Offline(_)) && error.is_retriable(),
        "{error}"
    );
    three.stop().await;
}

#[actix_rt::test]
async fn a_broker_that_is_back_keeps_nobody_waiting_until_it_knows_who_leads() {
    let mut three = Three::start().await;
    let create = async |name: &str, replicas| {
        let replication_factor = Some(replicas);
        let new = NewTopic { name: topic(name), partitions: Some(3), replication_factor, config: None };
        within(three.brokers[0].create_topic(new)).await.unwrap();
    };
    create("t", 3).await;
    // A broker that was not there in time leads none of a new topic's partitions.
    for broker in 0..3 {
        within(three.led_by("t", PartitionId(broker), BrokerId(broker))).await;
    }
    create("alone", 1).await;
    create("last", 3).await;
    for broker in &three.brokers {
        let mut images = broker.services().metadata.images();
        let is_led = |image: &Arc<ClusterImage>| {
            let last = image.topic(&topic("last"));
            last.is_some_and(|last| last.partitions.iter().all(|partition| partition.leader.is_some()))
        };
        within(images.wait_for(is_led)).await.unwrap();
    }
    for broker in &three.brokers {
        broker.abort().await;
    }

    // Back alone, it cannot hear what became of what it led.
    three.brokers[0] = three.life(0);
    let (back, this) = (&three.brokers[0], BrokerId(0));
    let known = || back.image().topic(&topic("alone")).is_some_and(|found| found.partitions[2].leader.is_some());
    until(known).await;
    let led = |name: &str, by_this: bool| {
        let image = back.image();
        let mut found = image.topic(&topic(name)).unwrap().numbered_partitions();
        found.find(|(_, partition)| (partition.leader == Some(this)) == by_this).unwrap().0
    };
    // As it knows them now: others may lead as soon as the others are back.
    let (led_here, led_away, alone) = (led("t", true), led("t", false), led("alone", true));
    let partition = back.partition(&topic("t"), led_here).unwrap();
    let refused = append(&partition, batch(&["x"])).await;
    assert!(matches!(refused, Err(AppendError::NotReady { .. })), "{refused:?}");
    let refused = within(partition.read(offset(0), 1)).await.map(drop);
    assert!(matches!(refused, Err(FetchError::NotReady { .. })), "{refused:?}");

    // Whoever it takes for the leader of another one is asked, once.
    let services = back.services();
    let (name, image) = (topic("t"), back.image());
    let place = Place { topic_id: image.topic(&name).unwrap().id, partition: led_away };
    let route = Route { node: &services.node, metadata: &services.metadata, topic: &name, place };
    let asked = Cell::new(0);
    let here = async |_: &PartitionSlot| Ok(());
    let there = async |_, _| {
        asked.set(asked.get() + 1);
        Err(AppendError::NotLeader { leader: None, retry_after_ms: 1 })
    };
    let refused = within(route.run(Patience::new(&services.metadata), here, there, |_| false)).await;
    assert!(matches!(refused, Err(AppendError::NotReady { .. })), "{refused:?}");
    assert_eq!(asked.get(), 1);

    // What it alone keeps nobody else serves sooner.
    let name = topic("alone");
    let place = Place { topic_id: image.topic(&name).unwrap().id, partition: alone };
    let route = Route { node: &services.node, metadata: &services.metadata, topic: &name, place };
    assert!(matches!(route.leader(), Leader::Absent(Absent::Awaited(leader)) if leader == Some(this)));

    let others = [three.life(1), three.life(2)];
    for (name, partition) in [("t", led_here), ("t", led_away), ("alone", alone)] {
        let partition = back.partition(&topic(name), partition).unwrap();
        assert_eq!(within(append_patiently(&partition, "x")).await.appended[0].base_offset, offset(0));
    }
    three.brokers.splice(1.., others);
    three.stop().await;
}

#[actix_rt::test]
async fn more_clients_than_a_window_holds_stop_neither_replication_nor_the_controller() {
    const CLIENTS: u32 = 2 * crate::rpc::CLIENT_WINDOW;
    let three = Three::start().await;
    let leader = three.create("t").await;
    let others = three.others(leader);
    let epoch = within(three.at(leader, "t").leader_view()).await.unwrap().leader_epoch;
    // Each of the two that follow sends more appends than there are places; they end only when both have copied them.
    let appends = (0..CLIENTS).map(|number| {
        let partition = three.at(others[number as usize % 2], "t");
        async move { append(&partition, batch(&["x"])).await }
    });
    let replies = within(futures_util::future::join_all(appends)).await;
    assert!(replies.iter().all(Result::is_ok), "{:?}", replies.iter().find(|reply| reply.is_err()));
    // And more long polls.
    let end = offset(u64::from(CLIENTS));
    let far = tokio::time::Instant::now() + Duration::from_secs(60);
    let polls = (0..CLIENTS).map(|number| {
        let partition = three.at(others[number as usize % 2], "t");
        async move { partition.wait_above(end, far).await }
    });
    let polls = actix_rt::spawn(futures_util::future::join_all(polls));
    // Longer than a leader goes on, and a broker is borne, that is not heard from.
    pass(Duration::from_secs(3)).await;
    assert!(!polls.is_finished());
    let mut reply = append(&three.at(others[0], "t"), batch(&["last"])).await.unwrap();
    assert_eq!((reply.leader, reply.leader_epoch), (leader, epoch));
    assert_eq!(reply.appended.remove(0).base_offset, end);
    for view in within(polls).await.unwrap() {
        assert_eq!(view.unwrap().high_watermark, offset(end.get() + 1));
    }
    three.stop().await;
}

#[actix_rt::test]
async fn a_large_batch_goes_through_every_broker() {
    // More than a body of HTTP has, less than a topic may allow.
    const BYTES: u64 = 20 << 20;
    let three = Three::start().await;
    let large = TopicConfig { max_message_bytes: 2 * BYTES, segment_bytes: 4 * BYTES, ..TopicConfig::default() };
    let leader = three.create_with("t", Some(large)).await;
    let value = "x".repeat(usize::try_from(BYTES).unwrap());
    for (sequence, broker) in (0..).zip([leader, three.others(leader)[0]]) {
        let partition = three.at(broker, "t");
        // A busy machine may take so long that the leader changes.
        let reply = loop {
            match append(&partition, idempotent(&[&value], ProducerId(7), sequence)).await {
                Err(error) if error.is_retriable() => tokio::task::yield_now().await,
                outcome => break outcome.unwrap(),
            }
        };
        let at = offset(u64::try_from(sequence).unwrap());
        assert_eq!(reply.appended[0].base_offset, at);
        let fetched = within(partition.read(at, 1)).await.unwrap();
        assert!(fetched.runs.iter().map(bytes::Bytes::len).sum::<usize>() > value.len());
    }
    three.stop().await;
}
