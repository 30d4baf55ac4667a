//! One request and its answer, before and after it is known which broker was asked.

use std::time::Duration;

use bytes::Bytes;
use pubg1_model::{Offset, record_batch::ProducerIdentity};
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{ClientError, reply::ErrorReply};

/// A request, without the broker that it goes to.
pub(super) struct Call {
    method: Method,
    path: String,
    body: Option<(&'static str, Bytes)>,
    headers: Vec<(&'static str, String)>,
    /// How long the broker was asked to wait.
    pub(super) wait: Duration,
    /// Whether it does no harm to ask twice.
    pub(super) repeatable: bool,
    /// Whether it is given up early where it can be sent to another broker instead.
    pub(super) impatient: bool,
    /// Whether any status is an answer.
    pub(super) takes_any_status: bool,
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        let repeatable = method == Method::GET;
        Self {
            method,
            path: path.into(),
            body: None,
            headers: Vec::new(),
            wait: Duration::ZERO,
            repeatable,
            impatient: repeatable,
            takes_any_status: false,
        }
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        // What is sent are numbers, texts and lists of them; none of these fails to be written.
        let text = serde_json::to_vec(body).unwrap_or_default();
        self.body = Some(("application/json", text.into()));
        self
    }

    /// Record batches: whoever sends them repeats them.
    pub(super) fn batches(mut self, batches: Bytes) -> Self {
        self.body = Some(("application/octet-stream", batches));
        self.impatient = true;
        self
    }

    /// A JSON object as it is.
    pub(super) fn object(mut self, text: Vec<u8>) -> Self {
        self.body = Some(("application/json", text.into()));
        self
    }

    /// Who produces the records.
    pub(super) fn producer(mut self, identity: Option<ProducerIdentity>) -> Self {
        if let Some(ProducerIdentity { id, epoch, sequence }) = identity {
            let (id, epoch, sequence) = (id.0.to_string(), epoch.to_string(), sequence.to_string());
            self.headers.extend([("Producer-Id", id), ("Producer-Epoch", epoch), ("Producer-Seq", sequence)]);
        }
        self
    }

    /// One more header, if there is something to say in it.
    pub(super) fn header(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.headers.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    /// It does no harm to ask twice, whatever the method is.
    pub(super) const fn again(mut self) -> Self {
        self.repeatable = true;
        self.impatient = true;
        self
    }

    /// What is asked for counts as received once it was answered, whoever has the answer: nobody else is asked then.
    pub(super) const fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    pub(super) const fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    pub(super) const fn any_status(mut self) -> Self {
        self.takes_any_status = true;
        self
    }

    /// Asks one broker, and reads its answer to the end.
    pub(super) async fn send(
        &self,
        http: &reqwest::Client,
        base: &str,
        timeout: Duration,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = http.request(self.method.clone(), format!("{base}{}", self.path)).timeout(timeout);
        if let Some((content_type, body)) = &self.body {
            request = request.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let response = request.send().await?;
        let (status, url, headers) = (response.status(), response.url().to_string(), response.headers().clone());
        Ok(Answer { status, url, headers, body: response.bytes().await? })
    }
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    headers: HeaderMap,
    url: String,
}

impl Answer {
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| self.malformed(error.to_string()))
    }

    fn malformed(&self, reason: String) -> ClientError {
        ClientError::Malformed { url: self.url.clone(), reason }
    }

    /// The answer as the refusal that it is.
    pub(super) fn refusal(&self) -> ClientError {
        let reply = serde_json::from_slice(&self.body).unwrap_or_else(|_| ErrorReply {
            error_code: i64::from(self.status.as_u16()),
            message: plain_refusal(self.status, &self.body),
            details: serde_json::Map::new(),
        });
        ClientError::Refused {
            status: self.status.as_u16(),
            error_code: reply.error_code,
            message: reply.message,
            retry_after: self.text(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs),
            details: Box::new(reply.details),
        }
    }

    /// A header's text.
    pub(super) fn text(&self, header: &str) -> Option<&str> {
        self.headers.get(header).and_then(|value| value.to_str().ok())
    }

    /// An offset that a header names.
    pub(super) fn offset(&self, header: &str) -> Result<Offset, ClientError> {
        let number = self.text(header).and_then(|text| text.parse().ok());
        number.and_then(Offset::from_wire).ok_or_else(|| self.malformed(format!("no usable header {header}")))
    }
}

fn plain_refusal(status: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let reason = status.canonical_reason().unwrap_or("refused");
    if text.trim().is_empty() { reason.to_owned() } else { format!("{reason}: {}", text.trim()) }
}
