//! Both sides of the handshake over a pipe, and what each must refuse.

use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::{connection::Activity, counters::Counters};

const LANE: u8 = 7;

fn identity(cluster_id: &str, broker_id: u32) -> Identity {
    Identity {
        cluster_id: cluster_id.to_owned(),
        broker_id: BrokerId(broker_id),
        incarnation: 10 + u64::from(broker_id),
    }
}

async fn client(stream: DuplexStream, identity: Identity, expected: u32) -> Result<Agreed, HandshakeError> {
    let (activity, counters) = (Activity::default(), Counters::default());
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(reader, &activity, &counters);
    let config =
        TransportConfig { window_requests: 8, frame_bytes_max: 5000, lane: LANE, ..TransportConfig::default() };
    greet(&mut reader, &mut writer, &identity, BrokerId(expected), &config).await
}

async fn server(stream: DuplexStream, draining: bool) -> Result<Agreed, HandshakeError> {
    let (activity, counters) = (Activity::default(), Counters::default());
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(reader, &activity, &counters);
    let config = TransportConfig { frame_bytes_max: 7000, ..TransportConfig::default() };
    receive(&mut reader, &mut writer, &identity("c", 2), draining, &config).await
}

async fn both(who: Identity, expected: u32, draining: bool) -> (Result<Agreed, HandshakeError>, HandshakeError) {
    let (one, other) = duplex(1 << 12);
    let (client, server) = tokio::join!(client(one, who, expected), server(other, draining));
    (client, server.err().unwrap_or(HandshakeError::Timeout))
}

/// What the server answers to these bytes before it closes.
async fn raw(bytes: &[u8]) -> (HandshakeError, Vec<u8>) {
    let (mut one, other) = duplex(1 << 12);
    let speak = async move {
        one.write_all(bytes).await.unwrap();
        one.shutdown().await.unwrap();
        let mut answer = Vec::new();
        one.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (answer, served) = tokio::join!(speak, server(other, false));
    (served.unwrap_err(), answer)
}

async fn handshake_frame(control: Vec<u8>) -> Vec<u8> {
    let control = Bytes::from(control);
    let frame = Frame {
        kind: FrameKind::Handshake,
        body_kind: KIND_HELLO,
        correlation_id: 0,
        control,
        payload: Payload::empty(),
    };
    [&frame.header(HANDSHAKE_BYTES_MAX).unwrap().encode()[..], &frame.control].concat()
}

#[tokio::test]
async fn both_learn_who_the_other_is_and_what_it_takes() {
    let (one, other) = duplex(1 << 12);
    let (client, server) = tokio::join!(client(one, identity("c", 1), 2), server(other, false));
    let (client, server) = (client.unwrap(), server.unwrap());
    assert_eq!((client.peer, client.incarnation, client.peer_frame_bytes_max), (BrokerId(2), 12, 7000));
    assert_eq!((client.window_requests, server.window_requests), (8, 256), "the smaller window counts");
    assert_eq!((server.peer, server.incarnation, server.peer_frame_bytes_max), (BrokerId(1), 11, 5000));
}

#[tokio::test]
async fn strangers_are_told_why() {
    for (who, expected, draining, refusal) in [
        (identity("other", 1), 2, false, HandshakeRefusal::WrongCluster),
        (identity("c", 1), 3, false, HandshakeRefusal::WrongPeer { actual: BrokerId(2) }),
        (identity("c", 1), 2, true, HandshakeRefusal::Draining),
    ] {
        let (client, server) = both(who, expected, draining).await;
        assert_eq!(client, Err(HandshakeError::Refused(refusal.clone())));
        assert_eq!(server, HandshakeError::Refused(refusal));
    }
}

#[tokio::test]
async fn a_server_is_told_the_lane_and_does_without_it() {
    let (one, other) = duplex(1 << 12);
    let (agreed, told) = tokio::join!(client(one, identity("c", 1), 2), server(other, false));
    assert_eq!((agreed.unwrap().lane, told.unwrap().lane), (LANE, LANE));

    let (mut one, other) = duplex(1 << 12);
    one.write_all(&handshake_frame(hello(1, 1)).await).await.unwrap();
    assert_eq!(server(other, false).await.unwrap().lane, 0);
}

/// As a broker wrote it that knew no lanes.
fn hello(version_min: u16, version_max: u16) -> Vec<u8> {
    let hello = Hello {
        magic: MAGIC,
        version_min,
        version_max,
        cluster_id: "c".to_owned(),
        broker_id: BrokerId(1),
        incarnation: 1,
        expected_peer: BrokerId(2),
        frame_bytes_max: 5000,
    };
    postcard::to_stdvec(&hello).unwrap()
}

#[tokio::test]
async fn a_later_version_is_understood_as_far_as_it_has_to_be() {
    let hello = |version_min: u16, version_max: u16| {
        let mut control = hello(version_min, version_max);
        control.extend_from_slice(b"a field of version 9");
        control
    };
    let (error, answer) = raw(&handshake_frame(hello(2, 9)).await).await;
    let refusal = HandshakeRefusal::UnknownVersion { min: 1, max: 1 };
    assert_eq!(error, HandshakeError::Refused(refusal.clone()));
    assert_eq!(parse::<HandshakeRefusal>(&Bytes::copy_from_slice(&answer[28..])), Ok(refusal));

    let (mut one, other) = duplex(1 << 12);
    one.write_all(&handshake_frame(hello(1, 9)).await).await.unwrap();
    assert_eq!(server(other, false).await.map(|agreed| agreed.peer), Ok(BrokerId(1)));
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_gets_no_answer() {
    let http = b"GET / HTTP/1.1\r\nHost: broker.example\r\n\r\n".to_vec();
    let other_magic = handshake_frame(b"PUBG2RPC\x01\x01".to_vec()).await;
    let too_short = handshake_frame(MAGIC.to_vec()).await;
    let mut large = Frame::bare(FrameKind::Handshake, 0).header(HANDSHAKE_BYTES_MAX).unwrap();
    large.body_bytes = 1 << 20;
    for bytes in [http, other_magic, too_short, large.encode().to_vec()] {
        let (error, answer) = raw(&bytes).await;
        assert!(matches!(error, HandshakeError::NotUnderstood(_)), "{error}");
        assert!(answer.is_empty());
    }
    let request = Frame::bare(FrameKind::Request, 1).header(HANDSHAKE_BYTES_MAX).unwrap();
    assert!(matches!(raw(&request.encode()).await.0, HandshakeError::NotUnderstood(_)));
    assert_eq!(raw(b"PUB").await.0, HandshakeError::Io(io::ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn a_server_that_is_somebody_else_is_not_trusted() {
    let (one, mut other) = duplex(1 << 12);
    let welcome = Welcome {
        version: 1,
        broker_id: BrokerId(7),
        incarnation: 1,
        frame_bytes_max: 1,
        window_requests: 1,
        window_bytes: 1,
    };
    write(&mut other, KIND_WELCOME, &welcome).await.unwrap();
    assert_eq!(client(one, identity("c", 1), 2).await, Err(HandshakeError::WrongPeer(BrokerId(7))));
    let (one, mut other) = duplex(1 << 12);
    write(&mut other, KIND_WELCOME, &Welcome { version: 3, broker_id: BrokerId(2), ..welcome }).await.unwrap();
    assert_eq!(client(one, identity("c", 1), 2).await, Err(HandshakeError::WrongVersion(3)));
}
