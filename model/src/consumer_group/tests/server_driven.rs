//! Members over HTTP: the coordinator joins and syncs for them.

use super::*;

#[test]
fn a_group_of_such_members_is_stable_again_within_one_call() {
    let mut scene = Scene::with(GroupTimeouts { initial_rebalance_delay_ms: 3_000, ..GroupTimeouts::default() });
    let join = scene.join(server_request(&["t"]), "h1");
    assert_eq!((scene.welcome(join).generation.get(), scene.group.state()), (1, GroupState::Stable));
    assert_eq!(scene.owned("h1"), ["t-0", "t-1", "t-2", "t-3"]);
    scene.join(server_request(&["t"]), "h2");
    assert_eq!((scene.owned("h1").len(), scene.owned("h2").len()), (2, 2), "partitions move at once");
    assert_eq!(scene.leave("h1"), Ok(()));
    assert_eq!(scene.owned("h2").len(), 4);
    assert_eq!((scene.group.generation().get(), scene.group.state()), (3, GroupState::Stable));
    let stored = scene.stored.unwrap();
    assert_eq!((stored.generation.get(), stored.members[0].assignment.is_empty()), (3, false));
}

#[test]
fn one_record_holds_generation_and_assignment_before_anybody_is_answered() {
    let mut group = ConsumerGroup::new(GroupTimeouts::default());
    group.join(server_request(&["t"]), id("h"), Ticket(1), 0);
    let effects = group.drain_effects();
    assert_eq!(effects[0], Effect::Rebalancing(RebalanceReason::MemberJoined));
    let Effect::Assign { generation, members, .. } = &effects[1] else { panic!("{effects:?}") };
    assert_eq!((effects.len(), members.len()), (2, 1));
    group.assign(Generation::new(9), Vec::new(), 0);
    assert_eq!(group.drain_effects(), [], "of another generation");
    group.assign(*generation, vec![(id("h"), b"x".to_vec())], 0);
    let effects = group.drain_effects();
    assert_eq!(effects[0], Effect::Store);
    assert!(matches!(effects[1], Effect::Joined { ticket: Ticket(1), answer: Ok(_) }));
    assert_eq!(effects[2..], [Effect::Assigned { generation: *generation }]);
}

#[test]
fn it_is_expelled_like_others_and_touched_by_any_call() {
    let mut scene = Scene::new();
    scene.join(server_request(&["t"]), "h1");
    scene.join(server_request(&["t"]), "h2");
    for _ in 0..3 {
        scene.pass(6_000);
        assert!(scene.group.touch(&id("h1"), scene.now_ms));
    }
    assert!(!scene.group.touch(&id("h2"), scene.now_ms));
    assert_eq!(scene.owned("h1").len(), 4);
    let late = scene.group.check_commit(Some(&id("h2")), None, None, scene.now_ms);
    assert_eq!(late, Err(GroupError::UnknownMember));
    assert_eq!(scene.group.check_commit(Some(&id("h1")), None, None, scene.now_ms), Ok(()));
    assert_eq!(scene.group.check_commit(Some(&id("h1")), None, Some(Generation::new(3)), scene.now_ms), Ok(()));
}

#[test]
fn only_a_real_change_of_a_subscription_rebalances() {
    let mut scene = Scene::new();
    scene.join(server_request(&["t"]), "h");
    let protocols = |topics: &[&str]| server_request(topics).protocols;
    assert_eq!(scene.group.resubscribe(&id("h"), protocols(&["t"]), scene.now_ms), Ok(()));
    scene.settle();
    assert_eq!(scene.group.generation().get(), 1);
    assert_eq!(scene.group.resubscribe(&id("h"), protocols(&["u"]), scene.now_ms), Ok(()));
    scene.settle();
    assert_eq!(scene.owned("h"), ["u-0", "u-1", "u-2", "u-3"]);
    let unknown = scene.group.resubscribe(&id("x"), protocols(&["u"]), scene.now_ms);
    assert_eq!(unknown, Err(GroupError::UnknownMember));
    assert_eq!(scene.group.resubscribe(&id("h"), Vec::new(), scene.now_ms), Err(GroupError::InconsistentProtocol));
}

#[test]
fn topics_that_grow_are_shared_anew() {
    let mut scene = Scene::new();
    assert!(!scene.group.topics_changed(scene.now_ms), "nobody is there");
    scene.join(server_request(&["t"]), "h");
    scene.topics.insert(topic("t"), 6);
    assert!(scene.group.topics_changed(scene.now_ms));
    scene.settle();
    assert_eq!((scene.owned("h").len(), scene.group.generation().get()), (6, 2));
    let mut scene = Scene::of_two();
    assert!(!scene.group.topics_changed(scene.now_ms), "its leader watches topics itself");
}

#[test]
fn in_a_mixed_group_the_server_leads_and_clients_are_waited_for() {
    let mut scene = Scene::new();
    let client = || {
        let protocols = server_request(&["t"]).protocols;
        JoinRequest { protocols, ..request(Some("c"), &[]) }
    };
    scene.join(JoinRequest { member_id: None, ..client() }, "c");
    scene.sync(sync_request("c", 1, &[("c", "all")]));
    let waiting = scene.join(server_request(&["t"]), "z");
    assert!(!scene.joined.contains_key(&waiting));
    assert!(scene.group.check_commit(Some(&id("z")), None, None, scene.now_ms).is_ok());

    let again = scene.join(client(), "");
    let answer = scene.welcome(again);
    assert_eq!((answer.leader.as_str(), answer.members.len(), answer.generation.get()), ("z", 0, 2));
    assert_eq!(scene.welcome(waiting).leader, id("z"));
    let sync = scene.sync(sync_request("c", 2, &[]));
    let given = Assignment::decode(&scene.synced[&sync].as_ref().unwrap().assignment).unwrap();
    assert_eq!((given.partitions.len(), scene.owned("z").len()), (2, 2));
}
