//! Elections: who is chosen, and when nobody can be.

use proptest::prelude::*;

use super::*;
use crate::replication::quorum;

const EPOCH: LeaderEpoch = LeaderEpoch::new(7);

fn brokers(ids: impl IntoIterator<Item = u32>) -> Vec<BrokerId> {
    ids.into_iter().map(BrokerId).collect()
}

fn answer(broker: u32, adopted: Option<u32>, offset: u64) -> FenceAnswer {
    FenceAnswer {
        broker: BrokerId(broker),
        incarnation: life(broker),
        epoch: EPOCH,
        adopted_epoch: adopted.map(LeaderEpoch::new),
        counted_offset: Offset::new(offset),
    }
}

fn life(broker: u32) -> Incarnation {
    Incarnation::from_bytes([u8::try_from(broker).unwrap(); 16])
}

fn decide(set: ReplicaSet, answers: &[FenceAnswer], preferred: &[u32]) -> Decision {
    let mut election = Election::new(EPOCH, set);
    for answer in answers {
        election.on_answer(*answer).unwrap();
    }
    election.decide(&brokers(preferred.iter().copied()))
}

fn elected(broker: u32) -> Decision {
    Decision::Elect { leader: BrokerId(broker), incarnation: life(broker), epoch: EPOCH }
}

fn three() -> ReplicaSet {
    ReplicaSet::Stable(brokers([0, 1, 2]))
}

#[test]
fn the_newest_adopted_epoch_wins_over_a_longer_log() {
    let answers = [answer(0, Some(5), 900), answer(1, Some(6), 10), answer(2, Some(6), 9)];
    assert_eq!(decide(three(), &answers, &[0, 1, 2]), elected(1));
    assert_eq!(decide(three(), &answers[..2], &[0, 1, 2]), elected(1));
}

#[test]
fn equal_logs_go_to_the_preferred() {
    let answers = [answer(0, Some(6), 10), answer(1, Some(6), 10), answer(2, Some(6), 10)];
    assert_eq!(decide(three(), &answers, &[2, 1, 0]), elected(2));
    assert_eq!(decide(three(), &answers, &[]), elected(0), "the smallest id when nothing is preferred");
    assert_eq!(decide(three(), &answers[..2], &[2, 1, 0]), elected(1));
}

#[test]
fn the_forgetful_do_not_count_and_are_not_chosen() {
    let answers = [answer(0, None, 900), answer(1, Some(6), 10)];
    let wait = Decision::Wait { silent: brokers([2]), forgetful: brokers([0]) };
    assert_eq!(decide(three(), &answers, &[0]), wait);
    let answers = [answer(0, None, 900), answer(1, Some(6), 10), answer(2, Some(6), 11)];
    assert_eq!(decide(three(), &answers, &[0]), elected(2));
}

#[test]
fn a_change_needs_quorums_of_both_sets() {
    let joint = || ReplicaSet::Joint { old: brokers([0, 1, 2]), new: brokers([0, 1, 3]) };
    let answers = [answer(0, Some(6), 10), answer(2, Some(6), 11)];
    let wait = Decision::Wait { silent: brokers([1, 3]), forgetful: Vec::new() };
    assert_eq!(decide(joint(), &answers, &[]), wait);
    let answers = [answer(0, Some(6), 10), answer(2, Some(6), 11), answer(3, Some(6), 9)];
    assert_eq!(decide(joint(), &answers, &[]), elected(2), "one of the old set may be chosen");
}

#[test]
fn a_later_answer_replaces_an_earlier_one() {
    let forgot = FenceAnswer { adopted_epoch: None, ..answer(1, None, 0) };
    let answers = [answer(0, Some(6), 10), answer(1, Some(6), 10), forgot];
    let wait = Decision::Wait { silent: brokers([2]), forgetful: brokers([1]) };
    assert_eq!(decide(three(), &answers, &[]), wait);
}

#[test]
fn answers_of_other_elections_are_refused() {
    let mut election = Election::new(EPOCH, three());
    let stale = FenceAnswer { epoch: LeaderEpoch::new(6), ..answer(0, Some(5), 1) };
    assert!(matches!(election.on_answer(stale), Err(ElectionError::OtherEpoch { .. })));
    let stranger = answer(3, Some(5), 1);
    assert_eq!(election.on_answer(stranger), Err(ElectionError::NotAReplica { broker: BrokerId(3) }));
    assert!(election.answers().is_empty() && !election.is_unanimous());
    for broker in [2, 0, 1] {
        election.on_answer(answer(broker, None, 0)).unwrap();
    }
    assert!(election.is_unanimous());
}

proptest! {
    /// The chosen one remembers, nobody who remembers has a better log, and a quorum remembers.
    #[test]
    fn the_best_of_a_quorum_is_chosen(
        logs in proptest::collection::btree_map(0_u32..5, (proptest::option::of(0_u32..3), 0_u64..4), 0..=5),
        preferred in Just((0..5).collect::<Vec<u32>>()).prop_shuffle(),
        replicas in 1_u32..=5,
    ) {
        let answers: Vec<_> = logs
            .iter()
            .filter(|(broker, _)| **broker < replicas)
            .map(|(broker, (adopted, offset))| answer(*broker, *adopted, *offset))
            .collect();
        let set = ReplicaSet::Stable(brokers(0..replicas));
        let remembering: Vec<_> = answers.iter().filter(|answer| answer.adopted_epoch.is_some()).collect();
        match decide(set, &answers, &preferred) {
            Decision::Elect { leader, incarnation, epoch } => {
                prop_assert!(remembering.len() >= quorum(replicas as usize));
                let chosen = remembering.iter().find(|answer| answer.broker == leader).unwrap();
                prop_assert_eq!((incarnation, epoch), (chosen.incarnation, EPOCH));
                let place = |answer: &FenceAnswer| preferred.iter().position(|id| *id == answer.broker.0);
                for other in &remembering {
                    let (best, log) = (rank_of_log(chosen), rank_of_log(other));
                    prop_assert!(log < best || (log == best && place(chosen) <= place(other)));
                }
            }
            Decision::Wait { silent, forgetful } => {
                prop_assert!(remembering.len() < quorum(replicas as usize));
                prop_assert_eq!(silent.len() + forgetful.len() + remembering.len(), replicas as usize);
            }
        }
    }
}
