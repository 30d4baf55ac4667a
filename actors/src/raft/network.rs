//! How openraft reaches the other brokers: its messages over whatever carries requests between brokers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::{
    BasicNode, RaftNetwork, RaftNetworkFactory,
    error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
        VoteResponse,
    },
};
use pubg1_model::BrokerId;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    types::{TypeConfig, broker_id},
    wire::{self, Answer, ChunkAnswer, KIND_APPEND, KIND_SNAPSHOT, KIND_VOTE},
};

/// The pause before a broker that cannot be reached is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Why a request of the metadata group has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It was certainly not handled.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been handled.
    #[error("no answer: {0}")]
    OutcomeUnknown(String),
}

/// What carries requests to other brokers.
pub(crate) trait RaftTransport: Send + Sync + 'static {
    /// Sends a request and waits for its answer, at most for `timeout`.
    fn call(
        &self,
        to: BrokerId,
        kind: u16,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// Notes where a broker listens, as it, or the group's membership, says now.
    fn learn(&self, broker: BrokerId, address: &str);

    /// Resolves when the broker's machine has said, to an attempt at `since` or later, that nobody listens there: at once
    /// when that is so. Watching keeps a connection open, so that the end of the process is noticed when it happens.
    fn gone(&self, broker: BrokerId, since: Instant) -> BoxFuture<'static, ()>;
}

/// Asks `to` and reads the answer; a refusal of what was asked is part of the answer.
pub(crate) async fn ask<T: DeserializeOwned>(
    transport: &dyn RaftTransport,
    to: BrokerId,
    kind: u16,
    body: Bytes,
    timeout: Duration,
) -> Result<Answer<T>, CallError> {
    let answer = transport.call(to, kind, body, timeout).await?;
    wire::decode(&answer).map_err(CallError::OutcomeUnknown)
}

/// Makes the clients of the group's members.
pub(crate) struct Network {
    transport: Arc<dyn RaftTransport>,
    behind: Arc<AtomicBool>,
}

impl Network {
    /// `behind` is set whenever a vote is refused because the log of the one who was asked is longer.
    pub(crate) const fn new(transport: Arc<dyn RaftTransport>, behind: Arc<AtomicBool>) -> Self {
        Self { transport, behind }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client {
        let broker = broker_id(target);
        self.transport.learn(broker, &node.addr);
        Client { broker, transport: Arc::clone(&self.transport), behind: Arc::clone(&self.behind) }
    }
}

/// The way to one member.
pub(crate) struct Client {
    broker: BrokerId,
    transport: Arc<dyn RaftTransport>,
    behind: Arc<AtomicBool>,
}

type RpcError<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

impl Client {
    /// A refusal and a broken connection are the same to openraft: it comes back later.
    async fn ask<T, E>(&self, kind: u16, body: Result<Bytes, String>, option: &RPCOption) -> Result<T, RpcError<E>>
    where
        T: DeserializeOwned,
        E: std::error::Error,
    {
        let body = body.map_err(|error| RPCError::Unreachable(Unreachable::new(&CallError::NotSent(error))))?;
        match ask::<T>(&*self.transport, self.broker, kind, body, option.hard_ttl()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(refusal)) => Err(RPCError::Unreachable(Unreachable::new(&refusal))),
            Err(error @ CallError::NotSent(_)) => Err(RPCError::Unreachable(Unreachable::new(&error))),
            Err(error) => Err(RPCError::Network(NetworkError::new(&error))),
        }
    }
}

impl RaftNetwork<TypeConfig> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        self.ask(KIND_APPEND, wire::encode(&rpc), &option).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<InstallSnapshotError>> {
        let answer: ChunkAnswer = self.ask(KIND_SNAPSHOT, wire::encode_chunk(rpc), &option).await?;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(u64::from(self.broker.0), error)))
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        let answer: VoteResponse<u64> = self.ask(KIND_VOTE, wire::encode(&rpc), &option).await?;
        if !answer.vote_granted && answer.last_log_id > rpc.last_log_id {
            self.behind.store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY_PAUSE))
    }
}
