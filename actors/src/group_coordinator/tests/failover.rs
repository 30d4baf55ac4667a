//! Three brokers in one process: coordinators and edges die while groups are read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pubg1_model::{
    TopicPartition,
    consumer_instance::{Confirmation, InstanceDefinition, PollStart},
};

use super::{
    instances::{Client, create_topic, definition, patiently},
    place,
};
use crate::{
    BrokerHandle, GroupRequestError, NewTopic, PollRequest,
    fixture::*,
    group_coordinator::{offsets_topic, partition_of},
    replicator::tests::cluster::Cluster,
};

/// The broker that coordinates a group, once there is one that answers.
async fn coordinator(cluster: &Cluster, group: &str) -> usize {
    let partition = partition_of(&group.parse().unwrap());
    let leads = |broker: &usize| {
        let slot = cluster.broker(*broker).node().table.get(&offsets_topic(), partition);
        slot.is_some_and(|slot| slot.readable().is_ok())
    };
    until(|| cluster.running().iter().any(leads)).await;
    cluster.running().into_iter().find(leads).unwrap()
}

/// A broker that does not coordinate the group.
async fn another(cluster: &Cluster, group: &str) -> usize {
    let coordinator = coordinator(cluster, group).await;
    cluster.running().into_iter().find(|broker| *broker != coordinator).unwrap()
}

async fn start() -> Cluster {
    let cluster = Cluster::start(3).await;
    let new = NewTopic { name: topic("t"), partitions: Some(4), replication_factor: Some(3), config: None };
    within(cluster.broker(0).create_topic(new)).await.unwrap();
    for broker in cluster.running() {
        let mut images = cluster.broker(broker).services().metadata.images();
        within(images.wait_for(|image| image.topic(&topic("t")).is_some())).await.unwrap();
    }
    cluster
}

/// Where the next poll begins in a partition; the poll is ended at once.
async fn next_start(client: &Client, partition: &TopicPartition) -> PollStart {
    let grant = client.begin().await.unwrap();
    client.confirm(&grant, false).await.unwrap();
    grant.partitions.iter().find(|(known, _)| known == partition).map(|(_, start)| *start).unwrap()
}

#[actix_rt::test]
async fn any_broker_serves_an_instance() {
    let cluster = start().await;
    let client = Client::create(cluster.broker(0), "g", definition()).await;
    client.through(cluster.broker(1)).subscribe(&["t"]).await;
    let (partition, mut read) = (place("t", 2), 0);
    for broker in [2, 0, 1] {
        let client = client.through(cluster.broker(broker));
        let starts = client.poll(5).await;
        let expected = if read == 0 { None } else { Some(PollStart::At(offset(read))) };
        let start = starts.iter().find(|(known, _)| *known == partition).unwrap().1;
        assert!(expected.is_none_or(|expected| expected == start), "{start:?}");
        read += 5;
    }
    client.through(cluster.broker(2)).commit().await.unwrap();
    // Other partitions of the offsets topic may not be read yet.
    let listed = async {
        loop {
            let listed = cluster.broker(1).groups().list().await;
            if listed.missing == 0 {
                break listed;
            }
        }
    };
    assert_eq!(within(listed).await.groups.len(), 1);
    assert_eq!(client.committed(&partition).await, Some(15));
    // A change is heard of on every broker.
    let instance = within(client.groups.instance(&client.group, &client.name)).await.unwrap();
    let waiting = client.through(cluster.broker(another(&cluster, "g").await));
    let other = Client::create(cluster.broker(1), "g", definition()).await;
    let (changed, ()) = tokio::join!(
        waiting.groups.await_change(&client.group, &client.name, instance.assignment_version, Duration::from_secs(60)),
        other.subscribe(&["t"]),
    );
    assert_ne!(changed.unwrap(), instance.assignment_version);
    cluster.end().await;
}

#[actix_rt::test]
async fn the_coordinator_dies_at_every_step_of_a_poll() {
    let mut cluster = start().await;
    let edge = another(&cluster, "g").await;
    let client = Client::create(cluster.broker(edge), "g", definition()).await;
    client.subscribe(&["t"]).await;
    let partition = place("t", 1);
    client.poll(2).await;
    let fail_over = async |cluster: &mut Cluster| {
        let dead = coordinator(cluster, "g").await;
        if dead == edge {
            return;
        }
        cluster.kill(dead).await;
        coordinator(cluster, "g").await;
        cluster.restart(dead).await;
    };
    // Begun.
    let begun = client.begin().await.unwrap();
    fail_over(&mut cluster).await;
    match client.deliver(&begun, 1).await {
        Err(GroupRequestError::PollGone(poll)) => assert_eq!(poll, begun.poll),
        // Its edge coordinates, and nothing happened.
        delivered => {
            delivered.unwrap();
            client.confirm(&begun, false).await.unwrap();
        }
    }
    // Delivered: the edge says to the next coordinator that the client has it.
    let delivered = client.begin().await.unwrap();
    client.deliver(&delivered, 3).await.unwrap();
    fail_over(&mut cluster).await;
    client.confirm(&delivered, true).await.unwrap();
    assert_eq!(next_start(&client, &partition).await, PollStart::At(offset(5)));
    // Confirmed, or not, as the log has it; never further than the client is.
    client.poll(1).await;
    fail_over(&mut cluster).await;
    let start = next_start(&client, &partition).await;
    assert!([5, 6].map(|at| PollStart::At(offset(at))).contains(&start), "{start:?}");
    // Committed.
    client.poll(1).await;
    client.commit().await.unwrap();
    let committed = client.committed(&partition).await.unwrap();
    fail_over(&mut cluster).await;
    assert_eq!(client.committed(&partition).await, Some(committed));
    assert_eq!(next_start(&client, &partition).await, PollStart::At(offset(committed)));
    assert_eq!(client.owned().await.len(), 4, "nobody was expelled");
    cluster.end().await;
}

#[actix_rt::test]
async fn an_edge_that_dies_with_an_answer_in_hand_is_not_waited_for() {
    let mut cluster = start().await;
    let coordinator = coordinator(&cluster, "g").await;
    let edges: Vec<usize> = cluster.running().into_iter().filter(|broker| *broker != coordinator).collect();
    let client = Client::create(cluster.broker(edges[0]), "g", definition()).await;
    client.subscribe(&["t"]).await;
    client.poll(2).await;
    let grant = client.begin().await.unwrap();
    client.deliver(&grant, 3).await.unwrap();
    cluster.kill(edges[0]).await;
    let client = client.through(cluster.broker(edges[1]));
    // Nobody knows whether the client has it, so it is not committed; but what the client names is.
    within(async {
        loop {
            match client.groups.commit_positions(&client.group, &client.name).await {
                Err(GroupRequestError::DeliveryUnknown(_)) => return,
                Err(error) => assert!(error.is_retriable(), "{error}"),
                Ok(()) => panic!("committed what is not known"),
            }
        }
    })
    .await;
    let patient = PollRequest { patience: Duration::from_secs(50), ..PollRequest::default() };
    let again = async || client.groups.begin_poll(&client.group, &client.name, patient).await;
    let grant = tokio::time::timeout(Duration::from_secs(2), patiently(again)).await.unwrap().unwrap();
    assert!(grant.partitions.iter().all(|(_, start)| *start == PollStart::At(offset(2))), "{:?}", grant.partitions);
    assert_eq!(grant.generation, Some(1), "it travels between brokers");
    client.deliver(&grant, 3).await.unwrap();
    client.confirm(&grant, true).await.unwrap();
    client.commit().await.unwrap();
    assert_eq!(client.committed(&place("t", 0)).await, Some(5));
    cluster.end().await;
}

#[actix_rt::test]
async fn a_delivery_that_the_next_coordinator_finds_is_waited_for_as_long_as_its_edge_has_to_confirm_it() {
    let mut cluster = start().await;
    let edge = another(&cluster, "g").await;
    let client = Client::create(cluster.broker(edge), "g", definition()).await;
    client.subscribe(&["t"]).await;
    client.poll(2).await;
    let grant = client.begin().await.unwrap();
    client.deliver(&grant, 3).await.unwrap();
    // Its edge lives on and says nothing.
    let dead = coordinator(&cluster, "g").await;
    cluster.kill(dead).await;
    coordinator(&cluster, "g").await;
    let found = async || client.groups.heartbeat(&client.group, &client.name).await;
    patiently(found).await.unwrap();
    let patient = PollRequest { patience: Duration::from_secs(50), ..PollRequest::default() };
    let again = async || client.groups.begin_poll(&client.group, &client.name, patient).await;
    let grant = tokio::time::timeout(Duration::from_secs(2), patiently(again)).await.unwrap().unwrap();
    assert!(grant.partitions.iter().all(|(_, start)| *start == PollStart::At(offset(2))), "{:?}", grant.partitions);
    cluster.end().await;
}

/// What a client of the chaos below knows.
struct Reader {
    client: Client,
    received: BTreeMap<TopicPartition, BTreeSet<u64>>,
    acked: BTreeMap<TopicPartition, u64>,
}

impl Reader {
    /// One poll and one commit through a broker. Errors are borne: the next one goes on.
    async fn turn(&mut self, broker: &BrokerHandle) {
        let client = self.client.through(broker);
        let request = PollRequest { patience: Duration::from_millis(300), ..PollRequest::default() };
        let Ok(grant) = client.groups.begin_poll(&client.group, &client.name, request).await else { return };
        let Ok(refused) = client.deliver(&grant, 3).await else { return };
        for (partition, start) in &grant.partitions {
            let from = match start {
                PollStart::At(offset) => offset.get(),
                PollStart::Reset(_) => 0,
            };
            if !refused.contains(partition) {
                self.received.entry(partition.clone()).or_default().extend(from..from + 3);
            }
        }
        drop(client.groups.confirm(&client.group, &client.name, grant.poll, true).await);
        if client.groups.commit_positions(&client.group, &client.name).await.is_ok() {
            // As the group says from now on, at least.
            if let Ok(committed) = client.groups.committed(&client.group, None).await {
                for (partition, committed) in committed {
                    let acked = self.acked.entry(partition).or_default();
                    *acked = (*acked).max(committed.offset.get());
                }
            }
        }
    }
}

#[actix_rt::test]
async fn nothing_is_skipped_and_no_commit_is_lost_while_coordinators_die() {
    let mut cluster = start().await;
    let mut readers = Vec::new();
    for broker in 0..2 {
        let client = Client::create(cluster.broker(broker), "g", definition()).await;
        client.subscribe(&["t"]).await;
        readers.push(Reader { client, received: BTreeMap::new(), acked: BTreeMap::new() });
    }
    for round in 0..4 {
        let dead = coordinator(&cluster, "g").await;
        for (number, reader) in readers.iter_mut().enumerate() {
            reader.turn(cluster.broker((round + number) % 3)).await;
        }
        // One dies between the turns of the readers, the others in the middle of one.
        let edge = cluster.broker((dead + 1) % 3).clone();
        let turns = async {
            for reader in &mut readers {
                within(reader.turn(&edge)).await;
            }
        };
        let ((), ()) = tokio::join!(turns, cluster.kill(dead));
        coordinator(&cluster, "g").await;
        cluster.restart(dead).await;
    }
    let client = readers[0].client.through(cluster.broker(0));
    let committed = patiently(async || client.groups.committed(&client.group, None).await).await.unwrap();
    let mut received: BTreeMap<TopicPartition, BTreeSet<u64>> = BTreeMap::new();
    for reader in &readers {
        for (partition, offsets) in &reader.received {
            received.entry(partition.clone()).or_default().extend(offsets);
        }
        for (partition, acked) in &reader.acked {
            assert!(committed[partition].offset.get() >= *acked, "{partition}: {acked} was acknowledged");
        }
    }
    assert!(!committed.is_empty());
    for (partition, committed) in committed {
        let received = &received[&partition];
        let skipped: Vec<u64> = (0..committed.offset.get()).filter(|at| !received.contains(at)).collect();
        assert_eq!(skipped, Vec::<u64>::new(), "{partition} up to {}", committed.offset);
    }
    let described = patiently(async || client.groups.describe(&client.group).await).await.unwrap();
    assert_eq!(described.members.len(), 2, "a failover expels nobody");
    let owned: Vec<&TopicPartition> = described.members.iter().flat_map(|member| &member.assignment).collect();
    assert_eq!(owned.len(), 4);
    cluster.end().await;
}

#[actix_rt::test]
async fn a_coordinator_that_drains_hands_its_groups_over() {
    let cluster = start().await;
    create_topic(cluster.broker(0), "u", 1).await;
    let leaving = coordinator(&cluster, "g").await;
    let edge = another(&cluster, "g").await;
    let by_token = InstanceDefinition { confirmation: Confirmation::Token, ..definition() };
    let client = Client::create(cluster.broker(edge), "g", by_token).await;
    client.subscribe(&["t"]).await;
    let first = client.begin().await.unwrap();
    client.deliver(&first, 2).await.unwrap();
    within(cluster.broker(leaving).resign_leaderships(Duration::from_secs(30))).await;
    let commit = async || client.groups.commit_as(&client.group, &client.name, first.poll, None).await;
    patiently(commit).await.unwrap();
    assert!(within(cluster.broker(leaving).drain(Duration::from_secs(60))).await.is_complete());
    assert_eq!(client.committed(&place("t", 3)).await, Some(2));
    let request = PollRequest { acknowledged: Some(first.poll), ..PollRequest::default() };
    let second = patiently(async || client.groups.begin_poll(&client.group, &client.name, request).await);
    assert!(second.await.unwrap().partitions.iter().all(|(_, start)| *start == PollStart::At(offset(2))));
    let image = cluster.broker(edge).image();
    let partition = image.partition(&offsets_topic(), partition_of(&client.group)).unwrap();
    assert_ne!(partition.leader, Some(cluster.broker(leaving).broker_id()));
    cluster.end().await;
}
