//! `POST /publish`: one JSON object, kept as it came.

use std::borrow::Cow;

use actix_web::http::header::HeaderValue;
use pubg1_actors::Acks;
use pubg1_model::record_batch::{NewRecord, ProducerIdentity};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::IntoParams;

use super::{Place, partition, topic_or_default};
use crate::{
    call::{Call, topic_name},
    dto::{ErrorBody, PublishReply, Published, Redirected},
    edge::ApiResult,
    error::{ApiError, Cause},
    json_text::{self, Object},
    produce::{
        append::{all_duplicates, append},
        batching::BatchWriter,
        envelope::natural_key,
        now_ms,
        options::{PRODUCER_DUPLICATE, ProduceQuery, producer_identity},
    },
    reply,
    state::refuse_internal,
};

/// The members of a published object that the broker reads; it keeps all of them.
#[derive(Deserialize)]
struct PublishedObject<'a> {
    #[serde(borrow)]
    partition: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    client_ts: Option<&'a RawValue>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
}

/// The query of `POST /publish`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PublishQuery {
    /// The topic, if the object does not name one; the default topic when both are absent.
    topic: Option<String>,
    /// `all` (committed, the default), `1` (appended) or `0` (sent).
    #[param(pattern = "^(all|-1|0|1)$")]
    acks: Option<String>,
    /// `1`: if another broker leads the partition, write nothing and tell that broker's URL. Otherwise, and by
    /// default, the object is passed on to it.
    #[param(pattern = "^(0|1)$")]
    redirect: Option<String>,
}

/// A published object, read but not taken apart.
struct Message<'a> {
    value: &'a [u8],
    fields: PublishedObject<'a>,
}

impl<'a> Message<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let fields = json_text::parse::<Object<PublishedObject<'a>>>(body)?.0;
        Ok(Self { value: body.trim_ascii(), fields })
    }

    fn partition(&self) -> Result<Option<u64>, ApiError> {
        let Some(raw) = self.fields.partition else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|_| {
            ApiError::new(Cause::InvalidPartition, format!("partition {} is not a number from 0", raw.get()))
        })
    }

    fn timestamp_ms(&self) -> Option<i64> {
        client_timestamp_ms(self.fields.client_ts?.get())
    }
}

/// A client's clock as milliseconds: see the head of the surface.
fn client_timestamp_ms(text: &str) -> Option<i64> {
    let number: f64 = text.parse().ok()?;
    let ms = match number {
        seconds if (1e9..1e10).contains(&seconds) => seconds * 1000.0,
        ms if (1e12..1e13).contains(&ms) => ms,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation, reason = "below 10^13")]
    Some(ms.round() as i64)
}

/// Publishes one JSON object.
#[utoipa::path(
    post, path = "/publish", tag = "simple",
    params(PublishQuery),
    request_body(content = PublishBody, description = "Any JSON object that names a partition; all of it is the message"),
    responses(
        (status = 200, description = "The object is in the log, or another broker shall be asked", body = PublishReply),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn publish(mut call: Call) -> ApiResult {
    let query: PublishQuery = if call.req.query_string().is_empty() { PublishQuery::default() } else { call.query()? };
    let redirect = match query.redirect.as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(other) => return Err(ApiError::malformed(format!("redirect={other}: must be 0 or 1"))),
    };
    let acks = ProduceQuery { acks: query.acks }.acks()?;
    let identity = producer_identity(call.headers())?;
    let body = call.body().await?;
    let message = Message::parse(&body)?;
    let in_query = query.topic.as_deref().map(topic_name).transpose()?;
    let topic = match (message.fields.topic.as_deref(), in_query) {
        (None, Some(topic)) => topic,
        (name, _) => topic_or_default(&call, name)?,
    };
    refuse_internal(&topic)?;
    let place = partition(&call, &topic, message.partition()?)?;
    if redirect && let Some(leader) = elsewhere(&call, &place) {
        return reply::json(&PublishReply::Redirected(Redirected { status: "redirect", leader }));
    }
    append_message(&call, &place, &message, identity, acks).await
}

/// The URL of the broker that leads, when it is another one.
fn elsewhere(call: &Call, place: &Place) -> Option<String> {
    let leader = place.handle.led_elsewhere()?;
    call.state.broker.image().brokers.get(&leader).map(|broker| broker.http_url.clone())
}

async fn append_message(
    call: &Call,
    place: &Place,
    message: &Message<'_>,
    identity: Option<ProducerIdentity>,
    acks: Acks,
) -> ApiResult {
    let key = message.fields.key.map(natural_key).transpose().map_err(ApiError::malformed)?;
    let mut writer = BatchWriter::new(&place.topic.config, identity);
    writer.push(&NewRecord {
        timestamp_ms: message.timestamp_ms().unwrap_or_else(now_ms),
        key: key.as_deref(),
        value: Some(message.value),
        headers: &[],
    })?;
    let appended = append(call.metrics(), &place.handle, writer.finish()?, acks).await?;
    let mut reply = reply::json(&PublishReply::Published(Published {
        status: "ok",
        offset: appended.appended.first().map(|batch| batch.base_offset.get()),
        leader: appended.leader.0,
        leader_epoch: appended.leader_epoch.get(),
    }))?;
    if all_duplicates(&appended.appended) {
        reply.headers_mut().insert(PRODUCER_DUPLICATE, HeaderValue::from_static("true"));
    }
    Ok(reply)
}

/// What `POST /publish` takes, for the API's description.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes an object whose other members are free")]
pub(crate) struct PublishBody {
    partition: u32,
    /// The record's key: a string as its text, anything else as JSON.
    key: Option<serde_json::Value>,
    value: Option<serde_json::Value>,
    /// Seconds or milliseconds since 1970; anything else is only kept.
    client_ts: Option<serde_json::Value>,
    topic: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_clocks_are_seconds_or_milliseconds() {
        for (text, expected) in [
            ("1767225600", Some(1_767_225_600_000)),
            ("1767225600.5", Some(1_767_225_600_500)),
            ("1767225600123", Some(1_767_225_600_123)),
            ("17", None),
            ("17672256001234", None),
            ("-1767225600", None),
            ("1e300", None),
            ("\"yesterday\"", None),
            ("null", None),
        ] {
            assert_eq!(client_timestamp_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_message_is_kept_as_it_came() {
        let body = b" {\"partition\": 1,\n \"extra\": [1.0], \"key\": \"k\"} \n";
        let message = Message::parse(body).unwrap();
        assert_eq!(message.value, b"{\"partition\": 1,\n \"extra\": [1.0], \"key\": \"k\"}");
        assert_eq!(message.partition().unwrap(), Some(1));
        for (body, cause) in [
            (&b"[]"[..], Cause::Malformed),
            (b"{\"partition\":0} {}", Cause::Malformed),
            (b"{\"partition\":0,\"partition\":1}", Cause::Malformed),
            (b"{\"partition\":0,\"x\":\"\xff\"}", Cause::Malformed),
        ] {
            assert_eq!(Message::parse(body).err().unwrap().cause(), cause);
        }
        for partition in ["-1", "1.5", "\"0\"", "[]"] {
            let body = format!("{{\"partition\":{partition}}}");
            let message = Message::parse(body.as_bytes()).unwrap();
            assert_eq!(message.partition().unwrap_err().cause(), Cause::InvalidPartition, "{partition}");
        }
    }
}
