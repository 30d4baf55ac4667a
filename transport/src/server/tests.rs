//! The server against a peer that does what the test says.

use std::sync::atomic::AtomicUsize;

use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::{
    Network,
    frame::{Frame, FrameKind},
    testing::{PipeNetwork, Scripted, client, frame, identity, pipes, soon, until},
};

/// Answers as its gate lets it, and tells how a request ended.
struct Gated {
    gate: Semaphore,
    running: AtomicUsize,
    most: AtomicUsize,
    ended: mpsc::UnboundedSender<bool>,
}

struct Running<'a> {
    handler: &'a Gated,
    answered: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.handler.running.fetch_sub(1, Ordering::SeqCst);
        self.handler.ended.send(self.answered).ok();
    }
}

impl Handler for Gated {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let mut running = Running { handler: self, answered: false };
        self.gate.acquire().await.unwrap().forget();
        running.answered = true;
        Response { kind: request.kind, control: request.control, payload: request.payload }
    }
}

struct Served {
    network: PipeNetwork,
    handler: Arc<Gated>,
    ended: mpsc::UnboundedReceiver<bool>,
    counters: Arc<Counters>,
    server: Server,
}

fn config() -> TransportConfig {
    TransportConfig { window_requests: 4, frame_bytes_max: 100_000, ..TransportConfig::default() }
}

fn serve(open: usize) -> Served {
    let (network, listener) = pipes(1 << 16);
    let (ended_here, ended) = mpsc::unbounded_channel();
    let handler = Arc::new(Gated {
        gate: Semaphore::new(open),
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        ended: ended_here,
    });
    let counters = Arc::<Counters>::default();
    let server = Server::start(listener, Arc::clone(&handler), identity(2), config(), Arc::clone(&counters)).unwrap();
    Served { network, handler, ended, counters, server }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_ends_that_connection_only() {
    let Served { network, counters, server, .. } = serve(10);
    let healthy = client(network.clone(), &config(), &Arc::default());
    healthy.request(Request::default(), soon()).await.unwrap();

    let mut large = Frame::bare(FrameKind::Request, 1).header(1000).unwrap();
    large.body_bytes = 1 << 30;
    let stream: [&[u8]; 3] = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &[0; 64], &large.encode()];
    let frames = [
        frame(FrameKind::Response, 1, b""),
        frame(FrameKind::Handshake, 1, b""),
        frame(FrameKind::GoAway, 1, b""),
        Frame { body_kind: 0xff00, ..frame(FrameKind::Request, 1, b"") },
    ];
    let mut errors = 0;
    for case in 0..stream.len() + frames.len() {
        let (mut peer, _) = Scripted::greet(&network, &config()).await;
        match stream.get(case) {
            Some(bytes) => peer.send_bytes(bytes).await,
            None => peer.send(frames[case - stream.len()].clone()).await,
        }
        peer.closed().await;
        errors += 1;
        until(|| counters.snapshot().decode_errors == errors).await;
    }
    // The end of the stream in the middle of a frame.
    let (mut peer, _) = Scripted::greet(&network, &config()).await;
    peer.send_bytes(&large.encode()[..20]).await;
    drop(peer);
    until(|| counters.snapshot().decode_errors == errors + 1).await;

    healthy.request(Request::default(), soon()).await.unwrap();
    assert_eq!(server.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_more_than_it_may_is_read_no_further() {
    let Served { network, handler, mut ended, counters, server: _server } = serve(0);
    let (mut peer, agreed) = Scripted::greet(&network, &config()).await;
    assert_eq!(agreed.window_requests, 4);
    for id in 1..=7 {
        peer.send(frame(FrameKind::Request, id, b"x")).await;
    }
    until(|| handler.running.load(Ordering::SeqCst) == 4).await;
    assert_eq!(counters.snapshot().requests_in_service, 4);
    handler.gate.add_permits(7);
    let mut answered = Vec::new();
    for _ in 0..7 {
        answered.push(peer.next().await.correlation_id);
        assert_eq!(ended.recv().await, Some(true));
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=7).collect::<Vec<_>>());
    assert_eq!(handler.most.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_large_body_is_not_read_before_there_is_room_for_it() {
    let (network, listener) = pipes(1 << 16);
    let (ended_here, _ended) = mpsc::unbounded_channel();
    let handler = Arc::new(Gated { gate: Semaphore::new(0), running: 0.into(), most: 0.into(), ended: ended_here });
    let config = TransportConfig { window_bytes: 60_000, ..config() };
    let counters = Arc::<Counters>::default();
    let _server = Server::start(listener, Arc::clone(&handler), identity(2), config.clone(), Arc::clone(&counters));
    let (mut peer, agreed) = Scripted::greet(&network, &config).await;
    assert_eq!(agreed.window_bytes, 60_000);
    peer.send(frame(FrameKind::Request, 1, &[1; 40_000])).await;
    let Scripted { mut reader, mut writer } = peer;
    let second = tokio::spawn(async move {
        let second = frame(FrameKind::Request, 2, &[2; 90_000]);
        let bytes = [&second.header(u32::MAX).unwrap().encode()[..], &[2; 90_000]].concat();
        tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await.unwrap();
        writer
    });
    until(|| handler.running.load(Ordering::SeqCst) == 1).await;
    handler.gate.add_permits(2);
    assert_eq!(reader.next().await.unwrap().correlation_id, 1);
    assert_eq!(reader.next().await.unwrap().correlation_id, 2);
    assert_eq!(handler.most.load(Ordering::SeqCst), 1, "one after the other");
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_given_up_is_stopped_and_makes_room() {
    let Served { network, handler, mut ended, counters, server: _server } = serve(0);
    let (mut peer, _) = Scripted::greet(&network, &config()).await;
    for id in 1..=4 {
        peer.send(frame(FrameKind::Request, id, b"x")).await;
    }
    until(|| handler.running.load(Ordering::SeqCst) == 4).await;
    peer.send(Frame::bare(FrameKind::Cancel, 2)).await;
    peer.send(Frame::bare(FrameKind::Cancel, 99)).await;
    assert_eq!(ended.recv().await, Some(false));
    peer.send(frame(FrameKind::Request, 5, b"x")).await;
    until(|| handler.running.load(Ordering::SeqCst) == 4).await;
    handler.gate.add_permits(4);
    let mut answered = Vec::new();
    for _ in 0..4 {
        answered.push(peer.next().await.correlation_id);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3, 4, 5]);
    until(|| counters.snapshot().requests_in_service == 0).await;
}

#[tokio::test(start_paused = true)]
async fn one_id_for_two_requests_ends_the_connection_and_its_handlers() {
    let Served { network, handler, mut ended, counters, server: _server } = serve(0);
    let (mut peer, _) = Scripted::greet(&network, &config()).await;
    peer.send(frame(FrameKind::Request, 1, b"x")).await;
    until(|| handler.running.load(Ordering::SeqCst) == 1).await;
    peer.send(frame(FrameKind::Request, 1, b"y")).await;
    peer.closed().await;
    assert_eq!(ended.recv().await, Some(false));
    until(|| counters.snapshot().requests_in_service == 0).await;
    assert_eq!(counters.snapshot().decode_errors, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_and_one_that_never_greets_are_closed() {
    let Served { network, counters, server, .. } = serve(0);
    let start = Instant::now();
    let (mut peer, _) = Scripted::greet(&network, &config()).await;
    peer.closed().await;
    assert!(start.elapsed() <= config().silence_after + config().keepalive_interval);
    assert_eq!(counters.snapshot().connections_silent, 1);

    let start = Instant::now();
    let stream = crate::Network::connect(&network, "pipe").await.unwrap();
    until(|| server.connections() == 1).await;
    let mut stream = stream;
    let end = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 8]).await;
    assert_eq!((end.unwrap(), start.elapsed()), (0, config().handshake_timeout));
    assert_eq!(counters.snapshot().handshakes_refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_keepalive_comes_when_nothing_else_does() {
    let Served { network, server: _server, .. } = serve(0);
    let (mut peer, _) = Scripted::greet(&network, &config()).await;
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(peer.reader.next().await.unwrap().kind, FrameKind::KeepAlive);
        peer.send(Frame::bare(FrameKind::KeepAlive, 0)).await;
    }
    let interval = config().keepalive_interval;
    assert!((interval * 19..=interval * 21).contains(&start.elapsed()), "{:?}", start.elapsed());
}

/// Answers; every connection has a home.
struct AtHome(Handle);

impl Handler for AtHome {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        Response { kind: request.kind, control: request.control, payload: request.payload }
    }

    fn home(&self, _peer: Peer, lane: u8) -> Option<Handle> {
        (lane == 3).then(|| self.0.clone())
    }
}

fn serve_at_home(home: &Handle) -> (PipeNetwork, Server) {
    let (network, listener) = pipes(1 << 16);
    let server = Server::start(listener, AtHome(home.clone()), identity(2), config(), Arc::default()).unwrap();
    (network, server)
}

/// What a client of lane 3 says first.
async fn greeting() -> Vec<u8> {
    let (network, listener) = pipes(1 << 16);
    let hears = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 1024];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await.unwrap();
        bytes.truncate(read);
        bytes
    };
    let config = TransportConfig { lane: 3, ..config() };
    let client = client(network, &config, &Arc::default());
    client.connect();
    hears.await
}

#[tokio::test]
async fn what_is_read_beyond_the_greeting_is_not_lost_when_a_connection_moves() {
    let (network, _server) = serve_at_home(&Handle::current());
    let first = frame(FrameKind::Request, 1, b"x");
    let bytes = [&greeting().await[..], &first.header(u32::MAX).unwrap().encode(), b"x"].concat();
    let mut peer = Scripted::new(network.connect("pipe").await.unwrap());
    peer.send_bytes(&bytes).await;
    assert_eq!(peer.next().await.kind, FrameKind::Handshake);
    assert_eq!(peer.next().await.correlation_id, 1);
}

#[tokio::test(start_paused = true)]
async fn a_home_that_does_not_come_for_a_connection_holds_no_place() {
    // Nothing runs it.
    let home = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (network, server) = serve_at_home(home.handle());
    let mut peer = Scripted::new(network.connect("pipe").await.unwrap());
    peer.send_bytes(&greeting().await).await;
    assert_eq!(peer.next().await.kind, FrameKind::Handshake);
    peer.closed().await;
    until(|| server.connections() == 0).await;

    // A server that is dropped waits for nobody.
    let mut peer = Scripted::new(network.connect("pipe").await.unwrap());
    peer.send_bytes(&greeting().await).await;
    assert_eq!(peer.next().await.kind, FrameKind::Handshake);
    let dropped = Instant::now();
    drop(server);
    peer.closed().await;
    assert!(dropped.elapsed() < config().handshake_timeout);
    home.shutdown_background();
}
