//! Replicas that have lost something.

use std::{fs, path::Path};

use pubg1_model::topic::TopicConfig;

use super::cluster::Cluster;
use crate::fixture::{offset, until};

fn small() -> TopicConfig {
    TopicConfig { segment_bytes: 16 * 1024, max_message_bytes: 8 * 1024, ..TopicConfig::default() }
}

/// Flips a bit in the first segment of a log.
fn damage(dir: &Path) {
    let logs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let log = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")).min().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[200] ^= 1;
    fs::write(&log, bytes).unwrap();
}

#[actix_rt::test]
async fn a_wiped_replica_comes_back_whole() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, small()).await;
    let filler = "x".repeat(2000);
    for _ in 0..40 {
        cluster.append(&filler).await;
    }
    let wiped = cluster.followers().await[0];
    let dir = cluster.slot(wiped).await.identity.dir.clone();
    cluster.kill(wiped).await;
    fs::remove_dir_all(&dir).unwrap();
    cluster.restart(wiped).await;
    cluster.append("after").await;
    cluster.converged().await;
    cluster.seen(wiped, |view| view.adopted_epoch == Some(view.leader_epoch)).await;
    assert_eq!(cluster.view(wiped).await.log_end_offset, offset(41));
    cluster.end().await;
}

#[actix_rt::test]
async fn damage_in_a_closed_segment_is_found_and_repaired_wherever_it_is() {
    let mut cluster = Cluster::start_with(3, |config| config.retention_check_interval_ms = 20).await;
    cluster.create_topic(3, small()).await;
    let filler = "x".repeat(2000);
    for _ in 0..40 {
        cluster.append(&filler).await;
    }
    let expected = cluster.converged().await;
    for is_leader in [false, true] {
        let leader = cluster.leader().await;
        let victim = if is_leader { leader } else { cluster.followers().await[0] };
        let dir = cluster.slot(victim).await.identity.dir.clone();
        // It looks for damage once in each life.
        cluster.kill(victim).await;
        damage(&dir);
        cluster.restart(victim).await;
        let aside = dir.with_file_name(format!("{}.damaged", dir.file_name().unwrap().to_str().unwrap()));
        until(|| {
            !fs::exists(&aside).unwrap() && !fs::read(first_log(&dir)).is_ok_and(|bytes| is_damaged(&bytes, &expected))
        })
        .await;
        cluster.append("after").await;
        let found = cluster.converged().await;
        assert!(found.starts_with(&expected));
    }
    cluster.end().await;
}

/// What was deleted of a segment nobody can give: the log is copied as a whole.
#[actix_rt::test]
async fn damage_in_a_segment_of_which_a_part_was_deleted_is_repaired_too() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_topic(3, small()).await;
    let filler = "x".repeat(2000);
    for _ in 0..40 {
        cluster.append(&filler).await;
    }
    cluster.slot(cluster.leader().await).await.delete_records_before(offset(2)).await.unwrap();
    for broker in 0..3 {
        cluster.seen(broker, |view| view.log_start_offset == offset(2)).await;
    }
    let victim = cluster.followers().await[0];
    let dir = cluster.slot(victim).await.identity.dir.clone();
    cluster.kill(victim).await;
    damage(&dir);
    cluster.restart(victim).await;
    // The damaged segment began before the copy does.
    until(|| !fs::exists(first_log(&dir)).unwrap()).await;
    cluster.append("after").await;
    cluster.converged().await;
    assert_eq!(cluster.view(victim).await.log_start_offset, offset(2));
    cluster.end().await;
}

fn first_log(dir: &Path) -> std::path::PathBuf {
    dir.join("00000000000000000000.log")
}

fn is_damaged(bytes: &[u8], expected: &[u8]) -> bool {
    bytes[200] != expected[200]
}
