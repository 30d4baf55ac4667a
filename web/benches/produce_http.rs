//! Produce over HTTP beside its limit, in one run and with the same client.
//!
//! | | measured | limit |
//! |---|---|---|
//! | raw | `POST …/batches`, one batch of 16 records of 1 KiB (16 KiB is what Kafka's producers fill by default), and of 100 | a handler that only reads the same bodies |
//! | single | `POST /publish`, one JSON object a request | a handler that only parses the same JSON |
//!
//! The client is a closed loop: threads with keep-alive connections over plain TCP, one request
//! in flight on each connection. Rounds alternate, so that both sides see the same machine; the
//! best round of each counts. Each round of the log has a topic of its own, which is deleted after
//! it: otherwise the log would grow into memory that was never used before, whose first use costs
//! more than everything else where the machine is virtual. The log flushes at an interval. Beside each rate stands the processor
//! time of a request, client included, which other work on the machine disturbs less.

use std::{
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use pubg1_actors::{Broker, BrokerConfig, FlushPolicy};
use pubg1_metrics::Metrics;
use pubg1_model::{
    BrokerId,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord},
};
use pubg1_web::{AppState, Limits, serve};
use serde_json::value::RawValue;

type Failure = Box<dyn Error + Send + Sync>;

const CLIENT_THREADS: usize = 2;
const CONNECTIONS_PER_THREAD: usize = 16;
const PARTITIONS: usize = 4;
const ROUNDS: usize = 4;
const RAW_REQUESTS: usize = 40_000;
const LARGE_REQUESTS: usize = 8_000;
const SINGLE_REQUESTS: usize = 120_000;

/// One kind of request, and both places to send it to.
struct Case {
    name: &'static str,
    aim: f64,
    requests: usize,
    /// Where a connection sends its requests; `TOPIC` stands for the round's topic.
    path: fn(usize) -> String,
    limit_path: &'static str,
    content_type: &'static str,
    body: Box<dyn Fn(usize) -> Vec<u8> + Send>,
}

impl Case {
    /// A whole request for each connection.
    fn requests(&self, path: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
        (0..CONNECTIONS_PER_THREAD).map(|n| request("POST", &path(n), self.content_type, &(self.body)(n))).collect()
    }
}

fn request(method: &str, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn raw_case(name: &'static str, records: usize, requests: usize) -> Result<Case, Failure> {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![b'v'; 1024];
    for _ in 0..records {
        builder.push(&NewRecord { timestamp_ms: 1, value: Some(&value), ..NewRecord::default() })?;
    }
    let batch = builder.finish(None)?.bytes().to_vec();
    Ok(Case {
        name,
        aim: 0.5,
        requests,
        path: |n| format!("/topics/TOPIC/partitions/{}/batches", n % PARTITIONS),
        limit_path: "/read",
        content_type: "application/octet-stream",
        body: Box::new(move |_| batch.clone()),
    })
}

fn single_case() -> Case {
    let body = |n: usize| {
        let object = format!(
            "{{\"partition\":{},\"key\":\"customer-{n}\",\"value\":{{\"order\":{n},\"item\":\"a thing of some kind\",\
             \"price\":12.50,\"note\":\"left at the door\"}},\"client_ts\":1767225600.125}}",
            n % PARTITIONS
        );
        object.into_bytes()
    };
    Case {
        name: "single records",
        aim: 0.4,
        requests: SINGLE_REQUESTS,
        // Without a topic it is the default one.
        path: |_| "/publish".to_owned(),
        limit_path: "/parse",
        content_type: "application/json",
        body: Box::new(body),
    }
}

/// One connection of the client.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024] })
    }

    /// Sends a request and reads its reply.
    fn exchange(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request)?;
        self.reply()
    }

    /// Reads one reply and checks that it is a success.
    fn reply(&mut self) -> Result<(), Failure> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            filled += read;
            let text = std::str::from_utf8(&self.buffer[..filled])?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if head.starts_with("HTTP/1.1 204 ") {
                return Ok(());
            }
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
            });
            if body.len() < length.ok_or("a reply without length")? {
                continue;
            }
            return if head.starts_with("HTTP/1.1 20") { Ok(()) } else { Err(text.to_owned().into()) };
        }
    }
}

/// Sends `count` requests from all threads; answers how long that took.
fn run(address: SocketAddr, requests: &[Vec<u8>], count: usize) -> Result<Duration, Failure> {
    let per_connection = count / CLIENT_THREADS / CONNECTIONS_PER_THREAD;
    let barrier = Barrier::new(CLIENT_THREADS + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENT_THREADS)
            .map(|_| {
                scope.spawn(|| -> Result<(), Failure> {
                    let connections =
                        requests.iter().map(|_| Connection::open(address)).collect::<io::Result<Vec<_>>>();
                    barrier.wait();
                    let mut connections = connections?;
                    for _ in 0..per_connection {
                        for (connection, request) in connections.iter_mut().zip(requests) {
                            connection.stream.write_all(request)?;
                        }
                        for connection in &mut connections {
                            connection.reply()?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        barrier.wait();
        let started = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a client thread panicked")??;
        }
        Ok(started.elapsed())
    })
}

/// Processor time of this process so far, in seconds.
fn processor_seconds() -> Result<f64, Failure> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no process name in /proc/self/stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// The best round so far.
#[derive(Clone, Copy)]
struct Best {
    seconds: f64,
    processor_seconds: f64,
}

impl Best {
    fn improve(&mut self, other: Self) {
        self.seconds = self.seconds.min(other.seconds);
        self.processor_seconds = self.processor_seconds.min(other.processor_seconds);
    }
}

/// Sends the requests of one round to a topic of its own.
fn run_on_fresh_topic(case: &Case, round: usize, broker: SocketAddr) -> Result<Best, Failure> {
    let topic = format!("round-{round}");
    let mut admin = Connection::open(broker)?;
    let create = format!("{{\"topic_name\":\"{topic}\",\"partitions_count\":{PARTITIONS}}}");
    admin.exchange(&request("POST", "/admin/topics", "application/json", create.as_bytes()))?;
    let requests = case.requests(|n| (case.path)(n).replace("TOPIC", &topic));
    let best = measure(broker, &requests, case.requests)?;
    admin.exchange(&request("DELETE", &format!("/admin/topics/{topic}"), "application/json", b""))?;
    Ok(best)
}

fn measure(address: SocketAddr, requests: &[Vec<u8>], count: usize) -> Result<Best, Failure> {
    let before = processor_seconds()?;
    let seconds = run(address, requests, count)?.as_secs_f64();
    Ok(Best { seconds, processor_seconds: processor_seconds()? - before })
}

/// Alternates rounds and prints the best of each.
fn compare(case: &Case, broker: SocketAddr, limit: SocketAddr) -> Result<(), Failure> {
    let mut best = [Best { seconds: f64::MAX, processor_seconds: f64::MAX }; 2];
    let limit_requests = case.requests(|_| case.limit_path.to_owned());
    for round in 0..ROUNDS {
        best[0].improve(run_on_fresh_topic(case, round, broker)?);
        best[1].improve(measure(limit, &limit_requests, case.requests)?);
    }
    #[allow(clippy::cast_precision_loss, reason = "counts are small")]
    let (count, bytes) = (case.requests as f64, (case.body)(0).len() as f64);
    let show = |best: Best| {
        let rate = count / best.seconds;
        let cost = best.processor_seconds / count * 1e6;
        format!("{rate:7.0}/s {:7.1} MB/s {cost:5.1} us", rate * bytes / 1e6)
    };
    let [measured, limit] = best;
    let ratio = limit.seconds / measured.seconds;
    let verdict = if ratio >= case.aim { "met" } else { "missed" };
    print_line(&format!(
        "{:14} {}   limit {}   ratio {ratio:.2} (aim {:.2}: {verdict}), of processor time {:.2}",
        case.name,
        show(measured),
        show(limit),
        case.aim,
        limit.processor_seconds / measured.processor_seconds,
    ))
}

fn print_line(line: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// What parsing has to find, and nothing else: the least a handler can do with the object.
#[derive(serde::Deserialize)]
struct Parsed<'a> {
    partition: u32,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    client_ts: Option<&'a RawValue>,
}

async fn read_only(body: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(format!("{{\"bytes\":{}}}", body.len()))
}

async fn parse_only(body: web::Bytes) -> HttpResponse {
    match serde_json::from_slice::<Parsed<'_>>(&body) {
        Ok(parsed) => {
            let seen = usize::from(parsed.key.is_some()) + usize::from(parsed.client_ts.is_some());
            let reply = format!("{{\"partition\":{},\"seen\":{seen}}}", parsed.partition);
            HttpResponse::Ok().content_type("application/json").body(reply)
        }
        Err(error) => HttpResponse::BadRequest().body(error.to_string()),
    }
}

async fn bench() -> Result<(), Failure> {
    let limits = Limits::default();
    let directory = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let broker_address = listener.local_addr()?;
    let mut config = BrokerConfig::new(BrokerId(0), directory.path(), format!("http://{broker_address}"));
    config.flush = FlushPolicy::Interval { ms: 1000 };
    let broker = Broker::start(config, Metrics::new()?)?;
    let server = serve(vec![listener], AppState::new(broker.clone(), limits.clone(), broker_address.port()))?;
    let handle = server.handle();
    actix_rt::spawn(server);

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let limit_address = listener.local_addr()?;
    let limit = HttpServer::new(|| {
        App::new()
            .app_data(web::PayloadConfig::new(16 << 20))
            .route("/read", web::post().to(read_only))
            .route("/parse", web::post().to(parse_only))
    })
    .workers(limits.workers)
    .disable_signals()
    .listen(listener)?
    .run();
    let limit_handle = limit.handle();
    actix_rt::spawn(limit);

    while !broker.readiness().is_ready() {
        tokio::task::yield_now().await;
    }
    // An argument picks the cases whose names contain it.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut cases =
        vec![raw_case("raw 16 KiB", 16, RAW_REQUESTS)?, raw_case("raw 100 KiB", 100, LARGE_REQUESTS)?, single_case()];
    cases.retain(|case| case.name.contains(&wanted));
    let compared =
        web::block(move || cases.iter().try_for_each(|case| compare(case, broker_address, limit_address))).await;
    limit_handle.stop(false).await;
    handle.stop(false).await;
    let report = broker.drain(Duration::from_secs(30)).await;
    if !report.is_complete() {
        return Err(format!("not closed in time: {:?}", report.unfinished).into());
    }
    compared?
}

fn main() -> Result<(), Failure> {
    // `cargo test --benches` only wants to know that this builds.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    actix_rt::System::new().block_on(bench())
}
