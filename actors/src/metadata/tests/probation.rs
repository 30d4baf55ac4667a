//! A voter that has lost its disk.

use crate::fixture::pass;
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::raft::{VoteRequest, VoteResponse};

use super::{
    THREE,
    mesh::{Home, Member, Mesh, led, sees},
    reserve, take_leader, three,
};
use crate::{
    fixture::within,
    raft::{
        types::Vote,
        wire::{self, Answer, KIND_VOTE, Refusal},
    },
};

async fn ask_for_vote(member: &Member) -> Answer<VoteResponse<u64>> {
    let request = VoteRequest::new(Vote::new(1_000, 0), Some(openraft::testing::log_id(1_000, 0, 1_000)));
    let answer: Bytes = member.metadata.answer(KIND_VOTE, wire::encode(&request).unwrap()).await;
    wire::decode(&answer).unwrap()
}

/// Waits until the member runs and says how it stands.
async fn on_probation(member: &Member, expected: bool) {
    within(async {
        loop {
            let status = member.metadata.status();
            if !status.voters.is_empty() && status.on_probation == expected {
                return;
            }
            pass(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_wiped_voter_votes_again_when_it_has_caught_up_and_registered() {
    let mesh: Arc<Mesh> = Arc::default();
    let (mut homes, mut members) = three(&mesh).await;
    let leader = take_leader(&mut members).await;
    let wiped = members.remove(0);
    within(leader.metadata.propose(reserve(1))).await.unwrap();
    let home = homes.iter_mut().find(|home| home.broker == wiped.broker()).unwrap();
    wiped.kill();
    home.wipe();
    let back = Member::start(&mesh, home, &THREE);
    within(back.metadata.opened()).await;
    assert_eq!(back.metadata.image().next_producer_id, 1);
    // It has everything, but is still registered under its old disk.
    on_probation(&back, true).await;
    assert_eq!(ask_for_vote(&back).await.unwrap_err(), Refusal::Probation);
    back.register().await;
    on_probation(&back, false).await;
    let term = back.metadata.status().term;
    // The vote counts: with the leader gone, the two that are left need each other.
    leader.kill();
    within(back.metadata.propose(reserve(1))).await.unwrap();
    assert!(back.metadata.status().term > term);
    back.kill();
    members.into_iter().for_each(Member::kill);
}

#[actix_rt::test]
async fn a_wiped_voter_elects_nobody_who_may_lack_what_it_had_acknowledged() {
    let mesh: Arc<Mesh> = Arc::default();
    let (mut homes, mut members) = three(&mesh).await;
    let leader = take_leader(&mut members).await;
    let (behind, wiped) = (members.remove(0), members.remove(0));
    // Decided by the leader and the one whose disk is about to be lost.
    mesh.cut(behind.broker());
    within(leader.metadata.propose(reserve(1))).await.unwrap();
    let (wiped_id, leader_id) = (wiped.broker(), leader.broker());
    wiped.kill();
    leader.kill();
    mesh.heal(behind.broker());
    let wiped_home = homes.iter_mut().find(|home| home.broker == wiped_id).unwrap();
    wiped_home.wipe();
    let back = Member::start(&mesh, wiped_home, &THREE);
    // Two of three run, and yet they must not go on: the decision is on the third's disk only.
    pass(Duration::from_secs(3)).await;
    assert!(!back.metadata.is_opened());
    assert!(behind.metadata.0.controller.borrow().is_none());
    assert!(back.metadata.0.node.obstacle.borrow().is_some());
    let home = homes.iter().find(|home| home.broker == leader_id).unwrap();
    let leader = Member::start(&mesh, home, &THREE);
    for member in [&leader, &behind, &back] {
        sees(member, |image| image.next_producer_id == 1).await;
    }
    back.register().await;
    on_probation(&back, false).await;
    led(&[&leader, &behind, &back]).await;
    for member in [leader, behind, back] {
        member.close().await;
    }
}

#[actix_rt::test]
async fn the_probation_outlasts_a_restart() {
    let mesh: Arc<Mesh> = Arc::default();
    let (mut homes, mut members) = three(&mesh).await;
    let wiped = members.pop().unwrap();
    let home = homes.iter_mut().find(|home| home.broker == wiped.broker()).unwrap();
    wiped.kill();
    home.wipe();
    let back = Member::start(&mesh, home, &THREE);
    within(back.metadata.opened()).await;
    back.kill();
    let back = Member::start(&mesh, home, &THREE);
    on_probation(&back, true).await;
    assert_eq!(ask_for_vote(&back).await.unwrap_err(), Refusal::Probation);
    within(back.metadata.opened()).await;
    back.register().await;
    on_probation(&back, false).await;
    back.kill();
    let back = Member::start(&mesh, home, &THREE);
    on_probation(&back, false).await;
    back.kill();
    members.into_iter().for_each(Member::kill);
}

#[actix_rt::test]
async fn a_first_start_waits_for_a_majority_of_the_others() {
    let mesh: Arc<Mesh> = Arc::default();
    let homes: Vec<_> = THREE.iter().map(|broker| Home::new(*broker)).collect();
    let mut members: Vec<_> = homes[..2].iter().map(|home| Member::start(&mesh, home, &THREE)).collect();
    pass(Duration::from_secs(1)).await;
    for member in &members {
        assert!(!member.metadata.is_opened());
        let obstacle = member.metadata.0.node.obstacle.borrow().clone().unwrap();
        assert!(obstacle.contains("brokers 2"), "{obstacle}");
    }
    members.push(Member::start(&mesh, &homes[2], &THREE));
    for member in &members {
        member.arrive().await;
    }
    members.into_iter().for_each(Member::kill);
}
