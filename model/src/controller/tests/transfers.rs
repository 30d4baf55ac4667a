//! Leaderships that move while their leader is well.

use super::*;

fn request(partition: u32, of: u32, to: u32) -> TransferRequest {
    TransferRequest { topic_id: TOPIC, partition: PartitionId(partition), epoch: epoch(of), to: BrokerId(to) }
}

/// Polls; the transfers asked for since the last time.
fn asked(harness: &mut Harness) -> Vec<(u32, Vec<TransferRequest>)> {
    harness.poll();
    take(&mut harness.transfers)
}

#[test]
fn a_leader_that_drains_hands_over_what_others_can_take() {
    let mut harness = Harness::led(4, &[&[0, 1, 2], &[0, 2, 3], &[0, 3, 1], &[1, 0, 2]]);
    harness.report(0, &[0, 1, 2], None);
    harness.report(1, &[0, 3], None);
    harness.report(2, &[0], None);
    harness.report(3, &[0, 1, 2], None);
    harness.drain(0, true);
    assert_eq!(asked(&mut harness), [(0, vec![request(0, 1, 1), request(1, 1, 3)])]);
    assert_eq!(harness.proposals, [], "not before they are ready");
    harness.controller.on_transfer_ready(&request(0, 9, 1), harness.now_ms);
    harness.proposes_nothing();
    for ready in [request(0, 1, 1), request(1, 1, 3)] {
        harness.controller.on_transfer_ready(&ready, harness.now_ms);
    }
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1), (1, 1)]));
    harness.settle();
    let leaderships = [0, 1, 2, 3].map(|partition| harness.leadership(partition));
    assert_eq!(leaderships, [(Some(1), 2), (Some(3), 2), (Some(0), 1), (Some(1), 1)]);
    // The last one is taken over once somebody has caught up.
    harness.report(2, &[0, 1], None);
    assert_eq!(asked(&mut harness), [(0, vec![request(2, 1, 1)])]);
}

#[test]
fn a_leader_that_drains_has_to_go_even_if_it_does_not_prepare() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.report(0, &[0, 1, 2], None);
    harness.drain(0, true);
    harness.pass(999);
    assert_eq!(harness.proposals, []);
    harness.pass(1);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1)]));
    harness.settle();
    assert_eq!(harness.leadership(0), (Some(1), 2));
}

#[test]
fn a_broker_that_drains_hands_over_some_at_a_time() {
    let replicas: Vec<&[u32]> = vec![&[0, 1]; 300];
    let mut harness = Harness::led(2, &replicas);
    for partition in 0..300 {
        harness.report(partition, &[0, 1], None);
    }
    harness.drain(0, true);
    let first = asked(&mut harness);
    assert_eq!(first.iter().map(|(_, requests)| requests.len()).collect::<Vec<_>>(), [200]);
    for ready in &first[0].1 {
        harness.controller.on_transfer_ready(ready, harness.now_ms);
    }
    harness.settle();
    assert_eq!(take(&mut harness.transfers).iter().map(|(_, requests)| requests.len()).sum::<usize>(), 100);
}

#[test]
fn whoever_drains_takes_nothing_over() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.report(0, &[0, 1, 2], None);
    harness.drain(1, true);
    harness.drain(0, true);
    assert_eq!(asked(&mut harness), [(0, vec![request(0, 1, 2)])]);
    // It was all a mistake: what was begun goes on, nothing new begins.
    harness.kill(2);
    assert_eq!(asked(&mut harness), []);
    harness.pass(1100);
    assert_eq!(harness.proposals, []);
    assert_eq!(harness.leadership(0), (Some(0), 1), "better than nobody");
}

/// `count` partitions that prefer broker 0 and are led by broker 1, which reports 0 as in sync.
fn displaced(count: u32) -> Harness {
    let replicas: Vec<&[u32]> = (0..count).map(|_| &[0_u32, 1, 2][..]).collect();
    let mut harness = Harness::led(3, &replicas);
    harness.kill(0);
    harness.settle();
    harness.start(0, 2);
    harness.settle();
    for partition in 0..count {
        assert_eq!(harness.leadership(partition), (Some(1), 2));
        harness.report(partition, &[0, 1, 2], None);
    }
    harness
}

#[test]
fn preferred_leaders_get_their_leaderships_back_some_at_a_time() {
    let mut harness = displaced(50);
    harness.pass(9_999);
    assert_eq!(harness.transfers, []);
    harness.pass(1);
    let asked_now = asked(&mut harness);
    let expected: Vec<_> = (0..20).map(|partition| request(partition, 2, 0)).collect();
    assert_eq!(asked_now, [(1, expected)]);
    harness.controller.on_transfer_ready(&request(0, 2, 0), harness.now_ms);
    harness.settle();
    assert_eq!([harness.leadership(0), harness.leadership(1)], [(Some(0), 3), (Some(1), 2)]);
    // Those that did not get ready stay as they are, and others get their turn.
    harness.pass(9_999);
    assert_eq!((take(&mut harness.transfers), take(&mut harness.proposals)), (vec![], vec![]));
    harness.pass(1);
    let expected: Vec<_> = (20..40).map(|partition| request(partition, 2, 0)).collect();
    assert_eq!(asked(&mut harness), [(1, expected)]);
    harness.pass(10_000);
    let numbers: Vec<_> = asked(&mut harness)[0].1.iter().map(|request| request.partition.0).collect();
    assert_eq!(numbers, (1..11).chain(40..50).collect::<Vec<_>>());
}

#[test]
fn a_preferred_leader_that_is_behind_is_not_restored() {
    let mut harness = displaced(2);
    harness.report(0, &[1, 2], None);
    harness.pass(10_000);
    assert_eq!(asked(&mut harness), [(1, vec![request(1, 2, 0)])]);
    harness.pass(9_000);
    harness.drain(0, true);
    harness.pass(1_000);
    assert_eq!(asked(&mut harness), []);
}

#[test]
fn an_operator_moves_a_leadership_and_it_stays() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.report(0, &[0, 2], None);
    harness.controller.request_leader(TOPIC, PartitionId(0), BrokerId(2), harness.now_ms).unwrap();
    assert_eq!(asked(&mut harness), [(0, vec![request(0, 1, 2)])]);
    harness.controller.on_transfer_ready(&request(0, 1, 2), harness.now_ms);
    assert_eq!(harness.apply_proposed(), begins(&[(0, 1)]));
    harness.settle();
    assert_eq!(harness.leadership(0), (Some(2), 2), "though all logs are equal");
    harness.report(0, &[0, 1, 2], None);
    harness.pass(30_000);
    assert_eq!(harness.transfers, []);
    // A leader that others made is none that the operator wanted.
    harness.kill(2);
    harness.settle();
    assert_eq!(harness.leadership(0), (Some(0), 3));
    harness.apply(&begins(&[(0, 3)]));
    harness.apply(&sets(&[(0, 4, 1)]));
    harness.report(0, &[0, 1], None);
    harness.pass(10_000);
    assert_eq!(asked(&mut harness), [(1, vec![request(0, 4, 0)])]);
}

#[test]
fn an_operator_hears_why_a_leadership_cannot_move() {
    let mut harness = Harness::led(4, &[&[0, 1, 2], &[3, 0, 1]]);
    harness.report(0, &[0, 2], None);
    harness.drain(2, true);
    harness.kill(3);
    let mut ask = |topic, partition, to| {
        harness.controller.request_leader(topic, PartitionId(partition), BrokerId(to), harness.now_ms)
    };
    let other = TopicId::from_bytes([7; 16]);
    assert_eq!(ask(other, 0, 1), Err(LeaderRequestError::UnknownPartition));
    assert_eq!(ask(TOPIC, 2, 1), Err(LeaderRequestError::UnknownPartition));
    assert_eq!(ask(TOPIC, 0, 3), Err(LeaderRequestError::NotAReplica(BrokerId(3))));
    assert_eq!(ask(TOPIC, 1, 3), Err(LeaderRequestError::NotAlive(BrokerId(3))));
    assert_eq!(ask(TOPIC, 0, 2), Err(LeaderRequestError::Draining(BrokerId(2))));
    assert_eq!(ask(TOPIC, 0, 1), Err(LeaderRequestError::NotInSync(BrokerId(1))));
    assert_eq!(ask(TOPIC, 1, 0), Err(LeaderRequestError::NoLeader));
    assert_eq!(ask(TOPIC, 0, 0), Ok(()));
    assert_eq!(harness.transfers, []);
}

#[test]
fn what_an_operator_wants_is_dropped_when_it_takes_too_long() {
    let mut harness = Harness::led(3, &[&[0, 1, 2]]);
    harness.report(0, &[0, 2], None);
    harness.controller.request_leader(TOPIC, PartitionId(0), BrokerId(2), harness.now_ms).unwrap();
    harness.pass(1_000);
    assert_eq!(harness.proposals, []);
    harness.controller.on_transfer_ready(&request(0, 1, 2), harness.now_ms);
    harness.proposes_nothing();
    assert_eq!(harness.leadership(0), (Some(0), 1));
}
