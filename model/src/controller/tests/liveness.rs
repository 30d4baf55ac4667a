//! Who is dead, and who is not.

use super::*;

#[test]
fn a_broker_is_dead_when_it_was_not_heard_of_for_a_session() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    assert!(harness.controller.alive(BrokerId(2), 0), "who has just registered is presumed alive");
    harness.silence(2);
    harness.pass(999);
    assert!(harness.controller.alive(BrokerId(2), harness.now_ms));
    harness.pass(1);
    assert!(!harness.controller.alive(BrokerId(2), harness.now_ms));
    assert!(harness.controller.alive(BrokerId(1), harness.now_ms));
    assert!(!harness.controller.alive(BrokerId(7), harness.now_ms));
    assert_eq!(harness.proposals, [], "it led nothing");
}

#[test]
fn a_refused_connection_is_believed_at_once() {
    let mut harness = Harness::led(3, &[&[1, 0, 2]]);
    harness.controller.on_gone(BrokerId(1), Some(life(1, 9)), 0);
    harness.proposes_nothing();
    harness.controller.on_gone(BrokerId(1), None, 0);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1)]));
    // A broker does not believe it of itself.
    harness.controller.me = BrokerId(0);
    harness.controller.on_gone(BrokerId(0), None, 0);
    assert!(harness.controller.alive(BrokerId(0), 0));
}

#[test]
fn what_was_sent_before_the_end_does_not_bring_a_broker_back() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    let heartbeat = harness.heartbeat(1);
    harness.kill(1);
    harness.now_ms = 99;
    harness.hear(&heartbeat);
    assert!(!harness.controller.alive(BrokerId(1), harness.now_ms));
    // It was not its end after all.
    harness.now_ms = 100;
    harness.hear(&heartbeat);
    assert!(harness.controller.alive(BrokerId(1), harness.now_ms));
}

#[test]
fn only_the_registered_life_is_known() {
    let mut harness = Harness::led(2, &[&[0, 1]]);
    let known = harness.hear(&harness.heartbeat(1));
    assert_eq!(known, HeartbeatAnswer { known: true, send_full: true, is_over: false });
    let full = Heartbeat { full: true, ..harness.heartbeat(1) };
    assert_eq!(harness.hear(&full), HeartbeatAnswer { known: true, send_full: false, is_over: false });
    let stranger = Heartbeat { incarnation: life(1, 2), ..harness.heartbeat(1) };
    let over = HeartbeatAnswer { known: false, send_full: false, is_over: true };
    assert_eq!(harness.hear(&stranger), over);
    let newer = Heartbeat { version: stranger.version + 1, ..stranger };
    assert_eq!(harness.hear(&newer), HeartbeatAnswer { is_over: false, ..over }, "it may have registered since");
    let unknown = Heartbeat { broker: BrokerId(7), ..harness.heartbeat(1) };
    assert_eq!(harness.hear(&unknown), over);
    // The next life has to tell everything anew.
    harness.start(1, 2);
    assert_eq!(harness.hear(&harness.heartbeat(1)), HeartbeatAnswer { known: true, send_full: true, is_over: false });
}

#[test]
fn a_controller_that_was_paused_blames_nobody() {
    let mut harness = Harness::led(3, &[&[1, 0, 2]]);
    harness.silence(2);
    harness.pass(1500);
    harness.now_ms += 3000;
    harness.proposes_nothing();
    let alive = [0, 1, 2].map(|broker| harness.controller.alive(BrokerId(broker), harness.now_ms));
    assert_eq!(alive, [true, true, false], "who was dead before stays dead");
    harness.silence(1);
    harness.pass(1000);
    assert_eq!(harness.proposed(), begins(&[(0, 1)]));
}

#[test]
fn what_leaders_report_holds_for_their_epoch() {
    let mut harness = Harness::led(3, &[&[0, 1, 2], &[1, 2, 0]]);
    let in_sync = |harness: &Harness, partition| {
        harness.controller.in_sync(TOPIC, PartitionId(partition)).map(<[BrokerId]>::to_vec)
    };
    assert_eq!(in_sync(&harness, 0), None);
    harness.report(0, &[0, 2], None);
    harness.report(1, &[1], None);
    assert_eq!(in_sync(&harness, 0), Some(brokers(&[0, 2])));
    // A full report leaves nothing out.
    let full = Heartbeat { full: true, ..harness.heartbeat(0) };
    harness.hear(&full);
    assert_eq!([in_sync(&harness, 0), in_sync(&harness, 1)], [None, Some(brokers(&[1]))]);
    harness.kill(1);
    harness.settle();
    assert_eq!(in_sync(&harness, 1), None);

    // The leader may have heard of its epoch before the controller has.
    let mut ahead = harness.heartbeat(2);
    let (topic_id, partition, epoch) = (TOPIC, PartitionId(1), epoch(3));
    ahead.led.push(LedPartition { topic_id, partition, epoch, in_sync: brokers(&[2]), move_complete: None });
    harness.hear(&ahead);
    assert_eq!(in_sync(&harness, 1), None);
    harness.apply(&begins(&[(1, 2)]));
    harness.apply(&sets(&[(1, 3, 2)]));
    assert_eq!(in_sync(&harness, 1), Some(brokers(&[2])));
}
