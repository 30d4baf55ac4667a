//! What a client gets through an instance, whatever goes wrong around it.

mod histories;
mod stored;

use super::*;
use crate::{BrokerId, Offset, PartitionId, TopicPartition};

fn partition(number: u32) -> TopicPartition {
    TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(number) }
}

const fn edge(broker: u32) -> Edge {
    Edge { broker: BrokerId(broker), incarnation: 7 }
}

const fn offset(number: u64) -> Offset {
    Offset::new(number)
}

/// An instance that owns these partitions.
fn instance(confirmation: Confirmation, partitions: &[u32]) -> ConsumerInstance {
    let definition = InstanceDefinition { confirmation, ..InstanceDefinition::default() };
    let mut instance = ConsumerInstance::new(definition, 1, 0, 0);
    let topics = Subscription::Topics(vec!["t".parse().unwrap()]);
    instance.subscribe(topics, Some("m".to_owned()), 1);
    instance.set_assignment(partitions.iter().copied().map(partition).collect(), 2);
    instance
}

fn new_poll(poll: u64, attempt: u64) -> NewPoll {
    NewPoll { poll: PollId(poll), attempt, edge: edge(0), acknowledged: None, held_for_ms: 1_000 }
}

fn range(number: u32, from: u64, next: u64) -> Range {
    Range { partition: partition(number), from: offset(from), next: offset(next) }
}

#[test]
fn a_repeated_request_is_recognised() {
    let mut instance = instance(Confirmation::Edge, &[0, 1]);
    let begun = instance.begin_poll(new_poll(1, 11), |_| None, 0).unwrap();
    assert_eq!(instance.begin_poll(new_poll(2, 11), |_| None, 1), Ok(begun));
    let under_way = UnderWay { poll: PollId(1), edge: edge(0), until_ms: 1_000 };
    assert_eq!(instance.begin_poll(new_poll(2, 12), |_| None, 1), Err(under_way));
    let ranges = [range(0, 0, 5), range(1, 3, 3)];
    assert_eq!(instance.deliver(PollId(1), &ranges, 2), Ok(vec![]));
    assert_eq!(instance.deliver(PollId(1), &ranges, 2), Ok(vec![]));
    assert_eq!(instance.deliver(PollId(1), &[range(0, 0, 6)], 2), Ok(vec![partition(0)]), "not what was stored");
    assert_eq!(instance.deliver(PollId(2), &ranges, 2), Err(PollOver));
    assert_eq!(instance.confirm(PollId(1), true, 3), Ok(()));
    assert_eq!(instance.confirm(PollId(1), true, 3), Err(PollOver));
    assert_eq!(instance.confirmed_positions(), [(partition(0), offset(5)), (partition(1), offset(3))]);
}

#[test]
fn a_poll_ends_in_time_and_its_deliveries_stay_unknown() {
    let mut instance = instance(Confirmation::Edge, &[0]);
    instance.begin_poll(new_poll(1, 1), |_| Some(offset(4)), 0).unwrap();
    instance.deliver(PollId(1), &[range(0, 4, 9)], 1).unwrap();
    assert!(matches!(instance.positions_to_commit(2), Err(DeliveryUnknown::UntilConfirmed(_))));
    assert!(instance.is_polling(999) && !instance.is_polling(1_000));
    assert!(!instance.has_run_out(999) && instance.has_run_out(1_000));
    assert_eq!(instance.positions_to_commit(1_000), Err(DeliveryUnknown::ForEver));
    // Late, and true all the same.
    assert_eq!(instance.confirm(PollId(1), true, 1_500), Ok(()));
    assert_eq!(instance.positions_to_commit(1_500), Ok(vec![(partition(0), offset(9))]));
    // Nothing of a poll that has taken too long is delivered.
    instance.begin_poll(new_poll(2, 2), |_| None, 2_000).unwrap();
    assert_eq!(instance.deliver(PollId(2), &[range(0, 9, 10)], 3_000), Err(PollOver));
    let begun = instance.begin_poll(new_poll(3, 3), |_| None, 3_000).unwrap();
    assert_eq!(begun.partitions, [(partition(0), PollStart::At(offset(9)))]);
}

#[test]
fn what_was_lost_or_moved_is_not_delivered() {
    let mut instance = instance(Confirmation::Edge, &[0, 1, 2]);
    instance.begin_poll(new_poll(1, 1), |_| None, 0).unwrap();
    instance.set_assignment([partition(0), partition(1), partition(3)].into(), 5);
    instance.seek(&[(partition(1), offset(7))]).unwrap();
    assert_eq!(instance.seek(&[(partition(2), offset(7))]), Err(NotAssigned(partition(2))));
    let ranges = [range(0, 0, 1), range(1, 0, 1), range(2, 0, 1), range(3, 0, 1)];
    let refused = instance.deliver(PollId(1), &ranges, 1).unwrap();
    assert_eq!(refused, [partition(1), partition(2), partition(3)], "the last was not granted");
    instance.confirm(PollId(1), true, 1).unwrap();
    assert_eq!(instance.confirmed_positions(), [(partition(0), offset(1)), (partition(1), offset(7))]);
    // One that comes back begins where the group is.
    instance.set_assignment([].into(), 6);
    instance.set_assignment([partition(0)].into(), 7);
    let begun = instance.begin_poll(new_poll(2, 2), |_| Some(offset(3)), 2).unwrap();
    assert_eq!(begun.partitions, [(partition(0), PollStart::At(offset(3)))]);
    assert_eq!(instance.assignment_version(), 7);
}

#[test]
fn a_member_whose_client_confirms_goes_back_to_where_it_began_and_not_further() {
    for (confirmation, back) in [(Confirmation::Token, 3), (Confirmation::Edge, 0)] {
        let mut instance = instance(confirmation, &[0, 1]);
        instance.begin_poll(new_poll(1, 1), |_| Some(offset(3)), 0).unwrap();
        instance.deliver(PollId(1), &[range(0, 3, 6)], 0).unwrap();
        instance.drop_poll(PollId(1));
        instance.acknowledge(PollId(1), 0).unwrap();
        instance.seek(&[(partition(0), offset(0)), (partition(1), offset(2))]).unwrap();
        assert_eq!(instance.confirmed_positions(), [(partition(0), offset(back)), (partition(1), offset(2))]);
        instance.seek(&[(partition(0), offset(5))]).unwrap();
        assert_eq!(instance.confirmed_positions()[0].1, offset(5));
        // In a partition that comes back it begins anew.
        instance.set_assignment([].into(), 6);
        instance.set_assignment([partition(0)].into(), 7);
        instance.begin_poll(new_poll(2, 2), |_| Some(offset(6)), 0).unwrap();
        instance.deliver(PollId(2), &[range(0, 6, 9)], 0).unwrap();
        instance.seek(&[(partition(0), offset(5))]).unwrap();
        assert_eq!(instance.confirmed_positions()[0].1, offset(if back == 0 { 5 } else { 6 }));
    }
}

#[test]
fn silence_ends_an_instance_but_not_while_it_polls() {
    let mut instance = instance(Confirmation::Edge, &[0]);
    let timeout = instance.definition().instance_timeout_ms;
    let long = NewPoll { held_for_ms: 2 * timeout, ..new_poll(1, 1) };
    instance.begin_poll(long, |_| None, 0).unwrap();
    assert!(!instance.is_expired(timeout));
    instance.confirm(PollId(1), false, timeout).unwrap();
    assert!(!instance.is_expired(2 * timeout - 1) && instance.is_expired(2 * timeout));
}

#[test]
fn commits_by_itself_come_at_their_interval() {
    let mut instance = instance(Confirmation::Edge, &[0]);
    let definition = InstanceDefinition { auto_commit_interval_ms: Some(500), ..InstanceDefinition::default() };
    let mut by_itself = ConsumerInstance::new(definition, 1, 0, 0);
    by_itself.subscribe(Subscription::Manual(vec![partition(0)]), None, 1);
    for instance in [&mut instance, &mut by_itself] {
        instance.begin_poll(new_poll(1, 1), |_| None, 0).unwrap();
        instance.deliver(PollId(1), &[range(0, 0, 4)], 0).unwrap();
        instance.confirm(PollId(1), true, 0).unwrap();
    }
    assert_eq!(instance.take_auto_commit(0), []);
    assert_eq!(by_itself.take_auto_commit(10), [(partition(0), offset(4))]);
    assert_eq!(by_itself.take_auto_commit(509), []);
    assert_eq!(by_itself.take_auto_commit(510), [(partition(0), offset(4))]);
}

#[test]
fn a_commit_by_itself_takes_nothing_back() {
    let definition = InstanceDefinition { auto_commit_interval_ms: Some(0), ..InstanceDefinition::default() };
    let mut instance = ConsumerInstance::new(definition, 1, 0, 0);
    instance.subscribe(Subscription::Manual(vec![partition(0)]), None, 1);
    let read = |instance: &mut ConsumerInstance, poll: u64, from: u64, next: u64| {
        let begun = instance.begin_poll(new_poll(poll, poll), |_| Some(offset(8)), 0).unwrap();
        assert_eq!(begun.partitions, [(partition(0), PollStart::At(offset(from)))]);
        let unasked = instance.take_auto_commit(0);
        instance.deliver(PollId(poll), &[range(0, from, next)], 0).unwrap();
        instance.confirm(PollId(poll), true, 0).unwrap();
        unasked
    };
    instance.seek(&[(partition(0), offset(3))]).unwrap();
    assert_eq!(instance.unasked_positions(), []);
    assert_eq!(read(&mut instance, 1, 3, 6), []);
    assert_eq!(instance.positions_to_commit(0), Ok(vec![(partition(0), offset(6))]), "who asks gets it");
    assert_eq!(read(&mut instance, 2, 6, 9), []);
    // It has caught up with the group.
    assert_eq!(read(&mut instance, 3, 9, 9), [(partition(0), offset(9))]);
    assert_eq!(instance.unasked_positions(), [(partition(0), offset(9))]);
}

#[test]
fn definitions_that_cannot_be_honoured_are_refused() {
    assert_eq!(InstanceDefinition::default().validate(), Ok(()));
    type Change = fn(&mut InstanceDefinition);
    let changes: [(&str, Change); 6] = [
        ("session.timeout.ms", |it| it.session_timeout_ms = 999),
        ("consumer.instance.timeout.ms", |it| it.instance_timeout_ms = 0),
        ("fetch.min.bytes", |it| it.fetch_min_bytes = 10_000_001),
        ("client.id", |it| it.client_id = "a\nb".to_owned()),
        ("group.instance.id", |it| it.group_instance_id = Some(String::new())),
        ("partition.assignment.strategy", |it| it.assignors.push("best".to_owned())),
    ];
    for (field, change) in changes {
        let mut definition = InstanceDefinition::default();
        change(&mut definition);
        assert_eq!(definition.validate().unwrap_err().field, field);
    }
    let many = Subscription::Manual((0..50_000).map(partition).collect());
    assert_eq!(many.validate().unwrap_err().field, "partitions");
}
