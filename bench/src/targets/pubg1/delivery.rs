//! One request on its way to a partition's leader, repeated until it is answered or its time is over.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    cluster::{Cluster, Leader},
    http::{Answer, Connection, Request},
};
use crate::target::SendError;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const BACKOFF_FIRST: Duration = Duration::from_millis(2);
const BACKOFF_MAX: Duration = Duration::from_millis(50);
/// A leader that has not answered for so long may have been deposed: somebody else is asked.
const PATIENCE: Duration = Duration::from_millis(400);
/// And again, as often as this.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Idle connections by where they lead.
type Idle = Mutex<HashMap<Arc<str>, Vec<Connection>>>;

/// What all requests of one client have in common.
pub(super) struct Client {
    pub(super) cluster: Arc<Cluster>,
    pub(super) topic: String,
    pub(super) delivery_timeout: Duration,
    idle: Idle,
    overcome: Mutex<BTreeMap<String, u64>>,
}

/// Why an attempt did not succeed, and whether another one may.
struct Failure {
    kind: String,
    reason: String,
    again: bool,
}

impl Client {
    pub(super) fn new(cluster: Arc<Cluster>, topic: &str, delivery_timeout: Duration) -> Self {
        Self { cluster, topic: topic.to_owned(), delivery_timeout, idle: Mutex::default(), overcome: Mutex::default() }
    }

    /// Failures since the last call after which a request was repeated.
    pub(super) fn overcome(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.overcome.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection to this broker that nobody uses.
    fn idle_connection(&self, leader: &Leader) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_mut(&leader.host)?.pop()
    }

    fn give_back(&self, leader: &Leader, connection: Connection) {
        if connection.is_reusable() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            match idle.get_mut(&leader.host) {
                Some(connections) => connections.push(connection),
                None => drop(idle.insert(Arc::clone(&leader.host), vec![connection])),
            }
        }
    }

    /// Opens so many connections to the leader before they are needed.
    pub(super) async fn warm(&self, partition: u32, count: u32) -> io::Result<()> {
        let Some(leader) = self.cluster.leader(partition) else { return Ok(()) };
        let there = self.idle.lock().unwrap_or_else(PoisonError::into_inner).get(&leader.host).map_or(0, Vec::len);
        for _ in there..usize::try_from(count).unwrap_or(0) {
            let connection = connect(&leader).await?;
            self.give_back(&leader, connection);
        }
        Ok(())
    }

    /// Puts the request on its way if a connection is idle.
    pub(super) fn begin(&self, partition: u32, request: &Request) -> Option<(Leader, Connection)> {
        let leader = self.cluster.leader(partition)?;
        let mut connection = self.idle_connection(&leader)?;
        connection.begin(request);
        Some((leader, connection))
    }

    /// Sees a request through that may have been begun.
    pub(super) async fn deliver(
        &self,
        partition: u32,
        request: &Request,
        mut begun: Option<(Leader, Connection)>,
    ) -> Result<Answer, SendError> {
        let since = Instant::now();
        let mut backoff = BACKOFF_FIRST;
        loop {
            let failure = match self.attempt(partition, request, begun.take(), since + self.delivery_timeout).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.again || since.elapsed() > self.delivery_timeout {
                return Err(SendError { kind: failure.kind, reason: failure.reason });
            }
            *self.overcome.lock().unwrap_or_else(PoisonError::into_inner).entry(failure.kind).or_default() += 1;
            // Nobody may be there to say; then the next attempt fails, too, and asks again.
            let _learned = self.cluster.learn(&self.topic).await;
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn attempt(
        &self,
        partition: u32,
        request: &Request,
        begun: Option<(Leader, Connection)>,
        limit: Instant,
    ) -> Result<Answer, Failure> {
        let (leader, mut connection) = match begun {
            Some(begun) => begun,
            None => {
                let leader = self.cluster.leader(partition).ok_or_else(|| passing("no leader", "nobody leads"))?;
                let mut connection = match self.idle_connection(&leader) {
                    Some(connection) => connection,
                    None => connect(&leader).await.map_err(|error| passing("no connection", &error.to_string()))?,
                };
                connection.begin(request);
                (leader, connection)
            }
        };
        let answer = self.answer((partition, request), &leader, &mut connection, PATIENCE, limit).await?;
        self.give_back(&leader, connection);
        self.cluster.note(partition, &answer);
        match answer.status {
            200..300 => Ok(answer),
            status => Err(Failure {
                kind: format!("HTTP {status}"),
                reason: String::from_utf8_lossy(&answer.body).into_owned(),
                // 404: a topic that was just made is not known everywhere.
                again: status >= 500 || matches!(status, 404 | 408 | 429),
            }),
        }
    }

    /// Waits for the answer to a request that was begun, unless another broker has come to lead meanwhile.
    async fn answer(
        &self,
        (partition, request): (u32, &Request),
        leader: &Leader,
        connection: &mut Connection,
        patience: Duration,
        limit: Instant,
    ) -> Result<Answer, Failure> {
        let answering = connection.finish(request);
        tokio::pin!(answering);
        let mut wait = patience;
        loop {
            match tokio::time::timeout(wait, &mut answering).await {
                Ok(answer) => return answer.map_err(|error| passing("connection lost", &error.to_string())),
                Err(_) => {
                    tokio::select! {
                        biased;
                        answer = &mut answering => {
                            return answer.map_err(|error| passing("connection lost", &error.to_string()));
                        }
                        _learned = self.cluster.learn(&self.topic) => {}
                    }
                    if self.cluster.leader(partition).is_some_and(|now| now.broker != leader.broker) {
                        return Err(passing("leader changed", "another broker leads before this one has answered"));
                    }
                    if Instant::now() > limit {
                        return Err(passing("no answer", "the broker does not answer"));
                    }
                    wait = LOOK_AGAIN;
                }
            }
        }
    }

    /// Asks the leader of a partition once; for reads that wait at the broker this long.
    pub(super) async fn ask_leader(
        &self,
        partition: u32,
        request: &Request,
        connection: Option<(Leader, Connection)>,
        wait: Duration,
    ) -> Result<(Answer, Leader, Connection), SendError> {
        let limit = Instant::now() + wait + self.delivery_timeout;
        let asking = async {
            let leader = self.cluster.leader(partition).ok_or_else(|| passing("no leader", "nobody leads"))?;
            let mut connection = match connection.filter(|(to, there)| *to == leader && there.is_reusable()) {
                Some((_, connection)) => connection,
                None => connect(&leader).await.map_err(|error| passing("no connection", &error.to_string()))?,
            };
            connection.begin(request);
            let answer = self.answer((partition, request), &leader, &mut connection, wait + PATIENCE, limit).await?;
            self.cluster.note(partition, &answer);
            Ok((answer, leader, connection))
        };
        asking.await.map_err(|failure: Failure| SendError { kind: failure.kind, reason: failure.reason })
    }
}

async fn connect(leader: &Leader) -> io::Result<Connection> {
    match tokio::time::timeout(CONNECT_TIMEOUT, Connection::open(&leader.host)).await {
        Ok(connection) => connection,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn passing(kind: &str, reason: &str) -> Failure {
    Failure { kind: kind.to_owned(), reason: reason.to_owned(), again: true }
}
