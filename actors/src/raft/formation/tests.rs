//! What an empty store may do, from what the others say.

use super::*;

const ME: BrokerId = BrokerId(2);

fn ids(numbers: &[u32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn standing(told: &[u32]) -> Standing {
    Standing { voters: ids(told), ..Standing::default() }
}

/// A member of a group that has a leader, with the membership in its log at `index`.
fn formed(vote: Vote, index: u64, members: &[u32]) -> Standing {
    let nodes: BTreeMap<u64, BasicNode> =
        members.iter().map(|member| (u64::from(*member), BasicNode::new("a:1"))).collect();
    let membership = Membership::new(vec![nodes.keys().copied().collect()], nodes);
    let log_id = openraft::testing::log_id(1, 0, index);
    let membership = StoredMembership::new(Some(log_id), membership);
    Standing { formed: true, vote: Some(vote), membership, ..standing(members) }
}

fn decided(voters: &[u32], answers: Vec<(u32, Standing)>) -> Decision {
    decide(ME, &ids(voters), &answers.into_iter().map(|(broker, standing)| (BrokerId(broker), standing)).collect())
}

fn asks(voters: &[u32], answers: Vec<(u32, Standing)>) -> bool {
    matches!(decided(voters, answers), Decision::Ask(_))
}

#[test]
fn a_lone_voter_founds_at_once() {
    assert_eq!(decided(&[2], vec![]), Decision::Found(None));
}

#[test]
fn a_group_is_founded_when_a_majority_of_the_others_knows_no_leader() {
    let told = [0, 1, 2];
    assert!(asks(&told, vec![]));
    // One of two others is no majority of them: the other may have been led, together with this one.
    assert!(asks(&told, vec![(0, standing(&told))]));
    assert_eq!(decided(&told, vec![(0, standing(&told)), (1, standing(&told))]), Decision::Found(None));
    let told = [0, 1, 2, 3];
    assert!(asks(&told, vec![(3, standing(&told))]));
    assert_eq!(decided(&told, vec![(0, standing(&told)), (3, standing(&told))]), Decision::Found(None));
    assert_eq!(decided(&[0, 2], vec![(0, standing(&[0, 2]))]), Decision::Found(None));
}

#[test]
fn a_vote_that_was_given_is_taken_over_by_a_founder() {
    let told = [0, 1, 2];
    let (low, high) = (Vote::new(1, 0), Vote::new(1, 1));
    let voted = |vote| Standing { vote: Some(vote), ..standing(&told) };
    assert_eq!(decided(&told, vec![(0, voted(high)), (1, voted(low))]), Decision::Found(Some(high)));
}

#[test]
fn who_comes_to_a_led_group_is_on_probation_under_the_highest_vote() {
    let told = [0, 1, 2];
    let (old, new) = (Vote::new_committed(3, 0), Vote::new(5, 1));
    assert!(asks(&told, vec![(0, formed(old, 0, &told))]));
    let answers = vec![(0, formed(old, 0, &told)), (1, Standing { vote: Some(new), ..standing(&told) })];
    assert_eq!(decided(&told, answers), Decision::Probation(Some(new)));
    assert_eq!(uncommitted(old), Vote::new(3, 0));
}

#[test]
fn the_members_are_those_of_the_longest_log() {
    let vote = Vote::new_committed(3, 0);
    // Told of three, but there are five by now: three of the four others must answer.
    let (old, new) = (formed(vote, 0, &[0, 1, 2]), formed(vote, 8, &[0, 1, 2, 3, 4]));
    let answers = vec![(0, new.clone()), (1, old.clone())];
    match decided(&[0, 1, 2], answers.clone()) {
        Decision::Ask(targets) => assert!([3, 4].iter().all(|n| targets.contains(&BrokerId(*n)))),
        other => panic!("{other:?}"),
    }
    let answers = answers.into_iter().chain([(4, new)]).collect();
    assert_eq!(decided(&[0, 1, 2], answers), Decision::Probation(Some(vote)));
}

#[test]
fn who_is_no_voter_waits_for_a_group_and_joins_it() {
    let told = [0, 1];
    assert!(asks(&told, vec![(0, standing(&told)), (1, standing(&told))]));
    let vote = Vote::new_committed(1, 0);
    let answers = vec![(0, formed(vote, 0, &told)), (1, formed(vote, 0, &told))];
    assert_eq!(decided(&told, answers), Decision::Probation(Some(vote)));
}

#[test]
fn founders_that_were_told_of_different_voters_do_not_begin() {
    let answers = vec![(0, standing(&[0, 1, 2])), (1, standing(&[0, 1, 2, 3]))];
    assert_eq!(decided(&[0, 1, 2], answers), Decision::Conflict(BrokerId(1)));
    // The order does not matter.
    let answers = vec![(0, standing(&[2, 1, 0])), (1, standing(&[0, 2, 1]))];
    assert_eq!(decided(&[0, 1, 2], answers), Decision::Found(None));
}
