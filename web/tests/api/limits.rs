//! What a request may take of the broker.

use std::io::Write;

use reqwest::{Body, Method};
use serde_json::json;

use crate::harness::{Api, V2_JSON};

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[actix_rt::test]
async fn bodies_are_bounded_declared_or_not() {
    let api = Api::start_with(|_, limits| limits.body_bytes_max = 1000).await;
    let object = |bytes: usize| format!("{{\"partition\":0,\"x\":\"{}\"}}", "y".repeat(bytes - 22));
    assert_eq!(object(1000).len(), 1000);
    api.post("/publish", object(1000)).await.ok();
    api.post("/publish", object(1001)).await.refused(413, 413);
    let chunked = |text: String| Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(text)]));
    api.post("/publish", chunked(object(1000))).await.ok();
    api.post("/publish", chunked(object(1001))).await.refused(413, 413);
    api.stop().await;
}

#[actix_rt::test]
async fn all_bodies_together_are_bounded() {
    let api = Api::start_with(|_, limits| limits.bodies_bytes_max = 50).await;
    let refused = api.post("/publish", format!("{{\"partition\":0,\"x\":\"{}\"}}", "y".repeat(100))).await;
    refused.refused(429, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(api.get("/metrics").await.text().contains("pubg1_throttled_requests_total{reason=\"bytes\"} 1"));
    api.post("/publish", "{\"partition\":0}").await.ok();
    api.stop().await;
}

#[actix_rt::test]
async fn compressed_bodies_are_read_and_bombs_are_not() {
    let api = Api::start_with(|_, limits| limits.decompressed_bytes_max = 1 << 20).await;
    let object = json!({"partition": 0, "value": "z".repeat(5000)}).to_string();
    for (coding, body) in
        [("gzip", gzip(object.as_bytes())), ("zstd", zstd::bulk::compress(object.as_bytes(), 1).unwrap())]
    {
        let request = api.request(Method::POST, "/publish").header("content-encoding", coding);
        api.send(request.body(body)).await.ok();
    }
    let zeros = vec![b' '; 10 << 20];
    for (coding, body) in [("gzip", gzip(&zeros)), ("zstd", zstd::bulk::compress(&zeros, 1).unwrap())] {
        let request = api.request(Method::POST, "/publish").header("content-encoding", coding);
        api.send(request.body(body)).await.refused(413, 413);
    }
    for (coding, status) in [("br", 415), ("deflate", 415), ("gzip, gzip", 415), ("gzip", 400)] {
        let request = api.request(Method::POST, "/publish").header("content-encoding", coding);
        api.send(request.body("{\"partition\":0}")).await.refused(status, status.into());
    }
    assert_eq!(api.get("/consume?partition=0").await.ok()["messages"].as_array().unwrap().len(), 2);
    api.stop().await;
}

#[actix_rt::test]
async fn replies_are_compressed_for_who_likes_that() {
    let api = Api::start().await;
    let object = json!({"partition": 0, "value": "z".repeat(5000)}).to_string();
    api.post("/publish", object.clone()).await.ok();
    let consume =
        |accept: &str| api.send(api.request(Method::GET, "/consume?partition=0").header("accept-encoding", accept));
    let mut plain = Vec::new();
    let reply = consume("gzip").await;
    assert_eq!((reply.header("content-encoding"), reply.header("vary")), (Some("gzip"), Some("accept-encoding")));
    std::io::copy(&mut flate2::read::GzDecoder::new(&reply.bytes[..]), &mut plain).unwrap();
    assert!(String::from_utf8(plain).unwrap().contains(&object));
    let reply = consume("gzip, zstd").await;
    assert_eq!(reply.header("content-encoding"), Some("zstd"));
    assert!(String::from_utf8(zstd::bulk::decompress(&reply.bytes, 100_000).unwrap()).unwrap().contains(&object));
    assert_eq!(consume("br").await.header("content-encoding"), None);
    let small = api.send(api.request(Method::GET, "/loglen?partition=0").header("accept-encoding", "gzip")).await;
    assert_eq!(small.header("content-encoding"), None);
    api.stop().await;
}

#[actix_rt::test]
async fn targets_headers_and_nesting_are_bounded() {
    let api = Api::start().await;
    api.get(&format!("/topics/{}", "x".repeat(9000))).await.refused(414, 414);
    api.get(&format!("/topics?a={}", "x".repeat(9000))).await.refused(414, 414);
    let request = api.request(Method::GET, "/topics").header("x-large", "x".repeat(40_000));
    api.send(request).await.refused(431, 431);
    let nested = |levels: usize| format!("{{\"partition\":0,\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    api.post("/publish", nested(127)).await.ok();
    api.post("/publish", nested(128)).await.refused(400, 400);
    api.post("/publish", nested(100_000)).await.refused(400, 400);
    let records = format!("{{\"records\":[{{\"value\":{}}}]}}", "[".repeat(200_000));
    api.post_as("/topics/pubg1", V2_JSON, records).await.refused(400, 400);
    api.stop().await;
}
