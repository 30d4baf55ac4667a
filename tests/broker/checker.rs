//! The checker against a lone broker: it acquits a broker that keeps its promise, and convicts one that cannot.

use pubg1::{
    cluster_process::ClusterLaunch,
    terminal::{OutputFormat, Terminal},
    verify::{self, Faults, Plan, brokers::Brokers, judge::Kind, report::Report, writer::Surface},
};

use crate::harness::program;

const TERMINAL: Terminal = Terminal { format: OutputFormat::Json, color: false };

async fn run(plan: &Plan, faults: impl FnOnce(&str) -> String) -> Report {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let launch = ClusterLaunch {
        program: vec![program().into()],
        directory: directory.path().to_owned(),
        brokers: 1,
        arguments: Vec::new(),
    };
    let mut cluster = launch.start().await.expect("the broker starts");
    let brokers = Brokers::at(&cluster.urls()).expect("a URL");
    let data = cluster.nodes()[0].data_dir().display().to_string();
    let faults = Some(Faults { plan: faults(&data).parse().expect("a plan"), cluster: &mut cluster });
    let report = verify::run(plan, &brokers, faults, TERMINAL).await.expect("the run takes place");
    cluster.end().await.expect("the broker ends in order");
    report
}

fn plan(idempotent: bool) -> Plan {
    let topic = "checked".parse().expect("a topic's name");
    Plan { producers: 2, idempotent, rate: 2_000, ..Plan::on(topic) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_and_paused_is_acquitted() {
    let faults =
        "wait 200ms; kill broker 0; restart; wait 100ms; pause broker 0 300ms; wait 100ms; stop broker 0; restart";
    for (idempotent, surface) in [(true, Surface::Batches), (false, Surface::Batches), (true, Surface::Publish)] {
        let report = run(&Plan { surface, ..plan(idempotent) }, |_| faults.to_owned()).await;
        assert!(report.is_clean(), "{report:#?}");
        assert!(report.verdict.acknowledged > 100 && report.verdict.reads > 10, "{report:#?}");
        assert_eq!(report.verdict.acknowledged, report.verdict.sent);
        assert_eq!(report.availability.faults.len(), 3);
    }
}

/// What was acknowledged after the copy was made is gone when the copy takes the place of the data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_disk_was_set_back_is_convicted() {
    let report = run(&plan(true), |data| {
        format!(
            "wait 200ms; kill broker 0; run cp -a {data} {data}.before; restart; wait 300ms; kill broker 0; \
             run rm -r {data} && mv {data}.before {data}; restart; wait 200ms"
        )
    })
    .await;
    let verdict = &report.verdict;
    assert!(verdict.count(Kind::Lost) > 0, "{verdict:#?}");
    assert!(verdict.count(Kind::StaleRead) > 0, "readers know that more was there: {verdict:#?}");
    assert!(verdict.count(Kind::ReadContradicted) > 0, "readers saw what is gone: {verdict:#?}");
    assert!(!report.is_clean() && report.accusation().contains("lost"));
}
