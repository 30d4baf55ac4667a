//! What the brokers that a fault leaves alone say of it, and when: each is asked again and again,
//! every two milliseconds while something is to be seen. A time is when the answer was there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pubg1_model::TopicName;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    client::{
        Client,
        reply::{ClusterReply, HealthReply, TopicReply},
    },
    verify::history::Led,
};

/// The pause between two looks while something is to be seen, which is so long at the most.
const POLL_FAST: Duration = Duration::from_millis(2);
const FAST: Duration = Duration::from_secs(3);
/// The pause afterwards.
const POLL_SLOW: Duration = Duration::from_millis(50);
/// A broker that does not answer is asked again.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// How the cluster is, which takes longer to say, is asked for in each so manieth look.
const HEALTH_EACH: u32 = 8;

/// What was seen of a fault. Dropping the watch ends the asking.
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    asking: JoinSet<()>,
    topic: TopicName,
}

/// What was seen, in times since the fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    begun: Option<Instant>,
    victims: Vec<u32>,
    led: Vec<Led>,
    elected: Vec<(u32, Duration)>,
    /// Somebody knew of it.
    pub(super) detected: Option<Duration>,
    /// Whether the cluster was ever not well.
    pub(super) disturbed: bool,
}

/// One answer.
enum Look<'a> {
    Cluster(&'a ClusterReply),
    Topic(&'a TopicReply),
    Health(&'a HealthReply),
}

impl Watch {
    /// Watches a fault that hits these brokers, which lead these partitions.
    pub(super) fn new(topic: &TopicName, victims: &[u32], led: Vec<Led>) -> Self {
        let seen = Seen { victims: victims.to_vec(), led, ..Seen::default() };
        Self { seen: Arc::new(Mutex::new(seen)), asking: JoinSet::new(), topic: topic.clone() }
    }

    /// The fault begins now, if it has not begun before.
    pub(super) fn begin(&self) {
        lock(&self.seen).begun.get_or_insert_with(Instant::now);
    }

    /// When it began.
    pub(super) fn begun(&self) -> Option<Instant> {
        lock(&self.seen).begun
    }

    /// Asks this broker, too, from now on.
    pub(super) fn ask(&mut self, client: Client) {
        if !lock(&self.seen).led.is_empty() {
            self.asking.spawn(ask_who_leads(client.clone(), self.topic.clone(), Arc::clone(&self.seen)));
        }
        self.asking.spawn(ask_how_it_is(client, Arc::clone(&self.seen)));
    }

    /// What was seen until now.
    pub(super) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

impl Seen {
    /// When the last partition that had lost its leader had another one; `None`: not all have, or none had.
    pub(super) fn all_elected(&self) -> Option<Duration> {
        let all = self.elected.len() == self.led.len();
        self.elected.iter().map(|(_, after)| *after).max().filter(|_| all)
    }

    /// Whether there may soon be something to see.
    fn pause(&self) -> Duration {
        let complete = self.detected.is_some() && self.elected.len() == self.led.len();
        let fresh = self.begun.is_none_or(|begun| begun.elapsed() < FAST);
        if fresh && !complete { POLL_FAST } else { POLL_SLOW }
    }

    fn take(&mut self, look: &Look<'_>) {
        let Some(after) = self.begun.map(|begun| begun.elapsed()) else { return };
        let knows = match look {
            Look::Cluster(cluster) => {
                let dead = cluster.brokers.iter().filter(|broker| broker.alive == Some(false));
                dead.map(|broker| broker.broker_id.0).any(|broker| self.victims.contains(&broker))
            }
            Look::Health(health) => {
                self.disturbed |= !health.is_ok();
                !health.is_ok()
            }
            Look::Topic(topic) => self.take_topic(topic, after),
        };
        if knows {
            self.disturbed = true;
            self.detected.get_or_insert(after);
        }
    }

    /// Notes new leaders; whether an old one is known to be gone.
    fn take_topic(&mut self, topic: &TopicReply, after: Duration) -> bool {
        let mut knows = false;
        for partition in &topic.partitions {
            let number = partition.partition.0;
            let Some(led) = self.led.iter().find(|led| led.partition == number) else { continue };
            let newer = partition.leader_epoch > led.epoch;
            knows |= newer || partition.leader < 0;
            if newer && partition.leader >= 0 && self.elected.iter().all(|(elected, _)| *elected != number) {
                self.elected.push((number, after));
            }
        }
        knows
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every broker answers this by itself.
async fn ask_who_leads(client: Client, topic: TopicName, seen: Arc<Mutex<Seen>>) {
    loop {
        if let Ok(Ok(topic)) = tokio::time::timeout(ASK_TIMEOUT, client.topic(&topic)).await {
            lock(&seen).take(&Look::Topic(&topic));
        }
        let pause = lock(&seen).pause();
        tokio::time::sleep(pause).await;
    }
}

/// These answers wait for a controller while there is none.
async fn ask_how_it_is(client: Client, seen: Arc<Mutex<Seen>>) {
    let mut turn = 0_u32;
    loop {
        if let Ok(Ok(cluster)) = tokio::time::timeout(ASK_TIMEOUT, client.cluster()).await {
            lock(&seen).take(&Look::Cluster(&cluster));
        }
        if turn.is_multiple_of(HEALTH_EACH)
            && let Ok(Ok(health)) =
                tokio::time::timeout(ASK_TIMEOUT, client.get::<HealthReply>("/cluster/health")).await
        {
            lock(&seen).take(&Look::Health(&health));
        }
        turn = turn.wrapping_add(1);
        let pause = lock(&seen).pause();
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn topic(leader: i64, epoch: u32) -> TopicReply {
        let partition = json!({ "partition": 3, "leader": leader, "leader_epoch": epoch, "replicas": [] });
        serde_json::from_value(json!({ "name": "drill", "configs": {}, "partitions": [partition] })).unwrap()
    }

    fn watched() -> Seen {
        let begun = Some(Instant::now());
        Seen { begun, victims: vec![2], led: vec![Led { partition: 3, epoch: 7 }], ..Seen::default() }
    }

    #[tokio::test]
    async fn what_was_before_the_fault_tells_nothing_of_it() {
        let mut seen = Seen { begun: None, ..watched() };
        seen.take(&Look::Topic(&topic(1, 8)));
        assert!(seen.detected.is_none() && seen.all_elected().is_none());
        let mut seen = watched();
        seen.take(&Look::Topic(&topic(2, 7)));
        assert!(seen.detected.is_none() && seen.pause() == POLL_FAST);
    }

    #[tokio::test]
    async fn a_lost_leader_is_detected_and_the_next_one_elected() {
        let mut seen = watched();
        seen.take(&Look::Topic(&topic(-1, 7)));
        assert!(seen.detected.is_some() && seen.all_elected().is_none());
        seen.take(&Look::Topic(&topic(1, 8)));
        let elected = seen.all_elected().unwrap();
        assert!(elected >= seen.detected.unwrap() && seen.pause() == POLL_SLOW);
        seen.take(&Look::Topic(&topic(1, 8)));
        assert_eq!(seen.all_elected(), Some(elected), "the first time counts");
    }

    #[tokio::test]
    async fn a_dead_broker_is_known_by_whoever_says_so() {
        let cluster = |broker: u32, alive: bool| -> ClusterReply {
            let broker = json!({ "broker_id": broker, "alive": alive });
            serde_json::from_value(json!({ "cluster_id": "c", "broker_id": 0, "brokers": [broker] })).unwrap()
        };
        let mut seen = watched();
        seen.take(&Look::Cluster(&cluster(2, true)));
        seen.take(&Look::Cluster(&cluster(1, false)));
        assert!(seen.detected.is_none());
        seen.take(&Look::Cluster(&cluster(2, false)));
        assert!(seen.detected.is_some() && seen.disturbed);
    }
}
