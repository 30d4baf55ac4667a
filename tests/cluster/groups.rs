//! Consumer groups that read through kills of their coordinators, restarts of all brokers, and silence of their members:
//! no committed offset falls, no record is skipped, and what was committed does not come again.

use std::time::Duration;

use pubg1::verify::{Plan, groups::GroupPlan};

use crate::harness::{TestCluster, plan, size};

const GROUPS: u32 = 3;
const MEMBERS: u32 = 3;

/// Several groups of a few members with a short session.
fn with_groups(topic: &str, restless: bool) -> Plan {
    let groups = GroupPlan { groups: GROUPS, members: MEMBERS, session: Duration::from_secs(1), restless };
    Plan { groups: Some(groups), rate: 600, readers: 1, ..plan(topic) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_coordinators_cost_no_offset_and_no_record() {
    let mut cluster = TestCluster::start().await;
    let kills = size("PUBG1_TEST_COORDINATOR_KILLS", 6);
    let faults = format!("repeat {kills}: wait 200ms; kill coordinator; wait 300ms; restart; healthy");
    let report = cluster.survive(&with_groups("coordinators", true), &faults).await;
    let groups = report.verdict.groups.expect("groups");
    println!("{groups:#?}");
    assert_eq!(report.availability.faults.len() as u64, kills);
    assert_eq!(groups.delivered, report.verdict.found * u64::from(GROUPS), "every group was given everything");
    assert!(groups.commits > 0, "{groups:#?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_silent_for_too_long_commits_nothing() {
    let mut cluster = TestCluster::start().await;
    let freezes = size("PUBG1_TEST_FREEZES", 2);
    let faults = format!("repeat {freezes}: wait 200ms; freeze member");
    let report = cluster.survive(&with_groups("frozen", false), &faults).await;
    let groups = report.verdict.groups.expect("groups");
    // Who names several partitions tries each of them then.
    assert!(groups.frozen_refused >= freezes && groups.frozen_accepted == 0, "{groups:#?}\n{:#?}", report.events);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_takes_no_member_out_of_its_group() {
    let mut cluster = TestCluster::start().await;
    // Nobody is silent for so long, but a broker takes a moment to end on a busy machine.
    let mut plan = with_groups("rolled", false);
    plan.groups.as_mut().expect("groups").session = Duration::from_secs(6);
    let report = cluster.survive(&plan, "wait 500ms; rolling; wait 300ms").await;
    let groups = report.verdict.groups.expect("groups");
    assert_eq!(groups.fewest_members, Some(u64::from(MEMBERS)), "{groups:#?}");
    cluster.end().await;
}
