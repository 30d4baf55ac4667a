//! Probes, metrics, and the API's description.

use serde_json::{Value, json};

use crate::harness::Api;

#[actix_rt::test]
async fn probes_answer_with_reasons() {
    let api = Api::start().await;
    let port: u16 = api.address.rsplit(':').next().unwrap().parse().unwrap();
    for path in ["/health", "/healthy", "/_health"] {
        let health = api.get(path).await.ok();
        assert_eq!(
            (&health["status"], &health["port"], &health["state"]),
            (&json!("ok"), &json!(port), &json!("ready"))
        );
    }
    assert_eq!(api.get("/livez").await.ok(), json!({"status": "ok"}));
    for path in ["/readyz", "/ready", "/status/ready"] {
        let ready = api.get(path).await.ok();
        assert_eq!(ready["status"], "ready");
        let checks = ready["checks"].as_array().unwrap();
        assert!(
            checks
                .iter()
                .all(|check| check["name"].is_string() && check["ok"].is_boolean() && check["reason"].is_string())
        );
        assert!(!checks.is_empty());
    }
    api.stop().await;
}

#[actix_rt::test]
async fn requests_are_counted_by_api_and_code() {
    let api = Api::start().await;
    api.post("/publish", "{\"partition\":0}").await.ok();
    api.post("/publish", "{}").await.refused(400, 400);
    api.get("/topics/pubg1/partitions/0/records").await.ok();
    let reply = api.get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = reply.text();
    for line in [
        "pubg1_requests_total{api=\"publish\",code=\"200\"} 1",
        "pubg1_requests_total{api=\"publish\",code=\"400\"} 1",
        "pubg1_requests_total{api=\"fetch\",code=\"200\"} 1",
        "pubg1_request_duration_seconds_count{api=\"publish\"} 2",
        "pubg1_request_phase_duration_seconds_count{api=\"publish\",phase=\"queue\"} 1",
        "pubg1_request_phase_duration_seconds_count{api=\"publish\",phase=\"flush\"} 1",
        "pubg1_requests_in_flight{api=\"publish\"} 0",
        "pubg1_requests_in_flight{api=\"metrics\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    api.stop().await;
}

#[actix_rt::test]
async fn the_document_and_its_viewer_need_no_network() {
    let api = Api::start().await;
    let document = api.get("/openapi.json").await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    let moved = api.get("/docs").await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("docs/")));
    let page = api.get("/docs/").await;
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    for line in page.text().lines().filter(|line| line.contains("src=") || line.contains("href=")) {
        assert!(!line.contains("//"), "loads from elsewhere: {line}");
    }
    let script = api.get("/docs/swagger-initializer.js").await;
    assert!(script.text().contains("../openapi.json"), "{}", script.text());
    api.get("/docs/nothing.js").await.refused(404, 404);
    api.get("/docs/..%2f..%2fetc%2fpasswd").await.refused(404, 404);
    api.stop().await;
}

/// Each documented path and method must lead to a handler: anything but the 404 of the router and 405.
#[actix_rt::test]
async fn every_documented_route_is_served() {
    let api = Api::start().await;
    let document = api.get("/openapi.json").await.ok();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let url = path.replace("{topic}", "nosuch").replace("{partition}", "0").replace("{file}", "index.html");
        let url = url.replace("{broker}", "9");
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            let reply = api.send(api.request(method, &url)).await;
            assert_ne!(reply.status, 405, "{path}");
            let code = serde_json::from_slice::<Value>(&reply.bytes).ok().map(|body| body["error_code"].clone());
            assert_ne!(code, Some(json!(404)), "{path}");
        }
    }
    api.stop().await;
}
