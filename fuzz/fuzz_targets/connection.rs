//! A whole server connection, fed by anybody: it ends when the stream ends, and nothing panics or stays behind.
//!
//! Run with `cargo +nightly fuzz run connection fuzz/corpus/connection fuzz/seeds/connection`. The input is a script:
//! each step is a byte that says what, a length, and so many bytes. Steps are a greeting that is right, frames with
//! right checksums of any kind and id, greetings whose content is the fuzzer's, and raw bytes.

#![no_main]

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pubg1_model::BrokerId;
use pubg1_transport::{
    Counters, Handler, Identity, Listener, Payload, Peer, Request, Response, Server, TransportConfig,
    frame::{Frame, FrameKind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Mutex,
};

fuzz_target!(|input: &[u8]| {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(run(script(input)));
});

fn script(mut input: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some(([what, length, id], rest)) = input.split_first_chunk::<3>() {
        let (content, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        input = rest;
        match what {
            0 => {
                let hello = (*b"PUBG1RPC", 1_u16, 1_u16, "c", 1_u32, 1_u64, 2_u32, 2_000_u32);
                let control = postcard::to_stdvec(&hello).expect("encoded");
                put(&mut stream, FrameKind::Handshake, 1, 0, &control, &[]);
            }
            1..=7 => {
                let kind = FrameKind::from_wire(*what).expect("a kind");
                let (control, payload) = content.split_at(content.len() / 2);
                put(&mut stream, kind, u16::from(*length), u64::from(*id), control, payload);
            }
            8 => put(&mut stream, FrameKind::Handshake, 1, 0, &[b"PUBG1RPC", content].concat(), &[]),
            _ => stream.extend_from_slice(content),
        }
    }
    stream
}

fn put(stream: &mut Vec<u8>, kind: FrameKind, body_kind: u16, correlation_id: u64, control: &[u8], payload: &[u8]) {
    let payload = Payload::from(Bytes::copy_from_slice(payload));
    let control = Bytes::copy_from_slice(control);
    let frame = Frame { kind, body_kind, correlation_id, control, payload };
    stream.extend_from_slice(&frame.header(u32::MAX).expect("small").encode());
    stream.extend_from_slice(&frame.control);
    stream.extend_from_slice(&frame.payload.into_bytes());
}

async fn run(stream: Vec<u8>) {
    let (mut ours, theirs) = duplex(1 << 10);
    let counters = Arc::<Counters>::default();
    let config = TransportConfig {
        frame_bytes_max: 2_000,
        window_requests: 3,
        window_bytes: 3_000,
        ..TransportConfig::default()
    };
    let identity = Identity { cluster_id: "c".to_owned(), broker_id: BrokerId(2), incarnation: 1 };
    let server = Server::start(OneConnection(Mutex::new(Some(theirs))), Echo, identity, config, Arc::clone(&counters))
        .expect("a server");
    let (mut reader, mut writer) = tokio::io::split(&mut ours);
    let speak = async {
        // It fails when the server has closed already.
        writer.write_all(&stream).await.ok();
        writer.shutdown().await.ok();
    };
    let mut answer = Vec::new();
    tokio::join!(speak, async { reader.read_to_end(&mut answer).await.ok() });
    while server.connections() > 0 || counters.snapshot().requests_in_service > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counters.snapshot().handler_panics, 0);
}

struct OneConnection(Mutex<Option<DuplexStream>>);

impl Listener for OneConnection {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.lock().await.take() {
            Some(stream) => Ok((stream, self.local_address()?)),
            None => std::future::pending().await,
        }
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
    }
}

struct Echo;

impl Handler for Echo {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        if request.kind % 3 == 0 {
            tokio::task::yield_now().await;
        }
        if request.kind % 7 == 6 {
            // Until it is given up, or the connection ends.
            std::future::pending::<()>().await;
        }
        Response { kind: request.kind, control: request.control, payload: request.payload }
    }
}
