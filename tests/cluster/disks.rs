//! Replicas whose disk lost everything, or one bit of it, come back whole.

use pubg1::verify::Plan;

use crate::harness::{TestCluster, plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_replica_is_filled_again_while_writes_go_on() {
    let mut cluster = TestCluster::start().await;
    let faults =
        "wait 500ms; wipe follower 0; wait 300ms; restart; healthy; wipe leader 1; wait 300ms; restart; healthy";
    cluster.survive(&plan("wiped"), faults).await;
    cluster.end().await;
}

/// Ends when so many flips were answered: a segment is replaced when it is found later, and the whole log is copied again
/// when recovery has come upon it. Which it is depends on where recovery had to begin.
const REPAIRED: &str = r#"
cd "$(dirname "$0")"
for _ in $(seq 300); do
    replaced='a damaged segment was replaced by a whole one' copied='the log is damaged; it is copied again'
    [ "$(cat broker-*.log | grep -c -e "$replaced" -e "$copied")" -ge "$1" ] && exit 0
    sleep 0.1
done
exit 1
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_sealed_segment_is_repaired_from_a_peer() {
    let mut cluster = TestCluster::start().await;
    let script = cluster.file("repaired.sh", REPAIRED);
    // Small segments, so that some are sealed soon.
    let plan = Plan { segment_bytes: Some(65_536), partitions: 2, ..plan("flipped") };
    // The second one before the first is mended: neither costs its replica the vote.
    let faults = format!(
        "wait 1500ms; flip follower 0; restart; flip leader 0; restart; run sh {} 2; healthy",
        script.display()
    );
    cluster.survive(&plan, &faults).await;
    cluster.end().await;
}
