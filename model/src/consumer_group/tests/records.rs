//! What a new coordinator makes of the record.

use super::*;

fn restored(scene: &Scene, server: &[&str]) -> ConsumerGroup {
    let bytes = scene.stored.as_ref().unwrap().encode().unwrap();
    let value = GroupMetadataValue::decode(&bytes).unwrap();
    let is_server = |member: &MemberId| server.contains(&member.as_str());
    ConsumerGroup::restore(GroupTimeouts::default(), &value, &is_server, scene.now_ms)
}

#[test]
fn a_stable_group_goes_on_as_it_was() {
    let mut scene = Scene::of_two();
    scene.group = restored(&scene, &[]);
    assert_eq!(scene.group.record(9_999), scene.stored.clone().unwrap());
    assert_eq!(scene.group.describe(), Scene::of_two().group.describe());
    assert_eq!((scene.beat("a", 2), scene.commit("b", 2)), (Ok(()), Ok(())));
    let sync = scene.sync(sync_request("b", 2, &[]));
    assert_eq!(scene.synced[&sync].as_ref().unwrap().assignment, b"right");
    // It says more than the record holds, but nothing else.
    let join = scene.join(request(Some("b"), &["roundrobin", "range"]), "");
    assert_eq!(scene.welcome(join).generation.get(), 2);
}

#[test]
fn sessions_begin_anew() {
    let mut scene = Scene::of_two();
    scene.pass(9_999);
    scene.group = restored(&scene, &[]);
    scene.pass(9_999);
    assert_eq!(scene.group.member_count(), 2);
    scene.pass(1);
    assert_eq!(scene.group.member_count(), 0);
}

#[test]
fn a_generation_that_was_told_of_is_not_given_twice() {
    let mut scene = Scene::of_two();
    scene.join(request(Some("a"), &["range"]), "");
    scene.join(request(Some("b"), &["range"]), "");
    scene.group = restored(&scene, &[]);
    assert_eq!((scene.group.state(), scene.group.generation().get()), (GroupState::CompletingRebalance, 3));
    let sync = scene.sync(sync_request("b", 3, &[]));
    scene.sync(sync_request("a", 3, &[("a", "1"), ("b", "2")]));
    assert_eq!(scene.synced[&sync].as_ref().unwrap().assignment, b"2", "the leader's assignment still counts");
}

#[test]
fn who_does_not_come_back_to_sync_is_given_up() {
    let mut scene = Scene::of_two();
    scene.join(request(Some("a"), &["range"]), "");
    scene.join(request(Some("b"), &["range"]), "");
    scene.group = restored(&scene, &[]);
    let sync = scene.sync(sync_request("b", 3, &[]));
    scene.pass(u64::from(REBALANCE_MS));
    assert_eq!(scene.synced[&sync], Err(GroupError::RebalanceInProgress));
}

#[test]
fn members_that_had_not_been_answered_are_unknown() {
    let mut scene = Scene::of_two();
    scene.join(request(None, &["range"]), "c");
    assert_eq!(scene.group.record(0).members.len(), 2);
    scene.group = restored(&scene, &[]);
    assert_eq!((scene.group.state(), scene.group.generation().get()), (GroupState::Stable, 2));
    let join = scene.join(request(Some("c"), &["range"]), "");
    assert_eq!(*scene.refused_join(join), GroupError::UnknownMember);
}

#[test]
fn the_server_goes_on_leading() {
    let mut scene = Scene::new();
    scene.join(server_request(&["t"]), "h1");
    scene.join(server_request(&["t"]), "h2");
    let before = (scene.owned("h1"), scene.owned("h2"));
    scene.group = restored(&scene, &["h1", "h2"]);
    assert_eq!((scene.owned("h1"), scene.owned("h2")), before);
    assert_eq!(scene.group.state(), GroupState::Stable);
    assert!(scene.group.topics_changed(scene.now_ms));
    scene.settle();
    assert_eq!((scene.owned("h1"), scene.owned("h2")), before, "nothing moves without need");
    assert_eq!(scene.group.generation().get(), 3);
}

#[test]
fn a_record_without_assignments_whose_leader_is_ours_is_assigned() {
    let mut scene = Scene::new();
    scene.join(server_request(&["t"]), "h");
    let mut value = scene.stored.clone().unwrap();
    value.members[0].assignment.clear();
    scene.group = ConsumerGroup::restore(GroupTimeouts::default(), &value, &|_| true, scene.now_ms);
    scene.settle();
    assert_eq!((scene.group.state(), scene.owned("h").len()), (GroupState::Stable, 4));
}

#[test]
fn records_of_strange_members_leave_nobody_waiting() {
    let mut scene = Scene::of_two();
    let mut value = scene.stored.clone().unwrap();
    value.leader = Some(id("nobody"));
    value.protocol = None;
    for member in &mut value.members {
        member.assignment.clear();
        (member.session_timeout_ms, member.rebalance_timeout_ms) = (0, 0);
    }
    scene.group = ConsumerGroup::restore(GroupTimeouts::default(), &value, &|_| false, scene.now_ms);
    let sync = scene.sync(sync_request("b", 2, &[]));
    scene.pass(10_000);
    assert!(scene.synced[&sync].is_err());
    assert_eq!(scene.group.member_count(), 0);
}
