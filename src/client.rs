//! The HTTP client of the command line: every command but `broker` knows only this.
//!
//! It may be given several brokers. It stays with one as long as that one answers, and goes on with
//! the next when it does not: any broker serves any client.

mod admin;
pub mod backoff;
pub mod call;
mod checking;
pub mod consumers;
pub mod group_reply;
mod groups;
pub mod reply;
pub mod stream_reply;
mod streams;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pubg1_model::{Offset, PartitionId, TopicName};
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use call::{Answer, Call};
use reply::{ClusterReply, OffsetsReply, ProduceReply, ProducerReply, ReadyReply, TopicReply};

/// How long an answer may take unless the request itself waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for what can be asked elsewhere: a broker that hangs is not waited for so long.
const REQUEST_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(1);
/// Error of an append whose outcome is not known: only who can send it again safely may do so.
const OUTCOME_UNKNOWN: i64 = 50306;
/// Errors whose answer says that nothing was written: no leader, recovering, draining, disk full.
const NOTHING_WRITTEN: [i64; 4] = [50302, 50303, 50304, 50305];

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
        /// After which time the broker would like to be asked again.
        retry_after: Option<Duration>,
        /// What else it says.
        details: Box<serde_json::Map<String, Value>>,
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

    /// Whether the request certainly changed nothing: it cannot have reached anybody, or the answer
    /// says so. Not even a producer without an identity writes twice when it repeats such a request.
    #[must_use]
    pub fn changed_nothing(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.is_connect(),
            Self::Refused { status, error_code, .. } => *status < 500 || NOTHING_WRITTEN.contains(error_code),
            Self::Malformed { .. } => false,
            Self::Address { .. } => true,
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

/// A client of one broker, or of several of the same cluster. Cheap to clone; clones share
/// connections, and the choice of the broker that is asked.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    brokers: Arc<Brokers>,
}

#[derive(Debug)]
struct Brokers {
    /// At least one.
    urls: Vec<String>,
    /// The one that is asked first.
    turn: AtomicUsize,
}

impl Client {
    /// A client of the broker at this URL, or of several: `URL,URL,…`.
    ///
    /// # Errors
    /// [`ClientError::Address`] for something that is no `http://` URL.
    pub fn new(urls: &str) -> Result<Self, ClientError> {
        let urls = urls.split(',').map(|url| base_of(url.trim())).collect::<Result<Vec<_>, _>>()?;
        let connect = if urls.len() > 1 { CONNECT_TIMEOUT_OF_SEVERAL } else { CONNECT_TIMEOUT };
        let http = reqwest::Client::builder()
            .connect_timeout(connect)
            .tcp_nodelay(true)
            .no_proxy()
            .user_agent(concat!("pubg1/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Address { url: urls.join(","), reason: causes(&error) })?;
        Ok(Self { http, brokers: Arc::new(Brokers { urls, turn: AtomicUsize::new(0) }) })
    }

    /// The URL of the broker that is asked now, without a slash at the end.
    #[must_use]
    pub fn base(&self) -> &str {
        self.brokers.urls.get(self.turn()).map_or("", String::as_str)
    }

    /// All brokers that it may ask.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.brokers.urls
    }

    /// A client of the same brokers that begins with a later one and chooses for itself.
    #[must_use]
    pub fn beginning_with(&self, later: usize) -> Self {
        let turn = AtomicUsize::new(self.turn().wrapping_add(later));
        let brokers = Brokers { urls: self.brokers.urls.clone(), turn };
        Self { http: self.http.clone(), brokers: Arc::new(brokers) }
    }

    /// A client of the whole cluster that these brokers belong to; it begins with the one that is asked now.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn of_the_cluster(&self) -> Result<Self, ClientError> {
        let cluster = self.cluster().await?;
        let mut urls = vec![self.base().to_owned()];
        urls.extend(cluster.brokers.into_iter().map(|broker| broker.http_url).filter(|url| !url.is_empty()));
        urls.extend(self.urls().iter().cloned());
        let mut known = Vec::new();
        for url in urls.iter().map(|url| base_of(url)).collect::<Result<Vec<_>, _>>()? {
            if !known.contains(&url) {
                known.push(url);
            }
        }
        Self::new(&known.join(","))
    }

    /// The next request goes to the next broker.
    pub fn change_broker(&self) {
        self.brokers.turn.store((self.turn() + 1) % self.brokers.urls.len().max(1), Ordering::Relaxed);
    }

    fn turn(&self) -> usize {
        self.brokers.turn.load(Ordering::Relaxed) % self.brokers.urls.len().max(1)
    }

    /// Sends a request and turns refusals into errors. A broker that does not answer, or cannot
    /// serve this now, is passed over while there are others, unless it may have done the work.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] and [`ClientError::Refused`].
    async fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        let count = self.brokers.urls.len();
        let mut refusal = None;
        let mut turn = self.turn();
        for attempt in 1..=count {
            let (error, elsewhere) = match call.send(&self.http, &self.brokers.urls[turn], self.timeout(call)).await {
                Ok(answer) if answer.status.is_success() || call.takes_any_status => return Ok(answer),
                Ok(answer) => {
                    let error = answer.refusal();
                    let unsure = matches!(error, ClientError::Refused { error_code: OUTCOME_UNKNOWN, .. });
                    let unable = answer.status == StatusCode::SERVICE_UNAVAILABLE;
                    (error, unable && (!unsure || call.repeatable))
                }
                Err(source) => {
                    let untouched = source.is_connect() || call.repeatable;
                    (unreachable(source), untouched)
                }
            };
            let gone = matches!(error, ClientError::Unreachable { .. });
            let next = (turn + 1) % count;
            if elsewhere || gone {
                // Another request may have moved on already.
                let _moved = self.brokers.turn.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            if !elsewhere {
                return Err(error);
            }
            if attempt == count {
                // A broker that says why tells more than one that is not there.
                return Err(if gone { refusal.unwrap_or(error) } else { error });
            }
            refusal = if gone { refusal } else { Some(error) };
            turn = next;
        }
        Err(refusal.unwrap_or_else(no_brokers))
    }

    fn timeout(&self, call: &Call) -> Duration {
        let several = self.brokers.urls.len() > 1;
        call.wait + if several && call.impatient { REQUEST_TIMEOUT_OF_SEVERAL } else { REQUEST_TIMEOUT }
    }

    async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ClientError> {
        self.send(call).await?.decode()
    }

    /// Any document, by its path.
    ///
    /// # Errors
    /// As [`Client::send`], and [`ClientError::Malformed`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(&Call::new(Method::GET, path)).await
    }

    /// Sends a document, and reads the one that comes back.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.json(&Call::new(Method::POST, path).json(body)).await
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
    pub async fn create_topic(&self, body: &Value) -> Result<(), ClientError> {
        self.send(&Call::new(Method::POST, "/admin/topics").json(body)).await.map(drop)
    }

    /// Replaces settings of a topic.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn alter_topic(&self, topic: &TopicName, configs: &Value) -> Result<(), ClientError> {
        let body = json!({ "configs": configs });
        self.send(&Call::new(Method::PUT, format!("/admin/topics/{topic}/configs")).json(&body)).await.map(drop)
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn delete_topic(&self, topic: &TopicName) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, format!("/admin/topics/{topic}"))).await.map(drop)
    }

    /// Deletes the records of a partition below an offset; answers where it now begins.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn trim(&self, topic: &TopicName, partition: PartitionId, before: Offset) -> Result<Value, ClientError> {
        let path = format!("/topics/{topic}/partitions/{partition}/records?before={before}");
        self.json(&Call::new(Method::DELETE, path)).await
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
        let answer = self.send(&Call::new(Method::GET, "/readyz").any_status()).await?;
        Ok(ReadyReply { ready: answer.status.is_success(), body: answer.decode()? })
    }

    /// The identity of a new idempotent producer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn create_producer(&self) -> Result<ProducerReply, ClientError> {
        self.post("/producers", &json!({})).await
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
        self.json(&Call::new(Method::POST, path).batches(batches)).await
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
        self.fetch_by(&Call::new(Method::GET, path).waiting(wait)).await
    }

    async fn fetch_by(&self, call: &Call) -> Result<FetchedBatches, ClientError> {
        let answer = self.send(call).await?;
        Ok(FetchedBatches {
            next_offset: answer.offset("Next-Offset")?,
            high_watermark: answer.offset("High-Watermark")?,
            bytes: answer.body,
        })
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

fn no_brokers() -> ClientError {
    ClientError::Address { url: String::new(), reason: "nothing was given".to_owned() }
}

/// The URL of a broker without a slash at its end; `http://` may be left out.
fn base_of(url: &str) -> Result<String, ClientError> {
    let refuse = |reason: String| ClientError::Address { url: url.to_owned(), reason };
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let parsed = reqwest::Url::parse(&with_scheme).map_err(|error| refuse(error.to_string()))?;
    if parsed.scheme() != "http" {
        return Err(refuse(format!("{}:// is not supported", parsed.scheme())));
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests;
