//! Publishes through one of the routes.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::{BoxFuture, ready, try_join_all};
use pubg1_model::partitioner::partition_for_key;
use serde::Deserialize;

use super::{
    Surface,
    delivery::Client,
    encode::Encoder,
    http::{Answer, Request},
};
use crate::target::{Acks, Message, Publisher, SendError, TargetError, Topic};

const V2_BINARY: &str = "application/vnd.kafka.binary.v2+json";

/// A publisher: batches go to one partition after the other, records with a key to the key's.
pub(super) struct HttpPublisher {
    client: Arc<Client>,
    surface: Surface,
    encoder: Encoder,
    topic: String,
    record_bytes: usize,
    acks: &'static str,
    /// The partition of the next batch without keys, and of how many.
    next: u32,
    only: Option<u32>,
    partitions: u32,
}

impl HttpPublisher {
    pub(super) fn new(client: Arc<Client>, topic: &Topic, surface: Surface, index: u32) -> Self {
        let partitions = client.cluster.partitions().max(1);
        Self {
            client,
            surface,
            encoder: Encoder::new(topic.record_bytes),
            topic: topic.name.clone(),
            record_bytes: topic.record_bytes,
            acks: match topic.acks {
                Acks::All => "all",
                Acks::Leader => "1",
            },
            next: index % partitions,
            only: topic.partition,
            partitions,
        }
    }

    /// Opens the connections before the clock runs.
    pub(super) async fn connect(&self, in_flight: u32) -> Result<(), TargetError> {
        let partitions = self.only.map_or(0..self.partitions, |only| only..only + 1);
        for partition in partitions {
            self.client.warm(partition, in_flight).await.map_err(|error| TargetError::Unreachable {
                address: self.client.cluster.address(),
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }

    /// The requests that carry a batch, with their partitions.
    fn requests(&mut self, batch: &[Message], filling: &[u8]) -> Result<Vec<(u32, Request)>, SendError> {
        let keyed = batch.first().is_some_and(|message| message.key.is_some());
        if let Some(partition) = self.only.or((!keyed).then_some(self.next)) {
            self.next = (self.next + 1) % self.partitions;
            return self.requests_of(partition, batch, filling);
        }
        let mut parts: BTreeMap<u32, Vec<Message>> = BTreeMap::new();
        for message in batch {
            let key = message.key.unwrap_or_default().to_be_bytes();
            parts.entry(partition_for_key(&key, self.partitions).0).or_default().push(*message);
        }
        let mut requests = Vec::new();
        for (partition, messages) in parts {
            requests.extend(self.requests_of(partition, &messages, filling)?);
        }
        Ok(requests)
    }

    fn requests_of(
        &mut self,
        partition: u32,
        batch: &[Message],
        filling: &[u8],
    ) -> Result<Vec<(u32, Request)>, SendError> {
        let (topic, acks) = (&self.topic, self.acks);
        Ok(match self.surface {
            Surface::Batches => {
                let path = format!("/topics/{topic}/partitions/{partition}/batches?acks={acks}");
                let body = self.encoder.encode(batch, filling)?;
                vec![(partition, Request::post(&path, "application/octet-stream", body))]
            }
            Surface::V2 => {
                let path = format!("/topics/{topic}/partitions/{partition}?acks={acks}");
                let body = self.v2_body(batch, filling);
                vec![(partition, Request::post(&path, V2_BINARY, body))]
            }
            Surface::Simple => {
                let path = format!("/publish?acks={acks}");
                let request = |message| {
                    let body = self.simple_body(partition, message, filling);
                    (partition, Request::post(&path, "application/json", body))
                };
                batch.iter().map(request).collect()
            }
        })
    }

    fn v2_body(&self, batch: &[Message], filling: &[u8]) -> Bytes {
        let mut payload = vec![0; self.record_bytes];
        let mut body = String::with_capacity(16 + batch.len() * (self.record_bytes * 4 / 3 + 64));
        body.push_str("{\"records\":[");
        for (index, message) in batch.iter().enumerate() {
            message.write(filling, &mut payload);
            body.push_str(if index == 0 { "{" } else { ",{" });
            if let Some(key) = message.key {
                body.push_str("\"key\":\"");
                STANDARD.encode_string(key.to_be_bytes(), &mut body);
                body.push_str("\",");
            }
            body.push_str("\"value\":\"");
            STANDARD.encode_string(&payload, &mut body);
            // Text takes whatever is written.
            let _infallible = write!(body, "\",\"timestamp\":{}}}", message.timestamp_ms);
        }
        body.push_str("]}");
        body.into()
    }

    /// An object of the size of a record, or as small as it can be.
    fn simple_body(&self, partition: u32, message: &Message, filling: &[u8]) -> Bytes {
        let Message { due_ns, timestamp_ms, number, key } = message;
        let mut body = String::with_capacity(self.record_bytes.max(160));
        let _infallible = write!(
            body,
            "{{\"partition\":{partition},\"topic\":\"{}\",\"client_ts\":{timestamp_ms},\"due\":{due_ns},\"number\":{number}",
            self.topic
        );
        if let Some(key) = key {
            let _infallible = write!(body, ",\"key\":\"{key}\"");
        }
        body.push_str(",\"fill\":\"");
        let room = self.record_bytes.saturating_sub(body.len() + 2).min(filling.len());
        // The filling is printable.
        body.push_str(str::from_utf8(&filling[..room]).unwrap_or_default());
        body.push_str("\"}");
        body.into()
    }
}

impl Publisher for HttpPublisher {
    fn send(&mut self, batch: &[Message], filling: &[u8]) -> BoxFuture<'static, Result<(), SendError>> {
        let requests = match self.requests(batch, filling) {
            Ok(requests) => requests,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let surface = self.surface;
        let mut deliveries = requests.into_iter().map(|(partition, request)| {
            let client = Arc::clone(&self.client);
            let begun = client.begin(partition, &request);
            async move {
                let answer = client.deliver(partition, &request, begun).await?;
                if surface == Surface::V2 { check_v2(&answer) } else { Ok(()) }
            }
        });
        match (deliveries.next(), deliveries.next()) {
            (Some(only), None) => Box::pin(only),
            (first, second) => {
                let all: Vec<_> = first.into_iter().chain(second).chain(deliveries).collect();
                Box::pin(async move { try_join_all(all).await.map(drop) })
            }
        }
    }

    fn overcome(&mut self) -> BTreeMap<String, u64> {
        self.client.overcome()
    }
}

/// An answer of REST v2 speaks of each record.
fn check_v2(answer: &Answer) -> Result<(), SendError> {
    #[derive(Deserialize)]
    struct Reply {
        offsets: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        error_code: Option<i64>,
        #[serde(default)]
        error: Option<String>,
    }
    let refuse = |kind: &str, reason: String| Err(SendError { kind: kind.to_owned(), reason });
    match serde_json::from_slice::<Reply>(&answer.body) {
        Ok(reply) => match reply.offsets.into_iter().find(|entry| entry.error_code.is_some()) {
            Some(entry) => refuse("record refused", entry.error.unwrap_or_default()),
            None => Ok(()),
        },
        Err(error) => refuse("answer not understood", error.to_string()),
    }
}
