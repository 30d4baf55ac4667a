//! Every error is JSON, whatever it is about.

use reqwest::Method;
use serde_json::json;

use crate::harness::Api;

#[actix_rt::test]
async fn unknown_routes_and_methods_are_json() {
    let api = Api::start().await;
    for path in ["/nothing", "/topics/pubg1/nothing", "/admin", "/consumers", "/%2e%2e/etc/passwd", "//"] {
        api.get(path).await.refused(404, 404);
    }
    for (method, path, allow) in [
        (Method::GET, "/publish", "POST"),
        (Method::DELETE, "/topics", "GET"),
        (Method::PATCH, "/topics/pubg1", "GET, POST"),
        (Method::PUT, "/topics/pubg1/partitions/0/records", "GET, DELETE"),
        (Method::POST, "/metrics", "GET"),
        (Method::OPTIONS, "/health", "GET"),
    ] {
        let reply = api.send(api.request(method, path)).await;
        reply.refused(405, 405);
        assert_eq!(reply.header("allow"), Some(allow), "{path}");
    }
    api.stop().await;
}

#[actix_rt::test]
async fn control_characters_are_refused_before_anything_else() {
    let api = Api::start().await;
    for path in ["/topics/a%0ab", "/topics/%00", "/topics/a%7Fb/partitions/0/records", "/nothing%1b"] {
        api.get(path).await.refused(400, 400);
    }
    api.get("/topics/%D0%B0").await.refused(400, 400);
    api.get("/topics/..%2F..").await.refused(400, 400);
    api.stop().await;
}

#[actix_rt::test]
async fn every_reply_carries_the_request_id_and_nosniff() {
    let api = Api::start().await;
    for (method, path) in [(Method::GET, "/health"), (Method::GET, "/nothing"), (Method::POST, "/publish")] {
        let reply = api.send(api.request(method, path).header("x-request-id", "abc-123")).await;
        assert_eq!(reply.header("x-request-id"), Some("abc-123"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
    let long = api.send(api.request(Method::GET, "/health").header("x-request-id", "x".repeat(200))).await;
    assert_eq!(long.header("x-request-id"), None);
    api.stop().await;
}

#[actix_rt::test]
async fn a_trailing_slash_a_percent_and_a_body_on_get_are_borne() {
    let api = Api::start().await;
    api.get("/topics/pubg1/partitions/0/offsets/").await.ok();
    api.get("/topics/pu%62g1").await.ok();
    api.send(api.request(Method::GET, "/topics/pubg1").body("{}")).await.ok();
    api.send(api.request(Method::HEAD, "/topics/pubg1")).await;
    let head = api.send(api.request(Method::HEAD, "/topics/pubg1")).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    api.stop().await;
}

#[actix_rt::test]
async fn a_broker_that_drains_says_so() {
    let api = Api::start().await;
    api.broker.begin_drain();
    for reply in [
        api.post("/publish", json!({"partition": 0}).to_string()).await,
        api.get("/topics/pubg1/partitions/0/records").await,
        api.get("/readyz").await,
    ] {
        reply.refused(503, 50304);
        assert_eq!(reply.header("retry-after"), Some("2"));
    }
    api.get("/livez").await.ok();
    api.stop().await;
}

#[actix_rt::test]
async fn a_server_that_parts_from_its_clients_ends_their_connections() {
    let api = Api::start().await;
    assert_eq!(api.get("/livez").await.header("connection"), None);
    api.state.part_from_clients();
    for path in ["/livez", "/topics/pubg1", "/nothing"] {
        assert_eq!(api.get(path).await.header("connection"), Some("close"), "{path}");
    }
    api.stop().await;
}
