//! Reads as a member of a consumer group, with one call for joining, committing and reading.

use std::{borrow::Cow, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{
    cluster::{Cluster, refused},
    http::{Answer, Connection, Request},
    subscriber::payload,
};
use crate::target::{Subscriber, TargetError};

/// A member that is silent for so long has left.
const SESSION: Duration = Duration::from_secs(6);
/// How long the first call waits until the member has its partitions.
const JOIN_WAIT: Duration = Duration::from_millis(100);
const FETCH_BYTES: usize = 1 << 20;
/// An answer that takes so much longer than it was to wait does not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// A member of a group.
pub(super) struct GroupSubscriber {
    cluster: Arc<Cluster>,
    group: String,
    topic: String,
    token: Option<String>,
    member: Option<String>,
    connection: Option<(Arc<str>, Connection)>,
    turn: usize,
    value: Vec<u8>,
}

/// A record of the answer.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
}

impl GroupSubscriber {
    /// Joins the group.
    pub(super) async fn join(cluster: Arc<Cluster>, group: &str, topic: &str) -> Result<Self, TargetError> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let mut subscriber =
            Self { cluster, group, topic, token: None, member: None, connection: None, turn: 0, value: Vec::new() };
        let answer = subscriber.poll(JOIN_WAIT).await?;
        subscriber.member = answer.consumer_member;
        // What came counts as received: the run has not begun, so it is not the run's.
        subscriber.token = answer.consumer_token;
        Ok(subscriber)
    }

    async fn poll(&mut self, wait: Duration) -> Result<Answer, TargetError> {
        let (group, topic) = (&self.group, &self.topic);
        let mut request = Request::get(&format!(
            "/groups/{group}/topics/{topic}/records?wait={}ms&max_bytes={FETCH_BYTES}&commit=auto&format=binary&auto_offset_reset=latest&session_timeout_ms={}",
            wait.as_millis(),
            SESSION.as_millis()
        ));
        request.header = self.token.as_ref().map(|token| format!("Consumer-Token: {token}"));
        let (host, mut connection) = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answer = match tokio::time::timeout(wait + PATIENCE, connection.ask(&request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unreachable(&host, &error.to_string())),
            Err(_) => return Err(unreachable(&host, "no answer in time")),
        };
        if answer.status == 200 {
            if connection.is_reusable() {
                self.connection = Some((host, connection));
            }
            return Ok(answer);
        }
        // A member that is not known any more joins anew.
        if matches!(answer.status, 404 | 409 | 410) {
            self.token = None;
        }
        Err(refused(&host, &request, &answer))
    }

    /// Any broker serves a group; after a failure it is the next one.
    async fn connect(&mut self) -> Result<(Arc<str>, Connection), TargetError> {
        let hosts = self.cluster.hosts();
        let host = hosts.get(self.turn % hosts.len().max(1)).ok_or_else(|| unreachable("", "there is no broker"))?;
        self.turn += 1;
        let connection = match tokio::time::timeout(PATIENCE, Connection::open(host)).await {
            Ok(connection) => connection.map_err(|error| unreachable(host, &error.to_string()))?,
            Err(_) => return Err(unreachable(host, "no connection in time")),
        };
        Ok((Arc::clone(host), connection))
    }
}

fn unreachable(host: &str, reason: &str) -> TargetError {
    TargetError::Unreachable { address: format!("http://{host}"), reason: reason.to_owned() }
}

impl Subscriber for GroupSubscriber {
    fn receive<'a>(
        &'a mut self,
        wait: Duration,
        each: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            let answer = self.poll(wait).await?;
            let records: Vec<Record<'_>> = self.cluster.decode(&answer)?;
            for record in &records {
                let Some(value) = &record.value else { continue };
                self.value.clear();
                if STANDARD.decode_vec(value.as_bytes(), &mut self.value).is_ok() {
                    each(&payload(&self.value));
                }
            }
            self.member = answer.consumer_member.or(self.member.take());
            self.token = answer.consumer_token;
            Ok(())
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(token) = self.token.take() {
                let mut commit =
                    Request::post(&format!("/groups/{}/commits", self.group), "application/json", Bytes::new());
                commit.header = Some(format!("Consumer-Token: {token}"));
                // What is not committed comes again: nothing is lost by that.
                let _committed = self.cluster.ask(&commit, PATIENCE).await;
            }
            let Some(member) = self.member.take() else { return };
            let request = Request::delete(&format!("/groups/{}/members/{member}", self.group));
            // A member that cannot say that it leaves is missed when its session is over.
            let _left = self.cluster.ask(&request, PATIENCE).await;
        })
    }
}
