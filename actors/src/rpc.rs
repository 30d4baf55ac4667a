//! How a broker asks another one, and answers it: requests by kind over the transport.
//!
//! A request has a *kind*, a control part made by serde, and a payload of bytes that serde never sees. The answer has
//! the kind of its request. What belongs together has kinds of one decade, and one module that answers them; see
//! [`kind`]. Protocol, replication and clients each have connections of their own; see [`lanes`].
//!
//! A broker may also ask itself: the request goes to its own dispatcher, so that a controller treats all brokers alike.

mod dispatch;
mod lanes;
mod metadata;
mod sealed;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use pubg1_model::BrokerId;
use pubg1_transport::{
    ControlError, Counters, Identity, Network, Payload, PeerClient, Request, RequestError, Response, Server,
    TransportConfig,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use crate::{
    arbiters::Place, controller::ControllerHandle, fatal::FatalError, group_coordinator::GroupCoordinatorHandle,
    metadata::MetadataHandle, node::NodeContext, streams::StreamTasks,
};
use dispatch::Dispatcher;
use lanes::{Lane, Lanes};

pub(crate) use lanes::CLIENT_WINDOW;

/// The kinds of requests, by who answers them.
pub(crate) mod kind {
    /// To the answerer of requests: the kind that says it does not know the one that was asked.
    pub(crate) const UNKNOWN: u16 = 0;

    /// Raft, 1 to 9: answered by the metadata group.
    pub(crate) const RAFT: std::ops::RangeInclusive<u16> = 1..=9;
    /// A command for the metadata log, to the broker that leads it.
    pub(crate) const PROPOSE: u16 = 10;
    /// A broker lives; to the controller.
    pub(crate) const HEARTBEAT: u16 = 11;
    /// The controller looks for the leaders of new epochs.
    pub(crate) const FENCE: u16 = 12;
    /// The controller asks leaders to hand over.
    pub(crate) const TRANSFER: u16 = 13;
    /// How the cluster stands, as its controller sees it.
    pub(crate) const CLUSTER_STATUS: u16 = 14;
    /// An operator moves a leadership; to the controller.
    pub(crate) const MOVE_LEADER: u16 = 15;
    /// Replication, 20 to 29: followers to leaders.
    pub(crate) const REPLICATION: std::ops::RangeInclusive<u16> = 20..=29;
    /// Operations of clients, 30 to 39: to the leader of a partition.
    pub(crate) const CLIENT: std::ops::RangeInclusive<u16> = 30..=39;
    /// Consumer groups, 40 to 49: to the coordinator of a group.
    pub(crate) const GROUPS: std::ops::RangeInclusive<u16> = 40..=49;
    /// Streams, 50 to 59: to the broker that runs a task.
    pub(crate) const STREAMS: std::ops::RangeInclusive<u16> = 50..=59;
}

/// What the answers of a broker are made from.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) node: Arc<NodeContext>,
    pub(crate) metadata: MetadataHandle,
    pub(crate) groups: GroupCoordinatorHandle,
    pub(crate) controller: ControllerHandle,
    pub(crate) streams: StreamTasks,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RpcError {
    /// It was certainly not handled and may be sent again.
    #[error("not sent: {0}")]
    NotSent(String),
    /// Whether it was handled is unknown.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// The two brokers do not understand each other.
    #[error("not understood: {0}")]
    Misunderstood(String),
}

impl From<RequestError> for RpcError {
    fn from(error: RequestError) -> Self {
        if error.may_have_been_handled() {
            Self::OutcomeUnknown(error.to_string())
        } else if matches!(error, RequestError::TooLarge { .. } | RequestError::ReservedKind { .. }) {
            Self::Misunderstood(error.to_string())
        } else {
            Self::NotSent(error.to_string())
        }
    }
}

/// What there is once the transport runs.
struct Started {
    lanes: Lanes,
    own: Arc<Dispatcher>,
}

/// The way to other brokers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rpc(Arc<Inner>);

struct Inner {
    broker: BrokerId,
    started: OnceLock<Started>,
    addresses: RwLock<BTreeMap<BrokerId, String>>,
}

impl Rpc {
    /// A way that knows these addresses, until the image tells others.
    pub(crate) fn new(broker: BrokerId, addresses: Vec<(BrokerId, String)>) -> Self {
        let addresses = RwLock::new(addresses.into_iter().collect());
        Self(Arc::new(Inner { broker, started: OnceLock::new(), addresses }))
    }

    /// Takes over where a broker is reached now.
    pub(crate) fn set_address(&self, broker: BrokerId, address: &str) {
        if address.is_empty() {
            return;
        }
        let mut addresses = self.0.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.get(&broker).is_none_or(|known| known != address) {
            addresses.insert(broker, address.to_owned());
        }
    }

    /// Forgets a broker that has left the cluster.
    pub(crate) fn forget(&self, broker: BrokerId) {
        self.0.addresses.write().unwrap_or_else(PoisonError::into_inner).remove(&broker);
        if let Some(started) = self.0.started.get() {
            started.lanes.remove(broker);
        }
    }

    /// The connection that tells whether a broker lives; `None` while its address is unknown or the transport does not
    /// run yet, and for this broker itself.
    pub(crate) fn client(&self, to: BrokerId) -> Option<PeerClient> {
        self.on_lane(Lane::Protocol, to)
    }

    /// It is heard that a broker lives: connections to it that are down need not wait for their next attempt.
    pub(crate) fn wake(&self, broker: BrokerId) {
        if let Some((lanes, address)) = self.way(broker) {
            lanes.wake(broker, &address);
        }
    }

    fn on_lane(&self, lane: Lane, to: BrokerId) -> Option<PeerClient> {
        let (lanes, address) = self.way(to)?;
        Some(lanes.client(lane, to, &address))
    }

    fn way(&self, to: BrokerId) -> Option<(&Lanes, String)> {
        let started = self.0.started.get()?;
        let address = self.0.addresses.read().unwrap_or_else(PoisonError::into_inner).get(&to)?.clone();
        (to != self.0.broker && !address.is_empty()).then_some((&started.lanes, address))
    }

    /// Asks a broker and waits for its answer: the control part and the payload.
    pub(crate) async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        to: BrokerId,
        kind: u16,
        control: &Q,
        payload: Payload,
        timeout: Duration,
    ) -> Result<(A, Bytes), RpcError> {
        let request = Request::encode(kind, control).map_err(|error| RpcError::Misunderstood(error.to_string()))?;
        let response = self.ask(to, request.with_payload(payload), timeout).await?;
        answer_of(to, kind, response)
    }

    /// As [`Self::call`], but goes on after the time while large answers arrive: see
    /// [`PeerClient::request_while_arriving`]. The times: for the answer to begin, between its pieces, in total.
    pub(crate) async fn call_while_arriving<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        to: BrokerId,
        kind: u16,
        control: &Q,
        (timeout, pause, at_most): (Duration, Duration, Duration),
    ) -> Result<(A, Bytes), RpcError> {
        let request = Request::encode(kind, control).map_err(|error| RpcError::Misunderstood(error.to_string()))?;
        let client = self.on_lane(Lane::of(kind), to).ok_or_else(|| no_address(to))?;
        let now = Instant::now();
        let response = client.request_while_arriving(request, now + timeout, pause, now + at_most).await?;
        answer_of(to, kind, response)
    }

    async fn ask(&self, to: BrokerId, request: Request, timeout: Duration) -> Result<Response, RpcError> {
        let deadline = Instant::now() + timeout;
        if to == self.0.broker {
            let own = self.0.started.get().map(|started| Arc::clone(&started.own));
            let own = own.ok_or_else(|| RpcError::NotSent("the transport does not run yet".to_owned()))?;
            let answered = tokio::time::timeout_at(deadline, own.answer_own(request)).await;
            return answered.map_err(|_| RpcError::OutcomeUnknown("this broker did not answer in time".to_owned()));
        }
        let client = self.on_lane(Lane::of(request.kind), to).ok_or_else(|| no_address(to))?;
        Ok(client.request(request, deadline).await?)
    }
}

fn no_address(broker: BrokerId) -> RpcError {
    RpcError::NotSent(format!("broker {broker} has no known address"))
}

/// The control part and the payload of an answer.
fn answer_of<A: DeserializeOwned>(from: BrokerId, kind: u16, response: Response) -> Result<(A, Bytes), RpcError> {
    if response.kind != kind {
        return Err(RpcError::Misunderstood(format!("broker {from} knows no requests of kind {kind}")));
    }
    let answer = response.decode().map_err(|error| RpcError::Misunderstood(error.to_string()))?;
    Ok((answer, response.payload.into_bytes()))
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("broker", &self.0.broker).finish_non_exhaustive()
    }
}

/// An answer of this kind.
pub(crate) fn respond<A: Serialize>(kind: u16, answer: &A) -> Response {
    Response::encode(kind, answer).unwrap_or_else(|error| {
        tracing::error!(kind, %error, "an answer could not be encoded");
        unknown()
    })
}

/// The answer to a kind that is not known: a broker of another version asks.
pub(crate) fn unknown() -> Response {
    Response { kind: kind::UNKNOWN, control: Bytes::new(), payload: Payload::empty() }
}

/// The answer to a request that cannot be read.
pub(crate) fn not_understood(error: &ControlError) -> Response {
    tracing::warn!(%error, "a request of another broker was not understood");
    unknown()
}

/// The largest record batch that a topic may allow has 64 MiB, and travels whole, be it forwarded or replicated.
const FRAME_BYTES_MAX: u32 = 80 << 20;
/// What a request or an answer may carry: a frame holds it beside its control part.
pub(crate) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX as usize - (1 << 20);

/// Starts clients and server at the transport's place; connections for replication live where partitions do, as
/// [`lanes`] says. A port that cannot be had is fatal.
pub(crate) fn start<N: Network>(services: Services, network: N, place: &Place, partitions: Vec<Place>) {
    // The arbiter is stopped last, with the process's other threads.
    place.spawn(async move {
        let node = Arc::clone(&services.node);
        let incarnation = node.transport_incarnation();
        let identity = Identity { cluster_id: node.cluster_id.clone(), broker_id: node.config.broker_id, incarnation };
        let config = TransportConfig {
            frame_bytes_max: FRAME_BYTES_MAX,
            window_requests: CLIENT_WINDOW,
            ..TransportConfig::default()
        };
        let counters = Arc::new(Counters::default());
        let partitions = runtimes(&partitions).await;
        let lanes = Lanes::new(&partitions, &network, &identity, &config, &counters);
        let dispatcher = Arc::new(Dispatcher::new(services, partitions));
        let started = Started { lanes, own: Arc::clone(&dispatcher) };
        node.rpc.0.started.set(started).unwrap_or_default();
        let Some(address) = node.config.rpc_listen.clone() else { return };
        let listening = match network.bind(&address).await {
            Ok(listener) => Server::start(listener, dispatcher, identity, config, counters),
            Err(error) => Err(error),
        };
        match listening {
            Ok(server) => {
                tracing::info!(rpc = %server.local_address(), "other brokers are listened for");
                // Served until the arbiter is stopped.
                std::future::pending::<()>().await;
                drop(server);
            }
            Err(error) => node.fatal.report(FatalError::Listen { address, reason: error.to_string() }),
        }
    });
}

/// What runs the tasks of these places. Of one that has ended there is none.
async fn runtimes(places: &[Place]) -> Vec<Handle> {
    let mut runtimes = Vec::with_capacity(places.len());
    for place in places {
        let (tell, told) = oneshot::channel();
        place.spawn(async move { tell.send(Handle::current()).map_err(drop).unwrap_or_default() });
        runtimes.extend(told.await);
    }
    runtimes
}
