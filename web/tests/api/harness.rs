//! A broker and its API on free ports, in this process.

use std::{net::TcpListener, path::Path, sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;
use pubg1_actors::{Broker, BrokerConfig, BrokerHandle, DefaultTopic, FlushPolicy};
use pubg1_metrics::Metrics;
use pubg1_model::{
    BrokerId,
    compression::Compression,
    record_batch::{BatchBuilder, NewRecord, ProducerIdentity},
};
use pubg1_web::{AppState, Limits, serve};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const V2_JSON: &str = "application/vnd.kafka.json.v2+json";
pub(crate) const V2_BINARY: &str = "application/vnd.kafka.binary.v2+json";
pub(crate) const V2_TEXT: &str = "application/vnd.kafka.text.v2+json";
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// A running broker with its API.
pub(crate) struct Api {
    pub(crate) address: String,
    pub(crate) broker: BrokerHandle,
    pub(crate) state: Arc<AppState>,
    server: ServerHandle,
    client: Client,
    directory: Option<TempDir>,
}

/// A reply, read to its end.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, bytes: response.bytes().await.unwrap().to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The body, after a check of the status.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// Checks that it went well and has nothing to say.
    pub(crate) fn no_content(&self) {
        assert_eq!((self.status, self.text()), (204, ""));
    }

    /// Checks an error's status, code and form; answers the body.
    pub(crate) fn refused(&self, status: u16, code: u32) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        let body = self.json();
        assert_eq!(body["error_code"], code, "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        body
    }
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut BrokerConfig, &mut Limits)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut api = Self::start_in(directory.path(), change).await;
        api.directory = Some(directory);
        api
    }

    pub(crate) async fn start_in(data_dir: &Path, change: impl FnOnce(&mut BrokerConfig, &mut Limits)) -> Self {
        let api = Self::launch(BrokerId(0), data_dir, change);
        api.ready().await;
        api
    }

    /// Three brokers that found a cluster, with one partition in the default topic.
    pub(crate) async fn start_three() -> [Self; 3] {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let voters: Vec<(BrokerId, String)> = (0..3).map(|id| (BrokerId(id), free())).collect();
        let launch = |at: usize| {
            let directory = tempfile::tempdir().unwrap();
            let (id, address) = voters[at].clone();
            let mut api = Self::launch(id, directory.path(), |config, _| {
                config.rpc_listen = Some(address.clone());
                config.rpc_advertised = address;
                config.voters = voters.clone();
                config.default_topic = Some(DefaultTopic { name: "pubg1".parse().unwrap(), partitions: 1 });
            });
            api.directory = Some(directory);
            api
        };
        let three = [0, 1, 2].map(launch);
        for api in &three {
            api.ready().await;
        }
        three
    }

    async fn ready(&self) {
        while !self.broker.readiness().is_ready() {
            tokio::task::yield_now().await;
        }
    }

    fn launch(id: BrokerId, data_dir: &Path, change: impl FnOnce(&mut BrokerConfig, &mut Limits)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = BrokerConfig::new(id, data_dir, format!("http://{address}"));
        config.flush = FlushPolicy::Interval { ms: 50 };
        config.default_topic = Some(DefaultTopic { name: "pubg1".parse().unwrap(), partitions: 4 });
        config.topic_defaults.segment_bytes = 4 << 20;
        let mut limits = Limits { workers: 1, ..Limits::default() };
        change(&mut config, &mut limits);
        let broker = Broker::start(config, Metrics::new().unwrap()).unwrap();
        let state = AppState::new(broker.clone(), limits, address.port());
        let server = serve(vec![listener], Arc::clone(&state)).unwrap();
        let handle = server.handle();
        actix_rt::spawn(server);
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { address: address.to_string(), broker, state, server: handle, client, directory: None }
    }

    /// Stops where it is, as `kill -9` would.
    pub(crate) async fn kill(self) {
        self.broker.abort().await;
        self.server.stop(false).await;
        drop(self.directory);
    }

    /// Stops in order.
    pub(crate) async fn stop(self) {
        self.server.stop(false).await;
        assert!(self.broker.drain(Duration::from_secs(30)).await.is_complete());
        drop(self.directory);
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Reply {
        Reply::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// A POST without a content type, as `curl -d` with an empty one would.
    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(self.request(Method::POST, path).body(body)).await
    }

    pub(crate) async fn post_as(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(self.request(Method::POST, path).header("content-type", content_type).body(body)).await
    }

    /// Creates a topic with this many partitions.
    pub(crate) async fn create_topic(&self, name: &str, partitions: u32) {
        let body = serde_json::json!({"topic_name": name, "partitions_count": partitions});
        let reply = self.post("/admin/topics", body.to_string()).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
    }

    /// The values of a partition from an offset on, as text.
    pub(crate) async fn values(&self, topic: &str, partition: u32) -> Vec<Value> {
        let path = format!("/topics/{topic}/partitions/{partition}/records?format=text");
        let records = self.get(&path).await.ok();
        records.as_array().unwrap().iter().map(|record| record["value"].clone()).collect()
    }
}

/// One batch with these values.
pub(crate) fn batch(values: &[&[u8]], producer: Option<ProducerIdentity>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(&NewRecord { timestamp_ms: 1000, value: Some(value), ..NewRecord::default() }).unwrap();
    }
    builder.finish(producer).unwrap().bytes().to_vec()
}

/// Shares a value between a test and what it spawns.
pub(crate) fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}
