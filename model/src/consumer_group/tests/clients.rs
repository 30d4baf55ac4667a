//! Members that speak the protocol themselves.

use super::*;

#[test]
fn the_first_member_leads_and_gets_what_it_decides_byte_for_byte() {
    let mut scene = Scene::new();
    let join = scene.join(request(None, &["range", "roundrobin"]), "a");
    let answer = scene.welcome(join);
    assert_eq!((answer.generation.get(), answer.leader.as_str()), (1, "a"));
    assert_eq!((answer.protocol_type.as_str(), answer.protocol.as_str()), ("consumer", "range"));
    assert_eq!(answer.members.len(), 1);
    assert_eq!(answer.members[0].metadata, subscription(&["t"]));
    assert_eq!(scene.group.state(), GroupState::CompletingRebalance);
    assert_eq!(scene.stored.as_ref().unwrap().generation.get(), 1, "stored before anybody hears of it");

    let sync = scene.sync(sync_request("a", 1, &[("a", "\0\u{1}odd"), ("nobody", "x")]));
    let answer = scene.synced[&sync].as_ref().unwrap();
    assert_eq!(answer.assignment, b"\0\x01odd");
    assert_eq!((answer.protocol_type.as_str(), answer.protocol.as_str()), ("consumer", "range"));
    assert_eq!(scene.group.state(), GroupState::Stable);
    assert_eq!(scene.stored.unwrap().members[0].assignment, b"\0\x01odd");
}

#[test]
fn a_second_member_is_answered_when_the_first_has_joined_again() {
    let mut scene = Scene::new();
    scene.join(request(None, &["range"]), "a");
    scene.sync(sync_request("a", 1, &[("a", "all")]));
    let second = scene.join(request(None, &["range"]), "b");
    assert_eq!(scene.group.state(), GroupState::PreparingRebalance);
    assert!(!scene.joined.contains_key(&second));
    assert_eq!(scene.beat("a", 1), Err(GroupError::RebalanceInProgress));
    assert_eq!(scene.commit("a", 1), Ok(()), "what it has read so far");

    let again = scene.join(request(Some("a"), &["range"]), "");
    assert_eq!(scene.welcome(again).members.len(), 2);
    let answer = scene.welcome(second);
    assert_eq!((answer.leader.as_str(), answer.members.len(), answer.generation.get()), ("a", 0, 2));
    assert_eq!(scene.commit("a", 2), Err(GroupError::RebalanceInProgress), "it does not know what it owns");

    let waiting = scene.sync(sync_request("b", 2, &[]));
    assert!(!scene.synced.contains_key(&waiting));
    scene.sync(sync_request("a", 2, &[("a", "left"), ("b", "right")]));
    assert_eq!(scene.synced[&waiting].as_ref().unwrap().assignment, b"right");
    assert_eq!(scene.beat("a", 2), Ok(()));
    assert_eq!(scene.reasons, [RebalanceReason::MemberJoined; 2]);
}

#[test]
fn requests_of_other_generations_and_strangers_change_nothing() {
    let mut scene = Scene::of_two();
    let current = Generation::new(2);
    for generation in [0, 1, 3] {
        assert_eq!(scene.commit("a", generation), Err(GroupError::IllegalGeneration { current }));
        assert_eq!(scene.beat("a", generation), Err(GroupError::IllegalGeneration { current }));
        let sync = scene.sync(sync_request("a", generation, &[("a", "stale")]));
        assert_eq!(scene.synced[&sync], Err(GroupError::IllegalGeneration { current }));
    }
    assert_eq!(scene.commit("x", 2), Err(GroupError::UnknownMember));
    assert_eq!(scene.beat("x", 2), Err(GroupError::UnknownMember));
    let join = scene.join(request(Some("x"), &["range"]), "");
    assert_eq!(*scene.refused_join(join), GroupError::UnknownMember);
    assert_eq!(scene.leave("x"), Err(GroupError::UnknownMember));
    assert_eq!(scene.group.check_commit(None, None, None, 0), Err(GroupError::NotEmpty));
    assert_eq!(scene.group.assignment(&id("a")), Some(b"left".as_slice()));
    assert_eq!(scene.group.state(), GroupState::Stable);
}

#[test]
fn a_commit_without_member_needs_a_group_without_members() {
    let mut scene = Scene::new();
    assert_eq!(scene.group.check_commit(None, None, None, 0), Ok(()));
    assert_eq!(scene.commit("a", 0), Err(GroupError::UnknownMember));
    scene.join(request(None, &["range"]), "a");
    assert_eq!(scene.group.check_commit(None, None, None, 0), Err(GroupError::NotEmpty));
    assert_eq!(scene.leave("a"), Ok(()));
    assert_eq!(scene.group.check_commit(None, None, None, 0), Ok(()));
}

#[test]
fn who_leaves_while_others_join_is_not_waited_for() {
    let mut scene = Scene::of_two();
    let join = scene.join(request(None, &["range"]), "c");
    scene.join(request(Some("a"), &["range"]), "");
    assert_eq!(scene.group.state(), GroupState::PreparingRebalance);
    assert_eq!(scene.leave("b"), Ok(()));
    assert_eq!(scene.welcome(join).generation.get(), 3);
}

#[test]
fn who_leaves_is_told_so_on_its_other_requests() {
    let mut scene = Scene::of_two();
    let join = scene.join(request(None, &["range"]), "c");
    assert_eq!(scene.leave("c"), Ok(()));
    assert_eq!(*scene.refused_join(join), GroupError::UnknownMember);
}

#[test]
fn a_group_that_everybody_left_is_empty_in_a_new_generation() {
    let mut scene = Scene::of_two();
    let leaving = ["a", "x", "b"].map(|member| LeavingMember { member_id: Some(id(member)), group_instance_id: None });
    let answers = scene.group.leave(&leaving, scene.now_ms);
    scene.settle();
    assert_eq!(answers, [Ok(()), Err(GroupError::UnknownMember), Ok(())]);
    assert_eq!((scene.group.state(), scene.group.generation().get()), (GroupState::Empty, 3));
    let stored = scene.stored.clone().unwrap();
    assert_eq!((stored.generation.get(), stored.members.len(), stored.protocol), (3, 0, None));
    assert_eq!(scene.group.empty_since_ms(), Some(5_000));
    assert_eq!(scene.commit("a", 2), Err(GroupError::UnknownMember));

    assert_eq!(scene.group.delete(), Ok(()));
    scene.settle();
    assert_eq!(scene.stored, None);
    assert_eq!(scene.group.delete(), Err(GroupError::UnknownGroup));
    let join = scene.join(request(None, &["range"]), "a");
    assert_eq!(*scene.refused_join(join), GroupError::UnknownGroup);
}

#[test]
fn a_group_with_members_is_not_deleted() {
    let mut scene = Scene::of_two();
    assert_eq!(scene.group.delete(), Err(GroupError::NotEmpty));
    assert_eq!(scene.group.state(), GroupState::Stable);
}

#[test]
fn whom_the_leader_does_not_name_gets_nothing() {
    let mut scene = Scene::of_two();
    scene.join(request(Some("a"), &["range"]), "");
    scene.join(request(Some("b"), &["range"]), "");
    scene.sync(sync_request("a", 3, &[("a", "all")]));
    let sync = scene.sync(sync_request("b", 3, &[]));
    assert_eq!(scene.synced[&sync].as_ref().unwrap().assignment, b"");
}

#[test]
fn a_new_member_interrupts_the_sync() {
    let mut scene = Scene::of_two();
    scene.join(request(Some("a"), &["range"]), "");
    scene.join(request(Some("b"), &["range"]), "");
    let sync = scene.sync(sync_request("b", 3, &[]));
    scene.join(request(None, &["range"]), "c");
    assert_eq!(scene.synced[&sync], Err(GroupError::RebalanceInProgress));
    let late = scene.sync(sync_request("a", 3, &[("a", "late")]));
    assert_eq!(scene.synced[&late], Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_member_that_missed_an_answer_gets_it_again_without_a_rebalance() {
    let mut scene = Scene::of_two();
    let join = scene.join(request(Some("b"), &["range"]), "");
    assert_eq!(scene.welcome(join).generation.get(), 2);
    let sync = scene.sync(sync_request("b", 2, &[]));
    assert_eq!(scene.synced[&sync].as_ref().unwrap().assignment, b"right");

    // The leader wants to assign anew; while its answer is lost, it asks again.
    scene.join(request(Some("a"), &["range"]), "");
    scene.join(request(Some("b"), &["range"]), "");
    assert_eq!(scene.group.state(), GroupState::CompletingRebalance);
    let join = scene.join(request(Some("a"), &["range"]), "");
    assert_eq!((scene.welcome(join).generation.get(), scene.welcome(join).members.len()), (3, 2));
    assert_eq!(scene.reasons.last(), Some(&RebalanceReason::LeaderRejoined));
}

#[test]
fn who_asks_twice_is_answered_twice() {
    let mut scene = Scene::of_two();
    scene.join(request(None, &["range"]), "c");
    let first = scene.join(request(Some("a"), &["range"]), "");
    let second = scene.join(request(Some("a"), &["range"]), "");
    assert_eq!(*scene.refused_join(first), GroupError::RebalanceInProgress);
    scene.join(request(Some("b"), &["range"]), "");
    assert_eq!(scene.welcome(second).generation.get(), 3);
    let first = scene.sync(sync_request("b", 3, &[]));
    let second = scene.sync(sync_request("b", 3, &[]));
    assert_eq!(scene.synced[&first], Err(GroupError::RebalanceInProgress));
    scene.sync(sync_request("a", 3, &[("b", "x")]));
    assert_eq!(scene.synced[&second].as_ref().unwrap().assignment, b"x");
}

#[test]
fn the_protocol_is_one_that_all_can_use_and_most_want() {
    let mut scene = Scene::new();
    scene.join(request(None, &["x", "range", "roundrobin"]), "a");
    scene.join(request(None, &["roundrobin", "range"]), "b");
    scene.join(request(Some("a"), &["x", "range", "roundrobin"]), "");
    let stranger = scene.join(request(None, &["x"]), "c");
    assert_eq!(*scene.refused_join(stranger), GroupError::InconsistentProtocol);
    let odd = JoinRequest { protocol_type: "connect".to_owned(), ..request(None, &["range"]) };
    let odd = scene.join(odd, "c");
    assert_eq!(*scene.refused_join(odd), GroupError::InconsistentProtocol);
    let none = scene.join(request(None, &[]), "c");
    assert_eq!(*scene.refused_join(none), GroupError::InconsistentProtocol);
    assert_eq!(scene.group.describe().protocol.as_deref(), Some("range"), "a tie goes as the leader likes it");

    let third = scene.join(request(None, &["roundrobin", "range"]), "c");
    scene.join(request(Some("b"), &["roundrobin", "range"]), "");
    scene.join(request(Some("a"), &["x", "range", "roundrobin"]), "");
    assert_eq!(scene.welcome(third).protocol, "roundrobin");
}

#[test]
fn a_sync_under_another_protocol_is_refused() {
    let mut scene = Scene::of_two();
    for (protocol_type, protocol, is_right) in
        [("consumer", "range", true), ("connect", "range", false), ("consumer", "roundrobin", false)]
    {
        let request = SyncRequest {
            protocol_type: Some(protocol_type.to_owned()),
            protocol: Some(protocol.to_owned()),
            ..sync_request("b", 2, &[])
        };
        let sync = scene.sync(request);
        assert_eq!(scene.synced[&sync].is_ok(), is_right, "{protocol_type} {protocol}");
    }
}

#[test]
fn a_lone_member_may_change_what_kind_of_group_it_is() {
    let mut scene = Scene::new();
    scene.join(request(None, &["range"]), "a");
    let other = JoinRequest { protocol_type: "connect".to_owned(), ..request(Some("a"), &["compatible"]) };
    let join = scene.join(other, "");
    assert_eq!((scene.welcome(join).protocol_type.as_str(), scene.welcome(join).generation.get()), ("connect", 2));
}

#[test]
fn an_unknown_member_is_told_its_id_first_when_it_can_be() {
    let mut scene = Scene::new();
    let careful = JoinRequest { require_known_member_id: true, ..request(None, &["range"]) };
    let join = scene.join(careful.clone(), "a");
    assert_eq!(*scene.refused_join(join), GroupError::MemberIdRequired(id("a")));
    assert_eq!((scene.group.state(), scene.group.member_count()), (GroupState::Empty, 0));
    assert!(!scene.group.is_idle());
    let join = scene.join(JoinRequest { member_id: Some(id("a")), ..careful.clone() }, "");
    assert_eq!(scene.welcome(join).generation.get(), 1);
    assert!(scene.group.has_member(&id("a")));

    // One that gives its id back, or never returns, changes nothing.
    scene.sync(sync_request("a", 1, &[("a", "all")]));
    scene.join(careful.clone(), "b");
    assert_eq!(scene.leave("b"), Ok(()));
    scene.join(careful, "c");
    scene.pass(9_000);
    let join = scene.join(request(Some("c"), &["range"]), "");
    assert_eq!(*scene.refused_join(join), GroupError::UnknownMember);
    assert_eq!((scene.group.state(), scene.group.generation().get()), (GroupState::Stable, 1));
}

#[test]
fn bounds_are_kept() {
    let timeouts = GroupTimeouts { members_max: 2, metadata_bytes_max: 100, ..GroupTimeouts::default() };
    let mut scene = Scene::with(timeouts);
    for session_timeout_ms in [999, 1_800_001] {
        let join = scene.join(JoinRequest { session_timeout_ms, ..request(None, &["range"]) }, "a");
        assert!(matches!(scene.refused_join(join), GroupError::InvalidSessionTimeout { min_ms: 1_000, .. }));
    }
    let large = JoinRequest { protocols: vec![("range".to_owned(), vec![0; 100])], ..request(None, &[]) };
    let join = scene.join(large, "a");
    assert_eq!(*scene.refused_join(join), GroupError::TooLarge { bytes: 105, max: 100 });
    let long = JoinRequest { client_id: "c".repeat(40_000), ..request(None, &["range"]) };
    let join = scene.join(long, "a");
    assert!(matches!(scene.refused_join(join), GroupError::TooLarge { .. }));
    assert_eq!(scene.group.state(), GroupState::Empty);

    scene.join(request(None, &["range"]), "a");
    let sync = scene.sync(sync_request("a", 1, &[("a", &"x".repeat(101))]));
    assert_eq!(scene.synced[&sync], Err(GroupError::TooLarge { bytes: 101, max: 100 }));
    scene.sync(sync_request("a", 1, &[("a", "x")]));
    scene.join(request(None, &["range"]), "b");
    let third = scene.join(request(None, &["range"]), "c");
    assert_eq!(*scene.refused_join(third), GroupError::GroupFull { max: 2 });
}
