//! The HTTP client of the command line: every command but `broker` knows only this.

pub mod reply;

use std::time::Duration;

use bytes::Bytes;
use pubg1_model::{Offset, PartitionId, TopicName};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde::{Serialize, de::DeserializeOwned};

use reply::{ClusterReply, ErrorReply, OffsetsReply, ProduceReply, ProducerReply, ReadyReply, TopicReply};

/// How long an answer may take unless the request itself waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no URL.
    #[error("{url:?} is not the address of a broker: {reason}; it looks like http://127.0.0.1:8000")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There was no answer, or not all of it.
    #[error("no answer from {url}: {}; is a broker running there? (`pubg1 broker` starts one)", causes(source))]
    Unreachable {
        /// What was asked.
        url: String,
        /// What went wrong on the way.
        source: reqwest::Error,
    },
    /// The broker refused.
    #[error("{message} (HTTP {status}, error {error_code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error's number in the broker's table.
        error_code: i64,
        /// What the broker says.
        message: String,
    },
    /// The answer is not what it should be.
    #[error("the answer of {url} cannot be read: {reason}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// An error with everything below it: the outer layers of HTTP libraries say little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

impl ClientError {
    /// Whether the same request may succeed later: nobody answered, or the broker is busy,
    /// recovering or out of space.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 502 | 503 | 504 | 507),
            Self::Malformed { .. } | Self::Address { .. } => false,
        }
    }

    /// The HTTP status of a refusal.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Batches as a broker sent them.
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    /// Whole record batches; the first may begin below the offset that was asked for.
    pub bytes: Bytes,
    /// Where to go on.
    pub next_offset: Offset,
    /// Records below this are committed.
    pub high_watermark: Offset,
}

/// A client of one broker. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client of the broker at this URL.
    ///
    /// # Errors
    /// [`ClientError::Address`] for something that is no `http://` URL.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let refuse = |reason: String| ClientError::Address { url: url.to_owned(), reason };
        let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let parsed = reqwest::Url::parse(&with_scheme).map_err(|error| refuse(error.to_string()))?;
        if parsed.scheme() != "http" {
            return Err(refuse(format!("{}:// is not supported", parsed.scheme())));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy()
            .user_agent(concat!("pubg1/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| refuse(causes(&error)))?;
        Ok(Self { http, base: parsed.as_str().trim_end_matches('/').to_owned() })
    }

    /// The broker's URL, without a slash at the end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request and turns refusals into errors.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] and [`ClientError::Refused`].
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(unreachable)?;
        let reply = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorReply {
            error_code: i64::from(status.as_u16()),
            message: plain_refusal(status, &body),
        });
        Err(ClientError::Refused { status: status.as_u16(), error_code: reply.error_code, message: reply.message })
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        decode(self.send(request).await?).await
    }

    /// Any document, by its path.
    ///
    /// # Errors
    /// As [`Client::send`], and [`ClientError::Malformed`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// Sends a document, and reads the one that comes back.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// The names of all topics, the broker's own among them or not.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn topics(&self, internal: bool) -> Result<Vec<TopicName>, ClientError> {
        self.get(&format!("/topics?internal={internal}")).await
    }

    /// One topic.
    ///
    /// # Errors
    /// As [`Client::get`]; 404 when it does not exist.
    pub async fn topic(&self, topic: &TopicName) -> Result<TopicReply, ClientError> {
        self.get(&format!("/topics/{topic}")).await
    }

    /// Creates a topic as the document describes it.
    ///
    /// # Errors
    /// As [`Client::send`]; 409 when it exists.
    pub async fn create_topic(&self, body: &serde_json::Value) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, "/admin/topics").json(body)).await.map(drop)
    }

    /// Replaces settings of a topic.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn alter_topic(&self, topic: &TopicName, configs: &serde_json::Value) -> Result<(), ClientError> {
        let body = serde_json::json!({ "configs": configs });
        let request = self.request(Method::PUT, &format!("/admin/topics/{topic}/configs")).json(&body);
        self.send(request).await.map(drop)
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn delete_topic(&self, topic: &TopicName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &format!("/admin/topics/{topic}"))).await.map(drop)
    }

    /// Deletes the records of a partition below an offset; answers where it now begins.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn trim(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        before: Offset,
    ) -> Result<serde_json::Value, ClientError> {
        let path = format!("/topics/{topic}/partitions/{partition}/records?before={before}");
        self.json(self.request(Method::DELETE, &path)).await
    }

    /// Where a partition begins and ends.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn offsets(&self, topic: &TopicName, partition: PartitionId) -> Result<OffsetsReply, ClientError> {
        self.get(&format!("/topics/{topic}/partitions/{partition}/offsets")).await
    }

    /// The cluster as the broker sees it.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn cluster(&self) -> Result<ClusterReply, ClientError> {
        self.get("/cluster").await
    }

    /// Whether the broker is ready, and why not. Not being ready is an answer, not an error.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] and [`ClientError::Malformed`].
    pub async fn ready(&self) -> Result<ReadyReply, ClientError> {
        let response = self.request(Method::GET, "/readyz").send().await.map_err(unreachable)?;
        let ready = response.status().is_success();
        let body: serde_json::Value = decode(response).await?;
        Ok(ReadyReply { ready, body })
    }

    /// The identity of a new idempotent producer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn create_producer(&self) -> Result<ProducerReply, ClientError> {
        self.post("/producers", &serde_json::json!({})).await
    }

    /// Appends record batches to a partition.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn produce(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        acks: &str,
        batches: Bytes,
    ) -> Result<ProduceReply, ClientError> {
        let path = format!("/topics/{topic}/partitions/{partition}/batches?acks={acks}");
        let request = self.request(Method::POST, &path).header("Content-Type", "application/octet-stream");
        self.json(request.body(batches)).await
    }

    /// Record batches from an offset on; waits up to `wait` for the first one.
    ///
    /// # Errors
    /// As [`Client::send`], and [`ClientError::Malformed`] when the headers are missing.
    pub async fn fetch(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        offset: Offset,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<FetchedBatches, ClientError> {
        let path = format!(
            "/topics/{topic}/partitions/{partition}/batches?offset={offset}&max_bytes={max_bytes}&wait={}ms",
            wait.as_millis()
        );
        let request = self.request(Method::GET, &path).timeout(REQUEST_TIMEOUT + wait);
        let response = self.send(request).await?;
        let url = response.url().to_string();
        let number = |name| offset_header(response.headers(), name, &url);
        let (next_offset, high_watermark) = (number("Next-Offset")?, number("High-Watermark")?);
        let bytes = response.bytes().await.map_err(unreachable)?;
        Ok(FetchedBatches { bytes, next_offset, high_watermark })
    }

    /// The offset of the first record at or after this time; `None` when there is none yet.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn offset_at(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<Offset>, ClientError> {
        let path = format!(
            "/topics/{topic}/partitions/{partition}/records?timestamp={timestamp_ms}&max_records=1&format=binary"
        );
        let records: Vec<reply::RecordReply> = self.get(&path).await?;
        Ok(records.first().map(|record| record.offset))
    }
}

fn unreachable(source: reqwest::Error) -> ClientError {
    let url = source.url().map(ToString::to_string).unwrap_or_default();
    ClientError::Unreachable { url, source: source.without_url() }
}

async fn decode<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let url = response.url().to_string();
    let body = response.bytes().await.map_err(unreachable)?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Malformed { url, reason: error.to_string() })
}

fn plain_refusal(status: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let reason = status.canonical_reason().unwrap_or("refused");
    if text.trim().is_empty() { reason.to_owned() } else { format!("{reason}: {}", text.trim()) }
}

fn offset_header(headers: &HeaderMap, name: &str, url: &str) -> Result<Offset, ClientError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<i64>().ok())
        .and_then(Offset::from_wire)
        .ok_or_else(|| ClientError::Malformed { url: url.to_owned(), reason: format!("no usable header {name}") })
}
