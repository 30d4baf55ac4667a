//! One replica, event by event: promises, elections, adoption, and the logs of random histories.

use proptest::prelude::*;

use super::*;
use crate::replication::message::{EpochEndAnswer, EpochSpan, FetchAnswer, ReplicaFetch};

fn epoch(number: u32) -> LeaderEpoch {
    LeaderEpoch::new(number)
}

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

fn brokers(ids: impl IntoIterator<Item = u32>) -> Vec<BrokerId> {
    ids.into_iter().map(BrokerId).collect()
}

fn three() -> ReplicaSet {
    ReplicaSet::Stable(brokers([0, 1, 2]))
}

fn identity(broker: u32, life: u8) -> Identity {
    let bytes = [u8::try_from(broker).unwrap() * 16 + life; 16];
    Identity {
        broker: BrokerId(broker),
        incarnation: Incarnation::from_bytes(bytes),
        registration: u64::from(life),
        storage: StorageId::from_bytes(bytes),
    }
}

fn founded(broker: u32) -> Replica {
    Replica::founded(identity(broker, 0), Counting::Flushed, LeaderEpoch::ZERO)
}

/// Leads this epoch, having promised it first.
fn leading(broker: u32, of: u32) -> Replica {
    let mut replica = founded(broker);
    replica.fence(epoch(of)).unwrap();
    replica.elect(epoch(of), replica.identity().incarnation, three(), 0).unwrap();
    replica
}

fn flush(replica: &mut Replica) -> Vec<Effect> {
    let flush = replica.begin_flush().expect("something to flush");
    replica.on_flushed(flush)
}

fn answer(of: u32, adopt_at: u64, spans: &[(u32, u64, u64)]) -> FetchAnswer {
    let span = |(of, start, end): &(u32, u64, u64)| EpochSpan {
        epoch: epoch(*of),
        start_offset: at(*start),
        end_offset: at(*end),
    };
    FetchAnswer {
        epoch: epoch(of),
        high_watermark: at(0),
        adopt_at: at(adopt_at),
        spans: spans.iter().map(span).collect(),
    }
}

#[test]
fn a_fence_stores_the_promise_before_it_is_answered() {
    let mut replica = founded(1);
    let (effects, answer) = replica.fence(epoch(4)).unwrap();
    let stored = DurableState { promised_epoch: epoch(4), adopted_epoch: Some(LeaderEpoch::ZERO) };
    assert_eq!(effects, [Effect::Store(stored)]);
    assert_eq!((answer.epoch, answer.adopted_epoch), (epoch(4), Some(LeaderEpoch::ZERO)));
    let (effects, again) = replica.fence(epoch(4)).unwrap();
    assert!(effects.is_empty(), "it is stored already");
    assert_eq!(again, answer);
    assert_eq!(replica.fence(epoch(3)), Err(StaleEpoch { received: epoch(3), promised: epoch(4) }));
}

#[test]
fn a_leader_fails_who_waits_when_a_newer_epoch_begins() {
    let mut leader = leading(0, 1);
    leader.append(1).unwrap();
    let (effects, answer) = leader.fence(epoch(2)).unwrap();
    assert_eq!(effects.last(), Some(&Effect::FailWaiting));
    assert_eq!((answer.adopted_epoch, answer.counted_offset), (Some(epoch(1)), at(0)), "it is not flushed");
    assert_eq!(leader.append(1), Err(NotLeader { promised: epoch(2) }));
    assert!(leader.observe_epoch(epoch(2)).is_empty());
}

#[test]
fn a_leader_flushes_its_tail_before_it_leads() {
    let mut replica = leading(0, 1);
    replica.append(2).unwrap();
    replica.fence(epoch(2)).unwrap();
    let effects = replica.elect(epoch(2), replica.identity().incarnation, three(), 0).unwrap();
    let tail = Flush { epoch: epoch(2), up_to: at(2) };
    assert_eq!(effects, [Effect::Flush(tail)]);
    assert!(replica.leading().is_none());
    let effects = replica.on_flushed(tail);
    let stored = DurableState { promised_epoch: epoch(2), adopted_epoch: Some(epoch(2)) };
    let start = Effect::RecordEpochStart { epoch: epoch(2), start_offset: at(2) };
    assert_eq!(effects, [Effect::Store(stored), start, Effect::Lead { epoch: epoch(2) }]);
    assert_eq!(replica.leading().unwrap().start_offset(), at(2));
}

#[test]
fn a_leadership_is_never_resumed() {
    let mut replica = leading(0, 1);
    let incarnation = replica.identity().incarnation;
    replica.step_down();
    assert_eq!(replica.elect(epoch(1), incarnation, three(), 0), Err(NotElectable::NotFit { epoch: epoch(1) }));
    let mut restarted = Replica::recovered(identity(0, 1), Counting::Flushed, replica.to_recovered());
    assert_eq!(restarted.elect(epoch(1), incarnation, three(), 0), Err(NotElectable::FormerLife { epoch: epoch(1) }));
    let own = restarted.identity().incarnation;
    assert_eq!(restarted.elect(epoch(1), own, three(), 0), Err(NotElectable::NotFit { epoch: epoch(1) }));
}

#[test]
fn only_the_promised_epoch_is_led_and_only_by_who_remembers() {
    let mut replica = founded(0);
    let incarnation = replica.identity().incarnation;
    replica.fence(epoch(2)).unwrap();
    for other in [1, 3] {
        let refused = NotElectable::OtherPromise { epoch: epoch(other), promised: epoch(2) };
        assert_eq!(replica.elect(epoch(other), incarnation, three(), 0), Err(refused));
    }
    let mut forgotten = Replica::forgotten(identity(0, 1), Counting::Flushed, Recovered::empty(), epoch(2));
    let own = forgotten.identity().incarnation;
    assert_eq!(forgotten.elect(epoch(2), own, three(), 0), Err(NotElectable::NotFit { epoch: epoch(2) }));
}

#[test]
fn a_replica_that_has_forgotten_takes_its_promise_from_the_metadata() {
    let mut replica = Replica::forgotten(identity(1, 1), Counting::Flushed, Recovered::empty(), epoch(6));
    assert_eq!((replica.promised_epoch(), replica.adopted_epoch()), (epoch(6), None));
    assert!(replica.follow(epoch(5), BrokerId(0)).is_err());
    assert_eq!(replica.fence(epoch(6)).unwrap().1.adopted_epoch, None);
    replica.follow(epoch(6), BrokerId(0)).unwrap();
    let fetch = replica.next_fetch().expect("an empty log need not ask where it parts");
    assert_eq!((fetch.fetch_offset, fetch.adopted_epoch), (at(0), None));
}

#[test]
fn a_follower_adopts_when_enough_of_the_log_is_flushed() {
    let mut replica = founded(1);
    replica.follow(epoch(3), BrokerId(0)).unwrap();
    let effects = replica.on_fetch_answer(&answer(3, 2, &[(1, 0, 1), (3, 1, 3)])).unwrap();
    let starts =
        [(1, 0), (3, 1)].map(|(of, start)| Effect::RecordEpochStart { epoch: epoch(of), start_offset: at(start) });
    let all = Flush { epoch: epoch(3), up_to: at(3) };
    assert_eq!(effects, [starts[0], starts[1], Effect::Flush(all)]);
    assert_eq!(replica.next_fetch(), None, "the fetch offset is an acknowledgement");
    let adopted = DurableState { promised_epoch: epoch(3), adopted_epoch: Some(epoch(3)) };
    assert_eq!(flush(&mut replica), [Effect::Store(adopted)]);
    let fetch = replica.next_fetch().unwrap();
    assert_eq!((fetch.fetch_offset, fetch.adopted_epoch), (at(3), Some(epoch(3))));
}

#[test]
fn where_log_ends_count_a_follower_need_not_flush() {
    let mut replica = Replica::founded(identity(1, 0), Counting::LogEnd, LeaderEpoch::ZERO);
    replica.follow(epoch(3), BrokerId(0)).unwrap();
    replica.on_fetch_answer(&answer(3, 1, &[(3, 0, 1)])).unwrap();
    assert_eq!(replica.adopted_epoch(), Some(epoch(3)));
    assert_eq!(replica.next_fetch().unwrap().fetch_offset, at(1));
}

#[test]
fn answers_that_do_not_continue_the_log_change_nothing() {
    let mut replica = founded(1);
    replica.follow(epoch(3), BrokerId(0)).unwrap();
    replica.on_fetch_answer(&answer(3, 9, &[(2, 0, 2)])).unwrap();
    let before = replica.clone();
    for spans in [
        vec![(2, 1, 3)],
        vec![(2, 3, 4)],
        vec![(1, 2, 3)],
        vec![(4, 2, 3)],
        vec![(2, 2, 2)],
        vec![(3, 2, 3), (2, 3, 4)],
    ] {
        let refused = replica.on_fetch_answer(&answer(3, 9, &spans));
        assert!(matches!(refused, Err(AnswerRefused::NotContiguous { .. })), "{spans:?}: {refused:?}");
    }
    for of in [2, 4] {
        let refused = replica.on_fetch_answer(&answer(of, 9, &[]));
        assert_eq!(refused, Err(AnswerRefused::Unexpected { received: epoch(of) }));
    }
    assert_eq!(replica, before);
}

#[test]
fn a_flush_that_ends_in_a_later_epoch_says_nothing() {
    let mut replica = leading(0, 1);
    replica.append(2).unwrap();
    let begun = replica.begin_flush().unwrap();
    replica.follow(epoch(2), BrokerId(1)).unwrap();
    assert_eq!(replica.begin_flush(), None, "its log may be cut in this very epoch");
    assert!(replica.on_flushed(begun).is_empty());
    assert_eq!(replica.flushed(), at(0));
}

#[test]
fn an_epoch_without_records_does_not_stop_the_search() {
    let mut replica = leading(0, 3);
    replica.follow(epoch(4), BrokerId(1)).unwrap();
    assert_eq!(replica.epoch_end_query().unwrap().asked_epoch, epoch(3));
    let end = Some((epoch(2), at(0)));
    replica.on_epoch_end(&EpochEndAnswer { epoch: epoch(4), end }).unwrap();
    assert_eq!(replica.epoch_end_query(), None);
    assert!(replica.next_fetch().is_some());
    let late = replica.on_epoch_end(&EpochEndAnswer { epoch: epoch(4), end });
    assert_eq!(late, Err(AnswerRefused::Unexpected { received: epoch(4) }));
}

#[test]
fn a_follower_behind_the_leaders_log_start_begins_again_there() {
    let mut replica = founded(1);
    replica.follow(epoch(3), BrokerId(0)).unwrap();
    replica.on_fetch_answer(&answer(3, 90, &[(1, 0, 2)])).unwrap();
    assert_eq!(replica.on_below_log_start(epoch(3), at(50)), Ok(Effect::RestartLog { at: at(50) }));
    assert_eq!((replica.log_end(), replica.flushed()), (at(50), at(50)));
    assert!(replica.epochs().is_empty());
    assert!(replica.on_below_log_start(epoch(3), at(50)).is_err(), "once");
    replica.on_fetch_answer(&answer(3, 90, &[(2, 50, 90)])).unwrap();
    assert_eq!(replica.log_end(), at(90));
}

#[test]
fn a_leader_refuses_fetches_that_are_not_its_followers() {
    let mut leader = leading(0, 3);
    leader.append(5).unwrap();
    let fetch = |of, offset| ReplicaFetch {
        epoch: epoch(of),
        registration: 0,
        storage: identity(1, 0).storage,
        adopted_epoch: Some(LeaderEpoch::ZERO),
        fetch_offset: at(offset),
    };
    let before = leader.clone();
    let mut refused =
        |from, of, offset| leader.on_fetch(BrokerId(from), &fetch(of, offset), at(1), at(9), 0).unwrap_err();
    assert!(matches!(refused(1, 2, 3), FetchRefused::StaleEpoch(_)));
    assert!(matches!(refused(1, 4, 3), FetchRefused::NewerEpoch { .. }));
    assert!(matches!(refused(1, 3, 6), FetchRefused::BeyondLogEnd { .. }));
    assert!(matches!(refused(1, 3, 0), FetchRefused::BelowLogStart { .. }));
    assert!(matches!(refused(9, 3, 3), FetchRefused::UnknownReplica { .. }));
    assert_eq!(leader, before);
    let (answer, _) = leader.on_fetch(BrokerId(1), &fetch(3, 2), at(1), at(4), 0).unwrap();
    assert_eq!(answer.spans, [EpochSpan { epoch: epoch(3), start_offset: at(2), end_offset: at(4) }]);
    assert!(matches!(founded(2).on_fetch(BrokerId(1), &fetch(3, 2), at(0), at(4), 0), Err(FetchRefused::NotLeader(_))));
}

#[test]
fn a_single_replica_commits_alone() {
    let mut replica = founded(0);
    replica.fence(epoch(1)).unwrap();
    let alone = ReplicaSet::Stable(brokers([0]));
    let effects = replica.elect(epoch(1), replica.identity().incarnation, alone, 0).unwrap();
    assert!(effects.contains(&Effect::Lead { epoch: epoch(1) }));
    assert_eq!(replica.append(3).unwrap(), (at(0), Vec::new()));
    assert_eq!(flush(&mut replica), [Effect::AdvanceHighWatermark { to: at(3) }]);
}

#[test]
fn a_leader_that_leaves_the_replica_set_steps_down() {
    let mut leader = leading(0, 1);
    let joint = ReplicaSet::Joint { old: brokers([0, 1, 2]), new: brokers([1, 2, 3]) };
    assert!(leader.on_replica_set(joint, 0).is_empty());
    assert!(!leader.is_move_complete());
    let new = ReplicaSet::Stable(brokers([1, 2, 3]));
    assert_eq!(leader.on_replica_set(new, 0), [Effect::FailWaiting]);
    assert!(leader.leading().is_none());
}

/// The epoch of every record of a log.
type Log = Vec<u32>;

fn replica_with(broker: u32, log: &Log) -> Replica {
    let mut epochs = LeaderEpochs::default();
    for (offset, of) in (0..).zip(log) {
        epochs.assign(epoch(*of), at(offset));
    }
    let end = at(log.len() as u64);
    let durable = DurableState { promised_epoch: LeaderEpoch::ZERO, adopted_epoch: Some(LeaderEpoch::ZERO) };
    let found = Recovered { durable, epochs, log_end: end, flushed: end, high_watermark: at(0) };
    Replica::recovered(identity(broker, 0), Counting::Flushed, found)
}

/// Two logs as elections leave them: in each epoch one of them, having taken over a part of the
/// other or not, appends.
fn any_two_logs() -> impl Strategy<Value = (Log, Log)> {
    let turn = (any::<bool>(), any::<bool>(), 0_usize..4, 0_usize..5);
    proptest::collection::vec(turn, 0..8).prop_map(|turns| {
        let mut logs: [Log; 2] = Default::default();
        for (of, (second, follows, records, copied)) in (1..).zip(turns) {
            let (leader, follower) = (usize::from(second), usize::from(!second));
            logs[leader].extend(std::iter::repeat_n(of, records));
            if follows {
                let common = logs[0].iter().zip(&logs[1]).take_while(|(a, b)| a == b).count();
                let to = logs[leader].len().min(common + copied);
                let part = logs[leader][common..to].to_vec();
                logs[follower].truncate(common);
                logs[follower].extend(part);
            }
        }
        let [first, second] = logs;
        (first, second)
    })
}

proptest! {
    /// A follower ends with its leader's log, having kept exactly what they shared, and adopts.
    #[test]
    fn a_follower_takes_over_the_leaders_log((led, mut log) in any_two_logs(), step in 1_u64..4) {
        let mut leader = replica_with(0, &led);
        let mut follower = replica_with(1, &log);
        leader.fence(epoch(99)).unwrap();
        leader.elect(epoch(99), leader.identity().incarnation, three(), 0).unwrap();
        follower.follow(epoch(99), BrokerId(0)).unwrap();
        let (mut questions, most) = (0, log.len() + 1);
        while let Some(query) = follower.epoch_end_query() {
            questions += 1;
            prop_assert!(questions <= most, "one for each epoch of the log at most");
            for effect in follower.on_epoch_end(&leader.epoch_end(&query).unwrap()).unwrap() {
                let Effect::Truncate { to } = effect else { panic!("{effect:?}") };
                log.truncate(usize::try_from(to.get()).unwrap());
            }
        }
        let common = led.iter().zip(&log).take_while(|(a, b)| a == b).count();
        prop_assert_eq!((log.len(), follower.log_end()), (common, at(common as u64)));
        while follower.log_end() < leader.log_end() || follower.adopted_epoch() != Some(epoch(99)) {
            let fetch = follower.next_fetch().unwrap();
            let read_to = fetch.fetch_offset.plus(step);
            let (answer, _) = leader.on_fetch(BrokerId(1), &fetch, at(0), read_to, 0).unwrap();
            follower.on_fetch_answer(&answer).unwrap();
            if follower.begin_flush().is_some() {
                flush(&mut follower);
            }
        }
        prop_assert_eq!(leader.high_watermark() <= leader.log_end(), true);
        let fetch = follower.next_fetch().unwrap();
        leader.on_fetch(BrokerId(1), &fetch, at(0), fetch.fetch_offset, 0).unwrap();
        prop_assert_eq!(leader.high_watermark(), leader.log_end());
        let entries = |replica: &Replica| {
            replica.epochs().entries().iter().filter(|entry| entry.start_offset < replica.log_end()).copied().collect::<Vec<_>>()
        };
        prop_assert_eq!(entries(&leader), entries(&follower));
    }
}
