//! Who is fenced, who is waited for, who wins.

use super::*;

#[test]
fn a_lone_broker_elects_itself_without_any_wait() {
    let mut harness = Harness::new(1, &[&[0], &[0]]);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 0), (1, 0)]));
    assert_eq!(harness.fenced(), [0]);
    harness.answer(0, &[0, 1]);
    assert_eq!(harness.apply_proposed(), sets(&[(0, 1, 0), (1, 1, 0)]));
    assert_eq!(harness.now_ms, 0, "all of it at once");
    // It is restarted: a leadership is never resumed.
    harness.start(0, 2);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1), (1, 1)]));
    assert_eq!(harness.fenced(), [0]);
    harness.answer(0, &[0, 1]);
    harness.apply_proposed();
    assert_eq!([harness.leadership(0), harness.leadership(1)], [(Some(0), 2); 2]);
    assert_eq!(harness.partition(0).leader_incarnation, Some(life(0, 2)));
    harness.proposes_nothing();
}

#[test]
fn a_new_partition_is_led_by_the_first_replica() {
    let mut harness = Harness::new(3, &[&[1, 2, 0]]);
    harness.apply_proposed();
    assert_eq!(harness.fenced(), [0, 1, 2]);
    for broker in [2, 0, 1] {
        harness.answer(broker, &[0]);
    }
    assert_eq!(harness.apply_proposed(), sets(&[(0, 1, 1)]));
}

#[test]
fn a_quorum_waits_a_little_for_the_others_that_live() {
    let mut harness = Harness::new(3, &[&[0, 1, 2]]);
    harness.apply_proposed();
    harness.answer(1, &[0]);
    harness.proposes_nothing();
    harness.answer(2, &[0]);
    harness.proposes_nothing();
    assert_eq!(harness.controller.next_wake_ms(harness.now_ms), 30);
    harness.now_ms = 29;
    harness.proposes_nothing();
    harness.now_ms = 30;
    assert_eq!(harness.proposed(), sets(&[(0, 1, 1)]));
}

#[test]
fn the_dead_are_not_waited_for() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1)]));
    assert_eq!(harness.fenced(), [1, 2]);
    harness.answer(2, &[0]);
    harness.proposes_nothing();
    harness.answer(1, &[0]);
    assert_eq!(harness.apply_proposed(), sets(&[(0, 2, 1)]));
}

#[test]
fn the_best_log_wins_whatever_is_preferred() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    harness.apply_proposed();
    harness.logs.insert((1, 0), (Some(epoch(0)), Offset::new(9)));
    harness.logs.insert((2, 0), (Some(epoch(1)), Offset::new(5)));
    harness.settle();
    assert_eq!(harness.leadership(0), (Some(2), 2));
}

#[test]
fn fences_are_sent_again_with_growing_pauses_until_they_are_answered() {
    let mut harness = Harness::new(3, &[&[0, 1, 2]]);
    harness.apply_proposed();
    assert_eq!(harness.fenced(), [0, 1, 2]);
    harness.answer(0, &[0]);
    let mut sent_ms = Vec::new();
    for _ in 0..150 {
        harness.pass(10);
        if harness.fenced() == [1, 2] {
            sent_ms.push(harness.now_ms);
        }
    }
    assert_eq!(sent_ms, [100, 300, 700, 1500]);
    // Whoever answers something is there, and is asked for the rest soon.
    harness.answer(1, &[]);
    harness.pass(110);
    assert_eq!(harness.fenced(), [1]);
}

#[test]
fn without_a_quorum_a_partition_is_offline_and_says_why() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    let reason = |harness: &Harness| harness.controller.offline_reason(TOPIC, PartitionId(0));
    assert_eq!(reason(&harness), None);
    harness.kill(0);
    assert_eq!(reason(&harness).unwrap(), "broker 0, which leads it, is not alive");
    harness.kill(1);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1)]));
    harness.answer(2, &[0]);
    harness.pass(3000);
    assert_eq!(harness.proposals, [], "no epoch after epoch");
    assert_eq!(reason(&harness).unwrap(), "no quorum of its replicas 0, 1, 2 can elect a leader; not alive: 0, 1");
    // The first that returns completes the quorum.
    harness.start(1, 2);
    harness.poll();
    assert!(reason(&harness).unwrap().ends_with("; not alive: 0; yet to answer: 1"));
    assert_eq!(harness.fenced(), [1]);
    harness.answer(1, &[0]);
    harness.settle();
    assert_eq!(harness.leadership(0), (Some(1), 2));
    assert_eq!(reason(&harness), None);
}

#[test]
fn who_has_forgotten_is_no_quorum() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    harness.logs.insert((1, 0), (None, Offset::ZERO));
    harness.settle();
    assert_eq!(harness.leadership(0), (None, 2));
    let reason = harness.controller.offline_reason(TOPIC, PartitionId(0)).unwrap();
    assert!(reason.ends_with("; not alive: 0; new or without the log that it had: 1"), "{reason}");
    harness.start(0, 2);
    harness.settle();
    assert_eq!(harness.leadership(0), (Some(0), 2));
}

#[test]
fn two_dead_brokers_leave_what_still_has_a_quorum() {
    let mut harness = Harness::led(4, &[&[0, 1, 2], &[1, 2, 3], &[0, 2, 3], &[3, 0, 1]]);
    harness.kill(0);
    harness.kill(1);
    harness.settle();
    let leaderships = |harness: &Harness| [0, 1, 2, 3].map(|partition| harness.leadership(partition));
    assert_eq!(leaderships(&harness), [(None, 2), (Some(2), 2), (Some(2), 2), (Some(3), 1)]);
    harness.start(1, 2);
    harness.settle();
    assert_eq!(leaderships(&harness), [(Some(1), 2), (Some(2), 2), (Some(2), 2), (Some(3), 1)]);
}

#[test]
fn only_the_life_that_lives_is_chosen() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    harness.apply_proposed();
    harness.answer(1, &[0]);
    // It has answered, and is restarted: it has to answer again.
    harness.start(1, 2);
    harness.answer(2, &[0]);
    harness.proposes_nothing();
    harness.answer(1, &[0]);
    harness.apply_proposed();
    assert_eq!(harness.partition(0).leader_incarnation, Some(life(1, 2)));

    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    harness.apply_proposed();
    harness.answer(1, &[0]);
    harness.kill(1);
    harness.answer(2, &[0]);
    harness.proposes_nothing();
}

#[test]
fn who_resigned_or_drains_is_chosen_last() {
    let mut harness = Harness::led(3, &[&[0, 1, 2], &[1, 0, 2]]);
    let mut heartbeat = harness.heartbeat(0);
    heartbeat.resigned.push((TOPIC, PartitionId(0), epoch(1)));
    harness.hear(&heartbeat);
    let reason = harness.controller.offline_reason(TOPIC, PartitionId(0));
    assert_eq!(reason.unwrap(), "broker 0 cannot lead it");
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1)]));
    harness.settle();
    assert_eq!(harness.leadership(0), (Some(1), 2));
    // What it says of an epoch that is over changes nothing.
    harness.hear(&heartbeat);
    harness.proposes_nothing();

    harness.drain(0, true);
    harness.kill(1);
    harness.settle();
    assert_eq!([harness.leadership(0), harness.leadership(1)], [(Some(2), 3), (Some(2), 2)]);
}
