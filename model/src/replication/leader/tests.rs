//! A leader's view: who counts from when, the change of the replica set, and when to step down.

use proptest::prelude::*;

use super::*;

const EPOCH: LeaderEpoch = LeaderEpoch::new(3);
const BEFORE: LeaderEpoch = LeaderEpoch::new(2);

fn brokers(ids: impl IntoIterator<Item = u32>) -> Vec<BrokerId> {
    ids.into_iter().map(BrokerId).collect()
}

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

/// Broker 0 leads 1 and 2 from offset 10 on.
fn progress() -> LeaderProgress {
    LeaderProgress::new(BrokerId(0), EPOCH, at(10), ReplicaSet::Stable(brokers([0, 1, 2])), 0)
}

fn fetch(adopted: Option<LeaderEpoch>, offset: u64, life: u8) -> ReplicaFetch {
    ReplicaFetch {
        epoch: EPOCH,
        registration: u64::from(life),
        storage: StorageId::from_bytes([life; 16]),
        adopted_epoch: adopted,
        fetch_offset: at(offset),
    }
}

#[test]
fn a_follower_counts_from_its_adoption_on() {
    let mut progress = progress();
    assert_eq!(progress.committed(at(12)), None, "the leader alone is no quorum");
    assert_eq!(progress.on_fetch(BrokerId(1), &fetch(Some(BEFORE), 12, 1), at(12), 0), Ok(at(10)));
    assert_eq!(progress.committed(at(12)), None, "it holds all, but has not adopted");
    progress.on_fetch(BrokerId(1), &fetch(Some(EPOCH), 11, 1), at(12), 0).unwrap();
    assert_eq!(progress.committed(at(12)), Some(at(11)));
    assert_eq!(progress.committed(at(10)), Some(at(10)), "what the leader has not flushed does not count");
}

#[test]
fn an_overtaken_request_takes_nothing_back() {
    let mut progress = progress();
    progress.on_fetch(BrokerId(1), &fetch(Some(BEFORE), 10, 1), at(15), 0).unwrap();
    for offset in [14, 12] {
        progress.on_fetch(BrokerId(1), &fetch(Some(EPOCH), offset, 1), at(15), 0).unwrap();
        assert_eq!(progress.acknowledged(BrokerId(1)), Some(at(14)));
    }
}

#[test]
fn a_new_disk_counts_once_it_holds_what_the_former_may_have_acknowledged() {
    let mut progress = progress();
    progress.on_fetch(BrokerId(1), &fetch(Some(BEFORE), 10, 1), at(20), 0).unwrap();
    progress.on_fetch(BrokerId(1), &fetch(Some(EPOCH), 18, 1), at(20), 0).unwrap();
    assert_eq!(progress.on_fetch(BrokerId(1), &fetch(None, 0, 2), at(25), 0), Ok(at(25)));
    assert_eq!(progress.acknowledged(BrokerId(1)), None);
    assert_eq!(progress.on_fetch(BrokerId(1), &fetch(None, 7, 2), at(30), 0), Ok(at(25)), "noted once");
    progress.on_fetch(BrokerId(1), &fetch(Some(EPOCH), 24, 2), at(30), 0).unwrap();
    assert_eq!(progress.acknowledged(BrokerId(1)), None, "even if it claims to have adopted");
    progress.on_fetch(BrokerId(1), &fetch(Some(EPOCH), 25, 2), at(30), 0).unwrap();
    assert_eq!(progress.acknowledged(BrokerId(1)), Some(at(25)));
}

#[test]
fn a_replica_that_has_forgotten_is_held_to_the_log_end_from_its_first_word_on() {
    let mut progress = progress();
    assert_eq!(progress.on_fetch(BrokerId(1), &fetch(None, 0, 2), at(25), 0), Ok(at(25)));
    let late = progress.on_fetch(BrokerId(1), &fetch(Some(EPOCH), 20, 1), at(25), 0);
    assert_eq!(late, Err(NotAdmitted::FormerLife), "its former disk may speak no more");
    assert_eq!(progress.acknowledged(BrokerId(1)), None);
}

#[test]
fn strangers_are_refused() {
    let mut progress = progress();
    let fetch = fetch(Some(EPOCH), 10, 1);
    assert_eq!(progress.on_fetch(BrokerId(9), &fetch, at(10), 0), Err(NotAdmitted::UnknownReplica));
    assert_eq!(progress.on_fetch(BrokerId(0), &fetch, at(10), 0), Err(NotAdmitted::UnknownReplica), "not itself");
}

#[test]
fn the_latest_offset_is_told_from_the_start_of_the_epoch_on() {
    let progress = progress();
    assert_eq!(progress.latest_offset(at(9)), Err(LatestOffsetUnknown { epoch: EPOCH, epoch_start: at(10) }));
    assert_eq!(progress.latest_offset(at(10)), Ok(at(10)));
}

#[test]
fn a_change_commits_with_both_sets_and_ends_with_the_new_one_complete() {
    let mut progress = progress();
    let joint = ReplicaSet::Joint { old: brokers([0, 1, 2]), new: brokers([0, 3, 4]) };
    progress.on_fetch(BrokerId(1), &fetch(Some(BEFORE), 12, 1), at(12), 0).unwrap();
    progress.on_fetch(BrokerId(1), &fetch(Some(EPOCH), 12, 1), at(12), 0).unwrap();
    assert_eq!(progress.committed(at(12)), Some(at(12)));
    progress.on_replica_set(joint.clone(), at(12), 0);
    assert_eq!((progress.committed(at(12)), progress.joint_from()), (None, Some(at(12))));
    assert_eq!(progress.acknowledged(BrokerId(1)), Some(at(12)), "what is known stays known");
    assert!(!progress.is_move_complete(at(12)));
    progress.on_fetch(BrokerId(3), &fetch(None, 0, 1), at(14), 0).unwrap();
    progress.on_fetch(BrokerId(3), &fetch(Some(EPOCH), 14, 1), at(14), 0).unwrap();
    assert_eq!(progress.committed(at(14)), Some(at(12)));
    assert!(!progress.is_move_complete(at(11)) && progress.is_move_complete(at(12)));
    progress.on_replica_set(joint, at(99), 0);
    assert_eq!(progress.joint_from(), Some(at(12)), "the same set again changes nothing");
    progress.on_replica_set(ReplicaSet::Stable(brokers([0, 3, 4])), at(14), 0);
    assert_eq!((progress.joint_from(), progress.acknowledged(BrokerId(1))), (None, None));
    assert_eq!(progress.committed(at(14)), Some(at(14)));
}

#[test]
fn a_leader_elected_during_a_change_notes_its_start() {
    let joint = ReplicaSet::Joint { old: brokers([0, 1, 2]), new: brokers([0, 1, 3]) };
    let progress = LeaderProgress::new(BrokerId(0), EPOCH, at(10), joint, 0);
    assert_eq!(progress.joint_from(), Some(at(10)));
}

#[test]
fn a_leader_steps_down_when_a_quorum_is_silent() {
    let mut progress = progress();
    assert_eq!(progress.step_down_at_ms(1000), Some(1000), "the epoch began at 0");
    progress.on_fetch(BrokerId(2), &fetch(Some(BEFORE), 10, 1), at(10), 700).unwrap();
    assert_eq!(progress.step_down_at_ms(1000), Some(1700), "one follower and itself are a quorum");
    progress.on_fetch(BrokerId(1), &fetch(Some(BEFORE), 10, 1), at(10), 300).unwrap();
    assert_eq!(progress.step_down_at_ms(1000), Some(1700));
    let joint = ReplicaSet::Joint { old: brokers([0, 1, 2]), new: brokers([0, 3, 4]) };
    progress.on_replica_set(joint, at(10), 800);
    assert_eq!(progress.step_down_at_ms(1000), Some(1700), "the later contacts of the new set do not help");
    let alone = LeaderProgress::new(BrokerId(0), EPOCH, at(10), ReplicaSet::Stable(brokers([0])), 0);
    assert_eq!(alone.step_down_at_ms(1000), None);
    assert_eq!(alone.committed(at(11)), Some(at(11)));
}

proptest! {
    /// Whatever followers say in whatever order, what is committed is held by a quorum that has
    /// adopted the epoch, and never shrinks while the leader's own offset does not.
    #[test]
    fn commits_rest_on_adopted_acknowledgements(
        fetches in proptest::collection::vec((1_u32..5, 0_u32..2, 0_u64..8), 0..40),
    ) {
        let set = brokers(0..5);
        let (epoch, start, end) = (EPOCH, at(2), at(8));
        let mut progress = LeaderProgress::new(BrokerId(0), epoch, start, ReplicaSet::Stable(set.clone()), 0);
        let (mut committed, mut held) = (None, [None; 5]);
        held[0] = Some(end);
        for (follower, adopted, offset) in fetches {
            let adopted = if adopted == 0 { BEFORE } else { EPOCH };
            let known = progress.storage(BrokerId(follower)).is_some();
            let adopt_at = progress.on_fetch(BrokerId(follower), &fetch(Some(adopted), offset, 1), end, 0).unwrap();
            if adopted == EPOCH && known && at(offset) >= adopt_at {
                let held = &mut held[follower as usize];
                *held = (*held).max(Some(at(offset)));
            }
            let now = progress.committed(end);
            prop_assert!(now >= committed);
            committed = now;
            prop_assert!(now <= quorum_reached(&set, |broker| held[broker.0 as usize]));
        }
    }
}
