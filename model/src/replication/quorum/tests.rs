//! Quorum arithmetic against brute force: a value is reached when some quorum has all reached it.

use proptest::prelude::*;

use super::*;

fn brokers(ids: impl IntoIterator<Item = u32>) -> Vec<BrokerId> {
    ids.into_iter().map(BrokerId).collect()
}

/// Every subset of `replicas` that is a majority of them.
fn majorities(replicas: &[BrokerId]) -> Vec<Vec<BrokerId>> {
    let subsets = 0_u32..1 << replicas.len();
    let members = |subset: u32| {
        let chosen = replicas.iter().enumerate().filter(move |(at, _)| subset & (1 << at) != 0);
        chosen.map(|(_, broker)| *broker).collect::<Vec<_>>()
    };
    subsets.map(members).filter(|chosen| 2 * chosen.len() > replicas.len()).collect()
}

/// The greatest value that all of some majority have, by trying every majority.
fn brute_force(replicas: &[BrokerId], values: &[Option<u64>]) -> Option<u64> {
    let value = |broker: &BrokerId| values[broker.0 as usize];
    let worst = |majority: &Vec<BrokerId>| majority.iter().map(value).min().flatten();
    majorities(replicas).iter().filter_map(worst).max()
}

/// Two sets over brokers 0 to 6, and a value or none for each broker.
fn sets_and_values() -> impl Strategy<Value = (Vec<BrokerId>, Vec<BrokerId>, Vec<Option<u64>>)> {
    let set = || proptest::sample::subsequence((0..7).collect::<Vec<u32>>(), 1..=5).prop_map(brokers);
    (set(), set(), proptest::collection::vec(proptest::option::of(0_u64..6), 7))
}

#[test]
fn a_quorum_is_more_than_half() {
    assert_eq!([1, 2, 3, 4, 5, 6, 7].map(quorum), [1, 2, 2, 3, 3, 4, 4]);
}

#[test]
fn a_set_without_replicas_has_no_quorum() {
    assert_eq!(quorum_reached(&[], |_| Some(1)), None);
    assert!(!ReplicaSet::Stable(Vec::new()).is_quorum(|_| true));
}

#[test]
fn majorities_of_two_sets_need_not_meet() {
    let (old, new) = (brokers([0, 1, 2]), brokers([0, 1, 3]));
    let joint = ReplicaSet::Joint { old: old.clone(), new: new.clone() };
    let old_half = |broker: BrokerId| [0, 2].contains(&broker.0);
    let new_half = |broker: BrokerId| [1, 3].contains(&broker.0);
    assert!(ReplicaSet::Stable(old).is_quorum(old_half) && ReplicaSet::Stable(new).is_quorum(new_half));
    assert!(!joint.is_quorum(old_half) && !joint.is_quorum(new_half));
    assert_eq!(joint.members().collect::<Vec<_>>(), brokers([0, 1, 2, 3]));
    assert!(joint.contains(BrokerId(3)) && !joint.contains(BrokerId(4)));
}

proptest! {
    #[test]
    fn the_value_that_a_quorum_has_reached((set, _, values) in sets_and_values()) {
        let value = |broker: BrokerId| values[broker.0 as usize];
        prop_assert_eq!(quorum_reached(&set, value), brute_force(&set, &values));
        let mut sorted: Vec<_> = set.iter().filter_map(|broker| value(*broker)).collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        prop_assert_eq!(quorum_reached(&set, value), sorted.get(quorum(set.len()) - 1).copied());
    }

    #[test]
    fn a_joint_quorum_is_one_of_both((old, new, values) in sets_and_values()) {
        let value = |broker: BrokerId| values[broker.0 as usize];
        let (of_old, of_new) = (brute_force(&old, &values), brute_force(&new, &values));
        let joint = ReplicaSet::Joint { old: old.clone(), new: new.clone() };
        prop_assert_eq!(joint.quorum_reached(value), of_old.min(of_new));
        for goal in 0..6 {
            let counts = |broker: BrokerId| value(broker) >= Some(goal);
            prop_assert_eq!(joint.is_quorum(counts), of_old >= Some(goal) && of_new >= Some(goal));
        }
    }

    /// What safety rests on: whatever commits during a change meets whatever elects before, during
    /// and after it.
    #[test]
    fn joint_quorums_meet_those_of_both_sets((old, new, values) in sets_and_values(), other in 0_u8..128) {
        let commits = |broker: BrokerId| values[broker.0 as usize].is_some();
        let elects = |broker: BrokerId| other & (1 << broker.0) != 0;
        let joint = ReplicaSet::Joint { old: old.clone(), new: new.clone() };
        for set in [ReplicaSet::Stable(old), ReplicaSet::Stable(new), joint.clone()] {
            if joint.is_quorum(commits) && set.is_quorum(elects) {
                prop_assert!(joint.members().any(|broker| commits(broker) && elects(broker)));
            }
        }
    }

    #[test]
    fn members_are_told_once((old, new, _) in sets_and_values()) {
        let joint = ReplicaSet::Joint { old: old.clone(), new: new.clone() };
        let mut members: Vec<_> = joint.members().collect();
        prop_assert!(members.iter().all(|broker| joint.contains(*broker)));
        members.sort_unstable();
        let mut expected = [old, new].concat();
        expected.sort_unstable();
        expected.dedup();
        prop_assert_eq!(members, expected);
    }

    #[test]
    fn a_set_survives_its_encoding((old, new, _) in sets_and_values()) {
        for set in [ReplicaSet::Stable(old.clone()), ReplicaSet::Joint { old, new }] {
            let text = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<ReplicaSet>(&text).unwrap(), set);
        }
    }
}
