//! Consumer instances through the handle, on one broker.

use std::time::Duration;

use pubg1_model::{
    GroupId, InstanceName, Offset, TopicPartition,
    consumer_instance::{Confirmation, InstanceDefinition, OffsetReset, PollId, PollStart, Subscription},
};

use super::{commit, group, partition_of_group, place};
use crate::{
    BrokerHandle, CommitOffsetError, Delivered, DeliveredRange, GroupRequestError, GroupStatus, GroupsHandle,
    NewInstance, NewTopic, OffsetToCommit, PollGrant, PollRequest,
    fixture::*,
    testing::{Fault, inject, panic_group_coordinator},
};

/// What a client does with an instance, again and again while it is told to.
pub(super) struct Client {
    pub(super) groups: GroupsHandle,
    pub(super) group: GroupId,
    pub(super) name: InstanceName,
}

/// Tries again what may succeed later.
pub(super) async fn patiently<T>(
    request: impl AsyncFn() -> Result<T, GroupRequestError>,
) -> Result<T, GroupRequestError> {
    within(async {
        loop {
            match request().await {
                Err(error) if error.is_retriable() => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    })
    .await
}

pub(super) fn definition() -> InstanceDefinition {
    InstanceDefinition { client_id: "test".to_owned(), ..InstanceDefinition::default() }
}

impl Client {
    pub(super) async fn create(broker: &BrokerHandle, of: &str, definition: InstanceDefinition) -> Self {
        let (groups, group) = (broker.groups(), group(of));
        let new = NewInstance { name: None, definition };
        let name = patiently(async || groups.create_instance(&group, new.clone()).await).await.unwrap();
        Self { groups, group, name }
    }

    /// The same instance by way of another broker.
    pub(super) fn through(&self, broker: &BrokerHandle) -> Self {
        Self { groups: broker.groups(), group: self.group.clone(), name: self.name.clone() }
    }

    pub(super) async fn subscribe(&self, topics: &[&str]) {
        let subscription = Subscription::Topics(topics.iter().map(|name| topic(name)).collect());
        let subscribed = async || self.groups.subscribe(&self.group, &self.name, subscription.clone()).await;
        patiently(subscribed).await.unwrap();
    }

    pub(super) async fn begin(&self) -> Result<PollGrant, GroupRequestError> {
        patiently(async || self.groups.begin_poll(&self.group, &self.name, PollRequest::default()).await).await
    }

    /// Delivers `count` records of each partition.
    pub(super) async fn deliver(
        &self,
        grant: &PollGrant,
        count: u64,
    ) -> Result<Vec<TopicPartition>, GroupRequestError> {
        let range = |(partition, start): &(TopicPartition, PollStart)| {
            let from = match start {
                PollStart::At(offset) => *offset,
                PollStart::Reset(_) => Offset::ZERO,
            };
            DeliveredRange { partition: partition.clone(), from, next: offset(from.get() + count) }
        };
        let ranges: Vec<DeliveredRange> = grant.partitions.iter().map(range).collect();
        let deliver = async || self.groups.deliver(&self.group, &self.name, grant.poll, ranges.clone()).await;
        Ok(patiently(deliver).await?.refused)
    }

    pub(super) async fn confirm(&self, grant: &PollGrant, received: bool) -> Result<(), GroupRequestError> {
        patiently(async || self.groups.confirm(&self.group, &self.name, grant.poll, received).await).await
    }

    /// A poll that gets `count` records of each partition; where it began.
    pub(super) async fn poll(&self, count: u64) -> Vec<(TopicPartition, PollStart)> {
        let grant = self.begin().await.unwrap();
        assert_eq!(self.deliver(&grant, count).await, Ok(vec![]));
        self.confirm(&grant, true).await.unwrap();
        grant.partitions
    }

    pub(super) async fn commit(&self) -> Result<(), GroupRequestError> {
        patiently(async || self.groups.commit_positions(&self.group, &self.name).await).await
    }

    pub(super) async fn commit_at(&self, partition: TopicPartition, to: u64) -> Result<(), GroupRequestError> {
        let offsets = vec![OffsetToCommit::at(partition, offset(to))];
        patiently(async || self.groups.commit_offsets(&self.group, &self.name, offsets.clone()).await).await
    }

    pub(super) async fn committed(&self, partition: &TopicPartition) -> Option<u64> {
        let committed = patiently(async || self.groups.committed(&self.group, None).await).await.unwrap();
        committed.get(partition).map(|committed| committed.offset.get())
    }

    pub(super) async fn owned(&self) -> Vec<TopicPartition> {
        patiently(async || self.groups.instance(&self.group, &self.name).await).await.unwrap().assignment
    }

    pub(super) async fn delete(&self) -> Result<(), GroupRequestError> {
        patiently(async || self.groups.delete_instance(&self.group, &self.name).await).await
    }
}

pub(super) async fn create_topic(broker: &BrokerHandle, name: &str, partitions: u32) {
    let new = NewTopic { name: topic(name), partitions: Some(partitions), replication_factor: None, config: None };
    within(broker.create_topic(new)).await.unwrap();
}

fn at(starts: &[(TopicPartition, PollStart)], partition: &TopicPartition) -> PollStart {
    starts.iter().find(|(known, _)| known == partition).map(|(_, start)| *start).unwrap()
}

#[actix_rt::test]
async fn a_member_alone_reads_everything_and_goes_on_where_it_was() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let client = Client::create(&broker, "g", definition()).await;
    assert_eq!(client.begin().await.unwrap_err(), GroupRequestError::NotSubscribed(client.name.clone()));
    client.subscribe(&["pubg1"]).await;
    let first = client.poll(3).await;
    assert_eq!(first.len(), 4, "the first poll has everything already");
    assert!(first.iter().all(|(_, start)| *start == PollStart::Reset(OffsetReset::Earliest)));
    client.commit().await.unwrap();
    let partition = place("pubg1", 1);
    assert_eq!(client.committed(&partition).await, Some(3));
    assert_eq!(at(&client.poll(2).await, &partition), PollStart::At(offset(3)));
    let described = within(broker.groups().describe(&client.group)).await.unwrap();
    assert_eq!((described.status, described.members.len(), described.generation), (GroupStatus::Stable, 1, 1));
    assert_eq!(described.members[0].instance.as_ref(), Some(&client.name));
    let known = described.partitions.iter().find(|known| known.partition == partition).unwrap();
    assert_eq!(known.owner.as_ref(), Some(&described.members[0].member_id));
    assert_eq!(known.committed.as_ref().map(|committed| committed.offset), Some(offset(3)));
    broker.abort().await;

    // Everything but what was not committed yet survives.
    let broker = fixture.start().await;
    let client = client.through(&broker);
    assert_eq!(at(&client.poll(1).await, &partition), PollStart::At(offset(5)));
    let listed = within(broker.groups().list()).await;
    assert_eq!((listed.missing, listed.groups.len()), (0, 1));
    assert_eq!((listed.groups[0].status, listed.groups[0].members), (GroupStatus::Stable, 1));
    client.delete().await.unwrap();
    assert!(matches!(client.begin().await, Err(GroupRequestError::UnknownInstance { .. })));
    let described = within(broker.groups().describe(&client.group)).await.unwrap();
    assert_eq!((described.status, described.members.len()), (GroupStatus::Empty, 0));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn what_was_not_received_comes_again() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let client = Client::create(&broker, "g", definition()).await;
    client.subscribe(&["pubg1"]).await;
    let partition = place("pubg1", 0);
    client.poll(5).await;
    for _ in 0..2 {
        let grant = client.begin().await.unwrap();
        assert_eq!(at(&grant.partitions, &partition), PollStart::At(offset(5)));
        client.deliver(&grant, 2).await.unwrap();
        client.confirm(&grant, false).await.unwrap();
    }
    client.commit().await.unwrap();
    assert_eq!(client.committed(&partition).await, Some(5), "what it has, and no more");
    // A reset is pinned before anybody hears of it, even if nothing is there.
    let latest = InstanceDefinition { auto_offset_reset: OffsetReset::Latest, ..definition() };
    let other = Client::create(&broker, "h", latest).await;
    other.subscribe(&["pubg1"]).await;
    let grant = other.begin().await.unwrap();
    assert_eq!(at(&grant.partitions, &partition), PollStart::Reset(OffsetReset::Latest));
    let pinned = DeliveredRange { partition: partition.clone(), from: offset(7), next: offset(7) };
    within(other.groups.deliver(&other.group, &other.name, grant.poll, vec![pinned])).await.unwrap();
    other.confirm(&grant, false).await.unwrap();
    broker.abort().await;
    let broker = fixture.start().await;
    let grant = other.through(&broker).begin().await.unwrap();
    assert_eq!(at(&grant.partitions, &partition), PollStart::At(offset(7)));
    broker.abort().await;
}

#[actix_rt::test]
async fn polls_of_one_instance_come_one_after_the_other() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let client = Client::create(&broker, "g", definition()).await;
    client.subscribe(&["pubg1"]).await;
    let first = client.begin().await.unwrap();
    let second = async {
        let grant = client.begin().await.unwrap();
        (client.deliver(&grant, 1).await.unwrap(), grant)
    };
    let ended = async {
        client.deliver(&first, 4).await.unwrap();
        tokio::task::yield_now().await;
        client.confirm(&first, true).await.unwrap();
    };
    let ((refused, second), ()) = tokio::join!(second, ended);
    assert_eq!(refused, []);
    assert!(second.partitions.iter().all(|(_, start)| *start == PollStart::At(offset(4))));
    // A commit waits to hear whether the client has it.
    let (committed, confirmed) = tokio::join!(client.commit(), client.confirm(&second, true));
    assert_eq!((committed, confirmed), (Ok(()), Ok(())));
    assert_eq!(client.committed(&place("pubg1", 2)).await, Some(5));

    // Who takes longer than it said is not waited for any longer.
    let held_for = Duration::from_millis(50);
    let brief = PollRequest { held_for, ..PollRequest::default() };
    within(client.groups.begin_poll(&client.group, &client.name, brief)).await.unwrap();
    let patient = PollRequest { patience: Duration::from_secs(50), ..PollRequest::default() };
    let next = client.groups.begin_poll(&client.group, &client.name, patient);
    let next = tokio::time::timeout(Duration::from_secs(2), next).await.unwrap().unwrap();
    client.confirm(&next, false).await.unwrap();

    // Who is waited for in vain is given up.
    let slow = client.begin().await.unwrap();
    let impatient = PollRequest { patience: Duration::ZERO, ..PollRequest::default() };
    let next = within(client.groups.begin_poll(&client.group, &client.name, impatient)).await.unwrap();
    assert_eq!(client.deliver(&slow, 1).await, Err(GroupRequestError::PollGone(slow.poll)));
    assert_eq!(client.confirm(&slow, true).await, Err(GroupRequestError::PollGone(slow.poll)));
    client.deliver(&next, 1).await.unwrap();
    let again = within(client.groups.begin_poll(&client.group, &client.name, impatient)).await.unwrap();
    assert_eq!(at(&again.partitions, &place("pubg1", 2)), PollStart::At(offset(5)), "nobody has confirmed it");
    broker.abort().await;
}

#[actix_rt::test]
async fn members_share_and_only_owners_commit() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    create_topic(&broker, "t", 8).await;
    let [one, two] =
        [Client::create(&broker, "g", definition()).await, Client::create(&broker, "g", definition()).await];
    one.subscribe(&["t"]).await;
    one.poll(4).await;
    let version = within(one.groups.instance(&one.group, &one.name)).await.unwrap().assignment_version;
    let grant = one.begin().await.unwrap();
    let (changed, ()) = tokio::join!(
        one.groups.await_change(&one.group, &one.name, version, Duration::from_secs(60)),
        two.subscribe(&["t"]),
    );
    assert_ne!(changed.unwrap(), version);
    let (of_one, of_two) = (one.owned().await, two.owned().await);
    assert_eq!((of_one.len(), of_two.len()), (4, 4));
    assert!(of_one.iter().all(|partition| !of_two.contains(partition)));
    // The poll that was under way gives nothing of what was lost; what was kept goes on without a gap.
    let mut refused = one.deliver(&grant, 1).await.unwrap();
    refused.sort();
    assert_eq!(refused, of_two);
    one.confirm(&grant, true).await.unwrap();
    assert_eq!(one.commit_at(of_two[0].clone(), 1).await, Err(GroupRequestError::NotOwner(of_two[0].clone())));
    one.commit().await.unwrap();
    assert_eq!(one.committed(&of_one[0]).await, Some(5));
    assert_eq!(two.committed(&of_two[0]).await, None);
    assert_eq!(two.poll(2).await.len(), 4);
    two.commit_at(of_two[0].clone(), 6).await.unwrap();
    // Nobody from outside.
    let simple = commit(&broker, "g", place("t", 0), 1).await;
    assert_eq!(simple, Err(CommitOffsetError::HasMembers(group("g"))));
    let groups = broker.groups();
    assert_eq!(within(groups.delete_group(&one.group)).await, Err(GroupRequestError::HasMembers(group("g"))));
    let seek = groups.seek_group(&one.group, vec![(place("t", 0), offset(0))]);
    assert_eq!(within(seek).await, Err(GroupRequestError::HasMembers(group("g"))));

    let member = within(groups.instance(&two.group, &two.name)).await.unwrap().member_id.unwrap();
    within(groups.remove_member(&two.group, &member)).await.unwrap();
    assert_eq!(one.owned().await.len(), 8);
    // It is its own again, but another has read on there meanwhile.
    assert_eq!(one.commit_at(of_two[0].clone(), 4).await, Err(GroupRequestError::NotOwner(of_two[0].clone())));
    assert_eq!(one.committed(&of_two[0]).await, Some(6));
    one.delete().await.unwrap();
    within(groups.seek_group(&one.group, vec![(place("t", 0), offset(2))])).await.unwrap();
    assert_eq!(one.committed(&place("t", 0)).await, Some(2));
    within(groups.delete_offsets(&one.group, vec![place("t", 0)])).await.unwrap();
    assert_eq!(one.committed(&place("t", 0)).await, None);
    within(groups.delete_group(&one.group)).await.unwrap();
    assert_eq!(within(groups.describe(&one.group)).await, Err(GroupRequestError::UnknownGroup(group("g"))));
    broker.abort().await;
    let broker = fixture.start().await;
    let gone = patiently(async || broker.groups().describe(&group("g")).await).await;
    assert_eq!(gone, Err(GroupRequestError::UnknownGroup(group("g"))));
    broker.drain(Duration::from_secs(60)).await;
}

#[actix_rt::test]
async fn a_poll_tells_the_generation_once_it_is_stored() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let one = Client::create(&broker, "g", definition()).await;
    let two = Client::create(&broker, "g", definition()).await;
    one.subscribe(&["pubg1"]).await;
    let grant = one.begin().await.unwrap();
    assert_eq!(grant.generation, Some(1));
    let log = partition_of_group(&broker, "g");
    inject(&log, Fault::HoldFlushes).unwrap();
    let members = async |count| {
        while broker.groups().list().await.groups.iter().all(|group| group.members != count) {}
    };
    let begun = async {
        within(members(2)).await;
        let told = tokio::time::timeout(Duration::from_millis(100), one.begin()).await;
        assert!(told.is_err(), "{told:?} is in no log");
        inject(&log, Fault::ResumeFlushes).unwrap();
    };
    one.confirm(&grant, false).await.unwrap();
    tokio::join!(two.subscribe(&["pubg1"]), begun);
    let grant = one.begin().await.unwrap();
    assert_eq!((grant.generation, grant.partitions.len()), (Some(2), 2));
    // What is delivered is the member's in the generation that comes with it.
    two.delete().await.unwrap();
    let ranges = grant.partitions.iter().map(|(partition, _)| DeliveredRange {
        partition: partition.clone(),
        from: Offset::ZERO,
        next: offset(1),
    });
    let delivered = one.groups.deliver(&one.group, &one.name, grant.poll, ranges.collect());
    assert_eq!(within(delivered).await, Ok(Delivered { refused: vec![], generation: Some(3) }));
    one.confirm(&grant, true).await.unwrap();
    // By hand it is no member.
    one.delete().await.unwrap();
    let by_hand = Client::create(&broker, "g", definition()).await;
    let partitions = vec![place("pubg1", 0)];
    within(by_hand.groups.assign(&by_hand.group, &by_hand.name, partitions)).await.unwrap();
    assert_eq!(by_hand.begin().await.unwrap().generation, None);
    broker.abort().await;
}

#[actix_rt::test]
async fn a_silent_member_is_expelled_and_joins_again_with_a_poll() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    create_topic(&broker, "t", 2).await;
    let short = InstanceDefinition { session_timeout_ms: 1_000, ..definition() };
    let frozen = Client::create(&broker, "g", short).await;
    let other = Client::create(&broker, "g", definition()).await;
    frozen.subscribe(&["t"]).await;
    frozen.poll(3).await;
    other.subscribe(&["t"]).await;
    within(async { while other.owned().await.len() < 2 {} }).await;
    // Not only with its positions: whatever it commits now could undo what the other has done.
    let expelled = GroupRequestError::Expelled(frozen.name.clone());
    assert_eq!(frozen.commit().await, Err(expelled.clone()));
    assert_eq!(frozen.commit_at(place("t", 0), 3).await, Err(expelled));
    other.poll(5).await;
    other.commit().await.unwrap();
    let starts = frozen.poll(1).await;
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0].1, PollStart::At(offset(5)), "it goes on where the group is");
    broker.abort().await;
}

#[actix_rt::test]
async fn an_instance_that_nobody_uses_goes() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let short = InstanceDefinition { instance_timeout_ms: 1_000, ..definition() };
    let client = Client::create(&broker, "g", short).await;
    client.subscribe(&["pubg1"]).await;
    // A poll is no silence, however long it takes.
    let grant = client.begin().await.unwrap();
    pass(Duration::from_millis(1_500)).await;
    client.confirm(&grant, true).await.unwrap();
    within(async {
        let groups = broker.groups();
        while groups.describe(&client.group).await.is_ok_and(|group| group.members.len() == 1) {
            pass(Duration::from_millis(50)).await;
        }
    })
    .await;
    let gone = client.begin().await;
    assert!(matches!(gone, Err(GroupRequestError::UnknownInstance { .. })), "{gone:?}");
    broker.abort().await;
}

#[actix_rt::test]
async fn tokens_confirm_what_the_client_has() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let by_token =
        InstanceDefinition { confirmation: Confirmation::Token, auto_commit_interval_ms: Some(0), ..definition() };
    let client = Client::create(&broker, "g", by_token).await;
    client.subscribe(&["pubg1"]).await;
    let partition = place("pubg1", 3);
    let begin = async |acknowledged| {
        let request = PollRequest { acknowledged, ..PollRequest::default() };
        let grant = within(client.groups.begin_poll(&client.group, &client.name, request)).await.unwrap();
        client.deliver(&grant, 2).await.unwrap();
        client.confirm(&grant, true).await.unwrap();
        (grant.poll, at(&grant.partitions, &partition))
    };
    let commit = async |poll| within(client.groups.commit_as(&client.group, &client.name, poll, None)).await;
    commit(PollId::NONE).await.unwrap();
    let (first, _) = begin(Some(PollId::NONE)).await;
    let (lost, start) = begin(Some(first)).await;
    assert_eq!((start, client.committed(&partition).await), (PollStart::At(offset(2)), Some(2)));
    let (second, start) = begin(Some(first)).await;
    assert_eq!(start, PollStart::At(offset(2)), "the answer got lost: the same again");
    assert_eq!(commit(lost).await, Err(GroupRequestError::PollGone(lost)));
    assert_eq!(client.committed(&partition).await, Some(2));
    commit(second).await.unwrap();
    commit(second).await.unwrap();
    assert_eq!(client.committed(&partition).await, Some(4));
    assert_eq!(commit(first).await, Err(GroupRequestError::PollGone(first)), "it has more than this by now");
    let offsets = Some(vec![OffsetToCommit::at(partition.clone(), offset(3))]);
    within(client.groups.commit_as(&client.group, &client.name, first, offsets)).await.unwrap();
    assert_eq!(client.committed(&partition).await, Some(3));
    broker.abort().await;
}

#[actix_rt::test]
async fn partitions_by_hand_and_seeks() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let client = Client::create(&broker, "g", definition()).await;
    let (mine, foreign) = (place("pubg1", 1), place("pubg1", 2));
    within(client.groups.assign(&client.group, &client.name, vec![mine.clone()])).await.unwrap();
    assert_eq!(client.poll(2).await.len(), 1);
    let subscription = Subscription::Topics(vec![topic("pubg1")]);
    let mixed = within(client.groups.subscribe(&client.group, &client.name, subscription)).await;
    assert_eq!(mixed, Err(GroupRequestError::MixedSubscription(client.name.clone())));
    let seek = async |partition: &TopicPartition, to| {
        within(client.groups.seek(&client.group, &client.name, vec![(partition.clone(), offset(to))])).await
    };
    assert_eq!(seek(&foreign, 1).await, Err(GroupRequestError::NotAssigned(foreign.clone())));
    let grant = client.begin().await.unwrap();
    seek(&mine, 9).await.unwrap();
    assert_eq!(client.deliver(&grant, 1).await, Ok(vec![mine.clone()]), "the poll read elsewhere");
    client.confirm(&grant, true).await.unwrap();
    assert_eq!(client.poll(1).await, [(mine.clone(), PollStart::At(offset(9)))]);
    client.commit().await.unwrap();
    assert_eq!(client.committed(&mine).await, Some(10));
    assert_eq!(client.commit_at(place("none", 0), 1).await.map_err(|error| error.is_retriable()), Err(false));
    broker.abort().await;
}

#[actix_rt::test]
async fn a_seek_takes_nothing_back_that_was_committed_unless_somebody_asks() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let partition = place("pubg1", 1);
    for asks in [false, true] {
        let by_itself = InstanceDefinition { auto_commit_interval_ms: Some(0), ..definition() };
        let client = Client::create(&broker, if asks { "g" } else { "h" }, by_itself).await;
        client.subscribe(&["pubg1"]).await;
        client.poll(8).await;
        client.commit().await.unwrap();
        within(client.groups.seek(&client.group, &client.name, vec![(partition.clone(), offset(3))])).await.unwrap();
        client.poll(2).await;
        client.poll(1).await;
        assert_eq!(client.committed(&partition).await, Some(8), "by itself it commits nothing that is less");
        if asks {
            client.commit().await.unwrap();
        }
        client.delete().await.unwrap();
        assert_eq!(client.committed(&partition).await, Some(if asks { 6 } else { 8 }));
    }
    broker.abort().await;
}

#[actix_rt::test]
async fn assignments_follow_the_topics() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let client = Client::create(&broker, "g", definition()).await;
    let pattern = Subscription::Pattern("data-.*".to_owned());
    within(client.groups.subscribe(&client.group, &client.name, pattern)).await.unwrap();
    assert_eq!(client.owned().await, []);
    create_topic(&broker, "data-a", 2).await;
    within(async { while client.owned().await.len() < 2 {} }).await;
    client.poll(3).await;
    client.commit().await.unwrap();
    create_topic(&broker, "data-b", 1).await;
    within(async { while client.owned().await.len() < 3 {} }).await;
    within(broker.delete_topic(&topic("data-a"))).await.unwrap();
    within(async { while client.owned().await.len() > 1 {} }).await;
    assert_eq!(client.committed(&place("data-a", 0)).await, None);
    create_topic(&broker, "data-a", 1).await;
    within(async { while client.owned().await.len() < 2 {} }).await;
    let start = at(&client.poll(1).await, &place("data-a", 0));
    assert_eq!(start, PollStart::Reset(OffsetReset::Earliest), "it is another topic");
    broker.abort().await;
}

#[actix_rt::test]
async fn a_static_identity_belongs_to_the_last_who_came_with_it() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let identity = InstanceDefinition { group_instance_id: Some("one".to_owned()), ..definition() };
    let first = Client::create(&broker, "g", identity.clone()).await;
    first.subscribe(&["pubg1"]).await;
    first.poll(2).await;
    first.commit().await.unwrap();
    let second = Client::create(&broker, "g", identity).await;
    second.subscribe(&["pubg1"]).await;
    assert_eq!((first.owned().await.len(), second.owned().await.len()), (0, 4));
    let fenced = GroupRequestError::Fenced { instance: first.name.clone(), group_instance_id: "one".to_owned() };
    assert_eq!(first.begin().await, Err(fenced));
    assert_eq!(at(&second.poll(1).await, &place("pubg1", 0)), PollStart::At(offset(2)));
    let generation = within(broker.groups().describe(&group("g"))).await.unwrap().generation;
    assert_eq!(generation, 1, "a static member comes back without a rebalance");
    broker.abort().await;
}

#[actix_rt::test]
async fn how_far_a_group_is_behind_is_looked_at() {
    let fixture = Fixture::new();
    let broker = fixture.start().await;
    let here = partition(&broker, 1);
    for value in ["a", "b", "c"] {
        append(&here, batch(&[value])).await.unwrap();
    }
    commit(&broker, "g", place("pubg1", 1), 1).await.unwrap();
    let samples =
        async || within(broker.groups().describe(&group("g"))).await.unwrap().partitions[0].lag_samples.clone();
    within(async {
        while samples().await.is_empty() {
            pass(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(samples().await[0].lag, 2);
    let exported = |line: &str| broker.metrics().encode().unwrap().lines().any(|it| it.starts_with(line));
    assert!(exported("pubg1_group_lag_records{group=\"g\",partition=\"1\",topic=\"pubg1\"} 2"));
    assert!(exported("pubg1_groups{state=\"Empty\"} 1"));
    within(broker.groups().delete_group(&group("g"))).await.unwrap();
    assert!(!exported("pubg1_group_lag_records{"), "series end with their group");
    broker.abort().await;
}

#[actix_rt::test]
async fn offsets_of_a_group_that_is_alive_do_not_expire() {
    let fixture = Fixture::new();
    let broker = fixture.start_with(|config| config.offsets_retention_ms = 1_000).await;
    let alive = Client::create(&broker, "alive", definition()).await;
    alive.subscribe(&["pubg1"]).await;
    alive.poll(2).await;
    alive.commit().await.unwrap();
    commit(&broker, "simple", place("pubg1", 1), 7).await.unwrap();
    let groups = broker.groups();
    let is_gone = async |of: &str| {
        let described = groups.describe(&group(of)).await;
        matches!(described, Err(GroupRequestError::UnknownGroup(_)))
    };
    within(async { while !is_gone("simple").await {} }).await;
    assert_eq!(alive.committed(&place("pubg1", 1)).await, Some(2));
    alive.delete().await.unwrap();
    assert_eq!(alive.committed(&place("pubg1", 1)).await, Some(2), "it counts from now");
    within(async { while !is_gone("alive").await {} }).await;
    broker.abort().await;
    let broker = fixture.start().await;
    assert_eq!(patiently(async || broker.groups().committed(&group("alive"), None).await).await.unwrap().len(), 0);
    broker.abort().await;
}

#[actix_rt::test]
async fn the_actor_may_die_at_every_step_of_a_poll() {
    let fixture = Fixture::new();
    let broker = fixture
        .start_with(|config| {
            config.restart.restarts_max = 50;
        })
        .await;
    let client = Client::create(&broker, "g", definition()).await;
    client.subscribe(&["pubg1"]).await;
    let partition = place("pubg1", 0);
    client.poll(2).await;
    client.commit().await.unwrap();
    panic_group_coordinator(&broker);
    // Begun, and forgotten: nothing was delivered.
    let grant = client.begin().await.unwrap();
    assert_eq!(at(&grant.partitions, &partition), PollStart::At(offset(2)));
    panic_group_coordinator(&broker);
    assert_eq!(client.deliver(&grant, 1).await, Err(GroupRequestError::PollGone(grant.poll)));
    // Delivered: its edge lives, and may still confirm it.
    let grant = client.begin().await.unwrap();
    client.deliver(&grant, 3).await.unwrap();
    panic_group_coordinator(&broker);
    assert_eq!(client.deliver(&grant, 3).await, Ok(vec![]), "said twice");
    let (committed, confirmed) = tokio::join!(client.commit(), client.confirm(&grant, true));
    assert_eq!((committed, confirmed), (Ok(()), Ok(())));
    panic_group_coordinator(&broker);
    assert_eq!(client.committed(&partition).await, Some(5));
    assert_eq!(at(&client.begin().await.unwrap().partitions, &partition), PollStart::At(offset(5)));
    broker.drain(Duration::from_secs(60)).await;
}
