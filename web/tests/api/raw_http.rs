//! Bytes that no well-behaved client sends. After each the next client must be served, and no
//! byte of a body may be taken for a request.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::harness::Api;

/// A broker that gives up soon on connections on which nothing comes.
async fn impatient() -> Api {
    Api::start_with(|_, limits| {
        limits.body_bytes_max = 100;
        limits.body_stall_timeout = Duration::from_millis(100);
        limits.keep_alive = Duration::from_secs(1);
    })
    .await
}

/// Sends `request` and reads everything that comes back until the broker hangs up. Runs on a
/// thread of its own, because it blocks.
async fn exchange(address: &str, request: &[u8]) -> String {
    let (address, request) = (address.to_owned(), request.to_vec());
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // The broker may hang up before everything was sent.
        stream.write_all(&request).unwrap_or_default();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).map(drop).unwrap_or_default();
        String::from_utf8_lossy(&reply).into_owned()
    };
    actix_web::web::block(exchange).await.unwrap()
}

fn statuses(reply: &str) -> Vec<&str> {
    reply.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect()
}

const SMUGGLED: &str = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"partition\":3}";

#[actix_rt::test]
async fn ambiguous_lengths_never_smuggle_a_request() {
    let api = impatient().await;
    let size = SMUGGLED.len();
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nContent-Length: 5".to_owned(),
        "Content-Length: 5\r\nContent-Length: 6".to_owned(),
        format!("Content-Length: 0\r\nContent-Length: {size}"),
        "Content-Length: +5".to_owned(),
        "Content-Length: -5".to_owned(),
        "Content-Length: 5, 5".to_owned(),
        "Content-Length: 0x5".to_owned(),
        "Content-Length: 99999999999999999999".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Transfer-Encoding: identity, chunked".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        " Transfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Content-Length : 5".to_owned(),
        "X: a\rContent-Length: 5".to_owned(),
        "X: a\0b".to_owned(),
    ] {
        let request = format!("POST /publish HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n0\r\n\r\n{SMUGGLED}");
        let reply = exchange(&api.address, request.as_bytes()).await;
        let first = statuses(&reply).first().copied();
        assert!(first.is_none_or(|status| status.starts_with('4')), "{head}: {reply}");
        assert_eq!(api.get("/loglen?partition=3").await.ok()["length"], 0, "{head}: {reply}");
    }
    api.stop().await;
}

#[actix_rt::test]
async fn broken_chunks_and_requests_end_the_connection() {
    let api = impatient().await;
    let chunked = "POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for request in [
        format!("{chunked}zz\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{chunked}-1\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{chunked}ffffffffffffffffff\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{chunked}2\r\n{{}}XX0\r\n\r\n{SMUGGLED}"),
        "GET /health\r\n\r\n".to_owned(),
        "GET /health HTTP/9.9\r\n\r\n".to_owned(),
        "GET  /health HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(200)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(200_000)),
        format!("GET /health HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "x".repeat(200_000)),
    ] {
        let reply = exchange(&api.address, request.as_bytes()).await;
        let shown = &request[..request.len().min(80)];
        assert!(statuses(&reply).first().is_none_or(|status| status.starts_with('4')), "{shown:?}: {reply}");
        assert_eq!(api.get("/loglen?partition=3").await.ok()["length"], 0, "{shown:?}");
    }
    api.stop().await;
}

#[actix_rt::test]
async fn refused_bodies_do_not_poison_the_connection() {
    let api = impatient().await;
    // The body of a refused request holds a request. It must be dropped, or the connection closed.
    let body = format!("{SMUGGLED}{}", " ".repeat(200));
    let request = format!(
        "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        body.len()
    );
    let reply = exchange(&api.address, request.as_bytes()).await;
    assert!(matches!(statuses(&reply)[..], ["404"] | ["404", "200"]), "{reply}");
    let too_large = format!("POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n{SMUGGLED}");
    let reply = exchange(&api.address, too_large.as_bytes()).await;
    assert_eq!(statuses(&reply), ["413"], "{reply}");
    assert_eq!(api.get("/loglen?partition=3").await.ok()["length"], 0);
    api.stop().await;
}

#[actix_rt::test]
async fn pipelined_requests_are_answered_in_order() {
    let api = impatient().await;
    let one = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"partition\":0}";
    let last = "GET /loglen?partition=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let reply = exchange(&api.address, format!("{one}{one}{one}{last}").as_bytes()).await;
    assert_eq!(statuses(&reply), ["200"; 4], "{reply}");
    let positions: Vec<_> =
        ["\"offset\":0", "\"offset\":1", "\"offset\":2", "\"length\":3"].map(|text| reply.find(text)).to_vec();
    assert!(positions.is_sorted() && positions[0].is_some(), "{reply}");
    api.stop().await;
}

#[actix_rt::test]
async fn slow_heads_and_bodies_are_given_up() {
    let api = Api::start_with(|_, limits| {
        // actix-http tells the time in steps of half a second.
        limits.head_timeout = Duration::from_millis(1500);
        limits.body_stall_timeout = Duration::from_millis(50);
    })
    .await;
    let hold = |request: &'static str| {
        let address = api.address.clone();
        actix_web::web::block(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut reply = String::new();
            // The sending side stays open: only the broker can end this.
            stream.read_to_string(&mut reply).map(drop).unwrap_or_default();
            reply
        })
    };
    let reply = hold("GET /health HTTP/1.1\r\nHost").await.unwrap();
    assert!(matches!(statuses(&reply)[..], [] | ["408"]), "{reply}");
    let reply = hold("POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"partition\"").await.unwrap();
    assert_eq!(statuses(&reply), ["408"], "{reply}");
    assert!(reply.contains("\"error_code\":408"), "{reply}");
    api.get("/health").await.ok();
    api.stop().await;
}

#[actix_rt::test]
async fn a_long_poll_ends_with_its_connection() {
    let api = Api::start().await;
    let mut stream = TcpStream::connect(&api.address).unwrap();
    stream.write_all(b"GET /topics/pubg1/partitions/0/records?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let in_flight = |count: u8| {
        let line = format!("pubg1_requests_in_flight{{api=\"fetch\"}} {count}\n");
        let api = &api;
        async move {
            while !api.get("/metrics").await.text().contains(&line) {
                tokio::task::yield_now().await;
            }
        }
    };
    in_flight(1).await;
    drop(stream);
    in_flight(0).await;
    api.stop().await;
}
