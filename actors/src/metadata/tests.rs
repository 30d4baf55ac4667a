//! Groups of several members in one process.

mod membership;
mod mesh;
mod probation;

use std::{sync::Arc, time::Duration};

use pubg1_model::{
    BrokerId, ProducerId,
    cluster::{MetadataCommand, MetadataError, MetadataReply},
};
use tokio::time::Instant;

use super::ProposeError;
use crate::{
    errors::MetadataUnavailable,
    fatal::FatalError,
    fixture::within,
    raft::{LogLimits, store::StoreError, wire::KIND_SNAPSHOT},
};
use mesh::{Home, Member, Mesh, led, sees};

const THREE: [u32; 3] = [0, 1, 2];

fn reserve(count: u32) -> MetadataCommand {
    MetadataCommand::ReserveProducerIds { count }
}

/// Three members that have arrived.
async fn three(mesh: &Arc<Mesh>) -> (Vec<Home>, Vec<Member>) {
    let homes: Vec<_> = THREE.iter().map(|broker| Home::new(*broker)).collect();
    let members: Vec<_> = homes.iter().map(|home| Member::start(mesh, home, &THREE)).collect();
    for member in &members {
        member.arrive().await;
    }
    (homes, members)
}

/// Takes the leader out of the members.
async fn take_leader(members: &mut Vec<Member>) -> Member {
    let leader = led(&members.iter().collect::<Vec<_>>()).await;
    let at = members.iter().position(|member| member.broker() == leader).unwrap();
    members.remove(at)
}

#[actix_rt::test]
async fn what_is_proposed_on_any_member_is_seen_there_at_once_and_on_all_soon() {
    let mesh = Arc::default();
    let (_homes, members) = three(&mesh).await;
    let mut expected = 0;
    for round in 0..5 {
        for member in &members {
            let reply = within(member.metadata.propose(reserve(10))).await.unwrap();
            assert_eq!(reply, MetadataReply::ProducerIds { first: ProducerId(expected), count: 10 });
            expected += 10;
            assert_eq!(member.metadata.image().next_producer_id, expected, "round {round}");
        }
    }
    for member in &members {
        sees(member, |image| image.next_producer_id == expected && image.brokers.len() == 3).await;
        let refused = within(member.metadata.propose(reserve(0))).await;
        assert_eq!(refused, Err(ProposeError::Refused(MetadataError::ProducerIds(0))));
    }
    let leading = members.iter().filter(|member| member.metadata.is_controller()).count();
    assert_eq!(leading, 1);
    for member in members {
        member.close().await;
    }
}

#[actix_rt::test]
async fn a_killed_leader_is_replaced_and_nothing_is_lost() {
    let mesh = Arc::default();
    let (homes, mut members) = three(&mesh).await;
    let mut ids = 0;
    let mut waits = Vec::new();
    for _ in 0..5 {
        let leader = take_leader(&mut members).await;
        let broker = leader.broker();
        within(leader.metadata.propose(reserve(1))).await.unwrap();
        ids += 1;
        leader.kill();
        let killed = Instant::now();
        let reply = within(members[0].metadata.propose(reserve(1))).await.unwrap();
        waits.push(killed.elapsed());
        assert_eq!(reply, MetadataReply::ProducerIds { first: ProducerId(ids), count: 1 });
        ids += 1;
        let home = homes.iter().find(|home| home.broker == broker).unwrap();
        let again = Member::start(&mesh, home, &THREE);
        within(again.metadata.opened()).await;
        assert_eq!(again.metadata.image().next_producer_id, ids);
        again.register().await;
        members.push(again);
    }
    waits.sort_unstable();
    // The port of the old leader refuses, so nobody waits for a timeout. Generous: the machine may be busy.
    assert!(waits[2] < Duration::from_millis(700), "{waits:?}");
    println!("from the kill of the leader to the next decision: {waits:?}");
    for member in members {
        member.close().await;
    }
}

#[actix_rt::test]
async fn a_leader_that_closes_in_order_is_replaced_while_its_port_still_answers() {
    let mesh = Arc::default();
    let (_homes, mut members) = three(&mesh).await;
    let leader = take_leader(&mut members).await;
    leader.metadata.close().await;
    let closed = Instant::now();
    within(members[0].metadata.propose(reserve(1))).await.unwrap();
    let wait = closed.elapsed();
    println!("from the end of the leader to the next decision: {wait:?}");
    assert!(wait < Duration::from_millis(700), "{wait:?}");
    members.into_iter().chain([leader]).for_each(Member::kill);
}

#[actix_rt::test]
async fn a_full_disk_is_waited_for_and_any_other_failed_write_is_final() {
    let mesh = Arc::default();
    let home = Home::new(0);
    let member = Member::start(&mesh, &home, &[0]);
    member.arrive().await;
    within(member.metadata.propose(reserve(1))).await.unwrap();
    let store = || member.metadata.group().unwrap().store;
    store().fail_next_write(StoreError::DiskFull);
    let error = within(member.metadata.propose(reserve(1))).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
    within(async { while member.metadata.propose(reserve(1)).await.is_err() {} }).await;
    assert_eq!(member.metadata.image().next_producer_id, 2);
    let fatal = member.metadata.0.node.fatal.clone();
    assert!(fatal.get().is_none());
    store().fail_next_write(StoreError::Io("broken".to_owned()));
    within(member.metadata.propose(reserve(1))).await.unwrap_err();
    assert!(matches!(*within(fatal.reported()).await, FatalError::Flush { .. }));
    let error = within(member.metadata.propose(reserve(1))).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unavailable(MetadataUnavailable::Failed(_))), "{error}");
    member.kill();
}

#[actix_rt::test]
async fn a_leader_that_is_cut_off_decides_nothing_and_says_so() {
    let mesh = Arc::default();
    let (_homes, mut members) = three(&mesh).await;
    let old = take_leader(&mut members).await;
    mesh.cut(old.broker());
    let lost = within(old.metadata.propose(reserve(1))).await.unwrap_err();
    assert!(matches!(lost, ProposeError::Unavailable(MetadataUnavailable::OutcomeUnknown { .. })), "{lost}");
    let new = led(&members.iter().collect::<Vec<_>>()).await;
    assert_ne!(new, old.broker());
    assert!(!old.metadata.is_controller());
    within(members[0].metadata.propose(reserve(5))).await.unwrap();
    mesh.heal(old.broker());
    sees(&old, |image| image.next_producer_id == 5).await;
    within(old.metadata.propose(reserve(1))).await.unwrap();
    for member in members.into_iter().chain([old]) {
        member.close().await;
    }
}

#[actix_rt::test]
async fn without_a_majority_nothing_is_decided_and_it_is_retriable() {
    let mesh = Arc::default();
    let (_homes, mut members) = three(&mesh).await;
    take_leader(&mut members).await.kill();
    members.remove(0).kill();
    let last = members.remove(0);
    let error = within(last.metadata.propose(reserve(1))).await.unwrap_err();
    // It may have become the leader in between, and takes some time to see that nobody follows.
    let ProposeError::Unavailable(error) = error else { panic!("{error}") };
    let unknown = matches!(error, MetadataUnavailable::OutcomeUnknown { .. });
    assert!(unknown || matches!(error, MetadataUnavailable::NoLeader { .. }), "{error}");
    assert!(error.retry_after_ms().is_some());
    within(last.metadata.controller().wait_for(Option::is_none)).await.unwrap();
    assert_eq!(last.metadata.image().next_producer_id, 0);
    last.kill();
}

#[actix_rt::test]
async fn all_members_are_killed_and_find_everything_again() {
    let mesh = Arc::default();
    let (homes, members) = three(&mesh).await;
    within(members[1].metadata.propose(reserve(7))).await.unwrap();
    let version = members[1].metadata.image().version;
    members.into_iter().for_each(Member::kill);
    let members: Vec<_> = homes.iter().map(|home| Member::start(&mesh, home, &THREE)).collect();
    for member in &members {
        within(member.metadata.opened()).await;
        let image = member.metadata.image();
        assert_eq!((image.next_producer_id, image.version), (7, version));
        assert!(!member.metadata.status().on_probation);
    }
    for member in members {
        member.close().await;
    }
}

#[actix_rt::test]
async fn a_member_that_was_away_for_long_gets_a_snapshot() {
    let mesh = Arc::default();
    let limits = LogLimits { snapshot_after: 50, kept: 5 };
    let homes: Vec<_> = THREE.iter().map(|broker| Home::new(*broker)).collect();
    let mut members: Vec<_> = homes.iter().map(|home| Member::start_with(&mesh, home, &THREE, limits)).collect();
    for member in &members {
        member.arrive().await;
    }
    let leader = take_leader(&mut members).await;
    let away = members.remove(0);
    let broker = away.broker();
    away.kill();
    for _ in 0..200 {
        within(leader.metadata.propose(reserve(1))).await.unwrap();
    }
    let calls = |kind| mesh.calls.lock().unwrap().get(&kind).copied().unwrap_or(0);
    let before = calls(KIND_SNAPSHOT);
    let home = homes.iter().find(|home| home.broker == broker).unwrap();
    let back = Member::start_with(&mesh, home, &THREE, limits);
    within(back.metadata.opened()).await;
    assert_eq!(back.metadata.image(), leader.metadata.image());
    assert_eq!(back.metadata.image().next_producer_id, 200);
    assert!(calls(KIND_SNAPSHOT) > before);
    // And it starts from it.
    back.kill();
    let back = Member::start_with(&mesh, home, &THREE, limits);
    within(back.metadata.opened()).await;
    assert_eq!(back.metadata.image(), leader.metadata.image());
    for member in members.into_iter().chain([leader, back]) {
        member.close().await;
    }
}

#[actix_rt::test]
async fn a_lone_member_leads_at_once_and_again_after_every_start() {
    let mesh = Arc::default();
    let home = Home::new(4);
    for round in 0..4 {
        let started = Instant::now();
        let member = Member::start(&mesh, &home, &[4]);
        within(member.metadata.opened()).await;
        println!("start {round}: {:?}", started.elapsed());
        if round == 0 {
            member.arrive().await;
        }
        within(member.metadata.propose(reserve(1))).await.unwrap();
        assert_eq!(member.metadata.image().next_producer_id, round + 1);
        let status = member.metadata.status();
        assert_eq!((status.term, status.leader, status.voters), (1, Some(BrokerId(4)), vec![BrokerId(4)]));
        if round % 2 == 0 { member.kill() } else { member.close().await }
    }
}
