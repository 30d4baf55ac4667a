//! Brokers come to the group and leave it.

use std::{collections::BTreeSet, sync::Arc};

use openraft::ChangeMembers;
use pubg1_model::BrokerId;

use super::{
    super::MembershipError,
    mesh::{Home, Member, Mesh, address, led, sees},
    reserve, take_leader, three,
};
use crate::fixture::{pass, within};

async fn voters_are(member: &Member, expected: &[u32]) {
    within(async {
        loop {
            let status = member.metadata.status();
            let voters: Vec<u32> = status.voters.iter().map(|broker| broker.0).collect();
            if voters == expected && !status.changing {
                return;
            }
            pass(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_new_broker_joins_by_itself_and_takes_part() {
    let mesh = Arc::default();
    let (_homes, mut members) = three(&mesh).await;
    within(members[0].metadata.propose(reserve(3))).await.unwrap();
    // It knows one of them only.
    let home = Home::new(7);
    let newcomer = Member::start(&mesh, &home, &[1]);
    newcomer.arrive().await;
    for member in &members {
        voters_are(member, &[0, 1, 2, 7]).await;
    }
    assert_eq!(newcomer.metadata.image().next_producer_id, 3);
    assert_eq!(mesh.addresses.lock().unwrap()[&BrokerId(7)], address(7));
    // Two of four are no majority: it counts.
    let leader = take_leader(&mut members).await;
    members.pop().unwrap().kill();
    within(leader.metadata.propose(reserve(1))).await.unwrap();
    sees(&newcomer, |image| image.next_producer_id == 4).await;
    for member in members.into_iter().chain([leader, newcomer]) {
        member.kill();
    }
}

#[actix_rt::test]
async fn brokers_are_removed_the_leader_too() {
    let mesh = Arc::default();
    let (_homes, mut members) = three(&mesh).await;
    let leader = take_leader(&mut members).await;
    let gone = leader.broker();
    within(members[0].metadata.remove_voter(gone)).await.unwrap();
    let left: Vec<u32> = [0, 1, 2].into_iter().filter(|broker| *broker != gone.0).collect();
    for member in &members {
        voters_are(member, &left).await;
    }
    leader.kill();
    for member in &members {
        let mut controller = member.metadata.controller();
        within(controller.wait_for(|leads| leads.is_some_and(|leads| leads.broker != gone))).await.unwrap();
    }
    let now = led(&members.iter().collect::<Vec<_>>()).await;
    let (follower, leading) =
        if members[0].broker() == now { (&members[1], &members[0]) } else { (&members[0], &members[1]) };
    within(follower.metadata.propose(reserve(1))).await.unwrap();
    within(follower.metadata.remove_voter(follower.broker())).await.unwrap();
    voters_are(leading, &[now.0]).await;
    within(leading.metadata.propose(reserve(1))).await.unwrap();
    let last = within(leading.metadata.remove_voter(now)).await.unwrap_err();
    assert!(matches!(last, MembershipError::Refused(_)), "{last}");
    members.into_iter().for_each(Member::kill);
}

#[actix_rt::test]
async fn a_lone_broker_becomes_a_cluster() {
    let mesh = Arc::default();
    let homes = [0, 1, 2].map(Home::new);
    let first = Member::start(&mesh, &homes[0], &[0]);
    first.arrive().await;
    within(first.metadata.propose(reserve(9))).await.unwrap();
    let second = Member::start(&mesh, &homes[1], &[0]);
    let third = Member::start(&mesh, &homes[2], &[0, 1]);
    second.arrive().await;
    third.arrive().await;
    for member in [&second, &third] {
        voters_are(member, &[0, 1, 2]).await;
    }
    first.kill();
    within(third.metadata.propose(reserve(1))).await.unwrap();
    sees(&second, |image| image.next_producer_id == 10).await;
    second.kill();
    third.kill();
}

#[actix_rt::test]
async fn a_broker_that_has_moved_is_found_again() {
    let mesh: Arc<Mesh> = Arc::default();
    let (mut homes, mut members) = three(&mesh).await;
    let moved = members.pop().unwrap();
    let home = homes.iter_mut().find(|home| home.broker == moved.broker()).unwrap();
    moved.kill();
    home.address = "127.0.0.1:9999".to_owned();
    let back = Member::start(&mesh, home, &[0, 1, 2]);
    back.arrive().await;
    let listed = |member: &Member| {
        let group = member.metadata.group().unwrap();
        let members = group.raft.metrics().borrow().membership_config.clone();
        members.membership().get_node(&u64::from(home.broker.0)).map(|node| node.addr.clone())
    };
    within(async {
        while members.iter().any(|member| listed(member).as_ref() != Some(&home.address)) {
            pass(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(mesh.addresses.lock().unwrap()[&home.broker], home.address);
    voters_are(&back, &[0, 1, 2]).await;
    members.into_iter().chain([back]).for_each(Member::kill);
}

#[actix_rt::test]
async fn a_change_that_its_leader_left_half_done_is_ended() {
    let mesh: Arc<Mesh> = Arc::default();
    let (_homes, mut members) = three(&mesh).await;
    let leader = take_leader(&mut members).await;
    // The first step only: what a leader leaves that dies between the two.
    let group = leader.metadata.group().unwrap();
    let voters = BTreeSet::from([u64::from(leader.broker().0), u64::from(members[0].broker().0)]);
    let change = group.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters.clone()), true);
    let mut metrics = group.raft.metrics();
    let joint = metrics.wait_for(|metrics| metrics.membership_config.membership().get_joint_config().len() > 1);
    tokio::select! {
        biased;
        _ = within(joint) => {}
        _ = change => panic!("it took one step"),
    }
    let expected: Vec<u32> = voters.into_iter().map(|voter| u32::try_from(voter).unwrap()).collect();
    voters_are(&leader, &expected).await;
    voters_are(&members[1], &expected).await;
    members.into_iter().chain([leader]).for_each(Member::kill);
}
