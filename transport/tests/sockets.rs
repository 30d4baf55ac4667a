//! Client and server over real sockets, through the public interface only.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends by panicking, and so do its functions"
)]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pubg1_model::BrokerId;
use pubg1_transport::{
    Backoff, Counters, Handler, HandshakeError, HandshakeRefusal, Identity, Network, Payload, Peer, PeerClient,
    PeerState, Peers, Request, RequestError, RequestRefusal, Response, Server, TokioNetwork, TransportConfig,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time::{Instant, timeout},
};

const ECHO: u16 = 1;
const GATED: u16 = 2;
const PANIC: u16 = 3;
const WHO: u16 = 4;
const GROW: u16 = 5;

const SERVER: BrokerId = BrokerId(2);

/// Answers by kind: at once, when a gate opens, never.
struct Node {
    gate: Semaphore,
    running: watch::Sender<usize>,
    most: AtomicUsize,
    given_up: mpsc::UnboundedSender<()>,
    told: mpsc::UnboundedSender<Request>,
}

struct Running<'a> {
    node: &'a Node,
    answered: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.node.running.send_modify(|running| *running -= 1);
        if !self.answered {
            self.node.given_up.send(()).ok();
        }
    }
}

impl Handler for Node {
    async fn handle(&self, peer: Peer, request: Request) -> Response {
        match request.kind {
            GATED => {
                self.running.send_modify(|running| {
                    *running += 1;
                    self.most.fetch_max(*running, Ordering::SeqCst);
                });
                let mut running = Running { node: self, answered: false };
                self.gate.acquire().await.unwrap().forget();
                running.answered = true;
            }
            PANIC => panic!("as the test wants it"),
            WHO => return Response::encode(WHO, &(peer.broker_id, peer.incarnation)).unwrap(),
            GROW => {
                let bytes: u32 = request.decode().unwrap();
                return Response::default().with_payload(Bytes::from(vec![7; bytes as usize]));
            }
            _ => {}
        }
        Response { kind: request.kind, control: request.control, payload: request.payload }
    }

    async fn handle_one_way(&self, _peer: Peer, message: Request) {
        self.told.send(message).ok();
    }
}

/// A server with its handler.
struct Served {
    server: Server,
    node: Arc<Node>,
    given_up: mpsc::UnboundedReceiver<()>,
    told: mpsc::UnboundedReceiver<Request>,
    counters: Arc<Counters>,
}

fn config() -> TransportConfig {
    let backoff = Backoff { base: Duration::from_millis(5), max: Duration::from_millis(50) };
    TransportConfig { window_requests: 16, backoff, ..TransportConfig::default() }
}

fn identity(broker_id: BrokerId, incarnation: u64) -> Identity {
    Identity { cluster_id: "sockets".to_owned(), broker_id, incarnation }
}

async fn serve_at(address: &str, incarnation: u64, config: TransportConfig) -> Served {
    let (given_up_here, given_up) = mpsc::unbounded_channel();
    let (told_here, told) = mpsc::unbounded_channel();
    let node = Arc::new(Node {
        gate: Semaphore::new(0),
        running: watch::Sender::new(0),
        most: AtomicUsize::new(0),
        given_up: given_up_here,
        told: told_here,
    });
    let counters = Arc::<Counters>::default();
    let listener = TokioNetwork.bind(address).await.unwrap();
    let (handler, counted) = (Arc::clone(&node), Arc::clone(&counters));
    let server = Server::start(listener, handler, identity(SERVER, incarnation), config, counted).unwrap();
    Served { server, node, given_up, told, counters }
}

async fn serve() -> Served {
    serve_at("127.0.0.1:0", 1, config()).await
}

impl Served {
    fn client(&self) -> PeerClient {
        client_as(identity(BrokerId(1), 1), &self.server.local_address().to_string(), SERVER)
    }

    async fn in_service(&self, count: usize) {
        soon(self.node.running.subscribe().wait_for(|running| *running == count)).await.unwrap();
    }
}

fn client_as(identity: Identity, address: &str, peer: BrokerId) -> PeerClient {
    PeerClient::new(TokioNetwork, peer, address, identity, config(), Arc::default(), 1)
}

fn request(kind: u16, payload: &'static [u8]) -> Request {
    Request { kind, payload: Bytes::from_static(payload).into(), ..Request::default() }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.expect("it happens soon")
}

async fn state(client: &PeerClient, wanted: impl Fn(&PeerState) -> bool) -> PeerState {
    soon(client.state().wait_for(|state| wanted(state))).await.unwrap().clone()
}

/// An address where nobody listens until the test does: bound, so that no other connection gets its port meanwhile.
fn reserved_address() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

#[tokio::test]
async fn ten_thousand_requests_go_through_a_window_of_sixteen() {
    let served = serve().await;
    let client = served.client();
    let asked: Vec<_> = (0..10_000_u32)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let payload = Bytes::from(number.to_be_bytes().repeat(number as usize % 300));
                let asked = Request::encode(ECHO, &number).unwrap().with_payload(payload.clone());
                let answer = client.request(asked, deadline()).await.unwrap();
                assert_eq!(answer.decode::<u32>(), Ok(number));
                assert_eq!(answer.payload.into_bytes(), payload);
            })
        })
        .collect();
    for task in asked {
        soon(task).await.unwrap();
    }
    let counted = served.counters.snapshot();
    assert!(counted.frames_in >= 10_000 && counted.frames_out >= 10_000);
    assert_eq!((counted.requests_in_service, counted.decode_errors), (0, 0));
}

#[tokio::test]
async fn the_window_is_a_bound_for_those_who_wait_and_an_error_for_those_who_do_not() {
    let served = serve().await;
    let client = served.client();
    let asked: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.request(request(GATED, b""), deadline()).await })
        })
        .collect();
    served.in_service(16).await;
    let full = client.try_request(request(ECHO, b""), deadline()).await;
    assert!(matches!(full, Err(RequestError::WindowFull { requests_max: 16, .. })), "{full:?}");
    let late = client.request(request(ECHO, b""), Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(late, Err(RequestError::Timeout { peer: SERVER, sent: false }));
    served.node.gate.add_permits(40);
    for task in asked {
        soon(task).await.unwrap().unwrap();
    }
    assert_eq!(served.node.most.load(Ordering::SeqCst), 16);
}

#[tokio::test]
async fn a_deadline_and_a_dropped_request_both_stop_the_handler() {
    let mut served = serve().await;
    let counters = Arc::<Counters>::default();
    let address = served.server.local_address().to_string();
    let own = identity(BrokerId(1), 1);
    let client = PeerClient::new(TokioNetwork, SERVER, address, own, config(), Arc::clone(&counters), 1);
    let late = client.request(request(GATED, b""), Instant::now() + Duration::from_millis(50)).await;
    assert_eq!(late, Err(RequestError::Timeout { peer: SERVER, sent: true }));
    soon(served.given_up.recv()).await.unwrap();

    let asked = {
        let client = client.clone();
        tokio::spawn(async move { client.request(request(GATED, b""), deadline()).await })
    };
    served.in_service(1).await;
    asked.abort();
    soon(served.given_up.recv()).await.unwrap();
    assert!(client.request(request(ECHO, b""), deadline()).await.is_ok(), "the connection goes on");
    let counted = counters.snapshot();
    assert_eq!((counted.request_timeouts, counted.requests_cancelled, counted.connects), (1, 1, 1));
}

#[tokio::test]
async fn a_dropped_client_stops_everything_it_began() {
    let mut served = serve().await;
    let client = served.client();
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.request(request(GATED, b""), deadline()).await })
        })
        .collect();
    served.in_service(3).await;
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    drop(client);
    for task in asked {
        assert!(soon(task).await.unwrap_err().is_cancelled());
        soon(served.given_up.recv()).await.unwrap();
    }
    let drained = served.server.drain(deadline()).await;
    assert_eq!(drained.connections_cut, 0);
}

#[tokio::test]
async fn refused_becomes_connected_when_the_broker_starts_and_refused_again_when_it_is_gone() {
    let (_reserved, address) = reserved_address();
    let client = client_as(identity(BrokerId(1), 1), &address, SERVER);
    assert_eq!(*client.state().borrow(), PeerState::Idle);
    let error = client.request(request(ECHO, b""), deadline()).await.unwrap_err();
    assert_eq!(error, RequestError::Refused { peer: SERVER });
    assert!(!error.may_have_been_handled());

    for incarnation in [7, 8] {
        let served = serve_at(&address, incarnation, config()).await;
        let seen = state(&client, |state| matches!(state, PeerState::Connected { .. })).await;
        assert!(matches!(seen, PeerState::Connected { incarnation: seen, .. } if seen == incarnation), "{seen:?}");
        let asked = {
            let client = client.clone();
            tokio::spawn(async move { client.request(request(GATED, b""), deadline()).await })
        };
        served.in_service(1).await;
        drop(served);
        let lost = soon(asked).await.unwrap();
        assert_eq!(lost, Err(RequestError::Disconnected { peer: SERVER, sent: true }));
        let refused = state(&client, |state| matches!(state, PeerState::Refused { .. })).await;
        let PeerState::Refused { since, attempted, incarnation: last } = refused else { panic!("{refused:?}") };
        assert_eq!(last, Some(incarnation), "the one that is over");
        // Each further attempt is told, and it is the same absence.
        let again =
            |state: &PeerState| matches!(state, PeerState::Refused { attempted: next, .. } if *next > attempted);
        client.connect();
        let again = state(&client, again).await;
        assert!(matches!(again, PeerState::Refused { since: first, .. } if first == since), "{again:?}");
    }
}

#[tokio::test]
async fn another_cluster_and_another_broker_are_rejected_with_the_reason() {
    let served = serve().await;
    let address = served.server.local_address().to_string();
    let stranger = Identity { cluster_id: "other".to_owned(), ..identity(BrokerId(1), 1) };
    for (who, expected, refusal) in [
        (stranger, SERVER, HandshakeRefusal::WrongCluster),
        (identity(BrokerId(1), 1), BrokerId(3), HandshakeRefusal::WrongPeer { actual: SERVER }),
    ] {
        let client = client_as(who, &address, expected);
        let error = client.request(request(ECHO, b""), deadline()).await.unwrap_err();
        let refused = HandshakeError::Refused(refusal);
        assert_eq!(error, RequestError::Handshake { peer: expected, error: refused.clone() });
        assert!(error.is_misconfiguration());
        let seen = client.state().borrow().clone();
        assert!(matches!(&seen, PeerState::Rejected { error, .. } if *error == refused), "{seen:?}");
    }
    assert!(served.counters.snapshot().handshakes_refused >= 2);
}

#[tokio::test]
async fn two_incarnations_of_a_broker_are_told_apart_and_noticed() {
    let served = serve().await;
    let address = served.server.local_address().to_string();
    let clients = [11_u64, 12].map(|incarnation| client_as(identity(BrokerId(1), incarnation), &address, SERVER));
    for (client, incarnation) in clients.iter().zip([11_u64, 12]) {
        let answer = client.request(request(WHO, b""), deadline()).await.unwrap();
        assert_eq!(answer.decode(), Ok((BrokerId(1), incarnation)));
    }
    assert_eq!(served.counters.snapshot().incarnation_conflicts, 1);
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_own_request_only() {
    let served = serve().await;
    let client = served.client();
    let error = client.request(request(PANIC, b""), deadline()).await.unwrap_err();
    assert_eq!(error, RequestError::RefusedByPeer { peer: SERVER, refusal: RequestRefusal::HandlerFailed });
    assert!(error.may_have_been_handled());
    assert!(client.request(request(ECHO, b""), deadline()).await.is_ok());
    assert_eq!(served.counters.snapshot().handler_panics, 1);
}

#[tokio::test]
async fn an_answer_too_large_is_refused_and_the_connection_goes_on() {
    let served = serve().await;
    let config = TransportConfig { frame_bytes_max: 10_000, ..config() };
    let address = served.server.local_address().to_string();
    let own = identity(BrokerId(1), 1);
    let client = PeerClient::new(TokioNetwork, SERVER, address, own, config, Arc::default(), 1);
    let grow = |bytes: u32| client.request(Request::encode(GROW, &bytes).unwrap(), deadline());
    assert_eq!(grow(9_972).await.unwrap().payload.len(), 9_972);
    let refusal = RequestRefusal::ResponseTooLarge { response_bytes: 10_001, frame_bytes_max: 10_000 };
    assert_eq!(grow(9_973).await, Err(RequestError::RefusedByPeer { peer: SERVER, refusal }));
    assert!(grow(1).await.is_ok());
}

#[tokio::test]
async fn payloads_of_any_size_and_cut_arrive_whole() {
    let served = serve().await;
    let client = served.client();
    let whole = Bytes::from((0..3_000_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
    for bytes in [0, 1, 511, 512, 513, 16_383, 16_385, 65_536, 262_144, 3_000_000, 12_000_000] {
        // In pieces of a few bytes to a few hundred thousand, more than one gathered write takes.
        let pieces = [1, 600, 100_000, 3, 17_000];
        let (mut parts, mut at) = (Vec::new(), 0);
        for piece in pieces.iter().cycle() {
            if at == bytes {
                break;
            }
            let end = bytes.min(at + piece);
            parts.push(whole.slice(at..end));
            at = end;
        }
        let sent = Request { kind: ECHO, control: Bytes::from_static(b"c"), payload: parts.into() };
        let answer = soon(client.request(sent, deadline())).await.unwrap();
        assert_eq!(answer.payload, Payload::from(whole.slice(..bytes)));
    }
}

#[tokio::test]
async fn a_message_without_answer_arrives() {
    let mut served = serve().await;
    let client = served.client();
    for payload in [&b"one"[..], b"two"] {
        client.send(request(ECHO, payload), deadline()).await.unwrap();
        let told = soon(served.told.recv()).await.unwrap();
        assert_eq!(told.payload.into_bytes(), payload);
    }
}

#[tokio::test]
async fn a_drain_answers_what_was_begun_and_refuses_the_rest() {
    let served = serve().await;
    let client = served.client();
    let asked = {
        let client = client.clone();
        tokio::spawn(async move { client.request(request(GATED, b"begun"), deadline()).await })
    };
    served.in_service(1).await;
    let Served { server, node, .. } = served;
    let drained = tokio::spawn(server.drain(deadline()));
    state(&client, |state| matches!(state, PeerState::Draining { .. } | PeerState::Refused { .. })).await;
    let refused = client.request(request(ECHO, b""), deadline()).await.unwrap_err();
    assert!(!refused.may_have_been_handled(), "{refused}");
    node.gate.add_permits(1);
    assert_eq!(soon(asked).await.unwrap().unwrap().payload.into_bytes(), &b"begun"[..]);
    assert_eq!(soon(drained).await.unwrap().connections_cut, 0);
    state(&client, |state| matches!(state, PeerState::Refused { .. })).await;
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let mut served = serve().await;
    let client = served.client();
    let asked = tokio::spawn(async move { client.request(request(GATED, b""), deadline()).await });
    served.in_service(1).await;
    let drained = soon(served.server.drain(Instant::now() + Duration::from_millis(50))).await;
    assert_eq!(drained.connections_cut, 1);
    soon(served.given_up.recv()).await.unwrap();
    assert_eq!(soon(asked).await.unwrap(), Err(RequestError::Disconnected { peer: SERVER, sent: true }));
}

#[tokio::test]
async fn connections_are_bounded() {
    let config = TransportConfig { connections_max: 2, handshake_timeout: Duration::from_secs(60), ..config() };
    let served = serve_at("127.0.0.1:0", 1, config).await;
    let address = served.server.local_address();
    let held = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(soon(third.read(&mut [0; 1])).await.unwrap(), 0, "closed at once");
    assert_eq!(served.counters.snapshot().connections_rejected, 1);
    drop(held);
    let client = served.client();
    let answered = async {
        // Until the server has noticed that the others are gone.
        while client.request(request(ECHO, b""), deadline()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(answered).await;
}

#[tokio::test]
async fn peers_are_kept_by_broker_and_address() {
    let served = serve().await;
    let address = served.server.local_address().to_string();
    let counters = Arc::<Counters>::default();
    let peers = Peers::new(TokioNetwork, identity(BrokerId(1), 1), config(), Arc::clone(&counters), 1);
    assert!(peers.get(SERVER).is_none());
    for _ in 0..3 {
        peers.client(SERVER, &address).request(request(ECHO, b""), deadline()).await.unwrap();
    }
    assert_eq!(counters.snapshot().connects, 1);
    // From a thread without a runtime, and to a broker that has moved.
    let moved = serve().await;
    let moved_to = moved.server.local_address().to_string();
    let there = {
        let peers = peers.clone();
        tokio::task::spawn_blocking(move || peers.client(SERVER, &moved_to)).await.unwrap()
    };
    there.request(request(ECHO, b""), deadline()).await.unwrap();
    assert_eq!(peers.get(SERVER).unwrap().address(), there.address());
    peers.remove(SERVER);
    state(&there, |state| *state == PeerState::Closed).await;
    assert!(peers.get(SERVER).is_none());
}

/// Callers on threads and runtimes of their own share one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_come_from_any_thread() {
    let served = serve().await;
    let client = served.client();
    let threads: Vec<_> = (0..4_u32)
        .map(|thread| {
            let client = client.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    for number in 0..500_u32 {
                        let asked = Request::encode(ECHO, &(thread, number)).unwrap();
                        let answer = client.request(asked, deadline()).await.unwrap();
                        assert_eq!(answer.decode(), Ok((thread, number)));
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        soon(tokio::task::spawn_blocking(move || thread.join())).await.unwrap().unwrap();
    }
    assert_eq!(served.counters.snapshot().connections_open, 1);
}

/// Answers with the name of the thread that runs it; connections of lane 1 have a home.
struct AtHome(tokio::runtime::Handle);

impl Handler for AtHome {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        Response { kind: request.kind, control: request.control, payload: Bytes::from(thread).into() }
    }

    fn home(&self, _peer: Peer, lane: u8) -> Option<tokio::runtime::Handle> {
        (lane == 1).then(|| self.0.clone())
    }
}

#[tokio::test]
async fn a_connection_is_served_where_its_lane_has_its_home() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let home = std::thread::Builder::new().name("home".to_owned());
    let home = home.spawn(move || runtime.block_on(ended).unwrap_or_default()).unwrap();

    let counters = Arc::<Counters>::default();
    let listener = TokioNetwork.bind("127.0.0.1:0").await.unwrap();
    let counted = Arc::clone(&counters);
    let server = Server::start(listener, AtHome(handle), identity(SERVER, 1), config(), counted).unwrap();
    let address = server.local_address().to_string();
    let client = |lane, counters: &Arc<Counters>| {
        let config = TransportConfig { lane, ..config() };
        PeerClient::new(TokioNetwork, SERVER, &*address, identity(BrokerId(1), 1), config, Arc::clone(counters), 1)
    };
    let connects = Arc::<Counters>::default();
    let (here, there) = (client(0, &Arc::default()), client(1, &connects));
    let asked = async |client: &PeerClient| client.request(request(ECHO, b""), deadline()).await.unwrap().payload;
    for _ in 0..3 {
        assert_ne!(asked(&here).await.into_bytes(), "home");
        assert_eq!(asked(&there).await.into_bytes(), "home");
    }
    assert_eq!(server.connections(), 2);

    // Without its home a connection ends, and one that comes later; the others and the server go on.
    drop(end);
    soon(tokio::task::spawn_blocking(|| home.join().unwrap())).await.unwrap();
    soon(async {
        while connects.snapshot().connects < 3 {
            let soon = Instant::now() + Duration::from_millis(20);
            assert!(there.request(request(ECHO, b""), soon).await.is_err());
            // One that fails at once has waited for nothing.
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_ne!(asked(&here).await.into_bytes(), "home");
    drop(there);
    soon(async {
        while server.connections() != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let drained = server.drain(deadline()).await;
    assert_eq!((drained.connections_cut, counters.snapshot().connections_open), (0, 0));
}
