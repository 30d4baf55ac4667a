//! A deposed leader that may live, and answer reads.

use super::*;

/// Three brokers, and the leader 0 has not been heard of for a session.
fn with_a_silent_leader() -> Harness {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.silence(0);
    harness.pass(999);
    assert_eq!(harness.proposals, []);
    harness.pass(1);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1)]));
    harness
}

#[test]
fn a_silent_leader_has_its_lease_waited_for() {
    let mut harness = with_a_silent_leader();
    assert_eq!(harness.fenced(), [1, 2]);
    harness.answer(1, &[0]);
    harness.pass(50);
    // From when the promises of a quorum are known.
    harness.answer(2, &[0]);
    harness.pass(399);
    assert_eq!(harness.proposals, []);
    harness.pass(1);
    assert_eq!(harness.proposed(), sets(&[(0, 2, 1)]));
}

#[test]
fn a_leader_that_is_gone_has_no_lease() {
    let mut harness = with_a_silent_leader();
    harness.answer(1, &[0]);
    harness.answer(2, &[0]);
    harness.proposes_nothing();
    harness.kill(0);
    assert_eq!(harness.proposed(), sets(&[(0, 2, 1)]));
}

#[test]
fn a_leader_that_was_restarted_has_no_lease() {
    let mut harness = with_a_silent_leader();
    harness.answer(1, &[0]);
    harness.answer(2, &[0]);
    harness.proposes_nothing();
    harness.start(0, 2);
    harness.proposes_nothing();
    harness.pass(29);
    assert_eq!(harness.proposals, []);
    harness.pass(1);
    assert_eq!(harness.proposed(), sets(&[(0, 2, 1)]), "only its answer was waited for, a little");
}

#[test]
fn a_leader_that_has_promised_the_next_epoch_has_no_lease() {
    let mut harness = with_a_silent_leader();
    harness.answer(1, &[0]);
    harness.answer(2, &[0]);
    harness.running.insert(0, life(0, 1));
    harness.pass(10);
    assert_eq!(harness.fenced(), [0]);
    assert_eq!(harness.proposals, []);
    harness.answer(0, &[0]);
    assert_eq!(harness.proposed(), sets(&[(0, 2, 0)]), "it is back, and leads as before");
}

#[test]
fn a_leader_that_resigned_has_no_lease() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    let mut heartbeat = harness.heartbeat(0);
    heartbeat.resigned.push((TOPIC, PartitionId(0), epoch(1)));
    harness.hear(&heartbeat);
    harness.apply_proposed();
    harness.answer(1, &[0]);
    harness.answer(2, &[0]);
    harness.proposes_nothing();
    harness.pass(30);
    assert_eq!(harness.proposed(), sets(&[(0, 2, 1)]), "after the grace for its log, which may be longer");
}

#[test]
fn a_new_controller_waits_for_the_lease_of_who_led_last() {
    let mut harness = with_a_silent_leader();
    harness.controller = Controller::new(ControllerConfig::default(), ME, harness.now_ms);
    harness.show_image();
    // It goes on in the epoch that has begun.
    assert_eq!(harness.fenced(), [0, 1, 2]);
    harness.answer(1, &[0]);
    harness.answer(2, &[0]);
    harness.pass(399);
    assert_eq!(harness.proposals, []);
    harness.pass(1);
    assert_eq!(harness.proposed(), sets(&[(0, 2, 1)]));
}
