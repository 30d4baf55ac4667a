//! What ends by itself.

use super::*;

#[test]
fn a_silent_member_is_expelled_and_its_late_commit_refused() {
    let mut scene = Scene::of_two();
    for _ in 0..5 {
        scene.pass(4_000);
        scene.beat("a", 2).unwrap_or_default();
    }
    assert_eq!(scene.reasons.last(), Some(&RebalanceReason::MemberExpired));
    assert!(!scene.group.has_member(&id("b")));
    let join = scene.join(request(Some("a"), &["range"]), "");
    assert_eq!(scene.welcome(join).generation.get(), 3);
    assert_eq!(scene.commit("b", 2), Err(GroupError::UnknownMember));
    assert_eq!(scene.beat("b", 2), Err(GroupError::UnknownMember));
}

#[test]
fn every_request_of_a_member_counts_as_life() {
    let mut scene = Scene::of_two();
    for round in 0..20 {
        scene.pass(8_000);
        assert_eq!(scene.beat("a", 2), Ok(()));
        match round % 3 {
            0 => assert_eq!(scene.commit("b", 2), Ok(())),
            1 => drop(scene.sync(sync_request("b", 2, &[]))),
            _ => drop(scene.join(request(Some("b"), &["range"]), "")),
        }
    }
    assert_eq!((scene.group.state(), scene.group.member_count()), (GroupState::Stable, 2));
}

#[test]
fn who_waits_for_the_others_is_not_silent() {
    let mut scene = Scene::of_two();
    let waiting = scene.join(request(Some("a"), &["range"]), "");
    for _ in 0..10 {
        scene.pass(5_000);
        assert_eq!(scene.beat("b", 2), Err(GroupError::RebalanceInProgress), "alive, but it does not join");
    }
    assert!(!scene.joined.contains_key(&waiting));
    scene.pass(10_000);
    // After the rebalance timeout it goes on without the other.
    assert_eq!(scene.welcome(waiting).members.len(), 1);
    assert_eq!(scene.beat("b", 2), Err(GroupError::UnknownMember));
}

#[test]
fn a_leader_that_dies_before_it_has_assigned_is_replaced() {
    let mut scene = Scene::of_two();
    scene.join(request(Some("a"), &["range"]), "");
    scene.join(request(Some("b"), &["range"]), "");
    let sync = scene.sync(sync_request("b", 3, &[]));
    scene.pass(u64::from(SESSION_MS));
    assert_eq!(scene.synced[&sync], Err(GroupError::RebalanceInProgress));
    let join = scene.join(request(Some("b"), &["range"]), "");
    assert_eq!((scene.welcome(join).leader.as_str(), scene.welcome(join).generation.get()), ("b", 4));
}

#[test]
fn who_beats_but_never_syncs_is_expelled_after_the_rebalance_timeout() {
    let mut scene = Scene::of_two();
    scene.join(request(Some("a"), &["range"]), "");
    scene.join(request(Some("b"), &["range"]), "");
    scene.sync(sync_request("a", 3, &[("a", "left"), ("b", "right")]));
    assert_eq!(scene.group.state(), GroupState::Stable);
    for _ in 0..12 {
        scene.pass(5_000);
        scene.beat("a", 3).unwrap_or_default();
        scene.beat("b", 3).unwrap_or_default();
    }
    assert_eq!(scene.reasons.last(), Some(&RebalanceReason::SyncMissing));
    assert!(scene.group.has_member(&id("a")) && !scene.group.has_member(&id("b")));
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let delay = GroupTimeouts { initial_rebalance_delay_ms: 3_000, ..GroupTimeouts::default() };
    let mut scene = Scene::with(delay);
    let first = scene.join(request(None, &["range"]), "a");
    scene.pass(2_000);
    let second = scene.join(request(None, &["range"]), "b");
    scene.pass(2_999);
    assert!(scene.joined.is_empty(), "it has begun to wait anew");
    scene.pass(1);
    assert_eq!((scene.welcome(first).members.len(), scene.welcome(second).generation.get()), (2, 1));

    // Only the first one: later ones end as soon as all are there.
    scene.join(request(Some("a"), &["range"]), "");
    let again = scene.join(request(Some("b"), &["range"]), "");
    assert_eq!(scene.welcome(again).generation.get(), 1, "nobody has assigned yet: the same again");
}

#[test]
fn the_first_rebalance_does_not_wait_for_longer_than_a_member_can() {
    let delay = GroupTimeouts { initial_rebalance_delay_ms: 3_000, ..GroupTimeouts::default() };
    let mut scene = Scene::with(delay);
    let first = scene.join(JoinRequest { rebalance_timeout_ms: 5_000, ..request(None, &["range"]) }, "m0");
    for round in 1..10 {
        scene.pass(1_000);
        let hasty = JoinRequest { rebalance_timeout_ms: 5_000, ..request(None, &["range"]) };
        scene.join(hasty, &format!("m{round}"));
    }
    assert_eq!(scene.welcome(first).members.len(), 5);
}

#[test]
fn a_reserved_id_holds_a_rebalance_up_for_a_short_time_only() {
    let mut scene = Scene::of_two();
    let careful = JoinRequest { require_known_member_id: true, ..request(None, &["range"]) };
    scene.join(careful, "c");
    let first = scene.join(request(Some("a"), &["range"]), "");
    scene.join(request(Some("b"), &["range"]), "");
    assert!(!scene.joined.contains_key(&first));
    scene.pass(5_000);
    assert_eq!(scene.welcome(first).members.len(), 2);
}

#[test]
fn a_new_member_that_has_given_up_does_not_stay_for_ever() {
    let timeouts = GroupTimeouts { new_member_join_ms: 20_000, ..GroupTimeouts::default() };
    let mut scene = Scene { group: ConsumerGroup::new(timeouts), ..Scene::of_two() };
    scene.join(request(None, &["range"]), "a");
    scene.sync(sync_request("a", 1, &[("a", "all")]));
    let lost = scene.join(request(None, &["range"]), "b");
    for _ in 0..4 {
        scene.pass(5_000);
        assert!(scene.beat("a", 1).is_err());
    }
    assert_eq!(*scene.refused_join(lost), GroupError::UnknownMember);
}

#[test]
fn an_idle_group_wants_no_tick() {
    let mut scene = Scene::new();
    assert_eq!(scene.group.next_wake_ms(), None);
    scene.join(request(None, &["range"]), "a");
    assert!(scene.group.next_wake_ms().is_some());
    scene.pass(1_000_000);
    assert_eq!((scene.group.next_wake_ms(), scene.group.state()), (None, GroupState::Empty));
}
