//! How long a group is without an owner for some partition: after a member has left, and after one has died. Who keeps
//! its partitions reads on meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use pubg1::client::{Client, ClientError, group_reply::GroupReply};
use pubg1_model::{
    GroupId, PartitionId, TopicName,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord},
};
use serde_json::json;
use tokio::task::{AbortHandle, JoinSet};

use crate::harness::{TestCluster, wait_until};

const MEMBERS: usize = 8;
const PARTITIONS: u32 = 64;
const SESSION: Duration = Duration::from_secs(2);
const WAIT: Duration = Duration::from_millis(200);
/// A partition gets a record each so often.
const BEAT: Duration = Duration::from_millis(250);
/// What is longer is more than a busy machine explains.
const GAP_MAX: Duration = Duration::from_millis(1_000);

/// When each partition was read, and by whom.
type Deliveries = Arc<Mutex<HashMap<u32, Vec<(usize, Instant)>>>>;

struct Readers {
    group: GroupId,
    topic: TopicName,
    brokers: Vec<Client>,
    deliveries: Deliveries,
    polling: JoinSet<()>,
}

impl Readers {
    /// Members poll through a broker of their own each.
    async fn join(&mut self, member: usize) -> AbortHandle {
        let (client, name) = (self.brokers[member % self.brokers.len()].clone(), format!("m{member}"));
        let options = json!({
            "name": name, "format": "binary", "auto.commit.enable": "true",
            "session.timeout.ms": SESSION.as_millis().to_string(),
            "partition.assignment.strategy": "cooperative-sticky",
        });
        client.create_consumer(&self.group, &options).await.expect("created");
        client.subscribe(&self.group, &name, std::slice::from_ref(&self.topic)).await.expect("subscribed");
        let (group, deliveries) = (self.group.clone(), Arc::clone(&self.deliveries));
        self.polling.spawn(async move {
            loop {
                let polled = client.poll(&group, &name, WAIT, 1 << 20).await;
                let now = Instant::now();
                for record in polled.map(|polled| polled.records).unwrap_or_default() {
                    let mut deliveries = deliveries.lock().expect("whole");
                    deliveries.entry(record.partition.0).or_default().push((member, now));
                }
            }
        })
    }

    /// Waits until so many members own all partitions; how long that took, and who owns what.
    async fn settled(&self, members: usize) -> (Duration, BTreeMap<u32, String>) {
        let began = Instant::now();
        let owners = wait_until("all partitions have owners", || async {
            let described = self.brokers[0].group(&self.group).await.ok()?;
            let owners = owners(&described);
            let all = owners.len() == PARTITIONS as usize;
            (described.state == "Stable" && described.members.len() == members && all).then_some(owners)
        })
        .await;
        (began.elapsed(), owners)
    }

    /// The longest time without a record in one of these partitions.
    fn longest_gap(&self, since: Instant, partitions: impl Iterator<Item = u32>) -> Duration {
        let deliveries = self.deliveries.lock().expect("whole");
        let gaps = partitions.map(|partition| {
            let times: Vec<Instant> = deliveries.get(&partition).into_iter().flatten().map(|(_, at)| *at).collect();
            let pairs = times.windows(2).filter(|pair| pair[1] > since);
            pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        });
        gaps.max().unwrap_or_default()
    }
}

fn owners(described: &GroupReply) -> BTreeMap<u32, String> {
    let members = described.members.iter();
    members
        .flat_map(|member| member.assignment.iter().map(|place| (place.partition.0, member.member_id.clone())))
        .collect()
}

/// Writes a record to every partition at each beat.
async fn beat(client: Client, topic: TopicName) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord { value: Some(b"beat"), ..NewRecord::default() }).expect("a record");
    let batch: Bytes = builder.finish(None).expect("a batch").bytes().clone();
    let mut ticks = tokio::time::interval(BEAT);
    loop {
        ticks.tick().await;
        let writes =
            (0..PARTITIONS).map(|partition| client.produce(&topic, PartitionId(partition), "1", batch.clone()));
        let written: Vec<Result<_, ClientError>> = futures_util::future::join_all(writes).await;
        assert!(written.iter().all(Result::is_ok), "no broker is disturbed: {written:?}");
    }
}

fn kept(before: &BTreeMap<u32, String>, after: &BTreeMap<u32, String>) -> Vec<u32> {
    before
        .iter()
        .filter(|(partition, owner)| after.get(partition) == Some(*owner))
        .map(|(partition, _)| *partition)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_find_new_owners_soon_and_others_are_read_on() {
    let cluster = TestCluster::start().await;
    let topic: TopicName = "shared".parse().expect("a name");
    let body = json!({ "topic_name": topic, "partitions_count": PARTITIONS, "replication_factor": 3 });
    assert_eq!(cluster.post(0, "/admin/topics", &body).await.0, 201);
    let brokers: Vec<Client> = cluster.processes.nodes().iter().map(|node| node.client.clone()).collect();
    wait_until("every partition has a leader", || async {
        let described = brokers[3].topic(&topic).await.ok()?;
        described.partitions.iter().all(|partition| partition.leader >= 0).then_some(())
    })
    .await;
    let mut writing = JoinSet::new();
    writing.spawn(beat(brokers[0].clone(), topic.clone()));
    let group: GroupId = "g".parse().expect("a name");
    let mut readers = Readers { group, topic, brokers, deliveries: Deliveries::default(), polling: JoinSet::new() };
    let mut polls = Vec::new();
    for member in 0..MEMBERS {
        polls.push(readers.join(member).await);
    }
    let (joined, eight) = readers.settled(MEMBERS).await;
    println!("8 members have 64 partitions {joined:?} after the last one joined");
    let most = eight.values().fold(BTreeMap::<&String, usize>::new(), |mut counts, owner| {
        *counts.entry(owner).or_default() += 1;
        counts
    });
    assert!(most.values().all(|count| *count == PARTITIONS as usize / MEMBERS), "{most:?}");

    let began = Instant::now();
    polls[0].abort();
    readers.brokers[1].delete_consumer(&readers.group, "m0").await.expect("it leaves");
    let (_, seven) = readers.settled(MEMBERS - 1).await;
    let after_leave = began.elapsed();
    println!("7 members have 64 partitions {after_leave:?} after one began to leave");
    assert!(after_leave < Duration::from_secs(1), "{after_leave:?}");

    let died = Instant::now();
    polls[1].abort();
    let (_, six) = readers.settled(MEMBERS - 2).await;
    let after_death = died.elapsed();
    println!("6 members have 64 partitions {after_death:?} after one died");
    assert!(after_death < SESSION + Duration::from_secs(1), "{after_death:?}");

    // A few more beats, so that a gap that has begun has an end.
    let everybody = || async {
        let read = |partition: &u32| {
            let deliveries = readers.deliveries.lock().expect("whole");
            deliveries.get(partition).and_then(|all| all.last()).is_some_and(|(_, at)| *at > died + after_death)
        };
        six.keys().all(read).then_some(())
    };
    wait_until("every partition is read by its new owner", everybody).await;
    let through_leave: Vec<u32> = kept(&eight, &seven);
    let through_both: Vec<u32> = kept(&seven, &six).into_iter().filter(|kept| through_leave.contains(kept)).collect();
    assert!(through_both.len() >= PARTITIONS as usize * (MEMBERS - 2) / MEMBERS - 4, "{through_both:?}");
    let gap = readers.longest_gap(began, through_both.iter().copied());
    println!("the longest time without a record in the {} partitions that stayed: {gap:?}", through_both.len());
    assert!(gap < GAP_MAX, "{gap:?}");
    writing.shutdown().await;
    readers.polling.shutdown().await;
    cluster.end().await;
}
