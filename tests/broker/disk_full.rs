//! A disk of 64 MiB, filled to the brim.
//!
//! The disk is a tmpfs in a mount namespace that a process holds open for as long as the test
//! runs; brokers enter it. Making one needs privileges, without which the test says that it did
//! not run.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use pubg1::{
    client::Client,
    demo::{
        Launch,
        checker::{self, Ledger, Sighting, Verdict},
    },
    producer::{Delivery, OutgoingRecord, Producer, ProducerOptions},
};
use pubg1_model::{Offset, PartitionId, TopicName};
use serde_json::json;
use tokio::sync::mpsc;

use crate::harness::{DEADLINE, program, wait_until};

const VALUE_BYTES: usize = 1000;

/// A small file system that only processes inside of the namespace see.
struct SmallDisk {
    holder: Child,
}

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let script = format!("mount -t tmpfs -o size={size} tmpfs '{}' && echo mounted && read -r end", at.display());
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
        let disk = Self { holder };
        (line.trim_end() == "mounted").then_some(disk)
    }

    /// What stands before a command that is to see the disk.
    fn enter(&self) -> Vec<OsString> {
        ["nsenter", "--mount", "--target", &self.holder.id().to_string()].map(OsString::from).to_vec()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The namespace ends with its last process, and the mount with it.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_string().into_bytes();
    value.resize(VALUE_BYTES, b'.');
    value
}

/// Sends records until the broker takes no more, or so many; says how many were acknowledged.
async fn fill(client: &Client, topic: &TopicName, from: u64, records: u64, ledger: &mut Ledger) -> (u64, bool) {
    let options = ProducerOptions {
        batch_bytes: 64 * 1024,
        delivery_timeout: Duration::from_secs(3),
        ..ProducerOptions::default()
    };
    let (mut producer, mut deliveries) = Producer::start(client, topic.clone(), options).await.expect("a producer");
    let before = ledger.acknowledged();
    let mut refused = false;
    for number in from..from + records {
        let value = value(number);
        let record = OutgoingRecord { key: None, value: Some(&value), timestamp_ms: 0 };
        let tag = checker::fingerprint(None, Some(&value));
        refused = producer.send(PartitionId(0), &record, tag).await.is_err();
        if refused {
            break;
        }
    }
    refused |= producer.finish().await.is_err();
    take_all(&mut deliveries, ledger);
    (ledger.acknowledged() - before, !refused)
}

fn take_all(deliveries: &mut mpsc::UnboundedReceiver<Delivery>, ledger: &mut Ledger) {
    while let Ok(delivery) = deliveries.try_recv() {
        let base = delivery.base_offset.expect("acks=all").get();
        (base..).zip(&delivery.tags).for_each(|(offset, tag)| ledger.acknowledge(delivery.partition, offset, *tag));
    }
}

/// Everything in the topic.
async fn read(client: &Client, topic: &TopicName) -> Sighting {
    let offsets = client.offsets(topic, PartitionId(0)).await.expect("offsets");
    let span = pubg1::consumer::Span {
        partition: PartitionId(0),
        from: offsets.beginning_offset,
        until: Some(offsets.end_offset),
    };
    let (_tasks, mut events) = pubg1::consumer::start(client, topic, &[span]);
    let mut sighting = Sighting::default();
    while let Some(event) = events.recv().await {
        sighting.take(event).expect("every record can be read");
    }
    sighting
}

async fn assert_nothing_lost(client: &Client, topic: &TopicName, ledger: &Ledger) {
    let verdict = Verdict::of(ledger, &read(client, topic).await);
    assert_eq!((verdict.lost, verdict.moved, verdict.duplicated), (0, 0, 0), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_records_and_loses_none() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mount_point = directory.path().join("disk");
    std::fs::create_dir(&mount_point).expect("created");
    let Some(disk) = SmallDisk::mount(&mount_point, "64m") else {
        eprintln!("NOT RUN: this user may not mount a small disk (unshare --mount needs privileges)");
        return;
    };
    let mut program_and_place = disk.enter();
    program_and_place.push(OsString::from(program()));
    let launch = Launch {
        program: program_and_place,
        data_dir: mount_point.join("data"),
        log: directory.path().join("broker.log"),
        arguments: vec![],
    };
    let mut broker = launch.start("127.0.0.1:0").await.expect("the broker starts");
    let client = Client::new(broker.url()).expect("a URL");
    broker.wait_ready(&client, DEADLINE).await.expect("ready");
    let (kept, ballast): (TopicName, TopicName) = ("kept".parse().expect("a name"), "ballast".parse().expect("a name"));
    for topic in [&kept, &ballast] {
        let configs = json!({ "segment_bytes": 4 << 20, "retention_ms": null });
        let body = json!({ "topic_name": topic, "partitions_count": 1, "configs": configs });
        client.create_topic(&body).await.expect("created");
    }

    // 20 MB that fit, and then more than the disk has.
    let (mut ledger, mut ballast_ledger) = (Ledger::default(), Ledger::default());
    assert_eq!(fill(&client, &kept, 0, 20_000, &mut ledger).await, (20_000, true));
    let (stored, all) = fill(&client, &ballast, 1_000_000, 80_000, &mut ballast_ledger).await;
    assert!(!all && stored > 10_000, "80 MB fit on the rest of 64 MiB? {stored} records were taken");
    let (more, all) = fill(&client, &kept, 20_000, 20_000, &mut ledger).await;
    assert!(!all, "{more} more records fit on a full disk");

    // It lives, and everything that was acknowledged is there; after a kill too.
    assert_eq!(client.get::<serde_json::Value>("/livez").await.map(drop).map_err(|error| error.status()), Ok(()));
    assert_nothing_lost(&client, &kept, &ledger).await;
    assert_nothing_lost(&client, &ballast, &ballast_ledger).await;
    let address = broker.url().trim_start_matches("http://").to_owned();
    broker.kill().await.expect("killed");
    broker = launch.start(&address).await.expect("it starts on a full disk");
    broker.wait_ready(&client, DEADLINE).await.expect("it recovers on a full disk");
    assert_nothing_lost(&client, &kept, &ledger).await;
    assert_nothing_lost(&client, &ballast, &ballast_ledger).await;

    // Space returns by trimming, and by deleting a topic; writing goes on each time.
    client.trim(&ballast, PartitionId(0), Offset::new(stored)).await.expect("trimmed on a full disk");
    resumes(&client, &kept, 40_000, &mut ledger).await;
    client.delete_topic(&ballast).await.expect("deleted");
    resumes(&client, &kept, 60_000, &mut ledger).await;
    assert_nothing_lost(&client, &kept, &ledger).await;
    broker.end().await.expect("it ends in order");
}

/// Waits until records are taken again: space is given back behind the answer.
async fn resumes(client: &Client, topic: &TopicName, from: u64, ledger: &mut Ledger) {
    let cell = tokio::sync::Mutex::new((from, ledger));
    wait_until("records are taken again", || async {
        let mut state = cell.lock().await;
        let (from, ledger) = &mut *state;
        let (stored, all) = fill(client, topic, *from, 1_000, ledger).await;
        *from += 1_000;
        (all && stored == 1_000).then_some(())
    })
    .await;
}
