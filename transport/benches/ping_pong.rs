//! Requests and answers over the transport beside plain TCP, in the same run, on the same machine.
//!
//! Two threads each: one serves, one asks. Plain TCP is blocking `std::net` with buffers that are used again, which is
//! as little work as the same bytes can be moved with. The last lines are the ratios.

#![allow(clippy::print_stdout, reason = "a bench reports on the terminal")]
#![allow(clippy::expect_used, reason = "a bench ends when its own sockets fail")]

use std::{
    hint::black_box,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use pubg1_model::BrokerId;
use pubg1_transport::{
    Counters, Handler, Identity, Network, Peer, PeerClient, Request, Response, Server, TokioNetwork, TransportConfig,
};

const KIND_ECHO: u16 = 1;
const KIND_FETCH: u16 = 2;
const KIND_PRODUCE: u16 = 3;

const BATCH_BYTES: usize = 256 << 10;
const BATCH_WINDOW: usize = 8;
const MEASURED: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

struct Bench {
    batch: Bytes,
}

impl Handler for Bench {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let Request { kind, control, payload } = request;
        match kind {
            KIND_FETCH => Response { kind, control, payload: self.batch.clone().into() },
            KIND_PRODUCE => Response { kind, control, ..Response::default() },
            _ => Response { kind, control, payload },
        }
    }
}

fn identity(broker_id: u32) -> Identity {
    Identity { cluster_id: "bench".to_owned(), broker_id: BrokerId(broker_id), incarnation: 1 }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A server on a thread of its own, until the returned sender is dropped.
fn serve() -> (SocketAddr, tokio::sync::oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (address, started) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TokioNetwork.bind("127.0.0.1:0").await.expect("a free port");
            let handler = Bench { batch: Bytes::from(vec![7; BATCH_BYTES]) };
            let (config, counters) = (TransportConfig::default(), Arc::new(Counters::default()));
            let server = Server::start(listener, handler, identity(2), config, counters).expect("a server");
            address.send(server.local_address()).expect("the bench waits");
            stopped.await.ok();
        });
    });
    (started.recv().expect("the server starts"), stop, thread)
}

/// Requests answered per second, `window` at a time.
fn requests_per_second(address: SocketAddr, kind: u16, payload_bytes: usize, window: usize) -> f64 {
    runtime().block_on(async move {
        let (config, counters) = (TransportConfig::default(), Arc::new(Counters::default()));
        let client = PeerClient::new(TokioNetwork, BrokerId(2), address.to_string(), identity(1), config, counters, 1);
        let payload = Bytes::from(vec![7; payload_bytes]);
        let control = Bytes::from_static(&[0; 24]);
        let ask = move |client: PeerClient| {
            let request = Request { kind, control: control.clone(), payload: payload.clone().into() };
            async move {
                let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
                black_box(client.request(request, deadline).await.expect("an answer"));
            }
        };
        ask(client.clone()).await;
        let start = Instant::now();
        let callers: Vec<_> = (0..window)
            .map(|_| {
                let (client, ask) = (client.clone(), ask.clone());
                async move {
                    let mut asked = 0_u32;
                    while start.elapsed() < MEASURED {
                        ask(client.clone()).await;
                        asked += 1;
                    }
                    asked
                }
            })
            .collect();
        let mut answered = 0;
        let tasks: Vec<_> = callers.into_iter().map(|caller| tokio::spawn(caller)).collect();
        for task in tasks {
            answered += task.await.expect("a caller");
        }
        f64::from(answered) / start.elapsed().as_secs_f64()
    })
}

/// The same bytes there and back over plain TCP, one message at a time.
fn plain_ping_pongs_per_second(bytes: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let mut buffer = vec![0; bytes];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer).expect("written");
        }
    });
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_nodelay(true).expect("no delay");
    let mut buffer = vec![7; bytes];
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < MEASURED {
        stream.write_all(&buffer).expect("written");
        stream.read_exact(&mut buffer).expect("echoed");
        count += 1;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    drop(stream);
    echo.join().expect("the echo ends");
    rate
}

/// Batches per second that plain TCP copies one way: the faster of small and of large reads.
fn plain_copies_per_second(bytes: usize) -> f64 {
    let by_read_size = [64 << 10, bytes].map(|read_bytes| copied_bytes_per_second(bytes, read_bytes));
    by_read_size[0].max(by_read_size[1]) / bytes as f64
}

fn copied_bytes_per_second(bytes: usize, read_bytes: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let source = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let buffer = vec![7; bytes];
        while stream.write_all(&buffer).is_ok() {}
    });
    let mut stream = TcpStream::connect(address).expect("connected");
    let mut buffer = vec![0; read_bytes];
    let (start, mut copied) = (Instant::now(), 0);
    while start.elapsed() < MEASURED {
        copied += stream.read(&mut buffer).expect("copied");
        black_box(&buffer);
    }
    let rate = copied as f64 / start.elapsed().as_secs_f64();
    drop(stream);
    source.join().expect("the source ends");
    rate
}

/// Rates of both and their ratio: the middle of `ROUNDS` rounds of each. In a round one follows the other, so that
/// they see the same machine.
fn compared(ours: impl Fn() -> f64, plain: impl Fn() -> f64) -> (f64, f64, f64) {
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (ours(), plain())).collect();
    let middle = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    (middle(&|round| round.0), middle(&|round| round.1), middle(&|round| round.0 / round.1))
}

fn main() {
    let (address, stop, server) = serve();
    println!("{:<34}{:>14}{:>14}{:>9}", "", "transport", "plain TCP", "ratio");
    for (name, bytes) in [("128 B", 128), ("1 KiB", 1 << 10), ("16 KiB", 16 << 10)] {
        for window in [1, 64, 256] {
            let (ours, plain, ratio) = compared(
                || requests_per_second(address, KIND_ECHO, bytes, window),
                || plain_ping_pongs_per_second(bytes),
            );
            let what = format!("echo {name}, {window} in flight");
            println!("{what:<34}{ours:>12.0}/s{plain:>12.0}/s{ratio:>9.2}");
        }
    }
    for (name, kind, request_bytes) in [("fetch", KIND_FETCH, 0), ("produce", KIND_PRODUCE, BATCH_BYTES)] {
        let (ours, plain, ratio) = compared(
            || requests_per_second(address, kind, request_bytes, BATCH_WINDOW),
            || plain_copies_per_second(BATCH_BYTES),
        );
        let mib = 0.25;
        let what = format!("{name} 256 KiB, {BATCH_WINDOW} in flight / copy");
        println!("{what:<34}{:>8.0} MiB/s{:>8.0} MiB/s{ratio:>9.2}", ours * mib, plain * mib);
    }
    drop(stop);
    server.join().expect("the server ends");
}
