//! Which broker leads which partition, as the brokers say; shared by all clients of a run.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::Value;

use super::http::{Answer, Connection, Request};
use crate::target::TargetError;

/// A broker that takes longer to say who leads is passed over: it may be paused.
const ASK_TIMEOUT: Duration = Duration::from_millis(250);
/// A request that changes the cluster may take so long.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// What was learned so recently is not asked for again.
const FRESH: Duration = Duration::from_millis(20);

/// A leader: its number and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) broker: u32,
    pub(super) host: Arc<str>,
}

/// The brokers of a cluster.
pub(super) struct Cluster {
    seeds: Vec<Arc<str>>,
    known: Mutex<Known>,
    /// Held while somebody asks; when the last answer came.
    learning: tokio::sync::Mutex<Option<Instant>>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    brokers: BTreeMap<u32, Arc<str>>,
    /// Of each partition: the epoch and the broker.
    leaders: Vec<Option<(u32, u32)>>,
    replicas: usize,
}

/// `GET /cluster`, as far as it is needed.
#[derive(Deserialize)]
struct ClusterReply {
    brokers: Vec<BrokerReply>,
}

#[derive(Deserialize)]
struct BrokerReply {
    broker_id: u32,
    http_url: String,
}

/// `GET /topics/{t}`, as far as it is needed.
#[derive(Deserialize)]
struct TopicReply {
    partitions: Vec<PartitionReply>,
}

#[derive(Deserialize)]
struct PartitionReply {
    leader: i64,
    #[serde(default)]
    leader_epoch: u32,
    #[serde(default)]
    replicas: Vec<Value>,
}

impl Cluster {
    /// The cluster that the brokers at these addresses belong to: `http://host:port,…`.
    pub(super) fn new(urls: &str) -> Result<Self, TargetError> {
        let seeds: Result<Vec<_>, _> = urls.split(',').map(host).collect();
        Ok(Self {
            seeds: seeds?,
            known: Mutex::default(),
            learning: tokio::sync::Mutex::new(None),
            turn: AtomicUsize::new(0),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is reached, as it was given.
    pub(super) fn address(&self) -> String {
        let urls: Vec<String> = self.seeds.iter().map(|host| format!("http://{host}")).collect();
        urls.join(",")
    }

    /// All brokers that are known.
    pub(super) fn hosts(&self) -> Vec<Arc<str>> {
        let known = self.known();
        if known.brokers.is_empty() { self.seeds.clone() } else { known.brokers.values().cloned().collect() }
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self) -> u32 {
        u32::try_from(self.known().leaders.len()).unwrap_or(u32::MAX)
    }

    /// How many replicas its partitions have.
    pub(super) fn replicas(&self) -> u32 {
        u32::try_from(self.known().replicas).unwrap_or(u32::MAX)
    }

    /// Who leads a partition, as far as is known.
    pub(super) fn leader(&self, partition: u32) -> Option<Leader> {
        let known = self.known();
        let (_, broker) = (*known.leaders.get(usize::try_from(partition).ok()?)?)?;
        Some(Leader { broker, host: Arc::clone(known.brokers.get(&broker)?) })
    }

    /// An answer says who leads.
    pub(super) fn note(&self, partition: u32, answer: &Answer) {
        if let (Some(broker), Some(epoch), Ok(index)) = (answer.leader, answer.leader_epoch, usize::try_from(partition))
            && let Some(leader) = self.known().leaders.get_mut(index)
            && leader.is_none_or(|(known, _)| known < epoch)
        {
            *leader = Some((epoch, broker));
        }
    }

    /// Asks who leads, unless somebody has just done so.
    pub(super) async fn learn(&self, topic: &str) -> Result<(), TargetError> {
        let mut last = self.learning.lock().await;
        if last.is_some_and(|last| last.elapsed() < FRESH) {
            return Ok(());
        }
        // Failures, too, are not repeated at once by everybody who waits.
        *last = Some(Instant::now());
        self.learn_now(topic).await
    }

    /// Asks which brokers there are; answers how many.
    pub(super) async fn find_brokers(&self, timeout: Duration) -> Result<u32, TargetError> {
        let answer = self.ask(&Request::get("/cluster"), timeout).await?;
        let reply: ClusterReply = self.decode(&answer)?;
        let mut known = self.known();
        for broker in reply.brokers {
            // A broker without an address has not registered yet.
            if let Ok(host) = host(&broker.http_url) {
                known.brokers.insert(broker.broker_id, host);
            }
        }
        Ok(u32::try_from(known.brokers.len()).unwrap_or(u32::MAX))
    }

    async fn learn_now(&self, topic: &str) -> Result<(), TargetError> {
        self.find_brokers(ASK_TIMEOUT).await?;
        let topic = self.ask(&Request::get(&format!("/topics/{topic}")), ASK_TIMEOUT).await?;
        let topic: TopicReply = self.decode(&topic)?;
        let mut known = self.known();
        known.leaders.resize(topic.partitions.len(), None);
        known.replicas = topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0);
        for (leader, partition) in known.leaders.iter_mut().zip(&topic.partitions) {
            let told = u32::try_from(partition.leader).ok().map(|broker| (partition.leader_epoch, broker));
            // A broker that is behind does not know better.
            if let Some((epoch, _)) = told
                && leader.is_none_or(|(known, _)| known <= epoch)
            {
                *leader = told;
            }
        }
        Ok(())
    }

    /// Asks one broker after the other until one answers that it was done.
    pub(super) async fn ask(&self, request: &Request, timeout: Duration) -> Result<Answer, TargetError> {
        let mut hosts = self.hosts();
        // The next one to ask begins elsewhere: this one may be the one that is gone.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % hosts.len().max(1);
        hosts.rotate_left(turn);
        hosts.extend(self.seeds.iter().cloned());
        let mut last = TargetError::Unreachable { address: self.address(), reason: "there is no broker".to_owned() };
        for host in hosts {
            match ask_one(&host, request, timeout).await {
                Ok(answer) if answer.status < 300 => return Ok(answer),
                Ok(answer) if answer.status < 500 && answer.status != 404 => {
                    return Err(refused(&host, request, &answer));
                }
                Ok(answer) => last = refused(&host, request, &answer),
                Err(error @ TargetError::Unreachable { .. }) if matches!(last, TargetError::Unreachable { .. }) => {
                    last = error;
                }
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// The same for what changes the cluster, or waits for it.
    pub(super) async fn change(&self, request: &Request) -> Result<Answer, TargetError> {
        self.ask(request, CHANGE_TIMEOUT).await
    }

    pub(super) fn decode<'a, T: Deserialize<'a>>(&self, answer: &'a Answer) -> Result<T, TargetError> {
        serde_json::from_slice(&answer.body).map_err(|error| TargetError::Unreachable {
            address: self.address(),
            reason: format!("its answer cannot be read: {error}"),
        })
    }
}

/// Asks this broker over a connection of its own.
pub(super) async fn ask_one(host: &str, request: &Request, timeout: Duration) -> Result<Answer, TargetError> {
    let unreachable = |reason: String| TargetError::Unreachable { address: format!("http://{host}"), reason };
    let asking = async { Connection::open(host).await?.ask(request).await };
    match tokio::time::timeout(timeout, asking).await {
        Ok(answer) => answer.map_err(|error| unreachable(error.to_string())),
        Err(_) => Err(unreachable("no answer in time".to_owned())),
    }
}

/// A refusal in the broker's words.
pub(super) fn refused(host: &str, request: &Request, answer: &Answer) -> TargetError {
    let reply: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let message = reply.as_ref().and_then(|reply| reply["message"].as_str()).unwrap_or("no reason given");
    TargetError::Refused {
        address: format!("http://{host}"),
        what: request.line.clone(),
        reason: format!("{message} (HTTP {})", answer.status),
    }
}

/// `host:port` of a URL.
fn host(url: &str) -> Result<Arc<str>, TargetError> {
    let rest = url.trim().strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match rest {
        Some(host) if host.contains(':') && !host.contains(['/', '?', ' ']) => Ok(host.into()),
        _ => Err(TargetError::Unsupported(format!(
            "{url:?} is not the address of a broker; it looks like http://127.0.0.1:8000"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_leaders_never_go_back() {
        let cluster = Cluster::new("http://127.0.0.1:8000, http://b:1/").unwrap();
        assert_eq!(cluster.address(), "http://127.0.0.1:8000,http://b:1");
        for bad in ["http://", "http://a", "https://a:1", "http://a:1/x", ""] {
            assert!(Cluster::new(bad).is_err(), "{bad}");
        }
        *cluster.known() =
            Known { brokers: [(0, "a:1".into()), (1, "b:1".into())].into(), leaders: vec![Some((3, 0))], replicas: 2 };
        let answer = |broker, epoch| Answer { leader: Some(broker), leader_epoch: Some(epoch), ..Answer::default() };
        cluster.note(0, &answer(1, 2));
        assert_eq!(cluster.leader(0).unwrap().broker, 0);
        cluster.note(0, &answer(1, 4));
        assert_eq!(cluster.leader(0), Some(Leader { broker: 1, host: "b:1".into() }));
        cluster.note(7, &answer(1, 4));
        assert_eq!(cluster.leader(7), None);
    }
}
