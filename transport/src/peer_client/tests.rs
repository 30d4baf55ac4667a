//! The client against a peer that does what the test says, in virtual time.

use std::time::Duration;

use bytes::Bytes;
use tokio::{io::AsyncReadExt, time::timeout};

use super::*;
use crate::{
    Backoff, Listener, Payload,
    frame::{Frame, FrameKind},
    testing::{Scripted, client, frame, identity, pipes, soon, until},
};

fn config() -> TransportConfig {
    TransportConfig { window_requests: 4, ..TransportConfig::default() }
}

fn request(payload: &'static [u8]) -> Request {
    Request { kind: 7, control: Bytes::new(), payload: Bytes::from_static(payload).into() }
}

fn asking(client: &PeerClient, payload: &'static [u8]) -> tokio::task::JoinHandle<Result<Response, RequestError>> {
    let client = client.clone();
    tokio::spawn(async move { client.request(request(payload), soon()).await })
}

const PEER: BrokerId = BrokerId(2);

#[tokio::test(start_paused = true)]
async fn answers_in_any_order_reach_who_asked() {
    let ((network, listener), counters) = (pipes(1 << 16), Arc::default());
    let client = client(network, &config(), &counters);
    let (first, second) = (asking(&client, b"first"), asking(&client, b"second"));
    let mut peer = Scripted::welcome(&listener, &config()).await;
    let asked = [peer.next().await, peer.next().await];
    for frame in asked.into_iter().rev() {
        peer.send(Frame { kind: FrameKind::Response, ..frame }).await;
    }
    assert_eq!(first.await.unwrap().unwrap().payload, Payload::from(Bytes::from_static(b"first")));
    assert_eq!(second.await.unwrap().unwrap().payload, Payload::from(Bytes::from_static(b"second")));
    assert_eq!(counters.snapshot().requests_in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_request_and_its_late_answer_is_dropped() {
    let ((network, listener), counters) = (pipes(1 << 16), Arc::default());
    let client = client(network, &config(), &counters);
    let peer = tokio::spawn(async move { Scripted::welcome(&listener, &config()).await });
    let deadline = Instant::now() + Duration::from_millis(300);
    let error = client.request(request(b"x"), deadline).await.unwrap_err();
    assert_eq!(error, RequestError::Timeout { peer: PEER, sent: true });
    assert!(error.may_have_been_handled());
    assert_eq!(Instant::now(), deadline, "neither earlier nor later");

    let mut peer = peer.await.unwrap();
    let asked = peer.next().await;
    let cancel = peer.next().await;
    assert_eq!((cancel.kind, cancel.correlation_id), (FrameKind::Cancel, asked.correlation_id));
    peer.send(Frame { kind: FrameKind::Response, ..asked }).await;
    until(|| counters.snapshot().late_answers == 1).await;
    let next = asking(&client, b"y");
    let asked = peer.next().await;
    peer.send(Frame { kind: FrameKind::Response, ..asked }).await;
    assert!(next.await.unwrap().is_ok(), "the connection goes on");
    assert_eq!(counters.snapshot().request_timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_is_waited_for_and_one_that_stops_is_not() {
    const PIECE: usize = 10_000;
    // Each piece comes well after the former, all of them long after the deadline.
    for (pieces, stops) in [(10, false), (3, true)] {
        let ((network, listener), counters) = (pipes(1 << 16), Arc::default());
        let client = client(network, &config(), &counters);
        let peer = tokio::spawn(async move { Scripted::welcome(&listener, &config()).await });
        let (now, pause) = (Instant::now(), Duration::from_millis(300));
        let asked = tokio::spawn(async move {
            let at_most = now + Duration::from_secs(60);
            client.request_while_arriving(request(b"x"), now + pause, pause, at_most).await
        });
        let mut peer = peer.await.unwrap();
        let id = peer.next().await.correlation_id;
        let answer = frame(FrameKind::Response, id, &[7; 10 * PIECE]);
        let header = answer.header(1 << 20).unwrap().encode();
        peer.send_bytes(&header).await;
        for _ in 0..pieces {
            // Time is virtual here: it passes at once.
            tokio::time::sleep_until(Instant::now() + pause - Duration::from_millis(100)).await;
            peer.send_bytes(&[7; PIECE]).await;
        }
        let answered = asked.await.unwrap();
        if stops {
            assert_eq!(answered, Err(RequestError::Timeout { peer: PEER, sent: true }));
            assert!(now.elapsed() < pause * 5, "{:?}", now.elapsed());
        } else {
            assert_eq!(answered.unwrap().payload.into_bytes().len(), 10 * PIECE);
            assert!(now.elapsed() > pause * 6, "{:?}", now.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_ends_the_connection_and_is_counted() {
    let garbage: &[&[u8]] = &[b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xff; 64]];
    let wrong = [FrameKind::Request, FrameKind::Handshake, FrameKind::Cancel];
    for case in 0..garbage.len() + wrong.len() {
        let ((network, listener), counters) = (pipes(1 << 16), Arc::default());
        let client = client(network, &config(), &counters);
        let asked = asking(&client, b"x");
        let mut peer = Scripted::welcome(&listener, &config()).await;
        peer.next().await;
        match garbage.get(case) {
            Some(bytes) => peer.send_bytes(bytes).await,
            None => peer.send(frame(wrong[case - garbage.len()], 1, b"")).await,
        }
        assert_eq!(asked.await.unwrap(), Err(RequestError::Disconnected { peer: PEER, sent: true }));
        assert_eq!(counters.snapshot().decode_errors, 1);
        Scripted::welcome(&listener, &config()).await;
        until(|| counters.snapshot().reconnects == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_too_large_ends_the_connection() {
    let ((network, listener), counters) = (pipes(1 << 16), Arc::default());
    let config = TransportConfig { frame_bytes_max: 2000, ..config() };
    let client = client(network, &config, &counters);
    let asked = asking(&client, b"x");
    let mut peer = Scripted::welcome(&listener, &config).await;
    let id = peer.next().await.correlation_id;
    peer.send(frame(FrameKind::Response, id, &[0; 2000])).await;
    assert_eq!(asked.await.unwrap(), Err(RequestError::Disconnected { peer: PEER, sent: true }));
    assert_eq!(counters.snapshot().decode_errors, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_given_up_while_queued_is_never_sent_but_counts_until_the_writer_has_passed_it() {
    // Too small a pipe for the first request: the writer is stuck in it.
    let ((network, listener), counters) = (pipes(256), Arc::default());
    let config = TransportConfig { window_requests: 2, ..config() };
    let client = client(network, &config, &counters);
    let first = asking(&client, &[1; 1000]);
    let mut peer = Scripted::welcome(&listener, &config).await;
    until(|| counters.snapshot().requests_in_flight == 1).await;
    let mut header = [0; 28];
    // The writer has begun: the rest of the frame does not fit.
    peer.reader_bytes(&mut header).await;
    let second = asking(&client, b"second");
    until(|| counters.snapshot().requests_in_flight == 2).await;
    second.abort();
    until(|| counters.snapshot().requests_in_flight == 1).await;
    let full = client.try_request(request(b"third"), soon()).await;
    assert!(matches!(full, Err(RequestError::WindowFull { requests_max: 2, .. })), "{full:?}");

    let mut body = [0; 1000];
    peer.reader_bytes(&mut body).await;
    assert_eq!(body, [1; 1000]);
    let third = asking(&client, b"third");
    let asked = peer.next().await;
    assert_eq!(asked.payload, Payload::from(Bytes::from_static(b"third")));
    peer.send(Frame { kind: FrameKind::Response, ..asked }).await;
    assert!(third.await.unwrap().is_ok());
    first.abort();
    assert_eq!(counters.snapshot().window_full, 1);
}

impl Scripted {
    /// Raw bytes, before any frame was read after the handshake.
    async fn reader_bytes(&mut self, bytes: &mut [u8]) {
        self.reader.stream_mut().read_exact(bytes).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_unreachable_and_a_talking_one_is_not() {
    let ((network, listener), counters) = (pipes(1 << 16), Arc::<Counters>::default());
    let config = config();
    let client = client(network, &config, &counters);
    let mut state = client.state();
    client.connect();
    let mut peer = Scripted::welcome(&listener, &config).await;
    state.wait_for(|state| matches!(state, PeerState::Connected { incarnation: 102, .. })).await.unwrap();
    let connected = Instant::now();
    // Each keepalive of the client is answered by one, for a hundred times the silence.
    while connected.elapsed() < config.silence_after * 100 {
        assert_eq!(peer.reader.next().await.unwrap().kind, FrameKind::KeepAlive);
        peer.send(Frame::bare(FrameKind::KeepAlive, 0)).await;
    }
    assert!(matches!(*state.borrow(), PeerState::Connected { .. }));

    let asked = asking(&client, b"x");
    let quiet_since = Instant::now();
    state.wait_for(|state| matches!(state, PeerState::Unreachable { .. })).await.unwrap();
    let noticed = quiet_since.elapsed();
    assert!(noticed >= config.silence_after - config.keepalive_interval, "{noticed:?}");
    assert!(noticed <= config.silence_after + config.keepalive_interval, "{noticed:?}");
    assert_eq!(asked.await.unwrap(), Err(RequestError::Disconnected { peer: PEER, sent: true }));
    let error = client.request(request(b"y"), soon()).await.unwrap_err();
    assert_eq!(error, RequestError::Unreachable { peer: PEER });
    assert!(!error.may_have_been_handled());
    assert_eq!(counters.snapshot().connections_silent, 1);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_cut_off() {
    let ((network, listener), counters) = (pipes(256), Arc::<Counters>::default());
    let config = TransportConfig { write_stall_after: Duration::from_secs(3), ..config() };
    let client = client(network, &config, &counters);
    let asked = asking(&client, &[1; 1000]);
    let mut peer = Scripted::welcome(&listener, &config).await;
    let talking = async {
        loop {
            peer.send(Frame::bare(FrameKind::KeepAlive, 0)).await;
            tokio::time::advance(config.keepalive_interval).await;
        }
    };
    let mut state = client.state();
    tokio::select! {
        biased;
        seen = state.wait_for(|state| matches!(state, PeerState::Unreachable { .. })) => assert!(seen.is_ok()),
        () = talking => {}
    }
    assert_eq!(asked.await.unwrap(), Err(RequestError::Disconnected { peer: PEER, sent: true }));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_away_still_answers_what_it_has() {
    let ((network, listener), counters) = (pipes(1 << 16), Arc::default());
    let client = client(network, &config(), &counters);
    let asked = asking(&client, b"x");
    let mut peer = Scripted::welcome(&listener, &config()).await;
    let frame = peer.next().await;
    peer.send(Frame::bare(FrameKind::GoAway, 0)).await;
    let mut state = client.state();
    state.wait_for(|state| matches!(state, PeerState::Draining { .. })).await.unwrap();
    let error = client.request(request(b"y"), soon()).await.unwrap_err();
    assert_eq!(error, RequestError::Draining { peer: PEER });
    drop(listener);
    peer.send(Frame { kind: FrameKind::Response, ..frame }).await;
    assert!(asked.await.unwrap().is_ok());
    peer.closed().await;
    state.wait_for(|state| matches!(state, PeerState::Refused { .. })).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn attempts_wait_longer_and_longer_and_are_the_same_for_a_seed() {
    let backoff = Backoff { base: Duration::from_millis(50), max: Duration::from_secs(1) };
    let config = TransportConfig { backoff, ..config() };
    let attempts = |seed| {
        let config = config.clone();
        async move {
            let (network, listener) = pipes(1 << 10);
            let counters = Arc::<Counters>::default();
            let client = PeerClient::new(network, PEER, "pipe", identity(1), config, Arc::clone(&counters), seed);
            client.connect();
            let start = Instant::now();
            let mut times = Vec::new();
            for _ in 0..10 {
                // Each attempt is accepted and dropped at once, in the handshake.
                drop(listener.accept().await.unwrap());
                times.push(start.elapsed());
            }
            assert!(counters.snapshot().connects_failed >= 9);
            times
        }
    };
    let times = attempts(1).await;
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (failures, wait) in waits.iter().enumerate() {
        let full = (backoff.base * (1 << failures)).min(backoff.max);
        // The clock of the test has millisecond steps.
        assert!(*wait >= full / 2 && *wait <= full + Duration::from_millis(1), "wait {failures}: {wait:?}");
    }
    assert_eq!(times, attempts(1).await);
    assert_ne!(times, attempts(2).await);
}

#[tokio::test(start_paused = true)]
async fn who_has_heard_that_the_peer_is_back_need_not_wait() {
    let backoff = Backoff { base: Duration::from_secs(100), max: Duration::from_secs(100) };
    let config = TransportConfig { backoff, ..config() };
    let (network, listener) = pipes(1 << 16);
    let client = client(network, &config, &Arc::default());
    client.connect();
    drop(listener.accept().await.unwrap());
    let mut state = client.state();
    state.wait_for(|state| matches!(state, PeerState::Unreachable { .. })).await.unwrap();
    let start = Instant::now();
    client.connect();
    Scripted::welcome(&listener, &config).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_accepts_and_says_nothing_is_unreachable() {
    let ((network, _listener), counters) = (pipes(1 << 16), Arc::default());
    let client = client(network, &config(), &counters);
    let start = Instant::now();
    let error = client.request(request(b"x"), soon()).await.unwrap_err();
    assert_eq!(error, RequestError::Unreachable { peer: PEER });
    assert_eq!(start.elapsed(), config().handshake_timeout);
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_fails_what_is_in_flight_and_what_comes() {
    let ((network, listener), counters) = (pipes(1 << 16), Arc::default());
    let client = client(network, &config(), &counters);
    let asked = asking(&client, b"x");
    let mut peer = Scripted::welcome(&listener, &config()).await;
    peer.next().await;
    client.close();
    assert_eq!(asked.await.unwrap(), Err(RequestError::Disconnected { peer: PEER, sent: true }));
    assert_eq!(client.request(request(b"y"), soon()).await, Err(RequestError::Closed { peer: PEER }));
    assert_eq!(*client.state().borrow(), PeerState::Closed);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn reserved_kinds_and_oversize_requests_are_refused_here() {
    let ((network, listener), counters) = (pipes(1 << 16), Arc::default());
    let client = client(network, &config(), &counters);
    let small = TransportConfig { frame_bytes_max: 2000, ..config() };
    let peer = tokio::spawn(async move { Scripted::welcome(&listener, &small).await });
    let reserved = Request { kind: 0xff00, ..Request::default() };
    let error = client.request(reserved, soon()).await.unwrap_err();
    assert_eq!(error, RequestError::ReservedKind { kind: 0xff00 });
    let error = client.request(request(&[0; 1973]), soon()).await.unwrap_err();
    assert_eq!(error, RequestError::TooLarge { peer: PEER, frame_bytes: 2001, frame_bytes_max: 2000 });
    assert!(error.is_misconfiguration());
    let fits = asking(&client, &[0; 1972]);
    let mut peer = peer.await.unwrap();
    assert!(timeout(Duration::from_secs(1), peer.next()).await.is_ok());
    fits.abort();
}
