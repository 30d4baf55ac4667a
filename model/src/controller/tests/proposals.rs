//! One command for all, one at a time, and what becomes of those that fail.

use super::*;

#[test]
fn all_partitions_of_a_dead_broker_go_in_two_commands() {
    let replicas: Vec<_> = (0..1000).map(|partition| [partition % 3, (partition + 1) % 3, 3]).collect();
    let replicas: Vec<&[u32]> = replicas.iter().map(<[u32; 3]>::as_slice).collect();
    let mut harness = Harness::led(4, &replicas);
    harness.kill(1);
    let led: Vec<u32> = (0..1000).filter(|partition| partition % 3 == 1).collect();
    let expected: Vec<_> = led.iter().map(|partition| (*partition, 1)).collect();
    assert_eq!(harness.apply_proposed(), begins(&expected));
    harness.poll();
    let fences = take(&mut harness.fences);
    let sizes: Vec<_> = fences.iter().map(|(broker, requests)| (*broker, requests.len())).collect();
    assert_eq!(sizes, [(2, led.len()), (3, led.len())]);
    harness.answer(2, &led);
    harness.proposes_nothing();
    harness.answer(3, &led);
    let expected: Vec<_> = led.iter().map(|partition| (*partition, 2, 2)).collect();
    assert_eq!(harness.apply_proposed(), sets(&expected));
    harness.proposes_nothing();
}

#[test]
fn one_proposal_is_under_way_at_a_time() {
    let mut harness = Harness::led(3, &[&[0, 1, 2], &[1, 2, 0]]);
    harness.kill(0);
    let first = harness.proposed();
    harness.kill(1);
    harness.pass(500);
    assert_eq!(harness.proposals, []);
    harness.apply(&first);
    harness.proposes_nothing();
    harness.controller.on_proposed(true, harness.now_ms);
    assert_eq!(harness.proposed(), begins(&[(1, 1)]));
}

#[test]
fn what_was_applied_is_not_proposed_again_before_the_image_shows_it() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    let command = harness.proposed();
    harness.controller.on_proposed(true, harness.now_ms);
    harness.pass(500);
    assert_eq!(harness.proposals, []);
    harness.apply(&command);
    harness.proposes_nothing();
    assert_eq!(harness.fenced(), [1, 2]);
}

#[test]
fn what_was_lost_is_proposed_again() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    let command = harness.proposed();
    harness.controller.on_proposed(false, harness.now_ms);
    harness.proposes_nothing();
    harness.pass(100);
    assert_eq!(harness.proposals, [command]);
}

#[test]
fn what_is_refused_is_computed_again_from_the_newer_image() {
    let mut harness = Harness::led(3, &[&[0, 1, 2], &[0, 2, 1]]);
    harness.kill(0);
    let stale = harness.proposed();
    assert_eq!(stale, begins(&[(0, 1), (1, 1)]));
    // Another controller was faster with one of them.
    harness.image.apply(&begins(&[(0, 1)])).unwrap();
    harness.image.apply(&stale).unwrap_err();
    harness.controller.on_proposed(false, harness.now_ms);
    harness.proposes_nothing();
    harness.show_image();
    assert_eq!(harness.apply_proposed(), begins(&[(1, 1)]));
    harness.settle();
    assert_eq!([harness.leadership(0), harness.leadership(1)], [(Some(1), 2), (Some(2), 2)]);
}

#[test]
fn a_deposed_controller_sets_nobody_in_an_epoch_that_has_its_leader() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    harness.apply_proposed();
    harness.answer(1, &[0]);
    harness.answer(2, &[0]);
    let late = harness.proposed();
    assert_eq!(late, sets(&[(0, 2, 1)]));
    harness.apply(&sets(&[(0, 2, 2)]));
    harness.image.apply(&late).unwrap_err();
    harness.controller.on_proposed(false, harness.now_ms);
    harness.proposes_nothing();
    assert_eq!(harness.leadership(0), (Some(2), 2));
}

#[test]
fn a_deleted_topic_needs_no_leader() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.kill(0);
    let begun = harness.apply_proposed();
    assert_eq!(harness.fenced(), [1, 2]);
    harness.apply(&MetadataCommand::DeleteTopic { id: TOPIC });
    let answer = FenceAnswer {
        broker: BrokerId(1),
        incarnation: life(1, 1),
        epoch: epoch(2),
        adopted_epoch: Some(epoch(1)),
        counted_offset: Offset::ZERO,
    };
    harness.controller.on_fence_answers(BrokerId(1), vec![(TOPIC, PartitionId(0), answer)], 0);
    harness.proposes_nothing();
    assert_eq!(harness.controller.offline_reason(TOPIC, PartitionId(0)), None);
    harness.image.apply(&begun).unwrap_err();
}

#[test]
fn a_partition_that_has_used_up_its_epochs_is_left_alone() {
    let mut harness = Harness::led(3, &[&[0, 1, 2], &[0, 2, 1]]);
    let topic = harness.image.topics.values_mut().next().unwrap();
    Arc::make_mut(topic).partitions[0].leader_epoch = LeaderEpoch::MAX;
    harness.show_image();
    harness.kill(0);
    assert_eq!(harness.apply_proposed(), begins(&[(1, 1)]));
}

#[test]
fn nothing_is_done_while_nothing_changes() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.poll();
    let due_ms = harness.controller.due_ms;
    for now_ms in (10..900).step_by(10) {
        harness.now_ms = now_ms;
        let heartbeats = [0, 1, 2].map(|broker| harness.heartbeat(broker));
        for heartbeat in &heartbeats {
            harness.hear(heartbeat);
        }
        assert!(!harness.controller.is_dirty);
        harness.proposes_nothing();
        assert_eq!(harness.controller.due_ms, due_ms, "it has not even looked");
        assert_eq!(harness.controller.next_wake_ms(now_ms), due_ms.min(now_ms + 100));
    }
}
