//! Members that keep their name through restarts.

use super::*;

/// Static clients `one` (id `a`, which leads) and `two` (id `b`), Stable in generation 2.
fn of_two() -> Scene {
    let mut scene = Scene::new();
    scene.join(static_request("one", &["range"]), "a");
    scene.join(static_request("two", &["range"]), "b");
    let again = JoinRequest { member_id: Some(id("a")), ..static_request("one", &["range"]) };
    scene.join(again, "");
    scene.sync(sync_request("a", 2, &[("a", "left"), ("b", "right")]));
    scene.sync(sync_request("b", 2, &[]));
    assert_eq!((scene.group.state(), scene.group.generation().get()), (GroupState::Stable, 2));
    scene
}

#[test]
fn a_restart_costs_no_rebalance() {
    let mut scene = of_two();
    let join = scene.join(static_request("two", &["range"]), "b2");
    let answer = scene.welcome(join);
    assert_eq!((answer.member_id.as_str(), answer.generation.get(), answer.leader.as_str()), ("b2", 2, "a"));
    let sync = scene.sync(sync_request("b2", 2, &[]));
    assert_eq!(scene.synced[&sync].as_ref().unwrap().assignment, b"right");
    assert!(scene.stored.as_ref().unwrap().members.iter().any(|member| member.member_id == id("b2")));
    assert_eq!(scene.group.static_member(&"two".into()), Some(&id("b2")));

    let two: GroupInstanceId = "two".into();
    let beat = scene.group.heartbeat(&id("b"), Some(&two), Generation::new(2), 0);
    assert_eq!(beat, Err(GroupError::FencedInstance), "the former process is told why");
    let commit = scene.group.check_commit(Some(&id("b")), Some(&two), Some(Generation::new(2)), 0);
    assert_eq!(commit, Err(GroupError::FencedInstance));
    let late = JoinRequest { member_id: Some(id("b")), ..static_request("two", &["range"]) };
    let late = scene.join(late, "");
    assert_eq!(*scene.refused_join(late), GroupError::FencedInstance);
}

#[test]
fn a_leader_that_restarts_does_not_assign() {
    let mut scene = of_two();
    let join = scene.join(static_request("one", &["range"]), "a2");
    let answer = scene.welcome(join);
    assert_eq!((answer.leader.as_str(), answer.members.len()), ("a", 0), "it believes to follow");
    let sync = scene.sync(sync_request("a2", 2, &[]));
    assert_eq!(scene.synced[&sync].as_ref().unwrap().assignment, b"left");
    assert_eq!(scene.group.leader(), Some(&id("a2")));

    let modern = JoinRequest { supports_skipping_assignment: true, ..static_request("one", &["range"]) };
    let join = scene.join(modern, "a3");
    let answer = scene.welcome(join);
    assert_eq!((answer.leader.as_str(), answer.members.len(), answer.skip_assignment), ("a3", 2, true));
}

#[test]
fn a_restart_with_other_topics_needs_a_rebalance_and_one_with_other_owned_partitions_does_not() {
    let mut scene = of_two();
    let owner = Subscription {
        owned: [crate::TopicPartition { topic: topic("t"), partition: crate::PartitionId(1) }].into(),
        ..Subscription::to_topics([topic("t")])
    };
    let protocols = vec![("range".to_owned(), owner.encode().unwrap())];
    let same = scene.join(JoinRequest { protocols, ..static_request("two", &[]) }, "b2");
    assert_eq!(scene.welcome(same).generation.get(), 2);
    let protocols = vec![("range".to_owned(), subscription(&["u"]))];
    let other = scene.join(JoinRequest { protocols, ..static_request("two", &[]) }, "b3");
    assert!(!scene.joined.contains_key(&other));
    assert_eq!(scene.reasons.last(), Some(&RebalanceReason::StaticMemberReplaced));
}

#[test]
fn a_restart_of_one_that_has_partitions_to_give_up_needs_a_rebalance() {
    let partition = |number| crate::TopicPartition { topic: topic("t"), partition: crate::PartitionId(number) };
    let said = |owned: &[u32]| {
        let owned = owned.iter().map(|number| partition(*number)).collect();
        let said = Subscription { owned, ..Subscription::to_topics([topic("t")]) };
        JoinRequest {
            protocols: vec![("cooperative-sticky".to_owned(), said.encode().unwrap())],
            ..static_request("one", &[])
        }
    };
    // It is given 0 alone, so that 1 has no owner until it has stopped and joined again. But it restarts.
    let mut scene = Scene::new();
    scene.join(said(&[0, 1]), "a");
    let given = Assignment::of([partition(0)]).encode().unwrap();
    scene.sync(SyncRequest { assignments: vec![(id("a"), given)], ..sync_request("a", 1, &[]) });
    let join = scene.join(said(&[]), "a2");
    assert_eq!(scene.welcome(join).generation.get(), 2);
    assert_eq!(scene.reasons.last(), Some(&RebalanceReason::StaticMemberReplaced));
}

#[test]
fn a_restart_while_the_leader_assigns_begins_anew() {
    let mut scene = of_two();
    let again =
        |instance, member: &str| JoinRequest { member_id: Some(id(member)), ..static_request(instance, &["range"]) };
    scene.join(again("one", "a"), "");
    scene.join(again("two", "b"), "");
    let sync = scene.sync(sync_request("b", 3, &[]));
    let join = scene.join(static_request("two", &["range"]), "b2");
    assert_eq!(scene.synced[&sync], Err(GroupError::FencedInstance));
    assert_eq!(scene.group.state(), GroupState::PreparingRebalance);
    scene.join(again("one", "a"), "");
    assert_eq!(scene.welcome(join).generation.get(), 4);
}

#[test]
fn a_restart_while_it_waits_takes_its_place() {
    let mut scene = of_two();
    let first = scene.join(static_request("three", &["range"]), "c");
    let second = scene.join(static_request("three", &["range"]), "c2");
    assert_eq!(*scene.refused_join(first), GroupError::FencedInstance);
    for (instance, member) in [("one", "a"), ("two", "b")] {
        scene.join(JoinRequest { member_id: Some(id(member)), ..static_request(instance, &["range"]) }, "");
    }
    assert_eq!(scene.welcome(second).member_id, id("c2"));
    assert_eq!(scene.group.member_count(), 3);
}

#[test]
fn one_that_misses_a_rebalance_is_kept_until_its_session_ends() {
    let mut scene = of_two();
    let long = JoinRequest { session_timeout_ms: 300_000, ..static_request("three", &["range"]) };
    scene.join(long, "c");
    for (instance, member) in [("one", "a"), ("two", "b")] {
        scene.join(JoinRequest { member_id: Some(id(member)), ..static_request(instance, &["range"]) }, "");
    }
    scene.sync(sync_request("c", 3, &[]));
    scene.sync(sync_request("a", 3, &[("a", "1"), ("b", "2"), ("c", "3")]));
    scene.sync(sync_request("b", 3, &[]));
    // `three` stops; `one` wants a rebalance and gets it without it.
    let mut join = scene.join(JoinRequest { member_id: Some(id("a")), ..static_request("one", &["range"]) }, "");
    let other = JoinRequest { member_id: Some(id("b")), ..static_request("two", &["range"]) };
    scene.join(other, "");
    scene.pass(u64::from(REBALANCE_MS));
    assert_eq!(scene.welcome(join).members.len(), 3);
    assert!(scene.group.has_member(&id("c")));
    scene.sync(sync_request("a", 4, &[("a", "1"), ("b", "2"), ("c", "3")]));
    scene.sync(sync_request("b", 4, &[]));
    join = scene.join(static_request("three", &["range"]), "c2");
    assert_eq!(scene.welcome(join).generation.get(), 4, "it is back, and nothing has changed");
}

#[test]
fn leaving_by_name_is_leaving() {
    let mut scene = of_two();
    let leave = |member: Option<&str>, instance: &str| LeavingMember {
        member_id: member.map(id),
        group_instance_id: Some(instance.into()),
    };
    let answers = scene.group.leave(&[leave(Some("x"), "one"), leave(None, "none"), leave(None, "two")], scene.now_ms);
    scene.settle();
    assert_eq!(answers, [Err(GroupError::FencedInstance), Err(GroupError::UnknownMember), Ok(())]);
    assert_eq!(scene.group.static_member(&"two".into()), None);
    assert_eq!(scene.group.member_count(), 1);
}
