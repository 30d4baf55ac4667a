//! Brokers that are restarted in order, one after the other, under load.

use crate::harness::{TestCluster, plan};

/// A client that repeats what is answered with 503 never learns of a failed write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_write() {
    let mut cluster = TestCluster::start().await;
    let report = cluster.survive(&plan("rolling"), "wait 300ms; rolling; wait 300ms").await;
    assert_eq!(report.verdict.unknown, 0, "every record is acknowledged in the end");
    assert_eq!(report.availability.unknown_attempts, 0, "writes failed: {}", cluster.unknown_attempts());
    cluster.end().await;
}
