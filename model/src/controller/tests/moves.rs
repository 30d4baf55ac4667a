//! Replica sets that change.

use super::*;

fn moves(partition: u32, expected: &[u32], to: &[u32]) -> MetadataCommand {
    let (topic_id, partition) = (TOPIC, PartitionId(partition));
    let moved = ReplicaMove { topic_id, partition, expected: brokers(expected), to: brokers(to) };
    MetadataCommand::BeginMoves { moves: vec![moved] }
}

/// The end of the only move that was begun since the cluster was there.
fn ends(partition: u32, of: u32, to: &[u32]) -> MetadataCommand {
    let since = Harness::led(4, &[&[0, 1, 2]]).image.version + 1;
    let (topic_id, partition) = (TOPIC, PartitionId(partition));
    MetadataCommand::EndMove { topic_id, partition, epoch: epoch(of), to: brokers(to), since }
}

#[test]
fn a_move_ends_when_its_leader_says_that_it_is_complete() {
    let mut harness = Harness::led(4, &[&[0, 1, 2]]);
    harness.apply(&moves(0, &[0, 1, 2], &[0, 1, 3]));
    harness.report(0, &[0, 1, 2], None);
    harness.proposes_nothing();
    // It speaks of another move, that was taken back.
    harness.report(0, &[0, 1, 2], Some(&[0, 3, 1]));
    harness.proposes_nothing();
    harness.report(0, &[0, 1, 2, 3], Some(&[0, 1, 3]));
    assert_eq!(harness.apply_proposed(), ends(0, 1, &[0, 1, 3]));
    assert_eq!(harness.leadership(0), (Some(0), 1));
    harness.proposes_nothing();
}

#[test]
fn what_was_reported_of_a_move_that_was_taken_back_does_not_end_the_same_begun_again() {
    let mut harness = Harness::led(4, &[&[0, 1, 2]]);
    let to = [0, 1, 3];
    harness.apply(&moves(0, &[0, 1, 2], &to));
    // Told, and not acted upon before the operator changes his mind, twice.
    let image = harness.partition(0).clone();
    let mut late = harness.heartbeat(0);
    let (topic_id, partition, in_sync) = (TOPIC, PartitionId(0), brokers(&[0, 1, 2, 3]));
    let move_complete = Some(image.moving_since);
    late.led.push(LedPartition { topic_id, partition, epoch: image.leader_epoch, in_sync, move_complete });
    harness.apply(&MetadataCommand::CancelMove { topic_id, partition, to: brokers(&to) });
    harness.apply(&moves(0, &[0, 1, 2], &to));
    harness.hear(&late);
    harness.proposes_nothing();
    harness.report(0, &[0, 1, 2, 3], Some(&to));
    assert!(matches!(harness.apply_proposed(), MetadataCommand::EndMove { since, .. } if since > image.moving_since));
}

#[test]
fn a_leader_that_is_left_behind_hands_over_first() {
    let mut harness = Harness::led(4, &[&[0, 1, 2]]);
    harness.apply(&moves(0, &[0, 1, 2], &[3, 2, 1]));
    harness.report(0, &[0, 2, 1], Some(&[3, 2, 1]));
    harness.proposes_nothing();
    let request = TransferRequest { topic_id: TOPIC, partition: PartitionId(0), epoch: epoch(1), to: BrokerId(1) };
    assert_eq!(take(&mut harness.transfers), [(0, vec![request])]);
    harness.controller.on_transfer_ready(&request, harness.now_ms);
    assert_eq!(harness.apply_proposed(), ends(0, 1, &[3, 2, 1]));
    assert_eq!(harness.leadership(0), (None, 2));
    // It keeps the partition no more, but its promise makes its lease harmless.
    assert_eq!(harness.fenced(), [0, 1, 2, 3]);
    for broker in 0..4 {
        harness.answer(broker, &[0]);
    }
    harness.apply_proposed();
    assert_eq!(harness.leadership(0), (Some(1), 2), "who was to follow, though 3 is preferred");
}

#[test]
fn a_move_ends_even_if_nobody_can_be_handed_over_to() {
    let mut harness = Harness::led(4, &[&[0, 1, 2]]);
    harness.apply(&moves(0, &[0, 1, 2], &[3]));
    harness.report(0, &[0, 1, 2], Some(&[3]));
    assert_eq!(harness.proposed(), ends(0, 1, &[3]));

    let mut harness = Harness::led(4, &[&[0, 1, 2]]);
    harness.apply(&moves(0, &[0, 1, 2], &[3]));
    harness.report(0, &[0, 3], Some(&[3]));
    harness.pass(999);
    assert_eq!(harness.proposals, []);
    harness.pass(1);
    assert_eq!(harness.proposed(), ends(0, 1, &[3]), "the leader did not get ready");
}

#[test]
fn a_move_survives_its_leader_if_both_sets_have_quorums() {
    let mut harness = Harness::led(4, &[&[0, 1, 2]]);
    harness.apply(&moves(0, &[0, 1, 2], &[0, 1, 3]));
    harness.kill(0);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1)]));
    assert_eq!(harness.fenced(), [1, 2, 3]);
    harness.logs.insert((3, 0), (Some(epoch(1)), Offset::new(1)));
    for broker in [1, 2, 3] {
        harness.answer(broker, &[0]);
    }
    assert_eq!(harness.apply_proposed(), sets(&[(0, 2, 3)]), "a replica that is new but has caught up");
    assert!(harness.partition(0).moving_to.is_some());
}

#[test]
fn a_move_that_is_all_that_keeps_a_partition_offline_is_taken_back() {
    let mut harness = Harness::led(4, &[&[0, 1, 2], &[0, 1, 2]]);
    harness.apply(&moves(0, &[0, 1, 2], &[0, 3]));
    harness.apply(&moves(1, &[0, 1, 2], &[1, 2, 3]));
    for partition in [0, 1] {
        harness.logs.insert((3, partition), (None, Offset::ZERO));
    }
    harness.kill(0);
    harness.settle();
    assert_eq!([harness.leadership(0), harness.leadership(1)], [(None, 2), (Some(1), 2)]);
    harness.pass(999);
    assert_eq!(harness.proposals, []);
    harness.pass(1);
    let (topic_id, partition) = (TOPIC, PartitionId(0));
    let to = brokers(&[0, 3]);
    assert_eq!(harness.apply_proposed(), MetadataCommand::CancelMove { topic_id, partition, to });
    harness.settle();
    assert_eq!(harness.leadership(0), (Some(1), 2));
    assert_eq!(harness.partition(0).replicas, brokers(&[0, 1, 2]));
    assert!(harness.partition(1).moving_to.is_some(), "the other goes on");
}

#[test]
fn a_move_is_not_taken_back_if_that_would_not_help() {
    let mut harness = Harness::led(4, &[&[0, 1, 2]]);
    harness.apply(&moves(0, &[0, 1, 2], &[0, 3]));
    harness.logs.insert((3, 0), (None, Offset::ZERO));
    harness.kill(0);
    harness.kill(1);
    harness.settle();
    harness.pass(5000);
    assert_eq!(harness.proposals, []);
}
