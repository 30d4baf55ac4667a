//! Consumers of one group, one on every broker for as long as it lives: each polls through the broker of its own host,
//! and commits what it was given, or what it says that it has.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use pubg1_actors::{
    BrokerHandle, DeliveredRange, GroupRequestError, GroupsHandle, NewInstance, OffsetToCommit, PollGrant, PollRequest,
};
use pubg1_model::{
    GroupId, InstanceName, Offset, PartitionId, TopicPartition,
    consumer_instance::{InstanceDefinition, PollStart, Subscription},
};
use pubg1_transport::backoff::SplitMix64;

use crate::{
    cluster::topic,
    history::{Record, records_of},
    workload::{Clients, pause},
};

/// The group.
const GROUP: &str = "readers";

/// A member that dies with its host is expelled while the run lasts.
fn definition() -> InstanceDefinition {
    InstanceDefinition { session_timeout_ms: 1_500, instance_timeout_ms: 6_000, ..InstanceDefinition::default() }
}

/// One consumer in one life of its host.
struct Consumer<'a> {
    clients: &'a Clients,
    broker: &'a BrokerHandle,
    groups: GroupsHandle,
    group: GroupId,
    name: InstanceName,
    /// Where it would go on itself, by partition.
    has: BTreeMap<TopicPartition, Offset>,
}

/// Consumes on one host, in one life of its broker.
pub(crate) async fn consume(clients: Rc<Clients>, broker: BrokerHandle, mut random: SplitMix64) {
    let (groups, group): (_, GroupId) = (broker.groups(), GROUP.parse().expect("a name"));
    loop {
        let new = NewInstance { name: None, definition: definition() };
        let subscription = Subscription::Topics(vec![topic()]);
        let created = groups.create_instance(&group, new).await;
        let Ok(name) = created else {
            pause(&mut random, 60).await;
            continue;
        };
        if groups.subscribe(&group, &name, subscription).await.is_err() {
            // What it has become is not known: another one, then.
            pause(&mut random, 60).await;
            continue;
        }
        let (groups, group) = (groups.clone(), group.clone());
        let mut consumer = Consumer { clients: &clients, broker: &broker, groups, group, name, has: BTreeMap::new() };
        loop {
            match consumer.turn(&mut random).await {
                Ok(()) => {}
                Err(GroupRequestError::UnknownInstance { .. }) => break,
                Err(_) => clients.history.borrow_mut().count("polls failed", 1),
            }
            pause(&mut random, 40).await;
        }
    }
}

impl Consumer<'_> {
    /// A poll, and what comes after it.
    async fn turn(&mut self, random: &mut SplitMix64) -> Result<(), GroupRequestError> {
        let calm = self.clients.calm.get();
        let floors = self.floors();
        let request = PollRequest { patience: Duration::from_millis(200), ..PollRequest::default() };
        let grant = self.groups.begin_poll(&self.group, &self.name, request).await?;
        for (partition, start) in &grant.partitions {
            let start = match start {
                PollStart::At(offset) => Some(offset.get()),
                PollStart::Reset(_) => None,
            };
            let floor = floors.get(&partition.partition).copied().flatten();
            self.clients.history.borrow_mut().poll_begins(partition.partition, floor, start);
        }
        let read = self.read(&grant).await;
        let ranges = read.iter().map(|(range, _)| range.clone()).collect();
        let delivered = self.groups.deliver(&self.group, &self.name, grant.poll, ranges).await?;
        // Now and then the client does not get the answer, or its broker does not hear that it has.
        let (received, is_told) = (random.below(8) > 0, random.below(8) > 0);
        if received {
            for (range, records) in &read {
                if !delivered.refused.contains(&range.partition) {
                    self.has.insert(range.partition.clone(), range.next);
                    self.clients.history.borrow_mut().delivered(range.partition.partition, records);
                }
            }
        }
        if is_told {
            self.groups.confirm(&self.group, &self.name, grant.poll, received).await?;
        }
        match random.below(4) {
            0 => {}
            1 => {
                let owned = grant.partitions.iter().map(|(partition, _)| partition);
                let known =
                    |partition: &TopicPartition| Some(OffsetToCommit::at(partition.clone(), *self.has.get(partition)?));
                let offsets = owned.filter_map(known).collect();
                self.groups.commit_offsets(&self.group, &self.name, offsets).await?;
            }
            _ => self.groups.commit_positions(&self.group, &self.name).await?,
        }
        self.look().await?;
        if calm {
            self.clients.consumes_well();
        }
        Ok(())
    }

    /// What is there for a poll.
    async fn read(&self, grant: &PollGrant) -> Vec<(DeliveredRange, Vec<Record>)> {
        let mut read = Vec::new();
        for (partition, start) in &grant.partitions {
            let from = match start {
                PollStart::At(offset) => *offset,
                PollStart::Reset(_) => Offset::ZERO,
            };
            let Ok(handle) = self.broker.partition(&partition.topic, partition.partition) else { continue };
            let Ok(fetched) = handle.read(from, 256).await else { continue };
            let records = records_of(&fetched.runs, from.get());
            let next = records.last().map_or(from, |(offset, _)| Offset::new(offset + 1));
            read.push((DeliveredRange { partition: partition.clone(), from, next }, records));
        }
        read
    }

    fn floors(&self) -> BTreeMap<PartitionId, Option<u64>> {
        let history = self.clients.history.borrow();
        (0..crate::cluster::PARTITIONS)
            .map(PartitionId)
            .map(|it| (it, history.group_read_begins(&name_of(it))))
            .collect()
    }

    /// What the group has committed is not behind what it had, and nobody was skipped.
    async fn look(&self) -> Result<(), GroupRequestError> {
        let floors = self.floors();
        let committed = self.groups.committed(&self.group, None).await?;
        let mut history = self.clients.history.borrow_mut();
        for (partition, floor) in floors {
            let found = committed.get(&TopicPartition { topic: topic(), partition });
            let found = found.map(|committed| committed.offset.get());
            history.group_read_ends(&name_of(partition), floor, found);
            history.consumed(partition, found.unwrap_or_default());
        }
        Ok(())
    }
}

/// The group in a partition, as the history knows it.
fn name_of(partition: PartitionId) -> String {
    format!("{GROUP} in {partition}")
}
